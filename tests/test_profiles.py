"""Profiles of other days and years: by hand, against loops, and what they may not read."""

import time

import numpy as np
import pytest

from cityjax.data import profiles
from cityjax.data.files import DataError
from cityjax.data.series import Series, regular

NONE = np.nan


def city(values, *, start="2024-01-01T00:00:00", step=21_600, rows=None):
    """A series that begins on a Monday, of 6-hour steps unless told otherwise."""
    values = np.asarray(values, np.float32)
    rows = np.arange(len(values)) if rows is None else np.asarray(rows)
    clock = np.datetime64(start, "s") + rows * np.timedelta64(step, "s")
    return Series(values, clock, step, tuple("abcdefgh"[: values.shape[1]]), "vehicles")


def random_city(days=24, sensors=3, missing=0.3, seed=0, **options):
    random = np.random.default_rng(seed)
    values = random.normal(50, 10, (4 * days, sensors)).astype(np.float32)
    values[random.random(values.shape) < missing] = np.nan
    return city(values, **options)


def typical_day_in_loops(series, stop, days):
    """Cell by cell, from the definition."""
    day = series.time.astype("datetime64[D]").astype(int)
    weekday = (day + 3) % 7
    slot = series.time.astype(int) % 86_400
    kind = {"weekday": weekday // 5, "week": weekday, "all": 0 * weekday}[days]
    train = np.arange(len(day)) < stop
    result = np.zeros(series.values.shape)
    for row in range(len(day)):
        other = train & (day != day[row])
        for sensor in range(series.values.shape[1]):
            column = series.values[:, sensor]
            pools = [
                column[other & (slot == slot[row]) & (kind == kind[row])],
                column[other & (slot == slot[row])],
                column[other],
                series.values[other].ravel(),
            ]
            pool = next(pool for pool in pools if np.isfinite(pool).any())
            result[row, sensor] = np.nanmean(pool)
    return result


@pytest.mark.parametrize("days", profiles.DAYS)
@pytest.mark.parametrize("missing", [0.0, 0.3, 0.9])
def test_a_typical_day_is_its_definition(days, missing):
    series = random_city(missing=missing)
    series.values[:70, 2] = np.nan  # nothing in train: the other sensors' mean
    found = profiles.typical_day(series, stop=70, days=days)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, typical_day_in_loops(series, 70, days), rtol=1e-5)


def test_a_typical_day_by_hand():
    # Daily steps from a Monday: the weekdays of train are 1 to 5, 8 and 9, its weekend 6 and 7.
    series = city(np.arange(1, 15)[:, None], step=86_400)
    found = profiles.typical_day(series, stop=9)[:, 0]
    np.testing.assert_allclose(found[0], np.mean([2, 3, 4, 5, 8, 9]))
    assert found[5] == 7 and found[6] == 6
    np.testing.assert_allclose(found[9], np.mean([1, 2, 3, 4, 5, 8, 9]))
    assert found[12] == 6.5
    found = profiles.typical_day(series, stop=9, days="week")[:, 0]
    assert found[0] == 8 and found[7] == 1 and found[13] == 7
    assert found[2] == 5.25  # of 1, 2, 4, 5, 6, 7, 8, 9: the only Wednesday: all other days


@pytest.mark.parametrize("days", profiles.DAYS)
def test_a_typical_day_never_reads_its_own_day_nor_beyond_train(days):
    stop = 70  # within a day
    series = random_city(missing=0.5)
    found = profiles.typical_day(series, stop=stop, days=days)
    later = series.values.copy()
    later[stop:] = 1e6
    beyond = profiles.typical_day(series._replace(values=later), stop=stop, days=days)
    np.testing.assert_array_equal(beyond, found)
    day = series.time.astype("datetime64[D]")
    for one in np.unique(day):
        own = series.values.copy()
        own[day == one] = np.where(np.isnan(own[day == one]), 7e5, np.nan)
        changed = profiles.typical_day(series._replace(values=own), stop=stop, days=days)
        np.testing.assert_array_equal(changed[day == one], found[day == one])


def test_rows_of_one_slot_are_averaged_and_gaps_do_no_harm():
    # A repeated hour when clocks go back, as a shorter distance; days 2 and 3 are left out.
    series = city([[1.0], [3.0], [5.0], [7.0], [8.0]], rows=[0, 0, 4, 16, 20])
    series = series._replace(time=series.time + np.array([0, 60, 0, 0, 0]))
    found = profiles.typical_day(series, stop=4, days="all")[:, 0]
    np.testing.assert_allclose(found, [6, 6, 11 / 3, 3, 4])


def test_a_typical_day_takes_two_days():
    series = random_city(missing=0)
    with pytest.raises(DataError, match="two days with a value in train, and its 4 steps have not"):
        profiles.typical_day(series, stop=4)
    with pytest.raises(DataError, match="days='month' is none of weekday, week, all"):
        profiles.typical_day(series, stop=40, days="month")


def test_lag_by_hand():
    series = city([[1.0], [2.0], [NONE], [4.0], [NONE], [6.0], [7.0], [8.0]])
    found = profiles.lag(series, 2, stop=4)[:, 0]
    mean = np.float32(7 / 3)
    # At step 4, step 2 is missing and step 0 holds 1; at step 6, steps 4 and 2 are missing.
    np.testing.assert_array_equal(found, [mean, mean, 1, 2, 1, 4, 1, 6])
    assert found.dtype == np.float32


def test_lag_counts_time_where_rows_are_left_out():
    series = city([[1.0], [2.0], [3.0], [4.0]], rows=[0, 1, 5, 6])
    np.testing.assert_array_equal(profiles.lag(series, 5, stop=1)[:, 0], [1, 1, 1, 2])
    np.testing.assert_array_equal(profiles.lag(series, 1, stop=1)[:, 0], [1, 1, 2, 3])


def test_neighbours_are_averaged():
    series = city([[1.0], [2.0], [NONE], [4.0], [5.0], [6.0], [7.0]])
    found = profiles.lag(series, 3, stop=7, neighbours=1)[:, 0]
    np.testing.assert_allclose(found[3:], [1.5, 1.5, 3, 4.5])  # steps 0-1, 0-2, 1-3, 2-4
    np.testing.assert_allclose(found[2], 1)  # of steps -2, -1 and 0 the last


@pytest.mark.parametrize(("steps", "neighbours"), [(1, 0), (7, 0), (7, 3), (40, 5)])
def test_lag_reads_nothing_later(steps, neighbours):
    series = random_city()
    call = {"stop": 10, "neighbours": neighbours}
    found = profiles.lag(series, steps, **call)
    for row in (10, 11, 40, 60):
        later = series.values.copy()
        later[row:] = np.where(np.isnan(later[row:]), 5, np.nan)
        changed = profiles.lag(series._replace(values=later), steps, **call)
        until = row + steps - neighbours
        np.testing.assert_array_equal(changed[:until], found[:until])


def test_past_years_are_the_mean_of_those_before_at_the_same_time():
    weeks = np.arange(230.0)
    values = np.stack([weeks, weeks], axis=1)
    values[110, 1] = np.nan
    found = profiles.past_years(city(values, step=7 * 86_400), stop=60)
    assert found.dtype == np.float32
    # 52, 104, 157 and 209 weeks before, where there is one that was observed.
    np.testing.assert_allclose(found[60], 8)
    np.testing.assert_allclose(found[214, 0], np.mean([162, 110, 57, 5]))
    np.testing.assert_allclose(found[162], [np.mean([110, 58, 5]), np.mean([58, 5])])
    np.testing.assert_allclose(found[:52], np.arange(60).mean())
    around = profiles.past_years(city(values, step=7 * 86_400), stop=60, neighbours=1)
    np.testing.assert_allclose(around[112, 0], np.mean([59, 60, 61, 7, 8, 9]))
    with pytest.raises(DataError, match="neighbours=60 reach beyond a year"):
        profiles.past_years(city(values, step=7 * 86_400), stop=60, neighbours=60)
    for row in (60, 130, 229):  # nothing later than a year earlier is read
        other = values.copy()
        other[max(60, row - 50) :] += 1e3
        same = profiles.past_years(city(other, step=7 * 86_400), stop=60, neighbours=1)
        np.testing.assert_array_equal(same[row], around[row])


def test_a_year_ago_is_the_same_weekday():
    steps = np.arange(800)
    daily = city(steps[:, None], step=86_400)
    found = profiles.year_ago(daily, stop=500)[:, 0]
    np.testing.assert_array_equal(found[364:], steps[:-364])
    np.testing.assert_array_equal(found[:364], np.float32(np.mean(steps[:500])))
    weekly = city(steps[:120, None], step=7 * 86_400)
    found = profiles.year_ago(weekly, stop=100, neighbours=2)[:, 0]
    np.testing.assert_allclose(found[54:], steps[2:68])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda series: profiles.lag(series, 2, stop=9, neighbours=2), "steps=2 must be above"),
        (lambda series: profiles.lag(series, 0, stop=9), "steps=0 must be above neighbours=0"),
        (lambda series: profiles.lag(series, 2, stop=0), "no value was observed before step 0"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(DataError, match=message):
        call(random_city())


def test_a_large_city_takes_seconds():
    values = np.ones((34_272, 207), np.float32)
    values[::7, ::3] = np.nan
    clock = np.datetime64("2012-03-01", "s") + np.arange(len(values)) * np.timedelta64(300, "s")
    series = Series(values, clock, 300, tuple(map(str, range(207))), "mph")
    assert regular(series) is series
    for profile in (
        lambda: profiles.typical_day(series, stop=24_000),
        lambda: profiles.lag(series, 7 * 288, stop=24_000),
    ):
        start = time.process_time()
        np.testing.assert_array_equal(profile(), 1)
        assert time.process_time() - start < 4

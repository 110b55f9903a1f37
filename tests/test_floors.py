"""Naive floors, by hand; tests/test_datasets.py meets the published ones on real files."""

import numpy as np

from cityjax.data import floors
from cityjax.data.series import Series, checked


def series(values, step=300):
    values = np.asarray(values, np.float32)
    time = np.datetime64("2012-03-01T00:00:00") + np.arange(len(values)) * np.timedelta64(step, "s")
    return checked(Series(values, time, step, tuple(map(str, range(values.shape[1]))), "mph"))


def test_floors_by_hand():
    nan = np.nan
    city = series([[1, 5], [2, nan], [nan, 7], [4, 8]])
    at, leads = np.array([2]), np.array([1, 2])
    np.testing.assert_array_equal(floors.last_value(city)(at, leads)[0], [[2, 7], [2, 7]])
    # Two steps before the targets 3 and 4: step 1, missing at the second sensor, and step 2.
    np.testing.assert_array_equal(floors.seasonal(city, season=2)(at, leads)[0], [[2, nan], [1, 7]])
    # A season shorter than the horizon goes back as many as are known.
    np.testing.assert_array_equal(floors.seasonal(city, season=1)(at, leads)[0], [[2, 7], [2, 7]])
    for history, mean in ((2, [2, 7]), (3, [1.5, 6]), (9, [1.5, 6])):
        found = floors.window_mean(city, history=history)(at, leads[:1])[0]
        np.testing.assert_array_equal(found, [mean])


def test_a_lead_alone_is_forecast_as_among_others():
    values = np.random.default_rng(0).normal(size=(40, 3))
    values[::7] = np.nan
    city = series(values, step=3600)
    at, leads = np.array([20, 31]), np.arange(1, 8)
    for floor in floors.floors(city, season=3, history=5, stop=30).values():
        assert floor(at, leads).dtype == np.float32
        for lead in (1, 4, 7):
            alone = floor(at, np.array([lead]))
            np.testing.assert_array_equal(alone[:, 0], floor(at, leads)[:, lead - 1])


def test_the_historical_average_reads_train_only():
    values = np.arange(14 * 24, dtype=float)[:, None]
    city = series(values, step=3600)
    stop = 10 * 24
    at = np.array([11 * 24])
    found = floors.historical_average(city, stop=stop)(at, np.array([1]))[0, 0, 0]
    assert found == np.mean([4 * 24 + 1])  # the only other day of the same weekday before `stop`
    values[stop:] = -1
    city = series(values, step=3600)
    assert floors.historical_average(city, stop=stop)(at, np.array([1]))[0, 0, 0] == found


def test_the_historical_average_of_steps_that_do_not_fill_a_day():
    week = np.arange(24.0)  # steps of seven hours: 24 in a week, three or four in a day
    city = series(np.tile(week, 20)[:, None], step=25_200)
    at, leads = np.arange(400, 440), np.arange(1, 13)
    found = floors.historical_average(city, stop=300)(at, leads)[..., 0]
    np.testing.assert_array_equal(found, (at[:, None] + leads) % 24)


def test_the_historical_average_of_a_day_of_the_week_that_train_lacks():
    days = np.repeat([10.0, 20.0, 60.0, 0.0], 4)  # Thursday to Sunday, of six hours a step
    values = np.stack([days + np.tile([0, 1, 2, 3], 4), np.tile([7.0, np.nan, 5, 5], 4)], axis=1)
    city = series(values, step=21_600)
    found = floors.historical_average(city, stop=8)(np.array([7, 8]), np.array([1, 4]))
    # Saturday and Sunday: the mean of Thursday and Friday at the same time of the day.
    np.testing.assert_array_equal(found[0, :, 0], [15, 18])
    np.testing.assert_array_equal(found[1, :, 0], [16, 15])
    # What no day of train has at this time is the sensor's mean.
    np.testing.assert_allclose(found[1, :, 1], [(7 + 5 + 5) / 3, 7], rtol=1e-6)


def test_the_historical_average_of_a_week_of_the_year_that_train_lacks():
    city = series(np.arange(100.0)[:, None], step=7 * 86_400)
    forecast = floors.historical_average(city, stop=10)
    found = forecast(np.array([3, 9, 50, 60]), np.array([1]))[:, 0, 0]
    np.testing.assert_array_equal(found, [4, 4.5, 4.5, 9])


def test_where_the_history_is_longer_than_a_season_the_mean_of_a_season_is_a_floor():
    city = series(np.arange(30.0)[:, None], step=3600)
    found = floors.floors(city, season=4, history=10, stop=20)
    assert list(found) == [
        "last value", "seasonal (4 steps)", "window mean", "season mean", "historical average"
    ]  # fmt: skip
    at, leads = np.array([20]), np.array([1, 2])
    np.testing.assert_array_equal(found["season mean"](at, leads)[0, :, 0], [18.5, 18.5])
    np.testing.assert_array_equal(found["window mean"](at, leads)[0, :, 0], [15.5, 15.5])
    assert "season mean" not in floors.floors(city, season=4, history=4, stop=20)

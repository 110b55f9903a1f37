"""Windows by index, chronological splits, scaling, naive floors: against numpy and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cityjax.data import windows

NONE = np.nan


@pytest.fixture
def series():
    """A series [T, C] with holes, its mask and the bounds of its splits."""
    random = np.random.default_rng(0)
    values = random.normal(size=(500, 3)).astype(np.float32)
    mask = random.random((500, 3)) > 0.2
    mask[100:180] = False
    return values, mask, windows.split_bounds(mask[:, 0])


@pytest.mark.parametrize("wrap", [jax.jit, lambda function: function])
def test_gather_is_indexing(series, wrap):
    values, _, _ = series
    at = np.array([30, 7, 400])
    gather = wrap(lambda values, at: windows.gather(values, at, range(-3, 2)))
    found = gather(jnp.asarray(values), jnp.asarray(at))
    expected = np.stack([values[t - 3 : t + 2] for t in at])
    np.testing.assert_array_equal(found, expected)


def test_gather_takes_any_offsets_and_any_rank():
    line = jnp.arange(10.0)
    found = windows.gather(line, jnp.array([5, 6]), [-4, 0, 3])
    np.testing.assert_array_equal(found, [[1, 5, 8], [2, 6, 9]])


def test_gather_beyond_the_ends_gives_the_ends():
    found = windows.gather(jnp.arange(4.0), jnp.array([0, 3]), [-2, 0, 2])
    np.testing.assert_array_equal(found, [[0, 0, 2], [1, 3, 3]])


def test_split_bounds_of_a_complete_series():
    assert windows.split_bounds(np.ones(10, bool)) == [(0, 7), (7, 8), (8, 10)]
    assert windows.split_bounds(np.ones(8, bool), (0.5, 0.5)) == [(0, 4), (4, 8)]


def test_split_bounds_count_observed_steps():
    observed = np.ones(20, bool)
    observed[2:12] = False
    # Ten are left: 0, 1, 12 .. 19; the seventh is 16, so train ends before step 17.
    assert windows.split_bounds(observed) == [(0, 17), (17, 18), (18, 20)]


@pytest.mark.parametrize("count", range(10, 60, 7))
def test_splits_cover_everything_once(count):
    bounds = windows.split_bounds(np.ones(count, bool))
    steps = [step for start, stop in bounds for step in range(start, stop)]
    assert steps == list(range(count))


@pytest.mark.parametrize("fractions", [(0.7, 0.1, 0.3), (1.2, -0.2), (0.0, 1.0)])
def test_bad_fractions_are_refused(fractions):
    with pytest.raises(ValueError, match="must be positive and sum to 1"):
        windows.split_bounds(np.ones(100, bool), fractions)


def test_too_few_observed_steps_are_refused():
    with pytest.raises(ValueError, match="3 observed steps are too few"):
        windows.split_bounds(np.ones(3, bool))


def test_targets_of_origins_fill_the_split_and_stay_inside():
    found = windows.origins((50, 60), history=24, horizon=4)
    np.testing.assert_array_equal(found, [49, 50, 51, 52, 53, 54, 55])
    targets = found[:, None] + np.arange(1, 5)
    assert targets.min() == 50 and targets.max() == 59


def test_the_first_origin_has_a_whole_history():
    found = windows.origins((0, 30), history=24, horizon=6)
    np.testing.assert_array_equal(found, [23])


def test_no_origin_where_the_split_is_shorter_than_the_horizon():
    assert len(windows.origins((50, 53), history=3, horizon=4)) == 0


def test_scaler_knows_the_observed_training_values_only():
    values = np.array([[1.0, 7.0], [3.0, 7.0], [100.0, 7.0], [NONE, 7.0], [50.0, 9.0]])
    mask = np.array([[1, 1], [1, 1], [0, 1], [0, 1], [1, 1]], bool)
    scaler = windows.fit_scaler(values, mask, stop=4)
    np.testing.assert_array_equal(scaler.mean, [2, 7])
    np.testing.assert_array_equal(scaler.std, [1, 1])  # the second never varies


def test_a_scaler_is_mean_and_deviation_of_what_was_observed(series):
    values, mask, bounds = series
    scaler = windows.fit_scaler(values, mask, stop=bounds[0][1])
    assert scaler.mean.dtype == scaler.std.dtype == np.float32
    known = np.ma.array(values, mask=~mask)[: bounds[0][1]]
    np.testing.assert_allclose(scaler.mean, known.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(scaler.std, known.std(axis=0), rtol=1e-5)


@pytest.mark.parametrize("columns", [1, 3])
def test_a_constant_channel_never_varies_however_long_it_is(columns):
    values = np.full((24_000, columns), 23.7, np.float32)
    scaler = windows.fit_scaler(values, values > 0, stop=24_000)
    np.testing.assert_array_equal(scaler.mean, values[0])
    np.testing.assert_array_equal(scaler.std, np.ones(columns))
    values[::2] = np.nextafter(values[0], 100)  # no more than a rounding
    np.testing.assert_array_equal(windows.fit_scaler(values, values > 0, stop=24_000).std, 1)


def test_a_mean_far_above_zero_is_exact():
    draw = np.random.default_rng(0)
    values = (101_325 + 20 * draw.normal(size=(70_000, 20))).astype(np.float32)
    scaler = windows.fit_scaler(values, values > 0, stop=70_000)
    exact = values.astype(np.float64)
    np.testing.assert_allclose(scaler.mean, exact.mean(axis=0), rtol=1e-7)
    np.testing.assert_allclose(scaler.std, exact.std(axis=0), rtol=1e-6)


def test_a_channel_without_training_values_is_refused():
    mask = np.array([[True, False], [True, False], [True, True]])
    with pytest.raises(ValueError, match="no observed value before step 2"):
        windows.fit_scaler(np.ones((3, 2)), mask, stop=2)


def test_the_test_part_changes_nothing_that_train_sees(series):
    values, mask, ((_, train_stop), (_, validation_stop), _) = series
    other = values.copy()
    other[validation_stop:] = 1e6
    at = windows.origins((0, train_stop), history=24, horizon=6)
    phase = np.arange(500) % 12

    def seen(values):
        scaler = windows.fit_scaler(values, mask, stop=train_stop)
        week = windows.phase_median(values[:, 0], mask[:, 0], phase, stop=train_stop)
        scaled = jnp.asarray((values - scaler.mean) / scaler.std)
        return [*scaler, week, windows.gather(scaled, at, range(-23, 7))]

    for before, after in zip(seen(values), seen(other), strict=True):
        np.testing.assert_array_equal(before, after)


def test_history_of_a_test_origin_may_be_older_than_the_split(series):
    _, _, (_, (_, stop), test) = series
    found = windows.origins(test, history=24, horizon=6)
    assert found[0] - 23 < stop <= found[0] + 1


def test_hour_of_week_begins_on_monday():
    # 1970-01-05 was a Monday, 96 hours after the epoch.
    np.testing.assert_array_equal(windows.hour_of_week(np.array([96, 97, 96 + 167])), [0, 1, 167])
    assert windows.hour_of_week(np.array([0])) == 3 * 24


def test_calendar_one_hot_marks_hour_and_day():
    row = windows.calendar_one_hot(np.array([96 + 2 * 24 + 5]))[0]  # a Wednesday, 05:00
    np.testing.assert_array_equal(np.flatnonzero(row), [5, 24 + 2])


def test_lagged_looks_back_and_ahead():
    values = np.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(windows.lagged(values, 0), values)
    np.testing.assert_array_equal(windows.lagged(values, 1), [0, 1, 2])
    np.testing.assert_array_equal(windows.lagged(values, -2), [3, 0, 0])
    np.testing.assert_array_equal(windows.lagged(values, 5), [0, 0, 0])
    np.testing.assert_array_equal(windows.lagged(values, -5), [0, 0, 0])
    np.testing.assert_array_equal(windows.lagged(values > 1, 1), [False, False, True])


VALUES = np.array([NONE, 1.0, 2.0, NONE, NONE, 5.0])
SEEN = ~np.isnan(VALUES)


def test_last_value_reaches_back_over_missing_ones():
    found = windows.last_value(VALUES, SEEN, np.array([0, 2, 4, 5]), 2)
    np.testing.assert_array_equal(found, [[NONE, NONE], [2, 2], [2, 2], [5, 5]])


def test_seasonal_value_reaches_back_by_whole_periods():
    # Targets 1, 2 | 3, 4 | 5, 6 with period 2: sources -1, 0 | 1, 2 | 3 (missing: 1), 4 (2).
    found = windows.seasonal_value(VALUES, SEEN, np.array([0, 2, 4]), 2, period=2)
    np.testing.assert_array_equal(found, [[NONE, NONE], [1, 2], [1, 2]])


def test_floors_read_nothing_after_the_origin():
    at, later = np.array([2, 3]), VALUES.copy()
    later[4:] = 99.0
    for floor in (
        lambda values: windows.last_value(values, SEEN, at, 2),
        lambda values: windows.seasonal_value(values, SEEN, at, 2, period=3),
    ):
        np.testing.assert_array_equal(floor(VALUES), floor(later))


def test_a_season_shorter_than_the_horizon_is_refused():
    with pytest.raises(ValueError, match="period 5 must be at least the horizon 6"):
        windows.seasonal_value(VALUES, SEEN, np.array([3]), 6, period=5)


def test_phase_median_by_hand():
    values = np.array([1.0, 10.0, 3.0, 20.0, 100.0, 30.0, 7.0, 40.0])
    mask = np.array([1, 1, 1, 1, 0, 1, 1, 1], bool)
    phase = np.arange(8) % 2
    found = windows.phase_median(values, mask, phase, stop=7)
    np.testing.assert_array_equal(found, [3, 20])


def test_a_phase_without_training_values_is_refused():
    with pytest.raises(ValueError, match="a phase was never observed before step 2"):
        windows.phase_median(np.ones(4), np.ones(4, bool), np.arange(4) % 3, stop=2)

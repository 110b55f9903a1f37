"""What hindsight finds: noise in noise alone, signals from around, a window's own mean day."""

import numpy as np
import pytest

from benchmarks.hindsight import both_sides, own_season


def error(values, start, stop):
    found = both_sides(values, start, stop, season=24)
    assert np.isnan(found[:start]).all() and np.isnan(found[stop:]).all()
    return np.sqrt(np.nanmean((found[start:stop] - values[start:stop]) ** 2))


def test_noise_alone_is_missed_however_many_sensors_agree_by_chance():
    values = np.random.default_rng(0).normal(50, 2, (80, 60))
    assert error(values, 10, 70) >= 2


def test_a_smooth_signal_is_found_and_its_noise_is_not():
    random, time = np.random.default_rng(1), np.arange(1_000)
    signal = 40 * np.sin(time / 30)[:, None] * np.ones(3)
    noise = random.normal(0, 1.5, signal.shape)
    # The best that two steps on each side can do: some noise of theirs is left in.
    assert 1.5 < error(signal + noise, 100, 900) < 1.5 * 1.2


def test_what_sensors_share_is_found_from_those_alike():
    random = np.random.default_rng(2)
    shared = random.normal(0, 5, (400, 2))
    values = np.repeat(shared, 9, axis=1) + random.normal(0, 0.5, (400, 18))
    assert error(values, 50, 350) < 0.7  # one sensor's past and future say nothing here


def test_missing_values_are_filled_around_and_never_found():
    time = np.arange(300.0)
    values = np.stack([time, 2 * time], axis=1)
    values[120:123, 0] = np.nan
    found = both_sides(values, 100, 200, season=1)
    np.testing.assert_allclose(found[100:200, 1], values[100:200, 1], rtol=1e-2)
    np.testing.assert_allclose(found[120:123, 0], [120, 121, 122], rtol=1e-2)


def test_a_window_s_own_season_is_the_mean_at_each_phase():
    targets = np.array([[1.0, 2, 3, 4, 5], [0, 0, 6, 8, 0]])[..., None]
    mask = np.array([[1, 1, 1, 1, 1], [1, 0, 1, 1, 1]], bool)[..., None]
    found = own_season(targets, mask, season=2)[..., 0]
    np.testing.assert_allclose(found, [[3, 3, 3, 3, 3], [2, 8, 2, 8, 2]])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_missed_targets_say_how_much_is_noise(share):
    from benchmarks.tables import Line, _missed

    entry = {"mean": 10.0, "ci95": 1.0, "per_seed": [9.0, 11.0]}
    ensemble = {"metrics": {"test/rmse@1": 9.5}}
    result = {"metrics": {"test/rmse@1": entry}, "ensemble": ensemble}
    known = {"both sides": {"test/rmse@1": 101**0.5 * share}}
    assert _missed(Line("model", {}, {"rmse@1": 10.5}), [result], known) == []
    # Mean squared error 101; of the seeds' mean 90.25: they differ by 2 (101 - 90.25).
    assert _missed(Line("model", {}, {"rmse@1": 9.9}), [result], known) == [
        "- **model** misses rmse@1. Of its squared error: "
        f"{100 * share:.0f} % in hindsight, from both sides; 21.3 % between seeds."
    ]

"""Intervals from past errors: the quantile by hand, coverage with drift and without."""

import numpy as np
import pytest

from cityjax.tasks.intervals import (
    conformal_quantile,
    conformity,
    half_width,
    interval_scores,
    online_factor,
)


def test_the_conformal_quantile_by_hand():
    scores = np.arange(1.0, 10)[:, None]  # 9 scores: the ceil(10 * 0.8) = 8th
    assert conformal_quantile(scores, 0.8) == [8]
    assert conformal_quantile(scores, 0.95) == [9]  # the 10th does not exist
    holes = np.array([[3.0, np.nan], [np.nan, np.nan], [1.0, np.nan]])
    np.testing.assert_array_equal(conformal_quantile(holes, 0.5), [3, np.nan])


def test_scores_of_points_and_of_quantiles():
    targets, mask = np.array([[[3.0, -1.0]]]), np.array([[[True, False]]])
    np.testing.assert_array_equal(conformity(np.ones((1, 1, 2)), targets, mask), [[[2, np.nan]]])
    # 3 lies twice as far above the middle, 1, as the upper quantile, 2; -1 as far as the lower.
    quantiles = np.broadcast_to([-1.0, 1.0, 2.0], (1, 1, 2, 3))
    every = np.ones_like(mask)
    np.testing.assert_array_equal(conformity(quantiles, targets, every), [[[2, 1]]])


def test_sensors_with_few_errors_share_theirs_in_proportion():
    generator = np.random.default_rng(0)
    scores = np.abs(generator.normal(size=(12, 2, 40))) * np.linspace(1, 9, 40)
    half = half_width(scores, 0.9)
    ratio = half / scores.mean(axis=(0, 1))
    np.testing.assert_allclose(ratio, ratio[:, :1] * np.ones(40), rtol=1e-9)
    assert half.shape == (2, 40) and 1.8 < ratio.mean() < 2.4  # 1.645 / 0.798 = 2.06


@pytest.mark.parametrize("quantiles", [False, True])
def test_where_nothing_drifts_both_cover_what_they_say(quantiles):
    generator = np.random.default_rng(1)
    outputs, truth = {}, {}
    for part, windows in {"validation": 600, "test": 900}.items():
        spread = np.exp(generator.normal(size=(windows, 3, 4)))  # known to the quantiles alone
        values = (spread if quantiles else 1) * generator.normal(size=(windows, 3, 4))
        point = np.zeros((windows, 3, 4))
        levels = np.stack([-spread, point, spread], axis=-1)
        outputs[part] = levels if quantiles else point
        truth[part] = values, generator.random(values.shape) > 0.1
    origins = {part: np.arange(len(values)) for part, (values, _) in truth.items()}
    found = interval_scores(outputs, truth, origins)
    assert found["coverage_90"] == pytest.approx(0.9, abs=0.02)
    assert found["coverage_90_online"] == pytest.approx(0.9, abs=0.02)
    mean = np.exp(0.5) if quantiles else 1  # of the spread
    assert found["width_90"] == pytest.approx(2 * 1.645 * mean, rel=0.1)
    assert found["width_90_online"] < 1.3 * found["width_90"]


def test_where_errors_grow_only_the_online_interval_keeps_its_word():
    generator = np.random.default_rng(2)
    noise = {part: generator.normal(size=(400, 2, 6)) for part in ("validation", "test")}
    noise["test"] = noise["test"] * np.linspace(1, 6, 400)[:, None, None]
    truth = {part: (values, np.ones(values.shape, bool)) for part, values in noise.items()}
    outputs = {part: np.zeros(values.shape) for part, values in noise.items()}
    found = interval_scores(outputs, truth, {"test": np.arange(400)})
    assert found["coverage_90"] < 0.7
    assert 0.87 < found["coverage_90_online"] < 0.93
    assert found["width_90_online"] > 2 * found["width_90"]


def test_the_factor_moves_only_by_targets_that_are_known():
    ratios = np.full((6, 3, 1), 0.5)
    ratios[2] = 9  # one miss at every lead, of the forecasts made at origin 12
    factor = online_factor(ratios, np.arange(10, 16), 0.9)
    # The target of lead 1 is known at origin 13, of lead 3 at origin 15.
    assert (np.diff(factor[:, 0]) > 0).tolist() == [False, False, True, False, False]
    assert (np.diff(factor[:, 2]) > 0).tolist() == [False, False, False, False, True]
    later = ratios.copy()
    later[4:] = 9
    np.testing.assert_array_equal(online_factor(later, np.arange(10, 16), 0.9)[:5], factor[:5])


def test_a_lead_that_validation_never_reached_is_as_wide_as_the_one_before():
    scores = np.ones((50, 3, 2))
    scores[:, 1:] = np.nan
    np.testing.assert_array_equal(half_width(scores, 0.9), np.ones((3, 2)))

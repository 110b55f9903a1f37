"""Losses and metrics of forecasts [B, H, N] and their quantiles: numpy twins, masks, names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from cityjax import forecast_metrics, losses, metrics

BATCH, HORIZON, SENSORS = 6, 4, 3
LEVELS = (0.1, 0.5, 0.7, 0.9)
COLUMNS = {None: [0, 1, 2, 3], 2: [1], (1, 3): [0, 1, 2]}


def forecasts(seed, *, quantiles=False, mask_share=0.6, mask_rank=3):
    """Outputs, targets (some of them 0) and a mask, plus a batch of them."""
    random = np.random.default_rng(seed)
    shape = (BATCH, HORIZON, SENSORS)
    targets = random.poisson(3.0, shape).astype(np.float32)
    noise = random.normal(size=(*shape, len(LEVELS)) if quantiles else shape)
    outputs = targets[..., None] + np.sort(noise, axis=-1) if quantiles else targets + noise
    mask = random.random(shape[:mask_rank]) < mask_share
    return outputs.astype(np.float32), {"targets": targets, "mask": mask}


def rows(outputs, batch, columns):
    """What counts, as float64: outputs [K] or [K, Q], targets [K]."""
    targets, mask = batch["targets"], batch["mask"]
    mask = np.broadcast_to(mask.reshape(mask.shape + (1,) * (3 - mask.ndim)), targets.shape)
    kept = mask[:, columns]
    return outputs[:, columns][kept].astype(np.float64), targets[:, columns][kept].astype(float)


def pinball_twin(p, y, levels=LEVELS):
    d = y[:, None] - p
    return np.where(d > 0, np.array(levels) * d, (np.array(levels) - 1) * d)


def crps_twin(p, y, levels=LEVELS):
    """Twice the mean pinball loss, each of a thousand levels by the quantile nearest to it."""
    fine = (np.arange(1000) + 0.5) / 1000
    nearest = np.abs(fine[:, None] - np.array(levels)).argmin(axis=1)
    return 2 * pinball_twin(p, y, levels)[:, nearest].mean()


TWINS = {
    "mae": lambda p, y: np.abs(p - y).mean(),
    "mse": lambda p, y: ((p - y) ** 2).mean(),
    "rmse": lambda p, y: np.sqrt(((p - y) ** 2).mean()),
    "mape": lambda p, y: 100 * (np.abs(p - y)[y != 0] / np.abs(y[y != 0])).mean(),
    "pcc": lambda p, y: np.corrcoef(p, y)[0, 1],
    "frobenius_accuracy": lambda p, y: 1 - np.linalg.norm(p - y) / np.linalg.norm(y),
}
INTERVAL_TWINS = {
    "crps": crps_twin,
    "pinball": lambda p, y: pinball_twin(p, y).mean(),
    "coverage": lambda p, y: ((p[:, 0] <= y) & (y <= p[:, -1])).mean(),
    "width": lambda p, y: (p[:, -1] - p[:, 0]).mean(),
}
NAMES = {None: "", 2: "@2", (1, 3): "@1-3"}


def score(metric, outputs, batch):
    return metric.finalize(
        metric.accumulate(jnp.asarray(outputs), jax.tree.map(jnp.asarray, batch))
    )


@pytest.mark.parametrize("at", COLUMNS, ids=str)
@pytest.mark.parametrize("name", [*TWINS, *INTERVAL_TWINS])
@pytest.mark.parametrize("mask_rank", [1, 3])
def test_a_metric_by_name_equals_its_numpy_twin(name, at, mask_rank):
    quantiles = name in INTERVAL_TWINS
    outputs, batch = forecasts(1, quantiles=quantiles, mask_rank=mask_rank)
    metric = forecast_metrics.by_name(name + NAMES[at], LEVELS if quantiles else ())
    expected = (TWINS | INTERVAL_TWINS)[name](*rows(outputs, batch, COLUMNS[at]))
    np.testing.assert_allclose(score(metric, outputs, batch), expected, rtol=2e-5)
    # Nothing that is masked matters.
    mask = batch["mask"]
    outputs[~mask], batch["targets"][~mask] = np.nan, np.nan
    np.testing.assert_allclose(score(metric, outputs, batch), expected, rtol=2e-5)


@pytest.mark.parametrize("name", [*TWINS, *INTERVAL_TWINS])
def test_sums_of_parts_add_up_to_the_whole_and_none_is_no_number(name):
    quantiles = name in INTERVAL_TWINS
    metric = forecast_metrics.by_name(name, LEVELS if quantiles else ())
    outputs, batch = forecasts(2, quantiles=quantiles)
    parts = [
        metric.accumulate(outputs[part], {k: jnp.asarray(v[part]) for k, v in batch.items()})
        for part in (slice(0, 2), slice(2, BATCH))
    ]
    whole = metric.finalize(jax.tree.map(jnp.add, *parts))
    np.testing.assert_allclose(whole, score(metric, outputs, batch), rtol=1e-5)
    batch["mask"][:] = False
    assert np.isnan(score(metric, outputs, batch))


@pytest.mark.parametrize("name", TWINS)
def test_a_point_measure_of_quantiles_is_of_their_median(name):
    outputs, batch = forecasts(3, quantiles=True)
    found = score(forecast_metrics.by_name(name, LEVELS), outputs, batch)
    assert found == score(forecast_metrics.by_name(name), outputs[..., 1], batch)


def test_the_pinball_loss_equals_its_twin_and_its_masked_gradient_is_zero():
    outputs, batch = forecasts(4, quantiles=True)
    loss = losses.pinball(LEVELS)
    total, count = loss(jnp.asarray(outputs), batch)
    values = pinball_twin(*rows(outputs, batch, COLUMNS[None])).mean(axis=1)
    np.testing.assert_allclose(total, values.sum(), rtol=1e-5)
    assert count == len(values) == batch["mask"].sum()
    hidden = ~batch["mask"]
    outputs[hidden], batch["targets"][hidden] = np.nan, np.nan
    gradient = np.asarray(jax.grad(lambda o: loss(o, batch)[0])(jnp.asarray(outputs)))
    assert np.isfinite(gradient).all()
    assert not gradient[hidden].any() and gradient[~hidden].any()


def test_the_pinball_loss_is_least_at_the_quantile():
    draws = np.random.default_rng(0).exponential(size=2001).astype(np.float32)
    batch = {"targets": draws[:, None, None], "mask": np.ones((2001, 1, 1), bool)}
    loss = losses.pinball((0.9,))
    candidates = np.linspace(1.5, 3.0, 31)
    values = [loss(jnp.full((2001, 1, 1, 1), c), batch)[0] for c in candidates]
    assert abs(candidates[np.argmin(values)] - np.quantile(draws, 0.9)) < 0.05


@pytest.mark.parametrize("levels", [(), (0.0, 0.5), (0.5, 1.0)])
def test_levels_that_are_none_are_refused(levels):
    with pytest.raises(ValueError, match="levels between 0 and 1"):
        losses.pinball(levels)
    with pytest.raises(ValueError, match="rising levels"):
        forecast_metrics.crps(levels)
    with pytest.raises(ValueError, match="rising levels"):
        forecast_metrics.crps((0.5, *levels, 0.2))


def test_the_crps_of_uneven_quantiles_is_near_its_integral():
    # Of a standard normal forecast at y: y (2 Phi(y) - 1) + 2 phi(y) - 1 / sqrt(pi).
    levels = np.linspace(0, 1, 41)[1:-1] ** 2
    outputs = np.broadcast_to(norm.ppf(levels), (3, 1, 1, len(levels))).astype(np.float32)
    y = np.array([-0.5, 0.0, 2.0])
    expected = (y * (2 * norm.cdf(y) - 1) + 2 * norm.pdf(y) - 1 / np.sqrt(np.pi)).mean()
    batch = {"targets": y[:, None, None].astype(np.float32), "mask": np.ones((3, 1, 1), bool)}
    found = score(forecast_metrics.crps(tuple(levels)), outputs, batch)
    np.testing.assert_allclose(found, expected, rtol=0.02)


def test_the_crps_of_a_median_is_the_absolute_error():
    outputs, batch = forecasts(7)
    found = score(forecast_metrics.crps((0.5,)), outputs[..., None], batch)
    assert found == score(metrics.mean_absolute_error(), outputs, batch)


def test_outputs_that_are_not_of_these_quantiles_are_refused():
    outputs, batch = forecasts(5)
    with pytest.raises(ValueError, match=r"\(6, 4, 3\), 4 quantiles \(6, 4, 3, 4\)"):
        losses.pinball(LEVELS)(jnp.asarray(outputs), batch)


@pytest.mark.parametrize("quantiles", [False, True])
def test_a_standardised_metric_is_of_z_scores(quantiles):
    outputs, batch = forecasts(6, quantiles=quantiles)
    mean, std = np.array([1.0, 2.0, 3.0]), np.array([2.0, 0.0, 5.0])
    name, twin = ("crps", INTERVAL_TWINS["crps"]) if quantiles else ("rmse", TWINS["rmse"])
    metric = forecast_metrics.by_name(name, LEVELS if quantiles else ())
    width = np.array([2.0, 1.0, 5.0])
    wide = (mean[:, None], width[:, None]) if quantiles else (mean, width)
    scaled = {"targets": (batch["targets"] - mean) / width, "mask": batch["mask"]}
    expected = twin(*rows((outputs - wide[0]) / wide[1], scaled, COLUMNS[None]))
    found = score(forecast_metrics.standardised(metric, mean, std), outputs, batch)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("rmsd@3", "'rmsd' is unknown: mae, mse, rmse, mape, pcc, frobenius_accuracy"),
        ("crps", "'crps' is unknown"),
        ("mae@", "after @"),
        ("mae@x", "after @"),
        ("mae@0", "after @"),
        ("mae@3-1", "after @"),
        ("mae@1-2-3", "after @"),
    ],
)
def test_a_name_that_is_none_is_refused_in_one_line(name, says):
    with pytest.raises(forecast_metrics.MetricError, match=says) as error:
        forecast_metrics.by_name(name)
    assert "\n" not in str(error.value)


def test_the_mean_of_leads_leaves_out_those_without_a_target_and_nothing_else():
    outputs, batch = jnp.ones((2, 3, 1)), {"targets": jnp.zeros((2, 3, 1))}
    batch["mask"] = jnp.ones((2, 3, 1), bool).at[:, 1].set(False).at[0, 2].set(False)
    outputs = outputs.at[1, 2].set(5.0)
    each = {lead: forecast_metrics.by_name(f"mae@{lead}") for lead in (1, 2, 3)}
    metric = forecast_metrics.averaged(each)
    assert score(metric, outputs, batch) == 3  # of 1 and 5; pooled it would be 7 / 3
    assert np.isnan(score(metric, outputs.at[0, 0].set(jnp.nan), batch))
    assert np.isnan(score(metric, outputs, {**batch, "mask": jnp.zeros((2, 3, 1), bool)}))


def test_every_metric_of_forecasts_says_which_way_is_better():
    names = [*TWINS, *INTERVAL_TWINS]
    better = {name: forecast_metrics.by_name(name, LEVELS).better for name in names}
    assert {n for n, way in better.items() if way == "higher"} == {"pcc", "frobenius_accuracy"}
    assert {n for n, way in better.items() if way == "none"} == {"coverage", "width"}

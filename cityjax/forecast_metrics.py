"""Metrics of forecasts: of quantiles, of z-scores, of several leads, and all of them by name."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cityjax import metrics
from cityjax.errors import UserError
from cityjax.metrics import Horizon, Metric, at_horizon, masked_sum


class MetricError(UserError):
    """A metric that is asked for by a name it does not have."""


def quantile_errors(
    outputs: jax.Array, batch: Mapping[str, Any], quantiles: Sequence[float], at: Horizon = None
) -> tuple[jax.Array, jax.Array]:
    """Return the pinball loss of every quantile [..., Q], 0 where masked, and the mask [...].

    max(q d, (q - 1) d) with d = target - output (Koenker and Bassett 1978). outputs: [B, ..., Q]
    beside targets [B, ...].
    """
    shape = (*batch["targets"].shape, len(quantiles))
    if outputs.shape != shape:
        raise ValueError(f"outputs have shape {outputs.shape}, {len(quantiles)} quantiles {shape}")
    levels = jnp.asarray(quantiles, outputs.dtype).reshape((1,) * (len(shape) - 1) + (-1,))
    outputs, targets, mask = at_horizon(outputs, batch, at)
    below = jnp.where(mask, targets, 0)[..., None] - jnp.where(mask[..., None], outputs, 0)
    return jnp.maximum(levels * below, (levels - 1) * below), mask


def pinball(quantiles: Sequence[float], *, at: Horizon = None) -> Metric:
    """Mean pinball loss of the quantiles, as in `quantile_errors`, in the targets' unit."""

    def accumulate(outputs: jax.Array, batch: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
        errors, mask = quantile_errors(outputs, batch, quantiles, at)
        return masked_sum(errors.mean(axis=-1), mask)

    return Metric(accumulate)


def crps(quantiles: Sequence[float], *, at: Horizon = None) -> Metric:
    """Continuous ranked probability score in the targets' unit: twice the integral of pinball loss.

    The integral over all levels (Gneiting and Ranjan 2011) is a sum in which each quantile counts
    by the share of levels it is nearest to; of the median alone it is the mean absolute error.
    quantiles: rising levels between 0 and 1. Raises ValueError for others.
    """
    edges = np.array([0, *quantiles, 1], np.float64)
    if not len(quantiles) or (np.diff(edges) <= 0).any():
        raise ValueError(f"quantiles={list(quantiles)}: rising levels in 0 .. 1 are expected")
    middles = (edges[1:-2] + edges[2:-1]) / 2
    shares = np.diff([0, *middles, 1])

    def accumulate(outputs: jax.Array, batch: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
        errors, mask = quantile_errors(outputs, batch, quantiles, at)
        shared = jnp.matmul(errors, jnp.asarray(shares, errors.dtype), precision="highest")
        return masked_sum(2 * shared, mask)

    return Metric(accumulate)


def _interval(of: Callable[..., jax.Array], at: Horizon) -> Metric:
    def accumulate(outputs: jax.Array, batch: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
        outputs, targets, mask = at_horizon(outputs, batch, at)
        return masked_sum(of(outputs[..., 0], outputs[..., -1], targets), mask)

    return Metric(accumulate, better="none")


def coverage(*, at: Horizon = None) -> Metric:
    """Share of targets between the first and the last quantile of outputs [B, H, N, Q]."""
    return _interval(lambda low, high, y: (low <= y) & (y <= high), at)


def width(*, at: Horizon = None) -> Metric:
    """Mean distance from the first to the last quantile of outputs [B, H, N, Q]."""
    return _interval(lambda low, high, y: high - low, at)


def standardised(metric: Metric, mean: np.ndarray, std: np.ndarray) -> Metric:
    """Return the metric of z-scores by sensor: outputs and targets [..., N], or quantiles.

    mean, std: [N], of the training part; a std of 0 counts as 1.
    """
    centre, scale = jnp.asarray(mean), jnp.where(jnp.asarray(std) > 0, jnp.asarray(std), 1)

    def accumulate(outputs: jax.Array, batch: Mapping[str, Any]) -> Any:
        targets = batch["targets"]

        def scaled(values: jax.Array) -> jax.Array:
            shape = (1,) * (targets.ndim - 1) + (-1,) + (1,) * (values.ndim - targets.ndim)
            return (values - centre.reshape(shape)) / scale.reshape(shape)

        return metric.accumulate(scaled(outputs), {**batch, "targets": scaled(targets)})

    return metric._replace(accumulate=accumulate)


def averaged(each: Mapping[Any, Metric]) -> Metric:
    """Return the mean of the metrics of single leads, of those that have a target."""

    def accumulate(outputs: jax.Array, batch: Mapping[str, Any]) -> dict[int, Any]:
        return {
            lead: (
                metric.accumulate(outputs, batch),
                jnp.sum(at_horizon(outputs, batch, lead)[2], dtype=jnp.float32),
            )
            for lead, metric in each.items()
        }

    def finish(sums: Mapping[int, Any]) -> Any:
        found = jnp.stack([each[lead].finalize(part) for lead, (part, _) in sums.items()])
        some = jnp.stack([count for _, count in sums.values()]) > 0
        return metrics.mean(jnp.where(some, found, 0).sum(axis=0), some.sum(axis=0), jnp.nan)

    return Metric(accumulate, finish, next(iter(each.values())).better)


_POINT: dict[str, Callable[..., Metric]] = {
    "mae": metrics.mean_absolute_error,
    "mse": metrics.mean_squared_error,
    "rmse": metrics.root_mean_squared_error,
    "mape": metrics.mean_absolute_percentage_error,
    "pcc": metrics.pearson,
    "frobenius_accuracy": metrics.frobenius_accuracy,
}


def by_name(name: str, quantiles: Sequence[float] = (), *, about: float = 0.0) -> Metric:
    """Return "measure@h", exactly h steps ahead, "measure@1-h", pooled, or "measure", over all.

    quantiles: the levels of outputs [B, H, N, Q]; measures of a point are then of the level
    nearest the median. about: roughly the mean of the targets. Raises MetricError for other names.
    """
    measure, separator, lead = name.partition("@")
    steps = tuple(int(step) for step in re.findall(r"\d+", lead))
    if separator and (not re.fullmatch(r"\d+(-\d+)?", lead) or not 1 <= steps[0] <= steps[-1]):
        raise MetricError(f"metric {name!r}: a step ahead, or 1-h, is expected after @: mae@1-3")
    at = None if not steps else steps[0] if len(steps) == 1 else (steps[0], steps[1])
    intervals = {
        "crps": partial(crps, quantiles),
        "pinball": partial(pinball, quantiles),
        "coverage": coverage,
        "width": width,
    }
    pcc = partial(metrics.pearson, about=about)
    known = {**_POINT, "pcc": pcc, **(intervals if quantiles else {})}
    if measure not in known:
        raise MetricError(f"metric {name!r}: {measure!r} is unknown: {', '.join(known)}")
    metric = known[measure](at=at)
    if measure in intervals or not len(quantiles):
        return metric
    middle = int(np.argmin(np.abs(np.asarray(quantiles) - 0.5)))
    return metric._replace(
        accumulate=lambda outputs, batch: metric.accumulate(outputs[..., middle], batch)
    )

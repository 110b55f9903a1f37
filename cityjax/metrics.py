"""Metrics as sums: accumulated over batches and devices, divided once at the end.

The mean of per-batch means is wrong as soon as batches differ in size or mask; sums are not.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

Horizon = int | tuple[int, int] | None


class Metric(NamedTuple):
    """`accumulate(outputs, batch) -> sums`, `finalize(sums) -> number`, and its direction.

    better: "none" where neither is, such as the width of an interval by itself.
    """

    accumulate: Callable[[Any, Mapping[str, Any]], Any]
    finalize: Callable[[Any], Any] = lambda sums: ratio(sums)
    better: Literal["lower", "higher", "none"] = "lower"


def ratio(sums: tuple[Any, Any]) -> Any:
    """Divide (sum, count): the default `finalize`. An empty count gives NaN, not zero."""
    return mean(*sums, empty=jnp.nan)


def mean(total: Any, count: Any, empty: float = 0.0) -> Any:
    """Divide a sum by its count, which may be of weights and below 1; `empty` where it is 0."""
    return jnp.where(count > 0, total / jnp.where(count > 0, count, 1), empty)


def finalize(sums: Mapping[str, Any], metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Turn sums into numbers in the order of `metrics`, before them losses, which are sum / count.

    metrics: those they were accumulated by. Raises ValueError where one lacks and there is no pair.
    """
    losses = [name for name in sums if name not in metrics]
    for name in losses:
        if len(sums[name]) != 2:
            raise ValueError(f"{name!r} is no sum and count: give finalize or score its metric")
    known = {name: metrics[name].finalize(sums[name]) for name in metrics if name in sums}
    values = jax.device_get({**{name: ratio(sums[name]) for name in losses}, **known})
    return {name: float(values[name]) for name in (*losses, *known)}  # JAX sorts dicts by name


def masked_sum(values: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sum `values` [B, ...] where `mask` holds, and count them.

    mask: [B] or any leading part of the shape of values; it holds for the axes it lacks.
    Masked values may be anything, NaN included: they touch neither the sum nor its gradient.
    Sums are of single precision at least: of bfloat16 a count would end at 256.
    """
    if mask.shape != values.shape[: mask.ndim]:
        raise ValueError(
            f"mask of shape {mask.shape} does not cover values of shape {values.shape}: "
            "it must have their leading axes"
        )
    mask = mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim))
    mask = jnp.broadcast_to(mask, values.shape).astype(bool)
    kind = jnp.promote_types(values.dtype, jnp.float32)
    return jnp.sum(jnp.where(mask, values, 0), dtype=kind), jnp.sum(mask, dtype=kind)


def at_horizon(
    outputs: jax.Array, batch: Mapping[str, Any], at: Horizon = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return outputs, targets and mask at some steps of axis 1, the mask in the targets' shape.

    at: None for the whole of [B, H, ...]; h for exactly the h-th step of axis 1 (counted from 1);
    (1, h) for steps 1 to h pooled. mask: as in `masked_sum`.
    """
    targets, mask = batch["targets"], batch["mask"]
    if at is not None:
        first, last = (at, at) if isinstance(at, int) else at
        if not 1 <= first <= last <= targets.shape[1]:
            raise ValueError(f"horizon {at} is outside 1 .. {targets.shape[1]}")
        steps = slice(first - 1, last)
        outputs, targets = outputs[:, steps], targets[:, steps]
        mask = mask[:, steps] if mask.ndim > 1 else mask
    mask = mask.reshape(mask.shape + (1,) * (targets.ndim - mask.ndim))
    return outputs, targets, jnp.broadcast_to(mask, targets.shape).astype(bool)


def masked_difference(
    outputs: jax.Array, batch: Mapping[str, Any], at: Horizon = None
) -> tuple[jax.Array, jax.Array]:
    """Return (outputs - targets, mask), zero where masked, so that its gradient is finite there.

    at, mask: as in `at_horizon`.
    """
    if outputs.shape != batch["targets"].shape:
        raise ValueError(f"outputs have shape {outputs.shape}, targets {batch['targets'].shape}")
    outputs, targets, mask = at_horizon(outputs, batch, at)
    return jnp.where(mask, outputs - jnp.where(mask, targets, 0), 0), mask


def class_targets(outputs: jax.Array, batch: Mapping[str, Any]) -> jax.Array:
    """Return the class numbers [B] that logits [B, K] are compared with.

    Raises ValueError for targets of another shape, which would broadcast to [B, B].
    """
    targets = batch["targets"]
    if targets.shape != outputs.shape[:-1]:
        raise ValueError(
            f"outputs have shape {outputs.shape}, targets {targets.shape}: "
            f"class numbers have shape {outputs.shape[:-1]}"
        )
    return targets


def accuracy() -> Metric:
    """Share of examples whose largest logit [B, K] is the target class [B]."""
    return Metric(_share(jnp.equal), better="higher")


def error() -> Metric:
    """Share of examples whose largest logit [B, K] is not the target class [B]."""
    return Metric(_share(jnp.not_equal))


def _share(of: Callable[[jax.Array, jax.Array], jax.Array]) -> Callable[..., Any]:
    return lambda outputs, batch: masked_sum(
        of(jnp.argmax(outputs, axis=-1), class_targets(outputs, batch)), batch["mask"]
    )


def _mean(size: Callable[[jax.Array], jax.Array], at: Horizon) -> Metric:
    def accumulate(outputs: jax.Array, batch: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
        difference, mask = masked_difference(outputs, batch, at)
        return masked_sum(size(difference), mask)

    return Metric(accumulate)


def mean_absolute_error(*, at: Horizon = None) -> Metric:
    """Mean |outputs - targets| in the units of the targets; `at` as in `at_horizon`."""
    return _mean(jnp.abs, at)


def mean_squared_error(*, at: Horizon = None) -> Metric:
    """Mean squared difference; `at` as in `at_horizon`."""
    return _mean(jnp.square, at)


def root_mean_squared_error(*, at: Horizon = None) -> Metric:
    """Root of the mean squared difference; `at` as in `at_horizon`."""
    return _mean(jnp.square, at)._replace(finalize=lambda sums: jnp.sqrt(ratio(sums)))


def mean_absolute_percentage_error(*, at: Horizon = None) -> Metric:
    """Mean |outputs - targets| / |targets| in percent; targets of 0 are left out."""

    def accumulate(outputs: jax.Array, batch: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
        difference, mask = masked_difference(outputs, batch, at)
        _, targets, _ = at_horizon(outputs, batch, at)
        mask = mask & (targets != 0)
        return masked_sum(100 * jnp.abs(difference) / jnp.where(mask, jnp.abs(targets), 1), mask)

    return Metric(accumulate)


def pearson(*, at: Horizon = None, about: float = 0.0) -> Metric:
    """Correlation of outputs and targets over all that is pooled; NaN where either is constant.

    about: roughly their mean: far from it, single precision loses what they differ by.
    """

    def accumulate(outputs: jax.Array, batch: Mapping[str, Any]) -> tuple[jax.Array, ...]:
        difference, mask = masked_difference(outputs, batch, at)
        targets = jnp.where(mask, at_horizon(outputs, batch, at)[1] - about, 0)
        outputs = difference + targets
        products = (targets, outputs, targets * targets, outputs * outputs, targets * outputs)
        sums = [masked_sum(product, mask) for product in products]
        return sums[0][1], *(total for total, _ in sums)

    def correlation(sums: tuple[Any, ...]) -> Any:
        count, *totals = sums
        y, p, yy, pp, yp = (mean(total, count) for total in totals)
        square = (yy - y * y) * (pp - p * p)
        varies = (yy - y * y > 1e-5 * yy) & (pp - p * p > 1e-5 * pp)  # else it is rounding
        return jnp.where(varies, (yp - y * p) / jnp.sqrt(jnp.where(varies, square, 1)), jnp.nan)

    return Metric(accumulate, correlation, better="higher")


def frobenius_accuracy(*, at: Horizon = None) -> Metric:
    """1 - |Y - P| / |Y| with Frobenius norms over all that is pooled (Zhao et al. 2019, eq. 11)."""

    def accumulate(outputs: jax.Array, batch: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
        difference, mask = masked_difference(outputs, batch, at)
        targets = at_horizon(outputs, batch, at)[1]
        return masked_sum(jnp.square(difference), mask)[0], masked_sum(targets**2, mask)[0]

    def finish(sums: tuple[Any, Any]) -> Any:
        error, size = sums
        return jnp.where(size > 0, 1 - jnp.sqrt(error / jnp.where(size > 0, size, 1)), jnp.nan)

    return Metric(accumulate, finish, better="higher")

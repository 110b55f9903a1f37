"""Metrics as sums: accumulated over batches and devices, divided once at the end.

The mean of per-batch means is wrong as soon as batches differ in size or mask; sums are not.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

Horizon = int | tuple[int, int] | None


class Metric(NamedTuple):
    """`accumulate(outputs, batch) -> sums`, `finalize(sums) -> number`, and its direction."""

    accumulate: Callable[[Any, Mapping[str, Any]], Any]
    finalize: Callable[[Any], Any] = lambda sums: ratio(sums)
    better: Literal["lower", "higher"] = "lower"


def ratio(sums: tuple[Any, Any]) -> Any:
    """Divide (sum, count): the default `finalize`. An empty count gives NaN, not zero."""
    total, count = sums
    return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)


def finalize(sums: Mapping[str, Any], metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Turn accumulated sums into numbers; names without a metric (losses) are sum / count."""
    values = {
        name: metrics[name].finalize(value) if name in metrics else ratio(value)
        for name, value in sums.items()
    }
    return {name: float(value) for name, value in jax.device_get(values).items()}


def masked_sum(values: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sum `values` [B, ...] where `mask` holds, and count them.

    mask: [B] or any leading part of the shape of values; it holds for the axes it lacks.
    Masked values may be anything, NaN included: they touch neither the sum nor its gradient.
    """
    if mask.shape != values.shape[: mask.ndim]:
        raise ValueError(
            f"mask of shape {mask.shape} does not cover values of shape {values.shape}: "
            "it must have their leading axes"
        )
    mask = mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim))
    mask = jnp.broadcast_to(mask, values.shape).astype(bool)
    return jnp.sum(jnp.where(mask, values, 0)), jnp.sum(mask, dtype=values.dtype)


def masked_difference(outputs: jax.Array, batch: Mapping[str, Any], at: Horizon = None):
    """Return (outputs - targets, mask), zero where masked, so that its gradient is finite there.

    at: None for the whole of [B, H, ...]; h for exactly the h-th step of axis 1 (counted from 1);
    (1, h) for steps 1 to h pooled. mask: as in `masked_sum`.
    """
    targets, mask = batch["targets"], batch["mask"]
    if outputs.shape != targets.shape:
        raise ValueError(f"outputs have shape {outputs.shape}, targets {targets.shape}")
    if at is not None:
        first, last = (at, at) if isinstance(at, int) else at
        if not 1 <= first <= last <= targets.shape[1]:
            raise ValueError(f"horizon {at} is outside 1 .. {targets.shape[1]}")
        steps = slice(first - 1, last)
        outputs, targets = outputs[:, steps], targets[:, steps]
        mask = mask[:, steps] if mask.ndim > 1 else mask
    mask = mask.reshape(mask.shape + (1,) * (targets.ndim - mask.ndim))
    mask = jnp.broadcast_to(mask, targets.shape).astype(bool)
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

    def accumulate(outputs: jax.Array, batch: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
        right = jnp.argmax(outputs, axis=-1) == class_targets(outputs, batch)
        return masked_sum(right.astype(outputs.dtype), batch["mask"])

    return Metric(accumulate, better="higher")


def error() -> Metric:
    """Share of examples whose largest logit [B, K] is not the target class [B]."""

    def accumulate(outputs: jax.Array, batch: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
        wrong = jnp.argmax(outputs, axis=-1) != class_targets(outputs, batch)
        return masked_sum(wrong.astype(outputs.dtype), batch["mask"])

    return Metric(accumulate)


def mean_absolute_error(*, at: Horizon = None) -> Metric:
    """Mean |outputs - targets| in the units of the targets; `at` as in `masked_difference`."""

    def accumulate(outputs: jax.Array, batch: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
        difference, mask = masked_difference(outputs, batch, at)
        return masked_sum(jnp.abs(difference), mask)

    return Metric(accumulate)


def root_mean_squared_error(*, at: Horizon = None) -> Metric:
    """Root of the mean squared difference; `at` as in `masked_difference`."""

    def accumulate(outputs: jax.Array, batch: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
        difference, mask = masked_difference(outputs, batch, at)
        return masked_sum(jnp.square(difference), mask)

    return Metric(accumulate, finalize=lambda sums: jnp.sqrt(ratio(sums)))

"""Windows of a long series by index: the series stays where it is, windows are gathered from it.

A forecast has an origin t, the last step whose values are known. History is steps up to t, targets
are t + 1 ... t + horizon. Splits are chronological; a target lies in exactly one of them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cityjax.data.moments import moments

HOURS_PER_WEEK = 168


def gather(series: jax.Array, origins: jax.Array, offsets: Sequence[int]) -> jax.Array:
    """Return series[origin + offset] for every origin and offset; traceable, nothing is stored.

    series: [T, ...]; origins: integers [B]; the result is [B, len(offsets), ...]. Offsets may be a
    history `range(-23, 1)`, targets `range(1, 7)` or any list. Steps outside 0 .. T - 1 give the
    nearest end of the series, as indexing under jit must: choose origins with `origins`.
    """
    origins = jnp.asarray(origins)
    steps = origins[:, None] + jnp.asarray(offsets, dtype=origins.dtype)[None]
    return jnp.take(series, steps, axis=0, mode="clip")


def split_bounds(
    observed: np.ndarray, fractions: Sequence[float] = (0.7, 0.1, 0.2)
) -> list[tuple[int, int]]:
    """Cut steps 0 .. T in time order into parts [start, stop) that hold these shares of the data.

    observed: bool [T]. A share is of the observed steps, so a long gap does not starve the part it
    falls into; with all steps observed it is a share of the time.

    Raises:
        ValueError: the fractions are not positive or do not sum to 1, or a part would be empty.
    """
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-9:
        raise ValueError(f"fractions {tuple(fractions)} must be positive and sum to 1")
    steps = np.flatnonzero(observed)
    # The rounding takes 0.7 + 0.1 = 0.7999... for the 0.8 that was meant.
    cuts = [int(round(share * len(steps), 6)) for share in np.cumsum(fractions)[:-1]]
    if len(set([0, *cuts, len(steps)])) <= len(cuts) + 1:
        raise ValueError(f"{len(steps)} observed steps are too few for {tuple(fractions)}")
    edges = [0, *(int(steps[cut]) for cut in cuts), len(observed)]
    return list(zip(edges[:-1], edges[1:], strict=True))


def origins(bounds: tuple[int, int], *, history: int, horizon: int) -> np.ndarray:
    """Return every origin t whose targets t + 1 .. t + horizon all lie in [start, stop).

    The history t - history + 1 .. t may reach back before the start, but not before the series.
    """
    start, stop = bounds
    return np.arange(max(start, history) - 1, stop - horizon)


class Scaler(NamedTuple):
    """Mean and standard deviation of the observed training values, one pair per channel."""

    mean: np.ndarray
    std: np.ndarray


def fit_scaler(values: np.ndarray, mask: np.ndarray, *, stop: int) -> Scaler:
    """Fit on steps before `stop` (the end of train) where `mask` holds; the rest is never read.

    values: [T, ...], mask: bool of the same shape. A channel that never varies, or by no more than
    float32 rounds, gets std 1. Sums are of float64; the result is of the type of the values.

    Raises:
        ValueError: a channel has no observed step before `stop`.
    """
    mask = mask[:stop]
    if not np.all(mask.any(axis=0)):
        raise ValueError(f"a channel has no observed value before step {stop}")
    mean, std = moments(values[:stop], mask)
    kind = np.result_type(values, np.float32)
    return Scaler(mean.astype(kind), np.where(std > 0, std, 1).astype(kind))


def hour_of_week(hours: np.ndarray) -> np.ndarray:
    """Return 0 (Monday 00:00) .. 167 (Sunday 23:00) of hours since 1970-01-01 00:00, a Thursday."""
    return (np.asarray(hours) + 3 * 24) % HOURS_PER_WEEK


def calendar_one_hot(hours: np.ndarray) -> np.ndarray:
    """Return the hour of day and the day of week (Monday first) as one-hot float32 [T, 24 + 7]."""
    week = hour_of_week(hours)
    return np.concatenate([np.eye(24)[week % 24], np.eye(7)[week // 24]], axis=1).astype(np.float32)


def lagged(values: np.ndarray, steps: int) -> np.ndarray:
    """Return values[t - steps] at every t; before the series there is zero (False for a mask).

    values: [T, ...]; a negative `steps` looks ahead, and finds zero beyond the end.
    """
    result = np.zeros_like(values)
    if steps >= 0:
        result[steps:] = values[: max(len(values) - steps, 0)]
    else:
        result[:steps] = values[-steps:]
    return result


def last_value(values: np.ndarray, mask: np.ndarray, at: np.ndarray, horizon: int) -> np.ndarray:
    """Naive floor: forecast the last observed value at or before each origin, [B, horizon].

    values: [T]; mask: bool [T]; at: origins [B]. NaN where nothing was observed before.
    """
    return np.repeat(last_observed(values, mask, 1)[at][:, None], horizon, axis=1)


def seasonal_value(
    values: np.ndarray, mask: np.ndarray, at: np.ndarray, horizon: int, *, period: int
) -> np.ndarray:
    """Naive floor: forecast the value one period before each target, [B, horizon].

    Where that one is missing, the last observed one a whole number of periods before; NaN where
    there is none. Only origins and earlier are read.

    Raises:
        ValueError: the period is shorter than the horizon, so that the value is not known yet.
    """
    if period < horizon:
        raise ValueError(f"period {period} must be at least the horizon {horizon}")
    targets = np.asarray(at)[:, None] + np.arange(1, horizon + 1)
    filled = last_observed(values, mask, period)
    return np.where(targets >= period, filled[np.maximum(targets - period, 0)], np.nan)


def phase_median(
    values: np.ndarray, mask: np.ndarray, phase: np.ndarray, *, stop: int
) -> np.ndarray:
    """Return the median of the observed values before `stop` for each phase 0 .. max(phase).

    values, mask, phase: [T]. With `hour_of_week` as phase this is the profile of a typical week;
    indexed by the phase of the target it is a floor that needs no recent data at all.

    Raises:
        ValueError: a phase was never observed before `stop`.
    """
    known, seen = values[:stop][mask[:stop]], phase[:stop][mask[:stop]]
    groups = [known[seen == number] for number in range(int(phase.max()) + 1)]
    if not all(len(group) for group in groups):
        raise ValueError(f"a phase was never observed before step {stop}")
    return np.array([np.median(group) for group in groups])


def last_observed(values: np.ndarray, mask: np.ndarray, period: int) -> np.ndarray:
    """Return at each step t the last observed of values[t], values[t - period], ..., else NaN.

    values: [T, ...]; mask: bool of the same shape. Nothing after t is read.
    """
    steps = np.arange(len(values), dtype=np.int32).reshape(-1, *(1,) * (values.ndim - 1))
    padding = [(0, -len(values) % period), *[(0, 0)] * (values.ndim - 1)]
    last = np.pad(np.where(mask, steps, -1), padding, constant_values=-1)
    last = last.reshape(-1, period, *values.shape[1:])
    last = np.maximum.accumulate(last, axis=0).reshape(-1, *values.shape[1:])[: len(values)]
    return np.where(last >= 0, np.take_along_axis(values, np.maximum(last, 0), axis=0), np.nan)

"""Intervals around forecasts from their own past errors: split-conformal, and one that adapts.

Neither asks anything of the forecaster, of the errors only that tomorrow's are like yesterday's;
where they drift, the online interval widens and narrows by what has been seen since.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

NOMINAL = 0.9
RATE = 0.3  # at which the online interval moves, one step ahead
FEWEST = 30  # errors of a sensor at a lead, below which those of all sensors are pooled


def interval_scores(
    outputs: Mapping[str, np.ndarray],
    truth: Mapping[str, tuple[np.ndarray, np.ndarray]],
    origins: Mapping[str, np.ndarray],
    *,
    nominal: float = NOMINAL,
) -> dict[str, float]:
    """Return coverage and mean width of both intervals on test: "coverage_90_online", ...

    outputs: of "validation" and "test", points [W, H, N] or rising quantiles [W, H, N, Q]; truth:
    targets and mask [W, H, N]; origins: [W], steps. All are NaN where no forecast is a number.
    """
    scores = {part: conformity(outputs[part], *truth[part]) for part in ("validation", "test")}
    half = half_width(scores["validation"], nominal)
    factor = online_factor(scores["test"] / half, origins["test"], nominal)
    span = np.broadcast_to(_span(outputs["test"]), scores["test"].shape)
    seen = np.isfinite(scores["test"])

    def mean(values: np.ndarray) -> float:
        return float(values[seen].mean()) if seen.any() else float("nan")

    found = {}
    for name, by in {"": half[None], "_online": half * factor[..., None]}.items():
        found[f"coverage_{100 * nominal:.0f}{name}"] = mean(scores["test"] <= by)
        found[f"width_{100 * nominal:.0f}{name}"] = mean(span * by)
    return found


def conformity(outputs: np.ndarray, targets: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return how far each target lies from its forecast: [W, H, N], NaN where masked.

    Of a point, |y - p|; of quantiles, the distance from the middle one in units of that of the
    outer one on the same side (Romano et al. 2019 in its scaled form): 1 lies on the outer one.
    """
    if outputs.ndim == 3:
        return np.where(mask, np.abs(targets - outputs), np.nan)
    middle = outputs[..., outputs.shape[-1] // 2]
    above = targets > middle
    side = np.where(above, outputs[..., -1] - middle, middle - outputs[..., 0])
    return np.where(mask, np.abs(targets - middle) / np.maximum(side, 1e-6 * _size(side)), np.nan)


def bounds(outputs: np.ndarray, half: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the intervals [..., N] that reach `half` [N] in units of `conformity`.

    outputs: points [..., N], or rising quantiles [..., N, Q] beside half of as many dimensions - 1.
    """
    if outputs.ndim == half.ndim + 1:
        return outputs - half, outputs + half
    middle = outputs[..., outputs.shape[-1] // 2]
    return middle - half * (middle - outputs[..., 0]), middle + half * (outputs[..., -1] - middle)


def _size(values: np.ndarray) -> float:
    return max(float(np.abs(values).max(initial=0)), float(np.finfo(np.float32).tiny))


def _span(outputs: np.ndarray) -> Any:
    """The width of an interval that is widened by 1 on either side."""
    return 2.0 if outputs.ndim == 3 else outputs[..., -1] - outputs[..., 0]


def half_width(scores: np.ndarray, nominal: float) -> np.ndarray:
    """Return how far the interval of a sensor reaches at a lead, in units of `conformity`: [H, N].

    The ceil((n + 1) nominal)-th smallest of its n scores [W, H, N] (Vovk et al. 2005; Lei et al.
    2018). Of a sensor with fewer than 30, that of the scores of all sensors, each in units of its
    sensor's mean score. A lead without any score has the half-width of the one before it.
    """
    half = conformal_quantile(scores, nominal)
    few = np.isfinite(scores).sum(axis=0) < FEWEST
    if few.any():
        size = _mean(scores, (0, 1))  # [N]
        size = np.where(np.isfinite(size) & (size > 0), size, _mean(scores, None))
        pooled = np.moveaxis(scores / size, 1, 0).reshape(scores.shape[1], -1).T
        half = np.where(few, conformal_quantile(pooled, nominal)[:, None] * size, half)
    for lead in range(1, len(half)):  # where validation has no target so far ahead
        half[lead] = np.where(np.isnan(half[lead]), half[lead - 1], half[lead])
    # An interval of no width could not be widened either.
    return np.maximum(half, np.finfo(np.float32).tiny)


def conformal_quantile(scores: np.ndarray, nominal: float) -> np.ndarray:
    """Return the ceil((n + 1) nominal)-th smallest along axis 0 of the n that are no NaN.

    Where n is too small for that, the largest; where n is 0, NaN.
    """
    ordered = np.sort(scores, axis=0)  # NaN last
    count = np.isfinite(scores).sum(axis=0)
    rank = np.minimum(np.ceil((count + 1) * nominal).astype(int), count) - 1
    return np.take_along_axis(ordered, np.maximum(rank, 0)[None], axis=0)[0]


def online_factor(ratios: np.ndarray, origins: np.ndarray, nominal: float) -> np.ndarray:
    """Return by how much the half-widths are multiplied at each origin and lead: [W, H].

    ratios: scores in half-widths [W, H, N], of origins [W] in time order. After the targets of an
    origin at a lead are known, h steps later, the logarithm of the factor moves by
    RATE / sqrt(h) (share missed - (1 - nominal)): quantile tracking (Gibbs and Candes 2021;
    Angelopoulos et al. 2023) on a scale that keeps widths positive, slower where more forecasts are
    under way before the first of them is judged.
    """
    windows, horizon, _ = ratios.shape
    leads = np.arange(horizon)
    rate = RATE / np.sqrt(leads + 1)
    # Of how many origins the target at a lead is not later than this origin: [W, H].
    known = np.searchsorted(origins, np.asarray(origins)[:, None] - leads - 1, side="right")
    logarithm = np.zeros((windows + 1, horizon))  # after as many origins as the row's number
    factor = np.ones((windows, horizon))
    for window in range(windows):
        factor[window] = np.exp(logarithm[known[window], leads])
        seen = np.isfinite(ratios[window]).sum(axis=1)
        missed = (ratios[window] > factor[window, :, None]).sum(axis=1) / np.maximum(seen, 1)
        step = np.where(seen > 0, rate * (missed - (1 - nominal)), 0.0)
        logarithm[window + 1] = logarithm[window] + step
    return factor


def _mean(values: np.ndarray, axes: tuple[int, ...] | None) -> np.ndarray:
    """The mean of what is no NaN, NaN where all is; without numpy's warning."""
    seen = np.isfinite(values)
    total, count = np.where(seen, values, 0).sum(axis=axes), seen.sum(axis=axes)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)

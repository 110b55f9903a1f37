"""Intervals around forecasts from their own past errors: split-conformal, and one that adapts.

Neither asks anything of the forecaster. The first asks of the errors that tomorrow's are like
validation's; where they drift, the online interval widens and narrows by what has been seen since.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit

from cityjax.tasks.conformity import LINEAR, Scale, bounds, conformity

NOMINAL = 0.9
NEEDED = 9  # errors: the largest of n covers n in n + 1
RATE = 0.1  # at which the online interval follows its own misses, one step ahead
# Judged steps after which a score counts half: of sensors that err independently, and as one.
HALF_LIFE = (10, 60)
EDGES = np.exp(np.arange(-60, 61) / 20)  # of the bins that online scores are counted in
UNSEEN = len(EDGES) + 1  # the bin of a score that is no number
PROTOCOL = (
    "90 %, split-conformal on validation by sensor and lead; online: scaled to cover the recent "
    "errors that are known at each origin, pooled over sensors"
)
STRETCHES = 10  # of test, whose shares say how far that of all may be off
TIE = 1e-5  # of a score, by which rounding may part two that are the same
FEWEST = 30  # errors of a sensor at a lead, below which those of all sensors are pooled


def better(at: str) -> dict[str, str]:
    """Return which direction of `interval_scores` is good, by metric key; at: `1-12`.

    None: a width says something only beside its coverage, and that is best at the nominal one.
    """
    names = [f"{name}_90{kind}" for name in ("coverage", "width") for kind in ("", "_online")]
    names += ["coverage_90_ci95", "coverage_90_online_ci95"]
    return {f"{name}@{at}": "none" for name in names}


class Covered(NamedTuple):
    """The share of targets inside intervals and their mean width, NaN of none.

    ci95: the half-width of the 95 % interval of the share, by Student's t over ten stretches of
    test: what it would be on other days like these. NaN of fewer than two stretches with a target.
    """

    share: float
    width: float
    ci95: float


def interval_scores(
    outputs: Mapping[str, np.ndarray],
    truth: Mapping[str, tuple[np.ndarray, np.ndarray]],
    origins: Mapping[str, np.ndarray],
    *,
    scale: Scale = LINEAR,
    unit: np.ndarray | float = 1.0,
    nominal: float = NOMINAL,
) -> dict[str, float]:
    """Return coverage, its interval and mean width of both intervals on test.

    "coverage_90", "coverage_90_ci95", "width_90", and of the online one "coverage_90_online", ...

    outputs: of "validation" and "test", points [W, H, N] or rising quantiles [W, H, N, Q]; truth:
    targets and mask [W, H, N]; origins: [W], steps; unit: that of widths, [N] where sensors differ.
    All are NaN where there is none.
    """
    scores = {part: conformity(outputs[part], *truth[part], scale) for part in outputs}
    half = half_width(scores["validation"], nominal)
    leave_out_unjudged(scores["test"], half)
    ratios = {part: in_half_widths(values, half) for part, values in scores.items()}
    factor = online_factor(ratios, origins, nominal)
    found = {}
    for name, by in {"": np.ones_like(factor), "_online": factor}.items():
        of_all = coverage(outputs["test"], scores["test"], half, by, scale, unit)
        found[f"coverage_{100 * nominal:.0f}{name}"] = of_all.share
        found[f"coverage_{100 * nominal:.0f}{name}_ci95"] = of_all.ci95
        found[f"width_{100 * nominal:.0f}{name}"] = of_all.width
    return found


def coverage(
    outputs: np.ndarray,
    scores: np.ndarray,
    half: np.ndarray,
    factor: np.ndarray,
    scale: Scale,
    unit: np.ndarray | float,
) -> Covered:
    """Return what intervals cover, and their mean width in `unit`.

    scores: `conformity` of outputs [W, H, N(, Q)]; half: [H, N], times factor [W, H].
    """
    seen = ~np.isnan(scores)
    inside, width = np.zeros(len(scores)), 0.0
    for lead in range(len(half)):  # one at a time: ends are as many as forecasts
        ends = half[lead] * factor[:, lead, None]
        inside += (scores[:, lead] <= ends * (1 + TIE)).sum(axis=1)
        low, high = bounds(outputs[:, lead], ends, scale)
        width += ((high - low) / unit)[seen[:, lead]].sum()
    count = seen.sum(axis=(1, 2))
    total = count.sum()
    if not total:
        return Covered(math.nan, math.nan, math.nan)
    parts = [part for part in np.array_split(np.arange(len(count)), STRETCHES) if count[part].any()]
    shares = [inside[part].sum() / count[part].sum() for part in parts]
    some = len(shares)
    ci95 = math.nan
    if some > 1:
        ci95 = float(stdtrit(some - 1, 0.975) * np.std(shares, ddof=1) / math.sqrt(some))
    return Covered(float(inside.sum() / total), float(width / total), ci95)


def leave_out_unjudged(scores: np.ndarray, half: np.ndarray) -> None:
    """Set scores [W, H, N] of test to NaN where `half` [H, N] is: no target can lie inside."""
    scores[:, np.isnan(half)] = np.nan


def half_width(scores: np.ndarray, nominal: float) -> np.ndarray:
    """Return how far the interval of a sensor reaches at a lead, in units of `conformity`: [H, N].

    The ceil((n + 1) nominal)-th smallest of its n scores [W, H, N] (Vovk et al. 2005; Lei et al.
    2018). Of a sensor with fewer than 30, that of the scores of all sensors, each in units of its
    sensor's mean score. A lead without any score has the half-width of the one before it.
    """
    half = conformal_quantile(scores, nominal)
    few = (~np.isnan(scores)).sum(axis=0) < FEWEST
    if few.any():
        size = _mean(scores, (0, 1))  # [N]
        size = np.where(np.isfinite(size) & (size > 0), size, _mean(scores, None))
        pooled = np.moveaxis(scores / size, 1, 0).reshape(scores.shape[1], -1).T
        half = np.where(few, conformal_quantile(pooled, nominal)[:, None] * size, half)
    for lead in range(1, len(half)):  # where validation has no target so far ahead
        half[lead] = np.where(np.isnan(half[lead]), half[lead - 1], half[lead])
    # An interval of no width could not be widened either.
    return np.maximum(half, np.finfo(np.float32).tiny)


def in_half_widths(scores: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Return scores [W, H, N] in half-widths [H, N], as `online_factor` reads them.

    NaN of a sensor that never erred on validation: its interval has no width to measure by; nor has
    one without an end.
    """
    ratios = np.full_like(scores, np.nan)
    some = (half > np.finfo(np.float32).tiny) & np.isfinite(half)
    return np.divide(scores, half, out=ratios, where=some)


def conformal_quantile(scores: np.ndarray, nominal: float) -> np.ndarray:
    """Return the ceil((n + 1) nominal)-th smallest along axis 0 of the n that are no NaN.

    Where n is too small for that, the largest; where n is 0, NaN.
    """
    ordered = np.sort(scores, axis=0)  # NaN last
    count = (~np.isnan(scores)).sum(axis=0)
    rank = np.minimum(np.ceil((count + 1) * nominal).astype(int), count) - 1
    return np.take_along_axis(ordered, np.maximum(rank, 0)[None], axis=0)[0]


def online_factor(
    ratios: Mapping[str, np.ndarray], origins: Mapping[str, np.ndarray], nominal: float
) -> np.ndarray:
    """Return by how much the half-widths are multiplied at each origin of test and lead: [W, H].

    ratios: scores in half-widths [W, H, N] of "validation" and "test"; origins: [W] in time order.
    The factor is the quantile of recent scores, times one whose logarithm moves by
    RATE / sqrt(h) (share missed - (1 - nominal)) once the targets of an origin are known, h steps
    later: quantile tracking (Gibbs and Candes 2021) around a forecast of the scores (Angelopoulos
    et al. 2023), slower where more is under way before the first of it is judged.
    """
    test = ratios["test"]
    windows, horizon, _ = test.shape
    leads = np.arange(horizon)
    factor = recent_quantile(ratios, origins, nominal)
    # Of how many origins the target at a lead is not later than this origin: [W, H].
    known = np.searchsorted(origins["test"], origins["test"][:, None] - leads - 1, side="right")
    reached = np.isfinite(test)  # a target that no interval reaches says nothing of their width
    seen = reached.sum(axis=2)
    rate = np.where(seen > 0, RATE / np.sqrt(leads + 1), 0)
    logarithm = np.zeros((windows + 1, horizon))  # after as many origins as the row's number
    for window in range(windows):
        factor[window] *= np.exp(logarithm[known[window], leads])
        over = (test[window] > factor[window, :, None] * (1 + TIE)) & reached[window]
        share = over.sum(axis=1) / np.maximum(seen[window], 1)
        logarithm[window + 1] = logarithm[window] + rate[window] * (share - (1 - nominal))
    return factor


def recent_quantile(
    ratios: Mapping[str, np.ndarray], origins: Mapping[str, np.ndarray], nominal: float
) -> np.ndarray:
    """Return the quantile of the scores that are known at each origin of test, by lead: [W, H].

    Pooled over sensors, and the older the less a score counts. A forecast still under way counts
    with the score of its furthest target that is known: drift shows in short leads first. Widened
    as Student's t is of the n independent errors they are worth, by 1 + (z^2 + 1) / (4 n), the
    first term of its series (Fisher 1925), at most twofold.
    """
    bins, first = _bins(ratios, origins)
    horizon = bins.shape[1]
    leads = np.arange(1, horizon + 1)
    # One step of many sensors that err independently says as much as many steps of one.
    together = _together(ratios["validation"])
    # Where few steps are judged, as of sparse values, as many of them are remembered as elsewhere.
    judged = _judged(ratios["validation"], origins["validation"])
    half_life = (HALF_LIFE[0] + (HALF_LIFE[1] - HALF_LIFE[0]) * together) / judged
    # Errors h steps ahead are alike for about 2 h steps.
    alike = np.maximum(2 * leads * judged, 1)
    excess = (ndtri((1 + nominal) / 2) ** 2 + 1) / 4 * alike * together
    rows = origins["test"] - first
    found = np.ones((len(rows), horizon))
    past, kept = np.zeros((horizon, UNSEEN)), 0.5 ** (1 / half_life)
    window = 0
    # What is older than ten half-lives counts for nothing.
    oldest = rows[0] - math.ceil(10 * HALF_LIFE[1] / judged)
    for row in range(max(horizon, oldest), len(bins)):
        counts = _counts(bins[row - leads, leads - 1])  # of the targets of this step: [H, bins]
        past = past * kept + counts
        if row < rows[window]:
            continue
        under_way = np.cumsum(counts, axis=0) - counts  # of the shorter leads
        below = np.cumsum(past + under_way, axis=1)
        total = below[:, -1]
        place = (below < nominal * total[:, None] * (1 - 1e-9)).sum(axis=1)
        quantile = np.where(total > 0, EDGES[np.minimum(place, len(EDGES) - 1)], 1)
        found[window] = quantile * (1 + np.minimum(excess / np.maximum(total, 1e-9), 1))
        window += 1
    return found


def _bins(
    ratios: Mapping[str, np.ndarray], origins: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, int]:
    """Return the bin of each score, by origin [T, H, N], every step a row, and the step of row 0.

    As many rows as there are leads come before the first origin.
    """
    shape = ratios["test"].shape[1:]
    first = min(origins[part][0] for part in ratios) - shape[0]
    bins = np.full((origins["test"][-1] - first + 1, *shape), UNSEEN, np.uint8)
    for part, values in ratios.items():
        rows = origins[part] - first
        for lead in range(shape[0]):  # one at a time: places are eight bytes each
            known = np.isfinite(values[:, lead])
            places = np.searchsorted(EDGES, values[:, lead])
            # Parts may share an origin, of whose targets each has its own.
            bins[rows, lead] = np.where(known, places, bins[rows, lead])
    return bins, first


def _counts(bins: np.ndarray) -> np.ndarray:
    """Count scores [H, N] by bin, as shares of those there are at a lead: [H, bins]."""
    seen = bins < UNSEEN
    place = np.arange(len(bins))[:, None] * UNSEEN + bins
    counts = np.bincount(place[seen], minlength=len(bins) * UNSEEN).reshape(len(bins), UNSEEN)
    return counts / np.maximum(seen.sum(axis=1, keepdims=True), 1)


def _judged(ratios: np.ndarray, origins: np.ndarray) -> float:
    """Return the share of steps that scores [W, H, N] are of, from the first to the last of them.

    1 where there is none.
    """
    steps = origins[:, None] + np.arange(ratios.shape[1])  # one before that of the target
    steps = np.unique(steps[np.isfinite(ratios).any(axis=2)])
    return len(steps) / (steps[-1] - steps[0] + 1) if len(steps) else 1.0


def _together(ratios: np.ndarray) -> float:
    """Return how much sensors [W, H, N] miss together: 1 where all or none do, else towards 1 / N.

    The variance over windows of the share that is missed, in units of that of one sensor; 1 where
    none ever misses, of which nothing can be told.
    """
    seen = np.isfinite(ratios).sum(axis=2)
    share = ((ratios > 1).sum(axis=2) / np.maximum(seen, 1))[seen > 0]
    mean = share.mean() if len(share) else 0.0
    return min(1.0, float(share.var() / (mean * (1 - mean)))) if 0 < mean < 1 else 1.0


def _mean(values: np.ndarray, axes: tuple[int, ...] | None) -> np.ndarray:
    """The mean of what is no NaN, NaN where all is; without numpy's warning."""
    seen = np.isfinite(values)
    total, count = np.where(seen, values, 0).sum(axis=axes), seen.sum(axis=axes)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)

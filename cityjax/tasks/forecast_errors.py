"""What the figures of a forecasting run show: its errors from every side, and its intervals."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from cityjax.data.forecast import clock
from cityjax.data.series import Series
from cityjax.tasks.conformity import conformity
from cityjax.tasks.intervals import (
    TIE,
    coverage,
    half_width,
    in_half_widths,
    leave_out_unjudged,
    online_factor,
)
from cityjax.tasks.problem import Problem
from cityjax.tasks.scores import chunks, error_scale, truth

HOUR, DAY, WEEK = 3600, 86_400, 7 * 86_400
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


class Errors(NamedTuple):
    """One row's error on test: at each lead [H], in each phase [P], of each sensor [N], over all.

    NaN where there was nothing to compare.
    """

    lead: np.ndarray
    phase: np.ndarray
    sensor: np.ndarray
    overall: float


def points_of(problem: Problem, outputs: np.ndarray) -> np.ndarray:
    """Return the points [W, H, N]: of quantiles, those nearest the median, as metrics have it."""
    if not problem.quantiles:
        return outputs
    return outputs[..., int(np.argmin(np.abs(np.asarray(problem.quantiles) - 0.5)))]


def truth_of(problem: Problem, split: str, part: slice = slice(None)) -> np.ndarray:
    """Return the targets [W, H, N] of some windows, NaN where missing or not of the split."""
    targets, mask = truth(problem, split, part)
    return np.where(mask, targets, np.nan)


def measure_of(problem: Problem) -> str:
    """Return the first measure of the protocol that adds up over sensors and times, else "mae"."""
    return next((m for m in problem.protocol.measures if m in ("mae", "rmse", "mse")), "mae")


def measured(
    problem: Problem, forecasts_of: Callable[[slice], Mapping[str, np.ndarray]]
) -> dict[str, Errors]:
    """Return the errors of every row on test; `forecasts_of` some windows: row -> [W, H, N].

    They are of z-scores where the protocol is; a forecast that is NaN is left out.
    """
    measure, scale = measure_of(problem), error_scale(problem)
    phase, places, _ = phases(problem.series)
    sums: dict[str, list[np.ndarray]] = {}
    for part in chunks(problem, len(problem.origins["test"])):
        targets = truth_of(problem, "test", part)
        steps = problem.origins["test"][part, None] + np.arange(1, problem.horizon + 1)
        at = phase[np.minimum(steps, len(phase) - 1)]
        for name, values in forecasts_of(part).items():
            distance = np.abs(values - targets) / scale
            seen = np.isfinite(distance)
            distance = np.where(seen, distance if measure == "mae" else distance**2, 0)
            new = _sums(distance, at, len(places)) + _sums(seen, at, len(places))
            old = sums.get(name, [np.zeros(())] * len(new))
            sums[name] = [a + b for a, b in zip(old, new, strict=True)]
    return {name: _finish(measure, found) for name, found in sums.items()}


def _sums(values: np.ndarray, phase: np.ndarray, phases: int) -> list[np.ndarray]:
    """Sum [W, H, N] over all but the lead, the phase, the sensor."""
    by_time = values.sum(axis=2, dtype=np.float64)
    by_phase = np.bincount(phase.ravel(), by_time.ravel(), minlength=phases)
    return [by_time.sum(axis=0), by_phase, values.sum(axis=(0, 1), dtype=np.float64)]


def _finish(measure: str, sums: list[np.ndarray]) -> Errors:
    totals, counts = ([*part, part[0].sum()] for part in (sums[:3], sums[3:]))
    means = [
        np.where(count > 0, total / np.maximum(count, 1), np.nan)
        for total, count in zip(totals, counts, strict=True)
    ]
    lead, phase, sensor, overall = map(np.sqrt, means) if measure == "rmse" else means
    return Errors(lead, phase, sensor, float(overall))


def unit_of(problem: Problem) -> str:
    """Return the unit that errors and widths are in."""
    return "z-scores" if problem.protocol.standardised else problem.series.unit


def phases(series: Series) -> tuple[np.ndarray, np.ndarray, str]:
    """Return each step's phase [T], the place of each phase on the axis [P], and what it is.

    The hour of day; of steps of a day or more the weekday (Monday 0), of a week or more the week of
    the year (from 1).
    """
    ticks = clock(series.time, series.step)
    if series.step >= WEEK:
        return ticks[:, 2] // 7, np.arange(1, 54), "week of the year"
    if series.step >= DAY:
        return ticks[:, 1], np.arange(7), "weekday"
    size = max(HOUR, series.step)
    phase = series.time.astype("datetime64[s]").astype(np.int64) % DAY // size
    return phase, np.arange(-(-DAY // size)) * size / HOUR, "hour of day"


def _scores(problem: Problem, outputs: np.ndarray, split: str) -> np.ndarray:
    """Return how far each target lies from its forecast [W, H, N], as `conformity` has it."""
    scores = np.empty((*outputs.shape[:2], len(problem.series.sensors)), np.float32)
    for part in chunks(problem, len(outputs)):
        targets, mask = truth(problem, split, part)
        scores[part] = conformity(outputs[part], targets, mask, problem.interval_scale)
    return scores


class Calibration(NamedTuple):
    """What validation gives intervals: its scores [W, H, N], half-widths [H, N] of every level."""

    scores: np.ndarray
    half: Mapping[float, np.ndarray]


def calibrated(problem: Problem, outputs: np.ndarray) -> Calibration:
    """Return what the forecasts of validation give the intervals of test."""
    scores = _scores(problem, outputs, "validation")
    ordered = np.sort(scores, axis=0)  # any order will do, and sorted they are soon sorted again
    return Calibration(scores, {level: half_width(ordered, level) for level in LEVELS})


class Coverage(NamedTuple):
    """Of the targets of test inside their intervals, at every level [Q].

    share, width: by the kind of interval; the mean width is in the unit of the errors. sensors:
    [2, Q], the shares below and above which a tenth of the sensors lies, split-conformal.
    """

    share: dict[str, list[float]]
    width: dict[str, list[float]]
    sensors: np.ndarray


def covered(
    problem: Problem, outputs: np.ndarray, calibration: Calibration, *, online: bool = True
) -> Coverage:
    """Return what the intervals of every level cover of test; online: the adaptive ones too.

    All are NaN where there is none.
    """
    before, half = calibration
    scores = _scores(problem, outputs, "test")
    leave_out_unjudged(scores, next(iter(half.values())))  # NaN alike at every level
    found = Coverage({}, {}, np.full((2, len(half)), np.nan))
    each = (~np.isnan(scores)).sum(axis=(0, 1))
    for place, (level, by) in enumerate(half.items()):
        factors = {"split-conformal": np.ones(scores.shape[:2])}
        if online:
            both = {"validation": in_half_widths(before, by), "test": in_half_widths(scores, by)}
            factors["online"] = online_factor(both, problem.origins, level)
        for kind, factor in factors.items():
            of_all = coverage(
                outputs, scores, by, factor, problem.interval_scale, error_scale(problem)
            )
            found.share.setdefault(kind, []).append(of_all.share)
            found.width.setdefault(kind, []).append(of_all.width)
        if each.any():
            inside = (scores <= by * (1 + TIE)).sum(axis=(0, 1))
            found.sensors[:, place] = np.percentile(inside[each > 0] / each[each > 0], (10, 90))
    return found

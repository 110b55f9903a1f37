"""Scores of forecasts of a problem's windows: its truth, its metrics, and its naive floors."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cityjax import metrics
from cityjax.data import floors
from cityjax.data.floors import Floor
from cityjax.data.windows import fit_scaler
from cityjax.metrics import Metric
from cityjax.tasks.problem import Problem, metrics_of

CHUNK = 3_000_000  # forecasts held at once
INTERVALS = ("coverage", "width")  # metrics that a point does not have


def baselines(problem: Problem) -> dict[str, dict[str, float]]:
    """Return every metric of the naive floors on test, then the published rows that have any.

    NaN where a floor forecasts nothing there, or the truth leaves a metric undefined. Floors are
    points, so that they have no coverage and no width.
    """
    sums: dict[str, Any] = {}
    at, leads = problem.origins["test"], np.arange(1, problem.horizon + 1)
    for name, floor in floors_of(problem).items():
        for part in chunks(problem, len(at)):
            new = _sums(problem, problem.metrics, floor(at[part], leads), "test", part.start)
            sums[name] = jax.tree.map(jnp.add, sums[name], new) if name in sums else new
    rows = {}
    for name, found in sums.items():
        values = metrics.finalize(found, problem.metrics)
        rows[name] = {f"test/{key}": value for key, value in values.items()}
    for name, values in problem.protocol.published.items():
        known = {f"test/{key}": value for key, value in values.items() if key in problem.metrics}
        if known:
            rows[f"published: {name}"] = known
    return rows


def floors_of(problem: Problem) -> dict[str, Floor]:
    """Return the floors of a problem's series by name."""
    return floors.floors(
        problem.series, season=problem.season, history=problem.history, stop=problem.train_stop
    )


def chunks(problem: Problem, windows: int) -> list[slice]:
    """Cut windows into parts whose forecasts fit in memory a few times."""
    size = max(1, CHUNK // (problem.horizon * len(problem.series.sensors)))
    return [slice(start, start + size) for start in range(0, windows, size)]


def error_scale(problem: Problem) -> np.ndarray:
    """Return what errors are divided by, sensor by sensor [N]."""
    series = problem.series
    if not problem.protocol.standardised:
        return np.ones(len(series.sensors), np.float32)
    return fit_scaler(series.values, series.observed, stop=problem.train_stop).std


def truth(problem: Problem, split: str, part: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
    """Return targets [W, H, N], 0 where masked, and their mask, of some windows of a split."""
    steps = problem.origins[split][part, None] + np.arange(1, problem.horizon + 1)
    start, stop = problem.rows[split]
    values = problem.series.values[np.minimum(steps, len(problem.series.values) - 1)]
    mask = np.isfinite(values) & ((steps >= start) & (steps < stop))[..., None]
    return np.where(mask, values, 0), mask


def measure(problem: Problem, outputs: np.ndarray, split: str = "test") -> dict[str, float]:
    """Take every metric of forecasts of a part's windows; forecasts that are NaN are left out.

    A metric that nothing is left for is NaN, as is one that the rest does not determine. Points
    have no coverage and no width.

    outputs: points [W, H, N], or where the problem has quantiles those [W, H, N, Q].
    """
    return metrics.finalize(_sums(problem, problem.metrics, outputs, split), problem.metrics)


def measure_leads(
    problem: Problem, outputs: np.ndarray, split: str = "test"
) -> dict[str, np.ndarray]:
    """Take every measure of the protocol at every lead [H], of forecasts as in `measure`."""
    alone = problem.protocol._replace(leads=())  # each lead is the only one of a horizon of one
    single = metrics_of(problem.series, alone, 1, problem.train_stop, problem.quantiles)

    def apart(accumulate: Callable) -> Callable:
        def leads(*given: Any) -> Any:
            return jax.vmap(accumulate, 1)(*jax.tree.map(lambda array: array[:, :, None], given))

        return leads

    each = {n: metric._replace(accumulate=apart(metric.accumulate)) for n, metric in single.items()}
    sums = _sums(problem, each, outputs, split)
    return {n.partition("@")[0]: np.asarray(each[n].finalize(sums[n])) for n in each if n in sums}


def _sums(
    problem: Problem,
    measured: Mapping[str, Metric],
    outputs: np.ndarray,
    split: str,
    first: int = 0,
) -> dict[str, Any]:
    """Add up metrics over a part's windows from the `first` on, some at a time."""
    sums: dict[str, Any] = {}
    for start in range(0, len(outputs), 256):
        shown = outputs[start : start + 256]
        part = slice(first + start, first + start + len(shown))
        if problem.quantiles and shown.ndim == 3:
            # For the CRPS a point is every quantile of itself, but it is no interval.
            shown = np.repeat(shown[..., None], len(problem.quantiles), axis=-1)
            measured = {n: m for n, m in measured.items() if n.partition("@")[0] not in INTERVALS}
        known = np.isfinite(shown)
        targets, mask = truth(problem, split, part)
        mask = mask & (known.all(axis=-1) if problem.quantiles else known)
        batch = {"targets": targets, "mask": mask}
        shown = np.where(known, shown, 0).astype(np.float32)
        new = {name: metric.accumulate(shown, batch) for name, metric in measured.items()}
        sums = jax.tree.map(jnp.add, sums, new) if sums else new
    return sums

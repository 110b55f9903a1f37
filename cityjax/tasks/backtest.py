"""Backtest: go through a series as time does, fit on what is known, forecast what is not."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from cityjax.data.forecast import window_batch
from cityjax.errors import UserError
from cityjax.tasks.problem import Problem
from cityjax.tasks.scores import measure, measure_leads, truth


class Backtest(NamedTuple):
    """What was forecast of W windows, and what came.

    forecasts: [W, H, N], or [W, H, N, Q] of quantiles. targets, mask: [W, H, N], targets 0 where
    masked. origins: [W], the last known row of each window; fits: [W], the last row its model was
    fitted on. metrics: those of the problem by name, as in a result; by_lead: each measure of its
    protocol at every lead [H].
    """

    forecasts: np.ndarray
    targets: np.ndarray
    mask: np.ndarray
    origins: np.ndarray
    fits: np.ndarray
    metrics: Mapping[str, float]
    by_lead: Mapping[str, np.ndarray]


def backtest(
    problem: Problem,
    fit: Callable[[Problem, Any], Any],
    forecast: Callable[[Any, Any], Any],
    *,
    origins: Sequence[int] | np.ndarray | None = None,
    every: int | None = None,
    span: int | None = None,
    batch_size: int = 64,
) -> Backtest:
    """Fit at the first origin, and again every so many steps, and forecast from every origin.

    fit: `(past, last) -> fitted`. past is the problem as it was known at an origin: its series and
    data end there, and `past.origins["train"]` are the windows whose targets all lie before; last
    is what was fitted before, None at first: go on from it (a state, sums) or not.
    forecast: `(fitted, inputs) -> [B, H, N]`, such as a learner's `predict`; inputs as in
    `data.forecast.window_batch`, for at most `batch_size` origins. Of later steps they hold the
    clock, covariates known ahead and profiles, nothing else.
    origins: rising rows, by default those of test. every: steps from one fit to the next; None for
    one fit only. span: how many steps up to the origin `past` has; None for all.

    Raises UserError for origins of train or beyond the series, and for forecasts of another shape
    or that are no number where there is a target.
    """
    for name, value in {"every": every, "span": span, "batch_size": batch_size}.items():
        if value is not None and value < 1:
            raise UserError(f"{name}={value}: at least 1 is expected")
    held = _held(problem, origins)
    at = held.origins["backtest"]
    blocks = (at - at[0]) // (every or len(problem.series.values))
    data = jax.device_get(problem.data)  # a fit may be at every step: cutting must cost nothing
    fitted, fits, parts = None, np.empty_like(at), []
    for block in np.unique(blocks):
        places = np.flatnonzero(blocks == block)
        fits[places] = at[places[0]]
        fitted = fit(_known(problem, data, int(at[places[0]]), span), fitted)
        for start in range(0, len(places), batch_size):
            now = at[places[start : start + batch_size]]
            inputs = _inputs(problem.data, now, history=problem.history, horizon=problem.horizon)
            parts.append(_checked(problem, forecast(fitted, inputs), len(now)))
    forecasts = np.concatenate(parts)
    targets, mask = truth(held, "backtest")
    wrong = mask & ~np.isfinite(forecasts).reshape(*mask.shape, -1).all(axis=-1)
    if wrong.any():
        first = int(at[np.argmax(wrong.any(axis=(1, 2)))])
        raise UserError(f"{wrong.sum():,} forecasts are no number, the first of origin {first}")
    metrics = measure(held, forecasts, "backtest")
    by_lead = measure_leads(held, forecasts, "backtest")
    return Backtest(forecasts, targets, mask, at, fits, metrics, by_lead)


def _held(problem: Problem, origins: Sequence[int] | np.ndarray | None) -> Problem:
    """Return the problem with a part "backtest": its origins, and rows that may be targets."""
    at = np.asarray(problem.origins["test"] if origins is None else origins)
    total = len(problem.series.values)
    first, last = problem.train_stop - 1, total - 2
    rising = at.ndim == 1 and len(at) and at.dtype.kind in "iu" and (np.diff(at) > 0).all()
    if not rising or at[0] < first or at[-1] > last:
        # Before the end of train, scalers, profiles and the graph would know what comes.
        shown = f"{at[0]} to {at[-1]}" if at.ndim == 1 and len(at) else f"of shape {at.shape}"
        raise UserError(
            f"origins {shown}: rows that rise, from the last of train, {first}, to {last}, expected"
        )
    rows = problem.rows["test"] if origins is None else (problem.train_stop, total)
    return problem._replace(
        origins={**problem.origins, "backtest": at}, rows={**problem.rows, "backtest": rows}
    )


def _known(
    problem: Problem, data: Mapping[str, np.ndarray], origin: int, span: int | None
) -> Problem:
    """Return the problem as it is known at an origin, all of it train; rows count from its own."""
    start, stop = 0 if span is None else max(0, origin + 1 - span), origin + 1

    def cut(arrays: Mapping[str, Any]) -> dict[str, Any]:
        return {name: array[start:stop] for name, array in arrays.items()}

    series = problem.series
    series = series._replace(
        values=series.values[start:stop],
        time=series.time[start:stop],
        past=cut(series.past),
        known=cut(series.known),
    )
    # Where profiles begin late, train does; and a history lies in the span.
    first = max(problem.origins["train"][0], start + problem.history - 1 if start else 0)
    windows = np.arange(first, stop - problem.horizon) - start
    rows = {"train": (0, stop - start)}
    return problem._replace(series=series, rows=rows, origins={"train": windows}, data=cut(data))


@functools.partial(jax.jit, static_argnames=("history", "horizon"))
def _inputs(data: Mapping[str, Any], at: jax.Array, *, history: int, horizon: int) -> Any:
    return window_batch(data, at, (0, 0), history=history, horizon=horizon)["inputs"]


def _checked(problem: Problem, outputs: Any, windows: int) -> np.ndarray:
    outputs = np.asarray(outputs, np.float32)
    shape = (windows, problem.horizon, len(problem.series.sensors))
    shapes = [shape, (*shape, len(problem.quantiles))] if problem.quantiles else [shape]
    if outputs.shape not in shapes:
        allowed = " or ".join(map(str, shapes))
        raise UserError(f"forecast gave the shape {outputs.shape}: {allowed} is expected")
    return outputs

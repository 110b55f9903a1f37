"""Forecasting the I-94 volume: one experiment for every network of the windows of `data.i94`."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
import optax

from cityjax import metrics
from cityjax.data import i94, i94_floors, windows
from cityjax.data.sources import Batches
from cityjax.fit import predict, predict_mean
from cityjax.learner import Experiment, Learner, State, from_linen
from cityjax.learners import moving_average, supervised
from cityjax.report import figures
from cityjax.tasks import intervals

UNIT = "vehicles/h"
HOURS = range(1, i94.HORIZON + 1)


def forecast_traffic(
    module: Any,
    loss: Callable[[Any, Any], tuple[jax.Array, jax.Array]],
    optimizer: optax.GradientTransformation,
    *,
    batch_size: int,
    average: float = 0.0,
) -> Experiment:
    """Return the experiment that trains a Linen module of `i94.window_batch` inputs -> [B, 6].

    Outputs are vehicles per hour, 1 to 6 hours ahead. average: decay of a moving average of the
    parameters, by which the network is judged; 0 for none.
    """
    measured = {f"mae@1-{i94.HORIZON}": metrics.mean_absolute_error()}
    measured |= {f"mae@{h}": metrics.mean_absolute_error(at=h) for h in HOURS}
    learner = supervised(from_linen(module), loss, optimizer, measured)
    if average:
        learner = moving_average(learner, average)
    series = i94.load()
    evaluation = i94.evaluation(series)
    origins = {part: i94.forecast_origins(series, part) for part in evaluation}
    whole = f"1-{i94.HORIZON}"

    def forecasts(states: Iterable[State]) -> dict[str, np.ndarray]:
        means = predict_mean(learner, states, evaluation)
        return {part: y[: len(origins[part])] for part, y in means.items()}

    def covered(outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        found = {part: truth(series, part) for part in outputs}
        scores = intervals.interval_scores(
            {k: y[..., None] for k, y in outputs.items()}, found, origins
        )
        return {f"{name}@{whole}": value for name, value in scores.items()}

    def ensemble(states: Iterable[State]) -> dict[str, float]:
        outputs = forecasts(states)
        if not all(np.isfinite(values).all() for values in outputs.values()):
            return {}
        targets, mask = (array[..., 0] for array in truth(series, "test"))
        batch = {"targets": targets, "mask": mask}
        sums = {
            name: metric.accumulate(outputs["test"], batch) for name, metric in measured.items()
        }
        return metrics.finalize(sums, measured) | covered(outputs)

    return Experiment(
        learner,
        train=i94.train_source(series, batch_size),
        evaluation=evaluation,
        metrics=measured,
        baselines=floors,
        figures=forecast_figures(learner, series, evaluation["test"]),
        select=f"validation/mae@{whole}",
        protocol={**i94.PROTOCOL, "intervals": intervals.PROTOCOL},
        final=lambda state, key: covered(forecasts([state])),
        better=intervals.better(whole),
        ensemble=ensemble,
        data=i94.hashes(),
    )


def truth(series: i94.Series, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the targets of a part's forecasts [W, 6, 1], 0 where masked, and their mask."""
    at = i94.forecast_origins(series, split)[:, None] + np.arange(1, i94.HORIZON + 1)
    mask = series.observed[at][..., None]
    return np.where(mask, series.volume[at][..., None], 0), mask


@functools.cache
def floors() -> dict[str, dict[str, float]]:
    """Return the test error of every naive floor and of the ridge, at each horizon."""
    return i94_floors.floors(i94.load(), horizons=HOURS)


def forecast_figures(
    learner: Learner, series: i94.Series, test: Batches
) -> Callable[[State], dict[str, Any]]:
    """Return what draws a week of forecasts and the error by horizon, on the test part."""
    origins = i94.forecast_origins(series, "test")
    targets = origins[:, None] + np.arange(1, i94.HORIZON + 1)
    true = np.where(series.observed, series.volume, np.nan)[targets]

    def draw(state: State) -> dict[str, Any]:
        forecasts = predict(learner, state, test)[: len(origins)]
        week_ago = windows.seasonal_value(
            series.volume, series.observed, origins, i94.HORIZON, period=i94.WEEK
        )
        drawn = {}
        for ahead in (1, i94.HORIZON):
            at, column = targets[:, ahead - 1], ahead - 1
            drawn[f"forecast_{ahead}_h_ahead"] = figures.forecast(
                series.hour[at].astype("datetime64[h]"),
                true[:, column],
                forecasts[:, column],
                floors={"same hour last week": week_ago[:, column]},
                unit=UNIT,
                horizon_text=f"{ahead} h ahead",
            )
        errors = {"model": np.nanmean(np.abs(forecasts - true), axis=0)}
        for row, values in floors().items():
            errors[row] = [values[f"test/mae@{h}"] for h in HOURS]
        return {**drawn, "error_by_horizon": figures.error_by_horizon(errors, UNIT)}

    return draw

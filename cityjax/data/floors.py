"""Naive floors over all sensors of a series: what a forecast must beat. Numpy, missing is NaN."""

import numpy as np

from cityjax.data.forecast import clock
from cityjax.data.series import Series
from cityjax.data.windows import last_observed


def last_value(series: Series, at: np.ndarray, horizon: int) -> np.ndarray:
    """Forecast the last observed value at or before each origin: [W, H, N]."""
    return np.repeat(last_observed(series.values, series.observed, 1)[at][:, None], horizon, axis=1)


def seasonal(series: Series, at: np.ndarray, horizon: int, *, season: int) -> np.ndarray:
    """Forecast the last observed value a whole number of seasons before each target: [W, H, N]."""
    held = last_observed(series.values, series.observed, season)
    ahead = np.arange(1, horizon + 1)
    # As many seasons back as it takes to be known at the origin.
    steps = np.asarray(at)[:, None] + ahead - season * -(-ahead // season)
    return np.where((steps >= 0)[..., None], held[np.maximum(steps, 0)], np.nan)


def window_mean(series: Series, at: np.ndarray, horizon: int, *, history: int) -> np.ndarray:
    """Forecast the mean of the observed history: [W, H, N]."""
    observed = series.observed
    shape = (len(series.values) + 1, series.values.shape[1])
    sums, counts = np.zeros(shape), np.zeros(shape, np.int32)
    np.cumsum(np.where(observed, series.values, 0), axis=0, out=sums[1:])
    np.cumsum(observed, axis=0, out=counts[1:])
    at = np.asarray(at)
    first = np.maximum(at - history + 1, 0)
    total, count = sums[at + 1] - sums[first], counts[at + 1] - counts[first]
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return np.repeat(mean[:, None], horizon, axis=1)


def historical_average(series: Series, at: np.ndarray, horizon: int, *, stop: int) -> np.ndarray:
    """Forecast the training mean of the same step of day and day of week: [W, H, N].

    Steps of a day or more go by the week of the year instead. Only rows before `stop` are read;
    what they do not hold is the sensor's mean.
    """
    ticks = clock(series.time, series.step)
    if series.step > 86_400:
        phase = ticks[:, 2] // 7
    else:
        phase = ticks[:, 1] * series.steps_per_day + ticks[:, 0]
    values, observed = series.values[:stop], series.observed[:stop]
    size = int(phase.max()) + 1
    sums, counts = np.zeros((size, values.shape[1])), np.zeros((size, values.shape[1]))
    np.add.at(sums, phase[:stop], np.where(observed, values, 0))
    np.add.at(counts, phase[:stop], observed)
    overall = sums.sum(axis=0) / np.maximum(counts.sum(axis=0), 1)
    mean = np.where(counts > 0, sums / np.maximum(counts, 1), overall)
    steps = np.asarray(at)[:, None] + np.arange(1, horizon + 1)
    return mean[phase[np.minimum(steps, len(phase) - 1)]]


def floors(
    series: Series,
    at: np.ndarray,
    horizon: int,
    *,
    season: int,
    history: int,
    stop: int,
    only: str | None = None,
) -> dict[str, np.ndarray]:
    """Return every floor's forecasts [W, H, N] of the windows with these origins.

    season, history: steps. stop: the end of train, beyond which no average reads. only: the name of
    the one that is wanted.
    """
    made = {
        "last value": lambda: last_value(series, at, horizon),
        f"seasonal ({season} steps)": lambda: seasonal(series, at, horizon, season=season),
        "window mean": lambda: window_mean(series, at, horizon, history=history),
        "historical average": lambda: historical_average(series, at, horizon, stop=stop),
    }
    return {name: make() for name, make in made.items() if only in (None, name)}

"""Naive floors over all sensors of a series: what a forecast must beat. Numpy, missing is NaN.

Each is made of a series once, and then forecasts any windows at any leads.
"""

from collections.abc import Callable

import numpy as np

from cityjax.data.forecast import clock
from cityjax.data.series import Series
from cityjax.data.windows import last_observed

# From origins [W] and leads [L], steps ahead from 1 on: forecasts, float32 [W, L, N].
Floor = Callable[[np.ndarray, np.ndarray], np.ndarray]


def last_value(series: Series) -> Floor:
    """Forecast the last observed value at or before each origin."""
    held = last_observed(series.values, series.observed, 1)
    return lambda at, leads: np.repeat(held[at][:, None], len(leads), axis=1)


def seasonal(series: Series, *, season: int) -> Floor:
    """Forecast the last observed value a whole number of seasons before each target."""
    held = last_observed(series.values, series.observed, season)

    def forecast(at: np.ndarray, leads: np.ndarray) -> np.ndarray:
        # As many seasons back as it takes to be known at the origin.
        steps = at[:, None] + leads - season * -(-leads // season)
        found = held[np.maximum(steps, 0)]
        found[steps < 0] = np.nan
        return found

    return forecast


def window_mean(series: Series, *, history: int) -> Floor:
    """Forecast the mean of the observed history."""
    sums = np.cumsum(np.where(series.observed, series.values, 0), axis=0, dtype=np.float64)
    counts = np.cumsum(series.observed, axis=0, dtype=np.int32)
    sums[history:] -= sums[:-history].copy()
    counts[history:] -= counts[:-history].copy()
    mean = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).astype(np.float32)
    return lambda at, leads: np.repeat(mean[at][:, None], len(leads), axis=1)


def historical_average(series: Series, *, stop: int) -> Floor:
    """Forecast the training mean of the same step of day and day of week.

    Where train has no value of the two, the mean of the same step over all days; then the sensor's
    mean. Steps of more than a day go by the week of the year instead, and where train has no value
    of it, at once by the sensor's mean. Only rows before `stop` are read.
    """
    ticks = clock(series.time, series.step)
    values, observed = series.values[:stop], series.observed[:stop]
    day, slot = ticks[:, 1], ticks[:, 0]
    if series.step > 86_400:
        day, slot = 0 * day, ticks[:, 2] // 7
    sums, counts = np.zeros((2, int(day.max()) + 1, int(slot.max()) + 1, values.shape[1]))
    np.add.at(sums, (day[:stop], slot[:stop]), np.where(observed, values, 0))
    np.add.at(counts, (day[:stop], slot[:stop]), observed)
    mean = _ratio(sums, counts)
    for axes in ((0,), (0, 1)):  # over all days, over all
        wider = _ratio(*(cells.sum(axes, keepdims=True) for cells in (sums, counts)))
        mean = np.where(np.isnan(mean), wider, mean)
    mean = mean.astype(np.float32)

    def forecast(at: np.ndarray, leads: np.ndarray) -> np.ndarray:
        steps = np.minimum(at[:, None] + leads, len(slot) - 1)
        return mean[day[steps], slot[steps]]

    return forecast


def _ratio(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the means, NaN where nothing was counted."""
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def floors(series: Series, *, season: int, history: int, stop: int) -> dict[str, Floor]:
    """Return every floor by name.

    season, history: steps; the mean of the last season is one where the history is longer. stop:
    the end of train, beyond which no average reads.
    """
    found = {
        "last value": last_value(series),
        f"seasonal ({season} steps)": seasonal(series, season=season),
        "window mean": window_mean(series, history=history),
    }
    if season < history:
        found["season mean"] = window_mean(series, history=season)
    return found | {"historical average": historical_average(series, stop=stop)}

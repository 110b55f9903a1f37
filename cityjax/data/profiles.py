"""Profiles: forecasts of every step made of other days or other years, float32 [T, N] in the unit.

A profile may be a model's input for its target step t: none of them reads the value at t itself, so
that it tells train, validation and test the same kind of thing.
"""

from collections.abc import Iterable

import numpy as np

from cityjax.data.files import DataError
from cityjax.data.forecast import clock
from cityjax.data.series import Series, regular
from cityjax.data.windows import last_observed

DAYS = ("weekday", "week", "all")
YEAR = 364 * 86_400  # seconds: 52 weeks, so that the day of the week is kept


def typical_day(series: Series, *, stop: int, days: str = "weekday") -> np.ndarray:
    """Return the mean at the same step of the day over the days of train alike: float32 [T, N].

    Steps before `stop` are averaged; a step's own day is left out of its mean, so that inside train
    it is as much a forecast as beyond. days: which are alike: "weekday" Monday to Friday, and the
    weekend; "week" each day of the week; "all" every day. Where no such day was observed: the mean
    at this step over all other days; then the sensor's mean over them; then that of all sensors.

    Raises:
        DataError: `days` is another word, or fewer than two days of train hold a value.
    """
    if days not in DAYS:
        raise DataError(f"days={days!r} is none of {', '.join(DAYS)}")
    marks = clock(series.time, series.step)
    date, day = np.unique(series.time.astype("datetime64[D]"), return_inverse=True)
    sums, counts = _cells(series.values[:stop], day[:stop], marks[:stop, 0], len(date), marks)
    weekday = np.zeros(len(date), int)
    weekday[day] = marks[:, 1]
    alike = {"weekday": weekday // 5, "week": weekday, "all": 0 * weekday}[days]

    result = _mean_of_other_days(sums, counts, alike)
    for axes in ((), (1,), (1, 2)):
        missing = np.isnan(result)
        if not missing.any():
            break
        total, number = (cells.sum(axes, keepdims=True) for cells in (sums, counts))
        np.copyto(result, _mean_of_other_days(total, number, 0 * alike), where=missing)
    if np.isnan(result).any():
        raise DataError(
            f"typical_day takes two days with a value in train, and its {stop} steps have not:"
            " leave it out of inputs and scale"
        )
    return result[day, marks[:, 0]]


def _cells(
    values: np.ndarray, day: np.ndarray, slot: np.ndarray, days: int, marks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return sums float32 and counts int32 of the observed values by day and slot: [D, S, N]."""
    slots = int(marks[:, 0].max()) + 1
    shape = (days, slots, values.shape[1])
    sums, counts = np.zeros(shape, np.float32), np.zeros(shape, np.int32)
    observed = np.isfinite(values)
    # Time increases, so the rows of a cell lie together; mostly there is one.
    first = np.flatnonzero(np.diff(day * slots + slot, prepend=-1))
    if len(first):
        at = day[first], slot[first]
        sums[at] = np.add.reduceat(np.where(observed, values, 0), first, axis=0)
        counts[at] = np.add.reduceat(observed, first, axis=0, dtype=np.int32)
    return sums, counts


def _mean_of_other_days(sums: np.ndarray, counts: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return the mean over the other days of each day's group, NaN where they hold no value."""
    mean, number = _of_other_days(sums, group), _of_other_days(counts, group)
    np.divide(mean, number, out=mean, where=number > 0)
    mean[number == 0] = np.nan
    return mean


def _of_other_days(cells: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return for each day the sum over the other days of its group: [D, ...] of cells [D, ...].

    The days before and the days after are summed apart: a total less the day itself would keep a
    trace of it in the last digits.
    """
    result = np.zeros_like(cells)
    wide = np.float64 if cells.dtype == np.float32 else cells.dtype
    for order in (range(len(cells)), reversed(range(len(cells)))):
        running = np.zeros((int(group.max()) + 1, *cells.shape[1:]), wide)
        for index in order:
            result[index] += running[group[index]].astype(cells.dtype)
            running[group[index]] += cells[index]
    return result


def lag(series: Series, steps: int, *, stop: int, neighbours: int = 0) -> np.ndarray:
    """Return the value `steps` steps of time earlier: float32 [T, N].

    Where it is missing, the last observed one a whole number of times as far back; where there is
    none, the sensor's mean over the rows before `stop` (of all sensors, where it has none there).
    neighbours: as many steps on either side of it are averaged with it. But for the means, which
    are of train like a scaler's, nothing later than `steps - neighbours` steps earlier is read.

    Raises:
        DataError: steps is not above neighbours, or train holds no value.
    """
    if not 0 <= neighbours < steps:
        raise DataError(f"steps={steps} must be above neighbours={neighbours}, and that at least 0")
    whole = regular(series)
    filled = last_observed(whole.values, whole.observed, steps)
    shifts = range(steps - neighbours, steps + neighbours + 1)
    return _mean_before(series, filled, shifts, stop)


def year_ago(series: Series, *, stop: int, neighbours: int = 0) -> np.ndarray:
    """Return the value 52 weeks earlier, on the same day of the week, as `lag` does: [T, N]."""
    return lag(series, max(1, round(YEAR / series.step)), stop=stop, neighbours=neighbours)


def past_years(series: Series, *, stop: int, neighbours: int = 0) -> np.ndarray:
    """Return the mean over all years before, at the same time of year: float32 [T, N].

    Years are whole weeks that keep to the calendar: 52, 104, 157, ... earlier. neighbours: as many
    steps on either side are averaged with it. Missing values are left out; where there is none, as
    in the first year, the sensor's mean over the rows before `stop`.

    Raises:
        DataError: neighbours reach beyond a year, or train holds no value.
    """
    whole = regular(series)
    week = 7 * 86_400
    reach = len(whole.values) * series.step
    years = [round(year * 365.25 / 7) * week for year in range(1, reach // YEAR + 1)]
    around = range(-neighbours, neighbours + 1)
    shifts = [max(1, round(year / series.step)) + offset for year in years for offset in around]
    if min(shifts, default=1) < 1:
        raise DataError(f"neighbours={neighbours} reach beyond a year")
    return _mean_before(series, whole.values, shifts, stop)


def _mean_before(
    series: Series, values: np.ndarray, shifts: Iterable[int], stop: int
) -> np.ndarray:
    """Return the mean of the values [W, N] some steps of time earlier: float32 [T, N]."""
    total = np.zeros(values.shape, np.float32)
    number = np.zeros(values.shape, np.float32)
    for shift in shifts:
        earlier = values[: max(len(values) - shift, 0)]
        seen = np.isfinite(earlier)
        total[shift:] += np.where(seen, earlier, 0)
        number[shift:] += seen
    seconds = series.time.astype(np.int64)
    rows = np.rint((seconds - seconds[0]) / series.step).astype(np.int64)
    total, number = total[rows], number[rows]
    return np.where(number > 0, total / np.maximum(number, 1), _train_mean(series, stop)[None])


def _train_mean(series: Series, stop: int) -> np.ndarray:
    """Return each sensor's mean over the rows before `stop`, float32 [N]."""
    values = series.values[:stop]
    seen = np.isfinite(values)
    if not seen.any():
        raise DataError(f"no value was observed before step {stop}")
    total, number = np.where(seen, values, 0).sum(axis=0, dtype=np.float64), seen.sum(axis=0)
    mean = np.where(number > 0, total / np.maximum(number, 1), total.sum() / number.sum())
    return mean.astype(np.float32)

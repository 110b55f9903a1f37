"""Rows of times, sensors and values, brought into one regular order of time and sensor."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cityjax.data.cells import refusal, shown
from cityjax.data.clocks import DAY, Clock, goes_back, moment, read_clock, skipped
from cityjax.data.files import DataError
from cityjax.data.panels import Rows

_MOST_CELLS = 10**8  # of a panel that is nearly empty: 400 MB


class Panel(NamedTuple):
    """Rows by time and sensor: time int64 [T], increasing, on a grid of `step` seconds.

    values: float32 [T, S, C], NaN where there is none; S is 1 where `sensors` is None. row_of: the
    first row in the file of a place in `time`.
    """

    path: Path
    row_of: Callable[[int], np.integer]
    time: np.ndarray
    step: int
    sensors: list[str] | None
    names: list[str]
    values: np.ndarray


def arrange(
    rows: Rows, *, timezone: str | None = None, step: int | None = None, lone_step: int = 0
) -> Panel:
    """Bring rows into order of time and sensor, one of each.

    The step is the one given, else the most common difference of two times that follow each other
    (the smaller of two equally common ones); `lone_step` where there is one time only.

    Rows of one time (and sensor) are merged: a value that one of them lacks is taken from the
    other. On a clock that goes back in autumn two different moments have one time: their mean,
    where offsets show it; without offsets, where it may be so: two rows, of at most one hour a
    year, which the clock of `timezone` repeats (of any place, where there is none), and a step
    below a day. Any other rows that differ are refused, as are times off the grid, and a panel of
    which less than 1 % of the steps would be there.
    """
    path, row = rows.path, rows.row

    def row_of(index: int) -> np.integer:
        return row[int(np.argmax(rows.time == index))]

    def refuse(index: int, message: str) -> DataError:
        return refusal(path, message, row_of(index), rows.clock)

    clock = read_clock(rows.texts, refuse, timezone)
    local = clock.local
    # Dates alone are no moments: a day begins, whether its midnight is left out or not.
    if timezone and clock.instant is None and (local % DAY).any():
        gone = skipped(local, timezone)[rows.time] & np.isfinite(rows.values).any(axis=1)
        if gone.any():
            at = int(rows.time[np.argmax(gone)])
            message = f"{moment(local[at])} is left out in spring by the clock of {timezone}: give"
            raise refuse(at, f"{message} the times with their offset, or no timezone")
    zone = f", on the clock of {timezone}," if timezone and clock.instant is not None else ""
    time, place = np.unique(local, return_inverse=True)
    given, step = step, step or _common_step(time) or lone_step
    if not step:
        raise refusal(path, "one time has no step: give at least two, or step: in city.yaml")
    phases, counts = np.unique(time % step, return_counts=True)
    off = local % step != phases[np.argmax(counts)]
    if off.any():
        at = int(np.argmax(off))
        if step >= 28 * DAY:
            message = f"{moment(local[at])} is off the grid of {step} s: months and years differ in"
            message += " length and are no regular step, give values by day or week"
            raise refuse(at, message)
        remedy = ""
        if clock.instant is not None and step > 3600:  # clocks change by an hour
            there = "remove timezone from" if timezone else "name the timezone of the place in"
            remedy = f", or {there} city.yaml if the times are regular then"
        if 2 * np.count_nonzero(off[rows.time]) > len(row):
            name = "of city.yaml" if given else "that is the most common"
            message = f"the times{zone} keep no step: the one {name}, {step} s, fits"
            few = np.count_nonzero(~off[rows.time])
            message = f"{message} {few} of {len(row)} rows: bring them to a regular step"
            raise refuse(at, message + remedy)
        keeps = "city.yaml asks for" if given else "most rows keep"
        message = f"{moment(local[at])}{zone} is off the grid of {step} s that {keeps}"
        raise refuse(at, f"{message}: correct or remove the row{remedy}")
    steps = (time[-1] - time[0]) // step + 1
    if steps > 100 * len(time):
        at = int(np.argmax(np.diff(time)))
        message = f"no row between {moment(time[at])} and {moment(time[at + 1])}: less than 1 % of"
        where = int(np.argmax(local == time[at + 1]))
        message += f" the {steps} steps of {step} s are there"
        raise refuse(where, f"{message}: correct the time, or leave out the rows before or after")

    place = place.astype(np.int32)[rows.time]
    names = len(rows.sensors) if rows.sensors is not None else 1
    shape = (len(time), names, len(rows.names))
    if math.prod(shape) > max(_MOST_CELLS, 1000 * rows.values.size):
        message = f"{len(time)} times by {names} sensors, of which {len(row)} are there"
        raise refusal(path, f"{message}: less than one in 1000, leave out sensors with few rows")
    values = np.full(shape, np.nan, np.float32)
    values[place, rows.sensor] = rows.values
    seen = np.zeros(shape[:2], bool)
    seen[place, rows.sensor] = True
    if np.count_nonzero(seen) < len(row):
        _merge(rows, place, clock, step, timezone, values)
    return Panel(
        path,
        lambda at: row_of(int(np.argmax(local == time[at]))),
        time,
        step,
        rows.sensors,
        rows.names,
        values,
    )


def _common_step(time: np.ndarray) -> int:
    steps, counts = np.unique(np.diff(time), return_counts=True)
    return int(steps[np.argmax(counts)]) if len(steps) else 0


def _merge(
    rows: Rows,
    place: np.ndarray,
    clock: Clock,
    step: int,
    timezone: str | None,
    values: np.ndarray,
) -> None:
    """Put one row into `values` for the rows of each time and sensor that occur more than once."""
    key = place.astype(np.int64) * values.shape[1] + rows.sensor
    repeated = np.flatnonzero(np.bincount(key)[key] > 1)
    key, time = key[repeated], rows.time[repeated]
    instant = np.zeros(len(key), np.int64) if clock.instant is None else clock.instant[time]
    order = np.lexsort((repeated, instant, key))
    repeated, key, instant = repeated[order], key[order], instant[order]

    # Rows of one moment: whatever is there, and no two values that differ.
    starts = np.flatnonzero(np.diff(key, prepend=-1) | np.diff(instant, prepend=0))
    low = np.fmin.reduceat(rows.values[repeated], starts, axis=0).astype(np.float64)
    high = np.fmax.reduceat(rows.values[repeated], starts, axis=0).astype(np.float64)
    differ = (low < high).any(axis=1)
    pairs = np.diff(starts, append=len(repeated)) == 2
    times = clock.local[rows.time[repeated[starts]]]
    autumn = clock.instant is None and step < DAY and pairs[differ].all()
    if differ.any() and not (autumn and _one_hour_a_year(times[differ], timezone)):
        group = int(np.argmax(differ))
        column = int(np.argmax(low[group] < high[group]))
        alike = repeated[starts[group] :][: np.append(np.diff(starts), len(repeated))[group]]
        different = np.unique(rows.values[alike, column], return_index=True)[1][:2]
        one, other = np.sort(alike[different])
        sensor = f" of {shown(rows.sensors[rows.sensor[one]])}" if rows.sensors else ""
        message = f"{moment(times[group])}{sensor} has another value in row {rows.row[one]}"
        place_of = f"of {timezone} " if timezone else ""
        hint = f"keep one; only the hour that a clock {place_of}repeats in autumn is averaged"
        hint += "" if sensor else "; a column of sensors is to be named sensor"
        raise refusal(rows.path, f"{message}: {hint}", rows.row[other], rows.names[column])

    # Moments of one time: the mean of what is there.
    mean = low + (high - low) / 2
    there = np.isfinite(mean)
    starts, keys = np.flatnonzero(np.diff(key[starts], prepend=-1)), key[starts]
    total = np.add.reduceat(np.where(there, mean, 0), starts, axis=0)
    count = np.add.reduceat(there.astype(np.int64), starts, axis=0)
    merged = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    values.reshape(-1, values.shape[2])[keys[starts]] = merged


def _one_hour_a_year(times: np.ndarray, timezone: str | None) -> bool:
    """Whether a clock that goes back each autumn may repeat these times of its."""
    years = times.astype("datetime64[s]").astype("datetime64[Y]")
    once = all(np.ptp(times[years == year]) < 3600 for year in np.unique(years))
    return once and bool(goes_back(np.unique(times), timezone).all())

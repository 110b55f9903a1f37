"""Rows of times, sensors and values, brought into one regular order of time and sensor."""

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cityjax.data.cells import Batch, Table, is_cell, listed, open_table, refusal, shown
from cityjax.data.clocks import DAY, Clock, goes_back, moment, read_clock, regular_times, skipped
from cityjax.data.files import DataError
from cityjax.data.numerals import numbers, refuse_thousands

if TYPE_CHECKING:
    import polars as pl

TIME_NAMES = ("time", "timestamp", "datetime", "date_time", "date", "__index_level_0__")
SENSOR_NAMES = ("sensor", "sensor_id", "station", "station_id", "node", "location", "id")
_FEW = 30  # rows up to which each may well be of a sensor of its own
_MOST_CELLS = 10**8  # of a panel that is nearly empty: 400 MB


class Rows(NamedTuple):
    """Rows of a table, as they stand in it.

    row: int64 [R], numbers in the file. time: int32 [R], places in `texts`, the cells of the column
    `clock`; without such a column that is None, and they are made from `start`. sensor: int32 [R],
    places in `sensors`, all 0 where the table has no column of sensors (`sensors` is then None).
    names: of the C columns of values, float32 [R, C].
    """

    path: Path
    row: np.ndarray
    clock: str | None
    texts: "pl.Series"
    time: np.ndarray
    sensors: list[str] | None
    sensor: np.ndarray
    names: list[str]
    values: np.ndarray


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


def plain(header: Sequence[str]) -> list[str]:
    """Return column names as they are compared: small letters, underscores."""
    return [name.lower().replace(" ", "_").replace("-", "_") for name in header]


def time_columns(table: Table) -> list[int]:
    """Return the places of the columns of times.

    They are date and one of time and hour; or the one with a name of `TIME_NAMES`; or else the
    first that is not named as sensors are.
    """
    names = plain(table.header)
    within = next((name for name in ("time", "hour") if name in names), None)
    if "date" in names and within:
        return [names.index("date"), names.index(within)]
    place = next((i for i, name in enumerate(names) if name not in SENSOR_NAMES), 0)
    place = next((i for i, name in enumerate(names) if name in TIME_NAMES), place)
    if re.fullmatch("[0-9][0-9TZ :./+-]*", table.header[place]):
        message = f"{shown(table.header[place])} is no name: the first row names the columns"
        # Digits may be the name of a sensor; longer ones and others are a time.
        few = re.fullmatch("[0-9]{1,7}", table.header[place])
        hint = " (or give start and step in city.yaml)" if few else ""
        raise refusal(table.path, f"{message}, one of them time{hint}")
    return [place]


def _check_names(table: Table, times: Sequence[int]) -> None:
    for place, name in enumerate(table.header):
        if table.header.index(name) != place:
            raise refusal(table.path, f"two columns are named {shown(name)}: rename one")
        # Pandas calls what has no name Unnamed: 0.
        named = name and name.isprintable() and not name.startswith("Unnamed:")
        if not named and place not in times:
            message = f"column {place + 1} is named {shown(name)}: give it a name, or remove it"
            raise refusal(table.path, message)


def texts_of(table: Table, batch: Batch, columns: Sequence[int]) -> "pl.Series":
    """Return the cells of some columns, joined by a space; refuse an empty one."""
    import polars as pl

    for column in columns:
        empty = batch.cells[str(column)].fill_null("").eq("").to_numpy()
        if empty.any():
            row = batch.rows[np.argmax(empty)]
            raise refusal(table.path, "the cell is empty: fill it in", row, table.header[column])
    names = [str(column) for column in columns]
    return batch.cells.select(pl.concat_str(names, separator=" ")).to_series()


def _codes(cells: "pl.Series") -> tuple["pl.Series", np.ndarray]:
    """Return the different cells in order of appearance, and the place among them of each."""
    import polars as pl

    different = cells.unique(maintain_order=True)
    return different, cells.cast(pl.Enum(different)).to_physical().to_numpy().astype(np.int32)


def read_rows(path: Path, *, regular: tuple[str, int] | None = None) -> Rows:
    """Read a table of times, with a column of sensors or without, and columns of values.

    regular: of a table without times, that of the first row and the seconds from row to row.
    """
    import polars as pl

    table = open_table(path)
    time = [] if regular else time_columns(table)
    _check_names(table, time)
    names = plain(table.header)
    named = [i for i, name in enumerate(names) if name in SENSOR_NAMES]
    sensor = next((i for i in named if i not in time), None)
    if regular:
        timed = next((i for i, name in enumerate(names) if name in TIME_NAMES), sensor)
        if timed is not None:
            message = "start of city.yaml is for a wide table without times: remove one of the two"
            raise refusal(path, message, column=table.header[timed])
        epoch = bool(re.fullmatch("1[0-9]{9}([0-9]{3})?", table.header[0]))
        cells = list(filter(is_cell, table.header)) + list(table.header[:epoch])
        if cells:
            raise refusal(path, f"{shown(cells[0])} is no name: the first row names the columns")
    columns = [i for i in range(len(table.header)) if i not in (*time, sensor)]
    if not columns:
        raise refusal(path, f"has columns {listed(table.header)}: time and values are needed")
    texts: list[pl.Series] = []
    times, sensors, rows, values = [], [], [], []
    places: dict[str, int] = {}
    for batch in table.batches:
        if not regular:
            different, codes = _codes(texts_of(table, batch, time))
            times.append(codes + np.int32(sum(map(len, texts))))
            texts.append(different)
        if sensor is not None:
            different, codes = _codes(texts_of(table, batch, [sensor]))
            place = [places.setdefault(name, len(places)) for name in different]
            sensors.append(np.asarray(place, np.int32)[codes])
        rows.append(batch.rows)
        values.append(numbers(table, batch, columns))
    refuse_thousands(table)
    if not sum(map(len, rows)):
        raise refusal(path, "the table has no rows")
    row = np.concatenate(rows)
    if regular:
        blank = np.flatnonzero(row != table.first + np.arange(len(row)))
        if len(blank):
            message = (
                "the row is blank: without times every row counts, write NA in it or remove it"
            )
            raise refusal(path, message, table.first + blank[0])
        texts, times = [regular_times(*regular, len(row))], [np.arange(len(row), dtype=np.int32)]
    if sensor is not None and len(places) == len(row) > _FEW and sum(map(len, texts)) > _FEW:
        message = "every row has a sensor of its own: name the column otherwise if it counts rows"
        raise refusal(path, message, row[0], table.header[sensor])
    return Rows(
        path,
        row,
        table.header[time[0]] if time else None,
        pl.concat(texts),
        np.concatenate(times),
        None if sensor is None else list(places),
        np.zeros(len(row), np.int32) if sensor is None else np.concatenate(sensors),
        [table.header[column] for column in columns],
        np.concatenate(values),
    )


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
    if timezone and clock.instant is None:
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
        if 2 * np.count_nonzero(off[rows.time]) > len(row):
            name = "of city.yaml" if given else "that is the most common"
            message = f"the times{zone} keep no step: the one {name}, {step} s, fits"
            few = np.count_nonzero(~off[rows.time])
            raise refuse(at, f"{message} {few} of {len(row)} rows: bring them to a regular step")
        keeps = "city.yaml asks for" if given else "most rows keep"
        message = f"{moment(local[at])}{zone} is off the grid of {step} s that {keeps}"
        raise refuse(at, f"{message}: correct or remove the row")
    steps = (time[-1] - time[0]) // step + 1
    if steps > 100 * len(time):
        at = int(np.argmax(np.diff(time)))
        message = f"no row between {moment(time[at])} and {moment(time[at + 1])}: less than 1 % of"
        where = int(np.argmax(local == time[at + 1]))
        raise refuse(where, f"{message} the {steps} steps of {step} s are there")

    place = place.astype(np.int32)[rows.time]
    names = len(rows.sensors) if rows.sensors is not None else 1
    shape = (len(time), names, len(rows.names))
    if math.prod(shape) > max(_MOST_CELLS, 1000 * rows.values.size):
        message = f"{len(time)} times by {names} sensors, of which {len(row)} are there"
        raise refusal(path, f"{message}: less than one in 1000")
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

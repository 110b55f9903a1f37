"""Rows of times, sensors and values, read from a table; `data.arrange` orders them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cityjax.data.cells import Batch, Table, is_cell, listed, open_table, refusal, shown
from cityjax.data.clocks import regular_times
from cityjax.data.numerals import numbers, refuse_thousands

if TYPE_CHECKING:
    import polars as pl

TIME_NAMES = ("time", "timestamp", "datetime", "date_time", "date", "__index_level_0__")
SENSOR_NAMES = ("sensor", "sensor_id", "station", "station_id", "node", "location", "id")
# Of columns that are often beside sensors, and none.
PARTS = (
    *("year", "quarter", "month", "week", "day", "hour", "minute", "second", "weekday"),
    *("day_of_week", "dayofweek", "day_of_year", "dayofyear", "index", "row"),
)
_FEW = 30  # rows up to which each may well be of a sensor of its own


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


def plain(header: Sequence[str]) -> list[str]:
    """Return column names as they are compared: small letters, underscores."""
    return [name.lower().replace(" ", "_").replace("-", "_") for name in header]


def no_sensor(names: Sequence[str]) -> str | None:
    """Return the first of several sensors whose name is that of a part of the time, or of a count.

    One alone is what was measured, whatever its name: an index, say.
    """
    found = (name for name, text in zip(names, plain(names), strict=True) if text in PARTS)
    return next(found, None) if len(names) > 1 else None


def time_columns(table: Table) -> list[int]:
    """Return the places of the columns of times.

    They are date and one of time and hour; or the one with a name of `TIME_NAMES`; or the only one
    of a type of times, as pandas writes an index; or else the first that is not named as sensors
    are.
    """
    names = plain(table.header)
    within = next((name for name in ("time", "hour") if name in names), None)
    if "date" in names and within:
        return [names.index("date"), names.index(within)]
    place = next((i for i, name in enumerate(names) if name not in SENSOR_NAMES), 0)
    place = table.times[0] if len(table.times) == 1 else place
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

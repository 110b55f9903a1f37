"""Tables of sensors: where they lie, and the graph between them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cityjax.data.cells import Batch, Table, listed, open_table, refusal, shown
from cityjax.data.files import DataError
from cityjax.data.graphs import from_edges, gaussian_kernel
from cityjax.data.numerals import numbers, refuse_thousands
from cityjax.data.panels import SENSOR_NAMES, plain

LATITUDES, LONGITUDES = ("lat", "latitude"), ("lon", "lng", "long", "longitude")
FROM, TO = ("from", "source"), ("to", "target")
THRESHOLD = 0.1  # of the weight of an edge, where there are many
MANY = 10  # edges of a sensor, on average: a road network has one to four
WEIGHTS, DISTANCES = ("weight",), ("distance", "cost", "length")


def places_of(
    path: Path, names: Sequence[str], sensors: Sequence[str], rows: np.ndarray | None = None
) -> list[int]:
    """Return the place of each sensor among the names; refuse where one is absent, or there twice.

    What else is named belongs to other sensors, such as the rest of a road network. rows: where the
    names stand in the file.
    """
    place = {name: at for at, name in enumerate(names)}
    absent = [sensor for sensor in sensors if sensor not in place]
    if absent:
        raise refusal(path, f"{listed(absent)} of the values not here: name all sensors alike")
    count = Counter(names)
    twice = next((sensor for sensor in sensors if count[sensor] > 1), None)
    if twice is not None:
        row = None if rows is None else rows[place[twice]]
        raise refusal(path, f"{shown(twice)} is named twice: keep one", row)
    return [place[sensor] for sensor in sensors]


def read_coordinates(
    path: Path, sensors: Sequence[str]
) -> tuple[tuple[str, ...], np.ndarray | None]:
    """Return these sensors in the order of the table, and their coordinates, float64 [N, 2].

    None for a table that names sensors only. Columns: id, lat, lon; others are not read. Raises
    DataError unless each of the sensors is there once, on the globe.
    """
    table = open_table(path)
    column = _column(table, SENSOR_NAMES)
    if column is None:
        raise refusal(path, f"has columns {listed(table.header)}: id, lat and lon are needed")
    batch = table.whole()
    names = _names(batch, column)
    rows = sorted(places_of(path, names, sensors, batch.rows))
    names = tuple(names[row] for row in rows)
    lat, lon = _column(table, LATITUDES), _column(table, LONGITUDES)
    if lat is None and lon is None:
        return names, None
    if lat is None or lon is None:
        raise refusal(path, "lat and lon are needed, or neither")
    coordinates = numbers(table, batch, [lat, lon], double=True)[rows]
    bad = ~(np.abs(coordinates) <= (90, 180))
    if bad.any():
        row, place = np.argwhere(bad)[0]
        column = (lat, lon)[place]
        cell = batch.cells[int(rows[row]), str(column)]
        message = f"{_cell(cell)} is no degrees: a latitude lies within -90 and 90,"
        message += " a longitude within -180 and 180, metres of a map are neither"
        raise refusal(path, message, batch.rows[rows[row]], table.header[column])
    return names, coordinates


def read_graph(path: Path, kind: str, sensors: Sequence[str], *, in_order: bool) -> np.ndarray:
    """Return the adjacency of the sensors, float32 [N, N], rows from, columns to.

    kind: "adjacency" for a square matrix, with the sensors' names as header, as header and first
    column, or nowhere (then in the order of the sensors, where `in_order` says that they have
    one); "edges" and "distances" for a list: from, to, and weight, distance or cost, with a header
    or without. Distances become weights by the Gaussian kernel of DCRNN, 1 of a sensor to itself;
    its threshold thins out lists of most pairs, not those of direct neighbours, whose edges all
    stay.
    """
    if kind == "adjacency":
        return _read_matrix(path, sensors, in_order)
    return _read_list(path, kind, sensors)


def _read_matrix(path: Path, sensors: Sequence[str], in_order: bool) -> np.ndarray:
    table, size = open_table(path), len(sensors)
    batch = table.whole()
    height, width = len(batch.rows), len(table.header)
    parquet = path.name.lower().endswith(".parquet")  # always has names
    if (height, width) == (size - 1, size) and not parquet:
        if not in_order:
            raise refusal(path, "name the sensors in a header: their order is not known here")
        table = open_table(path, header=False)
        batch = table.whole()
        rows = columns = list(range(size))
    else:
        first = width - height  # 1 where the first column names the rows
        names = table.header[first:]
        if first not in (0, 1) or not set(names) & set(sensors):
            message = (
                f"{height} rows and {width} columns below a header are no matrix of the {size}"
            )
            raise refusal(
                path,
                f"{message} sensors: name them there, or write {size} by {size}; a list of pairs"
                " belongs into edges.csv",
            )
        columns = [first + place for place in places_of(path, names, sensors)]
        rows = columns if not first else places_of(path, _names(batch, 0), sensors, batch.rows)
    weights = numbers(table, batch, columns)
    refuse_thousands(table)
    _refuse_negative(table, batch, columns, weights)
    return weights[rows]


def _read_list(path: Path, kind: str, sensors: Sequence[str]) -> np.ndarray:
    table = open_table(path)
    start, end = _column(table, FROM), _column(table, TO)
    if start is None and end is None:
        table = open_table(path, header=False)
        start, end = 0, 1
    others = [i for i in range(len(table.header)) if i not in (start, end)]
    weight, distance = _column(table, WEIGHTS), _column(table, DISTANCES)
    named = [column for column in (weight, distance) if column is not None]
    lengths = named or others
    if start is None or end is None or len(lengths) != min(1, len(others)):
        message = f"has columns {listed(table.header)}: from, to, and weight or distance"
        raise refusal(path, f"{message} are needed")
    far = distance is not None if named else kind == "distances"
    if far and not lengths:
        raise refusal(path, "there is no column of distances: name it distance, or the file edges")
    batch = table.whole()
    values = np.ones((len(batch.rows), 1), np.float32)
    if lengths:
        values = numbers(table, batch, lengths)
        refuse_thousands(table)
        _refuse_negative(table, batch, lengths, values)
    edges = zip(_names(batch, start), _names(batch, end), values[:, 0].tolist(), strict=True)
    try:
        graph = from_edges(sensors, edges, absent=np.inf if far else 0.0)
    except DataError as error:
        raise refusal(path, str(error)) from error
    if not far:
        return graph.astype(np.float32)
    np.fill_diagonal(graph, np.inf)  # of a sensor to itself, which says nothing of the others
    weights = gaussian_kernel(graph, threshold=0)
    if np.count_nonzero(weights) > MANY * len(sensors):
        weights[weights < THRESHOLD] = 0
    if not (weights >= THRESHOLD).any():
        message = "the distances differ too little for a kernel as wide as their deviation"
        raise refusal(path, f"{message}: give weights, in a column weight of edges.csv")
    np.fill_diagonal(weights, 1)
    return weights


def _column(table: Table, names: Sequence[str]) -> int | None:
    return next((i for i, name in enumerate(plain(table.header)) if name in names), None)


def _names(batch: Batch, column: int) -> tuple[str, ...]:
    return tuple(name or "" for name in batch.cells[str(column)])


def _cell(text: str | None) -> str:
    """A cell as errors show it."""
    return shown(text) if text else "an empty cell"


def _refuse_negative(
    table: Table, batch: Batch, columns: Sequence[int], weights: np.ndarray
) -> None:
    bad = ~(weights >= 0)
    if bad.any():
        row, place = np.argwhere(bad)[0]
        column = table.header[columns[place]]
        cell = batch.cells[int(row), str(columns[place])]
        message = f"{_cell(cell)} is no weight or distance"
        raise refusal(
            table.path, f"{message}: a number from 0 up is needed", batch.rows[row], column
        )

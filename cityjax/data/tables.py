"""A city of one's own: a table, or a folder of tables, read as a `Series` and written back.

docs/own_data.md shows the layouts and lists the rules. A folder holds, as .csv, .csv.gz or
.parquet, `values` (or one table of any name), and if there are such `sensors`, `adjacency` or
`distances` or `edges`, `covariates` and `sensor_covariates`, `known` and `sensor_known`,
`holidays`; and `city.yaml`.
"""

import difflib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

from cityjax.data.arrange import Panel, arrange
from cityjax.data.cells import SUFFIXES, is_table, listed, refusal, shown
from cityjax.data.city_file import City, holiday_table, public_holidays, read_city
from cityjax.data.clocks import DAY, moment
from cityjax.data.files import DataError
from cityjax.data.panels import SENSOR_NAMES, TIME_NAMES, no_sensor, plain, read_rows
from cityjax.data.sensor_tables import places_of, read_coordinates, read_graph
from cityjax.data.series import Series, checked, regular

if TYPE_CHECKING:
    import polars as pl

PAST = ("covariates", "sensor_covariates")
KNOWN = ("known", "sensor_known")
GRAPHS = ("adjacency", "distances", "edges")
ARRAYS = (".h5", ".hdf5", ".npz", ".npy")  # what others publish cities as
TABLES = ("values", "sensors", *GRAPHS, *PAST, *KNOWN, "holidays")


def read_series(path: str | Path) -> Series:
    """Return the series of a table or of a folder, on the clock of the place, every step present.

    Raises DataError, in one line that names file, row and column, for whatever the rules of
    docs/own_data.md do not cover.
    """
    found = find_tables(path)
    city = read_city(found["city"]) if "city" in found else City()
    without_times = (city.start, city.step) if city.start and city.step else None
    rows = read_rows(found["values"], regular=without_times)
    if rows.sensors is not None and len(rows.names) != 1:
        message = f"beside time and sensor there are {listed(rows.names)}: keep the values"
        raise refusal(rows.path, f"{message}, put others into covariates.csv")
    panel = arrange(rows, timezone=city.timezone, step=city.step)
    wide = rows.sensors is None
    strange = no_sensor(rows.names) if wide else None
    if strange is not None:
        message = "a part of the time or a count of rows, not a sensor: remove the column"
        raise refusal(rows.path, f"{message} (or rename it, if it is one)", column=strange)
    names = rows.sensors or rows.names
    sensors = tuple(names if wide else sorted(names))
    in_order = wide  # whether a matrix without names can be in this order
    coordinates = None
    if "sensors" in found:
        named, coordinates = read_coordinates(found["sensors"], sensors)
        in_order = not wide or named == sensors
        sensors = named
    values = panel.values.reshape(len(panel.time), -1)[:, places_of(rows.path, names, sensors)]
    silent = np.flatnonzero(~np.isfinite(values).any(axis=0))
    if len(silent):
        names = listed([sensors[place] for place in silent])
        raise refusal(rows.path, f"no value at all of {names}: remove what was never measured")
    graph = next((name for name in GRAPHS if name in found), None)
    adjacency = None
    if graph is not None:
        adjacency = read_graph(found[graph], graph, sensors, in_order=in_order)
    series = Series(
        values,
        panel.time.astype("datetime64[s]"),
        panel.step,
        sensors,
        city.unit,
        adjacency=adjacency,
        coordinates=coordinates,
    )
    series = regular(checked(series))
    past = _covariates([found[name] for name in PAST if name in found], series, city, ahead=False)
    known = _covariates([found[name] for name in KNOWN if name in found], series, city, ahead=True)
    days = []
    if "holidays" in found:
        days.append(holiday_table(found["holidays"]))
        first, last = series.time[[0, -1]].astype("datetime64[Y]")
        years = days[0].astype("datetime64[Y]")
        if not ((years >= first) & (years <= last)).any():
            message = "no day lies in the years of the values"
            raise refusal(found["holidays"], f"{message}: add those that do, or remove the table")
    days += [public_holidays(found["city"], city, series.time)] if city.country else []
    if days and "holiday" in known:
        both = found["city" if city.country else "holidays"]
        raise refusal(both, "known has a column holiday too: keep one")
    if days:
        # A step of several days is off for the share of its days that are.
        begun = series.time.astype("datetime64[D]")[:, None] + np.arange(max(1, series.step // DAY))
        known["holiday"] = np.isin(begun, np.concatenate(days)).mean(axis=1, dtype=np.float32)
    both = sorted(set(past) & set(known))
    if "holiday" in both and days:
        message = "it makes a covariate holiday, which is measured too: keep one"
        raise refusal(found["city" if city.country else "holidays"], message)
    if both:
        raise refusal(Path(path), f"{listed(both)} is both measured and known ahead: keep one")
    return checked(series._replace(past=past, known=known))


def find_tables(path: str | Path) -> dict[str, Path]:
    """Return the files that a city is read from: "values", "city", ... -> path."""
    path = Path(path)
    if not os.path.isdir(path):  # of any text, where Path.is_dir raises for some
        if not os.path.isfile(path):
            raise refusal(path, "there is no such file or folder")
        if not is_table(path.name):
            message = f"is no table: {', '.join(SUFFIXES)}, or a folder of them"
            if path.suffix.lower() in ARRAYS:
                message += "; save it as one, or write a Python file that defines DATASET (files of"
                message += " metr_la, pems_bay, pems04 and pems08 are read by sets of these names)"
            raise refusal(path, message)
        return {"values": path}
    try:
        entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise refusal(path, f"cannot be read ({error.strerror})") from error
    found: dict[str, Path] = {}
    others = []
    for entry in entries:
        name = entry.name.lower()
        role = name.removesuffix(".gz").rpartition(".")[0] if is_table(name) else ""
        role = "city" if name in ("city.yaml", "city.yml") else role
        if role in found:
            raise refusal(path, f"{found[role].name} and {entry.name} are two of a kind: keep one")
        if role in (*TABLES, "city"):
            found[role] = entry
        elif role:
            others.append(entry)
    if "values" not in found and len(others) == 1:
        found["values"] = others.pop()
    if others:
        near = difflib.get_close_matches(others[0].name.lower().split(".")[0], TABLES, 1)
        hint = f", perhaps {near[0]}" if near else ""
        message = f"{shown(others[0].name)} is none of the tables of a city: rename it{hint}, or"
        raise refusal(path, f"{message} move it away (there are {', '.join(TABLES)})")
    if "values" not in found:
        among = f" among {listed([entry.name for entry in entries])}" if entries else ""
        raise refusal(path, f"no table of values{among}: put values.csv or values.parquet here")
    graphs = [found[name].name for name in GRAPHS if name in found]
    if len(graphs) > 1:
        raise refusal(path, f"{' and '.join(graphs)} each describe the graph: keep one")
    return found


def _covariates(
    paths: Sequence[Path], series: Series, city: City, *, ahead: bool
) -> dict[str, np.ndarray]:
    """Read covariates at the times of the series: name -> [T] or [T, N]."""
    found: dict[str, np.ndarray] = {}
    for path in paths:
        panel = arrange(read_rows(path), timezone=city.timezone, lone_step=series.step)
        time = series.time.astype(np.int64)
        values = _held(panel, time, series.step) if ahead else _matched(panel, time, series.step)
        if panel.sensors is not None:
            strange = sorted(set(panel.sensors) - set(series.sensors))
            if strange:
                raise refusal(path, f"{listed(strange)} not in the values: remove these rows")
            wide = np.full((len(values), len(series.sensors), len(panel.names)), np.nan, np.float32)
            wide[:, places_of(path, series.sensors, panel.sensors)] = values
            values = wide
        for column, name in enumerate(panel.names):
            if name in found:
                raise refusal(path, f"{shown(name)} is in {paths[0].name} too: keep one")
            array = values[..., column] if panel.sensors is not None else values[:, 0, column]
            missing = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
            if ahead and missing.any():
                step = int(np.argmax(missing))
                who = ""
                if array.ndim == 2:
                    who = f" of {shown(series.sensors[int(np.argmin(np.isfinite(array[step])))])}"
                message = f"has no value{who} at {moment(series.time[step].astype(np.int64))}:"
                message += " what is known ahead is never missing, add it"
                raise refusal(path, message, column=name)
            found[name] = array
    return found


def _matched(panel: Panel, time: np.ndarray, step: int) -> np.ndarray:
    """Return what was measured at the times, NaN where nothing was."""
    inside = (panel.time >= time[0]) & (panel.time <= time[-1])
    _refuse_between(panel, time, step)
    if not inside.any():
        span = f"{moment(time[0])} to {moment(time[-1])}"
        message = f"no row lies in the time of the values, {span}: add those that do"
        raise refusal(panel.path, f"{message}, or remove the table")
    values = np.full((len(time), *panel.values.shape[1:]), np.nan, np.float32)
    values[(panel.time[inside] - time[0]) // step] = panel.values[inside]
    return values


def _refuse_between(panel: Panel, time: np.ndarray, step: int) -> None:
    """Raise DataError for a row between two steps of the values, of which it would be left out."""
    off = (panel.time >= time[0]) & (panel.time <= time[-1]) & ((panel.time - time[0]) % step != 0)
    if off.any():
        at = int(np.argmax(off))
        message = f"{moment(panel.time[at])} lies between the steps of {step} s of the values"
        raise refusal(panel.path, f"{message}: give one row a step", panel.row_of(at))


def _held(panel: Panel, time: np.ndarray, step: int) -> np.ndarray:
    """Return what is known at the times: a row holds for the step of its table, such as a day."""
    if panel.step < step:
        _refuse_between(panel, time, step)
    at = np.searchsorted(panel.time, time, side="right") - 1
    until = np.diff(panel.time, append=panel.time[-1] + panel.step)
    until[until > panel.step + 3600] = panel.step  # spring's missing hour is bridged
    absent = (at < 0) | (time - panel.time[at] >= until[at])
    if absent.any():
        first = moment(time[np.argmax(absent)])
        raise refusal(panel.path, f"no row tells what was known at {first}: add it")
    return panel.values[at]


def write_series(series: Series, folder: str | Path) -> None:
    """Write a series as a folder that `read_series` reads back, the same to the bit.

    Every step is written, those that a gap leaves out as well. Raises DataError where the folder is
    not empty, or a name cannot stand in the header of a table.
    """
    series, folder = regular(checked(series)), Path(folder)
    for name in (*series.sensors, *series.past, *series.known):
        usual = name == name.strip() and name.isprintable()
        taken = plain([name])[0] in (*TIME_NAMES, *SENSOR_NAMES)
        if not name or not usual or taken or name == no_sensor(series.sensors):
            raise DataError(f"{shown(name)} cannot name a column of a table: rename it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise refusal(folder, "is not empty: name a new folder")
        for name, table in _written(series):
            table.write_csv(folder / f"{name}.csv")
        city = yaml.safe_dump({"unit": series.unit, "step": series.step}, allow_unicode=True)
        (folder / "city.yaml").write_text(city, encoding="utf-8")
    except OSError as error:
        raise refusal(folder, f"cannot be written ({error.strerror})") from error


def _written(series: Series) -> Iterator[tuple[str, "pl.DataFrame"]]:
    """Yield the tables of a folder, each by its name."""
    import polars as pl

    def columns(names: Iterable[str], arrays: Iterable[np.ndarray]) -> "list[pl.Series]":
        pairs = zip(names, arrays, strict=True)
        # A cell is empty where there is no value.
        return [pl.Series(name, array, nan_to_null=True) for name, array in pairs]

    time = pl.Series("time", np.datetime_as_string(series.time))
    sensors = pl.Series("sensor", series.sensors)
    yield "values", pl.DataFrame([time, *columns(series.sensors, series.values.T)])
    if series.coordinates is not None:
        places = columns(("lat", "lon"), series.coordinates.T)
        yield "sensors", pl.DataFrame([sensors.alias("id"), *places])
    if series.adjacency is not None:
        yield "adjacency", pl.DataFrame(columns(series.sensors, series.adjacency.T))
    for roles, arrays in ((PAST, series.past), (KNOWN, series.known)):
        shared = {name: array for name, array in arrays.items() if array.ndim == 1}
        single = {name: array.ravel() for name, array in arrays.items() if array.ndim == 2}
        if shared:
            yield roles[0], pl.DataFrame([time, *columns(shared, shared.values())])
        if single:
            at = np.indices(series.values.shape).reshape(2, -1)
            rows = [time.gather(at[0]), sensors.gather(at[1])]
            yield roles[1], pl.DataFrame([*rows, *columns(single, single.values())])

"""Series of a city: what was measured at its sensors, step by step, and what is known beside it.

A series is plain numpy on the host. A value that is missing is NaN here and a mask on the device
(`data.forecast`), never a magic number.
"""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from cityjax.data.files import DataError


class Series(NamedTuple):
    """One quantity at N sensors over T steps.

    values: float32 [T, N] in `unit`, what is forecast; NaN where missing. time: datetime64[s] [T],
    the clock of the place, increasing. step: seconds from one row to the next; rows that lie
    further apart have a gap between them. sensors: N names. past: measured beside it, known up to
    the present: name -> float32 [T] or [T, N], NaN where missing. known: what is known ahead of
    time (holidays, a school term), likewise but never missing. adjacency: float32 [N, N], the
    weight of the edge from the row's sensor to the column's, 0 where there is none.
    coordinates: [N, 2], latitude and longitude in degrees.
    """

    values: np.ndarray
    time: np.ndarray
    step: int
    sensors: tuple[str, ...]
    unit: str
    past: Mapping[str, np.ndarray] = {}
    known: Mapping[str, np.ndarray] = {}
    adjacency: np.ndarray | None = None
    coordinates: np.ndarray | None = None

    @property
    def observed(self) -> np.ndarray:
        """Where there is a value: bool [T, N]."""
        return np.isfinite(self.values)

    @property
    def steps_per_day(self) -> int:
        """How many steps a day has, one that midnight cuts short too; 1 of a day or more."""
        return -(-86_400 // self.step)


def checked(series: Series) -> Series:
    """Return the series, its arrays in their types; raise DataError where parts do not fit.

    Refused: shapes that disagree, time that does not increase, infinite values, a sensor without
    any value, known covariates with holes, a negative edge.
    """
    # Row by row in memory: the last digit of a sum depends on the order it is taken in.
    values = np.ascontiguousarray(series.values, np.float32)
    time = np.asarray(series.time).astype("datetime64[s]")
    if values.ndim != 2 or not values.size:
        raise DataError(f"values have shape {values.shape}: [steps, sensors] is expected")
    steps, sensors = values.shape
    if time.shape != (steps,):
        raise DataError(f"time has shape {time.shape} beside {steps} steps of values")
    gaps = np.diff(time.astype(np.int64))
    if len(gaps) and gaps.min() <= 0:
        row = int(np.argmax(gaps <= 0)) + 1
        raise DataError(f"time does not increase at row {row}: {time[row - 1]}, then {time[row]}")
    if len(series.sensors) != sensors or len(set(series.sensors)) != sensors:
        raise DataError(f"{len(set(series.sensors))} names for {sensors} sensors")
    if np.isinf(values).any():
        row, column = np.argwhere(np.isinf(values))[0]
        raise DataError(f"the value of {series.sensors[column]} at {time[row]} is infinite")
    silent = ~np.isfinite(values).any(axis=0)
    if silent.any():
        raise DataError(f"sensor {series.sensors[int(np.argmax(silent))]} has no value at all")
    past = {name: _covariate(name, array, steps, sensors) for name, array in series.past.items()}
    known = {name: _covariate(name, array, steps, sensors) for name, array in series.known.items()}
    for name, array in known.items():
        if not np.isfinite(array).all():
            raise DataError(f"{name} is said to be known ahead of time, but has missing values")
    adjacency, coordinates = series.adjacency, series.coordinates
    if adjacency is not None:
        adjacency = np.asarray(adjacency, np.float32)
        if adjacency.shape != (sensors, sensors):
            raise DataError(f"adjacency has shape {adjacency.shape} for {sensors} sensors")
        if not np.isfinite(adjacency).all() or adjacency.min() < 0:
            raise DataError("adjacency has a weight that is negative or no number")
    if coordinates is not None:
        coordinates = np.asarray(coordinates, np.float64)
        if coordinates.shape != (sensors, 2):
            raise DataError(f"coordinates have shape {coordinates.shape} for {sensors} sensors")
    return series._replace(
        values=values,
        time=time,
        step=int(series.step),
        sensors=tuple(map(str, series.sensors)),
        past=past,
        known=known,
        adjacency=adjacency,
        coordinates=coordinates,
    )


def _covariate(name: str, array: np.ndarray, steps: int, sensors: int) -> np.ndarray:
    array = np.ascontiguousarray(array, np.float32)
    if array.shape not in ((steps,), (steps, sensors)):
        raise DataError(
            f"covariate {name} has shape {array.shape}: ({steps},) or ({steps}, {sensors})"
        )
    return array


def regular(series: Series) -> Series:
    """Return the series with every step present: rows that a gap leaves out are missing values.

    Covariates measured beside it are missing there too; those known ahead keep their last value.
    """
    seconds = series.time.astype(np.int64)
    places = np.rint((seconds - seconds[0]) / series.step).astype(np.int64)
    total = int(places[-1]) + 1
    if len(set(places.tolist())) != len(places):
        raise DataError(f"two rows fall into one step of {series.step} s")
    if total == len(places):
        return series
    latest = np.searchsorted(places, np.arange(total), side="right") - 1

    def spread(array: np.ndarray) -> np.ndarray:
        filled = np.full((total, *array.shape[1:]), np.nan, np.float32)
        filled[places] = array
        return filled

    return series._replace(
        values=spread(series.values),
        time=series.time[0] + np.arange(total) * np.timedelta64(series.step, "s"),
        past={name: spread(array) for name, array in series.past.items()},
        known={name: array[latest] for name, array in series.known.items()},
    )


def covariates(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the names of covariates, the most incomplete first, each with the share missing."""
    missing = {name: 1 - np.isfinite(array).mean() for name, array in arrays.items()}
    order = sorted(missing, key=missing.__getitem__, reverse=True)
    shown = [n + f" ({100 * missing[n]:.1f} % missing)" * bool(missing[n]) for n in order[:6]]
    more = f" and {len(order) - 6} more" if len(order) > 6 else ""
    return ", ".join(shown) + more


def digest(series: Series) -> str:
    """Return a sha256 of all that a series holds, for the result of a run on one's own data."""
    found = hashlib.sha256(repr((series.step, series.sensors, series.unit)).encode())
    arrays = {"values": series.values, "time": series.time.astype(np.int64)}
    arrays |= {f"past {name}": array for name, array in series.past.items()}
    arrays |= {f"known {name}": array for name, array in series.known.items()}
    arrays |= {"adjacency": series.adjacency, "coordinates": series.coordinates}
    for name, array in arrays.items():
        found.update(name.encode())
        found.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    return found.hexdigest()

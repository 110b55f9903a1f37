"""Readers of the formats that data sets come in: CSV, MATLAB, npz, HDF5, and clocks with repeats.

They take the content of a file, read and checked by `files.read`, and import their libraries when
called.
"""

import io
from typing import TYPE_CHECKING

import numpy as np

from cityjax.data.files import DataError

if TYPE_CHECKING:
    import polars as pl


def table(content: bytes, *, header: bool = True) -> "pl.DataFrame":
    """Return a CSV table; empty cells and NA are null. Column types are read from all rows."""
    import polars as pl

    return pl.read_csv(
        io.BytesIO(content),
        has_header=header,
        null_values=["NA", ""],
        infer_schema_length=None,
    )


def numbers(frame: "pl.DataFrame", *columns: str) -> np.ndarray:
    """Return columns as float32 [T, columns], NaN where null; blanks around a number are cut."""
    import polars as pl
    from polars import selectors

    frame = frame.select(columns).with_columns(selectors.string().str.strip_chars())
    return frame.cast(pl.Float32).to_numpy()


def times(strings: "pl.Series", format: str = "%Y-%m-%d %H:%M:%S") -> np.ndarray:
    """Return datetime64[s] [T] of written times."""
    return strings.str.to_datetime(format, time_unit="ms").to_numpy().astype("datetime64[s]")


def every(start: str, step: int, count: int) -> np.ndarray:
    """Return datetime64[s] [count]: `start`, and on every `step` seconds."""
    return np.datetime64(start, "s") + np.arange(count) * np.timedelta64(step, "s")


def one_row_per_time(time: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort rows [T, ...] by time; rows of one time become their mean.

    For a clock that is set back in autumn: its repeated hour is one row, and the one that spring
    skips stays a gap.
    """
    unique, place, count = np.unique(time, return_inverse=True, return_counts=True)
    total = np.zeros((len(unique), *values.shape[1:]))
    np.add.at(total, place, values)
    return unique, total / count.reshape(-1, *[1] * (values.ndim - 1))


def matlab(content: bytes, name: str) -> np.ndarray:
    """Return one array of a MATLAB file."""
    from scipy.io import loadmat

    return loadmat(io.BytesIO(content), variable_names=[name])[name]


def npz(content: bytes, name: str, where: str) -> np.ndarray:
    """Return one array of a numpy archive; raises DataError where it is none, or holds objects."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            if name not in archive:
                raise DataError(f"{where} holds {sorted(archive)}: an array {name!r} is expected")
            return archive[name]
    except DataError:
        raise
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(f"{where} is no .npz archive of plain arrays: {error}") from error


def sparse_matrix(content: bytes) -> np.ndarray:
    """Return a matrix of scipy's `save_npz` as a full float32 array."""
    from scipy.sparse import load_npz

    return load_npz(io.BytesIO(content)).toarray().astype(np.float32)


def hdf5_frame(content: bytes, where: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return (values float64 [T, N], time datetime64[s] [T], column names) of one stored frame.

    This is how pandas stores a frame with PyTables ("fixed"): a group with `axis0`, the columns,
    `axis1`, the times, and blocks of columns, `block0_items` and `block0_values`.

    Raises DataError where h5py is not installed or the file holds something else.
    """
    try:
        import h5py
    except ImportError as error:
        raise DataError(f"{where} is an HDF5 file: pip install 'cityjax[h5]' reads it") from error
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            groups = [item for item in file.values() if isinstance(item, h5py.Group)]
            if len(groups) != 1 or not {"axis0", "axis1"} <= set(groups[0]):
                raise DataError(f"{where} holds {sorted(file)}: one frame of pandas is expected")
            (group,) = groups
            arrays = {name: item[()] for name, item in group.items()}
            kind = group["axis1"].attrs.get("kind", "datetime64")
        columns = _names(arrays["axis0"])
        place = {name: number for number, name in enumerate(columns)}
        time = _moments(arrays["axis1"], kind, where)
        values = np.full((len(time), len(columns)), np.nan)
        for number in range(sum(name.endswith("_values") for name in arrays)):
            items = [place[name] for name in _names(arrays[f"block{number}_items"])]
            values[:, items] = arrays[f"block{number}_values"]
    except DataError:
        raise
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where} is no frame of pandas in HDF5: {error}") from error
    return values, time, columns


def _names(labels: np.ndarray) -> tuple[str, ...]:
    return tuple(n.decode() if isinstance(n, bytes) else str(n) for n in labels.tolist())


def _moments(stored: np.ndarray, kind: str | bytes, where: str) -> np.ndarray:
    """Whole numbers since 1970, in nanoseconds unless the kind names another unit."""
    kind = kind.decode() if isinstance(kind, bytes) else str(kind)
    if not kind.startswith("datetime64"):
        raise DataError(f"{where} has rows by {kind}: times are expected")
    unit = kind.removeprefix("datetime64").strip("[]") or "ns"
    return stored.astype(f"datetime64[{unit}]").astype("datetime64[s]")

"""The data sets there are, by name: listed without reading any, imported one by one.

And those of one's own: a Python file that defines one, a table, or a folder of tables.
"""

import importlib
import importlib.util
import os
from pathlib import Path

from cityjax.data.cells import is_table
from cityjax.data.dataset import Dataset, Protocol
from cityjax.data.files import DataError
from cityjax.data.series import Series
from cityjax.data.tables import read_series
from cityjax.errors import did_you_mean, one_line

DAY, WEEK = 86_400, 7 * 86_400
_FOLDER = Path(__file__).parent / "sets"


def datasets() -> tuple[str, ...]:
    """Names of the data sets that come with cityjax, sorted; nothing is imported."""
    return tuple(sorted(p.stem for p in _FOLDER.glob("*.py") if not p.stem.startswith("_")))


def dataset(name: str) -> Dataset:
    """Return the data set of this name, of a table or folder, or of a Python file, `./mine.py`.

    A table or folder is read, of the others nothing is. Raises DataError for an unknown name, a
    table that is refused, a Python file that cannot be imported or has no `DATASET`, and a data set
    without an honest protocol.
    """
    if is_city(name):
        return _of_tables(name)
    if name.endswith(".py"):
        return _from_file(Path(name))
    if name not in datasets():
        hint = did_you_mean(name, datasets())
        raise DataError(
            f"unknown data set {name!r}{hint and ': ' + hint} (python -m cityjax.data lists them), "
            "and there is no such file or folder"
        )
    return importlib.import_module(f"cityjax.data.sets.{name}").DATASET


def is_city(name: str) -> bool:
    """Whether a name is that of a table of one's own, or of a folder of tables."""
    if name.endswith(".py") or name in datasets():
        return False
    return is_table(name) or "/" in name or os.sep in name or os.path.exists(name)


def _of_tables(path: str) -> Dataset:
    series = read_series(path)
    name = os.path.basename(os.path.normpath(path))
    return Dataset(
        name=name,
        title=f"{name}, a city of one's own",
        domain="-",
        licence="-",
        home=path,
        files=(),
        read=lambda: series,
        season=_season(series),
        protocols={"honest": Protocol()},
    )


def _season(series: Series) -> int:
    """Return the steps of a week, a year where a step is a week or more, a day in a short series.

    That is one of less than four weeks, of which train would have seen two or three.
    """
    if series.step >= WEEK:
        return max(1, round(52 * WEEK / series.step))
    short = len(series.values) * series.step < 4 * WEEK
    return max(1, round((DAY if short else WEEK) / series.step))


def _from_file(path: Path) -> Dataset:
    if not path.is_file():
        raise DataError(f"{path} is no file: a Python file that defines DATASET is expected")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # someone's file can raise anything
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise DataError(f"{path} cannot be imported: {reason}") from error
    found = getattr(module, "DATASET", None)
    if not isinstance(found, Dataset):
        raise DataError(f"{path} defines no DATASET = cityjax.data.dataset.Dataset(...)")
    if "honest" not in found.protocols:
        raise DataError(f"the data set of {path} has no protocol named 'honest': give it one")
    return found

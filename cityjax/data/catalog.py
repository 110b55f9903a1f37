"""The data sets there are, by name: listed without reading any, imported one by one."""

import importlib
import importlib.util
from pathlib import Path

from cityjax.data.dataset import Dataset
from cityjax.data.files import DataError
from cityjax.errors import did_you_mean, one_line

_FOLDER = Path(__file__).parent / "sets"


def datasets() -> tuple[str, ...]:
    """Names of the data sets that come with cityjax, sorted; nothing is imported."""
    return tuple(sorted(p.stem for p in _FOLDER.glob("*.py") if not p.stem.startswith("_")))


def dataset(name: str) -> Dataset:
    """Return the data set of this name, or the `DATASET` of a file of one's own, `./mine.py`.

    Nothing of its data is read. Raises DataError for an unknown name, a file that cannot be
    imported or has no `DATASET`, and a data set without an honest protocol.
    """
    if name.endswith(".py"):
        return _from_file(Path(name))
    if name not in datasets():
        hint = did_you_mean(name, datasets())
        raise DataError(
            f"unknown data set {name!r}{hint and ': ' + hint} (python -m cityjax.data lists them)"
        )
    return importlib.import_module(f"cityjax.data.sets.{name}").DATASET


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

"""Find experiments by file name, list them without importing them, load one of them."""

import ast
import dataclasses
import hashlib
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from cityjax.config import (
    RESERVED_KEYS,
    ConfigError,
    RunConfig,
    field_types,
)
from cityjax.errors import UserError, did_you_mean, one_line, spell

if TYPE_CHECKING:
    from cityjax.learner import Experiment


class Entry(NamedTuple):
    """One experiment: its name, its file, and the first line of its docstring."""

    name: str
    path: Path
    summary: str


def available() -> dict[str, Entry]:
    """Every registered experiment by name, sorted; nothing of them is imported.

    They come from the installed `cityjax.experiments` (in a checkout: the folder `experiments`
    beside the package) and from the folders in the environment variable CITYJAX_EXPERIMENTS.
    Files whose name starts with `_` are none.

    Raises:
      ConfigError: two files have one name, or a folder is missing.
    """
    entries: dict[str, Entry] = {}
    for folder in _folders():
        for path in sorted(folder.glob("*.py")):
            if path.name.startswith("_") or not path.is_file():
                continue
            name = path.stem
            if name in entries:
                raise ConfigError(
                    f"two experiments are named {name!r}: {entries[name].path} and {path}"
                )
            entries[name] = Entry(name, path, _summary(path))
    return dict(sorted(entries.items()))


def source_of(name_or_path: str) -> str:
    """What finds the experiment again from any folder: its name, or its file's absolute path."""
    return os.path.abspath(name_or_path) if _is_path(name_or_path) else name_or_path


def load(name_or_path: str) -> ModuleType:
    """Import the experiment of this name, or in this file (`./mine.py`), and check it.

    The module holds `Config`, a frozen dataclass derived from RunConfig, and `build(config)`; the
    experiment's name is the stem of its `__file__`. A file that has not changed since it was
    loaded gives the same module again.

    Raises:
      ConfigError: no such experiment; the file cannot be read or imported (the message has file
        and line); or what it must define is missing.
    """
    if _is_path(name_or_path):
        return _check(_import(Path(source_of(name_or_path))))
    entries = available()
    if name_or_path not in entries:
        hint = did_you_mean(name_or_path, list(entries))
        raise ConfigError(
            f"unknown experiment {spell(name_or_path)!r}{hint and ': ' + hint}"
            " (python -m cityjax.run lists them)"
        )
    return _check(_import(entries[name_or_path].path))


def build(module: ModuleType, config: RunConfig, folder: str | None = None) -> "Experiment":
    """Return the experiment that a module's `build(config)` makes.

    folder: where the relative paths of a configuration begin; None for the present one.

    Raises:
      ConfigError: `build` raised an exception (the message has file and line), or returned
        something else. A UserError passes as it is.
    """
    from cityjax.data.sources import as_tree
    from cityjax.learner import Experiment

    try:
        experiment = module.build(config if folder is None else config.within(folder))
    except UserError:
        raise
    except Exception as error:
        raise ConfigError(_where(error, Path(str(module.__file__)))) from error
    if not isinstance(experiment, Experiment):
        kind = "None" if experiment is None else f"a {type(experiment).__name__}"
        raise ConfigError(
            f"{module.__file__}: build(config) returned {kind}, not a cityjax.learner.Experiment"
        )
    return experiment._replace(train=as_tree(experiment.train))


def _is_path(name_or_path: str) -> bool:
    return "/" in name_or_path or os.sep in name_or_path or name_or_path.endswith(".py")


def _folders() -> list[Path]:
    package = Path(__file__).resolve().parent
    installed, checkout = package / "experiments", package.parent / "experiments"
    folders = [folder for folder in (installed, checkout) if folder.is_dir()][:1]
    for text in os.environ.get("CITYJAX_EXPERIMENTS", "").split(os.pathsep):
        if not text:
            continue
        folder = Path(text).resolve()
        if not folder.is_dir():
            raise ConfigError(f"CITYJAX_EXPERIMENTS names {spell(text)}, which is no folder")
        if folder not in folders:
            folders.append(folder)
    return folders


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: characters that no path can hold
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"experiment file {spell(path)} cannot be read: {reason}") from error


def _summary(path: Path) -> str:
    """First line of the docstring; a broken file says what is wrong with it instead."""
    try:
        docstring = ast.get_docstring(ast.parse(_read(path)))
    except ConfigError as error:
        return f"({error})"
    except SyntaxError as error:
        return f"(line {error.lineno}: {error.msg})"
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes, absurd nesting
        return f"({error})"
    return docstring.splitlines()[0] if docstring else ""


def _import(path: Path) -> ModuleType:
    content = _read(path)
    # The content is part of the module's name: a file edited in a notebook's lifetime is loaded
    # anew, an unchanged one keeps its classes. No bytecode is left beside the user's file.
    digest = hashlib.sha256(os.fsencode(path) + b"\0" + content).hexdigest()[:16]
    name = f"cityjax_experiment_{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses and typing look a class's module up here
    try:
        exec(compile(content, str(path), "exec", dont_inherit=True), module.__dict__)
    except Exception as error:
        del sys.modules[name]
        raise ConfigError(_where(error, path)) from error
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _where(error: Exception, path: Path) -> str:
    """One line: the file, the last line of it that ran, and the exception."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    place = f"{path}, line {lines[-1]}" if lines else str(path)
    return f"{place}: {type(error).__name__}: {one_line(error)}"


def _check(module: ModuleType) -> ModuleType:
    """Refuse a module that is no experiment, naming its file and what is wrong."""
    config_class = getattr(module, "Config", None)
    if not (isinstance(config_class, type) and issubclass(config_class, RunConfig)):
        raise ConfigError(f"{module.__file__} defines no class Config(RunConfig)")
    # Without its own decorator a subclass inherits the fields and drops the ones it annotates.
    if "__dataclass_fields__" not in vars(config_class):
        raise ConfigError(f"{module.__file__}: Config needs @dataclass(frozen=True)")
    if not callable(getattr(module, "build", None)):
        raise ConfigError(f"{module.__file__} defines no function build(config)")
    for field in dataclasses.fields(config_class):
        if field.name in RESERVED_KEYS:
            raise ConfigError(f"{module.__file__}: Config cannot have a field {field.name!r}")
    try:
        field_types(config_class)
    except ConfigError as error:
        raise ConfigError(f"{module.__file__}: {error}") from error
    return module

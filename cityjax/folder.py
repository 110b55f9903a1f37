"""The run folder: made or reopened, its configuration compared, its lines written and cut."""

import contextlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cityjax import checkpoint
from cityjax.config import RunConfig, difference
from cityjax.errors import UserError
from cityjax.overrides import load_config, save_config
from cityjax.report import record
from cityjax.report.record import METRIC_KEYS

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

CONFIG, METRICS, TIMING, RESULT = "config.yaml", "metrics.jsonl", "timing.jsonl", "result.json"
LOCK = ".lock"
TIMING_KEYS = {"seed": int, "step": int, "seconds": float, "compile_seconds": float}


def find(config: RunConfig, experiment: str) -> tuple[Path | None, dict[str, Any]]:
    """Return the run that `workdir` holds already and the choices it made; None for a new run.

    Nothing is written. Raises UserError where the folder is a file, holds another configuration or
    something else than a run, `resume` forbids what it holds, or its name is no UTF-8.
    """
    place = os.path.abspath(config.workdir or "runs")
    if place.encode("utf-8", "replace").decode("utf-8") != place:
        raise UserError(
            f"workdir={place} is no UTF-8 text, which checkpoints need: give another folder, or a "
            "locale of UTF-8"
        )
    if config.workdir is None:
        if config.resume == "must":
            raise UserError("resume=must needs workdir=FOLDER, the run to continue")
        return None, {}
    path = Path(config.workdir)
    shown = f"workdir={path}"
    names = _names(path)
    if names and config.resume == "never":
        raise UserError(f"{shown} is not empty and resume=never: give an empty or a new folder")
    if CONFIG in names:
        saved = load_config(path / CONFIG)
        holds = Path(str(saved.module.__file__)).stem
        changes = [] if holds == experiment else [f"experiment: {holds} -> {experiment}"]
        changes += difference(saved.config, config)
        if changes:
            raise UserError(f"{shown} holds another configuration's run ({'; '.join(changes)})")
        return path, saved.resolved
    if names - {CONFIG + ".partial"}:
        raise UserError(f"{shown} is not empty and holds no run: give an empty or a new folder")
    if config.resume == "must":
        raise UserError(f"{shown} holds no run and resume=must: use resume=auto to begin one")
    return None, {}


def find_sweep(config: RunConfig, count: int) -> None:
    """Check that `workdir` holds nothing but a sweep of `count` runs, begun or not, or is new.

    The runs are in its folders 000, 001, ..., which `find` checks one by one; what a user put
    beside them is let be. Raises UserError as `find` does.
    """
    path = Path(str(config.workdir))
    shown = f"workdir={path}"
    names = _names(path)
    runs = {name for name in names if name.isdigit() and len(name) == len(point(0))}
    if names and config.resume == "never":
        raise UserError(f"{shown} is not empty and resume=never: give an empty or a new folder")
    if CONFIG in names:
        raise UserError(f"{shown} holds a single run: give this sweep another folder")
    if names and not runs:
        raise UserError(f"{shown} is not empty and holds no sweep: give an empty or a new folder")
    if more := sorted(runs - {point(number) for number in range(count)}):
        raise UserError(
            f"{shown} holds another sweep (this one has {count} runs, and {more[0]} is there): "
            "give this sweep another folder"
        )
    if not runs and config.resume == "must":
        raise UserError(f"{shown} holds no sweep and resume=must: use resume=auto to begin one")


def point(number: int) -> str:
    """Return the name of a run's folder in its sweep."""
    return f"{number:03d}"


def _names(path: Path) -> set[str]:
    """Return what a folder holds, nothing where it is not there."""
    if path.exists() and not path.is_dir():
        raise UserError(f"workdir={path} is a file: give a folder")
    try:
        return set(os.listdir(path)) if path.is_dir() else set()
    except OSError as error:
        raise UserError(f"workdir={path} cannot be read: {error.strerror}") from error


def create(config: RunConfig, experiment: str, source: str, resolved: Mapping[str, Any]) -> Path:
    """Make the folder of a new run and write its config.yaml; return its path.

    Raises UserError where it cannot be written.
    """
    path = make(config.workdir, experiment)
    try:
        save_config(path / CONFIG, source, config, resolved)
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def make(workdir: str | None, experiment: str, suffix: str = "") -> Path:
    """Make a folder and return its path.

    Without `workdir` it is runs/<experiment>/<date-time><suffix>, with a number added where that
    exists. Raises UserError where it cannot be made.
    """
    parent = Path("runs") / experiment
    try:
        if workdir is None:
            return _new_folder(parent, suffix)
        Path(workdir).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(parent if workdir is None else workdir, error) from error
    return Path(workdir)


def _new_folder(parent: Path, suffix: str) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    parent.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1000):
        path = parent / (f"{stamp}{suffix}" if number == 1 else f"{stamp}-{number}{suffix}")
        try:
            path.mkdir()  # fails where another process was first
        except FileExistsError:
            continue
        return path
    raise UserError(f"{parent} holds 999 runs of this second: give workdir=FOLDER")


def check_data(path: Path, begun: Mapping[str, str] | None, data: Mapping[str, str]) -> None:
    """Raise UserError where a run's data is not what it began with, name -> sha256 each.

    begun: None of a run that did not write it down.
    """
    if begun is None:
        return
    for name in dict.fromkeys([*begun, *data]):
        old, new = (str(hashes.get(name, "none"))[:12] for hashes in (begun, data))
        if old != new:
            raise UserError(
                f"{path} began with other data ({name}: sha256 {old}, now {new}): put the data "
                "back, or give another workdir"
            )


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep other processes from training in a run's folder; the system lets go of it at the end.

    Raises UserError where another process is at it, and where the folder cannot be written.
    """
    # NFS locks files that are open for writing alone, so no folder. The file stays: where it was
    # removed, two could hold a lock of that name.
    try:
        file = (path / LOCK).open("a")
    except OSError as error:
        raise _unwritable(path, error) from error
    with file:
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process trains in {path}: wait for its end, or give another workdir"
            ) from None
        except OSError:
            pass  # a file system that knows no locks
        yield


def _unwritable(place: str | Path, error: OSError) -> UserError:
    return UserError(f"workdir={place} cannot be written: {error.strerror}")


def check_there(folder: Path) -> None:
    """Raise UserError where a run's folder was deleted or moved while the run goes on.

    To be asked before anything is written: what is written would make the folder anew.
    """
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"{folder} was deleted or moved while its run went on (there is no {CONFIG} in it): "
            "give the command again to begin anew"
        )


def append(path: Path, line: Mapping[str, Any]) -> None:
    """Add one JSON line and flush it to the disk's cache; what is not finite becomes null."""
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(or_null(line), ensure_ascii=False, allow_nan=False) + "\n")


def or_null(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as JSON has them, null for a float that is not finite."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl or timing.jsonl; none where the file is not there yet.

    One that a kill cut off (the last) is left out. Raises UserError naming a line that is damaged.
    """
    keys = TIMING_KEYS if path.name == TIMING else METRIC_KEYS
    return record.read_lines(path, keys) if path.exists() else []


def spent(folder: Path) -> float:
    """Return the seconds that the lines of timing.jsonl tell of, those of all seeds together."""
    keys = ("seconds", "compile_seconds", "other_seconds")
    return sum(line.get(key, 0.0) for line in read_lines(folder / TIMING) for key in keys)


def cut(folder: Path, seed: int, step: int) -> list[dict[str, Any]]:
    """Drop this seed's metric and timing lines after `step`; return its metric lines left.

    Seeds run one after another, so that nothing of a later seed can follow.
    """
    kept: list[dict[str, Any]] = []
    for name in (TIMING, METRICS):
        lines = read_lines(folder / name)
        kept = [line for line in lines if line["seed"] != seed or line["step"] <= step]
        partial = folder / (name + ".partial")
        partial.unlink(missing_ok=True)
        partial.touch()
        for line in kept:
            append(partial, line)
        os.replace(partial, folder / name)
    return [line for line in kept if line["seed"] == seed]


def checkpoints(folder: Path, seed: int, kind: str) -> Path:
    """Return the folder of a seed's "last" or "best" checkpoint."""
    return folder / "checkpoints" / f"seed={seed}" / kind


def reached(folder: Path, seed: int) -> int | None:
    """Return the last step of which a seed has a checkpoint, None where it has not begun."""
    steps = [checkpoint.latest(checkpoints(folder, seed, kind)) for kind in ("best", "last")]
    return max((step for step in steps if step is not None), default=None)


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write result.json, all of it or nothing."""
    partial = folder / (RESULT + ".partial")
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    partial.write_text(text + "\n", encoding="utf-8", newline="\n")
    os.replace(partial, folder / RESULT)


def read_result(folder: Path) -> dict[str, Any] | None:
    """Return the result of a finished run, or None; UserError where it is damaged."""
    path = folder / RESULT
    return record.read_result(path) if path.exists() else None

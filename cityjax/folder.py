"""The run folder: made or reopened, its configuration compared, its lines written and cut."""

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cityjax.config import RunConfig, difference
from cityjax.errors import UserError
from cityjax.overrides import load_config, save_config

CONFIG, METRICS, TIMING, RESULT = "config.yaml", "metrics.jsonl", "timing.jsonl", "result.json"


def find(config: RunConfig, experiment: str) -> tuple[Path | None, dict[str, Any]]:
    """Return the run that `workdir` holds already and the choices it made; None for a new run.

    Nothing is written. Raises UserError where the folder is a file, holds another configuration or
    something else than a run, or `resume` forbids what it holds.
    """
    if config.workdir is None:
        if config.resume == "must":
            raise UserError("resume=must needs workdir=FOLDER, the run to continue")
        return None, {}
    path = Path(config.workdir)
    shown = f"workdir={path}"
    if path.exists() and not path.is_dir():
        raise UserError(f"{shown} is a file: give a folder")
    try:
        names = set(os.listdir(path)) if path.is_dir() else set()
    except OSError as error:
        raise UserError(f"{shown} cannot be read: {error.strerror}") from error
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


def create(config: RunConfig, experiment: str, source: str, resolved: Mapping[str, Any]) -> Path:
    """Make the folder of a new run and write its config.yaml; return its path.

    Without `workdir` it is runs/<experiment>/<date-time>, with a number added where that exists.
    Raises UserError where it cannot be written.
    """
    try:
        if config.workdir is not None:
            path = Path(config.workdir)
            path.mkdir(parents=True, exist_ok=True)
        else:
            path = _new_folder(Path("runs") / experiment)
        save_config(path / CONFIG, source, config, resolved)
    except OSError as error:
        place = config.workdir if config.workdir is not None else f"runs/{experiment}"
        raise UserError(f"workdir={place} cannot be written: {error.strerror}") from error
    return path


def _new_folder(parent: Path) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    parent.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1000):
        path = parent / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            path.mkdir()  # fails where another process was first
        except FileExistsError:
            continue
        return path
    raise UserError(f"{parent} holds 999 runs of this second: give workdir=FOLDER")


def append(path: Path, line: Mapping[str, Any]) -> None:
    """Add one JSON line and flush it to the disk's cache; what is not finite becomes null."""
    plain = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in line.items()
    }
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(plain, ensure_ascii=False, allow_nan=False) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a JSON-lines file; one that a kill cut off (the last) is left out."""
    if not path.exists():
        return []
    whole = path.read_bytes().rpartition(b"\n")[0].decode("utf-8").splitlines()
    return [json.loads(line) for line in whole]


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


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write result.json, all of it or nothing."""
    partial = folder / (RESULT + ".partial")
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    partial.write_text(text + "\n", encoding="utf-8", newline="\n")
    os.replace(partial, folder / RESULT)


def read_result(folder: Path) -> dict[str, Any] | None:
    """Return the result of a finished run, or None."""
    path = folder / RESULT
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

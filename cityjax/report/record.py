"""Reading a run folder, and curves out of its metric lines."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cityjax.errors import UserError

# What every line of metrics.jsonl has beside its numbers.
METRIC_KEYS = {"seed": int, "step": int, "split": str}
_NAMES = {int: "an integer of at least 0", str: "text", float: "a number"}
_RESTORE = "restore the file, or run again in another folder"
_REMAKE = "remove it and give the run's command again to make it anew"


class RunFolderError(UserError):
    """A run folder that is missing, unfinished or broken; the message is one line with the file."""


@dataclass(frozen=True)
class RunRecord:
    """What a run folder says: resolved config, metric lines in file order, and result.json.

    config: without the data's sha256, which result.json has too, and without the folder in which
    relative paths begin.
    """

    folder: Path
    config: dict[str, Any]
    metrics: list[dict[str, Any]]
    result: dict[str, Any]


def load_run(folder: str | Path) -> RunRecord:
    """Read a finished run folder.

    Raises RunFolderError for a missing folder, an unfinished run, or a missing or broken file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RunFolderError(f"{folder}: no such run folder")
    config = _read_config(folder / "config.yaml")
    if isinstance(config.get("resolved"), dict):
        for key in ("data", "folder"):
            config["resolved"].pop(key, None)
    return RunRecord(
        folder=folder,
        config=config,
        metrics=read_lines(folder / "metrics.jsonl", METRIC_KEYS),
        result=read_result(folder / "result.json"),
    )


def read_lines(path: Path, keys: Mapping[str, type]) -> list[dict[str, Any]]:
    """Read a file of JSON lines; a last one that a kill cut off is left out.

    keys: what every line must have, and its type; every other value is a number or null. Raises
    RunFolderError naming the file and the line.
    """
    *whole, rest = _read(path, "the run folder is incomplete").split(b"\n")
    lines = []
    for number, text in enumerate([*whole, rest], start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            if number > len(whole):
                break
            reason = f"is broken JSON: {getattr(error, 'msg', type(error).__name__)}"
            raise RunFolderError(f"{path}: line {number} {reason}; {_RESTORE}") from None
        if not isinstance(line, dict) or not keys.keys() <= line.keys():
            raise RunFolderError(f"{path}: line {number} lacks {_listed(keys)}; {_RESTORE}")
        for key, value in line.items():
            if not (_is(value, keys[key]) if key in keys else _is_optional(value)):
                allowed = _NAMES[keys[key]] if key in keys else "a number or null"
                reason = f"{json.dumps(key)}: {json.dumps(value)[:40]} is not {allowed}"
                raise RunFolderError(f"{path}: line {number}: {reason}; {_RESTORE}")
        lines.append(line)
    return lines


def read_result(path: Path) -> dict[str, Any]:
    """Read a result.json, metrics by lead; RunFolderError names what in it is broken."""
    content = _read(path, "the run is unfinished")
    try:
        result = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "broken JSON"
        line = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise RunFolderError(f"{path}: {reason}{line}; {_REMAKE}") from None
    for key in ("experiment", "metrics"):
        if not isinstance(result, dict) or key not in result:
            raise RunFolderError(f"{path}: broken, {key!r} is missing; {_REMAKE}")
    for key, value in result.items():
        if (fault := _fault(key, value)) is not None:
            raise RunFolderError(f"{path}: broken, {fault}; {_REMAKE}")
    return {**result, "metrics": _by_lead(result["metrics"])}


_KINDS: dict[str, type] = {
    **dict.fromkeys(("experiment", "summary"), str),
    **dict.fromkeys(("metrics", "ensemble", "baselines", "better"), dict),
    **dict.fromkeys(("protocol", "data", "versions", "timing", "defaults"), dict),
    **dict.fromkeys(("seeds", "selected_step"), list),
    "parameters": int,
}


def _fault(key: str, value: Any) -> str | None:
    """What keeps an entry of a result from being shown, None where nothing does."""
    if key in _KINDS and not _is(value, _KINDS[key]):
        return f"{key!r} is of the wrong type"
    if key in ("seeds", "selected_step") and not all(_is(item, int) for item in value):
        return f"{key!r} holds something else than integers"
    if key == "better" and not all(isinstance(way, str) for way in value.values()):
        return "'better' holds something else than text"
    if key == "baselines":
        for name, row in value.items():
            if not isinstance(row, dict) or not all(map(_is_optional, row.values())):
                return f"baseline {name!r} holds something else than numbers"
    if key == "ensemble":
        scores = value.get("metrics")
        if not isinstance(value.get("protocol"), str) or not isinstance(scores, dict):
            return "'ensemble' lacks its protocol or its metrics"
        if not all(map(_is_optional, scores.values())):
            return "'ensemble' holds something else than numbers"
    for name, entry in value.items() if key == "metrics" else ():
        if not isinstance(entry, dict) or "mean" not in entry:
            return f"metric {name!r} has no mean"
        values, half = entry.get("per_seed") or [], entry.get("ci95")
        numbers = [entry["mean"], *(values if isinstance(values, list) else ["no list"])]
        interval = half is None or (is_number(half) and half >= 0)
        if not (all(map(_is_optional, numbers)) and interval):
            return f"metric {name!r} holds something else than numbers"
    return None


def _by_lead(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics with the leads of each by number: mae@1, mae@6, mae@12, then mae@1-12.

    Older runs kept them by name.
    """
    names = list(dict.fromkeys(key.partition("@")[0] for key in metrics))

    def place(key: str) -> tuple[int, bool, int, str]:
        name, _, steps = key.partition("@")
        return names.index(name), not steps.isdecimal(), len(steps), steps

    return {key: metrics[key] for key in sorted(metrics, key=place)}


def _is(value: Any, kind: type) -> bool:
    """Whether a value of JSON is of a kind; an int counts something, a float is any number."""
    if kind is int:
        return type(value) is int and 0 <= value < 2**63
    return is_number(value) if kind is float else isinstance(value, kind)


def _is_optional(value: Any) -> bool:
    """Whether a value is a number, finite or not, or null; what a metric may be."""
    return value is None or isinstance(value, float | bool) or is_number(value)


def _listed(keys: Iterable[str]) -> str:
    *first, last = keys
    return f"{', '.join(first)} or {last}"


def _read(path: Path, when_missing: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise RunFolderError(f"{path}: missing, {when_missing}") from None
    except OSError as error:
        raise RunFolderError(f"{path}: {error.strerror}") from None


def _read_config(path: Path) -> dict[str, Any]:
    content = _read(path, "not a run folder")
    try:
        config = yaml.safe_load(content.decode("utf-8"))
    except (ValueError, ArithmeticError, RecursionError, yaml.YAMLError) as error:
        raise RunFolderError(f"{path}: broken YAML: {' '.join(str(error).split())}") from None
    if not isinstance(config, dict):
        raise RunFolderError(f"{path}: broken, expected keys and values")
    return config


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level with dotted keys: {"a": {"b": 1}} becomes {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def is_number(value: Any) -> bool:
    """True for a finite int or float, False for None, NaN, booleans and anything else."""
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and abs(value) <= sys.float_info.max


def metric_names(lines: Iterable[Mapping[str, Any]], splits: Iterable[str]) -> list[str]:
    """Names of the numbers in the metric lines of some splits: losses first, then in file order."""
    chosen = set(splits)
    names = dict.fromkeys(
        name
        for line in lines
        if line["split"] in chosen
        for name, value in line.items()
        if name not in ("seed", "step", "split") and is_number(value)
    )
    return sorted(names, key=lambda name: "loss" not in name)


def by_seed(
    lines: Iterable[Mapping[str, Any]], split: str, name: str
) -> list[tuple[np.ndarray, np.ndarray]]:
    """One metric of one split as (steps [T], values [T]) per seed; not finite or null is NaN."""
    seeds: dict[int, dict[int, float]] = {}
    for line in lines:
        if line["split"] == split and name in line:
            value = float(line[name]) if is_number(line[name]) else np.nan
            seeds.setdefault(line["seed"], {})[line["step"]] = value
    return [(np.array(list(p)), np.array(list(p.values()))) for p in seeds.values()]


def seed_mean(single: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean over seeds of (steps, values) pairs, at the steps that every seed has."""
    steps = sorted(set.intersection(*(set(steps.tolist()) for steps, _ in single)))
    columns = [dict(zip(steps.tolist(), values, strict=True)) for steps, values in single]
    return np.array(steps), np.array([np.mean([c[step] for c in columns]) for step in steps])

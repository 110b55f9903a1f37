"""Reading a run folder, and curves out of its metric lines."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cityjax.errors import UserError


class RunFolderError(UserError):
    """A run folder that is missing, unfinished or broken; the message is one line with the file."""


@dataclass(frozen=True)
class RunRecord:
    """What a run folder says: resolved config, metric lines in file order, and result.json."""

    folder: Path
    config: dict[str, Any]
    metrics: list[dict[str, Any]]
    result: dict[str, Any]


def load_run(folder: str | Path) -> RunRecord:
    """Read a finished run folder.

    A last metrics line cut off by a kill (no newline at the end) is left out.
    Raises RunFolderError for a missing folder, an unfinished run, or a missing or broken file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RunFolderError(f"{folder}: no such run folder")
    config_text = _read(folder / "config.yaml", "not a run folder")
    result_text = _read(folder / "result.json", "the run is unfinished")
    metrics_text = _read(folder / "metrics.jsonl", "the run folder is incomplete")
    return RunRecord(
        folder=folder,
        config=_parse_config(folder / "config.yaml", config_text),
        metrics=_parse_metrics(folder / "metrics.jsonl", metrics_text),
        result=_parse_result(folder / "result.json", result_text),
    )


def _read(path: Path, when_missing: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RunFolderError(f"{path}: missing, {when_missing}") from None
    except OSError as error:
        raise RunFolderError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RunFolderError(f"{path}: not UTF-8 text at byte {error.start}") from None


def _parse_config(path: Path, text: str) -> dict[str, Any]:
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RunFolderError(f"{path}: broken YAML: {' '.join(str(error).split())}") from None
    if not isinstance(config, dict):
        raise RunFolderError(f"{path}: broken, expected keys and values")
    return config


def _parse_metrics(path: Path, text: str) -> list[dict[str, Any]]:
    *whole, rest = text.split("\n")
    lines = []
    for number, line in enumerate([*whole, rest], start=1):
        try:
            values = json.loads(line) if line.strip() else None
        except json.JSONDecodeError as error:
            if number == len(whole) + 1:
                break
            raise RunFolderError(f"{path}: line {number} is broken JSON: {error.msg}") from None
        if values is None:
            continue
        if not isinstance(values, dict) or not {"seed", "step", "split"} <= values.keys():
            raise RunFolderError(f"{path}: line {number} lacks seed, step or split")
        lines.append(values)
    return lines


def _parse_result(path: Path, text: str) -> dict[str, Any]:
    try:
        result = json.loads(text)
    except json.JSONDecodeError as error:
        raise RunFolderError(f"{path}: broken JSON at line {error.lineno}: {error.msg}") from None
    for key, kind in {"experiment": str, "metrics": dict}.items():
        if not isinstance(result, dict) or not isinstance(result.get(key), kind):
            raise RunFolderError(f"{path}: broken, {key!r} is missing or of the wrong type")
    for key in ("baselines", "better", "protocol", "data", "versions", "timing"):
        if not isinstance(result.get(key, {}), dict):
            raise RunFolderError(f"{path}: broken, {key!r} is of the wrong type")
    for key, entry in result["metrics"].items():
        if not isinstance(entry, dict) or "mean" not in entry:
            raise RunFolderError(f"{path}: broken, metric {key!r} has no mean")
    return result


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
    return is_real and math.isfinite(value)


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

"""docs/results/performance.md, and the JSON files behind it: what was measured, and where."""

import contextlib
import importlib.util
import json
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks import end_to_end, peers, profile
from benchmarks.results import DOCS, commit, cpu

FOLDER, PAGE = DOCS / "performance", DOCS / "performance.md"
SECTIONS = {
    "peers": peers.section,
    "peers_gpu": peers.gpu_section,
    "profile": profile.section,
    "end_to_end": end_to_end.section,
}
PACKAGES = ("jax", "flax", "torch")


def read(name: str) -> dict[str, Any]:
    """Return what a command has measured so far, {} at first."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def keep(name: str, found: dict[str, Any]) -> None:
    """Keep what a command has measured, and write the page."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")


def measured(device: str = "cpu") -> str:
    """Say what is measured here and now: commit, day, processors, versions of what is installed."""
    processors, versions = [cpu()], []
    if device == "gpu":
        ask = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        processors += subprocess.check_output(ask, text=True).strip().splitlines()[:1]
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions.append(f"{package} {version(package)}")
    return f"commit {commit()}, {time.strftime('%Y-%m-%d')}, {', '.join(processors + versions)}"


def need_torch() -> None:
    """End the command in one line where PyTorch is not installed."""
    if importlib.util.find_spec("torch") is None:
        sys.exit(
            "PyTorch is not installed: pip install '.[bench]'. On Linux its default build brings"
            " CUDA, gigabytes of it; PyTorch's own build for CPUs will do."
        )


def page() -> str:
    """Return the page, from the JSON files that are there."""
    lines = ["# Performance", ""]
    for name, section in SECTIONS.items():
        if found := read(name):
            lines += [*section(found), ""]
    return "\n".join(lines)

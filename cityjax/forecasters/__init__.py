"""The forecasters: `model=NAME` of every forecasting experiment, one small module each.

A module holds the network, or takes one from `models`, a function that makes it for a problem, and
`MODELS`, which offers the function by name: `{"stid": Choice(stid, {option: one line of help})}`.
Modules are found by being here; one whose name starts with `_` offers nothing.
"""

import importlib
from pathlib import Path

from cityjax.choices import Choice


def available() -> dict[str, Choice]:
    """Return what every module of this folder offers, by name, sorted."""
    found: dict[str, Choice] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem.startswith("_"):
            continue
        offered = importlib.import_module(f"{__name__}.{path.stem}").MODELS
        if twice := found.keys() & offered.keys():
            raise ValueError(f"{path}: there is a forecaster {min(twice)!r} already")
        found |= offered
    return dict(sorted(found.items()))

"""The notebook runs from top to bottom on eight forced CPU devices, and is committed clean."""

import importlib.util
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from packaging.requirements import Requirement

NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebooks" / "colab.ipynb"


def outputs(cell):
    """Everything a cell printed or showed as text."""
    texts = [output.get("text", "") for output in cell.get("outputs", [])]
    texts += [output.get("data", {}).get("text/plain", "") for output in cell.get("outputs", [])]
    return "\n".join(texts)


def test_it_is_committed_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


def test_its_installation_leaves_the_installed_jax_alone(tmp_path, monkeypatch):
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    (cell,) = [cell for cell in cells if "pip" in cell.source and cell.cell_type == "code"]
    commands = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # cityjax is missing
    monkeypatch.setattr(subprocess, "run", lambda command, *, check: commands.append(command))
    monkeypatch.chdir(tmp_path)
    exec(cell.source, {})
    # No option that upgrades, reinstalls or looks elsewhere: only what the constraints allow.
    pip = [sys.executable, "-m", "pip", "install", "-q", "-c", "constraints.txt"]
    assert commands == [[*pip, "./cityjax"]]
    pins = (tmp_path / "constraints.txt").read_text().splitlines()
    for name in ("jax", "jaxlib", "numpy", "flax", "optax"):
        assert f"{name}=={version(name)}" in pins
    # The installed ones satisfy what the package asks for, so that the pins can be kept, and the
    # accelerators' own plug-ins are only asked for by name.
    project = tomllib.loads((NOTEBOOK.parents[2] / "pyproject.toml").read_text())["project"]
    asked = {Requirement(text).name: Requirement(text) for text in project["dependencies"]}
    for name in ("jax", "jaxlib"):
        assert version(name) in asked[name].specifier and not asked[name].extras


# Jupyter's own event loop and sockets, which live in another process.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_it_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.setenv("CITYJAX_NOTEBOOK_STEPS", "16")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    (trained,) = [cell for cell in cells if "run(" in cell.source and "gan_mnist" in cell.source]
    assert "8 x cpu (pmap)" in outputs(trained) and "test/frechet_distance" in outputs(trained)
    images = sum(
        "image/png" in output.get("data", {}) for cell in cells for output in cell["outputs"]
    )
    assert images >= 1 + 8 + 1  # the grid, a snapshot at each evaluation, and the sample
    one, all_devices = [outputs(cell) for cell in cells if "score(" in cell.source]
    assert "pmap on 8 devices" in all_devices
    assert one.strip().splitlines()[-1][:12] == all_devices.strip().splitlines()[-1][:12]

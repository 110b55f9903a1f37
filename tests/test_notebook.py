"""The notebook runs from top to bottom on eight forced CPU devices, and is committed clean."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

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

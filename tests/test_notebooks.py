"""The notebooks run from top to bottom, and hold no output that could grow stale."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
QUICKER = {'scn.load("small")': 'scn.load("nano")', 'scn.open("sample")  #': 'scn.open("sample-real")  #'}
"""Smaller weights and a shorter recording for what the notebooks show."""

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def read(path):
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    return nbformat.read(path, as_version=4)


def test_there_are_notebooks():
    assert {path.stem for path in NOTEBOOKS} == {"detect", "train_and_fine_tune", "look_inside"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_valid_and_without_outputs(path):
    import nbformat

    notebook = read(path)
    nbformat.validate(notebook)
    assert not [cell for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    client = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    if path.stem == "train_and_fine_tune":
        pytest.importorskip("lightning", reason="lightning is not installed")
    source = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    monkeypatch.setenv("PYTHONPATH", source)
    notebook = read(path)
    for cell in notebook.cells:
        for shown, quicker in QUICKER.items():
            cell.source = cell.source.replace(shown, quicker)
    runner = client.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    runner.execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    assert any("image/png" in output["data"] for output in shown)

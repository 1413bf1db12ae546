"""The notebooks run from top to bottom, and hold no output that could grow stale."""

from pathlib import Path

import pytest
from tiers import thorough

ROOT = Path(__file__).resolve().parents[1]
QUICKER = {'scn.load("small")': 'scn.load("nano")', 'scn.open("sample")': 'scn.open("sample-real")'}
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


@pytest.fixture(scope="module")
def kernel(subprocess_env):
    """One kernel for all notebooks, which imports torch once; each begins in a folder of its own and without a name."""
    for module in ("nbclient", "ipykernel"):
        pytest.importorskip(module, reason=f"{module} is not installed")
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_core.utils import run_sync

    manager = AsyncKernelManager(kernel_name="python3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", subprocess_env["PYTHONPATH"])
        yield manager
    if manager.has_kernel:
        run_sync(manager.shutdown_kernel)(now=True)


QUICK = [path for path in NOTEBOOKS if path.stem == "look_inside"]


@pytest.mark.slow
@pytest.mark.parametrize("path", [*QUICK, *thorough(*sorted(set(NOTEBOOKS) - set(QUICK)))], ids=lambda path: path.stem)
def test_a_notebook_runs(path, kernel, tmp_path):
    import nbclient
    import nbformat

    if path.stem == "train_and_fine_tune":
        pytest.importorskip("lightning", reason="lightning is not installed")
    notebook = read(path)
    for cell in notebook.cells:
        for shown, quicker in QUICKER.items():
            cell.source = cell.source.replace(shown, quicker)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(f"%reset -f\n%cd -q {tmp_path}"))
    client = nbclient.NotebookClient(notebook, timeout=600, km=kernel)
    client.execute()
    client.kc.stop_channels()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    assert any("image/png" in output["data"] for output in shown)

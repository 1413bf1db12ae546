import os
from pathlib import Path

import pytest
import shape_checks
from jaxtyping import install_import_hook

# Before any test imports the package: the hook works on what is imported after it.
install_import_hook(shape_checks.ROOMS, "shape_checks.checked")

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared"


def _existing(folder: Path) -> Path:
    folder = folder.resolve()
    if not folder.is_dir():
        pytest.fail(f"test data missing: {folder} is not a folder; place the shared data beside the repository")
    return folder


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    return _existing(SHARED / "golden")


@pytest.fixture(scope="session")
def recordings_dir() -> Path:
    return _existing(SHARED / "recordings")


@pytest.fixture(scope="session")
def subprocess_env() -> dict[str, str]:
    """The environment in which a child process imports this package, installed or not."""
    source = str(Path(__file__).resolve().parents[1] / "src")
    return os.environ | {"PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}

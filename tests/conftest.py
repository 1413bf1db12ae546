import os
from pathlib import Path

import pytest
import shape_checks
from jaxtyping import install_import_hook

# Before any test imports the package: the hook works on what is imported after it.
install_import_hook(shape_checks.MODULES, "shape_checks.checked")

TESTS = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    return TESTS / "golden"


@pytest.fixture(scope="session")
def recordings_dir() -> Path:
    return TESTS / "recordings"


@pytest.fixture(scope="session")
def subprocess_env() -> dict[str, str]:
    """The environment in which a child process imports this package, installed or not."""
    source = str(TESTS.parent / "src")
    return os.environ | {"PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}

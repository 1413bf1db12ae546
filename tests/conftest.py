import os
from pathlib import Path

import pytest
import shape_checks
from jaxtyping import install_import_hook

# Before any test imports the package: the hook works on what is imported after it.
install_import_hook(shape_checks.MODULES, "shape_checks.checked")

TESTS = Path(__file__).resolve().parent


def pytest_collection_modifyitems(config, items):
    """Hand files with slow tests out first, where processes share them: none has one left over at the end."""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


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

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[1] / ".." / "shared"


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    return SHARED / "golden"


@pytest.fixture(scope="session")
def recordings_dir() -> Path:
    return SHARED / "recordings"

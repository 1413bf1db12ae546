"""The engine's tests run with the native kernels and without."""

import pytest

from spiking_centernet.deploy.engine import engine
from spiking_centernet.ops.library import native


@pytest.fixture(params=["native", "torch"])
def kernels(request, monkeypatch):
    """With the native library and as if there were none."""
    if request.param == "torch":
        monkeypatch.setattr(engine, "native", lambda: None)
    elif native() is None:
        pytest.skip("the native library is not built")

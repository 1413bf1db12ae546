import gc
import multiprocessing
import os
import random
import sys
from pathlib import Path

import hypothesis
import numpy as np
import processes
import pytest
import shape_checks
import torch
from jaxtyping import install_import_hook

# Whatever the shell says: else every process that a test starts compiles the package's modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Before any test imports the package: the hook works on what is imported after it.
install_import_hook(shape_checks.MODULES, "shape_checks.checked")

TESTS = Path(__file__).resolve().parent
SIMULATOR = TESTS / "simulate"

# The same examples in every run, however slow the machine is just then.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")


NUM_THREADS = torch.get_num_threads()


def seed_everything():
    """Let no test depend on what ran before it in the same process."""
    if torch.get_num_threads() != NUM_THREADS:  # a recipe or a benchmark may have set its own
        torch.set_num_threads(NUM_THREADS)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  for code that draws from the global state
    random.seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    seed_everything()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    seed_everything()


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Look for no garbage among modules and tests: they stay, and going through them takes a twentieth of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_collection_modifyitems(config, items):
    """Call what needs a browser slow; hand out the simulator, then files with slow tests, where processes share them.

    So none has a long one left over at the end.
    """
    for item in items:
        if "browser" in item.fixturenames:
            item.add_marker("slow")
    if hasattr(config, "workerinput") and not config.getoption("random_order_enabled", False):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: (not item.path.is_relative_to(SIMULATOR), item.path not in slow))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keep the simulator's tests in one process: its kernels take most of a minute to compile."""
    from xdist.scheduler import LoadFileScheduling

    class OneSimulator(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return "simulator" if (TESTS.parent / file).is_relative_to(SIMULATOR) else file

    return OneSimulator(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(scope="session", autouse=True)
def plain_curves():
    """Let trainings write one pixel for their curves, which matplotlib draws for longer than the smallest train.

    ``tests/training/test_curves.py`` draws them.
    """
    from spiking_centernet.training import run_dir
    from spiking_centernet.visualize.draw import save_png

    def one_pixel(columns, path, *, panels):
        assert {name for names in panels.values() for name in names} | {"step"} <= columns.keys()
        save_png(np.zeros((1, 1, 3), np.uint8), path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_dir, "curves_plot", one_pixel)
        yield


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


@pytest.fixture
def fork_pools(monkeypatch):
    """Let pools whose processes are spawned fork them from one that has imported, as :mod:`processes` says."""
    real, server = multiprocessing.get_context, processes.server()
    monkeypatch.setattr(multiprocessing, "get_context", lambda kind: server if kind == "spawn" else real(kind))


@pytest.fixture(scope="session")
def in_new_process(tmp_path_factory):
    """A function that calls another in a process of its own: ``in_new_process(function, *args, SOME_VARIABLE="1")``."""
    return lambda *given, **environment: processes.call(
        *given, folder=tmp_path_factory.mktemp("process"), **environment
    )


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """One headless Chromium for all tests of a process."""
    import chromium

    if chromium.EXECUTABLE is None:
        pytest.skip("Chromium is not installed")
    opened = chromium.Chromium(tmp_path_factory.mktemp("chromium"))
    yield opened
    opened.close()

"""New processes that hold nothing of the tests', without importing torch and the like for seconds each time."""

import importlib
import multiprocessing
import os
import subprocess
from multiprocessing.context import BaseContext
from pathlib import Path

PRELOADED = [
    "spiking_centernet.experiments.study.runs", "spiking_centernet.experiments.batch",
    "spiking_centernet.simulate.dataset", "lightning.fabric", "matplotlib.pyplot", "torch.utils.tensorboard",
]  # fmt: skip
"""What takes long to import: the package, and what it imports when it trains."""


def server() -> BaseContext:
    """Return a context whose processes are as if spawned, but forked, where the system can, from one that has imported.

    One process of tests starts one such server, when it needs it first.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def call(function, *args, folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """Call a function of a test module in a process of its own, with changes to the environment.

    Returns:
        Its exit code, 1 after an error, and what it printed, which passes through files of the folder.
    """
    paths = folder / "stdout", folder / "stderr"
    given = function.__module__, function.__name__, args, os.environ | environment, paths
    child = server().Process(target=_call, args=given)  # pyright: ignore[reportAttributeAccessIssue]
    child.start()
    child.join(900)
    if child.is_alive():
        child.kill()
        raise TimeoutError(paths[1].read_text())
    return subprocess.CompletedProcess(function.__name__, child.exitcode, *(path.read_text() for path in paths))


def _call(module, name, args, environment, paths) -> None:
    for number, path in enumerate(paths, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    getattr(importlib.import_module(module), name)(*args)

"""What every target of the fuzzers needs: files in memory and a few events."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from spiking_centernet.structures import EVENT_DTYPE

SIZE_HW = (24, 40)


@cache
def folder() -> Path:
    """A folder in memory where the machine has one: a fuzzer writes a file an input."""
    shared = Path("/dev/shm")
    made = tempfile.mkdtemp(prefix="scn_fuzz_", dir=shared if shared.is_dir() else None)
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def file(data: bytes, name: str) -> Path:
    path = folder() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    # A new file each time: the last input's may still be mapped.
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    return path


def some_events(num: int) -> np.ndarray:
    rng = np.random.default_rng(num)
    events = np.zeros(num, EVENT_DTYPE)
    events["t"], events["p"] = np.sort(rng.integers(0, 100_000, num)), rng.integers(0, 2, num)
    events["x"], events["y"] = rng.integers(0, SIZE_HW[1], num), rng.integers(0, SIZE_HW[0], num)
    return events

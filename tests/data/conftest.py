import numpy as np
import pytest

from spiking_centernet.structures import EVENT_DTYPE


@pytest.fixture(scope="session")
def random_events():
    """Sorted random events on a sensor of ``size_hw`` that span about ``duration_us``."""

    def make(num_events, *, size_hw=(24, 32), duration_us=500_000, seed=0):
        rng = np.random.default_rng(seed)
        events = np.empty(num_events, EVENT_DTYPE)
        events["t"] = np.sort(rng.integers(0, duration_us, num_events))
        events["x"] = rng.integers(0, size_hw[1], num_events)
        events["y"] = rng.integers(0, size_hw[0], num_events)
        events["p"] = rng.integers(0, 2, num_events)
        return events

    return make


@pytest.fixture(scope="session")
def dat_bytes():
    """Bytes of a DAT file from header lines, type, size and (t, x, y, p) tuples."""

    def make(events=(), *, lines=("Version 2", "Height 240", "Width 304"), kind=0, size=8, bits=(14, 14)):
        header = "".join(f"% {line}\n" for line in lines).encode()
        records = [(t, x | y << bits[0] | p << sum(bits)) for t, x, y, p in events]
        return header + bytes([kind, size]) + np.array(records, "<u4").tobytes()

    return make

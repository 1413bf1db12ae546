"""Events to DAT files (version 2, type 0), chunk by chunk; the bytes are described in ``dat.py``."""

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

from spiking_centernet.data._kernels import (
    RAW_DTYPE,
)
from spiking_centernet.data.formats.dat import COORDINATE_BITS, MAX_SIDE, MAX_TIME_US, RECORD_BYTES
from spiking_centernet.data.voxel import check_events
from spiking_centernet.errors import ConfigError, EventFileError
from spiking_centernet.utils.files import atomic_write


class DatWriter:
    """Writes a DAT file chunk by chunk; the file appears under its name when the block ends well.

    >>> with DatWriter("drive_td.dat", (240, 304)) as writer:
    ...     writer.append(events)
    """

    def __init__(self, path: str | os.PathLike[str], size_hw: tuple[int, int]):
        """Prepare to write; ``size_hw`` is height and width in pixels.

        Raises:
            ConfigError: the size does not fit the format.
        """
        if not all(0 < side <= MAX_SIDE for side in size_hw):
            raise ConfigError(f"size_hw must be 1 to {MAX_SIDE} each, got {size_hw}")
        self.path = Path(path)
        self.size_hw = (int(size_hw[0]), int(size_hw[1]))
        self.num_events = 0
        self._latest_us = 0
        self._file: BinaryIO | None = None

    def __enter__(self) -> "DatWriter":
        self._atomic = atomic_write(self.path)
        temporary = self._atomic.__enter__()
        self._file = temporary.open("wb")
        height, width = self.size_hw
        lines = ("Data file containing Event2D events.", "Version 2", f"Height {height}", f"Width {width}")
        self._file.write("".join(f"% {line}\n" for line in lines).encode() + bytes([0, RECORD_BYTES]))
        return self

    def __exit__(self, *failure):
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:  # the last bytes found no room
                return self._atomic.__exit__(type(error), error, error.__traceback__)
        return self._atomic.__exit__(*failure)

    def append(self, events: np.ndarray) -> None:
        """Write events, sorted by time and none before those written already.

        Raises:
            EventFileError: an event is out of order, outside the sensor, or does not fit the format; the error names
                its index in this recording.
            ConfigError: ``events`` are not EVENT_DTYPE, or the writer is not open.
        """
        if self._file is None:
            raise ConfigError(f"{self.path}: the writer is not open; use it in a with block")
        if not len(check_events(events)):
            return
        t = events["t"]
        height, width = self.size_hw
        before = np.concatenate(([self._latest_us], t[:-1]))
        self._refuse(t < before, events, "is earlier than the one before (or than 0); sort the events by t first")
        self._refuse(t > MAX_TIME_US, events, f"is later than {MAX_TIME_US} us, the format's last; shift the times")
        self._refuse((events["x"] >= width) | (events["y"] >= height), events, f"lies outside {width} x {height}")
        self._refuse(events["p"] > 1, events, "has a polarity other than 0 and 1")
        records = np.empty(len(events), RAW_DTYPE)
        records["t"] = t
        x_bits, y_bits = COORDINATE_BITS[2]
        records["w"] = (
            events["x"].astype(np.uint32)
            | events["y"].astype(np.uint32) << x_bits
            | events["p"].astype(np.uint32) << (x_bits + y_bits)
        )
        self._file.write(records.tobytes())
        self._latest_us = int(t[-1])
        self.num_events += len(events)

    def _refuse(self, bad: np.ndarray, events: np.ndarray, why: str) -> None:
        if bad.any():
            index = int(np.argmax(bad))
            t, x, y, p = events[index].tolist()
            raise EventFileError(f"{self.path}: event {self.num_events + index} (t {t} us, x {x}, y {y}, p {p}) {why}")


def write_dat(path: str | os.PathLike[str], events: np.ndarray, size_hw: tuple[int, int]) -> None:
    """Write sorted events to a DAT file (version 2, type 0), whole or not at all.

    Args:
        path: the file to create or replace.
        events: EVENT_DTYPE, sorted by time.
        size_hw: height and width of the sensor in pixels.

    Raises:
        EventFileError: see ``DatWriter.append``.
    """
    with DatWriter(path, size_hw) as writer:
        writer.append(events)

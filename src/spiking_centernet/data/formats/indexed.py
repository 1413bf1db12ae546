"""Recordings in blocks: a format says how to decode a block, an index made on opening finds those of a window."""

import importlib
import os
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np

from spiking_centernet.data._kernels import PAIRED_DTYPE
from spiking_centernet.data.formats.dat import MAX_TIME_US
from spiking_centernet.data.recording import Recording, check_size
from spiking_centernet.data.voxel import MAX_TIME_US as LATEST_US
from spiking_centernet.errors import EventFileError
from spiking_centernet.structures import EVENT_DTYPE

BLOCK_EVENTS = 1 << 16
"""Events in a block where the format lets us choose: 0.8 MB decoded, a millisecond of work."""

INSTALL = "pip install 'spiking-centernet[formats]'"


class BlockRecording(Recording):
    """A recording that is decoded block by block, whatever its size: in memory are an index and the block last read.

    Opening decodes every block once to learn where its times begin and end, which events are out of order, and whether
    all of them lie on the sensor. Times are the running maximum of the stored ones, as in a DAT file.

    A format makes the blocks with :meth:`_blocks`, decodes one again with :meth:`_decode` and says with :meth:`_place`
    where in the file an event stands.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, kind: str, size_hw: tuple[int, int] | None, own_clock: bool = False
    ):
        """Index the blocks.

        Args:
            path: the file.
            kind: the format, in words.
            size_hw: height and width in pixels; None takes the smallest that holds the events, and says so.
            own_clock: the file counts from something other than the recording's start, so the first event is moved to
                0 microseconds. Without it only times beyond the 71 minutes of a DAT file are moved.

        Raises:
            EventFileError: the file is damaged, an event lies outside the sensor or any clock, the size is no
                sensor's, or neither the file nor the caller nor the events tell one.
        """
        self.path = Path(path)
        self.kind = kind
        self._last: tuple[int, np.ndarray] = (-1, np.empty(0, EVENT_DTYPE))
        self._index(self._blocks(), size_hw, own_clock)

    @abstractmethod
    def _blocks(self) -> Iterable[tuple[Any, np.ndarray]]:
        """Yield every block's key and its events, EVENT_DTYPE with the stored times; the array may be written to."""

    @abstractmethod
    def _decode(self, key: Any) -> np.ndarray:
        """Return the events of a block again."""

    def _place(self, key: Any, index: int) -> str:
        """Return where in the file event ``index`` of a block stands, in words to follow "event 7"."""
        return ""

    def _index(
        self, blocks: Iterable[tuple[Any, np.ndarray]], size_hw: tuple[int, int] | None, own_clock: bool
    ) -> None:
        keys: list[Any] = []
        rows: list[tuple[int, int, int]] = []  # the running maximum before a block, at its first and at its last event
        latest, late, total, largest = 0, 0, 0, [0, 0]
        if size_hw is not None:
            check_size(self.path, size_hw)
        height, width = size_hw or (1 << 16, 1 << 16)
        for key, events in blocks:
            if not len(events):
                continue
            if not keys:
                latest = int(events["t"][0])
            before = latest
            late_here, outside, untimely, y, x, latest = map(
                int, settle(events.view(PAIRED_DTYPE), before, height, width)
            )
            if outside >= 0:
                raise EventFileError(
                    f"{self.path}: event {total + outside}{self._place(key, outside)} lies at "
                    f"x {events['x'][outside]}, y {events['y'][outside]}, outside the {width} x {height} sensor; "
                    "if the size is wrong give size_hw, else copy the file again"
                )
            if untimely >= 0:
                raise EventFileError(
                    f"{self.path}: event {total + untimely}{self._place(key, untimely)} has a time before 0 or after "
                    f"{LATEST_US} microseconds; count its times in microseconds from the recording's start"
                )
            keys.append(key)
            rows.append((before, int(events["t"][0]), latest))
            late, total = late + late_here, total + len(events)
            largest = [max(largest[0], y), max(largest[1], x)]
        self._keys = keys
        self._before, self._first, self._through = np.array(rows, np.int64).reshape(-1, 3).T
        self.num_events = total
        self.num_unsorted = late
        first_us = int(self._first[0]) if total else 0
        self.clock_us = first_us if own_clock or first_us > MAX_TIME_US else 0
        self.start_us = first_us - self.clock_us
        self.stop_us = latest - self.clock_us + 1 if total else 0
        self.size_hw = size_hw or self._infer_size(largest[0] + 1, largest[1] + 1)
        if late:
            warnings.warn(
                f"{self.path}: {late} of {total} events are not in order of time; each takes the latest time before it",
                stacklevel=5,
            )

    def _infer_size(self, height: int, width: int) -> tuple[int, int]:
        if not self.num_events:
            raise EventFileError(f"{self.path}: has neither a sensor size nor events; give size_hw")
        check_size(self.path, (height, width))
        warnings.warn(
            f"{self.path}: the file does not say the sensor's size; {width} x {height} (width x height) is the "
            "smallest that holds its events; give size_hw to be exact",
            stacklevel=6,
        )
        return height, width

    def _read(self, start_us: int, stop_us: int) -> np.ndarray:
        start, stop = start_us + self.clock_us, stop_us + self.clock_us
        low = int(np.searchsorted(self._through, start))
        high = int(np.searchsorted(self._first, stop))
        parts = [_between(self._block(k), start, stop) for k in range(low, high)]
        events = np.concatenate([np.empty(0, EVENT_DTYPE), *parts])
        events["t"] -= self.clock_us
        return events

    def _block(self, k: int) -> np.ndarray:
        if self._last[0] != k:
            events = self._decode(self._keys[k])
            settle(events.view(PAIRED_DTYPE), int(self._before[k]), 1 << 16, 1 << 16)
            self._last = (k, events)
        return self._last[1]


def _between(events: np.ndarray, start: int, stop: int) -> np.ndarray:
    if events["t"][0] >= start and events["t"][-1] < stop:
        return events
    first, last = np.searchsorted(np.ascontiguousarray(events["t"]), (start, stop))
    return events[first:last]


@numba.njit(cache=True, nogil=True)
def settle(events, latest, height, width):
    """Give PAIRED_DTYPE events the running maximum of time from ``latest`` on.

    Returns:
        how many came late, the first one outside the sensor and the first before 0 or after LATEST_US (-1 if none), the
        largest y and x, and the latest time.
    """
    late, outside, untimely, largest_y, largest_x = 0, -1, -1, 0, 0
    for i in range(len(events)):
        t = events[i].t
        if (t < 0 or t > LATEST_US) and untimely < 0:
            untimely = i
        if t < latest:
            late += 1
            events[i].t = latest
        else:
            latest = t
        x, y = np.int64(events[i].xy & np.uint32(0xFFFF)), np.int64(events[i].xy >> np.uint32(16))
        if (x >= width or y >= height) and outside < 0:
            outside = i
        largest_x, largest_y = max(largest_x, x), max(largest_y, y)
    return late, outside, untimely, largest_y, largest_x, latest


def spans(length: int, step: int) -> Iterator[tuple[int, int]]:
    """Yield ``[start, stop)`` pairs that cover ``length`` in steps."""
    for start in range(0, length, step):
        yield start, min(start + step, length)


def needed(path: Path, module: str) -> Any:
    """Return an optional module.

    Raises:
        EventFileError: it is not installed; the error names the line that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise EventFileError(f"{path}: reading it needs {error.name}, which is not installed; {INSTALL}") from error


def open_bytes(path: Path) -> Any:
    """Open a file for reading bytes.

    Raises:
        EventFileError: it cannot be read, or is empty.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise EventFileError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    if not path.stat().st_size:
        file.close()
        raise EventFileError(f"{path}: the file is empty; copy or record it again")
    return file

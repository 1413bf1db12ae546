"""Recordings in blocks: a format says how to decode a block, an index made on opening finds those of a window."""

import os
import tempfile
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from spiking_centernet.data._kernels import DISORDER_US, PAIRED_DTYPE
from spiking_centernet.data.formats.dat import MAX_TIME_US
from spiking_centernet.data.formats.timeline import (
    ISOLATED_US,
    SORT_LIMIT,
    WRAP_US,
    WRONG_PLACE,
    Timeline,
    is_disordered,
    plan,
    tolerable,
)
from spiking_centernet.data.recording import Recording, check_size
from spiking_centernet.data.voxel import MAX_TIME_US as LATEST_US
from spiking_centernet.errors import EventFileError
from spiking_centernet.structures import EVENT_DTYPE
from spiking_centernet.utils.compile_cache import compiled

BLOCK_EVENTS = 1 << 16
"""Events in a block where the format lets us choose: 0.8 MB decoded, a millisecond of work."""


class BlockRecording(Recording):
    """A recording that is decoded block by block, whatever its size: in memory are an index and the block last read.

    Opening decodes every block once to learn where its times begin and end, which events are out of order, and whether
    all of them lie on the sensor. Times are the running maximum of the stored ones, as in a DAT file. Where the clock
    jumps or events lie outside, they are decoded again and repaired; see ``timeline``.

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
        self._timeline: Timeline | None = None
        self._sorted: np.ndarray | None = None
        self._is_clean = True
        self._index(size_hw, own_clock)

    @abstractmethod
    def _blocks(self) -> Iterable[tuple[Any, np.ndarray]]:
        """Yield every block's key and its events, EVENT_DTYPE with the stored times; the array may be written to."""

    @abstractmethod
    def _decode(self, key: Any) -> np.ndarray:
        """Return the events of a block again."""

    def _place(self, key: Any, index: int) -> str:
        """Return where in the file event ``index`` of a block stands, in words to follow "event 7"."""
        return ""

    def _index(self, size_hw: tuple[int, int] | None, own_clock: bool) -> None:
        if size_hw is not None:
            check_size(self.path, size_hw)
        found = np.zeros(1, _SURVEY)
        found["latest"] = found["first_outside"] = found["first_untimely"] = found["first_gap"] = -1
        keys: list[Any] = []
        firsts: list[int] = []
        rows: list[tuple[int, int, int]] = []  # the running maximum before a block, at its first and at its last event
        for key, events in self._blocks():
            if len(events):
                keys.append(key)
                firsts.append(int(found["total"][0]))
                before = int(found["latest"][0])
                settle(events.view(PAIRED_DTYPE), found, *(size_hw or (WRONG_PLACE, WRONG_PLACE)))
                first_us = int(events["t"][0])
                rows.append((before if len(rows) else first_us, first_us, int(found["latest"][0])))
        self._keys, self._firsts, self._rows = keys, firsts, np.array(rows, np.int64).reshape(-1, 3)
        survey = found[0]
        total = self.num_stored = int(survey["total"])
        self.num_unsorted = int(survey["late"])
        self.size_hw = size_hw or self._infer_size(total, int(survey["y"]) + 1, int(survey["x"]) + 1)
        limit = tolerable(total)
        if survey["outside"] > limit:
            raise EventFileError(self._outside(survey))
        isolated = 0 <= survey["first_gap"] <= limit or 0 < total - survey["last_gap"] <= limit < total
        if (
            survey["untimely"]
            or survey["back_us"] > DISORDER_US
            or is_disordered(int(survey["late"]), total)
            or isolated
        ):
            self._timeline = plan((events for _, events in self._blocks_again()), self.size_hw, total)
        if self._timeline is not None or survey["outside"]:
            self._repair(survey, limit)
        self.num_events = total - self.num_dropped
        self._before, self._first, self._through = self._rows.T
        first_us = int(self._first[0]) if self.num_events else 0
        self.clock_us = first_us if own_clock or first_us > MAX_TIME_US else 0
        self.start_us = first_us - self.clock_us
        self.stop_us = int(self._through[-1]) - self.clock_us + 1 if self.num_events else 0
        if self._timeline is not None:
            self.restarts_us = tuple(t_us - self.clock_us for t_us in self._timeline.restarts_us)
        self._report(survey)

    def _repair(self, survey: np.void, limit: int) -> None:
        """Leave out what is bad, sort what is out of order, and index what remains."""
        self._is_clean = False
        if self._timeline is not None and not self._timeline.in_order:
            if survey["untimely"] > limit:
                self._refuse_times(survey)
            self._sort()
        keys: list[Any] = []
        firsts: list[int] = []
        rows: list[tuple[int, int, int]] = []
        num_kept, found = 0, np.zeros(1, _SURVEY)
        found["latest"] = -1
        for key, first in zip(self._keys, self._firsts, strict=True):
            events = self._cleaned(key, first)
            if len(events):
                before = int(found["latest"][0])
                settle(events.view(PAIRED_DTYPE), found, *self.size_hw)
                first_us = int(events["t"][0])
                keys.append(key)
                firsts.append(first)
                rows.append((before if len(rows) else first_us, first_us, int(found["latest"][0])))
                num_kept += len(events)
        self.num_dropped = self.num_stored - num_kept
        if self.num_dropped > limit:
            if survey["untimely"] > limit:
                self._refuse_times(survey)
            raise EventFileError(
                f"{self.path}: {self.num_dropped} of {self.num_stored} events are bad ({self._what_is_bad(survey)}), "
                f"more than the {limit} that may be left out; record or export it again"
            )
        if self._sorted is None:
            self.num_unsorted = int(found["late"][0])
        self._keys, self._firsts, self._rows = keys, firsts, np.array(rows, np.int64).reshape(-1, 3)

    def _refuse_times(self, survey: np.void) -> None:
        raise EventFileError(
            f"{self.path}: event {self._where(int(survey['first_untimely']))} has a time before 0 or after "
            f"{LATEST_US} microseconds; count its times in microseconds from the recording's start, or say what they "
            'are counted in (unit="ns")'
        )

    def _blocks_again(self) -> Iterator[tuple[Any, np.ndarray]]:
        """Yield the blocks that hold events once more, without the warnings of the first time."""
        for key in self._keys:
            yield key, self._decode(key)

    def _cleaned(self, key: Any, first: int) -> np.ndarray:
        """Return the events of a block without the bad ones; ``first`` is the number of its first stored event."""
        if self._sorted is not None:
            return self._sorted[first : first + BLOCK_EVENTS].copy()
        events = self._decode(key)
        if self._is_clean:
            return events
        if self._timeline is not None:
            events = self._timeline.apply(events, first)
        height, width = self.size_hw
        good = (events["x"] < width) & (events["y"] < height) & (events["t"] >= 0) & (events["t"] <= LATEST_US)
        return events if good.all() else events[good]

    def _sort(self) -> None:
        """Put the good events in order of time into a temporary file that vanishes with the recording."""
        if self.num_stored > SORT_LIMIT:
            raise EventFileError(
                f"{self.path}: its {self.num_stored} events are not in order of time, and more than {SORT_LIMIT} are "
                "not sorted here; sort the file by time"
            )
        times = [self._cleaned(*each)["t"].copy() for each in zip(self._keys, self._firsts, strict=True)]
        order = np.argsort(np.concatenate(times), kind="stable")
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        with tempfile.TemporaryFile() as file:
            file.truncate(max(1, len(order) * EVENT_DTYPE.itemsize))
            merged = np.memmap(file, EVENT_DTYPE, "r+", shape=(len(order),))
        at = 0
        for key, first in zip(self._keys, self._firsts, strict=True):
            events = self._cleaned(key, first)
            merged[rank[at : at + len(events)]] = events
            at += len(events)
        self._sorted = np.asarray(merged)
        self._firsts = list(range(0, len(order), BLOCK_EVENTS))
        self._keys = list(self._firsts)

    def _where(self, number: int) -> str:
        """Return the number of a stored event and where in the file it stands."""
        k = int(np.searchsorted(self._firsts, number, "right")) - 1
        return f"{number}{self._place(self._keys[k], number - self._firsts[k])}"

    def _outside(self, survey: np.void) -> str:
        height, width = self.size_hw
        number, more = int(survey["first_outside"]), int(survey["outside"]) - 1
        k = int(np.searchsorted(self._firsts, number, "right")) - 1
        _, x, y, _ = self._decode(self._keys[k])[number - self._firsts[k]].tolist()
        lies = f"lies at x {x}, y {y}," if WRONG_PLACE not in (x, y) else "has a place that no sensor has,"
        others = f" as do {more} others" if more else ""
        return (
            f"{self.path}: event {self._where(number)} {lies} outside the {width} x {height} sensor{others}; if the "
            "size is wrong give size_hw, else copy the file again"
        )

    def _what_is_bad(self, survey: np.void) -> str:
        height, width = self.size_hw
        parts = []
        if survey["outside"]:
            parts.append(f"{survey['outside']} outside the {width} x {height} sensor")
        if survey["untimely"]:
            parts.append(f"{survey['untimely']} with impossible times")
        if self._timeline is not None and self._timeline.num_left_out:
            parts.append(f"{self._timeline.num_left_out} whose time jumps away from that of their neighbors")
        return ", ".join(parts)

    def _report(self, survey: np.void) -> None:
        """Warn once of what was done to the events."""
        messages = []
        if self.num_dropped:
            messages.append(f"{self.num_dropped} of {self.num_stored} events were dropped: {self._what_is_bad(survey)}")
        if self.restarts_us:
            begins = ", ".join(f"{t_us * 1e-6:.6f}" for t_us in self.restarts_us)
            messages.append(
                f"the camera's clock starts again; {len(self.restarts_us)} further segment(s) begin at {begins} s"
            )
        if self._timeline is not None and self._timeline.wrapped:
            messages.append(f"its clock of 32 bits starts again after {WRAP_US} us and is carried on")
        if self._sorted is not None:
            messages.append(f"{self.num_unsorted} of {self.num_events} events are not in order of time; sorted by time")
        elif self.num_unsorted:
            messages.append(
                f"{self.num_unsorted} of {self.num_events} events are not in order of time; each takes the latest time "
                "before it"
            )
        for message in messages:
            warnings.warn(f"{self.path}: {message}", stacklevel=6)

    def _infer_size(self, total: int, height: int, width: int) -> tuple[int, int]:
        if not total:
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
            events = self._cleaned(self._keys[k], self._firsts[k])
            found = np.zeros(1, _SURVEY)
            found["latest"] = self._before[k]
            settle(events.view(PAIRED_DTYPE), found, WRONG_PLACE, WRONG_PLACE)
            self._last = (k, events)
        return self._last[1]


def _between(events: np.ndarray, start: int, stop: int) -> np.ndarray:
    if events["t"][0] >= start and events["t"][-1] < stop:
        return events
    first, last = np.searchsorted(np.ascontiguousarray(events["t"]), (start, stop))
    return events[first:last]


_SURVEY = np.dtype(
    [
        (name, "i8")
        for name in (
            "total", "late", "latest", "back_us", "outside", "first_outside", "untimely", "first_untimely", "first_gap",
            "last_gap", "y", "x",
        )
    ]
)  # fmt: skip
"""What :func:`settle` counts; ``first_gap`` and ``last_gap`` are the events after the first and last long silence."""


@compiled()
def settle(events, survey, height, width):
    """Give PAIRED_DTYPE events the running maximum of time, and add to ``survey`` (_SURVEY [1]) what they show.

    Times before 0 or after LATEST_US, and events outside the sensor, leave the running maximum as it is.
    """
    found = survey[0]
    latest, late, back = found.latest, found.late, found.back_us
    largest_y, largest_x = found.y, found.x
    for i in range(len(events)):
        t = events[i].t
        x, y = np.int64(events[i].xy & np.uint32(0xFFFF)), np.int64(events[i].xy >> np.uint32(16))
        if x >= width or y >= height or t < 0 or t > LATEST_US:
            if x >= width or y >= height:
                if not found.outside:
                    found.first_outside = found.total + i
                found.outside += 1
            else:
                if not found.untimely:
                    found.first_untimely = found.total + i
                found.untimely += 1
            events[i].t = max(latest, np.int64(0))
            continue
        if t < latest:
            late += 1
            back = max(back, latest - t)
            events[i].t = latest
        else:
            if t - latest > ISOLATED_US and latest >= 0:
                if found.first_gap < 0:
                    found.first_gap = found.total + i
                found.last_gap = found.total + i
            latest = t
        largest_y, largest_x = max(largest_y, y), max(largest_x, x)
    found.latest, found.late, found.back_us, found.y, found.x = latest, late, back, largest_y, largest_x
    found.total += len(events)


def spans(length: int, step: int) -> Iterator[tuple[int, int]]:
    """Yield ``[start, stop)`` pairs that cover ``length`` in steps."""
    for start in range(0, length, step):
        yield start, min(start + step, length)


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

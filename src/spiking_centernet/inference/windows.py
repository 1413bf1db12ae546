"""Packets of events -> voxel cubes of windows, binned as they arrive: memory depends on the windows, not the rate."""

import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from spiking_centernet.data.voxel import add_events, begins_empty, empty_cube, voxelize
from spiking_centernet.errors import ConfigError
from spiking_centernet.inference.clock import StreamClock
from spiking_centernet.structures import EVENT_DTYPE, VoxelSpec


@dataclass(frozen=True)
class Packet:
    """Events that a source delivers together.

    Attributes:
        events: EVENT_DTYPE array, sorted by time up to the disorder of the sensor; may be empty.
        until_us: every event before this microsecond has been delivered; None promises only that events come in order.
            It lets time pass while nothing moves.
    """

    events: np.ndarray
    until_us: int | None = None


@dataclass(frozen=True)
class ClosedWindow:
    """A window whose events have all arrived.

    Attributes:
        start_us: first microsecond.
        stop_us: first microsecond after it.
        cube: uint8 [T, C, H, W].
        closed_s: when the packet arrived that closed it, on the clock of ``time.perf_counter``.
        segment: how often the source's clock had started again before; times of different segments do not compare.
    """

    start_us: int
    stop_us: int
    cube: torch.Tensor
    closed_s: float
    segment: int = 0


@dataclass
class _OpenWindow:
    stop_us: int
    cube: torch.Tensor


class WindowCollector:
    """Sorts packets into windows that end at every multiple of ``every_us``, however the packets are cut.

    The first window ends at the first multiple after the first event, as in ``Recording.stops_us``; each is as long as
    ``spec`` says. An event is binned on arrival into every window that is open for it; no event is kept. Only where
    ``spec`` counts events are those of the longest window kept, because how far a window reaches back is known once it
    ends; and where it fits windows to their events, for as long as a window may begin in a silence.

    Args:
        size_hw: height and width of the sensor in pixels.
        every_us: microseconds from one window's end to the next.
        spec: length of a window, division and scale of its cube.

    Raises:
        ConfigError: If ``every_us`` is less than 1.
    """

    def __init__(self, size_hw: tuple[int, int], *, every_us: int, spec: VoxelSpec):
        if every_us < 1:
            raise ConfigError(f"every_us must be at least 1 microsecond, got {every_us}")
        self.size_hw, self.every_us, self.spec = size_hw, every_us, spec
        self.flush_every_us = every_us
        self._clock = StreamClock()
        self._nothing = empty_cube(spec.window_us, size_hw, spec)
        self._silence_us = spec.window_us // (spec.num_steps * spec.bins)
        self.reset()

    def reset(self) -> None:
        """Forget every event and the time."""
        self.segment = self.num_late = 0
        self._clock.reset()
        self._start_again()

    @property
    def num_dropped(self) -> int:
        """How many events were dropped because their time jumps away from that of their neighbors."""
        return self._clock.num_dropped

    def _start_again(self) -> None:
        self._open: deque[_OpenWindow] = deque()
        self._kept: deque[np.ndarray] = deque()
        self._ends_of_silence_us: deque[int] = deque()
        self._last_binned_us: int | None = None
        self._next_us: int | None = None
        self._last_event_us = 0
        self.newest_us = 0

    def push(self, packet: Packet | np.ndarray) -> Iterator[ClosedWindow]:
        """Take a packet and yield the windows that it closes; what is not iterated is not taken.

        A window closes as soon as an event at or after its end, or the packet's ``until_us``, says that its time is
        over. Events that come later still count for the windows that are open; they are counted in ``num_late``. Where
        the stamps jump see ``clock.StreamClock``: a clock that starts again begins a new segment.

        Raises:
            ConfigError: the events are no EVENT_DTYPE array.
            EventFileError: an event lies outside the sensor.
        """
        arrived_s = time.perf_counter()
        events, until_us = (packet.events, packet.until_us) if isinstance(packet, Packet) else (packet, None)
        _times(events)
        yield from self._believe(self._clock.judge(events), arrived_s)
        if until_us is not None:
            yield from self._believe(self._clock.advance(until_us), arrived_s)
        yield from self._take(events[:0], until_us, arrived_s)

    def _believe(self, parts: Iterable[tuple[bool, np.ndarray]], arrived_s: float) -> Iterator[ClosedWindow]:
        """Take events that the clock was checked of, part by part."""
        num_dropped = self.num_dropped
        for starts_again, events in parts:
            if starts_again:
                warnings.warn(
                    f"the source's clock started again, at {int(events['t'][0])} us after {self._last_event_us} us; a "
                    "new segment begins",
                    stacklevel=3,
                )
                yield from self._finish(self.flush_every_us, arrived_s)
                self.segment += 1
                self._start_again()
            yield from self._take(events, None, arrived_s)
        if self.num_dropped > num_dropped == 0:
            warnings.warn(
                "events whose time jumps away from that of their neighbors are dropped and counted", stacklevel=3
            )

    def _take(self, events: np.ndarray, until_us: int | None, arrived_s: float) -> Iterator[ClosedWindow]:
        t = events["t"]
        if (t[1:] < t[:-1]).any():
            events = events[np.argsort(t, kind="stable")]
            t = events["t"]
        if self._next_us is None:
            if not len(events):
                return
            self._next_us = (int(t[0]) // self.every_us + 1) * self.every_us
        elif len(events):
            self.num_late += int(np.searchsorted(t, self._next_us - self.every_us))
        latest_us = self.newest_us if until_us is None else max(self.newest_us, until_us)
        if len(events):
            self._last_event_us = max(self._last_event_us, int(t[-1]))
            latest_us = max(latest_us, self._last_event_us)
        self.newest_us = latest_us
        place = 0
        while True:
            end = int(np.searchsorted(t, self._next_us))
            self._bin(events[place:end])
            place = end
            if self._next_us > latest_us:
                return
            yield self._close(arrived_s)

    def flush(self, multiple_us: int | None = None) -> Iterator[ClosedWindow]:
        """Yield the windows up to the first multiple after the last event, as at the end of a recording.

        Args:
            multiple_us: of what; None takes ``every_us``.
        """
        arrived_s = time.perf_counter()
        yield from self._believe(self._clock.end(), arrived_s)
        yield from self._finish(self.every_us if multiple_us is None else multiple_us, arrived_s)

    def _finish(self, multiple_us: int, arrived_s: float) -> Iterator[ClosedWindow]:
        if self._next_us is not None:
            stop_us = (self._last_event_us // multiple_us + 1) * multiple_us
            yield from self._take(np.zeros(0, EVENT_DTYPE), stop_us, arrived_s)

    def _bin(self, events: np.ndarray) -> None:
        if not len(events):
            return
        assert self._next_us is not None
        if self.spec.num_events:
            self._kept.append(events)
            return
        last_us = int(events["t"][-1])
        if self.spec.fit:
            self._keep_after_silence(events["t"], events)
        stop_us = self._open[-1].stop_us + self.every_us if self._open else self._next_us
        while stop_us - self.spec.window_us <= last_us:
            self._open.append(_OpenWindow(stop_us, empty_cube(stop_us, self.size_hw, self.spec)))
            stop_us += self.every_us
        for window in self._open:
            add_events(window.cube, events, stop_us=window.stop_us, size_hw=self.size_hw, spec=self.spec)

    def _close(self, arrived_s: float) -> ClosedWindow:
        assert self._next_us is not None
        stop_us, self._next_us = self._next_us, self._next_us + self.every_us
        if self.spec.num_events:
            return ClosedWindow(stop_us - self.spec.window_us, stop_us, self._counted(stop_us), arrived_s, self.segment)
        opened = bool(self._open) and self._open[0].stop_us == stop_us
        # A silence of an hour is a hundred thousand windows: they share a cube.
        cube = self._open.popleft().cube if opened else self._nothing
        if opened and self._ends_of_silence_us and begins_empty(cube, self.spec):
            cube = voxelize(np.concatenate(self._kept), stop_us=stop_us, size_hw=self.size_hw, spec=self.spec)
        self._forget_before(self._next_us - self.spec.window_us)
        return ClosedWindow(stop_us - self.spec.window_us, stop_us, cube, arrived_s, self.segment)

    def _keep_after_silence(self, t_us: np.ndarray, events: np.ndarray) -> None:
        """Keep events for windows whose first cell of time may turn out empty: those that begin in a silence."""
        before_us = self._last_binned_us
        if before_us is None or t_us[0] - before_us >= self._silence_us:
            self._ends_of_silence_us.append(int(t_us[0]))
        if t_us[-1] - t_us[0] >= self._silence_us:
            inside = np.flatnonzero(np.diff(t_us) >= self._silence_us) + 1
            self._ends_of_silence_us.extend(t_us[inside].tolist())
        self._last_binned_us = int(t_us[-1]) if before_us is None else max(before_us, int(t_us[-1]))
        if self._ends_of_silence_us:
            self._kept.append(events)

    def _forget_before(self, start_us: int) -> None:
        """Forget what no window that begins at this time or later needs."""
        while self._ends_of_silence_us and self._ends_of_silence_us[0] <= start_us:
            self._ends_of_silence_us.popleft()
        while self._kept and (not self._ends_of_silence_us or self._kept[0]["t"][-1] < start_us):
            self._kept.popleft()

    def _counted(self, stop_us: int) -> torch.Tensor:
        """Return the cube of a window that counts its events, and forget those that no later window holds."""
        kept = np.concatenate([np.zeros(0, EVENT_DTYPE), *self._kept])
        needed = kept[kept["t"] >= stop_us + self.every_us - self.spec.window_us]
        self._kept = deque([needed] if len(needed) else [])
        if not (kept["t"] >= stop_us - self.spec.window_us).any():
            return self._nothing
        return voxelize(kept, stop_us=stop_us, size_hw=self.size_hw, spec=self.spec)


def _times(events: np.ndarray) -> np.ndarray:
    if not isinstance(events, np.ndarray) or events.dtype != EVENT_DTYPE or events.ndim != 1:
        raise ConfigError(
            f"a packet must be a flat array of EVENT_DTYPE {EVENT_DTYPE} or hold one, got {type(events).__name__}"
        )
    return events["t"]

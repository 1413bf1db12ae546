"""A reader thread between a source that does not wait and a network that needs its time."""

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch

from spiking_centernet.inference.runner import Answerer, StreamDetections, take_and_answer
from spiking_centernet.inference.windows import ClosedWindow, Packet, WindowCollector


class WaitingRoom:
    """At most ``capacity`` closed windows between two threads; says how many were dropped or merged.

    Args:
        capacity: windows that may wait.
        merge: a window that finds the room full is OR-ed into the newest one that waits; otherwise the oldest is
            dropped.
    """

    def __init__(self, capacity: int, *, merge: bool):
        self._capacity, self._merge = capacity, merge
        self._windows: deque[ClosedWindow] = deque()
        self._changed = threading.Condition()
        self._num_skipped = 0
        self._ended = False
        self._failure: BaseException | None = None

    def put(self, window: ClosedWindow) -> None:
        """Add a window; never waits."""
        with self._changed:
            if len(self._windows) >= self._capacity:
                self._num_skipped += 1
                if self._merge and self._windows[-1].segment == window.segment:
                    window = _merged(self._windows.pop(), window)
                else:
                    self._windows.popleft()
            self._windows.append(window)
            self._changed.notify()

    def end(self, failure: BaseException | None = None) -> None:
        """Say that no window follows, and why if something failed."""
        with self._changed:
            self._ended, self._failure = True, failure
            self._changed.notify()

    def get(self) -> tuple[ClosedWindow, int] | None:
        """Wait for the oldest window; return it with the number skipped since the last call, None at the end.

        Raises:
            Exception: what ended the source.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._windows or self._ended)
            if self._windows:
                skipped, self._num_skipped = self._num_skipped, 0
                return self._windows.popleft(), skipped
            if self._failure is not None:
                raise self._failure
            return None


def _merged(older: ClosedWindow, newer: ClosedWindow) -> ClosedWindow:
    return replace(newer, start_us=older.start_us, cube=torch.maximum(older.cube, newer.cube))


def run_live(
    collector: WindowCollector,
    answerer: Answerer,
    packets: Iterable[Packet | np.ndarray],
    *,
    answer_every_us: int,
    merge: bool,
    max_waiting: int,
) -> Iterator[StreamDetections]:
    """Yield answers while a thread reads the source at the source's own pace.

    The thread ends with the source, or at its next packet after the iterator was closed.
    """
    room = WaitingRoom(max_waiting, merge=merge)
    closing = threading.Event()

    def read() -> None:
        try:
            for packet in packets:
                if closing.is_set():
                    return
                for window in collector.push(packet):
                    room.put(window)
            for window in collector.flush(answer_every_us):
                room.put(window)
        except BaseException as failure:
            room.end(failure)
        else:
            room.end()

    reader = threading.Thread(target=read, name="events", daemon=True)
    reader.start()
    skipped, late_before, dropped_before = 0, 0, 0
    try:
        while (got := room.get()) is not None:
            window, newly_skipped = got
            skipped += newly_skipped
            late, dropped = collector.num_late, collector.num_dropped
            answer = take_and_answer(
                answerer, window, answer_every_us=answer_every_us, newest_us=collector.newest_us,
                num_skipped=skipped, num_late=late - late_before, num_dropped=dropped - dropped_before,
            )  # fmt: skip
            if answer is not None:
                skipped, late_before, dropped_before = 0, late, dropped
                yield answer
    finally:
        closing.set()

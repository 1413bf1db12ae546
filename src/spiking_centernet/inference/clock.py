"""The clock of a live stream: which jumps of the time stamps to follow, before later events are known."""

from collections.abc import Iterator

import numpy as np

from spiking_centernet.data.formats.timeline import ISOLATED_US, MOST_DESCENTS

AHEAD_US = 1_000_000
"""A stamp further ahead of the newest event than this waits for what follows it."""

BACK_US = 250_000
"""A stamp further behind the newest event than this waits too: it is stale, or the camera has started again."""

CONFIRM_EVENTS = 10
"""So many events in one place of time are believed at once."""


class StreamClock:
    """Judges events in the order of their arrival, and holds back those whose time jumps until it is known why.

    Ahead of the newest event: if others follow, time has passed in silence; if the stream continues where it was, the
    stamps were wrong, and the events are dropped. Behind it: if others follow them, the camera has started again;
    otherwise they are late.

    Attributes:
        num_dropped: events dropped so far.
    """

    def __init__(self):
        self.num_dropped = 0
        self.reset()

    def reset(self) -> None:
        """Forget the time."""
        self._newest_us: int | None = None
        self._held: list[np.ndarray] = []
        self._num_accepted = 0

    def judge(self, events: np.ndarray) -> Iterator[tuple[bool, np.ndarray]]:
        """Yield what is believed of a packet and of what was held back: whether the clock starts again, and events."""
        step_us = np.diff(events["t"])
        cuts = np.flatnonzero((step_us > AHEAD_US) | (step_us < -BACK_US)) + 1
        if len(cuts) and int((step_us < 0).sum()) > max(10, len(events) * MOST_DESCENTS):
            # A packet without any order has no jumps.
            events = events[np.argsort(events["t"], kind="stable")]
            cuts = np.flatnonzero(np.diff(events["t"]) > AHEAD_US) + 1
        for part in np.split(events, cuts) if len(cuts) else (events,):
            if len(part):
                yield from self._judge(part)

    def advance(self, until_us: int) -> Iterator[tuple[bool, np.ndarray]]:
        """Take a promise that time has come as far as ``until_us``; yield as ``judge``."""
        if self._held and self._is_ahead(self._held[0]) and int(self._held[0]["t"][0]) <= until_us:
            yield from self._believe()
        if self._newest_us is not None:
            self._newest_us = max(self._newest_us, until_us)

    def end(self) -> Iterator[tuple[bool, np.ndarray]]:
        """Yield what is still held back at the end of a stream; a few events very far ahead of many are dropped."""
        if not self._held:
            return
        if not self._is_ahead(self._held[0]):
            yield False, self._release()
        elif self._num_accepted >= 10 * CONFIRM_EVENTS and self._is_ahead(self._held[0], ISOLATED_US):
            self._drop()
        else:
            yield from self._believe()

    def _judge(self, part: np.ndarray) -> Iterator[tuple[bool, np.ndarray]]:
        first_us = int(part["t"][0])
        if self._newest_us is None or -BACK_US <= first_us - self._newest_us <= AHEAD_US:
            if self._held and self._is_ahead(self._held[0]):
                self._drop()
            elif self._held:
                yield False, self._release()
            yield False, self._accept(part)
            return
        if self._held:
            held_us = int(self._held[-1]["t"].max())
            follows = -BACK_US <= first_us - held_us <= AHEAD_US
            if self._is_ahead(self._held[0]) and (follows or first_us > held_us):
                # Time moved on from there, so the stamps were right.
                yield from self._believe()
                yield from self._judge(part)
                return
            if not follows:
                if self._is_ahead(self._held[0]):
                    self._drop()
                else:
                    yield False, self._release()
        self._held.append(part)
        if sum(map(len, self._held)) >= CONFIRM_EVENTS:
            yield from self._believe()

    def _is_ahead(self, events: np.ndarray, by_us: int = 0) -> bool:
        return self._newest_us is not None and int(events["t"][0]) > self._newest_us + by_us

    def _accept(self, events: np.ndarray) -> np.ndarray:
        newest_us = int(events["t"].max())
        self._newest_us = newest_us if self._newest_us is None else max(self._newest_us, newest_us)
        self._num_accepted += len(events)
        return events

    def _believe(self) -> Iterator[tuple[bool, np.ndarray]]:
        starts_again = not self._is_ahead(self._held[0])
        if starts_again:
            self._newest_us = None
        yield starts_again, self._accept(self._release())

    def _release(self) -> np.ndarray:
        events, self._held = np.concatenate(self._held), []
        return events

    def _drop(self) -> None:
        self.num_dropped += len(self._release())

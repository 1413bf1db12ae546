"""A live stream for the viewer: the detections and events of every answer, handed to the pages that listen."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spiking_centernet.inference.clip import FRAME_EVENTS, LEAST_SCORE, Probe, box_rows, firing_values, packed_heatmap
from spiking_centernet.inference.runner import StreamDetections
from spiking_centernet.inference.sources import EventSource
from spiking_centernet.inference.streaming import Mode, Policy, Stream, stream
from spiking_centernet.inference.windows import Packet
from spiking_centernet.model import AnyDetector
from spiking_centernet.model.context import Observe, State
from spiking_centernet.model.firing_rate import kept_spikes
from spiking_centernet.model.scaling import Scale
from spiking_centernet.structures import EVENT_DTYPE
from spiking_centernet.visualize.viewer.packing import pack_events

WAITING_EVENTS = 2_000_000
"""Events that wait for their answer; of more, the oldest are not shown."""

WAITING_FRAMES = 8
"""Frames that wait for a page that is slower than the stream; of more, it misses the oldest."""


class LiveFeed:
    """Follows a source from the moment the first page listens.

    Args:
        name: what the page calls the detector.
        model: the detector.
        source: where events come from.
        title: what the page calls the source.
        mode: "auto", "windowed" or "stateful", as ``stream``.
        every_us: microseconds between frames; None takes 50 ms in windowed mode and every step in stateful mode.
        min_score: where the page's threshold starts; None takes the network's ``score_threshold``.
        scale: at which the events are binned, as ``stream``.
        policy: what happens while the network is busy, as ``stream``.

    Raises:
        ConfigError: a setting is impossible.
    """

    def __init__(
        self,
        name: str,
        model: AnyDetector,
        source: EventSource,
        *,
        title: str,
        mode: Mode = "auto",
        every_us: int | None = None,
        min_score: float | None = None,
        scale: Scale = "auto",
        policy: Policy = "drop",
    ):
        self._watched, self._tee, self._title = _Watched(model), _Tee(source), title
        self._probe = Probe(name, self._watched, source.size_hw, min_score=min_score, scale=scale)
        self._flow = Stream(self._watched, source.size_hw, mode=mode, every_us=every_us, scale=scale)
        self.every_us = self._flow.answer_every_us
        settings: dict[str, Any] = {"mode": self._flow.mode, "every_us": every_us, "scale": scale, "policy": policy}
        least_score = min(LEAST_SCORE, self._probe.threshold)
        self._answers = lambda: stream(self._watched, self._tee, min_score=least_score, **settings)
        self._listeners: list[tuple[asyncio.AbstractEventLoop, asyncio.Queue[tuple[str, str]]]] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._end: str | None = None

    def describe(self) -> dict[str, Any]:
        """Return what the page should know before any frame."""
        spec = self._flow.collector.spec
        height, width = spec.cube_hw(self._tee.size_hw)
        self._probe.look_at(torch.zeros(spec.num_steps, spec.channels, height, width, dtype=torch.uint8))
        model = {**self._probe.describe(), "num_steps": spec.num_steps, "counted": False}
        return {
            "title": self._title, "kind": "live", "size_hw": list(self._tee.size_hw), "every_us": self.every_us,
            "first_us": 0, "num_frames": 0, "tracked": False, "labeled": False, "models": [model], "notes": [],
        }  # fmt: skip

    async def subscribe(self) -> AsyncIterator[tuple[str, str]]:
        """Yield "message" with a frame as JSON for every answer, "end" with the reason once the source has ended."""
        listener = (asyncio.get_running_loop(), asyncio.Queue[tuple[str, str]](WAITING_FRAMES))
        with self._lock:
            end = self._end
            if end is None:
                self._listeners.append(listener)
            if self._thread is None:
                self._thread = threading.Thread(target=self._follow, name="live view", daemon=True)
                self._thread.start()
        if end is not None:
            yield "end", end
            return
        try:
            while True:
                kind, text = await listener[1].get()
                yield kind, text
                if kind == "end":
                    return
        finally:
            with self._lock:
                if listener in self._listeners:
                    self._listeners.remove(listener)

    def _follow(self) -> None:
        reason = "The source has ended."
        try:
            last_us = offset_us = segment = 0
            for answer in self._answers():
                if answer.segment != segment:
                    # The page's time runs on where the source's clock starts again.
                    segment, offset_us = answer.segment, last_us + self.every_us - answer.t_us
                last_us = answer.t_us + offset_us
                self._send("message", json.dumps(self._frame(answer, last_us)))
        except Exception as error:
            # The thread has no caller: the page says what ended the stream.
            reason = f"The source has failed: {error}"
        with self._lock:
            self._end = reason
        self._send("end", reason.replace("\n", " "))

    def _frame(self, answer: StreamDetections, shown_us: int) -> dict[str, Any]:
        start_us = answer.t_us - self.every_us
        events = pack_events(
            self._tee.take(start_us, answer.t_us), start_us=start_us, length_us=self.every_us, at_most=FRAME_EVENTS
        )
        model = {
            "boxes": box_rows(answer), "latency_ms": round(answer.latency_ms, 3), "operations": None,
            **self._watched.values,
        }  # fmt: skip
        live = {"lag_ms": round(answer.lag_ms, 1), "skipped": answer.num_skipped}
        return {"t_us": shown_us, "events": events, "models": [model], **live}

    def _send(self, kind: str, text: str) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for loop, queue in listeners:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_put, queue, (kind, text))


def _put(queue: "asyncio.Queue[tuple[str, str]]", item: tuple[str, str]) -> None:
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(item)


class _Tee:
    """Passes a source on and keeps its events until they are shown."""

    def __init__(self, source: EventSource):
        self.size_hw = source.size_hw
        self._source = source
        self._waiting: list[np.ndarray] = []
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Packet | np.ndarray]:
        for packet in self._source:
            events = packet.events if isinstance(packet, Packet) else packet
            with self._lock:
                self._waiting.append(events)
                while len(self._waiting) > 1 and sum(map(len, self._waiting)) > WAITING_EVENTS:
                    self._waiting.pop(0)
            yield packet

    def take(self, start_us: int, stop_us: int) -> np.ndarray:
        """Return the waiting events of ``[start_us, stop_us)`` in time order, and forget those before ``stop_us``."""
        with self._lock:
            events = np.concatenate([np.zeros(0, EVENT_DTYPE), *self._waiting])
            self._waiting = [events[events["t"] >= stop_us]]
        events = events[(events["t"] >= start_us) & (events["t"] < stop_us)]
        return events[np.argsort(events["t"], kind="stable")]


class _Watched:
    """A detector that notes what its layers did in the last call.

    Attributes:
        values: JSON values for the page: heatmap and firing rates.
    """

    def __init__(self, model: AnyDetector):
        self._model = model.fuse()
        self.config, self.head, self.device = model.config, model.head, model.device
        self.neuron_names, self.max_spikes = self._model.neuron_names, self._model.max_spikes
        self.values: dict[str, Any] = {}

    def fuse(self) -> "_Watched":
        """Return itself: it is fused."""
        return self

    def __call__(
        self, cube: Tensor, state: State | None = None, *, observe: Observe | None = None, keep_state: bool = True
    ) -> tuple[Any, State]:
        """Return the raw output and the membranes; see ``Detector.forward``."""
        active: dict[str, np.ndarray] = {}

        def see(name: str, layer: Tensor) -> None:
            active[name] = kept_spikes(layer, self.max_spikes).cpu().numpy()
            if observe is not None:
                observe(name, layer)

        output, new = self._model(cube, state, observe=see, keep_state=keep_state)
        values = firing_values({name: active[name] for name in self.neuron_names}, self.max_spikes)
        self.values = {"heatmap": packed_heatmap(output), **values}
        return output, new

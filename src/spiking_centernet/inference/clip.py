"""What the viewer shows of a recording: frame by frame its events, and what one or several detectors made of them."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from spiking_centernet.data import Recording, boxes_at
from spiking_centernet.errors import ConfigError, WindowError
from spiking_centernet.inference.tracking import CONTINUE_SCORE
from spiking_centernet.inference.tracking import track as follow
from spiking_centernet.model import AnyDetector, Detector
from spiking_centernet.model.context import Observe
from spiking_centernet.structures import EVENT_DTYPE, Boxes, Detections
from spiking_centernet.visualize.viewer.packing import pack_bits, pack_bytes, pack_events

LEAST_SCORE = 0.05
"""The page's threshold goes down to here; a network's own threshold may be lower."""

FRAME_EVENTS = 100_000
"""A frame holds so many events at most; where there are more, it holds every second, third, ..."""

COLUMNS = ("left", "top", "right", "bottom", "score", "label", "track")
"""A box of a frame, in pixels; track -1 is none."""


class Counter(Protocol):
    """Counts operations, as ``evaluation.energy.counting.OperationCounter`` does."""

    def __call__(self, cube: Tensor, *, observe: Observe | None = None) -> Any:
        """Compute windows [T, B, C, H, W] and count."""
        ...

    def result(self) -> Any:
        """Return the sums so far, with ``synaptic`` and ``dense``."""
        ...


MakeCounter = Callable[[Detector], Counter]


@dataclass
class Frame:
    """One frame of a clip.

    Attributes:
        values: JSON values: time, events, and for every detector boxes, firing rates, operations, latency, heatmap.
        spikes: for every detector the spikes of its layers by name, packed bits [T, C, h, w].
    """

    values: dict[str, Any]
    spikes: list[dict[str, str]] = field(default_factory=list)


class Probe:
    """A detector that is looked into: detections as ``detections_at`` has them, and what its layers did.

    Args:
        name: what the page calls it.
        model: the detector; it is fused here once and left unchanged.
        size_hw: height and width of the sensor in pixels.
        make_counter: counts operations; None does not. A compiled detector's are not counted.
    """

    def __init__(
        self, name: str, model: AnyDetector, size_hw: tuple[int, int], *, make_counter: MakeCounter | None = None
    ):
        self.name, self.config, self.head, self.size_hw = name, model.config, model.head, size_hw
        self.threshold = model.config.deployment.score_threshold
        self.least_score = min(LEAST_SCORE, self.threshold)
        self._model, self._device = model.fuse(), model.device
        self._names = list(self._model.neuron_names)
        counted = make_counter is not None and isinstance(self._model, Detector)
        self._counter = make_counter(self._model) if counted else None  # pyright: ignore
        self._synaptic = 0
        self.num_parameters = sum(p.numel() for p in model.parameters()) if isinstance(model, Detector) else None

    def detect(self, cube: Tensor, t_us: int) -> tuple[Detections, Any]:
        """Return the detections and the raw output of a window's cube [T, C, H, W]."""
        with torch.inference_mode():
            output, _ = self._model(cube[:, None].to(self._device), keep_state=False)
        found = self.head.detections(output, [t_us], size_hw=self.size_hw, min_score=self.least_score)
        return found[0], output

    def look(self, cube: Tensor, t_us: int) -> tuple[Detections, dict[str, Any], dict[str, str], list[list[int]]]:
        """Return the detections, what the page says of them, spikes by layer, and the layers' shapes [C, h, w]."""
        began_s = time.perf_counter()
        found, output = self.detect(cube, t_us)
        latency_ms = (time.perf_counter() - began_s) * 1e3
        seen = LayerWatch(len(cube))
        if self._counter is None:
            with torch.inference_mode():
                self._model(cube[:, None].to(self._device), keep_state=False, observe=seen)
            operations = None
        else:
            self._counter(cube[:, None].to(self._device), observe=seen)
            total = int(self._counter.result().synaptic)
            operations, self._synaptic = total - self._synaptic, total
        values = {
            "latency_ms": round(latency_ms, 3), "operations": operations,
            "heatmap": packed_heatmap(output), **seen.values(self._names),
        }  # fmt: skip
        return found, values, seen.spikes, [seen.shapes[name] for name in self._names]

    def describe(self, output: Any, shapes: Sequence[Sequence[int]]) -> dict[str, Any]:
        """Return what the page should know of the detector."""
        heatmap = getattr(output, "heatmap", None)
        return {
            "name": self.name, "classes": list(self.config.classes), "threshold": self.threshold,
            "least_score": self.least_score, "window_us": self.config.voxels.window_us,
            "num_steps": self.config.voxels.num_steps, "spiking": self.config.neuron.is_spiking,
            "parameters": self.num_parameters, "counted": self._counter is not None,
            "heatmap_hw": None if heatmap is None else list(heatmap.shape[-2:]), "stride": self.head.stride,
            "layers": [{"name": n, "shape": list(s)} for n, s in zip(self._names, shapes, strict=True)],
        }  # fmt: skip


class LayerWatch:
    """Observes one forward pass of one window: packs the spikes of every layer and counts them by step and channel.

    Args:
        num_steps: of the window.
        keep_spikes: pack them; otherwise they are only counted.
    """

    def __init__(self, num_steps: int, *, keep_spikes: bool = True):
        self._num_steps, self._keep_spikes = num_steps, keep_spikes
        self.spikes: dict[str, str] = {}
        self.shapes: dict[str, list[int]] = {}
        self._shares: dict[str, np.ndarray] = {}

    def __call__(self, name: str, spikes: Tensor) -> None:
        """Take the output [T, K, h, w] of a layer."""
        active = (spikes.detach() != 0).cpu().numpy()
        self.shapes[name] = list(active.shape[1:])
        self._shares[name] = active.mean((2, 3), dtype=np.float64)  # [T, K]
        if self._keep_spikes:
            self.spikes[name] = pack_bits(active)

    def values(self, names: Sequence[str]) -> dict[str, Any]:
        """Return firing rates by layer, that of all neurons, and shares by step and channel as uint8 [T, sum of K]."""
        neurons = [int(np.prod(self.shapes[name])) for name in names]
        rates = [float(self._shares[name].mean()) for name in names]
        overall = sum(n * rate for n, rate in zip(neurons, rates, strict=True)) / max(1, sum(neurons))
        shares = np.concatenate([self._shares[name] for name in names], axis=1)
        # Rounded up, so that a single spike is seen.
        return {
            "rates": [round(rate, 6) for rate in rates], "rate": round(overall, 6),
            "channels": pack_bytes(np.ceil(shares * 255).astype(np.uint8)),
        }  # fmt: skip


def packed_heatmap(output: Any) -> str | None:
    """Return the largest probability of any class at every output pixel as uint8 [h, w], None for a head without."""
    heatmap = getattr(output, "heatmap", None)
    if heatmap is None:
        return None
    largest = torch.sigmoid(heatmap[0].float()).amax(0)
    return pack_bytes(torch.round(largest * 255).to(torch.uint8).cpu().numpy())


def box_rows(found: Detections, track_ids: np.ndarray | None = None) -> list[list[float | int]]:
    """Return detections as rows of ``COLUMNS``, rounded as in the JSON of ``scn detect``."""
    ids = found.track_ids if track_ids is None else track_ids
    columns = (found.xyxy.tolist(), found.scores.tolist(), found.labels.tolist(), ids.tolist())
    return [
        [*(round(side, 3) for side in xyxy), round(score, 6), label, track_id]
        for xyxy, score, label, track_id in zip(*columns, strict=True)
    ]


def truth_rows(truth: Boxes) -> list[list[float | int]]:
    """Return labelled boxes as rows of ``COLUMNS`` with score 1."""
    columns = (truth.xyxy.tolist(), truth.labels.tolist(), truth.track_ids.tolist())
    return [
        [*(round(side, 3) for side in xyxy), 1, label, track_id] for xyxy, label, track_id in zip(*columns, strict=True)
    ]


class _Tracks:
    """The track of every detection of a detector, computed in the order of time as far as was asked."""

    def __init__(self, probe: Probe, recording: Recording, stops_us: range):
        start = probe.threshold
        self._found: dict[int, Detections] = {}
        self.least_score = min(CONTINUE_SCORE, start)
        self._ids: list[np.ndarray] = []

        def detections() -> Iterator[Detections]:
            for stop_us, cube in recording.cubes(stops_us, probe.config.voxels):
                found = self._found.pop(stop_us, None)
                found = probe.detect(cube, stop_us)[0] if found is None else found
                self._last = found
                yield found.above(self.least_score)

        self._tracked = follow(detections(), every_us=stops_us.step, start_score=start, continue_score=self.least_score)

    def of(self, index: int, found: Detections) -> np.ndarray:
        """Return the tracks of a frame's detections, int64 [N], -1 for none."""
        self._found[found.t_us] = found
        while len(self._ids) <= index:
            tracked = next(self._tracked)
            self._ids.append(_matched(self._last, tracked))
        self._found.pop(found.t_us, None)
        return self._ids[index]


def _matched(found: Detections, tracked: Detections) -> np.ndarray:
    """Return for every detection the track of the same one among those that belong to a track."""
    ids = np.full(len(found), -1, np.int64)
    for xyxy, label, track_id in zip(tracked.xyxy, tracked.labels, tracked.track_ids, strict=True):
        same = (found.xyxy == xyxy).all(1) & (found.labels == label) & (ids < 0)
        ids[np.flatnonzero(same)[0]] = track_id
    return ids


class Clip:
    """A recording as the viewer shows it, a frame for every window; frames are computed when asked for.

    Args:
        models: detectors by the names that the page calls them.
        recording: what to detect in.
        every_us: microseconds between frames.
        start_us: frames begin after this time of the recording.
        stop_us: no frame ends later than the first that covers this time; None: the end of the recording.
        track: number the objects, see ``tracking.track``.
        truth: BOX_DTYPE, shown at the frames whose end they stand at.
        make_counter: counts operations; None does not.

    Attributes:
        stops_us: the ends of the frames' windows.

    Raises:
        WindowError: there is no event to show.
        ConfigError: there is no detector, or the detectors have the same name.
        MissingPackageError: tracking without the package it needs.
    """

    def __init__(
        self,
        models: Mapping[str, AnyDetector],
        recording: Recording,
        *,
        every_us: int = 50_000,
        start_us: int = 0,
        stop_us: int | None = None,
        track: bool = False,
        truth: np.ndarray | None = None,
        make_counter: MakeCounter | None = None,
    ):
        if not models:
            raise ConfigError("there is no detector to show; give at least one")
        stops_us = recording.stops_us(every_us)
        last_us = recording.stop_us if stop_us is None else stop_us
        self.stops_us = range(*_bounds(stops_us, start_us, last_us), every_us)
        if not self.stops_us:
            span = f"it has events from {recording.start_us} to {recording.stop_us} us"
            why = span if recording.num_events else "it holds no events"
            raise WindowError(f"{recording.path}: there is nothing to show from {start_us} to {last_us} us; {why}")
        self.recording, self.every_us, self.truth, self.track = recording, every_us, truth, track
        self.frame_events = FRAME_EVENTS
        self._probes = [
            Probe(name, model, recording.size_hw, make_counter=make_counter) for name, model in models.items()
        ]
        self._tracks = [_Tracks(probe, recording, self.stops_us) for probe in self._probes] if track else None

    def __len__(self) -> int:
        return len(self.stops_us)

    def describe(self) -> dict[str, Any]:
        """Return what the page should know before any frame, JSON values."""
        cubes = [self._cube(probe, self.stops_us[0]) for probe in self._probes]
        models = []
        for number, (probe, cube) in enumerate(zip(self._probes, cubes, strict=True)):
            _, output = probe.detect(cube, self.stops_us[0])
            shapes = probe.look(cube, self.stops_us[0])[3]
            about = probe.describe(output, shapes)
            if self._tracks is not None:
                about["threshold"] = self._tracks[number].least_score
            models.append(about)
        return {
            "title": self.recording.path.name, "kind": "served", "size_hw": list(self.recording.size_hw),
            "every_us": self.every_us, "first_us": self.stops_us[0], "num_frames": len(self),
            "tracked": self.track, "labelled": self.truth is not None, "models": models, "notes": [],
        }  # fmt: skip

    def frame(self, index: int) -> Frame:
        """Return a frame.

        Raises:
            WindowError: there is no such frame.
            EventFileError: the events are damaged.
        """
        if not 0 <= index < len(self):
            raise WindowError(f"there is no frame {index}; the clip has {len(self)}, counted from 0")
        t_us = self.stops_us[index]
        frame = Frame({"t_us": t_us, "events": self._events(t_us), "models": []})
        if self.truth is not None:
            frame.values["truth"] = truth_rows(boxes_at(self.truth, t_us))
        for number, probe in enumerate(self._probes):
            found, values, spikes, _ = probe.look(self._cube(probe, t_us), t_us)
            ids = None if self._tracks is None else self._tracks[number].of(index, found)
            frame.values["models"].append({"boxes": box_rows(found, ids), **values})
            frame.spikes.append(spikes)
        return frame

    def _cube(self, probe: Probe, stop_us: int) -> Tensor:
        return next(self.recording.cubes([stop_us], probe.config.voxels))[1]

    def _events(self, t_us: int) -> dict[str, int | str]:
        start_us = max(0, t_us - self.every_us)
        overlaps = start_us < min(t_us, self.recording.stop_us)
        events = self.recording.read(start_us, t_us) if overlaps else np.zeros(0, EVENT_DTYPE)
        return pack_events(events, start_us=t_us - self.every_us, length_us=self.every_us, at_most=self.frame_events)


def _bounds(stops_us: range, start_us: int, stop_us: int) -> tuple[int, int]:
    """Return the first and the exclusive last of the ends of windows within a time."""
    step = stops_us.step
    first = max(stops_us.start, (start_us // step + 1) * step)
    return first, min(stops_us.stop, -(-stop_us // step) * step + 1)

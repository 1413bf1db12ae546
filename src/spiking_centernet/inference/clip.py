"""What the viewer shows of a recording: frame by frame its events, and what one or several detectors made of them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spiking_centernet.calibration import Calibration
from spiking_centernet.data import Recording, boxes_at
from spiking_centernet.data.cameras import Camera, camera_at, with_votes
from spiking_centernet.errors import ConfigError, WindowError
from spiking_centernet.inference.coverage import Coverage
from spiking_centernet.inference.remembered import CarriedDetector
from spiking_centernet.inference.scaled import ScaledDetector, Seen
from spiking_centernet.inference.tracking import CONTINUE_SCORE
from spiking_centernet.inference.tracking import track as follow
from spiking_centernet.model import AnyDetector, Detector
from spiking_centernet.model.context import Observe
from spiking_centernet.model.firing_rate import kept_spikes
from spiking_centernet.model.graph import Graph, graph_of
from spiking_centernet.model.operations import synaptic_operations
from spiking_centernet.model.scaling import Scale
from spiking_centernet.structures import EVENT_DTYPE, Boxes, Detections, VoxelSpec
from spiking_centernet.visualize.draw3d import object_lines
from spiking_centernet.visualize.viewer.packing import pack_bits, pack_bytes, pack_events

LEAST_SCORE = 0.05
"""The page's threshold goes down to here; a network's own threshold may be lower."""

FRAME_EVENTS = 100_000
"""A frame holds this many events at most; where there are more, it holds every second, third, ..."""

COLUMNS = ("left", "top", "right", "bottom", "score", "label", "track", "lines")
"""A box of a frame, in pixels; track -1 is none; "lines" u, v, u, v, ... of cuboid and limbs may be missing."""


@dataclass
class Frame:
    """One frame of a clip.

    Attributes:
        values: JSON values: time, events, and for every detector boxes, firing rates, operations, latency, heatmap.
        spikes: for every detector the spikes of its layers by name, packed bits [T, C, h, w].
        found: for every detector what it found, from the least score of the page on, without tracks.
    """

    values: dict[str, Any]
    spikes: list[dict[str, str]] = field(default_factory=list)
    found: list[Detections] = field(default_factory=list)


class Probe:
    """A detector that is looked into: detections as ``detections_at`` has them, and what its layers did.

    Args:
        name: what the page calls it.
        model: the detector; it is fused here once and left unchanged.
        size_hw: height and width of the sensor in pixels.
        min_score: where the page's threshold starts; None takes the network's ``score_threshold``.
        scale: at which the events are binned, see ``model.scaling.choose_scaling``; of several the first is looked
            into, and the detections of all are merged.
        voxels: how windows are cut; None takes the network's.
        camera: of the sensor, for 3D boxes; without one they are NaN.
        stops_us: the timestamps to look at, from which to which a network with a memory carries its state, unless
            ``voxels`` says how windows are cut; None: it sees single windows.

    Attributes:
        layer_names: of the neuron layers.
        layers: shape [K, h, w] of every neuron layer by name; empty before the first look.

    Raises:
        ConfigError: the scale is impossible, or the network cannot take such windows.
    """

    def __init__(
        self,
        name: str,
        model: AnyDetector,
        size_hw: tuple[int, int],
        *,
        min_score: float | None = None,
        scale: Scale = "auto",
        voxels: VoxelSpec | None = None,
        camera: Camera | None = None,
        stops_us: range | None = None,
    ):
        self.name, self.config, self.head = name, model.config, model.head

        def make_detector() -> ScaledDetector | CarriedDetector:
            options: dict[str, Any] = {"scale": scale, "camera": with_votes(camera)}
            if stops_us is not None and voxels is None and model.config.has_memory:
                return CarriedDetector(model, size_hw, stops_us, **options)
            return ScaledDetector(model, size_hw, voxels=voxels, **options)

        self.make_detector, self.detector = make_detector, make_detector()
        self.threshold = model.config.deployment.score_threshold if min_score is None else min_score
        self.least_score = min(LEAST_SCORE, self.threshold)
        fused = self.detector.fused
        self.layer_names = list(fused.neuron_names)
        self.layers: dict[str, list[int]] = {}
        self._heatmap_hw: list[int] | None = None
        self._graph: Graph | None = graph_of(fused) if isinstance(fused, Detector) else getattr(fused, "graph", None)
        self.num_parameters = sum(p.numel() for p in model.parameters()) if isinstance(model, Detector) else None

    def look(self, recording: Recording, t_us: int, coverage: Coverage | None = None) -> "Look":
        """Return the detections at a time of a recording, and what made them."""
        return self._look(
            lambda observe: self.detector.look(
                recording, t_us, min_score=self.least_score, observe=observe, coverage=coverage
            )
        )

    def look_at(self, cube: Tensor) -> "Look":
        """Return the detections of a window's cube [T, C, H, W] on its own, and what made them."""

        def see(observe: Observe) -> Seen:
            assert isinstance(self.detector, ScaledDetector)
            found, output = self.detector.detect([cube], 0, min_score=self.least_score, observe=observe)
            return Seen(found, output, cube, 0.0)

        return self._look(see)

    def _look(self, see: Callable[[Observe], Seen]) -> "Look":
        spikes: dict[str, Tensor] = {}
        most = self.detector.fused.max_spikes

        def observe(name: str, layer: Tensor) -> None:
            # A copy: a compiled detector writes the next window into the same memory.
            spikes[name] = kept_spikes(layer, most)

        seen = see(observe)
        operations = None
        if self._graph is not None:
            operations = sum(synaptic_operations(self._graph, seen.cube[:, None], spikes, max_spikes=most).values())
        active = {name: spikes[name].cpu().numpy() for name in self.layer_names}
        if (heatmap := getattr(seen.output, "heatmap", None)) is not None:
            self._heatmap_hw = list(heatmap.shape[-2:])
        self.layers = {name: list(layer.shape[1:]) for name, layer in active.items()}
        values = {
            "latency_ms": round(seen.latency_ms, 3), "operations": operations, "heatmap": packed_heatmap(seen.output),
            **firing_values(active, most),
        }  # fmt: skip
        return Look(seen.found, values, active)

    def describe(self) -> dict[str, Any]:
        """Return what the page should know of the detector, after a look at any window."""
        specs = self.detector.specs
        spec = specs[0]
        return {
            "name": self.name, "classes": list(self.config.classes), "threshold": self.threshold,
            "own_threshold": self.config.deployment.score_threshold,
            "least_score": self.least_score, "window_us": spec.window_us, "num_steps": spec.num_steps,
            "spiking": self.config.neuron.is_spiking, "parameters": self.num_parameters,
            "counted": self._graph is not None, "scale": ", ".join(str(one.ratio) for one in specs),
            "heatmap_hw": self._heatmap_hw,
            "stride": float(self.head.stride / spec.ratio),
            "layers": [{"name": name, "shape": shape} for name, shape in self.layers.items()],
        }  # fmt: skip


@dataclass(frozen=True)
class Look:
    """What a detector made of one window.

    Attributes:
        found: the detections.
        values: JSON values for the page: latency, operations, heatmap, firing rates.
        active: bool [T, K, h, w] of every neuron layer by name: where its output is not zero.
    """

    found: Detections
    values: dict[str, Any]
    active: dict[str, np.ndarray]


def firing_values(active: Mapping[str, np.ndarray], max_spikes: int = 1) -> dict[str, Any]:
    """Return firing rates by layer, that of all neurons, and shares by step and channel as packed uint8 [T, sum of K].

    Args:
        active: bool [T, K, h, w] by layer, or how many spikes.
        max_spikes: most spikes that a value stands for.
    """
    rates = [float(layer.mean()) / max_spikes for layer in active.values()]
    places = sum(layer.size for layer in active.values()) * max_spikes
    overall = sum(int(layer.sum()) for layer in active.values()) / max(1, places)
    shares = np.concatenate([layer.mean((2, 3)) for layer in active.values()], axis=1) / max_spikes
    # Rounded up, so that a single spike is seen.
    channels = pack_bytes(np.ceil(shares * 255).astype(np.uint8))
    return {"rates": [round(rate, 6) for rate in rates], "rate": round(overall, 6), "channels": channels}


def packed_heatmap(output: Any) -> str | None:
    """Return the largest probability of any class at every output pixel as uint8 [h, w], None for a head without."""
    heatmap = getattr(output, "heatmap", None)
    if heatmap is None:
        return None
    largest = torch.sigmoid(heatmap[0].float()).amax(0)
    return pack_bytes(torch.round(largest * 255).to(torch.uint8).cpu().numpy())


def box_rows(
    found: Detections, track_ids: np.ndarray | None = None, *, camera: Calibration | None = None
) -> list[list[Any]]:
    """Return detections as rows of ``COLUMNS``, rounded as in the JSON of ``scn detect``."""
    ids = found.track_ids if track_ids is None else track_ids
    columns = (found.xyxy.tolist(), found.scores.tolist(), found.labels.tolist(), ids.tolist())
    return [
        [*(round(side, 3) for side in xyxy), round(score, 6), label, track_id, *_lines(found, k, camera)]
        for k, (xyxy, score, label, track_id) in enumerate(zip(*columns, strict=True))
    ]


def _lines(found: Detections, k: int, camera: Calibration | None) -> list[list[float]]:
    """Return the last column of a row, nothing where there is no line."""
    lines = object_lines(found, k, camera)
    return [np.round(np.array(lines), 1).ravel().tolist()] if lines else []


def truth_rows(truth: Boxes) -> list[list[float | int]]:
    """Return labeled boxes as rows of ``COLUMNS`` with score 1."""
    columns = (truth.xyxy.tolist(), truth.labels.tolist(), truth.track_ids.tolist())
    return [
        [*(round(side, 3) for side in xyxy), 1, label, track_id] for xyxy, label, track_id in zip(*columns, strict=True)
    ]


class _Tracks:
    """The track of every detection of a detector, computed in the order of time as far as was asked."""

    def __init__(self, probe: Probe, recording: Recording, stops_us: range):
        start, detector = probe.threshold, probe.make_detector()
        self._found: dict[int, Detections] = {}
        self.least_score = min(CONTINUE_SCORE, start)
        self._ids: list[np.ndarray] = []
        self._last: Detections

        def detections() -> Iterator[Detections]:
            for stop_us in stops_us:
                found = self._found.pop(stop_us, None)
                if found is None:
                    found = detector.look(recording, stop_us, min_score=probe.least_score).found
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
        min_score: where the page's threshold starts; None takes every network's ``score_threshold``.
        scale: as of a :class:`Probe`.
        voxels: how windows are cut; None takes every network's.
        track: number the objects, see ``tracking.track``.
        truth: BOX_DTYPE, shown at the frames whose end they stand at.
        camera: as of a :class:`Probe`.

    Attributes:
        stops_us: the ends of the frames' windows.

    Raises:
        WindowError: there is no event to show.
        ConfigError: there is no detector, or the scale is impossible.
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
        min_score: float | None = None,
        scale: Scale = "auto",
        voxels: VoxelSpec | None = None,
        track: bool = False,
        truth: np.ndarray | None = None,
        camera: Camera | None = None,
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
        self._camera = camera
        self._probes = [
            Probe(
                name, model, recording.size_hw, min_score=min_score, scale=scale, voxels=voxels, camera=camera,
                stops_us=self.stops_us,
            )
            for name, model in models.items()
        ]  # fmt: skip
        self._tracks = [_Tracks(probe, recording, self.stops_us) for probe in self._probes] if track else None

    def __len__(self) -> int:
        return len(self.stops_us)

    def describe(self) -> dict[str, Any]:
        """Return what the page should know before any frame, JSON values."""
        models = []
        for number, probe in enumerate(self._probes):
            if not probe.layers:
                probe.look(self.recording, self.stops_us[0])
            models.append(probe.describe())
            if self._tracks is not None:
                models[-1]["threshold"] = self._tracks[number].least_score
        return {
            "title": self.recording.path.name, "kind": "served", "size_hw": list(self.recording.size_hw),
            "every_us": self.every_us, "first_us": self.stops_us[0], "num_frames": len(self),
            "tracked": self.track, "labeled": self.truth is not None, "models": models, "notes": [],
        }  # fmt: skip

    @property
    def num_detectors(self) -> int:
        """How many detectors are looked into."""
        return len(self._probes)

    @property
    def layer_names(self) -> set[str]:
        """The neuron layers of all detectors."""
        return {name for probe in self._probes for name in probe.layer_names}

    def frame(self, index: int, coverage: Coverage | None = None) -> Frame:
        """Return a frame.

        Args:
            index: of the frame, from 0.
            coverage: sees what the first detector saw and made of it.

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
            seen_by = None if number else coverage
            look = probe.look(self.recording, t_us, seen_by)
            ids = None if self._tracks is None else self._tracks[number].of(index, look.found)
            rows = box_rows(look.found, ids, camera=camera_at(self._camera, t_us))
            frame.values["models"].append({"boxes": rows, **look.values})
            frame.spikes.append({name: pack_bits(active) for name, active in look.active.items()})
            frame.found.append(look.found)
        return frame

    def detections(self, start: int, *, min_score: float, coverage: Coverage | None = None) -> Iterator[Detections]:
        """Yield what the first detector finds in the frames from this one on, without looking into it."""
        for t_us in self.stops_us[start:]:
            seen = self._probes[0].detector.look(self.recording, t_us, min_score=min_score, coverage=coverage)
            yield seen.found

    def _events(self, t_us: int) -> dict[str, int | str]:
        start_us = max(0, t_us - self.every_us)
        overlaps = start_us < min(t_us, self.recording.stop_us)
        events = self.recording.read(start_us, t_us) if overlaps else np.zeros(0, EVENT_DTYPE)
        return pack_events(events, start_us=t_us - self.every_us, length_us=self.every_us, at_most=self.frame_events)


def _bounds(stops_us: range, start_us: int, stop_us: int) -> tuple[int, int]:
    """Return the first and the exclusive last of the ends of windows within a time."""
    step = stops_us.step
    first = stops_us.start if start_us < stops_us.start else (start_us // step + 1) * step
    return first, min(stops_us.stop, -(-stop_us // step) * step + 1)

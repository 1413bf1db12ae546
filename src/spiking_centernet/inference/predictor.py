"""The one call for detecting: anything that holds events in, results out."""

import functools
import inspect
import os
import time
import warnings
from collections.abc import Collection, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import torch

from spiking_centernet.data import Recording
from spiking_centernet.data import open as open_recording
from spiking_centernet.data.cameras import Camera, camera_at, camera_beside
from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.inference.further_tasks import refuse_tracks
from spiking_centernet.inference.inputs import Cubes, Input, Live, read_source
from spiking_centernet.inference.inspection import Inspector
from spiking_centernet.inference.pictures import detections_in, pictures_of
from spiking_centernet.inference.recordings import detections_at, events_before
from spiking_centernet.inference.result import Result, cube_events
from spiking_centernet.inference.runner import StreamDetections
from spiking_centernet.inference.sources import EventSource
from spiking_centernet.inference.streaming import stream as follow_stream
from spiking_centernet.inference.tracking import CONTINUE_SCORE
from spiking_centernet.inference.tracking import track as follow
from spiking_centernet.model import AnyDetector
from spiking_centernet.model.smoothing import EVERY_US, check_smoothing
from spiking_centernet.model.weights import load
from spiking_centernet.structures import Detections

DEFAULT_MODEL = "small-wide-one-step"
"""What detects where nothing is said: the weights for any camera and place; ``small-one-step`` is better from a car."""


@overload
def predict(
    source: Generator[Any, Any, Any] | EventSource, model: Any = DEFAULT_MODEL, **options: Any
) -> Iterator[Result]: ...
@overload
def predict(source: Any, model: Any = DEFAULT_MODEL, *, stream: Literal[True], **options: Any) -> Iterator[Result]: ...
@overload
def predict(source: Any, model: Any = DEFAULT_MODEL, **options: Any) -> list[Result]: ...
def predict(
    source: Any,
    model: AnyDetector | str | os.PathLike[str] = DEFAULT_MODEL,
    *,
    every_us: int | None = None,
    min_score: float | None = None,
    track: bool = False,
    keep: Collection[str] = (),
    size_hw: tuple[int, int] | None = None,
    columns: str | None = None,
    unit: str | None = None,
    device: str | torch.device | None = None,
    stream: bool = False,
    **options: Any,
) -> list[Result] | Iterator[Result]:
    """Detect in whatever holds events, or with a network of pictures in pictures.

    Args:
        source: where the events are:

            - a recording: its path, "sample", or what ``scn.open`` returned;
            - several: a folder, a pattern such as ``"drives/*.raw"``, or a list of anything that stands here;
            - events in memory: a structured array, [N, 4], a dict or table of named columns, a tuple of four arrays;
            - voxel cubes [T, C, H, W] or [T, B, C, H, W], one result each; a cube's clock starts at 0;
            - an iterator of packets of events, a camera, a replay, a socket: live, always answered by an iterator;
            - for a network of pictures (``voxels.mode`` direct, rate, difference): a picture's path, a folder of
              pictures, an array uint8 [H, W, 3], or a list of those.
        model: a detector, or what ``scn.load`` takes; the default is for any camera, "small-one-step" is better from a
            car.
        every_us: microseconds between timestamps; None takes 50 ms, and for a stateful stream every step.
        min_score: detections below are dropped; None takes the network's ``score_threshold``.
        track: number the objects; only detections that belong to a track are kept.
        keep: what else every result holds: "heatmap", "spikes", "rates", "operations".
        size_hw: height and width of the sensor in pixels, for sources that do not say.
        columns: the order of columns without names, such as "xypt"; None infers it where only one is possible.
        unit: what times are counted in: "ns", "us", "ms" or "s"; None infers it where only one is possible.
        device: where a model given by its name computes; None takes the CPU.
        stream: return an iterator that computes a result when it is asked for, so that memory stays flat.
        options: of :func:`~spiking_centernet.inference.recordings.detections_at` for recordings, of
            :func:`~spiking_centernet.inference.streaming.stream` for live sources.

    Returns:
        one result per timestamp: a list, or with ``stream`` and for live sources an iterator.

    Raises:
        ConfigError: a setting is unknown or impossible, or the source of no known kind.
        EventFileError: a recording is missing or damaged, or arrays can be read in several ways.
        MissingPackageError: tracking, or a format, without the package it needs.
    """
    _check_options(options)
    if hasattr(source, "fuse"):
        raise ConfigError(
            f"source is a {type(source).__name__}; call model.predict(source) or scn.predict(source, model)"
        )
    if every_us is not None and every_us < 1:
        raise ConfigError(f"every_us must be at least 1 microsecond, got {every_us}")
    if min_score is not None and not 0 <= min_score <= 1:
        raise ConfigError(f"min_score must lie in [0, 1], got {min_score}")
    if isinstance(model, str | os.PathLike):
        detector: AnyDetector = load(model, device="cpu" if device is None else device)
    elif device is not None:
        raise ConfigError(f"device: the model is on {model.device} already; move it with model.to({str(device)!r})")
    else:
        detector = model
    if detector.config.voxels.takes_frames:
        asked = {"track": track or None, "every_us": every_us, "size_hw": size_hw, "columns": columns, "unit": unit}
        if given := [name for name, value in {**asked, **options}.items() if value is not None and name != "camera"]:
            raise ConfigError(f"{', '.join(given)}: for recordings of events, this network sees pictures; leave it out")
        found = _in_pictures(detector, source, keep, min_score, options.get("camera"))
        return found if stream else list(found)
    if track:
        refuse_tracks(detector.config)
    if options.get("smooth"):
        check_smoothing(detector.config, every_us=every_us or EVERY_US)
    inputs = read_source(source, voxels=detector.config.voxels, size_hw=size_hw, columns=columns, unit=unit)
    run = _Run(detector, Inspector(detector, keep), every_us, min_score, track, options)
    opener = functools.partial(open_recording, size_hw=size_hw, columns=columns, unit=unit)
    results = (result for each in inputs for result in run.results(each, opener))
    is_live = any(isinstance(each, Live) for each in inputs)
    return results if stream or is_live else list(results)


detect = predict


def _in_pictures(
    model: AnyDetector, source: Any, keep: Collection[str], min_score: float | None, camera: Camera | None
) -> Iterator[Result]:
    """Yield a result per picture."""
    inspector = Inspector(model, keep)
    least = model.config.deployment.score_threshold if min_score is None else min_score
    pictures = pictures_of(source, model.config.voxels)
    found = detections_in(model, pictures, min_score=least, inspector=inspector, camera=camera)
    began_s = time.perf_counter()
    for picture, detections, view in found:
        latency_ms = (time.perf_counter() - began_s) * 1e3
        yield Result(
            detections.xyxy, detections.scores, detections.labels, detections.t_us, detections.track_ids,
            detections.box3d, detections.joints, size_hw=(picture.image.shape[0], picture.image.shape[1]),
            class_names=tuple(model.config.classes), path=picture.path, latency_ms=latency_ms,
            inspection=inspector.last if inspector.keep else None, picture=picture.image,
            classifies=model.config.classifies, camera=view,
        )  # fmt: skip
        began_s = time.perf_counter()


@dataclass
class _Run:
    """The settings of one call."""

    model: AnyDetector
    inspector: Inspector
    every_us: int | None
    min_score: float | None
    track: bool
    options: dict[str, Any]

    def results(self, source: Input, opener: Any) -> Iterator[Result]:
        if isinstance(source, Cubes):
            yield from self._in_cubes(source.tensor)
        elif isinstance(source, Live):
            yield from self._in_packets(source)
        elif isinstance(source, Path):
            yield from self._in_recording(opener(source), source)
        else:
            # Events in memory have no file.
            yield from self._in_recording(source, source.path if source.path.exists() else None)

    def _in_recording(self, recording: Recording, path: Path | None) -> Iterator[Result]:
        if not recording.num_events:
            warnings.warn(f"{recording.path}: holds no events; there is nothing to detect in", stacklevel=4)
            return
        every_us = self.every_us or 50_000
        camera = self.options.get("camera")
        camera = camera_beside(recording.path) if camera is None else camera
        found = detections_at(
            self.model, recording, recording.stops_us(every_us), min_score=self._least_score, inspector=self.inspector,
            **{**self.options, "camera": camera},
        )  # fmt: skip
        for detections, latency_ms in _timed(self._tracked(found, every_us)):
            events = functools.partial(events_before, recording, detections.t_us)
            yield self._result(detections, recording.size_hw, path, latency_ms, events, camera)

    def _in_cubes(self, cubes: torch.Tensor) -> Iterator[Result]:
        camera = self.options.get("camera")
        if self.track or self.options.keys() - {"camera"}:
            names = ", ".join(["track"] * self.track + sorted(self.options.keys() - {"camera"}))
            raise ConfigError(f"source is a cube, which has no {names}: give the recording, or leave {names} out")
        config, fused = self.model.config, self.model.fuse()
        size_hw = (cubes.shape[-2], cubes.shape[-1])
        for b in range(cubes.shape[1]):
            began_s = time.perf_counter()
            cube = cubes[:, b]
            with torch.inference_mode():
                output, _ = fused(
                    cube[:, None].to(self.model.device), keep_state=False, observe=self.inspector.observe
                )  # fmt: skip
            self.inspector.inspect(cube, output)
            (detections,) = self.model.head.detections(
                output, [config.voxels.window_us], size_hw=size_hw, min_score=self._start_score,
                calibrations=[camera_at(camera, config.voxels.window_us)],
            )  # fmt: skip
            latency_ms = (time.perf_counter() - began_s) * 1e3
            events = functools.partial(cube_events, cube, size_hw)
            yield self._result(detections, size_hw, None, latency_ms, events, camera)

    def _in_packets(self, live: Live) -> Iterator[Result]:
        found = follow_stream(
            self.model, live.packets, size_hw=live.size_hw, every_us=self.every_us, min_score=self._least_score,
            inspector=self.inspector, **self.options,
        )  # fmt: skip
        latest: list[StreamDetections] = []

        def watched() -> Iterator[Detections]:
            for answer in found:
                latest[:] = [answer]
                yield answer

        for detections in self._tracked(watched(), self.every_us or 50_000):
            assert self.inspector.last is not None
            events = functools.partial(cube_events, self.inspector.last.cube, live.size_hw)
            yield self._result(detections, live.size_hw, None, latest[0].latency_ms, events, self.options.get("camera"))

    @property
    def _start_score(self) -> float:
        return self.model.config.deployment.score_threshold if self.min_score is None else self.min_score

    @property
    def _least_score(self) -> float:
        return min(CONTINUE_SCORE, self._start_score) if self.track else self._start_score

    def _tracked(self, found: Iterable[Detections], every_us: int) -> Iterable[Detections]:
        if not self.track:
            return found
        return follow(found, every_us=every_us, start_score=self._start_score, continue_score=self._least_score)

    def _result(
        self,
        detections: Detections,
        size_hw: tuple[int, int],
        path: Path | None,
        latency_ms: float,
        events: Any,
        camera: Camera | None,
    ) -> Result:
        return Result(
            detections.xyxy, detections.scores, detections.labels, detections.t_us, detections.track_ids,
            detections.box3d, detections.joints, camera=camera_at(camera, detections.t_us),
            size_hw=size_hw, class_names=tuple(self.model.config.classes), path=path, latency_ms=latency_ms,
            inspection=self.inspector.last if self.inspector.keep else None, events=events,
            classifies=self.model.config.classifies,
        )  # fmt: skip


def _timed(found: Iterable[Detections]) -> Iterator[tuple[Detections, float]]:
    """Yield detections and the milliseconds that each took to come."""
    iterator = iter(found)
    while True:
        began_s = time.perf_counter()
        detections = next(iterator, None)
        if detections is None:
            return
        yield detections, (time.perf_counter() - began_s) * 1e3


def _check_options(options: dict[str, Any]) -> None:
    """Refuse settings that nothing takes."""
    taken = {"model", "recording", "stops_us", "source", "inspector"}
    known = set(inspect.signature(predict).parameters) - {"options"}
    for function in (detections_at, follow_stream):
        known |= set(inspect.signature(function).parameters) - taken
    for name in options:
        if name not in known:
            raise ConfigError(f"unknown option {name!r}{did_you_mean(name, known)}")

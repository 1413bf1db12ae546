"""Detections of a recording as files: an annotated video, JSON, a box file, a still."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from spiking_centernet.data import Recording, boxes_at, write_boxes
from spiking_centernet.data.cameras import Camera, camera_at, camera_beside, with_votes
from spiking_centernet.data.convert import Labels, coco, mot
from spiking_centernet.errors import ConfigError, WindowError, did_you_mean
from spiking_centernet.inference.clip import Clip
from spiking_centernet.inference.coverage import Coverage
from spiking_centernet.inference.further_tasks import (
    class_record,
    known_camera,
    refuse_tracks,
    task_record,
)
from spiking_centernet.inference.inspection import Inspector
from spiking_centernet.inference.remembered import detections_remembered
from spiking_centernet.inference.scaled import ScaledDetector
from spiking_centernet.inference.tracking import CONTINUE_SCORE
from spiking_centernet.inference.tracking import track as follow
from spiking_centernet.inference.view_page import Page
from spiking_centernet.model import AnyDetector
from spiking_centernet.model.scaling import Scale, Scaling, choose_scaling, spec_for
from spiking_centernet.model.smoothing import LEAST_SCORE, check_smoothing, smoothed
from spiking_centernet.structures import BOX_DTYPE, EVENT_DTYPE, Detections, VoxelSpec
from spiking_centernet.utils import progress
from spiking_centernet.utils.files import require_writable_folder
from spiking_centernet.utils.provenance import collect_provenance, write_json
from spiking_centernet.visualize.draw import draw_boxes, draw_class, events_image, save_png
from spiking_centernet.visualize.draw3d import birds_eye
from spiking_centernet.visualize.video import VideoWriter

FORMATS = ("mp4", "json", "npy", "png", "csv", "coco", "html")
"""What ``write_detections`` can write: a video, the boxes with their timestamps, a GEN1 box file, the fullest frame,
tracks as MOT text, COCO's JSON, with a picture's entry for every timestamp, and the viewer's page."""


@dataclass(frozen=True)
class DetectionRun:
    """What ``write_detections`` found and wrote.

    Attributes:
        detections: of every timestamp, in time order.
        scaling: the scales at which the events were binned.
        coverage: how full the windows were, and the best score whether shown or not.
        paths: the file written in each format.
    """

    detections: list[Detections]
    scaling: Scaling
    coverage: Coverage
    paths: dict[str, Path] = field(default_factory=dict)


def write_detections(
    model: AnyDetector,
    recording: Recording,
    out: str | os.PathLike[str],
    *,
    save: Sequence[str] = ("mp4", "json", "npy"),
    every_us: int = 50_000,
    min_score: float | None = None,
    scale: Scale = "auto",
    voxels: VoxelSpec | None = None,
    speed: float = 1.0,
    shown_us: int = 40_000,
    truth: np.ndarray | None = None,
    track: bool = False,
    smooth: bool = False,
    camera: Camera | None = None,
) -> DetectionRun:
    """Detect in a recording and write what was found.

    Args:
        model: the detector.
        recording: what to detect in, of any sensor size.
        out: folder for the files, which are named after the recording.
        save: which of ``FORMATS`` to write.
        every_us: microseconds between detections; the video has a frame for each.
        min_score: detections below are dropped; None takes the network's ``score_threshold``.
        scale: at which the events are binned, see ``model.scaling.choose_scaling``: a number from 1/64 to 1, several
            whose detections are merged, "auto" or "pyramid".
        voxels: how windows are cut, for example the network's with ``num_events``; None takes the network's, fitted to
            their events.
        speed: of the video over real time; 0.1 is ten times slower.
        shown_us: how many microseconds of events before the timestamp a frame shows.
        truth: BOX_DTYPE, drawn dashed at the timestamps they stand at.
        track: number the objects, see ``tracking.track``; only detections that belong to a track are kept.
        smooth: as :func:`detections_at`.
        camera: as :func:`detections_at`.

    Raises:
        ConfigError: an unknown format, or a setting that is impossible.
        MissingPackageError: tracking without the package it needs.
        WindowError: the recording holds no events.
        EventFileError: the events are damaged.
    """
    for name in save:
        if name not in FORMATS:
            raise ConfigError(f"cannot save {name!r}{did_you_mean(name, FORMATS)}")
    if "csv" in save and not track:
        raise ConfigError("csv is MOT's format for tracks; switch tracking on (--track) or leave it out")
    if smooth:
        check_smoothing(model.config, every_us=every_us)
        if "html" in save:
            raise ConfigError("the page shows every timestamp by itself; leave html or smoothing (--smooth) out")
    if not speed > 0 or shown_us < 1 or every_us < 1:
        raise ConfigError(f"speed, shown_us and every_us must be positive, got {speed}, {shown_us} and {every_us}")
    require_writable_folder(out)
    if track:
        refuse_tracks(model.config)
    start_score = model.config.deployment.score_threshold if min_score is None else min_score
    least = min(CONTINUE_SCORE, start_score) if track else start_score
    if not recording.num_events:
        raise WindowError(f"{recording.path}: holds no events; there is nothing to detect in")
    stops_us, spec = recording.stops_us(every_us), spec_for(model.config, voxels)
    scaling, coverage = choose_scaling(scale, recording.size_hw, model.config), Coverage(fit=spec.fit)
    if camera is None and "detect3d" in model.config.tasks:
        camera = camera_beside(recording.path)
    page = clip = None
    if "html" in save:
        clip = Clip(
            {"detector": model}, recording, every_us=every_us, min_score=start_score, scale=scaling.scales,
            voxels=voxels, track=track, truth=truth, camera=camera,
        )  # fmt: skip
        page = Page(clip)
    if page is None or clip is None:
        found: Iterable[Detections] = detections_at(
            model, recording, stops_us, min_score=least, scale=scaling.scales, voxels=voxels, coverage=coverage,
            camera=camera, smooth=smooth,
        )  # fmt: skip
    else:  # what the page shows is not computed twice
        shown = (frame.found[0].above(least) for frame in page.frames(coverage))
        found = chain(shown, clip.detections(page.num_frames, min_score=least, coverage=coverage))
    if track:
        found = follow(found, every_us=every_us, start_score=start_score, continue_score=least)
    stem = recording.path.stem.removesuffix("_td")
    paths = {name: Path(out) / f"{stem}_detections.{name}" for name in save}
    if "npy" in paths:
        # The ending of GEN1's box files, so that they lie next to the recording's own in every tool.
        paths["npy"] = Path(out) / f"{stem}_detections_bbox.npy"
    if "coco" in paths:
        paths["coco"] = Path(out) / f"{stem}_detections_coco.json"
    painter = _Painter(model, recording, shown_us, truth, camera)
    results: list[Detections] = []
    with ExitStack() as stack:
        video = None
        for result in progress.track(found, f"detecting in {stem}", len(stops_us)):
            results.append(result)
            if "mp4" in paths:
                image = painter.frame(result)
                if video is None:
                    fps = Fraction(1_000_000, every_us) * Fraction(speed).limit_denominator(1000)
                    size_hw = (image.shape[0], image.shape[1])
                    video = stack.enter_context(VideoWriter(paths["mp4"], size_hw, fps))
                video.write(image)
    if "png" in paths:
        fullest = max(results, key=lambda result: float(result.scores.sum()))
        save_png(painter.frame(fullest), paths["png"])
    classifies = model.config.classifies
    boxes = as_box_array([result.best(1) for result in results] if classifies else results)
    if "npy" in paths:
        write_boxes(paths["npy"], boxes, classes=model.config.classes)
    if "csv" in paths or "coco" in paths:
        timestamps_us = np.array([result.t_us for result in results], np.int64)
        labels = Labels(boxes, model.config.classes, recording.size_hw, timestamps_us)
        if "csv" in paths:
            mot.write(paths["csv"], labels)
        if "coco" in paths:
            coco.write(paths["coco"], labels, stem=stem)
    if "json" in paths:
        head = {"recording": recording.path.name, "size_hw": list(recording.size_hw), "every_us": every_us,
                "window_us": spec.window_us, "window_events": spec.num_events or None,
                "classes": list(model.config.classes), "min_score": start_score,
                "scale": list(scaling.scales), "smooth": smooth, **coverage.to_dict()}  # fmt: skip
        timestamps = [as_record(result, model.config.classes, classifies=classifies) for result in results]
        write_json(paths["json"], {**head, "instants": timestamps, "provenance": collect_provenance()})
    if page is not None:
        page.write(paths["html"])
    return DetectionRun(results, scaling, coverage, paths)


def detections_at(
    model: AnyDetector,
    recording: Recording,
    stops_us: Iterable[int],
    *,
    min_score: float | None = None,
    scale: Scale = "auto",
    voxels: VoxelSpec | None = None,
    coverage: Coverage | None = None,
    inspector: Inspector | None = None,
    camera: Camera | None = None,
    smooth: bool = False,
) -> Iterator[Detections]:
    """Yield the detections of the windows that end at these timestamps, each from a zero-initialized state.

    The windows are cut as in training and validation; :func:`stream` gives the same from packets as they arrive. A
    network with a memory carries its state from the first timestamp to the last instead, unless ``voxels`` says how
    windows are cut.

    Args:
        model: the detector; it is fused here once and left unchanged.
        recording: what to detect in.
        stops_us: exclusive ends of the windows in microseconds, for example ``recording.stops_us(50_000)``.
        min_score: detections below are dropped; None takes the network's ``score_threshold``.
        scale: as :func:`write_detections`.
        voxels: as :func:`write_detections`.
        coverage: sees every window.
        inspector: keeps more of every window than its detections.
        camera: of the recording, for 3D boxes; None takes ``NAME_camera.npy`` next to it, without which they are NaN.
        smooth: filter boxes and scores over time along every object, see ``model.smoothing``.

    Raises:
        ConfigError: If ``min_score`` is not in [0, 1], the scale impossible, or there are no boxes to smooth.
        EventFileError: If the events are damaged.
    """
    min_score = model.config.deployment.score_threshold if min_score is None else min_score
    if not 0 <= min_score <= 1:
        raise ConfigError(f"min_score must lie in [0, 1], got {min_score}")
    if camera is None and "detect3d" in model.config.tasks:
        camera = known_camera(recording)
    camera = with_votes(camera)
    options: dict[str, Any] = {"scale": scale, "coverage": coverage, "inspector": inspector, "camera": camera}
    if smooth:
        check_smoothing(model.config)
        found = _detections_at(model, recording, stops_us, voxels, min_score=LEAST_SCORE, **options)
        return smoothed(found, recording.size_hw, min_score=min_score)
    return _detections_at(model, recording, stops_us, voxels, min_score=min_score, **options)


def _detections_at(
    model: AnyDetector,
    recording: Recording,
    stops_us: Iterable[int],
    voxels: VoxelSpec | None,
    *,
    min_score: float,
    scale: Scale,
    coverage: Coverage | None,
    inspector: Inspector | None,
    camera: Camera | None,
) -> Iterator[Detections]:
    if model.config.has_memory and voxels is None:
        yield from detections_remembered(
            model, recording, stops_us, min_score=min_score, scale=scale, coverage=coverage, inspector=inspector,
            camera=camera,
        )  # fmt: skip
        return
    detector = ScaledDetector(model, recording.size_hw, scale=scale, voxels=voxels, camera=camera)
    observe = None if inspector is None else inspector.observe
    for stop_us in map(int, stops_us):
        seen = detector.look(recording, stop_us, min_score=min_score, observe=observe, coverage=coverage)
        if inspector is not None:
            inspector.inspect(seen.cube, seen.output)
        yield seen.found


class _Painter:
    """Draws the frame of a timestamp."""

    def __init__(
        self, model: AnyDetector, recording: Recording, shown_us: int, truth: np.ndarray | None, camera: Camera | None
    ):
        self.classes, self.recording, self.shown_us, self.truth = model.config.classes, recording, shown_us, truth
        self.classifies = model.config.classifies
        self.camera, self.from_above = camera, camera is not None and "detect3d" in model.config.tasks

    def frame(self, result: Detections) -> np.ndarray:
        image = events_image(events_before(self.recording, result.t_us, self.shown_us), self.recording.size_hw)
        truth = None if self.truth is None else boxes_at(self.truth, result.t_us)
        caption = f"{result.t_us * 1e-6:.3f} s"
        if self.classifies:
            return draw_class(image, result, truth, class_names=self.classes, caption=caption)
        view = None if self.camera is None else camera_at(self.camera, result.t_us)
        picture = draw_boxes(image, result, truth, class_names=self.classes, caption=caption, camera=view)
        if not self.from_above:
            return picture
        height = picture.shape[0]
        above = birds_eye(result, size_hw=(height, 2 * (height // 2)))
        return np.concatenate([picture, above], axis=1)


def events_before(recording: Recording, t_us: int, length_us: int) -> np.ndarray:
    """Return the events of the ``length_us`` before a timestamp, none where the recording has none there."""
    start_us = max(0, t_us - length_us)
    if start_us >= min(t_us, recording.stop_us):
        return np.zeros(0, EVENT_DTYPE)
    return recording.read(start_us, t_us)


def as_box_array(results: Sequence[Detections]) -> np.ndarray:
    """Return detections in GEN1's layout, BOX_DTYPE [N], the score as ``confidence``."""
    rows = []
    for result in results:
        part = np.zeros(len(result), BOX_DTYPE)
        part["ts"] = result.t_us
        part["x"], part["y"] = result.xyxy[:, 0], result.xyxy[:, 1]
        part["w"], part["h"] = result.xyxy[:, 2] - result.xyxy[:, 0], result.xyxy[:, 3] - result.xyxy[:, 1]
        part["class_id"], part["confidence"] = result.labels, result.scores
        rows.append(part)
    boxes = np.concatenate([np.zeros(0, BOX_DTYPE), *rows])
    ids = np.concatenate([np.zeros(0, np.int64), *(result.track_ids for result in results)])
    # What is not tracked gets a number of its own, which keeps two boxes of one timestamp from passing as one object.
    alone = ids < 0
    ids[alone] = ids.max(initial=-1) + 1 + np.arange(alone.sum())
    boxes["track_id"] = ids
    return boxes


def as_record(result: Detections, classes: Sequence[str], *, classifies: bool = False) -> dict[str, Any]:
    """Return detections of a timestamp as JSON values, those of a classifier as classes without boxes."""
    if classifies:
        return {"t_us": result.t_us, **class_record(result, classes)}
    boxes = [
        {"class": classes[label], "label": label, "score": round(score, 6), "xyxy": [round(side, 3) for side in xyxy]}
        for label, score, xyxy in zip(result.labels.tolist(), result.scores.tolist(), result.xyxy.tolist(), strict=True)
    ]
    for k, (box, track_id) in enumerate(zip(boxes, result.track_ids.tolist(), strict=True)):
        if track_id >= 0:
            box["track_id"] = track_id
        box |= task_record(result, k)
    return {"t_us": result.t_us, "boxes": boxes}

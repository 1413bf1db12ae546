"""Boxes for a recording that has none: from a detector or from motion, in the project's layout and as COCO pictures."""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spiking_centernet.data import DatRecording, DatWriter, Recording, write_boxes
from spiking_centernet.data.convert import Labels, coco
from spiking_centernet.data.layouts import BOXES_SUFFIX, CLASSES_FILE, read_class_names
from spiking_centernet.data.motion import MotionSettings, moving_boxes, usual_activity
from spiking_centernet.errors import ConfigError, WindowError
from spiking_centernet.inference.recordings import as_box_array, detections_at, events_before
from spiking_centernet.inference.tracking import CONTINUE_SCORE
from spiking_centernet.inference.tracking import track as follow
from spiking_centernet.model import AnyDetector
from spiking_centernet.model.scaling import Scale
from spiking_centernet.structures import Detections
from spiking_centernet.utils import progress
from spiking_centernet.utils.files import atomic_write
from spiking_centernet.visualize.draw import events_image, save_png

SHOWN_US = 40_000
"""How many microseconds of events a picture shows: longer ones smear what moves."""


def label_stops_us(recording: Recording, every_us: int, start_us: int = 0, stop_us: int | None = None) -> list[int]:
    """Return the timestamps to label: the multiples of ``every_us`` in ``(start_us, stop_us]`` with events before them.

    Raises:
        WindowError: If there is none.
    """
    stop_us = recording.stop_us if stop_us is None else stop_us
    stops_us = [t for t in recording.stops_us(every_us) if start_us < t <= stop_us]
    if not stops_us:
        raise WindowError(
            f"{recording.path}: no multiple of {every_us} us lies between {start_us} and {stop_us} us of a recording "
            f"from {recording.start_us} to {recording.stop_us} us; choose other times or label more often"
        )
    return stops_us


def boxes_by_model(
    model: AnyDetector,
    recording: Recording,
    stops_us: list[int],
    *,
    every_us: int,
    min_score: float | None = None,
    scale: Scale = "auto",
    track: bool = False,
) -> Labels:
    """Return a detector's boxes as labels, the score as their confidence.

    Args:
        model: the detector.
        recording: what to label.
        stops_us: the timestamps.
        every_us: microseconds between them.
        min_score: detections below are dropped; None takes the network's ``score_threshold``.
        scale: at which the events are binned, see ``model.scaling.choose_scaling``.
        track: keep only what belongs to a track and number the tracks, see ``tracking.track``.

    Raises:
        ConfigError, EventFileError, MissingPackageError: as ``recordings.detect``.
    """
    start_score = model.config.deployment.score_threshold if min_score is None else min_score
    least = min(CONTINUE_SCORE, start_score) if track else start_score
    found: Iterable[Detections] = detections_at(model, recording, stops_us, min_score=least, scale=scale)
    if track:
        found = follow(found, every_us=every_us, start_score=start_score, continue_score=least)
    return _labels(found, model.config.classes, recording, stops_us)


def boxes_by_motion(
    recording: Recording,
    stops_us: list[int],
    *,
    every_us: int,
    name: str = "object",
    settings: MotionSettings | None = None,
    track: bool = False,
) -> Labels:
    """Return boxes around what moves before a fixed camera as labels of one class.

    Args:
        recording: what to label.
        stops_us: the timestamps.
        every_us: microseconds between them.
        name: of the class.
        settings: see :class:`~spiking_centernet.data.motion.MotionSettings`.
        track: keep only what belongs to a track and number the tracks.

    Raises:
        EventFileError, MissingPackageError: as ``recordings.detect``.
    """
    settings = MotionSettings() if settings is None else settings
    usual = usual_activity(recording, settings)

    def detect() -> Iterable[Detections]:
        for t_us in stops_us:
            events = events_before(recording, t_us, settings.window_us)
            xyxy = moving_boxes(events, recording.size_hw, usual, settings)
            yield Detections(xyxy, np.ones(len(xyxy), np.float32), np.zeros(len(xyxy), np.int64), t_us)

    found = detect()
    if track:
        found = follow(found, every_us=every_us, start_score=1.0)
    return _labels(found, (name,), recording, stops_us)


def _labels(found: Iterable[Detections], classes: tuple[str, ...], recording: Recording, stops_us: list[int]) -> Labels:
    results = list(progress.track(found, f"labeling {recording.path.name}", len(stops_us)))
    return Labels(as_box_array(results), classes, recording.size_hw, np.array(stops_us, np.int64))


@dataclass(frozen=True)
class LabelFiles:
    """What :func:`write_labels` wrote.

    Attributes:
        events: the recording in the split's folder.
        boxes: its box file.
        classes: the names that class ids count through, a line each.
        coco: the same boxes as COCO JSON, next to its pictures; None if none were asked for.
    """

    events: Path
    boxes: Path
    classes: Path
    coco: Path | None


def write_labels(
    recording: Recording,
    labels: Labels,
    out: str | os.PathLike[str],
    *,
    split: str = "train",
    pictures: bool = True,
) -> LabelFiles:
    """Write a recording and its labels into a folder in the project's layout, and pictures that a COCO tool can open.

    ``split/NAME_td.dat`` is a link to the recording where that is a DAT file already, else a copy of its events.
    ``coco/NAME_split/annotations.json`` holds the boxes of every timestamp, those without a box too, for
    ``NAME_<t_us>us.png`` next to it; :func:`~spiking_centernet.data.convert.corrections.take_back` reads it back.

    Args:
        recording: the events.
        labels: its boxes.
        out: the folder; recordings that it holds already stay.
        split: train, val or test.
        pictures: whether to write COCO JSON and pictures.

    Raises:
        ConfigError: If the folder's ``classes.txt`` names other classes.
        EventFileError: If the recording cannot be stored as DAT.
    """
    out = Path(out)
    name = recording.path.stem.removesuffix("_td")
    paths = LabelFiles(
        out / split / f"{name}_td.dat", out / split / f"{name}{BOXES_SUFFIX}", out / CLASSES_FILE,
        out / "coco" / f"{name}_{split}" / "annotations.json" if pictures else None,
    )  # fmt: skip
    _write_classes(paths.classes, labels.classes)
    _place_events(recording, paths.events)
    write_boxes(paths.boxes, labels.boxes, classes=labels.classes)
    if paths.coco is not None:
        stops_us = labels.timestamps_us.tolist()
        for t_us in progress.track(stops_us, "drawing pictures"):
            image = events_image(events_before(recording, t_us, SHOWN_US), recording.size_hw)
            save_png(image, paths.coco.with_name(coco.picture_name(name, t_us)))
        coco.write(paths.coco, labels, stem=name)
    return paths


def _write_classes(path: Path, classes: tuple[str, ...]) -> None:
    known = read_class_names(path.parent)
    if known is None:
        with atomic_write(path) as temporary:
            temporary.write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    elif known != classes:
        raise ConfigError(
            f"{path}: names other classes than {', '.join(classes)}: {', '.join(known)}; label into another folder, or "
            "give --name"
        )


def _place_events(recording: Recording, target: Path) -> None:
    if target.exists() or target.is_symlink():
        if target.exists() and recording.path.exists() and target.samefile(recording.path):
            return
        target.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    # A copy where the file was repaired on reading or does not say its size, so that every reader sees the same events.
    repaired = recording.num_dropped or recording.clock_us or recording.restarts_us
    if isinstance(recording, DatRecording) and not repaired and recording.dat.header.size_hw == recording.size_hw:
        try:
            target.symlink_to(recording.path.resolve())
        except OSError:
            with atomic_write(target) as temporary:
                shutil.copyfile(recording.path, temporary)
        return
    with DatWriter(target, recording.size_hw) as writer:
        for window in recording.windows(100_000, 100_000):
            writer.append(window.events)

"""One file into another: labels between the formats of four families of tools, recordings into DAT."""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from spiking_centernet import data
from spiking_centernet.data import DatWriter, Recording
from spiking_centernet.data.box_files import MAX_CLASSES
from spiking_centernet.data.convert import coco, kitti, mot, ncars, prophesee, yolo
from spiking_centernet.data.convert.labels import Labels
from spiking_centernet.data.io import OPENERS
from spiking_centernet.data.layouts import BOXES_SUFFIX, CLASSES_FILE, read_class_names
from spiking_centernet.errors import BoxFileError, ConfigError, did_you_mean
from spiking_centernet.structures import CLASS_NAMES, find_class
from spiking_centernet.utils.files import atomic_write
from spiking_centernet.utils.progress import track
from spiking_centernet.utils.text import counted

FORMATS = ("gen1", "1mpx", "coco", "yolo", "mot", "kitti", "dat", "ncars")
"""What can be written: Prophesee's two box layouts, COCO's JSON, YOLO's folder, MOT's text, KITTI's folder, DAT; and
cut-outs of a whole split, as N-CARS has them."""

BY_SUFFIX = {".npy": "gen1", ".json": "coco", ".csv": "mot", ".txt": "mot", "": "yolo", ".dat": "dat"}


@dataclass(frozen=True)
class Conversion:
    """What :func:`convert_file` did.

    Attributes:
        path: the file or folder written.
        found: what the source was, in words.
        lost: what the target cannot hold, in words; empty if nothing was lost.
    """

    path: Path
    found: str
    lost: tuple[str, ...]


def convert_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    to: str | None = None,
    size_hw: tuple[int, int] | None = None,
    classes: Sequence[str] | None = None,
    every_us: Fraction | float | None = None,
    fps: Fraction | float | None = None,
    columns: str | None = None,
    unit: str | None = None,
) -> Conversion:
    """Convert labels or a recording.

    Args:
        source: box file (``.npy``), JSON of COCO or of ``scn detect``, folder of YOLO or KITTI text files, MOT text,
            a split (to "kitti" and "ncars"), or any recording.
        target: what to write.
        to: one of ``FORMATS``; None goes by the target's ending, a name without one is a folder for YOLO.
        size_hw: height and width of the sensor in pixels; None takes what the source or the recording next to it says.
        classes: names of the classes, where the source has numbers only; None takes car and pedestrian.
        every_us: microseconds between pictures or frames, where the source does not say times.
        fps: pictures or frames a second instead.
        columns: order of the columns of a recording, see ``data.open``.
        unit: of its times, see ``data.open``.

    Raises:
        BoxFileError: the labels are damaged, or size or times are not known.
        EventFileError: the recording is damaged or cannot be stored as DAT.
        ConfigError: the target's format is unknown, or holds no such things.
    """
    source, target = Path(source), Path(target)
    if fps is not None:
        if every_us is not None or not fps > 0:
            raise ConfigError(f"give the time between pictures or a positive fps, not both, got {every_us} and {fps}")
        every_us = 1_000_000 / Fraction(str(fps))
    if to is None:
        if target.suffix.lower() not in BY_SUFFIX:
            known = did_you_mean(target.suffix, BY_SUFFIX)
            raise ConfigError(f"{target}: cannot write {target.suffix!r}{known}, or no ending for a folder (YOLO)")
        to = BY_SUFFIX[target.suffix.lower()]
    elif to not in FORMATS:
        raise ConfigError(f"cannot convert to {to!r}{did_you_mean(to, FORMATS)}")
    if to == "ncars":
        made = ncars.write_ncars(source.parent, source.name, target)
        return Conversion(
            made.folder, f"labeled recordings: {made.cars} cars and {made.background} places without an object",
            (f"objects other than cars, cars under {ncars.LEAST_SIDE_PX} px, and what lies around the cut-outs",),
        )  # fmt: skip
    kind = _kind(source)
    if to == "kitti" or kind == "KITTI":
        return _with_kitti(kind, source, target, to, every_us)
    if kind == "recording":
        if to != "dat":
            raise ConfigError(
                f"{source} is a recording, which is written as DAT; name the target *_td.dat, not {target}"
            )
        return _to_dat(data.open(source, size_hw=size_hw, columns=columns, unit=unit), target)
    if to == "dat":
        raise ConfigError(f"{source} holds labels, which DAT cannot hold; choose one of {', '.join(FORMATS[:-2])}")
    labels = _read(kind, source, size_hw or _size_beside(source), None if classes is None else tuple(classes), every_us)
    if size_hw is not None or labels.size_hw is None:
        labels = dataclasses.replace(labels, size_hw=size_hw or _size_beside(source))
    lost = [*labels.left_out, *_write(to, target, labels, source.stem.removesuffix("_bbox"))]
    if labels.joints is not None and labels.joints.any() and to in ("yolo", "mot"):
        lost.append(f"joints of {counted(int(labels.joints.any(axis=(1, 2)).sum()), 'object')}")
    if len(labels.crowds) and to in ("yolo", "mot"):
        lost.append(f"{counted(len(labels.crowds), 'region')} of crowds or to be ignored")
    return Conversion(target, f"{kind}, {_boxes_at(len(labels.boxes), len(labels.timestamps_us))}", tuple(lost))


def _boxes_at(num_boxes: int, num_frames: int) -> str:
    return f"{counted(num_boxes, 'box')} at {counted(num_frames, 'timestamp')}"


def _kind(source: Path) -> str:
    suffix = source.suffix.lower()
    if not source.exists():
        raise BoxFileError(f"{source}: no such file or folder; check the path")
    if source.is_dir():
        return "KITTI" if kitti.has_labels(source) else "YOLO"
    if suffix == ".json":
        return "COCO"
    if suffix == ".npy" and source.is_file() and _is_box_file(source):
        return "Prophesee boxes"
    if suffix in (".csv", ".txt") and source.is_file():
        with source.open("rb") as file:
            first = file.readline(4096)
        # Events have four columns; more have a line of names.
        if mot.beside(source).is_file() or (first.count(b",") >= 6 and not first[:1].isalpha()):
            return "MOT"
    if suffix in OPENERS:
        return "recording"
    raise BoxFileError(
        f"{source}: is neither labels (.npy, .json, .csv, a folder) nor a recording ({', '.join(OPENERS)})"
    )


def _is_box_file(source: Path) -> bool:
    try:
        names = np.load(source, mmap_mode="r", allow_pickle=False).dtype.names or ()
    except (OSError, ValueError, EOFError):
        return source.stem.endswith("_bbox")
    return "class_id" in names


def _size_beside(source: Path) -> tuple[int, int] | None:
    recording = source.with_name(f"{source.stem.removesuffix('_bbox')}_td.dat")
    return data.read_header(recording).size_hw if recording.is_file() else None


def _read(
    kind: str,
    source: Path,
    size_hw: tuple[int, int] | None,
    classes: tuple[str, ...] | None,
    every_us: Fraction | float | None,
) -> Labels:
    if kind == "YOLO":
        return yolo.read(source, size_hw=size_hw, classes=classes, every_us=every_us)
    if kind == "COCO":
        return coco.read(source, every_us=every_us)
    if kind == "MOT":
        return mot.read(source, classes=classes, every_us=every_us)
    named = read_class_names(source.parent, source.parent.parent)
    return prophesee.read(source, classes=classes or named or CLASS_NAMES)


def _write(to: str, target: Path, labels: Labels, stem: str) -> list[str]:
    if to == "coco":
        return coco.write(target, labels, stem=stem)
    if to == "yolo":
        return yolo.write(target, labels, stem=stem)
    if to == "mot":
        return mot.write(target, labels)
    named = _with_names_beside(target, labels)
    return prophesee.write(target, named, layout=to)


def _with_names_beside(target: Path, labels: Labels) -> Labels:
    """Return labels whose ids count through ``classes.txt`` of the target's folder, after adding names it lacks."""
    folders = target.parent, target.parent.parent
    folder = next((folder for folder in folders if (folder / CLASSES_FILE).is_file()), target.parent)
    before = read_class_names(folder)
    if before is None:
        if labels.classes == CLASS_NAMES:
            return labels
        # Box files that lie there without names count through GEN1's classes.
        others = [path for path in target.parent.glob(f"*{BOXES_SUFFIX}") if path != target]
        before = CLASS_NAMES if others else ()
    new = [name for name in labels.classes if find_class(name, before) is None]
    classes = (*before, *new)
    place = np.array([find_class(name, classes) for name in labels.classes], np.int64)
    if len(classes) > MAX_CLASSES:
        raise BoxFileError(f"{target}: {len(classes)} classes are more than a box file's {MAX_CLASSES}; leave some out")
    boxes, crowds = labels.boxes.copy(), labels.crowds.copy()
    boxes["class_id"], crowds["class_id"] = place[boxes["class_id"]], place[crowds["class_id"]]
    if new:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / CLASSES_FILE) as temporary:
            temporary.write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    return dataclasses.replace(labels, boxes=boxes, crowds=crowds, classes=classes)


def _with_kitti(kind: str, source: Path, target: Path, to: str, every_us: Fraction | float | None) -> Conversion:
    if kind == "KITTI":
        if to != "gen1":
            raise ConfigError(f"KITTI's labels become a box file with objects and cameras; use --to gen1, not {to}")
        num_frames, num_boxes, lost = kitti.read_folder(source, target, every_us=every_us)
        return Conversion(target, f"KITTI, {_boxes_at(num_boxes, num_frames)}", lost)
    if not source.is_dir():
        raise ConfigError(f"{source}: KITTI's folder is written from a split of a data set, such as data/roads/test")
    num_frames, lost = kitti.write_folder(source, target)
    return Conversion(target, f"boxes with objects and cameras at {counted(num_frames, 'timestamp')}", lost)


def _to_dat(recording: Recording, target: Path) -> Conversion:
    piece_us = 100_000
    num_pieces = 0
    if recording.num_events:
        num_pieces = (recording.stop_us - 1) // piece_us - recording.start_us // piece_us + 1
    pieces = track(recording.windows(piece_us, piece_us), f"converting {recording.path.name}", num_pieces)
    with DatWriter(target, recording.size_hw) as writer:
        for piece in pieces:
            writer.append(piece.events)
    lost = []
    if recording.num_dropped:
        lost.append(f"{counted(recording.num_dropped, 'bad event')}")
    if recording.restarts_us:
        lost.append(f"that the camera's clock started again {counted(len(recording.restarts_us), 'time')}")
    if recording.num_unsorted:
        lost.append(f"own times of {counted(recording.num_unsorted, 'event')} out of order")
    if recording.clock_us:
        lost.append(f"the clock's start ({recording.clock_us} us is 0 now)")
    return Conversion(target, f"{recording.kind}, {counted(recording.num_events, 'event')}", tuple(lost))

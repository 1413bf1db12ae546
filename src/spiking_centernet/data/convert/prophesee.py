"""Prophesee's box files, in the layouts of GEN1 (33 bytes per box) and of 1 Mpx (40 bytes); joints lie next to them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from spiking_centernet.data import read_boxes, write_boxes
from spiking_centernet.data.convert.labels import Labels
from spiking_centernet.data.layouts import CROWDS_SUFFIX
from spiking_centernet.data.object_files import (
    CAMERA_SUFFIX,
    OBJECTS_SUFFIX,
    has_areas,
    joint_rows,
    num_joints_of,
    read_beside,
    write_objects,
)
from spiking_centernet.errors import BoxFileError
from spiking_centernet.utils.files import atomic_write
from spiking_centernet.utils.text import counted

MEGAPIXEL_DTYPE = np.dtype(
    {
        "names": ["t", "x", "y", "w", "h", "class_id", "track_id", "class_confidence"],
        "formats": ["<i8", "<f4", "<f4", "<f4", "<f4", "<u4", "<u4", "<f4"],
        "offsets": [0, 8, 12, 16, 20, 24, 28, 32],
        "itemsize": 40,
    }
)
"""``EventBbox`` of https://github.com/prophesee-ai/prophesee-automotive-dataset-toolbox (src/io/box_loading.py)."""


def read(path: Path, *, classes: Sequence[str]) -> Labels:
    """Read a box file of either layout, with joints and crowds that lie next to it; raises as ``read_boxes``."""
    boxes = read_boxes(path, classes=classes)
    regions = _beside(path, CROWDS_SUFFIX)
    crowds = read_boxes(regions, classes=classes, areas=True) if regions.is_file() else boxes[:0]
    joints, areas = _joints_beside(path, boxes)
    return Labels(boxes, tuple(classes), joints=joints, crowds=crowds, areas=areas)


def _beside(path: Path, suffix: str) -> Path:
    """Return the file of this ending next to a box file, ``NAME_bbox.npy`` or ``NAME.npy``."""
    return path.with_name(path.stem.removesuffix("_bbox") + suffix)


def _joints_beside(path: Path, boxes: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return joints [N, J, 3] and areas [N] of the objects next to a box file, None where they have none."""
    objects = read_beside(_beside(path, OBJECTS_SUFFIX), _beside(path, CAMERA_SUFFIX), path)
    count = 0 if objects is None else num_joints_of(objects.rows.dtype)
    if objects is None or not count:
        return None, None

    def keys(rows: np.ndarray) -> Iterator[tuple[int, int]]:
        return zip(rows["ts"].tolist(), rows["track_id"].tolist(), strict=True)

    known = dict(zip(keys(objects.rows), objects.rows, strict=True))
    rows = [known.get(key) for key in keys(boxes)]
    nothing = np.zeros((count, 3), np.float32)
    joints = np.array([nothing if row is None else row["joints"] for row in rows], np.float32).reshape(-1, count, 3)
    if not has_areas(objects.rows.dtype):
        return joints, None
    return joints, np.array([np.nan if row is None else row["area"] for row in rows], np.float32)


def write(path: Path, labels: Labels, *, layout: str = "gen1") -> list[str]:
    """Write a box file in the layout ``gen1`` or ``1mpx``; return what it cannot hold, in words.

    Crowds are written next to it, and joints as objects whose 3D boxes are not known.

    Raises:
        BoxFileError: A box does not fit, or two people with joints have the same time and track.
    """
    objects = _objects(path, labels)
    if layout == "gen1":
        write_boxes(path, labels.boxes, classes=labels.classes)
    else:
        stored = np.zeros(len(labels.boxes), MEGAPIXEL_DTYPE)
        stored["t"], stored["class_confidence"] = labels.boxes["ts"], labels.boxes["confidence"]
        for name in ("x", "y", "w", "h", "class_id", "track_id"):
            stored[name] = labels.boxes[name]
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.save(file, stored, allow_pickle=False)
    write_crowds(path, labels)
    if objects is not None:
        write_objects(_beside(path, OBJECTS_SUFFIX), objects)
    return [f"{counted(labels.num_empty, 'labeled frame')} without a box"] if labels.num_empty else []


def write_crowds(path: Path, labels: Labels) -> None:
    """Write the crowds next to a box file; without any, remove those of the boxes that it held before."""
    beside = _beside(path, CROWDS_SUFFIX)
    if len(labels.crowds):
        write_boxes(beside, labels.crowds, classes=labels.classes)
    else:
        beside.unlink(missing_ok=True)


def _objects(path: Path, labels: Labels) -> np.ndarray | None:
    """Return joints and areas of the boxes that have some as rows of objects, None where there are no joints."""
    if labels.joints is None or not labels.joints.any():
        return None
    areas = np.full(len(labels.boxes), np.nan, np.float32) if labels.areas is None else labels.areas
    posed = np.flatnonzero(labels.joints.any(axis=(1, 2)) | ~np.isnan(areas))
    rows = joint_rows(labels.joints[posed], areas[posed])
    for name in ("ts", "track_id", "class_id"):
        rows[name] = labels.boxes[name][posed]
    keys = np.stack([rows["ts"], rows["track_id"].astype(np.uint64)], axis=1)
    if len(np.unique(keys, axis=0)) < len(keys):
        raise BoxFileError(f"{path}: two people of one timestamp have the same track; number the tracks in the source")
    return rows

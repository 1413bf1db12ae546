"""Box files (``*_bbox.npy``) in the layouts of GEN1 and of 1 Mpx, and what lies at a timestamp."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spiking_centernet.boxes import iou_matrix
from spiking_centernet.errors import BoxFileError, one_line
from spiking_centernet.structures import BOX_DTYPE, CLASS_NAMES, Boxes
from spiking_centernet.utils.files import atomic_write

MAX_TIME_US = 2**53
"""Nearly three centuries, the last time that is exact in every number type a file may use."""
MAX_PX = 1e6
"""No sensor is near as wide; a coordinate beyond is damage, and float32 would round it."""
MAX_CLASSES = 256
"""What a class id of one byte can tell apart."""
REPEATED_IOU = 0.5
"""Two boxes of one timestamp, track and class that overlap so far are one object, labeled again."""
MAX_CONFIDENCE = float(np.finfo(np.float32).max)
FIELDS = BOX_DTYPE.names or ()
AREA_DTYPE = np.dtype([*BOX_DTYPE.descr, ("area", "<f4")])
"""A box and the square pixels that the object itself covers, NaN where unknown."""
ALIASES = {"ts": ("ts", "t"), "confidence": ("confidence", "class_confidence")}


def read_boxes(
    path: str | os.PathLike[str], *, classes: Sequence[str] = CLASS_NAMES, areas: bool = False
) -> np.ndarray:
    """Read a box file of either layout, by field name.

    Args:
        path: the file.
        classes: the names that class ids count through.
        areas: whether to read areas as well, where the file has any.

    Returns:
        BOX_DTYPE array, AREA_DTYPE with areas, sorted by time. A file without confidences reads as 1, without track ids
        as one track per box.

    Raises:
        BoxFileError: the file is missing or no box file, or a box has NaN, a negative time or size, or an unknown
            class.
    """
    path = Path(path)
    stored = read_npy(path)
    names = stored.dtype.names
    if names is None or stored.ndim != 1:
        raise BoxFileError(f"{path}: must hold a flat structured array of boxes; export it in the GEN1 layout")
    columns = {"confidence": np.ones(len(stored)), "track_id": np.arange(len(stored))}
    for field in FIELDS:
        found = next((name for name in ALIASES.get(field, (field,)) if name in names), None)
        if found is not None:
            columns[field] = stored[found]
    missing = [field for field in FIELDS if field not in columns]
    if missing:
        raise BoxFileError(f"{path}: lacks the fields {missing}, has {list(names)}; export it in the GEN1 layout")
    _check_columns(str(path), columns, classes)
    boxes = np.empty(len(stored), BOX_DTYPE)
    for field, column in columns.items():
        boxes[field] = column
    if areas and "area" in names:
        boxes = with_areas(boxes, checked_areas(path, stored["area"]))
    return boxes[np.argsort(boxes["ts"], kind="stable")]


def with_areas(boxes: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """Return BOX_DTYPE rows as AREA_DTYPE with their areas [N]; as they are where no area is known."""
    if np.isnan(areas).all():
        return boxes
    rows = np.empty(len(boxes), AREA_DTYPE)
    for field in FIELDS:
        rows[field] = boxes[field]
    rows["area"] = areas
    return rows


def checked_areas(where: str | Path, areas: np.ndarray) -> np.ndarray:
    """Return areas in square pixels, NaN where unknown, as float32.

    Raises:
        BoxFileError: one is no number, negative, or larger than any picture.
    """
    bad = (
        areas.dtype.kind not in "iuf"
        or areas.ndim != 1
        or not (np.isnan(areas) | (np.abs(areas) <= MAX_PX**2) & (areas >= 0)).all()
    )
    if bad:
        raise BoxFileError(f"{where}: has an area that is not 0 to {MAX_PX**2:g} square pixels; correct it")
    return areas.astype(np.float32)


def read_npy(path: Path) -> np.ndarray:
    """Return the array of a ``.npy`` file whose header fits its size; nothing is unpickled.

    Raises:
        BoxFileError: The file is missing or is no such file.
    """
    try:
        with path.open("rb") as file:
            try:
                version = np.lib.format.read_magic(file)
                read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                shape, _, dtype = read_header[version](file)
                needed, given = math.prod(shape) * dtype.itemsize, path.stat().st_size - file.tell()
            except Exception as error:  # numpy evaluates the header as Python text and passes on whatever that raises
                raise BoxFileError(
                    f"{path}: is no readable .npy file ({one_line(error)}); copy or export it again"
                ) from error
            # Before numpy asks for the memory that the header claims.
            if dtype.hasobject or min(shape, default=0) < 0 or needed != given:
                raise BoxFileError(
                    f"{path}: is no readable .npy file of numbers: its header claims {needed} bytes of {dtype}, it "
                    f"holds {given}; copy or export it again"
                )
            return np.frombuffer(file.read(needed), dtype).reshape(shape)
    except FileNotFoundError as error:
        raise BoxFileError(f"{path}: no such box file; it must lie next to its recording") from error
    except (OSError, ValueError) as error:
        if isinstance(error, BoxFileError):
            raise
        raise BoxFileError(f"{path}: cannot be read ({error}); check the path") from error


def _check_columns(where: str, columns: dict[str, np.ndarray], classes: Sequence[str]) -> None:
    def refuse(bad: np.ndarray, field: str, why: str) -> None:
        if bad.any():
            index = int(np.argmax(bad))
            raise BoxFileError(f"{where}: box {index} has {field} {columns[field][index]}, {why}")

    for field in FIELDS:
        kind = columns[field].dtype
        if kind.kind not in "iuf" or columns[field].ndim != 1:
            raise BoxFileError(f"{where}: field {field} has type {kind}, must be one number; export it again")
        refuse(~np.isfinite(columns[field]), field, "which is no finite number; remove or correct the box")
    for field in ("w", "h"):
        refuse(columns[field] < 0, field, "which is negative; boxes are x, y (top left), w, h in pixels")
    refuse(columns["ts"] < 0, "ts", "which is negative; times count from the recording's start in microseconds")
    refuse(columns["ts"] > MAX_TIME_US, "ts", f"which is beyond {MAX_TIME_US} us; correct the box")
    for field in ("x", "y", "w", "h"):
        refuse(np.abs(columns[field]) > MAX_PX, field, f"which is beyond {MAX_PX} pixels; correct the box")
    refuse(np.abs(columns["confidence"]) > MAX_CONFIDENCE, "confidence", "which is beyond float32; correct the box")
    for field in ("ts", "class_id", "track_id"):
        refuse(columns[field] != np.floor(columns[field]), field, "which is no whole number; correct the box")
    outside = (columns["track_id"] < 0) | (columns["track_id"] >= 2**32)
    refuse(outside, "track_id", "which is not 0 to 4294967295; give every unknown track a number of its own")
    known = ", ".join(f"{index} {name}" for index, name in enumerate(classes))
    unknown = (columns["class_id"] < 0) | (columns["class_id"] >= min(len(classes), MAX_CLASSES))
    refuse(unknown, "class_id", f"known: {known}; name the data set's own in classes.txt")


def write_boxes(path: str | os.PathLike[str], boxes: np.ndarray, *, classes: Sequence[str] = CLASS_NAMES) -> None:
    """Write boxes in GEN1's 33-byte layout, whole or not at all.

    Args:
        path: the file to create or replace.
        boxes: flat array of BOX_DTYPE, or of AREA_DTYPE, whose rows have a field more.
        classes: the names that class ids count through.

    Raises:
        BoxFileError: ``boxes`` are of another type, or as ``read_boxes``.
    """
    if boxes.dtype not in (BOX_DTYPE, AREA_DTYPE) or boxes.ndim != 1:
        raise BoxFileError(f"{path}: boxes must be flat BOX_DTYPE, got {boxes.dtype} {list(boxes.shape)}; convert them")
    _check_columns(str(path), {field: boxes[field] for field in FIELDS}, classes)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.save(file, boxes, allow_pickle=False)


def clean_boxes(boxes: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Keep the last of boxes that label one object twice, clip to the frame, drop what has no size left.

    Boxes of one timestamp label one object twice if they share track and class and overlap by half or more. Boxes that
    share a track number and lie apart are different objects whose tracks nobody numbered.

    Args:
        boxes: BOX_DTYPE or AREA_DTYPE array; not changed.
        size_hw: height and width of the frame in pixels.

    Returns:
        a new array of their type in the order given.
    """
    kept = boxes[~_repeated(boxes)]
    for start, size, limit in (("x", "w", size_hw[1]), ("y", "h", size_hw[0])):
        low = np.clip(kept[start], 0, limit)
        high = np.clip(kept[start] + kept[size], 0, limit)
        kept[start], kept[size] = low, high - low
    return kept[(kept["w"] > 0) & (kept["h"] > 0)]


def _repeated(boxes: np.ndarray) -> np.ndarray:
    """Return which boxes a later one of the same timestamp, track and class covers by half or more, bool [N]."""
    keys = np.stack([boxes["ts"], boxes["track_id"].astype(np.uint64), boxes["class_id"].astype(np.uint64)], axis=1)
    _, group, size = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    repeated = np.zeros(len(boxes), bool)
    for number in np.flatnonzero(size > 1):
        members = np.flatnonzero(group.reshape(-1) == number)
        some = boxes[members]
        xyxy = np.stack([some["x"], some["y"], some["x"] + some["w"], some["y"] + some["h"]], axis=1)
        overlaps = iou_matrix(xyxy, xyxy)
        for k in range(len(members) - 1):
            repeated[members[k]] = overlaps[k, k + 1 :].max() >= REPEATED_IOU
    return repeated


def label_timestamps(boxes: np.ndarray) -> np.ndarray:
    """Return the times in microseconds at which boxes stand, int64, sorted, each once."""
    return np.unique(boxes["ts"]).astype(np.int64)


def boxes_at(boxes: np.ndarray, t_us: int) -> Boxes:
    """Return the boxes that stand exactly at ``t_us`` (empty if none), as ``xyxy`` in pixels."""
    here = boxes[boxes["ts"] == int(t_us)]
    x, y = here["x"], here["y"]
    xyxy = np.stack([x, y, x + here["w"], y + here["h"]], axis=1).astype(np.float32)
    areas = here["area"] if here.dtype == AREA_DTYPE else np.full(len(here), np.nan, np.float32)
    return Boxes(xyxy, here["class_id"].astype(np.int64), here["track_id"].astype(np.int64), areas=areas)

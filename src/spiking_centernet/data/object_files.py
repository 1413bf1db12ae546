"""3D boxes, joints and cameras next to a box file: ``*_objects.npy`` and ``*_camera.npy``."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from spiking_centernet.calibration import Calibration
from spiking_centernet.data.box_files import MAX_TIME_US, checked_areas, read_npy
from spiking_centernet.errors import BoxFileError
from spiking_centernet.structures import Boxes
from spiking_centernet.utils.files import atomic_write

OBJECTS_SUFFIX, CAMERA_SUFFIX = "_objects.npy", "_camera.npy"

CAMERA_DTYPE = np.dtype(
    [
        ("ts", "<u8"),
        ("focal", "<f8", (2,)),
        ("center", "<f8", (2,)),
        ("rotation", "<f8", (3, 3)),
        ("translation", "<f8", (3,)),
        ("height_m", "<f8"),
    ]
)
"""The camera of one labeled timestamp; the fields are those of :class:`Calibration`, ``height_m`` NaN where unknown."""

MAX_JOINTS = 1000


def object_dtype(num_joints: int = 0, *, areas: bool = False) -> np.dtype:
    """Return the type of a row of ``*_objects.npy``: one for every row of the box file, with its ``ts`` and track.

    ``location`` x, y, z of the bottom face's middle and ``dimensions`` height, width, length in meters, ``yaw`` in
    radians, all in the leveled camera frame; ``visible`` the share of the silhouette that is to be seen, ``truncated``
    the share outside the frame; ``joints`` u, v in pixels and visibility, ``joints3d`` x, y, z in meters. Where the 3D
    box is unknown, ``location``, ``dimensions`` and ``yaw`` are all NaN. With ``areas``, ``area`` is what the object
    itself covers in square pixels, NaN where unknown; OKS is taken with it.
    """
    fields: list[tuple] = [
        ("ts", "<u8"), ("track_id", "<u4"), ("class_id", "u1"), ("location", "<f4", (3,)), ("dimensions", "<f4", (3,)),
        ("yaw", "<f4"), ("visible", "<f4"), ("truncated", "<f4"),
    ]  # fmt: skip
    if num_joints:
        fields += [("joints", "<f4", (num_joints, 3)), ("joints3d", "<f4", (num_joints, 3))]
    return np.dtype([*fields, ("area", "<f4")] if areas else fields)


def joint_rows(joints: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """Return rows of ``object_dtype`` that hold joints [N, J, 3] and areas [N]: 3D boxes and 3D joints are unknown.

    Rows have no areas where none is known.
    """
    rows = np.zeros(len(joints), object_dtype(joints.shape[1], areas=not np.isnan(areas).all()))
    if has_areas(rows.dtype):
        rows["area"] = areas
    for name in ("location", "dimensions", "yaw", "joints3d"):
        rows[name] = np.nan
    rows["visible"], rows["joints"] = 1, joints
    return rows


@dataclass(frozen=True)
class Objects:
    """What is known of a recording's boxes beyond the image.

    Attributes:
        rows: of ``object_dtype``, one for every box.
        cameras: of ``CAMERA_DTYPE``, sorted by time; None where the camera is unknown.
    """

    rows: np.ndarray
    cameras: np.ndarray | None = None

    def attach(self, boxes: Boxes, t_us: int) -> Boxes:
        """Return the boxes of a timestamp with 3D boxes, joints and areas by their track; NaN where there is no row."""
        here = self.rows[self.rows["ts"] == t_us]
        order = np.argsort(here["track_id"], kind="stable")
        here = here[order]
        at = np.searchsorted(here["track_id"], boxes.track_ids)
        known = at < len(here)
        known[known] = here["track_id"][at[known]] == boxes.track_ids[known]
        found = here[at[known]]
        box3d = np.full((len(boxes), 7), np.nan, np.float32)
        box3d[known] = np.concatenate([found["location"], found["dimensions"], found["yaw"][:, None]], axis=1)
        num_joints = num_joints_of(self.rows.dtype)
        joints = np.zeros((len(boxes), num_joints, 3), np.float32)
        if num_joints:
            joints[known] = found["joints"]
        areas = np.full(len(boxes), np.nan, np.float32)
        if has_areas(self.rows.dtype):
            areas[known] = found["area"]
        return replace(boxes, box3d=box3d, joints=joints, areas=areas)

    def calibration(self, t_us: int) -> Calibration | None:
        """Return the camera at a labeled timestamp, None where the file does not say."""
        if self.cameras is None:
            return None
        at = int(np.searchsorted(self.cameras["ts"], t_us))
        if at == len(self.cameras) or self.cameras["ts"][at] != t_us:
            return None
        return calibration_of_row(self.cameras[at])


def camera_rows(cameras: Mapping[int, Calibration]) -> np.ndarray:
    """Return ``CAMERA_DTYPE`` rows of cameras by their times in microseconds, sorted."""
    rows = np.zeros(len(cameras), CAMERA_DTYPE)
    for row, (t_us, camera) in zip(rows, sorted(cameras.items()), strict=True):
        row["ts"] = t_us
        for name in ("focal", "center", "rotation", "translation"):
            row[name] = getattr(camera, name)
        row["height_m"] = math.nan if camera.height_m is None else camera.height_m
    return rows


def calibration_of_row(row: np.void) -> Calibration:
    """Return the camera that a ``CAMERA_DTYPE`` row holds.

    Raises:
        ValueError: There is no such camera.
    """
    height = float(row["height_m"])
    return Calibration(
        row["focal"], row["center"], row["rotation"], row["translation"], None if math.isnan(height) else height
    )


def num_joints_of(dtype: np.dtype) -> int:
    """Return how many joints a row of objects has."""
    return dtype["joints"].shape[0] if dtype.names and "joints" in dtype.names else 0


def has_areas(dtype: np.dtype) -> bool:
    """Return whether a row of objects has an area."""
    return "area" in (dtype.names or ())


def read_beside(objects: Path, camera: Path, boxes: Path) -> Objects | None:
    """Return what lies next to a box file, None where it has no objects.

    Args:
        objects: path of the objects.
        camera: path of the cameras; they may be missing.
        boxes: path of the box file.

    Raises:
        BoxFileError: A file is damaged.
    """
    if not objects.is_file():
        return None
    return Objects(read_objects(objects, read_npy(boxes)), read_cameras(camera) if camera.is_file() else None)


def read_objects(path: str | os.PathLike[str], boxes: np.ndarray) -> np.ndarray:
    """Read the objects of a box file, by field name.

    Args:
        path: the file.
        boxes: all rows of the box file next to it, with ``ts`` (or ``t``) and ``track_id``.

    Returns:
        Rows of ``object_dtype``; without joints and areas where the file has none.

    Raises:
        BoxFileError: The file is damaged, a value is not finite or impossible, or a row has no box.
    """
    path = Path(path)
    stored = read_npy(path)
    names = stored.dtype.names or ()
    num_joints = stored.dtype["joints"].shape[0] if "joints" in names and stored.dtype["joints"].shape else 0
    if num_joints > MAX_JOINTS:
        raise BoxFileError(f"{path}: has {num_joints} joints a row, at most {MAX_JOINTS} are read")
    dtype = object_dtype(num_joints, areas=has_areas(stored.dtype))
    rows = np.zeros(stored.shape if stored.ndim == 1 else 0, dtype)
    for name in dtype.names or ():
        if name == "joints3d" and name not in names:
            rows[name] = np.nan
            continue
        _take(path, stored, rows, name)
    _check_rows(path, rows)
    keys = np.stack([rows["ts"], rows["track_id"].astype(np.uint64)], axis=1)
    if len(np.unique(keys, axis=0)) < len(keys):
        raise BoxFileError(f"{path}: two rows have the same ts and track_id; number the tracks, or remove one")
    names = boxes.dtype.names or ()
    if "track_id" not in names:
        raise BoxFileError(
            f"{path}: the boxes next to it have no track_id that its rows could name; export both together"
        )
    times = boxes["ts" if "ts" in names else "t"]
    known = set(zip(times.astype(np.int64).tolist(), boxes["track_id"].astype(np.int64).tolist(), strict=True))
    orphan = next((i for i, key in enumerate(keys.tolist()) if tuple(key) not in known), None)
    if orphan is not None:
        raise BoxFileError(
            f"{path}: row {orphan} (ts {keys[orphan][0]}, track {keys[orphan][1]}) has no box in the box file next to "
            "it; export both together"
        )
    return rows


def read_cameras(path: str | os.PathLike[str]) -> np.ndarray:
    """Read the cameras of a recording's labeled timestamps.

    Returns:
        CAMERA_DTYPE array, sorted by time.

    Raises:
        BoxFileError: The file is damaged, a value is impossible, a rotation is not orthonormal, or a time is repeated.
    """
    path = Path(path)
    stored = read_npy(path)
    rows = np.zeros(stored.shape if stored.ndim == 1 else 0, CAMERA_DTYPE)
    for name in CAMERA_DTYPE.names or ():
        if name == "height_m" and name not in (stored.dtype.names or ()):
            rows[name] = math.nan
            continue
        _take(path, stored, rows, name)
    for i, row in enumerate(rows):
        try:
            calibration_of_row(row)
        except ValueError as error:
            raise BoxFileError(f"{path}: row {i}: {error}; export the camera again") from error
    rows = rows[np.argsort(rows["ts"], kind="stable")]
    if (np.diff(rows["ts"]) == 0).any():
        raise BoxFileError(f"{path}: two rows have the same ts; keep one camera for each labeled timestamp")
    return rows


def _take(path: Path, stored: np.ndarray, rows: np.ndarray, name: str) -> None:
    """Copy a field after checking its shape and kind."""
    if stored.ndim != 1 or name not in (stored.dtype.names or ()):
        raise BoxFileError(f"{path}: must hold a flat structured array with a field {name!r}; export it again")
    column, wanted = stored[name], rows.dtype[name]
    if column.dtype.kind not in "iuf" or column.shape[1:] != wanted.shape:
        raise BoxFileError(
            f"{path}: field {name} has type {column.dtype} {list(column.shape[1:])}, must be numbers "
            f"{list(wanted.shape)}; export it again"
        )
    if wanted.base.kind == "u":
        top = min(MAX_TIME_US, int(np.iinfo(wanted.base).max))
        bad = ~((column >= 0) & (column <= top) & (column == np.floor(column)))
        if bad.any():
            raise BoxFileError(
                f"{path}: row {int(np.argmax(bad))} has {name} {column[np.argmax(bad)]}; export it again"
            )
    with np.errstate(over="ignore"):  # becomes infinite and is refused as such
        rows[name] = column


def _check_rows(path: Path, rows: np.ndarray) -> None:
    def refuse(wrong: np.ndarray, name: str, why: str) -> None:
        bad = wrong.reshape(len(rows), math.prod(wrong.shape[1:])).any(axis=1)  # -1 is unknown without rows
        if bad.any():
            index = int(np.argmax(bad))
            raise BoxFileError(f"{path}: row {index} has {name} {np.round(rows[name][index], 4).tolist()}, {why}")

    unknown = np.isnan(rows["location"]).all(axis=1) & np.isnan(rows["dimensions"]).all(axis=1) & np.isnan(rows["yaw"])
    for name in ("location", "dimensions", "yaw"):
        wrong = ~np.isfinite(rows[name])
        wrong[unknown] = False
        refuse(wrong, name, "which is no finite number; remove or correct the row, or set all of its 3D box to NaN")
    for name in ("visible", "truncated", *(("joints",) if num_joints_of(rows.dtype) else ())):
        refuse(~np.isfinite(rows[name]), name, "which is no finite number; remove or correct the row")
    refuse(rows["dimensions"] <= 0, "dimensions", "which must be positive: height, width, length in meters")
    if has_areas(rows.dtype):
        checked_areas(path, rows["area"])
    if num_joints_of(rows.dtype):
        visibility = rows["joints"][..., 2]
        bad = ~np.isin(visibility, (0, 1, 2))
        refuse(np.repeat(bad[..., None], 3, axis=2), "joints", "whose visibility must be 0, 1 or 2")


def write_objects(path: str | os.PathLike[str], rows: np.ndarray) -> None:
    """Write rows of ``object_dtype``, whole or not at all.

    Raises:
        BoxFileError: A value is not finite or impossible.
    """
    _check_rows(Path(path), rows)
    _save(path, rows)


def write_cameras(path: str | os.PathLike[str], cameras: Mapping[int, Calibration]) -> None:
    """Write the camera of every labeled timestamp in microseconds, whole or not at all."""
    _save(path, camera_rows(cameras))


def _save(path: str | os.PathLike[str], rows: np.ndarray) -> None:
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.save(file, rows, allow_pickle=False)

"""KITTI's folder of 3D labels (cvlibs.net/datasets/kitti): ``label_2``, ``calib`` and ``image_2``.

The rectified camera of such a folder is our leveled one: with ``P2 = K [R | t]`` and ``R0_rect = I`` its boxes turn
about gravity, as ours do. A region that is a crowd becomes a DontCare. KITTI's tools ignore detections of every class
there, also where the crowd is of some classes alone: those are objects that nobody labeled, which is what a DontCare
is for, and a neighboring class (Van, Person_sitting) stands for one object, not for a region. ``regions.csv`` says of
which classes such a region is, ``instants.csv`` which recording and time a number stands for; KITTI's tools pass over
both.
"""

import csv
import io
import shutil
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from spiking_centernet.boxes3d import alpha_of, centers
from spiking_centernet.calibration import Calibration
from spiking_centernet.data.box_files import label_timestamps, read_boxes, write_boxes
from spiking_centernet.data.convert.labels import Labels
from spiking_centernet.data.convert.prophesee import write_crowds
from spiking_centernet.data.frames import FRAMES_SUFFIX
from spiking_centernet.data.kitti_files import KittiObjects, object_rows, read_kitti, read_projection, write_kitti
from spiking_centernet.data.kitti_layout import (
    DONT_CARE,
    REGION_FIELDS,
    REGIONS,
    class_of,
    read_kitti_crowds,
    region_key,
)
from spiking_centernet.data.layouts import BOXES_SUFFIX, CROWDS_SUFFIX, read_class_names
from spiking_centernet.data.object_files import (
    CAMERA_SUFFIX,
    OBJECTS_SUFFIX,
    Objects,
    num_joints_of,
    read_beside,
    write_cameras,
    write_objects,
)
from spiking_centernet.errors import BoxFileError
from spiking_centernet.structures import BOX_DTYPE, CLASS_NAMES, find_class
from spiking_centernet.utils.files import atomic_write
from spiking_centernet.utils.text import counted

VISIBLE_ABOVE = (0.9, 0.6, 0.35)
"""``occluded`` is 0, 1, 2 where more than this share of an object is to be seen, 3 below."""

INSTANTS = "instants.csv"
TYPES = {"pedestrian": "Pedestrian", "car": "Car"}
"""KITTI's word for a class; other classes keep their own."""


def has_labels(folder: Path) -> bool:
    """Return whether a folder is KITTI's, or its ``training``."""
    return _training(folder) is not None


def _training(folder: Path) -> Path | None:
    return next((f for f in (folder, folder / "training") if (f / "label_2").is_dir()), None)


def write_folder(source: Path, target: Path) -> tuple[int, tuple[str, ...]]:
    """Write the labeled frames of a split, with pictures where there are any; return how many, and what was left out.

    Args:
        source: folder of ``*_bbox.npy`` with ``*_objects.npy`` and ``*_camera.npy`` next to them.
        target: folder to write ``training`` (``label_2``, ``calib``, ``image_2``) and ``instants.csv`` into; it must
            not hold a ``training`` yet.

    Raises:
        BoxFileError: There are no box files, one has no objects or no camera, or the target exists.
    """
    paths = sorted(source.glob(f"*{BOXES_SUFFIX}"))
    if not paths:
        raise BoxFileError(f"{source}: holds no *{BOXES_SUFFIX}; give a split of a data set, such as data/roads/test")
    if (target / "training").exists():
        raise BoxFileError(f"{target}: holds a training folder already; choose another")
    classes = read_class_names(source, source.parent) or CLASS_NAMES
    known = [_known(path, classes) for path in paths]
    instants: list[tuple[str, str, int]] = []
    regions_of_some: list[tuple[str, ...]] = []
    without_3d, without_camera, with_height = 0, 0, 0
    for path, (boxes, objects) in zip(paths, known, strict=True):
        regions = path.with_name(path.name.removesuffix(BOXES_SUFFIX) + CROWDS_SUFFIX)
        crowds = read_boxes(regions, classes=classes) if regions.is_file() else boxes[:0]
        with_box = label_timestamps(boxes)
        for t_us in np.union1d(with_box, label_timestamps(crowds)).tolist():
            name = f"{len(instants):06d}"
            camera = objects.calibration(t_us)
            if camera is None and t_us not in with_box:
                without_camera += 1
                continue
            instants.append((name, path.name.removesuffix(BOXES_SUFFIX), t_us))
            if camera is None:
                raise BoxFileError(f"{path}: the camera at {t_us} us is missing in its {CAMERA_SUFFIX} file")
            with_height += camera.height_m is not None
            rows = objects.rows[objects.rows["ts"] == t_us]
            label = _labels(boxes, rows, t_us, classes)
            without_3d += int((boxes["ts"] == t_us).sum()) - len(label)
            found = _regions(crowds[crowds["ts"] == t_us], classes)
            regions_of_some += [
                (*region_key(name, np.array(corners)), one)
                for corners, own in found.items()
                for one in own
                if len(own) < len(classes)
            ]
            label = _with_regions(label, np.array(list(found), np.float64).reshape(-1, 4))
            write_kitti(target / "training" / "label_2" / f"{name}.txt", label)
            _write_calibration(target / "training" / "calib" / f"{name}.txt", camera)
            _copy_frame(path, t_us, target / "training" / "image_2" / f"{name}.png")
    _write_table(target / INSTANTS, [("number", "recording", "t_us"), *instants])
    if regions_of_some:
        _write_table(target / "training" / REGIONS, [REGION_FIELDS, *regions_of_some])
    lost = []
    if any(num_joints_of(objects.rows.dtype) for _, objects in known):
        lost.append("joints")
    if with_height:
        lost.append(f"the camera's height over the ground at {counted(with_height, 'timestamp')}")
    if without_3d:
        lost.append(f"{counted(without_3d, 'box')} whose 3D box is not known")
    if regions_of_some:
        count = len({row[:-1] for row in regions_of_some})
        lost.append(
            f"for KITTI's tools the class of {counted(count, 'region')} of crowds: they ignore every class in a "
            f"DontCare ({REGIONS} keeps the class for scn)"
        )
    if without_camera:
        lost.append(f"{counted(without_camera, 'timestamp')} with nothing but crowds and no camera")
    return len(instants), tuple(lost)


def _write_table(path: Path, rows: Sequence[Sequence[str | int]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    with atomic_write(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _copy_frame(boxes: Path, t_us: int, target: Path) -> None:
    frame = boxes.with_name(boxes.name.removesuffix(BOXES_SUFFIX) + FRAMES_SUFFIX) / f"{t_us}.png"
    if frame.is_file():
        with atomic_write(target) as temporary:
            shutil.copyfile(frame, temporary)


def _known(path: Path, classes: tuple[str, ...]) -> tuple[np.ndarray, Objects]:
    stem = str(path).removesuffix(BOXES_SUFFIX)
    objects = read_beside(Path(stem + OBJECTS_SUFFIX), Path(stem + CAMERA_SUFFIX), path)
    if objects is None or objects.cameras is None:
        raise BoxFileError(
            f"{path}: KITTI's labels need {OBJECTS_SUFFIX} and {CAMERA_SUFFIX} files next to the boxes; simulate with "
            "--labels objects"
        )
    return read_boxes(path, classes=classes), objects


def _labels(boxes: np.ndarray, rows: np.ndarray, t_us: int, classes: tuple[str, ...]) -> KittiObjects:
    here = boxes[boxes["ts"] == t_us]
    rows = rows[np.isfinite(rows["yaw"])]
    here = here[np.isin(here["track_id"], rows["track_id"])]
    rows = rows[np.argsort(rows["track_id"], kind="stable")]
    rows = rows[np.searchsorted(rows["track_id"], here["track_id"])]
    box3d = np.concatenate([rows["location"], rows["dimensions"], rows["yaw"][:, None]], axis=1).astype(np.float64)
    occluded = sum((rows["visible"] <= share).astype(np.int64) for share in VISIBLE_ABOVE) + np.zeros(len(rows), int)
    names = [classes[label] for label in here["class_id"]]
    corners = np.stack([here["x"], here["y"], here["x"] + here["w"], here["y"] + here["h"]], axis=1)
    types = tuple(TYPES[name] if name in TYPES else name.replace(" ", "_") for name in names)
    return KittiObjects(
        types, rows["truncated"].astype(np.float64), occluded,
        alpha_of(box3d[:, 6], centers(box3d)), corners.astype(np.float64), box3d, np.ones(len(here)),
    )  # fmt: skip


def _regions(crowds: np.ndarray, classes: tuple[str, ...]) -> dict[tuple[float, ...], set[str]]:
    """Return the classes of every region, by its sides in pixels, sorted."""
    corners = np.stack([crowds["x"], crowds["y"], crowds["x"] + crowds["w"], crowds["y"] + crowds["h"]], axis=1)
    found: dict[tuple[float, ...], set[str]] = {}
    for sides, label in sorted(zip(map(tuple, corners.tolist()), crowds["class_id"].tolist(), strict=True)):
        found.setdefault(sides, set()).add(classes[label])
    return found


def _with_regions(label: KittiObjects, regions: np.ndarray) -> KittiObjects:
    """Return the label with a DontCare for every region, [N, 4] in pixels."""
    n = len(regions)
    box3d = np.tile([-1000.0, -1000, -1000, -1, -1, -1, -10], (n, 1))
    return KittiObjects(
        (*label.types, *["DontCare"] * n), np.append(label.truncated, np.full(n, -1.0)),
        np.append(label.occluded, np.full(n, -1)), np.append(label.alpha, np.full(n, -10.0)),
        np.concatenate([label.xyxy, regions]), np.concatenate([label.box3d, box3d]),
        np.append(label.scores, np.ones(n)),
    )  # fmt: skip


def _write_calibration(path: Path, camera: Calibration) -> None:
    def line(name: str, values: np.ndarray) -> str:
        return f"{name}: {' '.join(f'{value:.12e}' for value in values.ravel())}\n"

    identity = np.eye(3, 4)
    lines = [line(f"P{k}", camera.matrix) for k in range(4)]
    lines += [line("R0_rect", np.eye(3)), line("Tr_velo_to_cam", identity), line("Tr_imu_to_velo", identity)]
    with atomic_write(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def read_folder(source: Path, target: Path, *, every_us: Fraction | float | None) -> tuple[int, int, tuple[str, ...]]:
    """Write KITTI's labels as one box file with objects, cameras and crowds; return frames, boxes, what was left out.

    Args:
        source: KITTI's folder, or its ``training``.
        target: ``NAME_bbox.npy``; the others are written next to it.
        every_us: microseconds between pictures, in the order of their numbers; None takes those of ``instants.csv``.

    Raises:
        BoxFileError: A file is damaged, or the times are not known.
    """
    training = _training(source)
    assert training is not None
    if not target.name.endswith(BOXES_SUFFIX):
        raise BoxFileError(f"{target}: name the target NAME{BOXES_SUFFIX}; objects and cameras are written next to it")
    paths = sorted((training / "label_2").glob("*.txt"))
    if not paths:
        raise BoxFileError(f"{training / 'label_2'}: holds no labels; copy it again")
    times = _times(training.parent if training.name == "training" else training, paths, every_us)
    boxes, objects, crowds, cameras, other = [], [], [], {}, 0
    for path, t_us in zip(paths, times, strict=True):
        found = read_kitti(path)
        cameras[t_us] = read_projection(training / "calib" / path.name)
        labels = [find_class(name, CLASS_NAMES) for name in found.types]
        keep = np.array([label is not None for label in labels], bool)
        is_region = np.array([class_of(name) == DONT_CARE for name in found.types], bool)
        crowds.append(read_kitti_crowds(path, CLASS_NAMES))
        crowds[-1]["ts"] = t_us
        other += int((~keep & ~is_region).sum())
        rows, solid = np.zeros(keep.sum(), BOX_DTYPE), object_rows(found, keep)
        xyxy = found.xyxy[keep]
        rows["ts"] = solid["ts"] = t_us
        rows["x"], rows["y"] = xyxy[:, 0], xyxy[:, 1]
        rows["w"], rows["h"] = xyxy[:, 2] - xyxy[:, 0], xyxy[:, 3] - xyxy[:, 1]
        rows["class_id"] = solid["class_id"] = [label for label in labels if label is not None]
        rows["confidence"] = found.scores[keep]
        first = sum(map(len, boxes))
        rows["track_id"] = solid["track_id"] = first + np.arange(len(rows))
        boxes.append(rows)
        objects.append(solid)
    stem = str(target).removesuffix(BOXES_SUFFIX)
    write_boxes(target, np.concatenate(boxes))
    write_objects(stem + OBJECTS_SUFFIX, np.concatenate(objects))
    write_cameras(stem + CAMERA_SUFFIX, cameras)
    write_crowds(target, Labels(np.concatenate(boxes), CLASS_NAMES, crowds=np.concatenate(crowds)))
    lost = (f"{counted(other, 'object')} neither car nor pedestrian",) if other else ()
    return len(paths), sum(map(len, boxes)), lost


def _times(folder: Path, paths: list[Path], every_us: Fraction | float | None) -> list[int]:
    if every_us is not None:
        return [round(number * Fraction(every_us)) for number in range(1, len(paths) + 1)]
    try:
        with (folder / INSTANTS).open(newline="", encoding="utf-8") as file:
            rows = {row["number"]: row for row in csv.DictReader(file)}
        if len({row["recording"] for row in rows.values()}) > 1:
            raise BoxFileError(
                f"{folder}: its pictures are of several recordings, one box file holds one; give the time between "
                "pictures (--every_ms) to lay them end to end"
            )
        return [int(rows[path.stem]["t_us"]) for path in paths]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise BoxFileError(f"{folder}: says no times ({error}); give the time between pictures (--every_ms)") from error

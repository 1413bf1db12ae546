"""KITTI's folder of pictures with 3D labels (cvlibs.net/datasets/kitti): ``image_2``, ``label_2`` and ``calib``.

A split is a folder ``train``, ``val`` or ``test`` that holds the three, or a list of numbers
``ImageSets/<split>.txt`` next to them; both with or without a folder ``training`` in between.
"""

import csv
from functools import lru_cache
from pathlib import Path

import numpy as np

from spiking_centernet.data.frames import IMAGE_SUFFIXES
from spiking_centernet.data.image_layouts import SPLIT_NAMES, Found, box_rows
from spiking_centernet.data.kitti_files import KittiObjects, object_rows, read_kitti, read_projection
from spiking_centernet.data.object_files import Objects, camera_rows
from spiking_centernet.errors import BoxFileError, DatasetError
from spiking_centernet.structures import find_class

LABELS, PICTURES, CAMERAS, LISTS = "label_2", "image_2", "calib", "ImageSets"

SCORED = ("car", "pedestrian", "cyclist")
"""The classes of KITTI's benchmark."""

NEIGHBORS = {"van": "car", "person sitting": "pedestrian"}
"""Types so near to a class that its detections on them are neither right nor wrong (KITTI's evaluation)."""

OTHERS = (*NEIGHBORS, "truck", "tram", "misc")
"""KITTI's types that its benchmark does not score."""

DONT_CARE = "dontcare"

REGIONS = "regions.csv"
"""The file next to ``label_2`` that says of which classes a DontCare is, where it is not of all; KITTI's labels cannot
say it, and its tools pass over the file."""
REGION_FIELDS = ("number", "left", "top", "right", "bottom", "class")


def is_kitti(root: Path) -> bool:
    """Return whether a folder, its ``training`` or a split in it holds KITTI's labels."""
    return any(_training(folder) is not None for folder in (root, *_split_folders(root)))


def _training(folder: Path) -> Path | None:
    return next((each for each in (folder, folder / "training") if (each / LABELS).is_dir()), None)


def _split_folders(root: Path, *splits: str) -> list[Path]:
    names = [name for split in splits or SPLIT_NAMES for name in SPLIT_NAMES.get(split, (split,))]
    return [root / name for name in names if (root / name).is_dir()]


def find_kitti(root: Path, split: str) -> list[Found]:
    """Return the pictures of a split of a KITTI folder.

    Raises:
        DatasetError: the list of the split, a picture or its label is missing.
    """
    own = next((found for folder in _split_folders(root, split) if (found := _training(folder)) is not None), None)
    if own is not None:
        names = sorted(path.stem for path in (own / LABELS).glob("*.txt"))
        if not names:
            raise DatasetError(f"{own / LABELS}: holds no labels; copy it again")
        return [_found(own, name) for name in names]
    training = _training(root)
    folders = [root] if training is None else [training, training.parent]
    listed = next((path for folder in folders if (path := folder / LISTS / f"{split}.txt").is_file()), None)
    if training is None or listed is None:
        raise DatasetError(
            f"{root}: has neither {split}/{LABELS} nor {LISTS}/{split}.txt; write the numbers of the split's pictures "
            "into it, a line each"
        )
    names = listed.read_text(encoding="utf-8-sig", errors="replace").split()
    if not names:
        raise DatasetError(f"{listed}: lists no picture")
    return [_found(training, name) for name in names]


def _found(training: Path, name: str) -> Found:
    labels = training / LABELS / f"{name}.txt"
    pictures = [path for s in IMAGE_SUFFIXES if (path := training / PICTURES / f"{name}{s}").is_file()]
    if not pictures or not labels.is_file():
        missing = labels if pictures else training / PICTURES / f"{name}.png"
        raise DatasetError(f"{missing} is missing; add it, or take its number out of the split")
    return name, pictures[0], labels


def kitti_classes(root: Path) -> tuple[str, ...]:
    """Return the classes of a KITTI folder: those that the benchmark scores, then types that are not KITTI's.

    Raises:
        DatasetError: no object is of such a class.
        BoxFileError: a label file is damaged.
    """
    folders = [found for each in (root, *_split_folders(root)) if (found := _training(each)) is not None]
    names = {
        class_of(name) for folder in folders for path in (folder / LABELS).glob("*.txt") for name in _read(path).types
    }
    own = sorted(names - {*SCORED, *OTHERS, DONT_CARE})
    classes = (*(name for name in SCORED if name in names), *own)
    if not classes:
        where = ", ".join(str(folder / LABELS) for folder in folders) or str(root)
        raise DatasetError(f"{where}: no object is a car, a pedestrian or a cyclist; name the classes in classes.txt")
    return classes


def class_of(name: str) -> str:
    """Return the class that a type stands for: "person sitting" of "Person_sitting"."""
    return name.replace("_", " ").lower()


def read_kitti_boxes(labels: Path, classes: tuple[str, ...]) -> np.ndarray:
    """Return the boxes of a picture's objects of these classes, BOX_DTYPE, numbered by their lines as tracks."""
    found = _read(labels)
    names = [class_of(name) for name in found.types]
    chosen = [k for k, name in enumerate(names) if name in classes]
    boxes = box_rows(labels, [(*found.xyxy[k], classes.index(names[k]), k) for k in chosen])
    boxes["confidence"] = found.scores[chosen]
    return boxes


def read_kitti_crowds(labels: Path, classes: tuple[str, ...]) -> np.ndarray:
    """Return the regions of a picture that are not to be scored, BOX_DTYPE: DontCare and neighbors.

    A DontCare is of every class, but where ``regions.csv`` names its classes.

    Raises:
        BoxFileError: a file is damaged or missing.
    """
    found = _read(labels)
    regions: list[tuple[int, str]] = []
    for k, name in enumerate(map(class_of, found.types)):
        if name == DONT_CARE:
            own = _classes_of_regions(labels.parent.parent / REGIONS).get(region_key(labels.stem, found.xyxy[k]))
            places = range(len(classes)) if own is None else {find_class(one, classes) for one in own}
            regions += [(k, every) for place, every in enumerate(classes) if place in places]
        elif name not in classes and NEIGHBORS.get(name) in classes:
            regions.append((k, NEIGHBORS[name]))
    return box_rows(labels, [(*found.xyxy[k], classes.index(name), k) for k, name in regions])


def read_kitti_objects(labels: Path) -> Objects:
    """Return 3D boxes and the camera of a picture; no camera where there is no ``calib`` folder.

    Raises:
        BoxFileError: a file is damaged or missing.
    """
    found = _read(labels)
    solid = np.flatnonzero([class_of(name) != DONT_CARE for name in found.types])
    rows = object_rows(found, solid)
    rows["track_id"] = solid
    folder = labels.parent.parent / CAMERAS
    if not folder.is_dir():
        return Objects(rows)
    return Objects(rows, camera_rows({0: read_projection(folder / labels.name)}))


def region_key(number: str, xyxy: np.ndarray) -> tuple[str, ...]:
    """Return what tells a region in ``regions.csv`` from others: its picture, and its sides [4] as in the label."""
    return number, *(f"{side:.4f}" for side in xyxy)


def _classes_of_regions(path: Path) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Return the classes by the keys of regions, none where there is no such file."""
    return _classes_of_version(str(path), path.stat().st_mtime_ns) if path.is_file() else {}


@lru_cache(maxsize=8)
def _classes_of_version(path: str, _mtime_ns: int) -> dict[tuple[str, ...], tuple[str, ...]]:
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            rows = [[row[name] for name in REGION_FIELDS] for row in csv.DictReader(file)]
        regions: dict[tuple[str, ...], tuple[str, ...]] = {}
        for number, *sides, name in rows:
            key = region_key(number, np.array(sides, np.float64))
            regions[key] = (*regions.get(key, ()), name)
    except (OSError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise BoxFileError(
            f"{path}: must have the columns {', '.join(REGION_FIELDS)} ({error}); correct it, or remove it, and every "
            "DontCare is of all classes"
        ) from error
    return regions


def _read(path: Path) -> KittiObjects:
    try:
        found = path.stat()
    except OSError as error:
        raise BoxFileError(f"{path}: cannot be read ({error}); give a label file of KITTI") from error
    return _read_version(str(path), found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=1 << 14)
def _read_version(path: str, _mtime_ns: int, _size: int) -> KittiObjects:
    """Read a file, again only where it has changed: it is asked for classes, boxes, regions and objects."""
    return read_kitti(path)

"""Data sets of pictures: YOLO and PASCAL VOC folders, and what those share with COCO's and KITTI's.

A picture is a recording with one labeled frame at time 0. Sources: https://docs.ultralytics.com/datasets/detect/ and
the development kit of VOC 2012 (http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/); the folders that Roboflow
exports are read as well.
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import yaml

from spiking_centernet.data.frames import IMAGE_SUFFIXES, image_size, is_image
from spiking_centernet.errors import BoxFileError, DatasetError
from spiking_centernet.structures import BOX_DTYPE

SPLIT_NAMES = {"train": ("train", "train2017", "train2014"), "val": ("val", "valid", "val2017", "val2014"),
               "test": ("test", "test2017")}  # fmt: skip
"""What data sets call a split."""

YAML_FILES = ("data.yaml", "dataset.yaml")
MAX_XML_BYTES = 1 << 20
MAX_SIDE = 1e6
"""No box lies as many pixels from a picture's corner."""

Found = tuple[str, Path, Path]
"""Name, picture and label file of a picture."""


def detect_kind(root: Path) -> str | None:
    """Return "yolo" or "voc" for a folder that lies so, else None."""
    if (root / "JPEGImages").is_dir() and (root / "Annotations").is_dir():
        return "voc"
    for split in SPLIT_NAMES:
        if _yolo_folders(root, split) is not None:
            return "yolo"
        if any(_beside(folder, ".xml") for folder in _split_folders(root, split)):
            return "voc"
    return None


def _split_folders(root: Path, split: str) -> list[Path]:
    return [root / name for name in SPLIT_NAMES.get(split, (split,)) if (root / name).is_dir()]


def _beside(folder: Path, suffix: str) -> list[Found]:
    """Return the pictures of a folder that have a label file next to them."""
    pairs = [(image, image.with_suffix(suffix)) for image in sorted(folder.iterdir()) if is_image(image)]
    return [(image.stem, image, labels) for image, labels in pairs if labels.is_file()]


def box_rows(where: str | Path, rows: Iterable[tuple]) -> np.ndarray:
    """Return BOX_DTYPE rows at time 0 of left, top, right, bottom, class and number."""
    found = list(rows)
    boxes = np.zeros(len(found), BOX_DTYPE)
    for k, (left, top, right, bottom, label, number) in enumerate(found):
        if not (-MAX_SIDE < left <= right < MAX_SIDE and -MAX_SIDE < top <= bottom < MAX_SIDE):
            raise BoxFileError(f"{where}: a box spans {left}, {top} to {right}, {bottom} pixels; correct it")
        boxes[k] = (0, left, top, right - left, bottom - top, label, 1, number)
    return boxes


def _yolo_folders(root: Path, split: str) -> tuple[Path, Path] | None:
    """Return the folders of a split's pictures and label files."""
    for name in SPLIT_NAMES.get(split, (split,)):
        for images, labels in ((root / "images" / name, root / "labels" / name),
                               (root / name / "images", root / name / "labels")):  # fmt: skip
            if images.is_dir() and labels.is_dir():
                return images, labels
    return None


def find_yolo(root: Path, split: str) -> list[Found]:
    """Return the pictures of a split of a YOLO folder; one without label file shows nothing.

    Raises:
        DatasetError: the folders are missing or empty.
    """
    folders = _yolo_folders(root, split)
    if folders is None:
        raise DatasetError(f"{root}: has neither images/{split} with labels/{split} nor {split}/images and /labels")
    images = sorted(image for image in folders[0].iterdir() if is_image(image))
    if not images:
        raise DatasetError(f"{folders[0]}: holds no picture ({', '.join(IMAGE_SUFFIXES)})")
    return [(image.stem, image, folders[1] / f"{image.stem}.txt") for image in images]


def yolo_classes(root: Path) -> tuple[str, ...]:
    """Return the classes that ``data.yaml`` of a YOLO folder names.

    Raises:
        DatasetError: it does not.
    """
    for path in (root / name for name in YAML_FILES):
        if path.is_file():
            try:
                names = yaml.safe_load(path.read_text(encoding="utf-8"))["names"]
                names = [names[k] for k in range(len(names))]
                return tuple(str(name) for name in names)
            except (yaml.YAMLError, OSError, KeyError, TypeError, ValueError, IndexError) as error:
                raise DatasetError(f"{path}: does not give the classes' names ({error}); correct it") from error
    raise DatasetError(f"{root}: has no data.yaml that names the classes; write 'names: [car, pedestrian]' into it")


def read_yolo(image: Path, labels: Path, num_classes: int) -> np.ndarray:
    """Return the boxes of a picture, BOX_DTYPE; none where there is no label file.

    Raises:
        BoxFileError: a line is no class and box in shares of the picture.
    """
    if not labels.is_file():
        return np.zeros(0, BOX_DTYPE)
    height, width = image_size(image)
    rows = []
    try:
        lines = labels.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BoxFileError(f"{labels}: cannot be read ({error}); copy it again") from error
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        try:
            label, (cx, cy, w, h) = int(words[0]), map(float, words[1:5])
            if not 0 <= label < num_classes or not all(-1 <= share <= 2 for share in (cx, cy, w, h)) or len(words) > 7:
                raise ValueError
        except ValueError:
            raise BoxFileError(
                f"{labels}: line {number} is {line[:80]!r}, must be: class cx cy w h, a class below {num_classes} and "
                "shares of the picture; correct it"
            ) from None
        half_w, half_h = abs(w) / 2, abs(h) / 2
        sides = ((cx - half_w) * width, (cy - half_h) * height, (cx + half_w) * width, (cy + half_h) * height)
        rows.append((*sides, label, number))
    return box_rows(labels, rows)


def find_voc(root: Path, split: str) -> list[Found]:
    """Return the pictures of a split of a VOC folder: ``ImageSets/Main/<split>.txt``, or XML next to pictures.

    Raises:
        DatasetError: the list of the split, a picture or its XML is missing.
    """
    listed = root / "ImageSets" / "Main" / f"{split}.txt"
    if not listed.is_file():
        found = [one for folder in _split_folders(root, split)[:1] for one in _beside(folder, ".xml")]
        if not found:
            raise DatasetError(f"{root}: has neither {listed.relative_to(root)} nor pictures with XML in {split}/")
        return found
    found = []
    for line in listed.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        if not (words := line.split()):
            continue
        name = words[0]
        images = [path for s in IMAGE_SUFFIXES if (path := root / "JPEGImages" / f"{name}{s}").is_file()]
        labels = root / "Annotations" / f"{name}.xml"
        if not images or not labels.is_file():
            missing = labels if images else root / "JPEGImages" / f"{name}.jpg"
            raise DatasetError(f"{missing} is missing, but {listed.name} lists it")
        found.append((name, images[0], labels))
    if not found:
        raise DatasetError(f"{listed}: lists no picture")
    return found


def voc_classes(root: Path) -> tuple[str, ...]:
    """Return the names of a VOC folder's objects, sorted."""
    folders = [root / "Annotations"] if (root / "Annotations").is_dir() else []
    folders += [folder for split in SPLIT_NAMES for folder in _split_folders(root, split)]
    names = {name for folder in folders for path in folder.glob("*.xml") for name, _, _ in read_xml(path)}
    if not names:
        raise DatasetError(f"{root}: no XML in {', '.join(map(str, folders)) or 'Annotations'} names an object")
    return tuple(sorted(names))


def read_voc(labels: Path, classes: tuple[str, ...], *, difficult: bool = False) -> np.ndarray:
    """Return the boxes of a picture, BOX_DTYPE: either those that are not difficult, or the difficult ones.

    VOC's pixels count from 1 and its boxes hold their last pixel; ours count from 0 and end behind it.

    Raises:
        BoxFileError: the XML is damaged or names another class.
    """
    rows = []
    for number, (name, (left, top, right, bottom), is_difficult) in enumerate(read_xml(labels)):
        if name not in classes:
            raise BoxFileError(f"{labels}: object {number} is a {name!r}; known: {', '.join(classes)}")
        if is_difficult == difficult:
            rows.append((left - 1, top - 1, right, bottom, classes.index(name), number))
    return box_rows(labels, rows)


def read_xml(path: Path) -> list[tuple[str, tuple[float, ...], bool]]:
    """Return name, corners as stored and whether difficult of every object."""
    try:
        if path.stat().st_size > MAX_XML_BYTES:
            raise BoxFileError(f"{path}: is larger than {MAX_XML_BYTES} bytes; no VOC file is")
        found = []
        for o in ElementTree.parse(path).getroot().findall("object"):
            corners = tuple(float(o.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax"))
            found.append((o.findtext("name", "").strip(), corners, o.findtext("difficult", "0").strip() == "1"))
        return found
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        if isinstance(error, BoxFileError):
            raise
        raise BoxFileError(f"{path}: is no readable PASCAL VOC file ({error}); copy it again") from error

"""Data sets of pictures: COCO, YOLO and PASCAL VOC folders. A picture is a recording with one labeled frame at time 0.

Sources: https://cocodataset.org/#format-data, https://docs.ultralytics.com/datasets/detect/ and the development kit of
VOC 2012 (http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/); the folders that Roboflow exports are read as well.
"""

import json
import math
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from spiking_centernet.data.box_files import MAX_CLASSES, with_areas
from spiking_centernet.data.frames import IMAGE_SUFFIXES, image_size, is_image
from spiking_centernet.data.object_files import Objects, joint_rows
from spiking_centernet.errors import BoxFileError, DatasetError
from spiking_centernet.joint_sets import JOINT_SETS, JOINTS_17
from spiking_centernet.structures import BOX_DTYPE

SPLIT_NAMES = {"train": ("train", "train2017", "train2014"), "val": ("val", "valid", "val2017", "val2014"),
               "test": ("test", "test2017")}  # fmt: skip
"""What data sets call a split."""

COCO_FILES = ("annotations/instances_{}.json", "annotations/person_keypoints_{}.json", "annotations/{}.json",
              "{}/_annotations.coco.json", "{}/annotations.json", "{}.json")  # fmt: skip
YAML_FILES = ("data.yaml", "dataset.yaml")
MAX_XML_BYTES = 1 << 20
MAX_SIDE = 1e6
"""No box lies as many pixels from a picture's corner."""

Found = tuple[str, Path, Path]
"""Name, picture and label file of a picture."""


def detect_kind(root: Path) -> str | None:
    """Return "coco", "yolo" or "voc" for a folder that lies so, else None."""
    if any(_coco_files(root, split) for split in SPLIT_NAMES):
        return "coco"
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


def _coco_files(root: Path, split: str) -> list[Path]:
    names = SPLIT_NAMES.get(split, (split,))
    return [path for name in names for form in COCO_FILES if (path := root / form.format(name)).is_file()]


def find_coco(root: Path, split: str) -> list[Found]:
    """Return the pictures of a split of a COCO folder.

    Raises:
        DatasetError: the JSON or a picture is missing.
        BoxFileError: the JSON is damaged.
    """
    files = _coco_files(root, split)
    if not files:
        forms = ", ".join(form.format(split) for form in COCO_FILES)
        raise DatasetError(f"{root}: has no COCO file of the split {split!r}; looked for {forms}")
    path = files[0]
    names = SPLIT_NAMES.get(split, (split,))
    places = [root / name for name in names] + [root / "images" / name for name in names]
    places += [path.parent, path.parent / "images", root / "images", root]
    found = []
    for image in _coco_of(path)[1]:
        place = next((place / image for place in places if (place / image).is_file()), None)
        if place is None:
            raise DatasetError(f"{path}: names the picture {image}, which lies neither in {places[0]} nor next to it")
        found.append((image, place, path))
    return found


def coco_classes(root: Path) -> tuple[str, ...]:
    """Return the classes of a COCO folder in the order of their ids, those of its first split."""
    for split in SPLIT_NAMES:
        for path in _coco_files(root, split)[:1]:
            return _coco_of(path)[0]
    raise DatasetError(f"{root}: has no COCO file of a split train, val or test, for example annotations/train.json")


@dataclass
class _Picture:
    """The annotations of a picture: boxes and crowds as rows of :func:`box_rows`, joints [J, 3] and areas by number."""

    boxes: list[tuple] = field(default_factory=list)
    crowds: list[tuple] = field(default_factory=list)
    joints: dict[int, list[list[float]]] = field(default_factory=dict)
    areas: dict[int, float] = field(default_factory=dict)


def read_coco(name: str, labels: Path) -> np.ndarray:
    """Return the boxes of a picture, BOX_DTYPE, without crowds (iscrowd, ignore)."""
    return box_rows(labels, _coco_of(labels)[1][name].boxes)


def read_coco_crowds(name: str, labels: Path) -> np.ndarray:
    """Return the regions of a picture that are crowds or to be ignored, BOX_DTYPE, AREA_DTYPE where areas are known."""
    picture = _coco_of(labels)[1][name]
    areas = [picture.areas.get(number, math.nan) for *_, number in picture.crowds]
    return with_areas(box_rows(labels, picture.crowds), np.array(areas, np.float32))


def read_coco_objects(name: str, labels: Path) -> Objects | None:
    """Return joints and areas of a picture's people, None where the file has no joints of a known set."""
    _, pictures, num_joints = _coco_of(labels)
    if not num_joints:
        return None
    picture = pictures[name]
    numbers = [number for *_, number in picture.boxes if number in picture.joints or number in picture.areas]
    unknown = [[0.0] * 3] * num_joints
    joints = np.array([picture.joints.get(number, unknown) for number in numbers], np.float32)
    areas = np.array([picture.areas.get(number, math.nan) for number in numbers], np.float32)
    rows = joint_rows(joints.reshape(-1, num_joints, 3), areas)
    rows["track_id"] = numbers
    return Objects(rows)


def _coco_of(path: Path) -> tuple[tuple[str, ...], dict[str, _Picture], int]:
    """Return what :func:`_read_coco` does, read again only where a file has changed."""
    files = [path]
    if path.name.startswith("instances_"):
        people = path.with_name(path.name.replace("instances_", "person_keypoints_", 1))
        files += [people] if people.is_file() else []
    stats = [each.stat() for each in files]
    return _read_coco(tuple(map(str, files)), tuple((stat.st_mtime_ns, stat.st_size) for stat in stats))


@lru_cache(maxsize=8)
def _read_coco(
    paths: Sequence[str], _versions: tuple[tuple[int, int], ...]
) -> tuple[tuple[str, ...], dict[str, _Picture], int]:
    """Return the classes, every picture by its file name, and the number of joints of its people.

    Args:
        paths: the file, and the one with the keypoints of the same annotations if that is another.
        _versions: of the files, so that a changed one is read again.
    """
    path = paths[0]
    try:
        document: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        people = json.loads(Path(paths[-1]).read_text(encoding="utf-8-sig")) if len(paths) > 1 else document
        num_joints = num_coco_joints(paths[-1], people)
        people_of = {a["id"]: a for a in people["annotations"] if num_joints and "id" in a}
        categories = sorted(document["categories"], key=lambda category: category["id"])
        classes = tuple(str(category["name"]) for category in categories)
        label_of = {category["id"]: k for k, category in enumerate(categories)}
        name_of = {image["id"]: str(image["file_name"]) for image in document["images"]}
        pictures = {name: _Picture() for name in name_of.values()}
        for k, a in enumerate(document["annotations"]):
            picture = pictures[name_of[a["image_id"]]]
            x, y, w, h = map(float, a["bbox"])
            row = x, y, x + w, y + h, label_of[a["category_id"]], k
            person = people_of.get(a.get("id"), {})
            if (area := coco_area(person)) is not None:
                picture.areas[k] = area
            if int(a.get("iscrowd", 0)) or int(a.get("ignore", 0)):
                picture.crowds.append(row)
                continue
            picture.boxes.append(row)
            if (given := person.get("keypoints")) is not None:
                picture.joints[k] = checked_joints(f"annotation {a['id']}", given, num_joints)
        if not 0 < len(categories) <= MAX_CLASSES:
            raise ValueError(f"it has {len(categories)} categories, 1 to {MAX_CLASSES} can be read")
        if len(label_of) < len(categories) or len(pictures) < len(document["images"]):
            raise ValueError("two pictures or categories have the same id or name")
    except (OSError, KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise BoxFileError(
            f"{' or '.join(paths)}: is no COCO ground truth ({type(error).__name__}: {error}); export it again"
        ) from error
    for picture in pictures.values():
        box_rows(path, (*picture.boxes, *picture.crowds))
    return classes, pictures, num_joints


def num_coco_joints(path: str | Path, document: dict[str, Any]) -> int:
    """Return how many joints the people of a file have, 0 where it has none, or another set than is known.

    Sets are known by the names of their joints; without names as many numbers as COCO has are COCO's.
    """
    named = [tuple(map(str, c["keypoints"])) for c in document["categories"] if c.get("keypoints")]
    if not named:
        given = next((a["keypoints"] for a in document["annotations"] if any(a.get("keypoints", ()))), ())
        return len(JOINTS_17) if len(given) == 3 * len(JOINTS_17) else 0
    for joints in JOINT_SETS.values():
        if all(tuple(name.lower().replace(" ", "_") for name in names) == joints.names for names in named):
            return len(joints)
    sets = " and ".join(", ".join(names[:3]) + ", ..." for names in named)
    warnings.warn(
        f"{path}: its keypoints ({sets}) are of no known set and are not read; known are COCO's 17 and DHP19's 13, by "
        "their names and in their order",
        stacklevel=2,
    )
    return 0


def checked_joints(where: str, values: list[Any], num_joints: int) -> list[list[float]]:
    """Return COCO's ``keypoints``, u and v in pixels and visibility of every joint, as [J, 3].

    Raises:
        ValueError: There are more or fewer numbers, one is no place in a picture, or a visibility is not 0, 1 or 2.
    """
    numbers = [float(value) for value in values]
    if len(numbers) != 3 * num_joints:
        raise ValueError(f"{where} has {len(numbers)} numbers as keypoints, must be {3 * num_joints}")
    joints = [numbers[k : k + 3] for k in range(0, len(numbers), 3)]
    for joint in joints:
        if not all(abs(number) < MAX_SIDE for number in joint) or joint[2] not in (0, 1, 2):
            raise ValueError(f"{where} has the keypoint {joint}, must be u, v in pixels and visibility 0, 1 or 2")
    return joints


def coco_area(annotation: dict[str, Any]) -> float | None:
    """Return the square pixels that an annotation states as its object's own, None where it does not.

    Raises:
        ValueError: They are negative, or more than any picture has.
    """
    if annotation.get("area") is None:
        return None
    area = float(annotation["area"])
    if not 0 <= area <= MAX_SIDE**2:
        raise ValueError(f"annotation {annotation.get('id')} has the area {area}, must be square pixels")
    return area


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

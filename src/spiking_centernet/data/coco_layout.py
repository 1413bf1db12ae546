"""COCO's folders of pictures with boxes, crowds and keypoints, and those that Roboflow exports in this form.

Source: https://cocodataset.org/#format-data.
"""

import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from spiking_centernet.data.box_files import MAX_CLASSES, with_areas
from spiking_centernet.data.image_layouts import MAX_SIDE, SPLIT_NAMES, Found, box_rows
from spiking_centernet.data.object_files import Objects, joint_rows
from spiking_centernet.errors import BoxFileError, DatasetError
from spiking_centernet.joint_sets import JOINT_SETS, JOINTS_17

COCO_FILES = ("annotations/instances_{}.json", "annotations/person_keypoints_{}.json", "annotations/{}.json",
              "{}/_annotations.coco.json", "{}/annotations.json", "{}.json")  # fmt: skip


def is_coco(root: Path) -> bool:
    """Return whether a folder has a COCO file of any split."""
    return any(_coco_files(root, split) for split in SPLIT_NAMES)


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

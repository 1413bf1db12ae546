"""COCO's JSON (https://cocodataset.org/#format-data): a picture for every labeled frame.

What COCO has no word for stands in keys of its own, which COCO's tools pass over: ``t_us`` of a picture, ``track_id``
and ``confidence`` of a box. Nothing is lost; ``keypoints`` become the joints of a box and the other way round, and
``area`` the area that OKS is taken with. Where that is not known, the share of the box is written that OKS assumes.
"""

import itertools
import json
import math
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from spiking_centernet.data.box_files import AREA_DTYPE, with_areas
from spiking_centernet.data.coco_layout import checked_joints, coco_area, num_coco_joints
from spiking_centernet.data.convert import detections
from spiking_centernet.data.convert.labels import (
    Labels,
    Row,
    boxes_from,
    by_number,
    checked_size,
    checked_time,
    number_tracks,
    read_text,
    short,
    time_of,
)
from spiking_centernet.errors import BoxFileError
from spiking_centernet.joint_sets import AREA_SHARE, JOINT_SETS, JointSet
from spiking_centernet.utils.files import atomic_write
from spiking_centernet.utils.text import counted

TIME_IN_NAME = r"_(\d+)us\.\w+$"
"""How the names of pictures end; annotation tools keep names where they drop keys that they do not know."""


def picture_name(stem: str, t_us: int) -> str:
    """Return the name of the picture of a timestamp."""
    return f"{stem}_{t_us}us.png"


def picture_names(path: Path) -> list[str]:
    """Return the names of the pictures of a file that :func:`read` has read."""
    return [str(image["file_name"]) for image in json.loads(read_text(path)).get("images", ())]


def _time_in_name(image: dict[str, Any]) -> int | None:
    found = re.search(TIME_IN_NAME, str(image["file_name"]))
    return int(found[1]) if found else None


def write(path: Path, labels: Labels, *, stem: str) -> list[str]:
    """Write labels; pictures are called ``<stem>_<t_us>us.png``.

    Raises:
        BoxFileError: the sensor's size is not known.
    """
    height, width = labels.sized("COCO")
    image_of = {t_us: k for k, t_us in enumerate(labels.timestamps_us.tolist(), start=1)}
    joints = labels.joints
    joint_set = None if joints is None else JOINT_SETS.get(joints.shape[1])
    annotations = []
    categories = [_category(k, labels, joint_set) for k in range(len(labels.classes))]
    areas = np.full(len(labels.boxes) + len(labels.crowds), np.nan, np.float32)
    if labels.areas is not None:
        areas[: len(labels.boxes)] = labels.areas
    if labels.crowds.dtype == AREA_DTYPE:
        areas[len(labels.boxes) :] = labels.crowds["area"]
    crowds = zip(labels.crowds, itertools.repeat(1))
    for k, (box, is_crowd) in enumerate((*zip(labels.boxes, itertools.repeat(0)), *crowds), start=1):
        x, y, w, h = (short(box[name]) for name in ("x", "y", "w", "h"))
        area = short(areas[k - 1])
        if math.isnan(area):
            area = (AREA_SHARE if "keypoints" in categories[box["class_id"]] else 1) * w * h
        annotations.append(
            {
                "id": k, "image_id": image_of[int(box["ts"])], "category_id": int(box["class_id"]) + 1,
                "bbox": [x, y, w, h], "area": area, "iscrowd": is_crowd, "track_id": int(box["track_id"]),
                "confidence": short(box["confidence"]),
            }
        )  # fmt: skip
        if not is_crowd and joints is not None and joints[k - 1].any():
            annotations[-1]["keypoints"] = [short(value) for value in joints[k - 1].ravel()]
            annotations[-1]["num_keypoints"] = int((joints[k - 1, :, 2] > 0).sum())
    document = {
        "info": {"description": f"labels of {stem}"},
        "categories": categories,
        "images": [
            {"id": k, "file_name": picture_name(stem, t_us), "width": width, "height": height, "t_us": t_us}
            for t_us, k in image_of.items()
        ],
        "annotations": annotations,
    }
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return []


def _category(k: int, labels: Labels, joint_set: JointSet | None) -> dict[str, Any]:
    """Return a class; one with joints names them and its limbs, which COCO counts from 1."""
    category: dict[str, Any] = {"id": k + 1, "name": labels.classes[k]}
    if joint_set is not None and labels.joints is not None and labels.joints[labels.boxes["class_id"] == k].any():
        category["keypoints"] = list(joint_set.names)
        category["skeleton"] = [[a + 1, b + 1] for a, b in joint_set.limbs]
    return category


def read(path: Path, *, every_us: Fraction | float | None = None) -> Labels:
    """Read the labels of one recording.

    Args:
        path: the file; also one of ``scn detect``.
        every_us: microseconds between pictures that carry no ``t_us`` and whose names do not say a time as
            ``picture_name`` does; they count in the order of their names, numbers in them as numbers.

    Raises:
        BoxFileError: the file is no such JSON, or a time is missing.
    """
    try:
        document: dict[str, Any] = json.loads(read_text(path))
        if detections.is_detections(document):
            return detections.read(path, document)
        images = document["images"]
        for image in images:
            if "t_us" not in image and (t_us := _time_in_name(image)) is not None:
                image["t_us"] = t_us
        images = sorted(images, key=lambda image: (image.get("t_us", 0), by_number(image["file_name"])))
        categories = sorted(document["categories"], key=lambda category: category["id"])
        label_of = {category["id"]: k for k, category in enumerate(categories)}
        with_joints = {category["id"] for category in categories if category.get("keypoints")} or label_of.keys()
        classes = tuple(str(category["name"]) for category in categories)
        sizes = {checked_size(path, int(image["height"]), int(image["width"])) for image in images}
        if len(sizes) > 1:
            raise BoxFileError(f"{path}: its pictures have sizes {sorted(sizes)}; give the labels of one recording")
        time = {
            image["id"]: checked_time(path, int(image["t_us"]))
            if "t_us" in image
            else time_of(rank, every_us, path, "its pictures carry no t_us")
            for rank, image in enumerate(images, start=1)
        }
        if len(time) < len(images) or len(label_of) < len(categories):
            raise BoxFileError(f"{path}: two of its pictures or categories have the same id; export it again")
        rows: list[Row] = []
        tracked: list[bool] = []
        joints: list[list[list[float]]] = []
        num_joints, num_unread = num_coco_joints(path, document), 0
        crowds: list[Row] = []
        crowds_tracked: list[bool] = []
        areas: list[float] = []
        crowds_areas: list[float] = []
        for a in document["annotations"]:
            x, y, w, h = map(float, a["bbox"])
            confidence, track = float(a.get("confidence", a.get("score", 1))), a.get("track_id")
            label = label_of[a["category_id"]]
            row = (time[a["image_id"]], x, y, w, h, label, confidence, 0 if track is None else int(track))
            area = coco_area(a) if num_joints and a["category_id"] in with_joints else None
            area = math.nan if area in (None, AREA_SHARE * w * h) else area
            if int(a.get("iscrowd", 0)) or int(a.get("ignore", 0)):
                crowds_areas.append(area)
                crowds.append(row)
                crowds_tracked.append(track is not None)
                continue
            tracked.append(track is not None)
            areas.append(area)
            rows.append(row)
            num_unread += not num_joints and any(a.get("keypoints", ()))
            given = a.get("keypoints") or [0] * (3 * num_joints)
            joints.append(checked_joints(f"annotation {a.get('id')}", given, num_joints) if num_joints else [])
    except json.JSONDecodeError as error:
        raise BoxFileError(f"{path}: is no JSON at byte {error.pos} ({error.msg}); copy or export it again") from error
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        if isinstance(error, BoxFileError):
            raise
        raise BoxFileError(
            f"{path}: is no COCO ground truth ({type(error).__name__}: {error}); export it again"
        ) from error
    boxes = boxes_from(path, number_tracks(rows, tracked), classes)
    regions = boxes_from(path, number_tracks(crowds, crowds_tracked), classes)
    left_out = (f"keypoints of {counted(num_unread, 'object')}, which are of no known set",) if num_unread else ()
    size_hw = sizes.pop() if sizes else None
    in_time = np.argsort([row[0] for row in rows], kind="stable")  # as the boxes are sorted
    posed = np.array(joints, np.float32)[in_time] if num_joints and rows else None
    crowds_in_time = np.argsort([row[0] for row in crowds], kind="stable")
    return Labels(
        boxes, classes, size_hw, np.array(sorted(time.values()), np.int64), left_out, posed,
        with_areas(regions, np.array(crowds_areas, np.float32)[crowds_in_time]),
        None if np.isnan(areas).all() else np.array(areas, np.float32)[in_time],
    )  # fmt: skip

"""Folders of small pictures in the layouts of COCO, YOLO, VOC and KITTI: a red or a blue rectangle on noise."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from spiking_centernet.joint_sets import JOINTS_17

CLASSES = ("car", "pedestrian")
COLORS = ((230, 40, 40), (30, 40, 240))
SIZE_HW = (40, 64)


def pictures(num, seed, size_hw=SIZE_HW):
    """Yield pictures uint8 [H, W, 3], the one box (left, top, width, height) of each and its label."""
    rng = np.random.default_rng(seed)
    for k in range(num):
        image = rng.integers(60, 140, (*size_hw, 3)).astype(np.uint8)
        width, height = int(rng.integers(14, 24)), int(rng.integers(10, 18))
        left, top = int(rng.integers(0, size_hw[1] - width)), int(rng.integers(0, size_hw[0] - height))
        image[top : top + height, left : left + width] = COLORS[k % 2]
        yield image, (left, top, width, height), k % 2


def write_coco(root: Path, splits=(("train", 8), ("val", 4))) -> Path:
    for number, (split, count) in enumerate(splits):
        (root / split).mkdir(parents=True)
        (root / "annotations").mkdir(exist_ok=True)
        images, annotations = [], []
        for k, (image, box, label) in enumerate(pictures(count, number)):
            name = f"{k:03d}.png"
            Image.fromarray(image).save(root / split / name)
            images.append({"id": k, "file_name": name, "height": image.shape[0], "width": image.shape[1]})
            annotations.append({"id": k, "image_id": k, "category_id": 7 + label, "bbox": list(box), "iscrowd": 0})
        categories = [{"id": 7 + label, "name": name} for label, name in enumerate(CLASSES)]
        document = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(document))
    return root


def write_yolo(root: Path, splits=(("train", 8), ("val", 4))) -> Path:
    for number, (split, count) in enumerate(splits):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for k, (image, (left, top, width, height), label) in enumerate(pictures(count, number)):
            Image.fromarray(image).save(root / "images" / split / f"{k:03d}.png")
            shares = (left + width / 2) / SIZE_HW[1], (top + height / 2) / SIZE_HW[0]
            line = f"{label} {shares[0]} {shares[1]} {width / SIZE_HW[1]} {height / SIZE_HW[0]}\n"
            (root / "labels" / split / f"{k:03d}.txt").write_text(line)
    (root / "data.yaml").write_text(f"names: [{', '.join(CLASSES)}]\n")
    return root


def write_voc(root: Path, splits=(("train", 8), ("val", 4))) -> Path:
    for kind in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / kind).mkdir(parents=True)
    for number, (split, count) in enumerate(splits):
        names = []
        for k, (image, (left, top, width, height), label) in enumerate(pictures(count, number)):
            names.append(f"{split}{k:03d}")
            Image.fromarray(image).save(root / "JPEGImages" / f"{names[-1]}.png")
            sides = {"xmin": left + 1, "ymin": top + 1, "xmax": left + width, "ymax": top + height}
            corners = "".join(f"<{side}>{value}</{side}>" for side, value in sides.items())
            text = f"<annotation><object><name>{CLASSES[label]}</name><difficult>0</difficult><bndbox>{corners}"
            (root / "Annotations" / f"{names[-1]}.xml").write_text(f"{text}</bndbox></object></annotation>")
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
    return root


def joints_in(box, seed):
    """Return COCO's keypoints of a box: 17 joints with one decimal, visibilities 0, 1 and 2; those of 0 lie at 0, 0."""
    rng = np.random.default_rng(seed)
    left, top, width, height = box
    joints = np.zeros((17, 3))
    joints[:, 0], joints[:, 1] = left + width * rng.random(17), top + height * rng.random(17)
    joints[:, 2] = np.arange(17) % 3
    joints[joints[:, 2] == 0] = 0
    return joints.round(1)


def write_keypoints(root: Path, name="person_keypoints_{}.json", keep=True) -> Path:
    """Add the file of keypoints to a folder that :func:`write_coco` wrote, as COCO does: people only."""
    for split in ("train", "val"):
        path = root / "annotations" / f"instances_{split}.json"
        document = json.loads(path.read_text())
        people = [a for a in document["annotations"] if a["category_id"] == 8]
        for a in people:
            joints = joints_in(a["bbox"], a["id"])
            a["keypoints"], a["num_keypoints"] = joints.ravel().tolist(), int((joints[:, 2] > 0).sum())
        category = {"id": 8, "name": "person", "keypoints": list(JOINTS_17.names), "skeleton": [[16, 14]]}
        document |= {"annotations": people, "categories": [category]}
        (root / "annotations" / name.format(split)).write_text(json.dumps(document))
        if not keep:
            path.unlink()
    return root


def write_kitti(root: Path, splits=(("train", 8), ("val", 4))) -> Path:
    """Write KITTI's folder: the box of each picture as a 3D box 12 m away, and a DontCare region in the corner."""
    training, number = root / "training", 0
    for folder in ("image_2", "label_2", "calib"):
        (training / folder).mkdir(parents=True)
    (root / "ImageSets").mkdir()
    projection = "50 0 32 0.5 0 50 20 -0.25 0 0 1 0"
    for seed, (split, count) in enumerate(splits):
        names = []
        for image, (left, top, width, height), label in pictures(count, seed):
            names.append(f"{number:06d}")
            Image.fromarray(image).save(training / "image_2" / f"{names[-1]}.png")
            kind = ("Car", "Pedestrian")[label]
            sides = f"{left}.25 {top}.00 {left + width}.25 {top + height}.00"
            (training / "label_2" / f"{names[-1]}.txt").write_text(
                f"{kind} 0.25 1 -1.50 {sides} 1.50 1.75 4.00 -1.25 1.50 12.00 0.75\n"
                "DontCare -1 -1 -10 0.00 0.00 9.00 9.00 -1 -1 -1 -1000 -1000 -1000 -10\n"
            )
            (training / "calib" / f"{names[-1]}.txt").write_text(f"P0: {projection}\nP2: {projection}\n")
            number += 1
        (root / "ImageSets" / f"{split}.txt").write_text("\n".join(names) + "\n")
    return root

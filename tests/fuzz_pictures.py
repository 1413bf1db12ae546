"""What the fuzzers feed to the readers of pictures and of their labels; the first byte chooses which."""

import io
import json

import numpy as np
from fuzz_files import file, folder
from PIL import Image

from spiking_centernet.data import coco_layout, image_layouts, kitti_layout
from spiking_centernet.data.frames import image_size, letterboxed, read_image
from spiking_centernet.structures import VoxelSpec

COCO = {
    "images": [{"id": 1, "file_name": "a.png", "height": 24, "width": 40}],
    "categories": [{"id": 3, "name": "car"}],
    "annotations": [{"id": 5, "image_id": 1, "category_id": 3, "bbox": [1, 2, 20, 10], "iscrowd": 0}],
}
POSED = COCO | {
    "annotations": [
        COCO["annotations"][0] | {"keypoints": [3.5, 4.0, 2] * 17, "num_keypoints": 17},
        COCO["annotations"][0] | {"id": 6, "iscrowd": 1},
    ]
}
VOC = b"""<annotation><object><name>car</name><difficult>0</difficult><bndbox><xmin>2</xmin><ymin>3</ymin>
<xmax>20</xmax><ymax>12</ymax></bndbox></object></annotation>"""
KITTI = b"""Car 0.25 1 -1.50 1.25 2.00 20.25 12.00 1.50 1.75 4.00 -1.25 1.50 12.00 0.75
DontCare -1 -1 -10 0.00 0.00 9.00 9.00 -1 -1 -1 -1000 -1000 -1000 -10
"""
COCO_READERS = coco_layout.read_coco, coco_layout.read_coco_crowds
KITTI_READERS = kitti_layout.read_kitti_boxes, kitti_layout.read_kitti_crowds
LARGEST_PX = 1 << 20
"""Larger pictures are slow, not different."""


def pictures(data: bytes) -> int:
    choice, data = data[0] % 5 if data else 0, data[1:]
    if choice == 0:
        path = file(data, "pictures/a.png")
        height, width = image_size(path)
        if height * width > LARGEST_PX:
            return 0
        image = read_image(path)
        assert image.shape == (height, width, 3)
        return int(letterboxed(image, VoxelSpec(mode="direct", frame_hw=(24, 40))).sum())
    if choice == 1:
        file(data, "pictures/annotations/instances_train.json")
        coco_layout.coco_classes(folder() / "pictures")
        file(_png(), "pictures/train/a.png")
        found = coco_layout.find_coco(folder() / "pictures", "train")
        boxes = [read(name, labels) for name, _, labels in found for read in COCO_READERS]
        objects = [coco_layout.read_coco_objects(name, labels) for name, _, labels in found]
        assert all(one is None or np.isfinite(one.rows["joints"]).all() for one in objects)
    elif choice == 2:
        image = file(_png(), "pictures/b.png")
        boxes = [image_layouts.read_yolo(image, file(data, "pictures/b.txt"), 2)]
    elif choice == 3:
        boxes = [image_layouts.read_voc(file(data, "pictures/c.xml"), ("car",))]
    else:
        labels = file(data, "pictures/label_2/d.txt")
        boxes = [read(labels, ("car", "pedestrian")) for read in KITTI_READERS]
        rows = kitti_layout.read_kitti_objects(labels).rows
        assert not any(np.isinf(rows[name]).any() for name in ("location", "dimensions", "yaw"))
    for rows in boxes:
        assert all(np.isfinite(rows[side]).all() for side in ("x", "y", "w", "h"))
        assert (rows["w"] >= 0).all()
    return sum(map(len, boxes))


def _png() -> bytes:
    made = io.BytesIO()
    Image.fromarray(np.arange(24 * 40 * 3, dtype=np.uint8).reshape(24, 40, 3)).save(made, format="PNG")
    return made.getvalue()


def seeds() -> list[bytes]:
    """Return valid inputs."""
    return [
        b"\0" + _png(), b"\1" + json.dumps(COCO).encode(), b"\2" + b"1 0.5 0.5 0.2 0.4\n0 0.1 0.1 0.1 0.1\n",
        b"\3" + VOC, b"\1" + json.dumps(POSED).encode(), b"\4" + KITTI,
    ]  # fmt: skip

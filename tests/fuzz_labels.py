"""What the fuzzers feed to the readers of labels, data set layouts and studies; the first byte may choose which."""

import io
import json
import re
import struct
from functools import cache
from pathlib import Path

import event_writers as writers
import numpy as np
from fuzz_files import SIZE_HW, file, folder, some_events

from spiking_centernet.data.convert import Labels, coco, mot, prophesee, yolo
from spiking_centernet.data.layouts import get_layout
from spiking_centernet.errors import BoxFileError
from spiking_centernet.experiments.study.plan import Plan, read_plan
from spiking_centernet.structures import BOX_DTYPE

CLASSES = ("car", "pedestrian")
SEQUENCE = b"[Sequence]\nname=a\nframeRate=4\nimWidth=40\nimHeight=24\nclasses=car,tram\n"
ROWS = b"1,5,2.5,3,10,11,1,1,1\n1,6,0,0,1,2,0.5,2,1\n3,5,1,1,9,9,1,1,1\n"


def labels(data: bytes) -> int:
    """Bits of byte 0: which file (3), whether size and time between pictures are given, what to write."""
    choice, data = data[0] if data else 0, data[1:]
    size_hw, every_us = SIZE_HW if choice & 8 else None, 1000 if choice & 16 else None
    kind = choice & 7
    if kind < 2:
        found = coco.read(file(data, "a.json"), every_us=every_us)
    elif kind < 4:
        whole = b"0 0.5 0.5 0.5 0.25\n1 0.1 0.2 0.1 0.1 0.5 3\n", b"car\npedestrian\n"
        file(data if kind == 2 else whole[0], "yolo/a_0700.txt")
        path = file(data if kind == 3 else whole[1], "yolo/classes.txt")
        found = yolo.read(path.parent, size_hw=size_hw, classes=CLASSES, every_us=every_us)
    elif kind < 6:
        file(data if kind == 4 else SEQUENCE, "a.seqinfo.ini")
        found = mot.read(file(ROWS if kind == 4 else data, "a.csv"), classes=CLASSES, every_us=every_us)
    else:
        found = prophesee.read(file(data, "a.npy"), classes=CLASSES)
    _check_boxes(found.boxes, len(found.classes))
    assert (np.diff(found.timestamps_us) > 0).all()
    assert (found.timestamps_us >= 0).all()
    assert found.size_hw is None or 0 < min(found.size_hw) <= max(found.size_hw) <= 1 << 16
    joints = found.joints if choice >> 5 & 3 == 0 else None  # COCO's file holds them
    sized = found.size_hw or SIZE_HW
    _write_again(Labels(found.boxes, found.classes, sized, found.timestamps_us, joints=joints), choice >> 5)
    return len(found.boxes)


def _check_boxes(boxes: np.ndarray, num_classes: int) -> None:
    for name in ("x", "y", "w", "h", "confidence"):
        assert np.isfinite(boxes[name]).all()
    assert not len(boxes) or min(boxes["w"].min(), boxes["h"].min()) >= 0
    assert (np.diff(boxes["ts"].astype(np.int64)) >= 0).all()
    assert (boxes["class_id"] < num_classes).all()


def _write_again(found: Labels, to: int) -> None:
    """Whatever was read can be written, and what COCO and Prophesee's files hold reads back as it was."""
    try:
        if to % 4 == 0:
            coco.write(folder() / "b.json", found, stem="a")
            again = coco.read(folder() / "b.json")
        elif to % 4 == 1:
            prophesee.write(folder() / "b.npy", found)
            again = prophesee.read(folder() / "b.npy", classes=found.classes)
        elif to % 4 == 2:
            mot.write(folder() / "b.csv", found)
            return
        else:
            for path in (folder() / "again").glob("*"):
                path.unlink()
            yolo.write(folder() / "again", found, stem="a")
            return
    except BoxFileError as error:
        raise AssertionError(f"what was read cannot be written: {error}") from error
    assert again.boxes.tolist() == found.boxes.tolist()
    if found.joints is not None and found.joints.any():
        assert again.joints is not None
        assert np.array_equal(again.joints, found.joints)


LAYOUTS = ("dsec-det", "etram", "1mpx", "pedro")


def layouts(data: bytes) -> int:
    """Byte 0 chooses the layout; the box file of its one recording is damaged, or DSEC's clock."""
    name = LAYOUTS[data[0] % 4 if data else 0]
    layout = get_layout(name)
    (files,) = layout.find(_layouts() / name, "train")
    clock = bool(data) and data[0] >= 128 and name == "dsec-det"
    file(_layout_seeds()[name] if clock else data[1:], str(files.boxes.relative_to(folder())))
    if name == "dsec-det":
        _write_dsec(files.events, data[1:9] if clock else struct.pack("<q", 1000), data[-1] if clock else 0)
    boxes = layout.boxes(files, layout.classes)
    _check_boxes(boxes, len(layout.classes))
    return len(boxes)


def _write_dsec(path: Path, clock: bytes, kind: int) -> None:
    import h5py

    path.unlink(missing_ok=True)
    with h5py.File(path, "w") as out:
        clock = clock.ljust(8, b"\0")
        values = {0: "<i8", 1: "<u8", 2: "<f8", 3: "S8", 4: "<f4", 5: "<c8"}
        found = np.frombuffer(clock, values.get(kind & 7, "<i8"))
        if kind & 7 == 6:
            out.create_group("t_offset")
        else:
            out["t_offset"] = found[0] if kind < 64 else found


@cache
def _layouts() -> Path:
    """Folders with a recording in each layout; of DSEC's only the clock is looked at."""
    root, events = folder() / "layouts", some_events(20)
    parts = {"dsec-det": "train/a/object_detections/left/tracks.npy", "etram": "train/a_bbox.npy",
             "1mpx": "train/a_bbox.npy", "pedro": "xml/train/a.xml"}  # fmt: skip
    for name, data in _layout_seeds().items():
        file(data, f"layouts/{name}/{parts[name]}")
    for path in ("dsec-det/train/a/events/left/events.h5", "etram/train/a_td.h5"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        writers.write_columns(root / path, events, SIZE_HW)
    file(b"", "layouts/1mpx/train/a_td.dat")
    made = io.BytesIO()
    np.save(made, events)
    file(made.getvalue(), "layouts/pedro/numpy/train/a.npy")
    return root


@cache
def _layout_seeds() -> dict[str, bytes]:
    voc = b"""<?xml version="1.0"?><annotation><object><name>person</name><bndbox><xmin>10</xmin><ymin>20</ymin>
<xmax>50</xmax><ymax>90</ymax></bndbox></object></annotation>"""
    return {"dsec-det": _box_file("ts"), "etram": _box_file("t"), "1mpx": _box_file("t"), "pedro": voc}


def _box_file(time: str) -> bytes:
    rows = np.zeros(3, [(time if name == "ts" else name, kind) for name, kind in BOX_DTYPE.descr])
    rows[time], rows["w"], rows["h"], rows["track_id"] = (2000, 2000, 5000), 9, 8, (1, 2, 1)
    made = io.BytesIO()
    np.save(made, rows)
    return made.getvalue()


def study(data: bytes) -> Plan:
    file(b"epochs: 2\n", "base.yaml")
    return read_plan(file(data, "study.yaml"))


LABELS = (labels, layouts, study)


def _posed(document: dict) -> dict:
    """Return a COCO document whose first box has COCO's joints."""
    first, *others = document["annotations"]
    return document | {"annotations": [first | {"keypoints": [3.5, 4.25, 2] * 17}, *others]}


def seeds(name: str) -> list[bytes]:
    """Return valid inputs of a target."""
    if name == "labels":
        document = {
            "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "pedestrian"}],
            "images": [{"id": k, "file_name": f"{k}.png", "width": 40, "height": 24, "t_us": 5 * k} for k in (1, 2)],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 2, "bbox": [1, 2, 3.5, 4], "track_id": 7}],
        }
        untimed = re.sub(r', "t_us": \d+', "", json.dumps(document))
        return [
            b"\0" + json.dumps(document).encode(),
            b"\0" + json.dumps(_posed(document)).encode(),
            b"\x30" + untimed.encode(),
            b"\x4a" + b"0 0.5 0.5 0.5 0.25\n1 0.1 0.2 0.1 0.1 0.5 3\n",
            b"\x6b" + b"car\npedestrian\n",
            b"\x24" + SEQUENCE,
            b"\x15" + ROWS,
            b"\x06" + _box_file("ts"),
            b"\x26" + _box_file("t"),
        ]
    if name == "layouts":
        found = _layout_seeds()
        made = [bytes([k]) + found[name] for k, name in enumerate(LAYOUTS)]
        return [*made, b"\x80" + struct.pack("<q", 1500) + b"\0", b"\x80" + struct.pack("<d", 1500) + b"\x02"]
    here = Path(__file__).resolve().parents[1] / "recipes" / "studies"
    found = [path.read_text() for path in sorted(here.glob("*.yaml"))]
    # Without their comments, which cost most of the time, and with a recipe that is there.
    plain = [re.sub(r"(?m)^recipe: .*$", "recipe: base.yaml", re.sub(r"(?m)^#.*\n", "", text)) for text in found]
    return [text.encode() for text in plain] + [
        b"recipe: base.yaml\naxes: {learning_rate: [1e-3, 2e-3], seed: [0]}\ncombine: product\n",
        b"recipe: base.yaml\naxes: {network.neuron: [plif, relu]}\nrows: {a: {batch_size: 4}}\nseeds: [1, 2]\n",
    ]

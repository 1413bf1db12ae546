"""What the fuzzers feed to the readers of 3D boxes, joints, cameras and classes; the first byte chooses which."""

import io

import numpy as np
from fuzz_files import file

from spiking_centernet.data.box_files import boxes_at
from spiking_centernet.data.class_layouts import read_gestures
from spiking_centernet.data.kitti_files import read_kitti
from spiking_centernet.data.object_files import CAMERA_DTYPE, Objects, object_dtype, read_cameras, read_objects
from spiking_centernet.structures import BOX_DTYPE

KITTI = b"Car 0.20 2 -1.17 464.7 185.7 525.1 215.9 1.46 1.83 3.59 -6.44 1.77 37.42 -1.34\n" * 2
GESTURES = b"class,startTime_usec,endTime_usec\n5,80000000,81269256\n7,81669256,83774734\n"


def task_labels(data: bytes) -> int:
    choice, data = data[0] % 4 if data else 0, data[1:]
    if choice == 0:
        rows = read_objects(file(data, "a_objects.npy"), _boxes())
        found = Objects(rows).attach(boxes_at(_boxes(), 1000), 1000)
        assert np.isfinite(found.joints).all()
        return int(np.isfinite(found.box3d).all(axis=1).sum())
    if choice == 1:
        cameras = read_cameras(file(data, "a_camera.npy"))
        for t_us in cameras["ts"].tolist():
            assert Objects(np.zeros(0, object_dtype()), cameras).calibration(t_us) is not None
        return len(cameras)
    if choice == 2:
        objects = read_kitti(file(data, "a.txt"))
        assert np.isfinite(objects.box3d).all()
        return len(objects)
    rows = read_gestures(file(data, "a_labels.csv"))
    assert (np.diff(rows["ts"].astype(np.int64)) >= 0).all()
    return len(rows)


def _boxes() -> np.ndarray:
    rows = np.zeros(3, BOX_DTYPE)
    rows["ts"], rows["w"], rows["h"], rows["track_id"] = 1000, 9, 8, (1, 2, 3)
    return rows


def seeds() -> list[bytes]:
    """Return valid inputs."""
    found = []
    for num_joints in (13, 0):
        rows = np.zeros(3, object_dtype(num_joints))
        rows["ts"], rows["track_id"], rows["dimensions"] = 1000, (1, 2, 3), 1.5
        found.append(b"\0" + _saved(rows))
    cameras = np.zeros(2, CAMERA_DTYPE)
    cameras["ts"], cameras["focal"], cameras["rotation"] = (1000, 2000), 300, np.eye(3)
    cameras["height_m"] = 1.5, np.nan
    return [*found, b"\1" + _saved(cameras), b"\2" + KITTI, b"\3" + GESTURES]


def _saved(rows: np.ndarray) -> bytes:
    made = io.BytesIO()
    np.save(made, rows)
    return made.getvalue()

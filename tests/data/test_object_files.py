from dataclasses import replace

import numpy as np
import pytest

from spiking_centernet.calibration import Calibration
from spiking_centernet.data import FolderDataset
from spiking_centernet.data.augmentation import Augmentation
from spiking_centernet.data.box_files import boxes_at, write_boxes
from spiking_centernet.data.formats.dat_writer import write_dat
from spiking_centernet.data.object_files import (
    Objects,
    calibration_of_row,
    object_dtype,
    read_beside,
    read_cameras,
    read_objects,
    write_cameras,
    write_objects,
)
from spiking_centernet.errors import BoxFileError
from spiking_centernet.structures import BOX_DTYPE, EVENT_DTYPE

T_US = 250_000
CAMERA = Calibration(np.array([300.0, 300.0]), np.array([32.0, 24.0]))


def boxes():
    rows = np.zeros(3, BOX_DTYPE)
    for i in range(len(rows)):
        rows[i] = (T_US, 4 + 10 * i, 5, 8, 12, i % 2, 1, 7 - i)
    return rows


def objects(num_joints=13):
    rows = np.zeros(3, object_dtype(num_joints))
    for i, (row, box) in enumerate(zip(rows, boxes(), strict=True)):
        row["ts"], row["track_id"], row["class_id"] = box["ts"], box["track_id"], box["class_id"]
        row["location"], row["dimensions"], row["yaw"] = (i, 1, 10 + i), (1.5, 1.7, 4), 0.1 * i
        if num_joints:
            row["joints"] = (6 + 10 * i, 9, 2)
    return rows


def folder(tmp_path):
    split = tmp_path / "train"
    split.mkdir()
    events = np.zeros(50, EVENT_DTYPE)
    events["t"], events["x"], events["y"] = np.linspace(0, 299_000, 50), 5, 6
    write_dat(split / "a_td.dat", events, (48, 64))
    write_boxes(split / "a_bbox.npy", boxes())
    write_objects(split / "a_objects.npy", objects())
    write_cameras(split / "a_camera.npy", {T_US: CAMERA})
    return tmp_path


def test_a_folder_gives_every_box_its_object_and_every_sample_its_camera(tmp_path):
    sample = FolderDataset(folder(tmp_path), "train")[0]
    assert sample.boxes.track_ids.tolist() == [7, 6, 5]
    np.testing.assert_array_equal(sample.boxes.box3d[:, 2], [10, 11, 12])
    np.testing.assert_array_equal(sample.boxes.joints[:, 0, 0], [6, 16, 26])
    assert sample.calibration is not None
    np.testing.assert_array_equal(sample.calibration.focal, CAMERA.focal)


def test_augmentation_moves_what_lies_beside_the_boxes(tmp_path):
    flips = Augmentation(flip=1, zoom=0)
    sample = FolderDataset(folder(tmp_path), "train", augmentation=flips)[0]
    np.testing.assert_array_equal(sample.boxes.box3d[:, 0], [0, -1, -2])
    assert sample.calibration is not None
    assert sample.calibration.center[0] == 64 - 32


def test_a_class_left_out_takes_its_object_along(tmp_path):
    (tmp_path / "classes.txt").write_text("car\npedestrian\n")
    sample = FolderDataset(folder(tmp_path), "train", classes=("pedestrian",))[0]
    np.testing.assert_array_equal(sample.boxes.box3d[:, 2], [11])


def test_boxes_without_a_row_stay_unknown():
    kept = objects()[:1]
    found = Objects(kept).attach(boxes_at(boxes(), T_US), T_US)
    assert np.isfinite(found.box3d).all(axis=1).tolist() == [True, False, False]
    assert Objects(kept).calibration(T_US) is None


def test_a_file_without_joints_reads_as_none(tmp_path):
    write_objects(tmp_path / "a_objects.npy", objects(0))
    rows = read_objects(tmp_path / "a_objects.npy", boxes())
    assert rows.dtype == object_dtype(0)
    assert Objects(rows).attach(boxes_at(boxes(), T_US), T_US).joints.shape == (3, 0, 3)


def test_areas_go_with_the_objects(tmp_path):
    rows = np.zeros(3, object_dtype(13, areas=True))
    for name in object_dtype(13).names or ():
        rows[name] = objects()[name]
    rows["area"] = [8, np.nan, 96]
    root = folder(tmp_path)
    write_objects(root / "train" / "a_objects.npy", rows)
    np.testing.assert_array_equal(FolderDataset(root, "train")[0].boxes.areas, rows["area"])
    smaller = Augmentation(flip=0, zoom=1, zoom_range=(0.5, 0.5), min_side_px=1)
    zoomed = FolderDataset(root, "train", augmentation=smaller)[0].boxes
    np.testing.assert_allclose(zoomed.areas, [2, np.nan, 24], rtol=1e-6)
    rows["area"] = -1
    np.save(root / "train" / "a_objects.npy", rows)
    with pytest.raises(BoxFileError, match="has an area that is not 0 to"):
        FolderDataset(root, "train")


def test_a_recording_without_an_object_is_written_and_read(tmp_path):
    root = folder(tmp_path)
    write_objects(root / "train" / "a_objects.npy", objects()[:0])
    rows = read_objects(root / "train" / "a_objects.npy", boxes())
    assert rows.shape == (0,)
    assert rows.dtype == object_dtype(13)


def test_nothing_beside_is_nothing(tmp_path):
    assert read_beside(tmp_path / "a_objects.npy", tmp_path / "a_camera.npy", tmp_path / "a_bbox.npy") is None


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("location", np.nan, "no finite number"),
        ("dimensions", 0.0, "must be positive"),
        ("yaw", np.inf, "no finite number"),
        ("joints", 3.0, "visibility must be"),
        ("track_id", 99, "has no box"),
        ("ts", T_US + 1, "has no box"),
    ],
)
def test_an_impossible_object_is_refused(tmp_path, name, value, what):
    rows = objects()
    rows[name][1] = value
    np.save(tmp_path / "a_objects.npy", rows)
    with pytest.raises(BoxFileError, match=what):
        read_objects(tmp_path / "a_objects.npy", boxes())


def test_two_rows_of_one_box_are_refused(tmp_path):
    rows = objects()
    rows["track_id"] = 7
    np.save(tmp_path / "a_objects.npy", rows)
    with pytest.raises(BoxFileError, match="same ts and track_id"):
        read_objects(tmp_path / "a_objects.npy", boxes())


def test_a_missing_field_is_named(tmp_path):
    np.save(tmp_path / "a_objects.npy", boxes())
    with pytest.raises(BoxFileError, match="'location'"):
        read_objects(tmp_path / "a_objects.npy", boxes())


def test_the_height_of_a_camera_survives_a_file_and_may_be_missing(tmp_path):
    path = tmp_path / "a_camera.npy"
    write_cameras(path, {T_US: replace(CAMERA, height_m=1.4), 2 * T_US: CAMERA})
    rows = read_cameras(path)
    assert [calibration_of_row(row).height_m for row in rows] == [1.4, None]
    np.save(path, rows[["ts", "focal", "center", "rotation", "translation"]])  # as files were before
    assert [calibration_of_row(row).height_m for row in read_cameras(path)] == [None, None]


def test_impossible_cameras_are_refused(tmp_path):
    path = tmp_path / "a_camera.npy"
    write_cameras(path, {T_US: CAMERA, 2 * T_US: CAMERA})
    rows = np.load(path)
    assert read_cameras(path)["ts"].tolist() == [T_US, 2 * T_US]
    for name, value, what in (
        ("rotation", 2 * np.eye(3), "orthonormal"), ("focal", (-1, 1), "positive"), ("ts", T_US, "same ts"),
        ("height_m", 0.0, "height_m"), ("height_m", np.inf, "height_m"),
    ):  # fmt: skip
        bad = rows.copy()
        bad[name][1] = value
        np.save(path, bad)
        with pytest.raises(BoxFileError, match=what):
            read_cameras(path)

"""KITTI's folder of 3D labels: written from a split, read back, and the camera in its projection."""

import csv
import json

import numpy as np
import pytest
import toy_roads

from spiking_centernet.calibration import Calibration
from spiking_centernet.data import read_boxes
from spiking_centernet.data.convert import convert_file
from spiking_centernet.data.kitti_files import camera_of_projection, read_kitti, read_projection
from spiking_centernet.data.object_files import read_cameras, read_objects
from spiking_centernet.errors import BoxFileError, ConfigError
from spiking_centernet.joint_sets import JOINTS_13


@pytest.fixture
def split(tmp_path):
    toy_roads.write_objects_beside(toy_roads.write_folder(tmp_path / "data"))
    return tmp_path / "data" / "val"


def test_a_height_that_kitti_has_no_place_for_is_said_to_be_lost(split, tmp_path):
    cameras = split / "clip2_camera.npy"
    rows = read_cameras(cameras)
    assert not any("height" in one for one in convert_file(split, tmp_path / "unknown", to="kitti").lost)
    rows["height_m"][:2] = 1.4
    np.save(cameras, rows)
    assert "the camera's height over the ground at 2 timestamps" in convert_file(split, tmp_path / "k", to="kitti").lost


def test_a_split_becomes_a_picture_a_frame_and_comes_back(split, tmp_path):
    out = tmp_path / "kitti"
    result = convert_file(split, out, to="kitti")
    assert "6 timestamps" in result.found
    with (out / "instants.csv").open() as file:
        instants = list(csv.DictReader(file))
    assert [row["number"] for row in instants] == [f"{k:06d}" for k in range(6)]
    assert [row["recording"] for row in instants] == ["clip2"] * 3 + ["clip3"] * 3
    label = read_kitti(out / "training" / "label_2" / "000004.txt")
    assert label.types == ("Pedestrian",)
    assert label.occluded.tolist() == [0]
    boxes = read_boxes(split / "clip3_bbox.npy")
    rows = read_objects(split / "clip3_objects.npy", boxes)
    np.testing.assert_allclose(label.box3d[0, :3], rows["location"][1], atol=1e-3)
    np.testing.assert_allclose(label.box3d[0, 3:6], [1.5, 1.6, 1.8], atol=1e-4)
    view = toy_roads.camera()
    found = read_projection(out / "training" / "calib" / "000004.txt")
    np.testing.assert_allclose(found.matrix, view.matrix, atol=1e-8)
    np.testing.assert_allclose(found.rotation, view.rotation, atol=1e-9)

    back = tmp_path / "back" / "all_bbox.npy"
    convert_file(out, back, to="gen1", every_us=50_000)
    again = read_boxes(back)
    assert again["ts"].tolist() == [50_000 * k for k in range(1, 7)]
    np.testing.assert_allclose(again["x"][3:], boxes["x"], atol=1e-3)
    solid = read_objects(back.with_name("all_objects.npy"), again)
    np.testing.assert_allclose(solid["location"][3:], rows["location"], atol=1e-3)
    cameras = read_cameras(back.with_name("all_camera.npy"))
    np.testing.assert_allclose(cameras["focal"], np.full((6, 2), 40.0), atol=1e-6)


def test_cameras_come_out_of_their_projections():
    rng = np.random.default_rng(0)
    for _ in range(20):
        q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        camera = Calibration(rng.uniform(50, 900, 2), rng.uniform(10, 400, 2), q * np.sign(np.linalg.det(q)),
                             rng.normal(size=3))  # fmt: skip
        found = camera_of_projection(camera.matrix)
        for name in ("focal", "center", "rotation", "translation"):
            np.testing.assert_allclose(getattr(found, name), getattr(camera, name), atol=1e-6)
    skewed = Calibration(np.full(2, 300.0), np.full(2, 100.0)).matrix
    skewed[0, 1] = 5.0
    with pytest.raises(ValueError, match="skew"):
        camera_of_projection(skewed)


def test_what_cannot_be_converted_is_refused(split, tmp_path):
    with pytest.raises(ConfigError, match="split of a data set"):
        convert_file(split / "clip2_bbox.npy", tmp_path / "kitti", to="kitti")
    out = tmp_path / "kitti"
    convert_file(split, out, to="kitti")
    with pytest.raises(BoxFileError, match="holds a training folder already"):
        convert_file(split, out, to="kitti")
    with pytest.raises(ConfigError, match="use --to gen1"):
        convert_file(out, tmp_path / "labels.json", to="coco")
    with pytest.raises(BoxFileError, match="several recordings"):
        convert_file(out, tmp_path / "all_bbox.npy", to="gen1")
    (out / "training" / "calib" / "000002.txt").write_text("P0: 1 2 3\n")
    with pytest.raises(BoxFileError, match="holds no camera P2"):
        convert_file(out, tmp_path / "all_bbox.npy", to="gen1", every_us=50_000)
    assert not (tmp_path / "all_bbox.npy").exists()
    (split / "clip3_camera.npy").unlink()
    with pytest.raises(BoxFileError, match="simulate with --labels objects"):
        convert_file(split, tmp_path / "other", to="kitti")
    assert not (tmp_path / "other").exists()


def test_coco_gets_the_joints_next_to_a_box_file(split, tmp_path):
    convert_file(split / "clip3_bbox.npy", tmp_path / "people.json")
    document = json.loads((tmp_path / "people.json").read_text())
    car, person = document["categories"]
    assert "keypoints" not in car
    assert person["keypoints"] == list(JOINTS_13.names)
    assert [1, 2] in person["skeleton"]
    rows = read_objects(split / "clip3_objects.npy", read_boxes(split / "clip3_bbox.npy"))
    for annotation, row in zip(document["annotations"], rows, strict=True):
        assert annotation["num_keypoints"] == 13
        np.testing.assert_allclose(np.reshape(annotation["keypoints"], (13, 3)), row["joints"], atol=1e-5)
    back = convert_file(tmp_path / "people.json", tmp_path / "people_bbox.npy")
    assert back.lost == ()
    again = read_objects(tmp_path / "people_objects.npy", read_boxes(tmp_path / "people_bbox.npy"))
    np.testing.assert_array_equal(again["joints"], rows["joints"])
    for name in ("location", "dimensions", "yaw"):
        assert np.isnan(again[name]).all()
    convert_file(tmp_path / "people.json", tmp_path / "plain.npy", to="1mpx")
    convert_file(tmp_path / "plain.npy", tmp_path / "plain.json", size_hw=(60, 80))
    named = json.loads((tmp_path / "plain.json").read_text())
    assert [a["keypoints"] for a in named["annotations"]] == [a["keypoints"] for a in document["annotations"]]
    for category in document["categories"]:
        category.pop("keypoints", None)
    (tmp_path / "nameless.json").write_text(json.dumps(document))
    lost = convert_file(tmp_path / "nameless.json", tmp_path / "nameless_bbox.npy").lost
    assert lost == ("keypoints of 3 objects, which are of no known set",)
    assert not (tmp_path / "nameless_objects.npy").exists()
    for name in ("boxes.txt", "yolo"):
        assert (
            "joints of 3 objects" in convert_file(tmp_path / "people_bbox.npy", tmp_path / name, size_hw=(60, 80)).lost
        )
    convert_file(tmp_path / "people_bbox.npy", tmp_path / "again.json", size_hw=(60, 80))
    copied = json.loads((tmp_path / "again.json").read_text())
    assert [a["keypoints"] for a in copied["annotations"]] == [a["keypoints"] for a in document["annotations"]]

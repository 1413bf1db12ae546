"""KITTI's folder as a data set: splits, boxes, 3D boxes, cameras, regions that do not count."""

import numpy as np
import pytest
import toy_photos
import toy_roads
from PIL import Image

from spiking_centernet.data import FolderDataset, read_boxes, write_boxes
from spiking_centernet.data.convert import convert_file
from spiking_centernet.data.kitti_files import read_kitti, write_kitti
from spiking_centernet.data.layouts import folder_classes, locate
from spiking_centernet.data.object_files import read_cameras
from spiking_centernet.errors import BoxFileError, DatasetError
from spiking_centernet.structures import BOX_DTYPE, VoxelSpec

SPEC = VoxelSpec(mode="direct", num_steps=2, frame_hw=toy_photos.SIZE_HW)
LINE = "{} 0.00 0 0.00 10.00 5.00 30.00 25.00 1.50 1.50 4.00 1.00 1.50 9.00 0.10\n"


@pytest.fixture
def root(tmp_path):
    return toy_photos.write_kitti(tmp_path / "kitti")


def test_boxes_cameras_and_regions_are_those_of_the_files(root):
    assert locate(root)[0].name == "kitti"
    assert folder_classes(root) == ("car", "pedestrian")
    assert len(FolderDataset(root, "train", SPEC)) == 8
    dataset = FolderDataset(root, "val", SPEC)
    for sample, (image, (left, top, width, height), label) in zip(dataset, toy_photos.pictures(4, 1), strict=True):
        assert np.array_equal(sample.cube[0].numpy().transpose(1, 2, 0), image)
        objects, crowds = sample.boxes.objects, sample.boxes.crowds
        assert objects.labels.tolist() == [label]
        np.testing.assert_array_equal(objects.xyxy, [[left + 0.25, top, left + width + 0.25, top + height]])
        np.testing.assert_array_equal(objects.box3d, np.array([[-1.25, 1.5, 12, 1.5, 1.75, 4, 0.75]], np.float32))
        assert crowds.labels.tolist() == [0, 1]
        np.testing.assert_array_equal(crowds.xyxy, [[0, 0, 9, 9]] * 2)
        assert np.isnan(crowds.box3d).all()
        camera = sample.calibration
        np.testing.assert_allclose(camera.matrix, [[50, 0, 32, 0.5], [0, 50, 20, -0.25], [0, 0, 1, 0]], atol=1e-9)


def test_a_folder_a_split_is_read_as_well(root, tmp_path):
    (tmp_path / "b").mkdir()
    (root / "training").rename(tmp_path / "b" / "val")
    dataset = FolderDataset(tmp_path / "b", "val", SPEC)
    assert len(dataset) == 12
    with pytest.raises(DatasetError, match=r"has neither train/label_2 nor ImageSets/train\.txt"):
        FolderDataset(tmp_path / "b", "train", SPEC)


def test_neighbors_of_a_class_do_not_count_and_other_types_are_left_out(root):
    path = root / "training" / "label_2" / "000008.txt"
    path.write_text("".join(LINE.format(name) for name in ("Van", "Person_sitting", "Tram", "Cyclist", "Wild_boar")))
    assert folder_classes(root) == ("car", "pedestrian", "cyclist", "wild boar")
    boxes = FolderDataset(root, "val", SPEC)[0].boxes
    assert boxes.labels.tolist() == [2, 3, 0, 1]
    assert boxes.crowd.tolist() == [False, False, True, True]
    assert np.isfinite(boxes.objects.box3d).all()
    (root / "classes.txt").write_text("car\nvan\n")
    boxes = FolderDataset(root, "val", SPEC)[0].boxes
    assert (boxes.labels.tolist(), boxes.crowd.tolist()) == ([1], [False])


def test_without_calib_there_is_no_camera(root):
    for path in (root / "training" / "calib").iterdir():
        path.unlink()
    with pytest.raises(BoxFileError, match=r"calib/000008\.txt: holds no camera P2"):
        FolderDataset(root, "val", SPEC)
    (root / "training" / "calib").rmdir()
    assert FolderDataset(root, "val", SPEC)[0].calibration is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Car 0 0 0 1 2 3", r"000008\.txt: line 2 has 6 numbers"),
        ("Car 0 0 0 x 2 3 4 1 1 1 1 1 9 0", r"000008\.txt: line 2: could not convert"),
        ("Car 0 0 0 9 2 3 4 1 1 1 1 1 9 0", r"000008\.txt: line 2 has a box .* of negative size"),
    ],
)
def test_a_malformed_line_is_named(root, line, message):
    path = root / "training" / "label_2" / "000008.txt"
    path.write_text(LINE.format("Car") + line + "\n")
    with pytest.raises(BoxFileError, match=message):
        FolderDataset(root, "val", SPEC, classes=["car"])


def test_what_is_missing_is_named(root):
    (root / "training" / "image_2" / "000009.png").unlink()
    with pytest.raises(DatasetError, match=r"image_2/000009\.png is missing"):
        FolderDataset(root, "val", SPEC)
    (root / "ImageSets" / "val.txt").write_text("\n")
    with pytest.raises(DatasetError, match="lists no picture"):
        FolderDataset(root, "val", SPEC)
    for path in (root / "training" / "label_2").iterdir():
        path.write_text(LINE.format("Tram"))
    with pytest.raises(DatasetError, match="no object is a car, a pedestrian or a cyclist"):
        locate(root)


def test_label_files_survive_the_way_there_and_back(root, golden_dir, tmp_path):
    paths = [
        *(golden_dir / "tasks" / "kitti" / "label_2").glob("*.txt"),
        *(root / "training" / "label_2").glob("*.txt"),
    ]
    for path in paths:
        found = read_kitti(path)
        write_kitti(tmp_path / "again.txt", found)
        again = read_kitti(tmp_path / "again.txt")
        assert again.types == found.types
        for name in ("truncated", "occluded", "alpha", "xyxy", "box3d", "scores"):
            np.testing.assert_array_equal(getattr(again, name), getattr(found, name))


def test_regions_survive_the_way_to_box_files_and_back(root, tmp_path):
    source = tmp_path / "roads" / "val"
    target = source / "all_bbox.npy"
    source.mkdir(parents=True)
    convert_file(root, target, to="gen1", every_us=50_000)
    assert len(read_boxes(source / "all_crowds.npy")) == 24
    convert_file(source, tmp_path / "again", to="kitti")
    for path in (root / "training" / "label_2").glob("*.txt"):
        found, again = read_kitti(path), read_kitti(tmp_path / "again" / "training" / "label_2" / path.name)
        assert again.types == found.types
        for name in ("truncated", "occluded", "xyxy", "box3d"):
            np.testing.assert_array_equal(getattr(again, name), getattr(found, name))


def test_crowds_of_single_classes_become_dont_care_and_come_back_with_their_class(root, tmp_path):
    source, out = tmp_path / "roads" / "val", tmp_path / "out" / "val"
    source.mkdir(parents=True)
    convert_file(root, source / "all_bbox.npy", to="gen1", every_us=50_000)
    crowds = read_boxes(source / "all_crowds.npy")
    crowds["x"][:2], crowds["w"][:2] = 3.3, 20.1  # of both classes
    crowds["y"][2], crowds["class_id"][2:4] = 1.7, 1  # of pedestrians, twice
    alone = np.array([(9_000_000, 1, 2, 3, 4, 0, 1, 0), (9_100_000, 1, 2, 3, 4, 0, 1, 0)], BOX_DTYPE)
    write_boxes(source / "all_crowds.npy", np.concatenate([crowds, alone]))
    camera = read_cameras(source / "all_camera.npy")[-1:]
    camera["ts"] = 9_000_000
    np.save(source / "all_camera.npy", np.concatenate([read_cameras(source / "all_camera.npy"), camera]))
    result = convert_file(source, out, to="kitti")
    assert len(result.lost) == 2
    assert "the class of 3 regions of crowds: they ignore every class in a DontCare" in result.lost[0]
    assert "1 timestamp with nothing but crowds and no camera" in result.lost[1]
    training = out / "training"
    assert [read_kitti(training / "label_2" / f"00000{k}.txt").types.count("DontCare") for k in range(3)] == [1, 2, 1]
    last = read_kitti(training / "label_2" / "000012.txt")
    assert (last.types, last.xyxy.tolist()) == (("DontCare",), [[1, 2, 4, 6]])

    def key(rows):
        return sorted((row["ts"], row["class_id"], *(round(float(row[side]), 3) for side in "xywh")) for row in rows)

    convert_file(out, tmp_path / "back_bbox.npy", to="gen1")
    assert key(read_boxes(tmp_path / "back_crowds.npy")) == key(np.concatenate([crowds, alone[:1]]))
    (training / "image_2").mkdir()
    for k in range(13):
        Image.fromarray(np.zeros((*toy_roads.SIZE_HW, 3), np.uint8)).save(training / "image_2" / f"{k:06d}.png")
    spec = VoxelSpec(mode="direct", frame_hw=toy_roads.SIZE_HW)
    assert FolderDataset(out.parent, "val", spec)[1].boxes.crowds.labels.tolist() == [1, 1]
    (training / "regions.csv").write_text("number,left\n1,2\n")
    with pytest.raises(BoxFileError, match=r"regions\.csv: must have the columns number, left"):
        FolderDataset(out.parent, "val", spec)
    (training / "regions.csv").unlink()
    assert FolderDataset(out.parent, "val", spec)[1].boxes.crowds.labels.tolist() == [0, 1, 0, 1]


def test_a_simulated_split_with_frames_becomes_such_a_folder(tmp_path):
    source = toy_roads.write_folder(tmp_path / "roads")
    toy_roads.write_objects_beside(source)
    for split in ("train", "val"):
        for path in (source / split).glob("*_bbox.npy"):
            frames = path.with_name(path.name.replace("_bbox.npy", "_frames"))
            frames.mkdir()
            for t_us in read_boxes(path)["ts"]:
                image = np.full((*toy_roads.SIZE_HW, 3), t_us % 251, np.uint8)
                Image.fromarray(image).save(frames / f"{t_us}.png")
        convert_file(source / split, tmp_path / "kitti" / split, to="kitti")
    dataset = FolderDataset(tmp_path / "kitti", "val", VoxelSpec(mode="direct", frame_hw=toy_roads.SIZE_HW))
    events = FolderDataset(source, "val", VoxelSpec(mode="direct", frame_hw=toy_roads.SIZE_HW))
    assert len(dataset) == len(events) == 6
    for ours, theirs in zip(dataset, events, strict=True):
        assert np.array_equal(ours.cube, theirs.cube)
        np.testing.assert_allclose(ours.boxes.xyxy, theirs.boxes.xyxy, atol=1e-4)
        np.testing.assert_allclose(ours.boxes.box3d, theirs.boxes.box3d, atol=1e-4)
        np.testing.assert_allclose(ours.calibration.matrix, theirs.calibration.matrix, atol=1e-8)

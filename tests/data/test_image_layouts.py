"""COCO, YOLO and VOC folders of pictures."""

import json

import numpy as np
import pytest
import toy_photos

from spiking_centernet.data import Augmentation, FolderDataset, collate
from spiking_centernet.data.fingerprint import fingerprint_of
from spiking_centernet.data.layouts import folder_classes, locate
from spiking_centernet.errors import BoxFileError, ConfigError, DatasetError
from spiking_centernet.structures import VoxelSpec

SPEC = VoxelSpec(mode="direct", num_steps=2, frame_hw=toy_photos.SIZE_HW)
WRITERS = {"coco": toy_photos.write_coco, "yolo": toy_photos.write_yolo, "voc": toy_photos.write_voc}


@pytest.fixture(params=WRITERS)
def photos(request, tmp_path):
    return request.param, WRITERS[request.param](tmp_path / "photos")


def test_a_folder_of_pictures_is_known_without_its_name(photos):
    kind, root = photos
    assert locate(root)[0].name == kind
    assert folder_classes(root) == toy_photos.CLASSES
    assert folder_classes(f"{kind}:{root}") == toy_photos.CLASSES


def test_pictures_and_boxes_are_those_of_the_files(photos):
    _, root = photos
    dataset = FolderDataset(root, "val", SPEC)
    wanted = list(toy_photos.pictures(4, 1))
    assert len(dataset) == 4
    for sample, (image, (left, top, width, height), label) in zip(dataset, wanted, strict=True):
        assert np.array_equal(sample.cube[0].numpy().transpose(1, 2, 0), image)
        np.testing.assert_allclose(sample.boxes.xyxy, [[left, top, left + width, top + height]], atol=1e-4)
        assert sample.boxes.labels.tolist() == [label]
        assert sample.source_hw == toy_photos.SIZE_HW
        assert sample.t_us == 0


def test_samples_vary_by_seed_and_epoch(photos):
    _, root = photos
    dataset = FolderDataset(root, "train", SPEC, augmentation=Augmentation(flip=1, zoom=0))
    plain = FolderDataset(root, "train", SPEC)
    assert np.array_equal(dataset[0].cube.numpy()[..., ::-1], plain[0].cube.numpy())
    batch = collate([dataset[0], dataset[1]])
    assert batch.cube.shape == (1, 2, 3, *toy_photos.SIZE_HW)
    assert batch.source_hws == [toy_photos.SIZE_HW] * 2
    zoomed = FolderDataset(root, "train", SPEC, augmentation=Augmentation(flip=0, zoom=1, zoom_range=(0.5, 0.5)))
    assert (zoomed[0].cube == 115).any()


def test_a_picture_without_objects_stays(tmp_path):
    root = toy_photos.write_yolo(tmp_path)
    (root / "labels" / "val" / "000.txt").write_text("")
    (root / "labels" / "val" / "001.txt").unlink()
    dataset = FolderDataset(root, "val", SPEC)
    assert [len(dataset[k].boxes) for k in range(4)] == [0, 0, 1, 1]


def test_events_and_pictures_are_not_confused(photos, tmp_path):
    _, root = photos
    with pytest.raises(DatasetError, match=r"holds pictures .* set network\.voxels\.mode to direct"):
        FolderDataset(root, "train", VoxelSpec())
    with pytest.raises(ConfigError, match="sees no events to change"):
        FolderDataset(root, "train", SPEC, augmentation=Augmentation(noise=0.5))


def test_crowds_and_difficult_objects_are_regions(tmp_path):
    root = toy_photos.write_coco(tmp_path / "coco")
    path = root / "annotations" / "instances_val.json"
    document = json.loads(path.read_text())
    document["annotations"][0]["iscrowd"] = 1
    path.write_text(json.dumps(document))
    dataset = FolderDataset(root, "val", SPEC)
    crowd, plain = dataset[0].boxes, dataset[1].boxes
    assert (crowd.crowd.tolist(), plain.crowd.tolist()) == ([True], [False])
    left, top, width, height = document["annotations"][0]["bbox"]
    np.testing.assert_allclose(crowd.xyxy, [[left, top, left + width, top + height]], atol=1e-4)
    assert (len(crowd.objects), len(crowd.crowds)) == (0, 1)
    assert fingerprint_of(dataset) != fingerprint_of(FolderDataset(toy_photos.write_coco(tmp_path / "b"), "val", SPEC))
    assert FolderDataset(root, "val", SPEC, classes=["pedestrian"])[0].boxes.crowd.tolist() == []
    root = toy_photos.write_voc(tmp_path / "voc")
    path = root / "Annotations" / "val000.xml"
    path.write_text(path.read_text().replace("<difficult>0", "<difficult>1"))
    assert FolderDataset(root, "val", SPEC)[0].boxes.crowd.tolist() == [True]


@pytest.mark.parametrize("keep", [True, False], ids=["with instances", "alone"])
def test_keypoints_of_coco_are_joints(tmp_path, keep):
    root = toy_photos.write_keypoints(toy_photos.write_coco(tmp_path), keep=keep)
    assert locate(root)[0].name == "coco"
    assert folder_classes(root) == (toy_photos.CLASSES if keep else ("person",))
    dataset = FolderDataset(root, "val", SPEC)
    for k, (sample, (_, box, label)) in enumerate(zip(dataset, toy_photos.pictures(4, 1), strict=True)):
        if label == 0:
            assert len(sample.boxes) == keep
            assert not sample.boxes.joints.any()
            continue
        assert sample.boxes.joints.dtype == np.float32
        np.testing.assert_array_equal(sample.boxes.joints[0], toy_photos.joints_in(box, k).astype(np.float32))
        assert np.isnan(sample.boxes.box3d).all()
        assert sample.calibration is None
    mirrored = FolderDataset(root, "val", SPEC, augmentation=Augmentation(flip=1, zoom=0))[1].boxes.joints
    joints = dataset[1].boxes.joints
    assert mirrored[0, 5, 2] == joints[0, 6, 2] == 0
    assert mirrored[0, 2, 0] == toy_photos.SIZE_HW[1] - joints[0, 1, 0]


def test_keypoints_of_another_set_are_not_read(tmp_path):
    root = toy_photos.write_keypoints(toy_photos.write_coco(tmp_path), keep=False)
    path = root / "annotations" / "person_keypoints_val.json"
    text = path.read_text()
    path.write_text(text.replace('"nose"', '"beak"'))
    with pytest.warns(UserWarning, match=r"\(beak, left_eye, right_eye, \.\.\.\) are of no known set"):
        boxes = FolderDataset(root, "val", SPEC)[1].boxes
    assert boxes.joints.shape == (1, 0, 3)
    document = json.loads(text)
    for keypoints, message in (
        ([1.0, 2.0, 2], "annotation 1 has 3 numbers as keypoints, must be 51"),
        ([1.0, 2.0, 3] * 17, r"keypoint \[1\.0, 2\.0, 3\.0\], must be"),
    ):
        document["annotations"][0]["keypoints"] = keypoints
        path.write_text(json.dumps(document))
        with pytest.raises(BoxFileError, match=message):
            FolderDataset(root, "val", SPEC)
    document = json.loads(text)
    for area in (-1, 1e13, "large"):
        document["annotations"][0]["area"] = area
        path.write_text(json.dumps(document))
        with pytest.raises(BoxFileError, match=r"has the area|could not convert string"):
            FolderDataset(root, "val", SPEC)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no COCO ground truth"),
        ('{"images": [], "annotations": []}', "KeyError: 'categories'"),
        ('{"images": [], "annotations": [], "categories": []}', "0 categories"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "KeyError: 'name'"),
    ],
)
def test_damaged_coco_is_refused(tmp_path, text, message):
    root = toy_photos.write_coco(tmp_path)
    (root / "annotations" / "instances_train.json").write_text(text)
    with pytest.raises(BoxFileError, match=message):
        locate(root)


@pytest.mark.parametrize("line", ["2 0.5 0.5 0.1 0.1", "0 30 20 10 10", "0 0.5 0.5 0.1", "x 0.5 0.5 0.1 0.1"])
def test_damaged_yolo_is_refused(tmp_path, line):
    root = toy_photos.write_yolo(tmp_path)
    (root / "labels" / "val" / "000.txt").write_text(line)
    with pytest.raises(BoxFileError, match=r"000\.txt: line 1"):
        FolderDataset(root, "val", SPEC)


def test_yolo_needs_names(tmp_path):
    root = toy_photos.write_yolo(tmp_path)
    (root / "data.yaml").unlink()
    with pytest.raises(DatasetError, match=r"has no data\.yaml"):
        locate(root)
    (root / "classes.txt").write_text("car\npedestrian\n")
    assert folder_classes(root) == toy_photos.CLASSES


def test_damaged_voc_is_refused(tmp_path):
    root = toy_photos.write_voc(tmp_path)
    (root / "Annotations" / "val000.xml").write_text("<annotation><object>")
    with pytest.raises(BoxFileError, match=r"val000\.xml: is no readable PASCAL VOC file"):
        FolderDataset(root, "val", SPEC)
    (root / "Annotations" / "val000.xml").unlink()
    with pytest.raises(DatasetError, match=r"val000\.xml is missing"):
        FolderDataset(root, "val", SPEC)


def test_missing_pictures_and_splits_are_named(photos):
    kind, root = photos
    with pytest.raises(DatasetError, match="test"):
        FolderDataset(root, "test", SPEC)
    if kind == "coco":
        (root / "val" / "000.png").unlink()
        with pytest.raises(DatasetError, match=r"names the picture 000\.png"):
            FolderDataset(root, "val", SPEC)

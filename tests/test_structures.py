from dataclasses import fields, replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from spiking_centernet.calibration import Calibration, HeightVotes
from spiking_centernet.data.augmentation import flip, zoom
from spiking_centernet.data.event_augmentation import _of_other_camera
from spiking_centernet.evaluation.metrics import _joined
from spiking_centernet.joint_sets import JOINT_SETS, JOINTS_13
from spiking_centernet.model.scaling import merge, to_sensor
from spiking_centernet.structures import Boxes, Detections, Sample, concatenate, select

RNG = np.random.default_rng(7)


def full_boxes(n=4, joints=13):
    corner = RNG.uniform(5, 40, (n, 2))
    xyxy = np.concatenate([corner, corner + RNG.uniform(12, 20, (n, 2))], axis=1).astype(np.float32)
    points = np.concatenate([RNG.uniform(10, 50, (n, joints, 2)), RNG.integers(1, 3, (n, joints, 1))], axis=2)
    box3d = RNG.uniform(1, 3, (n, 7)).astype(np.float32)
    return Boxes(xyxy, RNG.integers(0, 2, n), np.arange(n) + 5, box3d, points.astype(np.float32))


def full_detections(n=4):
    boxes = full_boxes(n)
    scores = np.linspace(0.9, 0.1, n, dtype=np.float32)
    return Detections(boxes.xyxy, scores, boxes.labels, 7, boxes.track_ids, boxes.box3d, boxes.joints)


def assert_same(a, b, **tolerance):
    for f in fields(a):
        if isinstance(getattr(a, f.name), HeightVotes):
            assert getattr(a, f.name) is getattr(b, f.name)
            continue
        np.testing.assert_allclose(getattr(a, f.name), getattr(b, f.name), err_msg=f.name, **tolerance)


def test_todays_callers_get_columns_that_say_unknown():
    boxes = Boxes(np.zeros((2, 4), np.float32), np.zeros(2, np.int64))
    assert boxes.box3d.shape == (2, 7)
    assert np.isnan(boxes.box3d).all()
    assert boxes.joints.shape == (2, 0, 3)


def test_no_column_is_dropped_by_filtering_and_joining():
    found = full_detections()
    keep = np.array([0, 2])
    for f in fields(found):
        if isinstance(column := getattr(found, f.name), np.ndarray):
            np.testing.assert_array_equal(getattr(select(found, keep), f.name), column[keep], err_msg=f.name)
    assert_same(found.above(0.5), select(found, found.scores >= 0.5))
    halves = [select(found, np.arange(2)), select(found, np.arange(2, 4))]
    assert_same(concatenate(halves), found)
    assert_same(_joined(halves), found)


def test_no_column_is_dropped_between_the_scales_of_a_cube_and_the_sensor():
    found = full_detections()
    moved = to_sensor(found, Fraction(1, 2), (500, 500))
    np.testing.assert_allclose(moved.joints[..., :2], found.joints[..., :2] * 2)
    np.testing.assert_array_equal(moved.box3d, found.box3d)
    assert_same(merge([found, select(found, np.zeros(0, np.int64))]), found)


def test_joints_are_padded_but_sets_are_never_mixed():
    some, none, others = full_boxes(2), full_boxes(3, joints=0), full_boxes(1, joints=17)
    joined = concatenate([none, some])
    np.testing.assert_array_equal(joined.joints[:3], 0)
    np.testing.assert_array_equal(joined.joints[3:], some.joints)
    with pytest.raises(ValueError, match="one set of joints"):
        concatenate([some, others])


def sample(boxes):
    camera = Calibration(np.array([80.0, 81.0]), np.array([31.0, 22.0]), height_m=1.5, votes=HeightVotes())
    return Sample(torch.zeros(2, 4, 60, 64, dtype=torch.uint8), boxes, 100_000, "a", camera)


def test_a_mirror_twice_is_the_identity_on_every_column():
    before = sample(full_boxes())
    once, after = flip(before), flip(flip(before))
    assert_same(after.boxes, before.boxes, rtol=1e-5)
    assert_same(after.calibration, before.calibration)
    left, right = JOINTS_13.names.index("left_hand"), JOINTS_13.names.index("right_hand")
    np.testing.assert_allclose(once.boxes.joints[:, left, 0], 64 - before.boxes.joints[:, right, 0], rtol=1e-6)
    assert once.calibration is not None
    np.testing.assert_allclose(once.calibration.center, [33.0, 22.0])


def test_a_zoom_leaves_metres_alone_and_moves_joints_with_the_picture():
    before = sample(full_boxes())
    after = zoom(before, 1.25, (3.0, 4.0), min_left=0.0)
    assert len(after.boxes) == len(before.boxes)
    np.testing.assert_array_equal(after.boxes.box3d, before.boxes.box3d)
    np.testing.assert_allclose(
        after.boxes.joints[..., :2], (before.boxes.joints[..., :2] - [4.0, 3.0]) * 1.25, rtol=1e-5
    )
    assert before.calibration is not None
    assert after.calibration is not None
    point = np.array([0.3, 0.2, 9.0])
    np.testing.assert_allclose(
        after.calibration.project(point), (before.calibration.project(point) - [4.0, 3.0]) * 1.25
    )


def test_metres_of_another_camera_are_unknown_here():
    boxes = full_boxes()
    assert np.isnan(_of_other_camera(boxes).box3d).all()
    np.testing.assert_array_equal(_of_other_camera(boxes).joints, boxes.joints)


@pytest.mark.parametrize("joints", JOINT_SETS.values(), ids=len)
def test_pairs_of_joints_are_left_and_right_of_one_name(joints):
    assert len(joints.sigmas) == len(joints.names) == len(set(joints.names))
    for a, b in joints.pairs:
        assert {joints.names[a].split("_")[0], joints.names[b].split("_")[0]} == {"left", "right"}
        assert joints.names[a].split("_")[1] == joints.names[b].split("_")[1]
        assert joints.sigmas[a] == joints.sigmas[b]
    np.testing.assert_array_equal(joints.mirrored[joints.mirrored], np.arange(len(joints)))


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ({"box3d": np.zeros((2, 6), np.float32)}, "box3d must be"),
        ({"box3d": np.zeros((2, 7))}, "box3d must be float32"),
        ({"joints": np.zeros((2, 13, 2), np.float32)}, "joints must be"),
        ({"joints": np.zeros((1, 13, 3), np.float32)}, "joints must be"),
        ({"crowd": np.zeros(2)}, "crowd must be bool"),
        ({"areas": np.zeros((2, 1), np.float32)}, r"areas must be \[2\]"),
        ({"areas": np.zeros(2)}, "areas must be float32"),
    ],
)
def test_columns_of_a_wrong_shape_or_type_are_refused(columns, what):
    boxes = Boxes(np.zeros((2, 4), np.float32), np.zeros(2, np.int64))
    with pytest.raises(ValueError, match=what):
        replace(boxes, **columns)


def test_boxes_and_detections_take_lists():
    boxes = Boxes([[1, 2, 3, 4]], [0])
    assert (boxes.xyxy.dtype, boxes.labels.dtype, boxes.track_ids.tolist()) == (np.float32, np.int64, [-1])
    assert boxes.xyxy.tolist() == [[1, 2, 3, 4]]
    assert Boxes([], []).xyxy.shape == (0, 4)
    found = Detections([[1, 2, 3, 4]], [0.5], [1], 100)
    assert (found.scores.dtype, found.above(0.5).labels.tolist()) == (np.float32, [1])


@pytest.mark.parametrize(
    ("xyxy", "labels", "message"),
    [
        ([[1, 2, 3]], [0], r"xyxy must be \[N, 4\], got \[1, 3\]"),
        ([[1, 2, 3, 4], [1]], [0, 0], "xyxy must be numbers of a regular shape"),
        ([["a", 2, 3, 4]], [0], "xyxy must be numbers"),
        ({"x": 1}, [0], "xyxy must be an array or a list, got dict"),
        ([[1, 2, 3, 4]], [0, 1], r"labels must be \[1\] like xyxy"),
    ],
)
def test_what_boxes_cannot_be_made_of_is_said(xyxy, labels, message):
    with pytest.raises(ValueError, match=message):
        Boxes(xyxy, labels)

"""Parts of 3D boxes and poses from the truth, as ``benchmarks/tasks.py`` replaces them."""

import numpy as np
import pytest
from benchmark_files import load_benchmark

from spiking_centernet.boxes3d import centers
from spiking_centernet.data.cameras import pitched_camera
from spiking_centernet.evaluation.center_distance import evaluate_boxes3d
from spiking_centernet.evaluation.prediction import Predictions
from spiking_centernet.structures import Boxes, Detections

SIZE_HW = (240, 304)
CAMERA = pitched_camera(300.0, 8.0, SIZE_HW)
KEY = ("drive", 250_000)
TRUE = np.array([[1.0, 1.5, 12.0, 1.5, 1.8, 4.2, 0.3], [-2.0, 1.6, 9.0, 1.7, 0.6, 0.5, -1.0]])
FOUND = TRUE + np.array([0.4, 0.1, 2.5, -0.2, 0.1, 0.5, 0.7])


@pytest.fixture(scope="module")
def tasks():
    return load_benchmark("tasks")


@pytest.fixture
def predictions():
    """A car and a person, found where they are in the picture but wrong in space, and a false box."""
    xyxy, labels = np.array([[100, 80, 160, 120], [40, 70, 60, 130]], np.float32), np.array([0, 1])
    joints = np.zeros((2, 13, 3), np.float32)
    joints[1, :, :2], joints[1, :, 2] = np.linspace((45, 75), (55, 125), 13), 2
    joints[1, 4, 2] = 0
    truth = Boxes(xyxy, labels, box3d=TRUE.astype(np.float32), joints=joints)
    boxes = np.concatenate([xyxy + 1, [[200, 20, 240, 60]]]).astype(np.float32)
    joints = np.concatenate([joints + np.array([3, -2, 0], np.float32), joints[:1]])
    found = Detections(
        boxes, np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 1, 0]), KEY[1],
        box3d=np.concatenate([FOUND, FOUND[:1] + 20]).astype(np.float32), joints=joints,
    )  # fmt: skip
    names = ("car", "pedestrian")
    return Predictions({KEY: truth}, {KEY: found}, SIZE_HW, names, ("detect", "detect3d", "pose"), frozenset({1}))


def test_every_part_is_that_of_the_truth_and_the_others_stay(tasks):
    uv, depth = CAMERA.project(centers(FOUND)), CAMERA.to_camera(centers(FOUND))[:, 2]
    true_uv, true_depth = CAMERA.project(centers(TRUE)), CAMERA.to_camera(centers(TRUE))[:, 2]
    wanted = {
        "depth": (uv, true_depth, FOUND[:, 3:6], FOUND[:, 6]), "center": (true_uv, depth, FOUND[:, 3:6], FOUND[:, 6]),
        "dimensions": (uv, depth, TRUE[:, 3:6], FOUND[:, 6]), "yaw": (uv, depth, FOUND[:, 3:6], TRUE[:, 6]),
        "all": (true_uv, true_depth, TRUE[:, 3:6], TRUE[:, 6]),
    }  # fmt: skip
    for name, (place, away, sides, yaw) in wanted.items():
        box3d = tasks.ORACLES[name](FOUND, TRUE, CAMERA)
        np.testing.assert_allclose(CAMERA.project(centers(box3d)), place, atol=1e-6)
        np.testing.assert_allclose(CAMERA.to_camera(centers(box3d))[:, 2], away, atol=1e-9)
        np.testing.assert_allclose(box3d[:, 3:6], sides)
        np.testing.assert_allclose(box3d[:, 6], yaw)
    assert wanted.keys() == tasks.ORACLES.keys()


def test_matched_detections_alone_are_corrected(tasks, predictions):
    before = predictions.detections[KEY]
    found = tasks.with_true_boxes3d(predictions, {KEY: CAMERA}, tasks.ORACLES["all"])
    np.testing.assert_allclose(found[KEY].box3d[:2], TRUE, rtol=1e-6)
    np.testing.assert_array_equal(found[KEY].box3d[2], before.box3d[2])
    score = evaluate_boxes3d(predictions.truth, found, class_names=predictions.class_names)
    assert score.primary > 0.99  # the false box lies behind all true ones
    assert evaluate_boxes3d(predictions.truth, predictions.detections, class_names=("car", "pedestrian")).primary < 0.5
    untouched = tasks.with_true_boxes3d(predictions, {KEY: None}, tasks.ORACLES["all"])
    np.testing.assert_array_equal(untouched[KEY].box3d, before.box3d)


def test_joints_are_moved_as_a_whole_or_one_by_one(tasks, predictions):
    true, before = predictions.truth[KEY].joints, predictions.detections[KEY].joints
    whole = tasks.with_true_joints(predictions, "place")[KEY].joints
    np.testing.assert_allclose(whole[1, :, :2], true[1, :, :2], atol=1e-4)
    every = tasks.with_true_joints(predictions, "all")[KEY].joints
    known = true[1, :, 2] > 0
    np.testing.assert_array_equal(every[1, known, :2], true[1, known, :2])
    np.testing.assert_array_equal(every[1, ~known], before[1, ~known])
    np.testing.assert_array_equal(every[[0, 2]], before[[0, 2]])


def test_left_and_right_are_exchanged_where_they_fit_better(tasks):
    true = np.random.default_rng(2).uniform(0, 50, (13, 2))
    labeled = np.ones(13, bool)
    found = true + 0.1
    found[[1, 2, 5, 6]] = found[[2, 1, 6, 5]]
    np.testing.assert_array_equal(tasks.on_true_sides(found, true, labeled), true + 0.1)
    labeled[2] = False
    kept = tasks.on_true_sides(found, true, labeled)
    np.testing.assert_array_equal(kept[[1, 2]], found[[1, 2]])
    np.testing.assert_array_equal(kept[[5, 6]], true[[5, 6]] + 0.1)


def test_people_below_the_least_height_lose_their_joints(tasks, predictions):
    assert (tasks.tall(predictions.truth)[KEY].joints[1, :, 2] > 0).any()
    boxes = predictions.truth[KEY]
    short = Boxes(boxes.xyxy * np.float32(0.5), boxes.labels, box3d=boxes.box3d, joints=boxes.joints)
    assert not tasks.tall({KEY: short})[KEY].joints[..., 2].any()
    assert boxes.joints[..., 2].any()


def person(tasks, *, distance, yaw, joints, track=7):
    """Return one labeled person 50 px tall at a distance straight ahead."""
    box3d = np.array([[0, 1.6, distance, 1.7, 0.6, 0.5, yaw]], np.float32)
    return Boxes(
        np.array([[100, 80, 120, 130]], np.float32), np.array([1]), track_ids=np.array([track]),
        box3d=box3d, joints=joints[None].astype(np.float32),
    )  # fmt: skip


def test_the_sides_of_a_person_follow_from_its_heading(tasks):
    joints = np.full((13, 3), 2.0)
    joints[:, :2] = (110, 100)
    joints[1::2, 0], joints[2::2, 0] = 105, 115  # right joints at the left in the picture: the person faces us
    pairs = [[1, 2], [11, 12]]
    towards, away = np.array([0, 0, 9, 1, 1, 1, np.pi / 2]), np.array([0, 0, 9, 1, 1, 1, -np.pi / 2])
    assert tasks.facing(towards) == tasks.side(joints[:, :2], pairs) == 1
    assert tasks.facing(away) == tasks.side(joints[:, :2] * [-1, 1], pairs) == -1
    coco = np.zeros((17, 2))
    coco[[5, 6], 0] = 115, 105  # left and right shoulder
    assert tasks.side(coco, [[5, 6]]) == 1


def test_it_is_counted_what_tells_the_sides_rightly(tasks):
    joints = np.full((13, 3), 2.0)
    joints[:, :2] = (110, 100)
    joints[1::2, 0], joints[2::2, 0] = 105, 115
    swapped = joints * [-1, 1, 1] + [220, 0, 0]
    truth, detections = {}, {}
    for time, distance in ((0, 12.0), (500_000, 11.0), (1_000_000, 12.5), (2_000_001, 12.4)):
        key = ("drive", time)
        boxes = truth[key] = person(tasks, distance=distance, yaw=np.pi / 2, joints=joints)
        found = person(tasks, distance=distance, yaw=-np.pi / 2, joints=joints if time else swapped)
        detections[key] = Detections(
            boxes.xyxy, np.array([0.9], np.float32), boxes.labels, time, box3d=found.box3d, joints=found.joints
        )  # fmt: skip
    every = Predictions(truth, detections, SIZE_HW, ("car", "pedestrian"), ("detect", "pose"), frozenset({1}))
    told = tasks.sides(every, 0.3)
    # Nearer than 0.5 s before; further off than 1 s before; the last has none within a second before it.
    assert told == {
        "people": 4, "with_history": 2, "joints": 0.75, "heading": 0.0, "true_heading": 1.0,
        "nearing": 0.5,
    }  # fmt: skip
    assert tasks.sides(every, 0.95)["people"] == 0

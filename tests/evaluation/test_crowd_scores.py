"""Detections in crowds are neither right nor wrong, in every score."""

from dataclasses import replace

import numpy as np
import pytest

from spiking_centernet.boxes import covered_shares
from spiking_centernet.evaluation.box_matches import match_frames
from spiking_centernet.evaluation.center_distance import evaluate_boxes3d
from spiking_centernet.evaluation.metrics import evaluate_boxes
from spiking_centernet.evaluation.pose_scores import evaluate_pose
from spiking_centernet.evaluation.prediction import Predictions
from spiking_centernet.evaluation.prediction_files import load_predictions, save_predictions
from spiking_centernet.evaluation.significance import (
    average_precision,
    load_matches,
    match_recordings,
    save_matches,
)
from spiking_centernet.structures import Boxes, Detections

KEY = ("clip", 0)
CLASSES = ("car", "pedestrian")
OBJECT, CROWD = (10, 10, 50, 50), (100, 100, 220, 220)
IN_CROWD, ELSEWHERE = (110, 110, 160, 160), (240, 10, 280, 50)


def truth(*, crowd=True, label=0):
    return Boxes(np.array([OBJECT, CROWD], np.float32), np.array([0, label]), crowd=np.array([False, crowd]))


def found(*boxes):
    """Return detections of falling scores."""
    scores = np.linspace(0.9, 0.5, len(boxes)).astype(np.float32)
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), scores, np.zeros(len(boxes), np.int64), 0)


def score(boxes, detections):
    return evaluate_boxes({KEY: boxes}, {KEY: detections}, size_hw=(240, 304), protocol="none")


def test_shares_are_of_the_first_boxes():
    shares = covered_shares(np.array([OBJECT, IN_CROWD, (200, 200, 240, 240)]), np.array([CROWD, (0, 0, 0, 0)]))
    np.testing.assert_allclose(shares, [[0, 0], [1, 0], [0.25, 0]])
    assert covered_shares(np.zeros((1, 4)), np.array([CROWD])).tolist() == [[0]]


def test_average_precision_passes_over_detections_in_a_crowd():
    several = found(IN_CROWD, (150, 150, 200, 210), OBJECT)
    result = score(truth(), several)
    assert result.ap50 == pytest.approx(1)
    assert (result.num_truth, result.classes[0].num_truth, result.self_ap) == (1, 1, pytest.approx(1))
    assert score(truth(), found(ELSEWHERE, OBJECT)).ap50 == pytest.approx(0.5)
    assert score(truth(label=1), several).ap50 == pytest.approx(1 / 3)
    assert score(truth(crowd=False), found(OBJECT)).ap50 == pytest.approx(51 / 101)


def test_a_frame_with_nothing_but_a_crowd_has_no_truth():
    alone = Boxes(np.array([CROWD], np.float32), np.array([0]), crowd=np.array([True]))
    result = score(alone, found(IN_CROWD))
    assert np.isnan(result.ap)
    assert (result.num_truth, result.num_truth_filtered, result.num_instants) == (0, 0, 1)
    result = evaluate_boxes({("clip", 10**6): alone}, {}, size_hw=(240, 304), protocol="prophesee")
    assert result.num_instants == 0


def random_frames(seed):
    rng = np.random.default_rng(seed)
    boxes, detections = {}, {}
    for k in range(12):
        key = (f"clip{k % 3}", 1_000_000 + 1000 * k)
        corners = rng.uniform(0, 200, (8, 2))
        xyxy = np.concatenate([corners, corners + rng.uniform(12, 90, (8, 2))], axis=1).astype(np.float32)
        boxes[key] = Boxes(xyxy, rng.integers(0, 2, 8), crowd=rng.random(8) < 0.3)
        near = np.concatenate([xyxy, xyxy[:4]]) + rng.normal(0, 4, (12, 4)).astype(np.float32)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 4)
        scores = np.sort(rng.random(12).astype(np.float32))[::-1].copy()
        detections[key] = Detections(near, scores, rng.integers(0, 2, 12), key[1])
    return Predictions(boxes, detections, (240, 304), CLASSES)


@pytest.mark.parametrize("protocol", ["none", "prophesee"])
def test_resampling_counts_crowds_as_coco_does(protocol, tmp_path):
    predictions = random_frames(0)
    matches = match_recordings(predictions, protocol)
    assert all(c.left_out is not None for c in matches.classes)
    found_ap = predictions.score(protocol).ap
    assert average_precision(matches).mean() == pytest.approx(found_ap, abs=1e-9)
    without = replace(predictions, truth={key: boxes.objects for key, boxes in predictions.truth.items()})
    assert without.score(protocol).ap < found_ap
    save_matches(matches, tmp_path / "matches.npz")
    again = load_matches(tmp_path / "matches.npz")
    np.testing.assert_array_equal(average_precision(again), average_precision(matches))


def test_matches_at_a_threshold_leave_detections_in_crowds_out():
    predictions = Predictions({KEY: truth()}, {KEY: found(IN_CROWD, OBJECT, ELSEWHERE)}, (240, 304), CLASSES)
    match = match_frames(predictions, min_score=0.1, protocol="none")[KEY]
    assert (match.num_found, match.num_false, len(match.truth)) == (1, 1, 1)
    assert match.shown.xyxy.tolist() == [list(OBJECT), list(ELSEWHERE)]
    assert match.taken.tolist() == [0]


def test_predictions_keep_their_crowds(tmp_path):
    predictions = random_frames(1)
    again = load_predictions(save_predictions(predictions, tmp_path / "p.npz"))
    for key, boxes in predictions.truth.items():
        np.testing.assert_array_equal(again.truth[key].crowd, boxes.crowd)


def test_3d_boxes_in_crowds_are_not_scored():
    def with_box3d(objects, places):
        box3d = np.array([(x, 1.5, z, 1.5, 1.7, 4.0, 0.0) for x, z in places], np.float32)
        return replace(objects, box3d=box3d)

    boxes = with_box3d(truth(), [(0, 10), (np.nan, np.nan)])
    detections = with_box3d(found(IN_CROWD, OBJECT), [(20, 30), (0, 10)])
    result = evaluate_boxes3d({KEY: boxes}, {KEY: detections}, class_names=CLASSES)
    assert result.classes[0].ap[0] == pytest.approx(1)
    assert result.classes[0].num_truth == 1
    plain = evaluate_boxes3d({KEY: boxes.objects}, {KEY: detections}, class_names=CLASSES)
    assert plain.classes[0].ap[0] < 0.6


def test_poses_in_crowds_are_not_scored():
    def with_joints(objects, corners, visibility):
        grid = np.stack([np.tile(np.arange(4) * 9.0, 5)[:17], np.repeat(np.arange(5) * 9.0, 4)[:17]], axis=1)
        joints = np.stack([np.column_stack([grid + corner, np.full(17, 2.0)]) for corner in corners])
        joints[~np.array(visibility)] = 0
        return replace(objects, joints=joints.astype(np.float32))

    boxes = with_joints(truth(), [(12, 12), (0, 0)], [True, False])
    detections = found(IN_CROWD, (150, 150, 190, 190), OBJECT)
    detections = with_joints(detections, [(112, 112), (152, 152), (12, 12)], [True] * 3)
    assert evaluate_pose({KEY: boxes}, {KEY: detections}, label=0).ap == pytest.approx(1)
    assert evaluate_pose({KEY: boxes.objects}, {KEY: detections}, label=0).ap < 0.5

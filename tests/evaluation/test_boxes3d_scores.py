import numpy as np
import pytest

from spiking_centernet.errors import EvaluationError
from spiking_centernet.evaluation.center_distance import (
    THRESHOLDS_M,
    accumulate,
    average_precision,
    evaluate_boxes3d,
    mean_errors,
)
from spiking_centernet.evaluation.overlap3d import overlaps3d
from spiking_centernet.structures import Boxes, Detections


@pytest.mark.slow
def test_overlaps_are_those_of_exact_geometry(golden_dir):
    z = np.load(golden_dir / "tasks" / "iou3d.npz")
    for i, (a, b) in enumerate(zip(z["boxes_a_xyzhwly"], z["boxes_b_xyzhwly"], strict=True)):
        from_above, in_space = overlaps3d(a[None], b[None])
        assert from_above[0, 0] == pytest.approx(z["iou_bev"][i], abs=1e-6)
        assert in_space[0, 0] == pytest.approx(z["iou_3d"][i], abs=1e-6)
    every = overlaps3d(z["boxes_a_xyzhwly"], z["boxes_b_xyzhwly"])
    np.testing.assert_allclose(np.diag(every[0]), z["iou_bev"], atol=1e-6)
    assert overlaps3d(np.zeros((0, 7)), z["boxes_b_xyzhwly"])[0].shape == (0, 300)


@pytest.fixture
def scenes(golden_dir):
    return np.load(golden_dir / "tasks" / "nuscenes.npz")


def by_image(rows, label):
    images = range(int(rows[:, 0].max()) + 1)
    return [rows[(rows[:, 0] == image) & (rows[:, 1] == label)] for image in images]


@pytest.mark.parametrize("label", [0, 1])
def test_distance_scores_are_those_of_nuscenes(scenes, label):
    num = int(max(scenes["truth"][:, 0].max(), scenes["detections"][:, 0].max())) + 1
    assert (scenes["thresholds_m"] == THRESHOLDS_M).all()

    def part(rows, columns):
        return [rows[(rows[:, 0] == i) & (rows[:, 1] == label)][:, columns] for i in range(num)]

    truth, found = part(scenes["truth"], slice(2, 9)), part(scenes["detections"], slice(2, 9))
    scores = part(scenes["detections"], 9)
    for k, threshold in enumerate(THRESHOLDS_M):
        curves = accumulate(truth, found, scores, threshold)
        np.testing.assert_allclose(curves.precision, scenes["precision"][label, k], rtol=1e-5, atol=1e-9)
        assert average_precision(curves.precision) == pytest.approx(scenes["ap"][label, k], rel=1e-5)
        if threshold == 2:
            assert mean_errors(curves) == pytest.approx(scenes["tp_errors"][label], rel=1e-5)


def as_boxes(rows):
    n = len(rows)
    return Boxes(
        np.tile(np.array([0, 0, 9, 9], np.float32), (n, 1)), rows[:, 1].astype(np.int64),
        box3d=rows[:, 2:9].astype(np.float32),
    )  # fmt: skip


def test_the_whole_score_is_the_golden_one_and_truth_against_itself_is_perfect(scenes):
    num = int(max(scenes["truth"][:, 0].max(), scenes["detections"][:, 0].max())) + 1
    truth, found, perfect = {}, {}, {}
    for i in range(num):
        key = ("a", i)
        truth[key] = as_boxes(scenes["truth"][scenes["truth"][:, 0] == i])
        rows = scenes["detections"][scenes["detections"][:, 0] == i]
        boxes = as_boxes(rows)
        found[key] = Detections(
            boxes.xyxy, rows[:, 9].astype(np.float32), boxes.labels, i, box3d=boxes.box3d
        )  # fmt: skip
        own = truth[key]
        perfect[key] = Detections(own.xyxy, np.ones(len(own), np.float32), own.labels, i, box3d=own.box3d)
    score = evaluate_boxes3d(truth, found, class_names=("car", "pedestrian"), max_range_m={})
    assert score.primary == pytest.approx(float(scenes["mean_ap"]), rel=1e-5)
    assert score.rows()["ap"] == score.primary
    own = evaluate_boxes3d(truth, perfect, class_names=("car", "pedestrian"))
    assert own.primary == pytest.approx(1)
    assert max(c.translation_m + c.scale + c.orientation_rad for c in own.classes) == pytest.approx(0, abs=1e-6)


def test_boxes_without_metres_are_left_out_and_none_at_all_is_said():
    unknown = Boxes(np.zeros((1, 4), np.float32), np.zeros(1, np.int64))
    with pytest.raises(EvaluationError, match="no labeled box has a 3D box"):
        evaluate_boxes3d({("a", 1): unknown}, {}, class_names=("car",))
    rows = np.array([[0, 0, 1, 1, 10, 1, 1, 1, 0.0]])
    score = evaluate_boxes3d({("a", 1): unknown, ("a", 2): as_boxes(rows)}, {}, class_names=("car",))
    assert (score.num_unknown, score.classes[0].num_truth, score.primary) == (1, 1, 0)
    assert np.isnan(evaluate_boxes3d({}, {}, class_names=("car",)).primary)

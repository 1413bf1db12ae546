import json

import numpy as np
import pytest

from spiking_centernet.errors import EvaluationError
from spiking_centernet.evaluation.pose_scores import STATISTICS, coco_statistics, evaluate_pose, oks
from spiking_centernet.joint_sets import JOINT_SETS
from spiking_centernet.structures import Boxes, Detections


@pytest.mark.parametrize("count", [13, 17])
def test_statistics_and_similarities_are_those_of_coco(golden_dir, count):
    golden = json.loads((golden_dir / "tasks" / f"oks_{count}.json").read_text())
    assert golden["sigmas"] == pytest.approx(JOINT_SETS[count].sigmas)
    stats = coco_statistics(golden["ground_truth"], golden["detections"], JOINT_SETS[count].sigmas)
    assert tuple(stats) == STATISTICS
    assert stats == pytest.approx(golden["stats"], abs=1e-9)
    for image, wanted in golden["oks_by_image"].items():
        truth = [a for a in golden["ground_truth"]["annotations"] if a["image_id"] == int(image)]
        found = [d for d in golden["detections"] if d["image_id"] == int(image)]
        found.sort(key=lambda d: -d["score"])
        if not truth or not found:
            continue
        similarity = oks(
            np.array([a["keypoints"] for a in truth], np.float64).reshape(-1, count, 3),
            np.array([d["keypoints"] for d in found], np.float64).reshape(-1, count, 3),
            np.array([a["area"] for a in truth], np.float64), np.array([a["bbox"] for a in truth], np.float64),
            JOINT_SETS[count].sigmas,
        )  # fmt: skip
        np.testing.assert_allclose(similarity.T, np.array(wanted), rtol=1e-6, atol=1e-9)


def people(count=13):
    rng = np.random.default_rng(count)
    truth, found = {}, {}
    for i in range(4):
        low = rng.uniform(0, 60, (3, 2)) + np.arange(3)[:, None] * 100
        sides = rng.uniform(40, 60, (3, 2))
        uv = low[:, None] + rng.uniform(0, 1, (3, count, 2)) * sides[:, None]
        joints = np.concatenate([uv, rng.integers(1, 3, (3, count, 1))], axis=2).astype(np.float32)
        xyxy = np.concatenate([low, low + sides], axis=1).astype(np.float32)
        truth["a", i] = Boxes(xyxy, np.ones(3, np.int64), joints=joints)
        found["a", i] = Detections(xyxy, np.array([0.9, 0.8, 0.7], np.float32), np.ones(3, np.int64), i, joints=joints)
    return truth, found


@pytest.mark.parametrize("count", [13, 17])
def test_truth_against_itself_is_perfect(count):
    truth, found = people(count)
    score = evaluate_pose(truth, found, label=1)
    assert (score.ap, score.swapped_ap, score.pck[0.1], score.mpjpe_px) == (1, 1, 1, 0)
    assert (score.num_people, score.num_matched, score.joint_set) == (12, 12, count)


def test_people_labeled_the_wrong_way_round_are_right_when_swapped():
    truth, found = people()
    for key, own in found.items():
        found[key] = Detections(
            own.xyxy, own.scores, own.labels, own.t_us, joints=own.joints[:, JOINT_SETS[13].mirrored]
        )
    score = evaluate_pose(truth, found, label=1)
    assert score.ap < 0.2
    assert score.swapped_ap == 1


def test_errors_in_pixels_are_those_that_were_made():
    truth, found = people()
    for key, own in found.items():
        found[key] = Detections(
            own.xyxy, own.scores, own.labels, own.t_us, joints=own.joints + np.array([3, 4, 0], np.float32)
        )
    score = evaluate_pose(truth, found, label=1)
    assert score.mpjpe_px == pytest.approx(5, rel=1e-5)
    assert (score.pck[0.1], score.pck[0.2]) == (pytest.approx(np.mean(_sides(truth) >= 50)), 1)


def _sides(truth):
    return np.concatenate([np.repeat((b.xyxy[:, 2:] - b.xyxy[:, :2]).max(axis=1), 13) for b in truth.values()])


def test_nobody_and_nobody_detected():
    assert np.isnan(evaluate_pose({}, {}, label=1).ap)
    truth, _ = people()
    assert evaluate_pose(truth, {}, label=1).ap == 0
    without = {key: Boxes(b.xyxy, b.labels) for key, b in truth.items()}
    with pytest.raises(EvaluationError, match="no labeled person has joints"):
        evaluate_pose(without, {}, label=1)
    assert (
        evaluate_pose(
            truth, {k: Detections(b.xyxy, np.ones(3, np.float32), b.labels, k[1]) for k, b in truth.items()}, label=1
        ).ap
        == 0
    )

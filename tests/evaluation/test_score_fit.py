"""Scores fitted to how often boxes are right, by peak and size."""

import numpy as np
import pytest

from spiking_centernet.errors import ConfigError
from spiking_centernet.evaluation.prediction import Predictions
from spiking_centernet.evaluation.score_fit import LEAST_RIGHT, fit_scores, with_fitted_scores
from spiking_centernet.model.config import AS_IT_IS, DeploymentConfig
from spiking_centernet.model.heads.base import fitted_scores
from spiking_centernet.structures import Boxes, Detections

TRUE_FIT = (1.0, 2.0, 0.8)


def chances(scores, sides):
    logits = TRUE_FIT[0] + TRUE_FIT[1] * np.log(scores / (1 - scores)) + TRUE_FIT[2] * np.log(sides / 40)
    return 1 / (1 + np.exp(-logits))


PER_FRAME = 20


def simulated(num_frames, seed):
    """Return predictions of boxes far from each other, right as often as ``TRUE_FIT`` says."""
    rng = np.random.default_rng(seed)
    shape = (num_frames, PER_FRAME)
    sides, scores = np.exp(rng.uniform(np.log(10), np.log(200), shape)), rng.uniform(0.05, 0.8, shape)
    right = rng.random(shape) < chances(scores, sides)
    left = np.broadcast_to(1000.0 * np.arange(PER_FRAME), shape)
    found = np.stack([left, 0 * sides, left + sides, sides], axis=2).astype(np.float32)
    true = np.where(right[:, :, None], found, found + np.float32(400))
    labels = np.zeros(PER_FRAME, np.int64)
    truth = {("clip", k): Boxes(true[k], labels) for k in range(num_frames)}
    detections = {("clip", k): Detections(found[k], np.float32(scores[k]), labels, k) for k in range(num_frames)}
    return Predictions(truth, detections, (1000, 1000 * PER_FRAME), ("car",))


def test_the_fit_is_the_chance_of_a_right_box():
    fit = fit_scores([simulated(300, 0), simulated(150, 1)])
    np.testing.assert_allclose(fit, TRUE_FIT, atol=0.2)
    sides, scores = np.array([12.0, 40.0, 160.0]), np.array([0.2, 0.4, 0.6], np.float32)
    xyxy = np.stack([0 * sides, 0 * sides, sides, sides], axis=1).astype(np.float32)
    np.testing.assert_allclose(fitted_scores(scores, xyxy, TRUE_FIT), chances(scores, sides), rtol=1e-5)


def test_detections_are_sorted_by_their_new_scores_with_all_columns():
    xyxy = np.array([[0, 0, 10, 10], [0, 0, 200, 200]], np.float32)
    joints = np.arange(2 * 13 * 3, dtype=np.float32).reshape(2, 13, 3)
    found = Detections(xyxy, np.array([0.5, 0.4], np.float32), np.array([0, 1]), 7, joints=joints)
    before = Predictions({("a", 7): Boxes.empty()}, {("a", 7): found}, (240, 304), ("car", "pedestrian"))
    after = with_fitted_scores(before, TRUE_FIT).detections["a", 7]
    np.testing.assert_array_equal(after.labels, [1, 0])
    np.testing.assert_array_equal(after.joints, joints[::-1])
    assert after.scores[0] > after.scores[1]
    same = with_fitted_scores(before, AS_IT_IS).detections["a", 7]
    np.testing.assert_array_equal(same.scores, found.scores)


def test_too_few_right_boxes_leave_scores_as_they_are():
    assert fit_scores([]) == AS_IT_IS
    assert fit_scores([simulated(LEAST_RIGHT // PER_FRAME, 0)]) == AS_IT_IS  # not all of them are right


def test_boxes_that_the_score_tells_without_an_error_give_a_finite_fit():
    part = simulated(20, 2)
    for key, found in part.detections.items():
        true = np.where(found.scores[:, None] > 0.4, found.xyxy, found.xyxy + np.float32(400))
        part.truth[key] = Boxes(true, np.zeros(PER_FRAME, np.int64))
    fit = fit_scores([part])
    assert np.isfinite(fit).all()
    assert fit[1] > 1


def test_scores_at_the_ends_stay_finite_and_in_order():
    xyxy = np.tile(np.array([[0, 0, 30, 30]], np.float32), (4, 1))
    found = fitted_scores(np.array([1.0, 0.5, 1e-9, 0.0], np.float32), xyxy, TRUE_FIT)
    assert np.isfinite(found).all()
    assert (np.diff(found) <= 0).all()
    assert found.dtype == np.float32


@pytest.mark.parametrize("fit", [(0.0, 1.0), (0.0, 0.0, 0.0), (0.0, float("nan"), 0.0)])
def test_an_impossible_fit_is_refused(fit):
    with pytest.raises(ConfigError, match="score_fit must be three numbers"):
        DeploymentConfig(score_fit=fit)

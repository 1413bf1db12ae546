"""Accuracy a trial, a window and a class."""

import numpy as np
import pytest

from spiking_centernet.errors import EvaluationError
from spiking_centernet.evaluation.classification import score_classes
from spiking_centernet.structures import Boxes, Detections

NAMES = ("a", "b", "c")
WHOLE = [0, 0, 10, 10]


def label(number, trial):
    return Boxes(np.array([WHOLE], np.float32), np.array([number]), np.array([trial]))


def answer(*probabilities, t_us=0):
    order = np.argsort(probabilities)[::-1].copy()
    scores = np.array(probabilities, np.float32)[order]
    return Detections(np.array([WHOLE] * len(order), np.float32), scores, order, t_us)


def test_a_trial_is_what_its_windows_say_together():
    # Trial 0 of x is class a: one window says a surely, two say b weakly. Trial 1 is class b, trial 0 of y class a.
    windows = {
        ("x", 1): (label(0, 0), answer(0.9, 0.05, 0.05)),
        ("x", 2): (label(0, 0), answer(0.4, 0.5, 0.1)),
        ("x", 3): (label(0, 0), answer(0.4, 0.5, 0.1)),
        ("x", 4): (label(1, 1), answer(0.2, 0.7, 0.1)),
        ("y", 1): (label(0, 0), answer(0.1, 0.2, 0.7)),
    }
    truth, found = ({key: pair[k] for key, pair in windows.items()} for k in (0, 1))
    score = score_classes(truth, found, NAMES)
    assert score.accuracy == score.primary == pytest.approx(2 / 3)
    assert score.window_accuracy == pytest.approx(2 / 5)
    assert score.balanced_accuracy == pytest.approx((1 / 2 + 1) / 2)  # no trial is of class c
    assert score.confusion.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert (score.num_trials, score.num_windows) == (3, 5)
    assert score.to_dict()["confusion"] == score.confusion.tolist()
    assert set(score.rows()) == {"accuracy", "window_accuracy", "balanced_accuracy"}


def test_truth_against_itself_is_one():
    truth = {("x", k): label(k % 3, k) for k in range(7)}
    found = {key: answer(*np.eye(3)[boxes.labels[0]]) for key, boxes in truth.items()}
    score = score_classes(truth, found, NAMES)
    assert score.accuracy == score.window_accuracy == score.balanced_accuracy == 1


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(EvaluationError, match="no window"):
        score_classes({}, {}, NAMES)
    with pytest.raises(EvaluationError, match="has 0 labels"):
        score_classes({("x", 1): Boxes.empty()}, {("x", 1): answer(1, 0, 0)}, NAMES)
    with pytest.raises(EvaluationError, match="one answer"):
        score_classes({("x", 1): label(0, 0)}, {}, NAMES)
    two = {("x", 1): label(0, 0), ("x", 2): label(1, 0)}
    with pytest.raises(EvaluationError, match="has two classes"):
        score_classes(two, dict.fromkeys(two, answer(1, 0, 0)), NAMES)

"""Scores of a classifier: accuracy a trial, a window and a class, and which class was taken for which."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spiking_centernet.errors import EvaluationError
from spiking_centernet.structures import Boxes, Detections

TrialKey = tuple[str, int]
"""A recording's name and the number of a trial in it, its track."""


@dataclass(frozen=True)
class ClassificationScore:
    """How often a classifier is right.

    Attributes:
        class_names: what label 0, 1, ... is called.
        accuracy: share of trials whose class has the highest mean probability over the trial's windows; the primary.
        window_accuracy: share of windows whose class has the highest probability.
        balanced_accuracy: mean over the classes of the share of their trials that are right; classes without a trial
            do not count.
        confusion: int64 [classes, classes], trials by true class (rows) and answered class (columns).
        num_windows: windows scored.
    """

    class_names: tuple[str, ...]
    accuracy: float
    window_accuracy: float
    balanced_accuracy: float
    confusion: np.ndarray
    num_windows: int

    @property
    def primary(self) -> float:
        """The number that chooses the best weights."""
        return self.accuracy

    @property
    def num_trials(self) -> int:
        """Trials scored."""
        return int(self.confusion.sum())

    def rows(self) -> dict[str, float]:
        """Return the figures by the name under which they are logged."""
        return {
            "accuracy": self.accuracy, "window_accuracy": self.window_accuracy,
            "balanced_accuracy": self.balanced_accuracy,
        }  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            **self.rows(), "trials": self.num_trials, "windows": self.num_windows,
            "classes": list(self.class_names), "confusion": self.confusion.tolist(),
        }  # fmt: skip


def score_classes(
    truth: Mapping[tuple[str, int], Boxes],
    detections: Mapping[tuple[str, int], Detections],
    class_names: Sequence[str],
) -> ClassificationScore:
    """Return the score of a classifier's answers.

    Args:
        truth: the one whole-frame box of every window, by recording and timestamp; its track is the trial.
        detections: the classifier's answer: a whole-frame box for every class, with the class's probability.
        class_names: what label 0, 1, ... is called.

    Raises:
        EvaluationError: there is no window, or one without a label or an answer.
    """
    count = len(class_names)
    sums: dict[TrialKey, np.ndarray] = {}
    labels: dict[TrialKey, int] = {}
    right = 0
    for key in truth:
        boxes = truth[key]
        if len(boxes) != 1 or key not in detections:
            raise EvaluationError(
                f"{key[0]} at {key[1]} us has {len(boxes)} labels; a window to classify has one label and one answer"
            )
        probability = np.zeros(count)
        probability[detections[key].labels] = detections[key].scores
        label, trial = int(boxes.labels[0]), (key[0], int(boxes.track_ids[0]))
        right += int(probability.argmax()) == label
        if labels.setdefault(trial, label) != label:
            raise EvaluationError(f"trial {trial[1]} of {trial[0]} has two classes; its labels are damaged")
        sums[trial] = sums.get(trial, np.zeros(count)) + probability
    if not truth:
        raise EvaluationError("there is no window to score a classifier on; give a split with recordings")
    confusion = np.zeros((count, count), np.int64)
    for trial, total in sums.items():
        confusion[labels[trial], int(total.argmax())] += 1
    hits, totals = confusion.diagonal(), confusion.sum(1)
    present = totals > 0
    return ClassificationScore(
        tuple(class_names), float(hits.sum() / totals.sum()), right / len(truth),
        float((hits[present] / totals[present]).mean()), confusion, len(truth),
    )  # fmt: skip

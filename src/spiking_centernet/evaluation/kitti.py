"""KITTI's scores: AP of boxes, from above and in space, and of orientation (Geiger et al., CVPR 2012).

At 40 recalls (Simonelli et al., arXiv 1905.12365). Overlap must exceed the limit; the score thresholds come from the
best-scored candidate of every box, the counts from the best-overlapping one, as in KITTI's own evaluation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spiking_centernet.boxes import iou_matrix
from spiking_centernet.data.kitti_files import KittiObjects
from spiking_centernet.errors import ConfigError, EvaluationError, did_you_mean
from spiking_centernet.evaluation.overlap3d import overlaps3d
from spiking_centernet.utils.compile_cache import compiled

METRICS = ("bbox", "bev", "3d", "aos")

NUM_RECALLS = 41

NEUTRAL = {"car": "van", "pedestrian": "person_sitting"}
"""Classes that neither help nor harm those they resemble."""


@dataclass(frozen=True)
class Level:
    """Which boxes count.

    Attributes:
        min_height_px: of the box, also of detections.
        max_occlusion: 0 to 3.
        max_truncation: share outside the picture.
    """

    min_height_px: float
    max_occlusion: float
    max_truncation: float


LEVELS = {
    "easy": Level(40, 0, 0.15),
    "moderate": Level(25, 1, 0.3),
    "hard": Level(25, 2, 0.5),
    "all": Level(0, math.inf, math.inf),
}
"""KITTI's levels of difficulty, made for pictures 375 rows high, and all boxes."""

OVERLAPS = {
    "strict": {"car": (0.7, 0.7, 0.7), "pedestrian": (0.5, 0.5, 0.5), "cyclist": (0.5, 0.5, 0.5)},
    "loose": {"car": (0.7, 0.5, 0.5), "pedestrian": (0.5, 0.25, 0.25), "cyclist": (0.5, 0.25, 0.25)},
}
"""By set and class: the overlap that a match must exceed in the picture, from above and in space."""


@dataclass(frozen=True)
class KittiScore:
    """The score of one class, level and metric.

    Attributes:
        precision: at recall 0, 1/40, ..., 1, each the highest from there on.
        num_truth: boxes that count.
    """

    precision: tuple[float, ...]
    num_truth: int

    @property
    def r40(self) -> float:
        """Mean over the recalls 1/40 to 1; NaN without ground truth."""
        return float(np.mean(self.precision[1:])) if self.num_truth else math.nan

    @property
    def r11(self) -> float:
        """Mean over the recalls 0, 0.1, ..., 1; NaN without ground truth."""
        return float(np.mean(self.precision[::4])) if self.num_truth else math.nan


_jit = compiled(error_model="numpy")


@_jit
def _match(overlap, scores, real, own, covered, limit, threshold, counting, angles, hits):
    """Match one picture; return true and false positives and the sum of similarities.

    ``real`` and ``own`` say of boxes and detections: 0 counts, 1 is neutral, -1 is not there. ``covered`` is the share
    of a detection that lies in one region where nobody labeled. Without ``counting`` the
    scores of the matches are written to ``hits`` and their number is returned first.
    """
    taken = np.zeros(len(own), np.bool_)
    num_hits, similarity = 0, 0.0
    for i in range(len(real)):
        if real[i] < 0:
            continue
        chosen, best_score, best_overlap, is_neutral = -1, -math.inf, 0.0, False
        for j in range(len(own)):
            if own[j] < 0 or taken[j] or (counting and scores[j] < threshold) or not overlap[i, j] > limit:
                continue
            if not counting:
                if scores[j] > best_score:
                    chosen, best_score = j, scores[j]
            elif own[j] == 0 and (overlap[i, j] > best_overlap or is_neutral):
                chosen, best_overlap, is_neutral = j, overlap[i, j], False
            elif own[j] == 1 and chosen < 0:
                chosen, is_neutral = j, True
        if chosen < 0:
            continue
        taken[chosen] = True
        if real[i] == 0 and own[chosen] == 0:
            hits[num_hits] = scores[chosen]
            num_hits += 1
            similarity += (1.0 + math.cos(angles[i, chosen])) / 2.0
    wrong = 0
    if counting:
        for j in range(len(own)):
            if own[j] == 0 and not taken[j] and scores[j] >= threshold and not covered[j] > limit:
                wrong += 1
    return num_hits, wrong, similarity


@dataclass(frozen=True)
class _Picture:
    """One picture for one class and level, detections of other classes left out."""

    overlap: np.ndarray
    scores: np.ndarray
    real: np.ndarray
    own: np.ndarray
    covered: np.ndarray
    angles: np.ndarray


def evaluate_kitti(
    truth: Sequence[KittiObjects],
    found: Sequence[KittiObjects],
    *,
    class_name: str,
    metric: str,
    level: str = "all",
    overlaps: str = "strict",
) -> KittiScore:
    """Score detections of one class, one level of difficulty and one metric.

    Args:
        truth: the labels of every picture.
        found: the detections of the same pictures.
        class_name: "car", "pedestrian" or "cyclist".
        metric: "bbox" in the picture, "bev" from above, "3d" in space, "aos" orientation over matches in the picture.
        level: of ``LEVELS``.
        overlaps: of ``OVERLAPS``.

    Raises:
        ConfigError: If a name is unknown.
        EvaluationError: If truth and detections are of different numbers of pictures.
    """
    for name, known in (
        (metric, METRICS), (level, LEVELS), (overlaps, OVERLAPS), (class_name, OVERLAPS["strict"]),
    ):  # fmt: skip
        if name not in known:
            raise ConfigError(f"KITTI's scores know no {name!r}{did_you_mean(name, known)}")
    if len(truth) != len(found):
        raise EvaluationError(f"{len(truth)} pictures have labels, {len(found)} detections; give one for each")
    by_picture = "bbox" if metric == "aos" else metric
    limit = OVERLAPS[overlaps][class_name][("bbox", "bev", "3d").index(by_picture)]
    pictures = [
        _picture(real, own, class_name, by_picture, LEVELS[level]) for real, own in zip(truth, found, strict=True)
    ]
    num_truth = sum(int((p.real == 0).sum()) for p in pictures)
    hits = []
    for p in pictures:
        scores = np.zeros(len(p.real))
        count, _, _ = _match(p.overlap, p.scores, p.real, p.own, p.covered, limit, -math.inf, False, p.angles, scores)
        hits.append(scores[:count])
    curve = np.zeros(NUM_RECALLS)
    for k, threshold in enumerate(_thresholds(np.concatenate([np.zeros(0), *hits]), num_truth)):
        right, wrong, similarity = 0, 0, 0.0
        for p in pictures:
            scores = np.zeros(len(p.real))
            a, b, c = _match(p.overlap, p.scores, p.real, p.own, p.covered, limit, threshold, True, p.angles, scores)
            right, wrong, similarity = right + a, wrong + b, similarity + c
        curve[k] = (similarity if metric == "aos" else right) / max(right + wrong, 1)
    highest = np.maximum.accumulate(curve[::-1])[::-1]
    return KittiScore(tuple(highest.tolist()), num_truth)


def _thresholds(scores: np.ndarray, num_truth: int) -> list[float]:
    """Return the scores at which the recall is nearest to 0, 1/40, ..., 1."""
    scores = np.sort(scores)[::-1]
    chosen, recall = [], 0.0
    for i, score in enumerate(scores.tolist()):
        last = i == len(scores) - 1
        here = (i + 1) / num_truth
        after = here if last else (i + 2) / num_truth
        if after - recall < recall - here and not last:
            continue
        chosen.append(score)
        recall += 1 / (NUM_RECALLS - 1.0)
    return chosen


def _picture(truth: KittiObjects, found: KittiObjects, class_name: str, metric: str, level: Level) -> _Picture:
    names = np.array([name.lower() for name in truth.types], dtype=object)
    same = names == class_name
    height = truth.xyxy[:, 3] - truth.xyxy[:, 1]
    too_hard = (truth.occluded > level.max_occlusion) | (truth.truncated > level.max_truncation)
    too_hard |= height < level.min_height_px
    real = np.full(len(truth), -1)
    real[same & ~too_hard] = 0
    real[(same & too_hard) | (names == NEUTRAL.get(class_name))] = 1
    own = np.where(np.array([name.lower() == class_name for name in found.types], bool), 0, -1)
    own[found.xyxy[:, 3] - found.xyxy[:, 1] < level.min_height_px] = 1
    if metric == "bbox":
        overlap = iou_matrix(truth.xyxy, found.xyxy)
    else:
        above, space = overlaps3d(truth.box3d, found.box3d)
        overlap = above if metric == "bev" else space
    ignored = truth.xyxy[names == "dontcare"]
    covered = np.zeros(len(found))
    if len(ignored) and len(found) and metric == "bbox":
        low = np.maximum(found.xyxy[:, None, :2], ignored[None, :, :2])
        high = np.minimum(found.xyxy[:, None, 2:], ignored[None, :, 2:])
        area = (found.xyxy[:, 2:] - found.xyxy[:, :2]).prod(axis=1)
        covered = np.maximum(high - low, 0).prod(axis=2).max(axis=1) / np.maximum(area, 1e-12)
    angles = truth.alpha[:, None] - found.alpha[None]
    return _Picture(overlap, found.scores, real, own, covered, angles)

"""3D detection scored by distance on the ground, nuScenes' way (Caesar et al., arXiv 1903.11027, section 3.1)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from spiking_centernet.boxes3d import wrap
from spiking_centernet.errors import EvaluationError
from spiking_centernet.evaluation.crowds import scored
from spiking_centernet.evaluation.metrics import FrameKey
from spiking_centernet.structures import Boxes, Detections, select

THRESHOLDS_M = (0.5, 1.0, 2.0, 4.0)
"""A detection matches a box nearer than this on the ground plane (nuScenes' ``detection_cvpr_2019``)."""

ERROR_THRESHOLD_M = 2.0
"""Errors are those of the matches at this threshold (same source)."""

MIN_RECALL = MIN_PRECISION = 0.1
"""Recalls up to and precisions below are noise and left out (same source)."""

NUM_RECALLS = 101

MAX_RANGE_M = {"car": 50.0, "pedestrian": 40.0}
"""Boxes and detections beyond are dropped (same source)."""


@dataclass(frozen=True)
class DistanceScore:
    """The score of one class.

    Attributes:
        name: of the class.
        ap: average precision at every threshold of ``THRESHOLDS_M``; NaN without ground truth.
        translation_m: mean error of the ground position (ATE).
        scale: mean of 1 - IoU of the dimensions once place and yaw are aligned (ASE).
        orientation_rad: mean error of the yaw (AOE).
        num_truth: boxes scored.
        num_detections: detections scored.
    """

    name: str
    ap: tuple[float, ...]
    translation_m: float
    scale: float
    orientation_rad: float
    num_truth: int
    num_detections: int


@dataclass(frozen=True)
class Score3D:
    """Center-distance AP of 3D boxes.

    Attributes:
        classes: the score of every class.
        num_unknown: boxes without a known 3D box, left out.
    """

    classes: tuple[DistanceScore, ...]
    num_unknown: int

    @property
    def primary(self) -> float:
        """Mean AP over the thresholds and the classes with ground truth; NaN without any."""
        means = [float(np.mean(c.ap)) for c in self.classes if c.num_truth]
        return float(np.mean(means)) if means else math.nan

    def rows(self) -> dict[str, float]:
        """Return the numbers by name."""
        found = {"ap": self.primary}
        for c in self.classes:
            found |= {f"{c.name}_ap_{t:g}m": ap for t, ap in zip(THRESHOLDS_M, c.ap, strict=True)}
            found |= {f"{c.name}_ate_m": c.translation_m, f"{c.name}_ase": c.scale}
            found[f"{c.name}_aoe_rad"] = c.orientation_rad
        return found

    def to_dict(self) -> dict:
        """Return plain numbers, lists and text for JSON."""
        return asdict(self) | {"primary": self.primary}


@dataclass(frozen=True)
class Accumulated:
    """What matching at one threshold gives, at 101 recalls.

    Attributes:
        precision: interpolated, 0 beyond the highest recall reached.
        confidence: the score at which each recall is reached, 0 beyond.
        errors: [3, 101], running means of translation, scale and orientation errors of the matches.
    """

    precision: np.ndarray
    confidence: np.ndarray
    errors: np.ndarray


def accumulate(
    truth: Sequence[np.ndarray], found: Sequence[np.ndarray], scores: Sequence[np.ndarray], threshold_m: float
) -> Accumulated:
    """Match the detections of one class by falling score, each with the nearest untaken box of its frame.

    Args:
        truth: box3d [N, 7] of every frame.
        found: box3d [M, 7] of every frame.
        scores: [M] of every frame.
        threshold_m: a match is nearer than this on the ground plane.
    """
    nothing = Accumulated(np.zeros(NUM_RECALLS), np.zeros(NUM_RECALLS), np.ones((3, NUM_RECALLS)))
    num_truth = sum(map(len, truth))
    frame = np.repeat(np.arange(len(found)), [len(f) for f in found])
    if not num_truth or not len(frame):
        return nothing
    boxes, confidence = np.concatenate(list(found)), np.concatenate(list(scores))
    # Ties by place from the last to the first, as nuScenes' devkit sorts them.
    order = sorted(range(len(confidence)), key=lambda i: (confidence[i], i))[::-1]
    taken = [np.zeros(len(t), bool) for t in truth]
    hits, matched, errors = [], [], []
    for i in order:
        here, free = truth[frame[i]], ~taken[frame[i]]
        best = -1
        if free.any():
            distance = np.hypot(here[:, 0] - boxes[i, 0], here[:, 2] - boxes[i, 2])
            distance[~free] = np.inf
            best = int(np.argmin(distance))
            if not distance[best] < threshold_m:
                best = -1
        hits.append(best >= 0)
        if best >= 0:
            taken[frame[i]][best] = True
            matched.append(confidence[i])
            errors.append(_errors(here[best], boxes[i]))
    if not matched:
        return nothing
    hit = np.array(hits)
    true, false = np.cumsum(hit), np.cumsum(~hit)
    precision, recall = true / (true + false), true / num_truth
    at = np.linspace(0, 1, NUM_RECALLS)
    interpolated = np.interp(at, recall, precision, right=0)
    scores_at = np.interp(at, recall, confidence[order], right=0)
    running = np.cumsum(np.array(errors), axis=0) / np.arange(1, len(errors) + 1)[:, None]
    by_score = np.array(matched)
    # By falling confidence; interpolation wants rising ones.
    curves = [np.interp(scores_at[::-1], by_score[::-1], running[::-1, k])[::-1] for k in range(3)]
    return Accumulated(interpolated, scores_at, np.array(curves))


def _errors(truth: np.ndarray, found: np.ndarray) -> tuple[float, float, float]:
    common = np.minimum(truth[3:6], found[3:6]).prod()
    union = truth[3:6].prod() + found[3:6].prod() - common
    turn = abs(float(wrap(np.array(found[6] - truth[6], np.float64))))
    return math.hypot(truth[0] - found[0], truth[2] - found[2]), 1 - common / union, turn


def average_precision(precision: np.ndarray) -> float:
    """Return the mean precision above ``MIN_PRECISION`` at the recalls above ``MIN_RECALL``, scaled to [0, 1]."""
    kept = precision[round(100 * MIN_RECALL) + 1 :]
    return float(np.mean(np.maximum(kept - MIN_PRECISION, 0.0))) / (1 - MIN_PRECISION)


def mean_errors(accumulated: Accumulated) -> tuple[float, float, float]:
    """Return the mean errors from recall 0.11 to the highest reached; 1 where that is not reached."""
    first = round(100 * MIN_RECALL) + 1
    reached = np.flatnonzero(accumulated.confidence)
    last = int(reached[-1]) if len(reached) else 0
    if last < first:
        return 1.0, 1.0, 1.0
    translation, scale, orientation = accumulated.errors[:, first : last + 1].mean(axis=1).tolist()
    return translation, scale, orientation


def evaluate_boxes3d(
    truth: Mapping[FrameKey, Boxes],
    detections: Mapping[FrameKey, Detections],
    *,
    class_names: Sequence[str],
    max_range_m: Mapping[str, float] = MAX_RANGE_M,
) -> Score3D:
    """Score 3D boxes by their distance on the ground.

    Args:
        truth: the boxes of every labeled frame; rows of NaN in ``box3d`` are left out, and so are detections whose 2D
            boxes lie in a crowd.
        detections: the detections of labeled frames; those without a 3D box are left out.
        class_names: what label 0, 1, ... is called.
        max_range_m: by class, beyond which nothing is scored; a class that is missing has no limit.

    Raises:
        EvaluationError: If no box has a 3D box, or a score is not finite.
    """
    detections = {
        k: select(d, scored(d, truth[k])) if k in truth else d for k, d in detections.items()
    }  # fmt: skip
    truth = {k: boxes.objects for k, boxes in truth.items()}
    known = sum(int(np.isfinite(b.box3d).all(axis=1).sum()) for b in truth.values())
    total = sum(map(len, truth.values()))
    if total and not known:
        raise EvaluationError(
            "no labeled box has a 3D box; simulate with --labels objects, or lay *_objects.npy next to the boxes"
        )
    if not all(np.isfinite(d.scores).all() for d in detections.values()):
        raise EvaluationError("a detection's score is not finite; look for a diverged network")
    frames = sorted(truth)
    scores = []
    for label, name in enumerate(class_names):
        limit = max_range_m.get(name, math.inf)
        real = [_of_class(truth[k], label, limit)[0] for k in frames]
        empty = np.zeros((0, 7)), np.zeros(0)
        found = [_of_class(detections[k], label, limit) if k in detections else empty for k in frames]
        boxes, confidence = [f[0] for f in found], [f[1] for f in found]
        num_truth = sum(map(len, real))
        curves = {t: accumulate(real, boxes, confidence, t) for t in THRESHOLDS_M}
        ap = tuple(average_precision(curves[t].precision) if num_truth else math.nan for t in THRESHOLDS_M)
        errors = mean_errors(curves[ERROR_THRESHOLD_M])
        scores.append(DistanceScore(name, ap, *errors, num_truth, sum(map(len, boxes))))
    return Score3D(tuple(scores), total - known)


def _of_class(objects: Boxes | Detections, label: int, limit_m: float) -> tuple[np.ndarray, np.ndarray]:
    box3d = objects.box3d.astype(np.float64)
    keep = (objects.labels == label) & np.isfinite(box3d).all(axis=1)
    keep &= np.hypot(box3d[:, 0], box3d[:, 2]) <= limit_m
    scores = objects.scores if isinstance(objects, Detections) else np.ones(len(objects))
    return box3d[keep], scores[keep].astype(np.float64)

"""COCO average precision under a named protocol, with ground truth against itself checked first."""

import bisect
import dataclasses
import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from spiking_centernet.boxes import area, xyxy_to_xywh
from spiking_centernet.errors import ConfigError, EvaluationError, did_you_mean
from spiking_centernet.evaluation.average_precision import STATISTICS, ClassScore, coco_statistics
from spiking_centernet.structures import CLASS_NAMES, Boxes, Detections, concatenate, select

FrameKey = tuple[str, int]
"""A recording's name and a time in its microseconds."""

MAX_DETECTIONS = 100
"""Detections of one class scored at one timestamp, best first (COCO's largest setting)."""

SELF_AP_SLACK = 1e-9
"""COCO divides by ``matches + eps``, so a perfect precision may end one rounding below 1."""

_CORNER_ROUNDING_PX = 2e-4
"""Float32 corners below 2048 px are at most 6.1e-5 px off; a 10 px side stored as corners must still count as 10."""


@dataclass(frozen=True)
class Protocol:
    """Which boxes count; the same filter falls on ground truth and detections.

    Attributes:
        name: the word to state next to every number.
        skip_us: boxes at or before this time in microseconds do not count; None counts all.
        gen1_px: least diagonal and least side in pixels on sensors up to 640 px wide.
        megapixel_px: the same on wider sensors.
        score_emptied: whether labeled frames whose boxes were all filtered away are still scored (detections
            there are false positives).
    """

    name: str
    skip_us: int | None
    gen1_px: tuple[int, int]
    megapixel_px: tuple[int, int]
    score_emptied: bool

    def limits_px(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Return least diagonal and least side in pixels for a sensor of this height and width.

        The protocols were written for 304 x 240 and 1280 x 720. Up to 640 px wide the first holds, as RVT does for the
        1 Mpx data at half size (``data/utils/eval`` of github.com/uzh-rpg/RVT: 60 / 20 halved to 30 / 10).
        """
        return self.gen1_px if size_hw[1] <= 640 else self.megapixel_px

    def keep(self, xyxy: np.ndarray, t_us: int, size_hw: tuple[int, int]) -> np.ndarray:
        """Return which boxes count.

        Args:
            xyxy: [N, 4] in pixels.
            t_us: their timestamp in microseconds of the recording.
            size_hw: height and width of the sensor in pixels.

        Returns:
            bool [N].
        """
        if self.skip_us is not None and t_us <= self.skip_us:
            return np.zeros(len(xyxy), bool)
        diagonal_px, side_px = self.limits_px(size_hw)
        sides = xyxy_to_xywh(xyxy)[:, 2:]  # [N,2]
        long_enough = np.hypot(sides[:, 0], sides[:, 1]) >= diagonal_px - _CORNER_ROUNDING_PX
        return long_enough & (sides >= side_px - _CORNER_ROUNDING_PX).all(axis=1)


PROTOCOLS = {
    p.name: p
    for p in (
        # RVT, HMNet and most papers: the supplement of Perot et al. 2020 ("Learning to detect objects with a 1
        # megapixel event camera").
        Protocol("prophesee", 500_000, (30, 10), (60, 20), score_emptied=False),
        # psee_evaluator.py of Prophesee's automotive toolbox as it runs, its sides swapped between the sensors.
        Protocol("prophesee-script", 100_000, (30, 20), (60, 10), score_emptied=False),
        # Cordone et al. 2022 and SFOD.
        Protocol("cordone", None, (30, 20), (30, 20), score_emptied=True),
        # SpikeFPN.
        Protocol("none", None, (0, 0), (0, 0), score_emptied=True),
    )
}
"""Every protocol by its name."""


class TaskScore(typing.Protocol):
    """The score of a task besides "detect"."""

    @property
    def primary(self) -> float:
        """The number that chooses between networks; NaN without ground truth."""
        ...

    def rows(self) -> dict[str, float]:
        """Return the numbers by name."""
        ...

    def to_dict(self) -> dict:
        """Return plain numbers, lists and text."""
        ...


@dataclass(frozen=True)
class Score:
    """COCO statistics, the protocol they hold under, and what was counted; NaN where there is no ground truth.

    Attributes:
        protocol: name of the protocol.
        tolerance_us: 0 for exact timestamps, else the half width of the official grouping.
        ap: average precision over IoU 0.5 to 0.95, 100 detections, mean over the classes with ground truth.
        ap50: at IoU 0.5.
        ap75: at IoU 0.75.
        ap_small: boxes under 32 x 32 pixels.
        ap_medium: boxes from 32 x 32 to 96 x 96 pixels.
        ap_large: boxes above.
        ar1: average recall with 1 detection per class and timestamp.
        ar10: with 10.
        ar100: with 100.
        ar_small: with 100, boxes under 32 x 32 pixels.
        ar_medium: with 100, boxes from 32 x 32 to 96 x 96 pixels.
        ar_large: with 100, boxes above.
        classes: the score of each class.
        self_ap: ground truth scored against itself under the same settings: 1, less only with a tolerance that merges
            neighboring timestamps.
        num_instants: labeled frames scored.
        num_truth: ground truth boxes scored.
        num_detections: detections scored.
        num_truth_filtered: ground truth boxes the protocol left out.
        num_detections_filtered: detections the protocol left out.
        num_detections_unlabelled: detections that passed the filter at timestamps that are not scored, left out.
        num_instants_undetected: scored timestamps for which not even an empty result was given.
        tasks: the scores of further tasks by their names; the protocol's filter does not fall on them.
    """

    protocol: str
    tolerance_us: int
    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar1: float
    ar10: float
    ar100: float
    ar_small: float
    ar_medium: float
    ar_large: float
    classes: tuple[ClassScore, ...]
    self_ap: float
    num_instants: int
    num_truth: int
    num_detections: int
    num_truth_filtered: int
    num_detections_filtered: int
    num_detections_unlabelled: int
    num_instants_undetected: int
    tasks: Mapping[str, TaskScore] = field(default_factory=dict)

    def primary(self, task: str = "detect") -> float:
        """Return the number that chooses between networks: AP of "detect", else the task's own."""
        return self.tasks[task].primary if task in self.tasks else self.ap

    def to_dict(self) -> dict:
        """Return plain numbers, lists and text for JSON, with None for NaN."""
        plain = dataclasses.asdict(dataclasses.replace(self, tasks={}))
        if self.tasks:
            plain["tasks"] = {name: score.to_dict() for name, score in self.tasks.items()}
        else:
            del plain["tasks"]
        return {name: _jsonable(value) for name, value in plain.items()}


def _jsonable(value):
    if isinstance(value, dict):
        return {key: _jsonable(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def get_protocol(protocol: str | Protocol) -> Protocol:
    """Return the protocol of this name.

    Raises:
        ConfigError: no protocol has the name.
    """
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise ConfigError(f"no evaluation protocol is called {protocol!r}{did_you_mean(protocol, PROTOCOLS)}")
    return PROTOCOLS[protocol]


def evaluate_boxes(
    truth: Mapping[FrameKey, Boxes],
    detections: Mapping[FrameKey, Detections],
    *,
    size_hw: tuple[int, int],
    protocol: str | Protocol = "prophesee",
    class_names: Sequence[str] = CLASS_NAMES,
    tolerance_us: int = 0,
) -> Score:
    """Score detections against ground truth.

    Args:
        truth: the boxes of every labeled frame; a timestamp with empty boxes is labeled "nothing here". Detections in
            crowds are neither right nor wrong.
        detections: the detections by timestamp; timestamps that are not labeled are counted and left out.
        size_hw: height and width of the sensor in pixels; it decides the protocol's least sizes.
        protocol: a name of ``PROTOCOLS`` or a protocol of your own.
        class_names: what label 0, 1, ... is called.
        tolerance_us: 0 takes detections of exactly the labeled frame. The official toolbox takes all within
            50 000 us either side, which merges neighbors above 10 Hz: only for parity with numbers made that way.

    Returns:
        The statistics with their protocol and counts.

    Raises:
        ConfigError: unknown protocol, negative tolerance.
        EvaluationError: not finite boxes or scores, unknown labels, detections under a wrong timestamp, no timestamp
            in common, or ground truth that does not score 1 against itself.
    """
    protocol = get_protocol(protocol)
    if tolerance_us < 0:
        raise ConfigError(f"tolerance_us must be 0 or more, got {tolerance_us}")
    _check_boxes(truth, len(class_names), "ground truth")
    _check_boxes(detections, len(class_names), "detections")
    _check_detections(detections)
    if truth and detections and tolerance_us == 0 and not truth.keys() & detections.keys():
        raise EvaluationError(
            f"no detection lies at a labeled frame: labels start at {min(truth)}, detections at {min(detections)}; "
            "check that both name recordings alike and count microseconds from the recording's start"
        )

    counted = {k: select(b, protocol.keep(b.xyxy, k[1], size_hw) | b.crowd) for k, b in truth.items()}
    kept = {k: select(d, protocol.keep(d.xyxy, k[1], size_hw)) for k, d in detections.items()}
    timestamps = sorted(k for k, boxes in counted.items() if protocol.score_emptied or len(boxes.objects))
    gt = [counted[k] for k in timestamps]
    perfect = {
        k: Detections(b.xyxy, np.ones(len(b), np.float32), b.labels, k[1])
        for k, b in zip(timestamps, (boxes.objects for boxes in gt), strict=True)
    }

    exact_self_ap = coco_statistics(gt, list(perfect.values()), class_names)["ap"]
    if exact_self_ap < 1 - SELF_AP_SLACK:
        raise EvaluationError(
            f"ground truth scored against itself gives AP {exact_self_ap:.4f} instead of 1: {_self_cause(perfect)}"
        )
    near = _near(timestamps, kept, tolerance_us)
    matched = [_joined([kept[k] for k in found]) for found in near]
    result = coco_statistics(gt, matched, class_names)
    self_ap = exact_self_ap
    if tolerance_us:
        merged = [_joined([perfect[k] for k in found]) for found in _near(timestamps, perfect, tolerance_us)]
        self_ap = coco_statistics(gt, merged, class_names)["ap"]

    used = {k for found in near for k in found}
    num_truth, num_kept = sum(len(boxes.objects) for boxes in gt), sum(map(len, kept.values()))
    return Score(
        protocol=protocol.name,
        tolerance_us=tolerance_us,
        **{name: result[name] for name in STATISTICS},
        classes=result["classes"],
        self_ap=self_ap,
        num_instants=len(timestamps),
        num_truth=num_truth,
        num_detections=sum(map(len, matched)),
        num_truth_filtered=sum(len(boxes.objects) for boxes in truth.values()) - num_truth,
        num_detections_filtered=sum(map(len, detections.values())) - num_kept,
        num_detections_unlabelled=sum(len(d) for k, d in kept.items() if k not in used),
        num_instants_undetected=sum(not found for found in near),
    )


def _check_boxes(by_timestamp: Mapping[FrameKey, Boxes] | Mapping[FrameKey, Detections], num_classes: int, what: str):
    for (recording, t_us), boxes in by_timestamp.items():
        where = f"{what} of {recording!r} at {t_us} us"
        if not np.isfinite(boxes.xyxy).all():
            raise EvaluationError(f"{where}: a box is not finite; drop it or repair its source")
        if len(boxes) and (boxes.labels.min() < 0 or boxes.labels.max() >= num_classes):
            raise EvaluationError(
                f"{where}: labels reach from {boxes.labels.min()} to {boxes.labels.max()}, but class_names holds "
                f"{num_classes}; pass the names of all classes, or drop the boxes that are not scored"
            )


def _check_detections(detections: Mapping[FrameKey, Detections]):
    for (recording, t_us), found in detections.items():
        where = f"detections of {recording!r} at {t_us} us"
        if not np.isfinite(found.scores).all():
            raise EvaluationError(f"{where}: a score is not finite; look for a diverged network or a division by zero")
        if found.t_us != t_us:
            raise EvaluationError(f"{where} say they are of {found.t_us} us; file them under their own timestamp")


def _near(
    timestamps: list[FrameKey], detections: Mapping[FrameKey, Detections], tolerance_us: int
) -> list[list[FrameKey]]:
    """Return for every labeled frame the detections' timestamps that count for it, in time order."""
    if tolerance_us == 0:
        return [[k] if k in detections else [] for k in timestamps]
    times: dict[str, list[int]] = {}
    for recording, t_us in sorted(detections):
        times.setdefault(recording, []).append(t_us)
    near = []
    for recording, t_us in timestamps:
        own = times.get(recording, [])
        own = own[bisect.bisect_left(own, t_us - tolerance_us) : bisect.bisect_right(own, t_us + tolerance_us)]
        near.append([(recording, t) for t in own])
    return near


def _joined(parts: list[Detections]) -> Detections:
    if not parts:
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), 0)
    return parts[0] if len(parts) == 1 else concatenate(parts)


def _self_cause(perfect: Mapping[FrameKey, Detections]) -> str:
    for (recording, t_us), boxes in perfect.items():
        where = f"in {recording!r} at {t_us} us"
        if (area(boxes.xyxy) <= 0).any():
            return f"{where} a box has no area; drop such boxes when the labels are read"
        if len(boxes) and np.bincount(boxes.labels).max() > MAX_DETECTIONS:
            return f"{where} one class has more than {MAX_DETECTIONS} boxes, and COCO scores no more detections"
    return "the evaluation itself is broken; run the tests and check the version of faster-coco-eval"


def best_threshold(score: Score) -> float:
    """Return the detection score with the highest mean F1 at IoU 0.5 over the classes, 0.3 where nothing matched.

    F1 of every class is taken at its own recalls; the threshold is the mean of the classes' best ones, weighted by
    their boxes.
    """
    recalls = np.linspace(0, 1, 101)
    best, weights = [], []
    for c in score.classes:
        precision, scores = np.asarray(c.precision_at_50), np.asarray(c.score_at_50)
        if not c.num_truth or not (precision > 0).any():
            continue
        f1 = 2 * precision * recalls / np.maximum(precision + recalls, 1e-9)
        best.append(float(scores[int(f1.argmax())]))
        weights.append(c.num_truth)
    return round(float(np.average(best, weights=weights)), 3) if best else 0.3

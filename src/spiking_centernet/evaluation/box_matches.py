"""Which boxes were found at the threshold that users see: confusion of classes, recall and precision by size."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from spiking_centernet.boxes import area, iou_matrix
from spiking_centernet.evaluation.crowds import in_crowds
from spiking_centernet.evaluation.metrics import FrameKey, Protocol, get_protocol
from spiking_centernet.evaluation.prediction import Predictions
from spiking_centernet.structures import Boxes, Detections, select

MIN_IOU = 0.5
SIZE_EDGES_PX = (0, 16, 24, 32, 48, 64, 96, 128, 192)
"""Least side, as the root of the area in pixels, of every size of box; 32 and 96 are COCO's limits."""


@dataclass(frozen=True)
class FrameMatch:
    """Boxes and detections of one labeled frame that belong together.

    Attributes:
        truth: the boxes that count under the protocol.
        shown: the detections that count and reach the threshold, best first.
        taken: of every box, the detection that found it, as an index; -1 where it was missed.
        iou: of every box with that detection, 0 where it was missed.
    """

    truth: Boxes
    shown: Detections
    taken: Int64[np.ndarray, " N"]
    iou: Float[np.ndarray, " N"]

    @property
    def num_found(self) -> int:
        """Boxes found with the right class."""
        return int(self.is_found.sum())

    @property
    def num_false(self) -> int:
        """Detections that found no box of their class."""
        return int(self.is_false.sum())

    @property
    def is_false(self) -> Bool[np.ndarray, " M"]:
        """Which of the shown detections found no box of their class."""
        return ~np.isin(np.arange(len(self.shown)), self.taken[self.is_found])

    @property
    def is_found(self) -> Bool[np.ndarray, " N"]:
        """Which boxes were found with the right class."""
        labels = np.append(self.shown.labels, -1)  # what was missed has no label
        return labels[self.taken] == self.truth.labels


def match_frames(
    predictions: Predictions, *, min_score: float, protocol: str | Protocol = "prophesee", min_iou: float = MIN_IOU
) -> dict[FrameKey, FrameMatch]:
    """Match detections to ground truth one to one at a threshold.

    Best first, every detection takes the free box of its class that it overlaps most, as COCO does; those left over
    then take, likewise, a box of another class. What still is left over and lies in a crowd is not shown.

    Args:
        predictions: of labeled frames.
        min_score: of the detections that count.
        protocol: which boxes count; the same filter falls on ground truth and detections.
        min_iou: least overlap.

    Raises:
        ConfigError: If the protocol is unknown.
    """
    protocol = get_protocol(protocol)
    matches = {}
    for key, boxes in sorted(predictions.truth.items()):
        crowds, boxes = boxes.crowds, boxes.objects
        keep = protocol.keep(boxes.xyxy, key[1], predictions.size_hw)
        if not (protocol.score_emptied or keep.any()):
            continue
        truth = Boxes(boxes.xyxy[keep], boxes.labels[keep], boxes.track_ids[keep])
        found = predictions.detections.get(key)
        shown = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), key[1])
        if found is not None:
            counted = protocol.keep(found.xyxy, key[1], predictions.size_hw) & (found.scores >= min_score)
            order = np.flatnonzero(counted)[np.argsort(-found.scores[counted], kind="stable")]
            shown = Detections(found.xyxy[order], found.scores[order], found.labels[order], key[1])
        matches[key] = _outside(FrameMatch(truth, shown, *_take(truth, shown, min_iou)), crowds)
    return matches


def _outside(match: FrameMatch, crowds: Boxes) -> FrameMatch:
    """Return the match without detections that took no box and lie in a crowd."""
    kept = ~in_crowds(match.shown, crowds) | np.isin(np.arange(len(match.shown)), match.taken)
    if kept.all():
        return match
    place = np.append(np.cumsum(kept) - 1, -1)
    return replace(match, shown=select(match.shown, kept), taken=place[match.taken])


def _take(truth: Boxes, shown: Detections, min_iou: float) -> tuple[np.ndarray, np.ndarray]:
    overlap = iou_matrix(shown.xyxy, truth.xyxy)  # [D, N]
    same = shown.labels[:, None] == truth.labels[None, :]
    taken, iou = np.full(len(truth), -1, np.int64), np.zeros(len(truth))
    free = np.ones(len(shown), bool)
    for allowed in (same, ~same):
        for d in np.flatnonzero(free):
            left = np.where(allowed[d] & (taken < 0), overlap[d], 0)
            if left.max(initial=0) >= min_iou:
                box = int(left.argmax())
                taken[box], iou[box], free[d] = d, left[box], False
    return taken, iou


@dataclass(frozen=True)
class Confusion:
    """What boxes of a class were detected as.

    Attributes:
        class_names: of every class.
        counts: boxes by true class (rows) and detected class (columns); the last row holds detections where no box is,
            the last column boxes that were missed.
    """

    class_names: tuple[str, ...]
    counts: Int64[np.ndarray, "K1 K1"]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"rows": [*self.class_names, "background"], "columns": [*self.class_names, "missed"],
                "counts": self.counts.tolist()}  # fmt: skip


def confusion_of(matches: Mapping[FrameKey, FrameMatch], class_names: tuple[str, ...]) -> Confusion:
    """Return the confusion matrix of matched frames."""
    last = len(class_names)
    counts = np.zeros((last + 1, last + 1), np.int64)
    for match in matches.values():
        hit = match.taken >= 0
        detected = np.full(len(match.truth), last)
        detected[hit] = match.shown.labels[match.taken[hit]]
        np.add.at(counts, (match.truth.labels, detected), 1)
        extra = np.delete(match.shown.labels, match.taken[hit])
        np.add.at(counts, (np.full(len(extra), last), extra), 1)
    return Confusion(class_names, counts)


@dataclass(frozen=True)
class BySize:
    """Recall and precision by the size of boxes, S sizes.

    Attributes:
        edges_px: least side of every size, as the root of the area in pixels.
        num_truth: boxes of every size.
        num_shown: detections of every size.
        recall_50: share of the boxes found with the right class at IoU 0.5; NaN without boxes.
        recall_75: share found with the right class and IoU 0.75.
        precision: share of the detections that found a box of their class; NaN without detections.
    """

    edges_px: tuple[int, ...]
    num_truth: Int64[np.ndarray, " S"]
    num_shown: Int64[np.ndarray, " S"]
    recall_50: Float[np.ndarray, " S"]
    recall_75: Float[np.ndarray, " S"]
    precision: Float[np.ndarray, " S"]

    @property
    def labels(self) -> list[str]:
        """Every size in words."""
        pairs = zip(self.edges_px, (*self.edges_px[1:], None), strict=True)
        return [f"{low}+" if high is None else f"{low}-{high}" for low, high in pairs]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        columns = {name: getattr(self, name) for name in ("recall_50", "recall_75", "precision")}
        rounded = {
            name: [None if np.isnan(v) else round(v, 6) for v in values.tolist()] for name, values in columns.items()
        }
        return {"edges_px": list(self.edges_px), "num_truth": self.num_truth.tolist(),
                "num_shown": self.num_shown.tolist(), **rounded}  # fmt: skip


def by_size(matches: Mapping[FrameKey, FrameMatch], edges_px: tuple[int, ...] = SIZE_EDGES_PX) -> BySize:
    """Return recall and precision of matched frames by size."""
    counts = np.zeros((5, len(edges_px)), np.int64)  # boxes, found at 0.5 and 0.75, detections, right ones
    for match in matches.values():
        hit = match.taken >= 0
        right = hit.copy()
        right[hit] = match.shown.labels[match.taken[hit]] == match.truth.labels[hit]
        boxes, shown = (_sizes(b.xyxy, edges_px) for b in (match.truth, match.shown))
        for row, where in enumerate((boxes, boxes[right], boxes[right & (match.iou >= 0.75)], shown,
                                     shown[match.taken[right]])):  # fmt: skip
            counts[row] += np.bincount(where, minlength=len(edges_px))
    truth, at_50, at_75, shown, right = counts
    with np.errstate(invalid="ignore"):
        return BySize(edges_px, truth, shown, at_50 / truth, at_75 / truth, right / shown)


def _sizes(xyxy: np.ndarray, edges_px: tuple[int, ...]) -> np.ndarray:
    return np.searchsorted(edges_px, np.sqrt(area(xyxy).astype(np.float64)), side="right") - 1

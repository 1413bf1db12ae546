"""COCO's average precision of boxes, computed by faster-coco-eval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spiking_centernet.boxes import xyxy_to_xywh
from spiking_centernet.structures import Boxes, Detections

STATISTICS = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"),
)
"""The twelve numbers of COCO's summary, in its order."""


@dataclass(frozen=True)
class ClassScore:
    """The score of one class.

    Attributes:
        name: of the class.
        ap: average precision over IoU 0.5 to 0.95; NaN without ground truth.
        ap50: average precision at IoU 0.5; NaN without ground truth.
        num_truth: ground truth boxes scored.
        num_detections: detections scored.
        precision_at_50: precision at IoU 0.5 for recall 0, 0.01, ..., 1; NaN without ground truth.
        score_at_50: the detection score at which each recall is reached; 0 beyond the highest recall.
    """

    name: str
    ap: float
    ap50: float
    num_truth: int
    num_detections: int
    precision_at_50: tuple[float, ...]
    score_at_50: tuple[float, ...]


def _annotations(boxes: Sequence[Boxes] | Sequence[Detections]) -> list[dict]:
    rows = []
    for image, b in enumerate(boxes, start=1):
        scores = b.scores.tolist() if isinstance(b, Detections) else [None] * len(b)
        crowds = b.crowd.tolist() if isinstance(b, Boxes) else [False] * len(b)
        for xywh, label, score, crowd in zip(
            xyxy_to_xywh(b.xyxy).tolist(), b.labels.tolist(), scores, crowds, strict=True
        ):
            row = {"image_id": image, "category_id": label + 1, "bbox": xywh, "area": xywh[2] * xywh[3]}
            # An id of 0 would lose its match.
            rows.append(row | {"iscrowd": int(crowd), "id": len(rows) + 1, "score": score})
    return rows


def coco_statistics(
    truth: Sequence[Boxes], detections: Sequence[Detections], class_names: Sequence[str]
) -> dict[str, Any]:
    """Return the twelve statistics by name, and under "classes" the scores of the classes.

    Args:
        truth: the boxes of every labeled frame; detections in crowds of their class are neither right nor wrong.
        detections: those of the same frames.
        class_names: what label 0, 1, ... is called.
    """
    gt, dt = _annotations(truth), _annotations(detections)
    if not gt:
        return dict.fromkeys(STATISTICS, math.nan) | {
            "classes": tuple(_class_score(name, k, None, gt, dt) for k, name in enumerate(class_names, start=1))
        }
    # Imported here because it is slow and only scoring needs it.
    from faster_coco_eval import COCO, COCOeval_faster

    categories = [{"id": k, "name": name} for k, name in enumerate(class_names, start=1)]
    images = [{"id": k} for k in range(1, len(truth) + 1)]
    sides = []
    for annotations in (gt, dt):
        side = COCO()
        side.dataset = {"images": images, "annotations": annotations, "categories": categories}
        side.createIndex()
        sides.append(side)
    run = COCOeval_faster(*sides, iouType="bbox")
    run.evaluate()
    run.accumulate()
    run.summarize()
    found = [math.nan if value == -1 else float(value) for value in run.stats]
    return dict(zip(STATISTICS, found, strict=True)) | {
        "classes": tuple(_class_score(name, k, run.eval, gt, dt) for k, name in enumerate(class_names, start=1))
    }


def _class_score(name: str, category: int, accumulated: dict | None, gt: list[dict], dt: list[dict]) -> ClassScore:
    num_truth = sum(row["category_id"] == category and not row["iscrowd"] for row in gt)
    precision = np.full((10, 101), math.nan)  # [IoU,recall]
    scores = np.full(101, math.nan)  # [recall]
    if accumulated is not None and num_truth:
        # The last two axes are area (0: all) and detections per timestamp (-1: the most).
        precision = accumulated["precision"][:, :, category - 1, 0, -1]
        scores = accumulated["scores"][0, :, category - 1, 0, -1]
    return ClassScore(
        name=name,
        ap=float(precision.mean()),
        ap50=float(precision[0].mean()),
        num_truth=num_truth,
        num_detections=sum(row["category_id"] == category for row in dt),
        precision_at_50=tuple(precision[0].tolist()),
        score_at_50=tuple(scores.tolist()),
    )

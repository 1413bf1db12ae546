"""What is wrong with 3D boxes whose 2D boxes are right, and how near the size of a 2D box alone comes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from spiking_centernet.boxes import iou_matrix
from spiking_centernet.boxes3d import centers, wrap
from spiking_centernet.calibration import Calibration
from spiking_centernet.evaluation.metrics import FrameKey
from spiking_centernet.structures import Boxes, Detections

MATCH_IOU = 0.5
"""Detections are matched to boxes of their class by their 2D boxes from this IoU on, best score first."""


@dataclass(frozen=True)
class MatchedErrors:
    """Median errors of one class over the matched detections; NaN without any.

    Attributes:
        name: of the class.
        num: matched detections with a known 3D box on both sides.
        range: of the distance on the ground over the true one.
        yaw_deg: of the heading.
        yaw_axis_deg: of the heading's axis, front and back alike (modulo pi).
        dims_m: of height, width and length in meters.
        size_prior: of the depth that a true 2D box gives, ``focal x mean height / height of the box``, with the class's
            mean height in meters over these labels: what needs no network.
        constant: of the depth if it is always the class's median for the focal length.
    """

    name: str
    num: int
    range: float
    yaw_deg: float
    yaw_axis_deg: float
    dims_m: tuple[float, float, float]
    size_prior: float
    constant: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, None for NaN."""

        def known(value: Any) -> Any:
            return None if isinstance(value, float) and math.isnan(value) else value

        return {**{k: known(v) for k, v in asdict(self).items()}, "dims_m": [known(v) for v in self.dims_m]}


def matched_errors(
    truth: Mapping[FrameKey, Boxes],
    detections: Mapping[FrameKey, Detections],
    cameras: Mapping[FrameKey, Calibration | None],
    *,
    class_names: Sequence[str],
    min_score: float,
) -> list[MatchedErrors]:
    """Return the errors of every class.

    Args:
        truth: the boxes of every labeled frame.
        detections: the detections of labeled frames.
        cameras: of labeled frames, for the baselines.
        class_names: what label 0, 1, ... is called.
        min_score: detections below are left out.
    """
    errors = []
    for label, name in enumerate(class_names):
        pairs = [np.zeros((0, 2, 7))]
        for frame, boxes in truth.items():
            found = detections.get(frame)
            if found is not None:
                pairs.append(_pairs(boxes, found, label, min_score))
        real, ours = np.concatenate(pairs).transpose(1, 0, 2)
        distance = np.hypot(real[:, 0], real[:, 2])
        apart = np.abs(np.hypot(ours[:, 0], ours[:, 2]) - distance)
        turn = np.degrees(np.abs(wrap(ours[:, 6] - real[:, 6])))
        height, width, length = (_median(np.abs(ours[:, k] - real[:, k])) for k in (3, 4, 5))
        errors.append(MatchedErrors(
            name, len(real), _median(apart / distance), _median(turn), _median(np.minimum(turn, 180 - turn)),
            (height, width, length), *_baselines(truth, cameras, label),
        ))  # fmt: skip
    return errors


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else math.nan


def _pairs(boxes: Boxes, found: Detections, label: int, min_score: float) -> np.ndarray:
    """Return [N, 2, 7]: true and detected 3D box of every match of a class."""
    real = np.flatnonzero((boxes.labels == label) & ~boxes.crowd)
    ours = np.flatnonzero((found.labels == label) & (found.scores >= min_score))
    overlap = iou_matrix(found.xyxy[ours], boxes.xyxy[real])
    pairs = [np.zeros((0, 2, 7))]
    for k in np.argsort(-found.scores[ours], kind="stable"):
        if not len(real) or overlap[k].max() < MATCH_IOU:
            continue
        best = int(overlap[k].argmax())
        overlap[:, best] = -1
        pair = np.stack([boxes.box3d[real[best]], found.box3d[ours[k]]]).astype(np.float64)
        if np.isfinite(pair).all():
            pairs.append(pair[None])
    return np.concatenate(pairs)


def _baselines(
    truth: Mapping[FrameKey, Boxes], cameras: Mapping[FrameKey, Calibration | None], label: int
) -> tuple[float, float]:
    """Return the median relative errors of the depth by size and of a constant depth."""
    depths, pixels, meters, focals = [np.zeros(0)], [np.zeros(0)], [np.zeros(0)], [np.zeros(0)]
    for frame, boxes in truth.items():
        camera = cameras.get(frame)
        known = (boxes.labels == label) & np.isfinite(boxes.box3d).all(axis=1)
        if camera is None or not known.any():
            continue
        box3d = boxes.box3d[known].astype(np.float64)
        depths.append(camera.to_camera(centers(box3d))[:, 2])
        pixels.append((boxes.xyxy[known, 3] - boxes.xyxy[known, 1]).astype(np.float64))
        meters.append(box3d[:, 3])
        focals.append(np.full(len(box3d), camera.focal[1]))
    depth, height_px, height_m, focal = (np.concatenate(parts) for parts in (depths, pixels, meters, focals))
    if not len(depth):
        return math.nan, math.nan
    by_size = focal * height_m.mean() / height_px
    constant = focal * np.median(depth / focal)
    return _median(np.abs(by_size - depth) / depth), _median(np.abs(constant - depth) / depth)

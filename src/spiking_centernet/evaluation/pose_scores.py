"""Human pose scored: OKS AP, PCK and the mean joint error in pixels."""

import contextlib
import io
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from spiking_centernet.boxes import iou_matrix, xyxy_to_xywh
from spiking_centernet.errors import EvaluationError
from spiking_centernet.evaluation.metrics import FrameKey
from spiking_centernet.joint_sets import AREA_SHARE, JOINT_SETS, JointSet
from spiking_centernet.structures import Boxes, Detections, select

MATCH_IOU = 0.5
"""People are matched by their boxes from this IoU on, for PCK and the joint error."""

PCK_SHARES = (0.1, 0.2)
"""A joint is right within this share of the box's larger side."""

STATISTICS = ("ap", "ap50", "ap75", "ap_medium", "ap_large", "ar", "ar50", "ar75", "ar_medium", "ar_large")
"""COCO's keypoint statistics in their order."""


@dataclass(frozen=True)
class PoseScore:
    """The score of people's joints; NaN without labeled people.

    Attributes:
        joint_set: how many joints, the key of ``JOINT_SETS``, whose sigmas the OKS is taken with.
        ap: OKS average precision from 0.5 to 0.95.
        ap50: at OKS 0.5.
        ap75: at OKS 0.75.
        ar: average recall over the same range.
        swapped_ap: ``ap`` with every detection labeled left and right as fits its frame better.
        swapped_ap50: the same at OKS 0.5.
        pck: by share of the box's larger side, joints within it over all labeled joints of matched people.
        mpjpe_px: mean distance of the joints of matched people in pixels.
        num_people: labeled people scored.
        num_matched: those whose box was matched.
    """

    joint_set: int
    ap: float
    ap50: float
    ap75: float
    ar: float
    swapped_ap: float
    swapped_ap50: float
    pck: dict[float, float]
    mpjpe_px: float
    num_people: int
    num_matched: int

    @property
    def primary(self) -> float:
        """OKS AP."""
        return self.ap

    def rows(self) -> dict[str, float]:
        """Return the numbers by name."""
        found = {name: getattr(self, name) for name in ("ap", "ap50", "ap75", "ar", "swapped_ap", "swapped_ap50")}
        return found | {f"pck_{share:g}": value for share, value in self.pck.items()} | {"mpjpe_px": self.mpjpe_px}

    def to_dict(self) -> dict:
        """Return plain numbers and text for JSON."""
        return asdict(self) | {"pck": {f"{share:g}": value for share, value in self.pck.items()}}


def oks(
    truth: np.ndarray, found: np.ndarray, areas: np.ndarray, boxes_xywh: np.ndarray, sigmas: Sequence[float]
) -> np.ndarray:
    """Return object keypoint similarity [N, M] of every pair (cocodataset.org, "Keypoint Evaluation").

    The mean of ``exp(-d^2 / (2 area (2 sigma)^2))`` over the labeled joints; for a person without a labeled joint d
    is the distance beyond a box twice as large.

    Args:
        truth: [N, J, 3], u, v, visibility.
        found: [M, J, 3] or [M, J, 2].
        areas: [N], square pixels.
        boxes_xywh: [N, 4], of the people.
        sigmas: one a joint.
    """
    variance = (2 * np.asarray(sigmas)) ** 2
    apart = found[None, :, :, :2].astype(np.float64) - truth[:, None, :, :2]  # [N, M, J, 2]
    labeled: np.ndarray = np.greater(truth[:, :, 2], 0)
    low, sides = boxes_xywh[:, :2], boxes_xywh[:, 2:]
    first, last = (low - sides)[:, None, None], (low + 2 * sides)[:, None, None]
    points = found[None, :, :, :2].astype(np.float64)
    beyond = np.maximum(np.maximum(first - points, points - last), 0)
    none = np.asarray(labeled).sum(axis=1) == 0
    apart[none] = beyond[none]
    exponent = (apart**2).sum(axis=-1) / variance / (areas[:, None, None] + np.spacing(1)) / 2
    counted = np.where(none[:, None], True, labeled)[:, None]
    return (np.exp(-exponent) * counted).sum(axis=-1) / counted.sum(axis=-1)


def coco_statistics(truth: dict, found: list[dict], sigmas: Sequence[float]) -> dict[str, float]:
    """Return the ten keypoint statistics of annotations in COCO's form.

    Args:
        truth: with ``images``, ``annotations`` and ``categories``.
        found: results with ``keypoints`` and ``score``.
        sigmas: one a joint.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    if not found or not truth["annotations"]:
        value = 0.0 if truth["annotations"] else math.nan
        return dict.fromkeys(STATISTICS, value)
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO(truth)
        evaluation = COCOeval_faster(reference, reference.loadRes(found), "keypoints", kpt_oks_sigmas=list(sigmas))
        evaluation.run()
    return dict(zip(STATISTICS, (float(v) for v in evaluation.stats[:10]), strict=True))


def evaluate_pose(
    truth: Mapping[FrameKey, Boxes],
    detections: Mapping[FrameKey, Detections],
    *,
    label: int | Collection[int],
    joint_set: JointSet | None = None,
) -> PoseScore:
    """Score the joints of one class, with the areas that the labels state, else a share of the box.

    Args:
        truth: the boxes of every labeled frame; people without a labeled joint and crowds are ignored.
        detections: the detections of labeled frames; those without joints are left out.
        label: of the people, or several.
        joint_set: names and sigmas; None takes the set of as many joints.

    Raises:
        EvaluationError: If nobody has joints, or truth and detections have different sets.
    """
    labels = [label] if isinstance(label, int) else sorted(label)
    people = {key: select(boxes, np.isin(boxes.labels, labels)) for key, boxes in sorted(truth.items())}
    counts = {b.joints.shape[1] for b in people.values() if len(b)} - {0}
    if not counts and any(map(len, people.values())):
        raise EvaluationError(
            "no labeled person has joints; simulate with --labels objects, or lay *_objects.npy next to the boxes"
        )
    if len(counts) > 1:
        raise EvaluationError(f"the labels mix sets of {sorted(counts)} joints; score one set at a time")
    count = counts.pop() if counts else 13
    joint_set = JOINT_SETS.get(count) if joint_set is None else joint_set
    if joint_set is None or len(joint_set) != count:
        raise EvaluationError(f"no set of {count} joints is known; known: {sorted(JOINT_SETS)}")
    found = {}
    for key in people:
        given = detections.get(key)
        if given is None:
            continue
        found[key] = own = select(given, np.isin(given.labels, labels))
        if len(own) and own.joints.shape[1] not in (0, count):
            raise EvaluationError(f"detections have {own.joints.shape[1]} joints, the labels {count}")
    found = {key: own for key, own in found.items() if own.joints.shape[1] == count}
    exchanged = {key: _better_side(people[key], own, joint_set) for key, own in found.items()}
    plain, swapped = (_coco(people, results, joint_set) for results in (found, exchanged))
    distances, sides, num_matched = _distances(people, found)
    right = {share: distances <= share * sides for share in PCK_SHARES}
    return PoseScore(
        count, plain["ap"], plain["ap50"], plain["ap75"], plain["ar"], swapped["ap"], swapped["ap50"],
        {share: float(hit.mean()) if len(hit) else math.nan for share, hit in right.items()},
        float(distances.mean()) if len(distances) else math.nan,
        sum(int((b.joints[..., 2] > 0).any(axis=1).sum()) for b in people.values() if b.joints.shape[1]), num_matched,
    )  # fmt: skip


def _areas(boxes: Boxes) -> np.ndarray:
    guessed = AREA_SHARE * xyxy_to_xywh(boxes.xyxy)[:, 2:].prod(axis=1)
    return np.where(np.isnan(boxes.areas), guessed, boxes.areas)


def _better_side(truth: Boxes, found: Detections, joint_set: JointSet) -> Detections:
    """Return the detections, each with left and right exchanged where its best OKS of the frame is then larger."""
    real = select(truth, np.flatnonzero((truth.joints[..., 2] > 0).any(axis=1)))
    if not len(real) or not len(found):
        return found
    other = found.joints[:, joint_set.mirrored]
    best = [
        oks(real.joints, joints, _areas(real), xyxy_to_xywh(real.xyxy), joint_set.sigmas).max(axis=0)
        for joints in (found.joints, other)
    ]
    return replace(found, joints=np.where((best[1] > best[0])[:, None, None], other, found.joints))


def _coco(
    people: Mapping[FrameKey, Boxes], found: Mapping[FrameKey, Detections], joint_set: JointSet
) -> dict[str, float]:
    images, annotations, results = [], [], []
    for image_id, (key, boxes) in enumerate(people.items(), 1):
        images.append({"id": image_id})
        areas = _areas(boxes)
        for i, (xywh, joints) in enumerate(zip(xyxy_to_xywh(boxes.xyxy).tolist(), boxes.joints, strict=True)):
            labeled = int((joints[:, 2] > 0).sum())
            annotations.append({
                "id": len(annotations) + 1, "image_id": image_id, "category_id": 1, "iscrowd": int(boxes.crowd[i]),
                "bbox": xywh,
                "area": float(areas[i]), "keypoints": joints.astype(np.float64).ravel().tolist(),
                "num_keypoints": labeled, "ignore": int(not labeled),
            })  # fmt: skip
        own = found.get(key)
        if own is not None:
            results += [
                {
                    "image_id": image_id, "category_id": 1, "score": float(score),
                    "keypoints": joints.astype(np.float64).ravel().tolist(),
                }
                for score, joints in zip(own.scores, own.joints, strict=True)
            ]  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(joint_set.names), "skeleton": []}
    truth = {"info": {}, "images": images, "annotations": annotations, "categories": [category]}
    if not any(a["num_keypoints"] for a in annotations):
        return dict.fromkeys(STATISTICS, math.nan)
    return coco_statistics(truth, results, joint_set.sigmas)


def _distances(
    people: Mapping[FrameKey, Boxes], found: Mapping[FrameKey, Detections]
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the joint errors of people matched by their boxes, the larger sides of their boxes, how many they are."""
    distances, sides, matched = [np.zeros(0)], [np.zeros(0)], 0
    for key, own in found.items():
        boxes = people[key].objects
        iou = iou_matrix(own.xyxy, boxes.xyxy)
        free = np.ones(len(boxes), bool)
        for k in np.argsort(-own.scores, kind="stable"):
            overlap = np.where(free, iou[k], -1)
            if not len(overlap) or overlap.max() < MATCH_IOU:
                continue
            best = int(overlap.argmax())
            free[best] = False
            labeled = boxes.joints[best, :, 2] > 0
            if labeled.any():
                matched += 1
                apart = own.joints[k, labeled, :2].astype(np.float64) - boxes.joints[best, labeled, :2]
                distances.append(np.hypot(apart[:, 0], apart[:, 1]))
                sides.append(np.full(labeled.sum(), (boxes.xyxy[best, 2:] - boxes.xyxy[best, :2]).max(), np.float64))
    return np.concatenate(distances), np.concatenate(sides), matched

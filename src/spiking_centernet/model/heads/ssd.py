"""The baseline head: anchors and non-maximum suppression as in SSD (Liu et al., arXiv 1512.02325).

It stands on the same encoder and decoder and sees every level: the coarsest encoder stage and each decoder block's
output. Output, loss and decoding are apart from the network, as CenterNet's are.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from spiking_centernet.boxes import covered_shares, iou_matrix
from spiking_centernet.calibration import Calibration
from spiking_centernet.model.heads.base import Branch, Head, Loss
from spiking_centernet.structures import Boxes

BASE_STRIDES = 4
"""Side of a level's smallest square anchor over its stride (RetinaNet, arXiv 1708.02002, section 4)."""

SCALES = (1.0, 2**0.5)
"""Two sizes a level, half an octave apart: SSD's extra square, given to every shape."""

RATIOS = (0.5, 1.0, 2.0)
"""Width over height (SSD, section 2.2, without 1/3 and 3)."""

NUM_ANCHORS = len(SCALES) * len(RATIOS)

VARIANCES = (0.1, 0.1, 0.2, 0.2)
"""Scale of the regressed center and size (SSD's published code)."""

MATCH_IOU, NEGATIVES_PER_POSITIVE = 0.5, 3
"""An anchor learns a box from this IoU on; the background is learned by the hardest of the others, so
many per anchor with a box (SSD, section 2.2)."""

LEFT_OUT = -1
"""Label of an anchor in a crowd, which learns neither a box nor the background."""

NMS_IOU, MIN_SCORE, MAX_CANDIDATES = 0.45, 0.01, 200
"""Suppression above this overlap, of the best candidates of a class above this score (SSD, section 2.2)."""


class SSDOutput(NamedTuple):
    """The raw output averaged over the time steps, N anchors over all levels.

    Attributes:
        logits: [B, N, 1 + classes], the background first.
        deltas: [B, N, 4], center and size relative to the anchor over ``VARIANCES``.
        anchors: [N, 4], center x, y, width, height in input pixels.
    """

    logits: Float[Tensor, "B N K"]
    deltas: Float[Tensor, "B N 4"]
    anchors: Float[Tensor, "N 4"]


@dataclass(frozen=True)
class SSDTargets:
    """What the network should answer for a batch, N anchors over all levels.

    Attributes:
        labels: [B, N], the class that an anchor learns, 0 for the background.
        deltas: [B, N, 4], the deltas that it learns.
    """

    labels: Int[Tensor, "B N"]
    deltas: Float[Tensor, "B N 4"]


def make_anchors(size_hw: tuple[int, int], stride: int) -> Float[Tensor, "N 4"]:
    """Return center x, y, width, height in input pixels: row by row, ``NUM_ANCHORS`` at the middle of every pixel."""
    height, width = size_hw
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    centers = torch.stack([x, y], dim=-1).reshape(-1, 1, 2) * stride
    side = BASE_STRIDES * stride
    sides = [(side * scale * ratio**0.5, side * scale / ratio**0.5) for scale in SCALES for ratio in RATIOS]
    wh = torch.tensor(sides)[None]
    return torch.cat([centers.expand(-1, NUM_ANCHORS, -1), wh.expand(len(centers), -1, -1)], dim=-1).flatten(0, 1)


def gather(levels: Sequence[Float[Tensor, "B _ _ _"]], strides: Sequence[int]) -> SSDOutput:
    """Return the heads' outputs [B, anchors x (1 + classes + 4), h, w] of every level as one list of anchors."""
    rows, anchors = [], []
    for out, stride in zip(levels, strides, strict=True):
        rows.append(out.permute(0, 2, 3, 1).reshape(len(out), -1, out.shape[1] // NUM_ANCHORS))
        anchors.append(make_anchors((out.shape[2], out.shape[3]), stride).to(out.device))
    joined = torch.cat(rows, dim=1)
    return SSDOutput(joined[..., :-4], joined[..., -4:], torch.cat(anchors))


def corners(cxcywh: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Return left, top, right, bottom of center x, y, width, height."""
    center, half = cxcywh[..., :2], cxcywh[..., 2:] / 2
    return torch.cat([center - half, center + half], dim=-1)


def match(anchors: Float[Tensor, "N 4"], boxes: Boxes) -> tuple[Int[Tensor, " N"], Float[Tensor, "N 4"]]:
    """Return the class every anchor learns, 0 for the background, and the deltas it learns.

    An anchor takes the box it overlaps most if their IoU reaches ``MATCH_IOU``; every box also gets its best anchor.
    An anchor of which half lies in a crowd, and that takes no box, learns nothing: ``LEFT_OUT``.
    """
    crowds, boxes = boxes.crowds, boxes.objects
    labels, deltas = _match(anchors, boxes)
    if len(crowds):
        inside = covered_shares(corners(anchors).numpy(), crowds.xyxy).max(axis=1) >= MATCH_IOU
        labels[torch.from_numpy(inside) & (labels == 0)] = LEFT_OUT
    return labels, deltas


def _match(anchors: Float[Tensor, "N 4"], boxes: Boxes) -> tuple[Int[Tensor, " N"], Float[Tensor, "N 4"]]:
    labels, deltas = torch.zeros(len(anchors), dtype=torch.int64), torch.zeros(len(anchors), 4)
    sides = boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]
    usable = np.flatnonzero((sides > 0).all(axis=1)) if len(boxes) else np.zeros(0, np.int64)
    if not len(usable):
        return labels, deltas
    xyxy = boxes.xyxy[usable]
    iou = iou_matrix(corners(anchors).numpy(), xyxy)  # [N, M]
    which, overlap = iou.argmax(1), iou.max(1)
    best = iou.argmax(0)
    which[best], overlap[best] = np.arange(len(usable)), 1.0
    found = torch.from_numpy(np.flatnonzero(overlap >= MATCH_IOU))
    chosen = which[found.numpy()]
    labels[found] = torch.from_numpy(boxes.labels[usable][chosen]) + 1
    box = torch.from_numpy(xyxy[chosen])
    wh = box[:, 2:] - box[:, :2]
    center = (box[:, :2] + box[:, 2:]) / 2
    anchor = anchors[found]
    raw = torch.cat([(center - anchor[:, :2]) / anchor[:, 2:], torch.log(wh / anchor[:, 2:])], dim=-1)
    deltas[found] = raw / torch.tensor(VARIANCES)
    return labels, deltas


def _hardest(
    loss: Float[Tensor, "B N"], positive: Bool[Tensor, "B N"], left_out: Bool[Tensor, "B N"]
) -> Bool[Tensor, "B N"]:
    """Return each sample's background anchors of the highest loss, three for each positive and at least three."""
    others = positive | left_out
    loss = loss.detach().masked_fill(others, -math.inf)
    rank = loss.argsort(dim=1, descending=True).argsort(dim=1)
    wanted = (NEGATIVES_PER_POSITIVE * positive.sum(1, keepdim=True)).clamp_min(NEGATIVES_PER_POSITIVE)
    return (rank < wanted) & ~others


def make_targets(anchors: Float[Tensor, "N 4"], boxes: Sequence[Boxes]) -> SSDTargets:
    """Return what the anchors learn of every sample, on the anchors' device."""
    matched = [match(anchors.cpu(), sample) for sample in boxes]
    labels, deltas = (torch.stack(part).to(anchors.device) for part in zip(*matched, strict=True))
    return SSDTargets(labels, deltas)


def ssd_loss(output: SSDOutput, targets: SSDTargets) -> Loss:
    """Return cross entropy with hard negatives plus smooth L1 of the deltas, over the number of matched anchors.

    Beyond SSD, a sample without boxes still shows its three hardest anchors the background.
    """
    labels, positive = targets.labels, targets.labels > 0
    learned = labels.clamp_min(0).flatten()
    entropy = F.cross_entropy(output.logits.flatten(0, 1), learned, reduction="none").view_as(labels)
    count = positive.sum().clamp_min(1)
    classification = entropy[positive | _hardest(entropy, positive, labels == LEFT_OUT)].sum() / count
    box = F.smooth_l1_loss(output.deltas[positive], targets.deltas[positive], reduction="sum") / count
    return Loss(classification + box, {"classification": classification, "box": box})


def nms(xyxy: np.ndarray, scores: np.ndarray, max_iou: float = NMS_IOU) -> np.ndarray:
    """Return the indices of the boxes kept, best first: each that overlaps no better kept one by more than ``max_iou``.

    Args:
        xyxy: [N, 4] in pixels.
        scores: [N].
        max_iou: overlap above which the worse of two goes.
    """
    order = np.argsort(-scores, kind="stable")
    iou = iou_matrix(xyxy[order], xyxy[order])
    alive = np.ones(len(order), bool)
    for i in range(len(order)):
        if alive[i]:
            alive[i + 1 :] &= iou[i, i + 1 :] <= max_iou
    return order[alive]


def decode(
    output: SSDOutput, *, max_detections: int = 100
) -> tuple[Float[Tensor, "B N 4"], Float[Tensor, "B N"], Int[Tensor, "B N"]]:
    """Return boxes [B, N, 4] in input pixels, scores and labels [B, N], best first, filled up with score 0."""
    scale = torch.tensor(VARIANCES, device=output.deltas.device)
    deltas = output.deltas.float() * scale
    anchors = output.anchors
    center = anchors[:, :2] + deltas[..., :2] * anchors[:, 2:]
    # exp overflows for a network that has learned nothing; no box is e**4 times its anchor.
    xyxy = corners(torch.cat([center, anchors[:, 2:] * torch.exp(deltas[..., 2:].clamp(max=4))], dim=-1)).cpu().numpy()
    probabilities = torch.softmax(output.logits.float(), dim=-1)[..., 1:].cpu().numpy()
    boxes = np.zeros((len(xyxy), max_detections, 4), np.float32)
    scores = np.zeros((len(xyxy), max_detections), np.float32)
    labels = np.zeros((len(xyxy), max_detections), np.int64)
    for b, (sample, chances) in enumerate(zip(xyxy, probabilities, strict=True)):
        kept = []
        for label in range(chances.shape[1]):
            candidates = np.flatnonzero(chances[:, label] > MIN_SCORE)
            candidates = candidates[np.argsort(-chances[candidates, label], kind="stable")[:MAX_CANDIDATES]]
            survivors = candidates[nms(sample[candidates], chances[candidates, label])]
            kept += [(float(chances[i, label]), label, int(i)) for i in survivors]
        kept.sort(key=lambda row: -row[0])
        for n, (chance, label, i) in enumerate(kept[:max_detections]):
            boxes[b, n], scores[b, n], labels[b, n] = sample[i], chance, label
    return torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(labels)


class SSD(Head[SSDOutput]):
    """Anchors of several sizes and shapes at every pixel of every level, and non-maximum suppression."""

    unbatched = frozenset({"anchors"})

    @property
    def branches(self) -> dict[str, Branch]:
        """One a level: background, classes and deltas of every anchor."""
        num_values = NUM_ANCHORS * (1 + self.num_classes + 4)
        return {f"stride{stride}": Branch(num_values, level) for level, stride in enumerate(self.strides)}

    def class_rows(self, branch: str) -> np.ndarray | None:
        """Return every anchor's logit of each class; the background's comes before them, the deltas after."""
        firsts = np.arange(NUM_ANCHORS) * (1 + self.num_classes + 4) + 1
        return np.arange(self.num_classes)[:, None] + firsts

    def output(self, maps: Mapping[str, Float[Tensor, "B _ _ _"]]) -> SSDOutput:
        """Return logits and deltas of the anchors of all levels."""
        return gather(list(maps.values()), self.strides)

    def targets(self, boxes: Sequence[Boxes], output: SSDOutput) -> SSDTargets:
        """Return classes and deltas that the anchors learn; see :func:`match`."""
        return make_targets(output.anchors, boxes)

    def loss(
        self,
        output: SSDOutput,
        boxes: Sequence[Boxes],
        calibrations: Sequence[Calibration | None] | None = None,
        *,
        task_weights: Mapping[str, float] | None = None,
    ) -> Loss:
        """Return classification and box loss; see :func:`ssd_loss`. Cameras and weights concern other tasks."""
        return ssd_loss(output, self.targets(boxes, output))

    def decode(
        self, output: SSDOutput, *, max_detections: int = 100
    ) -> tuple[Float[Tensor, "B N 4"], Float[Tensor, "B N"], Int[Tensor, "B N"]]:
        """Return the boxes that suppression leaves; see :func:`decode`."""
        return decode(output, max_detections=max_detections)

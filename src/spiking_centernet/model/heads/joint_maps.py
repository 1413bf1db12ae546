"""Joints as maps: offsets from a person's cell, a heat of every joint, and its offset within the cell.

After CenterNet's ``multi_pose`` (Zhou et al., arXiv 1904.07850, section 4.2). Offsets are in output pixels as there, or
in the sides of the person's box, so that people of any size have the same. Left and right are told apart by the channel
as there, or by channels of their own (``HeadConfig.joint_sides``): from the front and from behind, the joints lie at
the same places with the sides exchanged, and a channel a name answers with the middle of both.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from spiking_centernet.calibration import Calibration
from spiking_centernet.errors import DatasetError
from spiking_centernet.joint_sets import JointSet, ordered
from spiking_centernet.model.config import JointSides, JointUnits
from spiking_centernet.model.heads.base import Branch, Loss, Peaks, PeakTask
from spiking_centernet.model.heads.center_targets import crowd_cells, draw_gaussian, gaussian_radius
from spiking_centernet.model.heads.centernet import HEATMAP_BIAS, focal_loss, l1_at_centers, values_at
from spiking_centernet.structures import Boxes

WEIGHTS = {"joints": 0.3, "joint_heatmap": 1.0, "joint_offset": 1.0, "joint_sides": 1.0}
"""Weights of the losses; the first is ours (CenterNet: 1), because people here are a tenth as tall; so is the last."""

BOX_WEIGHT = 3.0
"""Weight of the offsets in the box's sides: as of those in output pixels where a side is ten of them."""


def parts(num_joints: int, num_pairs: int = 0) -> dict[str, int]:
    """Return the channels of the map in their order: offsets u0 v0 u1 v1 ..., a heat a joint, the offset in a cell.

    Where counterparts are ordered, the logit of every pair that the two are exchanged.
    """
    sides = {"joint_sides": num_pairs} if num_pairs else {}
    return {"joints": 2 * num_joints, "joint_heatmap": num_joints, "joint_offset": 2, **sides}


MIN_JOINT_SCORE = 0.1
"""Peaks of a joint's heat below this move no joint (CenterNet's code)."""

MIN_ORDERED_SCORE = 0.5
"""The same where counterparts are ordered: a peak is believed that is more likely than not (our choice, on simulated
validation clips)."""

REACH = 0.3
"""A joint moves to its nearest peak within this share of the box's larger side (same source)."""


@dataclass(frozen=True)
class JointTargets:
    """What the maps should answer for a batch, M being the most boxes of a sample and J the joints.

    Attributes:
        joints: [B, M, 2J], u and v of every joint minus the integer cell of its person, output pixels; or minus the
            center of its box, in widths and heights of the box.
        joints_mask: [B, M, 2J], True where the joint is labeled and inside the frame.
        heatmap: [B, J, h, w], a Gaussian around every such joint.
        joint_offset: [B, M J, 2], joint minus its own integer cell.
        joint_index: [B, M J], flat output pixel of the joint.
        joint_mask: [B, M J], True where such a joint stands.
        index: [B, M], flat output pixel of the person.
        left_out: [B, J, h, w], True in crowds of people, where the heat may answer as it likes; None without crowds.
    """

    joints: Float[Tensor, "B M J2"]
    joints_mask: Bool[Tensor, "B M J2"]
    heatmap: Float[Tensor, "B J h w"]
    joint_offset: Float[Tensor, "B MJ 2"]
    joint_index: Int[Tensor, "B MJ"]
    joint_mask: Bool[Tensor, "B MJ"]
    index: Int[Tensor, "B M"]
    left_out: Bool[Tensor, "B J h w"] | None = None


def make_joint_targets(
    boxes: Sequence[Boxes],
    index: Int[Tensor, "B M"],
    mask: Bool[Tensor, "B M"],
    *,
    num_joints: int,
    size_hw: tuple[int, int],
    stride: int,
    labels: frozenset[int],
    units: JointUnits = "cells",
) -> JointTargets:
    """Return the targets of a batch.

    Args:
        boxes: the boxes of every sample, pixels of the input; samples without joints teach nothing here.
        index: [B, M], flat output pixel of every box's peak, as of ``center_targets.make_targets``.
        mask: [B, M], True where a box has a peak.
        num_joints: J.
        size_hw: height and width of the network's output.
        stride: input pixels an output pixel.
        labels: classes that have joints.
        units: of the offsets, see ``HeadConfig.joint_units``.

    Raises:
        ValueError: A sample has another number of joints.
    """
    height, width = size_hw
    batch, most = mask.shape
    joints = np.zeros((batch, most, num_joints, 2), np.float32)
    valid = np.zeros((batch, most, num_joints), bool)
    heatmap = np.zeros((batch, num_joints, height, width), np.float32)
    offset = np.zeros((batch, most, num_joints, 2), np.float32)
    cells = np.zeros((batch, most, num_joints), np.int64)
    peaks, has_peak = index.cpu().numpy(), mask.cpu().numpy()
    for b, sample in enumerate(boxes):
        count = sample.joints.shape[1]
        if count not in (0, num_joints):
            raise ValueError(f"a sample has {count} joints, the network {num_joints}; sets are never mapped")
        if not count:
            continue
        points = sample.joints[..., :2] / np.float32(stride)
        sides = _clipped_sides(sample.xyxy, stride, size_hw)
        inside = (points >= 0).all(axis=-1) & (points < np.array([width, height], np.float32)).all(axis=-1)
        inside &= sample.joints[..., 2] > 0
        for i in np.flatnonzero(has_peak[b, : len(sample)] & np.isin(sample.labels, list(labels))):
            radius = max(0, int(gaussian_radius(math.ceil(sides[i, 1]), math.ceil(sides[i, 0]))))
            origin, unit = np.array([peaks[b, i] % width, peaks[b, i] // width], np.float32), np.float32(1)
            if units == "boxes":
                low, high = sample.xyxy[i, :2] / np.float32(stride), sample.xyxy[i, 2:] / np.float32(stride)
                origin, unit = (low + high) / 2, high - low
            for j in np.flatnonzero(inside[i]):
                column, row = (int(v) for v in points[i, j])
                joints[b, i, j] = (points[i, j] - origin) / unit
                offset[b, i, j] = points[i, j] - np.array([column, row], np.float32)
                cells[b, i, j] = row * width + column
                valid[b, i, j] = True
                draw_gaussian(heatmap[b, j], column, row, radius)
    device = index.device

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(device)

    return JointTargets(
        tensor(joints.reshape(batch, most, -1)), tensor(np.repeat(valid, 2, axis=2)), tensor(heatmap),
        tensor(offset.reshape(batch, -1, 2)), tensor(cells.reshape(batch, -1)), tensor(valid.reshape(batch, -1)), index,
        crowd_cells(
            [sample.crowds for sample in boxes], labels=[labels] * num_joints, size_hw=size_hw, stride=stride,
            device=device,
        ),
    )  # fmt: skip


def _clipped_sides(xyxy: np.ndarray, stride: int, size_hw: tuple[int, int]) -> np.ndarray:
    """Return widths and heights [N, 2] in output pixels of boxes clipped as CenterNet's code clips them."""
    scaled = xyxy / np.float32(stride)
    scaled[:, 0::2] = scaled[:, 0::2].clip(0, size_hw[1] - 1)
    scaled[:, 1::2] = scaled[:, 1::2].clip(0, size_hw[0] - 1)
    return scaled[:, 2:] - scaled[:, :2]


def joint_losses(
    joints: Float[Tensor, "B J2 h w"],
    heatmap: Float[Tensor, "B J h w"],
    joint_offset: Float[Tensor, "B 2 h w"],
    targets: JointTargets,
) -> dict[str, Float[Tensor, ""]]:
    """Return the loss of every part before weighting; see ``WEIGHTS``.

    Args:
        joints: offsets of the joints, as the targets have them.
        heatmap: logits of every joint.
        joint_offset: place within the joint's own cell.
        targets: of the batch.
    """
    return {
        "joints": l1_at_centers(joints, targets.joints, targets.index, targets.joints_mask),
        "joint_heatmap": focal_loss(heatmap, targets.heatmap, targets.left_out),
        "joint_offset": l1_at_centers(joint_offset, targets.joint_offset, targets.joint_index, targets.joint_mask),
    }


def side_loss(
    logits: Float[Tensor, "B P h w"],
    exchanged: Sequence[Bool[np.ndarray, "N P"]],
    weights: Sequence[Float[np.ndarray, "N P"]],
    index: Int[Tensor, "B M"],
) -> Float[Tensor, ""]:
    """Return the mean binary cross-entropy of the pairs' logits at the people's cells.

    Args:
        logits: that a pair is exchanged.
        exchanged: of every sample, True where it is.
        weights: what an error in a pair counts, 0 for who has no cell or no joints.
        index: [B, M], flat output pixel of every box's peak.
    """
    shape = (*index.shape, logits.shape[1])
    target, weight = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for b, (sample, counts) in enumerate(zip(exchanged, weights, strict=True)):
        target[b, : len(sample)], weight[b, : len(counts)] = sample, counts
    loss = F.binary_cross_entropy_with_logits(
        values_at(logits, index), torch.from_numpy(target).to(logits), reduction="none"
    )
    given = torch.from_numpy(weight).to(logits)
    return (loss * given).sum() / given.sum().clamp(min=1e-6)


def decode_joints(
    joints: Float[Tensor, "B J2 h w"],
    probabilities: Float[Tensor, "B J h w"],
    joint_offset: Float[Tensor, "B 2 h w"],
    place: Int[Tensor, "B N"],
    boxes: Float[Tensor, "B N 4"],
    units: JointUnits = "cells",
    min_score: float = MIN_JOINT_SCORE,
) -> tuple[Float[Tensor, "B N J 2"], Float[Tensor, "B N J"]]:
    """Return u, v in output pixels of the joints of every person, and their scores.

    A joint is regressed from its person's cell or box and moves to its nearest peak of heat if that scores more than
    ``min_score`` and lies inside the person's box and nearer than ``REACH`` of the box's larger side. Its score
    is the peak's, 0 where it did not move. Two people may take one peak, as in CenterNet.

    Args:
        joints: offsets from the person's cell or box, in ``units``.
        probabilities: heat of every joint in [0, 1].
        joint_offset: place within the joint's own cell.
        place: [B, N], flat output pixels of the people.
        boxes: [B, N, 4], their boxes in output pixels.
        units: of the offsets, see ``HeadConfig.joint_units``.
        min_score: of a peak that moves a joint.
    """
    width, num = probabilities.shape[-1], place.shape[1]
    offsets = values_at(joints, place).unflatten(-1, (-1, 2))  # [B, N, J, 2]
    if units == "boxes":
        sides = (boxes[..., 2:] - boxes[..., :2])[:, :, None]
        regressed = (boxes[..., :2] + boxes[..., 2:])[:, :, None] / 2 + offsets * sides
    else:
        regressed = offsets + torch.stack([place % width, place // width], dim=-1).to(joints.dtype)[:, :, None]
    alone = torch.where(F.max_pool2d(probabilities, 3, 1, 1) == probabilities, probabilities, 0)
    scores, at = alone.flatten(2).topk(min(num, alone.shape[-1] * alone.shape[-2]))  # [B, J, K]
    within = values_at(joint_offset, at.flatten(1)).unflatten(1, at.shape[1:])  # [B, J, K, 2]
    peaks = torch.stack([at % width, at // width], dim=-1).to(within.dtype) + within
    peaks = torch.where((scores > min_score)[..., None], peaks, -1e4)
    by_joint = regressed.transpose(1, 2)  # [B, J, N, 2]
    distance, nearest = torch.linalg.vector_norm(by_joint[:, :, :, None] - peaks[:, :, None], dim=-1).min(dim=-1)
    target = peaks.gather(2, nearest[..., None].expand(-1, -1, -1, 2))
    score = scores.gather(2, nearest)
    low, high = boxes[:, None, :, :2], boxes[:, None, :, 2:]
    largest = (boxes[..., 2:] - boxes[..., :2]).amax(dim=-1)[:, None]
    moves = (target >= low).all(dim=-1) & (target <= high).all(dim=-1)
    moves &= (score > min_score) & (distance <= REACH * largest)
    found = torch.where(moves[..., None], target, by_joint)
    return found.transpose(1, 2), torch.where(moves, score, 0).transpose(1, 2)


class Pose(PeakTask):
    """Joints of the people among the peaks of the detector.

    Args:
        stride: input pixels an output pixel.
        joints: the set of joints.
        labels: of the classes that have joints.
        units: of the offsets, see ``HeadConfig.joint_units``.
        sides: how left and right are told apart, see ``HeadConfig.joint_sides``.
    """

    column = "joints"

    def __init__(
        self,
        stride: int,
        joints: JointSet,
        labels: frozenset[int],
        *,
        units: JointUnits = "cells",
        sides: JointSides = "named",
    ):
        self.stride, self.num_joints, self.labels = stride, len(joints), labels
        self.units: JointUnits = units
        self.pairs = joints.pairs if sides == "ordered" else ()
        self.mirrored = torch.from_numpy(joints.mirrored)

    @property
    def branch(self) -> Branch:
        """All of :func:`parts` in one map."""
        channels = parts(self.num_joints, len(self.pairs))
        biases = [HEATMAP_BIAS if name == "joint_heatmap" else 0.0 for name, n in channels.items() for _ in range(n)]
        return Branch(sum(channels.values()), bias=biases, width=2)

    def _split(self, output: Float[Tensor, "B E h w"]) -> dict[str, Tensor]:
        channels = parts(self.num_joints, len(self.pairs))
        return dict(zip(channels, output.float().split(list(channels.values()), dim=1), strict=True))

    def loss(
        self,
        output: Float[Tensor, "B E h w"],
        boxes: Sequence[Boxes],
        calibrations: Sequence[Calibration | None],
        index: Int[Tensor, "B M"],
        mask: Bool[Tensor, "B M"],
    ) -> Loss:
        """Return the weighted losses of offsets, heat, offset within the cell and, where ordered, the sides.

        Raises:
            DatasetError: The labels have another set of joints.
        """
        for count in {sample.joints.shape[1] for sample in boxes} - {0, self.num_joints}:
            raise DatasetError(
                f"the labels have {count} joints, the network {self.num_joints}: sets are never mapped by guess; "
                "set head.joints to those of the data"
            )
        maps = self._split(output)
        sides = {}
        if self.pairs:
            boxes, exchanged, weights = self._ordered(boxes, mask)
            sides = {"joint_sides": side_loss(maps["joint_sides"], exchanged, weights, index)}
        targets = make_joint_targets(
            boxes, index, mask, num_joints=self.num_joints, size_hw=(output.shape[-2], output.shape[-1]),
            stride=self.stride, labels=self.labels, units=self.units,
        )  # fmt: skip
        losses = {**joint_losses(maps["joints"], maps["joint_heatmap"], maps["joint_offset"], targets), **sides}
        weight = WEIGHTS if self.units == "cells" else {**WEIGHTS, "joints": BOX_WEIGHT}
        return Loss(torch.stack([weight[name] * part for name, part in losses.items()]).sum(), losses)

    def _ordered(
        self, boxes: Sequence[Boxes], mask: Bool[Tensor, "B M"]
    ) -> tuple[list[Boxes], list[np.ndarray], list[np.ndarray]]:
        """Return the boxes with ordered joints, which pairs were exchanged, and what an error in a pair counts.

        It counts as much as it moves a joint, in widths of the box.
        """
        in_order, exchanged, weights = [], [], []
        has_peak = mask.cpu().numpy()
        first, second = np.array(self.pairs).T
        for b, sample in enumerate(boxes):
            if not sample.joints.shape[1]:
                sample = replace(sample, joints=np.zeros((len(sample), self.num_joints, 3), np.float32))
            joints, swapped = ordered(sample.joints, self.pairs)
            widths = np.maximum(sample.xyxy[:, 2:3] - sample.xyxy[:, :1], 1.0)
            apart = (joints[:, second, 0] - joints[:, first, 0]) / widths
            teaches = has_peak[b, : len(sample)] & np.isin(sample.labels, list(self.labels))
            in_order.append(replace(sample, joints=joints))
            exchanged.append(swapped)
            weights.append(apart * (joints[:, first, 2] > 0) * teaches[:, None])
        return in_order, exchanged, weights

    def decode(
        self, output: Float[Tensor, "B E h w"], peaks: Peaks, calibrations: Sequence[Calibration | None]
    ) -> np.ndarray:
        """Return u, v in input pixels and score of the joints [B, N, J, 3]; NaN, NaN, 0 for what is no person."""
        maps = self._split(output)
        uv, score = decode_joints(
            maps["joints"], torch.sigmoid(maps["joint_heatmap"]), maps["joint_offset"], peaks.place,
            peaks.xyxy / self.stride, self.units, MIN_ORDERED_SCORE if self.pairs else MIN_JOINT_SCORE,
        )  # fmt: skip
        joints = torch.cat([uv * self.stride, score[..., None]], dim=-1)
        if self.pairs:
            # The pairs of a person vote: on simulated validation clips better than each for itself.
            exchange = (values_at(maps["joint_sides"], peaks.place).sum(dim=-1) > 0)[..., None, None]
            joints = torch.where(exchange, joints[:, :, self.mirrored], joints)
        joints = joints.cpu().numpy().astype(np.float32)
        is_person = np.isin(peaks.labels.cpu().numpy(), list(self.labels))
        joints[~is_person] = (np.nan, np.nan, 0.0)
        return joints

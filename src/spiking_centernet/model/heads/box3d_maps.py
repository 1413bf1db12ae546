"""3D boxes as maps: depth, dimensions, rotation and projected center at an object's peak, their targets and losses.

After CenterNet (Zhou et al., arXiv 1904.07850, section 4.1), with the depth for one focal length in place of every
camera's own, and rotations about gravity.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from spiking_centernet import boxes3d
from spiking_centernet.calibration import Calibration
from spiking_centernet.model.config import Placing
from spiking_centernet.model.heads.base import Branch, Loss, Peaks, PeakTask
from spiking_centernet.model.heads.centernet import l1_at_centers, values_at
from spiking_centernet.model.heads.ground import on_ground
from spiking_centernet.structures import Boxes

PARTS = {"depth": 1, "dims": 3, "rotation": 8, "center3d": 2}
"""Channels of the map in their order.

Depth is ``-ln(depth focal_px / focal_x)``; dimensions are height, width, length in meters; rotation is two bins of
(no, yes, sin, cos); ``center3d`` is the projected middle of the box minus the integer cell in output pixels.
"""

WEIGHTS = {"depth": 1.0, "dims": 1.0, "rotation": 1.0, "center3d": 0.1}
"""Weights of the losses (CenterNet's code for depth, dimensions, rotation; that of the size for ``center3d``)."""

BIASES = {"depth": (-3.0,), "dims": (1.6, 1.2, 2.8), "rotation": (0.0,) * 8, "center3d": (0.0,) * 2}
"""Initial biases: a depth of exp(3) = 20 m, and the mean of a car's and a pedestrian's sides."""

MAX_LOG_DEPTH = 8.0
"""The depth map is clamped to as much either way: 0.3 mm to 3 km."""

MIN_DEPTH_M = 0.5
"""Objects nearer than this teach no 3D box."""

MIN_DIMENSION_M = 0.05
"""Smallest side of a decoded box."""

BIN_CENTRES = (-math.pi / 2, math.pi / 2)
"""Centers of the two bins of the angle under which an object is seen (CenterNet's code)."""

BIN_NEAR, BIN_FAR = math.pi / 6, 5 * math.pi / 6
"""The first bin is right below the one and above the other, the second mirrored: they overlap by a sixth of a turn."""


@dataclass(frozen=True)
class Targets3D:
    """What the map should answer for a batch, M being the most boxes of a sample.

    Attributes:
        depth: [B, M, 1], ``-ln(depth focal_px / focal_x)``.
        dims: [B, M, 3], height, width, length in meters.
        alpha: [B, M], angle under which the box is seen, radians.
        center3d: [B, M, 2], projected center minus the integer cell, output pixels.
        index: [B, M], flat output pixel of the peak.
        mask: [B, M], True where a box with a known 3D box and camera stands.
    """

    depth: Float[Tensor, "B M 1"]
    dims: Float[Tensor, "B M 3"]
    alpha: Float[Tensor, "B M"]
    center3d: Float[Tensor, "B M 2"]
    index: Int[Tensor, "B M"]
    mask: Bool[Tensor, "B M"]


def make_targets3d(
    boxes: Sequence[Boxes],
    calibrations: Sequence[Calibration | None],
    index: Int[Tensor, "B M"],
    mask: Bool[Tensor, "B M"],
    *,
    width: int,
    stride: int,
    focal_px: float,
) -> Targets3D:
    """Return the targets of a batch.

    Args:
        boxes: the boxes of every sample.
        calibrations: the camera of every sample; without one its boxes teach nothing here.
        index: [B, M], flat output pixel of every box's peak, as of ``center_targets.make_targets``.
        mask: [B, M], True where a box has a peak.
        width: of the output in pixels.
        stride: input pixels an output pixel.
        focal_px: focal length for which depth is predicted.
    """
    batch, most = mask.shape
    parts = {name: np.zeros((batch, most, count), np.float32) for name, count in PARTS.items() if name != "rotation"}
    alpha, valid = np.zeros((batch, most), np.float32), np.zeros((batch, most), bool)
    peaks, has_peak = index.cpu().numpy(), mask.cpu().numpy()
    for b, (sample, camera) in enumerate(zip(boxes, calibrations, strict=True)):
        n = len(sample)
        if camera is None or not n:
            continue
        box3d = sample.box3d.astype(np.float64)
        center = boxes3d.centers(box3d)
        depth = camera.to_camera(center)[:, 2]
        known = has_peak[b, :n] & np.isfinite(box3d).all(axis=1)
        known[known] &= depth[known] >= MIN_DEPTH_M
        if not known.any():
            continue
        cell = np.stack([peaks[b, :n] % width, peaks[b, :n] // width], axis=1)[known]
        valid[b, :n] = known
        at = np.flatnonzero(known)
        parts["depth"][b, at, 0] = -np.log(depth[known] * focal_px / camera.focal[0])
        parts["dims"][b, at] = box3d[known, 3:6]
        parts["center3d"][b, at] = camera.project(center[known]) / stride - cell
        alpha[b, at] = boxes3d.alpha_of(box3d[known, 6], center[known])
    device = index.device
    tensors = {name: torch.from_numpy(part).to(device) for name, part in parts.items()}
    return Targets3D(
        **tensors, alpha=torch.from_numpy(alpha).to(device), index=index, mask=torch.from_numpy(valid).to(device)
    )


def bins_of(alpha: Float[Tensor, "*n"]) -> tuple[Bool[Tensor, "*n 2"], Float[Tensor, "*n 2"]]:
    """Return which bins are right for an angle in [-pi, pi), and the angle minus either bin's center."""
    residual = alpha[..., None] - torch.tensor(BIN_CENTRES, dtype=alpha.dtype, device=alpha.device)
    # Compared as the definition states it, so that an angle on a border falls on the same side of it.
    first, second = (alpha < BIN_NEAR) | (alpha > BIN_FAR), (alpha > -BIN_NEAR) | (alpha < -BIN_FAR)
    right = torch.stack([first, second], dim=-1)
    return right, residual


def rotation_loss(
    prediction: Float[Tensor, "B 8 h w"],
    alpha: Float[Tensor, "B M"],
    index: Int[Tensor, "B M"],
    mask: Bool[Tensor, "B M"],
) -> Float[Tensor, ""]:
    """Return cross entropy of both bins plus smooth L1 of sine and cosine in the bins that are right.

    The means are over the valid objects, those of sine and cosine over the valid objects in the bin. CenterNet's
    ``BinRotLoss`` also counts the padding, with ln 2 for either bin.
    """
    values = values_at(prediction, index)[mask].unflatten(-1, (2, 4))  # [N, 2, 4]
    if not len(values):
        return prediction.sum() * 0
    right, residual = bins_of(alpha[mask])
    total = prediction.new_zeros(())
    for k in range(2):
        total = total + F.cross_entropy(values[:, k, :2], right[:, k].long())
        inside = right[:, k]
        if inside.any():
            for channel, function in ((2, torch.sin), (3, torch.cos)):
                total = total + F.smooth_l1_loss(values[inside, k, channel], function(residual[inside, k]).to(values))
    return total


def alpha_of_map(rotation: Float[Tensor, "*n 8"]) -> Float[Tensor, "*n"]:
    """Return the angle in [-pi, pi) under which an object is seen, from the bin that is surer to be right."""
    bins = rotation.unflatten(-1, (2, 4))
    second = bins[..., 1, 1] > bins[..., 0, 1]
    chosen = torch.where(second[..., None], bins[..., 1, :], bins[..., 0, :])
    center = torch.where(second, BIN_CENTRES[1], BIN_CENTRES[0])
    alpha = torch.atan2(chosen[..., 2], chosen[..., 3]) + center
    return torch.remainder(alpha + math.pi, 2 * math.pi) - math.pi


def losses3d(box3d: Float[Tensor, "B 14 h w"], targets: Targets3D) -> dict[str, Float[Tensor, ""]]:
    """Return the loss of every part before weighting; see ``WEIGHTS``."""
    maps = dict(zip(PARTS, box3d.float().split(list(PARTS.values()), dim=1), strict=True))
    depth = maps["depth"].clamp(-MAX_LOG_DEPTH, MAX_LOG_DEPTH)
    return {
        "depth": l1_at_centers(depth, targets.depth, targets.index, targets.mask),
        "dims": l1_at_centers(maps["dims"], targets.dims, targets.index, targets.mask),
        "rotation": rotation_loss(maps["rotation"], targets.alpha, targets.index, targets.mask),
        "center3d": l1_at_centers(maps["center3d"], targets.center3d, targets.index, targets.mask),
    }


def decode3d(
    maps: Mapping[str, Float[np.ndarray, "N D"]],
    cell: Float[np.ndarray, "N 2"],
    camera: Calibration,
    *,
    stride: int,
    focal_px: float,
) -> Float[np.ndarray, "N 7"]:
    """Return the 3D boxes of peaks.

    Args:
        maps: by the names of ``PARTS``, the values at the peaks.
        cell: column and row of the peaks.
        camera: of the picture.
        stride: input pixels an output pixel.
        focal_px: focal length for which depth was learned.
    """
    uv = stride * (cell + maps["center3d"].astype(np.float64))
    log_depth = np.clip(maps["depth"][:, 0].astype(np.float64), -MAX_LOG_DEPTH, MAX_LOG_DEPTH)
    center = camera.unproject(uv, np.exp(-log_depth) * camera.focal[0] / focal_px)
    dims = np.maximum(maps["dims"].astype(np.float64), MIN_DIMENSION_M)
    alpha = alpha_of_map(torch.from_numpy(maps["rotation"].astype(np.float64))).numpy()
    yaw = boxes3d.yaw_of(alpha, center)
    location = center + np.array([0.0, 0.5, 0.0]) * dims[:, :1]
    return np.concatenate([location, dims, yaw[:, None]], axis=1).astype(np.float32)


class Detect3D(PeakTask):
    """3D boxes at the peaks of the detector.

    Args:
        stride: input pixels an output pixel.
        focal_px: focal length in pixels for which depth is predicted.
        placing: see ``HeadConfig.placing``.
    """

    column = "box3d"

    def __init__(self, stride: int, focal_px: float, placing: Placing = "free"):
        self.stride, self.focal_px, self.placing = stride, focal_px, placing

    @property
    def branch(self) -> Branch:
        """All of ``PARTS`` in one map."""
        return Branch(sum(PARTS.values()), bias=[value for part in BIASES.values() for value in part], width=2)

    def loss(
        self,
        output: Float[Tensor, "B D h w"],
        boxes: Sequence[Boxes],
        calibrations: Sequence[Calibration | None],
        index: Int[Tensor, "B M"],
        mask: Bool[Tensor, "B M"],
    ) -> Loss:
        """Return the weighted losses of depth, dimensions, rotation and projected center."""
        targets = make_targets3d(
            boxes, calibrations, index, mask, width=output.shape[-1], stride=self.stride, focal_px=self.focal_px
        )
        parts = losses3d(output, targets)
        return Loss(torch.stack([WEIGHTS[name] * part for name, part in parts.items()]).sum(), parts)

    def decode(
        self, output: Float[Tensor, "B D h w"], peaks: Peaks, calibrations: Sequence[Calibration | None]
    ) -> np.ndarray:
        """Return the 3D boxes [B, N, 7] of the peaks; NaN in samples without a camera."""
        width = output.shape[-1]
        values = values_at(output.float(), peaks.place).split(list(PARTS.values()), dim=-1)
        maps = {name: part.cpu().numpy() for name, part in zip(PARTS, values, strict=True)}
        cell = torch.stack([peaks.place % width, peaks.place // width], dim=-1).cpu().numpy().astype(np.float32)
        box3d = np.full((*cell.shape[:2], 7), np.nan, np.float32)
        for b, camera in enumerate(calibrations):
            if camera is not None:
                own = {name: part[b] for name, part in maps.items()}
                box3d[b] = decode3d(own, cell[b], camera, stride=self.stride, focal_px=self.focal_px)
        return box3d

    def settle(
        self,
        column: np.ndarray,
        xyxy: Float[np.ndarray, "N 4"],
        scores: Float[np.ndarray, "N"],
        calibration: Calibration | None,
        size_hw: tuple[int, int],
    ) -> np.ndarray:
        """Return the 3D boxes [N, 7], on one level ground where that is wanted."""
        if calibration is None or self.placing == "free":
            return column
        return on_ground(column, xyxy, scores, calibration, size_hw=size_hw)

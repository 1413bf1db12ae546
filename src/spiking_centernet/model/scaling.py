"""The scales at which a sensor's events are binned for a network, and boxes brought back to the sensor's pixels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np

from spiking_centernet.boxes import clip, iou_matrix
from spiking_centernet.calibration import Calibration
from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.model.config import DetectorConfig
from spiking_centernet.model.heads import Head
from spiking_centernet.structures import Detections, VoxelSpec, concatenate, select

Scale = float | str | Sequence[float]
"""A number from 1/64 to 1, several of them, "auto" or "pyramid"."""

Found = TypeVar("Found", bound=Detections)

PYRAMID = (1.0, 0.5, 0.25)
MERGE_IOU = 0.5
"""Boxes of two scales that overlap by more are one object: the customary limit of non-maximum suppression."""
MAX_DETECTIONS = 100
"""What a head answers with at one scale, and what COCO's AP looks at."""


@dataclass(frozen=True)
class Scaling:
    """The scales that a detector is run at on one sensor.

    Attributes:
        scales: one or several, pixels of the cube over pixels of the sensor along a side.
        size_hw: height and width of the sensor in pixels.
        is_auto: whether the scale was chosen here.
    """

    scales: tuple[float, ...]
    size_hw: tuple[int, int]
    is_auto: bool = False

    @property
    def cost(self) -> float:
        """Pixels that the network sees over those of the sensor: about its time over that of scale 1."""
        return sum(math.prod(self._cube_hw(scale)) for scale in self.scales) / math.prod(self.size_hw)

    def _cube_hw(self, scale: float) -> tuple[int, int]:
        return VoxelSpec(scale=scale).cube_hw(self.size_hw)

    def specs(self, spec: VoxelSpec) -> list[VoxelSpec]:
        """Return the network's spec at every scale."""
        return [replace(spec, scale=scale) for scale in self.scales]

    def __str__(self) -> str:
        """Say which scales, what they cost and how to choose others."""
        names = ", ".join(str(VoxelSpec(scale=scale).ratio) for scale in self.scales)
        sizes = " and ".join("{1} x {0}".format(*self._cube_hw(scale)) for scale in self.scales)
        height, width = self.size_hw
        text = f"scale {names}: the {width} x {height} sensor is binned at {sizes} pixels"
        if len(self.scales) > 1:
            text += f", {self.cost:.2f} times the network's work at scale 1"
        return text + ("; chosen for these weights, --scale 1 keeps every pixel" if self.is_auto else "")


def choose_scaling(scale: Scale, size_hw: tuple[int, int], config: DetectorConfig) -> Scaling:
    """Return the scales to detect at.

    "auto" is one over the largest whole number that leaves the cube as large as those of training, at most 1: a camera
    with more pixels sees the same things larger, not more of them. A side is the square root of an area.
    ``benchmarks/scale.py`` measures AP by scale on simulated recordings.

    Args:
        scale: a number, several, "auto", or "pyramid" for 1, 1/2 and 1/4.
        size_hw: height and width of the sensor in pixels.
        config: the network's.

    Raises:
        ConfigError: If a scale is unknown or impossible, or given twice.
    """
    size_hw = (int(size_hw[0]), int(size_hw[1]))
    if config.voxels.takes_frames:
        if scale not in ("auto", 1, (1,)):
            raise ConfigError(
                f"scale is for events, got {scale!r}: pictures are brought to {config.voxels.frame_hw} (height, width) "
                "pixels, as in training; leave it out"
            )
        return Scaling((1.0,), size_hw)
    if scale == "auto":
        side = math.sqrt(math.prod(size_hw) / math.prod(config.deployment.trained_hw))
        return Scaling((1 / max(1, math.floor(side)),), size_hw, is_auto=True)
    if isinstance(scale, str) and scale != "pyramid":
        raise ConfigError(f"scale takes numbers, auto or pyramid, got {scale!r}{did_you_mean(scale, _WORDS)}")
    scales = PYRAMID if scale == "pyramid" else (scale,) if isinstance(scale, int | float) else tuple(scale)
    if not scales or not all(isinstance(one, int | float) and not isinstance(one, bool) for one in scales):
        raise ConfigError(f"scale takes numbers, auto or pyramid, got {scale!r}")
    if len({VoxelSpec(scale=one).ratio for one in scales}) < len(scales):
        raise ConfigError(f"a scale stands twice in {scales}; give each once")
    return Scaling(tuple(map(float, scales)), size_hw)


_WORDS = ("auto", "pyramid")


def spec_for(config: DetectorConfig, voxels: VoxelSpec | None) -> VoxelSpec:
    """Return how windows are cut for a network: as asked for, or as it was trained and fitted to their events.

    Raises:
        ConfigError: If the network cannot take such cubes, or the scale is said here.
    """
    if voxels is None:
        return replace(config.voxels, fit=config.fits_windows)
    for name in ("num_steps", "bins", "mode", "colors", "frame_hw"):
        ours, theirs = getattr(voxels, name), getattr(config.voxels, name)
        if ours != theirs:
            raise ConfigError(f"voxels has {name} {ours!r}, the network was trained with {theirs!r}")
    if voxels.scale != 1:
        raise ConfigError("give the scale as scale, not in voxels: boxes are brought back by it")
    return replace(voxels, fit=voxels.fit and config.fits_windows)


def detections_of(
    head: Head,
    output: Any,
    t_us: Sequence[int],
    *,
    cube_hw: tuple[int, int],
    size_hw: tuple[int, int],
    ratio: Fraction,
    min_score: float,
    calibrations: Sequence[Calibration | None] | None = None,
) -> list[Detections]:
    """Return the detections of scaled cubes, boxes in the sensor's pixels; see ``Head.detections``.

    Args:
        head: the network's.
        output: the network's output for B windows.
        t_us: exclusive end of every window in microseconds.
        cube_hw: height and width of the cubes in pixels.
        size_hw: height and width of the sensor in pixels.
        ratio: the cubes' scale.
        min_score: detections below are dropped.
        calibrations: the camera of every window in the sensor's pixels; None where unknown.
    """
    if calibrations is not None and ratio != 1:
        calibrations = [None if one is None else one.zoomed(float(ratio), (0.0, 0.0)) for one in calibrations]
    found = head.detections(output, t_us, size_hw=cube_hw, min_score=min_score, calibrations=calibrations)
    return [to_sensor(one, ratio, size_hw) for one in found]


def to_sensor(found: Detections, ratio: Fraction, size_hw: tuple[int, int]) -> Detections:
    """Return detections in a cube's pixels as such in the sensor's, clipped to it; the same object at scale 1.

    Args:
        found: boxes in pixels of the cube.
        ratio: the cube's scale.
        size_hw: height and width of the sensor in pixels.
    """
    if ratio == 1:
        return found
    xyxy = clip((found.xyxy.astype(np.float64) * float(1 / ratio)).astype(np.float32), size_hw)
    # A cube's last row or column may begin inside the sensor and end outside.
    keep = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
    joints = found.joints.copy()
    joints[..., :2] /= np.float32(ratio)
    return select(replace(found, xyxy=xyxy, joints=joints), keep)


def merge(parts: Sequence[Found]) -> Found:
    """Return the detections of one timestamp at several scales as one list, best first, without duplicates.

    A detection is dropped if one of the same class at another scale overlaps it by more than ``MERGE_IOU``, scores
    more and is kept. Those of one scale do not suppress each other, so that one scale alone comes back unchanged.

    Args:
        parts: of every scale, boxes in the sensor's pixels.
    """
    if len(parts) == 1:
        return parts[0]
    level = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    found = concatenate(parts)
    same = iou_matrix(found.xyxy, found.xyxy) > MERGE_IOU
    same &= (level[:, None] != level) & (found.labels[:, None] == found.labels)
    kept = np.zeros(len(found), bool)
    order = np.argsort(-found.scores, kind="stable")
    for i in order:
        kept[i] = not (same[i] & kept).any()
    order = order[kept[order]][:MAX_DETECTIONS]
    return select(found, order)

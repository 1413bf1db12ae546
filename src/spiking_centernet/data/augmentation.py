"""How training samples vary; flip and zoom of a sample. Nothing given is ever changed."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from spiking_centernet import boxes3d, joint_sets
from spiking_centernet.data._kernels import resample
from spiking_centernet.errors import ConfigError
from spiking_centernet.structures import Boxes, Sample, select

EVENT_CHANGES = (
    "noise", "drop", "window", "empty_past", "mix", "paste", "isolate", "swap_polarity", "merge_polarity", "fault"
)  # fmt: skip
"""Settings of :class:`Augmentation` that change events, each a probability."""


@dataclass(frozen=True)
class Augmentation:
    """How training samples vary. The paper names no augmentation; these are ours.

    Attributes:
        flip: probability of a horizontal flip.
        zoom: probability of a zoom.
        zoom_range: smallest and largest factor; below 1 shows more world around the frame, which is empty.
        min_left: share of its area that a box must keep inside the frame to stay a label.
        min_side_px: shortest side in pixels that a label may have after a zoom.
        noise: probability of added background activity.
        noise_range_hz: its lowest and highest rate, events per second and pixel.
        drop: probability that a share of the events is lost.
        drop_range: the smallest and the largest share.
        window: probability that the window shows another length of time, which it does faster or more slowly.
        window_range: the shortest and the longest length over the window's own.
        empty_past: probability that only the last part of the window holds events, as when a recording has just begun.
        filled_range: the smallest and the largest share of the window that holds them.
        mix: probability that the events and boxes of another window are laid over this one.
        paste: probability that objects cut out of another window are put before this one.
        isolate: probability that all but a part of the frame, around an object or not, is empty.
        isolate_around: share of these parts that are around an object, where there is one; the others mostly show none.
        isolate_range: sides of the part around an object, times the object's; below 1 it shows a part of the object.
        swap_polarity: probability that ON and OFF are exchanged.
        merge_polarity: probability that all events are ON.
        fault: probability of a sensor corruption, any of ``CORRUPTIONS``, severity 1 to 3.
    """

    flip: float = 0.5
    zoom: float = 0.5
    zoom_range: tuple[float, float] = (0.7, 1.5)
    min_left: float = 0.3
    min_side_px: float = 3.0
    noise: float = 0.0
    noise_range_hz: tuple[float, float] = (0.1, 5.0)
    drop: float = 0.0
    drop_range: tuple[float, float] = (0.1, 0.7)
    window: float = 0.0
    window_range: tuple[float, float] = (0.2, 2.0)
    empty_past: float = 0.0
    filled_range: tuple[float, float] = (0.2, 0.8)
    mix: float = 0.0
    paste: float = 0.0
    isolate: float = 0.0
    isolate_around: float = 0.5
    isolate_range: tuple[float, float] = (1.0, 1.6)
    swap_polarity: float = 0.0
    merge_polarity: float = 0.0
    fault: float = 0.0

    def __post_init__(self):
        for name in ("flip", "zoom", "min_left", "isolate_around", *EVENT_CHANGES):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"augmentation.{name} must lie in [0, 1], got {getattr(self, name)}")
        for name in ("zoom_range", "noise_range_hz", "window_range", "isolate_range"):
            low, high = getattr(self, name)
            if not 0 < low <= high < np.inf:
                raise ConfigError(f"{name} must be positive, smallest first, got {(low, high)}")
        for name in ("drop_range", "filled_range"):
            low, high = getattr(self, name)
            if not 0 <= low <= high <= 1:
                raise ConfigError(f"{name} must lie in [0, 1], smallest first, got {(low, high)}")

    @property
    def changes_events(self) -> bool:
        """Whether the events are changed before they are binned."""
        return any(getattr(self, name) > 0 for name in EVENT_CHANGES)


def augment(sample: Sample, rng: np.random.Generator, settings: Augmentation | None = None, *, fill: int = 0) -> Sample:
    """Flip and zoom at random; the same generator state gives the same sample. ``fill`` as :func:`zoom`."""
    settings = settings or Augmentation()
    # All draws are made every time, so that one setting does not shift another's random numbers.
    flip_draw, zoom_draw, size_draw, down_draw, right_draw = rng.random(5)
    if flip_draw < settings.flip:
        sample = flip(sample)
    if zoom_draw < settings.zoom:
        low, high = np.log(settings.zoom_range)
        factor = float(np.exp(low + (high - low) * size_draw))
        height, width = sample.cube.shape[-2:]
        # Pixels of the original left of and above the view: negative where the view is wider than the frame.
        top, left = down_draw * (height - height / factor), right_draw * (width - width / factor)
        sample = zoom(sample, factor, (top, left), min_left=settings.min_left, min_side_px=settings.min_side_px,
                      fill=fill)  # fmt: skip
    return sample


def flip(sample: Sample) -> Sample:
    """Mirror left and right, exactly: twice gives the sample back."""
    width = sample.cube.shape[-1]
    # numpy copies in the calling thread; torch would start threads of its own alongside those that compute.
    mirrored = torch.from_numpy(np.ascontiguousarray(sample.cube.numpy()[..., ::-1]))
    calibration = None if sample.calibration is None else sample.calibration.flipped(width)
    boxes, *earlier = (_flipped(boxes, width) for boxes in (sample.boxes, *sample.earlier))
    return replace(sample, cube=mirrored, boxes=boxes, calibration=calibration, earlier=tuple(earlier))


def _flipped(boxes: Boxes, width: int) -> Boxes:
    xyxy = boxes.xyxy[:, [2, 1, 0, 3]]
    xyxy[:, [0, 2]] = width - xyxy[:, [0, 2]]
    joints = joint_sets.flipped(boxes.joints, width)
    return replace(boxes, xyxy=xyxy, box3d=boxes3d.flipped(boxes.box3d), joints=joints)


def zoom(
    sample: Sample,
    factor: float,
    top_left: tuple[float, float],
    *,
    min_left: float = 0.3,
    min_side_px: float = 3.0,
    fill: int = 0,
) -> Sample:
    """Show the view of 1 / ``factor`` of the frame that begins at ``top_left``, at full size.

    A pixel of the result is the pixel of the original under its center, so a binary cube stays binary; what lies
    outside the original is empty.

    Args:
        sample: the sample; not changed.
        factor: above 1 enlarges, below 1 shrinks.
        top_left: row and column in pixels of the original where the view begins; may be negative.
        min_left: share of its area that a box must keep inside the frame to stay a label.
        min_side_px: shortest side in pixels that a label may have afterwards.
        fill: value of what lies outside the original; 0 is no event.

    Raises:
        ConfigError: the factor is not positive.
    """
    if not factor > 0:
        raise ConfigError(f"zoom factor must be positive, got {factor}")
    height, width = sample.cube.shape[-2:]
    top, left = top_left
    planes = sample.cube.numpy().reshape(-1, height, width)
    zoomed = np.full_like(planes, fill) if fill else np.zeros_like(planes)
    first_row, rows = _source_pixels(height, factor, top)
    first_column, columns = _source_pixels(width, factor, left)
    resample(planes, rows, columns, first_row, first_column, zoomed)
    cube = torch.from_numpy(zoomed.reshape(sample.cube.shape))
    frame = np.array([0, 0, width, height])

    def zoomed_boxes(boxes: Boxes) -> Boxes:
        moved = (boxes.xyxy.astype(np.float64) - [left, top, left, top]) * factor
        joints = boxes.joints.copy()
        joints[..., :2] = (joints[..., :2] - np.array([left, top], np.float32)) * np.float32(factor)
        boxes = replace(boxes, joints=joints, areas=boxes.areas * np.float32(factor**2))
        return clip_boxes(boxes, moved, frame, min_left=min_left, min_side_px=min_side_px)

    boxes, *earlier = map(zoomed_boxes, (sample.boxes, *sample.earlier))
    calibration = None if sample.calibration is None else sample.calibration.zoomed(factor, top_left)
    return replace(sample, cube=cube, boxes=boxes, calibration=calibration, earlier=tuple(earlier))


def _source_pixels(size: int, factor: float, start: float) -> tuple[int, np.ndarray]:
    """Return the first pixel of the result that shows the original, and the pixel shown there and at those after it."""
    source = np.floor((np.arange(size) + 0.5) / factor + start).astype(np.int64)
    inside = (source >= 0) & (source < size)
    return int(np.argmax(inside)), source[inside]


def clip_boxes(boxes: Boxes, xyxy: np.ndarray, view: np.ndarray, *, min_left: float, min_side_px: float) -> Boxes:
    """Return the boxes, now at ``xyxy`` [N, 4], clipped to the view [4]; without those of which too little is left.

    What is left of a crowd stays a crowd.
    """
    clipped = np.clip(xyxy, view[[0, 1, 0, 1]], view[[2, 3, 2, 3]])
    before, after = xyxy[:, 2:] - xyxy[:, :2], clipped[:, 2:] - clipped[:, :2]
    keep = (after.prod(1) >= min_left * before.prod(1)) & (after.min(1) >= min_side_px) | boxes.crowd
    keep &= after.prod(1) > 0
    return select(replace(boxes, xyxy=clipped.astype(np.float32)), keep)

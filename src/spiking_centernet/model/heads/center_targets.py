"""What CenterNet's maps should answer: a Gaussian at every center, sizes and offsets there, crowds left out."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from spiking_centernet.model.config import Edges
from spiking_centernet.model.heads import box_fit
from spiking_centernet.structures import Boxes

MIN_OVERLAP = 0.7
"""A center may move until the box keeps this IoU: it fixes the Gaussian's radius (CornerNet, arXiv 1808.01244)."""


@dataclass(frozen=True)
class Targets:
    """What the network should answer for a batch, M being the most boxes of a sample.

    Attributes:
        heatmap: [B, classes, h, w], 1 at every center with a Gaussian around it.
        wh: [B, M, 2], width and height in output pixels.
        offset: [B, M, 2], x and y of the center within its output pixel.
        index: [B, M], flat output pixel ``y * w + x`` of the center.
        mask: [B, M], True where a box stands.
        left_out: [B, classes, h, w], True in crowds, where the heatmap may answer as it likes; None without crowds.
    """

    heatmap: Float[Tensor, "B K h w"]
    wh: Float[Tensor, "B M 2"]
    offset: Float[Tensor, "B M 2"]
    index: Int[Tensor, "B M"]
    mask: Bool[Tensor, "B M"]
    left_out: Bool[Tensor, "B K h w"] | None = None


def gaussian_radius(height: float, width: float, min_overlap: float = MIN_OVERLAP) -> float:
    """Return how far the corners of a box may move so that its IoU stays above ``min_overlap``.

    The three cases (both corners inwards, outwards, one of each) are CornerNet's. Its code divides two of the three
    roots by 2 instead of by twice the quadratic coefficient; every CenterNet since trains with that, so this does too.
    """
    total = height + width
    area = height * width
    roots = (
        (total, area * (1 - min_overlap) / (1 + min_overlap), 1.0),
        (2 * total, (1 - min_overlap) * area, 4.0),
        (-2 * min_overlap * total, (min_overlap - 1) * area, 4 * min_overlap),
    )
    return min((b + math.sqrt(b * b - 4 * a * c)) / 2 for b, c, a in roots)


def draw_gaussian(heatmap: np.ndarray, x: int, y: int, radius: int) -> None:
    """Raise ``heatmap`` [h, w] to a Gaussian of standard deviation ``(2 radius + 1) / 6`` around a pixel, in place."""
    height, width = heatmap.shape
    left, right = max(0, x - radius), min(width, x + radius + 1)
    top, bottom = max(0, y - radius), min(height, y + radius + 1)
    sigma = (2 * radius + 1) / 6
    column = np.arange(left, right) - x
    row = np.arange(top, bottom) - y
    gaussian = np.exp(-(column[None, :] ** 2 + row[:, None] ** 2) / (2 * sigma * sigma))
    gaussian[gaussian < np.finfo(np.float64).eps] = 0
    region = heatmap[top:bottom, left:right]
    np.maximum(region, gaussian, out=region)


def make_targets(
    boxes: Sequence[Boxes],
    *,
    num_classes: int,
    size_hw: tuple[int, int],
    stride: int,
    device: torch.device | None = None,
    edges: Edges = "clipped",
) -> Targets:
    """Return the targets of a batch.

    Args:
        boxes: the boxes of every sample, pixels of the input; crowds among them are no targets.
        num_classes: heatmap channels.
        size_hw: height and width of the network's output.
        stride: input pixels an output pixel.
        device: where the targets go.
        edges: where boxes end that reach the border: "clipped" to the last cell's first corner, as in CenterNet's code,
            so that a box inside the last cell is no target; or at the frame's border ("exact").
    """
    height, width = size_hw
    right, bottom = (width - 1, height - 1) if edges == "clipped" else (width, height)
    batch, most = len(boxes), max([1, *(len(b) for b in boxes)])
    heatmap = np.zeros((batch, num_classes, height, width), np.float32)
    wh = np.zeros((batch, most, 2), np.float32)
    offset = np.zeros((batch, most, 2), np.float32)
    index = np.zeros((batch, most), np.int64)
    mask = np.zeros((batch, most), bool)
    for b, sample in enumerate(boxes):
        scaled = sample.xyxy / np.float32(stride)
        scaled[:, 0::2] = scaled[:, 0::2].clip(0, right)
        scaled[:, 1::2] = scaled[:, 1::2].clip(0, bottom)
        for i, (box, label) in enumerate(zip(scaled, sample.labels, strict=True)):
            box_wh = box[2:] - box[:2]
            if box_wh.min() <= 0 or sample.crowd[i]:
                continue
            center = (box[:2] + box[2:]) / 2
            x, y = box_fit.center_cell(center, size_hw)
            radius = max(0, int(gaussian_radius(math.ceil(box_wh[1]), math.ceil(box_wh[0]))))
            draw_gaussian(heatmap[b, label], x, y, radius)
            wh[b, i] = box_wh
            offset[b, i] = center - (x, y)
            index[b, i] = y * width + x
            mask[b, i] = True
    left_out = crowd_cells(
        [sample.crowds for sample in boxes], labels=[{k} for k in range(num_classes)], size_hw=size_hw, stride=stride,
        device=device,
    )  # fmt: skip
    return Targets(*(torch.from_numpy(a).to(device) for a in (heatmap, wh, offset, index, mask)), left_out=left_out)


def crowd_cells(
    crowds: Sequence[Boxes],
    *,
    labels: Sequence[Collection[int]],
    size_hw: tuple[int, int],
    stride: int,
    device: torch.device | None = None,
) -> Bool[Tensor, "B K h w"] | None:
    """Return the output pixels, channel by channel, whose middle lies in a crowd; None where there is no crowd.

    Args:
        crowds: the crowds of every sample, pixels of the input.
        labels: for every channel the classes whose crowds it leaves out.
        size_hw: height and width of the network's output.
        stride: input pixels an output pixel.
        device: where the result goes.
    """
    if not any(map(len, crowds)):
        return None
    cells = np.zeros((len(crowds), len(labels), *size_hw), bool)
    for b, sample in enumerate(crowds):
        for box, label in zip(sample.xyxy / np.float32(stride), sample.labels.tolist(), strict=True):
            # A pixel's middle is its index and a half.
            left, top, right, bottom = (max(0, math.ceil(side - 0.5)) for side in box.tolist())
            for channel, ours in enumerate(labels):
                if label in ours:
                    cells[b, channel, top:bottom, left:right] = True
    return torch.from_numpy(cells).to(device)

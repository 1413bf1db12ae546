"""How well boxes fit: generalized IoU and errors of size and center at the 3 x 3 cells around every center."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from spiking_centernet.structures import Boxes

REACH = 1
"""Cells each way from the center's that are taught the box: 3 x 3, since the heatmap's peak may lie one cell off."""

WEIGHTS = {"giou": 2.0, "wh": 0.5, "offset": 0.5, "quality": 1.0}
"""Weights of the losses of :func:`fit_losses`; ours, that of the generalized IoU as in DETR (Carion et al., arXiv
2005.12872, section 3.1), that of the quality as of the centerness in FCOS (Tian et al., arXiv 1904.01355)."""

MAX_LOG_SIZE = 8.0
"""Sizes beyond exp(8) = 2981 cells are no boxes; a network that has learned nothing must not overflow."""

MIN_SIZE = 1e-2
"""Shortest side in cells of a box whose overlap is taken; keeps unions and logarithms finite."""


@dataclass(frozen=True)
class CellTargets:
    """Every cell that is taught a box, N of them over the batch.

    Attributes:
        sample: [N], which sample of the batch.
        cell_xy: [N, 2], column and row of the cell.
        box: [N, 4], center x and y, width and height of its box in cells.
        weight: [N], 1 over the number of cells that share the box.
    """

    sample: Int[Tensor, " N"]
    cell_xy: Int[Tensor, "N 2"]
    box: Float[Tensor, "N 4"]
    weight: Float[Tensor, " N"]


def cell_targets(
    boxes: Sequence[Boxes], *, size_hw: tuple[int, int], stride: int, device: torch.device | None = None
) -> CellTargets:
    """Return the cells around the centers of a batch's boxes; a cell near several belongs to the smallest box.

    Args:
        boxes: the boxes of every sample, pixels of the input.
        size_hw: height and width of the network's output.
        stride: input pixels an output pixel.
        device: where the targets go.
    """
    height, width = size_hw
    rows: list[tuple[int, int, int, np.ndarray, float]] = []
    for b, sample in enumerate(boxes):
        scaled = np.clip(sample.xyxy.astype(np.float64), 0, [width * stride, height * stride] * 2) / stride
        sides = scaled[:, 2:] - scaled[:, :2]
        owner: dict[tuple[int, int], int] = {}
        order = np.argsort(-sides.prod(axis=1), kind="stable")
        for i in (int(i) for i in order if sides[i].min() > 0):
            x, y = center_cell((scaled[i, :2] + scaled[i, 2:]) / 2, size_hw)
            for v in range(max(0, y - REACH), min(height, y + REACH + 1)):
                for u in range(max(0, x - REACH), min(width, x + REACH + 1)):
                    owner[u, v] = i
        shared = np.bincount(np.fromiter(owner.values(), np.int64, len(owner)), minlength=len(scaled))
        for (u, v), i in owner.items():
            cxcywh = np.concatenate([(scaled[i, :2] + scaled[i, 2:]) / 2, sides[i]])
            rows.append((b, u, v, cxcywh, 1 / shared[i]))

    def tensor(values: list, dtype: torch.dtype, *shape: int) -> Tensor:
        return torch.as_tensor(np.array(values), dtype=dtype, device=device).reshape(len(rows), *shape)

    return CellTargets(
        tensor([row[0] for row in rows], torch.int64),
        tensor([row[1:3] for row in rows], torch.int64, 2),
        tensor([row[3] for row in rows], torch.float32, 4),
        tensor([row[4] for row in rows], torch.float32),
    )


def center_cell(center: np.ndarray, size_hw: tuple[int, int]) -> tuple[int, int]:
    """Return column and row of the cell that holds a center [2], the last one for a center on the far border."""
    return min(int(center[0]), size_hw[1] - 1), min(int(center[1]), size_hw[0] - 1)


def overlaps(
    ours: Float[Tensor, "N 4"], theirs: Float[Tensor, "N 4"]
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Return IoU, and generalized IoU (Rezatofighi et al., arXiv 1902.09630), from -1 to 1, of pairs of boxes.

    Args:
        ours: center x, y, width, height; sides are positive.
        theirs: the same.
    """
    low = [box[:, :2] - box[:, 2:] / 2 for box in (ours, theirs)]
    high = [box[:, :2] + box[:, 2:] / 2 for box in (ours, theirs)]
    common = (torch.minimum(*high) - torch.maximum(*low)).clamp_min(0).prod(-1)
    union = ours[:, 2:].prod(-1) + theirs[:, 2:].prod(-1) - common
    hull = (torch.maximum(*high) - torch.minimum(*low)).prod(-1)
    iou = common / union
    return iou, iou - (hull - union) / hull


def fit_losses(
    wh: Float[Tensor, "B 2 h w"],
    offset: Float[Tensor, "B 2 h w"],
    targets: CellTargets,
    *,
    log_sizes: bool,
    quality: Float[Tensor, "B 1 h w"] | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """Return ``giou``, ``wh`` and ``offset``: means over the boxes, a box counting once however many cells it has.

    ``giou`` is 1 minus the generalized IoU, ``wh`` the absolute error of the log sizes, of linear ones the error over
    the true side, ``offset`` the absolute error of the center in cells. With a quality map there is ``quality`` as
    well: its cross entropy with the IoU that the box has.

    Args:
        wh: the size map, log sizes where ``log_sizes`` is set, cells otherwise.
        offset: the offset map in cells.
        targets: of the batch.
        log_sizes: what the size map holds.
        quality: logits of the quality map.
    """
    column, row = targets.cell_xy.unbind(-1)
    size = wh.float()[targets.sample, :, row, column]
    shift = offset.float()[targets.sample, :, row, column]
    sides = torch.exp(size.clamp(max=MAX_LOG_SIZE)) if log_sizes else size
    true_sides = targets.box[:, 2:].clamp_min(MIN_SIZE)
    misfit = size - torch.log(true_sides) if log_sizes else (size - true_sides) / true_sides
    center = targets.cell_xy + shift
    iou, generalized = overlaps(torch.cat([center, sides.clamp_min(MIN_SIZE)], -1), targets.box)
    num_boxes = targets.weight.sum().clamp_min(1)

    def mean(error: Tensor) -> Tensor:
        return (error * targets.weight).sum() / num_boxes

    losses = {
        "giou": mean(1 - generalized),
        "wh": mean(misfit.abs().mean(-1)),
        "offset": mean((center - targets.box[:, :2]).abs().mean(-1)),
    }
    if quality is not None:
        logits = quality.float()[targets.sample, 0, row, column]
        losses["quality"] = mean(F.binary_cross_entropy_with_logits(logits, iou.detach(), reduction="none"))
    return losses

"""The CenterNet head: its maps, loss and decoding (Zhou et al., arXiv 1904.07850)."""

from collections import namedtuple
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from spiking_centernet.calibration import Calibration
from spiking_centernet.model.config import Sizes
from spiking_centernet.model.heads import box_fit
from spiking_centernet.model.heads.base import Branch, Head, Loss, Peaks
from spiking_centernet.model.heads.center_targets import Targets, make_targets
from spiking_centernet.structures import Boxes

WH_WEIGHT = 0.1
"""Weight of the size loss (CenterNet, arXiv 1904.07850, section 3)."""

OFFSET_WEIGHT = 1.0
"""Weight of the offset loss (same source)."""

FOCAL_ALPHA, FOCAL_BETA = 2, 4
"""Exponents of the penalty-reduced focal loss (same source)."""

PROBABILITY_CLAMP = 1e-4
"""The sigmoid stays this far from 0 and 1 in the loss, as in CenterNet's code."""

LOG_SIZE_BIAS = 2.0
"""Initial bias of a map of log sizes: exp(2) = 7.4 cells, 30 pixels at stride 4, a usual box of the simulated roads."""

LEAST_WEIGHT = 1e-37
"""Nothing is divided by less: there is no heat around, the smallest float32 of full precision being 1.2e-38."""

HEATMAP_BIAS = -2.19
"""Initial bias of the heatmap head: sigmoid(-2.19) = 0.1, the focal loss's prior (CenterNet, arXiv 1904.07850)."""


class DetectorOutput(NamedTuple):
    """The network's raw output averaged over the time steps, h and w being the input's size over the stride.

    Further maps follow where they are wanted: ``quality`` [B, 1, h, w], logits of the IoU with the truth that the box
    will have (``head.quality``), ``box3d`` [B, 14, h, w], ``joints`` [B, 3J + 2, h, w]; see :func:`output_type`.

    Attributes:
        heatmap: [B, classes, h, w], logits of an object's center.
        wh: [B, 2, h, w], width and height in output pixels, or their logarithms (``head.sizes: log``).
        offset: [B, 2, h, w], x and y of the center within its output pixel.
    """

    heatmap: Float[Tensor, "B K h w"]
    wh: Float[Tensor, "B 2 h w"]
    offset: Float[Tensor, "B 2 h w"]


@cache
def output_type(columns: tuple[str, ...]) -> type[DetectorOutput]:
    """Return the type of an output with further maps of these names behind the three."""
    if not columns:
        return DetectorOutput
    fields = namedtuple("DetectorOutput", (*DetectorOutput._fields, *columns))
    # Pickled by its columns: a class that is made here has no name that could be imported.
    methods = {"__slots__": (), "__reduce__": lambda output: (_unpickled, (columns, tuple(output)))}
    return type("DetectorOutput", (fields, DetectorOutput), methods)


def _unpickled(columns: tuple[str, ...], maps: tuple[Tensor, ...]) -> DetectorOutput:
    return output_type(columns)(*maps)


def focal_loss(
    logits: Float[Tensor, "B K h w"],
    heatmap: Float[Tensor, "B K h w"],
    left_out: Bool[Tensor, "B K h w"] | None = None,
) -> Float[Tensor, ""]:
    """Return the penalty-reduced focal loss summed over all pixels, over the number of centers.

    ``-(1 - p)^2 log p`` where the target ``y`` is 1, ``-(1 - y)^4 p^2 log(1 - p)`` elsewhere, ``p = sigmoid(logit)``.

    Args:
        logits: of the network.
        heatmap: what it should answer.
        left_out: pixels that count only where the target is 1; see :func:`crowd_cells`.
    """
    p = torch.sigmoid(logits).clamp(PROBABILITY_CLAMP, 1 - PROBABILITY_CLAMP)
    positive = heatmap == 1
    at_center = torch.log(p) * (1 - p) ** FOCAL_ALPHA
    elsewhere = torch.log(1 - p) * p**FOCAL_ALPHA * (1 - heatmap) ** FOCAL_BETA
    if left_out is not None:
        elsewhere = torch.where(left_out, 0, elsewhere)
    return -torch.where(positive, at_center, elsewhere).sum() / positive.sum().clamp_min(1)


def l1_at_centers(
    prediction: Float[Tensor, "B D h w"],
    target: Float[Tensor, "B M D"],
    index: Int[Tensor, "B M"],
    mask: Bool[Tensor, "B M"] | Bool[Tensor, "B M D"],
) -> Float[Tensor, ""]:
    """Return the sum of absolute errors at the centers over the number of their values (CenterNet's ``RegL1Loss``)."""
    valid = mask if mask.ndim == 3 else mask[..., None].expand_as(target)
    error = torch.where(valid, (values_at(prediction, index) - target).abs(), 0)
    return error.sum() / (valid.sum() + 1e-4)


def values_at(prediction: Float[Tensor, "B D h w"], index: Int[Tensor, "B M"]) -> Float[Tensor, "B M D"]:
    """Return the values of a map at flat output pixels."""
    return prediction.flatten(2).transpose(1, 2).gather(1, index[..., None].expand(-1, -1, prediction.shape[1]))


def centernet_loss(output: DetectorOutput, targets: Targets) -> Loss:
    """Return ``focal + 0.1 * size + 1.0 * offset``."""
    heatmap = focal_loss(output.heatmap, targets.heatmap, targets.left_out)
    wh = l1_at_centers(output.wh, targets.wh, targets.index, targets.mask)
    offset = l1_at_centers(output.offset, targets.offset, targets.index, targets.mask)
    total = heatmap + WH_WEIGHT * wh + OFFSET_WEIGHT * offset
    return Loss(total, {"heatmap": heatmap, "wh": wh, "offset": offset})


def decode(
    output: DetectorOutput, *, stride: int, max_detections: int = 100
) -> tuple[Float[Tensor, "B N 4"], Float[Tensor, "B N"], Int[Tensor, "B N"]]:
    """Return boxes [B, N, 4] in input pixels, scores and labels [B, N], best first, of the paper's head."""
    peaks = find_peaks(output, stride=stride, max_detections=max_detections)
    return peaks.xyxy, peaks.scores, peaks.labels


def find_peaks(
    output: DetectorOutput,
    *,
    stride: int,
    max_detections: int = 100,
    sizes: Sizes = "linear",
    quality: float = 0.0,
    averaging: float = 0.0,
) -> Peaks:
    """Return the objects, best first: the 3x3 peaks of the heatmap, no NMS.

    ``N`` is ``max_detections``, or the number of output pixels where that is smaller.

    Args:
        output: of the network.
        stride: input pixels an output pixel.
        max_detections: at most this many.
        sizes: what the size map holds.
        quality: exponent of the quality map in the score, the heatmap's being ``1 - quality``; 0 leaves it out.
        averaging: exponent of the heat by which the boxes around a peak are averaged; 0 takes the peak's own.
    """
    heat = torch.sigmoid(output.heatmap.float())
    peaks = torch.where(F.max_pool2d(heat, 3, 1, 1) == heat, heat, 0)
    if quality:
        fit = torch.sigmoid(output._asdict()["quality"].float())
        peaks = peaks ** (1 - quality) * fit**quality
    height, width = peaks.shape[-2:]
    count = min(max_detections, height * width)
    per_class, place = peaks.flatten(2).topk(count)  # [B, K, N]
    top, which = per_class.flatten(1).topk(count)  # [B, N]
    labels = which // count
    place = place.flatten(1).gather(1, which)

    rows, columns = (torch.arange(n, device=heat.device, dtype=torch.float32) for n in (height, width))
    center = output.offset.float() + torch.stack(torch.meshgrid(columns, rows, indexing="xy"))
    wh = output.wh.float()
    box = torch.cat([center, torch.exp(wh.clamp(max=box_fit.MAX_LOG_SIZE)) if sizes == "log" else wh], dim=1)
    if averaging:
        box = around_peaks(box, heat, averaging)
    center, wh = values_at(box, place).split(2, dim=-1)
    return Peaks(torch.cat([center - wh / 2, center + wh / 2], dim=-1) * stride, top, labels, place)


def around_peaks(
    values: Float[Tensor, "B D h w"], heat: Float[Tensor, "B K h w"], exponent: float
) -> Float[Tensor, "B D h w"]:
    """Return the mean over 3x3 cells around every cell, weighted by ``heat^exponent`` of their likeliest class.

    Cells near a center that have each learned its box err partly by themselves: their mean errs less than one of them.
    """
    weight = heat.amax(1, keepdim=True) ** exponent
    return F.avg_pool2d(weight * values, 3, 1, 1) / F.avg_pool2d(weight, 3, 1, 1).clamp_min(LEAST_WEIGHT)


class CenterNet(Head[DetectorOutput]):
    """Every object is the peak of its center in a heatmap, with size and offset regressed there; no suppression."""

    is_dense = True

    @property
    def branches(self) -> dict[str, Branch]:
        """Heatmap, size and offset, quality if wanted, then a map per further task, all on the finest level."""
        wh = Branch(2, bias=LOG_SIZE_BIAS if self.settings.sizes == "log" else None)
        own = {"heatmap": Branch(self.num_classes, bias=HEATMAP_BIAS), "wh": wh, "offset": Branch(2)}
        quality = {"quality": Branch(1)} if self.settings.quality else {}
        return own | quality | {task.column: task.branch for task in self.tasks.values()}

    def class_rows(self, branch: str) -> np.ndarray | None:
        """Return the heatmap's channels, one per class."""
        return np.arange(self.num_classes)[:, None] if branch == "heatmap" else None

    def output(self, maps: Mapping[str, Float[Tensor, "B _ h w"]]) -> DetectorOutput:
        """Return the maps."""
        return output_type(tuple(maps)[len(DetectorOutput._fields) :])(**maps)

    def targets(self, boxes: Sequence[Boxes], output: DetectorOutput) -> Targets:
        """Return heatmaps, sizes and offsets of a batch; see :func:`make_targets`."""
        return make_targets(
            boxes, num_classes=self.num_classes, stride=self.stride,
            size_hw=_size_hw(output), device=output.heatmap.device, edges=self.settings.edges,
        )  # fmt: skip

    def loss(
        self,
        output: DetectorOutput,
        boxes: Sequence[Boxes],
        calibrations: Sequence[Calibration | None] | None = None,
        *,
        task_weights: Mapping[str, float] | None = None,
    ) -> Loss:
        """Return the loss of the boxes, as :func:`centernet_loss` or :mod:`box_fit` has it, and of the other tasks.

        Arguments are those of :meth:`Head.loss`.
        """
        targets, weights = self.targets(boxes, output), task_weights or {}
        loss = self._box_loss(output, boxes, targets)
        total, parts = weights.get("detect", 1.0) * loss.total, dict(loss.parts)
        cameras = [None] * len(boxes) if calibrations is None else calibrations
        maps = output._asdict()
        for name, task in self.tasks.items():
            own = task.loss(maps[task.column], boxes, cameras, targets.index, targets.mask)
            total = total + weights.get(name, 1.0) * own.total
            parts |= own.parts
        return Loss(total, parts)

    def _box_loss(self, output: DetectorOutput, boxes: Sequence[Boxes], targets: Targets) -> Loss:
        log_sizes = self.settings.sizes == "log"
        if self.settings.box_loss == "l1":
            return centernet_loss(output, replace(targets, wh=_log(targets.wh)) if log_sizes else targets)
        cells = box_fit.cell_targets(
            [sample.objects for sample in boxes], size_hw=_size_hw(output), stride=self.stride,
            device=output.heatmap.device,
        )  # fmt: skip
        fit = box_fit.fit_losses(
            output.wh, output.offset, cells, log_sizes=log_sizes, quality=output._asdict().get("quality")
        )
        heatmap = focal_loss(output.heatmap, targets.heatmap, targets.left_out)
        weighted = sum(box_fit.WEIGHTS[name] * loss for name, loss in fit.items())
        return Loss(heatmap + weighted, {"heatmap": heatmap, **fit})

    def decode(
        self, output: DetectorOutput, *, max_detections: int = 100
    ) -> tuple[Float[Tensor, "B N 4"], Float[Tensor, "B N"], Int[Tensor, "B N"]]:
        """Return the peaks; see :func:`find_peaks`."""
        peaks = self._peaks(output, max_detections)
        return peaks.xyxy, peaks.scores, peaks.labels

    def decode_columns(
        self, output: DetectorOutput, calibrations: Sequence[Calibration | None], *, max_detections: int
    ) -> tuple[Tensor, Tensor, Tensor, dict[str, np.ndarray]]:
        """Return the peaks and every task's column there."""
        peaks, maps = self._peaks(output, max_detections), output._asdict()
        columns = {t.column: t.decode(maps[t.column].detach(), peaks, calibrations) for t in self.tasks.values()}
        return peaks.xyxy, peaks.scores, peaks.labels, columns

    def _peaks(self, output: DetectorOutput, max_detections: int) -> Peaks:
        return find_peaks(
            output, stride=self.stride, max_detections=max_detections, sizes=self.settings.sizes,
            quality=self.settings.quality, averaging=self.settings.averaging,
        )  # fmt: skip


def _size_hw(output: DetectorOutput) -> tuple[int, int]:
    return output.heatmap.shape[-2], output.heatmap.shape[-1]


def _log(wh: Float[Tensor, "B M 2"]) -> Float[Tensor, "B M 2"]:
    return torch.log(wh.clamp_min(box_fit.MIN_SIZE))

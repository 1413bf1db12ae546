"""CenterNet on several scales: every object belongs to one level by its size, so that still nothing is suppressed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from spiking_centernet.calibration import Calibration
from spiking_centernet.model.heads.base import Branch, Head, Loss
from spiking_centernet.model.heads.center_targets import Targets
from spiking_centernet.model.heads.centernet import CenterNet, DetectorOutput
from spiking_centernet.structures import Boxes, select

MAX_LEVELS = 3
"""Of the decoder's levels the finest so many have maps: strides 4, 8 and 16 of the presets."""

SIDE_STRIDES = 8
"""An object belongs to the finest level whose stride times this is more than its side, the root of its area: up to 32
px at stride 4, to 64 px at 8. A coarser level has objects of 4 to 8 cells, as in RetinaNet (arXiv 1708.02002)."""


class PyramidOutput(NamedTuple):
    """The raw output averaged over the time steps, N cells over all levels, the finest first, each row by row.

    Attributes:
        heatmap: [B, classes, N], logits of an object's center.
        wh: [B, 2, N], width and height in cells of the level, or their logarithms (``head.sizes: log``).
        offset: [B, 2, N], x and y of the center within its cell.
        level_hw: [L, 2], height and width of every level in cells.
    """

    heatmap: Float[Tensor, "B K N"]
    wh: Float[Tensor, "B 2 N"]
    offset: Float[Tensor, "B 2 N"]
    level_hw: Int[Tensor, "L 2"]

    def levels(self) -> list[DetectorOutput]:
        """Return the maps of every level, the finest first."""
        sizes = self.level_hw.tolist()
        counts = [height * width for height, width in sizes]
        parts = zip(*(x.split(counts, dim=2) for x in self[:3]), strict=True)
        return [DetectorOutput(*(x.unflatten(2, size) for x in maps)) for maps, size in zip(parts, sizes, strict=True)]


class Pyramid(Head[PyramidOutput]):
    """A :class:`CenterNet` on each of the finest levels; one-to-one, since an object is a center on one of them alone.

    What another level finds of an object is taught to be background, so two levels need not be compared.
    """

    unbatched = frozenset({"level_hw"})

    def __init__(self, num_classes: int, strides: Sequence[int], *args: Any, **options: Any):
        super().__init__(num_classes, strides, *args, **options)
        self.level_heads = [
            CenterNet(num_classes, (stride,), self.settings) for stride in self.strides[: -MAX_LEVELS - 1 : -1]
        ]
        """One per level, the finest first."""

    @property
    def branches(self) -> dict[str, Branch]:
        """Those of the finest level named as CenterNet's, so that its weights fit; then of each coarser one."""
        return {
            name if level == 0 else f"{name}{head.stride}": replace(branch, level=-1 - level)
            for level, head in enumerate(self.level_heads)
            for name, branch in head.branches.items()
        }

    def class_rows(self, branch: str) -> np.ndarray | None:
        """Return the channels of a level's heatmap, one per class."""
        return np.arange(self.num_classes)[:, None] if branch.startswith("heatmap") else None

    def output(self, maps: Mapping[str, Float[Tensor, "B _ _ _"]]) -> PyramidOutput:
        """Return the cells of all levels."""
        levels = [list(maps.values())[n : n + 3] for n in range(0, len(maps), 3)]
        joined = [torch.cat([x.flatten(2) for x in kind], dim=2) for kind in zip(*levels, strict=True)]
        sizes = torch.tensor([heatmap.shape[2:] for heatmap, *_ in levels], device=joined[0].device)
        return PyramidOutput(*joined, level_hw=sizes)

    def level_of(self, boxes: Boxes) -> Int[np.ndarray, " N"]:
        """Return the level of every box, 0 for the finest."""
        sides = np.sqrt((boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]).clip(0).prod(axis=1))
        limits = [SIDE_STRIDES * head.stride for head in self.level_heads[:-1]]
        return np.searchsorted(np.asarray(limits, np.float64), sides, side="right")

    def boxes_of_levels(self, boxes: Sequence[Boxes]) -> list[list[Boxes]]:
        """Return for every level the boxes that it is taught, and every crowd."""
        owners = [self.level_of(sample) for sample in boxes]
        return [
            [select(sample, (owner == level) | sample.crowd) for sample, owner in zip(boxes, owners, strict=True)]
            for level in range(len(self.level_heads))
        ]

    def targets(self, boxes: Sequence[Boxes], output: PyramidOutput) -> list[Targets]:
        """Return heatmaps, sizes and offsets of every level; see :func:`center_targets.make_targets`."""
        parts = zip(self.level_heads, self.boxes_of_levels(boxes), output.levels(), strict=True)
        return [head.targets(own, maps) for head, own, maps in parts]

    def loss(
        self,
        output: PyramidOutput,
        boxes: Sequence[Boxes],
        calibrations: Sequence[Calibration | None] | None = None,
        *,
        task_weights: Mapping[str, float] | None = None,
    ) -> Loss:
        """Return the mean of the levels' losses, each weighted by its objects: every object counts as much.

        Arguments are those of :meth:`Head.loss`; cameras and weights concern other tasks.
        """
        own = self.boxes_of_levels(boxes)
        counts = [max(1, sum(len(sample.objects) for sample in level)) for level in own]
        losses = [
            head.loss(maps, level) for head, maps, level in zip(self.level_heads, output.levels(), own, strict=True)
        ]
        shares = [count / sum(counts) for count in counts]

        def mean(values: Sequence[Tensor]) -> Tensor:
            return torch.stack([share * value for share, value in zip(shares, values, strict=True)]).sum()

        parts = {name: mean([loss.parts[name] for loss in losses]) for name in losses[0].parts}
        return Loss(mean([loss.total for loss in losses]), parts)

    def decode(
        self, output: PyramidOutput, *, max_detections: int = 100
    ) -> tuple[Float[Tensor, "B N 4"], Float[Tensor, "B N"], Int[Tensor, "B N"]]:
        """Return the peaks of all levels, best first."""
        found = [
            head.decode(maps, max_detections=max_detections)
            for head, maps in zip(self.level_heads, output.levels(), strict=True)
        ]
        xyxy, scores, labels = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
        best, which = scores.topk(min(max_detections, scores.shape[1]), dim=1)
        return xyxy.gather(1, which[..., None].expand(-1, -1, 4)), best, labels.gather(1, which)

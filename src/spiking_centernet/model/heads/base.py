"""What every head is: branches on the decoder's levels, the output they make, its targets, loss and decoding."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from spiking_centernet.model.config import HeadConfig
from spiking_centernet.model.context import ForwardContext
from spiking_centernet.model.layers import ConvNeuron
from spiking_centernet.structures import Boxes, Detections

Output = TypeVar("Output", bound=tuple[Tensor, ...])
"""What a head answers with: a ``NamedTuple`` of tensors, averaged over the time steps."""


@dataclass(frozen=True)
class Branch:
    """A 3x3 convolution with its neurons and a 1x1 convolution on their spikes, on one level of the decoder.

    Attributes:
        out_channels: of the map that the branch gives.
        level: index of the decoder's level, the coarsest encoder stage first; -1 is the finest.
        bias: initial bias of the map; None leaves it to PyTorch.
    """

    out_channels: int
    level: int = -1
    bias: float | None = None


class BranchModule(nn.Module):
    """The layers of a :class:`Branch`; no neuron after the 1x1 convolution: real values."""

    def __init__(self, in_channels: int, width: int, out_channels: int, block: ConvNeuron):
        super().__init__()
        self.block = block
        self.out = nn.Conv2d(width, out_channels, 1)

    def forward(self, x: Float[Tensor, "T B C h w"], context: ForwardContext) -> Float[Tensor, "B K h w"]:
        """Return the branch's map averaged over the steps."""
        spikes = self.block(x, context)
        out = self.out(spikes.flatten(0, 1)).float()
        return out.unflatten(0, spikes.shape[:2]).mean(0)


@dataclass(frozen=True)
class Loss:
    """A loss and its parts, each a scalar tensor before weighting.

    Attributes:
        total: what is minimized.
        parts: by the name under which they are logged.
    """

    total: Tensor
    parts: Mapping[str, Tensor]


class Head(ABC, Generic[Output]):
    """What a detector does with the decoder's levels: one task, without parameters of its own.

    The layers of its branches lie in :class:`~spiking_centernet.model.Detector`, so that whoever has raw outputs alone
    (a compiled detector, an exported file) decodes with the same head.

    Args:
        num_classes: how many classes are told apart.
        strides: input pixels a pixel of every level, the coarsest first.
        settings: of the head; None takes the paper's.
    """

    is_dense: ClassVar[bool] = False
    """Whether the output is maps [B, K, h, w] of one size, the first of them the classes' logits.

    Such outputs can be averaged over steps, exported and distilled.
    """

    unbatched: ClassVar[frozenset[str]] = frozenset()
    """Fields of the output without a batch axis."""

    def __init__(self, num_classes: int, strides: Sequence[int], settings: HeadConfig | None = None):
        self.num_classes, self.strides = num_classes, tuple(strides)
        self.settings = HeadConfig() if settings is None else settings

    @property
    def stride(self) -> int:
        """Input pixels a pixel of the finest level."""
        return self.strides[-1]

    @property
    @abstractmethod
    def branches(self) -> dict[str, Branch]:
        """The branches by name, in the order in which they compute; names of layers and weights begin with it."""

    def class_rows(self, branch: str) -> np.ndarray | None:
        """Return which output channels of a branch belong to each class, int [classes, n]; None if no channel does."""
        return None

    @abstractmethod
    def output(self, maps: Mapping[str, Float[Tensor, "B _ _ _"]]) -> Output:
        """Return the head's output from the maps of its branches."""

    @abstractmethod
    def targets(self, boxes: Sequence[Boxes], output: Output) -> Any:
        """Return what the network should have answered.

        Args:
            boxes: the boxes of every sample, pixels of the input.
            output: the network's, for its size and device.
        """

    @abstractmethod
    def loss(self, output: Output, boxes: Sequence[Boxes]) -> Loss:
        """Return the loss of a batch.

        Args:
            output: the network's.
            boxes: the boxes of every sample, pixels of the input.
        """

    @abstractmethod
    def decode(self, output: Output, *, max_detections: int = 100) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes [B, N, 4] in input pixels, scores [B, N] and labels [B, N], best first."""

    def forward(
        self, modules: nn.ModuleDict, levels: Sequence[Float[Tensor, "T B _ _ _"]], context: ForwardContext
    ) -> Output:
        """Return the output for the decoder's levels, the coarsest first.

        Args:
            modules: the layers of the branches by name.
            levels: the spikes of every level.
            context: of the forward pass.
        """
        maps = {
            name: context.run_stage(modules[name], levels[branch.level], stage=modules[name])
            for name, branch in self.branches.items()
        }
        return self.output(maps)

    def detections(
        self,
        output: Output,
        t_us: Sequence[int],
        *,
        size_hw: tuple[int, int],
        max_detections: int = 100,
        min_score: float = 0.0,
    ) -> list[Detections]:
        """Return the decoded detections of every sample, clipped to the frame, boxes without area dropped.

        Args:
            output: the network's output for B windows.
            t_us: exclusive end of every window in microseconds.
            size_hw: height and width of the frame in pixels.
            max_detections: at most so many a sample.
            min_score: detections below are dropped.
        """
        decoded = self.decode(output, max_detections=max_detections)
        boxes, scores, labels = (x.detach().cpu().numpy() for x in decoded)
        boxes[..., 0::2] = boxes[..., 0::2].clip(0, size_hw[1])
        boxes[..., 1::2] = boxes[..., 1::2].clip(0, size_hw[0])
        results = []
        for xyxy, score, label, t in zip(boxes, scores, labels, t_us, strict=True):
            keep = (score >= max(min_score, 1e-6)) & (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
            results.append(Detections(xyxy[keep], score[keep], label[keep].astype(np.int64), int(t)))
        return results

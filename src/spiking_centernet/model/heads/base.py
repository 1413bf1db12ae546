"""What every head is: branches on the decoder's levels, the output they make, its targets, loss and decoding.

A :class:`Head` is what a network does first; a :class:`PeakTask` is what it reads at the objects that the head found.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from spiking_centernet.calibration import Calibration
from spiking_centernet.errors import ConfigError
from spiking_centernet.model.config import AS_IT_IS, HeadConfig
from spiking_centernet.model.context import ForwardContext
from spiking_centernet.model.layers import ConvNeuron
from spiking_centernet.structures import Boxes, Detections

MIDDLE_PX = 40.0
"""Side in pixels of the cube of a box for which :func:`fitted_scores` has no correction by size."""

LOWEST_PEAK = 1e-6
"""Peaks count as at least this far from 0 and 1, where the logit ends."""

Output = TypeVar("Output", bound=tuple[Tensor, ...])
"""What a head answers with: a ``NamedTuple`` of tensors, averaged over the time steps."""


@dataclass(frozen=True)
class Branch:
    """A 3x3 convolution with its neurons and a 1x1 convolution on their spikes, on one level of the decoder.

    Attributes:
        out_channels: of the map that the branch gives.
        level: index of the decoder's level, the coarsest encoder stage first; -1 is the finest.
        bias: initial bias of the map, one value or one per channel; None leaves it to PyTorch.
        width: channels of the 3x3 convolution over ``head.width``.
    """

    out_channels: int
    level: int = -1
    bias: float | Sequence[float] | None = None
    width: int = 1


class BranchModule(nn.Module):
    """The layers of a :class:`Branch`; no neuron after the 1x1 convolution: real values.

    Args:
        width: channels of the block.
        out_channels: of the map.
        block: the 3x3 convolution and its neurons.
        readout_steps: how many of the last time steps the map is averaged over, 0 for all.
        learned_steps: number of time steps whose weights in the average are learned, 0 for equal weights.

    Attributes:
        virtual_steps: how many inputs of the batch axis the 1x1 convolution adds up to one, see ``unroll``.
    """

    virtual_steps: int = 1

    def __init__(
        self, width: int, out_channels: int, block: ConvNeuron, *, readout_steps: int = 0, learned_steps: int = 0
    ):
        super().__init__()
        self.block = block
        self.readout_steps = readout_steps
        self.out = nn.Conv2d(width, out_channels, 1)
        self.step_logits = nn.Parameter(torch.zeros(learned_steps)) if learned_steps else None

    def forward(self, x: Float[Tensor, "T N C h w"], context: ForwardContext) -> Float[Tensor, "A K h w"]:
        """Return the branch's map averaged over the time steps: A = B, or B for each of ``context.answers`` in turn.

        Raises:
            ConfigError: there are more steps than weights for them.
        """
        answers = context.answers
        spikes = self.block(x, context)[-self.readout_steps * answers :]
        out = self.out(spikes.flatten(0, 1)).float()
        out = out.unflatten(0, (answers, len(spikes) // answers, spikes.shape[1] // self.virtual_steps))
        if self.step_logits is None:
            return out.mean(1).flatten(0, 1)
        num_steps = out.shape[1]
        if num_steps > len(self.step_logits):
            raise ConfigError(
                f"head.step_weights='learned' has weights for {len(self.step_logits)} time steps, got {num_steps}; "
                "give windows of as many steps as in training"
            )
        weights = torch.softmax(self.step_logits[-num_steps:], 0)
        return torch.einsum("t,atbkhw->abkhw", weights, out).flatten(0, 1)


@dataclass(frozen=True)
class Loss:
    """A loss and its parts, each a scalar tensor before weighting.

    Attributes:
        total: what is minimized.
        parts: by the name under which they are logged.
    """

    total: Tensor
    parts: Mapping[str, Tensor]


@dataclass(frozen=True)
class Peaks:
    """The objects that a head found, best first.

    Attributes:
        xyxy: [B, N, 4] in input pixels.
        scores: [B, N] in [0, 1].
        labels: [B, N], index of the class.
        place: [B, N], flat output pixel ``y * w + x`` of the peak.
    """

    xyxy: Float[Tensor, "B N 4"]
    scores: Float[Tensor, "B N"]
    labels: Int[Tensor, "B N"]
    place: Int[Tensor, "B N"]


def fitted_scores(
    scores: Float[np.ndarray, "N"], xyxy: Float[np.ndarray, "N 4"], fit: Sequence[float]
) -> Float[np.ndarray, "N"]:
    """Return ``sigmoid(fit[0] + fit[1] logit(score) + fit[2] ln(side / 40 px))``, side being the root of the area.

    A heatmap's peak is not the probability that its box is right, and it is lower for large objects: so the scores of
    boxes of different sizes do not compare until they are fitted.

    Args:
        scores: of the peaks, in [0, 1].
        xyxy: their boxes in pixels of the cube.
        fit: three numbers, see ``DeploymentConfig.score_fit``; (0, 1, 0) returns the scores themselves.
    """
    if tuple(fit) == AS_IT_IS:
        return scores
    return (1 / (1 + np.exp(-fit_inputs(scores, xyxy) @ np.asarray(fit)))).astype(np.float32)


def fit_inputs(scores: Float[np.ndarray, "N"], xyxy: Float[np.ndarray, "N 4"]) -> Float[np.ndarray, "N 3"]:
    """Return what the numbers of a ``score_fit`` are multiplied with: 1, ``logit(score)``, ``ln(side / 40 px)``."""
    height = np.clip(scores.astype(np.float64), LOWEST_PEAK, 1 - LOWEST_PEAK)
    sides = np.maximum(xyxy[:, 2:] - xyxy[:, :2], 1).astype(np.float64)
    side = np.sqrt(sides.prod(axis=1))
    return np.stack([np.ones(len(side)), np.log(height / (1 - height)), np.log(side / MIDDLE_PX)], axis=1)


class PeakTask(ABC):
    """What a network learns about the objects that its head finds: one map, read at their peaks.

    Attributes:
        column: field of the output, and of :class:`Detections`, that it fills.
    """

    column: ClassVar[str]

    @property
    @abstractmethod
    def branch(self) -> Branch:
        """The branch that makes its map, named as its column is."""

    @abstractmethod
    def loss(
        self,
        output: Float[Tensor, "B D h w"],
        boxes: Sequence[Boxes],
        calibrations: Sequence[Calibration | None],
        index: Int[Tensor, "B M"],
        mask: Bool[Tensor, "B M"],
    ) -> Loss:
        """Return the loss of a batch.

        Args:
            output: its map.
            boxes: the boxes of every sample, pixels of the input.
            calibrations: the camera of every sample, None where unknown.
            index: [B, M], flat output pixel of every box's peak.
            mask: [B, M], True where a box has a peak.
        """

    @abstractmethod
    def decode(
        self, output: Float[Tensor, "B D h w"], peaks: Peaks, calibrations: Sequence[Calibration | None]
    ) -> np.ndarray:
        """Return its column float32 [B, N, ...] for the objects found.

        Args:
            output: its map.
            peaks: the objects.
            calibrations: the camera of every sample in pixels of the input, None where unknown.
        """

    def settle(
        self,
        column: np.ndarray,
        xyxy: Float[np.ndarray, "N 4"],
        scores: Float[np.ndarray, "N"],
        calibration: Calibration | None,
        size_hw: tuple[int, int],
    ) -> np.ndarray:
        """Return the column [N, ...] of one sample, changed by what its objects say of each other.

        Args:
            column: as decoded.
            xyxy: boxes in pixels, clipped to the frame.
            scores: in [0, 1].
            calibration: the camera, None where unknown.
            size_hw: height and width of the frame in pixels.
        """
        return column


class Head(ABC, Generic[Output]):
    """What a detector does with the decoder's levels: one task, without parameters of its own.

    The layers of its branches lie in :class:`~spiking_centernet.model.Detector`, so that whoever has raw outputs alone
    (a compiled detector, an exported file) decodes with the same head.

    Args:
        num_classes: how many classes are told apart.
        strides: input pixels per pixel of every level, the coarsest first.
        settings: of the head; None takes the paper's.
        tasks: what it reads at its objects, by the task's name.
        score_fit: how a peak's height and the size of its box become a score, see :func:`fitted_scores`.
    """

    is_dense: ClassVar[bool] = False
    """Whether the output is maps [B, K, h, w] of one size, the first of them the classes' logits.

    Such outputs can be averaged over steps, exported and distilled.
    """

    unbatched: ClassVar[frozenset[str]] = frozenset()
    """Fields of the output without a batch axis."""

    def __init__(
        self,
        num_classes: int,
        strides: Sequence[int],
        settings: HeadConfig | None = None,
        tasks: Mapping[str, PeakTask] | None = None,
        *,
        score_fit: Sequence[float] = AS_IT_IS,
    ):
        self.num_classes, self.strides = num_classes, tuple(strides)
        self.settings = HeadConfig() if settings is None else settings
        self.tasks = dict(tasks or {})
        self.score_fit = tuple(score_fit)

    @property
    def stride(self) -> int:
        """Input pixels per pixel of the finest level."""
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
    def loss(
        self,
        output: Output,
        boxes: Sequence[Boxes],
        calibrations: Sequence[Calibration | None] | None = None,
        *,
        task_weights: Mapping[str, float] | None = None,
    ) -> Loss:
        """Return the loss of a batch.

        Args:
            output: the network's.
            boxes: the boxes of every sample, pixels of the input.
            calibrations: the camera of every sample; None, and samples without one, teach no 3D box.
            task_weights: weight of a task's loss by its name; 1 where none is given.
        """

    @abstractmethod
    def decode(self, output: Output, *, max_detections: int = 100) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes [B, N, 4] in input pixels, scores [B, N] and labels [B, N], best first."""

    def decode_columns(
        self, output: Output, calibrations: Sequence[Calibration | None], *, max_detections: int
    ) -> tuple[Tensor, Tensor, Tensor, dict[str, np.ndarray]]:
        """Return what :meth:`decode` does and the other columns [B, N, ...] of the detections by name."""
        return *self.decode(output, max_detections=max_detections), {}

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
        calibrations: Sequence[Calibration | None] | None = None,
    ) -> list[Detections]:
        """Return the decoded detections of every sample, clipped to the frame, boxes without area dropped.

        Args:
            output: the network's output for B windows.
            t_us: exclusive end of every window in microseconds.
            size_hw: height and width of the frame in pixels.
            max_detections: at most this many per sample.
            min_score: detections below are dropped.
            calibrations: the camera of every sample in pixels of the frame; 3D boxes of samples without one are NaN.
        """
        cameras = [None] * len(t_us) if calibrations is None else calibrations
        *decoded, columns = self.decode_columns(output, cameras, max_detections=max_detections)
        boxes, scores, labels = (x.detach().cpu().numpy() for x in decoded)
        boxes[..., 0::2] = boxes[..., 0::2].clip(0, size_hw[1])
        boxes[..., 1::2] = boxes[..., 1::2].clip(0, size_hw[0])
        results = []
        for b, (xyxy, score, label, t) in enumerate(zip(boxes, scores, labels, t_us, strict=True)):
            score = fitted_scores(score, xyxy, self.score_fit)
            keep = (score >= max(min_score, 1e-6)) & (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
            if self.score_fit != AS_IT_IS:
                keep = (order := np.argsort(-score, kind="stable"))[keep[order]]
            # Before any box is dropped: where one stands must not depend on which are shown.
            for task in self.tasks.values():
                columns[task.column][b] = task.settle(columns[task.column][b], xyxy, score, cameras[b], size_hw)
            more = {name: column[b][keep] for name, column in columns.items()}
            results.append(Detections(xyxy[keep], score[keep], label[keep].astype(np.int64), int(t), **more))
        return results

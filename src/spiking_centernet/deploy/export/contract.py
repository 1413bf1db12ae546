"""What every exported file computes: cube and membranes in, raw heads and membranes out."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn

from spiking_centernet.errors import ExportError
from spiking_centernet.model import Detector, DetectorConfig, Head
from spiking_centernet.model.config import AS_IT_IS, HeadConfig, HeadKind, JointSides, JointUnits, Placing, Sizes
from spiking_centernet.model.context import State
from spiking_centernet.model.heads import make_detection_head

Run = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]
"""One call of an exported network: arrays by input name in, arrays by output name out."""


@dataclass(frozen=True)
class Contract:
    """Names and shapes of an exported network; all arrays are float32 and their shapes are fixed.

    Inputs are ``cube`` and one ``membrane_K`` a neuron layer, zero-initialized. Outputs are the raw heads, averaged
    over the call's steps, and one ``new_membrane_K`` a neuron layer for the next call.

    Attributes:
        size_hw: height and width of the cube in pixels.
        num_steps: time steps of a call.
        in_channels: channels of the cube.
        membrane_shapes: of every neuron layer, [1, C, h, w]; empty for an ANN.
        layers: the names of those layers.
        classes: what the heatmap's channels are called.
        stride: input pixels an output pixel.
        window_us: how long a whole window is.
        window_steps: time steps of a whole window, for which the network was trained.
        score_threshold: detections below are not shown by default.
        head_kind: what the outputs are, a name of ``HEADS``.
        sizes: whether CenterNet's size map holds widths and heights in output pixels or their logarithms.
        quality: exponent of the quality map in the score; 0: there is no such map.
        averaging: exponent of the heat by which the boxes around a peak are averaged; 0: they are not.
        readout_steps: how many of the last time steps of a window the maps are averaged over; None for all.
        tasks: what the network does, "detect" first.
        focal_px: focal length in pixels that depth is predicted for (task "detect3d").
        placing: whether 3D boxes stand at their own depths or on one level ground.
        joints: names of the joints (task "pose").
        joint_units: what the map of joints holds, offsets in output pixels or in the box's sides.
        joint_sides: whether a channel is a joint's, or that of its counterpart where that is further left.
        pose_classes: the classes that have joints.
        score_fit: how a peak's height and its box's size become a score, see ``heads.base.fitted_scores``.
    """

    size_hw: tuple[int, int]
    num_steps: int
    in_channels: int
    membrane_shapes: tuple[tuple[int, ...], ...]
    layers: tuple[str, ...]
    classes: tuple[str, ...]
    stride: int
    window_us: int
    window_steps: int
    score_threshold: float
    head_kind: HeadKind
    sizes: Sizes = "linear"
    quality: float = 0.0
    averaging: float = 0.0
    readout_steps: int | None = None
    tasks: tuple[str, ...] = ("detect",)
    focal_px: float = HeadConfig.focal_px
    placing: Placing = "free"
    joints: tuple[str, ...] = HeadConfig.joints
    joint_units: JointUnits = "cells"
    joint_sides: JointSides = "named"
    pose_classes: tuple[str, ...] = HeadConfig.pose_classes
    score_fit: tuple[float, ...] = AS_IT_IS

    @property
    def head(self) -> Head:
        """The head: its branches name the outputs, and it decodes them."""
        settings = HeadConfig(
            kind=self.head_kind, sizes=self.sizes, box_loss="giou" if self.quality else "l1", quality=self.quality,
            averaging=self.averaging, focal_px=self.focal_px, joints=self.joints, joint_units=self.joint_units,
            joint_sides=self.joint_sides, pose_classes=self.pose_classes, placing=self.placing,
        )  # fmt: skip
        return make_detection_head(self.tasks, self.classes, (self.stride,), settings, score_fit=self.score_fit)

    @property
    def shown_calls(self) -> int:
        """How many of the last calls of a window its maps are averaged over."""
        return max(1, (self.readout_steps or self.window_steps) // self.num_steps)

    @property
    def cube_shape(self) -> tuple[int, ...]:
        """[T, 1, C, H, W]."""
        return (self.num_steps, 1, self.in_channels, *self.size_hw)

    @property
    def input_names(self) -> list[str]:
        """``cube`` and the membranes, in the order of the file."""
        return ["cube", *(f"membrane_{k:02d}" for k in range(len(self.membrane_shapes)))]

    @property
    def output_names(self) -> list[str]:
        """The heads and the new membranes, in the order of the file."""
        return [*self.head.branches, *(f"new_membrane_{k:02d}" for k in range(len(self.membrane_shapes)))]

    def at_rest(self) -> dict[str, np.ndarray]:
        """Return zero-initialized membranes, by input name."""
        shapes = zip(self.input_names[1:], self.membrane_shapes, strict=True)
        return {name: np.zeros(shape, np.float32) for name, shape in shapes}

    def to_json(self) -> str:
        """Return everything as JSON, for the file's own metadata."""
        return json.dumps(asdict(self))


class StatefulNetwork(nn.Module):
    """A fused detector with plain tensors in and out, as exporters want it; inputs and outputs as in the contract."""

    def __init__(self, fused: Detector):
        super().__init__()
        self.network = fused
        self.layers = fused.neuron_names

    def forward(self, cube: Tensor, *membranes: Tensor) -> tuple[Tensor, ...]:
        """Return the heads and the new membranes."""
        state = dict(zip(self.layers, membranes, strict=True)) if membranes else None
        output, new_state = self.network(cube, state)
        return (*output, *_in_order(new_state, self.layers))


def _in_order(state: State, layers: Sequence[str]) -> list[Tensor]:
    """Return the membranes in the order in which their layers compute; none of an ANN."""
    return [state[name] for name in layers if name in state]


MEMORY = ("recurrent.kind", "head.readout_steps")
"""Settings in which a network with a memory differs from the paper's."""


def require_plain(config: DetectorConfig, *, but: Sequence[str] = ()) -> None:
    """Refuse what no exported file holds: variants of the network, and windows that count events.

    Args:
        config: of the network.
        but: settings in which it may differ from the paper's kind, dotted names.

    Raises:
        ExportError: it is one of them.
    """
    if config.classifies:
        raise ExportError(
            "files for other runtimes hold detectors alone; run a classifier by scn detect or scn.predict"
        )
    if differs := config.variations_but(*but):
        raise ExportError(f"networks with {differs} cannot be exported; run the detector itself")
    if config.voxels.num_events:
        raise ExportError(
            f"an exported file says its window in microseconds, this network's reach back {config.voxels.num_events} "
            "events; run the detector itself"
        )


def contract_of(model: Detector, size_hw: tuple[int, int], num_steps: int | None = None) -> Contract:
    """Return the contract of a detector for a sensor.

    Args:
        model: the detector, fused or not.
        size_hw: height and width of the cube in pixels.
        num_steps: time steps of a call, a divisor of the network's; None takes a whole window.

    Raises:
        ExportError: the size or the number of steps is impossible, or the detector is a variant of the network.
    """
    config = model.config
    require_plain(config, but=MEMORY)
    voxels, readout = config.voxels, config.head.readout_steps
    steps = voxels.num_steps if num_steps is None else num_steps
    if steps < 1 or voxels.num_steps % steps:
        raise ExportError(f"a window has {voxels.num_steps} steps; a call must take a divisor of that, got {steps}")
    if steps < readout and readout % steps:
        raise ExportError(
            f"the maps average the last {readout} steps; a call of fewer must take a divisor of that, got {steps}"
        )
    if min(size_hw) < 2 * config.stride:
        raise ExportError(f"size_hw must be at least {2 * config.stride} pixels each way, got {size_hw}")
    with torch.inference_mode():
        _, state = model(torch.zeros((1, 1, voxels.channels, *size_hw), device=next(model.parameters()).device))
    membranes = _in_order(state, model.neuron_names)
    return Contract(
        size_hw=size_hw, num_steps=steps, in_channels=voxels.channels,
        membrane_shapes=tuple(tuple(v.shape) for v in membranes),
        layers=tuple(model.neuron_names) if membranes else (), classes=config.classes, stride=config.stride,
        window_us=voxels.window_us, window_steps=voxels.num_steps, score_threshold=config.deployment.score_threshold,
        head_kind=config.head.kind, sizes=config.head.sizes, quality=config.head.quality, tasks=config.tasks,
        readout_steps=readout or None, focal_px=config.head.focal_px, joints=config.head.joints,
        joint_units=config.head.joint_units, joint_sides=config.head.joint_sides, pose_classes=config.head.pose_classes,
        score_fit=config.deployment.score_fit, averaging=config.head.averaging, placing=config.head.placing,
    )  # fmt: skip


def example_inputs(contract: Contract) -> tuple[Tensor, ...]:
    """Return tensors of the right shapes, for exporters that trace."""
    return (torch.zeros(contract.cube_shape), *(torch.zeros(shape) for shape in contract.membrane_shapes))


def run_torch(fused: Detector, contract: Contract) -> Run:
    """Return the reference: the fused detector itself, called as the exported file is."""
    network = StatefulNetwork(fused)

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            outputs = network(*(torch.from_numpy(inputs[name]) for name in contract.input_names))
        return dict(zip(contract.output_names, (x.numpy() for x in outputs), strict=True))

    return run


def run_window(run: Run, contract: Contract, cube: np.ndarray) -> list[dict[str, np.ndarray]]:
    """Return the outputs of every call of a window from zero-initialized state, membranes passed from call to call.

    Args:
        run: the network.
        contract: its contract.
        cube: [window_steps, C, H, W].
    """
    membranes = contract.at_rest()
    calls = []
    for part in np.split(cube[:, None].astype(np.float32), contract.window_steps // contract.num_steps):
        outputs = run({"cube": part, **membranes})
        membranes = {name: outputs[f"new_{name}"] for name in membranes}
        calls.append(outputs)
    return calls


def mean_heads(calls: Sequence[Mapping[str, np.ndarray]], contract: Contract) -> dict[str, np.ndarray]:
    """Return the head's maps averaged over the last calls of a window, as many as the contract says."""
    names, shown = contract.head.branches, calls[-contract.shown_calls :]
    return {name: np.stack([call[name] for call in shown]).mean(axis=0, dtype=np.float32) for name in names}

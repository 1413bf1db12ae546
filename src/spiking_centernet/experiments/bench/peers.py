"""The same network on other people's software: SpikingJelly, ONNX Runtime, OpenVINO. None is needed to use the package.

Every other runtime gets the weights of our detector and must give its output: :func:`agreement` is measured with
every time.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spiking_centernet.deploy.export.onnx import onnx_session, traced
from spiking_centernet.deploy.export.openvino import compile_openvino
from spiking_centernet.model import Detector
from spiking_centernet.model.graph import Combine, Cube, MaxPool, NeuronLayer, Node, Readout, graph_of, walk
from spiking_centernet.model.neurons import ILIF, PLIF

Run = Callable[[Tensor], list[Tensor]]
"""Takes a cube [T, B, C, H, W], returns heatmap, wh and offset."""

DISTRIBUTIONS = {"spikingjelly": "spikingjelly", "onnxruntime": "onnxruntime", "openvino": "openvino"}
"""Peer -> what has to be importable."""


def missing() -> dict[str, str]:
    """Return the peers that are not installed, each with the line that installs it."""
    group = "pip install --group bench (SpikingJelly with --no-deps: it asks for a torchvision that breaks a CPU torch)"
    return {name: group for name, module in DISTRIBUTIONS.items() if importlib.util.find_spec(module) is None}


class SpikingJellyDetector(nn.Module):
    """Our detector as a user of SpikingJelly 2 writes it: its layers in multi-step mode, nothing fused by hand.

    Args:
        model: whose architecture and weights it takes; as trained, or fused.
    """

    def __init__(self, model: Detector):
        super().__init__()
        graph = graph_of(model)
        self.nodes = graph.nodes
        self.outputs = [readout.name for readout in graph.readouts]
        computed = (node for node in graph.nodes if not isinstance(node, Cube | Combine))
        self.layers = nn.ModuleDict({_key(node): _jelly(model, node) for node in computed})

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the heads' outputs averaged over the steps."""
        outputs = walk(self.nodes, self._compute, x)
        return [outputs[name].float().mean(0) for name in self.outputs]

    def _compute(self, node: Node, x: Tensor, *others: Tensor) -> Tensor:
        if not isinstance(node, Combine):
            return self.layers[_key(node)](x)
        (skip,) = others
        height, width = skip.shape[-2:]
        up = F.interpolate(x.flatten(0, 1), scale_factor=2, mode="nearest")[..., :height, :width]
        return torch.cat([up.unflatten(0, x.shape[:2]), skip], 2)

    def rest(self) -> None:
        """Put every membrane to rest."""
        from spikingjelly.activation_based import functional

        functional.reset_net(self)


def _jelly_neuron(neuron: PLIF | ILIF) -> nn.Module:
    from spikingjelly.activation_based import neuron as jelly
    from spikingjelly.activation_based import surrogate

    if isinstance(neuron, ILIF):
        # Theirs is the paper's: a fixed leak that spares the input, and a straight-through gradient.
        assert not neuron.decay_input
        assert neuron.surrogate == "rectangle"
        assert neuron.q is not None
        return jelly.ILIFNode(
            tau=1 / float(neuron.q), v_threshold=neuron.threshold, detach_reset=neuron.detach_reset, step_mode="m",
            surrogate_function=surrogate.MultiLevelSpikeCount(neuron.levels),
        )  # fmt: skip
    node = jelly.ParametricLIFNode(
        init_tau=2.0, decay_input=neuron.decay_input, v_threshold=neuron.threshold,
        v_reset=None if neuron.soft_reset else 0.0, surrogate_function=surrogate.ATan(), detach_reset=True,
        step_mode="m",
    )  # fmt: skip
    node.w.data.copy_(neuron.w.detach())
    return node


def _jelly_conv(conv: nn.Conv2d) -> nn.Module:
    from spikingjelly.activation_based import layer

    made = layer.Conv2d(
        conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, groups=conv.groups,  # pyright: ignore
        bias=conv.bias is not None, step_mode="m",
    )  # fmt: skip
    made.load_state_dict(conv.state_dict())
    return made


def _jelly_norm(norm: nn.BatchNorm2d) -> nn.Module:
    from spikingjelly.activation_based import layer

    made = layer.BatchNorm2d(norm.num_features, eps=norm.eps, step_mode="m")
    made.load_state_dict(norm.state_dict())
    return made


def _key(node: Node) -> str:
    """Return the name of a node's module: PyTorch allows no dot in it."""
    return node.name.replace(".", "_")


def _jelly(model: Detector, node: Node) -> nn.Module:
    """Return SpikingJelly's layers for a node, with the detector's weights."""
    from spikingjelly.activation_based import layer

    if isinstance(node, MaxPool):
        return layer.MaxPool2d(3, 2, 1, step_mode="m")

    def module(name: str) -> Any:
        return model.get_submodule(name)

    if isinstance(node, Readout):
        return _jelly_conv(module(node.conv.name))
    assert isinstance(node, NeuronLayer)
    made: list[nn.Module] = [_Pad()] if node.pad else []
    for conv in node.convs:
        made.append(_jelly_conv(module(conv.name)))
        if conv.norm is not None:
            made.append(_jelly_norm(module(conv.norm)))
    return nn.Sequential(*made, _jelly_neuron(module(f"{node.name}.neuron")))


class _Pad(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (1, 1, 1, 1))


def spikingjelly(model: Detector, *, compiled: bool = False) -> Run:
    """Return a run of SpikingJelly on the network as trained, or through ``torch.compile``."""
    twin = SpikingJellyDetector(model).eval()
    call = torch.compile(twin) if compiled else twin

    def run(cube: Tensor) -> list[Tensor]:
        with torch.inference_mode():
            twin.rest()
            return call(cube.float())

    return run


class _Heads(nn.Module):
    """The fused detector with plain tensors in and out, float32 cubes, for exporters."""

    def __init__(self, model: Detector):
        super().__init__()
        self.model = model

    def forward(self, cube: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        output, _ = self.model(cube, keep_state=False)
        return output.heatmap, output.wh, output.offset


def write_onnx(model: Detector, cube: Tensor, path: Path) -> Path:
    """Write the fused detector for cubes of this shape as one ONNX file."""
    outputs = ("heatmap", "wh", "offset")
    path.write_bytes(traced(_Heads(model.fuse()), (cube.float(),), ("cube",), outputs).SerializeToString())
    return path


def onnx_runtime(path: Path, *, threads: int) -> Run:
    """Return a run of ONNX Runtime on its CPU backend."""
    session = onnx_session(path, threads)
    return lambda cube: _tensors(session.run(None, {"cube": cube.float().numpy()}))


def openvino(path: Path, *, threads: int) -> Run:
    """Return a run of OpenVINO in float32; left alone it would take bfloat16 where the CPU has it."""
    compiled = compile_openvino(path, threads)

    def run(cube: Tensor) -> list[Tensor]:
        found = compiled({0: cube.float().numpy()})
        return _tensors([found[i] for i in range(3)])

    return run


def _tensors(arrays: Any) -> list[Tensor]:
    return [torch.from_numpy(np.asarray(array)) for array in arrays]


def agreement(outputs: list[Tensor], reference: list[Tensor]) -> float:
    """Return the largest difference between two runs' outputs over the reference's standard deviation."""
    flat, expected = (torch.cat([t.flatten().float() for t in ts]) for ts in (outputs, reference))
    return float((flat - expected).abs().max() / expected.std().clamp_min(1e-12))

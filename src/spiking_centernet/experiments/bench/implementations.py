"""The implementations that are compared, ours and other runtimes: each a function from a cube to the heads' outputs.

Untrained networks that spike at a chosen rate: speed depends on it, and not every preset has weights yet.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from spiking_centernet.deploy.engine import compile as compile_engine
from spiking_centernet.deploy.engine.engine import compile_in_torch
from spiking_centernet.deploy.engine.quantize import reference
from spiking_centernet.experiments.bench import peers
from spiking_centernet.experiments.bench.peers import Run
from spiking_centernet.model import Detector, build
from spiking_centernet.model.layers import ConvNeuron

OURS: dict[str, dict[str, str]] = {
    "ours fp32 dense": {"precision": "fp32", "sparse": "never"},
    "ours fp32 auto": {"precision": "fp32", "sparse": "auto"},
    "ours bf16 dense": {"precision": "bf16", "sparse": "never"},
    "ours bf16 auto": {"precision": "bf16", "sparse": "auto"},
    "ours int8 dense": {"precision": "int8", "sparse": "never"},
    "ours int8 event-driven": {"precision": "int8", "sparse": "always"},
    "ours int8 auto": {"precision": "int8", "sparse": "auto"},
}
PEERS: dict[str, str] = {
    "SpikingJelly eager": "spikingjelly",
    "SpikingJelly eager, merged": "spikingjelly",
    "SpikingJelly compiled": "spikingjelly",
    "ONNX Runtime fp32": "onnxruntime",
    "OpenVINO fp32": "openvino",
}
"""Peer -> what it needs. SpikingJelly runs the network as trained; "merged" is what every other path computes."""

SLOW_TO_BUILD = ("SpikingJelly compiled",)


def names(*, slow: bool) -> list[str]:
    """Return everybody who can take part on this machine; ``slow`` includes those that take a minute to build."""
    gone = peers.missing()
    there = [name for name, needs in PEERS.items() if needs not in gone and (slow or name not in SLOW_TO_BUILD)]
    return [*OURS, *there]


def make(name: str, model: Detector, cube: Tensor, *, threads: int) -> Run:
    """Build one implementation for cubes of this shape.

    Args:
        name: one of ``names``.
        model: the detector whose int8 values, on power-of-two scales, everybody gets as weights, so that outputs must
            agree; ours in fp32 and bf16 and "SpikingJelly eager" compute with its float weights, as trained.
        cube: [T, B, C, H, W] uint8.
        threads: for runtimes that do not follow torch's.
    """
    torch.set_num_threads(threads)
    if name in OURS:
        engine = compile_engine(model, **OURS[name])

        def run(cube: Tensor) -> list[Tensor]:
            output, _ = engine(cube, keep_state=False)
            return [output.heatmap, output.wh, output.offset]

        return run
    if name == "SpikingJelly eager":
        return peers.spikingjelly(model)
    same = reference(model)
    if PEERS[name] == "spikingjelly":
        return peers.spikingjelly(same, compiled=name in SLOW_TO_BUILD)
    with tempfile.TemporaryDirectory() as folder:
        path = peers.write_onnx(same, cube, Path(folder) / "detector.onnx")
        open_file: Callable[..., Run] = peers.onnx_runtime if PEERS[name] == "onnxruntime" else peers.openvino
        return open_file(path, threads=threads)


def expected(name: str, model: Detector, cube: Tensor) -> list[Tensor]:
    """Return what an implementation must answer, computed eagerly in torch operations.

    Ours in int8 has a reference of its own, bit for bit; those that were given int8 values as float weights must equal
    the fused detector with these. With float weights a spike flips where rounding decides, and one flipped spike grows
    to percents at the heads of a random network: there the difference says nothing but that.
    """
    if "int8" in name:
        call = compile_in_torch(model)
    elif name in OURS or name == "SpikingJelly eager":
        call = model
    else:
        call = reference(model)
    with torch.inference_mode():
        output, _ = call(cube, keep_state=False)
    return [output.heatmap, output.wh, output.offset]


HALVINGS = 14
"""Steps of the search for each layer's bias: its range of 16 is known to a thousandth afterwards."""


def awake(preset: str, cube: Tensor, firing_rate: float, *, seed: int = 0, **changes) -> Detector:
    """Return a random detector in evaluation mode in which every layer spikes at the given rate on the given cube.

    Batch norms take the cube's statistics; then one bias for all channels of a layer is searched that makes the layer
    spike as asked, layer after layer.

    Args:
        preset: "nano", "small" or "paper".
        cube: [T, B, C, H, W].
        firing_rate: of every neuron layer.
        seed: of the weights.
        changes: single fields of the configuration.
    """
    torch.manual_seed(seed)
    model = build(preset, **changes).eval()
    steps = cube.shape[0]
    hooks = []
    for module in model.modules():
        if isinstance(module, ConvNeuron) and module.norm is not None:
            hooks.append(module.norm.register_forward_hook(_waker(module, steps, firing_rate)))
    watched = {block.norm for block in model.modules() if isinstance(block, ConvNeuron)}
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module not in watched:
            hooks.append(module.register_forward_hook(_settle))
    with torch.no_grad():
        model(cube)
    for hook in hooks:
        hook.remove()
    return model


def _settle(norm: nn.BatchNorm2d, inputs: tuple[Tensor], _: Tensor) -> Tensor:
    """Give a batch norm the statistics of what it sees; return its output with them."""
    y = inputs[0].float()
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(y.mean((0, 2, 3)))
    norm.running_var.copy_(y.var((0, 2, 3)).clamp_min(1e-3))
    return nn.functional.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)


def _waker(block: ConvNeuron, steps: int, firing_rate: float):
    def wake(norm: nn.BatchNorm2d, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        norm.bias.zero_()
        y = _settle(norm, inputs, output).unflatten(0, (steps, -1))
        low, high = -8.0, 8.0
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            spikes, _ = block.neuron(y + middle, None)
            low, high = (middle, high) if spikes.mean() < firing_rate else (low, middle)
        norm.bias.fill_((low + high) / 2)
        return (y + (low + high) / 2).flatten(0, 1)

    return wake

"""Untrained networks that fire at a chosen rate: speed depends on it, and not every preset has weights yet."""

import torch
from torch import Tensor, nn

from spiking_centernet.nn import Detector, build
from spiking_centernet.nn.blocks import ConvNeuron

HALVINGS = 14
"""Steps of the search for each layer's bias: its range of 16 is known to a thousandth afterwards."""


def awake(preset: str, cube: Tensor, firing_rate: float, *, seed: int = 0, **changes) -> Detector:
    """Return a random detector in evaluation mode in which every layer fires at the given rate on the given cube.

    Batch norms take the cube's statistics; then one bias for all channels of a layer is searched that makes the layer
    fire as asked, layer after layer.

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

"""A random network as it comes is dead after a few layers; one with set batch norms fires like a trained one."""

from functools import cache

import torch
from torch import Tensor, nn

from spiking_centernet.model import Detector, State, build
from spiking_centernet.model.neurons import PLIF, plif_step


def random_cube(size_hw=(97, 130), *, num_steps=5, batch=2, seed=0, density=0.25) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return (torch.rand(num_steps, batch, 4, *size_hw, generator=rng) < density).to(torch.uint8)


def calibrated(preset: str, cube: Tensor, *, seed=0, **changes) -> Detector:
    """Return a detector in evaluation mode whose batch norms hold the statistics of this cube."""
    torch.manual_seed(seed)
    model = build(preset, **changes).train()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        nn.init.uniform_(norm.weight, 1.5, 2.5)
        nn.init.uniform_(norm.bias, -0.2, 0.2)
    with torch.no_grad():
        model(cube)
    for norm in norms:
        norm.momentum = 0.1
    return model.eval()


@cache
def calibrated_nano(size_hw: tuple[int, int], *, batch=2, seed=0) -> Detector:
    """Return "nano", calibrated to a cube of this size: one for all who ask, so nobody may change it."""
    return calibrated("nano", random_cube(size_hw, batch=batch), seed=seed)


def spikes_of(model: Detector, cube: Tensor):
    """Return the output and every layer's spikes by name."""
    seen: dict[str, Tensor] = {}
    with torch.no_grad():
        output, _ = model(cube, observe=lambda name, s: seen.update({name: s.clone()}))
    assert list(seen) == model.neuron_names
    return output, seen


def equal_states(a: State, b: State) -> bool:
    """Return whether two states have the same membranes to the bit."""
    return a.keys() == b.keys() and all(torch.equal(v, b[name]) for name, v in a.items())


def potentials(x: Tensor, neuron: PLIF) -> Tensor:
    """Return the membranes [T, ...] before their reset for inputs [T, ...], from rest."""
    v, h = torch.zeros_like(x[0]), []
    for x_step in x:
        h.append(v + (x_step - v) * neuron.q)
        _, v = plif_step(x_step, v, neuron.q)
    return torch.stack(h)

"""A plain interpreter of NIR graphs, to check an exported file against the network without any simulator."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spiking_centernet.errors import ExportError


def run_nir(graph: Any, cube: np.ndarray, step_s: float) -> dict[str, np.ndarray]:
    """Return the output of every node at every step, from rest.

    ``v' = v + step / tau * (v_leak - v + r i)``, ``s = v' > threshold``, then ``v = v_reset`` where it fired: NIR's
    equations by Euler steps.

    Args:
        graph: nodes Input, Conv2d, LIF, IF, SumPool2d, Threshold, Output without loops.
        cube: [T, C, H, W].
        step_s: seconds a step.

    Raises:
        ExportError: the graph holds another node.
    """
    before = {name: [a for a, b in graph.edges if b == name] for name in graph.nodes}
    state: dict[str, Tensor] = {}
    steps = []
    with torch.inference_mode():
        for frame in torch.from_numpy(cube.astype(np.float32)):
            values: dict[str, Tensor] = {}
            for name in _in_order(before):
                x = frame[None] if not before[name] else torch.stack([values[p] for p in before[name]]).sum(0)
                values[name] = _step(name, graph.nodes[name], x, state, step_s)
            steps.append(values)
    return {name: torch.cat([values[name] for values in steps]).numpy() for name in before}


def _in_order(before: dict[str, list[str]]) -> list[str]:
    order: dict[str, None] = {}

    def visit(name: str) -> None:
        for source in before[name]:
            if source not in order:
                visit(source)
        order[name] = None

    for name in before:
        if name not in order:
            visit(name)
    return list(order)


def _step(name: str, node: Any, x: Tensor, state: dict[str, Tensor], step_s: float) -> Tensor:
    kind = type(node).__name__
    if kind in ("Input", "Output"):
        return x
    if kind == "Conv2d":
        stride, padding = (tuple(np.atleast_1d(v).tolist()) for v in (node.stride, node.padding))
        return F.conv2d(x, torch.as_tensor(node.weight), torch.as_tensor(node.bias), stride, padding)
    if kind == "SumPool2d":
        size, stride, padding = (
            tuple(np.atleast_1d(v).tolist()) for v in (node.kernel_size, node.stride, node.padding)
        )
        return F.avg_pool2d(x, size, stride, padding, divisor_override=1)
    if kind == "Threshold":
        return (x > torch.as_tensor(node.threshold)).float()
    if kind not in ("LIF", "IF"):
        raise ExportError(f"{name}: the checker knows no {kind}")
    v = state.get(name, torch.zeros_like(x))
    current, step = torch.as_tensor(node.r) * x, torch.tensor(step_s, dtype=torch.float32)
    if kind == "LIF":
        h = v + step / torch.as_tensor(node.tau) * (torch.as_tensor(node.v_leak) - v + current)
    else:
        h = v + step * current
    spikes = (h > torch.as_tensor(node.v_threshold)).float()
    state[name] = torch.where(spikes > 0, torch.as_tensor(node.v_reset), h)
    return spikes

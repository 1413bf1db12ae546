"""Whether a NIR file spikes as the network does, and which chips could hold it.

A plain interpreter of NIR graphs, to check an exported file against the network without any simulator.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spiking_centernet.deploy.export.chips import blockers
from spiking_centernet.deploy.export.contract import contract_of
from spiking_centernet.deploy.export.nir import STEP_S, from_phases, heads_of, nir_size, population
from spiking_centernet.deploy.export.parity import bundled_windows
from spiking_centernet.errors import ExportError, need
from spiking_centernet.model import Detector


@dataclass(frozen=True)
class NirReport:
    """What the check of a NIR file found.

    Attributes:
        num_windows: windows compared, each from zero-initialized state.
        size_hw: height and width of the input, whole cells of the coarsest stage.
        max_difference: largest absolute difference by head, of single steps.
        spikes_differing: share of neurons and steps that spike in one and not in the other.
        blockers: by family of chips, what its maker's document says it cannot hold.
    """

    num_windows: int
    size_hw: tuple[int, int]
    max_difference: dict[str, float]
    spikes_differing: float
    blockers: dict[str, list[str]]


def check_nir(
    model: Detector,
    path: Path,
    size_hw: tuple[int, int],
    *,
    cubes: Iterable[np.ndarray] | None = None,
    step_s: float = STEP_S,
) -> NirReport:
    """Read a NIR file back, run it by NIR's own equations, and compare every spike with the network's.

    Args:
        model: the detector that was written.
        path: the file.
        size_hw: height and width of the sensor.
        cubes: windows [T, C, H, W] of the size of :func:`nir_size`; None takes those of the bundled recording.
        step_s: seconds a step, as written.

    Raises:
        ExportError: there is no window.
        MissingPackageError: nir is not installed.
    """
    graph = need("nir", "reading NIR", "nir").read(path)
    fused, padded_hw = model.fuse().cpu(), nir_size(model.config, size_hw)
    largest: dict[str, float] = dict.fromkeys(model.head.branches, 0.0)
    num_windows = differing = compared = 0
    for cube in bundled_windows(contract_of(fused, padded_hw)) if cubes is None else cubes:
        num_windows += 1
        spikes, heads = every_step(fused, cube)
        values = run_nir(graph, cube, step_s)
        for name, expected in spikes.items():
            phases = round((expected[0, 0].size / values[name][0, 0].size) ** 0.5)
            differing += int((from_phases(values[name], phases) != expected).sum())
            compared += expected.size
        for name, expected, found in zip(largest, heads, heads_of(values["output"], model.config), strict=True):
            largest[name] = max(largest[name], float(np.abs(found - expected).max()))
    if not num_windows:
        raise ExportError("there is no window to compare on; give a recording that holds events")
    return NirReport(num_windows, padded_hw, largest, differing / compared, blockers(graph))


def every_step(fused: Detector, cube: np.ndarray) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Return every layer's spikes [T, C, h, w] by the name of its NIR population, and the raw heads of every step."""
    spikes: dict[str, list[Tensor]] = {population(name): [] for name in fused.neuron_names}
    heads = []
    state = None
    with torch.inference_mode():
        for frame in torch.from_numpy(cube)[:, None, None]:
            output, state = fused(frame, state, observe=lambda name, s: spikes[population(name)].append(s))
            heads.append(output)
    by_name = {name: torch.cat(parts).numpy() for name, parts in spikes.items()}
    return by_name, [torch.cat(parts).numpy() for parts in zip(*heads, strict=True)]


def run_nir(graph: Any, cube: np.ndarray, step_s: float) -> dict[str, np.ndarray]:
    """Return the output of every node at every step, from zero-initialized state.

    ``v' = v + step / tau * (v_leak - v + r i)``, ``s = v' > threshold``, then ``v = v_reset`` where it spiked: NIR's
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

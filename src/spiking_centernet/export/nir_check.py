"""Whether a NIR file spikes as the network does, and which chips could hold it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spiking_centernet.errors import ExportError, need
from spiking_centernet.export.chips import blockers
from spiking_centernet.export.contract import HEADS, contract_of
from spiking_centernet.export.nir_run import run_nir
from spiking_centernet.export.parity import shipped_windows
from spiking_centernet.export.phases import from_phases
from spiking_centernet.export.to_nir import STEP_S, heads_of, nir_size
from spiking_centernet.nn import Detector


@dataclass(frozen=True)
class NirReport:
    """What the check of a NIR file found.

    Attributes:
        num_windows: windows compared, each from rest.
        size_hw: height and width of the input, whole cells of the coarsest stage.
        max_difference: largest absolute difference by head, of single steps.
        spikes_differing: share of neurons and steps that fire in one and not in the other.
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
        cubes: windows [T, C, H, W] of the size of :func:`nir_size`; None takes those of the shipped recording.
        step_s: seconds a step, as written.

    Raises:
        ExportError: there is no window.
        MissingPackageError: nir is not installed.
    """
    graph = need("nir", "reading NIR", "nir").read(path)
    fused, padded_hw = model.fuse().cpu(), nir_size(model.config, size_hw)
    largest: dict[str, float] = dict.fromkeys(HEADS, 0.0)
    num_windows = differing = compared = 0
    for cube in shipped_windows(contract_of(fused, padded_hw)) if cubes is None else cubes:
        num_windows += 1
        spikes, heads = every_step(fused, cube)
        values = run_nir(graph, cube, step_s)
        for name, expected in spikes.items():
            phases = round((expected[0, 0].size / values[name][0, 0].size) ** 0.5)
            differing += int((from_phases(values[name], phases) != expected).sum())
            compared += expected.size
        for name, expected, found in zip(HEADS, heads, heads_of(values["output"], model.config), strict=True):
            largest[name] = max(largest[name], float(np.abs(found - expected).max()))
    if not num_windows:
        raise ExportError("there is no window to compare on; give a recording that holds events")
    return NirReport(num_windows, padded_hw, largest, differing / compared, blockers(graph))


def every_step(fused: Detector, cube: np.ndarray) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Return every layer's spikes [T, C, h, w] by the name of its NIR population, and the raw heads of every step."""
    layers: list[list[Tensor]] = []
    heads = []
    state = None
    with torch.inference_mode():
        for frame in torch.from_numpy(cube)[:, None, None]:
            seen: list[Tensor] = []
            output, state = fused(frame, state, observe=seen.append)
            layers.append(seen)
            heads.append(output)
    names = [name.removesuffix(".block") for name in fused.neuron_names]
    steps = zip(names, zip(*layers, strict=True), strict=True)
    spikes = {name: torch.cat(parts).numpy() for name, parts in steps}
    return spikes, [torch.cat(parts).numpy() for parts in zip(*heads, strict=True)]

"""Whether a written file computes what the network computes, on windows of real events."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from spiking_centernet.data import FolderDataset, Recording
from spiking_centernet.data import open as open_recording
from spiking_centernet.deploy.export.contract import Contract, Run, mean_heads, run_window
from spiking_centernet.errors import ExportError
from spiking_centernet.evaluation.metrics import FrameKey, Protocol
from spiking_centernet.evaluation.prediction import Predictions
from spiking_centernet.structures import Boxes, Detections, VoxelSpec
from spiking_centernet.utils.progress import track

MEMBRANE_TOLERANCE = 1e-3
"""Membranes that differ by more are counted: rounding moves them by some 1e-6, a flipped spike by tenths."""


@dataclass(frozen=True)
class Parity:
    """How far a file's outputs lie from the network's.

    Attributes:
        num_windows: windows compared, each from zero-initialized state.
        max_difference: largest absolute difference by head, averaged over the window's steps.
        spikes_differing: share of neurons that spiked in one and not in the other in the last step of a call, read from
            the reset of their membranes; None without a hard reset.
        membranes_differing: share of membranes that differ by more than ``MEMBRANE_TOLERANCE``; None without membranes.
    """

    num_windows: int
    max_difference: dict[str, float]
    spikes_differing: float | None
    membranes_differing: float | None


def compare(reference: Run, run: Run, contract: Contract, cubes: Iterable[np.ndarray], *, hard_reset: bool) -> Parity:
    """Run the same windows through the network and the file.

    Args:
        reference: the network.
        run: the file.
        contract: of both.
        cubes: windows [window_steps, C, H, W].
        hard_reset: a neuron that spiked has a membrane of exactly 0.

    Raises:
        ExportError: there is no window.
    """
    largest: dict[str, float] = dict.fromkeys(contract.head.branches, 0.0)
    num_windows = num_membranes = flipped = moved = 0
    for cube in cubes:
        num_windows += 1
        expected, found = (run_window(network, contract, cube) for network in (reference, run))
        means = mean_heads(expected, contract), mean_heads(found, contract)
        for name in largest:
            largest[name] = max(largest[name], float(np.abs(means[0][name] - means[1][name]).max()))
        for ours, theirs in zip(expected, found, strict=True):
            for name in contract.output_names[len(largest) :]:
                num_membranes += ours[name].size
                apart = np.abs(ours[name] - theirs[name]) > MEMBRANE_TOLERANCE
                moved += int(apart.sum())
                # A membrane of 1e-9 in one and 0 in the other is rounding, no spike.
                flipped += int((apart & ((ours[name] == 0) != (theirs[name] == 0))).sum())
    if not num_windows:
        raise ExportError("there is no window to compare on; give a recording that holds events")
    return Parity(
        num_windows,
        largest,
        flipped / num_membranes if num_membranes and hard_reset else None,
        moved / num_membranes if num_membranes else None,
    )


def score(
    run: Run,
    contract: Contract,
    dataset: FolderDataset,
    *,
    protocol: str | Protocol = "prophesee",
) -> float:
    """Return the AP of an exported network on a split, one window at a time.

    Raises:
        ExportError: the recordings have another size than the contract.
        ConfigError: unknown protocol.
    """
    truth: dict[FrameKey, Boxes] = {}
    found: dict[FrameKey, Detections] = {}
    for k in track(range(len(dataset)), "scoring"):
        sample = dataset[k]
        size_hw = (int(sample.cube.shape[-2]), int(sample.cube.shape[-1]))
        if size_hw != contract.size_hw:
            raise ExportError(
                f"{sample.recording} is {size_hw} and the file takes {contract.size_hw}; export that size"
            )
        maps = mean_heads(run_window(run, contract, sample.cube.numpy()), contract)
        output = contract.head.output({name: torch.from_numpy(values) for name, values in maps.items()})
        key = sample.recording, sample.t_us
        truth[key] = sample.boxes
        found[key] = contract.head.detections(
            output, [sample.t_us], size_hw=size_hw, calibrations=[sample.calibration]
        )[0]
    return Predictions(truth, found, contract.size_hw, contract.classes).score(protocol).ap


def bundled_windows(contract: Contract, every_us: int = 50_000) -> Iterator[np.ndarray]:
    """Yield windows of the real recording bundled with the package; see :func:`windows_of`."""
    folder = Path(str(resources.files("spiking_centernet") / "assets" / "icns_roadside_cars"))
    return windows_of(open_recording(folder / "icns_roadside_cars_td.dat"), contract, every_us)


def windows_of(recording: Recording, contract: Contract, every_us: int = 50_000) -> Iterator[np.ndarray]:
    """Yield cubes [window_steps, C, H, W] of a recording, its top left corner cut or padded to the contract's size."""
    height, width = contract.size_hw
    spec = VoxelSpec(contract.window_us, contract.window_steps, contract.in_channels // 2)
    for stop_us, whole in recording.cubes(recording.stops_us(every_us), spec):
        if stop_us - contract.window_us >= recording.stop_us:
            return
        cube = whole.numpy()[..., :height, :width]
        yield np.pad(cube, ((0, 0), (0, 0), (0, height - cube.shape[-2]), (0, width - cube.shape[-1])))

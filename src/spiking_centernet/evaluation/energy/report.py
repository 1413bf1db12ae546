"""What an answer costs on a split: operations, firing, energy by every model, measured joules."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from spiking_centernet.data import FolderDataset, Recording, collate
from spiking_centernet.data import open as open_recording
from spiking_centernet.errors import ConfigError
from spiking_centernet.evaluation.energy import (
    MODELS,
    EnergyMeter,
    Joules,
    NeuroBench,
    NoMeter,
    OperationCounter,
    Operations,
    find_counter,
    neurobench,
    published,
    what_follows,
)
from spiking_centernet.evaluation.energy import break_evens as break_evens_of
from spiking_centernet.evaluation.energy.models import LITERATURE_BREAK_EVEN, Breakdown, BreakEven
from spiking_centernet.evaluation.prediction import dataset_for
from spiking_centernet.model import Detector
from spiking_centernet.model.context import State
from spiking_centernet.model.firing_rate import kept_spikes
from spiking_centernet.model.stepping import Mode, choose_mode, readout_steps_of, steps_spec
from spiking_centernet.structures import Batch, VoxelSpec
from spiking_centernet.utils.progress import track
from spiking_centernet.utils.provenance import collect_provenance, write_json


@dataclass(frozen=True)
class Costs:
    """What an answer costs a detector, fused for inference.

    Attributes:
        mode: "windowed": an answer is computed from a window of its own; "stateful": from the steps since the answer
            before, which stand for a window in whatever is counted.
        split: name of the split.
        recordings: how many it has.
        spiking: whether the neurons spike; an ANN counterpart's "firing rates" are shares of outputs that are not zero.
        operations: counted on every labeled frame, or on all of every recording.
        breakdowns: picojoules of a window, by energy model.
        break_evens: against the equal quantized ANN; empty unless fully spiking.
        neurobench: NeuroBench's metrics.
        joules: measured energy, or why there is none.
    """

    mode: Literal["windowed", "stateful"]
    split: str
    recordings: int
    spiking: bool
    operations: Operations
    breakdowns: Mapping[str, Breakdown]
    break_evens: Sequence[BreakEven]
    neurobench: NeuroBench
    joules: Joules | NoMeter

    @property
    def unit(self) -> str:
        """What is counted as a window, in a word."""
        return "window" if self.mode == "windowed" else "answer"

    @property
    def each(self) -> str:
        """What numbers are said of: "a window" or "an answer"."""
        return f"{'a' if self.unit == 'window' else 'an'} {self.unit}"

    @property
    def verdict(self) -> str:
        """In words: whether the network is fully spiking, and on which side of break-even it stands."""
        ops = self.operations
        if not ops.fully_spiking:
            real = [layer for layer in ops.convolutions if not layer.binary]
            text = f"Not fully spiking: {real[0].name} is the first layer that receives other values than 0 and 1"
            if len(real) == 1 and self.spiking:
                millions = real[0].dense / ops.num_windows / 1e6
                text += f": {millions:.1f} M multiply-accumulates {self.each}; every other layer adds"
            return text + "."
        comparisons = []
        for even in self.break_evens:
            side = "less" if even.is_cheaper else "more"
            if even.rate is not None:
                where = f"break-even at {even.rate:.1%}"
            else:
                where = "nothing spikes" if even.is_cheaper else "even in silence it would cost more"
            comparisons.append(f"by {even.model} it costs {side} than the equal ANN ({where})")
        return (
            f"Fully spiking at a firing rate of {ops.rate:.1%}: {'; '.join(comparisons)}. The literature puts "
            f"break-even for 5 steps at {LITERATURE_BREAK_EVEN:.1%} (arXiv 2409.08290)."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; energies in microjoules a window."""
        ops = self.operations
        windows = ops.num_windows
        return {
            "mode": self.mode,
            "split": self.split,
            "recordings": self.recordings,
            "windows": windows,
            "num_steps": ops.num_steps,
            "spiking": self.spiking,
            "fully_spiking": ops.fully_spiking,
            "first_not_binary": ops.first_not_binary,
            "firing_rate": ops.rate,
            "per_window": {
                "dense": ops.dense / windows,
                "dense_with_padding": ops.padded / windows,
                "synaptic": ops.synaptic / windows,
                "membrane_updates": sum(n.updates for n in ops.neurons if n.adds) / windows,
            },
            "energy_uj_per_window": {
                name: {"total": breakdown.total() * 1e-6, **dataclasses.asdict(breakdown * 1e-6)}
                for name, breakdown in self.breakdowns.items()
            },
            "break_even": [dataclasses.asdict(even) for even in self.break_evens],
            "break_even_literature": LITERATURE_BREAK_EVEN,
            "neurobench": dataclasses.asdict(self.neurobench),
            "joules": dataclasses.asdict(self.joules),
            "convolutions": [dataclasses.asdict(layer) for layer in ops.convolutions],
            "neurons": [{**dataclasses.asdict(layer), "firing_rate": layer.rate} for layer in ops.neurons],
            "published": [
                {**dataclasses.asdict(row), "dense_mj": row.dense_mj, "scaled_mj": row.scaled_mj,
                 "printed_is": row.printed_is}
                for row in published()
            ],
            "what_follows": what_follows(published()),
        }  # fmt: skip


def costs(
    model: Detector,
    data: str | os.PathLike[str],
    *,
    split: str = "test",
    mode: Mode = "auto",
    batch_size: int = 8,
    measure_s: float = 60.0,
) -> Costs:
    """Count what a detector does on a split, and measure joules where the machine counts them.

    Args:
        model: the detector; it is fused for inference here and left unchanged.
        data: folder that holds the splits.
        split: name of the split.
        mode: "windowed" counts the window of every labeled frame, from zero-initialized state; "stateful" counts every
            recording from its start to its end, the state carried from answer to answer as a stream does, an answer
            every ``head.readout_steps``; "auto" is stateful for a network with a memory.
        batch_size: windows at a time.
        measure_s: most seconds to measure joules for, next to the idle machine's and the repeats that a spread needs;
            0 does not measure.

    Raises:
        DatasetError: the folder does not hold what it should.
        ConfigError: the recordings' sizes differ, ``measure_s`` is negative or ``batch_size`` not positive, or the mode
            is impossible.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1 window, got {batch_size}")
    if not measure_s >= 0:
        raise ConfigError(f"measure_s must be 0 or more seconds, got {measure_s}")
    chosen = choose_mode(mode, model)
    dataset = dataset_for(model, data, split)
    fused = model.fuse()
    counter = OperationCounter(fused)
    if chosen == "stateful":
        cube, state = _count_recordings(counter, dataset, answer_spec(model), model.device)
    else:
        cube, state = _count_windows(counter, dataset, batch_size, model.device), None
    operations = counter.result()
    return Costs(
        mode=chosen,
        split=split,
        recordings=len(dataset.recordings),
        spiking=model.config.neuron.is_spiking,
        operations=operations,
        breakdowns={name: energy_of(operations) for name, energy_of in MODELS.items()},
        break_evens=break_evens_of(operations),
        neurobench=neurobench(fused, operations),
        joules=measured(fused, cube, state, limit_s=measure_s),
    )


def answer_spec(model: Detector) -> VoxelSpec:
    """Return how the steps between two answers of a network that carries its state along are cut."""
    return steps_spec(model.config.voxels, readout_steps_of(model.config))


def _count_windows(counter: OperationCounter, dataset: FolderDataset, batch_size: int, device: torch.device) -> Tensor:
    """Count the window of every labeled frame; return the first batch."""
    loader = DataLoader(dataset, batch_size, collate_fn=collate)  # pyright: ignore
    first: Tensor | None = None
    batch: Batch
    for batch in track(loader, "counting"):
        cube = batch.cube.to(device)
        first = cube if first is None else first
        counter(cube)
    assert first is not None
    return first


def _count_recordings(
    counter: OperationCounter, dataset: FolderDataset, spec: VoxelSpec, device: torch.device
) -> tuple[Tensor, State | None]:
    """Count every recording from its start to its end; return the steps of the last answer and the state before."""
    last: tuple[Tensor, State | None] | None = None
    for labeled in track(dataset.recordings, "counting"):
        recording = open_recording(labeled.path, size_hw=dataset.size_hw)
        state: State | None = None
        for window in recording.windows(spec.window_us, spec.window_us):
            last = recording.cube(window.stop_us, spec)[:, None].to(device), state
            state = counter.carry_on(*last)
    if last is None:
        raise ConfigError(f"{dataset.folder}: the recordings hold no events, so nothing is computed")
    return last


def measured(fused: Detector, cube: Tensor, state: State | None = None, *, limit_s: float) -> Joules | NoMeter:
    """Return the joules of a window on the device the detector lies on, or why they cannot be told.

    Args:
        fused: the detector, fused.
        cube: windows [T, B, C, H, W] on its device; they are detected in again and again.
        state: from which to begin each time; None begins with a zero-initialized one and keeps none.
        limit_s: most seconds to take.
    """
    if not limit_s:
        return NoMeter("not measured: measure_s is 0")
    counter = find_counter(str(cube.device))
    if isinstance(counter, NoMeter):
        return counter

    def work() -> None:
        with torch.inference_mode():
            fused(cube, state, keep_state=state is not None)
        if cube.is_cuda:
            torch.cuda.synchronize(cube.device)

    try:
        return EnergyMeter(counter=counter, limit_s=limit_s).measure(work, windows=cube.shape[1])
    except OSError as error:
        return NoMeter(f"not measured: {counter.source} stopped answering ({error})")


def save(found: Costs, out: str | os.PathLike[str], *, notes: Mapping[str, Any] | None = None) -> Path:
    """Write ``energy.json`` into a folder and return its path.

    Args:
        found: what :func:`costs` returned.
        out: the folder.
        notes: what else to put in, plain values.
    """
    return write_json(
        Path(out) / "energy.json", {**found.to_dict(), **(notes or {}), "provenance": collect_provenance()}
    )


@dataclass(frozen=True)
class ClipActivity:
    """Where and when the layers spike over a recording.

    Attributes:
        where: by layer, share of steps and channels in which a position spiked, float64 [h, w].
        when: by layer, share of neurons that spiked at every step, float64 [steps].
        events: events at every step, int64 [steps].
        step_us: length of a step.
        start_us: when the first step begins.
        carried: whether the state was carried along; else every window started from a zero-initialized one.
    """

    where: Mapping[str, np.ndarray]
    when: Mapping[str, np.ndarray]
    events: np.ndarray
    step_us: float
    start_us: int
    carried: bool


def clip_activity(model: Detector, recording: Recording, *, mode: Mode = "auto", max_windows: int = 20) -> ClipActivity:
    """Return where and when the layers spike over the first windows of a recording, one after the other.

    Args:
        model: the detector; it is fused here and left unchanged.
        recording: any recording.
        mode: "windowed": every window starts from zero-initialized state; "stateful": a window is what lies between two
            answers, and the state is carried along; "auto" is stateful for a network with a memory.
        max_windows: how many windows to look at.

    Raises:
        ConfigError: the recording holds no events, or the mode is impossible.
    """
    carried = choose_mode(mode, model) == "stateful"
    fused, device = model.fuse(), model.device
    state: State | None = None
    where: dict[str, Tensor] = {}
    when: dict[str, list[Tensor]] = {name: [] for name in fused.neuron_names}
    events: list[int] = []
    starts: list[int] = []
    voxels = answer_spec(model) if carried else model.config.voxels
    for window in recording.windows(voxels.window_us, voxels.window_us):
        if len(starts) == max_windows:
            break
        starts.append(window.start_us)
        cube = recording.cube(window.stop_us, voxels)

        def see(name: str, spikes: Tensor) -> None:
            fired = kept_spikes(spikes, fused.max_spikes).float() / fused.max_spikes
            here = fired.mean((0, 1)).double().cpu()
            where[name] = where[name] + here if name in where else here
            when[name].append(fired.mean((1, 2, 3)).double().cpu())

        with torch.inference_mode():
            _, state = fused(cube[:, None].to(device), state if carried else None, observe=see, keep_state=carried)
        at = (window.events["t"] - window.start_us) / voxels.step_us
        events.extend(np.bincount(at.astype(int), minlength=voxels.num_steps).tolist())
    if not starts:
        raise ConfigError(f"{recording.path}: holds no events, so nothing spikes")
    return ClipActivity(
        where={name: (total / len(starts)).numpy() for name, total in where.items()},
        when={name: torch.cat(parts).numpy() for name, parts in when.items()},
        events=np.array(events, np.int64),
        step_us=voxels.step_us,
        start_us=starts[0],
        carried=carried,
    )

"""What the fuzzers feed: every reader, configuration and weight loader as a function of bytes.

A target returns whatever comes of the bytes, or raises an error of the package; anything else is a bug.
"""

import json
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import fuzz_labels
import fuzz_pictures
import fuzz_recordings
import fuzz_runs
import fuzz_tasks
import numpy as np
import torch
from fuzz_files import file, folder, some_events

from spiking_centernet.data import (
    CORRUPTIONS,
    boxes_at,
    clean_boxes,
    corrupt,
    label_timestamps,
    read_boxes,
    voxelize,
    write_boxes,
    write_dat,
)
from spiking_centernet.data import open as open_recording
from spiking_centernet.errors import SpikingCenterNetError
from spiking_centernet.model import build, config_dict, weights
from spiking_centernet.simulate.dataset import Clips, simulate
from spiking_centernet.structures import BOX_DTYPE, EVENT_DTYPE, VoxelSpec
from spiking_centernet.training.config import read_recipe
from spiking_centernet.training.run_dir import read_metrics


def dat(data: bytes) -> int:
    recording = open_recording(file(data, "a_td.dat"))
    if not recording.num_events:
        return 0
    events = recording.read()
    assert (np.diff(events["t"]) >= 0).all()
    assert events["x"].max() < recording.size_hw[1]
    assert events["y"].max() < recording.size_hw[0]
    if recording.size_hw[0] * recording.size_hw[1] <= 1 << 20:  # larger ones are slow, not different
        recording.cube(recording.stop_us, VoxelSpec(1000, num_steps=1, bins=1))
    return len(events)


def boxes(data: bytes) -> int:
    found = read_boxes(file(data, "a_bbox.npy"))
    for name in ("x", "y", "w", "h", "confidence"):
        assert np.isfinite(found[name]).all()
    kept = clean_boxes(found, (240, 304))
    timestamps = label_timestamps(kept)
    assert (timestamps >= 0).all()
    return sum(len(boxes_at(kept, int(t_us))) for t_us in timestamps[:3])


def weight_file(data: bytes) -> str:
    model = weights.load(file(data, "a.safetensors"))
    return model.config.neuron.kind


def recipe(data: bytes) -> dict:
    return read_recipe(file(data, "a.yaml"))


def network(data: bytes) -> object:
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return config_dict.config_from_dict(values)


def metrics(data: bytes) -> list:
    return read_metrics(file(data, "metrics.csv"))


def simulation(data: bytes) -> object:
    file(data, "simulation.json")
    return simulate(folder(), clips=Clips(train=0, val=0, test=0), workers=1)


def event_array(data: bytes) -> torch.Tensor:
    """The first 32 bytes are the window, the size and the settings; the others are events."""
    head = np.frombuffer(data[:32].ljust(32, b"\0"), "<i8,<i8,<i2,<i2,<i2,<i2,<i4,<i4")[0].tolist()
    start_us, stop_us, height, width, num_steps, bins = head[:6]
    events = np.frombuffer(data[32 : 32 + (len(data) - 32) // 13 * 13] if len(data) > 45 else b"", EVENT_DTYPE)
    size_hw = (height % 64, width % 64)
    spec = VoxelSpec(stop_us - start_us, num_steps % 4096, bins % 4096)
    return voxelize(events, stop_us=stop_us, size_hw=size_hw, spec=spec)


def corruption(data: bytes) -> np.ndarray:
    start_us, name, severity = (int(v) for v in np.frombuffer(data[:10].ljust(10, b"\0"), "<i8,u1,u1")[0].tolist())
    events = np.frombuffer(data[10 : 10 + (len(data) - 10) // 13 * 13] if len(data) > 23 else b"", EVENT_DTYPE)
    events = events[np.argsort(events["t"], kind="stable")]
    names = list(CORRUPTIONS)
    return corrupt(
        events, names[name % len(names)], severity, size_hw=(64, 64), start_us=start_us, stop_us=start_us + 100_000
    )


TARGETS: dict[str, Callable[[bytes], object]] = {
    target.__name__: target
    for target in (
        dat,
        boxes,
        weight_file,
        recipe,
        network,
        metrics,
        simulation,
        event_array,
        corruption,
        *fuzz_recordings.RECORDINGS,
        *fuzz_labels.LABELS,
        *fuzz_runs.RUNS,
        fuzz_tasks.task_labels,
        fuzz_pictures.pictures,
    )
}
"""Every reader that is fuzzed by default."""

LIBRARIES: dict[str, Callable[[bytes], object]] = {target.__name__: target for target in fuzz_recordings.LIBRARIES}
"""Targets that another library may not survive, whatever this package does: they run when named."""


def run(name: str, data: bytes) -> bool:
    """Feed one input; return whether it was refused.

    Raises:
        whatever is not an error of the package: a bug.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        # numpy's word for numbers that do not fit their type.
        warnings.simplefilter("error", RuntimeWarning)
        try:
            (TARGETS | LIBRARIES)[name](data)
        except SpikingCenterNetError:
            return True
    return False


@cache
def seeds(name: str) -> list[bytes]:
    """Return valid inputs of a target, for a fuzzer to damage."""
    where = Path(tempfile.mkdtemp(dir=folder()))
    if name in [target.__name__ for target in fuzz_recordings.RECORDINGS + fuzz_recordings.LIBRARIES]:
        return fuzz_recordings.seeds(name, where)
    if name in [target.__name__ for target in fuzz_labels.LABELS]:
        return fuzz_labels.seeds(name)
    if name in [target.__name__ for target in fuzz_runs.RUNS]:
        return fuzz_runs.seeds(name)
    if name == "task_labels":
        return fuzz_tasks.seeds()
    if name == fuzz_pictures.pictures.__name__:
        return fuzz_pictures.seeds()
    if name == "dat":
        write_dat(where / "a.dat", some_events(40), (24, 40))
        whole = (where / "a.dat").read_bytes()
        records = whole[-8 * 40 :]
        return [whole, records, b"% Version 1\n\x0c\x08" + records, b"% Height 24\n% Width 40\n\x00\x08" + records]
    if name == "boxes":
        some = np.zeros(3, BOX_DTYPE)
        some["ts"], some["w"], some["h"], some["track_id"] = (1, 1, 2), 9, 8, (1, 2, 1)
        write_boxes(where / "a.npy", some)
        return [(where / "a.npy").read_bytes()]
    if name == "weight_file":
        torch.manual_seed(0)
        small = build(
            "nano", encoder={"widths": (2, 2), "convs_per_stage": 1}, decoder={"num_blocks": 1}, head={"width": 2}
        )
        return [weights.save(small, where / "a").read_bytes()]
    if name == "recipe":
        here = Path(__file__).resolve().parents[1] / "recipes"
        return [path.read_bytes() for path in sorted(here.glob("*.yaml"))] + [
            b"network: {widths: [8, 8], neuron: relu}\naugmentation: null\nseed: 3\n"
        ]
    if name == "network":
        return [json.dumps(config_dict.config_to_dict(build("nano").config)).encode(), b'{"encoder.widths": [4, 4]}']
    if name == "metrics":
        return [b"step,epoch,loss\r\n1,0,0.5\r\n2,0,\r\n"]
    if name == "simulation":
        simulate(where, clips=Clips(train=0, val=0, test=0), workers=1)
        return [(where / "simulation.json").read_bytes()]
    head = np.array([(0, 100_000, 24, 40, 5, 2, 0, 0)], "<i8,<i8,<i2,<i2,<i2,<i2,<i4,<i4").tobytes()
    if name == "event_array":
        return [head + some_events(20).tobytes(), head]
    fault = np.array([(0, 5, 3)], "<i8,u1,u1").tobytes()
    return [fault + some_events(20).tobytes(), fault]

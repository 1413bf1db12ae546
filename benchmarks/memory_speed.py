"""What a memory costs: milliseconds of five steps, stateful, of the detector in torch and of the compiled one.

    python benchmarks/memory_speed.py --data data/stops

Two detectors, without and with a memory, stream the same windows of one recording on one thread, each carrying its own
state. All take turns, so that other work on the machine meets them alike. Writes ``results/memory_speed.json``.
"""

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch
from stamp import stamp, this_command, write_result

import spiking_centernet as scn
from spiking_centernet.evaluation.prediction import dataset_for
from spiking_centernet.model.context import State
from spiking_centernet.model.weights import bundled, sha256

PRECISIONS = ("fp32", "bf16", "int8")
NUM_STEPS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data/stops")
    parser.add_argument("--split", default="test")
    parser.add_argument("--models", nargs=2, default=["nano", "nano-memory"], help="without and with a memory")
    parser.add_argument("--windows", type=int, default=200, help="timed, one after the other")
    arguments = parser.parse_args()
    if not Path(arguments.data, arguments.split).is_dir():
        print(f"{arguments.data}/{arguments.split} is missing: make it with scn simulate; nothing measured")
        return
    torch.set_num_threads(1)
    detectors = {name: scn.load(name).fuse() for name in arguments.models}
    runs = {(name, "torch"): detector for name, detector in detectors.items()}
    runs |= {(name, p): scn.compile(model, precision=p) for name, model in detectors.items() for p in PRECISIONS}
    model = detectors[arguments.models[-1]]
    labeled = dataset_for(model, arguments.data, arguments.split).recordings[0]
    recording = scn.open(labeled.path)
    voxels = model.config.voxels
    spec = replace(voxels, window_us=voxels.window_us * NUM_STEPS // voxels.num_steps, num_steps=NUM_STEPS, fit=False)
    first_us = recording.stops_us(spec.window_us)[0]
    stops = range(first_us, first_us + spec.window_us * (arguments.windows + 1), spec.window_us)
    taken: dict[tuple[str, str], list[float]] = {run: [] for run in runs}
    states: dict[tuple[str, str], State | None] = dict.fromkeys(runs)
    with torch.inference_mode():
        for turn, (_, cube) in enumerate(recording.cubes(stops, spec)):
            for run, call in runs.items():
                began = time.perf_counter()
                _, states[run] = call(cube[:, None], states[run])
                if turn:  # the first prepares
                    taken[run].append((time.perf_counter() - began) * 1e3)
    rows = [
        {"model": name, "path": path, "median_ms": statistics.median(ms), "slowest_ms": max(ms)}
        for (name, path), ms in taken.items()
    ]
    for row in rows:
        print(row)
    about = {
        "data": arguments.data, "split": arguments.split, "recording": labeled.name, "threads": 1,
        "num_steps": NUM_STEPS, "step_us": voxels.step_us, "windows": arguments.windows,
        "sha256": {name: sha256(name) for name in detectors if name in bundled()},
    }  # fmt: skip
    print(write_result("memory_speed", {**stamp(command=this_command(), seed=None), **about, "rows": rows}))


if __name__ == "__main__":
    main()

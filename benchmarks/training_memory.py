"""What it gives a training step on the CPU to keep freed memory, beside the same step without.

    python benchmarks/training_memory.py

Random events of 304 x 240. The two ways take turns, each time in a process of its own, with equal weights, windows and
losses; told are the median seconds of a step after the first, the share of time that the system took, and peak memory.
Writes ``results/training_memory.json``.
"""

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import torch
from stamp import stamp, this_command, write_result

import spiking_centernet as scn
from spiking_centernet.structures import Boxes
from spiking_centernet.utils.allocator import kept_memory
from spiking_centernet.utils.provenance import has_native_bfloat16

SIZE_HW = (240, 304)
SHARE_ACTIVE = 0.05
CASES = {
    "nano, 8 windows of 5 steps": ("nano", 8, {}),
    "small, 8 windows of 5 steps": ("small", 8, {}),
    "nano with a memory, 3 sequences of 60 steps": (
        "nano", 3,
        {"voxels": {"num_steps": 60, "window_us": 1_200_000}, "recurrent": {"kind": "gated"}},
    ),
}  # fmt: skip


def one(case: str, keep: bool, steps: int) -> None:
    """Train a few steps and print what they took."""
    preset, batch_size, changes = CASES[case]
    torch.manual_seed(0)
    model = scn.build(preset, **changes)
    optimizer = torch.optim.AdamW(model.parameters())
    num_steps, channels = model.config.voxels.num_steps, model.config.voxels.channels
    cube = (torch.rand(num_steps, batch_size, channels, *SIZE_HW) < SHARE_ACTIVE).to(torch.uint8)
    box = Boxes(torch.tensor([[100.0, 80.0, 160.0, 120.0]]).numpy(), torch.zeros(1, dtype=torch.int64).numpy())
    if changes:  # as its recipe does
        model.encoder.requires_grad_(False)
        model.decoder.requires_grad_(False)
    seconds, losses = [], []
    with kept_memory() if keep else contextlib.nullcontext():
        for _ in range(steps):
            since = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=has_native_bfloat16()):
                output, _ = model(cube, keep_state=False)
            loss = model.head.loss(output, [box] * batch_size).total
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seconds.append(time.perf_counter() - since)
            losses.append(loss.item())
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({
        "step_s": statistics.median(seconds[1:]), "losses": losses, "peak_gb": used.ru_maxrss / 1e6,
        "system_share": used.ru_stime / (used.ru_stime + used.ru_utime),
    }))  # fmt: skip


def run(case: str, keep: bool, options: argparse.Namespace) -> dict:
    """Return what a process of its own prints."""
    command = [sys.executable, __file__, "--one", case, "--steps", str(options.steps), *(["--keep"] if keep else [])]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure every case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one, options.keep, options.steps)
        return
    rows = []
    for case in CASES:
        turns = [{keep: run(case, keep, options) for keep in (True, False)} for _ in range(options.repeats)]
        assert all(turn[True]["losses"] == turn[False]["losses"] for turn in turns), "the losses differ"
        row = {"case": case}
        for keep, name in ((True, "kept"), (False, "default")):
            for field in ("step_s", "system_share", "peak_gb"):
                row[f"{name}_{field}"] = round(statistics.median(turn[keep][field] for turn in turns), 3)
        row["speedup"] = round(statistics.median(t[False]["step_s"] / t[True]["step_s"] for t in turns), 2)
        rows.append(row)
        print(row)
    head = stamp(command=this_command(), seed=0)
    write_result("training_memory", {**head, "threads": options.threads, "cases": rows})


if __name__ == "__main__":
    main()

"""Training steps on sequences of 5 to 80 time steps: ours against SpikingJelly 2.0 in the same run.

    python -m pip install --no-deps -c constraints.txt --group bench
    python benchmarks/sequences.py

One sample of events on the outlines of ellipses, 304 x 240, all membranes carried through the whole sequence and all
of it kept for the backward pass. Every measurement is a process of its own; the variants take turns. Both networks
have the same weights, and the outputs of their first step are compared. Told are the median of the steps after the
first, the ratio to SpikingJelly's, and how the time grows with the length. About 12 minutes on two cores without other
work. Writes ``results/training_sequences.json``.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec

import numpy as np
import torch
from stamp import stamp, this_command, write_result
from training import network, resident_mb, rings, train_step

from spiking_centernet.experiments.bench.peers import agreement
from spiking_centernet.utils.allocator import kept_memory

PEER = "spikingjelly float32"
VARIANTS = (PEER, "spikingjelly bfloat16", "ours float32", "ours bfloat16", "ours bfloat16, freed memory not kept")
LENGTHS = (5, 10, 20, 40, 80)


def child(options: argparse.Namespace) -> None:
    """Measure one variant at one length in this process and print what was found."""
    torch.set_num_threads(options.threads)
    variant = options.variant.partition(",")[0]
    model, forward, optimizer = network(variant, "nano")
    windows = [rings(1, seed)[0] for seed in range(-(-options.length // 5))]
    cube, boxes = torch.cat(windows)[: options.length], rings(1, 0)[1]
    keep = options.variant.startswith("ours") and "not kept" not in options.variant
    seconds: list[float] = []
    with kept_memory() if keep else contextlib.nullcontext():
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled="bfloat16" in variant):
            first = [maps.float() for maps in forward(cube)]
        if variant.startswith("spikingjelly"):
            model.rest()
        if options.outputs:
            torch.save(first, options.outputs)
        for _ in range(options.steps):
            since = time.perf_counter()
            train_step(model, forward, optimizer, cube, boxes, "nano", variant)
            seconds.append(time.perf_counter() - since)
    print(json.dumps({"s": statistics.median(seconds[1:]), "peak_mb": resident_mb("VmHWM")}))


def measure(variant: str, length: int, options: argparse.Namespace, outputs: str = "") -> dict:
    """Return what a process of its own measures."""
    command = [sys.executable, __file__, "--variant", variant, "--length", str(length), "--outputs", outputs]
    command += ["--steps", str(options.steps), "--threads", str(options.threads)]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def exponent(lengths: list[int], seconds: list[float]) -> float:
    """Return e of the power law seconds ~ lengths ** e that fits best: 1 is linear."""
    return float(np.polyfit(np.log(lengths), np.log(seconds), 1)[0])


def main() -> None:
    """Measure every variant at every length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4, help="steps a measurement; the first is not counted")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--length", type=int, default=5, help=argparse.SUPPRESS)
    parser.add_argument("--outputs", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        child(options)
        return
    if find_spec("spikingjelly") is None:
        sys.exit("SpikingJelly is missing: python -m pip install --no-deps -c constraints.txt --group bench")
    rows = []
    for length in options.lengths:
        rounds = [{name: measure(name, length, options) for name in VARIANTS} for _ in range(options.rounds)]
        for name in VARIANTS:
            row = {
                "length": length, "variant": name,
                "step_s": round(statistics.median(found[name]["s"] for found in rounds), 3),
                "peak_mb": round(max(found[name]["peak_mb"] for found in rounds)),
                "times_faster": round(statistics.median(found[PEER]["s"] / found[name]["s"] for found in rounds), 2),
            }  # fmt: skip
            rows.append(row)
            print(row, flush=True)
    times = {name: [row["step_s"] for row in rows if row["variant"] == name] for name in VARIANTS}
    growth = {name: round(exponent(options.lengths, seconds), 2) for name, seconds in times.items()}
    result = {"threads": options.threads, "rows": rows, "growth": growth, "agreement": compared(options)}
    write_result("training_sequences", {**stamp(command=this_command(), seed=0), **result})


def compared(options: argparse.Namespace) -> dict[str, float]:
    """Return how far the first outputs in float32 lie apart at every length, over the peer's standard deviation."""
    told = {}
    with tempfile.TemporaryDirectory() as folder:
        for length in options.lengths:
            found = []
            for i, name in enumerate((PEER, "ours float32")):
                path = f"{folder}/{i}.pt"
                command = argparse.Namespace(**{**vars(options), "steps": 2})
                measure(name, length, command, path)
                found.append(torch.load(path))
            told[str(length)] = agreement(found[1], found[0])
    return told


if __name__ == "__main__":
    main()

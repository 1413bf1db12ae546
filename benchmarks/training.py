"""A training step: ours against SpikingJelly 2.0 in the same run, time, peak memory, and proof that both train alike.

Every measurement is a process of its own; the variants take turns, so that the machine's moods hit all. The peak is
over what the process held after its imports. "tuned" is glibc's allocator told to keep big blocks instead of handing
them back to the system after every use. Run it on a machine without other work; under 8 minutes for nano on two cores:

    python -m pip install --no-deps -c constraints.txt --group bench
    python benchmarks/training.py
    python benchmarks/training.py --preset paper --batch 2 --rounds 1
    python benchmarks/training.py --neuron ilif --variants "spikingjelly float32" "ours float32"
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from stamp import stamp, this_command, write_result

from spiking_centernet.experiments.bench.peers import SpikingJellyDetector
from spiking_centernet.model import PRESETS, DetectorOutput, Memory, build
from spiking_centernet.model.heads import make_head
from spiking_centernet.structures import Boxes

SIZE_HW = (240, 304)
PEER = "spikingjelly float32"
VARIANTS = {
    PEER: None,
    "spikingjelly bfloat16": None,
    "ours float32": Memory(),
    "ours bfloat16": Memory(),
    "ours bfloat16, uint8 spikes": Memory(spikes="uint8"),
    "ours bfloat16, checkpoints": Memory(spikes="uint8", checkpoint_stages=True),
}
ALLOCATORS = {
    "default": "",
    "tuned": "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184",
}
AGREEMENT_STEPS = 20
NEURONS = {
    "plif": {},
    # SpikingJelly's I-LIF is the paper's. Its leak is fixed; ours is learned here too, which costs more.
    "ilif": {"kind": "ilif", "levels": 2, "tau": 4 / 3, "decay_input": False, "surrogate": "rectangle"},
}


def rings(batch, seed, size_hw=SIZE_HW):
    """Return a cube [5, B, 4, H, W] of events on the outlines of ellipses, and boxes around some of them."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(size_hw)
    cube, boxes = np.zeros((5, batch, 4, *size_hw), np.uint8), []
    for b in range(batch):
        centers = rng.uniform((20, 20), (size_hw[0] - 20, size_hw[1] - 20), (12, 2))
        radii = rng.uniform(8, 38, (12, 2))
        density = np.zeros(size_hw)
        for (y, x), (high, wide) in zip(centers, radii, strict=True):
            ring = ((rows - y) / high) ** 2 + ((columns - x) / wide) ** 2
            density = np.maximum(density, np.exp(-np.abs(ring - 1) * 4))
        cube[:, b] = rng.random((5, 4, *size_hw)) < (density * 0.06 / density.mean()).clip(max=0.9)
        corners = np.concatenate([(centers - radii)[:, ::-1], (centers + radii)[:, ::-1]], 1)[:3]
        boxes.append(Boxes(corners.astype(np.float32), rng.integers(0, 2, 3), np.arange(3)))
    return torch.from_numpy(cube), boxes


def resident_mb(which):
    """Return what the system says about this process's memory: VmRSS now, VmHWM at most so far."""
    return int(re.search(rf"{which}:\s+(\d+)", Path("/proc/self/status").read_text()).group(1)) / 1024


def network(variant, preset, neuron="plif"):
    """Return the network, its step's forward pass, and its optimizer, with the weights of seed 0."""
    torch.manual_seed(0)
    ours = build(preset, neuron=NEURONS[neuron]).train()
    if variant.startswith("ours"):
        optimizer = torch.optim.AdamW(ours.parameters(), lr=1e-3, fused=True)
        return ours, lambda cube: ours(cube, keep_state=False, memory=VARIANTS[variant])[0], optimizer
    peer = SpikingJellyDetector(ours).train()
    return peer, lambda cube: DetectorOutput(*peer(cube.float())), torch.optim.AdamW(peer.parameters(), lr=1e-3)


def train_step(model, forward, optimizer, cube, boxes, preset, variant, gradient=""):
    """Take one step and return its loss; write the gradient, before it is clipped, to a path if there is one."""
    with torch.autocast("cpu", torch.bfloat16, enabled="bfloat16" in variant):
        output = forward(cube)
    loss = make_head(PRESETS[preset]).loss(output, boxes).total
    optimizer.zero_grad()
    loss.backward()
    if gradient:
        # Time constants are no parameters of every peer.
        torch.save([p.grad.clone() for p in model.parameters() if p.ndim], gradient)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if isinstance(model, SpikingJellyDetector):
        model.rest()
    return loss.item()


def child(args):
    """Measure one variant in this process and print what was found."""
    if args.variant.startswith("spikingjelly"):
        import spikingjelly.activation_based  # noqa: F401
    torch.set_num_threads(args.num_threads)
    # The first optimizer imports much of torch that no training step needs, ours or theirs.
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
    baseline_mb = resident_mb("VmRSS")
    model, forward, optimizer = network(args.variant, args.preset, args.neuron)
    cube, boxes = rings(args.batch, args.seed)
    seconds, losses = [], []
    for step in range(args.steps):
        start = time.perf_counter()
        path = args.gradient if step == 0 else ""
        losses.append(train_step(model, forward, optimizer, cube, boxes, args.preset, args.variant, path))
        seconds.append(time.perf_counter() - start)
    peak_mb = resident_mb("VmHWM") - baseline_mb
    print(json.dumps({"ms": [s * 1e3 for s in seconds], "peak_mb": peak_mb, "losses": losses}))


def measure(variant, allocator, num_threads, steps, args, gradient=""):
    """Return what a process of its own measures."""
    run = [sys.executable, __file__, "--variant", variant, "--num-threads", str(num_threads), "--steps", str(steps)]
    run += ["--preset", args.preset, "--neuron", args.neuron, "--batch", str(args.batch), "--seed", str(args.seed)]
    run += ["--gradient", str(gradient)]
    env = os.environ | {"GLIBC_TUNABLES": ALLOCATORS[allocator], "OMP_NUM_THREADS": str(num_threads)}
    done = subprocess.run(run, env=env, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def agreement(args):
    """Return how well gradients and losses agree with SpikingJelly's in float32, from the same weights."""
    told, curves, gradients = {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for i, variant in enumerate(args.variants):
            path = Path(folder) / f"{i}.pt"
            curves[variant] = measure(variant, "tuned", args.threads[-1], AGREEMENT_STEPS, args, path)["losses"]
            gradients[variant] = torch.cat([g.flatten().double() for g in torch.load(path)])
    for variant, losses in curves.items():
        reference = np.asarray(curves[PEER])
        told[variant] = {
            "gradient_cosine": float(torch.cosine_similarity(gradients[variant], gradients[PEER], dim=0)),
            "mean_relative_difference_of_losses": float(np.mean(np.abs(np.asarray(losses) - reference) / reference)),
            "losses": [round(loss, 4) for loss in losses],
        }
    return told


def rows(found):
    """Return a row for every allocator, number of threads and variant, with its ratios to SpikingJelly in float32."""
    told = []
    for (allocator, num_threads, variant), runs in found.items():
        ms = [statistics.median(run["ms"][2:]) for run in runs]
        peak_mb = max(run["peak_mb"] for run in runs)
        reference = found[allocator, num_threads, PEER]
        # A ratio of each round: what disturbs a round disturbs both of its sides.
        ratios = [statistics.median(r["ms"][2:]) / own for r, own in zip(reference, ms, strict=True)]
        told.append({
            "allocator": allocator, "threads": num_threads, "variant": variant,
            "median_ms": round(statistics.median(ms), 1), "rounds_ms": [round(m, 1) for m in ms],
            "peak_mb": round(peak_mb), "times_faster": round(statistics.median(ratios), 2),
            "times_less_memory": round(max(r["peak_mb"] for r in reference) / peak_mb, 2),
        })  # fmt: skip
    return told


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="nano", choices=sorted(PRESETS))
    parser.add_argument("--neuron", default="plif", choices=sorted(NEURONS))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), help="all, or some")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--allocators", nargs="+", default=list(ALLOCATORS), choices=list(ALLOCATORS))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6, help="steps a measurement; the first two are not counted")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-agreement", action="store_true", help="measure time and memory only")
    parser.add_argument("--variant", choices=list(VARIANTS), help=argparse.SUPPRESS)
    parser.add_argument("--num-threads", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--gradient", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.variant:
        child(args)
        return
    if PEER not in args.variants:
        parser.error(f"--variants needs {PEER!r}: the others are compared with it")
    if find_spec("spikingjelly") is None:
        sys.exit("SpikingJelly is missing: python -m pip install --no-deps -c constraints.txt --group bench")
    found = {}
    for turn in range(args.rounds):
        for allocator in args.allocators:
            for num_threads in args.threads:
                for variant in args.variants:
                    run = measure(variant, allocator, num_threads, args.steps, args)
                    found.setdefault((allocator, num_threads, variant), []).append(run)
                    ms = statistics.median(run["ms"][2:])
                    place = f"round {turn + 1}, {allocator} allocator, {num_threads} thread(s)"
                    print(f"{place}: {variant:28s} {ms:7.0f} ms a step, peak {run['peak_mb']:5.0f} MB", flush=True)
    result = {
        "preset": args.preset, "neuron": args.neuron, "batch": args.batch, "size_hw": SIZE_HW, "num_steps": 5,
        "rows": rows(found),
    }  # fmt: skip
    if not args.no_agreement:
        result["agreement"] = {"steps": AGREEMENT_STEPS, "with": PEER, "variants": agreement(args)}
    parts = ["training_speed", *([] if args.preset == "nano" else [args.preset])]
    name = "_".join([*parts, *([] if args.neuron == "plif" else [args.neuron])])
    path = write_result(name, {**stamp(command=this_command(), seed=args.seed), **result})
    print(path.read_text())


if __name__ == "__main__":
    main()

"""What loading costs a training step: cubes cut from raw files and augmented, made inline or ahead in a thread.

The recordings are random events at a steady rate. The three ways take turns: the same batch again and again (no
loading), batches made between the steps, batches made ahead (what training does).

    python benchmarks/training_loading.py
"""

import argparse
import statistics
import tempfile
import time
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from stamp import stamp, this_command, write_result
from torch.utils.data import DataLoader
from training import SIZE_HW, network, train_step

from spiking_centernet.data import Augmentation, FolderDataset, collate, prefetch, write_boxes, write_dat
from spiking_centernet.structures import BOX_DTYPE, EVENT_DTYPE

VARIANT = "ours bfloat16"


def write_recordings(root, count, duration_s, rate_per_s, rng):
    """Write recordings with 20 labeled frames a second, two boxes each."""
    (root / "train").mkdir(parents=True)
    for i in range(count):
        events = np.zeros(int(duration_s * rate_per_s), EVENT_DTYPE)
        events["t"] = np.sort(rng.integers(0, int(duration_s * 1e6), len(events)))
        events["x"], events["y"] = (rng.integers(0, size, len(events)) for size in SIZE_HW[::-1])
        events["p"] = rng.integers(0, 2, len(events))
        write_dat(root / "train" / f"clip{i}_td.dat", events, SIZE_HW)
        timestamps_us = np.arange(100_000, int(duration_s * 1e6), 50_000)
        boxes = np.zeros(2 * len(timestamps_us), BOX_DTYPE)
        boxes["ts"] = timestamps_us.repeat(2)
        boxes["x"], boxes["y"] = rng.uniform(0, 200, len(boxes)), rng.uniform(0, 180, len(boxes))
        boxes["w"], boxes["h"], boxes["class_id"], boxes["confidence"] = 60, 40, rng.integers(0, 2, len(boxes)), 1
        write_boxes(root / "train" / f"clip{i}_bbox.npy", boxes)


def measure(root, args):
    torch.set_num_threads(args.threads)
    dataset = FolderDataset(root, "train", augmentation=Augmentation(), seed=args.seed)
    model, forward, optimizer = network(VARIANT, args.preset)
    rng = np.random.default_rng(args.seed)

    def batches():
        order = rng.permutation(len(dataset))[: args.steps * args.batch].reshape(args.steps, args.batch)
        return DataLoader(dataset, batch_sampler=order.tolist(), collate_fn=collate)

    same = collate([dataset[i] for i in range(args.batch)])
    ways = {
        "none": lambda: repeat(same, args.steps),
        "between steps": batches,
        "ahead in a thread": lambda: prefetch(batches()),
    }
    seconds = {name: [] for name in ways}
    for turn in range(args.rounds + 1):
        for name, make in ways.items():
            start = time.perf_counter()
            for batch in make():
                train_step(model, forward, optimizer, batch.cube, batch.boxes, args.preset, VARIANT)
            if turn:  # the first turn warms up
                seconds[name].append((time.perf_counter() - start) / args.steps)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rate", type=float, default=1e6, help="events a second")
    parser.add_argument("--steps", type=int, default=10, help="steps a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_recordings(Path(folder), 4, 3.0, args.rate, np.random.default_rng(args.seed))
        seconds = measure(Path(folder), args)
    result = {"preset": args.preset, "batch": args.batch, "threads": args.threads, "events_per_s": args.rate}
    for name, values in seconds.items():
        # A ratio of each round: what disturbs a round disturbs all of its ways.
        shares = [none / value for none, value in zip(seconds["none"], values, strict=True)]
        result[name] = {
            "median_ms": round(statistics.median(values) * 1e3, 1),
            "share_of_speed_without_loading": round(statistics.median(shares), 3),
        }
    path = write_result("training_loading", {**stamp(command=this_command(), seed=args.seed), **result})
    print(path.read_text())


if __name__ == "__main__":
    main()

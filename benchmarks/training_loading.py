"""What loading costs a training step: cubes cut from raw files and augmented, made inline or ahead in a thread.

The recordings are random events at a steady rate. The three ways take turns: the same batch again and again (no
loading), batches made between the steps, batches made ahead (what training does). Batches are also made without any
step, to say how many windows a second one process loads. With a recipe the network, the windows and the step are those
of the recipe, for example sequences of 1.2 s that a memory is trained on; the result is another file then.

    python benchmarks/training_loading.py
    python benchmarks/training_loading.py --recipe recipes/nano_memory.yaml --recordings 2 --recording_s 60 \\
        --rate 5e5 --steps 3 --rounds 3
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
from spiking_centernet.training.config import make_recipe, read_recipe
from spiking_centernet.training.recipes import recipe_for
from spiking_centernet.training.trainer import Trainer

VARIANT = "ours bfloat16"


def write_recordings(folder, count, duration_s, rate_per_s, rng):
    """Write recordings with 20 labeled frames a second, two boxes each."""
    folder.mkdir(parents=True)
    for i in range(count):
        events = np.zeros(int(duration_s * rate_per_s), EVENT_DTYPE)
        events["t"] = np.sort(rng.integers(0, int(duration_s * 1e6), len(events)))
        events["x"], events["y"] = (rng.integers(0, size, len(events)) for size in SIZE_HW[::-1])
        events["p"] = rng.integers(0, 2, len(events))
        write_dat(folder / f"clip{i}_td.dat", events, SIZE_HW)
        timestamps_us = np.arange(100_000, int(duration_s * 1e6), 50_000)
        boxes = np.zeros(2 * len(timestamps_us), BOX_DTYPE)
        boxes["ts"] = timestamps_us.repeat(2)
        boxes["x"], boxes["y"] = rng.uniform(0, 200, len(boxes)), rng.uniform(0, 180, len(boxes))
        boxes["w"], boxes["h"], boxes["class_id"], boxes["confidence"] = 60, 40, rng.integers(0, 2, len(boxes)), 1
        write_boxes(folder / f"clip{i}_bbox.npy", boxes)


def of_preset(root, args):
    """Return the training split, and a step of the preset's network on a batch."""
    model, forward, optimizer = network(VARIANT, args.preset)

    def step(batch):
        train_step(model, forward, optimizer, batch.cube, batch.boxes, args.preset, VARIANT)

    return FolderDataset(root, "train", augmentation=Augmentation(), seed=args.seed), step


def of_recipe(root, args):
    """Return the training split as the recipe sees it, and a step of its trainer on a batch."""
    fields = {"batch_size": args.batch, "seed": args.seed, "num_workers": 0}
    trainer = Trainer(recipe_for(args.recipe, root, fields), root, root / "run", resume=False)
    return trainer.train_set, lambda batch: trainer._step(batch, None)


def measure(dataset, step, args):
    """Return the seconds a step of every way, and those of a batch without a step, of every round."""
    rng = np.random.default_rng(args.seed)

    def batches():
        order = rng.permutation(len(dataset))[: args.steps * args.batch].reshape(args.steps, args.batch)
        return DataLoader(dataset, batch_sampler=order.tolist(), collate_fn=collate)

    same = collate([dataset[i] for i in range(args.batch)])
    ways = {
        "none": (lambda: repeat(same, args.steps), step),
        "between steps": (batches, step),
        "ahead in a thread": (lambda: prefetch(batches()), step),
        "loading alone": (batches, lambda batch: None),
    }
    seconds = {name: [] for name in ways}
    for turn in range(args.rounds + 1):
        for name, (make, take) in ways.items():
            start = time.perf_counter()
            for batch in make():
                take(batch)
            if turn:  # the first turn warms up
                seconds[name].append((time.perf_counter() - start) / args.steps)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--recipe", help="take network, windows and step from it instead")
    parser.add_argument("--batch", type=int, help="default: 8, with a recipe the recipe's")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--recordings", type=int, default=4)
    parser.add_argument("--recording_s", type=float, default=3.0)
    parser.add_argument("--rate", type=float, default=1e6, help="events a second")
    parser.add_argument("--steps", type=int, default=10, help="steps a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.batch = args.batch or (make_recipe(read_recipe(args.recipe)).batch_size if args.recipe else 8)
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as name:
        folder, rng = Path(name), np.random.default_rng(args.seed)
        write_recordings(folder / "train", args.recordings, args.recording_s, args.rate, rng)
        write_recordings(folder / "val", 1, 0.5, args.rate, rng)
        dataset, step = of_recipe(folder, args) if args.recipe else of_preset(folder, args)
        seconds, spec = measure(dataset, step, args), dataset.spec
    result = {
        "preset": args.preset, "recipe": args.recipe, "batch": args.batch, "threads": args.threads,
        "events_per_s": args.rate, "recording_s": args.recording_s,
        "window_us": spec.window_us, "num_steps": spec.num_steps,
    }  # fmt: skip
    for name, values in seconds.items():
        # A ratio of each round: what disturbs a round disturbs all of its ways.
        shares = [none / value for none, value in zip(seconds["none"], values, strict=True)]
        result[name] = {
            "median_ms": round(statistics.median(values) * 1e3, 1),
            "windows_per_s": round(args.batch / statistics.median(values), 2),
            "share_of_speed_without_loading": round(statistics.median(shares), 3),
        }
    name = "training_loading_sequences" if args.recipe else "training_loading"
    path = write_result(name, {**stamp(command=this_command(), seed=args.seed), **result})
    print(path.read_text())


if __name__ == "__main__":
    main()

"""Train spiking networks of 1, 2 and 4 steps and their ANN counterpart on pictures of simulated roads, and score them.

    python benchmarks/frames.py --data data/roads

The same pictures, order, steps and batches for all, one seed: a small budget that shows how fast each learns, where
``recipes/studies/frames.yaml`` takes longer and several seeds. Writes ``results/frames.json`` after every network.
"""

import argparse
import time
from pathlib import Path

import torch
from stamp import ROOT, stamp, this_command, write_result

from spiking_centernet.data import Augmentation
from spiking_centernet.evaluation import report
from spiking_centernet.training.config import Recipe
from spiking_centernet.training.run_dir import read_metrics
from spiking_centernet.training.trainer import train

NETWORKS = {"ANN": ("relu", 1), "SNN, 1 step": ("plif", 1), "SNN, 2 steps": ("plif", 2), "SNN, 4 steps": ("plif", 4)}
"""Name -> kind of neurons, time steps."""

FRAME_HW = (120, 152)
"""Half the sensor's sides: a quarter of the time."""

PROTOCOL = "none"


def recipe(kind: str, num_steps: int, epochs: int) -> Recipe:
    """Return the recipe of a network; all but its neurons and steps are the same."""
    network = {
        "voxels.mode": "direct", "voxels.colors": 1, "voxels.frame_hw": FRAME_HW, "voxels.num_steps": num_steps,
        "neuron.kind": kind,
    }  # fmt: skip
    return Recipe(
        preset="nano", network=network, epochs=epochs, val_every=epochs, batch_size=4, learning_rate=2e-3,
        ema_decay=0.99, augmentation=Augmentation(flip=0.5, zoom=0), protocol=PROTOCOL, seed=0, num_threads=1,
    )  # fmt: skip


def main() -> None:
    """Train, score and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data/roads", help="of scn simulate --labels frames")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "frames", help="folder of the run folders")
    parser.add_argument("--epochs", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = {}
    for name, (kind, num_steps) in NETWORKS.items():
        out, began = arguments.out / f"{kind}_{num_steps}", time.process_time()
        model = train(recipe(kind, num_steps, arguments.epochs), arguments.data, out=out, resume=out.is_dir())
        seconds = time.process_time() - began
        card = report.score(model, arguments.data, split="test", protocols=(PROTOCOL,))
        score = card.scores[PROTOCOL]
        rows[name] = {
            "kind": kind, "num_steps": num_steps, "ap": score.ap, "ap50": score.ap50, "rate": card.rates.overall(),
            "steps": int(read_metrics(out / "metrics.csv")[-1]["step"]), "train_cpu_s": round(seconds, 1),
        }  # fmt: skip
        print(name, rows[name], flush=True)
        about = {
            "data": arguments.data, "split": "test", "protocol": PROTOCOL, "frame_hw": FRAME_HW,
            "batch_size": 4, "pictures": {"test": score.num_instants}, "boxes": score.num_truth,
        }  # fmt: skip
        write_result("frames", {**about, "rows": rows, "provenance": stamp(command=this_command(), seed=0)})


if __name__ == "__main__":
    main()

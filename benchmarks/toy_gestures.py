"""Does the classifier use the order of time? Toy gestures in DVS128 Gesture's files, two of them equal but for order.

    python benchmarks/toy_gestures.py [--out runs/toy_gestures] [--epochs 16]

A bar that turns clockwise and one that turns counter-clockwise visit the same places (tests/toy_gestures.py). The
network is tested as it is, and with the steps of every window shuffled: whoever tells the turns apart then would
not need their order. Writes ``results/toy_gestures.json``.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from stamp import stamp, this_command, write_result

from spiking_centernet.data import FolderDataset
from spiking_centernet.evaluation.classification import score_classes
from spiking_centernet.model import Detector
from spiking_centernet.training.config import Recipe
from spiking_centernet.training.trainer import train

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
import toy_gestures  # noqa: E402

USERS = (*range(1, 11), 20, 21, *range(24, 28))
REPEATS = 4


def recipe(epochs: int) -> Recipe:
    """Return the recipe of the run: a network of about a tenth of nano's encoder, from scratch."""
    network = {
        "tasks": ["classify"], "classes": list(toy_gestures.CLASSES), "decoder.num_blocks": 0,
        "encoder.widths": [8, 16, 16, 32], "encoder.convs_per_stage": 1, "head.width": 32,
        "voxels.window_us": 1_500_000, "voxels.num_steps": toy_gestures.NUM_STEPS, "voxels.bins": 1,
    }  # fmt: skip
    return Recipe(
        network=network, epochs=epochs, batch_size=8, learning_rate=4e-3, augmentation=None, ema_decay=0.9,
        val_every=epochs, protocol="none", seed=0, num_workers=0, precision="float32",
    )  # fmt: skip


@torch.inference_mode()
def answers(model: Detector, data: FolderDataset, rng: np.random.Generator | None) -> tuple[dict, dict, list]:
    """Return truth, detections, and of every turn its label and the logits of the two turns.

    Args:
        model: the classifier.
        data: the windows.
        rng: shuffles the steps of every window; None leaves them in order.
    """
    fused, truth, found, turns = model.fuse(), {}, {}, []
    for sample in data:
        order = np.arange(len(sample.cube)) if rng is None else rng.permutation(len(sample.cube))
        output, _ = fused(sample.cube[torch.from_numpy(order)][:, None], keep_state=False)
        key = sample.recording, sample.t_us
        (found[key],) = model.head.detections(output, [sample.t_us], size_hw=toy_gestures.GESTURE_HW)
        truth[key] = sample.boxes
        label = int(sample.boxes.labels[0])
        if label < len(toy_gestures.TURNS):
            turns.append(label == int(output.logits[0, : len(toy_gestures.TURNS)].argmax()))
    return truth, found, turns


def main() -> None:
    """Train, test in order and shuffled, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "toy_gestures", help="the run folder")
    parser.add_argument("--epochs", type=int, default=16)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = toy_gestures.write_folder(Path(folder), users=USERS, repeats=REPEATS)
        start = time.perf_counter()
        model = train(recipe(arguments.epochs), f"dvs-gesture:{root}", out=arguments.out)
        seconds = time.perf_counter() - start
        data = FolderDataset(f"dvs-gesture:{root}", "test", model.config.voxels, classes=model.config.classes)
        results = {}
        for name, rng in (("in_order", None), ("shuffled", np.random.default_rng(0))):
            truth, found, turns = answers(model, data, rng)
            score = score_classes(truth, found, model.config.classes)
            results[name] = {**score.to_dict(), "turns": sum(turns) / len(turns), "num_turns": len(turns)}
            print(f"{name}: accuracy {score.accuracy:.3f}, turns {results[name]['turns']:.3f} of {len(turns)}")
    parameters = sum(p.numel() for p in model.parameters())
    write_result(
        "toy_gestures",
        {**results, "epochs": arguments.epochs, "parameters": parameters, "train_s": round(seconds, 1),
         "users": list(USERS), "repeats": REPEATS, "provenance": stamp(command=this_command(), seed=0)},
    )  # fmt: skip


if __name__ == "__main__":
    main()

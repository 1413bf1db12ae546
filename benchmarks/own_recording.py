"""From a recording without labels to fine-tuned weights, by the commands of the tutorial.

    python benchmarks/own_recording.py [--out build/own] [--seed 11]

A simulated drive stands for the user's recording, because its true boxes are known: they stand for labels corrected by
hand, and they score. The first half is labeled (by the bundled weights and, for comparison, by motion), corrected,
converted as a COCO tool would give it back and trained on; the second half scores the weights before and after. Writes
``results/own_recording.json``.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from stamp import stamp, this_command, write_result

from spiking_centernet.boxes import iou_matrix
from spiking_centernet.data import boxes_at, read_boxes, write_boxes
from spiking_centernet.data.convert import Labels, coco
from spiking_centernet.structures import CLASS_NAMES

WEIGHTS = "nano"
SIZE_HW = (240, 304)
HALF_US = 4_000_000
DURATION_S = 8
EVERY_MS = 250
"""Between timestamps: the simulator labels the roads at 4 Hz."""
MATCH_IOU = 0.5
TRAINING = [
    *("--epochs", "12", "--learning_rate", "0.0005", "--ema_decay", "0.9", "--batch_size", "4", "--val_every", "12"),
    *("--protocol", "none"),
]


def scn(*words: object) -> str:
    """Run a command as a user does; return what it prints."""
    print("scn", *words, flush=True)
    command = [sys.executable, "-m", "spiking_centernet", *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def agreement(found: Path, classes: tuple[str, ...], truth: np.ndarray, any_class: bool) -> dict:
    """Return how many true boxes an automatic label covers, and how many labels cover none."""
    boxes = read_boxes(found, classes=classes)
    num_truth = num_matched = num_false = 0
    for t_us in np.unique(truth["ts"]).astype(np.int64).tolist():
        ours, theirs = boxes_at(boxes, t_us), boxes_at(truth, t_us)
        fits = iou_matrix(ours.xyxy, theirs.xyxy) >= MATCH_IOU
        if not any_class:
            fits &= ours.labels[:, None] == theirs.labels
        num_truth += len(theirs)
        num_matched += int(fits.any(axis=0).sum())
        num_false += int((~fits.any(axis=1)).sum())
    return {"true_boxes": num_truth, "matched": num_matched, "false": num_false}


def score(weights: object, data: Path) -> dict:
    """Return AP and AP50 of the second half."""
    document = json.loads(scn("val", weights, "--data", data, "--split", "val", "--protocol", "none", "--json"))
    return {name: round(document["scores"]["none"][name], 4) for name in ("ap", "ap50")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/own"))
    parser.add_argument("--seed", type=int, default=11, help="of the simulated drive")
    parser.add_argument("--recipe", type=Path, default=Path("recipes/nano_roads.yaml"))
    options = parser.parse_args()
    out, mine, runs = options.out, options.out / "mine", options.out / "run"
    shutil.rmtree(out, ignore_errors=True)
    scn("simulate", out / "drive", "--seed", options.seed, "--train", 0, "--val", 0, "--test", 1,
        "--duration_s", DURATION_S, "--workers", 1)  # fmt: skip
    recording = next((out / "drive" / "test").glob("*_td.dat"))
    name = recording.name.removesuffix("_td.dat")
    truth = read_boxes(recording.with_name(f"{name}_bbox.npy"))
    first, second = truth[truth["ts"] <= HALF_US], truth[truth["ts"] > HALF_US]

    scn("label", recording, mine, "--model", WEIGHTS, "--every_ms", EVERY_MS, "--stop_s", HALF_US * 1e-6)
    by_model = agreement(mine / "train" / f"{name}_bbox.npy", CLASS_NAMES, first, any_class=False)
    scn("label", recording, out / "motion", "--motion", "--every_ms", EVERY_MS, "--stop_s", HALF_US * 1e-6,
        "--no_pictures")  # fmt: skip
    by_motion = agreement(out / "motion" / "train" / f"{name}_bbox.npy", ("object",), first, any_class=True)

    # What somebody with a COCO tool gives back: the true boxes of the first half.
    corrected = out / "corrected.json"
    coco.write(corrected, Labels(first, CLASS_NAMES, SIZE_HW), stem=name)
    scn("label", corrected, mine)
    # The second half, labeled by hand as well, scores.
    scn("label", recording, mine, "--model", WEIGHTS, "--split", "val", "--every_ms", EVERY_MS,
        "--start_s", HALF_US * 1e-6, "--no_pictures")  # fmt: skip
    write_boxes(mine / "val" / f"{name}_bbox.npy", second)

    before = score(WEIGHTS, mine)
    scn("train", options.recipe, "--data", mine, "--out", runs, "--weights", WEIGHTS, *TRAINING)
    after = score(runs, mine)
    head = stamp(command=this_command(), seed=options.seed)
    write_result("own_recording", {
        **head, "weights": WEIGHTS, "protocol": "none", "match_iou": MATCH_IOU, "training": TRAINING,
        "frames": {"train": len(np.unique(first["ts"])), "val": len(np.unique(second["ts"]))},
        "boxes": {"train": len(first), "val": len(second)},
        "labels_by_model": by_model, "labels_by_motion": by_motion, "before": before, "after": after,
    })  # fmt: skip
    print(before, after, by_model, by_motion)


if __name__ == "__main__":
    main()

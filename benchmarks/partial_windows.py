"""Recall in windows of which only the last part holds events, as when a recording has just begun.

    python benchmarks/partial_windows.py --data data/roads [--models small nano] [--filled_ms 100 60 40 20]

Labeled frames of a simulated split; a window is emptied but for its last milliseconds, and read once as it is and once
with its time steps fitted to what is left, as detection does. A box counts as found if a
detection of its class at the model's own threshold overlaps it by IoU 0.5, each detection for one box, best score
first. Writes ``results/partial_windows.json``.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from stamp import stamp, this_command, write_result

import spiking_centernet as scn
from spiking_centernet.data import Augmentation, FolderDataset
from spiking_centernet.evaluation.box_matches import match_frames
from spiking_centernet.evaluation.prediction import Predictions, predict


def recall(predictions: Predictions, threshold: float) -> dict[str, float | int]:
    """Return how many boxes there are, the share found, and false detections a frame."""
    matches = match_frames(predictions, min_score=threshold, protocol="none").values()
    boxes, found = sum(len(m.truth) for m in matches), sum(m.num_found for m in matches)
    false = sum(m.num_false for m in matches) / max(1, len(matches))
    return {"boxes": boxes, "recall": round(found / max(1, boxes), 3), "false_a_frame": round(false, 3)}


def main() -> None:
    """Score every model at every length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the split")
    parser.add_argument("--split", default="test")
    parser.add_argument("--models", nargs="+", default=["small", "nano"])
    parser.add_argument("--filled_ms", nargs="+", type=float, default=[100.0, 60.0, 40.0, 20.0])
    parser.add_argument("--name", default="partial_windows", help="of the result file")
    given = parser.parse_args()
    rows = []
    for name in given.models:
        model = scn.load(name)
        for filled_ms in given.filled_ms:
            share = min(1.0, filled_ms * 1000 / model.config.voxels.window_us)
            emptied = Augmentation(flip=0, zoom=0, empty_past=1, filled_range=(share, share))
            for fit in (False, True):
                spec = replace(model.config.voxels, fit=fit)
                dataset = FolderDataset(
                    given.data, given.split, spec, classes=model.config.classes, augmentation=emptied
                )
                scores = recall(predict(model, dataset, precision="float32"), model.config.deployment.score_threshold)
                rows.append({"model": name, "filled_ms": filled_ms, "fit": fit, **scores})
                print(rows[-1], flush=True)
    write_result(given.name, {**stamp(command=this_command(), seed=0), "split": given.split, "rows": rows})


if __name__ == "__main__":
    main()

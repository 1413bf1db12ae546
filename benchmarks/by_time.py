"""AP by how long a clip has been running: does a network with a memory gain or lose as its state is carried on?

    python benchmarks/by_time.py --data data/roads --models nano nano-memory --split test

Networks with a memory carry their state from the clip's first event, others see a window of their own for every
answer. What there is to find differs from time to time, so networks compare at one time, not one network at two.
Writes ``results/by_time.json``.
"""

import argparse

import torch
from stamp import stamp, this_command, write_result

import spiking_centernet as scn
from spiking_centernet.evaluation import report
from spiking_centernet.evaluation.prediction import Predictions
from spiking_centernet.model.weights import sha256


def within(predictions: Predictions, start_us: int, stop_us: int) -> Predictions:
    """Return the labeled frames after ``start_us`` up to ``stop_us``."""
    keys = [key for key in predictions.truth if start_us < key[1] <= stop_us]
    truth, found = ({key: part[key] for key in keys} for part in (predictions.truth, predictions.detections))
    return Predictions(truth, found, predictions.size_hw, predictions.class_names)


def main() -> None:
    """Score and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data/roads")
    parser.add_argument("--split", default="test")
    parser.add_argument("--models", nargs="+", default=["nano", "nano-memory"])
    parser.add_argument("--protocol", default="none", help="prophesee leaves out the first half second")
    parser.add_argument("--every_s", type=float, default=0.5, help="length of a bin")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in options.models:
        card = report.score(scn.load(name), options.data, split=options.split, protocols=(options.protocol,))
        last_us = max(t_us for _, t_us in card.predictions.truth)
        every_us, bins = round(1e6 * options.every_s), []
        for start_us in range(0, last_us, every_us):
            stop_us = start_us + every_us
            part = within(card.predictions, start_us, stop_us)
            score = part.score(options.protocol)
            bins.append({
                "start_us": start_us, "stop_us": stop_us, "frames": len(part.truth), "num_truth": score.num_truth,
                "ap": score.ap, "ap50": score.ap50,
            })  # fmt: skip
        rows.append({"model": name, "sha256": sha256(name), "mode": card.mode, "ap": card.scores[options.protocol].ap,
                     "bins": bins})  # fmt: skip
    print(write_result("by_time", {
        **stamp(command=this_command(), seed=None),
        "data": options.data, "split": options.split, "protocol": options.protocol, "rows": rows,
    }))  # fmt: skip


if __name__ == "__main__":
    main()

"""AP of weights on the test splits of several simulated worlds.

    python benchmarks/wide_scores.py --data roads=data/roads wide=data/wide [--models small nano]

Protocol ``prophesee`` on roads, as published, and on every other world, too; with ``--every 4`` on every fourth labeled
frame. Writes ``results/wide_scores.json``.
"""

import argparse

from stamp import stamp, this_command, write_result
from torch.utils.data import Subset

import spiking_centernet as scn
from spiking_centernet.evaluation.prediction import dataset_for, predict
from spiking_centernet.model.weights import sha256


def main() -> None:
    """Score every model on every world."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, metavar="NAME=FOLDER", help="the worlds")
    parser.add_argument("--models", nargs="+", default=["small", "nano"])
    parser.add_argument("--protocol", default="prophesee")
    parser.add_argument("--every", type=int, default=1, help="labeled frames from one to the next that is scored")
    given = parser.parse_args()
    weights: dict[str, dict] = {}
    for name in given.models:
        model = scn.load(name)
        for entry in given.data:
            world, _, folder = entry.partition("=")
            dataset = dataset_for(model, folder, "test")
            frames = Subset(dataset, range(0, len(dataset), given.every))
            score = predict(model, frames).score(given.protocol)
            row = {
                "ap": score.ap,
                "ap50": score.ap50,
                "ap75": score.ap75,
                "boxes": sum(c.num_truth for c in score.classes),
            }
            weights.setdefault(name, {})[world] = row
            print(name, world, row, flush=True)
    digests = {name: sha256(name) for name in given.models}
    head = stamp(command=this_command(), seed=None)
    write_result(
        "wide_scores", {**head, "protocol": given.protocol, "every": given.every, "sha256": digests, "weights": weights}
    )


if __name__ == "__main__":
    main()

"""Score a detector on a folder of recordings under every protocol, detecting only once.

python examples/evaluate_folder.py data/roads --split test
"""

import argparse
from collections.abc import Sequence

import spiking_centernet as scn
from spiking_centernet.evaluation.metrics import PROTOCOLS
from spiking_centernet.evaluation.prediction import dataset_for, predict


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for every protocol."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--split", default="val")
    parser.add_argument("--model", default="nano")
    options = parser.parse_args(arguments)
    model = scn.load(options.model)
    predictions = predict(model, dataset_for(model, options.data, options.split))
    for protocol in PROTOCOLS:
        score = predictions.score(protocol)
        print(f"{protocol}: AP {score.ap:.3f}, AP50 {score.ap50:.3f}, {score.num_truth} boxes")


if __name__ == "__main__":
    main()

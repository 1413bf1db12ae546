"""Average two weight files of one network: a detector and what it was fine-tuned to.

    python benchmarks/average_weights.py small runs/fine_tuned --share 0.5 --data data/mixed --out runs/mean

Fine-tuned weights know the new data better and the old data worse. On the line between both lie weights that keep most
of both (WiSE-FT, Wortsman et al., arXiv 2109.01903). The score threshold is chosen on the validation split of
``--data``, as training does. With ``--compare``, AP on the validation split of each folder is printed for every share,
to choose by.
"""

import argparse
import dataclasses
from pathlib import Path

import torch
from torch.utils.data import Subset

import spiking_centernet as scn
from spiking_centernet.evaluation.metrics import best_threshold
from spiking_centernet.evaluation.prediction import dataset_for, predict
from spiking_centernet.model import AnyDetector, Detector
from spiking_centernet.model.config import AS_IT_IS
from spiking_centernet.model.config_dict import with_changes
from spiking_centernet.model.firing_rate import FiringRates
from spiking_centernet.model.weights import notes, sha256


def average(first: Detector, second: Detector, share: float) -> Detector:
    """Return the network with ``share`` of the second's weights, time constants and running means."""
    if dataclasses.replace(first.config, deployment=second.config.deployment) != second.config:
        raise SystemExit("the two files hold different networks; only weights of one network can be averaged")
    ours, theirs = first.state_dict(), second.state_dict()
    mean = Detector(with_changes(first.config, {"deployment.score_fit": AS_IT_IS}))
    mean.load_state_dict({
        name: torch.lerp(value, theirs[name], share) if value.is_floating_point() else theirs[name]
        for name, value in ours.items()
    })  # fmt: skip
    return mean.eval()


def frames(model: AnyDetector, folder: Path, every: int) -> Subset:
    """Return every so manieth labeled frame of a folder's validation split."""
    dataset = dataset_for(model, folder, "val", fit=False)
    return Subset(dataset, range(0, len(dataset), every))


def main() -> None:
    """Compare shares, or write a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", help="bundled name, weight file or run folder")
    parser.add_argument("second")
    parser.add_argument("--share", nargs="+", type=float, required=True, help="of the second, 0 to 1")
    parser.add_argument(
        "--compare", nargs="*", type=Path, default=[], help="folders whose AP is printed for every share"
    )
    parser.add_argument("--every", type=int, default=8, help="labeled frames to step over in the comparison")
    parser.add_argument("--data", type=Path, help="folder that the threshold is chosen on")
    parser.add_argument("--out", type=Path, help="folder for best.safetensors")
    given = parser.parse_args()
    first, second = scn.load(given.first), scn.load(given.second)
    for share in given.share if given.compare else []:
        model = average(first, second, share)
        for folder in given.compare:
            score = predict(model, frames(model, folder, given.every)).score("none")
            print(f"share {share:g}, {folder.name}: AP {score.ap:.4f}, AP50 {score.ap50:.4f}", flush=True)
    if given.out is None:
        return
    (share,) = given.share
    model = average(first, second, share)
    rates = FiringRates.of(model)
    score = predict(model, frames(model, given.data, 1), observe=rates).score("none")
    config = with_changes(model.config, {"deployment": {"score_threshold": best_threshold(score)}})
    chosen = Detector(config)
    chosen.load_state_dict(model.state_dict())
    noted = {
        **notes(given.second),
        "validation": {name: value for name, value in score.to_dict().items() if name != "classes"},
        "firing_rate": rates.overall(),
        "firing_rates": rates.per_layer(),
        "averaged": {"first": sha256(given.first), "second": sha256(given.second), "share": share},
    }
    print(f"AP {score.ap:.4f} on {given.data}; wrote {scn.save(chosen, given.out / 'best', notes=noted)}")


if __name__ == "__main__":
    main()

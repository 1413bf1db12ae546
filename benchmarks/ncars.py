"""Score classifiers of car cut-outs on cut-outs of simulated roads, and once on real ones that nothing was trained on.

    python benchmarks/ncars.py --data data/cars --models nano-ncars transfer=runs/ncars_transfer --real data/real/ncars

Writes ``results/ncars.json``. The real cut-outs are a part of N-CARS (Sironi et al., CVPR 2018).
"""

import argparse
from pathlib import Path

import torch
from stamp import stamp, this_command, write_result

import spiking_centernet as scn
from spiking_centernet.evaluation import report
from spiking_centernet.evaluation.classification import ClassificationScore, score_classes
from spiking_centernet.model.weights import notes, sha256


def real_score(model: scn.Detector, folder: Path) -> ClassificationScore:
    """Return the score on every cut-out of ``n-cars_train``, which the layout tells apart into train and val."""
    parts = [report.score(model, f"ncars:{folder}", split=split).predictions for split in ("train", "val")]
    whole = parts[0].merge(parts[1:])
    return score_classes(whole.truth, whole.detections, model.config.classes)


def main() -> None:
    """Score and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/cars"), help="of scn convert --to ncars")
    parser.add_argument(
        "--models", nargs="+", default=["nano-ncars"], help="WEIGHTS or NAME=WEIGHTS; the first is shown real data"
    )
    parser.add_argument("--real", type=Path, help="folder with n-cars_train; left out, nothing real is scored")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows, real = {}, None
    for number, word in enumerate(arguments.models):
        name, _, weights = word.rpartition("=")
        model = scn.load(weights)
        card = report.score(model, f"ncars:{arguments.data}", split="test")
        (score,) = card.scores.values()
        noted = notes(weights)
        rows[name or weights] = {
            **score.tasks["classify"].to_dict(), "firing_rate": card.rates.overall(), "sha256": sha256(weights),
            "parameters": sum(p.numel() for p in model.parameters()), "steps": noted["step"],
            "start": noted["recipe"]["weights"],
        }  # fmt: skip
        if not number and arguments.real is not None:
            real = real_score(model, arguments.real).to_dict()
    about = {"data": str(arguments.data), "split": "test", "models": rows, "real": real}
    print(write_result("ncars", {**about, "provenance": stamp(command=this_command(), seed=None)}))


if __name__ == "__main__":
    main()

"""What share of its ANN counterpart's score a spiking network reaches, task by task, on the split that nothing chose.

    python benchmarks/ann_ratio.py --data data/roads --pairs nano=runs/nano_relu nano-frames=runs/nano_frames_relu
    python benchmarks/ann_ratio.py --data ncars:data/cars --pairs nano-ncars=runs/ncars_relu

The recipe of a counterpart is called as the network's, with ``_relu``. How many windows both learned from is counted
with those of the weights they started from: weights that were trained in parts have seen more than their last run says.
Writes ``results/ann_ratio.json`` after every pair and keeps the pairs that stand in it; one that was measured with the
same weights and data is not measured again.
"""

import argparse
import csv
import json
import math
from pathlib import Path
from typing import Any

import torch
from stamp import RESULTS, stamp, this_command, write_result

import spiking_centernet as scn
from spiking_centernet.data.fingerprint import fingerprint_of
from spiking_centernet.errors import ConfigError
from spiking_centernet.evaluation import report
from spiking_centernet.evaluation.metrics import Score
from spiking_centernet.evaluation.prediction import dataset_for
from spiking_centernet.model.weights import bundled, notes, sha256
from spiking_centernet.training.config import read_yaml

NAME = "ann_ratio"
RECIPES = Path(__file__).resolve().parents[1] / "recipes"


def scores_of(score: Score) -> dict[str, float]:
    """Return the primary scores by task; of boxes AP and AP50."""
    own = {} if "classify" in score.tasks else {"ap": score.ap, "ap50": score.ap50}
    return own | {task: one.primary for task, one in score.tasks.items()}


def shares(snn: dict[str, float | None], ann: dict[str, float | None]) -> dict[str, float | None]:
    """Return the spiking network's scores over its counterpart's, None where there is none or that one scored 0."""
    both = {name: (score, ann[name]) for name, score in snn.items()}
    return {name: own / other if own is not None and other else None for name, (own, other) in both.items()}


def same_task(snn: scn.Detector, ann: scn.Detector, pair: str) -> None:
    """Refuse a pair that is no spiking network with its counterpart.

    Raises:
        ConfigError: Their neurons, tasks, classes or input differ otherwise than in the kind of neuron and the steps.
    """
    kinds = snn.config.neuron.is_spiking, ann.config.neuron.is_spiking
    if kinds != (True, False):
        raise ConfigError(f"{pair}: give a spiking network, then its counterpart with neuron.kind relu")
    for what in ("tasks", "classes"):
        if getattr(snn.config, what) != getattr(ann.config, what):
            raise ConfigError(f"{pair}: their {what} differ; only the same answers compare")
    if snn.config.voxels.takes_frames != ann.config.voxels.takes_frames:
        raise ConfigError(f"{pair}: one sees pictures, the other events")


def windows_of(weights: str) -> int:
    """Return how many windows weights have learned from, with those of the weights they started from."""
    noted = notes(weights)
    return noted["step"] * noted["recipe"]["batch_size"] + windows_before(noted["recipe"].get("weights"))


def windows_before(start: str | None) -> int:
    """Return how many windows the weights named in a recipe have learned from, 0 where it names none.

    A run is looked up in the repository: its recipe is called as its folder, and its log lies in ``results``.
    """
    if start is None:
        return 0
    if start in bundled():
        return windows_of(start)
    run = Path(start).name
    recipe = read_yaml(RECIPES / f"{run}.yaml")
    with (RESULTS / f"{run}_training.csv").open(encoding="utf-8", newline="") as log:
        steps = max(int(row["step"]) for row in csv.DictReader(log))
    return steps * recipe["batch_size"] + windows_before(recipe.get("weights"))


def measured(weights: str, data: str, split: str, protocol: str | None) -> dict[str, Any]:
    """Score weights on a split and return the row."""
    card = report.score(scn.load(weights), data, split=split, protocols=() if protocol is None else (protocol,))
    ((name, score),) = card.scores.items()
    scores = {task: None if math.isnan(value) else value for task, value in scores_of(score).items()}
    return {
        "sha256": sha256(weights), "protocol": name, "scores": scores, "firing_rate": card.rates.overall(),
        "steps": notes(weights).get("step"), "windows": windows_of(weights),
    }  # fmt: skip


def name_of(weights: str) -> str:
    """Return the name of bundled weights, of others that of the file or run folder, written alike."""
    return weights if weights in bundled() else Path(weights).stem.replace("_", "-")


def main() -> None:
    """Score the pairs and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data/roads", help="folder of the splits, its layout before it if need be")
    parser.add_argument("--split", default="test")
    parser.add_argument("--protocol", help="left out, prophesee, or none of pictures and classes")
    parser.add_argument("--pairs", nargs="+", required=True, help="SNN=ANN: bundled names, weight files or run folders")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / f"{NAME}.json"
    rows = json.loads(path.read_text())["pairs"] if path.is_file() else {}
    for pair in arguments.pairs:
        snn, _, ann = pair.partition("=")
        model = scn.load(snn)
        same_task(model, scn.load(ann), pair)
        of = {
            "data": arguments.data, "split": arguments.split, "asked": arguments.protocol,
            "fingerprint": fingerprint_of(dataset_for(model, arguments.data, arguments.split)),
            "sha256": [sha256(snn), sha256(ann)],
        }  # fmt: skip
        if rows.get(name_of(snn), {}).get("of") == of:
            print(f"{pair}: measured already")
            continue
        both = [measured(one, arguments.data, arguments.split, arguments.protocol) for one in (snn, ann)]
        rows[name_of(snn)] = {
            "of": of, "snn": both[0], "ann": both[1], "share": shares(both[0]["scores"], both[1]["scores"]),
            "provenance": stamp(command=this_command(), seed=None),
        }  # fmt: skip
        print(f"{pair}: {rows[name_of(snn)]['share']}", flush=True)
        write_result(NAME, {"pairs": dict(sorted(rows.items()))}, RESULTS)


if __name__ == "__main__":
    main()

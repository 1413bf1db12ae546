"""Accuracy over firing rate: fine-tunes nano to targets from 20 % down to 3 %, three seeds each.

    python benchmarks/firing_rate_study.py --data data/roads --out runs/firing_rate

Trains by ``recipes/firing_rate_study.yaml``, one run folder a target and seed; runs that are finished are skipped and a
stopped one is resumed, so that it may be killed at any time. Every finished run is scored under ``prophesee`` on val
and test; the choice of a model looks at val alone. nano spikes at 12 %, so that nothing is ever due at the highest
target: that one is the control, the same fine-tuning for nothing. Writes ``results/firing_rate_study.json`` and the
plot ``docs/images/firing_rate_study.png`` after every run.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from stamp import RESULTS, ROOT, stamp, this_command, write_result

from spiking_centernet.data import Augmentation
from spiking_centernet.evaluation import report
from spiking_centernet.evaluation.energy.models import LITERATURE_BREAK_EVEN
from spiking_centernet.evaluation.energy.report import costs
from spiking_centernet.experiments.energy_page import curve_plot
from spiking_centernet.training.config import Recipe, read_recipe
from spiking_centernet.training.spike_penalty import SpikePenalty
from spiking_centernet.training.trainer import train
from spiking_centernet.utils.provenance import write_json

TARGETS = (0.20, 0.12, 0.08, 0.057, 0.04, 0.03)
SEEDS = (0, 1, 2)
SPLITS = ("val", "test")
PROTOCOL = "prophesee"
NAME = "firing_rate_study"
RECIPE = ROOT / "recipes" / "firing_rate_study.yaml"


def recipe_of(path: Path, target: float, seed: int, num_threads: int | None, **changes) -> Recipe:
    """Return the recipe of one run."""
    values = read_recipe(path) | {"seed": seed, "num_threads": num_threads} | changes
    if values.get("augmentation") is not None:
        values["augmentation"] = Augmentation(**vars(values["augmentation"]))
    values["penalty"] = SpikePenalty(**(vars(values["penalty"]) | {"target": target}))
    return Recipe(**values)


def scored(model, data: Path, split: str) -> dict[str, float | None]:
    """Return score and firing rate of a model on a split."""
    card = report.score(model, data, split=split, protocols=[PROTOCOL])
    score = card.scores[PROTOCOL]
    return {
        "ap": None if score.ap != score.ap else score.ap,
        "ap50": None if score.ap50 != score.ap50 else score.ap50,
        "firing_rate": card.rates.overall(),
    }


def costed(model, data: Path, split: str) -> dict[str, float]:
    """Return operations and computed energy of a model on a split."""
    found = costs(model, data, split=split, measure_s=0)
    ops = found.operations
    return {
        "synaptic": ops.synaptic / ops.num_windows,
        "dense": ops.dense / ops.num_windows,
        "memory_uj": found.breakdowns["memory"].total() * 1e-6,
        "horowitz45_uj": found.breakdowns["horowitz45"].total() * 1e-6,
    }


def run_one(target: float, seed: int, data: Path, out: Path, recipe: Recipe) -> dict:
    """Train and score one run, or take what an earlier call left."""
    folder = out / f"{target:g}_seed{seed}"
    kept = folder / "study.json"
    # Threads change nothing that is measured, so that a study may resume with another number of them.
    key = json.loads(json.dumps(dataclasses.asdict(recipe) | {"num_threads": None, "data": str(data)}))
    if kept.is_file():
        before = json.loads(kept.read_text())
        if before["key"] != key:
            raise SystemExit(f"{folder}: was run by another recipe or on other data; choose another --out")
        return before["result"]
    model = train(recipe, data, out=folder, resume=(folder / "config.yaml").is_file())
    result = {"target": target, "seed": seed} | {split: scored(model, data, split) for split in SPLITS}
    result["test"] |= costed(model, data, "test")
    write_json(kept, {"key": key, "result": result})
    return result


def conclusion(runs: list[dict]) -> dict:
    """Return means over seeds by target, and the lowest one that keeps 95 % of the highest one's AP on val."""
    by_target = []
    for target in dict.fromkeys(run["target"] for run in runs):
        mine = [run for run in runs if run["target"] == target]
        row: dict = {"target": target, "seeds": len(mine)}
        for split in SPLITS:
            for key in mine[0][split]:
                values = [run[split][key] for run in mine if run[split][key] is not None]
                row[f"{split}_{key}"] = sum(values) / len(values) if values else None
        by_target.append(row)
    control = by_target[0]["val_ap"]
    kept = [row for row in by_target[1:] if control and row["val_ap"] is not None and row["val_ap"] >= 0.95 * control]
    chosen = min(kept, key=lambda row: row["val_firing_rate"], default=None)
    reached = chosen is not None and chosen["val_firing_rate"] < LITERATURE_BREAK_EVEN
    return {"by_target": by_target, "chosen_on_val": None if chosen is None else chosen["target"],
            "under_break_even_at_95_percent_of_ap": reached}  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="simulated roads with train, val and test")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many seeds")
    parser.add_argument("--num_threads", type=int, default=None)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON")
    parser.add_argument("--plot", type=Path, default=ROOT / "docs" / "images" / f"{NAME}.png")
    args = parser.parse_args(argv)
    runs = []
    # Seed by seed, so that a study cut short has every target.
    for seed in range(args.seeds):
        for target in TARGETS:
            recipe = recipe_of(args.recipe, target, seed, args.num_threads)
            runs.append(run_one(target, seed, args.data, args.out, recipe))
            print(json.dumps(runs[-1]))
            result = {
                **stamp(command=this_command(), seed=None), "data": "simulated roads", "protocol": PROTOCOL,
                "recipe": dataclasses.asdict(recipe_of(args.recipe, TARGETS[0], 0, None)),
                **conclusion(runs), "runs": runs,
            }  # fmt: skip
            write_result(NAME, result, args.results)
            curve_plot(runs, args.plot)


if __name__ == "__main__":
    main()

"""AP and firing rate of detectors under sensor corruptions: the SNN, its ANN counterpart, the one trained with noise.

    python benchmarks/robustness.py --data data/clear --models nano runs/nano_relu --worlds data/night

Writes ``results/robustness.json`` and ``docs/images/robustness.png``. Worlds are folders simulated under other
conditions (``scn simulate --light night``, ``--rain_mm_h``, ``--flicker_hz``, ``--threshold_scale``), scored as
they are.
"""

import argparse
import json
from pathlib import Path

from stamp import ROOT, stamp, this_command, write_result

from spiking_centernet.evaluation import report, robustness
from spiking_centernet.model.weights import load
from spiking_centernet.utils.provenance import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="data/roads")
    parser.add_argument("--split", default="test")
    parser.add_argument("--models", nargs="+", default=["nano"])
    parser.add_argument("--worlds", nargs="*", default=[], help="folders simulated under harder conditions")
    parser.add_argument("--corruptions", nargs="+", default=["all"])
    parser.add_argument("--protocol", default="prophesee")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="what computes, for example cuda")
    parser.add_argument("--out", type=Path, default=None, help="write the JSON there, and no plot")
    arguments = parser.parse_args()
    models = {}
    for name in arguments.models:
        model = load(name, device=arguments.device)
        card = report.score(model, arguments.data, split=arguments.split, protocols=[arguments.protocol])
        result = robustness.score_corruptions(
            model, arguments.data, card, names=arguments.corruptions, seed=arguments.seed
        )
        worlds = {}
        for folder in map(Path, arguments.worlds):
            there = report.score(model, folder, split=arguments.split, protocols=[arguments.protocol])
            description = json.loads((folder / "simulation.json").read_text())
            score = there.scores[arguments.protocol].to_dict()
            worlds[folder.name] = {
                "condition": description.get("condition"), "ap": score["ap"], "ap50": score["ap50"],
                "num_truth": score["num_truth"], "firing_rate": there.rates.overall(),
            }  # fmt: skip
        models[Path(name).name] = {"neuron": model.config.neuron.kind, **result.to_dict(), "worlds": worlds}
    head = stamp(command=this_command(), seed=arguments.seed)
    result = {**head, "data": "simulated roads", "split": arguments.split, "models": models}
    if arguments.out is not None:
        write_json(arguments.out, result)
        return
    write_result("robustness", result)
    robustness.plot(models, ROOT / "docs" / "images" / "robustness.png")


if __name__ == "__main__":
    main()

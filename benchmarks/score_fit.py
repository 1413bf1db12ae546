"""Fit the scores of trained weights on validation data, so that boxes of any size compare, and choose their threshold.

    python benchmarks/score_fit.py small-wide --data data/roads data/wide data/close --out runs/small_wide_fitted

What ``fit_scores: true`` in a recipe does at the end of a training, for weights that exist and for several data sets,
which weigh alike. The weights keep every tensor; AP on the split ``val`` is told before and after, once with the fit of
all recordings and once with that of the half to which the scored recordings do not belong. Writes
``results/score_fit.json``, whose other weights stay.
"""

import argparse
import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import torch
from stamp import RESULTS, stamp, this_command, write_result
from torch.utils.data import Subset

import spiking_centernet as scn
from spiking_centernet.evaluation.metrics import best_threshold
from spiking_centernet.evaluation.prediction import Predictions, dataset_for, predict
from spiking_centernet.evaluation.score_fit import fit_scores, with_fitted_scores
from spiking_centernet.model import Detector
from spiking_centernet.model.config import AS_IT_IS
from spiking_centernet.model.config_dict import with_changes
from spiking_centernet.model.weights import notes, sha256

PROTOCOL = "none"


def of_recordings(predictions: Predictions, names: Collection[str]) -> Predictions:
    """Return the frames of these recordings."""
    return replace(
        predictions,
        truth={key: boxes for key, boxes in predictions.truth.items() if key[0] in names},
        detections={key: found for key, found in predictions.detections.items() if key[0] in names},
    )


def halves(predictions: Predictions) -> tuple[Predictions, Predictions]:
    """Return every other recording's frames, and the rest."""
    names = sorted({name for name, _ in predictions.truth})
    return of_recordings(predictions, set(names[::2])), of_recordings(predictions, set(names[1::2]))


def ap(predictions: Predictions) -> dict[str, float]:
    """Return AP and AP50."""
    score = predictions.score(PROTOCOL)
    return {"ap": score.ap, "ap50": score.ap50}


def main() -> None:
    """Fit, choose, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="bundled name, weight file or run folder")
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--every", type=int, default=2, help="labeled frames to step over")
    parser.add_argument("--out", type=Path, required=True, help="folder for best.safetensors")
    given = parser.parse_args()
    torch.set_num_threads(1)
    trained = scn.load(given.weights)
    model = Detector(with_changes(trained.config, {"deployment.score_fit": AS_IT_IS})).eval()
    model.load_state_dict(trained.state_dict())
    worlds: dict[str, Predictions] = {}
    for folder in given.data:
        dataset = dataset_for(model, folder, "val", fit=False)
        worlds[folder.name] = predict(model, Subset(dataset, range(0, len(dataset), given.every)))
    fit = fit_scores(list(worlds.values()), protocol=PROTOCOL)
    parts = {name: halves(predictions) for name, predictions in worlds.items()}
    of_half = [fit_scores([pair[k] for pair in parts.values()], protocol=PROTOCOL) for k in (0, 1)]
    rows = {}
    for name, predictions in worlds.items():
        crossed = [with_fitted_scores(parts[name][k], of_half[1 - k]) for k in (0, 1)]
        rows[name] = {
            "frames": len(predictions.truth), "before": ap(predictions),
            "after": ap(with_fitted_scores(predictions, fit)),
            "halves_before": [ap(half) for half in parts[name]], "halves_after": [ap(half) for half in crossed],
        }  # fmt: skip
        print(name, rows[name], flush=True)
    # Frames of several worlds may have the same name.
    joined = [
        replace(
            predictions,
            truth={(f"{world}/{name}", t_us): boxes for (name, t_us), boxes in predictions.truth.items()},
            detections={(f"{world}/{name}", t_us): found for (name, t_us), found in predictions.detections.items()},
        )
        for world, predictions in worlds.items()
    ]
    fitted = with_fitted_scores(joined[0].merge(joined[1:]), fit)
    threshold = best_threshold(fitted.score(PROTOCOL))
    chosen = Detector(with_changes(model.config, {"deployment": {"score_fit": fit, "score_threshold": threshold}}))
    chosen.load_state_dict(model.state_dict())
    data = [str(folder) for folder in given.data]
    noted = {**notes(given.weights), "score_fit": {"of": sha256(given.weights), "data": data, "every": given.every}}
    path = scn.save(chosen, given.out / "best", notes=noted)
    result = {
        **stamp(command=this_command(), seed=None), "weights": given.weights, "sha256": sha256(given.weights),
        "data": data, "every": given.every, "protocol": PROTOCOL, "fit": fit,
        "threshold": {"before": trained.config.deployment.score_threshold, "after": threshold}, "worlds": rows,
    }  # fmt: skip
    name = Path(given.weights).stem.replace("_", "-")
    file = RESULTS / "score_fit.json"
    rows = json.loads(file.read_text())["weights"] if file.is_file() else {}
    write_result("score_fit", {"weights": {**rows, name: result}})
    print(f"{path}, threshold {threshold}")


if __name__ == "__main__":
    main()

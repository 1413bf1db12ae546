"""Which augmentation of events carries over to real recordings, and what it costs on simulated roads.

    python benchmarks/augmentations.py --data data/mixed --worlds roads=data/roads wide=data/wide [--real data/real]

Fine-tunes the bundled ``nano`` once for each group of settings of ``recipes/nano_augmentations.yaml``: with flips
alone, with flips and that group, and with all of them; same seed, same steps. Scores them on the validation splits
and on the real suite. A run that is there already is not trained again, one that was cut off goes on. Writes
``results/augmentations.json``.
"""

import argparse
import os
from dataclasses import asdict
from pathlib import Path

import real_suite
from stamp import ROOT, stamp, this_command, write_result

import spiking_centernet as scn
from spiking_centernet.data.augmentation import Augmentation
from spiking_centernet.evaluation.prediction import dataset_for, predict
from spiking_centernet.training.recipes import recipe_for

RECIPE = ROOT / "recipes" / "nano_augmentations.yaml"
GROUPS = {
    "zoom": ("zoom", "zoom_range"),
    "time": ("window", "window_range", "empty_past", "filled_range"),
    "sensor": ("noise", "noise_range_hz", "drop", "drop_range", "fault"),
    "polarity": ("swap_polarity", "merge_polarity"),
    "pasted objects": ("paste", "mix"),
    "isolated parts": ("isolate",),
}
"""Name of a group -> its settings."""


def arms(full: Augmentation) -> dict[str, Augmentation]:
    """Return the settings of every run by its name."""
    of = asdict(full)
    off = asdict(Augmentation(flip=full.flip, zoom=0.0))
    chosen = {"flips alone": off}
    for name, fields in GROUPS.items():
        chosen[name] = off | {field: of[field] for field in fields}
    return {name: Augmentation(**fields) for name, fields in chosen.items()} | {"all": full}


def train(name: str, augmentation: Augmentation, options: argparse.Namespace) -> Path:
    """Train a run, or what is left of it, and return its folder."""
    out = options.out / name.replace(" ", "_")
    if not (out / "best.safetensors").is_file():
        recipe = recipe_for(RECIPE, options.data, {})
        scn.train(
            recipe, options.data, out=out, resume=out.is_dir(), augmentation=augmentation, epochs=1, val_every=1,
            windows_per_epoch=options.steps * recipe.batch_size, seed=options.seed,
        )  # fmt: skip
    return out


def main() -> None:
    """Train and score every run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="what is trained on")
    parser.add_argument("--worlds", nargs="+", required=True, metavar="NAME=FOLDER", help="val splits that score")
    parser.add_argument("--real", type=Path, help="folder of the real suite")
    parser.add_argument("--out", type=Path, default=Path("build/augmentations"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows, full = [], recipe_for(RECIPE, options.data, {}).augmentation
    assert full is not None, RECIPE
    for name, augmentation in arms(full).items():
        run = train(name, augmentation, options)
        model, ap = scn.load(run), {}
        for entry in options.worlds:
            world, _, folder = entry.partition("=")
            ap[world] = round(predict(model, dataset_for(model, folder, "val")).score("none").ap, 4)
        real = {k: v for k, v in real_suite.score(os.fspath(run), options.real, None, "auto").items() if k != "model"}
        rows.append({"augmentation": name, "ap": ap, "real": real})
        print(name, ap, flush=True)
    head = stamp(command=this_command(), seed=options.seed)
    write_result("augmentations", {**head, "steps": options.steps, "split": "val", "protocol": "none", "rows": rows})


if __name__ == "__main__":
    main()

"""The model cards: one for every bundled weight file, from what the file says of itself and the results."""

import re
from functools import cache
from pathlib import Path
from typing import Any

from blocks.common import Results, number, origin, table
from spiking_centernet.model import Detector, DetectorConfig
from spiking_centernet.model.weights import bundled, config_of, find, notes, sha256


def cards(results: Results) -> str:
    """A card for every bundled weight file."""
    return "\n\n".join(_card(name, results) for name in sorted(bundled(), key=lambda name: (len(name), name)))


RECIPE_FOLDER = Path(__file__).resolve().parents[2] / "recipes"


@cache
def recipe_of(name: str) -> str:
    """Return the recipe that made bundled weights, relative to ``recipes``: the one whose header says so."""
    says = re.compile(rf"^# +bundled: +{name}$", re.MULTILINE)
    (found,) = (path for path in RECIPE_FOLDER.rglob("*.yaml") if says.search(path.read_text(encoding="utf-8")))
    return found.relative_to(RECIPE_FOLDER).as_posix()


def counterpart_recipe(name: str) -> str | None:
    """Return the recipe of the ANN counterpart of weights, relative to ``recipes``; None if there is none.

    Weights that are not bundled are called as their recipe.
    """
    own = recipe_of(name) if name in bundled() else name.replace("-", "_")
    recipe = f"{own.removesuffix('.yaml').removesuffix('_roads')}_relu.yaml"
    return recipe if (RECIPE_FOLDER / recipe).is_file() else None


def task_of(config: DetectorConfig) -> str:
    """Return what a network answers, in words."""
    if config.classifies:
        return f"which of {', '.join(config.classes)} a recording shows"
    others = {"detect3d": "3D boxes", "pose": f"{len(config.head.joints)} joints of people"}
    more = [others[task] for task in config.tasks if task in others]
    where = "pictures" if config.voxels.takes_frames else "event recordings"
    return ", ".join([f"boxes of {', '.join(config.classes)}", *more]) + f" in {where}"


def _input(config: DetectorConfig) -> str:
    """Return what a network sees, in words."""
    voxels, (height, width) = config.voxels, config.deployment.trained_hw
    if voxels.takes_frames:
        kind = "gray pictures" if voxels.colors == 1 else "pictures in color"
        return f"{kind}, mode `{voxels.mode}`, {voxels.num_steps} steps; trained at {width} x {height} pixels"
    return (
        f"{voxels.window_us / 1000:g} ms of events as {voxels.num_steps} steps of {voxels.bins} x 2 {voxels.mode} "
        f"channels; trained at {width} x {height} pixels"
    )


def _card(name: str, results: Results) -> str:
    config, noted = config_of(name), notes(name)
    recipe: dict[str, Any] = noted["recipe"]
    stem = name.replace("-", "_")
    parameters = sum(p.numel() for p in Detector(config).parameters())
    averaged = noted.get("averaged")
    mixed = f", then averaged with `{recipe['weights']}`, share {averaged['share']:g}" if averaged else ""
    kind = "spiking network" if config.neuron.is_spiking else "ANN counterpart"
    start = f"the weights `{recipe['weights']}`" if recipe.get("weights") else "random weights"
    facts = [
        ("task", task_of(config)),
        ("network", f"{kind}, {config.neuron.kind} neurons, {parameters / 1e6:.2f} M parameters, output stride "
                    f"{config.stride}"),
        ("input", _input(config)),
        ("trained by", f"[{recipe_of(name)}](../recipes/{recipe_of(name)}) from {start}, seed {recipe['seed']}; these "
                       f"weights are those of epoch {noted['epoch'] + 1}, step {noted['step']}{mixed}"),
        *([] if config.classifies else [
            ("score threshold", f"{config.deployment.score_threshold:g}, chosen on the validation split")
        ]),
        ("firing rate", f"{noted['firing_rate']:.1%} on the validation split"),
        ("file", f"{find(name).stat().st_size / 1e6:.1f} MB, sha256 `{sha256(name)}`"),
        ("license", "Apache-2.0"),
    ]  # fmt: skip
    parts = [f"## {name}", table(("", ""), facts, words=2)]
    if config.classifies:
        return "\n\n".join([*parts, *_classifier(name, results)])
    try:
        measured = results[f"{stem}_roads"]
    except FileNotFoundError:
        parts.append("*Not scored yet.*")
        return "\n\n".join(parts)
    if measured.get("sha256", sha256(name)) != sha256(name):
        raise ValueError(f"results/{stem}_roads.json was measured with other weights than the bundled ones")
    rows = [
        (f"`{protocol}`", number(s["ap"]), number(s["ap50"]), *(number(c["ap"]) for c in s["classes"]), s["num_truth"])
        for protocol, s in measured["scores"].items()
    ]
    header = ("protocol", "AP", "AP50", *(f"AP {name}" for name in config.classes), "boxes")
    parts += [
        table(header, rows),
        f"Simulated roads, split `{measured['split']}`, {measured['recordings']} clips. {origin(measured)}",
        f"**Use:** research, and as a start for your own data: `scn train --data mine --weights {name}`. "
        "**Limits:** trained and scored on SIMULATED recordings; [real recordings](real.md) shows "
        "how that carries over. Boxes are not safe to act on where a miss can hurt somebody.",
    ]
    return "\n\n".join(parts)


def _classifier(name: str, results: Results) -> list[str]:
    """Return what a classifier's card says of its scores."""
    measured = results["ncars"]
    row = measured["models"][name]
    if row["sha256"] != sha256(name):
        raise ValueError(f"results/ncars.json was measured with other weights than the bundled {name}")
    return [
        f"Accuracy {number(row['accuracy'])} on {row['trials']} cut-outs of simulated roads, split "
        f"`{measured['split']}`. {origin(measured)}",
        "**Use:** research, and as a start for N-CARS itself: `scn train recipes/tasks/ncars.yaml --weights "
        f"{name}`. **Limits:** trained on the SIMULATED stand-in; [classification](classification.md) says what it "
        "does on real cut-outs.",
    ]

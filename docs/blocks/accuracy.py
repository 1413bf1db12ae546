"""Blocks about the network, its recipes and how well it detects."""

import dataclasses
import inspect
import re
import statistics
from collections.abc import Callable

from blocks.cards import counterpart_recipe, recipe_of
from blocks.common import Results, number, origin, table
from blocks.real import REAL_HEADER, REAL_NOTE, real_columns
from spiking_centernet.data import Augmentation
from spiking_centernet.evaluation.metrics import PROTOCOLS
from spiking_centernet.experiments.study.table import HEADER as STUDY_HEADER
from spiking_centernet.experiments.study.table import caption, cells, read_lines
from spiking_centernet.model import PRESETS, Detector
from spiking_centernet.model.weights import bundled, config_of, notes, sha256
from spiking_centernet.training.config import Recipe


def small_scores(results: Results) -> str:
    """Scores of the best bundled weights on the simulated test split, under every protocol."""
    r = results["small_roads"]
    keys = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    rows = [
        (f"`{name}`", *(number(s[key]) for key in keys), s["num_truth"], s["num_instants"])
        for name, s in r["scores"].items()
    ]
    header = ("protocol", "AP", "AP50", "AP75", "small", "medium", "large", "boxes", "labeled frames")
    return (
        f"{table(header, rows)}\n\nSimulated roads, split `{r['split']}`, {r['recordings']} clips; "
        f"firing rate {r['firing_rate']:.1%}. {origin(r)}"
    )


def small_classes(results: Results) -> str:
    """The same by class, under the default protocol."""
    r = results["small_roads"]
    rows = [
        (c["name"], number(c["ap"]), number(c["ap50"]), c["num_truth"]) for c in r["scores"]["prophesee"]["classes"]
    ]
    return table(("class", "AP", "AP50", "boxes"), rows)


def real_clip(results: Results) -> str:
    """The check on the real recording."""
    r = results["demo"]
    c = r["real_clip"]
    return (
        f"On the real clip, {c['num_found']} of {c['num_truth']} hand-drawn boxes are detected at IoU 0.5 "
        f"({c['tracks_found']} of {c['num_tracks']} cars), with {c['num_false']} other boxes. {origin(r)}"
    )


def protocols(results: Results) -> str:
    """The protocols as the code defines them."""
    rows = [
        (f"`{p.name}`", "-" if p.skip_us is None else f"{p.skip_us / 1e6:g} s",
         *(f"{diagonal} / {side}" if diagonal else "-" for diagonal, side in (p.gen1_px, p.megapixel_px)),
         "all labeled" if p.score_emptied else "with a box left")
        for p in PROTOCOLS.values()
    ]  # fmt: skip
    return table(("name", "skipped", "to 640 px wide", "wider", "labeled frames scored"), rows, words=5)


def presets(results: Results) -> str:
    """The sizes of the network, counted."""
    weights = bundled()
    rows = []
    for name, config in ((n, c) for n, c in PRESETS.items() if not c.classifies):
        parameters = sum(p.numel() for p in Detector(config).parameters())
        channels = ", ".join(map(str, config.encoder.widths))
        rows.append(
            (f"`{name}`", f"{parameters / 1e6:.2f} M", channels, config.stride, "yes" if name in weights else "not yet")
        )
    return table(("preset", "parameters", "encoder channels", "output stride", "bundled weights"), rows)


def recipe(results: Results) -> str:
    """The fields of a recipe from its docstring."""
    return _fields(Recipe, nested="see [below](#augmentation)")


def augmentation(results: Results) -> str:
    """The settings of the augmentation from its docstring."""
    return _fields(Augmentation)


def _fields(kind: type, nested: str = "") -> str:
    """Return a table of a dataclass's fields, their defaults and what its docstring says of them."""
    text = (inspect.getdoc(kind) or "").replace("``", "`")
    listed = text.split("Attributes:\n", 1)[1]
    described: dict[str, str] = {}
    for entry in re.split(r"\n(?=    \S)", listed):
        name, meaning = " ".join(entry.split()).split(": ", 1)
        described[name] = meaning
    rows = []
    for field in dataclasses.fields(kind):
        value = getattr(kind(), field.name)
        shown = "null" if value is None else str(list(value) if isinstance(value, tuple) else value)
        is_nested = dataclasses.is_dataclass(value) and not isinstance(value, type)
        rows.append((f"`{field.name}`", nested if is_nested else f"`{shown}`", described[field.name]))
    return table(("field", "default", "what it is"), rows, words=3)


def zoo(results: Results) -> str:
    """The bundled weight files, with what reproduces their scores."""
    rows, origins = [], []
    names = sorted((name for name in bundled() if not config_of(name).classifies), key=lambda name: (len(name), name))
    for name in names:
        stem = name.replace("-", "_")
        digest, recipe_name = sha256(name), recipe_of(name)
        try:
            r = results[f"{stem}_roads"]
        except FileNotFoundError:
            shown = (
                f"[{recipe_name}](../recipes/{recipe_name})",
                f"`{notes(name)['recipe']['protocol']}`, not scored yet",
            )
            rows.append((f"`{name}`", f"`{digest}`", *shown, "-", "-", "-"))
            continue
        if r.get("sha256", digest) != digest:
            raise ValueError(f"results/{stem}_roads.json was measured with other weights than the bundled ones")
        protocol = "prophesee"
        score = r["scores"][protocol]
        rows.append(
            (f"`{name}`", f"`{digest}`", f"[{recipe_name}](../recipes/{recipe_name})",
             f"`{protocol}`, simulated roads, split `{r['split']}`", number(score["ap"]), number(score["ap50"]),
             f"{r['firing_rate']:.1%}")
        )  # fmt: skip
        origins.append(f"`{name}`: {origin(r)}")
    commands = "\n".join(f"scn val {name} --data data/roads --split test --protocol all" for name in names)
    header = ("weights", "sha256", "recipe", "protocol", "AP", "AP50", "firing rate")
    return f"{table(header, rows, words=4)}\n\n```console\n{commands}\n```\n\n" + "\n\n".join(origins)


SCORES = {
    "ap": "AP", "ap50": "AP50", "detect3d": "mean center-distance AP", "pose": "OKS AP", "classify": "accuracy",
}  # fmt: skip
"""What the scores of results/ann_ratio.json are called."""

LEAST_TELLING = 0.01
"""Of a counterpart that scores less, no share is told: neither has learned it."""


def ann_ratio(results: Results) -> str:
    """What share of its ANN counterpart's score a network reaches, by task; a dash where not measured."""
    pairs = results["ann_ratio"]["pairs"]
    rows, origins = [], []
    others = pairs.keys() - bundled()
    for name in [*sorted(bundled(), key=lambda name: (len(name), name)), *sorted(others)]:
        recipe = counterpart_recipe(name)
        if recipe is None:
            continue
        shown = f"[{recipe}](../recipes/{recipe})"
        called = f"`{name}`, does not ship" if name in others else f"`{name}`"
        if name not in pairs:
            rows.append((f"`{name}`", shown, *["-"] * 5))
            continue
        row = pairs[name]
        if name not in others and row["snn"]["sha256"] != sha256(name):
            raise ValueError(f"results/ann_ratio.json was measured with other weights than the bundled {name}")
        seen = " / ".join(f"{row[kind]['windows']:,}" for kind in ("snn", "ann"))
        for task, share in row["share"].items():
            values = (number(row[kind]["scores"][task]) for kind in ("snn", "ann"))
            tells = share is not None and row["ann"]["scores"][task] >= LEAST_TELLING
            rows.append((called, shown, SCORES[task], *values, f"{share:.0%}" if tells else "-", seen))
        origins.append(f"`{name}`: {origin(row)}")
    header = ("weights", "ANN counterpart", "score", "SNN", "ANN", "share", "windows learned from")
    return "\n\n".join([table(header, rows, words=3), *origins])


def zoo_classifiers(results: Results) -> str:
    """The bundled classifiers, with what reproduces their scores."""
    measured = results["ncars"]
    rows, commands = [], []
    for name in sorted(name for name in bundled() if config_of(name).classifies):
        row, digest = measured["models"][name], sha256(name)
        if row["sha256"] != digest:
            raise ValueError(f"results/ncars.json was measured with other weights than the bundled {name}")
        rows.append(
            (f"`{name}`", f"`{digest}`", f"[{recipe_of(name)}](../recipes/{recipe_of(name)})",
             f"`{notes(name)['recipe']['protocol']}`, cut-outs of simulated roads, split `{measured['split']}`",
             number(row["accuracy"]), f"{row['firing_rate']:.1%}")
        )  # fmt: skip
        commands.append(f"scn val {name} --data ncars:data/cars --split test")
    header = ("weights", "sha256", "recipe", "protocol", "accuracy", "firing rate")
    shown = "\n".join(commands)
    return f"{table(header, rows, words=4)}\n\n```console\n{shown}\n```\n\n{origin(measured)}"


def own_classes(results: Results) -> str:
    """A third class from few labeled frames: before, fine-tuned, and from scratch."""
    r = results["own_classes"]
    rows = [
        (row["start"], row["epochs"] * r["steps_an_epoch"] or "-",
         *(number(row.get(f"ap50_{name}")) for name in r["classes"]))
        for row in r["rows"]
    ]  # fmt: skip
    header = ("weights", "steps", *(f"AP50 {name}" for name in r["classes"]))
    boxes = {split: ", ".join(f"{count} {name}" for name, count in r["boxes"][split].items()) for split in r["boxes"]}
    return (
        f"{table(header, rows)}\n\n{r['frames']} labeled frames to train on ({boxes['train']}); scored on other clips "
        f"({boxes['test']}) under the protocol `{r['protocol']}`. One seed. {origin(r)}"
    )


def toy_gestures(results: Results) -> str:
    """Whether a classifier uses the order of time: windows as they are, and with their steps shuffled."""
    r = results["toy_gestures"]
    rows = [
        (name, number(r[key]["accuracy"]), f"{r[key]['turns']:.3f}")
        for name, key in (("in order", "in_order"), ("shuffled", "shuffled"))
    ]
    header = ("time steps of a window", "accuracy, five motions", "accuracy, the two turns")
    return (
        f"{table(header, rows)}\n\nToy data: {r['in_order']['trials']} trials of users that training did not see, "
        f"{r['in_order']['num_turns']} of them turns; {r['epochs']} epochs, one seed. {origin(r)}"
    )


def shipped(results: Results) -> str:
    """Accuracy and speed of the bundled weights."""
    r = results["shipped"]
    measured = {name: row for name, row in r["weights"].items() if name in bundled()}
    for name, row in measured.items():
        if row["sha256"] != sha256(name):
            raise ValueError(f"results/shipped.json was measured with other weights {name} than the bundled ones")
    rows = [
        (
            f"`{name}`", number(row["ap"]), number(row["ap50"]), f"{row['firing_rate']:.1%}",
            number(row["median_ms"], 0), *real_columns(results, name),
        )
        for name, row in sorted(measured.items(), key=lambda item: -item[1]["ap"])
    ]  # fmt: skip
    header = ("weights", "AP", "AP50", "firing rate", "ms a window", *REAL_HEADER)
    return (
        f"{table(header, rows)}\n\nAP, firing rate: simulated roads, split `{r['split']}`, protocol `{r['protocol']}`; "
        f"compiled with `--precision {r['precision']}`, a window of 100 ms on one thread. {REAL_NOTE} {origin(r)}"
    )


def gpu_training(results: Results) -> str:
    """Networks trained on a GPU, and after how many steps they were stopped."""
    r = results["gpu_training"]
    runs = {"small": ("`small`", "small_roads"), "SNN": ("`paper`", "paper_roads"), "teacher": ("its teacher", None)}
    rows = []
    for name, (shown, scored) in runs.items():
        run = r["runs"][name]
        on_test = None if scored is None else results[scored]["scores"]["prophesee"]["ap"]
        rows.append(
            (shown, f"{run['parameters'] / 1e6:.2f} M", f"{run['validated_at_step']} of {run['planned_steps']}",
             f"{run['median_step_s'] * run['validated_at_step'] / 60:.1f} min", number(run["ap_val"]), number(on_test),
             "-" if name == "teacher" else f"{run['firing_rate']:.1%}")
        )  # fmt: skip
    header = ("network", "parameters", "steps", "time", "AP val", "AP test", "firing rate")
    scored = " ".join(origin(results[name]) for _, name in runs.values() if name)
    return (
        f"{table(header, rows)}\n\nSimulated roads, protocol `{r['runs']['small']['protocol']}`; trained side by side "
        f"on one {r['device']}. {origin(r)} {scored}"
    )


def tracking(results: Results) -> str:
    """Tracking scores of the bundled weights on simulated objects."""
    r = results["tracking"]
    keys = ("hota", "det_a", "ass_a", "mota", "motp", "idf1")
    row = (*(number(r[key]) for key in keys), r["num_switches"], r["objects"], r["num_truth"], r["num_instants"])
    header = ("HOTA", "DetA", "AssA", "MOTA", "MOTP", "IDF1", "switches", "objects", "boxes", "frames")
    return (
        f"{table(header, [row], words=0)}\n\nSimulated roads, split `{r['split']}`, {r['recordings']} clips; "
        f"detections every {r['every_us'] / 1000:g} ms, tracks start at score {r['start_score']:g}. {origin(r)}"
    )


def more_scenes(results: Results) -> str:
    """What the last part of the training brought, from more simulated scenes."""
    scenes = {
        "nano-integer": {"800 scenes": "nano_integer_longer", "3,800 scenes": "nano_integer"},
        "small-integer-sparse": {
            "800 scenes": "small_integer_sparse_third", "3,800 scenes": "small_integer_sparse_fourth",
            "6,800 scenes": "small_integer_sparse_fifth", "6,800 scenes, longer": "small_integer_sparse",
        },
    }  # fmt: skip
    rows, origins = [], []
    for weights, parts in scenes.items():
        for learned_from, name in parts.items():
            scored = results[f"{name}_roads"]
            score, interval = scored["scores"]["prophesee"], scored["ap_interval"]
            ap = f"{score['ap']:.3f} ({interval['low']:.3f} to {interval['high']:.3f})"
            scores = (ap, number(score["ap50"]), number(score["ap75"]), f"{scored['firing_rate']:.1%}")
            rows.append((f"`{weights}`", learned_from, *scores))
            origins.append(origin(scored))
    header = ("weights", "learned from", "AP", "AP50", "AP75", "firing rate")
    return (
        f"{table(header, rows, words=2)}\n\nSimulated roads, split `test`, protocol `prophesee`; in brackets where AP "
        f"lies in 95 % of resamples of the recordings. {' '.join(origins)}"
    )


def float32(results: Results) -> str:
    """AP of weights that learned in bfloat16, in both precisions, with old and with newly estimated statistics."""
    files = [results[f"float32_{run}"] for run in ("nano_integer_more", "small_integer_sparse_more")]
    rows = [
        (f"`{r['weights']}`", when, *(f"{r['rows'][f'{when} {p}']['ap']:.3f} / {r['rows'][f'{when} {p}']['ap75']:.3f}"
                                      for p in ("bfloat16", "float32")))
        for r in files for when in ("before", "after")
    ]  # fmt: skip
    header = ("weights", "statistics", "AP / AP75 in bfloat16", "in float32")
    return (
        f"{table(header, rows, words=2)}\n\nSimulated roads, split `val`, protocol `{files[0]['protocol']}`; "
        f"{files[0]['batches']} batches of {files[0]['batch_size']} windows. {' '.join(map(origin, files))}"
    )


def smoothing(results: Results) -> str:
    """What filtering detections over time gains, and the constants of the filter, each changed alone."""
    r, rows = results["smoothing"], []
    for name, one in r["test"].items():
        if one["sha256"] != sha256(name):
            raise ValueError(f"the smoothing of other weights {name} than the bundled ones stands in results")
        alone, smooth, gain = one["known"]["alone"], one["known"]["smoothed"], one["difference"]
        pairs = (f"{alone[key]:.3f}, {smooth[key]:.3f}" for key in ("ap", "ap50", "ap75"))
        rows.append((
            f"`{name}`", *pairs, f"{gain['difference']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})"
        ))  # fmt: skip
    chosen = ", ".join(f"`{name}` {value:g}" for name, value in r["chosen"].items())
    tried = [(f"`{name}`", number(row["ap"], 4), number(row["ap50"], 4), number(row["ap75"], 4))
             for name, row in r["val"].items()]  # fmt: skip
    kept = ", ".join(f"{name} {value:.2f}" for name, value in r["persistence"].items() if name != "pairs")
    return (
        f"{table(('weights', 'AP alone, smoothed', 'AP50', 'AP75', 'gain of AP'), rows)}\n\n"
        f"Simulated roads, split `test`, protocol `prophesee`; windows every {r['every_us'] / 1000:g} ms of the half "
        "second before each labeled frame. In brackets the interval of the gain over resampled recordings. Correlation "
        f"of a box's errors with those of the same object a quarter of a second later (`{r['chosen_on']}`, split "
        f"`val`, not smoothed): {kept}.\n\n"
        "<details>\n<summary>The constants</summary>\n\nChosen on the split `val`, with an earlier "
        f"`{r['chosen_on']}`: {chosen}. Each changed alone, with the present one:\n\n"
        f"{table(('', 'AP', 'AP50', 'AP75'), tried)}\n\n</details>\n\n"
        f"{origin(r)}"
    )


def stateful_accuracy(results: Results) -> str:
    """AP of both modes of a stream, and of fewer steps."""
    r = results["stateful_accuracy"]
    ways = (
        ("zero-initialized, the last steps only", "last_steps"),
        ("zero-initialized, the first steps only", "first_steps"),
        ("stateful, averaging the last steps", "stateful"),
    )
    rows = [(what, *(number(score["ap"]) for score in r[key].values())) for what, key in ways]
    early = ", ".join(
        f"{s['ap']:.3f} after {s['mean_steps']:.1f} steps (at {least})" for least, s in r["early_stop"].items()
    )
    header = ("AP", *(f"{steps} step{'s' if steps != '1' else ''}" for steps in r["stateful"]))
    return (
        f"{table(header, rows)}\n\nStopping at the first step whose confidence suffices: {early}. Protocol "
        f"`{r['protocol']}`, split `{r['split']}`, {r['instants']} labeled frames; stateful answers are "
        f"{r['stateful_mean_age_ms']:.0f} ms old on average. {origin(r)}"
    )


def study_block(name: str) -> Callable[[Results], str]:
    """Return the block that shows a study's table and plot."""

    def block(results: Results) -> str:
        r = results[f"study_{name}"]
        rows = [cells(line) for line in read_lines(r)]
        picture = f"![AP of every row with its deviation](images/study_{name}.png)"
        return f"{table(STUDY_HEADER, rows)}\n\n{picture}\n\n{caption(r)} {origin(r)}"

    block.__name__ = f"study_{name}"
    return block


def study_boxes(results: Results) -> str:
    """The study of boxes that fit, with AP75: networks, steps and times are the same for all rows."""
    r = results["study_boxes"]
    rows = []
    for line in read_lines(r):
        name, ap, ap50, *_, seeds, difference = cells(line)
        ap75 = [run["tests"][0]["ap75"] for run in r["runs"] if run["row"] == line.row]
        spread = f"{statistics.mean(ap75):.3f} ± {statistics.stdev(ap75):.3f}"
        rows.append((name, ap, ap50, spread, seeds, difference))
    header = (*STUDY_HEADER[:3], "AP75", *STUDY_HEADER[-2:])
    return f"{table(header, rows)}\n\n{caption(r)} {origin(r)}"


def averaging(results: Results) -> str:
    """AP of bundled weights with boxes averaged around their peaks."""
    r = results["averaging"]
    rows = [
        (f"`{name}`", model["box_loss"], *(f"{at['ap']:.3f} / {at['ap75']:.3f}" for at in model["exponents"].values()))
        for name, model in r["models"].items()
    ]
    exponents = next(iter(r["models"].values()))["exponents"]
    header = ("weights", "box loss", *("peak's own" if e == "0" else f"exponent {e}" for e in exponents))
    return (
        f"{table(header, rows, words=2)}\n\nAP / AP75, simulated roads, split `{r['split']}`, protocol "
        f"`{r['protocol']}`, {r['num_windows']} labeled frames. {origin(r)}"
    )


STUDIES = (
    "distillation", "distillation_why", "distillation_working", "time_steps", "architecture", "head", "neuron",
    "integer_neurons", "input", "scales", "paper_roads",
)  # fmt: skip


def own_recording(results: Results) -> str:
    """What automatic labels are worth, and what fine-tuning on half a recording brings."""
    r = results["own_recording"]
    rows = [
        (what, number(r[key]["ap"]), number(r[key]["ap50"]))
        for what, key in ((f"`{r['weights']}` as it comes", "before"), ("fine-tuned on the first half", "after"))
    ]
    scores = table(("weights, second half of the recording", "AP", "AP50"), rows)

    def told(key: str) -> str:
        labels = r[key]
        return f"{labels['matched']} of {labels['true_boxes']} true boxes and {labels['false']} times something else"

    return (
        f"{scores}\n\nProtocol `{r['protocol']}`, {r['frames']['train']} labeled frames with {r['boxes']['train']} "
        f"boxes to train on, {r['frames']['val']} with {r['boxes']['val']} to test on. Before correction, the "
        f"detector's labels of the first half covered (IoU {r['match_iou']}) {told('labels_by_model')}; those from "
        f"motion, whatever their class, {told('labels_by_motion')}. {origin(r)}"
    )


def scale(results: Results) -> str:
    """AP and time of a window by the scale at which events are binned."""
    measured = [results["scale"], results["scale_hd"]]
    rows = []
    for row in (row for r in measured for row in r["rows"]):
        height, width = row["size_hw"]
        for label, cell in row["scales"].items():
            name = f"{label} (`auto`)" if label == row["auto"] else label
            rows.append(
                (f"{width} x {height}, {row['data']}", name, number(cell["ap"]), number(cell["ap50"]),
                 f"{cell['time_ratio']:.2f}")
            )  # fmt: skip
    models = ", ".join(f"`{name}`" for name in dict.fromkeys(row["model"] for r in measured for row in r["rows"]))
    head = ("simulated recordings", "scale", "AP", "AP50", "time of a window, scale 1 = 1")
    origins = "\n\n".join(origin(r) for r in measured)
    return f"{table(head, rows, words=2)}\n\n{models}, protocol `{measured[0]['protocol']}`. {origins}"

"""Keeps the figures in the pages true: writes every block between markers anew from ``results/*.json`` and the code.

    python docs/fill.py            rewrite README.md and docs/*.md
    python docs/fill.py --check    change nothing; exit 1 and name every block that is stale

A block stands between ``<!-- results:NAME -->`` and ``<!-- /results -->``, or, where it comes from the code, between
``<!-- code:NAME -->`` and ``<!-- /code -->``.
"""

import argparse
import dataclasses
import inspect
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from spiking_centernet.bench import race_rows
from spiking_centernet.costpage import published_table
from spiking_centernet.energy import published, what_follows
from spiking_centernet.errors import did_you_mean
from spiking_centernet.evaluate import PROTOCOLS
from spiking_centernet.nn import PRESETS, Detector
from spiking_centernet.recipe import Recipe
from spiking_centernet.study.table import HEADER as STUDY_HEADER
from spiking_centernet.study.table import caption, cells, read_lines
from spiking_centernet.weights import bundled, notes, sha256

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- (results|code):(\w+) -->\n)(.*?)(<!-- /\2 -->)", re.DOTALL)
OPENING = re.compile(r"<!-- (?:results|code):")


class Results:
    """The files of ``results/``, read when asked for."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __getitem__(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / f"{name}.json").read_text())


def table(header: Sequence[object], rows: Sequence[Sequence[object]], words: int = 1) -> str:
    """Return a markdown table whose first ``words`` columns are words and whose others are numbers."""
    rule = ["---" if k < words else "---:" for k in range(len(header))]
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in (header, rule, *rows))


def origin(result: dict[str, Any]) -> str:
    """Return the sentence that says where numbers come from."""
    head = result.get("provenance", result)
    machine = head["machine"]
    cpu = machine.get("cpu") or machine["processor"]
    seed = "" if head.get("seed") is None else f", seed {head['seed']}"
    cores = f"{machine['cores']} core{'s' if machine['cores'] != 1 else ''}"
    return f"Measured by `{head['command']}`{seed}, commit {head['commit'][:7]}, on {cpu}, {cores}."


def number(value: float | None, digits: int = 3) -> str:
    """Return a number, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def events_speed(results: Results) -> str:
    """Reading and binning of events beside the way with numpy."""
    r = results["events_speed"]
    rows = []
    for key, what in (
        ("decode", "decode a whole file"), ("random_window_100ms", "read a random 100 ms window"),
        ("binning", "bin 100,000 events into a cube"),
    ):  # fmt: skip
        ours, numpy = r[key]["ours"], r[key]["numpy"]
        rate = f"{ours['million_events_per_s']:.0f} Mev/s" if "million_events_per_s" in ours else "-"
        rows.append((what, f"{ours['median_ms']:.3g} ms", rate, f"{numpy['median_ms']:.3g} ms"))
    return f"{table(('median', 'ours', 'rate', 'numpy'), rows)}\n\n{origin(r)}"


def simulator_speed(results: Results) -> str:
    """How fast one core simulates."""
    r = results["simulator_speed"]
    shares = ", ".join(f"{part} {share:.0%}" for part, share in r["share_of_time"].items())
    return (
        f"One core simulates {r['real_time_factor']:.2f} seconds in a second of processor time "
        f"({len(r['clips'])} clips, {r['event_rate_mev_s']:.2f} Mev/s on average; {shares}). {origin(r)}"
    )


def noise_calibration(results: Results) -> str:
    """Noise of two real cameras beside the simulated one."""
    r = results["noise_calibration"]
    columns = [(camera, side) for camera in r["cameras"].values() for side in ("real", "simulated")]
    rows = [
        (what, *(write(camera[side][key]) for camera, side in columns))
        for what, key, write in (
            ("events per second and pixel", "rate_hz_per_pixel", lambda v: f"{v:.3f}"),
            ("silent pixels", "silent_share", lambda v: f"{v:.1%}"),
            ("hot pixels (over 50 events/s)", "hot_share", lambda v: f"{v:.1e}"),
            ("their share of the events", "hot_event_share", lambda v: f"{v:.1%}"),
            ("hottest pixel, events/s", "hottest_hz", lambda v: f"{v:.0f}"),
            ("ON share", "on_share", lambda v: f"{v:.1%}"),
            ("polarity alternates", "alternating_share", lambda v: f"{v:.1%}"),
            ("correlation of neighbours", "neighbour_correlation", lambda v: f"{v:.3f}"),
        )
    ]
    header = ("", "IMX636, real", "simulated", "DVXplorer, real", "simulated")
    return f"{table(header, rows)}\n\n{origin(r)}"


def roads_statistics(results: Results) -> str:
    """What is in the simulated data set, split by split."""
    r = results["roads_statistics"]
    splits = r["splits"]

    def row(what: str, write: Callable[[dict[str, Any]], str]) -> tuple[str, ...]:
        return (what, *(write(split) for split in splits.values()))

    def counts(key: str) -> list[tuple[str, ...]]:
        names = next(iter(splits.values()))[key]
        return [row(f"boxes: {name}", lambda s, name=name: f"{s[key][name]}") for name in names]

    rows = [
        row("clips", lambda s: f"{s['clips']}"),
        row("seconds", lambda s: f"{s['seconds']:.0f}"),
        row("events", lambda s: f"{s['events'] / 1e6:.1f} M"),
        row("event rate, Mev/s: mean", lambda s: f"{s['event_rate_mev_s']['mean']:.2f}"),
        row("lowest / median / highest clip", lambda s: _joined(s["event_rate_mev_s"], ("min", "median", "max"), 2)),
        row("ON share", lambda s: f"{s['on_share']:.1%}"),
        row("labelled instants with a box", lambda s: f"{s['label_instants']}"),
        row("boxes", lambda s: f"{s['boxes']}"),
        row("objects", lambda s: f"{s['tracks']}"),
        *counts("boxes_per_class"),
        *counts("boxes_per_size"),
        row("box height, px: 5 % / median / 95 %", lambda s: _joined(s["box_height_px"], ("q5", "q50", "q95"), 0)),
        row("boxes with under 50 events in 100 ms", lambda s: f"{s['boxes_under_50_events']:.1%}"),
    ]
    return f"{table(('', *splits), rows)}\n\nSimulated by `{r['simulated_by']}`. {origin(r)}"


def _joined(values: dict[str, float], keys: Sequence[str], digits: int) -> str:
    return " / ".join(f"{values[key]:.{digits}f}" for key in keys)


def roads_scenes(results: Results) -> str:
    """Mounts and light of the simulated clips."""
    r = results["roads_statistics"]
    total = sum(s["clips"] for s in r["scenes"].values())
    rows = [
        (name, s["clips"], f"{s['clips'] / total:.0%}", f"{s['events'] / s['seconds'] * 1e-6:.2f}",
         f"{s['boxes'] / s['seconds']:.1f}")
        for name, s in r["scenes"].items()
    ]  # fmt: skip
    return table(("camera, light", "clips", "share", "Mev/s", "boxes a second"), rows)


def nano_scores(results: Results) -> str:
    """Scores of the shipped weights on the simulated test split, under every protocol."""
    r = results["nano_roads"]
    keys = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    rows = [
        (f"`{name}`", *(number(s[key]) for key in keys), s["num_truth"], s["num_instants"])
        for name, s in r["scores"].items()
    ]
    header = ("protocol", "AP", "AP50", "AP75", "small", "medium", "large", "boxes", "instants")
    return (
        f"{table(header, rows)}\n\nSimulated roads, split `{r['split']}`, {r['recordings']} clips; "
        f"firing rate {r['firing_rate']:.1%}. {origin(r)}"
    )


def nano_classes(results: Results) -> str:
    """The same by class, under the default protocol."""
    r = results["nano_roads"]
    rows = [
        (c["name"], number(c["ap"]), number(c["ap50"]), c["num_truth"]) for c in r["scores"]["prophesee"]["classes"]
    ]
    return table(("class", "AP", "AP50", "boxes"), rows)


def real_clip(results: Results) -> str:
    """The check on the real recording."""
    r = results["demo"]
    c = r["real_clip"]
    return (
        f"On the real clip, {c['num_found']} of {c['num_truth']} hand-drawn boxes are found at IoU 0.5 "
        f"({c['tracks_found']} of {c['num_tracks']} cars), with {c['num_false']} other boxes. {origin(r)}"
    )


def protocols(results: Results) -> str:
    """The protocols as the code defines them."""
    rows = [
        (f"`{p.name}`", "-" if p.skip_us is None else f"{p.skip_us / 1e6:g} s",
         *(f"{diagonal} / {side}" if diagonal else "-" for diagonal, side in (p.gen1_px, p.megapixel_px)),
         "all labelled" if p.score_emptied else "with a box left")
        for p in PROTOCOLS.values()
    ]  # fmt: skip
    return table(("name", "skipped", "to 640 px wide", "wider", "instants scored"), rows, words=5)


def real_recordings(results: Results) -> str:
    """What is found in real recordings without boxes."""
    r = results["real_recordings"]
    rows = [
        (row["recording"], row["shows"], row["size"], row["instants"], *row["boxes"].values())
        for row in r["recordings"]
    ]
    header = ("recording", "what it shows", "sensor", "instants", *r["recordings"][0]["boxes"])
    return f"{table(header, rows, words=3)}\n\nAt score {r['min_score']:g}. {origin(r)}"


def tracking(results: Results) -> str:
    """How well the shipped weights track simulated objects."""
    r = results["tracking"]
    keys = ("hota", "det_a", "ass_a", "mota", "motp", "idf1")
    row = (*(number(r[key]) for key in keys), r["num_switches"], r["objects"], r["num_truth"], r["num_instants"])
    header = ("HOTA", "DetA", "AssA", "MOTA", "MOTP", "IDF1", "switches", "objects", "boxes", "instants")
    return (
        f"{table(header, [row], words=0)}\n\nSimulated roads, split `{r['split']}`, {r['recordings']} clips; "
        f"detections every {r['every_us'] / 1000:g} ms, tracks start at score {r['start_score']:g}. {origin(r)}"
    )


def stream_soak(results: Results) -> str:
    """Memory and lateness of a long live stream."""
    r = results["stream_soak"]
    mb, ms = r["resident_mb"], r["latency_ms"]
    return (
        f"{r['seconds'] / 60:.1f} minutes of random events at {r['million_events_per_s']:.1f} Mev/s, mode {r['mode']}: "
        f"{r['answers']} answers, {r['windows_skipped']} windows skipped; memory {mb['settled']:.0f} MB once settled, "
        f"{mb['last']:.0f} MB at the end ({mb['growth_mb_per_min']:+.2f} MB a minute); latency {ms['median']:.0f} ms, "
        f"95% under {ms['p95']:.0f} ms. {origin(r)}"
    )


def stateful_accuracy(results: Results) -> str:
    """AP of both modes of a stream, and of fewer steps."""
    r = results["stateful_accuracy"]
    ways = (
        ("from rest, only the last steps", "last_steps"),
        ("from rest, only the first steps", "first_steps"),
        ("stateful, averaging the last steps", "stateful"),
    )
    rows = [(what, *(number(score["ap"]) for score in r[key].values())) for what, key in ways]
    early = ", ".join(
        f"{s['ap']:.3f} after {s['mean_steps']:.1f} steps (at {least})" for least, s in r["early_stop"].items()
    )
    header = ("AP", *(f"{steps} step{'s' if steps != '1' else ''}" for steps in r["stateful"]))
    return (
        f"{table(header, rows)}\n\nStopping at the first step whose confidence suffices: {early}. Protocol "
        f"`{r['protocol']}`, split `{r['split']}`, {r['instants']} instants; stateful answers are "
        f"{r['stateful_mean_age_ms']:.0f} ms old on average. {origin(r)}"
    )


def export_formats(results: Results) -> str:
    """Size, parity, AP and time of every exported file."""
    r = results["export_formats"]

    def row(name: str, f: dict[str, Any]) -> tuple[str, ...]:
        parity = f.get("parity") or {}
        spikes = parity.get("spikes_differing")
        worst = f"{max(parity['max_difference'].values()):.1e}" if parity else "-"
        return (name, f"{f['megabytes']:.1f}", "-" if spikes is None else f"{spikes:.3%}", worst,
                number(f.get("ap")), f"{f['median_ms']:.0f}")  # fmt: skip

    header = ("file", "MB", "spikes that differ", "largest difference", "AP", "ms a window")
    rows = [row(name, f) for name, f in r["files"].items()]
    height, width = r["size_hw"]
    return f"{table(header, rows)}\n\n{width} x {height}, {r['threads']} thread. {origin(r)}"


def robustness(results: Results) -> str:
    """AP kept behind faults and the most active fault, detector by detector."""
    r = results["robustness"]
    models = r["models"]
    names = list(next(iter(models.values()))["corruptions"])
    rows = [("clean AP", "", *(number(m["clean"]["ap"]) for m in models.values()))]
    for name in names:
        unit = next(iter(models.values()))["corruptions"][name]["unit"]
        kept = [m["corruptions"][name]["mean_retention"] for m in models.values()]
        rows.append((name.replace("_", " "), unit, *map(_share, kept)))
    rows.append(("all", "", *(_share(m["mean_retention"]) for m in models.values())))
    worlds = next(iter(models.values())).get("worlds", {})
    rows += [(f"simulated: {name}, AP", "", *(number(m["worlds"][name]["ap"]) for m in models.values()))
             for name in worlds]  # fmt: skip
    active = []
    for label, m in models.items():
        worst = m["most_active"]
        active.append(
            f"`{label}` fires most under {worst['corruption'].replace('_', ' ')}, severity {worst['severity']}: "
            f"{worst['firing_rate']:.1%} instead of {m['clean']['firing_rate']:.1%}"
        )
    header = ("AP kept, mean of the severities", "unit", *(f"`{label}`" for label in models))
    return (
        f"![AP kept and firing rate over the severity](images/robustness.png)\n\n{table(header, rows, words=2)}\n\n"
        f"Simulated roads, split `{r['split']}`. {'; '.join(active)}. {origin(r)}"
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def fuzz(results: Results) -> str:
    """Inputs fed to every reader."""
    r = results["fuzz"]
    rows = [
        (f"`{name}`", t.get("engine", "-"), *(("failed", "-") if t["failed"] else (t["inputs"], t["refused"])))
        for name, t in r["targets"].items()
    ]
    return f"{table(('target', 'engine', 'inputs', 'refused'), rows, words=2)}\n\n{origin(r)}"


def kill_test(results: Results) -> str:
    """Kills survived."""
    r = results["kill_test"]
    rows = [
        (name, j["kills"], len(j["damaged_files"]), j["trials"], len(j["trials_with_another_result"]))
        for name, j in r["jobs"].items()
    ]
    header = ("job", "kills", "damaged files", "runs brought to their end", "of them with another result")
    return f"{table(header, rows)}\n\n{origin(r)}"


def scaling(results: Results) -> str:
    """Workers, and what whole data sets take by the model."""
    r = results["scaling"]
    rows = [
        (run["workers"], f"{run['index_s']:.1f}", f"{run['score_s']:.1f}", f"{run['peak_memory_of_a_worker_mb']:.0f}")
        for run in r["runs"]
    ]
    modelled = ", ".join(f"{name} {known['worker_hours']:.0f}" for name, known in r["data_sets"].items())
    return (
        f"{table(('workers', 'index, s', 'score, s', 'peak memory of a worker, MB'), rows)}\n\n"
        f"{r['recordings']} recordings, {r['windows']} windows, `{r['model']}`. By the model, not measured, scoring "
        f"whole data sets takes these worker hours: {modelled}. {origin(r)}"
    )


def study_block(name: str) -> Callable[[Results], str]:
    """Return the block that shows a study's table."""

    def block(results: Results) -> str:
        r = results[f"study_{name}"]
        rows = [cells(line) for line in read_lines(r)]
        return f"{table(STUDY_HEADER, rows)}\n\n{caption(r)} {origin(r)}"

    block.__name__ = f"study_{name}"
    return block


STUDIES = (
    "distillation", "distillation_why", "time_steps", "architecture", "head", "neuron", "input", "paper_roads"
)  # fmt: skip


def zoo(results: Results) -> str:
    """The weight files that ship, with what reproduces their scores."""
    rows = []
    for name in bundled():
        r = results[f"{name}_roads"]
        digest = sha256(name)
        if r.get("sha256", digest) != digest:
            raise ValueError(f"results/{name}_roads.json was measured with other weights than those that ship")
        protocol = notes(name)["recipe"]["protocol"]
        score = r["scores"][protocol]
        rows.append(
            (f"`{name}`", f"`{digest}`", f"[{name}_roads.yaml](../recipes/{name}_roads.yaml)",
             f"`{protocol}`, simulated roads, split `{r['split']}`", number(score["ap"]), number(score["ap50"]),
             f"{r['firing_rate']:.1%}")
        )  # fmt: skip
    commands = "\n".join(f"scn val {name} --data data/roads --split test --protocol all" for name in bundled())
    header = ("weights", "sha256", "recipe", "protocol", "AP", "AP50", "firing rate")
    return f"{table(header, rows, words=4)}\n\n```console\n{commands}\n```\n\n{origin(results['nano_roads'])}"


def presets(results: Results) -> str:
    """The sizes of the network, counted."""
    weights = bundled()
    rows = []
    for name, config in PRESETS.items():
        parameters = sum(p.numel() for p in Detector(config).parameters())
        channels = ", ".join(map(str, config.widths))
        rows.append(
            (f"`{name}`", f"{parameters / 1e6:.2f} M", channels, config.stride, "yes" if name in weights else "not yet")
        )
    return table(("preset", "parameters", "encoder channels", "output stride", "weights ship"), rows)


def nano_energy(results: Results) -> str:
    """What a detection costs the shipped weights."""
    r = results["nano_energy"]
    window = r["per_window"]
    rows = [
        ("dense operations", f"{window['dense'] / 1e6:.0f} M", "every pair of input and weight"),
        ("synaptic operations", f"{window['synaptic'] / 1e6:.0f} M", "pairs whose input is a spike"),
        ("membrane updates", f"{window['membrane_updates'] / 1e6:.2f} M", "a multiplication and an addition each"),
        *(
            (f"energy, `{name}`", f"{bill['total']:.0f} uJ", "arithmetic on counts")
            for name, bill in r["energy_uj_per_window"].items()
        ),
    ]
    evens = ", ".join(
        f"{'none' if e['rate'] is None else format(e['rate'], '.1%')} by {e['model']}" for e in r["break_even"]
    )
    joules = r["joules"]
    told = joules.get("reason") or f"measured {joules['per_window']:.3g} J a window ({joules['source']})"
    return (
        f"{table(('a window', '', ''), rows)}\n\nFiring rate {r['firing_rate']:.1%}; break-even {evens}; literature "
        f"{r['break_even_literature']:.1%}. Joules: {told}. Simulated roads, split `{r['split']}`, "
        f"{r['windows']} windows. {origin(r)}"
    )


def firing_rate_study(results: Results) -> str:
    """Accuracy over firing rate, mean over seeds."""
    r = results["firing_rate_study"]
    rows = [
        ("none" if row["target"] is None else f"{row['target']:.1%}", row["seeds"], number(row["val_ap"]),
         number(row["test_ap"]), f"{row['test_firing_rate']:.1%}", f"{row['test_synaptic'] / 1e6:.0f} M")
        for row in r["by_target"]
    ]  # fmt: skip
    header = ("target", "seeds", "AP val", "AP test", "firing rate test", "synaptic operations a window")
    reached = "is" if r["under_break_even_at_95_percent_of_ap"] else "is not"
    chosen = "none" if r["chosen_on_val"] is None else f"{r['chosen_on_val']:.1%}"
    return (
        f"{table(header, rows)}\n\n![AP over firing rate and over operations](images/firing_rate_study.png)\n\n"
        f"Cheapest target with 95 % of the control's AP on val: {chosen}. The goal, under 5.7 % at a loss of at most "
        f"5 % of AP, {reached} reached. Simulated roads, protocol `{r['protocol']}`. {origin(r)}"
    )


def published_energy(results: Results) -> str:
    """Energies that papers print, reckoned alike."""
    _, header, rows, _ = published_table()
    return f"{table(header, rows)}\n\n{what_follows(published())}"


def recipe(results: Results) -> str:
    """The fields of a recipe from its docstring."""
    text = (inspect.getdoc(Recipe) or "").replace("``", "`")
    listed = text.split("Attributes:\n", 1)[1]
    described: dict[str, str] = {}
    for entry in re.split(r"\n(?=    \S)", listed):
        name, meaning = " ".join(entry.split()).split(": ", 1)
        described[name] = meaning
    rows = []
    for field in dataclasses.fields(Recipe):
        value = getattr(Recipe(), field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            shown = ", ".join(
                f"{k}: {list(v) if isinstance(v, tuple) else v}" for k, v in dataclasses.asdict(value).items()
            )
        else:
            shown = "null" if value is None else str(value)
        rows.append((f"`{field.name}`", f"`{shown}`", described[field.name]))
    return table(("field", "default", "what it is"), rows, words=3)


def bench_race(results: Results) -> str:
    """Every contestant on one window, threads side by side, the allocator tuned for all."""
    r = results["bench"]
    races = [race for race in r["races"] if race["allocator"] == "tuned"]
    header = [
        "",
        *(f"{what}, {race['threads']} thr." for race in races for what in ("ms", "x SpikingJelly", "of floor")),
    ]
    columns = [{row[0]: row for row in race_rows(race)} for race in races]
    rows = [
        (name, *(cell for column in columns for cell in (column[name][1], column[name][3], column[name][4])))
        for name in columns[0]
    ]
    settings = r["settings"]
    words = (
        f"Preset `{settings['preset']}`, batch 1, firing rate {races[0]['firing_rate']:.1%}, "
        f"{races[0]['window_gmac']:.1f} G dense multiply-accumulates a window when merged."
    )
    return f"{table(header, rows)}\n\n{words} {origin(r)}"


def bench_steps(results: Results) -> str:
    """Latency of single steps with the state carried on."""
    r = results["bench"]
    rows = [
        (s["contestant"], s["threads"], *(f"{s['times'][key]:.2f}" for key in ("median_ms", "p95_ms", "p99_ms")))
        for s in r["steps"]
    ]
    return f"A step of 20 ms in a stream that carries its state:\n\n{table(('', 'threads', 'ms', 'p95', 'p99'), rows)}"


def bench_alone(results: Results) -> str:
    """Memory and cold start, each contestant in a process of its own."""
    r = results["bench"]
    rows = [(a["contestant"], f"{a['peak_mb']:.0f}", f"{a['build_and_first_s']:.2f}") for a in r["alone"]]
    cold = r["cold_start_nano"]["cold_start_s"]
    return (
        f"{table(('', 'peak MB over the imports', 's to build and detect once'), rows)}\n\n"
        f"From starting Python to the first detection of `nano`, imports and all: {cold:.1f} s."
    )


def bench_rates(results: Results) -> str:
    """Milliseconds a window by firing rate, one thread."""
    r = results["bench"]
    names = list(r["rates"][0]["times"])
    rows = [(name, *(f"{p['times'][name]['median_ms']:.1f}" for p in r["rates"])) for name in names]
    return table(("ms at a firing rate of", *(f"{p['firing_rate']:.0%}" for p in r["rates"])), rows)


def training_speed(results: Results) -> str:
    """A training step beside SpikingJelly's."""
    r = results["training_speed"]
    rows = [
        (row["variant"], row["allocator"], row["threads"], f"{row['median_ms']:.0f}", row["times_faster"],
         row["peak_mb"], row["times_less_memory"])
        for row in r["rows"]
    ]  # fmt: skip
    header = ("", "allocator", "threads", "ms a step", "x faster", "peak MB", "x less")
    return f"{table(header, rows, words=2)}\n\nPreset `{r['preset']}`, batch {r['batch']}. {origin(r)}"


def precision_accuracy(results: Results) -> str:
    """AP of the shipped weights on every path."""
    r = results["precision_accuracy"]
    rows = [
        (name, number(score["ap"]), number(score["ap50"]), f"{way['ap_over_fp32']:.1%}", f"{way['firing_rate']:.1%}")
        for name, way in r["ways"].items()
        for score in way["scores"].values()
    ]
    return f"{table(('', 'AP', 'AP50', 'of fp32', 'firing rate'), rows)}\n\nSimulated roads. {origin(r)}"


def cost_by_size(results: Results) -> str:
    """Exponents of growth."""
    r = results["cost_by_size"]
    rows = [
        (axis, name, f"{growth['time']:.2f}", f"{growth['memory']:.2f}", found["growth_of_dense_work"])
        for axis, found in r["axes"].items()
        for name, growth in found["growth"].items()
    ]
    header = ("what grows", "", "time grows as size^", "memory as size^", "dense work as size^")
    return f"![Time and memory against size](images/cost_by_size.png)\n\n{table(header, rows, words=2)}\n\n{origin(r)}"


BLOCKS: dict[str, Callable[[Results], str]] = {
    block.__name__: block
    for block in (
        events_speed, simulator_speed, noise_calibration, roads_statistics, roads_scenes, nano_scores, nano_classes,
        real_clip, real_recordings, protocols, presets, recipe, nano_energy, firing_rate_study, published_energy,
        tracking, stream_soak, stateful_accuracy, export_formats, robustness, fuzz, kill_test, scaling,
        bench_race, bench_steps, bench_alone, bench_rates, training_speed, precision_accuracy, cost_by_size,
        zoo,
        *map(study_block, STUDIES),
    )
}  # fmt: skip


def rewritten(text: str, results: Results) -> tuple[str, list[str]]:
    """Return a page with its blocks written anew, and the names of those that changed.

    Raises:
        ValueError: a marker names no block or is not closed.
    """
    stale = []

    def write(found: re.Match[str]) -> str:
        opening, _, name, before, closing = found.groups()
        if name not in BLOCKS:
            raise ValueError(f"no block is called {name!r}{did_you_mean(name, BLOCKS)}")
        try:
            now = BLOCKS[name](results) + "\n"
        except FileNotFoundError as error:
            now = f"*Not measured yet: there is no `results/{Path(error.filename).name}`.*\n"
        if now != before:
            stale.append(name)
        return opening + now + closing

    if len(OPENING.findall(text)) != len(BLOCK.findall(text)):
        raise ValueError("a block is not closed by <!-- /results --> or <!-- /code -->")
    return BLOCK.sub(write, text), stale


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Rewrite or check the pages under ``root``; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 if a block is stale")
    check = parser.parse_args(arguments).check
    results = Results(root / "results")
    all_stale = []
    for page in (root / "README.md", *sorted((root / "docs").glob("*.md"))):
        before = page.read_text()
        try:
            now, stale = rewritten(before, results)
        except ValueError as error:
            raise SystemExit(f"{page.relative_to(root)}: {error}") from error
        all_stale += [f"{page.relative_to(root)}: {name}" for name in stale]
        if stale and not check:
            page.write_text(now)
    for where in all_stale:
        sys.stdout.write(f"{where} is stale; run python docs/fill.py\n" if check else f"{where} written\n")
    return int(check and bool(all_stale))


if __name__ == "__main__":
    sys.exit(main())

"""Blocks about operations and energy, exported files and streams."""

import csv
import statistics
from pathlib import Path
from typing import Any

from blocks.common import Results, number, origin, table
from spiking_centernet.evaluation.energy import published, what_follows
from spiking_centernet.experiments.energy_page import published_table
from spiking_centernet.model.weights import config_of


def nano_energy(results: Results) -> str:
    """Operation counts and energy of the bundled weights."""
    r = results["nano_energy"]
    window = r["per_window"]
    rows = [
        ("dense operations", f"{window['dense'] / 1e6:.0f} M", "every pair of input and weight"),
        ("synaptic operations", f"{window['synaptic'] / 1e6:.0f} M", "pairs whose input is a spike"),
        ("membrane updates", f"{window['membrane_updates'] / 1e6:.2f} M", "a multiplication and an addition each"),
        *(
            (f"energy, `{name}`", f"{breakdown['total']:.0f} uJ", "arithmetic on counts")
            for name, breakdown in r["energy_uj_per_window"].items()
        ),
    ]
    evens = ", ".join(
        f"{'none' if e['rate'] is None else format(e['rate'], '.1%')} by {e['model']}" for e in r["break_even"]
    )
    joules = r["joules"]
    measured = joules.get("reason") or f"measured {joules['per_window']:.3g} J a window ({joules['source']})"
    return (
        f"{table(('a window', '', ''), rows)}\n\nFiring rate {r['firing_rate']:.1%}; break-even {evens}; literature "
        f"{r['break_even_literature']:.1%}. Joules: {measured}. Simulated roads, split `{r['split']}`, "
        f"{r['windows']} windows. {origin(r)}"
    )


def memory_energy(results: Results) -> str:
    """What an answer of a network with a memory costs, its state carried along."""
    found = {"nano": results["nano_energy"], "nano-memory": results["nano_memory_energy"]}
    rows = []
    for name, r in found.items():
        counts = (f"{r['per_window'][kind] / 1e6:.0f} M" for kind in ("dense", "synaptic"))
        energies = (f"{breakdown['total']:.0f} uJ" for breakdown in r["energy_uj_per_window"].values())
        rows.append((f"`{name}`", str(r["num_steps"]), f"{r['firing_rate']:.1%}", *counts, *energies))
    models = (f"energy, `{name}`" for name in found["nano"]["energy_uj_per_window"])
    header = ("an answer of", "steps", "firing rate", "dense operations", "synaptic operations", *models)
    counted = " and ".join(f"{r['windows']} answers of `{name}`" for name, r in found.items())
    origins = " ".join(f"`{name}`: {origin(r)}" for name, r in found.items())
    return f"{table(header, rows)}\n\nSimulated roads, split `{found['nano']['split']}`, {counted}. {origins}"


def _interval(scored: dict[str, Any]) -> str:
    """Return the interval of AP in brackets; nothing for a score that was written without one."""
    interval = scored.get("ap_interval")
    return "" if interval is None else f" ({interval['low']:.3f} to {interval['high']:.3f})"


INTEGER_WEIGHTS = (
    "nano", "nano-integer", "nano-one-step", "small", "small-integer-sparse", "small-one-step",
)  # fmt: skip
"""By size; the last of each size sees the window in one step."""


def integer_weights(results: Results) -> str:
    """AP and operations of the weights with whole numbers of spikes beside those of the binary ones."""
    compiled = results["shipped"]
    rows, origins, scored = [], [origin(compiled)], {}
    for name in INTEGER_WEIGHTS:
        stem, config = name.replace("-", "_"), config_of(name)
        scored, cost = results[f"{stem}_roads"], results[f"{stem}_energy"]
        score, int8 = scored["scores"]["prophesee"], compiled["weights"][name]
        rows.append((
            f"`{name}`", number(score["ap"]) + _interval(scored), number(score["ap50"]), number(score["ap75"]),
            config.voxels.num_steps * config.neuron.max_spikes, f"{cost['firing_rate']:.1%}",
            f"{cost['per_window']['synaptic'] / 1e6:.0f} M",
            f"{cost['energy_uj_per_window']['horowitz45']['total']:.0f} uJ",
            number(int8["ap"]), number(int8["median_ms"], 0),
        ))  # fmt: skip
        origins += [origin(scored), origin(cost)]
    header = ("weights", "AP", "AP50", "AP75", "binary steps", "firing rate", "synaptic operations", "`horowitz45`",
              "AP in int8", "ms")  # fmt: skip
    told = (
        "Simulated roads, split `test`, protocol `prophesee`; in brackets where AP lies in 95 % of resamples of the "
        f"{scored['recordings']} recordings; operations, energy and, compiled to int8 on one thread, milliseconds of a "
        "window of 100 ms."
    )
    return f"{table(header, rows)}\n\n{told} {' '.join(origins)}"


def one_step(results: Results) -> str:
    """What it saves to see a window in one step, in training and after it."""
    pairs = {"small": "small_integer_sparse_average", "nano": "nano_integer_sparse"}
    told = []
    for size, several in pairs.items():
        seconds = [_median_step_s(results.folder / f"{log}_training.csv") for log in (several, f"{size}_one_step")]
        told.append(f"`{size}` {seconds[1]:.2f} s where five steps of two spikes take {seconds[0]:.2f} s")
    return f"A training step of eight windows takes {' and '.join(told)} (medians of the logs, on one core)."


def _median_step_s(log: Path) -> float:
    """Return the median seconds of a training step, from the log of a run."""
    with log.open(newline="", encoding="utf-8") as file:
        return statistics.median(float(row["seconds"]) for row in csv.DictReader(file) if row["seconds"])


def gpu_joules(results: Results) -> str:
    """Joules read from a GPU."""
    r = results["nano_gpu_energy"]
    j = r["joules"]
    shares = " and ".join(
        f"{j['per_window'] * 1e6 / breakdown['total']:.1f} times the estimate of `{name}` for the same windows"
        for name, breakdown in r["energy_uj_per_window"].items()
    )
    settled = "" if j["settled"] else " (the time was up before the interval was within 5 %)"
    return (
        f"`nano` on a real GPU: {j['per_window']:.3f} J a window, 95 % interval +- {j['interval']:.3f}{settled}, above "
        f"{j['idle_watts']:.0f} W of the idle machine, {j['seconds_per_window'] * 1e3:.1f} ms a window; "
        f"{j['source']}. That is "
        f"{shares}. {origin(r)}"
    )


def nano_sparse(results: Results) -> str:
    """AP and operations of the weights with a low firing rate."""
    rows, origins, kept = [], [], {}
    logs = {
        "nano": "nano_roads", "nano-sparse": "nano_sparse",
        "nano-integer": "nano_integer_more", "nano-one-step": "nano_one_step",
    }  # fmt: skip
    for name, log in logs.items():
        stem = name.replace("-", "_")
        with (results.folder / f"{log}_training.csv").open(newline="") as file:
            on_val = max(float(row["ap"]) for row in csv.DictReader(file) if row["ap"])
        score, cost = results[f"{stem}_roads"], results[f"{stem}_energy"]
        breakdowns = cost["energy_uj_per_window"]
        kept[name] = on_val, score["scores"]["prophesee"]["ap"]
        rows.append(
            (f"`{name}`", number(on_val), number(score["scores"]["prophesee"]["ap"]),
             number(score["scores"]["prophesee"]["ap50"]), f"{score['firing_rate']:.1%}",
             f"{cost['per_window']['synaptic'] / 1e6:.0f} M", f"{breakdowns['horowitz45']['total']:.0f} uJ",
             f"{breakdowns['memory']['total']:.0f} uJ")
        )  # fmt: skip
        origins += [origin(score), origin(cost)]
    header = ("weights", "AP val", "AP", "AP50", "firing rate", "synaptic operations", "`horowitz45`", "`memory`")
    split = results["nano_sparse_energy"]["split"]
    told = []
    for name, sparse in (("nano", "nano-sparse"), ("nano-integer", "nano-one-step")):
        of_val, of_test = (f"{s / full:.0%}" for full, s in zip(kept[name], kept[sparse], strict=True))
        told.append(f"`{sparse}` has {of_test} of the AP of `{name}` on `{split}` and {of_val} on `val`")
    return (
        f"{table(header, rows)}\n\nOf a window; simulated roads, split `{split}` but for the first AP; protocol "
        f"`prophesee`. {', '.join(told)}, where all were chosen. " + " ".join(dict.fromkeys(origins))
    )


def counting(results: Results) -> str:
    """What the counter adds to inference."""
    r = results["counting"]
    return (
        f"Counting `{r['model']}` takes {r['ratio']:.2f} times as long as detecting alone (median of {r['rounds']} "
        f"rounds of {r['batch_size']} windows, one after the other); the process holds {r['own_mb']['first']:.0f} MB "
        f"after the first of them and {r['own_mb']['last']:.0f} MB after the last. {origin(r)}"
    )


def firing_rate_study(results: Results) -> str:
    """Accuracy over firing rate, mean over seeds."""
    r = results["firing_rate_study"]
    rows = [
        (f"{row['target']:.1%}", row["seeds"], number(row["val_ap"]),
         number(row["test_ap"]), f"{row['test_firing_rate']:.1%}", f"{row['test_synaptic'] / 1e6:.0f} M")
        for row in r["by_target"]
    ]  # fmt: skip
    header = ("target", "seeds", "AP val", "AP test", "firing rate test", "synaptic operations a window")
    reached = "is" if r["under_break_even_at_95_percent_of_ap"] else "is not"
    chosen = "none" if r["chosen_on_val"] is None else f"{r['chosen_on_val']:.1%}"
    return (
        f"{table(header, rows)}\n\n"
        "![AP over firing rate, over operations and over energy](images/firing_rate_study.png)\n\n"
        f"Lowest target with 95 % of the AP of the highest on val: {chosen}. The goal, under 5.7 % at a loss of at "
        f"most 5 % of AP, {reached} reached. Simulated roads, protocol `{r['protocol']}`. {origin(r)}"
    )


def published_energy(results: Results) -> str:
    """Published energies, computed alike."""
    _, header, rows, _ = published_table()
    return f"{table(header, rows)}\n\n{what_follows(published())}"


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

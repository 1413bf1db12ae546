"""Blocks about speed and memory."""

from pathlib import Path
from typing import Any

from blocks.common import Results, number, origin, table
from spiking_centernet.experiments.bench import race_rows

SPARSE_RATE = 0.03


def speed_summary(results: Results) -> str:
    """How many times SpikingJelly's speed, in one table."""
    bench, training = results["bench"], results["training_speed"]
    peer = "SpikingJelly eager"
    races = {race["threads"]: race["times"] for race in bench["races"] if race["allocator"] == "tuned"}
    sparse = next(p["times"] for p in bench["rates"] if p["asked"] == SPARSE_RATE)

    def times(found: dict[str, Any], name: str) -> str:
        return f"{found[peer]['median_ms'] / found[name]['median_ms']:.1f} x"

    def trained(key: str) -> list[str]:
        rows = {r["threads"]: r for r in training["rows"]
                if (r["variant"], r["allocator"]) == ("ours bfloat16", "tuned")}  # fmt: skip
        return [f"{rows[threads][key]:.1f} x" for threads in races]

    rows = [
        *(
            (f"detect, `{bench['settings']['preset']}`, {what}", *(times(found, name) for found in races.values()))
            for what, name in (
                ("int8, event-driven where it pays", "ours int8 auto"), ("int8, dense", "ours int8 dense"),
                ("float32, event-driven where it pays", "ours fp32 auto"),
            )
        ),
        (f"the first of these at {SPARSE_RATE:.0%} firing", times(sparse, "ours int8 auto"), "-"),
        ("train `nano`, batch 8, bfloat16: steps a second", *trained("times_faster")),
        ("the same: memory, times less", *trained("times_less_memory")),
    ]  # fmt: skip
    header = (f"against {peer}, float32", *(f"{n} thread{'s' * (n > 1)}" for n in races))
    rate = bench["settings"]["firing_rate"]
    return (
        f"{table(header, rows)}\n\nRandom weights with a firing rate of {rate:.0%}; one window of 100 ms, 304 x 240. "
        f"{origin(bench)} {origin(training)}"
    )


def bench_race(results: Results) -> str:
    """Every implementation on one window, threads side by side, the allocator tuned for all."""
    r = results["bench"]
    races = [race for race in r["races"] if race["allocator"] == "tuned"]
    header = [
        "",
        *(f"{what}, {race['threads']} thr." for race in races for what in ("ms", "x SpikingJelly", "of roofline")),
    ]
    columns = [{row[0]: row for row in race_rows(race)} for race in races]
    rows = [
        (name, *(cell for column in columns for cell in (column[name][1], column[name][3], column[name][4])))
        for name in columns[0]
    ]
    settings = r["settings"]
    words = (
        f"Preset `{settings['preset']}`, batch 1, firing rate {races[0]['firing_rate']:.1%}, "
        f"{races[0]['window_gmac']:.1f} G dense multiply-accumulates a window when fused."
    )
    image = "![Milliseconds per window, and the roofline](images/bench_race.png)"
    return f"{image}\n\n{table(header, rows)}\n\n{words} {origin(r)}"


def bench_steps(results: Results) -> str:
    """Latency of single steps with the state carried on."""
    r = results["bench"]
    rows = [
        (s["contestant"], s["threads"], *(f"{s['times'][key]:.2f}" for key in ("median_ms", "p95_ms", "p99_ms")))
        for s in r["steps"]
    ]
    return f"A step of 20 ms in a stream that carries its state:\n\n{table(('', 'threads', 'ms', 'p95', 'p99'), rows)}"


def bench_alone(results: Results) -> str:
    """Memory and cold start, each implementation in a process of its own."""
    r = results["bench"]
    rows = [(a["contestant"], f"{a['peak_mb']:.0f}", f"{a['build_and_first_s']:.2f}") for a in r["alone"]]
    cold = r["cold_start_nano"]["cold_start_s"]
    again = r.get("alone_measured_again")
    note = f" This table was measured again at commit {again['commit'][:7]}: {again['why']} before." if again else ""
    return (
        f"{table(('', 'peak MB to build and detect', 's to build and detect once'), rows)}\n\n"
        f"From starting Python to the first detection of `nano`, imports and all: {cold:.1f} s.{note}"
    )


def bench_rates(results: Results) -> str:
    """Milliseconds per window by firing rate, one thread."""
    r = results["bench"]
    names = list(r["rates"][0]["times"])
    rows = [(name, *(f"{p['times'][name]['median_ms']:.1f}" for p in r["rates"])) for name in names]
    header = ("ms at a firing rate of", *(f"{p['firing_rate']:.0%}" for p in r["rates"]))
    return f"![Milliseconds per window by firing rate](images/bench_rates.png)\n\n{table(header, rows)}"


def training_speed(results: Results) -> str:
    """A training step of ``nano`` compared with SpikingJelly's."""
    return _training_speed(results["training_speed"])


def training_speed_paper(results: Results) -> str:
    """The same of ``paper``."""
    return _training_speed(results["training_speed_paper"])


def training_speed_ilif(results: Results) -> str:
    """The same of ``nano`` with neurons that answer with whole numbers of spikes."""
    return _training_speed(results["training_speed_ilif"])


def _training_speed(r: dict[str, Any]) -> str:
    rows = [
        (row["variant"], row["allocator"], row["threads"], f"{row['median_ms']:.0f}", row["times_faster"],
         row["peak_mb"], row["times_less_memory"])
        for row in r["rows"]
    ]  # fmt: skip
    header = ("", "allocator", "threads", "ms a step", "x faster", "peak MB", "x less")
    shown = f"{table(header, rows, words=2)}\n\nPreset `{r['preset']}`, batch {r['batch']}. "
    if "agreement" in r:
        alike = ", ".join(
            f"{name} {found['gradient_cosine']:.4f} and {found['mean_relative_difference_of_losses']:.1%}"
            for name, found in r["agreement"]["variants"].items()
            if name != r["agreement"]["with"]
        )
        shown += (
            f"Cosine of the first gradient with that of {r['agreement']['with']}, and mean difference of "
            f"{r['agreement']['steps']} losses: {alike}. "
        )
    return shown + origin(r)


def training_loading(results: Results) -> str:
    """What making the batches costs a training step."""
    r = results["training_loading"]
    ways = {"none": "the same batch again and again", "between steps": "batches made between the steps",
            "ahead in a thread": "batches made ahead in a thread, as training does"}  # fmt: skip
    rows = [
        (what, f"{r[key]['median_ms']:.0f}", f"{r[key]['share_of_speed_without_loading']:.1%}")
        for key, what in ways.items()
    ]
    return f"{table(('', 'ms a step', 'of the speed without loading'), rows)}\n\n{origin(r)}"


def training_loading_sequences(results: Results) -> str:
    """What one process loads of the windows that a memory is trained on, against what a step takes."""
    r = results["training_loading_sequences"]
    ways = {"loading alone": "loaded by one process, without a step", "none": "trained without loading",
            "ahead in a thread": "trained, batches made ahead in a thread"}  # fmt: skip
    rows = [(what, f"{r[key]['windows_per_s']:.1f}", f"{r[key]['median_ms']:.0f}") for key, what in ways.items()]
    shown = table(("windows", "a second", "ms a batch"), rows)
    return (
        f"{shown}\n\nRecipe `{Path(r['recipe']).name}`, batch {r['batch']}, windows of {r['window_us'] / 1e6:g} s in "
        f"{r['num_steps']} steps, recordings of {r['recording_s']:g} s with {r['events_per_s'] / 1e6:g} million events "
        f"a second.\n\n{origin(r)}"
    )


def precision_accuracy(results: Results) -> str:
    """AP of the bundled weights on every path."""
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


def training_sequences(results: Results) -> str:
    """Training steps on longer and longer sequences, compared with SpikingJelly's."""
    r = results["training_sequences"]
    found = {(row["length"], row["variant"]): row for row in r["rows"]}
    lengths, variants = (list(dict.fromkeys(key[i] for key in found)) for i in (0, 1))
    rows = [
        (str(length), *(f"{row['step_s']:.2f} s, {row['times_faster']:.1f}x, {row['peak_mb']} MB"
                        for name in variants for row in [found[length, name]]))
        for length in lengths
    ]  # fmt: skip
    growth = ", ".join(f"{name} {power:.2f}" for name, power in r["growth"].items())
    return (
        f"{table(('time steps', *variants), rows)}\n\nA training step of `nano`, batch 1, {r['threads']} threads: "
        f"seconds, times faster than {variants[0]}, peak memory. Time grows with the length to the power of: {growth}. "
        f"The first outputs in float32 lie at most {max(r['agreement'].values()):.2g} of their standard deviation "
        f"apart.\n\n{origin(r)}"
    )


def memory_speed(results: Results) -> str:
    """What a memory costs in torch and compiled."""
    r = results["memory_speed"]
    taken = {(row["model"], row["path"]): f"{row['median_ms']:.1f}" for row in r["rows"]}
    models, paths = (list(dict.fromkeys(key[i] for key in taken)) for i in (0, 1))
    rows = [(f"`{name}`", *(taken[name, path] for path in paths)) for name in models]
    return (
        f"{table(('ms', *paths), rows)}\n\nMedian of {r['windows']} times {r['num_steps']} steps of "
        f"{r['step_us'] / 1000:g} ms, stateful, on one thread; simulated traffic that stops. {origin(r)}"
    )


def by_time(results: Results) -> str:
    """AP by the time that has passed in a clip, of networks with and without a memory."""
    r = results["by_time"]
    bins = r["rows"][0]["bins"]
    header = ("AP", *(f"{b['start_us'] / 1e6:g} to {b['stop_us'] / 1e6:g} s" for b in bins), "all")
    rows = [
        (f"`{row['model']}`, {row['mode']}", *(number(b["ap"]) for b in row["bins"]), number(row["ap"]))
        for row in r["rows"]
    ]
    frames = ", ".join(str(b["frames"]) for b in bins)
    scored = f"Simulated roads, split `{r['split']}`, protocol `{r['protocol']}`; labeled frames: {frames}."
    return f"{table(header, rows)}\n\n{scored} {origin(r)}"


def gpu_speed(results: Results) -> str:
    """Training and detection on a GPU, compared with SpikingJelly."""
    r = results["gpu_speed"]
    found = {(row["kind"], row["batch"], row["variant"]): row for row in r["rows"]}
    rows = []
    for kind, batch in sorted({(row["kind"], row["batch"]) for row in r["rows"]}, reverse=True):
        ours = found[kind, batch, "ours bfloat16"]
        for variant in ("ours bfloat16", "spikingjelly bfloat16", "spikingjelly float32"):
            row = found[kind, batch, variant]
            times = row["median_ms"] / ours["median_ms"]
            rows.append(
                (kind, batch, variant, number(row["median_ms"], 1), "-" if row is ours else f"{times:.2f} x",
                 f"{row['peak_mb_over_weights']:.0f} MB", f"{row['share_of_peak']:.1%}")
            )  # fmt: skip
    header = ("step", "batch", "", "ms", "of our time", "memory beyond the weights", "of the matrix rate")
    return (
        f"{table(header, rows)}\n\n`{r['preset']}`, windows of {r['size_hw'][1]} x {r['size_hw'][0]}, on one "
        f"{r['device']} that multiplies {r['peak_gmac_s'] / 1e3:.0f} T pairs a second. {origin(r)}"
    )

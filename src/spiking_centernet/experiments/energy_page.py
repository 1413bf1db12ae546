"""The page and the tables of what a detection costs."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from spiking_centernet.errors import ConfigError
from spiking_centernet.evaluation.energy import Joules, published, what_follows
from spiking_centernet.evaluation.energy.models import LITERATURE_BREAK_EVEN
from spiking_centernet.evaluation.energy.report import ClipActivity, Costs
from spiking_centernet.utils.files import atomic_write
from spiking_centernet.utils.text import counted
from spiking_centernet.visualize import html

SPIKES, CONTROL = "#D55E00", "#0072B2"
"""Colors in plots, of Okabe and Ito's set, which every kind of color vision tells apart."""

INK = "#7b8593"
"""Letters and axes of plots without a ground: 3.7 times as dark as a white page, 4.4 times as light as the dark one."""

Table = tuple[str, Sequence[str], Sequence[Sequence[str]], int]
"""Title, header, rows, and how many columns are words."""

ENERGY, BREAK_EVEN = "Energy by two models", "Against an equal quantized ANN"
PUBLISHED = "Published energies, computed alike"
REMARKS = {
    ENERGY: "horowitz45 is the papers' convention: 4.6 pJ a multiply-accumulate, 0.9 pJ an addition (45 nm, float32), "
    "memory free. memory adds every read and write of weights, membranes and spikes (SRAM of 10, 20 and 100 pJ for 4 "
    "bytes at 8 KB, 32 KB and 1 MB) to 32-bit integer arithmetic. Both are arithmetic on counts, no measurement.",
    BREAK_EVEN: "The equal ANN computes the same convolutions once, its activations having as many bits as the number "
    "of steps can tell; horowitz45 knows no widths, there it pays 4.6 pJ a pair. Below the break-even rate the spiking "
    "network costs less. What is counted decides: where memory is free, nearly every rate wins.",
    PUBLISHED: "Recomputed from the architecture where its layers are at hand. The 1.73 G of 64-ST-VGG are its printed "
    "energy over 0.9 pJ: that it is a dense count too is taken from the other row of the same authors.",
}


def write_page(
    found: Costs,
    out: str | os.PathLike[str],
    *,
    model: str,
    clip: tuple[str, ClipActivity] | None = None,
    curve: str | os.PathLike[str] | None = None,
    stamp: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``index.html`` and its pictures into a folder and return the page's path.

    Args:
        found: what :func:`costs` returned.
        out: the folder.
        model: what the network is called.
        clip: name of a recording, and where and when the layers spike in it.
        curve: a result of the firing rate study; its AP-energy curve is shown.
        stamp: where the numbers come from.

    Raises:
        ConfigError: ``curve`` is no such result.
    """
    out = Path(out)
    ops = found.operations
    frames = ops.num_windows * ops.num_steps
    rate = _rate_word(found)
    page = html.Page(
        f"What a detection costs {model}",
        f"Counted on {counted(ops.num_windows, found.unit)}, split {found.split} "
        f"({counted(found.recordings, 'recording')}); {found.each} has {counted(ops.num_steps, 'time step')}"
        f"{', the state carried along' if found.mode == 'stateful' else ''}. The network is fused for inference.",
    )
    page.tiles(
        {
            rate: f"{ops.rate:.1%}",
            f"synaptic operations {found.each}": f"{ops.synaptic / ops.num_windows / 1e6:.0f} M",
            f"dense operations {found.each}": f"{ops.dense / ops.num_windows / 1e6:.0f} M",
            f"by horowitz45, {found.each}": _energy(found.breakdowns["horowitz45"].total()),
            f"with memory, {found.each}": _energy(found.breakdowns["memory"].total()),
        }
    )
    page.note(found.verdict)
    page.section(
        "Operations by layer, a time step",
        html.paragraph(
            "Pale: every pair of input and weight, as a dense engine meets them. Full: the pairs whose input is active."
        ),
        layer_bars({c.name: (c.dense / frames, c.synaptic / frames) for c in ops.convolutions}),
    )
    page.section(f"{rate[0].upper()}{rate[1:]} by layer", html.bars({n.name: n.rate for n in ops.neurons}))
    if curve is not None:
        curve_plot(read_study(curve), out / "curve.png")
        text = "AP over firing rate, operations and energy, with a target in training, on simulated roads."
        page.section("Accuracy over energy", html.image("curve.png", text, kind="plain wide"))
    if clip is not None:
        name, activity = clip
        where_plot(activity, out / "where.png")
        when_plot(activity, out / "when.png")
        page.section(
            f"Where and when spikes happen: {name}",
            html.image("where.png", "Share of steps and channels in which a position spiked, by layer.", kind="clear"),
            html.image(
                "when.png", "Share of neurons that spiked at every step, by layer, and the events above.", kind="clear"
            ),
        )
    for title, header, rows, _ in tables(found):
        remarks = [html.paragraph(REMARKS[title])] if title in REMARKS else []
        page.section(title, html.table(rows, header), *remarks)
    title, header, rows, _ = published_table()
    texts = (html.paragraph(text) for text in (what_follows(published()), REMARKS[title]))
    page.section(title, html.table(rows, header), *texts)
    page.section("Measured joules", html.paragraph(joules_in_words(found)))
    if stamp is not None:
        page.section("Where this comes from", html.provenance_list(stamp))
    return page.write(out / "index.html")


def tables(found: Costs) -> list[Table]:
    """Return what was counted as tables, for the console and the page."""
    ops = found.operations
    frames = ops.num_windows * ops.num_steps
    layers = [
        (c.name, *_millions(c.dense / frames, c.synaptic / frames), "yes" if c.binary else "NO")
        for c in ops.convolutions
    ]
    layers.append(("all, a step", *_millions(ops.dense / frames, ops.synaptic / frames), ""))
    layers.append((f"all, {found.each}", *_millions(ops.dense / ops.num_windows, ops.synaptic / ops.num_windows), ""))
    neurons = [
        (n.name, f"{n.neurons:,}", f"{n.rate:.2%}", f"{n.dead_share:.1%}", f"{n.saturated_share:.2%}")
        for n in ops.neurons
    ]
    total = sum(n.neurons for n in ops.neurons)
    dead = sum(n.dead for n in ops.neurons) / total
    saturated = sum(n.saturated for n in ops.neurons) / total
    neurons.append(("all", f"{total:,}", f"{ops.rate:.2%}", f"{dead:.1%}", f"{saturated:.2%}"))
    nb = found.neurobench
    bench = [
        ("footprint", f"{nb.footprint / 1e6:.2f} MB"),
        ("connection sparsity", f"{nb.connection_sparsity:.2%}"),
        ("activation sparsity", f"{nb.activation_sparsity:.2%}"),
        ("dense operations", f"{nb.dense / 1e6:.1f} M"),
        ("effective MACs", f"{nb.effective_macs / 1e6:.1f} M"),
        ("effective ACs", f"{nb.effective_acs / 1e6:.1f} M"),
        ("membrane updates", f"{nb.membrane_updates / 1e6:.2f} M"),
    ]
    made: list[Table] = [
        ("Operations", ("layer", "dense, M a step", "synaptic, M a step", "share", "input 0 or 1"), layers, 1),
        ("Neurons", ("layer", "neurons", _rate_word(found), "never spike", "spike at every step"), neurons, 1),
        (ENERGY, ("model", "what", "a step", found.each), energy_rows(found), 2),
    ]
    if found.break_evens:
        header = ("by", "own firing rate", "break-even", "this network", "equal ANN")
        made.append((BREAK_EVEN, header, break_even_rows(found), 1))
    return [*made, (f"NeuroBench's metrics, {found.each}", ("metric", "value"), bench, 1)]


def _rate_word(found: Costs) -> str:
    return "firing rate" if found.spiking else "share of outputs not zero"


def _millions(dense: float, synaptic: float) -> tuple[str, str, str]:
    return f"{dense / 1e6:.2f}", f"{synaptic / 1e6:.2f}", f"{synaptic / max(1.0, dense):.1%}"


def energy_rows(found: Costs) -> list[tuple[str, str, str, str]]:
    """Return energies a step and a window, or an answer, by model, with and without first layer and neurons."""
    rows = []
    steps = found.operations.num_steps
    for name, breakdown in found.breakdowns.items():
        for what, first, neurons in (
            ("everything", True, True),
            ("without membrane updates", True, False),
            ("without the first layer", False, True),
            ("without both", False, False),
        ):
            total = breakdown.total(first_layer=first, neurons=neurons)
            rows.append((name, what, _energy(total / steps), _energy(total)))
    return rows


def break_even_rows(found: Costs) -> list[tuple[str, str, str, str, str]]:
    """Return own and break-even firing rate by model, and the literature's."""
    own = f"{found.operations.rate:.1%}"
    rows = []
    for even in found.break_evens:
        rate = "none" if even.rate is None else f"{even.rate:.1%}"
        rows.append((even.model, own, rate, _energy(even.snn_pj), _energy(even.ann_pj)))
    return [*rows, ("arXiv 2409.08290, 5 steps", own, f"{LITERATURE_BREAK_EVEN:.1%}", "", "")]


def published_table() -> Table:
    """Return the energies that papers print, computed alike."""
    rows = [
        (r.name, f"{r.rate:.1%}", f"{r.energy_mj:.3f}", r.printed_is, f"{r.dense / 1e9:.2f} G",
         f"{r.recomputed / 1e9:.2f} G ({r.covers})" if r.recomputed else "layers not at hand",
         f"{r.dense_mj:.2f}", f"{r.scaled_mj:.2f}")
        for r in published()
    ]  # fmt: skip
    header = (
        "network", "firing rate", "mJ a step, printed", "which is", "dense operations", "recomputed", "mJ dense",
        "mJ rate-scaled",
    )  # fmt: skip
    return PUBLISHED, header, rows, 1


def joules_in_words(found: Costs) -> str:
    """Return what was measured and how, or why nothing was."""
    j = found.joules
    if not isinstance(j, Joules):
        return j.reason
    rest = "" if j.settled else "; the time was up before the interval came within 5 %"
    return (
        f"{j.per_window:.4g} J {found.each} (std {j.std:.2g}, 95 % interval +- {j.interval:.2g}, "
        f"{j.repeats} repeats{rest}), "
        f"{j.source}, above {j.idle_watts:.1f} W idle, {j.seconds_per_window * 1e3:.1f} ms {found.each}"
    )


def _energy(picojoules: float) -> str:
    for factor, unit in ((1e-12, "J"), (1e-9, "mJ"), (1e-6, "uJ")):
        if abs(picojoules * factor) >= 1:
            return f"{picojoules * factor:.3g} {unit}"
    return f"{picojoules * 1e-3:.3g} nJ"


def layer_bars(layers: Mapping[str, tuple[float, float]]) -> str:
    """Return horizontal bars of a part within a whole, the largest whole full width."""
    return html.part_bars(
        {
            name.removesuffix(".conv"): (whole, part, f"{part / 1e6:.2f} of {whole / 1e6:.1f} M")
            for name, (whole, part) in layers.items()
        }
    )


@contextmanager
def _clear() -> Iterator[None]:
    """Draw letters and axes so that they can be read on a light and on a dark page."""
    from matplotlib import rc_context

    names = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    with rc_context(dict.fromkeys(names, INK)):
        yield


@_clear()
def where_plot(activity: ClipActivity, path: Path) -> None:
    """Draw a heat map for every layer: the share of steps and channels in which a position spiked."""
    from matplotlib.figure import Figure

    across = 6
    down = -(-len(activity.where) // across)
    figure = Figure(figsize=(2.1 * across, 1.75 * down + 0.4), dpi=110, layout="constrained")
    # One scale for all layers; the few hottest places would make it dull.
    top = float(np.quantile(np.concatenate([m.ravel() for m in activity.where.values()]), 0.995)) or 1.0
    shown = None
    for place, (name, rates) in enumerate(activity.where.items(), start=1):
        axes = figure.add_subplot(down, across, place)
        shown = axes.imshow(rates, cmap="magma", vmin=0, vmax=top, interpolation="nearest")
        axes.set_title(f"{_short(name)}  {rates.mean():.1%}", fontsize=8)
        axes.set_axis_off()
    assert shown is not None
    figure.colorbar(shown, ax=figure.axes, shrink=0.6, label="firing rate", format=_percent(), extend="max")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, transparent=True)


@_clear()
def when_plot(activity: ClipActivity, path: Path) -> None:
    """Draw the layers' firing rate over time, one row a layer, and the events of every step above."""
    from matplotlib.figure import Figure

    names = list(activity.when)
    rates = np.stack([activity.when[name] for name in names])
    start_s, step_s = activity.start_us * 1e-6, activity.step_us * 1e-6
    stop_s = start_s + step_s * rates.shape[1]
    figure = Figure(figsize=(11, 1.8 + 0.2 * len(names)), dpi=110, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 0.16 * len(names) + 1))
    above.stairs(activity.events / activity.step_us, np.linspace(start_s, stop_s, rates.shape[1] + 1), fill=True,
                 color=CONTROL)  # fmt: skip
    above.set_ylabel("Mev/s")
    above.spines[["top", "right"]].set_visible(False)
    extent = (start_s, stop_s, len(names) - 0.5, -0.5)
    shown = below.imshow(rates, aspect="auto", cmap="magma", interpolation="nearest", extent=extent, vmin=0)
    below.set_yticks(range(len(names)), [_short(name) for name in names], fontsize=7)
    state = "the state is carried along" if activity.carried else "every window starts from zero-initialized state"
    below.set_xlabel(f"seconds; {state}")
    figure.colorbar(shown, ax=below, label="firing rate", format=_percent())
    with atomic_write(path) as temporary:
        figure.savefig(temporary, transparent=True)


def _percent() -> Any:
    from matplotlib.ticker import PercentFormatter

    return PercentFormatter(1)


def _short(name: str) -> str:
    for word in ("encoder.", "decoder.", "heads.", ".block", ".project"):
        name = name.replace(word, "")
    return name


def read_study(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the runs of a firing rate study: ``target``, ``seed``, and under ``test`` ``ap`` and what it cost.

    Raises:
        ConfigError: the file is missing or no such result.
    """
    try:
        runs = json.loads(Path(path).read_text(encoding="utf-8"))["runs"]
        if not runs:
            raise ValueError("it has no runs")
        for run in runs:
            ap = run["test"]["ap"]  # None where nothing could be scored
            numbers = run["target"], run["seed"], *(run["test"][key] for key, *_ in CURVES)
            for number in numbers if ap is None else (*numbers, ap):
                if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) < 1e30:
                    raise ValueError(f"{str(number)[:100]!r} is no number")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"{os.fspath(path)}: is no result of benchmarks/firing_rate_study.py "
            f"({type(error).__name__}: {str(error)[:200]})"
        ) from error
    return runs


CURVES = (
    ("firing_rate", "firing rate, %", 100),
    ("synaptic", "synaptic operations a window, millions", 1e-6),
    ("memory_uj", "energy a window by the memory model, mJ", 1e-3),
)
"""What AP is drawn over: key of a run, label, factor."""


def curve_plot(runs: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """Plot AP on test over firing rate, operations and energy, one point a run, the literature's break-even as a line.

    The highest target is taken for the control.
    """
    from matplotlib.figure import Figure

    highest = max((r["target"] for r in runs), default=0.0)
    figure = Figure(figsize=(12.5, 3.8), dpi=130, layout="constrained")
    for place, (key, label, scale) in enumerate(CURVES, start=1):
        axes = figure.add_subplot(1, len(CURVES), place)
        for control, marker, color, name in (
            (False, "o", SPIKES, "lower targets"), (True, "s", CONTROL, f"target {highest:.0%}: never due")
        ):  # fmt: skip
            points = [r["test"] for r in runs if (r["target"] == highest) == control and r["test"]["ap"] is not None]
            axes.plot([p[key] * scale for p in points], [p["ap"] for p in points], marker, color=color, label=name)
        if key == "firing_rate":
            text = f"break-even {LITERATURE_BREAK_EVEN:.1%} (arXiv 2409.08290)"
            axes.axvline(100 * LITERATURE_BREAK_EVEN, color="#555555", linestyle="--", linewidth=1, label=text)
        axes.set(xlabel=label, ylabel="AP, prophesee, test")
        axes.margins(0.1)
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    with atomic_write(path) as temporary:
        figure.savefig(temporary)

"""The plots of a benchmark: time per implementation, time by firing rate, growth with size."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spiking_centernet.utils.files import atomic_write

ROOFLINES = {"fp32_gmac_s": "roofline fp32", "bf16_gmac_s": "roofline bf16", "int8_gmac_s": "roofline int8"}
"""Measured convolution rate -> the name of the roofline it sets."""


def roofline_ms(gmac: float, peak_rates: Mapping[str, float]) -> dict[str, float]:
    """Return the milliseconds that a window's dense multiply-accumulates would take at each measured rate."""
    return {name: gmac / peak_rates[key] * 1e3 for key, name in ROOFLINES.items() if key in peak_rates}


def draw(result: Mapping[str, Any], out: Path) -> dict[str, Path]:
    """Draw ``race.png`` and ``rates.png`` of a benchmark's result; return the files."""
    paths = {"race": out / "race.png", "rates": out / "rates.png"}
    _race(result, paths["race"])
    _rates(result, paths["rates"])
    return paths


def _race(result: Mapping[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    races = [race for race in result["races"] if race["allocator"] == "tuned"]
    figure = Figure(figsize=(5.2 * len(races), 4.2), dpi=130, layout="constrained")
    for k, race in enumerate(races):
        axes = figure.add_subplot(1, len(races), k + 1)
        names = list(race["times"])[::-1]
        medians = [race["times"][name]["median_ms"] for name in names]
        colors = ["#0b6bb5" if name.startswith("ours") else "#9aa7b8" for name in names]
        bars = axes.barh(names, medians, color=colors)
        axes.bar_label(bars, fmt="%.3g ms", padding=3, fontsize=8)
        for name, ms in roofline_ms(race["window_gmac"], race["peak_rates"]).items():
            axes.axvline(ms, color="#c23b22", linewidth=0.8, linestyle=":")
            axes.text(ms, len(names) - 0.35, name.removeprefix("roofline "), color="#c23b22", fontsize=7, rotation=90)
        axes.set(xscale="log", xlabel="median milliseconds a window, log scale")
        axes.set_xlim(min(medians) * 0.5, max(medians) * 3)
        axes.set_title(f"{race['threads']} thread{'s' * (race['threads'] > 1)}", fontsize=11, pad=24)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    write_figure(figure, path)


def _rates(result: Mapping[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    points = result["rates"]
    for name in points[0]["times"]:
        axes.plot(
            [100 * p["firing_rate"] for p in points], [p["times"][name]["median_ms"] for p in points],
            marker="o", markersize=3, linewidth=1.4, label=name,
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="firing rate of the network, %", ylabel="median milliseconds a window")
    ticks = [100 * p["asked"] for p in points]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    lines = [10**k * m for k in range(-1, 5) for m in (1, 2, 5)]
    axes.set_yticks(lines, [f"{line:g}" for line in lines])
    medians = [t["median_ms"] for p in points for t in p["times"].values()]
    axes.set_ylim(min(medians) * 0.8, max(medians) * 1.25)
    axes.minorticks_off()
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    write_figure(figure, path)


def write_figure(figure: Any, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png")

"""Time and memory of one detection as steps, resolution, width and batch grow, each with the exponent of its growth.

    python benchmarks/cost_by_size.py

Writes ``results/cost_by_size.json`` and ``docs/images/cost_by_size.png``. An exponent of 1 is "as the data grows"; the
work of a convolution grows with the square of the width. Every point is measured in a process of its own on one thread.
"""

import argparse
from pathlib import Path

from stamp import stamp, this_command, write_result

from spiking_centernet.experiments.bench.runs import TUNED, work
from spiking_centernet.experiments.bench.timing import growth

ROOT = Path(__file__).resolve().parents[1]
AXES = {
    "num_steps": (1, 2, 5, 10, 20),
    "pixels": ((240, 304), (360, 480), (480, 640), (720, 1280)),
    "width": (8, 16, 32, 64),
    "batch": (1, 2, 4, 8, 16),
}
EXPECTED = {"num_steps": 1, "pixels": 1, "width": 2, "batch": 1}
"""The growth of the dense work with each."""

CONTESTANTS = ("ours int8 auto", "ours bf16 dense")


def job_of(axis: str, value, options) -> tuple[float, dict]:
    """Return the size of a point and its job: nano's shape with one thing changed."""
    job = {
        "kind": "race", "preset": "nano", "size_hw": (240, 304), "num_steps": 5, "batch": 1, "seed": options.seed,
        "firing_rate": 0.12, "threads": 1, "seconds": options.seconds, "contestants": list(CONTESTANTS), "changes": {},
    }  # fmt: skip
    if axis == "pixels":
        return value[0] * value[1], {**job, "size_hw": value}
    if axis == "width":
        return value, {
            **job,
            "changes": {"encoder.widths": [value, 2 * value, 4 * value, 8 * value], "head.width": 2 * value},
        }
    return value, {**job, axis: value}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    result = {**stamp(command=this_command(), seed=options.seed), "preset": "nano", "axes": {}}
    for axis, values in AXES.items():
        points = []
        for value in values:
            size, job = job_of(axis, value, options)
            race = work(job, TUNED)
            alone = {name: work({**job, "kind": "alone", "contestant": name}, {})["peak_mb"] for name in CONTESTANTS}
            times = {name: race["times"][name]["median_ms"] for name in CONTESTANTS}
            points.append({"size": size, "gmac": race["window_gmac"], "median_ms": times, "peak_mb": alone})
            print(axis, value, {k: round(v, 2) for k, v in times.items()}, {k: round(v) for k, v in alone.items()})
        sizes = [p["size"] for p in points]
        result["axes"][axis] = {
            "points": points,
            "growth": {
                name: {
                    "time": growth(sizes, [p["median_ms"][name] for p in points]),
                    "memory": growth(sizes, [max(p["peak_mb"][name], 0.1) for p in points]),
                }
                for name in CONTESTANTS
            },
            "growth_of_dense_work": EXPECTED[axis],
        }
    write_result("cost_by_size", result)
    draw(result)


def draw(result: dict) -> None:
    from matplotlib.figure import Figure

    from spiking_centernet.experiments.bench.plots import write_figure

    figure = Figure(figsize=(12, 5.6), dpi=110, layout="constrained")
    for column, (axis, found) in enumerate(result["axes"].items()):
        sizes = [p["size"] for p in found["points"]]
        for row, (key, what) in enumerate((("median_ms", "time"), ("peak_mb", "memory"))):
            axes = figure.add_subplot(2, 4, 1 + column + 4 * row)
            for name in CONTESTANTS:
                label = f"{name}: size^{found['growth'][name][what]:.2f}"
                axes.plot(sizes, [p[key][name] for p in found["points"]], marker="o", markersize=3, label=label)
            axes.set(xscale="log", yscale="log", xlabel=axis, ylabel="ms" if row == 0 else "MB to build and detect")
            axes.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=7)
            axes.xaxis.minorticks_off()
            axes.yaxis.set_minor_formatter("")
            axes.legend(fontsize=7, frameon=False)
            axes.spines[["top", "right"]].set_visible(False)
    write_figure(figure, ROOT / "docs" / "images" / "cost_by_size.png")


if __name__ == "__main__":
    main()

"""Curves as plots."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.utils.files import atomic_write


def curves_plot(
    columns: Mapping[str, Sequence[float | int | None] | np.ndarray],
    path: str | os.PathLike[str],
    *,
    x: str = "step",
    panels: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Plot the columns of a metrics file over one of them.

    Args:
        columns: equally long columns by name; None and NaN mark rows where a column has no value.
        path: the picture to write; the suffix chooses png, svg or pdf.
        x: name of the column on the horizontal axis.
        panels: title of each panel and the columns drawn in it; None gives every column a panel of its own.

    Raises:
        ConfigError: a named column is missing, columns differ in length, or there is nothing to plot.
    """
    if panels is None:
        panels = {name: [name] for name in columns if name != x}
    for name in (x, *(name for names in panels.values() for name in names)):
        if name not in columns:
            raise ConfigError(f"no column is called {name!r}{did_you_mean(name, columns)}")
        if len(columns[name]) != len(columns[x]):
            raise ConfigError(f"column {name!r} has {len(columns[name])} rows, {x!r} has {len(columns[x])}")
    if not panels:
        raise ConfigError(f"there is nothing to plot over {x!r}; pass at least one more column")
    from matplotlib.figure import Figure

    across = min(3, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(4.2 * across, 3.1 * down), dpi=130, layout="constrained")
    along = np.array(columns[x], np.float64)
    for place, (title, names) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(down, across, place)
        for k, name in enumerate(names):
            values = np.array(columns[name], np.float64)
            there = np.isfinite(values) & np.isfinite(along)
            # A single value draws no line, so few values get markers.
            marker = "." if there.sum() <= 30 else ""
            axes.plot(along[there], values[there], **line_style(k), marker=marker, label=name)
        axes.set_title(title, fontsize=11)
        axes.set_xlabel(x)
        finish(axes, legend=len(names) > 1)
    with atomic_write(path) as temporary:
        figure.savefig(temporary)


def line_style(k: int) -> dict[str, Any]:
    """Return how the line of number k looks, as keywords for ``Axes.plot``."""
    # Okabe and Ito's colors, which every kind of color vision tells apart (jfly.uni-koeln.de/color).
    colors = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
    return {"color": colors[k % 7], "linestyle": ("-", "--", ":")[k // 7 % 3], "linewidth": 1.8}


def finish(axes: Any, legend: bool = True) -> None:
    """Give a plot its grid and legend, and take the frame away."""
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if legend and axes.lines:
        axes.legend(frameon=False, fontsize=9)

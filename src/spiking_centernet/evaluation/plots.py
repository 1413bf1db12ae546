"""Scores as plots."""

import os
from typing import TYPE_CHECKING

import numpy as np

from spiking_centernet.evaluation.metrics import Score
from spiking_centernet.utils.files import atomic_write
from spiking_centernet.visualize.plots import finish, line_style

if TYPE_CHECKING:
    pass


def pr_plot(score: Score, path: str | os.PathLike[str]) -> None:
    """Plot precision over recall at IoU 0.5, one line per class with ground truth; the suffix chooses png, svg, pdf."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.5), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    recall = np.linspace(0, 1, 101)
    for k, found in enumerate(score.classes):
        if found.num_truth:
            text = f"{found.name}  AP50 {found.ap50:.3f}  AP {found.ap:.3f}  ({found.num_truth} boxes)"
            axes.plot(recall, found.precision_at_50, **line_style(k), label=text)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision at IoU 0.5")
    result = f"AP {score.ap:.3f}, AP50 {score.ap50:.3f}" if score.num_truth else "no ground truth"
    axes.set_title(f"{result} under protocol {score.protocol}", fontsize=11)
    finish(axes)
    with atomic_write(path) as temporary:
        figure.savefig(temporary)

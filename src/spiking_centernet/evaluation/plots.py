"""Scores as plots."""

import os

import numpy as np

from spiking_centernet.evaluation.box_matches import BySize, Confusion
from spiking_centernet.evaluation.metrics import Score
from spiking_centernet.utils.files import atomic_write
from spiking_centernet.utils.text import counted
from spiking_centernet.visualize.plots import finish, line_style


def pr_plot(score: Score, path: str | os.PathLike[str]) -> None:
    """Plot precision over recall at IoU 0.5, one line per class with ground truth; the suffix chooses png, svg, pdf."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.5), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    recall = np.linspace(0, 1, 101)
    for k, found in enumerate(score.classes):
        if found.num_truth:
            text = f"{found.name}  AP50 {found.ap50:.3f}  AP {found.ap:.3f}  ({counted(found.num_truth, 'box')})"
            axes.plot(recall, found.precision_at_50, **line_style(k), label=text)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision at IoU 0.5")
    result = f"AP {score.ap:.3f}, AP50 {score.ap50:.3f}" if score.num_truth else "no ground truth"
    axes.set_title(f"{result} under protocol {score.protocol}", fontsize=11)
    finish(axes)
    with atomic_write(path) as temporary:
        figure.savefig(temporary)


def confusion_plot(
    confusion: Confusion, path: str | os.PathLike[str], *, title: str = "", classifies: bool = False
) -> None:
    """Plot a confusion matrix: counts, and as color the share of a row; the suffix chooses png, svg, pdf.

    Args:
        confusion: the counts.
        path: of the picture.
        title: above it.
        classifies: whether it is of a classifier, which misses nothing and detects nothing where nothing is.
    """
    from matplotlib.figure import Figure

    table = confusion.to_dict()
    counts = confusion.counts[:-1, :-1] if classifies else confusion.counts
    num = len(counts)
    share = counts / np.maximum(1, counts.sum(1, keepdims=True))
    figure = Figure(figsize=(2.4 + 1.1 * num, 1.8 + 0.9 * num), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row in range(num):
        for column in range(num):
            if row == column == len(confusion.class_names):
                continue  # where nothing is and nothing was detected is not counted
            ink = "white" if share[row, column] > 0.55 else "black"
            text = f"{counts[row, column]}\n{share[row, column]:.0%}"
            axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=10)
    axes.set_xticks(range(num), table["columns"][:num])
    axes.set_yticks(range(num), table["rows"][:num])
    axes.set(xlabel="taken for" if classifies else "detected as", ylabel="is")
    axes.set_title(title, fontsize=10)
    with atomic_write(path) as temporary:
        figure.savefig(temporary)


def sizes_plot(sizes: BySize, path: str | os.PathLike[str], *, title: str = "") -> None:
    """Plot recall and precision by the size of boxes, and how many there are; the suffix chooses png, svg, pdf."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 5), dpi=130, layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    along = np.arange(len(sizes.edges_px))
    curves = {"recall at IoU 0.5": sizes.recall_50, "recall at IoU 0.75": sizes.recall_75, "precision": sizes.precision}
    for k, (name, values) in enumerate(curves.items()):
        axes.plot(along, values, **line_style(k), marker="o", markersize=4, label=name)
    axes.set(ylim=(0, 1.02), ylabel="share")
    axes.set_title(title, fontsize=10)
    finish(axes)
    below.bar(along - 0.2, sizes.num_truth, 0.4, label="boxes", color="#000000")
    below.bar(along + 0.2, sizes.num_shown, 0.4, label="detections", color="#56B4E9")
    below.set_xticks(along, sizes.labels)
    below.set(xlabel="side of the box in pixels (root of its area)", ylabel="number")
    finish(below, legend=False)
    below.legend(frameon=False, fontsize=9)
    with atomic_write(path) as temporary:
        figure.savefig(temporary)

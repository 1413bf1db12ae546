"""Prophesee's box files, in the layouts of GEN1 (33 bytes a box) and of 1 Mpx (40 bytes)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spiking_centernet.data import read_boxes, write_boxes
from spiking_centernet.data.convert.labels import Labels
from spiking_centernet.utils.files import atomic_write

MEGAPIXEL_DTYPE = np.dtype(
    {
        "names": ["t", "x", "y", "w", "h", "class_id", "track_id", "class_confidence"],
        "formats": ["<i8", "<f4", "<f4", "<f4", "<f4", "<u4", "<u4", "<f4"],
        "offsets": [0, 8, 12, 16, 20, 24, 28, 32],
        "itemsize": 40,
    }
)
"""``EventBbox`` of https://github.com/prophesee-ai/prophesee-automotive-dataset-toolbox (src/io/box_loading.py)."""


def read(path: Path, *, classes: Sequence[str]) -> Labels:
    """Read a box file of either layout; raises as ``read_boxes``."""
    return Labels(read_boxes(path, classes=classes), tuple(classes))


def write(path: Path, labels: Labels, *, layout: str = "gen1") -> list[str]:
    """Write a box file in the layout ``gen1`` or ``1mpx``; return what it cannot hold, in words."""
    if layout == "gen1":
        write_boxes(path, labels.boxes, classes=labels.classes)
    else:
        stored = np.zeros(len(labels.boxes), MEGAPIXEL_DTYPE)
        stored["t"], stored["class_confidence"] = labels.boxes["ts"], labels.boxes["confidence"]
        for name in ("x", "y", "w", "h", "class_id", "track_id"):
            stored[name] = labels.boxes[name]
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.save(file, stored, allow_pickle=False)
    return [f"{labels.num_empty} labeled frames without a box"] if labels.num_empty else []

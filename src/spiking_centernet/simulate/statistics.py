"""What is in a data set of recordings and boxes: rates, polarities, boxes by class, size and events."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from spiking_centernet.data.box_files import label_timestamps, read_boxes
from spiking_centernet.data.formats.dat import DatFile
from spiking_centernet.errors import DatasetError
from spiking_centernet.structures import CLASS_NAMES

WINDOW_US = 100_000
"""The window of a label: what a detector sees of it."""

FEW_EVENTS = 50
"""A box with fewer events in its window is hard to see in them."""

AREA_EDGES_PX = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, np.inf)}
"""COCO's size classes, https://cocodataset.org/#detection-eval."""


def events_per_box(recording: DatFile, boxes: np.ndarray) -> np.ndarray:
    """Count the events inside each box in the 100 ms before it.

    Args:
        recording: the events.
        boxes: BOX_DTYPE [N].

    Returns:
        int64 [N]; pixels count that the box covers at least half of.
    """
    height, width = recording.size_hw or recording.scanned.occupied_hw
    counts = np.zeros(len(boxes), np.int64)
    for t_us in label_timestamps(boxes):
        chosen = np.flatnonzero(boxes["ts"] == np.uint64(t_us))
        span = recording.span(max(int(t_us) - WINDOW_US, 0), int(t_us))
        events = recording.decode(span.start, span.stop)
        pixel = events["y"].astype(np.int64) * width + events["x"]
        image = np.bincount(pixel, minlength=height * width).reshape(height, width)
        integral = np.zeros((height + 1, width + 1), np.int64)
        integral[1:, 1:] = image.cumsum(0).cumsum(1)
        x, y, w, h = (boxes[name][chosen].astype(np.float64) for name in ("x", "y", "w", "h"))
        left, right = (np.clip(np.rint(side), 0, width).astype(int) for side in (x, x + w))
        top, bottom = (np.clip(np.rint(side), 0, height).astype(int) for side in (y, y + h))
        counts[chosen] = integral[bottom, right] - integral[top, right] - integral[bottom, left] + integral[top, left]
    return counts


class RecentEvents:
    """Event counts of each pixel by label period, to tell which boxes hold any.

    Args:
        size_hw: rows and columns of the sensor.
        period_us: time between labels, a divisor of 100 ms.
    """

    def __init__(self, size_hw: tuple[int, int], period_us: int):
        self._size_hw, self._period_us = size_hw, period_us
        self._counts: dict[int, np.ndarray] = {}

    def add(self, events: np.ndarray) -> None:
        """Count events of one step, which all lie in few periods."""
        period = events["t"] // self._period_us
        for k in range(int(period[0]), int(period[-1]) + 1):
            chosen = events[period == k] if period[0] != period[-1] else events
            pixel = chosen["y"].astype(np.int64) * self._size_hw[1] + chosen["x"]
            image = np.bincount(pixel, minlength=self._size_hw[0] * self._size_hw[1]).astype(np.uint32)
            self._counts[k] = self._counts.get(k, 0) + image.reshape(self._size_hw)

    def filled(self, boxes: np.ndarray, least: float, least_per_px: float) -> np.ndarray:
        """Return the boxes, all of one time, that hold ``least`` + area * ``least_per_px`` events of the last 100 ms.

        Args:
            boxes: BOX_DTYPE [N] at a multiple of the period.
            least: events that every box must hold.
            least_per_px: events for each pixel of its area besides.
        """
        if not len(boxes):
            return boxes
        end = int(boxes["ts"][0]) // self._period_us
        image = np.zeros(self._size_hw, np.int64)
        for k in range(max(end - WINDOW_US // self._period_us, 0), end):
            image += self._counts.get(k, 0)
        kept = []
        for box in boxes:
            left, top = int(box["x"]), int(box["y"])
            inside = image[top : math.ceil(box["y"] + box["h"]), left : math.ceil(box["x"] + box["w"])]
            kept.append(inside.sum() >= least + least_per_px * box["w"] * box["h"])
        return boxes[np.array(kept)]


def summarize(folder: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """Describe the splits of a data set in GEN1's layout.

    Args:
        folder: holds ``train``, ``val`` or ``test``.

    Returns:
        for each split that has recordings: ``clips``, ``seconds``, ``events``, ``event_rate_mev_s`` (mean, min, median
        and max over the clips), ``on_share``, ``label_instants`` (with a box), ``boxes``, ``boxes_per_class``,
        ``boxes_per_size`` (COCO's areas), ``box_height_px`` (quantiles), ``tracks``, ``boxes_under_50_events`` (share).

    Raises:
        DatasetError: the folder holds no recordings.
    """
    folder = Path(folder)
    summary = {}
    for split in ("train", "val", "test"):
        paths = sorted((folder / split).glob("*_td.dat"))
        if paths:
            summary[split] = _summarize_split(paths)
    if not summary:
        raise DatasetError(f"{folder} holds no recordings: expected train, val or test folders with *_td.dat files")
    return summary


def _summarize_split(paths: list[Path]) -> dict[str, Any]:
    rates, all_boxes, all_counts = [], [], []
    seconds, events, on_events, timestamps, tracks = 0.0, 0, 0, 0, 0
    for path in paths:
        recording = DatFile(path)
        decoded = recording.decode()
        duration_s = max(recording.last_us, 1) * 1e-6
        boxes = read_boxes(path.with_name(path.name.replace("_td.dat", "_bbox.npy")))
        seconds += duration_s
        events += len(decoded)
        on_events += int(np.count_nonzero(decoded["p"]))
        rates.append(len(decoded) / duration_s * 1e-6)
        timestamps += len(label_timestamps(boxes))
        tracks += len(np.unique(boxes["track_id"]))
        all_boxes.append(boxes)
        all_counts.append(events_per_box(recording, boxes))
    boxes, counts = np.concatenate(all_boxes), np.concatenate(all_counts)
    area = boxes["w"].astype(np.float64) * boxes["h"]
    heights = {f"q{q}": round(float(np.quantile(boxes["h"], q / 100)), 1) for q in (5, 25, 50, 75, 95) if len(boxes)}
    return {
        "clips": len(paths),
        "seconds": round(seconds, 3),
        "events": events,
        "event_rate_mev_s": {
            "mean": events / seconds * 1e-6,
            "min": min(rates),
            "median": float(np.median(rates)),
            "max": max(rates),
        },
        "on_share": on_events / events if events else None,
        "label_instants": timestamps,
        "boxes": len(boxes),
        "tracks": tracks,
        "boxes_per_class": {
            name: int(np.count_nonzero(boxes["class_id"] == index)) for index, name in enumerate(CLASS_NAMES)
        },
        "boxes_per_size": {
            name: int(np.count_nonzero((area >= low) & (area < high))) for name, (low, high) in AREA_EDGES_PX.items()
        },
        "box_height_px": heights,
        "boxes_under_50_events": float((counts < FEW_EVENTS).mean()) if len(boxes) else None,
    }

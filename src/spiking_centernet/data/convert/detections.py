"""The JSON that ``scn detect`` writes: the boxes of every timestamp, with class names and scores."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spiking_centernet.data.convert.labels import Labels, Row, boxes_from, checked_size, checked_time, number_tracks
from spiking_centernet.errors import BoxFileError


def is_detections(document: Any) -> bool:
    """Return whether a JSON document is one of ``scn detect``."""
    return isinstance(document, Mapping) and "instants" in document and "classes" in document


def read(path: Path, document: Mapping[str, Any]) -> Labels:
    """Read the detections of one recording; a score is the confidence of its box.

    Args:
        path: the file, for messages.
        document: what it holds.

    Raises:
        BoxFileError: the document is damaged.
    """
    try:
        classes = tuple(str(name) for name in document["classes"])
        height, width = map(int, document["size_hw"])
        size_hw = checked_size(path, height, width)
        rows: list[Row] = []
        tracked: list[bool] = []
        timestamps_us = [checked_time(path, int(timestamp["t_us"])) for timestamp in document["instants"]]
        for t_us, timestamp in zip(timestamps_us, document["instants"], strict=True):
            for box in timestamp["boxes"]:
                left, top, right, bottom = map(float, box["xyxy"])
                track = box.get("track_id")
                tracked.append(track is not None)
                label, score = int(box["label"]), float(box["score"])
                rows.append((t_us, left, top, right - left, bottom - top, label, score, int(track or 0)))
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        if isinstance(error, BoxFileError):
            raise
        raise BoxFileError(
            f"{path}: is no JSON of scn detect ({type(error).__name__}: {error}); detect again"
        ) from error
    boxes = boxes_from(path, number_tracks(rows, tracked), classes)
    return Labels(boxes, classes, size_hw, np.array(sorted(set(timestamps_us)), np.int64))

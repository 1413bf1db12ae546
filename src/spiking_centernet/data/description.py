"""What is in a recording: size, length, rates, polarities, disorder, hot pixels."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spiking_centernet import data

HOT_HZ = 50.0
"""A pixel that fires more often than this over the whole recording may be hot; noise of sound pixels is under 1 Hz."""

HOT_OVER_NEIGHBORS = 5.0
"""A hot pixel fires this many times as often as the median of its eight neighbors; moving edges cross them all."""


@dataclass(frozen=True)
class RecordingInfo:
    """What :func:`describe` finds.

    Attributes:
        path: the file.
        kind: its format, in words.
        size_hw: height and width of the sensor in pixels.
        start_us: time of the first event.
        stop_us: first microsecond after the last event.
        num_events: how many events it holds.
        rate_hz: events per second between first and last event; None without events.
        on_share: share of ON events; None without events.
        num_unsorted: events with a time before an earlier one's.
        num_dropped: events left out, see ``Recording``.
        num_segments: how often the camera's clock starts.
        silent_share: share of the pixels without any event.
        hot_pixels: pixels above 50 events/s and five times the median of their neighbors.
        hot_event_share: their share of the events; None without events.
        num_boxes: boxes in the box file next to it; None without one.
    """

    path: Path
    kind: str
    size_hw: tuple[int, int]
    start_us: int
    stop_us: int
    num_events: int
    rate_hz: float | None
    on_share: float | None
    num_unsorted: int
    num_dropped: int
    num_segments: int
    silent_share: float
    hot_pixels: int
    hot_event_share: float | None
    num_boxes: int | None


def describe(
    path: str | os.PathLike[str],
    *,
    size_hw: tuple[int, int] | None = None,
    columns: str | None = None,
    unit: str | None = None,
) -> RecordingInfo:
    """Read a recording once, piece by piece, and describe it.

    Args:
        path: the file.
        size_hw: height and width of the sensor in pixels, for files that do not say or say it wrong.
        columns: order of the columns, see ``data.open``.
        unit: of the times, see ``data.open``.

    Raises:
        EventFileError: the format is unknown or the file damaged.
        BoxFileError: the box file next to it is damaged.
    """
    recording = data.open(path, size_hw=size_hw, columns=columns, unit=unit)
    height, width = recording.size_hw
    counts = np.zeros(height * width, np.int64)
    num_on = 0
    length_us = 200_000  # of dense recordings a second would be hundreds of megabytes
    for window in recording.windows(length_us, length_us):
        pixel = window.events["y"].astype(np.int64) * width + window.events["x"]
        counts += np.bincount(pixel, minlength=height * width)
        num_on += int(np.count_nonzero(window.events["p"]))
    num_events = recording.num_events
    duration_s = (recording.stop_us - recording.start_us) * 1e-6 if num_events else 0.0
    hot = hot_pixels(counts.reshape(height, width), duration_s)
    boxes = _boxes_beside(recording.path)
    return RecordingInfo(
        path=recording.path,
        kind=recording.kind,
        size_hw=recording.size_hw,
        start_us=recording.start_us,
        stop_us=recording.stop_us,
        num_events=num_events,
        rate_hz=num_events / duration_s if num_events else None,
        on_share=num_on / num_events if num_events else None,
        num_unsorted=recording.num_unsorted,
        num_dropped=recording.num_dropped,
        num_segments=1 + len(recording.restarts_us),
        silent_share=float((counts == 0).mean()),
        hot_pixels=int(hot.sum()),
        hot_event_share=float(counts[hot.ravel()].sum() / num_events) if num_events else None,
        num_boxes=boxes,
    )


def hot_pixels(counts: np.ndarray, duration_s: float) -> np.ndarray:
    """Return which pixels are hot.

    Args:
        counts: [H, W], events of every pixel.
        duration_s: over how many seconds.

    Returns:
        bool [H, W].
    """
    hot = np.zeros(counts.shape, bool)
    padded = np.pad(counts, 1, mode="reflect") if min(counts.shape) > 1 else np.pad(counts, 1)
    for y, x in np.argwhere(counts > HOT_HZ * duration_s):
        around = np.delete(padded[y : y + 3, x : x + 3].ravel(), 4)
        hot[y, x] = counts[y, x] > HOT_OVER_NEIGHBORS * np.median(around)
    return hot


def _boxes_beside(path: Path) -> int | None:
    name = path.name.removesuffix("_td.dat")
    beside = path.with_name(f"{name}_bbox.npy")
    if name == path.name or not beside.is_file():
        return None
    return len(data.read_boxes(beside))

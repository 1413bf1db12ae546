"""Boxes around what moves before a fixed camera: no network, no training."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32

from spiking_centernet.data.recording import Recording
from spiking_centernet.errors import ConfigError, WindowError
from spiking_centernet.utils.compile_cache import compiled

MOST_MOVING = 0.5
"""Share of the cells that may move at once; beyond, the camera itself moves."""


@dataclass(frozen=True)
class MotionSettings:
    """When a cell of pixels moves.

    Attributes:
        window_us: length of the window before a timestamp in microseconds.
        cell_px: side of a cell in pixels.
        min_events: this many events more than twice the cell's usual number are motion.
        min_side_px: boxes with a shorter side are dropped.
        trim: share of a component's events that may lie outside its box at each of the four sides.

    Raises:
        ConfigError: If a number is not positive, or half or more is trimmed.
    """

    window_us: int = 50_000
    cell_px: int = 8
    min_events: int = 12
    min_side_px: int = 12
    trim: float = 0.01

    def __post_init__(self):
        if min(self.window_us, self.cell_px, self.min_events, self.min_side_px) < 1 or not 0 <= self.trim < 0.5:
            raise ConfigError(f"motion needs positive whole numbers and a trim below 0.5, got {self}")


def usual_activity(
    recording: Recording, settings: MotionSettings, *, num_windows: int = 40
) -> Float[np.ndarray, "rows columns"]:
    """Return how many events a cell usually has in a window: the median over windows spread over the recording.

    Before a fixed camera that is noise and what always flickers; what drives or walks by is there for less than half of
    the time.

    Args:
        recording: of a camera that does not move.
        settings: window and cells.
        num_windows: how many windows are looked at.

    Raises:
        WindowError: If the recording holds no events.
    """
    if not recording.num_events:
        raise WindowError(f"{recording.path}: holds no events; there is no motion in it")
    first_us, last_us = recording.start_us + settings.window_us, recording.stop_us
    stops_us = np.unique(np.linspace(min(first_us, last_us), last_us, num_windows).astype(np.int64)).tolist()
    counts = [
        _cell_counts(recording.read(max(0, stop_us - settings.window_us), stop_us), recording.size_hw, settings.cell_px)
        for stop_us in stops_us
    ]
    return np.median(counts, axis=0)


def moving_boxes(
    events: np.ndarray,
    size_hw: tuple[int, int],
    usual: Float[np.ndarray, "rows columns"],
    settings: MotionSettings,
) -> Float32[np.ndarray, "N 4"]:
    """Return a box for every connected component of cells in which something moves, largest first.

    A cell moves if it has ``min_events`` more events than twice its usual number; cells that touch, also at a corner or
    with up to two cells between them, are one component. Its box holds its events but for a few at the edges.

    Args:
        events: EVENT_DTYPE of a window.
        size_hw: height and width of the sensor in pixels.
        usual: what :func:`usual_activity` returned.
        settings: sizes and limits.

    Returns:
        float32 [N, 4], left, top, right, bottom in pixels; none where more than half of the cells move, because then
        the camera does.
    """
    counts = _cell_counts(events, size_hw, settings.cell_px)
    moving = counts >= 2 * usual + settings.min_events
    if not moving.any() or moving.mean() > MOST_MOVING:
        return np.zeros((0, 4), np.float32)
    component = connected_components(_grown(moving))
    component[~moving] = 0
    of_event = component[events["y"] // settings.cell_px, events["x"] // settings.cell_px]
    boxes = []
    for number in np.unique(component[moving]).tolist():
        inside = events[of_event == number]
        share = [settings.trim, 1 - settings.trim]
        left, right = np.quantile(inside["x"], share, method="nearest")
        top, bottom = np.quantile(inside["y"], share, method="nearest")
        if min(right + 1 - left, bottom + 1 - top) >= settings.min_side_px:
            boxes.append((left, top, right + 1, bottom + 1))
    found = np.array(boxes, np.float32).reshape(-1, 4)
    return found[np.argsort(-np.prod(found[:, 2:] - found[:, :2], axis=1), kind="stable")]


def _cell_counts(events: np.ndarray, size_hw: tuple[int, int], cell_px: int) -> np.ndarray:
    rows, columns = (-(-side // cell_px) for side in size_hw)
    cell = (events["y"] // cell_px).astype(np.intp) * columns + events["x"] // cell_px
    return np.bincount(cell, minlength=rows * columns).reshape(rows, columns)


def _grown(mask: Bool[np.ndarray, "rows columns"]) -> Bool[np.ndarray, "rows columns"]:
    """Return a mask with the eight neighbors of every cell added."""
    padded = np.pad(mask, 1)
    height, width = mask.shape
    return np.logical_or.reduce([padded[i : i + height, j : j + width] for i in range(3) for j in range(3)])


@compiled()
def connected_components(mask):
    """Return the number, from 1, of the connected component of every cell of a mask [rows, columns]; 0 outside.

    Cells that touch at a side or a corner are connected.
    """
    height, width = mask.shape
    number = np.zeros((height, width), np.int64)
    stack = np.empty((mask.size, 2), np.int64)
    count = 0
    for y in range(height):
        for x in range(width):
            if not mask[y, x] or number[y, x]:
                continue
            count += 1
            number[y, x] = count
            stack[0, 0], stack[0, 1], depth = y, x, 1
            while depth:
                depth -= 1
                row, column = stack[depth, 0], stack[depth, 1]
                for i in range(max(0, row - 1), min(height, row + 2)):
                    for j in range(max(0, column - 1), min(width, column + 2)):
                        if mask[i, j] and not number[i, j]:
                            number[i, j] = count
                            stack[depth, 0], stack[depth, 1] = i, j
                            depth += 1
    return number

"""What a network with memory should answer at several times of one window; what was never seen is left out."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from spiking_centernet.boxes import iou_matrix
from spiking_centernet.structures import Boxes

SAME_PLACE = 0.99
"""IoU from which on an object is taken not to have moved between two times. Simulated boxes that move change by more
within 100 ms, boxes that stand still do not change at all."""


def boxes_of_answers(
    boxes_at: Callable[[int], Boxes],
    labeled_us: np.ndarray,
    times_us: Sequence[int],
    *,
    start_us: int,
    tolerance_us: int,
    size_hw: tuple[int, int],
    num_classes: int,
) -> tuple[Boxes, ...]:
    """Return the boxes at every time of a window; what nothing is to be learned of is a crowd.

    A time without a label is one crowd, for its boxes are unknown. GEN1's labels are up to 2 ms from the multiples of
    250 ms (RVT, ``preprocess_dataset.py``), so the nearest label counts that is no further away than the tolerance. An
    object that has not moved since the window's start made no event in it, so a network that sees this window alone
    cannot know of it: it is a crowd, too. Objects without a track of their own are kept.

    Args:
        boxes_at: returns the boxes at a time.
        labeled_us: [L], the labeled times in microseconds, sorted.
        times_us: of the answers, the earliest first.
        start_us: when the window begins.
        tolerance_us: how far a label may be from an answer's time.
        size_hw: height and width of the frame in pixels.
        num_classes: how many classes there are.
    """
    # A label shortly before the start shows where its objects were then.
    since = labeled_us[max(0, int(np.searchsorted(labeled_us, start_us, side="right")) - 1) :]
    places: dict[int, list[np.ndarray]] = {}
    waiting, found = since.tolist(), []
    for time_us in times_us:
        label_us = int(labeled_us[np.abs(labeled_us - time_us).argmin()])
        is_labeled = abs(label_us - time_us) <= tolerance_us
        while waiting and waiting[0] <= (label_us if is_labeled else time_us):
            seen = boxes_at(waiting.pop(0))
            for track_id, box in zip(seen.track_ids.tolist(), seen.xyxy, strict=True):
                places.setdefault(track_id, []).append(box)
        found.append(_without_unseen(boxes_at(label_us), places) if is_labeled else _frame(size_hw, num_classes))
    return tuple(found)


def _without_unseen(boxes: Boxes, places: dict[int, list[np.ndarray]]) -> Boxes:
    ids = boxes.track_ids.tolist()
    unseen = [
        track_id >= 0
        and ids.count(track_id) == 1
        and bool(iou_matrix(box[None], np.stack(places[track_id])).min() >= SAME_PLACE)
        for track_id, box in zip(ids, boxes.xyxy, strict=True)
    ]
    return replace(boxes, crowd=boxes.crowd | np.array(unseen, bool))


def _frame(size_hw: tuple[int, int], num_classes: int) -> Boxes:
    """Return a crowd of every class that fills the frame."""
    frame = np.tile(np.array([0, 0, size_hw[1], size_hw[0]], np.float32), (num_classes, 1))
    return Boxes(frame, np.arange(num_classes), crowd=np.ones(num_classes, bool))

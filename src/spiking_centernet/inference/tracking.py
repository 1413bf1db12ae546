"""Detections of one timestamp after another as tracks of objects, and how well tracks agree with labeled ones."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spiking_centernet.errors import ConfigError, EvaluationError, need
from spiking_centernet.structures import Boxes, Detections, select

CONTINUE_SCORE = 0.1
"""Detections from here on may continue a track (the low threshold of ByteTrack, arXiv 2110.06864, section 4.1)."""

LOST_US = 1_000_000
"""How long a track waits for its object to be seen again (ByteTrack: 30 pictures at 30 Hz)."""

FIRST_IOU = 0.1
"""Boxes that overlap their track's predicted one less than this are another object (the default of ``trackers``)."""

MATCH_IOU = 0.5
"""Overlap from which CLEAR and identity scores count a box as found (MOTChallenge)."""


def track(
    found: Iterable[Detections], *, every_us: int, start_score: float, continue_score: float = CONTINUE_SCORE
) -> Iterator[Detections]:
    """Give detections numbers that stay with the object: ByteTrack, for each class by itself.

    A track starts with a detection of at least ``start_score`` and counts from the second timestamp in a row on; then
    less sure detections continue it. So the network should hand over what lies between the two scores, too.

    Args:
        found: detections in time order.
        every_us: microseconds between timestamps; single ones may be missing.
        start_score: score from which a detection starts a track.
        continue_score: score from which a detection may continue one.

    Yields:
        of each timestamp the detections that belong to a track, with ``track_ids`` from 1, best score first.

    Raises:
        ConfigError: a setting is impossible.
        MissingPackageError: ``trackers`` is not installed.
    """
    if every_us < 1 or not 0 <= continue_score <= start_score <= 1:
        raise ConfigError(
            "every_us must be at least 1 and 0 <= continue_score <= start_score <= 1, got "
            f"{every_us}, {continue_score} and {start_score}"
        )
    package = _package()
    return _tracked(found, package, every_us, start_score, continue_score)


def _tracked(
    found: Iterable[Detections], package: Any, every_us: int, start_score: float, continue_score: float
) -> Iterator[Detections]:
    by_class: dict[int, Any] = {}
    numbers: dict[tuple[int, int], int] = {}
    # The package counts its buffer in pictures of 30 Hz, whatever the rate, and forgets everything where that comes to
    # less than one picture.
    buffer = round(LOST_US * 30e-6) if every_us <= LOST_US else every_us * 30 // 1_000_000 + 2
    for result in found:
        result = result.above(continue_score)
        ids = np.full(len(result), -1, np.int64)
        for label in np.unique(result.labels).tolist():
            if label not in by_class:
                by_class[label] = package.ByteTrackTracker(
                    lost_track_buffer=buffer, frame_rate=1e6 / every_us,
                    track_activation_threshold=start_score, high_conf_det_threshold=start_score,
                    minimum_iou_threshold=FIRST_IOU,
                )  # fmt: skip
        for label, tracker in by_class.items():
            here = np.flatnonzero(result.labels == label)
            # A class without detections is updated, too: its tracks grow older.
            for k, own in _update(tracker, result, here):
                if own >= 0:
                    ids[k] = numbers.setdefault((label, own), len(numbers) + 1)
        keep = ids >= 0
        yield select(replace(result, track_ids=ids), keep)


def _update(tracker: Any, result: Detections, here: np.ndarray) -> Iterator[tuple[int, int]]:
    """Show a tracker one timestamp; yield which detection has which of its numbers, -1 for none."""
    supervision = need("supervision", "tracking", "track")
    shown = supervision.Detections(
        xyxy=result.xyxy[here].astype(np.float64), confidence=result.scores[here], data={"index": here}
    )
    tracked = tracker.update(shown, timestamp=result.t_us * 1e-6)
    if len(tracked):
        yield from zip(tracked.data["index"].tolist(), tracked.tracker_id.tolist(), strict=True)


def _package() -> Any:
    # OpenCV, which it imports, may lack a library of the system.
    return need("trackers", "tracking", "track")


@dataclass(frozen=True)
class TrackScore:
    """How well tracks agree with labeled ones; a box counts as found only with the right class.

    Attributes:
        hota: higher order tracking accuracy, mean over IoU 0.05 to 0.95 (Luiten et al., IJCV 2021).
        det_a: its part for finding boxes.
        ass_a: its part for keeping numbers.
        mota: CLEAR accuracy at IoU 0.5: 1 less the share of misses, false boxes and switches.
        motp: mean IoU of the boxes found.
        idf1: F1 of boxes with the right identity at IoU 0.5.
        num_switches: how often an object's number changed.
        num_truth: labeled boxes.
        num_found: boxes of tracks at labeled frames.
        num_instants: labeled frames.
    """

    hota: float
    det_a: float
    ass_a: float
    mota: float
    motp: float
    idf1: float
    num_switches: int
    num_truth: int
    num_found: int
    num_instants: int


def score_tracks(truth: Mapping[tuple[str, int], Boxes], found: Mapping[tuple[str, int], Detections]) -> TrackScore:
    """Score tracks at the labeled frames of any number of recordings.

    Args:
        truth: labeled boxes with their ``track_ids``, by recording and time in microseconds.
        found: detections with ``track_ids`` at the same timestamps; others are not looked at.

    Raises:
        EvaluationError: there is nothing to score, or a box has no track.
        MissingPackageError: ``trackers`` is not installed.
    """
    metrics = need("trackers.eval", "scoring tracks", "track")

    if not truth:
        raise EvaluationError("there are no labeled frames to score; give labels")
    by_recording: dict[str, list[int]] = {}
    for name, t_us in sorted(truth):
        by_recording.setdefault(name, []).append(t_us)
    parts: dict[str, list[dict[str, Any]]] = {"hota": [], "clear": [], "identity": []}
    empty = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), 0)
    for name, timestamps in by_recording.items():
        labeled = [truth[name, t_us].objects for t_us in timestamps]
        tracked = [found.get((name, t_us), empty) for t_us in timestamps]
        for boxes in (*labeled, *tracked):
            if (boxes.track_ids < 0).any():
                raise EvaluationError(f"{name}: a box has no track; score labels and detections with track_ids")
        ids, found_ids = _contiguous(labeled), _contiguous(tracked)
        overlap = [
            metrics.box_iou(a.xyxy.astype(np.float64), b.xyxy.astype(np.float64))
            * (a.labels[:, None] == b.labels[None, :])
            for a, b in zip(labeled, tracked, strict=True)
        ]
        parts["hota"].append(metrics.compute_hota_metrics(ids, found_ids, overlap))
        parts["clear"].append(metrics.compute_clear_metrics(ids, found_ids, overlap, threshold=MATCH_IOU))
        parts["identity"].append(metrics.compute_identity_metrics(ids, found_ids, overlap, threshold=MATCH_IOU))
    hota = metrics.aggregate_hota_metrics(parts["hota"])
    clear = metrics.aggregate_clear_metrics(parts["clear"])
    identity = metrics.aggregate_identity_metrics(parts["identity"])
    return TrackScore(
        hota=hota["HOTA"], det_a=hota["DetA"], ass_a=hota["AssA"], mota=clear["MOTA"], motp=clear["MOTP"],
        idf1=identity["IDF1"], num_switches=clear["IDSW"], num_truth=clear["CLR_TP"] + clear["CLR_FN"],
        num_found=clear["CLR_TP"] + clear["CLR_FP"], num_instants=len(truth),
    )  # fmt: skip


def _contiguous(timestamps: list[Any]) -> list[np.ndarray]:
    """Return the track numbers of every timestamp, counted from 0 without gaps."""
    known = np.unique(np.concatenate([np.zeros(0, np.int64), *(boxes.track_ids for boxes in timestamps)]))
    return [np.searchsorted(known, boxes.track_ids) for boxes in timestamps]

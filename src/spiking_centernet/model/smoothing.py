"""Detections made better by those of the same objects a moment before: boxes and scores, filtered over time.

A network that sees one window at a time errs anew in every window. Where an object was just found, and how surely, says
more than the last window alone. No event is looked at, and nothing of the network changes. From ``SAME_IOU``
to ``UNKNOWN_LOGIT`` constants were chosen on validation clips of simulated roads (``benchmarks/smoothing.py``,
results/smoothing.json) where nothing else is said.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64

from spiking_centernet import boxes3d
from spiking_centernet.boxes import clip, iou_matrix
from spiking_centernet.errors import ConfigError
from spiking_centernet.model.config import DetectorConfig
from spiking_centernet.structures import Detections, select

LEAST_SCORE = 0.02
"""A detection below is not worth remembering; thresholds are far above."""

EVERY_US = 50_000
"""Microseconds between the detections that the constants here were chosen on: half a window."""

SAME_IOU = 0.3
"""A detection that overlaps an object's predicted box less is another object."""

LOST_US = 150_000
"""An object is forgotten when it was not found for longer."""

EDGE_NOISE = 0.06
"""Standard deviation of a detected edge, over the box's width or height."""

RANGE_NOISE = 0.1
"""Standard deviation of a detected distance, over the distance; set beforehand, no score chose it."""

SPEED = 6.0
"""Standard deviation of an object's unknown speed when it is found first: widths or heights, or distances, a second."""

ACCELERATION = 20.0
"""Standard deviation of what changes its speed: widths or heights, or distances, a second and second."""

MEMORY_US = 100_000
"""Time constant over which the logits of the scores are averaged."""

UNKNOWN_LOGIT = -3.0
"""Logit that the average of an object begins with."""


@dataclass
class _Objects:
    """What is remembered of M objects; the columns of ``place`` are left, top, right, bottom and log distance.

    Attributes:
        place: [M, 5], pixels; the distance in log meters, NaN where unknown.
        speed: [M, 5], the same a second.
        spread: [M, 3, 5], variance of the place, covariance of both, and variance of the speed.
        labels: [M].
        logits: [M], of the averaged scores.
        seen_us: [M], when each was found last.
    """

    place: Float64[np.ndarray, "M 5"]
    speed: Float64[np.ndarray, "M 5"]
    spread: Float64[np.ndarray, "M 3 5"]
    labels: Int64[np.ndarray, "M"]
    logits: Float64[np.ndarray, "M"]
    seen_us: Int64[np.ndarray, "M"]

    @classmethod
    def none(cls) -> "_Objects":
        """Return no object."""
        return cls(
            np.zeros((0, 5)), np.zeros((0, 5)), np.zeros((0, 3, 5)), np.zeros(0, np.int64), np.zeros(0),
            np.zeros(0, np.int64),
        )  # fmt: skip

    def at(self, keep: np.ndarray) -> "_Objects":
        """Return those under a mask."""
        return _Objects(*(column[keep] for column in vars(self).values()))

    def and_those(self, others: "_Objects") -> "_Objects":
        """Return these, then the others."""
        pairs = zip(vars(self).values(), vars(others).values(), strict=True)
        return _Objects(*(np.concatenate(pair) for pair in pairs))


class Smoother:
    """Filters the detections of one recording or stream, timestamp after timestamp.

    An object's edges, and the logarithm of its distance where it has a 3D box, go on at the speed that they had; a
    Kalman filter for each weighs that against what is detected. Its score is the average of the logits up to now,
    beginning with a low one for what was not there at the first timestamp, so that what is found once counts less. What
    a timestamp lacks is not made up: as many detections come out as went in. Joints, dimensions and headings are those
    of the timestamp.
    """

    def __init__(self, size_hw: tuple[int, int]):
        """Begin without objects; height and width of the sensor in pixels."""
        self._size_hw = size_hw
        self.reset()

    def reset(self) -> None:
        """Forget every object; time may start again."""
        self._objects, self._t_us = _Objects.none(), None

    def __call__(self, found: Detections) -> Detections:
        """Return the detections of the next timestamp, filtered, best score first.

        Args:
            found: of the network, also those with low scores: a threshold belongs behind.

        Raises:
            ConfigError: the timestamp is not later than the one before.
        """
        if self._t_us is not None and found.t_us <= self._t_us:
            raise ConfigError(
                f"detections are smoothed in the order of time, got {found.t_us} us after {self._t_us} us; reset "
                "between recordings"
            )
        # What there was before the first timestamp is unknown; later, what is new was not there.
        passed_s = math.inf if self._t_us is None else (found.t_us - self._t_us) * 1e-6
        self._t_us = found.t_us
        old = self._objects.at(self._objects.seen_us >= found.t_us - LOST_US)
        _go_on(old, passed_s)
        place, noise = _measured(found)
        logits = _logit(found.scores)
        fresh = -math.expm1(-passed_s * 1e6 / MEMORY_US)
        same = _matches(found, old)
        new = same < 0
        now = _Objects(
            place, np.zeros_like(place), _first_spread(noise), found.labels,
            UNKNOWN_LOGIT + fresh * (logits - UNKNOWN_LOGIT), np.full(len(found), found.t_us),
        )  # fmt: skip
        known = same[~new]
        now.place[~new], now.speed[~new], now.spread[~new] = _corrected(old, known, place[~new], noise[~new])
        now.logits[~new] = old.logits[known] + fresh * (logits[~new] - old.logits[known])
        missed = np.ones(len(old.labels), bool)
        missed[known] = False
        self._objects = now.and_those(old.at(missed))
        return self._filtered(found, now)

    def _filtered(self, found: Detections, now: _Objects) -> Detections:
        """Return the detections at their filtered places, with their filtered scores."""
        xyxy = clip(now.place[:, :4].astype(np.float32), self._size_hw)
        flat = (xyxy[:, 2] <= xyxy[:, 0]) | (xyxy[:, 3] <= xyxy[:, 1])
        xyxy = np.where(flat[:, None], found.xyxy, xyxy)
        box3d = found.box3d.astype(np.float64)
        middle = boxes3d.centers(box3d)
        nearer = np.exp(now.place[:, 4]) / np.linalg.norm(middle, axis=1)
        box3d[:, :3] += (nearer - 1)[:, None] * middle
        result = replace(
            found, xyxy=xyxy, scores=(1 / (1 + np.exp(-now.logits))).astype(np.float32), box3d=box3d.astype(np.float32)
        )
        return select(result, np.argsort(-result.scores, kind="stable"))


def smoothed(found: Iterable[Detections], size_hw: tuple[int, int], *, min_score: float) -> Iterator[Detections]:
    """Yield the detections of one recording, smoothed, without those below ``min_score``.

    Args:
        found: in time order, down to ``LEAST_SCORE``.
        size_hw: height and width of the sensor in pixels.
        min_score: of the smoothed scores.
    """
    smooth = Smoother(size_hw)
    for one in found:
        yield smooth(one).above(min_score)


def check_smoothing(config: DetectorConfig, *, every_us: int = EVERY_US) -> None:
    """Refuse to smooth what has no moments before it.

    Args:
        config: of the network.
        every_us: microseconds between timestamps.

    Raises:
        ConfigError: the network sees pictures, or names classes, or an object is forgotten before the next timestamp.
    """
    if every_us > LOST_US:
        raise ConfigError(
            f"smoothing forgets what it has not seen for {LOST_US / 1000:g} ms, and timestamps are {every_us / 1000:g} "
            "ms apart; take 50 ms or leave smoothing out"
        )
    if config.classifies or config.voxels.takes_frames:
        what = "classes have no boxes" if config.classifies else "pictures have no moments before them"
        raise ConfigError(f"{what} to smooth; leave smooth out")


def _logit(scores: np.ndarray) -> Float64[np.ndarray, "N"]:
    clear = scores.astype(np.float64).clip(1e-4, 1 - 1e-4)
    return np.log(clear / (1 - clear))


def _measured(found: Detections) -> tuple[Float64[np.ndarray, "N 5"], Float64[np.ndarray, "N 5"]]:
    """Return the places of detections and the standard deviations of their errors."""
    xyxy = found.xyxy.astype(np.float64)
    size = xyxy[:, 2:] - xyxy[:, :2]
    distance = np.linalg.norm(boxes3d.centers(found.box3d), axis=1)
    noise = np.concatenate([EDGE_NOISE * size, EDGE_NOISE * size, np.full((len(found), 1), RANGE_NOISE)], axis=1)
    return np.concatenate([xyxy, np.log(distance)[:, None]], axis=1), noise


def _units(place: Float64[np.ndarray, "M 5"]) -> Float64[np.ndarray, "M 5"]:
    """Return what speeds and accelerations are multiples of: width, height, width, height and 1."""
    size = np.maximum(place[:, 2:4] - place[:, :2], 1.0)
    return np.concatenate([size, size, np.ones((len(place), 1))], axis=1)


def _first_spread(noise: Float64[np.ndarray, "N 5"]) -> Float64[np.ndarray, "N 3 5"]:
    unit = np.concatenate([noise[:, :4] / EDGE_NOISE, np.ones((len(noise), 1))], axis=1)
    return np.stack([noise**2, np.zeros_like(noise), (SPEED * unit) ** 2], axis=1)


def _go_on(objects: _Objects, passed_s: float) -> None:
    """Move objects on at their speeds, and let what is known of them spread."""
    pushed = (ACCELERATION * _units(objects.place)) ** 2
    objects.place = objects.place + passed_s * objects.speed
    place, both, speed = (objects.spread[:, k] for k in range(3))
    objects.spread = np.stack([
        place + 2 * passed_s * both + passed_s**2 * speed + passed_s**4 / 4 * pushed,
        both + passed_s * speed + passed_s**3 / 2 * pushed,
        speed + passed_s**2 * pushed,
    ], axis=1)  # fmt: skip


def _matches(found: Detections, objects: _Objects) -> Int64[np.ndarray, "N"]:
    """Return which object each detection is, -1 for a new one; the surest detections choose first."""
    same = np.full(len(found), -1, np.int64)
    if not len(found) or not len(objects.labels):
        return same
    overlap = iou_matrix(found.xyxy.astype(np.float64), objects.place[:, :4])
    overlap = np.where(found.labels[:, None] == objects.labels, overlap, 0.0)
    for k in np.argsort(-found.scores, kind="stable"):
        best = int(overlap[k].argmax())
        if overlap[k, best] >= SAME_IOU:
            same[k] = best
            overlap[:, best] = 0.0
    return same


def _corrected(
    objects: _Objects,
    which: Int64[np.ndarray, "K"],
    place: Float64[np.ndarray, "K 5"],
    noise: Float64[np.ndarray, "K 5"],
) -> tuple[Float64[np.ndarray, "K 5"], Float64[np.ndarray, "K 5"], Float64[np.ndarray, "K 3 5"]]:
    """Return place, speed and spread of objects after they were seen at these places."""
    before, speed, spread = objects.place[which], objects.speed[which], objects.spread[which]
    variance, both, _ = (spread[:, k] for k in range(3))
    sure, turn = variance / (variance + noise**2), both / (variance + noise**2)
    off = place - before
    after = np.stack([(1 - sure) * variance, (1 - sure) * both, spread[:, 2] - turn * both], axis=1)
    place_after, speed_after = before + sure * off, speed + turn * off
    # A distance that was not known before, or is not known now, begins anew.
    anew = np.isnan(off)
    first = _first_spread(noise)
    return (
        np.where(anew, place, place_after),
        np.where(anew, 0.0, speed_after),
        np.where(anew[:, None], first, after),
    )

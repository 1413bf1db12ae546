"""Is one detector better than another? A paired test of AP over training seeds and recordings.

Detections are matched to ground truth once. A resample of recordings only weighs what is already matched, which gives
COCO's AP of a data set in which every recording occurs as often as it was drawn.
"""

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int64

from spiking_centernet.boxes import covered_shares, iou_matrix
from spiking_centernet.errors import EvaluationError
from spiking_centernet.evaluation.metrics import MAX_DETECTIONS, Protocol, get_protocol
from spiking_centernet.evaluation.prediction import Predictions
from spiking_centernet.utils.files import atomic_write
from spiking_centernet.utils.progress import track

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
"""COCO's thresholds and the recalls at which it reads precision."""

SIGNIFICANT_BELOW = 0.05

ENOUGH_RECORDINGS = 8
"""Resamples of fewer recordings are so alike that their AP would look more certain than it is."""

ENOUGH_SEEDS = 8
"""From this many seeds on they are drawn with replacement; fewer make an interval too narrow, see :func:`compare`."""


@dataclass(frozen=True)
class ClassMatches:
    """The detections of one class, best score first, and how much ground truth each recording holds.

    Attributes:
        recording: of each detection, as an index.
        hit: by IoU threshold, whether the detection found a box.
        num_truth: boxes of each recording.
        left_out: by IoU threshold, whether the detection found nothing and lies in a crowd; None without crowds.
    """

    recording: Int64[np.ndarray, " D"]
    hit: Bool[np.ndarray, "10 D"]
    num_truth: Int64[np.ndarray, " R"]
    left_out: Bool[np.ndarray, "10 D"] | None = None


@dataclass(frozen=True)
class Matches:
    """Everything that AP depends on: names of the recordings, and the matches of each class."""

    recordings: tuple[str, ...]
    classes: tuple[ClassMatches, ...]


def match_recordings(predictions: Predictions, protocol: str | Protocol) -> Matches:
    """Match detections to ground truth as COCO does, under a protocol's filter.

    Args:
        predictions: of labeled frames; frames without detections may be missing among them.
        protocol: name of the protocol, or one of your own.

    Raises:
        ConfigError: If the protocol is unknown.
    """
    protocol = get_protocol(protocol)
    truth, found, size_hw = predictions.truth, predictions.detections, predictions.size_hw
    num_classes = len(predictions.class_names)
    names = tuple(sorted({recording for recording, _ in truth}))
    number = {name: i for i, name in enumerate(names)}
    scores: list[list[np.ndarray]] = [[] for _ in range(num_classes)]
    hits: list[list[np.ndarray]] = [[] for _ in range(num_classes)]
    hidden: list[list[np.ndarray]] = [[] for _ in range(num_classes)]
    owners: list[list[np.ndarray]] = [[] for _ in range(num_classes)]
    num_truth = np.zeros((num_classes, len(names)), np.int64)
    for key in sorted(truth):
        crowds, boxes = truth[key].crowds, truth[key].objects
        counted = protocol.keep(boxes.xyxy, key[1], size_hw)
        if key not in found or not (protocol.score_emptied or counted.any()):
            if counted.any():
                num_truth[:, number[key[0]]] += np.bincount(boxes.labels[counted], minlength=num_classes)
            continue
        result = found[key]
        kept = protocol.keep(result.xyxy, key[1], size_hw)
        for k in range(num_classes):
            gt = boxes.xyxy[counted & (boxes.labels == k)]
            mine = np.flatnonzero(kept & (result.labels == k))
            mine = mine[np.argsort(-result.scores[mine], kind="stable")][:MAX_DETECTIONS]
            num_truth[k, number[key[0]]] += len(gt)
            scores[k].append(result.scores[mine])
            hits[k].append(_hits(iou_matrix(result.xyxy[mine], gt)))
            share = covered_shares(result.xyxy[mine], crowds.xyxy[crowds.labels == k]).max(axis=1, initial=0)
            hidden[k].append(~hits[k][-1] & (share >= np.minimum(IOUS, 1 - 1e-10)[:, None]))
            owners[k].append(np.full(len(mine), number[key[0]], np.int64))
    classes = []
    for k in range(num_classes):
        order = np.argsort(-np.concatenate([np.zeros(0, np.float32), *scores[k]]), kind="stable")
        hit = np.concatenate([np.zeros((10, 0), bool), *hits[k]], axis=1)[:, order]
        owner = np.concatenate([np.zeros(0, np.int64), *owners[k]])[order]
        left_out = np.concatenate([np.zeros((10, 0), bool), *hidden[k]], axis=1)[:, order]
        classes.append(ClassMatches(owner, hit, num_truth[k], left_out if left_out.any() else None))
    return Matches(names, tuple(classes))


def _hits(iou: Float64[np.ndarray, "N M"]) -> Bool[np.ndarray, "10 N"]:
    """Return, by threshold, which detections, best first, find a box nobody better took; each takes the best left."""
    hit = np.zeros((len(IOUS), len(iou)), bool)
    free = np.ones((len(IOUS), iou.shape[1]), bool)
    for n in np.flatnonzero(iou.max(axis=1, initial=0) >= IOUS[0]):
        # COCO takes the last of equal boxes, and an IoU of exactly the threshold.
        left = np.where(free, iou[n], -1.0)[:, ::-1]
        best = iou.shape[1] - 1 - left.argmax(axis=1)
        hit[:, n] = left.max(axis=1) >= np.minimum(IOUS, 1 - 1e-10)
        free[hit[:, n], best[hit[:, n]]] = False
    return hit


def average_precision(matches: Matches, weights: np.ndarray | None = None) -> Float64[np.ndarray, " 10"]:
    """Return COCO's AP at the IoU thresholds 0.5 to 0.95, mean over the classes with ground truth; else NaN.

    Args:
        matches: of a detector.
        weights: how often each recording occurs, whole numbers [R]; None for once each.
    """
    weights = np.ones(len(matches.recordings), np.int64) if weights is None else weights
    by_class = [_class_precision(c, weights) for c in matches.classes if weights @ c.num_truth]
    return np.mean(by_class, axis=0) if by_class else np.full(len(IOUS), np.nan)


def _class_precision(matches: ClassMatches, weights: np.ndarray) -> np.ndarray:
    weight = weights[matches.recording]
    seen = np.cumsum(weight)
    num_truth = weights @ matches.num_truth
    result = np.zeros(len(IOUS))
    for t, hit in enumerate(matches.hit):
        # Precision has its peaks where a box is found, and COCO reads only the peaks to the right of a recall.
        places = np.flatnonzero(hit)
        true = np.cumsum(weight[places])
        if matches.left_out is not None:
            seen = np.cumsum(np.where(matches.left_out[t], 0, weight))
        precision = true / np.maximum(seen[places], 1)
        peaks = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.searchsorted(true / num_truth, RECALLS, side="left")
        result[t] = peaks[at[at < len(peaks)]].sum() / len(RECALLS)
    return result


def draw_weights(num_recordings: int, num_samples: int, seed: int = 0) -> Int64[np.ndarray, "S R"]:
    """Return how often each recording occurs in every resample; the first is the data set itself."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(num_recordings, np.full(num_recordings, 1 / num_recordings), size=num_samples)
    return np.concatenate([np.ones((1, num_recordings), np.int64), drawn])


def resampled_ap(matches: Matches, weights: Iterable[Int64[np.ndarray, " R"]]) -> Float64[np.ndarray, " S"]:
    """Return AP over IoU 0.5 to 0.95 of every resample."""
    return np.array([average_precision(matches, row).mean() for row in weights])


@dataclass(frozen=True)
class Interval:
    """Where the AP of the same weights would lie on other recordings of the same kind: 95 % of the resamples.

    Attributes:
        low: lower end.
        high: upper end.
        num_resamples: of the recordings.
    """

    low: float
    high: float
    num_resamples: int


def ap_interval(matches: Matches, *, num_resamples: int = 500) -> Interval | None:
    """Return the percentiles 2.5 and 97.5 of AP over resamples of the recordings.

    Args:
        matches: of a detector.
        num_resamples: of the recordings.

    Returns:
        None where there are fewer than ``ENOUGH_RECORDINGS`` or nothing to find.
    """
    if len(matches.recordings) < ENOUGH_RECORDINGS:
        return None
    weights = draw_weights(len(matches.recordings), num_resamples)[1:]
    resampled = resampled_ap(matches, track(weights, "AP of resampled recordings"))
    resampled = resampled[np.isfinite(resampled)]  # a resample may have drawn no box
    if not len(resampled):
        return None
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Interval(float(low), float(high), num_resamples)


@dataclass(frozen=True)
class Comparison:
    """How much better one detector is than another.

    Attributes:
        difference: of the mean AP over the seeds.
        low: lower end of its 95 % interval.
        high: upper end.
        p_value: two-sided, of the hypothesis that there is none.
        num_seeds: pairs of runs.
        num_recordings: recordings drawn from.
    """

    difference: float
    low: float
    high: float
    p_value: float
    num_seeds: int
    num_recordings: int

    @property
    def significant(self) -> bool:
        """Whether the p-value is below 0.05."""
        return self.p_value < SIGNIFICANT_BELOW

    def describe(self) -> str:
        """Return the difference, its interval and p-value in words."""
        verdict = "" if self.significant else ", not significant"
        return f"{self.difference:+.3f} [{self.low:+.3f}, {self.high:+.3f}], p = {self.p_value:.3f}{verdict}"


def compare(
    ours: Float64[np.ndarray, "K S"], theirs: Float64[np.ndarray, "K S"], *, num_recordings: int, seed: int = 0
) -> Comparison:
    """Compare two detectors trained with the same K seeds.

    One seed: a bootstrap over recordings, which holds for these two weight files alone. From ``ENOUGH_SEEDS`` on:
    a paired bootstrap over seeds and recordings, the same ones for both. Its interval is the 2.5 and 97.5
    percentiles; ``p = 2 (min(#(d <= 0), #(d >= 0)) + 1)`` over the number of resamples + 1 (Davison and Hinkley 1997,
    section 4.2). In between, drawing a few seeds with replacement makes an interval too narrow, and calls far
    more chance differences significant than one in twenty. There the standard error is the root of the seeds'
    variance over K and the recordings' variance, and the quantile that of Student's t with K - 1 degrees of freedom.

    Args:
        ours: :func:`resampled_ap` of each seed.
        theirs: the same of the other detector, for the same weights and seeds.
        num_recordings: recordings that were drawn from.
        seed: of the draws of seeds.

    Raises:
        EvaluationError: there is no seed or no resample to compare.
    """
    if ours.shape != theirs.shape or len(ours) == 0 or ours.shape[1] < 2:
        raise EvaluationError(
            f"a paired comparison needs the same seeds and resamples on both sides, got {list(ours.shape)} and "
            f"{list(theirs.shape)}"
        )
    difference = ours - theirs
    num_seeds = len(difference)
    if 1 < num_seeds < ENOUGH_SEEDS:
        # A resample in which no recording holds a box says nothing.
        resampled = difference[:, 1:].mean(axis=0)
        resampled = resampled[np.isfinite(resampled)]
        variance = float(resampled.var(ddof=1)) if len(resampled) > 1 else math.nan
        low, high, p_value = t_interval(difference[:, 0], variance)
    else:
        low, high, p_value = _bootstrap(difference, seed)
    return Comparison(float(difference[:, 0].mean()), low, high, p_value, num_seeds, num_recordings)


def t_interval(by_seed: Float64[np.ndarray, " K"], variance: float) -> tuple[float, float, float]:
    """Return the ends of a 95 % interval of a mean over few seeds, and the p-value of its being 0, by Student's t.

    Args:
        by_seed: the difference with each of K seeds, K at least 2.
        variance: of their mean over the choice of recordings.
    """
    freedom = len(by_seed) - 1
    mean, error = float(by_seed.mean()), math.sqrt(float(by_seed.var(ddof=1)) / len(by_seed) + variance)
    if error == 0:
        return mean, mean, float(mean == 0)
    reach = student_quantile(1 - SIGNIFICANT_BELOW, freedom) * error
    return mean - reach, mean + reach, 1 - student_within(abs(mean) / error, freedom)


def student_within(t: float, freedom: int) -> float:
    """Return the probability that Student's t lies within [-t, t] (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4).

    Args:
        t: not negative.
        freedom: degrees of freedom, a whole number from 1.
    """
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term, total = (math.cos(angle) if odd else 1.0), 0.0
    for k in range(freedom // 2):
        total += term
        term *= math.cos(angle) ** 2 * (2 * k + 1 + odd) / (2 * k + 2 + odd)
    return (angle + math.sin(angle) * total) * 2 / math.pi if odd else math.sin(angle) * total


def student_quantile(share: float, freedom: int) -> float:
    """Return the t of which :func:`student_within` is ``share``."""
    low, high = 0.0, 1.0
    while student_within(high, freedom) < share:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_within(middle, freedom) < share else (low, middle)
    return high


def _bootstrap(difference: Float64[np.ndarray, "K S"], seed: int) -> tuple[float, float, float]:
    """Return the ends of the interval and the p-value by drawing seeds on top of the recordings."""
    num_seeds, num_samples = len(difference), difference.shape[1] - 1
    drawn = np.random.default_rng(seed).integers(0, num_seeds, (num_samples, num_seeds))
    resampled = difference[drawn, np.arange(1, num_samples + 1)[:, None]].mean(axis=1)
    resampled = resampled[np.isfinite(resampled)]
    low, high = np.percentile(resampled, [2.5, 97.5]) if len(resampled) else (np.nan, np.nan)
    tail = min(int((resampled <= 0).sum()), int((resampled >= 0).sum()))
    return float(low), float(high), min(1.0, 2 * (tail + 1) / (len(resampled) + 1))


def save_matches(matches: Matches, path: str | os.PathLike[str]) -> None:
    """Write matches as a compressed ``.npz`` file, whole or not at all."""
    arrays = {"recordings": np.array(matches.recordings, dtype=str)}
    for k, c in enumerate(matches.classes):
        arrays |= {f"recording{k}": c.recording.astype(np.int32), f"hit{k}": np.packbits(c.hit, axis=1)}
        arrays[f"num_truth{k}"] = c.num_truth
        if c.left_out is not None:
            arrays[f"left_out{k}"] = np.packbits(c.left_out, axis=1)
    with atomic_write(path) as temporary:
        np.savez_compressed(temporary, **arrays)  # pyright: ignore[reportArgumentType]


def load_matches(path: str | os.PathLike[str]) -> Matches:
    """Return what :func:`save_matches` wrote."""
    with np.load(Path(path), allow_pickle=False) as file:
        classes = []
        for k in range(sum(name.startswith("num_truth") for name in file.files)):
            recording = file[f"recording{k}"].astype(np.int64)
            hit, left_out = (
                np.unpackbits(file[f"{name}{k}"], axis=1, count=len(recording)).astype(bool)
                if f"{name}{k}" in file.files else None
                for name in ("hit", "left_out")
            )  # fmt: skip
            assert hit is not None
            classes.append(ClassMatches(recording, hit, file[f"num_truth{k}"], left_out))
        return Matches(tuple(file["recordings"].tolist()), tuple(classes))


def same_recordings(matches: Sequence[Matches]) -> bool:
    """Return whether all were made on the same recordings with the same ground truth."""
    first = matches[0]
    return all(
        m.recordings == first.recordings
        and all(np.array_equal(a.num_truth, b.num_truth) for a, b in zip(m.classes, first.classes, strict=True))
        for m in matches
    )

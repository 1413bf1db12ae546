"""A detector on a folder of recordings: detections of every labelled instant, and their score."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Subset

from spiking_centernet.data import FolderDataset, Guarded, collate_guarded, raising
from spiking_centernet.errors import ConfigError
from spiking_centernet.evaluation.metrics import Instant, Protocol, Score, evaluate_boxes
from spiking_centernet.model import AnyDetector
from spiking_centernet.model.layers import Observe
from spiking_centernet.structures import Batch, Boxes, Detections, Sample

Progress = Callable[[Iterable[Batch], int, str], Iterable[Batch]]
"""Wraps an iterable of known length to show how far it is: ``progress(batches, total, what)``."""


def dataset_for(
    model: AnyDetector, root: str | os.PathLike[str], split: str, *, names: Collection[str] | None = None
) -> FolderDataset:
    """Return the split as the network was trained to see it: same window, steps, bins and classes.

    Args:
        model: the detector.
        root: folder that holds the splits.
        split: name of the split.
        names: of the recordings to take; None takes all.

    Raises:
        DatasetError: the folder does not hold what it should.
    """
    return FolderDataset(root, split, model.config.voxels, classes=model.config.classes, names=names)


def predict(
    model: AnyDetector,
    dataset: FolderDataset | Subset[Sample],
    *,
    batch_size: int = 8,
    min_score: float = 0.0,
    num_workers: int = 0,
    precision: str = "float32",
    observe: Observe | None = None,
    progress: Progress | None = None,
) -> tuple[dict[Instant, Boxes], dict[Instant, Detections], tuple[int, int]]:
    """Detect at every labelled instant of a data set.

    Args:
        model: the detector; it is fused here and left unchanged.
        dataset: what to detect in.
        batch_size: windows at a time.
        min_score: detections below are dropped.
        num_workers: processes that load.
        precision: "float32" or "bfloat16" arithmetic in the convolutions.
        observe: sees the output of every neuron layer, see ``Detector.forward``.
        progress: shows how far it is.

    Returns:
        Ground truth and detections by recording and instant, and the height and width of the sensor in pixels.

    Raises:
        ConfigError: the batch size is impossible.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
    device = model.device
    fused = model.fuse()
    loader = DataLoader(Guarded(dataset), batch_size, collate_fn=collate_guarded, num_workers=num_workers)
    batches: Iterable[Batch] = raising(loader)
    batches = batches if progress is None else progress(batches, len(loader), "detecting")
    truth: dict[Instant, Boxes] = {}
    found: dict[Instant, Detections] = {}
    size_hw = (0, 0)
    for batch in batches:
        size_hw = (batch.cube.shape[-2], batch.cube.shape[-1])
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            output, _ = fused(batch.cube.to(device), observe=observe)
        results = model.head.detections(output, batch.t_us, size_hw=size_hw, min_score=min_score)
        for key, boxes, result in zip(_instants(batch), batch.boxes, results, strict=True):
            truth[key], found[key] = boxes, result
    return truth, found, size_hw


def _instants(batch: Batch) -> Iterator[Instant]:
    return zip(batch.recordings, batch.t_us, strict=True)


def evaluate(
    model: AnyDetector,
    root: str | os.PathLike[str],
    *,
    split: str = "val",
    protocol: str | Protocol = "prophesee",
    batch_size: int = 8,
    progress: Progress | None = None,
) -> Score:
    """Return the score of a detector on a split of a GEN1-style folder under a named protocol.

    Raises:
        DatasetError: the folder does not hold what it should.
        ConfigError: unknown protocol.
    """
    dataset = dataset_for(model, root, split)
    truth, found, size_hw = predict(model, dataset, batch_size=batch_size, progress=progress)
    return evaluate_boxes(truth, found, size_hw=size_hw, protocol=protocol, class_names=model.config.classes)


def best_threshold(score: Score) -> float:
    """Return the detection score with the highest mean F1 at IoU 0.5 over the classes, 0.3 where nothing matched.

    F1 of every class is taken at its own recalls; the threshold is the mean of the classes' best ones, weighted by
    their boxes.
    """
    recalls = np.linspace(0, 1, 101)
    best, weights = [], []
    for c in score.classes:
        precision, scores = np.asarray(c.precision_at_50), np.asarray(c.score_at_50)
        if not c.num_truth or not (precision > 0).any():
            continue
        f1 = 2 * precision * recalls / np.maximum(precision + recalls, 1e-9)
        best.append(float(scores[int(f1.argmax())]))
        weights.append(c.num_truth)
    return round(float(np.average(best, weights=weights)), 3) if best else 0.3

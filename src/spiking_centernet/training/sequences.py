"""Sequences to train on: windows that follow each other, and the labels of their answers."""

from dataclasses import replace

from spiking_centernet.calibration import Calibration
from spiking_centernet.model import DetectorConfig
from spiking_centernet.structures import Batch, Boxes, VoxelSpec
from spiking_centernet.training.config import Recipe


def window_of_chunks(spec: VoxelSpec, chunks: int) -> VoxelSpec:
    """Return the window that holds so many of a network's windows, one after the other."""
    return replace(spec, num_steps=chunks * spec.num_steps, window_us=chunks * spec.window_us)


def time_between_answers(config: DetectorConfig, recipe: Recipe) -> int:
    """Return the microseconds from one answer that is learned to the next."""
    if recipe.answers == 1:
        return config.voxels.window_us
    return round(config.head.readout_steps * config.voxels.step_us)


def labels_of_answers(batch: Batch, answers: int) -> tuple[list[Boxes], list[Calibration | None]]:
    """Return boxes and cameras of every answer, those of the oldest first; the cameras of earlier ones are unknown."""
    earlier = [boxes[n] for n in range(answers - 1) for boxes in batch.earlier]
    return [*earlier, *batch.boxes], [None] * len(earlier) + batch.calibrations

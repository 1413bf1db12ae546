"""A network that carries its state along, on a data set: clip by clip, from labeled frame to labeled frame."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
import torch
from torch import Tensor

from spiking_centernet.calibration import Calibration
from spiking_centernet.data import FolderDataset, prefetch
from spiking_centernet.errors import EvaluationError
from spiking_centernet.evaluation.metrics import FrameKey
from spiking_centernet.model import AnyDetector
from spiking_centernet.model.context import Observe
from spiking_centernet.model.scaling import detections_of
from spiking_centernet.model.stepping import SteppedDetector, blocks, readout_steps_of, step_us_of, steps_spec
from spiking_centernet.structures import Boxes, Detections, VoxelSpec
from spiking_centernet.utils.progress import track


@dataclass(frozen=True)
class Pass:
    """Labeled frames of one clip between which the state is carried on.

    Attributes:
        indices: of the frames in the data set, by time.
        start_us: where the first step begins, with a zero-initialized state.
        ends: number of steps from there to each frame's answer; 0 where there is none.
    """

    indices: tuple[int, ...]
    start_us: int
    ends: tuple[int, ...]


def passes_of(t_us: Sequence[int], indices: Sequence[int], spec: VoxelSpec) -> Iterator[Pass]:
    """Yield how a clip's labeled frames are passed through.

    The state begins as zero a window before the first frame, or at the clip's start. It begins anew a window before a
    frame that follows the one before by more than a window, so that no step is computed that no window holds. An
    answer is as of the last whole step; the first step begins where the oldest answer is least old, at the clip's first
    microsecond where nothing else is better. Labels may stand a microsecond before a multiple of a step.

    Args:
        t_us: timestamps of the frames in microseconds, rising.
        indices: of the frames in the data set.
        spec: how a window is cut.

    Raises:
        ConfigError: windows are not cut into steps of whole microseconds.
    """
    step_us, times = step_us_of(spec), np.asarray(t_us, np.int64)
    if not len(times):
        return
    for part in np.split(np.arange(len(times)), np.flatnonzero(np.diff(times) > spec.window_us) + 1):
        offsets = np.unique(times[part] % step_us)
        oldest = [int(((times[part] - offset) % step_us).max()) for offset in offsets]
        offset_us = int(offsets[int(np.argmin(oldest))])
        ends = (times[part] - offset_us) // step_us
        # A first step may reach back before the clip, where there are no events.
        begin = max(-1 if offset_us else 0, int(ends[0]) - spec.num_steps)
        yield Pass(
            tuple(indices[k] for k in part), begin * step_us + offset_us, tuple(np.maximum(ends - begin, 0).tolist())
        )


@dataclass(frozen=True)
class _Block:
    """Steps of several passes, computed together: a cube [T, B, C, H, W], and what is answered after it.

    Attributes:
        cube: the steps.
        is_first: whether its passes begin here.
        frames: what is answered after it: row of the batch, recording, timestamp in microseconds, boxes and camera.
    """

    cube: Tensor
    is_first: bool
    frames: list[tuple[int, str, int, Boxes, Calibration | None]]


def predict_clips(
    fused: AnyDetector,
    dataset: FolderDataset,
    indices: Collection[int],
    *,
    sensor_hw: tuple[int, int] | None = None,
    batch_size: int = 8,
    min_score: float = 0.0,
    precision: str = "float32",
    observe: Observe | None = None,
) -> tuple[dict[FrameKey, Boxes], dict[FrameKey, Detections], tuple[int, int]]:
    """Return boxes and detections of labeled frames, and height and width of the sensor in pixels.

    The state is carried on as :func:`passes_of` says, and every step is computed once.

    Args:
        fused: the detector, fused.
        dataset: holds the frames.
        indices: of the frames.
        sensor_hw: height and width of the sensor in pixels; None: those of the cubes.
        batch_size: clips side by side.
        min_score: detections below are dropped.
        precision: "float32" or "bfloat16" arithmetic in the convolutions.
        observe: sees the output of every neuron layer at every step.

    Raises:
        ConfigError: If the network cannot carry its state along.
        EvaluationError: If recordings come from sensors of different sizes.
    """
    in_order, passes = sorted(set(indices)), list[Pass]()
    for _, clip in groupby(in_order, key=lambda index: dataset.locate(index)[0].path):
        of_clip = list(clip)
        passes += passes_of([dataset.locate(index)[1] for index in of_clip], of_clip, dataset.spec)
    # The longest first, so that whatever ends leaves the others in their places.
    passes.sort(key=lambda one: -one.ends[-1])
    groups = [passes[k : k + batch_size] for k in range(0, len(passes), batch_size)]
    each = readout_steps_of(fused.config)
    stops = [list(blocks(0, {end for one in group for end in one.ends}, each)) for group in groups]
    stepped, device, ratio = SteppedDetector(fused, observe=observe), fused.device, dataset.spec.ratio
    answered: dict[FrameKey, tuple[Boxes, Detections]] = {}
    size_hw: tuple[int, int] | None = None
    for block in track(prefetch(_blocks(dataset, groups, stops)), "detecting", sum(map(len, stops))):
        before, size_hw = size_hw, (block.cube.shape[-2], block.cube.shape[-1])
        if before not in (None, size_hw):
            raise EvaluationError(_several_sizes(before, size_hw))
        if block.is_first:
            stepped.reset()
        stepped.keep_first(block.cube.shape[1])
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            output = stepped.take(block.cube.to(device))
        if not block.frames:
            continue
        rows, names, times_us, boxes, calibrations = (list(column) for column in zip(*block.frames, strict=True))
        found = detections_of(
            fused.head, type(output)(*(part[rows] for part in output)), times_us, cube_hw=size_hw,
            size_hw=sensor_hw or size_hw, ratio=ratio, min_score=min_score, calibrations=calibrations,
        )  # fmt: skip
        answered.update(zip(zip(names, times_us, strict=True), zip(boxes, found, strict=True), strict=True))
    truth: dict[FrameKey, Boxes] = {}
    detections: dict[FrameKey, Detections] = {}
    for index in in_order:
        recording, t_us = dataset.locate(index)
        frame = recording.name, t_us
        if frame not in answered:  # before the first whole step
            nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), t_us)
            answered[frame] = dataset.frame(index)[2], nothing
        truth[frame], detections[frame] = answered[frame]
    return truth, detections, sensor_hw or size_hw or (0, 0)


def _blocks(dataset: FolderDataset, groups: list[list[Pass]], stops: list[list[int]]) -> Iterator[_Block]:
    """Yield the blocks of every group of passes, up to these steps."""
    step_us = step_us_of(dataset.spec)
    for group, stops_of_group in zip(groups, stops, strict=True):
        answered: list[dict[int, list[int]]] = [{} for _ in group]
        for frames, one in zip(answered, group, strict=True):
            for index, end in zip(one.indices, one.ends, strict=True):
                frames.setdefault(end, []).append(index)
        for done, stop in pairwise((0, *stops_of_group)):
            going_on = [one for one in group if one.ends[-1] >= stop]
            spec = steps_spec(dataset.spec, stop - done)
            cubes = [dataset.cube_before(one.indices[0], one.start_us + stop * step_us, spec) for one in going_on]
            sizes = {(cube.shape[-2], cube.shape[-1]) for cube in cubes}
            if len(sizes) > 1:
                raise EvaluationError(_several_sizes(*sorted(sizes)[:2]))
            yield _Block(
                torch.from_numpy(np.stack([cube.numpy() for cube in cubes], axis=1)),
                not done,
                [(row, *dataset.frame(k)) for row in range(len(cubes)) for k in answered[row].get(stop, ())],
            )


def _several_sizes(one_hw: tuple[int, int], other_hw: tuple[int, int]) -> str:
    sizes = " and ".join(f"{width} x {height}" for height, width in (one_hw, other_hw))
    return f"recordings have {sizes} pixels; score one kind of sensor at a time"

"""A network with memory on a recording: step by step from its start, the membranes carried along."""

import time
from collections.abc import Iterable, Iterator

import numpy as np

from spiking_centernet.data import Recording
from spiking_centernet.data.cameras import Camera
from spiking_centernet.errors import ConfigError
from spiking_centernet.inference.coverage import Coverage
from spiking_centernet.inference.inspection import Inspector
from spiking_centernet.inference.runner import Answerer
from spiking_centernet.model import AnyDetector
from spiking_centernet.model.scaling import Scale, choose_scaling, spec_for
from spiking_centernet.model.stepping import blocks, readout_steps_of, step_us_of, steps_spec
from spiking_centernet.structures import Detections


def detections_remembered(
    model: AnyDetector,
    recording: Recording,
    stops_us: Iterable[int],
    *,
    min_score: float,
    scale: Scale,
    coverage: Coverage | None = None,
    inspector: Inspector | None = None,
    camera: Camera | None = None,
) -> Iterator[Detections]:
    """Yield the detections at these timestamps of a network that carries its state from each to the next.

    The state begins as zero one of the network's windows before the first timestamp, or at the recording's start.
    Where timestamps are no multiples of a step, an answer is as of the last whole step.

    Args:
        model: the detector; it is fused here once and left unchanged.
        recording: what to detect in.
        stops_us: timestamps in microseconds, rising.
        min_score: detections below are dropped.
        scale: at which the events are binned; one.
        coverage: sees all detections whatever their scores.
        inspector: keeps more of every step than its detections.
        camera: of the recording, for 3D boxes; without one they are NaN.

    Raises:
        ConfigError: several scales, or windows that are not cut into steps of whole microseconds.
    """
    scaling = choose_scaling(scale, recording.size_hw, model.config)
    if len(scaling.scales) > 1:
        raise ConfigError(f"a network with memory sees one scale, for it carries its state along; got {scale!r}")
    (spec,) = scaling.specs(spec_for(model.config, None))
    step_us = step_us_of(spec)
    stops = [int(stop_us) for stop_us in stops_us]
    ends = [stop_us // step_us for stop_us in stops]
    answerer = Answerer(
        model, size_hw=recording.size_hw, mode="stateful", min_score=0.0 if coverage is not None else min_score,
        ratio=spec.ratio, inspector=inspector, camera=camera,
    )  # fmt: skip
    begin = done = max(0, ends[0] - spec.num_steps) if ends else 0
    steps = blocks(begin, ends, readout_steps_of(model.config))
    for stop_us, end in zip(stops, ends, strict=True):
        began_s = time.perf_counter()
        while done < end:
            before, done = done, next(steps)
            ((_, cube),) = recording.cubes([done * step_us], steps_spec(spec, done - before))
            answerer.take(cube)
        if done == begin:  # before the first whole step
            yield Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), stop_us)
            continue
        found = answerer.answer(stop_us, closed_s=began_s, newest_us=stop_us)
        if coverage is not None:
            coverage.add_scores(found)
        yield found.above(min_score)

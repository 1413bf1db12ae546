"""A network with memory on a recording: step by step from its start, the membranes carried along."""

import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spiking_centernet.data import Recording
from spiking_centernet.data.cameras import Camera, camera_at
from spiking_centernet.errors import ConfigError
from spiking_centernet.inference.coverage import Coverage
from spiking_centernet.inference.inspection import Inspector
from spiking_centernet.inference.scaled import Seen
from spiking_centernet.model import AnyDetector
from spiking_centernet.model.context import Observe
from spiking_centernet.model.firing_rate import kept_spikes
from spiking_centernet.model.scaling import Scale, choose_scaling, detections_of, spec_for
from spiking_centernet.model.stepping import SteppedDetector, blocks, step_us_of, steps_spec
from spiking_centernet.structures import Detections


class CarriedDetector:
    """A detector for timestamps of one recording, its state carried from each to the next.

    The state begins as zero one of the network's windows before the first timestamp, or at the recording's start; and
    again where a timestamp is asked for out of order, unless it lies at most a window after the one before. Where
    timestamps are no multiples of a step, an answer is as of the last whole step.

    Args:
        model: the detector; it is fused here once and left unchanged.
        size_hw: height and width of the sensor in pixels.
        stops_us: timestamps in microseconds, rising.
        scale: at which the events are binned, see ``model.scaling.choose_scaling``; one.
        camera: of the sensor, for 3D boxes; without one they are NaN.

    Attributes:
        fused: the detector that computes.
        specs: how the cube is cut that shows what an answer averages; one.

    Raises:
        ConfigError: several scales, windows that are not cut into steps of whole microseconds, or a network whose state
            cannot be carried along.
    """

    def __init__(
        self,
        model: AnyDetector,
        size_hw: tuple[int, int],
        stops_us: Iterable[int],
        *,
        scale: Scale = "auto",
        camera: Camera | None = None,
    ):
        scaling = choose_scaling(scale, size_hw, model.config)
        if len(scaling.scales) > 1:
            raise ConfigError(f"a network with memory sees one scale, for it carries its state along; got {scale!r}")
        (self._window,) = scaling.specs(spec_for(model.config, None))
        self._step_us = step_us_of(self._window)
        self.fused, self.size_hw = model.fuse(), size_hw
        self._stepped = SteppedDetector(self.fused, observe=self._keep)
        self.specs = (steps_spec(self._window, self._stepped.readout_steps),)
        self._head, self._device, self._camera = model.head, model.device, camera
        stops = [int(stop_us) for stop_us in stops_us]
        self._ends = [stop_us // self._step_us for stop_us in stops]
        self._places = {stop_us: place for place, stop_us in enumerate(stops)}
        self._next = self._done = -1
        self._output: Any = None
        self._spikes: dict[str, Tensor] | None = None

    def look(
        self,
        recording: Recording,
        t_us: int,
        *,
        min_score: float,
        observe: Observe | None = None,
        coverage: Coverage | None = None,
    ) -> Seen:
        """Return the detections at one of the timestamps, boxes in the sensor's pixels, and what made them.

        Args:
            recording: where the events are; the same in every call.
            t_us: the timestamp.
            min_score: detections below are dropped.
            observe: sees every layer, what it did in the steps that the answer averages.
            coverage: sees all detections whatever their scores.
        """
        place = self._places[t_us]
        end = self._ends[place]
        if self._done < 0 or (place != self._next and not self._done <= end <= self._done + self._window.num_steps):
            self._begin = self._done = max(0, end - self._window.num_steps)
            self._steps = blocks(self._begin, self._ends[place:], self._stepped.readout_steps)
            self._stepped.reset()
            self._output, self._spikes = None, None
        self._next = place + 1
        if observe is None:
            self._spikes = None
        elif self._spikes is None:
            self._spikes = {}
        cubes: list[Tensor] = []
        while self._done < end:
            before, self._done = self._done, next(self._steps)
            cubes.append(self._cube(recording, self._done - before))
        cube = self._cube(recording, self._stepped.readout_steps)
        began_s = time.perf_counter()
        for block in cubes:
            self._output = self._stepped.take(block[:, None].to(self._device))
        if observe is not None:
            self._show(observe, cube)
        if self._output is None:  # before the first whole step
            found = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), t_us)
        else:
            (found,) = detections_of(
                self._head, self._output, [t_us], cube_hw=(cube.shape[-2], cube.shape[-1]), size_hw=self.size_hw,
                ratio=self._window.ratio, min_score=0.0 if coverage is not None else min_score,
                calibrations=[camera_at(self._camera, t_us)],
            )  # fmt: skip
        if coverage is not None:
            coverage.add_scores(found)
            found = found.above(min_score)
        return Seen(found, self._output, cube, (time.perf_counter() - began_s) * 1e3)

    def _cube(self, recording: Recording, num_steps: int) -> Tensor:
        """Return the cube of the steps up to the last one."""
        ((_, cube),) = recording.cubes([self._done * self._step_us], steps_spec(self._window, num_steps))
        return cube

    def _keep(self, name: str, spikes: Tensor) -> None:
        if self._spikes is None:
            return
        # A copy: a compiled detector writes the next steps into the same memory.
        kept = kept_spikes(spikes, self.fused.max_spikes)
        before = self._spikes.get(name, kept[:0])
        self._spikes[name] = torch.cat([before, kept])[-self._stepped.readout_steps :]

    def _show(self, observe: Observe, cube: Tensor) -> None:
        """Show what the layers did in the last steps; nothing in those before the first."""
        assert self._spikes is not None
        if not self._spikes:
            with torch.inference_mode():  # for the layers' shapes
                self.fused(torch.zeros_like(cube[:1, None]).to(self._device), keep_state=False, observe=self._keep)
            self._spikes = {name: layer[:0] for name, layer in self._spikes.items()}
        for name, layer in self._spikes.items():
            silent = layer.new_zeros(len(cube) - len(layer), *layer.shape[1:])
            observe(name, torch.cat([silent, layer]))


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

    Args:
        model: the detector; it is fused here once and left unchanged.
        recording: what to detect in.
        stops_us: timestamps in microseconds, rising.
        min_score: detections below are dropped.
        scale: at which the events are binned; one.
        coverage: sees all detections whatever their scores.
        inspector: keeps more than its detections of the steps that an answer averages.
        camera: of the recording, for 3D boxes; without one they are NaN.

    Raises:
        ConfigError: as of :class:`CarriedDetector`.
    """
    stops = [int(stop_us) for stop_us in stops_us]
    detector = CarriedDetector(model, recording.size_hw, stops, scale=scale, camera=camera)
    observe = None if inspector is None else inspector.observe
    for stop_us in stops:
        seen = detector.look(recording, stop_us, min_score=min_score, observe=observe, coverage=coverage)
        if inspector is not None and seen.output is not None:
            inspector.inspect(seen.cube, seen.output)
        yield seen.found

"""One window in, its detections out, at one or several scales."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from spiking_centernet.data import Recording
from spiking_centernet.data.cameras import Camera, camera_at
from spiking_centernet.data.voxel import begins_empty
from spiking_centernet.inference.coverage import Coverage
from spiking_centernet.model import AnyDetector
from spiking_centernet.model.context import Observe
from spiking_centernet.model.scaling import Scale, choose_scaling, detections_of, merge, spec_for
from spiking_centernet.structures import Detections, VoxelSpec


@dataclass(frozen=True)
class Seen:
    """What a detector made of one timestamp.

    Attributes:
        found: the detections.
        output: the network's raw output, of several scales at the first; None where nothing was computed.
        cube: uint8 [T, C, H, W] that the output averages, at the first scale.
        latency_ms: wall time of computing and decoding.
    """

    found: Detections
    output: Any
    cube: Tensor
    latency_ms: float


class ScaledDetector:
    """A detector for windows of one sensor, each computed from a zero-initialized state.

    Args:
        model: the detector; it is fused here once and left unchanged.
        size_hw: height and width of the sensor in pixels.
        scale: at which the events are binned, see ``model.scaling.choose_scaling``.
        voxels: how windows are cut; None takes the network's, fitted to their events.
        camera: of the sensor, for 3D boxes; without one they are NaN.

    Attributes:
        fused: the detector that computes.
        specs: how windows become cubes, of every scale; the first is the one that is observed.

    Raises:
        ConfigError: If the scale is impossible, or the network cannot take such windows.
    """

    def __init__(
        self,
        model: AnyDetector,
        size_hw: tuple[int, int],
        *,
        scale: Scale = "auto",
        voxels: VoxelSpec | None = None,
        camera: Camera | None = None,
    ):
        self.fused, self.size_hw = model.fuse(), size_hw
        self.specs = choose_scaling(scale, size_hw, model.config).specs(spec_for(model.config, voxels))
        self._head, self._device, self._camera = model.head, model.device, camera

    def cubes(self, recording: Recording, stop_us: int, coverage: Coverage | None = None) -> list[Tensor]:
        """Return the cubes [T, C, H, W] of the window that ends at this time, of every scale.

        Args:
            recording: where the events are.
            stop_us: exclusive end of the window in microseconds.
            coverage: sees the window before it is fitted to its events, at the first scale.
        """
        cubes = []
        for spec in self.specs:
            _, cube = next(recording.cubes([stop_us], replace(spec, fit=False)))
            if coverage is not None and not cubes:
                coverage.add_window(cube, spec)
            if spec.fit and begins_empty(cube, spec):
                _, cube = next(recording.cubes([stop_us], spec))
            cubes.append(cube)
        return cubes

    def look(
        self,
        recording: Recording,
        t_us: int,
        *,
        min_score: float,
        observe: Observe | None = None,
        coverage: Coverage | None = None,
    ) -> Seen:
        """Return the detections of the window that ends at this time, and what made them; see :meth:`detect`."""
        cubes = self.cubes(recording, t_us, coverage)
        began_s = time.perf_counter()
        found, output = self.detect(cubes, t_us, min_score=min_score, observe=observe, coverage=coverage)
        return Seen(found, output, cubes[0], (time.perf_counter() - began_s) * 1e3)

    def detect(
        self,
        cubes: Sequence[Tensor],
        t_us: int,
        *,
        min_score: float,
        observe: Observe | None = None,
        coverage: Coverage | None = None,
    ) -> tuple[Detections, Any]:
        """Return the detections of a window, boxes in the sensor's pixels, and the raw output of the first scale.

        Args:
            cubes: [T, C, H, W] of every scale.
            t_us: exclusive end of the window in microseconds.
            min_score: detections below are dropped.
            observe: sees every layer at the first scale.
            coverage: sees all detections whatever their scores.
        """
        parts, output = [], None
        # The observed scale is the last one: a compiled detector writes the next output into the same memory.
        for k in reversed(range(len(self.specs))):
            cube, spec = cubes[k], self.specs[k]
            with torch.inference_mode():
                output, _ = self.fused(cube[:, None].to(self._device), keep_state=False, observe=None if k else observe)
            (found,) = detections_of(
                self._head, output, [t_us], cube_hw=(cube.shape[-2], cube.shape[-1]), size_hw=self.size_hw,
                ratio=spec.ratio, min_score=0 if coverage is not None else min_score,
                calibrations=None if self._camera is None else [camera_at(self._camera, t_us)],
            )  # fmt: skip
            if coverage is not None:
                coverage.add_scores(found)
                found = found.above(min_score)
            parts.insert(0, found)
        return merge(parts), output

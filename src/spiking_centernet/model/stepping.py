"""A network whose state goes on: which steps to compute together, and the average of the last ones."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.model.config import DetectorConfig
from spiking_centernet.model.context import Observe, State
from spiking_centernet.model.detector import AnyDetector
from spiking_centernet.structures import VoxelSpec

Mode = Literal["auto", "windowed", "stateful"]
"""Every answer from its own window and a zero-initialized state, or the state carried on from answer to answer."""


class SteppedDetector:
    """A fused detector that takes one cube after the other and carries its membranes along.

    Args:
        fused: the detector, fused.
        readout_steps: how many of the last steps an output averages; None takes as many as the network does.
        observe: sees the output of every neuron layer, see ``Detector.forward``.

    Attributes:
        readout_steps: as given, or the network's.
        num_steps: how many steps the last output averages; 0 before the first cube.

    Raises:
        ConfigError: the network's outputs cannot be averaged over steps of several cubes.
    """

    def __init__(self, fused: AnyDetector, *, readout_steps: int | None = None, observe: Observe | None = None):
        self.readout_steps = readout_steps_of(fused.config) if readout_steps is None else readout_steps
        if (reason := not_stateful(fused)) is not None:
            raise ConfigError(reason)
        self._fused, self._observe = fused, observe
        self.reset()

    def reset(self) -> None:
        """Zero every membrane and forget the steps so far."""
        self._state: State | None = None
        self._recent: deque[tuple[int, Any]] = deque()
        self.num_steps = 0

    def take(self, cube: Tensor) -> Any:
        """Compute a cube [T, B, C, H, W] and return the output averaged over the last ``readout_steps`` steps.

        An average begins with a whole cube: it is exact where the cubes are cut as :func:`blocks` says.
        """
        with torch.inference_mode():
            output, self._state = self._fused(cube, self._state, observe=self._observe)
            num_steps = min(len(cube), self.readout_steps)
            self._recent.append((num_steps, output))
            self.num_steps += num_steps
            while self.num_steps - self._recent[0][0] >= self.readout_steps:
                self.num_steps -= self._recent.popleft()[0]
            counts, outputs = zip(*self._recent, strict=True)
            parts = (torch.stack(part) for part in zip(*outputs, strict=True))
            if len(set(counts)) == 1:
                return type(output)(*(part.mean(0) for part in parts))
            weights = torch.tensor(counts, device=cube.device) / self.num_steps
            return type(output)(*(torch.einsum("n,n...->...", weights.to(part), part) for part in parts))

    def keep_first(self, num_samples: int) -> None:
        """Forget all but the first samples of the batch: cubes to come hold those alone."""
        if self._state is not None:
            self._state = {name: v[:num_samples] for name, v in self._state.items()}
        self._recent = deque(
            (count, type(output)(*(part[:num_samples] for part in output))) for count, output in self._recent
        )


def choose_mode(mode: Mode, model: AnyDetector) -> Literal["windowed", "stateful"]:
    """Return the mode.

    "auto" is stateful for a network with a memory, ``recurrent``, whose steps are whole microseconds, and windowed for
    any other.

    Raises:
        ConfigError: there is no such mode, or the network cannot be stateful.
    """
    if mode not in get_args(Mode):
        raise ConfigError(f"unknown mode {mode!r}{did_you_mean(mode, get_args(Mode))}")
    reason = not_stateful(model)
    if mode == "auto":
        voxels = model.config.voxels
        in_steps = not voxels.num_events and voxels.window_us % voxels.num_steps == 0
        return "stateful" if model.config.has_memory and in_steps and reason is None else "windowed"
    if mode == "stateful" and reason is not None:
        raise ConfigError(reason)
    return mode


def readout_steps_of(config: DetectorConfig) -> int:
    """Return how many of the last steps a network's answer averages."""
    return config.head.readout_steps or config.voxels.num_steps


def not_stateful(model: AnyDetector) -> str | None:
    """Return why a network's outputs cannot be averaged over steps of several cubes, None where they can."""
    config = model.config
    reason = None
    if config.voxels.takes_frames:
        reason = f"sees pictures (voxels.mode {config.voxels.mode!r})"
    elif not model.head.is_dense:
        reason = f"has {config.variations or config.head.kind}, whose outputs are no maps"
    elif config.head.step_weights != "equal":
        reason = f"has head.step_weights={config.head.step_weights!r}"
    if reason is None:
        return None
    return f'a stateful pass averages maps of events, every step equally; this network {reason}; take mode="windowed"'


def step_us_of(spec: VoxelSpec) -> int:
    """Return the microseconds of a step.

    Raises:
        ConfigError: windows are not cut into steps of whole microseconds.
    """
    step_us, left_us = divmod(spec.window_us, spec.num_steps)
    if left_us or spec.num_events:
        raise ConfigError(f"a state advances by steps of whole microseconds, voxels.window_us is {spec.window_us}")
    return step_us


def steps_spec(spec: VoxelSpec, num_steps: int) -> VoxelSpec:
    """Return how the cube of so many of a window's steps is cut."""
    return replace(spec, window_us=num_steps * step_us_of(spec), num_steps=num_steps, fit=False)


def blocks(begin: int, ends: Iterable[int], readout_steps: int) -> Iterator[int]:
    """Yield the steps up to which to compute next: every end, and whole blocks for what its answer averages.

    Args:
        begin: steps that lie before.
        ends: steps after which there are answers.
        readout_steps: how many steps an answer averages, and most that are computed together.
    """
    cuts = {cut for end in ends for cut in (end - readout_steps, end) if cut > begin}
    for cut in sorted(cuts):
        first = begin + (cut - begin) % readout_steps
        yield from range(first if first > begin else begin + readout_steps, cut + 1, readout_steps)
        begin = cut

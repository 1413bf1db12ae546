"""A recording, whatever its file format: windows of events in time."""

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from spiking_centernet.data.voxel import voxelize
from spiking_centernet.errors import ConfigError, EventFileError, WindowError
from spiking_centernet.structures import VoxelSpec

MAX_PIXELS = 1 << 22
"""Four and a half times the largest event sensor we know (1280 x 720); a damaged file may claim 256 times as many."""


@dataclass(frozen=True)
class Window:
    """The events of ``[start_us, stop_us)``, an EVENT_DTYPE array."""

    start_us: int
    stop_us: int
    events: np.ndarray


class Recording(ABC):
    """What a camera recorded: a sensor's size and events in time.

    Its clock starts at 0 microseconds; whatever of a window lies before is an empty past.

    Attributes:
        path: where it is stored.
        kind: its format, in words.
        size_hw: height and width of the sensor in pixels.
        start_us: time of the first event.
        stop_us: first microsecond after the last event; 0 in a recording without events.
        num_events: how many events it holds.
        num_unsorted: how many events carry a time before an earlier one's; they read as the latest time before them.
        clock_us: what was subtracted from the stored times: that of the first event if the file counts from another
            start, else 0.
        num_dropped: how many stored events were left out: outside the sensor, or far from the time of their neighbors.
        restarts_us: when the segments after the first begin, where the camera's clock started again.
    """

    path: Path
    kind: str
    size_hw: tuple[int, int]
    start_us: int
    stop_us: int
    num_events: int
    num_unsorted: int
    clock_us: int = 0
    num_dropped: int = 0
    restarts_us: tuple[int, ...] = ()

    @abstractmethod
    def _read(self, start_us: int, stop_us: int) -> np.ndarray: ...

    def read(self, start_us: int | None = None, stop_us: int | None = None) -> np.ndarray:
        """Return the events of ``[start_us, stop_us)`` as an EVENT_DTYPE array; everything when called without times.

        Raises:
            WindowError: the window is empty or nothing of it lies in the recording.
            EventFileError: the events are damaged.
        """
        if start_us is None and stop_us is None and not self.num_events:
            return self._read(0, 0)
        start_us = 0 if start_us is None else whole_us("start_us", start_us)
        stop_us = self.stop_us if stop_us is None else whole_us("stop_us", stop_us)
        self._check_window(start_us, stop_us)
        return self._read(start_us, stop_us)

    def cube(self, stop_us: int, spec: VoxelSpec | None = None) -> torch.Tensor:
        """Return the voxel cube of the window that ends, exclusively, at ``stop_us``; see ``voxelize``.

        Args:
            stop_us: first microsecond after the window.
            spec: length of the window and division of the cube; None takes the paper's.

        Returns:
            uint8 ``[num_steps, 2 * bins, H, W]``, smaller than the sensor where ``spec.scale`` is below 1.

        Raises:
            WindowError: If nothing of the window lies in the recording.
            EventFileError: If the events are damaged.
            ConfigError: If the cube would be too large.
        """
        spec, stop_us = VoxelSpec() if spec is None else spec, whole_us("stop_us", stop_us)
        if not isinstance(spec, VoxelSpec):
            raise ConfigError(f"spec must be a VoxelSpec, got {spec!r}; cube(stop_us, spec) takes the end of a window")
        self._check_window(stop_us - spec.window_us, stop_us)
        return self._cube(stop_us, spec)

    def cubes(self, stops_us: Iterable[int], spec: VoxelSpec | None = None) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield the end of every window and its cube, as ``cube`` returns it; outside the recording it is empty.

        Args:
            stops_us: first microseconds after the windows, for example ``recording.stops_us(50_000)``.
            spec: as ``cube``.

        Raises:
            EventFileError, ConfigError: as ``cube``.
        """
        spec = VoxelSpec() if spec is None else spec
        for stop_us in (whole_us("stops_us", stop_us) for stop_us in stops_us):
            yield stop_us, self._cube(stop_us, spec)

    def _cube(self, stop_us: int, spec: VoxelSpec) -> torch.Tensor:
        events = self._read(stop_us - spec.window_us, stop_us)
        return voxelize(events, stop_us=stop_us, size_hw=self.size_hw, spec=spec)

    def stops_us(self, every_us: int) -> range:
        """Return the ends of windows: the multiples of ``every_us`` from the first event until all were seen.

        Where one multiple sees all, as with a sample of 40 ms, the window ends with the recording instead.

        Raises:
            WindowError: If ``every_us`` is not positive.
        """
        if whole_us("every_us", every_us) <= 0:
            raise WindowError(f"every_us must be positive, got {every_us}")
        if not self.num_events:
            return range(0)
        first, last = (t_us // every_us + 1 for t_us in (self.start_us, self.stop_us - 1))
        if first == last:
            return range(self.stop_us, self.stop_us + 1, every_us)
        return range(first * every_us, (last + 1) * every_us, every_us)

    def windows(self, every_us: int, length_us: int) -> Iterator[Window]:
        """Yield the events of every window of ``length_us``; see ``stops_us``.

        Raises:
            WindowError: If a duration is not positive.
        """
        if whole_us("length_us", length_us) <= 0:
            raise WindowError(f"length_us must be positive, got {length_us}")
        for stop_us in self.stops_us(every_us):
            # With gaps between short windows the last of them may begin after the last event.
            yield Window(stop_us - length_us, stop_us, self._read(stop_us - length_us, stop_us))

    def _check_window(self, start_us: int, stop_us: int) -> None:
        if stop_us <= start_us:
            raise WindowError(f"window [{start_us}, {stop_us}) us is empty; stop_us must be later than start_us")
        if not self.num_events:
            raise WindowError(f"{self.path}: holds no events, so no window [{start_us}, {stop_us}) us either")
        if stop_us <= 0 or start_us >= self.stop_us:
            raise WindowError(
                f"{self.path}: window [{start_us}, {stop_us}) us lies outside the recording, "
                f"which spans [0, {self.stop_us}) us; choose times inside"
            )


def whole_us(name: str, value: object) -> int:
    """Return a time as a whole number of microseconds.

    Raises:
        WindowError: It is none: seconds would be cut to 0.
    """
    try:
        return operator.index(value)  # pyright: ignore[reportArgumentType]
    except TypeError:
        raise WindowError(
            f"{name} must be a whole number of microseconds, got {value!r}; of seconds, round(seconds * 1_000_000)"
        ) from None


def check_size(path: Path, size_hw: tuple[int, int]) -> None:
    """Check that a sensor may have this height and width in pixels.

    Raises:
        EventFileError: it has no pixels, or more than any sensor.
    """
    # Numbers of thousands of digits are no sizes, and no text either.
    height, width = (min(max(side, -1), MAX_PIXELS + 1) for side in size_hw)
    if height < 1 or width < 1:
        raise EventFileError(f"{path}: a sensor of {width} x {height} pixels is invalid; give its size_hw")
    if height * width > MAX_PIXELS:
        raise EventFileError(
            f"{path}: a sensor of {width} x {height} pixels is larger than any known ({MAX_PIXELS} pixels); the file "
            "is damaged, or give its size_hw"
        )

"""Events of a window -> voxel cube: one plane per time step, polarity and micro bin."""

import math
from dataclasses import replace
from fractions import Fraction
from functools import cache

import numpy as np
import torch
from jaxtyping import UInt8

from spiking_centernet.data._kernels import PAIRED_DTYPE, bin_events
from spiking_centernet.errors import ConfigError, EventFileError, WindowError
from spiking_centernet.structures import EVENT_DTYPE, VoxelSpec

MAX_CUBE_BYTES = 1 << 30
MAX_TIME_US = 1 << 53
"""Nearly three centuries: no window lies beyond, and the kernel's products of times and cells stay within int64."""


def voxelize(
    events: np.ndarray, *, stop_us: int, size_hw: tuple[int, int], spec: VoxelSpec | None = None
) -> UInt8[torch.Tensor, "T C H W"]:
    """Sort the events of ``[stop_us - spec.window_us, stop_us)`` into ``num_steps * bins`` equal cells of time.

    An event at time t lies in cell ``(t - start_us) * num_steps * bins // window_us``, which is micro bin
    ``cell % bins`` of step ``cell // bins``; its channel is ``polarity * bins + micro bin``. The cells are aligned to
    the window, never to its first event; events outside the window are ignored. With a ``spec.scale`` below 1 its row
    is ``floor(y * scale)`` and its column ``floor(x * scale)``. With ``spec.num_events`` or ``spec.fit`` the window
    begins as ``window_start_us`` says.

    Args:
        events: EVENT_DTYPE array in any order.
        stop_us: first microsecond after the window.
        size_hw: height and width of the sensor in pixels.
        spec: length of the window, time steps T, micro bins and mode; None takes the paper's.

    Returns:
        uint8 ``[num_steps, 2 * bins, H, W]``, the sensor's height and width, or those of ``spec.cube_hw``.

    Raises:
        WindowError: If the window lies beyond every clock.
        EventFileError: If an event of the window lies outside the sensor or has a polarity other than 0 and 1.
        ConfigError: If the size is impossible or the cube too large.
    """
    spec = VoxelSpec() if spec is None else spec
    cube = empty_cube(stop_us, (int(size_hw[0]), int(size_hw[1])), spec)
    if spec.num_events or spec.fit:
        start_us = window_start_us(check_events(events)["t"], int(stop_us), spec)
        spec = replace(spec, num_events=0, fit=False, window_us=int(stop_us) - start_us)
    add_events(cube, events, stop_us=stop_us, size_hw=size_hw, spec=spec)
    return cube


def window_start_us(t_us: np.ndarray, stop_us: int, spec: VoxelSpec) -> int:
    """Return where a window begins that counts its events, or that is fitted to them.

    With ``spec.num_events`` it begins at the time of the event that many before its end, and events of that time belong
    to it; with ``spec.fit`` at its first event, if the first cell of time would be empty. It begins ``spec.least_us``
    before its end at the latest and ``spec.window_us`` before it at the earliest, and there where neither is asked for.

    Args:
        t_us: times of events in microseconds, in any order; those of the longest window suffice.
        stop_us: first microsecond after the window.
        spec: number of events and limits.
    """
    longest_us = stop_us - spec.window_us
    inside = t_us[(t_us >= longest_us) & (t_us < stop_us)]
    if spec.num_events and spec.num_events <= len(inside):
        before = len(inside) - spec.num_events
        return min(int(np.partition(inside, before)[before]), stop_us - spec.least_us)
    if spec.fit and len(inside):
        first_us = int(inside.min())
        if (first_us - longest_us) * spec.num_steps * spec.bins >= spec.window_us:
            return max(longest_us, min(first_us, stop_us - spec.least_us))
    return longest_us


def begins_empty(cube: UInt8[torch.Tensor, "T C H W"], spec: VoxelSpec) -> bool:
    """Return whether no event lies in the first cell of time of a window's cube."""
    return not cube.numpy()[0, :: spec.bins].any()


def add_events(
    cube: UInt8[torch.Tensor, "T C H W"],
    events: np.ndarray,
    *,
    stop_us: int,
    size_hw: tuple[int, int],
    spec: VoxelSpec,
) -> None:
    """Write more events into the cube of a window of ``spec.window_us``, in place; see ``voxelize``.

    Raises:
        EventFileError: If an event of the window lies outside the sensor or has a polarity other than 0 and 1; the
            others are written.
    """
    height, width = int(size_hw[0]), int(size_hw[1])
    paired, flat = check_events(events).view(PAIRED_DTYPE), cube.numpy().reshape(-1)
    start_us, stop_us = int(stop_us) - spec.window_us, int(stop_us)
    bad = bin_events(
        paired, flat, height, width, pixel_places((height, width), spec.ratio), start_us, stop_us, spec.num_steps,
        spec.bins, spec.mode == "count",
    )  # fmt: skip
    if bad >= 0:
        t, x, y, p = events[bad].tolist()
        raise EventFileError(
            f"event {bad} of the array (t {t} us, x {x}, y {y}, p {p}) does not fit a {width} x {height} sensor with "
            "polarities 0 and 1; give the recording's own size_hw"
        )


def empty_cube(stop_us: int, size_hw: tuple[int, int], spec: VoxelSpec) -> UInt8[torch.Tensor, "T C H W"]:
    """Return the cube of a window of a sensor of this size without events; raises as ``voxelize``."""
    start_us, cells = int(stop_us) - spec.window_us, spec.num_steps * spec.bins
    if spec.takes_frames:
        raise ConfigError(
            f"a network of mode {spec.mode!r} sees pictures, not events; give it pictures, or take a network trained "
            "with voxels.mode binary"
        )
    if min(size_hw) < 1:
        raise ConfigError(f"size_hw must be positive, got {size_hw}")
    if max(-start_us, stop_us) > MAX_TIME_US or spec.window_us * cells > MAX_TIME_US:
        raise WindowError(f"window [{start_us}, {stop_us}) us lies beyond every clock; check its unit")
    if (num_bytes := 2 * cells * math.prod(spec.cube_hw(size_hw))) > MAX_CUBE_BYTES:
        raise ConfigError(
            f"a cube of {spec.num_steps} steps, {spec.bins} bins and {size_hw[1]} x {size_hw[0]} pixels needs "
            f"{num_bytes / 2**30:.1f} GiB; give fewer steps or bins, or the sensor's true size_hw"
        )
    # numpy's zeros are pages that the system hands out empty; torch would write them.
    return torch.from_numpy(np.zeros((spec.num_steps, spec.channels, *spec.cube_hw(size_hw)), np.uint8))


@cache
def pixel_places(size_hw: tuple[int, int], ratio: Fraction) -> tuple[np.ndarray, np.ndarray] | None:
    """Return where in a flat plane of a scaled cube every row of the sensor begins, and every column's place in it.

    Args:
        size_hw: height and width of the sensor in pixels.
        ratio: the scale.

    Returns:
        uintp [H] and [W]; None at scale 1, where a plane is the sensor.
    """
    if ratio == 1:
        return None
    over, under = ratio.as_integer_ratio()
    rows, columns = (np.arange(side) * over // under for side in size_hw)
    return (rows * (int(columns[-1]) + 1)).astype(np.uintp), columns.astype(np.uintp)


def check_events(events: np.ndarray, where: str = "events") -> np.ndarray:
    """Return ``events`` if they are a flat EVENT_DTYPE array.

    Raises:
        ConfigError: they are something else.
    """
    if not isinstance(events, np.ndarray) or events.dtype != EVENT_DTYPE or events.ndim != 1:
        got = f"{events.dtype} {list(events.shape)}" if isinstance(events, np.ndarray) else type(events).__name__
        raise ConfigError(f"{where} must be a flat array of EVENT_DTYPE {EVENT_DTYPE}, got {got}; convert it")
    return events

"""Events of a window -> voxel cube: one plane per time step, polarity and micro bin."""

from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8

from spiking_centernet.data._kernels import PAIRED_DTYPE, bin_events
from spiking_centernet.errors import ConfigError, EventFileError, WindowError, did_you_mean
from spiking_centernet.structures import EVENT_DTYPE

Mode = Literal["binary", "count"]
MODES = ("binary", "count")
MAX_CUBE_BYTES = 1 << 30
MAX_TIME_US = 1 << 53
"""Nearly three centuries: no window lies beyond, and the kernel's products of times and cells stay within int64."""


def voxelize(
    events: np.ndarray,
    *,
    start_us: int,
    stop_us: int,
    size_hw: tuple[int, int],
    num_steps: int = 5,
    bins: int = 2,
    mode: Mode = "binary",
) -> UInt8[torch.Tensor, "T C H W"]:
    """Sort the events of ``[start_us, stop_us)`` into ``num_steps * bins`` equal cells of time.

    An event at time t lies in cell ``(t - start_us) * num_steps * bins // (stop_us - start_us)``, which is micro bin
    ``cell % bins`` of step ``cell // bins``; its channel is ``polarity * bins + micro bin``. The cells are aligned to
    the window, never to its first event; events outside the window are ignored.

    Args:
        events: EVENT_DTYPE array in any order.
        start_us: first microsecond of the window; may be negative.
        stop_us: first microsecond after the window.
        size_hw: height and width of the sensor in pixels.
        num_steps: time steps T.
        bins: micro bins a step.
        mode: "binary" marks a pixel that had any event, "count" counts them up to 255.

    Returns:
        uint8 ``[num_steps, 2 * bins, H, W]``.

    Raises:
        WindowError: the window is empty or reversed.
        EventFileError: an event of the window lies outside the sensor or has a polarity other than 0 and 1.
        ConfigError: a setting is impossible.
    """
    start_us, stop_us = int(start_us), int(stop_us)
    cube = torch.from_numpy(empty_cube(start_us, stop_us, (int(size_hw[0]), int(size_hw[1])), num_steps, bins, mode))
    add_events(cube, events, start_us=start_us, stop_us=stop_us, bins=bins, mode=mode)
    return cube


def add_events(
    cube: UInt8[torch.Tensor, "T C H W"],
    events: np.ndarray,
    *,
    start_us: int,
    stop_us: int,
    bins: int,
    mode: Mode = "binary",
) -> None:
    """Write more events into the cube of a window, in place; see ``voxelize``.

    Raises:
        EventFileError: an event of the window lies outside the sensor or has a polarity other than 0 and 1; the others
            are written.
    """
    num_steps, _, height, width = cube.shape
    paired, flat = check_events(events).view(PAIRED_DTYPE), cube.numpy().reshape(-1)
    bad = bin_events(paired, flat, height, width, start_us, stop_us, num_steps, bins, mode == "count")
    if bad >= 0:
        t, x, y, p = events[bad].tolist()
        raise EventFileError(
            f"event {bad} of the array (t {t} us, x {x}, y {y}, p {p}) does not fit a {width} x {height} sensor with "
            "polarities 0 and 1; give the recording's own size_hw"
        )


def empty_cube(
    start_us: int, stop_us: int, size_hw: tuple[int, int], num_steps: int, bins: int, mode: str
) -> np.ndarray:
    """Return an empty cube, uint8 [T, 2 * bins, H, W]; raises as ``voxelize``."""
    if mode not in MODES:
        raise ConfigError(f"unknown mode {mode!r}{did_you_mean(mode, MODES)}")
    if num_steps < 1 or bins < 1 or min(size_hw) < 1:
        raise ConfigError(f"num_steps, bins and size_hw must be positive, got {num_steps}, {bins}, {size_hw}")
    if stop_us <= start_us:
        raise WindowError(f"window [{start_us}, {stop_us}) us is empty; stop_us must be later than start_us")
    if max(-start_us, stop_us) > MAX_TIME_US or (stop_us - start_us) * num_steps * bins > MAX_TIME_US:
        raise WindowError(f"window [{start_us}, {stop_us}) us lies beyond every clock; check its unit")
    if (num_bytes := num_steps * 2 * bins * size_hw[0] * size_hw[1]) > MAX_CUBE_BYTES:
        raise ConfigError(
            f"a cube of {num_steps} steps, {bins} bins and {size_hw[1]} x {size_hw[0]} pixels needs "
            f"{num_bytes / 2**30:.1f} GiB; give fewer steps or bins, or the sensor's true size_hw"
        )
    return np.zeros((num_steps, 2 * bins, *size_hw), np.uint8)


def check_events(events: np.ndarray, where: str = "events") -> np.ndarray:
    """Return ``events`` if they are a flat EVENT_DTYPE array.

    Raises:
        ConfigError: they are something else.
    """
    if not isinstance(events, np.ndarray) or events.dtype != EVENT_DTYPE or events.ndim != 1:
        got = f"{events.dtype} {list(events.shape)}" if isinstance(events, np.ndarray) else type(events).__name__
        raise ConfigError(f"{where} must be a flat array of EVENT_DTYPE {EVENT_DTYPE}, got {got}; convert it")
    return events

"""The pictures that a camera would take of a simulated world, next to its events."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from spiking_centernet.errors import ConfigError
from spiking_centernet.simulate.worlds import Scene
from spiking_centernet.utils.files import atomic_write

WINDOW_US = 100_000
"""Pictures between labels are spread over the window that a detector sees of a label."""

GAMMA = 2.2
"""Exponent that displays undo: pictures store light to the power of 1 / GAMMA, as sRGB does about."""

WHITE = 255.0
"""Luminance from which a picture is white."""

MAX_PER_WINDOW = 100


def picture_times_us(labels_us: Iterable[int], per_window: int) -> list[int]:
    """Return when pictures are taken: at every label, and with several a window at even distances before, from 0 on.

    Args:
        labels_us: the labeled timestamps in microseconds.
        per_window: pictures in the 100 ms before a label, its own included; 1 takes that alone.
    """
    between = range(per_window if per_window > 1 else 0, -1, -1)
    times = {round(t_us - k * WINDOW_US / per_window) for t_us in labels_us for k in between}
    return sorted(t_us for t_us in times if t_us >= 0)


def check_per_window(per_window: int) -> None:
    """Check a number of pictures a window.

    Raises:
        ConfigError: it is impossible.
    """
    if not 1 <= per_window <= MAX_PER_WINDOW:
        raise ConfigError(f"frames_per_window must lie between 1 and {MAX_PER_WINDOW}, got {per_window}")


def exposed(luminance: np.ndarray) -> np.ndarray:
    """Return linear luminance as the 8 bits of a picture: ``round(255 (min(L, 255) / 255) ** (1 / 2.2))``."""
    return np.rint(255 * (np.clip(luminance, 0, WHITE) / WHITE) ** (1 / GAMMA)).astype(np.uint8)


def channels_of(scene: Scene, rng: np.random.Generator) -> list[Scene]:
    """Return a scene as it looks in red, green and blue.

    Raises:
        ConfigError: its world is gray.
    """
    colored = getattr(scene, "colored", None)
    if colored is None:
        raise ConfigError("this world has no colors; leave out color, or take the world roads")
    return colored(rng)


def write_pictures(
    folder: Path, channels: Sequence[Scene], size_hw: tuple[int, int], times_us: Iterable[int], before_us: int
) -> int:
    """Write the pictures of these times as ``<microseconds>.png``; return how many.

    Args:
        folder: made anew; what lay there is removed.
        channels: what is rendered: the scene alone for gray pictures, or how it looks in red, green and blue; nothing
            is drawn at random, so that events and boxes stay what they are.
        size_hw: rows and columns of the sensor.
        times_us: of the recording, in microseconds.
        before_us: how long the scene runs before time zero.
    """
    from PIL import Image

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    light = np.empty((len(channels), *size_hw), np.float32)
    count = 0
    for t_us in times_us:
        for scene, plane in zip(channels, light, strict=True):
            scene.render((t_us + before_us) * 1e-6, plane)
        image = exposed(light)
        with atomic_write(folder / f"{t_us}.png") as temporary:
            Image.fromarray(image[0] if len(image) == 1 else np.moveaxis(image, 0, 2)).save(temporary, format="PNG")
        count += 1
    return count

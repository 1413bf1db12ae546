"""Colors for simulated streets: a tint for every primitive, all of luminance 1, so that the gray picture stays."""

import colorsys

import numpy as np

from spiking_centernet.data.frames import LUMINANCE
from spiking_centernet.simulate.render.raster import BLOB, WALL

SKY, GROUND, LEAVES = (0.85, 0.99, 1.27), (1.05, 1.0, 0.9), (0.8, 1.15, 0.6)
"""Red, green and blue of a clear sky, of asphalt and of foliage over their luminance, by eye."""

MOST_SATURATED, WALL_SATURATION = 0.6, 0.15
"""Saturation of cars and clothes is at most the first, of walls the second."""


def of_luminance_1(color: tuple[float, float, float] | np.ndarray) -> np.ndarray:
    """Return red, green and blue scaled so that their luminance is 1, float64 [3]."""
    return np.asarray(color, np.float64) / float(np.dot(LUMINANCE, color))


def primitive_tints(
    rng: np.random.Generator, kinds: np.ndarray, shapes: np.ndarray, *, num_cars: int, first_walker: int
) -> np.ndarray:
    """Return what every primitive's albedo is multiplied by in red, green and blue, float64 [P, 3].

    Args:
        rng: draws the hues of cars, clothes and walls.
        kinds: of the primitives, int [P].
        shapes: first and last primitive of every shape, in its first two columns.
        num_cars: the shapes before are cars, each of one color.
        first_walker: from this shape on they are people, every primitive of a color of its own.
    """
    tints = np.ones((len(kinds), 3))
    for number, (first, last) in enumerate(shapes[:, :2].astype(int).tolist()):
        if number < num_cars:
            tints[first:last] = _any_color(rng, MOST_SATURATED)
        elif number >= first_walker:
            tints[first:last] = [_any_color(rng, MOST_SATURATED) for _ in range(first, last)]
    tints[kinds == WALL] = [_any_color(rng, WALL_SATURATION) for _ in range(int((kinds == WALL).sum()))] or 1.0
    tints[kinds == BLOB] = of_luminance_1(LEAVES)
    return tints


def _any_color(rng: np.random.Generator, most: float) -> np.ndarray:
    hue, saturation = rng.uniform(), rng.uniform(0, most)
    return of_luminance_1(colorsys.hsv_to_rgb(hue, saturation, 1.0))

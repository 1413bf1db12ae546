"""The light of a scene: sun, lamps, haze, sky and the far skyline, by day and by night."""

import math
from dataclasses import dataclass

import numpy as np

from spiking_centernet.simulate.render import textures


@dataclass(frozen=True)
class Look:
    """The light of a scene, as the kernels want it.

    Attributes:
        light: ambient, sun, direction to the sun (3), the ego car's head lights, gain of lamps.
        haze: luminance of the haze and the distance in meters at which it takes half.
        sky: luminance at the horizon and at the zenith, strength of the clouds.
        shadow: where a shadow reaches per meter of height (x, y in meters) and how dark it is, 0 for none.
    """

    light: np.ndarray
    haze: np.ndarray
    sky: np.ndarray
    shadow: tuple[float, float, float]


def random_look(rng: np.random.Generator, *, night: bool, riding: bool) -> Look:
    """Draw the light of a clear or gray day or of a night; ``riding`` behind head lights."""
    turn, up = float(rng.uniform(0, 2 * math.pi)), math.radians(float(rng.uniform(22, 65)))
    sun = np.array([math.cos(turn) * math.cos(up), math.sin(turn) * math.cos(up), math.sin(up)])
    if night:
        light = np.array(
            [rng.uniform(0.02, 0.06), rng.uniform(0.03, 0.12), 0.2, 0.1, 0.97, 0.7 if riding else 0.05, 1.0]
        )
        return Look(
            light, np.array([1.0, 2500.0]), np.array([rng.uniform(0.8, 4), rng.uniform(0.5, 2), 0.0]), (0.0, 0.0, 0.0)
        )
    clear = rng.random() < 0.65
    light = np.array([0.62 if clear else 0.8, 0.62 if clear else 0.2, *sun, 0.0, 0.0])
    horizon = float(rng.uniform(130, 235))
    sky = np.array([horizon, horizon * rng.uniform(0.55, 1.05), rng.uniform(0, 0.10)])
    haze = np.array([0.9 * horizon, 10 ** rng.uniform(2.7, 3.6)])
    shift = (-sun[0] / sun[2], -sun[1] / sun[2], float(rng.uniform(0.35, 0.6)) if clear else 0.0)
    return Look(light, haze, sky, shift)


def skyline(rng: np.random.Generator, look: Look, *, night: bool) -> np.ndarray:
    """Return slope and luminance [K + 1, 2] of the far skyline around the compass."""
    num = 2048
    rough = textures.noise(rng, (num, 2), 9, fall=0.7)[:, 0]
    tall = np.clip(rng.uniform(0.005, 0.05) * (1 + 0.5 * rough), 0.002, 0.11)
    dark = 0.6 * rng.uniform(30, 80) + 0.4 * look.haze[0] * rng.uniform(0.3, 1.0)
    shade = (0.5 if night else dark) * (1 + 0.15 * textures.noise(rng, (num, 2), 7)[:, 0])
    table = np.stack([tall, np.maximum(shade, 0.3)], 1)
    return np.concatenate([table, table[:1]]).astype(np.float64)

"""The still part of a scene: houses, trees and poles along the street."""

import math
from dataclasses import dataclass

import numpy as np

from spiking_centernet.simulate.render.textures import WALL_TEXELS, RoadPlan
from spiking_centernet.simulate.scene.actors import Pool, Shape, add_pole, add_tree, add_wall

TILES = 8
"""Facade tiles of a scene."""

TEXEL_M = 0.05
"""Size of a facade's texel: a tile spans 12.8 m."""


@dataclass(frozen=True)
class Bend:
    """The street's middle line x(y) as a table over y: ``offset_m[i]`` at ``start_m + i * step_m``."""

    offset_m: np.ndarray
    start_m: float
    step_m: float

    def at(self, y_m: float) -> tuple[float, float]:
        """Return x and dx/dy at ``y_m``."""
        at = min(max((y_m - self.start_m) / self.step_m, 0.0), len(self.offset_m) - 1.001)
        i = int(at)
        slope = float(self.offset_m[i + 1] - self.offset_m[i])
        return float(self.offset_m[i]) + (at - i) * slope, slope / self.step_m


def make_bend(rng: np.random.Generator, *, low_m: float, high_m: float, steepest: float) -> Bend:
    """Return a street that winds with at most about ``steepest`` sideways meters per meter."""
    y = np.arange(low_m, high_m + 1.0, 1.0)
    x = np.zeros_like(y)
    for _ in range(2):
        wave = float(rng.uniform(120, 400))
        amplitude = float(rng.uniform(0, 0.5)) * steepest * wave / (2 * math.pi)
        x += amplitude * np.sin(2 * math.pi * y / wave + rng.uniform(0, 2 * math.pi))
    # A turn of up to 35 degrees spread over some tens of meters.
    for _ in range(int(rng.integers(0, 4))):
        center, width = float(rng.uniform(low_m, high_m)), float(rng.uniform(15, 40))
        x += float(rng.uniform(-1, 1)) * steepest * 0.5 * width * np.log1p(np.exp((y - center) / width))
    return Bend(x - np.interp(0.0, y, x), low_m, 1.0)


def build(
    rng: np.random.Generator, pool: Pool, shapes: list[Shape], road: RoadPlan, bend: Bend, *, low_m: float,
    high_m: float, houses: tuple[float, float], greens: tuple[float, float], keep_out: tuple[float, float, float],
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Line the street; return props [N, 3] (x, y, shape) and walls [N, 5] (feet and shape).

    ``houses`` and ``greens`` are densities 0..1 on the left and right; nothing stands in the disc ``keep_out``
    (x, y, radius in meters).
    """
    walls: list[tuple[float, ...]] = []
    props: list[tuple[float, float, int]] = []

    def near_camera(x: float, y: float) -> bool:
        return math.hypot(x - keep_out[0], y - keep_out[1]) < keep_out[2]

    def wall(p, q, height: float, tile: int, shift: float):
        shapes.append(add_wall(pool, p, q, height, tile, texel_m=TEXEL_M, shift=shift))
        walls.append((*p, *q, len(shapes) - 1))

    def to_cross(y: float) -> float:
        return abs((y + road.period_m / 2) % road.period_m - road.period_m / 2) if road.cross_m else 1e9

    clear_m = road.cross_m + road.pave_m + road.setback_m
    for k, sign in enumerate((-1.0, 1.0)):
        y = low_m
        while y < high_m:
            length, deep = float(rng.uniform(8, 24)), float(rng.uniform(8, 14))
            if road.cross_m:  # end at the corner of the crossing street
                ahead = math.ceil((y + clear_m) / road.period_m) * road.period_m - clear_m
                if y + 5 > ahead:
                    y = ahead + 2 * clear_m
                    continue
                length = min(length, ahead - y)
            if rng.random() < houses[k]:
                face = sign * (road.facade_m + (float(rng.uniform(0, 2.5)) if rng.random() < 0.3 else 0.0))
                y0, y1 = y, y + length
                x0, x1 = bend.at(y0)[0] + face, bend.at(y1)[0] + face
                near, far = (x0, y0), (x1, y1)
                height, tile = float(rng.uniform(4.5, 16)), int(rng.integers(TILES))
                shift = float(rng.integers(WALL_TEXELS))
                back = sign * deep
                if not (near_camera(*near) or near_camera(*far) or near_camera((x0 + x1) / 2, y + length / 2)):
                    p, q = (far, near) if sign > 0 else (near, far)
                    wall(p, q, height, tile, shift)
                    p, q = (near, (x0 + back, y0)) if sign > 0 else ((x0 + back, y0), near)
                    wall(p, q, height, tile, shift)
                    p, q = ((x1 + back, y1), far) if sign > 0 else (far, (x1 + back, y1))
                    wall(p, q, height, tile, shift)
            y += length + (float(rng.uniform(2, 9)) if rng.random() < 0.35 else 0.0)
        y = low_m
        while y < high_m:
            y += float(rng.uniform(4, 13))
            if to_cross(y) < road.cross_m + 3.5:
                continue
            verge = rng.random() < 0.35
            across = sign * (road.kerb_m + 0.5 if not verge else road.facade_m + float(rng.uniform(-0.5, 6)))
            x = bend.at(y)[0] + across
            if rng.random() > greens[k] or near_camera(x, y):
                continue
            kind = rng.random()
            if verge or kind < 0.45:
                shapes.append(add_tree(rng, pool, x, y))
            else:
                shapes.append(add_pole(rng, pool, x, y, -sign, lamp=kind < 0.75))
            props.append((x, y, len(shapes) - 1))
    return (
        np.array(props, np.float64).reshape(-1, 3),
        np.array(walls, np.float64).reshape(-1, 5),
    )

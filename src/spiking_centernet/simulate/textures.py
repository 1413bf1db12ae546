"""Seeded textures as rip-maps: every texture is stored halved along each axis alone and both together."""

from dataclasses import dataclass

import numpy as np

WALL_TEXELS = 256
"""Side of a facade tile in texels."""


@dataclass(frozen=True)
class RoadPlan:
    """The cross-section of the street, in metres from its middle, and where streets cross it.

    Attributes:
        lanes: lanes in each direction.
        lane_m: width of a lane.
        park_m: width of the parking strip on each side, 0 for none.
        pave_m: width of the pavement.
        setback_m: distance from the pavement's far edge to the facades.
        period_m: length after which the ground repeats; a street crosses once in each period.
        cross_m: half the width of the crossing street, 0 for none.
    """

    lanes: int
    lane_m: float
    park_m: float
    pave_m: float
    setback_m: float
    period_m: float
    cross_m: float

    @property
    def half_m(self) -> float:
        """Return the distance from the middle to the edge of the driving lanes."""
        return self.lanes * self.lane_m

    @property
    def kerb_m(self) -> float:
        """Return the distance from the middle to the kerb."""
        return self.half_m + self.park_m

    @property
    def pave_end_m(self) -> float:
        """Return the distance from the middle to the far edge of the pavement."""
        return self.kerb_m + self.pave_m

    @property
    def facade_m(self) -> float:
        """Return the distance from the middle to the facades."""
        return self.pave_end_m + self.setback_m


def noise(rng: np.random.Generator, shape: tuple[int, int], octaves: int, *, fall: float = 0.75) -> np.ndarray:
    """Return smooth periodic noise [rows, columns] with mean 0 and standard deviation 1, coarse octaves strongest."""
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        cell = 2 ** (octaves - 1 - octave)
        rows, cols = max(2, shape[0] // cell), max(2, shape[1] // cell)
        grid = rng.standard_normal((rows, cols)).astype(np.float32)
        for axis, size in ((0, shape[0]), (1, shape[1])):
            at = (np.arange(size) + 0.5) * grid.shape[axis] / size - 0.5
            low = np.floor(at).astype(int)
            w = (at - low).astype(np.float32)
            w = w * w * (3 - 2 * w)
            w = w[:, None] if axis == 0 else w[None, :]
            n = grid.shape[axis]
            grid = np.take(grid, low % n, axis) * (1 - w) + np.take(grid, (low + 1) % n, axis) * w
        total += fall**octave * grid
    total -= total.mean()
    return total / max(float(total.std()), 1e-6)


def ripmap(texture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all halvings of ``texture`` [V, U] end to end, float32, and their starts, int64 [levels U, levels V]."""
    num_v, num_u = texture.shape
    levels_u, levels_v = int(np.log2(num_u)) - 1, int(np.log2(num_v)) - 1
    offsets = np.zeros((levels_u, levels_v), np.int64)
    parts, size = [], 0
    along_u = texture.astype(np.float32)
    for i in range(levels_u):
        both = along_u
        for j in range(levels_v):
            offsets[i, j] = size
            parts.append(both.ravel())
            size += both.size
            both = 0.5 * (both[0::2] + both[1::2])
        along_u = 0.5 * (along_u[:, 0::2] + along_u[:, 1::2])
    return np.concatenate(parts), offsets


def _band(at: np.ndarray, low: float, high: float, texel: float) -> np.ndarray:
    """Return how much of each texel centred ``at`` lies in ``[low, high]``."""
    return np.clip((np.minimum(at + texel / 2, high) - np.maximum(at - texel / 2, low)) / texel, 0, 1)


def ground(
    rng: np.random.Generator, plan: RoadPlan, *, size: tuple[int, int], extent_m: float, night: bool
) -> np.ndarray:
    """Paint one period of the ground, [V along, U across], as luminance 0..255 by daylight.

    Across spans ``-extent_m..extent_m``; along spans one period with the crossing street at its start.
    """
    num_v, num_u = size
    texel_u, texel_v = 2 * extent_m / num_u, plan.period_m / num_v
    across = ((np.arange(num_u) + 0.5) * texel_u - extent_m)[None, :]
    side = np.abs(across)
    along = ((np.arange(num_v) + 0.5) * texel_v)[:, None]
    to_cross = np.minimum(along, plan.period_m - along)
    coarse, fine = noise(rng, size, 8, fall=0.8), noise(rng, size, 3, fall=1.0)
    asphalt = rng.uniform(45, 75) * (1 + 0.05 * coarse + rng.uniform(0.03, 0.07) * fine)
    pavement = rng.uniform(70, 130) * (1 + 0.06 * coarse + 0.07 * fine)
    slab = rng.uniform(0.8, 1.6)
    joint = np.maximum(_band((along % slab) - slab / 2, -0.02, 0.02, texel_v), _band(side % slab, 0.0, 0.05, texel_u))
    pavement *= 1 - 0.18 * joint
    verge = rng.uniform(35, 95) * (1 + 0.15 * coarse + 0.14 * fine)
    for _ in range(int(rng.integers(3, 10))):  # patches of newer asphalt and joints across the lanes
        v, u = rng.uniform(0, plan.period_m), rng.uniform(-plan.kerb_m, plan.kerb_m)
        patch = _band(along, v, v + rng.uniform(0.3, 8), texel_v) * _band(across, u, u + rng.uniform(0.4, 3), texel_u)
        asphalt *= 1 + rng.uniform(-0.22, 0.12) * patch
    for _ in range(int(rng.integers(2, 7))):  # manhole covers
        v, u = rng.uniform(0, plan.period_m), rng.uniform(-plan.half_m, plan.half_m)
        asphalt *= 1 - 0.4 * (np.hypot(along - v, across - u) < 0.33)
    if plan.cross_m:
        road = np.maximum((side < plan.kerb_m).astype(np.float32), to_cross < plan.cross_m)
        paved = np.maximum(side < plan.pave_end_m, to_cross < plan.cross_m + plan.pave_m)
        kerb = np.maximum(
            _band(side, plan.kerb_m, plan.kerb_m + 0.18, texel_u) * (to_cross > plan.cross_m),
            _band(to_cross, plan.cross_m, plan.cross_m + 0.18, texel_v) * (side > plan.kerb_m),
        )
    else:
        road = _band(side, 0, plan.kerb_m, texel_u) + 0 * along
        paved = (side < plan.pave_end_m) + 0 * along
        kerb = _band(side, plan.kerb_m, plan.kerb_m + 0.18, texel_u) + 0 * along
    lum = verge + paved * (pavement - verge)
    lum += road * (asphalt - lum)
    lum += kerb * (rng.uniform(100, 160) - lum)
    paint = rng.uniform(140, 210)
    free = (to_cross > plan.cross_m + 4.5) if plan.cross_m else np.ones_like(along)
    dash = float(plan.period_m / rng.integers(7, 12))
    marks = np.zeros(size, np.float32)
    for lane in range(plan.lanes):
        solid = lane == 0 and rng.random() < 0.5
        line = _band(side, lane * plan.lane_m - 0.07, lane * plan.lane_m + 0.07, texel_u)
        marks += line * free * (1.0 if solid else _band(along % dash, 0, 0.4 * dash, texel_v))
    if rng.random() < 0.7:
        marks += _band(side, plan.half_m - 0.28, plan.half_m - 0.14, texel_u) * free
    if plan.cross_m:
        first, stop = plan.cross_m + 0.6, plan.cross_m + 3.4
        stripes = _band(across % 1.0, 0.0, 0.5, texel_u) * (side < plan.half_m)
        marks += stripes * _band(to_cross, first, stop, texel_v) * (rng.random() < 0.75)
        marks += _band(to_cross, stop + 0.7, stop + 1.1, texel_v) * (side < plan.half_m)
        marks += _band(to_cross, -0.07, 0.07, texel_v) * (side > plan.kerb_m + 2) * (along % 6 < 9)
    marks = np.clip(marks, 0, 1) * (0.85 + 0.08 * fine)
    lum += np.clip(marks, 0, 1) * (paint - lum)
    if night:
        pools = np.zeros(size, np.float32)
        spacing = plan.period_m / 3
        for post in range(3):
            reach = np.abs((along - spacing * post + plan.period_m / 2) % plan.period_m - plan.period_m / 2)
            pools += 1 / (1 + (reach**2 + (side - plan.kerb_m) ** 2) / rng.uniform(25, 60))
        lum = lum * (rng.uniform(0.02, 0.06) + rng.uniform(0.06, 0.2) * pools)
    elif rng.random() < 0.6:  # the houses' shadow along one side
        edge = rng.uniform(0, plan.pave_end_m) + 1.5 * np.sign(noise(rng, (num_v // 64, 2), 2)).repeat(64, 0)[:, :1]
        sign = rng.choice([-1.0, 1.0])
        lum *= 1 - rng.uniform(0.3, 0.5) * np.clip((sign * across - edge) / 0.5, 0, 1)
    return np.clip(lum, 0.3, 255).astype(np.float32)


def facade(rng: np.random.Generator, *, night: bool, texel_m: float) -> np.ndarray:
    """Paint one facade tile [V up, U along] with storeys and windows, as luminance."""
    n = WALL_TEXELS
    wall = rng.uniform(45, 150) * (1 + 0.06 * noise(rng, (n, n), 6) + 0.06 * noise(rng, (n, n), 2))
    at = (np.arange(n) + 0.5) * texel_m
    storeys, bays = int(rng.choice([4, 4, 5])), int(rng.integers(3, 7))
    high, wide = n * texel_m / storeys, n * texel_m / bays
    sill, head = rng.uniform(0.2, 0.35) * high, rng.uniform(0.7, 0.85) * high
    jamb = rng.uniform(0.18, 0.32) * wide
    frame = rng.uniform(0.7, 1.5)
    dark, lit = rng.uniform(12, 45), rng.random((storeys, bays)) < 0.3
    lum = wall * (1 + rng.uniform(-0.2, 0.25) * _band(at % high, 0.0, 0.25, texel_m)[:, None])
    glow = np.zeros((n, n), np.float32)
    for i in range(storeys):
        rows = _band(at - i * high, sill, head, texel_m)[:, None]
        rim_rows = _band(at - i * high, sill - 0.12, head + 0.12, texel_m)[:, None]
        for j in range(bays):
            cols = _band(at - j * wide, jamb, wide - jamb, texel_m)[None, :]
            rim = rim_rows * _band(at - j * wide, jamb - 0.12, wide - jamb + 0.12, texel_m)[None, :]
            lum += rim * (np.clip(frame * wall, 10, 200) - lum)
            bar = 1 - 0.6 * _band(at - (j + 0.5) * wide, -0.04, 0.04, texel_m)[None, :]
            lum += rows * cols * bar * (dark * rng.uniform(0.7, 2.2) - lum)
            glow += rows * cols * bar * (rng.uniform(8, 60) if lit[i, j] else 0.0)
    if night:
        lum = lum * rng.uniform(0.015, 0.05) + glow
    return np.clip(lum, 0.3, 230).astype(np.float32)

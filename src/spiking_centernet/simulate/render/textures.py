"""Seeded textures as rip-maps: every texture is stored halved along each axis alone and both together."""

from dataclasses import dataclass

import numpy as np

from spiking_centernet.utils.compile_cache import compiled

WALL_TEXELS = 256
"""Side of a facade tile in texels."""

STRIP_ROWS = 32
"""The ground is painted this many rows at a time."""


@dataclass(frozen=True)
class RoadPlan:
    """The cross-section of the street, in meters from its middle, and where streets cross it.

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


@compiled()
def _add_octave(total, grid, row_cells, row_weight, col_cells, col_weight, strength):
    """Blend ``grid`` between its cells and add it to ``total`` [rows, columns], all float32."""
    one = np.float32(1)
    mixed = np.empty(grid.shape[1], np.float32)
    for row in range(total.shape[0]):
        above, below, w = row_cells[0, row], row_cells[1, row], row_weight[row]
        for col in range(grid.shape[1]):
            mixed[col] = grid[above, col] * (one - w) + grid[below, col] * w
        for col in range(total.shape[1]):
            w = col_weight[col]
            total[row, col] += strength * (mixed[col_cells[0, col]] * (one - w) + mixed[col_cells[1, col]] * w)


def _cells(size: int, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Return, for ``size`` texels around ``num`` cells, both neighbors [2, size] and the second one's weight."""
    at = (np.arange(size) + 0.5) * num / size - 0.5
    low = np.floor(at).astype(int)
    w = (at - low).astype(np.float32)
    return np.stack([low % num, (low + 1) % num]), w * w * (3 - 2 * w)


def noise(rng: np.random.Generator, shape: tuple[int, int], octaves: int, *, fall: float = 0.75) -> np.ndarray:
    """Return smooth periodic noise [rows, columns] with mean 0 and standard deviation 1, coarse octaves strongest."""
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        cell = 2 ** (octaves - 1 - octave)
        rows, cols = max(2, shape[0] // cell), max(2, shape[1] // cell)
        grid = rng.standard_normal((rows, cols)).astype(np.float32)
        _add_octave(total, grid, *_cells(shape[0], rows), *_cells(shape[1], cols), np.float32(fall**octave))
    total -= total.mean()
    total /= max(float(total.std()), 1e-6)
    return total


def ripmap(texture: np.ndarray) -> np.ndarray:
    """Return all halvings of ``texture`` [V, U] end to end, float32, along each axis down to four texels.

    The one with ``U_i`` by ``V_j`` texels starts at 2 (U - U_i) (2 V - 4) + 2 U_i (V - V_j).
    """
    num_v, num_u = texture.shape
    parts = []
    along_u = texture.astype(np.float32)
    for _ in range(int(np.log2(num_u)) - 1):
        both = along_u
        for _ in range(int(np.log2(num_v)) - 1):
            parts.append(both.ravel())
            both = 0.5 * (both[0::2] + both[1::2])
        along_u = 0.5 * (along_u[:, 0::2] + along_u[:, 1::2])
    return np.concatenate(parts)


def _band(at: np.ndarray, low: float, high: float, texel: float) -> np.ndarray:
    """Return how much of each texel centered ``at`` lies in ``[low, high]``."""
    return np.clip((np.minimum(at + texel / 2, high) - np.maximum(at - texel / 2, low)) / texel, 0, 1)


def _touched(cover: np.ndarray) -> slice:
    """Return the texels from the first to the last covered one."""
    found = np.flatnonzero(cover)
    return slice(found[0], found[-1] + 1) if len(found) else slice(0, 0)


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

    def between(v0: float, v1: float, u0: float, u1: float) -> tuple[slice, slice]:
        """Return the texels that a rectangle in meters touches, or a few more."""
        rows, cols = np.searchsorted(along[:, 0], (v0 - texel_v, v1)), np.searchsorted(across[0], (u0 - texel_u, u1))
        return slice(rows[0], rows[1] + 1), slice(cols[0], cols[1] + 1)

    coarse, fine = noise(rng, size, 8, fall=0.8), noise(rng, size, 3, fall=1.0)
    asphalt = rng.uniform(45, 75) * (1 + 0.05 * coarse + rng.uniform(0.03, 0.07) * fine)
    pavement_lum = rng.uniform(70, 130)
    slab = rng.uniform(0.8, 1.6)
    joint_along = _band((along % slab) - slab / 2, -0.02, 0.02, texel_v)
    joint_across = _band(side % slab, 0.0, 0.05, texel_u)
    verge_lum = rng.uniform(35, 95)
    for _ in range(int(rng.integers(3, 10))):  # patches of newer asphalt and joints across the lanes
        v, u = rng.uniform(0, plan.period_m), rng.uniform(-plan.kerb_m, plan.kerb_m)
        v1, u1 = v + rng.uniform(0.3, 8), u + rng.uniform(0.4, 3)
        rows, cols = at = between(v, v1, u, u1)
        patch = _band(along[rows], v, v1, texel_v) * _band(across[:, cols], u, u1, texel_u)
        asphalt[at] *= 1 + rng.uniform(-0.22, 0.12) * patch
    for _ in range(int(rng.integers(2, 7))):  # manhole covers
        v, u = rng.uniform(0, plan.period_m), rng.uniform(-plan.half_m, plan.half_m)
        rows, cols = at = between(v - 0.33, v + 0.33, u - 0.33, u + 0.33)
        asphalt[at] *= 1 - 0.4 * (np.hypot(along[rows] - v, across[:, cols] - u) < 0.33)
    kerb_lum, paint = rng.uniform(100, 160), rng.uniform(140, 210)
    free = (to_cross > plan.cross_m + 4.5) if plan.cross_m else np.ones_like(along)
    dash = float(plan.period_m / rng.integers(7, 12))
    lines = []
    for lane in range(plan.lanes):
        solid = lane == 0 and rng.random() < 0.5
        line = _band(side, lane * plan.lane_m - 0.07, lane * plan.lane_m + 0.07, texel_u)
        lines.append((line, free * (1.0 if solid else _band(along % dash, 0, 0.4 * dash, texel_v))))
    if rng.random() < 0.7:
        lines.append((_band(side, plan.half_m - 0.28, plan.half_m - 0.14, texel_u), free))
    if plan.cross_m:
        first, stop = plan.cross_m + 0.6, plan.cross_m + 3.4
        on_road = side < plan.half_m
        stripes = _band(across % 1.0, 0.0, 0.5, texel_u) * on_road * float(rng.random() < 0.75)
        lines.append((stripes, _band(to_cross, first, stop, texel_v)))
        lines.append((on_road, _band(to_cross, stop + 0.7, stop + 1.1, texel_v)))
        lines.append((side > plan.kerb_m + 2, _band(to_cross, -0.07, 0.07, texel_v)))
    pools, shade = [], None
    night_lum = (0.0, 0.0)
    if night:
        for post in range(3):
            spacing = plan.period_m / 3
            reach = np.abs((along - spacing * post + plan.period_m / 2) % plan.period_m - plan.period_m / 2)
            pools.append((reach**2, rng.uniform(25, 60)))
        night_lum = rng.uniform(0.02, 0.06), rng.uniform(0.06, 0.2)
    elif rng.random() < 0.6:  # the houses' shadow along one side
        edge = rng.uniform(0, plan.pave_end_m) + 1.5 * np.sign(noise(rng, (num_v // 64, 2), 2)).repeat(64, 0)[:, :1]
        shade = edge, rng.choice([-1.0, 1.0]), rng.uniform(0.3, 0.5)

    def paint_rows(rows: slice) -> np.ndarray:
        grain, grit, far = coarse[rows], fine[rows], to_cross[rows]
        pavement = pavement_lum * (1 + 0.06 * grain + 0.07 * grit)
        pavement *= 1 - 0.18 * np.maximum(joint_along[rows], joint_across)
        verge = verge_lum * (1 + 0.15 * grain + 0.14 * grit)
        if plan.cross_m:
            road = np.maximum((side < plan.kerb_m).astype(np.float32), far < plan.cross_m)
            paved = np.maximum(side < plan.pave_end_m, far < plan.cross_m + plan.pave_m)
            kerb = np.maximum(
                _band(side, plan.kerb_m, plan.kerb_m + 0.18, texel_u) * (far > plan.cross_m),
                _band(far, plan.cross_m, plan.cross_m + 0.18, texel_v) * (side > plan.kerb_m),
            )
        else:
            road = _band(side, 0, plan.kerb_m, texel_u)
            paved = (side < plan.pave_end_m).astype(float)
            kerb = _band(side, plan.kerb_m, plan.kerb_m + 0.18, texel_u)
        lum = verge + paved * (pavement - verge)
        lum += road * (asphalt[rows] - lum)
        lum += kerb * (kerb_lum - lum)
        marks = np.zeros(lum.shape, np.float32)
        for over, on in lines:
            if on[rows].any():
                marks += over * on[rows]
        marks = np.clip(marks, 0, 1) * (0.85 + 0.08 * grit)
        lum += np.clip(marks, 0, 1) * (paint - lum)
        if night:
            light = np.zeros(lum.shape, np.float32)
            for reach, width in pools:
                light += 1 / (1 + (reach[rows] + (side - plan.kerb_m) ** 2) / width)
            lum *= night_lum[0] + night_lum[1] * light
        elif shade is not None:
            edge, sign, dark = shade
            lum *= 1 - dark * np.clip((sign * across - edge[rows]) / 0.5, 0, 1)
        return np.clip(lum, 0.3, 255).astype(np.float32)

    # A few rows at a time stay in the CPU's cache from the first step to the last.
    return np.concatenate([paint_rows(slice(row, row + STRIP_ROWS)) for row in range(0, num_v, STRIP_ROWS)])


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
    framing = np.clip(frame * wall, 10, 200)
    glow = np.zeros((n, n), np.float32)
    for i in range(storeys):
        rim_rows = _band(at - i * high, sill - 0.12, head + 0.12, texel_m)
        rows = _touched(rim_rows)
        rim_v, pane_v = rim_rows[rows, None], _band(at[rows] - i * high, sill, head, texel_m)[:, None]
        for j in range(bays):
            rim_cols = _band(at - j * wide, jamb - 0.12, wide - jamb + 0.12, texel_m)
            cols = _touched(rim_cols)
            window = lum[rows, cols]
            window += rim_v * rim_cols[cols] * (framing[rows, cols] - window)
            pane = pane_v * _band(at[cols] - j * wide, jamb, wide - jamb, texel_m)
            pane *= 1 - 0.6 * _band(at[cols] - (j + 0.5) * wide, -0.04, 0.04, texel_m)
            window += pane * (dark * rng.uniform(0.7, 2.2) - window)
            glow[rows, cols] += pane * (rng.uniform(8, 60) if lit[i, j] else 0.0)
    if night:
        lum = lum * rng.uniform(0.015, 0.05) + glow
    return np.clip(lum, 0.3, 230).astype(np.float32)

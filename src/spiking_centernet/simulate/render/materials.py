"""Textures of the wide world: nature, buildings, rooms and cloth, drawn from a bank that every clip shares.

Every texture is ``TEXELS`` square, repeats, and has mean 1; what it is multiplied with is the albedo. A texture depends
on its kind and number alone, so a bank filled in any order holds the same. Dead leaves (discs that occlude each other,
their sizes by a power law) and 1/f noise have the spectrum of nature: Lee, Mumford, Huang, "Occlusion Models for
Natural Images", IJCV 2001; Field, "Relations between the statistics of natural images", JOSA A 1987.
"""

import zlib
from collections.abc import Callable
from functools import cache

import numpy as np

from spiking_centernet.simulate.render.surfaces import TEXELS
from spiking_centernet.simulate.render.textures import ripmap
from spiking_centernet.utils.compile_cache import compiled

VARIANTS = 12
"""Textures of each kind in the bank."""


@compiled()
def _leaves(canvas, filled, centers, radii, stretch, turn, values, shading):
    """Drop discs from the nearest on, keeping what is already covered; stops when all is."""
    size = canvas.shape[0]
    left = size * size
    for k in range(len(radii)):
        r, c, s = radii[k], np.cos(turn[k]), np.sin(turn[k])
        reach = int(r) + 1
        cy, cx = int(centers[k, 0]), int(centers[k, 1])
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                u, v = c * dx + s * dy, (c * dy - s * dx) * stretch[k]
                if u * u + v * v > r * r:
                    continue
                y, x = (cy + dy) % size, (cx + dx) % size
                if not filled[y, x]:
                    filled[y, x] = True
                    canvas[y, x] = values[k] * (1.0 + shading * (u + 0.7 * v) / r)
                    left -= 1
        if left == 0:
            return


def _dead_leaves(rng, *, low, high, spread, stretch=(1.0, 1.0), shading=0.0, num=4000):
    canvas, filled = np.ones((TEXELS, TEXELS)), np.zeros((TEXELS, TEXELS), np.bool_)
    share = rng.random(num)
    radii = (low**-2 + share * (high**-2 - low**-2)) ** -0.5  # density r^-3 between the two
    values = np.exp(spread * rng.standard_normal(num))
    _leaves(
        canvas, filled, rng.uniform(0, TEXELS, (num, 2)), radii, rng.uniform(*stretch, num),
        rng.uniform(0, 2 * np.pi, num), values, shading,
    )  # fmt: skip
    return canvas, filled


def _pink(rng, slope=1.0, anisotropy=1.0):
    fy, fx = np.fft.fftfreq(TEXELS)[:, None] * anisotropy, np.fft.rfftfreq(TEXELS)[None, :]
    radius = np.hypot(fy, fx)
    radius[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((TEXELS, TEXELS))) / radius**slope
    field = np.fft.irfft2(spectrum, s=(TEXELS, TEXELS))
    return field / field.std()


def _grid(period_v, period_u, gap, rng, spread, offset):
    """Return a wall of bricks or tiles: value of each one, joints darker."""
    rows, cols = TEXELS // period_v, TEXELS // period_u
    values = np.exp(spread * rng.standard_normal((rows, cols)))
    v, u = np.arange(TEXELS)[:, None], np.arange(TEXELS)[None, :]
    row = v // period_v % rows
    moved = u + (row % 2) * offset * period_u
    col = (moved // period_u).astype(int) % cols
    joint = (v % period_v < gap) | (moved % period_u < gap)
    return np.where(joint, 0.0, values[row, col]), joint


def _foliage(rng):
    lum, _ = _dead_leaves(
        rng, low=float(rng.uniform(1.5, 4)), high=float(rng.uniform(8, 22)), spread=float(rng.uniform(0.3, 0.7)),
        stretch=(1.0, 3.5), shading=0.35,
    )  # fmt: skip
    return lum * np.exp(0.35 * _pink(rng))


def _canopy(rng):
    """Return how much of a crown covers: leaves at its rim, denser inside, holes throughout."""
    y, x = (np.arange(TEXELS)[:, None] + 0.5) / TEXELS * 2 - 1, (np.arange(TEXELS)[None, :] + 0.5) / TEXELS * 2 - 1
    edge = 1.0 - np.hypot(x, y * rng.uniform(0.9, 1.2))
    leafy, _ = _dead_leaves(rng, low=2.0, high=12.0, spread=1.0, stretch=(1.0, 3.0))
    field = 2.2 * edge - 0.25 + 0.35 * np.log(leafy) + 0.3 * _pink(rng)
    mask = np.clip(field * 4, 0, 1)
    mask[[0, -1]] = mask[:, [0, -1]] = 0
    return mask


def _tree_line(rng):
    """Return how much a row of crowns covers: texel row 0 is the ground, so the top is uneven."""
    v = np.arange(TEXELS)[:, None] / TEXELS
    tops = 0.72 + 0.13 * np.clip(_pink(rng, 1.2)[0], -1.8, 1.8)
    return np.clip((tops[None, :] - v) * 60 + 1.2 * _pink(rng, 0.6), 0, 1) * (v < 0.98)


def _blades(rng):
    return np.exp(0.35 * _pink(rng, 0.6, 0.35) + 0.25 * _pink(rng, 1.2))


def _gravel(rng):
    lum, _ = _dead_leaves(rng, low=1.5, high=float(rng.uniform(4, 10)), spread=0.35, shading=0.3, stretch=(1.0, 1.6))
    return lum


def _discs(rng):
    lum, _ = _dead_leaves(rng, low=2.0, high=float(rng.uniform(40, 110)), spread=float(rng.uniform(0.4, 0.8)))
    return lum


def _cloudy(rng):
    return np.exp(float(rng.uniform(0.15, 0.5)) * _pink(rng, float(rng.uniform(0.9, 1.4))))


def _soft(rng):
    return np.exp(0.12 * _pink(rng, 1.5) + 0.03 * rng.standard_normal((TEXELS, TEXELS)))


def _asphalt(rng):
    lum = np.exp(float(rng.uniform(0.06, 0.16)) * rng.standard_normal((TEXELS, TEXELS)) + 0.1 * _pink(rng, 1.3))
    for _ in range(int(rng.integers(0, 4))):  # cracks wander down the tile
        at = (rng.uniform(0, TEXELS) + np.cumsum(rng.standard_normal(TEXELS))).astype(int) % TEXELS
        lum[np.arange(TEXELS), at] *= 0.6
    return lum


def _brick(rng):
    period = int(rng.choice([8, 16]))
    lum, joint = _grid(period, 2 * period, 1 if period == 8 else 2, rng, 0.18, 0.5)
    return np.where(joint, rng.uniform(0.5, 1.6), lum) * np.exp(0.06 * rng.standard_normal((TEXELS, TEXELS)))


def _tiles(rng):
    period = int(rng.choice([16, 32, 64]))
    lum, joint = _grid(period, int(rng.choice([period, 2 * period])), 1 + period // 32, rng, 0.1, 0.0)
    if rng.random() < 0.3:
        half = (np.arange(TEXELS)[:, None] // period + np.arange(TEXELS)[None, :] // period) % 2
        lum = lum * np.where(half, 1.4, 0.5)
    return np.where(joint, rng.uniform(0.4, 0.9), lum) * np.exp(0.05 * _pink(rng))


def _planks(rng):
    period = int(rng.choice([16, 32]))
    lum, joint = _grid(period, TEXELS // 2, 1, rng, 0.15, 0.37)
    return np.where(joint, 0.5, lum) * np.exp(0.2 * _pink(rng, 1.0, 8.0))


def _stripes(rng):
    period, high = int(rng.choice([8, 16, 32, 64])), float(rng.uniform(1.3, 3.0))
    across = np.arange(TEXELS)[:, None] if rng.random() < 0.6 else np.arange(TEXELS)[None, :]
    return np.where(across % period < rng.uniform(0.3, 0.7) * period, high, 0.6) * np.ones((TEXELS, TEXELS))


def _plaid(rng):
    rows = _stripes(rng)[:, :1] * np.ones((1, TEXELS))
    period = int(rng.choice([16, 32, 64]))
    cols = np.where(np.arange(TEXELS)[None, :] % period < 0.4 * period, 1.8, 0.8)
    return rows * cols * np.exp(0.05 * rng.standard_normal((TEXELS, TEXELS)))


def _print(rng):
    """Return cloth with figures: discs of a few sizes on plain ground."""
    lum, filled = _dead_leaves(
        rng, low=3.0, high=float(rng.uniform(6, 26)), spread=0.8, stretch=(1.0, 2.0), num=int(rng.integers(60, 300))
    )
    return np.where(filled, lum, float(rng.choice([0.5, 1.0, 2.0])))


def _knit(rng):
    return np.exp(0.2 * _pink(rng, 0.8) + 0.1 * np.sin(np.arange(TEXELS) * np.pi / 4)[:, None])


def _page(rng):
    """Return lines of print: words of dark letters on white paper, margins and a picture or two."""
    line = int(rng.choice([8, 16]))
    lum = np.full((TEXELS, TEXELS), 1.0)
    for top in range(2 * line, TEXELS - 2 * line, line):
        ink = (rng.random(TEXELS) < 0.55) & (np.repeat(rng.random(TEXELS // 4) < 0.85, 4))
        ink[: 2 * line] = ink[TEXELS - 2 * line :] = False
        lum[top : top + line // 2] = np.where(ink, 0.2, 1.0)
    if rng.random() < 0.4:
        y, x = rng.integers(20, 120, 2)
        lum[y : y + 90, x : x + 100] = np.exp(0.5 * _pink(rng))[:90, :100] * 0.6
    return lum


def _spines(rng):
    """Return books on shelves: spines of all widths and heights with titles, boards between."""
    lum, tall = np.full((TEXELS, TEXELS), 0.15), TEXELS // int(rng.choice([2, 4]))
    for shelf in range(0, TEXELS, tall):
        u = 0
        while u < TEXELS:
            wide = int(rng.integers(5, 22))
            top = int(tall * rng.uniform(0.55, 0.9))
            shade = float(np.exp(0.8 * rng.standard_normal()))
            if rng.random() > 0.06:
                book = slice(shelf + 4, shelf + 4 + top), slice(u, min(u + wide - 1, TEXELS))
                lum[book] = shade
                at = shelf + 4 + int(top * rng.uniform(0.2, 0.7))
                lum[at : at + int(rng.integers(3, 14)), book[1]] = shade * float(rng.choice([0.3, 2.5]))
            u += wide
        lum[shelf : shelf + 4] = 1.2
    return lum


def _facade(rng):
    """Return storeys of windows in plaster or brick."""
    lum = np.exp(0.08 * _pink(rng)) if rng.random() < 0.6 else _brick(rng)
    rows, cols = (int(rng.choice([2, 4])) for _ in range(2))
    high, wide = TEXELS // rows, TEXELS // cols
    for r in range(rows):
        for c in range(cols):
            v0, v1 = r * high + int(0.3 * high), r * high + int(0.8 * high)
            u0, u1 = c * wide + int(0.25 * wide), c * wide + int(0.75 * wide)
            lum[v0 - 3 : v1 + 3, u0 - 3 : u1 + 3] = rng.uniform(0.6, 1.6)
            lum[v0:v1, u0:u1] = rng.uniform(0.15, 0.6)
            lum[v0:v1, (u0 + u1) // 2 - 1 : (u0 + u1) // 2 + 1] = 1.2
            lum[(v0 + v1) // 2 : (v0 + v1) // 2 + 2, u0:u1] = 1.2
    return lum


def _sign(rng):
    """Return a board: plain ground, a frame, bold figures."""
    lum = np.full((TEXELS, TEXELS), float(rng.choice([0.3, 1.0])))
    ink = 1.3 - lum[0, 0]
    for _ in range(int(rng.integers(2, 9))):
        y, x = rng.integers(20, 200, 2)
        lum[y : y + rng.integers(6, 60), x : x + rng.integers(6, 120)] = ink
    lum[:10] = lum[-10:] = lum[:, :10] = lum[:, -10:] = ink
    return lum


def _pickets(rng):
    period = int(rng.choice([16, 32]))
    bars = (np.arange(TEXELS) % period < period * rng.uniform(0.15, 0.6))[None, :] * np.ones((TEXELS, 1))
    for rail in (0.15, 0.8):
        bars[int(rail * TEXELS) : int((rail + rng.uniform(0.03, 0.1)) * TEXELS)] = 1
    return bars


def _mesh(rng):
    period = int(rng.choice([8, 16]))
    v, u = np.arange(TEXELS)[:, None], np.arange(TEXELS)[None, :]
    return (((u + v) % period < 2) | ((u - v) % period < 2)).astype(float)


def _wheel(rng):
    """Return how much a wheel with spokes covers: tyre, spokes, hub; open between."""
    y, x = np.arange(TEXELS)[:, None] + 0.5 - TEXELS / 2, np.arange(TEXELS)[None, :] + 0.5 - TEXELS / 2
    radius, angle = np.hypot(x, y) / (TEXELS / 2), np.arctan2(y, x)
    spokes = int(rng.choice([5, 8, 12, 18]))
    width = rng.uniform(0.02, 0.05)
    spoke = np.abs((angle * spokes / (2 * np.pi)) % 1 - 0.5) * 2 * np.pi / spokes * radius < width
    return np.clip((((radius > 0.84) | spoke | (radius < 0.12)) & (radius < 0.98)).astype(float), 0, 1)


def _rim(rng):
    """Return a car's wheel: dark tyre, bright rim, dark gaps between its spokes."""
    y, x = np.arange(TEXELS)[:, None] + 0.5 - TEXELS / 2, np.arange(TEXELS)[None, :] + 0.5 - TEXELS / 2
    radius, angle = np.hypot(x, y) / (TEXELS / 2), np.arctan2(y, x)
    spokes = int(rng.choice([4, 5, 6, 7, 10]))
    gap = (np.cos(angle * spokes) > rng.uniform(-0.3, 0.5)) & (radius > 0.18) & (radius < 0.6)
    return np.where(radius > 0.68, 0.25, np.where(gap, 0.3, 2.0))


_KINDS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "foliage": _foliage, "grass": _blades, "gravel": _gravel, "discs": _discs, "cloudy": _cloudy, "soft": _soft,
    "asphalt": _asphalt, "brick": _brick, "tiles": _tiles, "planks": _planks, "stripes": _stripes, "plaid": _plaid,
    "print": _print, "knit": _knit, "page": _page, "spines": _spines, "facade": _facade, "sign": _sign, "rim": _rim,
}  # fmt: skip
_CUTOUTS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "canopy": _canopy, "tree_line": _tree_line, "pickets": _pickets, "mesh": _mesh, "wheel": _wheel,
}  # fmt: skip
KINDS = tuple(_KINDS) + tuple(_CUTOUTS)
"""The textures there are; the last five say how much of what is behind is covered."""


@cache
def texture(kind: str, variant: int) -> np.ndarray:
    """Return one texture of the bank as a rip-map (see ``textures.ripmap``), float32."""
    rng = np.random.default_rng(np.random.SeedSequence(variant, spawn_key=(zlib.crc32(kind.encode()),)))
    if kind in _CUTOUTS:
        return ripmap(np.clip(_CUTOUTS[kind](rng), 0, 1).astype(np.float32))
    painted = np.maximum(_KINDS[kind](rng), 0.02)
    return ripmap((painted / painted.mean()).astype(np.float32))

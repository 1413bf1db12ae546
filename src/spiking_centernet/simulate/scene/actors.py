"""Shapes of the actors: cars as extruded side profiles, walking figures, houses, trees and poles, all as primitives."""

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from spiking_centernet.simulate.render.raster import BLOB, CAPSULE, POLYGON, WALL
from spiking_centernet.utils.compile_cache import compiled


@dataclass
class Pool:
    """Growing lists of primitives; ``freeze`` turns them into the arrays that the kernels read."""

    kinds: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    albedo: list[float] = field(default_factory=list)
    emit: list[float] = field(default_factory=list)
    size: list[tuple[float, float]] = field(default_factory=list)
    verts: list[tuple[float, float, float]] = field(default_factory=list)

    def add(self, kind: int, points, albedo: float, *, emit: float = 0.0, size: tuple[float, float] = (0.0, 0.0)):
        """Append one primitive of ``points`` (x, y, z in meters) with a daylight luminance ``albedo``."""
        self.kinds.append(kind)
        self.starts.append(len(self.verts))
        self.counts.append(len(points))
        self.albedo.append(albedo)
        self.emit.append(emit)
        self.size.append(size)
        self.verts.extend((float(x), float(y), float(z)) for x, y, z in points)

    def __len__(self) -> int:
        return len(self.kinds)

    def freeze(self) -> tuple[np.ndarray, ...]:
        """Return kinds, starts, counts, albedo, emit, size [P, 2], vertices [V, 3] and outward normals [P, 3]."""
        starts, counts = np.array(self.starts, np.int64), np.array(self.counts, np.int64)
        verts = np.array(self.verts, np.float64).reshape(-1, 3)
        return (
            np.array(self.kinds, np.int64),
            starts,
            counts,
            np.array(self.albedo, np.float64),
            np.array(self.emit, np.float64),
            np.array(self.size, np.float64).reshape(-1, 2),
            verts,
            _normals(starts, counts, verts),
        )


@dataclass(frozen=True)
class Shape:
    """A span of primitives in the pool with its footprint: length, width and height in meters."""

    first: int
    last: int
    length_m: float
    width_m: float
    height_m: float


@compiled(error_model="numpy")
def put(verts, at, x, y, z):
    """Write one vertex; a whole row at once would be checked for its shape, which takes seconds to compile."""
    verts[at, 0], verts[at, 1], verts[at, 2] = x, y, z


@compiled()
def _normals(starts, counts, verts):
    """Return the unit normal of each primitive, by Newell's sum, which also serves concave outlines; 0 without area."""
    normals = np.zeros((len(starts), 3))
    for prim in range(len(starts)):
        for i in range(counts[prim]):
            p, q = verts[starts[prim] + i], verts[starts[prim] + (i + 1) % counts[prim]]
            normals[prim, 0] += (p[1] - q[1]) * (p[2] + q[2])
            normals[prim, 1] += (p[2] - q[2]) * (p[0] + q[0])
            normals[prim, 2] += (p[0] - q[0]) * (p[1] + q[1])
        x, y, z = normals[prim, 0], normals[prim, 1], normals[prim, 2]
        length = math.sqrt(x * x + y * y + z * z) + 1e-12
        put(normals, prim, x / length, y / length, z / length)
    return normals


# Side profiles, as fractions of length (0 rear .. 1 front) and height (0 ground .. 1 roof), rear bumper over the roof
# to the front bumper; "belt" is the height of the window line, "cabin" the four corners of the glasshouse.
_BODIES = {
    "hatchback": {
        "size": ((3.6, 4.3), (1.65, 1.8), (1.42, 1.58)), "belt": 0.60,
        "body": [(0.0, 0.24), (0.0, 0.45), (0.015, 0.60), (0.70, 0.60), (0.95, 0.50), (1.0, 0.42), (1.0, 0.20)],
        "cabin": [(0.015, 0.60), (0.10, 0.96), (0.50, 1.0), (0.72, 0.60)],
    },
    "saloon": {
        "size": ((4.3, 4.9), (1.72, 1.88), (1.38, 1.5)), "belt": 0.62,
        "body": [(0.0, 0.26), (0.0, 0.58), (0.03, 0.66), (0.17, 0.66), (0.72, 0.62), (0.96, 0.52),
                 (1.0, 0.42), (1.0, 0.2)],
        "cabin": [(0.13, 0.655), (0.29, 0.97), (0.52, 1.0), (0.73, 0.62)],
    },
    "suv": {
        "size": ((4.2, 4.9), (1.8, 1.98), (1.6, 1.82)), "belt": 0.62,
        "body": [(0.0, 0.26), (0.0, 0.5), (0.01, 0.62), (0.72, 0.62), (0.97, 0.56), (1.0, 0.46), (1.0, 0.22)],
        "cabin": [(0.01, 0.62), (0.06, 0.95), (0.55, 1.0), (0.73, 0.62)],
    },
    "van": {
        "size": ((4.6, 5.9), (1.85, 2.05), (1.9, 2.5)), "belt": 0.52,
        "body": [(0.0, 0.17), (0.0, 0.52), (0.84, 0.52), (0.97, 0.40), (1.0, 0.32), (1.0, 0.14)],
        "cabin": [(0.0, 0.52), (0.015, 0.97), (0.70, 1.0), (0.85, 0.52)],
    },
    "truck": {
        "size": ((6.5, 9.0), (2.2, 2.5), (2.8, 3.5)), "belt": 0.45,
        "body": [(0.0, 0.22), (0.0, 0.30), (0.79, 0.30), (0.79, 0.45), (0.99, 0.45), (1.0, 0.40),
                 (1.0, 0.12), (0.79, 0.15)],
        "cabin": [(0.79, 0.45), (0.79, 0.76), (0.93, 0.78), (0.99, 0.45)],
    },
}  # fmt: skip
CAR_KINDS = tuple(_BODIES)
"""The car shapes there are."""


def add_car(rng: np.random.Generator, pool: Pool, kind: str) -> Shape:
    """Append one car heading along +x, its middle at the origin; near details come first, the far side last."""
    plan = _BODIES[kind]
    length, width, height = (float(rng.uniform(*span)) for span in plan["size"])
    paint = float(
        rng.choice([14, 22, 35, 60, 90, 130, 170, 210, 235], p=[0.12, 0.1, 0.1, 0.1, 0.12, 0.1, 0.12, 0.12, 0.12])
    )
    paint *= rng.uniform(0.85, 1.1)
    glass, rubber = float(rng.uniform(12, 34)), float(rng.uniform(8, 16))
    hub = float(rng.uniform(60, 150))
    half, first = width / 2, len(pool)
    roof = half * (0.97 if kind == "truck" else 0.93 if kind == "van" else rng.uniform(0.74, 0.84))
    belt = plan["belt"]

    def at(point: tuple[float, float], y: float) -> tuple[float, float, float]:
        return ((point[0] - 0.5) * length, y, point[1] * height)

    def half_at(z: float) -> float:
        return half - (half - roof) * min(max((z - belt) / (1 - belt), 0.0), 1.0)

    def side(points, albedo: float, lift: float = 0.0, emit: float = 0.0):
        for sign in (1, -1):  # counter-clockwise seen from outside, so that the back face is dropped
            ring = [at(p, sign * (half_at(p[1]) + lift)) for p in points]
            pool.add(POLYGON, ring if sign > 0 else ring[::-1], albedo, emit=emit)

    def across(p, q, albedo: float, emit: float = 0.0, inner: float = 1.0, shift: float = 0.0):
        ph, qh = half_at(p[1]) * inner, half_at(q[1]) * inner
        pool.add(
            POLYGON, [at(p, ph + shift), at(p, -ph + shift), at(q, -qh + shift), at(q, qh + shift)], albedo, emit=emit
        )

    def wheel(x: float, radius: float, near: bool):
        ring = [(x + radius * math.cos(a), radius + radius * math.sin(a)) for a in np.arange(14) * (2 * math.pi / 14)]
        for scale, lum in ((0.55, hub), (1.0, rubber)) if near else ((1.0, rubber),):
            for sign in (1, -1):
                y = sign * (half + 0.01) if near else sign * (half - 0.2)
                turn = ring[::-1] if sign > 0 else ring
                if not near:
                    turn = turn[::-1]
                pool.add(POLYGON, [(x + (u - x) * scale, y, radius + (w - radius) * scale) for u, w in turn], lum)

    radius = 0.155 * width if kind != "truck" else 0.19 * width
    axles = (0.19, 0.81) if kind != "truck" else (0.22, 0.9)
    for axle in axles:
        wheel((axle - 0.5) * length, radius, True)
    rear, front = plan["body"][:2], plan["body"][-2:]
    cabin = plan["cabin"]
    # Lamps and plates on the ends.
    z0, z1 = front[1][1], front[0][1]
    low, high = z0 + 0.62 * (z1 - z0), z0 + 0.95 * (z1 - z0)
    for shift in (0.66 * half, -0.66 * half):
        across((1.002, high), (1.002, low), 190.0, emit=float(rng.uniform(160, 255)), inner=0.26, shift=shift)
    across((1.002, z0 + 0.5 * (z1 - z0)), (1.002, z0 + 0.12 * (z1 - z0)), 0.3 * paint, inner=0.55)
    z0, z1 = rear[0][1], rear[1][1]
    low, high = z0 + 0.6 * (z1 - z0), z0 + 0.98 * (z1 - z0)
    for shift in (0.74 * half, -0.74 * half):
        across((-0.002, low), (-0.002, high), 45.0, emit=70.0, inner=0.22, shift=shift)
    across((-0.002, z0 + 0.3 * (z1 - z0)), (-0.002, z0 + 0.55 * (z1 - z0)), 150.0, inner=0.3)
    # Side windows between pillars, a door seam and the sill.
    (x0, b0), (x1, t1), (x2, t2), (x3, b3) = cabin
    top, bottom = t1 - 0.05, max(b0, b3) + 0.025

    def on_rear(z):
        return x0 + (x1 - x0) * (z - b0) / (t1 - b0)

    def on_front(z):
        return x3 + (x2 - x3) * (z - b3) / (t2 - b3)

    blind = kind == "van" and rng.random() < 0.6
    cuts = {"hatchback": 2, "saloon": 2, "suv": 3, "van": 3, "truck": 1}[kind]
    for k in range(cuts):
        if blind and k < cuts - 1:
            continue
        w0, w1 = (k + 0.06) / cuts, (k + 0.94) / cuts
        ring = [
            (on_rear(z) + (on_front(z) - on_rear(z)) * (0.04 + 0.92 * w), z)
            for w, z in ((w0, bottom), (w0, top), (w1, top), (w1, bottom))
        ]
        side(ring, glass, lift=0.004)
    if kind != "truck":
        seam = 0.47
        side(
            [(seam, 0.3), (seam, belt - 0.02), (seam + 0.006, belt - 0.02), (seam + 0.006, 0.3)],
            0.4 * paint,
            lift=0.004,
        )
        side([(0.3, 0.17), (0.3, 0.25), (0.7, 0.25), (0.7, 0.17)], 0.45 * paint, lift=0.003)
    # The skin: strips over the profile, then the two sides.
    if kind == "truck":
        box_lum = float(rng.choice([60, 120, 200, 230]))
        box = [(0.0, 0.3), (0.0, 1.0), (0.775, 1.0), (0.775, 0.3)]
        side(box, box_lum)
        for p, q in ((box[0], box[1]), (box[1], box[2]), (box[2], (0.775, 0.78))):
            across(p, q, box_lum)
    glazed = {0, 2} if not blind else {2}
    for k, (p, q) in enumerate(pairwise(cabin)):
        if k in glazed and not (kind == "truck" and k == 0):
            m0 = (p[0] + 0.1 * (q[0] - p[0]), p[1] + 0.1 * (q[1] - p[1]))
            m1 = (p[0] + 0.9 * (q[0] - p[0]), p[1] + 0.9 * (q[1] - p[1]))
            across(m0, m1, glass * 1.2, inner=0.88)
        across(p, q, paint)
    body = plan["body"]
    for p, q in pairwise(body):
        across(p, q, paint)
    side(cabin, paint)
    side(body, paint)
    for axle in axles:
        wheel((axle - 0.5) * length, radius, False)
    across((0.94, 0.3), (0.94, 0.13), 6.0, inner=0.9)
    side([(0.06, 0.13), (0.06, 0.3), (0.94, 0.3), (0.94, 0.13)], 6.0, lift=-0.15)
    across((0.06, 0.13), (0.06, 0.3), 6.0, inner=0.9)
    return Shape(first, len(pool), length, width, height)


def add_pedestrian(rng: np.random.Generator, pool: Pool) -> Shape:
    """Append one walking figure; ``pose_pedestrian`` places its joints for each frame."""
    height = float(rng.uniform(1.5, 1.92) if rng.random() > 0.12 else rng.uniform(1.05, 1.45))
    broad = float(rng.uniform(0.9, 1.25)) * height / 1.75
    shirt, legs = (float(rng.choice([12, 25, 45, 90, 150, 215])) for _ in range(2))
    skin = float(rng.uniform(50, 150))
    sleeve = shirt if rng.random() < 0.7 else skin
    thick = float(rng.choice([1.0, 1.0, 1.3])) * broad
    first = len(pool)
    parts = [
        (shirt * 0.9, 0.055, 0.048), (sleeve * 0.85, 0.048, 0.04),  # near arm
        (skin, 0.105, 0.095),  # head
        (shirt, 0.185 * thick, 0.16 * thick),  # trunk
        (legs * 0.95, 0.09 * thick, 0.07), (legs * 0.85, 0.068, 0.05),  # near leg
        (legs * 0.8, 0.09 * thick, 0.07), (legs * 0.7, 0.068, 0.05),  # far leg
        (shirt * 0.75, 0.055, 0.048), (sleeve * 0.7, 0.048, 0.04),  # far arm
        (float(rng.choice([15, 60, 120])), 0.13, 0.12) if rng.random() < 0.3 else (shirt, 0.05, 0.05),  # bag
    ]  # fmt: skip
    for lum, r0, r1 in parts:
        pool.add(CAPSULE, [(0, 0, 0), (0, 0, 0)], lum, size=(r0 * height / 1.75, r1 * height / 1.75))
    return Shape(first, len(pool), 0.5 * height / 1.75, 0.45 * broad, height)


@compiled()
def pose_pedestrian(verts, start, height_m, phase, swing, near_left):
    """Write the joints of a figure heading along +x, ``phase`` radians into a stride of strength ``swing``."""
    h = height_m
    hip, shoulder = 0.52 * h, 0.81 * h
    bob = 0.012 * h * math.cos(2.0 * phase) * swing
    thigh, shin, upper, lower = 0.25 * h, 0.25 * h, 0.17 * h, 0.17 * h
    for arm in range(2):
        near = arm == 0
        y = (0.125 if near == near_left else -0.125) * h
        sign = 1.0 if near == near_left else -1.0
        angle = -0.55 * swing * math.sin(phase) * sign
        ex, ez = upper * math.sin(angle), shoulder - 0.02 * h + bob - upper * math.cos(angle)
        bend = angle + 0.25 + 0.25 * swing
        i = start + (0 if near else 16)
        put(verts, i, 0.0, y, shoulder - 0.02 * h + bob)
        put(verts, i + 1, ex, y * 1.1, ez)
        put(verts, i + 2, ex, y * 1.1, ez)
        put(verts, i + 3, ex + lower * math.sin(bend), y * 1.1, ez - lower * math.cos(bend))
        leg = 0.5 * swing * math.sin(phase) * sign
        lift = 0.9 * swing * max(0.0, math.cos(phase) * sign)
        kx, kz = thigh * math.sin(leg), hip + bob - thigh * math.cos(leg)
        i = start + (8 if near else 12)
        y *= 0.45
        put(verts, i, 0.0, y, hip + bob)
        put(verts, i + 1, kx, y, kz)
        put(verts, i + 2, kx, y, kz)
        put(verts, i + 3, kx + shin * math.sin(leg - lift), y, max(kz - shin * math.cos(leg - lift), 0.05))
    put(verts, start + 4, 0.02 * h, 0.0, 0.925 * h + bob)
    put(verts, start + 5, 0.025 * h, 0.0, 0.94 * h + bob)
    put(verts, start + 6, 0.0, 0.0, 0.73 * h + bob)
    put(verts, start + 7, 0.0, 0.0, 0.55 * h + bob)
    put(verts, start + 20, -0.06 * h, 0.0, 0.7 * h + bob)
    put(verts, start + 21, -0.06 * h, 0.0, 0.64 * h + bob)


def add_tree(rng: np.random.Generator, pool: Pool, x: float, y: float) -> Shape:
    """Append a trunk and a crown of leafy balls, dark ones last because they lie behind."""
    first, tall = len(pool), float(rng.uniform(4, 11))
    spread, leaf = tall * rng.uniform(0.16, 0.3), float(rng.uniform(35, 85))
    for k in range(16):
        turn, up = rng.uniform(0, 2 * math.pi), rng.uniform(0.42, 0.98)
        reach = spread * rng.uniform(0.3, 0.9)
        point = (x + reach * math.cos(turn), y + reach * math.sin(turn), tall * up)
        radius = spread * rng.uniform(0.2, 0.5)
        pool.add(BLOB, [point], leaf * (1.3 - 0.04 * k) * rng.uniform(0.8, 1.25), size=(radius, up))
    pool.add(BLOB, [(x, y, 0.7 * tall)], leaf * 0.6, size=(spread * 1.15, 0.2))
    pool.add(CAPSULE, [(x, y, 0), (x, y, 0.6 * tall)], float(rng.uniform(25, 60)), size=(0.16, 0.1))
    return Shape(first, len(pool), 2 * spread, 2 * spread, tall)


def add_pole(rng: np.random.Generator, pool: Pool, x: float, y: float, toward: float, *, lamp: bool) -> Shape:
    """Append a pole, with a lamp reaching ``toward`` the road when ``lamp``."""
    first, tall = len(pool), float(rng.uniform(6, 9) if lamp else rng.uniform(2, 5))
    gray = float(rng.choice([25, 60, 120]))
    if lamp:
        pool.add(
            CAPSULE, [(x + 1.3 * toward, y, tall), (x + 1.7 * toward, y, tall)], 150.0, emit=255.0, size=(0.12, 0.12)
        )
        pool.add(CAPSULE, [(x, y, tall), (x + 1.3 * toward, y, tall)], gray, size=(0.05, 0.05))
    else:
        pool.add(
            POLYGON, [(x - 0.3, y, tall), (x + 0.3, y, tall), (x + 0.3, y, tall - 0.6), (x - 0.3, y, tall - 0.6)], 160.0
        )
    pool.add(CAPSULE, [(x, y, 0), (x, y, tall)], gray, size=(0.09, 0.06))
    return Shape(first, len(pool), 0.4, 0.4, tall)


def add_wall(pool: Pool, p, q, height_m: float, tile: int, *, texel_m: float, shift: float) -> Shape:
    """Append one facade from ``p`` to ``q`` (x, y), seen from the side on which ``p`` lies left of ``q``."""
    points = [(p[0], p[1], 0), (q[0], q[1], 0), (q[0], q[1], height_m), (p[0], p[1], height_m)]
    pool.add(WALL, points, 1.0, emit=shift, size=(texel_m, float(tile)))
    return Shape(len(pool) - 1, len(pool), math.hypot(q[0] - p[0], q[1] - p[1]), 0.0, height_m)

"""Collects the objects of a wide scene as primitives and freezes them into the arrays that the kernels read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from spiking_centernet.simulate.render.materials import VARIANTS, texture
from spiking_centernet.simulate.render.stage import LIMB, POLYGON, THING
from spiking_centernet.simulate.render.surfaces import TEXELS

CAR, PEDESTRIAN, NO_CLASS = 0, 1, -1
"""What an object is labeled as."""

Point = Sequence[float]

STANDING = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
"""The motion of what stays at the origin; see ``stage.travelled``."""


@dataclass(frozen=True)
class Skin:
    """How a surface looks: albedo, texture of the bank, its contrast and its texels per meter.

    Attributes:
        albedo: luminance in full light, 0 to 255.
        kind: texture of ``materials.KINDS``, or None for an even surface.
        variant: number of the texture.
        contrast: factor on how far the texture departs from its mean.
        per_m: texels per meter; 0 stretches one tile over the surface.
        cutout: kind of the texture that says how much is covered, always stretched over the surface, or None.
        shine: share of the light that is mirrored, 0 to 1; polygons without a cut-out only.
    """

    albedo: float
    kind: str | None = None
    variant: int = 0
    contrast: float = 1.0
    per_m: float = 64.0
    cutout: str | None = None
    shine: float = 0.0


def skin(
    rng: np.random.Generator,
    albedo: tuple[float, float],
    kinds: Sequence[str] = (),
    *,
    per_m: tuple[float, float] = (64.0, 64.0),
    contrast: tuple[float, float] = (0.5, 1.2),
    cutout: str | None = None,
) -> Skin:
    """Draw a skin: one of ``kinds`` (none: even), albedo, contrast and scale log-uniform within their ranges."""
    return Skin(
        log_uniform(rng, *albedo),
        str(rng.choice(list(kinds))) if kinds else None,
        int(rng.integers(VARIANTS)),
        float(rng.uniform(*contrast)),
        log_uniform(rng, *per_m) if per_m[0] > 0 else 0.0,
        cutout,
    )


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw from ``[low, high]`` with an even logarithm."""
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


@dataclass
class Body:
    """A figure with joints: see ``bodies.pose_body`` and ``bodies.pose_animal``.

    Attributes:
        thing: number of its object.
        is_animal: whether it goes on four legs.
        settings: height, stride in meters, pelvis height before and after the change of posture (negative: as the legs
            allow), when the change begins and how long it takes.
        swings: [12, 5] for each joint: angle before, angle after, amplitude, harmonic of the gait (negative: hertz),
            phase.
    """

    thing: int
    is_animal: bool
    settings: tuple[float, ...]
    swings: np.ndarray


@dataclass
class Builder:
    """Growing lists of primitives and objects; ``environment`` is the texture that shiny surfaces reflect."""

    kinds: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    look: list[tuple[float, ...]] = field(default_factory=list)
    axes: list[tuple[float, ...]] = field(default_factory=list)
    size: list[tuple[float, float, float]] = field(default_factory=list)
    own_light: list[float] = field(default_factory=list)
    two_sided: list[bool] = field(default_factory=list)
    drift: list[float] = field(default_factory=list)
    verts: list[tuple[float, float, float]] = field(default_factory=list)
    objects: list[tuple[int, int, int, int]] = field(default_factory=list)
    motions: list[tuple[float, ...]] = field(default_factory=list)
    sways: list[tuple[float, float, float]] = field(default_factory=list)
    shadows: list[tuple[float, float, float, float]] = field(default_factory=list)
    swing_m_s: list[float] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)
    bodies: list[Body] = field(default_factory=list)
    textures: dict[tuple[str, int], int] = field(default_factory=dict)
    first: int = 0
    environment: tuple[str, int] = ("cloudy", 0)

    def __post_init__(self):
        self.texture(*self.environment)  # ``surfaces.ENVIRONMENT`` is the first

    def texture(self, kind: str | None, variant: int) -> float:
        """Return the number of a texture in this scene, -1 for none."""
        return -1.0 if kind is None else float(self.textures.setdefault((kind, variant), len(self.textures)))

    def _add(self, kind: int, points: Sequence[Point], anchor: Point, cover: Skin) -> None:
        self.kinds.append(kind)
        self.starts.append(len(self.verts))
        self.counts.append(len(points))
        self.verts.extend((float(x), float(y), float(z)) for x, y, z in (*points, anchor))
        self.look.append(
            (
                cover.albedo, cover.contrast, self.texture(cover.kind, cover.variant),
                self.texture(cover.cutout, cover.variant), cover.shine,
            )
        )  # fmt: skip

    def polygon(
        self,
        points: Sequence[Point],
        cover: Skin,
        *,
        own_light: bool = False,
        two_sided: bool = False,
        wheel_m: float = 0.0,
        drift_m_s: float = 0.0,
    ) -> None:
        """Append a flat convex or concave polygon, counter-clockwise as seen from outside.

        The texture starts at the first point, runs along the first edge, and is stretched once over a rectangle where
        its skin says so. With ``wheel_m``, the radius, the texture is centered and turns as the object rolls.
        """
        corner = np.array(points, np.float64)
        along, last = corner[1] - corner[0], corner[-1] - corner[0]
        long = float(np.linalg.norm(along))
        unit_u = along / long
        unit_v = last - unit_u * (last @ unit_u)
        tall = float(np.linalg.norm(unit_v))
        if tall < 1e-9:  # the last edge runs along the first
            unit_v = corner[2] - corner[0] - unit_u * ((corner[2] - corner[0]) @ unit_u)
            tall = float(np.linalg.norm(unit_v))
        unit_v /= tall
        anchor, per_u, per_v = corner[0], cover.per_m, cover.per_m
        if wheel_m > 0:
            per_u = per_v = TEXELS / (2 * wheel_m)
            anchor = corner.mean(0)  # what turns turns about its hub
        elif cover.per_m == 0 or cover.cutout is not None:
            per_u, per_v = TEXELS / long, TEXELS / tall
        self._add(POLYGON, points, anchor.tolist(), cover)
        self.axes.append((*(unit_u * per_u), *(unit_v * per_v)))
        self.size.append((wheel_m, 0.0, 0.0))
        self.own_light.append(float(own_light))
        self.two_sided.append(two_sided)
        self.drift.append(drift_m_s)

    def limb(self, p: Point, q: Point, r0_m: float, r1_m: float, cover: Skin) -> None:
        """Append a rounded limb between two balls."""
        self._add(LIMB, [p, q], q, cover)
        self.axes.append((0.0,) * 6)
        self.size.append((r0_m, r1_m, cover.per_m))
        self.own_light.append(0.0)
        self.two_sided.append(True)
        self.drift.append(0.0)

    def box(self, low: Point, high: Point, cover: Skin, *, top: Skin | None = None, bottom: bool = False) -> None:
        """Append the outer faces of a box with edges along the axes."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        sides = [((x0, y0), (x1, y0)), ((x1, y0), (x1, y1)), ((x1, y1), (x0, y1)), ((x0, y1), (x0, y0))]
        for (ax, ay), (bx, by) in sides:
            self.polygon([(ax, ay, z0), (bx, by, z0), (bx, by, z1), (ax, ay, z1)], cover)
        self.polygon([(x0, y0, z1), (x1, y0, z1), (x1, y1, z1), (x0, y1, z1)], top or cover)
        if bottom:
            self.polygon([(x0, y0, z0), (x0, y1, z0), (x1, y1, z0), (x1, y0, z0)], cover)

    def close(
        self,
        *,
        motion: Sequence[float] = STANDING,
        layer: int = THING,
        class_id: int = NO_CLASS,
        sort_parts: bool = False,
        sway: tuple[float, float, float] = (0.0, 0.0, 0.0),
        shadow: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0),
        swing_m_s: float = 0.0,
    ) -> int:
        """Make one object of all primitives since the last one; return its number, -1 if there are none.

        Args:
            motion: see ``stage.travelled``; x, y, z and heading come first.
            layer: THING, HANGING, BACKDROP or FLOOR and below.
            class_id: CAR, PEDESTRIAN or NO_CLASS.
            sort_parts: draw its parts by distance instead of in the order given, near details first.
            sway: meters per meter of height, hertz, phase.
            shadow: half length, half width, height, darkness at its foot.
            swing_m_s: how fast its limbs move besides.
        """
        if self.first == len(self.kinds):
            return -1
        self.objects.append((self.first, len(self.kinds), layer, int(sort_parts)))
        self.first = len(self.kinds)
        self.motions.append(tuple(motion))
        self.sways.append(sway)
        self.shadows.append(shadow)
        self.swing_m_s.append(swing_m_s)
        self.classes.append(class_id)
        return len(self.objects) - 1

    def primitives(self) -> tuple[np.ndarray, ...]:
        """Return kinds, starts, counts, look, axes, size, own light, two-sidedness and drift, for ``stage``."""
        return (
            np.array(self.kinds, np.int64), np.array(self.starts, np.int64), np.array(self.counts, np.int64),
            np.array(self.look, np.float64), np.array(self.axes, np.float64), np.array(self.size, np.float64),
            np.array(self.own_light, np.float64), np.array(self.two_sided, np.bool_), np.array(self.drift, np.float64),
        )  # fmt: skip

    def extent(self, first: int, last: int, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the least and greatest coordinates [3] of primitives ``first..last``, limbs with their radii.

        Args:
            first: number of a primitive.
            last: number after the last.
            corners: [V, 3], of all primitives; those of figures with joints are set where they are posed.
        """
        low, high = np.full(3, np.inf), np.full(3, -np.inf)
        for prim in range(first, last):
            points = corners[self.starts[prim] : self.starts[prim] + self.counts[prim]]
            reach = np.zeros(self.counts[prim])
            if self.kinds[prim] == LIMB:
                reach = np.array(self.size[prim][:2])
                if not reach.any():  # what a figure does not wear
                    continue
            low = np.minimum(low, (points - reach[:, None]).min(axis=0))
            high = np.maximum(high, (points + reach[:, None]).max(axis=0))
        return low, high

    def stacked_textures(self) -> np.ndarray:
        """Return the rip-maps of all textures in use, float32 [T, L]."""
        return np.stack([texture(kind, variant) for kind, variant in self.textures])


def moving(x: float, y: float, z: float, heading: float, speed: float = 0.0, start: float = 0.0, ramp: float = 0.0,
           turn_rate: float = 0.0) -> tuple[float, ...]:  # fmt: skip
    """Return a motion for ``stage.travelled``."""
    return (x, y, z, heading, speed, start, ramp, turn_rate)

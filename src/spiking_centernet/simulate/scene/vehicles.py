"""Vehicles of the wide world: cars with dirt, lamps and wheels that turn, trucks, buses, two-wheelers, prams."""

import math
from dataclasses import replace

import numpy as np

from spiking_centernet.simulate.render.materials import VARIANTS
from spiking_centernet.simulate.render.raster import POLYGON
from spiking_centernet.simulate.scene.actors import Pool, add_car
from spiking_centernet.simulate.scene.bodies import add_person
from spiking_centernet.simulate.scene.builder import CAR, NO_CLASS, Builder, Skin, log_uniform, skin

CAR_BODIES = ("hatchback", "saloon", "suv", "van")
"""What is labeled as a car."""

_TURNS = np.arange(14) * (2 * math.pi / 14)

_WHEEL_CORNERS = 14
"""Wheels are the polygons of ``actors.add_car`` with this many corners."""


def add_motor_car(rng: np.random.Generator, build: Builder, motion: tuple[float, ...], *, night: bool) -> int:
    """Append a car, some with a trailer as an object of its own; return the number of the car."""
    kind = str(rng.choice(CAR_BODIES, p=[0.34, 0.28, 0.26, 0.12]))
    car = _add_body(rng, build, motion, kind, night=night, class_id=CAR)
    if rng.random() < 0.06:
        _add_trailer(rng, build, motion)
    return car


def _add_trailer(rng: np.random.Generator, build: Builder, motion: tuple[float, ...]) -> None:
    """Append a trailer or a caravan behind a car; it gets no label."""
    x, y, z, heading, *rest = motion
    half, wide, tall = float(rng.uniform(1.0, 2.6)), float(rng.uniform(0.7, 1.1)), float(rng.uniform(0.9, 2.4))
    rim = Skin(log_uniform(rng, 20, 50), "rim", int(rng.integers(VARIANTS)))
    for side in (-1, 1):
        ring = [(0.3 * math.cos(a), side * (wide + 0.01), 0.3 + 0.3 * math.sin(a)) for a in _TURNS[::-side]]
        build.polygon(ring, rim, wheel_m=0.3)
    cover = skin(rng, (20, 220), ("soft", "planks", "stripes", "sign"), per_m=(60.0, 120.0))
    build.box((-half, -wide, 0.4), (half, wide, tall), cover, bottom=True)
    build.limb((half, 0, 0.45), (half + 0.9, 0, 0.45), 0.04, 0.04, Skin(40.0))
    back = half + 3.1
    behind = (x - back * math.cos(heading), y - back * math.sin(heading), z, heading, *rest)
    build.close(motion=behind, shadow=(half, wide, 0.8 * tall, 0.6))


def _add_body(rng, build: Builder, motion, kind: str, *, night: bool, class_id: int) -> int:
    pool = Pool()
    shape = add_car(rng, pool, kind)
    dirt = skin(rng, (1, 1), ("soft", "cloudy", "soft"), per_m=(40.0, 160.0), contrast=(0.0, 0.9))
    panes = skin(rng, (1, 1), ("cloudy", "foliage", "facade", "discs"), per_m=(60.0, 160.0), contrast=(0.2, 1.6))
    rim = Skin(log_uniform(rng, 20, 60), "rim", int(rng.integers(VARIANTS)))
    polish, panes_shine = float(rng.uniform(0, 0.3)), float(rng.uniform(0.1, 0.6))
    livery = rng.random() < (0.4 if kind in ("van", "truck") else 0.06)
    for prim in range(len(pool)):
        if pool.kinds[prim] != POLYGON:
            continue
        points = pool.verts[pool.starts[prim] : pool.starts[prim] + pool.counts[prim]]
        albedo, emit = pool.albedo[prim], pool.emit[prim]
        if len(points) == _WHEEL_CORNERS:
            corner = np.array(points)
            radius = float(np.ptp(corner[:, 2]) / 2)
            if radius < 0.8 * corner[:, 2].mean():  # the hub; the texture of the whole wheel has one
                continue
            build.polygon(points, rim if albedo > 5 else Skin(albedo), wheel_m=radius)
        elif emit > 0 and night:
            build.polygon(points, Skin(emit), own_light=True)
        elif albedo < 45 and emit == 0:
            build.polygon(points, replace(panes, albedo=albedo, shine=panes_shine))
        elif livery and len(points) >= 6:
            build.polygon(points, Skin(albedo, "sign", dirt.variant, 0.8, 110.0, shine=polish))
        else:
            build.polygon(points, replace(dirt, albedo=albedo, shine=polish))
    return build.close(
        motion=motion, class_id=class_id, shadow=(0.5 * shape.length_m, 0.5 * shape.width_m, 0.8 * shape.height_m, 0.6),
    )  # fmt: skip


def add_truck(rng: np.random.Generator, build: Builder, motion: tuple[float, ...], *, night: bool) -> int:
    """Append a truck or a bus, which get no label."""
    if rng.random() < 0.5:
        return _add_body(rng, build, motion, "truck", night=night, class_id=NO_CLASS)
    long, wide, tall = float(rng.uniform(8, 12)), 2.5, float(rng.uniform(2.9, 3.3))
    paint, glass = (
        skin(rng, (30, 220), ("soft", "stripes", "sign"), per_m=(60.0, 100.0)),
        Skin(float(rng.uniform(12, 40))),
    )
    rim = Skin(log_uniform(rng, 20, 50), "rim", int(rng.integers(VARIANTS)))
    for x in (-0.3 * long, 0.32 * long):
        ring = [(x + 0.5 * math.cos(a), 0.5 + 0.5 * math.sin(a)) for a in _TURNS]
        build.polygon([(u, -wide / 2 - 0.01, v) for u, v in ring], rim, wheel_m=0.5)
        build.polygon([(u, wide / 2 + 0.01, v) for u, v in ring[::-1]], rim, wheel_m=0.5)
    panes = int(rng.integers(4, 8))
    for k in range(panes):
        x0, x1 = (-0.47 + 0.94 * (k + 0.05) / panes) * long, (-0.47 + 0.94 * (k + 0.95) / panes) * long
        low, high = 0.42 * tall, 0.85 * tall
        y = wide / 2 + 0.005
        build.polygon([(x0, -y, low), (x1, -y, low), (x1, -y, high), (x0, -y, high)], glass)
        build.polygon([(x1, y, low), (x0, y, low), (x0, y, high), (x1, y, high)], glass)
    for x, sign in ((long / 2 + 0.005, 1), (-long / 2 - 0.005, -1)):
        y = sign * 0.45 * wide
        build.polygon([(x, -y, 0.4 * tall), (x, y, 0.4 * tall), (x, y, 0.9 * tall), (x, -y, 0.9 * tall)], glass)
    build.box((-long / 2, -wide / 2, 0.35), (long / 2, wide / 2, tall), paint)
    return build.close(motion=motion, shadow=(long / 2, wide / 2, 0.8 * tall, 0.6))


def add_cycle(
    rng: np.random.Generator, build: Builder, motion: tuple[float, ...], *, seconds: float, rider: bool = True
) -> None:
    """Append a bicycle or a motorcycle with its rider, who is no pedestrian, or without."""
    motor = rng.random() < 0.3
    radius, base, paint = (0.31, 1.4, skin(rng, (15, 200))) if motor else (0.34, 1.02, skin(rng, (15, 200)))
    dark = Skin(float(rng.uniform(10, 25)))
    spokes = Skin(float(rng.uniform(15, 60)), None, int(rng.integers(VARIANTS)), cutout="wheel")
    for x in (base / 2, -base / 2):
        corners = [(x - radius, 0, 0), (x + radius, 0, 0), (x + radius, 0, 2 * radius), (x - radius, 0, 2 * radius)]
        build.polygon(
            corners, spokes if not motor else Skin(spokes.albedo, "rim", spokes.variant), two_sided=True, wheel_m=radius
        )
    thick = 0.06 if motor else 0.018
    seat, bar, crank = (-0.2, 0, 0.92), (0.36, 0, 1.0), (0.0, 0, 0.3)
    tubes = [(seat, crank), (crank, (0.33, 0, 0.82)), (seat, (0.33, 0, 0.82)), ((-base / 2, 0, radius), seat),
             ((-base / 2, 0, radius), crank), ((base / 2, 0, radius), bar)]  # fmt: skip
    for p, q in tubes:
        build.limb(p, q, thick, thick, paint)
    build.limb((0.36, -0.28, 1.02), (0.36, 0.28, 1.02), 0.02, 0.02, dark)
    build.limb((-0.3, 0, 0.95), (-0.08, 0, 0.95), 0.06, 0.04, dark)
    if motor:
        build.limb((0.05, 0, 0.75), (0.3, 0, 0.78), 0.17, 0.13, paint)
        build.limb((-0.1, 0, 0.4), (0.2, 0, 0.42), 0.17, 0.17, Skin(50.0))
        build.limb((-0.65, 0, 0.72), (-0.1, 0, 0.78), 0.1, 0.12, dark)
    build.close(motion=motion, sort_parts=True, shadow=(0.8, 0.15, 1.0, 0.4))
    if rider:
        x, y, z, heading, *rest = motion
        seated = (x - 0.15 * math.cos(heading), y - 0.15 * math.sin(heading), z, heading, *rest)
        add_person(
            rng, build, seated, "cycle", seconds=seconds, class_id=NO_CLASS, height_m=float(rng.uniform(1.6, 1.85))
        )


def add_pram(rng: np.random.Generator, build: Builder, motion: tuple[float, ...], *, seconds: float) -> int:
    """Append a pram and the person who pushes it; return the number of the person."""
    x, y, z, heading, *rest = motion
    person = add_person(rng, build, motion, "push", seconds=seconds)
    cloth, dark = skin(rng, (10, 180), ("soft", "stripes", "print"), per_m=(100.0, 300.0)), Skin(25.0)
    build.limb((-0.25, 0, 0.62), (0.2, 0, 0.66), 0.22, 0.24, cloth)
    build.limb((-0.2, 0, 0.9), (-0.5, 0, 1.0), 0.02, 0.02, dark)
    for wheel_x in (-0.3, 0.3):
        for wheel_y in (-0.24, 0.24):
            build.limb((wheel_x, wheel_y, 0.12), (wheel_x, wheel_y, 0.13), 0.12, 0.12, dark)
    ahead = (x + 0.85 * math.cos(heading), y + 0.85 * math.sin(heading), z, heading, *rest)
    build.close(motion=ahead, sort_parts=True, shadow=(0.5, 0.3, 0.8, 0.4))
    return person

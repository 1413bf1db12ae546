"""Places of the wide world: path, street, square, room, desk, thicket, bare ground, stairs; without cars and people.

The camera stands at the origin and looks along +x; +y is to its left.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from spiking_centernet.simulate.render.stage import FLOOR
from spiking_centernet.simulate.scene import things
from spiking_centernet.simulate.scene.builder import Builder, Skin, log_uniform, moving, skin
from spiking_centernet.simulate.scene.vehicles import add_cycle


@dataclass(frozen=True)
class Spot:
    """What a place needs to know of the camera and the light.

    Attributes:
        height_m: of the camera.
        aim_m: distance it looks at.
        slope: half the frame's width over the focal length.
        road: direction of road or path in radians.
        road_y_m: how far left of the aim the road's middle is.
        seconds: length of the clip.
        night: whether it is dark.
    """

    height_m: float
    aim_m: float
    slope: float
    road: float
    road_y_m: float
    seconds: float
    night: bool


@dataclass(frozen=True)
class PlaceKind:
    """A place: what builds it, whether it has a sky, which actors come there and how cameras are held."""

    build: Callable[[np.random.Generator, Builder, Spot], None]
    share: float
    outdoors: bool
    people: float
    cars: float
    mounts: tuple[float, float, float, float, float]


def _ground(build: Builder, cover: Skin, *, reach: float = 300.0, z: float = 0.0, drift: float = 0.0) -> None:
    corners = [(-reach, -reach, z), (reach, -reach, z), (reach, reach, z), (-reach, reach, z)]
    build.polygon(corners, cover, drift_m_s=drift)
    build.close(layer=FLOOR + 3)


def _strip(
    build: Builder, spot: Spot, low: float, high: float, cover: Skin, *, first: float = -250, last: float = 250
) -> None:
    """Append a strip of the ground along the road, from ``low`` to ``high`` meters left of its middle."""
    c, s = math.cos(spot.road), math.sin(spot.road)

    def at(along: float, across: float) -> tuple[float, float, float]:
        return (spot.aim_m + along * c - across * s, spot.road_y_m + along * s + across * c, 0.0)

    build.polygon([at(first, low), at(last, low), at(last, high), at(first, high)], cover)


def _beside(spot: Spot, along: float, across: float) -> tuple[float, float]:
    c, s = math.cos(spot.road), math.sin(spot.road)
    return spot.aim_m + along * c - across * s, spot.road_y_m + along * s + across * c


def _is_free(spot: Spot, x: float, y: float, gap: float = 1.2) -> bool:
    """Return whether something there leaves the view to the aim open."""
    return not (-1.5 < x < 1.1 * spot.aim_m and abs(y) < gap * (0.3 + 0.6 * max(x, 0) / max(spot.aim_m, 1)))


def _scatter(rng: np.random.Generator, spot: Spot, most: int, far_m: float) -> list[tuple[float, float]]:
    """Draw places in sight, most of them next to the line of view."""
    found = []
    for _ in range(int(rng.integers(0, most + 1))):
        x = log_uniform(rng, 1.2, far_m)
        y = float(rng.uniform(-1.3, 1.3)) * (spot.slope * x + 0.5)
        if _is_free(spot, x, y, 0.7):
            found.append((x, y))
    return found


def _clutter(rng: np.random.Generator, build: Builder, spot: Spot, most: int, far_m: float) -> None:
    for x, y in _scatter(rng, spot, most, far_m):
        kind = rng.random()
        if kind < 0.35:
            things.add_box(rng, build, x, y)
        elif kind < 0.65:
            things.add_pole(rng, build, x, y)
        elif kind < 0.8:
            things.add_bench(rng, build, x, y, float(rng.uniform(0, 6.28)))
        else:
            add_cycle(rng, build, moving(x, y, 0, float(rng.uniform(0, 6.28))), seconds=spot.seconds, rider=False)


def _horizon(rng: np.random.Generator, build: Builder, far_m: float, tall: float) -> None:
    """Close the view all around by tree lines or facades."""
    turn, kind = float(rng.uniform(0, 6.28)), rng.random()
    corners = [(far_m * math.cos(turn + k * math.pi / 3), far_m * math.sin(turn + k * math.pi / 3)) for k in range(7)]
    for p, q in pairwise(corners):
        if kind < 0.6:
            things.add_tree_line(rng, build, p, q, tall * float(rng.uniform(0.7, 1.3)))
        else:
            cover = skin(rng, (30, 170), ("facade",), per_m=(18.0, 40.0), contrast=(0.4, 1.1))
            things.add_wall(build, p, q, tall * float(rng.uniform(0.8, 1.5)), cover)


def build_path(rng: np.random.Generator, build: Builder, spot: Spot) -> None:
    """Build a path through a park or a wood."""
    trees, bushes = int(rng.integers(2, 14)), int(rng.integers(0, 12))
    for k in range(trees + bushes):
        side = float(rng.choice([-1, 1]))
        x, y = _beside(spot, float(rng.uniform(-spot.aim_m - 3, 35)), side * float(rng.uniform(1.6, 12)))
        if _is_free(spot, x, y):
            (things.add_tree if k < trees else things.add_bush)(rng, build, x, y)
    if rng.random() < 0.35:
        side = float(rng.choice([-1, 1])) * float(rng.uniform(1.8, 5))
        things.add_fence(
            rng, build, _beside(spot, 4 - spot.aim_m, side), _beside(spot, 40, side), float(rng.uniform(0.7, 1.8))
        )
    _clutter(rng, build, spot, 4, 30)
    if rng.random() < 0.3:
        x = float(rng.uniform(0.8, 2.0))
        y = float(rng.choice([-1, 1])) * spot.slope * x * float(rng.uniform(0.6, 1.1))
        things.add_branches(rng, build, x, y, spot.height_m + float(rng.uniform(-0.2, 0.5)))
    _horizon(rng, build, float(rng.uniform(30, 90)), float(rng.uniform(6, 14)))
    half = float(rng.uniform(0.6, 2.5))
    _strip(
        build,
        spot,
        -half,
        half,
        skin(rng, (40, 150), ("gravel", "asphalt", "tiles", "planks", "cloudy"), per_m=(40.0, 120.0)),
    )
    build.close(layer=FLOOR)
    _ground(
        build, skin(rng, (25, 110), ("grass", "foliage", "gravel", "cloudy"), per_m=(40.0, 120.0), contrast=(0.6, 1.3))
    )


def build_street(rng: np.random.Generator, build: Builder, spot: Spot) -> None:
    """Build a street with pavements and houses."""
    half, pave = float(rng.uniform(3, 7)), float(rng.uniform(1.5, 4))
    c, s = math.cos(spot.road), math.sin(spot.road)
    camera_side = (0 - spot.aim_m) * -s + (0 - spot.road_y_m) * c
    for side in (-1, 1):
        line = side * (half + pave + float(rng.uniform(0.3, 8)))
        if camera_side * side > 0 and abs(camera_side) > abs(line) - 1.0:
            continue  # the camera stands there
        if rng.random() < 0.75:
            along = -60.0
            while along < 90:
                wide = float(rng.uniform(8, 25))
                cover = skin(rng, (35, 180), ("facade", "facade", "brick"), per_m=(25.0, 60.0), contrast=(0.4, 1.1))
                shift = side * float(rng.choice([0, 0, 1.5]))
                if rng.random() < 0.9:
                    p, q = _beside(spot, along, line + shift), _beside(spot, along + wide, line + shift)
                    things.add_wall(build, p, q, float(rng.uniform(4, 16)), cover)
                along += wide
        for _ in range(int(rng.integers(0, 6))):
            x, y = _beside(spot, float(rng.uniform(-25, 40)), side * (half + float(rng.uniform(0.3, 0.9)) * pave))
            if _is_free(spot, x, y):
                kind = rng.random()
                (things.add_pole if kind < 0.5 else things.add_tree if kind < 0.8 else things.add_box)(rng, build, x, y)
    _clutter(rng, build, spot, 3, 25)
    _horizon(rng, build, float(rng.uniform(70, 160)), float(rng.uniform(7, 20)))
    paint = Skin(float(rng.uniform(130, 220)), "soft", 0, 1.0, 60.0)
    for across in (0.0, -half + 0.2, half - 0.2):
        dash = 250.0 if across else float(rng.choice([4.0, 8.0, 250.0]))
        along = -40.0 if dash < 100 else -250.0
        while along < 80:
            _strip(
                build,
                spot,
                across - 0.07,
                across + 0.07,
                paint,
                first=along,
                last=along + 0.45 * dash if dash < 100 else 250,
            )
            along += dash if dash < 100 else 1000
    if rng.random() < 0.3:
        where = float(rng.uniform(-6, 6))
        for k in range(int(half)):
            _strip(build, spot, -half + 2 * k + 0.3, -half + 2 * k + 1.1, paint, first=where, last=where + 3)
    build.close(layer=FLOOR)
    _strip(
        build,
        spot,
        -half,
        half,
        skin(rng, (35, 90), ("asphalt", "gravel", "tiles"), per_m=(40.0, 120.0), contrast=(0.4, 1.1)),
    )
    build.close(layer=FLOOR + 1)
    _strip(
        build,
        spot,
        -half - pave,
        half + pave,
        skin(rng, (60, 150), ("tiles", "asphalt", "cloudy"), per_m=(40.0, 100.0)),
    )
    build.close(layer=FLOOR + 2)
    _ground(build, skin(rng, (30, 110), ("grass", "gravel", "asphalt", "tiles"), per_m=(30.0, 80.0)))


def build_square(rng: np.random.Generator, build: Builder, spot: Spot) -> None:
    """Build an open square, a car park or a yard."""
    _clutter(rng, build, spot, 8, 35)
    for x, y in _scatter(rng, spot, 4, 40):
        things.add_tree(rng, build, x + 4, y)
    _horizon(rng, build, float(rng.uniform(15, 80)), float(rng.uniform(5, 18)))
    if rng.random() < 0.5:
        paint = Skin(float(rng.uniform(130, 220)), "soft", 0, 1.0, 60.0)
        for k in range(int(rng.integers(3, 10))):
            _strip(build, spot, -4 + 2.5 * k, -3.9 + 2.5 * k, paint, first=-3, last=3)
        build.close(layer=FLOOR)
    kinds = ("tiles", "asphalt", "gravel", "brick", "cloudy", "soft")
    _ground(build, skin(rng, (40, 160), kinds, per_m=(30.0, 120.0), contrast=(0.2, 1.2)))


def build_room(rng: np.random.Generator, build: Builder, spot: Spot) -> None:
    """Build a room, a corridor or a hall with furniture."""
    deep = spot.aim_m + float(rng.uniform(0.8, 6))
    left, right = (float(rng.uniform(0.8, 4)) + 0.5 * spot.slope * spot.aim_m for _ in range(2))
    tall = max(float(rng.uniform(2.4, 4)), spot.height_m + 0.5)
    for _ in range(int(rng.integers(0, 4))):
        side = float(rng.choice([-1, 1]))
        x = float(rng.uniform(1.0, deep - 0.4))
        things.add_shelf(rng, build, x, left - 0.25 if side > 0 else -right + 0.25, -side * math.pi / 2)
    if rng.random() < 0.4:
        things.add_shelf(rng, build, deep - 0.25, float(rng.uniform(-right, left)) * 0.7, math.pi)
    for x, y in _scatter(rng, spot, 6, deep - 0.3):
        if -right + 0.5 < y < left - 0.5:
            kind = rng.random()
            if kind < 0.4:
                things.add_table(rng, build, x, y)
            elif kind < 0.7:
                things.add_bench(rng, build, x, y, float(rng.uniform(0, 6.28)))
            else:
                things.add_box(rng, build, x, y)
    plain = skin(
        rng,
        (60, 210),
        ("soft", "soft", "brick", "stripes", "print", "cloudy", "planks"),
        per_m=(30.0, 150.0),
        contrast=(0.1, 0.8),
    )
    corners = [(-4.0, -right), (deep, -right), (deep, left), (-4.0, left), (-4.0, -right)]
    for (x0, y0), (x1, y1) in pairwise(corners):
        for _ in range(int(rng.integers(0, 3))):  # pictures, doors, windows
            at, wide = float(rng.uniform(0.1, 0.8)), float(rng.uniform(0.05, 0.3))
            low = float(rng.choice([0.0, rng.uniform(0.8, 1.4)]))
            p = x0 + (x1 - x0) * at, y0 + (y1 - y0) * at
            q = x0 + (x1 - x0) * (at + wide), y0 + (y1 - y0) * (at + wide)
            inside = ((p[0] * 0.995, p[1] * 0.99), (q[0] * 0.995, q[1] * 0.99))
            cover = skin(
                rng,
                (20, 250),
                ("sign", "cloudy", "discs", "foliage", "planks", "soft", "page"),
                per_m=(0.0, 0.0),
                contrast=(0.2, 1.2),
            )
            things.add_wall(build, *inside, min(tall - 0.2, max(low + 0.4, 2.05)), cover, low=low)
        things.add_wall(build, (x0, y0), (x1, y1), tall, plain)
    roof = skin(rng, (120, 230), ("soft", "tiles"), per_m=(30.0, 60.0), contrast=(0.1, 0.6))
    build.polygon([(-4, -right, tall), (-4, left, tall), (deep, left, tall), (deep, -right, tall)], roof)
    build.close(layer=FLOOR)
    _ground(
        build,
        skin(rng, (40, 170), ("planks", "tiles", "soft", "print", "knit"), per_m=(40.0, 150.0), contrast=(0.1, 1.0)),
        reach=60,
    )


def build_desk(rng: np.random.Generator, build: Builder, spot: Spot) -> None:
    """Build a desk seen from close by, with books, boxes and the sleeves of the one who films."""
    top = spot.height_m - float(rng.uniform(0.25, 0.6))
    for _ in range(int(rng.integers(4, 16))):
        x = float(rng.uniform(0.3, 1.3))
        things.add_books(rng, build, x, float(rng.uniform(-1, 1)) * (spot.slope * x + 0.2), top)
    for _ in range(int(rng.integers(0, 4))):
        things.add_box(rng, build, float(rng.uniform(0.6, 1.5)), float(rng.uniform(-0.8, 0.8)), most_m=0.5, z=top)
    if rng.random() < 0.5:
        things.add_shelf(rng, build, float(rng.uniform(1.7, 2.5)), float(rng.uniform(-0.6, 0.6)), math.pi)
    plain = skin(
        rng, (60, 210), ("soft", "brick", "print", "cloudy", "spines"), per_m=(60.0, 200.0), contrast=(0.1, 1.0)
    )
    things.add_wall(build, (2.8, -8), (2.8, 8), 4.0, plain)
    desk = skin(rng, (40, 200), ("planks", "soft", "cloudy", "knit"), per_m=(80.0, 400.0), contrast=(0.1, 1.0))
    build.polygon([(-1, -1.5, top), (1.6, -1.5, top), (1.6, 1.5, top), (-1, 1.5, top)], desk)
    build.close(layer=FLOOR)
    _ground(build, skin(rng, (40, 150), ("planks", "tiles", "soft"), per_m=(40.0, 150.0)), reach=30)


def build_thicket(rng: np.random.Generator, build: Builder, spot: Spot) -> None:
    """Build leaves near and far, or water with glints."""
    for x, y in _scatter(rng, spot, 16, 15):
        things.add_bush(rng, build, x, y)
    for x, y in _scatter(rng, spot, 5, 25):
        things.add_tree(rng, build, x, y)
    for _ in range(int(rng.integers(0, 4))):
        x = float(rng.uniform(0.7, 2.5))
        y = float(rng.uniform(-1, 1)) * spot.slope * x
        if abs(y) > 0.3:
            things.add_branches(rng, build, x, y, spot.height_m + float(rng.uniform(-0.5, 0.5)))
    _horizon(rng, build, float(rng.uniform(12, 50)), float(rng.uniform(4, 12)))
    if rng.random() < 0.3:
        water = skin(rng, (40, 160), ("cloudy", "discs", "grass"), per_m=(20.0, 80.0), contrast=(0.8, 1.8))
        _ground(build, water, drift=float(rng.normal(0, 0.6)))
    else:
        _ground(build, skin(rng, (25, 110), ("grass", "foliage", "gravel", "discs"), per_m=(40.0, 160.0)))


def build_bare(rng: np.random.Generator, build: Builder, spot: Spot) -> None:
    """Build a bare floor before a bare wall: hardly anything but the actors makes events."""
    far = spot.aim_m + float(rng.uniform(0.5, 10))
    things.add_wall(
        build, (far, -80), (far, 80), 30.0, skin(rng, (60, 220), ("soft",), per_m=(10.0, 40.0), contrast=(0.0, 0.6))
    )
    if rng.random() < 0.5:
        _clutter(rng, build, spot, 2, 12)
    _ground(build, skin(rng, (40, 200), ("soft", "asphalt"), per_m=(20.0, 60.0), contrast=(0.0, 0.5)))


def build_stairs(rng: np.random.Generator, build: Builder, spot: Spot) -> None:
    """Build stairs behind the aim, with rails, before a wall."""
    first, depth, rise = spot.aim_m + 0.8, float(rng.uniform(0.27, 0.4)), float(rng.uniform(0.14, 0.18))
    half, steps = float(rng.uniform(0.8, 4)), int(rng.integers(6, 20))
    tread = skin(rng, (50, 170), ("soft", "gravel", "planks", "tiles"), per_m=(60.0, 150.0))
    riser = Skin(tread.albedo * float(rng.uniform(0.5, 0.9)), tread.kind, tread.variant, tread.contrast, tread.per_m)
    middle = float(rng.uniform(-0.5, 0.5)) * spot.slope * spot.aim_m
    for k in range(steps):
        x, z = first + k * depth, k * rise
        low, high = middle - half, middle + half
        build.polygon([(x, high, z), (x, low, z), (x, low, z + rise), (x, high, z + rise)], riser)
        build.polygon(
            [(x, low, z + rise), (x + depth, low, z + rise), (x + depth, high, z + rise), (x, high, z + rise)], tread
        )
        build.close()
    for side in (-1, 1):
        y = middle + side * half
        build.limb((first, y, 0.9), (first + steps * depth, y, 0.9 + steps * rise), 0.03, 0.03, Skin(60.0))
        for k in range(0, steps, 3):
            build.limb(
                (first + k * depth, y, k * rise), (first + k * depth, y, 0.9 + k * rise), 0.015, 0.015, Skin(60.0)
            )
        build.close(sort_parts=True)
    wall = first + steps * depth
    things.add_wall(
        build,
        (wall, -40),
        (wall, 40),
        20.0,
        skin(rng, (60, 200), ("soft", "brick", "tiles", "facade"), per_m=(30.0, 80.0)),
    )
    _clutter(rng, build, spot, 3, max(2.0, spot.aim_m))
    _ground(build, skin(rng, (40, 160), ("tiles", "soft", "asphalt"), per_m=(30.0, 100.0)))


PLACES: dict[str, PlaceKind] = {
    # mounts: hand, worn, car, drone, fixed
    "path": PlaceKind(build_path, 0.24, True, 0.85, 0.06, (0.25, 0.45, 0.0, 0.08, 0.22)),
    "street": PlaceKind(build_street, 0.32, True, 0.55, 0.85, (0.16, 0.14, 0.36, 0.06, 0.28)),
    "square": PlaceKind(build_square, 0.1, True, 0.75, 0.5, (0.25, 0.2, 0.1, 0.15, 0.3)),
    "room": PlaceKind(build_room, 0.13, False, 0.8, 0.0, (0.3, 0.25, 0.0, 0.02, 0.43)),
    "desk": PlaceKind(build_desk, 0.07, False, 0.06, 0.0, (0.6, 0.3, 0.0, 0.0, 0.1)),
    "thicket": PlaceKind(build_thicket, 0.04, True, 0.3, 0.0, (0.4, 0.3, 0.0, 0.1, 0.2)),
    "bare": PlaceKind(build_bare, 0.07, True, 0.85, 0.15, (0.15, 0.1, 0.0, 0.05, 0.7)),
    "stairs": PlaceKind(build_stairs, 0.03, True, 0.8, 0.0, (0.35, 0.25, 0.0, 0.0, 0.4)),
}
"""The places there are, and how often they come."""

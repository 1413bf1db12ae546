"""What stands about in the wide world and gets no label: trees, fences, furniture, books, sleeves, signs."""

import math
from collections.abc import Sequence

import numpy as np

from spiking_centernet.simulate.render.materials import VARIANTS
from spiking_centernet.simulate.render.stage import BACKDROP, HANGING
from spiking_centernet.simulate.scene.builder import Builder, Skin, log_uniform, moving, skin

CLOTH = ("stripes", "plaid", "print", "knit", "discs", "cloudy")


def wind(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw how something sways: meters per meter of height, hertz, phase; often not at all."""
    if rng.random() < 0.35:
        return (0.0, 0.0, 0.0)
    return (log_uniform(rng, 0.001, 0.025), log_uniform(rng, 0.2, 1.5), float(rng.uniform(0, 6.28)))


def _leafy(rng: np.random.Generator, build: Builder, x: float, y: float, z: float, wide: float, tall: float) -> None:
    """Append crossed boards of leaves around a point."""
    turn, variant = float(rng.uniform(0, math.pi)), int(rng.integers(VARIANTS))
    leaves = Skin(
        log_uniform(rng, 20, 110), "foliage", variant, float(rng.uniform(0.5, 1.2)), log_uniform(rng, 50, 160), "canopy"
    )
    for k in range(2):
        c, s = math.cos(turn + 1.6 * k), math.sin(turn + 1.6 * k)
        a, b = (x - wide / 2 * c, y - wide / 2 * s), (x + wide / 2 * c, y + wide / 2 * s)
        build.polygon(
            [(*a, z - tall / 2), (*b, z - tall / 2), (*b, z + tall / 2), (*a, z + tall / 2)], leaves, two_sided=True
        )


def add_tree(rng: np.random.Generator, build: Builder, x: float, y: float) -> None:
    """Append a trunk with branches and a crown of boards that cut out leaves."""
    tall = float(rng.uniform(3, 12))
    trunk, spread = float(rng.uniform(0.06, 0.25)), tall * float(rng.uniform(0.25, 0.5))
    bark = skin(rng, (12, 90), ("planks", "cloudy", "foliage"), per_m=(100.0, 300.0))
    build.limb((0, 0, 0), (float(rng.normal(0, 0.1)), float(rng.normal(0, 0.1)), 0.7 * tall), trunk, 0.5 * trunk, bark)
    for _ in range(int(rng.integers(0, 4))):
        a, low = float(rng.uniform(0, 6.28)), tall * float(rng.uniform(0.3, 0.5))
        build.limb(
            (0, 0, low), (spread * math.cos(a), spread * math.sin(a), 0.75 * tall), 0.35 * trunk, 0.1 * trunk, bark
        )
    if rng.random() < 0.85:
        for _ in range(int(rng.integers(1, 4))):
            a, r = float(rng.uniform(0, 6.28)), 0.35 * spread
            _leafy(
                rng, build, r * math.cos(a), r * math.sin(a), tall * float(rng.uniform(0.55, 0.8)),
                spread * float(rng.uniform(0.9, 1.5)), 0.55 * tall,
            )  # fmt: skip
    build.close(
        motion=moving(x, y, 0, 0), sort_parts=True, sway=wind(rng), shadow=(0.4 * spread, 0.4 * spread, 0.0, 0.3)
    )


def add_bush(rng: np.random.Generator, build: Builder, x: float, y: float) -> None:
    """Append a bush or a tuft of high grass."""
    tall = log_uniform(rng, 0.3, 2.5)
    for _ in range(int(rng.integers(1, 4))):
        at_x, at_y = (float(v) for v in rng.normal(0, 0.3 * tall, 2))
        _leafy(rng, build, at_x, at_y, 0.45 * tall, 1.4 * tall, tall)
    build.close(motion=moving(x, y, 0, 0), sort_parts=True, sway=wind(rng), shadow=(0.4 * tall, 0.4 * tall, 0.0, 0.3))


def add_branches(rng: np.random.Generator, build: Builder, x: float, y: float, z: float) -> None:
    """Append leaves and twigs close to the camera, hanging in the picture."""
    size = float(rng.uniform(0.3, 1.2))
    bark = Skin(float(rng.uniform(10, 50)))
    for _ in range(int(rng.integers(1, 4))):
        end = [float(v) for v in rng.normal(0, size / 2, 3)]
        _leafy(rng, build, end[0], end[1], end[2], size, size)
        build.limb((0, 0, 0.5 * size), end, 0.012, 0.005, bark)
    sway = wind(rng)
    build.close(motion=moving(x, y, z, 0), sort_parts=True, sway=(4 * sway[0], sway[1], sway[2]))


def add_fence(rng: np.random.Generator, build: Builder, p: Sequence[float], q: Sequence[float], tall: float) -> None:
    """Append a fence of pickets or mesh from ``p`` to ``q``, in panels."""
    kind = str(rng.choice(["pickets", "mesh"]))
    cover = Skin(log_uniform(rng, 20, 200), None, int(rng.integers(VARIANTS)), cutout=kind)
    (x0, y0), (x1, y1) = p, q
    panels = max(1, round(math.hypot(x1 - x0, y1 - y0) / 2.5))
    for k in range(panels):
        a = x0 + (x1 - x0) * k / panels, y0 + (y1 - y0) * k / panels
        b = x0 + (x1 - x0) * (k + 1) / panels, y0 + (y1 - y0) * (k + 1) / panels
        build.polygon([(*a, 0), (*b, 0), (*b, tall), (*a, tall)], cover, two_sided=True)
        build.limb((*a, 0), (*a, 1.05 * tall), 0.04, 0.04, Skin(cover.albedo))
        build.close(sort_parts=True)


def add_pole(rng: np.random.Generator, build: Builder, x: float, y: float) -> None:
    """Append a pole, a lamp post, a sign or a traffic light."""
    tall, gray = float(rng.uniform(1.0, 7.0)), skin(rng, (15, 200), ("soft", "stripes"), per_m=(60.0, 200.0))
    if rng.random() < 0.6:
        wide, high = float(rng.uniform(0.2, 0.9)), float(rng.uniform(0.2, 1.0))
        face = skin(rng, (60, 220), ("sign",), per_m=(0.0, 0.0))
        turn = float(rng.uniform(0, 6.28))
        c, s = math.cos(turn) * wide / 2, math.sin(turn) * wide / 2
        build.polygon([(-c, -s, tall - high), (c, s, tall - high), (c, s, tall), (-c, -s, tall)], face, two_sided=True)
    radius = float(rng.uniform(0.02, 0.1))
    build.limb((0, 0, 0), (0, 0, tall), radius, radius, gray)
    build.close(motion=moving(x, y, 0, 0), sort_parts=True, shadow=(0.1, 0.1, 0.0, 0.4))


def add_box(
    rng: np.random.Generator, build: Builder, x: float, y: float, *, most_m: float = 1.6, z: float = 0.0
) -> None:
    """Append a box, a bin, a cabinet or a machine: as tall as a person at most."""
    wide, deep, tall = (float(rng.uniform(0.2, 0.7)) * most_m for _ in range(3))
    if rng.random() < 0.3:
        cover = skin(rng, (12, 180), ("soft", "stripes", "sign", "mesh"), per_m=(60.0, 200.0))
        build.limb((0, 0, 0.2 * tall), (0, 0, tall), 0.25 * wide, 0.3 * wide, cover)
    else:
        face = skin(rng, (12, 220), ("sign", "planks", "page", "soft", "print", "cloudy"), per_m=(60.0, 300.0))
        if rng.random() < 0.4:
            face = Skin(face.albedo, face.kind, face.variant, face.contrast, 0.0)
        build.box((-wide / 2, -deep / 2, 0), (wide / 2, deep / 2, tall), face, top=Skin(1.2 * face.albedo))
    build.close(
        motion=moving(x, y, z, float(rng.uniform(0, 6.28))), shadow=(wide / 2, deep / 2, 0.0, 0.5 if z == 0 else 0.0)
    )


def add_bench(rng: np.random.Generator, build: Builder, x: float, y: float, heading: float) -> None:
    """Append a bench or a chair, whose seat is half a meter up and faces ``heading``."""
    half, wood = float(rng.choice([0.25, 0.8])), skin(rng, (20, 170), ("planks", "soft"), per_m=(60.0, 150.0))
    build.box((-0.2, -half, 0.4), (0.25, half, 0.45), wood, bottom=True)
    if rng.random() < 0.7:
        build.box((-0.25, -half, 0.45), (-0.2, half, 0.9), wood)
    for leg_x in (-0.18, 0.2):
        for leg_y in (-half + 0.05, half - 0.05):
            build.limb((leg_x, leg_y, 0), (leg_x, leg_y, 0.4), 0.02, 0.02, Skin(40.0))
    build.close(motion=moving(x, y, 0, heading), sort_parts=True, shadow=(0.3, half, 0.0, 0.5))


def add_table(rng: np.random.Generator, build: Builder, x: float, y: float) -> None:
    """Append a table with books, boxes and screens upon it."""
    long, deep = float(rng.uniform(0.5, 1.0)), float(rng.uniform(0.3, 0.5))
    top = skin(rng, (30, 200), ("planks", "soft", "cloudy"), per_m=(60.0, 200.0))
    for _ in range(int(rng.integers(1, 6))):
        px, py = float(rng.uniform(-0.8, 0.8)) * deep, float(rng.uniform(-0.8, 0.8)) * long
        face = skin(rng, (20, 220), ("page", "sign", "print", "spines", "soft"), per_m=(100.0, 500.0))
        a, tall = float(rng.uniform(0.05, 0.15)), log_uniform(rng, 0.02, 0.45)
        build.box((px - a, py - 1.4 * a, 0.75), (px + a, py + 1.4 * a, 0.75 + tall), face)
    build.box((-deep, -long, 0.7), (deep, long, 0.75), top, bottom=True)
    for leg_x in (-deep + 0.05, deep - 0.05):
        for leg_y in (-long + 0.05, long - 0.05):
            build.limb((leg_x, leg_y, 0), (leg_x, leg_y, 0.7), 0.03, 0.03, Skin(50.0))
    turn = float(rng.choice([0, math.pi / 2])) + float(rng.normal(0, 0.1))
    build.close(motion=moving(x, y, 0, turn), sort_parts=True, shadow=(deep, long, 0.0, 0.4))


def add_shelf(rng: np.random.Generator, build: Builder, x: float, y: float, heading: float) -> None:
    """Append shelves full of books, whose fronts face ``heading``."""
    half, tall = float(rng.uniform(0.4, 1.5)), float(rng.uniform(1.0, 2.2))
    wood = skin(rng, (20, 160), ("planks",), per_m=(60.0, 150.0))
    books = Skin(
        log_uniform(rng, 30, 130),
        "spines",
        int(rng.integers(VARIANTS)),
        float(rng.uniform(0.4, 1.0)),
        log_uniform(rng, 110, 300),
    )
    front = 0.15
    build.polygon([(front, -half, 0.05), (front, half, 0.05), (front, half, tall), (front, -half, tall)], books)
    build.box((-0.15, -half - 0.02, 0), (front - 0.002, half + 0.02, tall + 0.03), wood)
    build.close(motion=moving(x, y, 0, heading), shadow=(0.2, half, 0.0, 0.4))


def add_books(rng: np.random.Generator, build: Builder, x: float, y: float, z: float) -> None:
    """Append a heap or a row of books and boxes on a desk: turned at random, their pages and covers up."""
    thick = 0.0
    turn = float(rng.uniform(0, 6.28))
    for _ in range(int(rng.integers(1, 5))):
        a, b, t = float(rng.uniform(0.06, 0.13)), float(rng.uniform(0.09, 0.18)), float(rng.uniform(0.01, 0.06))
        cover = skin(rng, (20, 220), ("page", "sign", "print", "soft", "cloudy"), per_m=(300.0, 1500.0))
        if rng.random() < 0.5:
            cover = Skin(cover.albedo, cover.kind, cover.variant, cover.contrast, 0.0)
        edge = skin(rng, (60, 200), ("stripes",), per_m=(2000.0, 4000.0))
        build.box((-a, -b, 0), (a, b, t), edge, top=cover)
        build.close(motion=moving(x, y, z + thick, turn + float(rng.normal(0, 0.3))))
        thick += t


def add_sleeve(rng: np.random.Generator, build: Builder, place: Sequence[float], seconds: float) -> None:
    """Append the forearm and hand of the one who films, in patterned cloth, reaching into the picture."""
    x, y, z = place
    cloth = skin(rng, (15, 220), CLOTH, per_m=(300.0, 1200.0), contrast=(0.6, 1.4))
    hand = Skin(log_uniform(rng, 40, 160), "soft", 0, 0.6, 500.0)
    side, lift = float(rng.choice([-1, 1])), float(rng.uniform(-0.2, 0.1))
    elbow, wrist = (-0.15, side * 0.22, -0.22), (0.12, side * 0.04, lift * 0.5)
    build.limb(wrist, (wrist[0] + 0.08, wrist[1] - 0.03 * side, wrist[2]), 0.035, 0.03, hand)
    build.limb(elbow, wrist, 0.065, 0.045, cloth)
    build.limb((-0.4, side * 0.3, -0.1), elbow, 0.08, 0.065, cloth)
    if rng.random() < 0.4:
        build.box((0.14, -0.06, -0.03), (0.3, 0.06, 0.0), skin(rng, (20, 200), ("page", "sign"), per_m=(0.0, 0.0)))
    turn = float(rng.normal(0, 0.6))
    build.close(
        motion=moving(x, y, z, float(rng.normal(0, 0.3)), float(rng.normal(0, 0.25)), 0, 0, turn / seconds),
        sort_parts=True, swing_m_s=0.5,
    )  # fmt: skip


def add_wall(
    build: Builder, p: Sequence[float], q: Sequence[float], tall: float, cover: Skin, *, low: float | None = None
) -> None:
    """Append a wall seen from both sides, behind all things; from ``low`` on it is a picture or a door on a wall."""
    foot = low or 0.0
    build.polygon([(*p, foot), (*q, foot), (*q, tall), (*p, tall)], cover, two_sided=True)
    build.close(layer=BACKDROP if low is None else HANGING)


def add_tree_line(
    rng: np.random.Generator, build: Builder, p: Sequence[float], q: Sequence[float], tall: float
) -> None:
    """Append a row of far trees behind all things."""
    (x0, y0), (x1, y1) = p, q
    panels = max(1, round(math.hypot(x1 - x0, y1 - y0) / (4 * tall)))
    for k in range(panels):
        a = x0 + (x1 - x0) * k / panels, y0 + (y1 - y0) * k / panels
        b = x0 + (x1 - x0) * (k + 1) / panels, y0 + (y1 - y0) * (k + 1) / panels
        cover = Skin(
            log_uniform(rng, 15, 80), "foliage", int(rng.integers(VARIANTS)), float(rng.uniform(0.4, 1.1)),
            float(rng.uniform(15, 50)), "tree_line",
        )  # fmt: skip
        build.polygon([(*a, 0), (*b, 0), (*b, tall), (*a, tall)], cover, two_sided=True)
        build.close(layer=BACKDROP, sway=wind(rng))

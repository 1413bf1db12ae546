"""Who is in a wide scene: people alone and in groups, cars on a road and beside it."""

import math
from itertools import pairwise

import numpy as np

from spiking_centernet.simulate.scene import things
from spiking_centernet.simulate.scene.bodies import add_person
from spiking_centernet.simulate.scene.builder import Builder, log_uniform, moving
from spiking_centernet.simulate.scene.places import Spot
from spiking_centernet.simulate.scene.vehicles import add_motor_car, add_pram, add_truck

_WALKS = ("walk", "walk", "walk", "run", "stand", "gesture", "phone", "push", "crouch", "sit_down", "stand_up", "reach")


def add_people(
    rng: np.random.Generator, build: Builder, spot: Spot, *, focal: float, heights_px: tuple[float, float]
) -> None:
    """Append people, the first as far away as the camera aims.

    Args:
        rng: draws them.
        build: receives them.
        spot: where the camera looks.
        focal: of the camera in pixels.
        heights_px: how tall the others are in the frame, least and most.
    """
    num = 1 + int(rng.poisson(1.4)) if rng.random() < 0.85 else int(rng.integers(4, 10))
    seconds, aim = spot.seconds, spot.aim_m
    group = rng.random() < 0.35
    heading, leader = float(rng.uniform(0, 2 * math.pi)), None
    for k in range(num):
        away = aim if k == 0 else float(np.clip(focal * 1.7 / log_uniform(rng, *heights_px), 1.0, 80))
        x, y = away, float(rng.uniform(-0.9, 0.9)) * spot.slope * away
        if group and leader is not None:
            x, y = leader[0] + float(rng.normal(0, 0.7)), leader[1] + float(rng.normal(0, 0.7))
        else:
            heading = float(rng.uniform(0, 2 * math.pi))
            leader = (x, y)
        if x < 0.7:
            continue
        posture = str(rng.choice(_WALKS))
        speed = {"walk": rng.uniform(0.5, 1.9), "phone": rng.uniform(0, 1.2), "push": rng.uniform(0.5, 1.4),
                 "run": rng.uniform(2, 5)}.get(posture, 0.0)  # fmt: skip
        ramp, start = 0.0, 0.0
        if speed and rng.random() < 0.2:
            ramp, start = float(rng.choice([-0.8, 0.8])), float(rng.uniform(0, seconds))
        # Who walks is where it was drawn in the middle of the clip.
        back = 0.0 if ramp else 0.5 * seconds * float(speed)
        turn = float(rng.normal(0, 0.5)) if not speed and rng.random() < 0.4 else 0.0
        motion = moving(
            x - back * math.cos(heading),
            y - back * math.sin(heading),
            0.0,
            heading,
            float(speed),
            start,
            ramp,
            turn,
        )
        if not speed and (posture in ("sit_down", "stand_up") or rng.random() < 0.08):
            posture = posture if posture in ("sit_down", "stand_up") else "sit"
            things.add_bench(rng, build, x - 0.05 * math.cos(heading), y - 0.05 * math.sin(heading), heading)
            motion = (*motion[:7], 0.0)
        if posture == "push":
            thing = add_pram(rng, build, motion, seconds=seconds)
        else:
            thing = add_person(rng, build, motion, posture, seconds=seconds)
        if rng.random() < 0.07:
            _add_umbrella(rng, build, motion, build.bodies[-1].settings[0] if thing >= 0 else 1.7)


def _add_umbrella(rng: np.random.Generator, build: Builder, motion: tuple[float, ...], tall: float) -> None:
    cover = things.skin(rng, (15, 220), ("stripes", "print", "soft"), per_m=(60.0, 200.0))
    low, high, reach = 1.02 * tall, 1.02 * tall + 0.28, float(rng.uniform(0.4, 0.6))
    ring = [(reach * math.cos(a), reach * math.sin(a), low) for a in np.arange(9) * math.pi / 4]
    for p, q in pairwise(ring):
        build.polygon([p, q, (0.0, 0.0, high)], cover, two_sided=True)
    build.limb((0.1, 0.1, 0.6 * tall), (0, 0, high), 0.01, 0.01, things.Skin(30.0))
    build.close(motion=motion, sort_parts=True)


def add_cars(rng: np.random.Generator, build: Builder, spot: Spot, place: str) -> None:
    """Append cars and trucks on the road of a place of ``PLACES``, and parked ones beside it."""
    c, s = math.cos(spot.road), math.sin(spot.road)
    crawl = place != "street" or rng.random() < 0.3
    across = float(rng.uniform(-0.8, 0.8)) * spot.slope * spot.aim_m if place != "street" else 0.0
    for lane in (-1, 1):
        gone = float(rng.uniform(-1, 1)) * 2.0 if lane > 0 else float(rng.uniform(-15, 15))
        for _ in range(int(rng.integers(1, 4))):
            heading = spot.road if lane < 0 else spot.road + math.pi
            speed = float(rng.uniform(0, 4)) if crawl else float(rng.uniform(2, 18))
            speed = 0.0 if rng.random() < 0.25 else speed
            x = spot.aim_m + gone * c - (1.8 * lane) * s
            y = spot.road_y_m + across + gone * s + 1.8 * lane * c
            gone += float(rng.uniform(6.5, 25)) * float(rng.choice([-1, 1]))
            if math.hypot(x, y) < 3.2:
                continue
            back = 0.5 * spot.seconds * speed
            motion = moving(x - back * math.cos(heading), y - back * math.sin(heading), 0, heading, speed)
            if rng.random() < 0.12:
                add_truck(rng, build, motion, night=spot.night)
            else:
                add_motor_car(rng, build, motion, night=spot.night)
    parked = int(rng.integers(0, 6))
    side, at = float(rng.choice([-1, 1])) * float(rng.uniform(4, 6)), float(rng.uniform(-12, 6))
    for _ in range(parked):
        x, y = spot.aim_m + at * c - side * s, spot.road_y_m + across + at * s + side * c
        at += float(rng.uniform(5.5, 8))
        if math.hypot(x, y) > 3.2 and not (x > 0 and abs(y) < 1.5 and x < spot.aim_m):
            add_motor_car(
                rng, build, moving(x, y, 0, spot.road + (math.pi if rng.random() < 0.3 else 0.0)), night=spot.night
            )

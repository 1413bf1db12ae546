"""People and animals of the wide world: figures of limbs whose joints follow gaits, gestures and changes of posture."""

import math

import numpy as np

from spiking_centernet.joint_sets import JOINTS_13
from spiking_centernet.simulate.render.materials import VARIANTS
from spiking_centernet.simulate.scene.actors import put
from spiking_centernet.simulate.scene.builder import NO_CLASS, PEDESTRIAN, Body, Builder, Skin, log_uniform, skin
from spiking_centernet.utils.compile_cache import compiled

HEAD, CHEST, HIPS, SHIN_L, SHIN_R = 0, 4, 5, 14, 17
"""Limbs by whose first joint a person is known to be in the frame; a shin's is the knee."""

(_THIGH_L, _THIGH_R, _KNEE_L, _KNEE_R, _ARM_L, _ARM_R, _ELBOW_L, _ELBOW_R, _OUT_L, _OUT_R, _LEAN, _TURN) = range(12)

JOINT_VERTICES = {
    "head": (0, 1),
    "left_shoulder": (21,), "left_elbow": (22,), "left_hand": (27, 28),
    "right_shoulder": (30,), "right_elbow": (31,), "right_hand": (36, 37),
    "left_hip": (39,), "left_knee": (40,), "left_foot": (43,),
    "right_hip": (48,), "right_knee": (49,), "right_foot": (52,),
}  # fmt: skip
"""Vertices of a person, three a limb, whose mean is a joint: see ``pose_body``. A foot is where it meets the shin."""

CLOTH = ("soft", "knit", "stripes", "plaid", "print", "cloudy", "discs")


@compiled(error_model="numpy")
def joint_angles(settings, swings, gone_m, speed_m_s, t_s, angles):
    """Write the twelve angles at a time; return the height of the pelvis, negative where the legs decide it."""
    blend = min(max((t_s - settings[4]) / max(settings[5], 1e-3), 0.0), 1.0)
    blend = blend * blend * (3.0 - 2.0 * blend)
    phase = 2.0 * math.pi * gone_m / settings[1]
    effort = min(abs(speed_m_s) / (0.5 * settings[1]), 1.0)
    for k in range(12):
        before, after, amplitude, harmonic, lag = swings[k]
        angles[k] = before + blend * (after - before)
        if harmonic > 0.0:
            angles[k] += effort * amplitude * math.sin(harmonic * phase + lag)
        elif harmonic < 0.0:
            angles[k] += amplitude * math.sin(-2.0 * math.pi * harmonic * t_s + lag)
    return settings[2] + blend * (settings[3] - settings[2])


@compiled(error_model="numpy")
def pose_body(verts, start, h, angles, pelvis_z):
    """Write the joints of a person heading along +x, left is +y; ``verts[start]`` is the first of 3 a limb.

    Limbs: head, hair, hat, shoulders, chest, hips, belly, then arm (upper, lower, hand) left and right, leg (thigh,
    shin, foot) left and right, skirt, bag, and what the right hand holds. Angles in radians: legs and arms forwards,
    knees back, elbows forwards, arms outwards, the trunk leaning forwards, the shoulders turning to the left.
    """
    thigh, shin = 0.245 * h, 0.245 * h
    if pelvis_z < 0.0:
        for k in range(2):
            reach = thigh * math.cos(angles[k]) + shin * math.cos(angles[k] - angles[2 + k])
            pelvis_z = max(pelvis_z, reach + 0.04 * h)
    lean_x, lean_z = math.sin(angles[_LEAN]), math.cos(angles[_LEAN])
    ct, st = math.cos(angles[_TURN]), math.sin(angles[_TURN])
    spine = 0.29 * h
    neck_x, neck_z = spine * lean_x, pelvis_z + spine * lean_z
    put(verts, start, neck_x + 0.105 * h * lean_x * 0.5 + 0.01 * h, 0.0, neck_z + 0.105 * h)
    put(verts, start + 1, neck_x + 0.105 * h * lean_x * 0.5 + 0.022 * h, 0.0, neck_z + 0.14 * h)
    put(verts, start + 3, neck_x - 0.012 * h, 0.0, neck_z + 0.10 * h)
    put(verts, start + 4, neck_x - 0.002 * h, 0.0, neck_z + 0.155 * h)
    put(verts, start + 6, neck_x + 0.03 * h, 0.0, neck_z + 0.165 * h)
    put(verts, start + 7, neck_x - 0.005 * h, 0.0, neck_z + 0.175 * h)
    for k in range(2):
        side = 1.0 if k == 0 else -1.0
        put(verts, start + 9 + k, neck_x - side * st * 0.085 * h, side * ct * 0.085 * h, neck_z)
        put(verts, start + 15 + k, 0.0, side * 0.045 * h, pelvis_z)
    put(verts, start + 12, neck_x * 0.92, 0.0, neck_z - 0.05 * h * lean_z)
    put(verts, start + 13, neck_x * 0.45, 0.0, pelvis_z + 0.45 * spine * lean_z)
    put(verts, start + 18, neck_x * 0.45, 0.0, pelvis_z + 0.45 * spine * lean_z)
    put(verts, start + 19, 0.0, 0.0, pelvis_z + 0.02 * h)
    knee_x = 0.0
    for k in range(2):
        side = 1.0 if k == 0 else -1.0
        arm, elbow, out = angles[_ARM_L + k] + 0.5 * angles[_LEAN], angles[_ELBOW_L + k], angles[_OUT_L + k]
        at = start + 21 + 9 * k
        x, y, z = neck_x - side * st * 0.11 * h, side * ct * 0.11 * h, neck_z - 0.01 * h
        dx, dy, dz = math.sin(arm) * math.cos(out), side * math.sin(out), -math.cos(arm) * math.cos(out)
        put(verts, at, x, y, z)
        x, y, z = x + 0.17 * h * dx, y + 0.17 * h * dy, z + 0.17 * h * dz
        put(verts, at + 1, x, y, z)
        put(verts, at + 3, x, y, z)
        fore = arm + elbow
        inward = 0.6 * out
        dx, dy, dz = math.sin(fore) * math.cos(inward), side * math.sin(inward), -math.cos(fore) * math.cos(inward)
        x, y, z = x + 0.15 * h * dx, y + 0.15 * h * dy, z + 0.15 * h * dz
        put(verts, at + 4, x, y, z)
        put(verts, at + 6, x, y, z)
        put(verts, at + 7, x + 0.06 * h * dx, y + 0.06 * h * dy, z + 0.06 * h * dz)
        if k == 1:
            put(verts, start + 63, x + 0.05 * h * dx, y, z + 0.05 * h * dz)
            put(verts, start + 64, x + 0.10 * h * dx, y, z + 0.05 * h * dz - 0.12 * h)
        leg, knee = angles[k], angles[2 + k]
        at = start + 39 + 9 * k
        y = side * 0.05 * h
        x, z = thigh * math.sin(leg), pelvis_z - thigh * math.cos(leg)
        put(verts, at, 0.0, y, pelvis_z)
        put(verts, at + 1, x, y, z)
        put(verts, at + 3, x, y, z)
        knee_x += 0.5 * x
        low = leg - knee
        x, z = x + shin * math.sin(low), max(z - shin * math.cos(low), 0.03 * h)
        put(verts, at + 4, x, y, z)
        put(verts, at + 6, x - 0.01 * h, y, z - 0.01 * h)
        put(verts, at + 7, x + 0.09 * h * math.cos(low), y, max(z + 0.09 * h * math.sin(low) - 0.015 * h, 0.02 * h))
    put(verts, start + 57, 0.0, 0.0, pelvis_z + 0.03 * h)
    put(verts, start + 58, 0.8 * knee_x, 0.0, pelvis_z - 0.22 * h * math.cos(min(abs(knee_x) / (0.245 * h), 1.4)))
    put(verts, start + 60, neck_x * 0.8 - 0.095 * h, 0.0, neck_z - 0.05 * h)
    put(verts, start + 61, neck_x * 0.5 - 0.095 * h, 0.0, pelvis_z + 0.11 * h)


def joints_of(vertices: np.ndarray) -> np.ndarray:
    """Return the joints of ``JOINTS_13``, [13, 3], of a person whose vertices, three a limb, are given."""
    return np.array([vertices[list(JOINT_VERTICES[name])].mean(axis=0) for name in JOINTS_13.names])


@compiled(error_model="numpy")
def pose_animal(verts, start, h, angles):
    """Write the joints of an animal: trunk, neck, head, then two legs of two parts before and two behind, tail."""
    long, hip = 0.65 * h, 0.62 * h
    put(verts, start, 0.5 * long, 0.0, hip)
    put(verts, start + 1, -0.5 * long, 0.0, hip)
    nod = angles[_LEAN]
    nx, nz = 0.5 * long + 0.25 * h * math.cos(nod), hip + 0.28 * h * math.sin(nod)
    put(verts, start + 3, 0.5 * long, 0.0, hip + 0.05 * h)
    put(verts, start + 4, nx, 0.0, nz)
    put(verts, start + 6, nx, 0.0, nz)
    put(verts, start + 7, nx + 0.17 * h, 0.0, nz - 0.05 * h)
    for k in range(4):
        x, side = (0.42 if k < 2 else -0.42) * long, (1.0 if k % 2 == 0 else -1.0)
        angle, knee = angles[k], 0.3 + 0.3 * abs(angles[k])
        kx, kz = x + 0.28 * h * math.sin(angle), hip - 0.28 * h * math.cos(angle)
        at = start + 9 + 6 * k
        put(verts, at, x, side * 0.09 * h, hip)
        put(verts, at + 1, kx, side * 0.09 * h, kz)
        put(verts, at + 3, kx, side * 0.09 * h, kz)
        put(verts, at + 4, kx + 0.3 * h * math.sin(angle - knee), side * 0.09 * h, max(kz - 0.32 * h, 0.02))
    wag = angles[_TURN]
    put(verts, start + 33, -0.5 * long, 0.0, hip + 0.05 * h)
    put(verts, start + 34, -0.5 * long - 0.25 * h, 0.25 * h * wag, hip + 0.18 * h)


def _swings(posture: str, rng: np.random.Generator, swing: float) -> tuple[np.ndarray, float, float]:
    """Return the joints' table of a posture, and the height of the pelvis per body height before and after."""
    table = np.zeros((12, 5))
    before, after = table[:, 0], table[:, 1]
    low, high = -1.0, -1.0

    def idle(joint: int, amplitude: float, low_hz: float, high_hz: float) -> None:
        table[joint, 2:] = amplitude, -log_uniform(rng, low_hz, high_hz), rng.uniform(0, 6.28)

    def gait(legs: float, knees: float, arms: float) -> None:
        for k in range(2):
            lag = math.pi * k
            table[_THIGH_L + k, 2:] = legs, 1.0, lag
            before[_KNEE_L + k], table[_KNEE_L + k, 2:] = 0.9 * knees, (0.9 * knees, 1.0, lag + 1.9)
            table[_ARM_L + k, 2:] = arms, 1.0, lag + math.pi
        table[_TURN, 2:] = 0.12 * arms / 0.5, 1.0, math.pi / 2

    before[_OUT_L], before[_OUT_R] = rng.uniform(0.05, 0.2, 2)
    before[_ELBOW_L], before[_ELBOW_R] = rng.uniform(0.1, 0.5, 2)
    if posture in ("walk", "push", "phone"):
        before[_THIGH_L] = before[_THIGH_R] = 0.08
        gait(0.42 * swing, 0.4 * swing, 0.45 * swing * float(rng.uniform(0.3, 1.2)))
        before[_LEAN] = rng.uniform(-0.02, 0.1)
    elif posture == "run":
        before[_THIGH_L] = before[_THIGH_R] = 0.25
        gait(0.8, 0.75, 0.8)
        before[_LEAN], before[_ELBOW_L], before[_ELBOW_R] = 0.15, 1.5, 1.5
    elif posture == "cycle":
        low = high = 0.56
        for k in range(2):
            table[_THIGH_L + k] = 0.85, 0.85, 0.4, 1.0, math.pi * k
            table[_KNEE_L + k] = 1.0, 1.0, 0.45, 1.0, math.pi * k - 0.5
        before[_ARM_L] = before[_ARM_R] = 0.85
        before[_LEAN] = rng.uniform(0.2, 0.7)
    elif posture in ("sit", "sit_down", "stand_up"):
        before[_THIGH_L], before[_THIGH_R] = 1.45 + rng.uniform(-0.1, 0.1, 2)
        before[_KNEE_L], before[_KNEE_R] = 1.4 + rng.uniform(-0.3, 0.3, 2)
        before[_ARM_L], before[_ARM_R] = rng.uniform(0.1, 0.8, 2)
        before[_ELBOW_L], before[_ELBOW_R] = rng.uniform(0.5, 1.4, 2)
        before[_LEAN] = rng.uniform(-0.15, 0.3)
        low = 0.28
    elif posture == "crouch":
        before[_THIGH_L], before[_THIGH_R], before[_KNEE_L], before[_KNEE_R] = 1.6, 1.2, 2.3, 2.1
        before[_LEAN] = 0.6
    if posture == "push":
        before[_ARM_L] = before[_ARM_R] = 0.6
        before[_ELBOW_L] = before[_ELBOW_R] = 0.5
        table[_ARM_L : _ARM_R + 1, 2] = 0.0
    if posture == "phone":
        before[_ELBOW_R], before[_ARM_R], table[_ARM_R, 2] = 1.9, rng.uniform(0.2, 0.7), 0.0
    if posture in ("stand", "gesture", "reach", "sit"):
        strong = {"stand": 0.08, "sit": 0.15, "gesture": 0.7, "reach": 0.4}[posture]
        for joint in (_ARM_L, _ARM_R, _ELBOW_L, _ELBOW_R):
            idle(joint, strong * float(rng.uniform(0.2, 1.0)), 0.3, 2.5 if posture == "gesture" else 1.0)
        idle(_LEAN, 0.04, 0.2, 0.8)
        idle(_TURN, 0.15, 0.2, 0.9)
    if posture in ("gesture", "reach"):
        before[_ARM_L], before[_ARM_R] = rng.uniform(0.2, 2.6 if posture == "gesture" else 1.6, 2)
        before[_OUT_L], before[_OUT_R] = rng.uniform(0.1, 1.2, 2)
    after[:] = before
    high = low
    if posture in ("sit_down", "stand_up"):
        after[[_THIGH_L, _THIGH_R, _KNEE_L, _KNEE_R]] = 0.02
        after[[_ARM_L, _ARM_R]], after[_LEAN] = 0.05, 0.02
        high = 0.53
        if posture == "sit_down":
            table[:, [0, 1]] = table[:, [1, 0]]
            low, high = high, low
    return table, low, high


def add_person(
    rng: np.random.Generator,
    build: Builder,
    motion: tuple[float, ...],
    posture: str,
    *,
    seconds: float,
    class_id: int = PEDESTRIAN,
    height_m: float | None = None,
) -> int:
    """Append a person doing ``posture``; return the number of the object.

    Args:
        rng: draws stature, clothes and what is carried.
        build: receives the limbs.
        motion: see ``stage.travelled``.
        posture: walk, run, stand, gesture, sit, sit_down, stand_up, cycle, push, crouch, phone or reach.
        seconds: length of the clip, within which a posture changes.
        class_id: NO_CLASS for riders, who get no label.
        height_m: stature; drawn where None.
    """
    child = rng.random() < 0.1
    h = height_m or float(rng.uniform(1.0, 1.45) if child else np.clip(rng.normal(1.7, 0.1), 1.45, 2.0))
    wide = float(np.clip(rng.normal(1.0, 0.14), 0.75, 1.45)) * h
    plain = rng.random() < 0.4
    cloth = ("soft",) if plain else CLOTH

    def fabric(low: float = 10, high: float = 220) -> Skin:
        return skin(rng, (low, high), cloth, per_m=(120.0, 700.0), contrast=(0.3, 1.2))

    upper, lower, shoes = fabric(), fabric(8, 170), skin(rng, (8, 180))
    bare = Skin(log_uniform(rng, 35, 160), "soft", int(rng.integers(VARIANTS)), 0.6, 400.0)
    hair = Skin(log_uniform(rng, 6, 130), "knit", int(rng.integers(VARIANTS)), 0.8, 500.0)
    sleeve = bare if rng.random() < 0.3 else upper
    leg = bare if rng.random() < 0.15 else lower
    coat = rng.random() < 0.25
    skirt = upper if coat else lower
    has_skirt = coat or rng.random() < 0.18
    hat = rng.random() < 0.3
    loose = float(rng.uniform(0.85, 1.35))
    bag = rng.random() < 0.3
    item = rng.random() < 0.3
    thick = wide * loose
    girth = 0.075 * thick
    parts = [
        (bare, 0.052 * h, 0.05 * h), (hair, 0.056 * h, 0.05 * h),
        (fabric(), 0.06 * h, 0.05 * h) if hat else (hair, 0.0, 0.0),
        (upper, 0.042 * thick, 0.042 * thick), (upper, girth, 0.07 * thick), (lower, 0.05 * thick, 0.05 * thick),
        (upper, 0.07 * thick, 0.072 * thick),
    ]  # fmt: skip
    for _ in range(2):
        parts += [
            (upper, 0.033 * thick, 0.027 * thick),
            (sleeve, 0.027 * thick, 0.02 * thick),
            (bare, 0.019 * h, 0.02 * h),
        ]
    for _ in range(2):
        parts += [
            (lower, 0.052 * thick, 0.038 * thick),
            (leg, 0.036 * thick, 0.025 * thick),
            (shoes, 0.022 * h, 0.02 * h),
        ]
    flare = float(rng.uniform(0.08, 0.14))
    parts.append((skirt, 0.075 * thick, flare * wide) if has_skirt else (lower, 0.0, 0.0))
    parts.append((fabric(), 0.07 * wide, 0.08 * wide) if bag else (upper, 0.0, 0.0))
    parts.append((fabric(), 0.03 * h, float(rng.uniform(0.03, 0.09)) * h) if item else (upper, 0.0, 0.0))
    for cover, r0, r1 in parts:
        build.limb((0, 0, 0), (0, 0, 0), r0, r1, cover)
    speed = abs(motion[4])
    stride = (0.8 if posture != "run" else 1.3) * h
    if posture == "cycle":
        stride = float(rng.uniform(3.0, 6.0))
    swings, low, high = _swings(
        posture, rng, min(speed / (0.75 * h), 1.2) if posture in ("walk", "push", "phone") else 1.0
    )
    # A turn of posture takes about a second, and begins anywhere in the clip.
    begin, takes = float(rng.uniform(-0.3, 0.8) * seconds), float(rng.uniform(0.5, 1.3))
    swing_m_s = 1.6 * speed + {"gesture": 3.0, "reach": 1.5, "sit_down": 1.5, "stand_up": 1.5}.get(posture, 0.3)
    thing = build.close(
        motion=motion, class_id=class_id, sort_parts=True, shadow=(0.15 * h, 0.15 * h, 0.8 * h, 0.5),
        swing_m_s=swing_m_s,
    )  # fmt: skip
    build.bodies.append(
        Body(
            thing,
            False,
            (h, stride, low * h if low > 0 else -1.0, high * h if high > 0 else -1.0, begin, takes),
            swings,
        )
    )
    return thing


def add_animal(rng: np.random.Generator, build: Builder, motion: tuple[float, ...], *, seconds: float) -> int:
    """Append an animal from a cat to a horse: nothing that gets a label."""
    h = log_uniform(rng, 0.25, 1.6)
    coat = skin(rng, (10, 200), ("cloudy", "knit", "discs", "soft"), per_m=(100.0, 500.0))
    stout = float(rng.uniform(0.8, 1.3)) * h
    parts = [(0.16, 0.14), (0.1, 0.07), (0.09, 0.05)] + [(0.06, 0.04), (0.035, 0.028)] * 4 + [(0.03, 0.015)]
    for r0, r1 in parts:
        build.limb((0, 0, 0), (0, 0, 0), r0 * stout, r1 * stout, coat)
    table = np.zeros((12, 5))
    for k, lag in enumerate((0.0, math.pi, math.pi, 0.0)):
        table[k, 2:] = 0.5, 1.0, lag + 0.4
    table[_LEAN] = rng.uniform(-0.3, 0.9), 0.0, 0.1, -float(rng.uniform(0.3, 2)), 0.0
    table[_LEAN, 1] = table[_LEAN, 0]
    table[_TURN, 2:] = 0.6, -float(rng.uniform(0.5, 4)), 0.0
    thing = build.close(
        motion=motion, class_id=NO_CLASS, sort_parts=True, shadow=(0.4 * h, 0.15 * h, 0.7 * h, 0.5),
        swing_m_s=1.6 * abs(motion[4]) + 0.3,
    )  # fmt: skip
    build.bodies.append(Body(thing, True, (h, 0.9 * h, -1.0, -1.0, 2 * seconds, 1.0), table))
    return thing

"""How a wide camera is held: by hand, worn, on a drone, in a car, or fixed; its path and its shake over time."""

import math
from dataclasses import dataclass

import numpy as np

from spiking_centernet.simulate.scene.builder import log_uniform

MOUNTS = ("hand", "worn", "car", "drone", "fixed")
"""What holds a camera."""


@dataclass(frozen=True)
class Rig:
    """A camera on its way: position and angles as sums of a straight path, a turn, and waves.

    Attributes:
        mount: one of ``MOUNTS``.
        focal_px: focal length.
        place_m: x, y, z at the middle of the clip.
        velocity_m_s: x, y, z.
        angles: yaw (radians from +x to the left), pitch (down) and roll.
        waves: float64 [K, 8]: x, y, z in meters, yaw, pitch, roll in radians, hertz, phase.
        turn: yaw and pitch of a quick turn, when it is half done, and how long it takes, in radians and seconds.
        middle_s: the time of the middle of the clip.
    """

    mount: str
    focal_px: float
    place_m: tuple[float, float, float]
    velocity_m_s: tuple[float, float, float]
    angles: tuple[float, float, float]
    waves: np.ndarray
    turn: tuple[float, float, float, float]
    middle_s: float

    def vector(self, t_s: float, size_hw: tuple[int, int]) -> np.ndarray:
        """Return the kernels' camera vector at a time (see ``raster``)."""
        wave = np.sin(2 * math.pi * self.waves[:, 6] * t_s + self.waves[:, 7]) @ self.waves[:, :6]
        since = t_s - self.middle_s
        x, y, z = (
            p + v * since + w for p, v, w in zip(self.place_m, self.velocity_m_s, wave[:3].tolist(), strict=True)
        )
        yaw, pitch, roll = (a + w for a, w in zip(self.angles, wave[3:].tolist(), strict=True))
        turn_yaw, turn_pitch, when, takes = self.turn
        part = min(max((t_s - when) / takes + 0.5, 0.0), 1.0)
        part = part**3 * (part * (6 * part - 15) + 10) - 0.5
        yaw, pitch = yaw + turn_yaw * part, pitch + turn_pitch * part
        cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (math.cos, math.sin))
        forward = (cy * cp, sy * cp, -sp)
        level, below = (sy, -cy, 0.0), (-sp * cy, -sp * sy, -cp)
        right = tuple(cr * a + sr * b for a, b in zip(level, below, strict=True))
        down = tuple(cr * b - sr * a for a, b in zip(level, below, strict=True))
        height, width = size_hw
        return np.array([x, y, max(z, 0.1), *right, *down, *forward, self.focal_px, width / 2, height / 2])


def random_rig(
    rng: np.random.Generator,
    mount: str,
    *,
    focal_px: float,
    place_m: tuple[float, float, float],
    yaw: float,
    pitch: float,
    seconds: float,
    speed_m_s: float,
) -> Rig:
    """Draw how a camera at a place moves; it looks along ``yaw`` and ``pitch`` and goes at about ``speed_m_s``."""
    waves = [np.zeros(8)]

    def wave(hz: float, move_m: float, turn_rad: float) -> None:
        moves, turns = rng.standard_normal(3) * move_m, rng.standard_normal(3) * turn_rad * np.array([1, 1, 0.7])
        waves.append(np.array([*moves, *turns, hz, rng.uniform(0, 6.28)]))

    turn = (0.0, 0.0, 0.0, 1.0)
    heading = yaw
    if mount in ("hand", "worn"):
        # Hands tremble at 8-12 Hz by tenths of a degree and drift by degrees at 0.2-2 Hz (Elble, Koller, Tremor, 1990).
        strength = log_uniform(rng, 0.15, 1.6)
        for hz, degrees in ((0.3, 2.0), (0.8, 1.5), (1.7, 0.9), (4.0, 0.25), (9.0, 0.08)):
            wave(hz * float(rng.uniform(0.7, 1.4)), 0.012 * strength / (1 + hz), math.radians(degrees) * strength)
        if speed_m_s > 0.2:  # a gait of two steps a cycle: the head bobs by 2 cm and nods by a degree
            hz = 0.9 * math.sqrt(speed_m_s) * float(rng.uniform(0.9, 1.1))
            bob = float(rng.uniform(0.3, 1.3))
            waves.append(np.array([0, 0, 0.02 * bob, 0, math.radians(0.9) * bob, 0, 2 * hz, rng.uniform(0, 6.28)]))
            waves.append(
                np.array(
                    [
                        0.012 * bob,
                        0.012 * bob,
                        0,
                        math.radians(0.8) * bob,
                        0,
                        math.radians(0.8) * bob,
                        hz,
                        rng.uniform(0, 6.28),
                    ]
                )
            )
            wave(4 * hz, 0.002 * bob, math.radians(0.25) * bob)
        if rng.random() < 0.25:
            reach = math.radians(float(rng.uniform(8, 60))) * float(rng.choice([-1, 1]))
            turn = (
                reach,
                0.2 * reach * float(rng.standard_normal()),
                float(rng.uniform(0, seconds)),
                float(rng.uniform(0.3, 1.2)),
            )
        heading = yaw + float(rng.normal(0, 0.35))
        if rng.random() < 0.15:
            heading = yaw + float(rng.uniform(-3.1, 3.1))
    elif mount == "car":
        rough = log_uniform(rng, 0.1, 1.0)
        for hz in (1.2, 2.6, 6.0):
            wave(hz * float(rng.uniform(0.7, 1.4)), 0.01 * rough / hz, math.radians(0.3) * rough / hz)
        if rng.random() < 0.25:
            turn = (float(rng.normal(0, 0.5)), 0.0, seconds / 2, max(2.0, seconds))
    elif mount == "drone":
        for hz in (0.2, 0.7, 2.0, 7.0):
            wave(hz * float(rng.uniform(0.7, 1.4)), 0.05 / (1 + hz), math.radians(0.8) / (1 + hz))
        heading = yaw + float(rng.uniform(-3.1, 3.1))
    elif rng.random() < 0.2:  # a pole in the wind
        wave(float(rng.uniform(0.5, 3)), 0.001, math.radians(0.05))
    velocity = (speed_m_s * math.cos(heading), speed_m_s * math.sin(heading), 0.0)
    roll = math.radians(float(np.clip(rng.normal(0, 6 if mount in ("hand", "worn") else 1.2), -15, 15)))
    return Rig(mount, focal_px, place_m, velocity, (yaw, pitch, roll), np.stack(waves), turn, seconds / 2)

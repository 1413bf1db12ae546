"""Random cameras: riding in a car and looking ahead or aside, or fixed next to or above the street."""

import math
from dataclasses import dataclass

import numpy as np

from spiking_centernet.simulate.render.textures import RoadPlan


@dataclass(frozen=True)
class Camera:
    """Where a camera is mounted, and how it shakes.

    Attributes:
        mount: "forward" or "sideways" in a moving car, or "static".
        height_m: height above the ground.
        yaw, pitch, roll: radians; yaw counts from the street's direction (or from +y if static) to the left, pitch
            is positive downwards.
        focal_px: focal length.
        x_m, y_m: place of a static camera.
        shake: float64 [K, 4]: radians of yaw and pitch, frequency in Hz and phase of each part of the shaking.
    """

    mount: str
    height_m: float
    yaw: float
    pitch: float
    roll: float
    focal_px: float
    x_m: float
    y_m: float
    shake: np.ndarray

    def vector(
        self, size_hw: tuple[int, int], x: float, y: float, heading: float, moving: float, t_s: float
    ) -> np.ndarray:
        """Return the kernels' camera vector at ``x, y`` in a car of this ``heading`` (radians from +x).

        ``moving`` in 0..1 scales the fast part of the shaking, so that nothing moves while the car stands.
        """
        yaw, pitch = heading + self.yaw, self.pitch
        for yaw_rad, pitch_rad, hz, phase in self.shake.tolist():
            part = math.sin(2 * math.pi * hz * t_s + phase) * moving
            yaw += yaw_rad * part
            pitch += pitch_rad * part
        cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
        forward = (cy * cp, sy * cp, -sp)
        level = (sy, -cy, 0.0)
        below = (-sp * cy, -sp * sy, -cy * cp * cy - sy * cp * sy)
        cr, sr = math.cos(self.roll), math.sin(self.roll)
        right = (cr * a + sr * b for a, b in zip(level, below, strict=True))
        down = (cr * b - sr * a for a, b in zip(level, below, strict=True))
        h, w = size_hw
        return np.array([x, y, self.height_m, *right, *down, *forward, self.focal_px, w / 2, h / 2])


def _shake(rng: np.random.Generator, *, wander: float) -> np.ndarray:
    parts = [(wander, 0.1 * wander, rng.uniform(0.03, 0.15), rng.uniform(0, 6.3))]
    strength = 10 ** rng.uniform(-3.3, -2.0)
    for _ in range(3):
        hz = rng.uniform(0.6, 6.0)
        parts.append((0.4 * strength / hz, strength / hz, hz, rng.uniform(0, 6.3)))
    return np.array(parts)


def random_static_camera(rng: np.random.Generator, road: RoadPlan, *, size_hw: tuple[int, int]) -> Camera:
    """Draw a camera that is fixed next to or above the street."""
    return _static_camera(rng, road, size_hw=size_hw, roll=_roll(rng))


def random_camera(rng: np.random.Generator, road: RoadPlan, *, size_hw: tuple[int, int], mirror: float) -> Camera:
    """Draw a camera: half ride and look ahead, 15 % look aside, 35 % are fixed next to or above the street.

    ``mirror`` is 1 where traffic keeps to the right, -1 to the left. A draw is repeated until the street some meters
    ahead (or the aim of a fixed camera) lies within the frame.
    """
    h, w = size_hw
    roll = _roll(rng)
    kind = rng.random()
    if kind < 0.35:
        return _static_camera(rng, road, size_hw=size_hw, roll=roll)
    forward = kind < 0.85
    while True:
        height = (
            float(np.exp(rng.uniform(math.log(0.8), math.log(3.2))))
            if rng.random() < 0.85
            else float(rng.uniform(3, 5))
        )
        focal = float(np.exp(rng.uniform(math.log(0.6), math.log(2.2)))) * w
        horizon = float(rng.uniform(-0.1, 0.75)) * h
        ahead = float(np.exp(rng.uniform(math.log(9), math.log(40))))
        pitch = math.atan((h / 2 - horizon) / focal)
        row = horizon + focal * height / ahead
        if 0.2 * h < row < 0.9 * h:
            break
    if forward:
        yaw = float(np.clip(rng.normal(0, 0.10), -0.3, 0.3))
        wander = float(rng.uniform(0.0, 0.12))
    else:
        across = mirror if rng.random() < 0.75 else -mirror  # mostly over the oncoming lanes: the kerb side shows walls
        yaw = across * math.radians(float(rng.uniform(25, 75)))
        wander = float(rng.uniform(0.0, 0.05))
    shake = _shake(rng, wander=wander)
    return Camera("forward" if forward else "sideways", height, yaw, pitch, roll, focal, 0.0, 0.0, shake)


def _roll(rng: np.random.Generator) -> float:
    return math.radians(float(np.clip(rng.normal(0, 1.2), -3, 3)))


def _static_camera(rng: np.random.Generator, road: RoadPlan, *, size_hw: tuple[int, int], roll: float) -> Camera:
    h, w = size_hw
    while True:
        focal = float(np.exp(rng.uniform(math.log(0.6), math.log(2.2)))) * w
        target_px = float(np.exp(rng.uniform(math.log(32), math.log(150) if rng.random() < 0.75 else math.log(300))))
        reach = float(np.clip(focal * 4.3 / target_px, 6.5, 70))
        height = float(rng.uniform(1.4, 10))
        if height > 0.85 * reach:
            continue
        level = math.sqrt(reach**2 - height**2)
        turn = float(rng.uniform(-1.25, 1.25))  # from square across the street to almost along it
        side = float(rng.choice([-1, 1]))
        aim_x = float(rng.uniform(-1, 1)) * (road.half_m if target_px < 150 else road.pave_end_m)
        x, y = aim_x + side * level * math.cos(turn), -level * math.sin(turn)
        on_street = abs(x) < road.kerb_m + 0.5
        if on_street and height < 4.5:
            continue
        break
    yaw = math.atan2(-y, aim_x - x) + float(rng.uniform(-0.2, 0.2)) * w / focal
    pitch = math.atan2(height, level) + float(rng.uniform(-0.22, 0.18)) * h / focal
    return Camera("static", height, yaw, pitch, roll, focal, x, y, np.zeros((0, 4)))

"""A street before a fixed camera on which traffic and people stop and go on: what stands still makes no events."""

import numpy as np

from spiking_centernet.simulate.render.textures import RoadPlan
from spiking_centernet.simulate.scene.camera import Camera, random_static_camera
from spiking_centernet.simulate.scene.scene import Scene
from spiking_centernet.simulate.scene.traffic import PARKED, STEP_S, WALK, Mover, Traffic

GOING_S, STANDING_S, CHANGING_S = (0.3, 2.0), (0.8, 4.0), (0.5, 1.5)
"""Seconds that all cars, or one walker, move, stand, and take to come to a halt or to set off, drawn uniformly; ours,
so that clips of three or four seconds show a halt and what comes after."""

RESTLESS = 0.3
"""Share of the walkers that never stop; ours."""


class StopsScene(Scene):
    """A :class:`Scene` with a fixed camera in which all cars stop and set off together, walkers each on their own.

    Everybody takes the way that traffic drew for them; only the time in which they take it stops.
    """

    def __init__(self, rng: np.random.Generator, *, size_hw: tuple[int, int], duration_s: float):
        self._clocks = rng.spawn(1)[0]
        super().__init__(rng, size_hw=size_hw, duration_s=duration_s)

    def _draw_camera(self, rng: np.random.Generator, road: RoadPlan) -> Camera:
        return random_static_camera(rng, road, size_hw=self.size_hw)

    def _load(self, traffic: Traffic) -> None:
        driving = draw_clock(self._clocks, traffic.steps)
        for mover in traffic.movers:
            if mover.role == WALK:
                walking = draw_clock(self._clocks, traffic.steps)
                if self._clocks.random() >= RESTLESS:
                    follow_clock(mover, *walking)
            elif mover.role != PARKED:
                follow_clock(mover, *driving)
        super()._load(traffic)


def draw_clock(rng: np.random.Generator, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the time by a clock that stops and goes on, in steps of ``STEP_S``, and its rate from 0 to 1.

    Args:
        rng: source of chance.
        steps: how many steps, the first at time 0.
    """
    at_s, corners = 0.0, [(0.0, 1.0)]
    while at_s < steps * STEP_S:
        for seconds, rate in ((GOING_S, 1.0), (CHANGING_S, 0.0), (STANDING_S, 0.0), (CHANGING_S, 1.0)):
            at_s += float(rng.uniform(*seconds))
            corners.append((at_s, rate))
    rate = np.interp(np.arange(steps) * STEP_S, *np.array(corners).T)
    return np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2)]), rate


def follow_clock(mover: Mover, clock: np.ndarray, rate: np.ndarray) -> None:
    """Let a mover be, at every step, where it would have been at the clock's time; in place.

    Args:
        mover: its first step and its rows change.
        clock: float64 [steps], from :func:`draw_clock`.
        rate: of the clock, float64 [steps].
    """
    rows, last = np.array(mover.rows, np.float64).reshape(-1, 4), len(mover.rows) - 1
    inside = np.flatnonzero((clock >= mover.start) & (clock <= mover.start + last))
    if last < 1 or not len(inside):
        mover.rows = []
        return
    local = clock[inside] - mover.start
    k = np.minimum(local.astype(np.int64), last - 1)
    w = (local - k)[:, None]
    a, b = rows[k], rows[k + 1]
    # The cubic through positions and speeds that the renderer draws between two rows, and its derivative.
    place = a[:, :2] + w * w * (3 - 2 * w) * (b[:, :2] - a[:, :2])
    place += STEP_S * (w * (1 - w) ** 2 * a[:, 2:] + w * w * (w - 1) * b[:, 2:])
    speed = 6 * w * (1 - w) * (b[:, :2] - a[:, :2]) / STEP_S
    speed += (1 - w) * (1 - 3 * w) * a[:, 2:] + w * (3 * w - 2) * b[:, 2:]
    mover.start = int(inside[0])
    mover.rows = [(*p, *v) for p, v in zip(place.tolist(), (speed * rate[inside, None]).tolist(), strict=True)]

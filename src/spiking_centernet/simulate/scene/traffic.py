"""Who moves where: car following, traffic lights and walkers, computed once for the whole clip as tables over time."""

import math
from dataclasses import dataclass, field

import numpy as np

from spiking_centernet.simulate.render.textures import RoadPlan

STEP_S = 0.1
"""Time between two rows of a trajectory; positions in between follow a cubic through positions and speeds."""

LANE, CROSS, WALK, PARKED = 0, 1, 2, 3


@dataclass
class Mover:
    """One actor from when it appears until it leaves.

    Attributes:
        role: LANE, CROSS, WALK or PARKED.
        shape: index into the scene's shapes.
        start: first step of the tables.
        heading: direction in the road's frame, radians from "across to the right".
        rows: (along, across, speed along, speed across) per step, meters and meters per second.
    """

    role: int
    shape: int
    start: int
    heading: float
    length_m: float
    rows: list[tuple[float, float, float, float]] = field(default_factory=list)


@dataclass
class _Car:
    """A car in a lane: ``at`` and ``speed`` grow in the direction of travel."""

    mover: Mover
    at: float
    speed: float
    wish: float
    length: float
    ego: bool = False


@dataclass
class _Lane:
    """A strip of one-way traffic; the cars are kept front to back."""

    role: int
    sign: float
    across: float  # its distance from the middle, or for a crossing lane its place along the road
    wish: float
    gap: float
    cars: list[_Car] = field(default_factory=list)
    next_gap: float = 20.0


def _accelerate(car: _Car, gap: float, closing: float) -> float:
    """Return the intelligent-driver acceleration (Treiber 2000) with 1.6 m/s2 thrust, 2.5 m/s2 comfortable braking."""
    want = 2.0 + max(0.0, car.speed * 1.2 + car.speed * closing / (2 * math.sqrt(1.6 * 2.5)))
    free = (car.speed / max(car.wish, 0.1)) ** 4
    return min(max(1.6 * (1 - min(free, 3.0) - (want / max(gap, 0.3)) ** 2), -7.0), 2.0)


@dataclass(frozen=True)
class Plan:
    """What kind of traffic to make.

    Attributes:
        road: the street.
        mirror: -1 to drive on the left, else 1.
        ego: whether the camera rides in a car.
        behind_m, ahead_m: the stretch along the road, around the camera, that is kept filled.
        gap_m: mean gap between cars in a lane.
        walkers: walkers on each pavement per 100 m.
        crossers_hz: how often somebody sets out across the street.
        parked: chance of each parking place being taken.
        wish: ego's wished speed in m/s.
        view_m: where walkers set out around the camera, nearest and furthest place along the road.
    """

    road: RoadPlan
    mirror: float
    ego: bool
    behind_m: float
    ahead_m: float
    gap_m: float
    walkers: float
    crossers_hz: float
    parked: float
    wish: float
    view_m: tuple[float, float]


class Traffic:
    """Simulate the whole clip; afterwards ``movers`` and ``ego_rows`` hold everything."""

    def __init__(
        self, rng: np.random.Generator, plan: Plan, cars: list[tuple[int, float]], walkers: list[int], duration_s: float
    ):
        self.rng, self.plan, self.cars, self.walker_shapes = rng, plan, cars, walkers
        self.movers: list[Mover] = []
        self.ego_rows: list[tuple[float, float, float, float]] = []
        self.steps = math.ceil(duration_s / STEP_S) + 3
        road = plan.road
        self.lanes: list[_Lane] = []
        for sign in (1.0, -1.0):
            for k in range(road.lanes):
                wish = float(rng.uniform(6, 13)) * (1.0 if k else 0.9)
                across = sign * plan.mirror * (road.lanes - k - 0.5) * road.lane_m
                self.lanes.append(_Lane(LANE, sign, across, wish, plan.gap_m))
        self.here = 0.0
        self.walks: list[tuple[Mover, float, float, float, float]] = []
        self.green_s, self.red_s = float(rng.uniform(9, 16)), float(rng.uniform(6, 10))
        self.shift_s = float(rng.uniform(0, 30))
        self.cross: dict[int, list[_Lane]] = {}
        self.ego: _Car | None = None
        self._populate()
        for step in range(self.steps):
            self._step(step)

    def _new_car(self, lane: _Lane, at: float, step: int, speed: float) -> _Car:
        shape, length = self.cars[int(self.rng.integers(len(self.cars)))]
        heading = math.pi / 2 * lane.sign if lane.role == LANE else (0.0 if lane.sign > 0 else math.pi)
        mover = Mover(lane.role, shape, step, heading, length)
        self.movers.append(mover)
        return _Car(mover, at, speed, lane.wish * float(self.rng.uniform(0.8, 1.2)), length)

    def _draw_gap(self, lane: _Lane) -> float:
        return 9.0 + float(self.rng.exponential(max(lane.gap - 9.0, 4.0)))

    def _populate(self) -> None:
        plan, rng = self.plan, self.rng
        for index, lane in enumerate(self.lanes):
            low, high = (-plan.behind_m, plan.ahead_m) if lane.sign > 0 else (-plan.ahead_m, plan.behind_m)
            at = high - float(rng.uniform(0, plan.gap_m))
            mine = plan.ego and index == 0
            while at > low:
                if not (mine and abs(at) < 10):
                    lane.cars.append(self._new_car(lane, at, 0, lane.wish * 0.8))
                at -= self._draw_gap(lane)
            if mine:
                mover = Mover(LANE, -1, 0, math.pi / 2, 4.4)
                self.ego = _Car(mover, 0.0, plan.wish * 0.7, plan.wish, 4.4, ego=True)
                lane.cars.append(self.ego)
                lane.cars.sort(key=lambda car: -car.at)
        road = plan.road
        if road.park_m and plan.parked > 0:
            reach = plan.ahead_m + (20.0 * self.steps * STEP_S if plan.ego else 0.0)
            at = -plan.behind_m
            while at < min(reach, 1500.0):
                at += 6.2
                to_cross = abs((at + road.period_m / 2) % road.period_m - road.period_m / 2)
                for sign in (1.0, -1.0):
                    if rng.random() < plan.parked and (not road.cross_m or to_cross > road.cross_m + 7):
                        shape, length = self.cars[int(rng.integers(len(self.cars)))]
                        across = sign * (road.half_m + road.park_m / 2 + float(rng.uniform(-0.15, 0.15)))
                        heading = math.pi / 2 * sign * plan.mirror + float(rng.normal(0, 0.02))
                        mover = Mover(PARKED, shape, 0, heading, length)
                        mover.rows = [(at + float(rng.uniform(-0.4, 0.4)), across, 0.0, 0.0)]
                        self.movers.append(mover)
        for sign in (1.0, -1.0):
            for _ in range(rng.poisson(plan.walkers * (plan.behind_m + plan.ahead_m) / 100)):
                self._add_walker(0, float(rng.uniform(-plan.behind_m, plan.ahead_m)), sign)

    def _add_walker(self, step: int, at: float, side: float) -> None:
        rng, road = self.rng, self.plan.road
        speed = float(rng.uniform(0.7, 1.9)) * float(rng.choice([-1, 1])) * (1.8 if rng.random() < 0.05 else 1.0)
        across = side * float(rng.uniform(road.kerb_m + 0.5, road.pave_end_m - 0.4))
        shape = self.walker_shapes[int(rng.integers(len(self.walker_shapes)))]
        mover = Mover(WALK, shape, step, math.pi / 2 if speed > 0 else -math.pi / 2, 0.4)
        self.movers.append(mover)
        self.walks.append((mover, at, across, speed, 0.0))

    def _add_crosser(self, step: int) -> None:
        rng, plan, road = self.rng, self.plan, self.plan.road
        low, high = plan.view_m
        if self.ego:
            low = max(low, 12.0 + 2.6 * self.ego.speed)
            high = max(high, low + 25.0)
        at = self.here + float(rng.uniform(low, high))
        if road.cross_m:  # keep to the zebra where there is one
            nearest = round(at / road.period_m) * road.period_m
            if abs(at - nearest) < 14:
                at = nearest + (road.cross_m + 2.0) * float(rng.choice([-1, 1]))
        side = float(rng.choice([-1, 1]))
        speed = -side * float(rng.uniform(0.9, 2.0))
        shape = self.walker_shapes[int(rng.integers(len(self.walker_shapes)))]
        mover = Mover(WALK, shape, step, 0.0 if speed > 0 else math.pi, 0.4)
        self.movers.append(mover)
        self.walks.append((mover, at, side * (road.pave_end_m - 0.5), 0.0, speed))

    def _main_is_red(self, crossing: int, t_s: float) -> tuple[bool, bool]:
        """Return whether the main road and the crossing road see red."""
        phase = (t_s + self.shift_s + 7.3 * crossing) % (self.green_s + self.red_s + 4.0)
        return phase > self.green_s, not (self.green_s + 2.0 < phase < self.green_s + self.red_s)

    def _stop_line(self, lane: _Lane, car: _Car, t_s: float) -> float:
        """Return the distance to the red light that this car must stop at, or a large number."""
        road = self.plan.road
        if not road.cross_m:
            return 1e6
        if lane.role == CROSS:
            line = -road.kerb_m - 1.0
            crossing = round(lane.across / road.period_m)
            red = self._main_is_red(crossing, t_s)[1]
        else:
            back = road.cross_m + 4.3
            crossing = math.ceil((car.at + back) / road.period_m)
            line = crossing * road.period_m - back
            if car.at > line:
                return 1e6
            red = self._main_is_red(int(lane.sign) * crossing, t_s)[0]
        ahead = line - car.at - car.length / 2
        if not red or ahead < -0.5 or ahead < car.speed**2 / (2 * 4.5):
            return 1e6
        return ahead + 1.5

    def _drive(self, lane: _Lane, t_s: float, walkers: list[tuple[float, float]]) -> None:
        leader: _Car | None = None
        for car in lane.cars:
            gap, closing = 1e6, 0.0
            if leader is not None:
                gap, closing = leader.at - car.at - (leader.length + car.length) / 2, car.speed - leader.speed
            rate = _accelerate(car, gap, closing)
            stop = self._stop_line(lane, car, t_s)
            for along, across in walkers:
                if lane.role == LANE and abs(across - lane.across) < 2.6:
                    ahead = lane.sign * along - car.at - car.length / 2
                    if 0.0 < ahead < 60.0:
                        stop = min(stop, ahead - 0.5)
            rate = min(rate, _accelerate(car, stop, car.speed))
            car.speed = max(0.0, car.speed + rate * STEP_S)
            car.at += car.speed * STEP_S
            leader = car

    def _record(self, lane: _Lane) -> None:
        for car in lane.cars:
            along, speed = lane.sign * car.at, lane.sign * car.speed
            row = (along, lane.across, speed, 0.0) if lane.role == LANE else (lane.across, along, 0.0, speed)
            (self.ego_rows if car.ego else car.mover.rows).append(row)

    def _refill(self, lane: _Lane, step: int) -> None:
        plan = self.plan
        low, high = self.here - plan.behind_m, self.here + plan.ahead_m
        if lane.role == CROSS:
            low, high = -60.0, 60.0
        elif lane.sign < 0:
            low, high = -high, -low
        lane.cars = [car for car in lane.cars if car.ego or low - 8 < car.at < high + 8]
        tail = lane.cars[-1] if lane.cars else None
        if tail is None or tail.at - low > lane.next_gap:
            speed = lane.wish * 0.9 if tail is None else min(lane.wish * 0.9, tail.speed + 2)
            if tail is None or tail.at - low - 9 > 1.5 * max(0.0, speed - tail.speed) * 2:
                lane.cars.append(self._new_car(lane, low, step, speed))
                lane.next_gap = self._draw_gap(lane)
        if lane.role == LANE and self.ego and lane.sign > 0:
            head = lane.cars[0]
            if high - head.at > lane.gap + 12 and self.ego.speed > head.speed - 1:
                lane.cars.insert(0, self._new_car(lane, high, step, lane.wish * 0.8))

    def _step(self, step: int) -> None:
        rng, plan, t_s = self.rng, self.plan, step * STEP_S
        crossing_now = []
        kept = []
        for mover, along, across, v_along, v_across in self.walks:
            mover.rows.append((along, across, v_along, v_across))
            if v_across and abs(across) < plan.road.half_m + 1.0:
                crossing_now.append((along, across + 0.8 * v_across))
            along, across = along + v_along * STEP_S, across + v_across * STEP_S
            gone = abs(across) > plan.road.pave_end_m if v_across else False
            if not gone and -plan.behind_m - 3 < along - self.here < plan.ahead_m + 3:
                kept.append((mover, along, across, v_along, v_across))
        self.walks = kept
        lanes = list(self.lanes)
        road = plan.road
        if road.cross_m:
            for k in range(
                math.ceil((self.here - 20) / road.period_m), math.floor((self.here + 90) / road.period_m) + 1
            ):
                if k not in self.cross:
                    self.cross[k] = [
                        _Lane(
                            CROSS,
                            s,
                            k * road.period_m - s * plan.mirror * road.cross_m / 2,
                            float(rng.uniform(6, 10)),
                            26,
                        )
                        for s in (1.0, -1.0)
                    ]
            self.cross = {k: v for k, v in self.cross.items() if abs(k * road.period_m - self.here) < 130}
            for pair in self.cross.values():
                lanes.extend(pair)
        for lane in lanes:
            self._record(lane)
            self._drive(lane, t_s, crossing_now)
            self._refill(lane, step + 1)
        if self.ego:
            self.here = self.ego.at
            if rng.random() < STEP_S / 8:
                stop = rng.random() < 0.12
                self.ego.wish = 0.05 if stop else float(np.clip(plan.wish * rng.uniform(0.5, 1.3), 1.0, 20.0))
            elif self.ego.wish < 0.1 and self.ego.speed < 0.3 and rng.random() < STEP_S / 2:
                self.ego.wish = plan.wish
        if rng.random() < plan.crossers_hz * STEP_S:
            self._add_crosser(step + 1)
        for side in (1.0, -1.0):
            flow = plan.walkers / 100 * (abs(self.ego.speed) if self.ego else 0.0) + plan.walkers / 100 * 0.6
            if rng.random() < flow * STEP_S:
                moving = self.ego and self.ego.speed > 1
                end = self.here + (plan.ahead_m if moving or rng.random() < 0.5 else -plan.behind_m)
                self._add_walker(step + 1, end, side)

"""A random street with traffic, seen by a random camera: luminance frames and the boxes of what is visible in them."""

import copy
import dataclasses
import math

import numpy as np

from spiking_centernet.calibration import Calibration
from spiking_centernet.errors import ConfigError
from spiking_centernet.simulate import labels
from spiking_centernet.simulate.colors import GROUND, SKY, of_luminance_1, primitive_tints
from spiking_centernet.simulate.render import frame, textures
from spiking_centernet.simulate.render.ground import draw_ground_and_sky, draw_still
from spiking_centernet.simulate.scene import street
from spiking_centernet.simulate.scene.actors import CAR_KINDS, Pool, add_car, add_pedestrian
from spiking_centernet.simulate.scene.camera import Camera, random_camera
from spiking_centernet.simulate.scene.lighting import random_look, skyline
from spiking_centernet.simulate.scene.traffic import PARKED, STEP_S, WALK, Plan, Traffic

MIN_SIDE_PX, MIN_DIAGONAL_PX = 10.0, 15.0
"""Objects with a smaller box get no label."""

GROUND_SIZE = (2048, 1024)
"""Texels of one period of the ground, along and across."""

GROUND_EXTENT_M = 30.0
"""The ground is painted this far to each side of the street's middle."""

MOST_ACTORS = 320
"""Room for the actors within sight at one time; any more would be left out."""


class Scene:
    """A street for ``duration_s`` seconds; every method depends on the time asked for alone.

    Args:
        rng: source of all randomness: it alone draws street, traffic and camera.
        size_hw: rows and columns of a frame in pixels.
        duration_s: length in seconds.

    Raises:
        ConfigError: If the size or the duration is too small to draw.

    Attributes:
        size_hw: rows and columns of a frame.
        night: whether only lamps light the street.
        duration_s: length in seconds.
        description: what was drawn for camera, street and traffic.
    """

    def __init__(self, rng: np.random.Generator, *, size_hw: tuple[int, int], duration_s: float):
        if min(size_hw) < 16 or not duration_s > 0:
            raise ConfigError(
                f"a scene of {size_hw[1]} x {size_hw[0]} pixels and {duration_s} s cannot be drawn: "
                "give at least 16 x 16 pixels and a positive duration"
            )
        self.size_hw, self.duration_s = size_hw, duration_s
        self.night = bool(rng.random() < 0.3)
        self._road = road = textures.RoadPlan(
            lanes=int(rng.choice([1, 1, 2])),
            lane_m=float(rng.uniform(2.9, 3.6)),
            park_m=float(rng.choice([0.0, 2.3])),
            pave_m=float(rng.uniform(1.8, 4.0)),
            setback_m=float(rng.uniform(0.3, 6.0)),
            period_m=float(rng.uniform(80, 110)),
            cross_m=float(rng.choice([0.0, 3.4, 3.8])),
        )
        self._mirror = float(rng.choice([1, 1, -1]))
        self._camera = camera = self._draw_camera(rng, road)
        riding = camera.mount != "static"
        self._look = random_look(rng, night=self.night, riding=camera.mount == "forward")
        wish = float(rng.uniform(5, 19)) if camera.mount == "forward" else float(rng.uniform(2, 9)) if riding else 0.0
        reach = 150.0 + 1.3 * wish * duration_s
        self._bend = street.make_bend(rng, low_m=-320, high_m=reach + 320, steepest=0.4 if riding else 0.12)

        pool, shapes = Pool(), []
        cars: list[tuple[int, float]] = []
        for _ in range(12):
            shapes.append(add_car(rng, pool, str(rng.choice(CAR_KINDS, p=[0.3, 0.26, 0.22, 0.14, 0.08]))))
            cars.append((len(shapes) - 1, shapes[-1].length_m))
        houses = (float(rng.choice([0.0, 0.5, 0.85, 0.95])), float(rng.choice([0.0, 0.5, 0.85, 0.95])))
        greens = (float(rng.uniform(0.3, 1.0)), float(rng.uniform(0.3, 1.0)))
        keep_out = (0.0, 0.0, 0.0)
        if not riding:
            own = 1 if camera.x_m > 0 else 0
            houses = (houses[0] * own, houses[1] * (1 - own))
            greens = (greens[0] * (1.0 if own else 0.15), greens[1] * (0.15 if own else 1.0))
            keep_out = (camera.x_m, camera.y_m, 6.0)
        self._props, self._walls = street.build(
            rng, pool, shapes, road, self._bend, low_m=-120.0, high_m=reach + 100.0, houses=houses, greens=greens,
            keep_out=keep_out,
        )  # fmt: skip
        self._num_cars, limb_shape = len(cars), len(shapes)
        walkers = []
        for _ in range(10):
            shapes.append(add_pedestrian(rng, pool))
            walkers.append(len(shapes) - 1)
        self._limb_shape = limb_shape
        self._pool = pool.freeze()
        self._shapes = np.array([[s.first, s.last, s.length_m, s.width_m, s.height_m] for s in shapes], np.float64)
        plan = Plan(
            road=road,
            mirror=self._mirror,
            ego=riding,
            behind_m=90.0 if not riding else 30.0 if camera.mount == "forward" else 70.0,
            ahead_m=90.0 if not riding else 130.0 if camera.mount == "forward" else 80.0,
            gap_m=float(rng.uniform(22, 75)) if not riding else float(rng.uniform(18, 60)),
            walkers=float(rng.uniform(4, 16)) if not riding else float(rng.uniform(5, 16)),
            crossers_hz=float(rng.uniform(0.08, 0.3)),
            parked=float(rng.choice([0.0, 0.04])) if not riding else float(rng.uniform(0.0, 0.6)),
            wish=wish,
            view_m=(-14.0, 14.0) if not riding else (8.0, 45.0),
        )
        traffic = Traffic(rng, plan, cars, walkers, duration_s)
        self._load(traffic)
        self._paint(rng)
        self._buffers(size_hw)
        self._still: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        self.description: dict[str, float | str] = {
            "mount": camera.mount,
            "height_m": camera.height_m,
            "pitch_deg": math.degrees(camera.pitch),
            "yaw_deg": math.degrees(camera.yaw),
            "roll_deg": math.degrees(camera.roll),
            "focal_widths": camera.focal_px / size_hw[1],
            "horizon": 0.5 - camera.focal_px * math.tan(camera.pitch) / size_hw[0],
            "speed_m_s": wish,
            "lanes": float(road.lanes),
            "crossing": float(road.cross_m > 0),
            "light": "night" if self.night else "day",
        }

    def _draw_camera(self, rng: np.random.Generator, road: textures.RoadPlan) -> Camera:
        return random_camera(rng, road, size_hw=self.size_hw, mirror=self._mirror)

    def _load(self, traffic: Traffic) -> None:
        movers = [m for m in traffic.movers if m.shape >= 0 and (len(m.rows) > 1 or m.role == PARKED)]
        self._movers = np.zeros((len(movers), 6))
        rows: list[tuple[float, float, float, float]] = []
        for i, m in enumerate(movers):
            self._movers[i] = (m.role, m.shape, m.start, m.heading, len(rows), len(m.rows))
            rows.extend(m.rows)
        self._rows = np.array(rows, np.float64).reshape(-1, 4)
        self._ego_rows = np.array(traffic.ego_rows, np.float64).reshape(-1, 4)
        gone = (
            np.concatenate([[0.0], np.cumsum(np.abs(np.diff(self._ego_rows[:, 0])))]) if len(self._ego_rows) else None
        )
        self._travel = gone

    def _paint(self, rng: np.random.Generator) -> None:
        ground = textures.ground(rng, self._road, size=GROUND_SIZE, extent_m=GROUND_EXTENT_M, night=self.night)
        self._ground = textures.ripmap(ground)
        tiles = [
            textures.ripmap(textures.facade(rng, night=self.night, texel_m=street.TEXEL_M)) for _ in range(street.TILES)
        ]
        self._facades = (np.stack(tiles), textures.WALL_TEXELS)
        self._skyline = skyline(rng, self._look, night=self.night)
        self._cloud = textures.ripmap(textures.noise(rng, (256, 256), 7, fall=0.6))

    def _buffers(self, size_hw: tuple[int, int]) -> None:
        h, w = size_hw
        self._clear = np.ones((h, w), np.float32)
        self._alpha = np.zeros((h, w), np.float32)
        self._acc = np.zeros((h, w + 2), np.float32)
        h2, w2 = h * labels.LABEL_SCALE, w * labels.LABEL_SCALE
        self._ids = np.full((h2, w2), -1, np.int32)
        self._alpha2 = np.zeros((h2, w2), np.float32)
        self._acc2 = np.zeros((h2, w2 + 2), np.float32)
        self._placed, self._placed_later = np.zeros((2, MOST_ACTORS, 7))
        self._queue = np.zeros((MOST_ACTORS + len(self._props) + len(self._walls), 2), np.int64)

    def _ego_state(self, t_s: float) -> tuple[float, float, float]:
        """Return the ego car's place along and across the street and its speed, following a cubic between rows."""
        rows = self._ego_rows
        at = min(max(t_s / STEP_S, 0.0), len(rows) - 1.001)
        k = int(at)
        w = at - k
        a, b = rows[k : k + 2].tolist()
        along = a[0] + w * w * (3 - 2 * w) * (b[0] - a[0])
        along += STEP_S * (w * (1 - w) ** 2 * a[2] + w * w * (w - 1) * b[2])
        return along, a[1], a[2] + w * (b[2] - a[2])

    def camera_at(self, t_s: float) -> np.ndarray:
        """Return the camera vector of ``raster`` at ``t_s``."""
        camera = self._camera
        if camera.mount == "static":
            return camera.vector(self.size_hw, camera.x_m, camera.y_m, 0.0, 0.0, t_s)
        along, across, speed = self._ego_state(t_s)
        x, slope = self._bend.at(along)
        # A few meters either side are averaged so that the heading has no kinks where the table has.
        slope = (self._bend.at(along + 3.0)[0] - self._bend.at(along - 3.0)[0]) / 6.0
        heading = math.pi / 2 - math.atan(slope)
        return camera.vector(self.size_hw, x + across, along, heading, speed / (speed + 1.0), t_s)

    def _place(self, t_s: float, cam: np.ndarray, placed: np.ndarray) -> int:
        bend = self._bend
        return frame.place(
            t_s / STEP_S, STEP_S, bend.offset_m, bend.start_m, bend.step_m, cam[0], cam[1], self._movers, self._rows,
            placed,
        )  # fmt: skip

    def _prepare(self, t_s: float) -> tuple[np.ndarray, int, int]:
        cam = self.camera_at(t_s)
        placed = self._place(t_s, cam, self._placed)
        return cam, placed, self._order(cam, placed, self.size_hw[0])

    def _order(self, cam: np.ndarray, placed: int, height: int) -> int:
        return frame.order(
            cam, self._placed, placed, self._shapes, self._props, self._walls, self.size_hw[1], height, self._queue
        )

    def _draw(self, cam: np.ndarray, length: int, out: np.ndarray) -> None:
        """Draw the queue into ``out`` and leave what is clear behind it in as many rows of ``self._clear``."""
        clear, alpha, acc = (buffer[: len(out)] for buffer in (self._clear, self._alpha, self._acc))
        clear.fill(1.0)
        out.fill(0.0)
        nothing = np.zeros(0, np.int64)
        frame.draw_queue(
            self._queue, length, self._placed, self._props, self._walls, self._shapes, self._pool, self._limb_shape,
            cam, self._look.light, self._look.haze, self._facades, (out, clear, alpha, acc), True, self._ids, nothing,
            nothing,
        )  # fmt: skip
        frame.draw_shadows(
            self._queue, length, self._placed, self._shapes, cam, *self._look.shadow, clear, alpha, acc
        )  # fmt: skip

    def _beams(self, cam: np.ndarray, placed: int) -> np.ndarray:
        """Return the head lights that matter: the ego car's and those of the nearest driving cars."""
        if not self.night:
            return np.zeros((0, 5))
        beams = []
        if self._camera.mount != "static":
            slope = self._bend.at(cam[1])[1]
            norm = math.hypot(slope, 1.0)
            beams.append((cam[0], cam[1], slope / norm, 1.0 / norm, 2.5))
        near = []
        for x, y, heading, shape, mover in self._placed[:placed, :5].tolist():
            if shape < self._limb_shape and self._movers[int(mover), 0] != PARKED:
                near.append((math.hypot(x - cam[0], y - cam[1]), x, y, heading, self._shapes[int(shape), 2]))
        for far, x, y, heading, length in sorted(near)[:4]:
            c, s = math.cos(heading), math.sin(heading)
            fade = min(max((90.0 - far) / 20.0, 0.0), 1.0)
            beams.append((x + 0.45 * length * c, y + 0.45 * length * s, c, s, 2.5 * fade))
        return np.array(beams, np.float64).reshape(-1, 5)

    def render(self, t_s: float, out: np.ndarray) -> None:
        """Write the scene's linear luminance at ``t_s`` into ``out``, float32 [H, W], about 0.5 to 255."""
        if out.shape != self.size_hw or out.dtype != np.float32:
            raise ConfigError(f"out must be float32 {list(self.size_hw)}, got {out.dtype} {list(out.shape)}")
        if self._camera.mount == "static":
            self._render_standing(t_s, out)
            return
        cam, placed, length = self._prepare(t_s)
        self._draw(cam, length, out)
        self._fill_ground(cam, self._beams(cam, placed), out, self._clear)

    def _render_standing(self, t_s: float, out: np.ndarray) -> None:
        """Write what stands as drawn once, and draw again where the moving actors are."""
        if self._still is None:
            cam, _, length = self._prepare(-math.inf)  # only what is parked has no beginning
            objects, ground = np.empty(self.size_hw, np.float32), np.zeros(self.size_hw, np.float32)
            self._draw(cam, length, objects)
            self._fill_ground(cam, np.zeros((0, 5)), ground, np.ones_like(ground))
            self._still = objects, self._clear.copy(), ground
        objects, clear, ground = self._still
        cam = self.camera_at(t_s)
        placed = self._place(t_s, cam, self._placed)
        beams = self._beams(cam, placed)
        draw_still(cam, objects, clear, ground, beams, out)
        rows = slice(
            *frame.rows_of_movers(
                cam, self._placed, placed, self._movers, self._shapes, self._limb_shape, self._look.shadow,
                self.size_hw[1], self.size_hw[0],
            )
        )  # fmt: skip
        cam[14] -= rows.start
        self._draw(cam, self._order(cam, placed, rows.stop - rows.start), out[rows])
        draw_still(cam, out[rows], self._clear[: len(out[rows])], ground[rows], beams, out[rows])

    def _fill_ground(self, cam: np.ndarray, beams: np.ndarray, out: np.ndarray, clear: np.ndarray) -> None:
        bend = self._bend
        draw_ground_and_sky(
            cam, bend.offset_m, bend.start_m, bend.step_m, self._ground, GROUND_SIZE[1], GROUND_SIZE[0],
            2 * GROUND_EXTENT_M / GROUND_SIZE[1], self._road.period_m / GROUND_SIZE[0], 12.0, self._look.haze,
            self._look.sky, self._skyline, self._cloud, beams, out, clear,
        )  # fmt: skip

    def colored(self, rng: np.random.Generator) -> "list[Scene]":
        """Return this scene as it looks in red, green and blue, each rendered like the gray one; ``rng`` draws hues."""
        kinds, starts, counts, albedo, *rest = self._pool
        tints = primitive_tints(
            rng, kinds, self._shapes, num_cars=self._num_cars, first_walker=self._limb_shape
        )  # fmt: skip
        channels = []
        for c, (sky, ground) in enumerate(zip(of_luminance_1(SKY), of_luminance_1(GROUND), strict=True)):
            scene = copy.copy(self)
            scene._pool = (kinds, starts, counts, albedo * tints[:, c], *rest)
            haze, above = self._look.haze * [sky, 1], self._look.sky * [sky, sky, 1]
            scene._look = dataclasses.replace(self._look, haze=haze, sky=above)
            scene._ground = (self._ground * ground).astype(self._ground.dtype)
            scene._still = None
            channels.append(scene)
        return channels

    def boxes(self, t_s: float, t_us: int) -> np.ndarray:
        """Return BOX_DTYPE rows stamped ``t_us`` around the visible pixels of every car and pedestrian at ``t_s``."""
        return labels.as_boxes([row for row in self.silhouettes(t_s) if _labeled(row[1:5])], t_us)

    def silhouettes(self, t_s: float) -> list[labels.Silhouette]:
        """Return visible share, left, top, right, bottom, class and track of every actor with a visible pixel."""
        _, length, seen, covered = self._mark(t_s)
        spans = np.zeros((length, 4))
        frame.boxes_of(self._ids, length, float(labels.LABEL_SCALE), spans)
        result = []
        for q in range(length):
            if self._queue[q, 0] != 0 or seen[q] == 0:
                continue
            mover = int(self._placed[self._queue[q, 1], 4])
            class_id = 1 if self._movers[mover, 0] == WALK else 0
            left, top, right, bottom = (float(v) for v in spans[q])
            result.append((seen[q] / covered[q], left, top, right, bottom, class_id, mover + 1))
        return result

    def _mark(self, t_s: float) -> tuple[np.ndarray, int, np.ndarray, np.ndarray]:
        """Number the pixels of the label buffer; return the frame's camera, what is queued, its seen and all pixels."""
        cam, _, length = self._prepare(t_s)
        enlarged = cam.copy()
        enlarged[12:15] *= labels.LABEL_SCALE
        self._ids.fill(-1)
        seen, covered = np.zeros(length, np.int64), np.zeros(length, np.int64)
        frame.draw_queue(
            self._queue, length, self._placed, self._props, self._walls, self._shapes, self._pool, self._limb_shape,
            enlarged, self._look.light, self._look.haze, self._facades,
            (self._alpha2, self._alpha2, self._alpha2, self._acc2), False, self._ids, seen, covered,
        )  # fmt: skip
        return cam, length, seen, covered

    def calibration(self, t_s: float) -> Calibration:
        """Return the camera at ``t_s``."""
        return labels.calibration_of(self.camera_at(t_s))

    def objects(self, t_s: float, boxes: np.ndarray) -> np.ndarray:
        """Return the 3D box, visibility and joints of every box, rows of ``object_dtype`` in their order.

        Args:
            t_s: the time of the boxes.
            boxes: BOX_DTYPE rows that :meth:`boxes` gave for this time, or some of them.
        """
        cam, length, seen, covered = self._mark(t_s)
        camera = labels.calibration_of(cam)
        to_level = labels.leveled_axes(cam)
        numbers = {
            int(self._placed[self._queue[q, 1], 4]) + 1: q for q in range(length) if self._queue[q, 0] == 0 and seen[q]
        }
        rows = labels.empty_rows(len(boxes))
        for row, box in zip(rows, boxes, strict=True):
            q = numbers[int(box["track_id"])]
            actor = self._placed[self._queue[q, 1]]
            first, last, length_m, width_m, height_m = self._shapes[int(actor[3])].tolist()
            if actor[3] >= self._limb_shape:
                box3d, points = labels.figure(cam, actor, height_m, self._pool[5][int(first) : int(last)])
                points = (points - cam[:3]) @ to_level.T
                row["joints3d"] = points
                row["joints"] = labels.joints_seen(points, camera, self._ids, q, labels.LABEL_SCALE, self.size_hw)
            else:
                place = float(actor[0]), float(actor[1])
                box3d = labels.box_in_frame(cam, place, float(actor[2]), (height_m, width_m, length_m))
            visible = seen[q] / covered[q]
            labels.fill_row(row, box, box3d, camera=camera, visible=visible, size_hw=self.size_hw)
        return rows

    def max_speed_px_s(self, t_s: float) -> float:
        """Return an estimate, from above, of the fastest motion in the image at ``t_s`` in pixels per second."""
        dt = 2e-3
        before, after = self.camera_at(t_s), self.camera_at(t_s + dt)
        n = self._place(t_s, before, self._placed)
        m = self._place(t_s + dt, after, self._placed_later)
        middle = self._bend.at(before[1])[0]
        beside = self._road.pave_end_m
        h, w = self.size_hw
        shift = frame.fastest(
            before, after, self._placed, n, self._placed_later, m, dt, self._shapes, self._limb_shape, middle - beside,
            middle + beside, w, h,
        )  # fmt: skip
        return 1.1 * shift / dt


def _labeled(xyxy: tuple[float, ...]) -> bool:
    width, height = xyxy[2] - xyxy[0], xyxy[3] - xyxy[1]
    return min(width, height) >= MIN_SIDE_PX and math.hypot(width, height) >= MIN_DIAGONAL_PX

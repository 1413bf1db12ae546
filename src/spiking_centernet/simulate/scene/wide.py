"""A random place with people, vehicles and things in it, seen by a random camera: frames and visible boxes.

The camera is held in a hand, worn, fixed, in a driving car or on a drone; see ``handheld`` and ``places``.
"""

import math

import numpy as np

from spiking_centernet.calibration import Calibration
from spiking_centernet.errors import ConfigError
from spiking_centernet.simulate import labels
from spiking_centernet.simulate.render import frame, stage
from spiking_centernet.simulate.render.materials import VARIANTS
from spiking_centernet.simulate.render.raster import NEAR_M
from spiking_centernet.simulate.scene import things
from spiking_centernet.simulate.scene.bodies import (
    CHEST,
    HEAD,
    add_animal,
    joint_angles,
    joints_of,
    pose_animal,
    pose_body,
)  # fmt: skip
from spiking_centernet.simulate.scene.builder import CAR, NO_CLASS, PEDESTRIAN, Builder, log_uniform, moving
from spiking_centernet.simulate.scene.handheld import MOUNTS, random_rig
from spiking_centernet.simulate.scene.inhabitants import add_cars, add_people
from spiking_centernet.simulate.scene.places import PLACES, Spot
from spiking_centernet.simulate.scene.vehicles import add_cycle

MIN_SIDE_PX = {CAR: (10.0, 8.0), PEDESTRIAN: (4.0, 10.0)}
"""Least width and height of a labeled box by class: a person 12 px high is about 5 px wide."""

STEP_PX = 2.0
"""Motion of the fastest thing in one step of the simulation."""


class WideScene:
    """A place for ``duration_s`` seconds; every method depends on the time asked for alone.

    Args:
        rng: source of all randomness: it alone draws the place, who is there and the camera.
        size_hw: rows and columns of a frame in pixels.
        duration_s: length in seconds.

    Raises:
        ConfigError: If the size or the duration is too small to draw.

    Attributes:
        size_hw: rows and columns of a frame.
        night: whether only lamps light it.
        duration_s: length in seconds.
        description: what was drawn for camera, place, light and actors.
    """

    name = "wide"
    pitch_spread = 0.12
    """Standard deviation of where the one looked at is above or below the middle, shares of the frame's height."""
    shown_by: tuple[int, ...] = (HEAD, CHEST)
    """Limbs of which one must begin in the frame, or a person has no label."""

    def __init__(self, rng: np.random.Generator, *, size_hw: tuple[int, int], duration_s: float):
        if min(size_hw) < 16 or not duration_s > 0:
            raise ConfigError(
                f"a scene of {size_hw[1]} x {size_hw[0]} pixels and {duration_s} s cannot be drawn: "
                "give at least 16 x 16 pixels and a positive duration"
            )
        self.size_hw, self.duration_s = size_hw, duration_s
        height, width = size_hw
        names = list(PLACES)
        shares = np.array([PLACES[name].share for name in names])
        name = str(rng.choice(names, p=shares / shares.sum()))
        place = PLACES[name]
        mount = str(rng.choice(MOUNTS, p=place.mounts))
        self.night = bool(rng.random() < (0.15 if place.outdoors else 0.05))
        focal = log_uniform(rng, 0.5, 3.0 if name not in ("desk", "room") else 1.4) * width
        has_people, has_cars = rng.random() < place.people, rng.random() < place.cars
        if not has_people and not has_cars and rng.random() < 0.4:
            has_people = place.people > 0.5
        # The height in pixels of the one looked at decides how far away it is.
        size_m = 1.5 if has_cars and (not has_people or rng.random() < 0.6) else 1.7
        target_px = log_uniform(rng, *self._heights_px("person" if size_m > 1.6 else "car", height))
        nearest, farthest = {"room": (0.8, 7.0), "desk": (0.5, 1.2)}.get(name, (0.9 if size_m > 1.6 else 2.5, 90.0))
        aim = float(np.clip(focal * size_m / target_px, nearest, farthest))
        camera_m = {
            "hand": rng.uniform(1.2, 1.75), "worn": rng.uniform(1.1, 1.8), "car": rng.uniform(0.9, 1.7),
            "drone": rng.uniform(3, 15), "fixed": log_uniform(rng, 0.5, 6.0),
        }[mount]  # fmt: skip
        camera_m = float(min(camera_m, 0.9 * aim + 0.8, 2.6 if not place.outdoors else 99.0))
        pitch = math.atan2(camera_m - 0.5 * size_m, aim) + float(rng.normal(0, self.pitch_spread)) * height / focal
        if name == "desk":
            pitch = float(rng.uniform(0.1, 0.8))
        speed = {
            "car": float(rng.uniform(0, 14)),
            "drone": float(rng.uniform(0, 5)),
            "worn": float(rng.uniform(0, 1.8)),
        }.get(mount, float(rng.choice([0.0, 0.0, rng.uniform(0.3, 1.5)])) if mount == "hand" else 0.0)
        if name in ("desk", "room"):
            speed *= 0.4
        road = (
            float(rng.normal(0, 0.12))
            if mount == "car" or (name == "path" and rng.random() < 0.6)
            else float(rng.uniform(-1.6, 1.6))
        )
        self._spot = spot = Spot(
            camera_m, aim, 0.5 * width / focal, road,
            float(rng.normal(0, 1.5)) if mount != "car" else float(rng.uniform(-4, 4)), duration_s, self.night,
        )  # fmt: skip
        mirrored = str(rng.choice(["cloudy", "discs", "facade", "foliage"] if place.outdoors else ["cloudy", "discs"]))
        self._build = build = Builder(environment=(mirrored, int(rng.integers(VARIANTS))))
        if has_people:
            add_people(rng, build, spot, focal=focal, heights_px=self._heights_px("another", height))
        if has_cars:
            add_cars(rng, build, spot, name)
        if rng.random() < (0.35 if place.outdoors else 0.1):
            x, y = self._in_view(rng, spot, log_uniform(rng, 2, 25))
            add_animal(
                rng,
                build,
                moving(x, y, 0, float(rng.uniform(0, 6.28)), float(rng.choice([0.0, rng.uniform(0.4, 3)]))),
                seconds=duration_s,
            )
        if place.outdoors and rng.random() < 0.3:
            for _ in range(int(rng.integers(1, 3))):
                x, y = self._in_view(rng, spot, log_uniform(rng, 3, 30))
                add_cycle(
                    rng,
                    build,
                    moving(x, y, 0, float(rng.uniform(0, 6.28)), float(rng.uniform(1.5, 7))),
                    seconds=duration_s,
                )
        if mount in ("hand", "worn", "fixed") and rng.random() < (0.5 if name == "desk" else 0.05):
            for _ in range(int(rng.integers(1, 3))):
                at = (
                    float(rng.uniform(0.3, 0.6)),
                    float(rng.uniform(-0.25, 0.25)),
                    camera_m - float(rng.uniform(0.0, 0.3)),
                )
                things.add_sleeve(rng, build, at, duration_s)
        place.build(rng, build, spot)
        build.texture("cloudy", 3)
        self._rig = random_rig(
            rng, mount, focal_px=focal, place_m=(0.0, 0.0, camera_m), yaw=0.0, pitch=pitch, seconds=duration_s,
            speed_m_s=speed,
        )  # fmt: skip
        self._light(rng, place.outdoors)
        self._freeze(rng)
        self.description: dict[str, float | str] = {
            "world": self.name, "place": name, "mount": mount, "height_m": camera_m, "aim_m": aim,
            "focal_widths": focal / width, "speed_m_s": speed, "light": "night" if self.night else "day",
            "people": float(build.classes.count(PEDESTRIAN)), "cars": float(build.classes.count(CAR)),
            "objects": float(len(build.objects)), "blur_px": self._blur_px,
        }  # fmt: skip

    def _heights_px(self, who: str, height: int) -> tuple[float, float]:
        """Return how tall the "person" or "car" looked at or "another" person is in a frame so high, least and most."""
        return {"person": (12, 1.6 * height), "car": (10, 0.7 * height), "another": (12, height)}[who]

    def _in_view(self, rng: np.random.Generator, spot: Spot, away: float) -> tuple[float, float]:
        return away, float(rng.uniform(-1.1, 1.1)) * spot.slope * away

    def _light(self, rng: np.random.Generator, outdoors: bool) -> None:
        turn, up = float(rng.uniform(0, 2 * math.pi)), math.radians(float(rng.uniform(20, 70)))
        sun = (math.cos(turn) * math.cos(up), math.sin(turn) * math.cos(up), math.sin(up))
        clear = outdoors and rng.random() < 0.6
        ambient, direct = (0.55, 0.65) if clear else (0.8, 0.2)
        if self.night:
            dim = log_uniform(rng, 0.02, 0.15)
            ambient, direct = 0.7 * dim, 0.3 * dim
        self._sun = np.array([ambient, direct, *sun, -sun[0] / sun[2], -sun[1] / sun[2]])
        horizon = float(rng.uniform(120, 235)) * (0.02 if self.night else 1.0)
        self._haze = np.array([0.9 * horizon, 10 ** float(rng.uniform(2.6, 3.6)), ambient + direct])
        self._sky_look = (horizon, horizon * float(rng.uniform(0.55, 1.05)), float(rng.uniform(0, 0.3)))
        # Lenses of event cameras are seldom sharper than a pixel: our choice, calibrated on the spectra.
        self._blur_px = log_uniform(rng, 0.35, 1.3)

    def _freeze(self, rng: np.random.Generator) -> None:
        build = self._build
        self._prims = build.primitives()
        self._textures = build.stacked_textures()
        self._sky = np.array([*self._sky_look, build.texture("cloudy", 3)])
        self._local = np.array(build.verts, np.float64).reshape(-1, 3)
        self._world = self._local.copy()
        self._objects = np.array(build.objects, np.int64).reshape(-1, 4)
        self._motions = np.array(build.motions, np.float64).reshape(-1, 8)
        self._sways = np.array(build.sways, np.float64).reshape(-1, 3)
        self._shadows = np.array(build.shadows, np.float64).reshape(-1, 4)
        self._swing = np.array(build.swing_m_s, np.float64)
        self._poses, self._poses_later = np.zeros((2, len(build.objects), 6))
        self._posed_s = math.nan
        self._still = np.array([m[4] == 0 and m[7] == 0 for m in build.motions]) & (self._sways[:, 0] == 0)
        for body in build.bodies:
            self._still[body.thing] = False
        taps = np.exp(-0.5 * (np.arange(4) / self._blur_px) ** 2)
        self._taps = (taps / (taps[0] + 2 * taps[1:].sum())).astype(np.float32)
        height, width = self.size_hw
        self._clear, self._alpha, self._row = (np.zeros(self.size_hw, np.float32) for _ in range(3))
        self._acc = np.zeros((height, width + 2), np.float32)
        big = (height * labels.LABEL_SCALE, width * labels.LABEL_SCALE)
        self._ids = np.full(big, -1, np.int32)
        self._alpha2, self._acc2 = np.zeros(big, np.float32), np.zeros((big[0], big[1] + 2), np.float32)
        self._queue, self._far = np.zeros(len(self._objects), np.int64), np.zeros(len(self._objects))
        self._placed = False

    def _pose(self, t_s: float) -> None:
        """Bring every corner where it is at a time."""
        if t_s == self._posed_s:
            return
        stage.place_objects(self._motions, t_s, self._poses)
        angles = np.zeros(12)
        starts = self._prims[1]
        for body in self._build.bodies:
            pose = self._poses[body.thing]
            pelvis = joint_angles(np.array(body.settings), body.swings, pose[4], pose[5], t_s, angles)
            start = int(starts[self._objects[body.thing, 0]])
            if body.is_animal:
                pose_animal(self._local, start, body.settings[0], angles)
            else:
                pose_body(self._local, start, body.settings[0], angles, pelvis)
        for i in range(len(self._objects)):
            if not (self._placed and self._still[i]):
                first, last = self._objects[i, :2]
                stage.to_world(first, last, self._prims, self._local, self._world, self._poses[i], self._sways[i], t_s)
        self._placed = True
        self._posed_s = t_s

    def render(self, t_s: float, out: np.ndarray) -> None:
        """Write the scene's linear luminance at ``t_s`` into ``out``, float32 [H, W], about 0.5 to 255."""
        if out.shape != self.size_hw or out.dtype != np.float32:
            raise ConfigError(f"out must be float32 {list(self.size_hw)}, got {out.dtype} {list(out.shape)}")
        self._pose(t_s)
        cam = self._rig.vector(t_s, self.size_hw)
        num = self._queue_at(cam, self.size_hw)
        self._clear.fill(1.0)
        out.fill(0.0)
        nothing = np.zeros(0, np.int64)
        stage.draw_stage(
            cam, self._queue, num, self._objects, self._prims, self._world, self._poses, self._shadows, self._sun,
            self._textures, self._haze, (out, self._clear, self._alpha, self._acc), True, self._ids, nothing, nothing,
            t_s,
        )  # fmt: skip
        stage.draw_sky(cam, self._sky, self._textures, out, self._clear)
        stage.blur(out, self._taps, self._row)

    def _queue_at(self, cam: np.ndarray, size_hw: tuple[int, int]) -> int:
        return stage.queue_objects(
            cam, self._objects, self._prims, self._world, size_hw[1], size_hw[0], self._queue, self._far
        )

    def boxes(self, t_s: float, t_us: int) -> np.ndarray:
        """Return BOX_DTYPE rows stamped ``t_us`` around the visible pixels of every car and pedestrian at ``t_s``."""
        rows = []
        for row in self.silhouettes(t_s):
            _, left, top, right, bottom, class_id, _ = row
            least_width, least_height = MIN_SIDE_PX[class_id]
            if right - left >= least_width and bottom - top >= least_height:
                rows.append(row)
        return labels.as_boxes(rows, t_us)

    def silhouettes(self, t_s: float) -> list[labels.Silhouette]:
        """Return visible share, left, top, right, bottom, class and track of every actor with a visible pixel.

        A person of whom none of ``shown_by`` is in the frame is left out: a foot or a sleeve is no pedestrian.
        """
        cam, num, seen, covered = self._mark(t_s)
        spans = np.zeros((num, 4))
        frame.boxes_of(self._ids, num, float(labels.LABEL_SCALE), spans)
        rows = []
        for q in range(num):
            i = int(self._queue[q])
            class_id = self._build.classes[i]
            if class_id == NO_CLASS or seen[q] == 0 or (class_id == PEDESTRIAN and not self._is_shown(i, cam)):
                continue
            left, top, right, bottom = (float(v) for v in spans[q])
            rows.append((seen[q] / covered[q], left, top, right, bottom, class_id, i + 1))
        return rows

    def _mark(self, t_s: float) -> tuple[np.ndarray, int, np.ndarray, np.ndarray]:
        """Number the pixels of the label buffer; return the frame's camera, what is queued, its seen and all pixels."""
        self._pose(t_s)
        cam = self._rig.vector(t_s, self.size_hw)
        enlarged = cam.copy()
        enlarged[12:15] *= labels.LABEL_SCALE
        num = self._queue_at(enlarged, self._ids.shape)
        self._ids.fill(-1)
        seen, covered = np.zeros(num, np.int64), np.zeros(num, np.int64)
        stage.draw_stage(
            enlarged, self._queue, num, self._objects, self._prims, self._world, self._poses, self._shadows, self._sun,
            self._textures, self._haze, (self._alpha2, np.ones_like(self._alpha2), self._alpha2, self._acc2), False,
            self._ids, seen, covered, t_s,
        )  # fmt: skip
        return cam, num, seen, covered

    def calibration(self, t_s: float) -> Calibration:
        """Return the camera at ``t_s``."""
        return labels.calibration_of(self._rig.vector(t_s, self.size_hw))

    def objects(self, t_s: float, boxes: np.ndarray) -> np.ndarray:
        """Return the 3D box, visibility and joints of every box, rows of ``object_dtype`` in their order.

        Args:
            t_s: the time of the boxes.
            boxes: BOX_DTYPE rows that :meth:`boxes` gave for this time, or some of them.
        """
        cam, num, seen, covered = self._mark(t_s)
        camera, to_level = labels.calibration_of(cam), labels.leveled_axes(cam)
        queued = {int(self._queue[q]): q for q in range(num)}
        rows = labels.empty_rows(len(boxes))
        for row, box in zip(rows, boxes, strict=True):
            thing = int(box["track_id"]) - 1
            q = queued[thing]
            first, last = self._objects[thing, :2].tolist()
            x, y, _, heading = self._poses[thing, :4].tolist()
            box3d = labels.box_around(cam, (x, y, heading), *self._build.extent(first, last, self._local))
            visible = seen[q] / covered[q]
            labels.fill_row(row, box, box3d, camera=camera, visible=visible, size_hw=self.size_hw)
            if box["class_id"] == PEDESTRIAN:
                points = (joints_of(self._world[self._prims[1][first] :]) - cam[:3]) @ to_level.T
                row["joints3d"] = points
                row["joints"] = labels.joints_seen(points, camera, self._ids, q, labels.LABEL_SCALE, self.size_hw)
        return rows

    def _is_shown(self, thing: int, cam: np.ndarray) -> bool:
        start = int(self._prims[1][self._objects[thing, 0]])
        height, width = self.size_hw
        for limb in self.shown_by:
            x, y, z = self._world[start + 3 * limb] - cam[:3]
            depth = float(x * cam[9] + y * cam[10] + z * cam[11])
            if depth > 2 * NEAR_M:
                u = cam[13] + cam[12] * (x * cam[3] + y * cam[4] + z * cam[5]) / depth
                v = cam[14] + cam[12] * (x * cam[6] + y * cam[7] + z * cam[8]) / depth
                if 0 <= u < width and 0 <= v < height:
                    return True
        return False

    def max_speed_px_s(self, t_s: float) -> float:
        """Return the speed that makes a step of ``STEP_PX`` of the fastest thing in sight, in pixels per second."""
        dt = 2e-3
        before, after = self._rig.vector(t_s, self.size_hw), self._rig.vector(t_s + dt, self.size_hw)
        stage.place_objects(self._motions, t_s, self._poses)
        stage.place_objects(self._motions, t_s + dt, self._poses_later)
        self._posed_s = math.nan
        shift = stage.fastest_shift(
            before, after, self._objects, self._local, self._prims, self._poses, self._poses_later, self._swing * dt,
            self.size_hw[1], self.size_hw[0],
        )  # fmt: skip
        return shift / dt / STEP_PX

import copy
import math

import numpy as np
import pytest

from spiking_centernet.errors import ConfigError
from spiking_centernet.simulate.labels import MIN_VISIBLE
from spiking_centernet.simulate.render import frame, ground, raster, sampling
from spiking_centernet.simulate.render.textures import RoadPlan, noise, ripmap
from spiking_centernet.simulate.scene.camera import random_camera
from spiking_centernet.simulate.scene.scene import MIN_DIAGONAL_PX, MIN_SIDE_PX, MOST_ACTORS, Scene
from spiking_centernet.structures import BOX_DTYPE

SIZE_HW = (120, 152)


def scene_of(seed: int, duration_s: float = 3.0, size_hw=SIZE_HW):
    return Scene(np.random.default_rng(seed), size_hw=size_hw, duration_s=duration_s)


def frame_of(scene, t_s: float) -> np.ndarray:
    out = np.full(scene.size_hw, np.nan, np.float32)
    scene.render(t_s, out)
    return out


def coverage_of(outline, size_hw=(12, 14)) -> np.ndarray:
    """The share of each pixel inside a polygon, by the kernels."""
    acc = np.zeros((size_hw[0], size_hw[1] + 2), np.float32)
    alpha, clear, out = (np.zeros(size_hw, np.float32) for _ in range(3))
    box = np.zeros(4, np.int64)
    px, py = np.array(outline, float).T.copy()
    if raster._edges(px, py, len(px), acc, box):
        raster._fill(acc, box, 1.0, 1.0, out, clear, alpha, False)
    assert not acc.any(), "the buffer must be left empty"
    return alpha


def sample_at(flat, num_u, num_v, u, v, foot=1.0) -> float:
    """What the kernels read from a rip-map at one place."""
    work = np.full(sampling.VALUES * int(sampling.PIXELS), np.nan, np.float32)
    index = np.zeros(sampling.INDICES, np.int32)
    for value, at in ((u, sampling.U), (v, sampling.V), (foot, sampling.FOOT_U), (foot, sampling.FOOT_V)):
        work[at] = value
    sampling.sample(flat, num_u, num_v, work, index, np.uint64(1))
    return float(work[sampling.VALUE])


@pytest.fixture(scope="module")
def several():
    return [scene_of(seed, duration_s=1.0) for seed in range(12)]


@pytest.mark.parametrize(
    ("outline", "area"),
    [
        ([(20, 20), (25, 20), (25, 25)], 0.0),  # outside
        ([(2, 3), (5, 3), (5, 7), (2, 7)], 12.0),
        ([(2.25, 3.5), (5.75, 3.5), (5.75, 7.25), (2.25, 7.25)], 3.5 * 3.75),
        ([(1, 1), (9, 1), (1, 9)], 32.0),
        ([(1.3, 1.1), (9.7, 2.2), (6.4, 8.9)], 0.5 * abs(8.4 * 7.8 - 5.1 * 1.1)),
        ([(1, 1), (9, 1), (9, 9), (5, 5), (1, 9)], 48.0),  # concave
        ([(-5, 3), (4, 3), (4, 7), (-5, 7)], 16.0),  # cut by the left border
        ([(-50, -50), (60, -50), (60, 60), (-50, 60)], 12 * 14),
    ],
)
def test_coverage_is_the_exact_area(outline, area):
    assert coverage_of(outline).sum() == pytest.approx(area, abs=1e-4)
    assert coverage_of(outline[::-1]).sum() == pytest.approx(area, abs=1e-4)


def test_coverage_of_a_half_covered_pixel():
    cover = coverage_of([(3.5, 2), (6, 2), (6, 4), (3.5, 4)])
    np.testing.assert_allclose(cover[2, 2:7], [0, 0.5, 1, 1, 0], atol=1e-6)


def test_ripmap_halves_each_axis_and_keeps_the_mean():
    texture = np.arange(32, dtype=np.float32).reshape(4, 8)
    flat = ripmap(texture)
    np.testing.assert_array_equal(flat[:32], texture.ravel())
    start = 2 * (8 - 4) * (2 * 4 - 4)  # as the docstring says
    np.testing.assert_array_equal(flat[start : start + 16], texture.reshape(4, 4, 2).mean(-1).ravel())
    assert sample_at(flat, 8, 4, 2.5, 1.5) == texture[1, 2]
    assert sample_at(flat, 8, 4, 2.5 + 8, 1.5 - 4) == texture[1, 2]  # it wraps around


def test_texels_are_blended_and_wrap_around_like_a_plain_formula():
    rng = np.random.default_rng(0)
    texture = rng.random((16, 8)).astype(np.float32)
    for u, v in rng.uniform(-40, 40, (50, 2)):
        x, y = math.floor(u - 0.5), math.floor(v - 0.5)
        a, b = u - 0.5 - x, v - 0.5 - y
        rows, cols = [y % 16, (y + 1) % 16], [x % 8, (x + 1) % 8]
        expected = np.array([1 - b, b]) @ texture[np.ix_(rows, cols)] @ np.array([1 - a, a])
        assert sample_at(ripmap(texture), 8, 16, u, v) == pytest.approx(expected, abs=2e-5)


def test_the_vector_code_of_the_exponential_is_exact():
    x = np.linspace(0, 9, 200, dtype=np.float32)
    np.testing.assert_allclose([ground._bell(v) for v in x], np.exp(-x.astype(float)), rtol=0, atol=1e-6)


def test_a_growing_footprint_blurs_without_a_jump():
    flat = ripmap(noise(np.random.default_rng(0), (64, 64), 3))
    feet = np.geomspace(0.5, 14, 400)
    values = np.array([sample_at(flat, 64, 64, 20.3, 31.7, f) for f in feet])
    assert np.abs(np.diff(values)).max() < 0.1 * np.ptp(flat)
    assert np.ptp(values) > 0


@pytest.mark.parametrize(("size_hw", "duration_s"), [((8, 152), 1.0), (SIZE_HW, 0.0), (SIZE_HW, math.nan)])
def test_impossible_scenes_are_refused(size_hw, duration_s):
    with pytest.raises(ConfigError, match="cannot be drawn"):
        scene_of(0, duration_s, size_hw)


def test_the_wrong_buffer_is_refused(several):
    with pytest.raises(ConfigError, match="float32"):
        several[0].render(0.0, np.zeros(SIZE_HW))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 2, 3])
def test_the_seed_decides_everything(seed):
    one, two = scene_of(seed), scene_of(seed)
    assert one.description == two.description
    # The second is asked in another order: nothing may depend on what was asked before.
    late, early = frame_of(two, 2.0), frame_of(two, 0.3)
    np.testing.assert_array_equal(frame_of(one, 0.3), early)
    one.boxes(1.0, 5)
    np.testing.assert_array_equal(frame_of(one, 2.0), late)
    np.testing.assert_array_equal(one.boxes(1.5, 7), two.boxes(1.5, 7))
    assert one.max_speed_px_s(1.0) == two.max_speed_px_s(1.0)


@pytest.mark.slow
def test_seeds_differ():
    assert not np.array_equal(frame_of(scene_of(1), 0.5), frame_of(scene_of(2), 0.5))


def test_frames_are_luminances(several):
    for scene in several:
        frame = frame_of(scene, 0.5)
        assert np.isfinite(frame).all()
        assert frame.min() >= 0
        assert frame.max() < 400
        assert np.median(frame) < 60 if scene.night else np.median(frame) > 15


def test_small_steps_change_the_picture_smoothly(several):
    for scene in several:
        t_s = 0.4
        speed = scene.max_speed_px_s(t_s)
        if speed < 1:
            continue
        step_s = min(0.1 / speed, 5e-4)  # nothing moves by more than a tenth of a pixel
        before, after = frame_of(scene, t_s).astype(float), frame_of(scene, t_s + step_s).astype(float)
        around = np.lib.stride_tricks.sliding_window_view(np.pad(before, 1, mode="edge"), (3, 3))
        contrast = np.ptp(around, axis=(2, 3))
        change = np.abs(after - before)
        assert (change <= 0.25 * contrast + 0.02 * before + 0.5).mean() > 0.999
        assert change.max() < 40


def test_twice_the_step_is_twice_the_change(several):
    scene = next(s for s in several if s.description["mount"] == "forward" and not s.night)
    frames = [frame_of(scene, 0.5 + k * 2e-4).astype(float) for k in range(3)]
    once, twice = frames[1] - frames[0], frames[2] - frames[0]
    assert np.corrcoef(2 * once.ravel(), twice.ravel())[0, 1] > 0.95


def test_a_still_camera_sees_a_still_background(still_day):
    scene = still_day
    one, two = frame_of(scene, 0.2), frame_of(scene, 0.204)
    assert (one == two).mean() > 0.6
    np.testing.assert_array_equal(one, frame_of(scene, 0.2))


def test_drawing_only_the_rows_of_moving_actors_gives_the_same_picture(still_day):
    num_rows = []
    for t_s in (0.2, 1.1, 2.4):
        cam, placed, length = still_day._prepare(t_s)
        whole = np.empty(SIZE_HW, np.float32)
        still_day._draw(cam, length, whole)
        still_day._fill_ground(cam, still_day._beams(cam, placed), whole, still_day._clear)
        first, last = frame.rows_of_movers(
            cam, still_day._placed, placed, still_day._movers, still_day._shapes, still_day._limb_shape,
            still_day._look.shadow, SIZE_HW[1], SIZE_HW[0],
        )  # fmt: skip
        num_rows.append(last - first)
        np.testing.assert_allclose(frame_of(still_day, t_s), whole, rtol=1e-4)
    assert 0 < min(num_rows) < SIZE_HW[0]


def test_an_empty_street_is_bit_identical_over_time(still_day):
    scene = copy.copy(still_day)
    scene._movers = scene._movers[:0]
    np.testing.assert_array_equal(frame_of(scene, 0.1), frame_of(scene, 2.7))
    assert len(scene.boxes(0.5, 0)) == 0
    assert scene.boxes(0.5, 0).dtype == BOX_DTYPE
    assert scene.max_speed_px_s(0.5) == 0.0


def test_boxes_hold_exactly_the_visible_pixels(several):
    checked = 0
    for scene in several:
        rows = scene.silhouettes(0.5)
        ids = scene._ids.copy()
        queue = scene._queue
        for share, left, top, right, bottom, _, track in rows:
            number = next(
                q for q in range(len(queue)) if queue[q, 0] == 0 and scene._placed[queue[q, 1], 4] + 1 == track
            )
            ys, xs = np.nonzero(ids == number)
            assert (left, top) == (xs.min() / 2, ys.min() / 2)
            assert (right, bottom) == ((xs.max() + 1) / 2, (ys.max() + 1) / 2)
            assert 0 < share <= 1
            checked += 1
    assert checked > 15


def test_label_rules(several):
    classes = set()
    for scene in several:
        boxes = scene.boxes(0.6, 600_000)
        shares = {row[6]: row[0] for row in scene.silhouettes(0.6)}
        classes |= set(boxes["class_id"].tolist())
        assert boxes.dtype == BOX_DTYPE
        assert (boxes["ts"] == 600_000).all()
        assert (boxes["confidence"] == 1).all()
        assert (np.minimum(boxes["w"], boxes["h"]) >= MIN_SIDE_PX).all()
        assert (np.hypot(boxes["w"], boxes["h"]) >= MIN_DIAGONAL_PX).all()
        assert (boxes["x"] >= 0).all()
        assert (boxes["y"] >= 0).all()
        assert (boxes["x"] + boxes["w"] <= SIZE_HW[1]).all()
        assert (boxes["y"] + boxes["h"] <= SIZE_HW[0]).all()
        assert all(shares[track] >= MIN_VISIBLE for track in boxes["track_id"])
        assert len(set(boxes["track_id"])) == len(boxes)
    assert classes == {0, 1}


@pytest.fixture(scope="module")
def still_day():
    return next(s for s in map(scene_of, range(30)) if s.description["mount"] == "static" and not s.night)


def two_cars(base, across_m: float):
    """A scene reduced to two cars, one 10 m and one 16 m before a camera that looks along the street."""
    scene = copy.copy(base)
    scene._props, scene._walls = scene._props[:0], scene._walls[:0]
    scene._bend = type(scene._bend)(np.zeros(2000), -1000.0, 1.0)
    scene._movers = np.array([[3, 0, 0, math.pi / 2, 0, 1], [3, 0, 0, math.pi / 2, 1, 1]], float)
    scene._rows = np.array([[10.0, 0.0, 0, 0], [16.0, across_m, 0, 0]])
    forward, right, down = [0, 1, 0], [1, 0, 0], [0, 0, -1]
    camera = np.array([0, 0, 1.2, *right, *down, *forward, 200.0, SIZE_HW[1] / 2, SIZE_HW[0] / 2], float)
    scene.camera_at = lambda t_s: camera.copy()
    return scene


def test_an_occluded_car_is_clipped_then_dropped(still_day):
    shares, widths = [], []
    for across_m in (0.0, 1.0, 1.6, 4.0):
        scene = two_cars(still_day, across_m)
        rows = {row[6]: row for row in scene.silhouettes(0.0)}
        assert rows[1][0] == 1.0, "the nearer car is whole"
        shares.append(rows[2][0] if 2 in rows else 0.0)
        widths.append(rows[2][3] - rows[2][1] if 2 in rows else 0.0)
        labeled = scene.boxes(0.0, 0)["track_id"].tolist()
        assert (2 in labeled) == (shares[-1] >= MIN_VISIBLE)
    assert shares[0] < MIN_VISIBLE < shares[2] < shares[3] == 1.0
    assert widths[1] < widths[3]


def test_a_car_is_as_large_as_geometry_says(still_day):
    scene = two_cars(still_day, 40.0)
    width_m, height_m = scene._shapes[0, 3:5]
    length_m = scene._shapes[0, 2]
    (row,) = [row for row in scene.silhouettes(0.0) if row[6] == 1]
    near_m = 10.0 - length_m / 2
    assert 200 * width_m / 10.0 * 0.95 < row[3] - row[1] < 200 * width_m / near_m * 1.05
    assert row[4] - row[2] < 200 * height_m / near_m * 1.05
    assert (row[1] + row[3]) / 2 == pytest.approx(SIZE_HW[1] / 2, abs=1.0)


def test_tracks_stay_with_their_objects():
    scene = scene_of(1, duration_s=4.0)
    moved = []
    last = {}
    for t_s in np.arange(0.0, 4.0, 0.1):
        now = {int(b["track_id"]): b for b in scene.boxes(t_s, 0)}
        for track in now.keys() & last.keys():
            assert now[track]["class_id"] == last[track]["class_id"]
            moved.append(abs(now[track]["y"] + now[track]["h"] - last[track]["y"] - last[track]["h"]))
        last = now
    assert len(moved) > 20
    assert np.median(moved) < 4


def test_cameras_vary():
    road = RoadPlan(1, 3.2, 2.3, 2.5, 2.0, 90.0, 3.4)
    rng = np.random.default_rng(0)
    cameras = [random_camera(rng, road, size_hw=(240, 304), mirror=1.0) for _ in range(50)]
    mounts = [camera.mount for camera in cameras]
    height = np.array([camera.height_m for camera in cameras])
    focal = np.array([camera.focal_px for camera in cameras]) / 304
    roll = np.array([camera.roll for camera in cameras])
    horizon = np.array([0.5 - c.focal_px * math.tan(c.pitch) / 240 for c in cameras])
    assert mounts.count("forward") > 15
    assert mounts.count("sideways") > 2
    assert mounts.count("static") > 8
    assert horizon.std() > 0.15
    assert horizon.min() < 0.1
    assert horizon.max() > 0.6
    assert height.min() < 1.2
    assert height.max() > 6
    assert ((height >= 0.8) & (height <= 10)).all()
    assert ((focal >= 0.6) & (focal <= 2.2)).all()
    assert focal.max() / focal.min() > 2.5
    assert (np.abs(np.degrees(roll)) <= 3.001).all()


def test_days_and_nights(several):
    assert {scene.night for scene in several} == {True, False}


@pytest.mark.slow
def test_the_street_never_empties_or_crowds():
    scene = scene_of(1, duration_s=30.0)
    present = [scene._prepare(t_s)[1] for t_s in np.arange(0.0, 30.0, 2.0)]
    assert min(present) >= 3
    assert max(present) < MOST_ACTORS


def test_cars_in_a_lane_keep_apart():
    scene = scene_of(6, duration_s=20.0)
    for t_s in np.arange(0.0, 20.0, 0.5):
        _, n, _ = scene._prepare(t_s)
        cars = [row for row in scene._placed[:n] if scene._movers[int(row[4]), 0] == 0]
        for i, a in enumerate(cars):
            for b in cars[:i]:
                if math.cos(a[2] - b[2]) > 0.9:
                    ahead = abs((a[0] - b[0]) * math.cos(a[2]) + (a[1] - b[1]) * math.sin(a[2]))
                    aside = abs((b[0] - a[0]) * math.sin(a[2]) - (b[1] - a[1]) * math.cos(a[2]))
                    gap_m = (scene._shapes[int(a[3]), 2] + scene._shapes[int(b[3]), 2]) / 2
                    assert aside > 2.0 or ahead > gap_m - 0.6

import hashlib

import numpy as np
import pytest

from spiking_centernet.data.box_files import read_boxes
from spiking_centernet.errors import ConfigError
from spiking_centernet.simulate.dataset import Clip, Clips, make_clip, simulate
from spiking_centernet.simulate.profiles import PROFILES, Camera, Readout, random_camera
from spiking_centernet.simulate.render import stage
from spiking_centernet.simulate.render.materials import KINDS, texture
from spiking_centernet.simulate.render.surfaces import TEXELS
from spiking_centernet.simulate.scene.bodies import CHEST, HEAD
from spiking_centernet.simulate.scene.builder import PEDESTRIAN, Builder, Skin, moving
from spiking_centernet.simulate.scene.close import CloseScene
from spiking_centernet.simulate.scene.wide import MIN_SIDE_PX, WideScene
from spiking_centernet.simulate.sensor import SensorParams
from spiking_centernet.simulate.statistics import RecentEvents
from spiking_centernet.simulate.worlds import WORLDS
from spiking_centernet.structures import BOX_DTYPE, EVENT_DTYPE

SIZE_HW = (48, 64)


def draw(build, *, focal_px=100.0, sun=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0)):
    """Draw what a builder holds from the origin, looking along +x, on black."""
    height, width = SIZE_HW
    cam = np.array([0, 0, 0, 0, -1, 0, 0, 0, -1, 1, 0, 0, focal_px, width / 2, height / 2], np.float64)
    build.texture("soft", 0)
    prims = build.primitives()
    world = np.array(build.verts, np.float64)
    objects = np.array(build.objects, np.int64)
    poses = np.zeros((len(objects), 6))
    stage.place_objects(np.array(build.motions, np.float64), 0.0, poses)
    queue, far = np.zeros(len(objects), np.int64), np.zeros(len(objects))
    num = stage.queue_objects(cam, objects, prims, world, width, height, queue, far)
    out, clear, alpha = np.zeros(SIZE_HW, np.float32), np.ones(SIZE_HW, np.float32), np.zeros(SIZE_HW, np.float32)
    acc, nothing = np.zeros((height, width + 2), np.float32), np.zeros(0, np.int64)
    stage.draw_stage(
        cam, queue, num, objects, prims, world, poses, np.array(build.shadows), np.array(sun),
        build.stacked_textures(), np.array([0.0, 1e9, 1.0]), (out, clear, alpha, acc), True,
        np.zeros(SIZE_HW, np.int32), nothing, nothing, 0.0,
    )  # fmt: skip
    return out, clear


def test_a_flat_board_covers_its_exact_area_with_its_albedo():
    build = Builder()
    build.polygon([(5, 0.3, -0.2), (5, -0.41, -0.2), (5, -0.41, 0.33), (5, 0.3, 0.33)], Skin(80.0))
    build.close()
    out, clear = draw(build)
    area_px = (0.71 * 20) * (0.53 * 20)
    assert out.sum() == pytest.approx(80 * area_px, rel=1e-4)
    assert (1 - clear).sum() == pytest.approx(area_px, rel=1e-4)


@pytest.mark.parametrize("radius_m", [0.01, 0.05, 0.4])
def test_a_limb_is_as_wide_as_its_projection_even_under_a_pixel(radius_m):
    build = Builder()
    build.limb((5, 0.013, -2), (5, 0.013, 2), radius_m, radius_m, Skin(100.0))
    build.close()
    _, clear = draw(build)
    assert (1 - clear)[24].sum() == pytest.approx(2 * radius_m * 20, rel=0.02)


def test_a_texture_lies_where_the_plane_says():
    build = Builder()
    # One tile over 2.56 m at 5 m, 20 px a meter: 100 texels a meter, five texels a pixel.
    cover = Skin(50.0, "stripes", 2, 1.0, 0.0)
    build.polygon([(5, 1.28, -1), (5, -1.28, -1), (5, -1.28, 1), (5, 1.28, 1)], cover)
    build.close()
    out, _ = draw(build)
    along_u = texture("stripes", 2)[:TEXELS]  # upright stripes: every row is alike
    assert np.ptp(along_u) > 0.5
    # Columns 6.4 to 57.6 show texels 0 to 255; compare the means of ten columns with those of their fifty texels.
    columns = [out[10:38, c : c + 10].mean() for c in (8, 18, 28, 38)]
    texels = [along_u[round((c - 6.4) * 5) : round((c + 3.6) * 5)].mean() for c in (8, 18, 28, 38)]
    assert np.allclose(columns, 50 * np.array(texels), rtol=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_textures_are_finite_and_have_mean_one_or_cover_shares(kind):
    tile = texture(kind, 0)[: TEXELS**2]
    assert np.isfinite(tile).all()
    assert tile.min() >= 0
    cutouts = ("canopy", "tree_line", "pickets", "mesh", "wheel")
    assert (tile.max() <= 1 and 0.03 < tile.mean() < 0.97) if kind in cutouts else tile.mean() == pytest.approx(1)


def test_motions_have_their_closed_forms():
    steady, starts, stops = (np.array(moving(0, 0, 0, 0, 2.0, *ramp)) for ramp in ((), (1.0, 0.5), (1.0, -0.5)))
    assert stage.travelled(steady, 3.0) == (6.0, 2.0)
    assert stage.travelled(starts, 0.9) == (0.0, 0.0)
    assert stage.travelled(starts, 1.5) == pytest.approx((0.5, 2.0))
    assert stage.travelled(starts, 2.5) == pytest.approx((2.5, 2.0))
    assert stage.travelled(stops, 0.5) == pytest.approx((-1.0, 2.0))
    assert stage.travelled(stops, 9.0) == pytest.approx((0.5, 0.0))


def seeds_with_boxes(num):
    seed = 0
    while num:
        scene = WideScene(np.random.default_rng(seed), size_hw=(120, 152), duration_s=0.4)
        rows = [row for row in scene.silhouettes(0.2) if row[0] > 0.99]
        if rows and not scene.night:
            num -= 1
            yield scene, rows
        seed += 1


@pytest.mark.slow
def test_boxes_hold_what_changes_when_the_actor_is_taken_away():
    checked = 0
    for scene, rows in seeds_with_boxes(6):
        scene._shadows[:, 3] = 0.0
        scene._sun[1] = 0.2  # no shadow falls
        scene._taps = np.array([1.0], np.float32)
        before, after = np.empty(scene.size_hw, np.float32), np.empty(scene.size_hw, np.float32)
        scene.render(0.2, before)
        _, left, top, right, bottom, _, track = rows[0]
        scene._motions[track - 1, 2] = -500.0
        scene._posed_s, scene._placed = np.nan, False
        scene.render(0.2, after)
        y, x = np.nonzero(np.abs(before - after) > 0.02 * (before + after))
        assert len(x)
        assert x.min() >= left - 1.01
        assert x.max() + 1 <= right + 1.01
        assert y.min() >= top - 1.01
        assert y.max() + 1 <= bottom + 1.01
        checked += 1
    assert checked == 6


def test_a_scene_depends_on_the_time_asked_for_alone():
    scene = WideScene(np.random.default_rng(3), size_hw=SIZE_HW, duration_s=0.5)
    first, again = np.empty(SIZE_HW, np.float32), np.empty(SIZE_HW, np.float32)
    scene.render(0.3, first)
    boxes = scene.boxes(0.3, 7)
    scene.render(0.1, again)
    assert not np.array_equal(first, again) or scene.max_speed_px_s(0.2) < 1
    scene.max_speed_px_s(0.2)
    scene.render(0.3, again)
    assert np.array_equal(first, again)
    assert np.array_equal(boxes, scene.boxes(0.3, 7))


@pytest.mark.slow
def test_labels_have_their_least_sides_and_both_classes_come():
    classes = set()
    for seed in range(40):
        scene = WideScene(np.random.default_rng(seed), size_hw=(120, 152), duration_s=0.3)
        boxes = scene.boxes(0.15, 0)
        classes |= set(boxes["class_id"].tolist())
        for box in boxes:
            width, height = MIN_SIDE_PX[int(box["class_id"])]
            assert box["w"] >= width
            assert box["h"] >= height
            assert box["x"] >= 0
            assert box["x"] + box["w"] <= 152
    assert classes == {0, 1}


def person_heights(kind, seeds):
    """Heights of labeled people, shares of the frame's, and how many labels need more than a head or chest."""
    heights, headless = [], 0
    for seed in seeds:
        scene = kind(np.random.default_rng(seed), size_hw=(60, 76), duration_s=0.1)
        people = [row for row in scene.silhouettes(0.05) if row[5] == PEDESTRIAN]
        heights += [(row[4] - row[2]) / 60 for row in people]
        scene.shown_by = (HEAD, CHEST)
        headless += len(people) - sum(row[5] == PEDESTRIAN for row in scene.silhouettes(0.05))
    return heights, headless


@pytest.mark.slow
def test_close_is_wide_from_nearby_and_labels_people_without_a_head():
    near, headless = person_heights(CloseScene, range(20))
    far, none = person_heights(WideScene, range(20))
    assert np.median(near) > 1.2 * np.median(far)
    assert max(near) == 1
    assert headless > 0
    assert none == 0


def clip_digest(out, index, **changes):
    clip = Clip(out, 5, "train", index, 150_000, SIZE_HW, world=WORLDS["wide"], **changes)
    report = make_clip(clip)
    return hashlib.sha256(clip.events_path.read_bytes() + clip.boxes_path.read_bytes()).hexdigest(), report


@pytest.mark.slow
def test_a_wide_clip_is_a_function_of_seed_and_profile(tmp_path):
    first, report = clip_digest(tmp_path / "a", 0)
    assert clip_digest(tmp_path / "b", 0)[0] == first
    assert clip_digest(tmp_path / "c", 1)[0] != first
    assert report["scene"]["world"] == "wide"
    assert report["sensor"]["profile"] in PROFILES
    assert report["label_times"] == 2
    assert clip_digest(tmp_path / "d", 0, profile="atis")[1]["sensor"]["profile"] == "atis"


def test_simulate_takes_the_world_by_name(tmp_path):
    out = tmp_path / "wide"
    few = Clips(train=1, val=0, test=0)
    settings = {"clips": few, "duration_s": 0.15, "size_hw": SIZE_HW, "workers": 1}
    simulate(out, world="wide", profile="dvs128", **settings)
    boxes = read_boxes(next((out / "train").glob("*_bbox.npy")))
    assert (boxes["ts"] % 50_000 == 0).all()
    with pytest.raises(ConfigError, match="unknown world"):
        simulate(tmp_path / "x", world="wilde", **settings)
    with pytest.raises(ConfigError, match="has no sensor profiles"):
        simulate(tmp_path / "x", world="roads", profile="atis", **(settings | {"duration_s": 0.3}))
    with pytest.raises(ConfigError, match="unknown sensor profile"):
        simulate(tmp_path / "x", world="wide", profile="atsi", **settings)
    assert not (tmp_path / "x").exists()


def camera(**changes):
    plain = {
        "profile": "atis", "params": SensorParams(), "readout_mev_s": 1.0, "tick_us": 1, "polarity": "both",
        "clump_sigma": 0.0, "edge_gain": 1.0, "hot_columns": 0,
    }  # fmt: skip
    return Camera(**(plain | changes))


def some_events(num, end_us):
    events = np.zeros(num, EVENT_DTYPE)
    events["t"] = np.sort(np.random.default_rng(0).integers(0, end_us, num))
    events["p"] = np.arange(num) % 2
    return events


def test_the_readout_lets_no_more_through_than_its_rate():
    readout = Readout(camera(), np.random.default_rng(0))
    passed = [readout.step(some_events(5000, 1000), k * 1000, (k + 1) * 1000) for k in range(20)]
    # 2000 events fit into the buffer, then 1000 leave each millisecond.
    assert sum(map(len, passed)) == 2000 + 19 * 1000
    assert all((np.diff(events["t"]) >= 0).all() for events in passed)
    few = some_events(100, 1000)
    assert np.array_equal(Readout(camera(), np.random.default_rng(0)).step(few, 0, 1000), few)


def test_ticks_and_switched_off_polarity():
    events = some_events(400, 1000)
    ticked = Readout(camera(tick_us=200), np.random.default_rng(0)).step(events, 0, 1000)
    assert set(ticked["t"].tolist()) == {0, 200, 400, 600, 800}
    only_on = Readout(camera(polarity="on"), np.random.default_rng(0)).step(events, 0, 1000)
    assert np.array_equal(only_on, events[events["p"] == 1])


def test_noise_clumps_and_has_hot_columns_but_keeps_its_mean():
    gain = camera(clump_sigma=0.8, hot_columns=2).noise_gain((60, 80), np.random.default_rng(0))
    assert gain.mean() == pytest.approx(1)
    assert np.corrcoef(gain[:, :-1].ravel(), gain[:, 1:].ravel())[0, 1] > 0.2
    columns = np.sort(np.median(gain, axis=0))
    assert columns[-2] > 4 * columns[-3]
    assert np.array_equal(camera().noise_gain((4, 5), np.random.default_rng(0)), np.ones((4, 5)))


def test_every_profile_draws_possible_cameras():
    for name in PROFILES:
        for seed in range(5):
            drawn = random_camera(np.random.default_rng(seed), seed % 2 == 0, profile=name, size_hw=(240, 304))
            assert drawn.profile == name
            low, high = PROFILES[name].threshold
            mean = np.sqrt(drawn.params.threshold_on * drawn.params.threshold_off)
            assert low * 0.99 <= mean <= high * 1.01


def test_boxes_without_events_are_dropped():
    recent = RecentEvents(SIZE_HW, 50_000)
    events = np.zeros(40, EVENT_DTYPE)
    events["t"], events["x"], events["y"] = np.linspace(20_000, 149_000, 40), 12, 8
    recent.add(events)
    boxes = np.zeros(2, BOX_DTYPE)
    boxes["ts"], boxes["x"], boxes["y"], boxes["w"], boxes["h"] = 150_000, (10, 30), 5, 10, 10
    assert recent.filled(boxes, 15, 0.01).tolist() == boxes[:1].tolist()
    assert len(recent.filled(boxes[:1], 40, 0.0)) == 0
    assert len(recent.filled(boxes[:0], 15, 0.01)) == 0

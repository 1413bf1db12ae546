import dataclasses

import numpy as np
import pytest

from spiking_centernet.data import Augmentation
from spiking_centernet.data.corruptions import scope_of
from spiking_centernet.data.event_augmentation import COVERED, Scene, augment_events, stretch
from spiking_centernet.errors import ConfigError
from spiking_centernet.structures import EVENT_DTYPE, Boxes

SIZE_HW = (60, 80)
STOP_US = 100_000
OFF = Augmentation(flip=0, zoom=0)


def events_of(count, seed=0, within=(0, 0, 80, 60)):
    rng = np.random.default_rng(seed)
    events = np.zeros(count, EVENT_DTYPE)
    events["t"] = np.sort(rng.integers(0, STOP_US, count))
    events["x"] = rng.integers(within[0], within[2], count)
    events["y"] = rng.integers(within[1], within[3], count)
    events["p"] = rng.integers(0, 2, count)
    return events


def scene_of(*xyxy, count=2000, seed=0, within=(0, 0, 80, 60)):
    boxes = Boxes(np.array(xyxy, np.float32).reshape(-1, 4), np.arange(len(xyxy)), np.arange(len(xyxy)) + 7)
    return Scene(events_of(count, seed, within), boxes)


def changed(scene, other=None, seeds=(0, 0, 0), **settings):
    settings = dataclasses.replace(OFF, **settings)
    scope = scope_of(SIZE_HW, 0, STOP_US, [*seeds, 1])
    before = scene.events.copy(), scene.boxes.xyxy.copy()
    found = augment_events(scene, settings, scope, seeds=list(seeds), another=lambda number: other)
    assert np.array_equal(scene.events, before[0])
    assert np.array_equal(scene.boxes.xyxy, before[1])
    assert (np.diff(found.events["t"]) >= 0).all()
    assert ((found.events["t"] >= 0) & (found.events["t"] < STOP_US)).all()
    return found


def inside(events, xyxy):
    x, y = events["x"] + 0.5, events["y"] + 0.5
    return (x >= xyxy[0]) & (x < xyxy[2]) & (y >= xyxy[1]) & (y < xyxy[3])


def test_without_settings_nothing_changes():
    scene = scene_of((10, 10, 30, 30))
    found = changed(scene)
    assert np.array_equal(found.events, scene.events)
    assert found.boxes is scene.boxes


@pytest.mark.parametrize("share", [0.2, 0.37, 1.0])
def test_an_empty_past_leaves_the_last_part(share):
    scene = scene_of((10, 10, 30, 30))
    found = changed(scene, empty_past=1, filled_range=(share, share))
    expected = scene.events[scene.events["t"] >= STOP_US - round(share * STOP_US)]
    assert np.array_equal(found.events, expected)
    assert np.array_equal(found.boxes.xyxy, scene.boxes.xyxy)


def test_polarities_exchanged_and_merged():
    scene = scene_of()
    assert np.array_equal(changed(scene, swap_polarity=1).events["p"], 1 - scene.events["p"])
    merged = changed(scene, merge_polarity=1).events
    assert (merged["p"] == 1).all()
    assert np.array_equal(merged["t"], scene.events["t"])


@pytest.mark.parametrize("factor", [0.25, 0.5, 1.0, 3.0])
def test_stretched_times_keep_their_order_and_stay_before_the_end(factor):
    events = events_of(1000)
    moved = stretch(events, factor, STOP_US)
    before_us, after_us = STOP_US - 1 - events["t"], STOP_US - 1 - moved["t"]
    assert (np.abs(after_us - before_us * factor) <= 1).all()
    assert (np.diff(moved["t"]) >= 0).all()
    assert moved["t"].max() < STOP_US
    assert np.array_equal(moved[["x", "y", "p"]], events[["x", "y", "p"]])


def test_a_mixed_window_holds_both():
    one, two = scene_of((1, 2, 10, 20)), scene_of((30, 30, 50, 50), (2, 3, 9, 9), seed=1)
    found = changed(one, two, mix=1)
    assert len(found.events) == len(one.events) + len(two.events)
    assert np.array_equal(np.sort(found.events), np.sort(np.concatenate([one.events, two.events])))
    assert found.boxes.xyxy.tolist() == [*one.boxes.xyxy.tolist(), *two.boxes.xyxy.tolist()]
    assert found.boxes.track_ids.tolist() == [7, 7, 8]


@pytest.mark.parametrize("seed", range(8))
def test_a_pasted_object_brings_its_events_and_hides_what_is_behind(seed):
    # Events of the background are OFF, those of the object ON, so that every pixel tells where it came from.
    background, other = scene_of((0, 0, 80, 60)), scene_of((20, 15, 50, 45), count=3000, seed=1)
    background.events["p"], other.events["p"] = 0, 1
    found = changed(background, other, seeds=(seed, 0, 0), paste=1)
    box = found.boxes.xyxy[-1]
    shift = box - other.boxes.xyxy[0]
    assert shift[0] == shift[2]
    assert shift[1] == shift[3]
    assert box.min() >= 0
    assert box[2] <= 80
    assert box[3] <= 60
    assert (found.events["p"][inside(found.events, box)] == 1).all()
    cut = other.events[inside(other.events, other.boxes.xyxy[0])]
    here = found.events[inside(found.events, box)]
    assert np.array_equal(np.sort(here["t"]), np.sort(cut["t"]))
    wide = box + 0.1 * np.array([-30, -30, 30, 30])
    assert not inside(found.events[found.events["p"] == 1], box).all()  # what moved beside the box comes along
    assert inside(found.events[found.events["p"] == 1], wide).all()
    outside = background.events[~inside(background.events, wide)]
    assert (found.events["p"] == 0).sum() == len(outside)


def test_a_box_behind_a_pasted_object_is_no_label():
    left, top, right, bottom = 20, 10, 60, 40
    kept = set()
    for seed in range(20):
        found = changed(scene_of((left, top, right, bottom)), scene_of((0, 0, 40, 30), seed=1), (seed, 0, 0), paste=1)
        front = found.boxes.xyxy[-1]
        sides = min(right, front[2]) - max(left, front[0]), min(bottom, front[3]) - max(top, front[1])
        hidden = max(0, sides[0]) * max(0, sides[1])
        assert (len(found.boxes) == 2) == (hidden < COVERED * (right - left) * (bottom - top))
        kept.add(len(found.boxes))
    assert kept == {1, 2}


def test_a_view_empties_the_rest_and_is_around_an_object_about_every_second_time():
    box = (30, 20, 50, 40)
    most = (30 - 0.6 * 20, 20 - 0.6 * 20, 50 + 0.6 * 20, 40 + 0.6 * 20)
    around = 0
    for seed in range(40):
        scene = scene_of(box)
        found = changed(scene, seeds=(seed, 0, 0), isolate=1)
        assert len(found.events) < len(scene.events)
        if inside(found.events, most).all() and found.boxes.xyxy.tolist() == [list(box)]:
            assert inside(scene.events, box).sum() == inside(found.events, box).sum()
            around += 1
        for left, top, right, bottom in found.boxes.xyxy:
            assert (right - left) * (bottom - top) >= OFF.min_left * 400
    assert 12 <= around <= 28


def test_a_view_can_show_a_part_of_an_object_which_is_then_its_box():
    left, top, right, bottom = box = 30, 20, 50, 40
    parts = 0
    for seed in range(40):
        found = changed(scene_of(box), seeds=(seed, 0, 0), isolate=1, isolate_range=(0.7, 0.7))
        if inside(found.events, box).all() and len(found.boxes):  # around the object
            shown = found.boxes.xyxy[0]
            assert np.allclose(shown[2:] - shown[:2], 14)
            assert left <= shown[0] <= right - 14
            assert top <= shown[1] <= bottom - 14
            parts += 1
    assert 12 <= parts <= 28


@pytest.mark.parametrize("around", [0, 1])
def test_views_are_around_an_object_as_often_as_is_said(around):
    box = (30, 20, 50, 40)
    views = [changed(scene_of(box), seeds=(seed, 0, 0), isolate=1, isolate_around=around, isolate_range=(1, 1))
             for seed in range(20)]  # fmt: skip
    shown = [inside(view.events, box).all() and view.boxes.xyxy.tolist() == [list(box)] for view in views]
    assert sum(shown) == 20 * around


def test_a_view_without_an_object_leaves_a_part():
    sizes = {len(changed(scene_of(), seeds=(seed, 0, 0), isolate=1).events) for seed in range(6)}
    assert min(sizes) > 0
    assert max(sizes) < 2000
    assert len(sizes) > 1


def test_faults_are_some_of_all_and_change_events():
    scene = scene_of((1, 2, 10, 20))
    found = [changed(scene, seeds=(seed, 0, 0), fault=1).events for seed in range(12)]
    # A rate that stays below a fault's limit passes it unchanged.
    assert sum(not np.array_equal(events, scene.events) for events in found) >= 6
    again = changed(scene, seeds=(3, 0, 0), fault=1).events
    assert np.array_equal(found[3], again)


def test_windows_of_another_size_are_left_out():
    scene = scene_of((1, 2, 10, 20))
    found = changed(scene, None, mix=1, paste=1)
    assert np.array_equal(found.events, scene.events)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"mix": 1.5}, r"augmentation\.mix must lie in \[0, 1\]"),
        ({"filled_range": (0.5, 0.2)}, "filled_range"),
        ({"filled_range": (0.5, 1.2)}, "filled_range"),
        ({"isolate_range": (0.0, 1.0)}, "isolate_range"),
        ({"isolate_around": 1.1}, r"augmentation\.isolate_around must lie in \[0, 1\]"),
        ({"window_range": (0.0, 1.0)}, "window_range must be positive"),
    ],
)
def test_impossible_settings(settings, told):
    with pytest.raises(ConfigError, match=told):
        Augmentation(**settings)

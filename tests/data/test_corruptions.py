"""Every corruption at every severity: its closed form where it has one, and what must hold for all."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spiking_centernet.data import CORRUPTIONS, Augmentation, Fault, FolderDataset, corrupt, write_boxes, write_dat
from spiking_centernet.data.corruptions import SEVERITIES
from spiking_centernet.errors import ConfigError, EventFileError, WindowError
from spiking_centernet.structures import BOX_DTYPE, EVENT_DTYPE

SIZE_HW = (24, 40)
WINDOW = {"size_hw": SIZE_HW, "start_us": 0, "stop_us": 100_000}
EMPTY = np.zeros(0, EVENT_DTYPE)


def some(num, seed=0, stop_us=100_000, start_us=0):
    rng = np.random.default_rng(seed)
    events = np.zeros(num, EVENT_DTYPE)
    events["t"] = np.sort(rng.integers(start_us, stop_us, num))
    events["x"], events["y"] = rng.integers(0, SIZE_HW[1], num), rng.integers(0, SIZE_HW[0], num)
    events["p"] = rng.integers(0, 2, num)
    return events


def every():
    return pytest.mark.parametrize(("name", "severity"), [(n, s) for n in CORRUPTIONS for s in SEVERITIES])


@every()
def test_nothing_comes_of_nothing_except_noise(name, severity):
    got = corrupt(EMPTY, name, severity, **WINDOW)
    assert got.dtype == EVENT_DTYPE
    assert (len(got) > 0) == (name in ("background_activity", "hot_pixels"))


@every()
def test_the_events_stay_sorted_inside_and_the_given_ones_unchanged(name, severity):
    events = some(20_000)
    before = events.copy()
    got = corrupt(events, name, severity, **WINDOW)
    assert (events == before).all()
    assert (np.diff(got["t"]) >= 0).all()
    assert got["t"].min() >= 0
    assert got["t"].max() < 100_000
    assert got["x"].max() < SIZE_HW[1]
    assert got["y"].max() < SIZE_HW[0]
    assert got["p"].max() <= 1
    assert not np.array_equal(got, events) or name == "rate_cap"
    assert np.array_equal(got, corrupt(events, name, severity, **WINDOW))


@every()
def test_a_faulty_pixel_stays_faulty_and_chance_moves_on(name, severity):
    def seen(start_us, seed):
        window = {"size_hw": SIZE_HW, "start_us": start_us, "stop_us": start_us + 100_000}
        return corrupt(some(30_000, 5, start_us + 100_000, start_us), name, severity, seed=seed, **window)

    first, later, other = seen(0, 3), seen(500_000, 3), seen(0, 4)
    if name == "dead_pixels":
        silent = [set(range(SIZE_HW[0] * SIZE_HW[1])) - set(pixels(e).tolist()) for e in (first, later, other)]
        assert silent[0] == silent[1] != silent[2]
    if name == "hot_pixels":
        hot = [np.flatnonzero(np.bincount(pixels(e), minlength=960) > 90) for e in (first, later)]
        assert np.isin(hot[0], hot[1]).all()
    if name not in ("refractory", "downscale", "dead_pixels", "rate_cap"):
        assert not np.array_equal(first["p"][:5000], later["p"][:5000]) or not np.array_equal(
            first["t"] - first["t"][0], later["t"] - later["t"][0]
        )


def pixels(events):
    return events["y"].astype(int) * SIZE_HW[1] + events["x"]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_levels_are_met(severity):
    events, area_s = some(40_000), SIZE_HW[0] * SIZE_HW[1] * 0.1

    def level(name):
        return Fault(name, severity).level

    def share_left(name):
        return len(corrupt(events, name, severity, **WINDOW)) / len(events)

    added = len(corrupt(EMPTY, "background_activity", severity, **WINDOW))
    assert added == pytest.approx(level("background_activity") * area_s, abs=5 * np.sqrt(added + 1))
    assert share_left("event_drop") == pytest.approx(1 - level("event_drop"), abs=0.02)
    assert share_left("dead_pixels") == pytest.approx(1 - level("dead_pixels"), abs=0.02)
    flipped = corrupt(events, "polarity_flip", severity, **WINDOW)
    assert (flipped["p"] != events["p"]).mean() == pytest.approx(level("polarity_flip"), abs=0.02)
    hot = np.unique(pixels(corrupt(EMPTY, "hot_pixels", severity, **WINDOW)))
    assert len(hot) == max(1, round(level("hot_pixels") * SIZE_HW[0] * SIZE_HW[1]))
    capped = corrupt(events, "rate_cap", severity, **WINDOW)
    counts = np.bincount(capped["t"] // 1000, minlength=100)
    assert counts.max() <= level("rate_cap") * 1000
    assert np.array_equal(counts, np.minimum(np.bincount(events["t"] // 1000, minlength=100), level("rate_cap") * 1000))
    center = np.zeros(4000, EVENT_DTYPE)
    center["t"] = 50_000
    moved = corrupt(center, "time_jitter", severity, **WINDOW)["t"]
    assert moved.std() == pytest.approx(level("time_jitter") * 1000, rel=0.05)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_dead_time_counts_from_the_last_event_kept(severity):
    dead_us = round(Fault("refractory", severity).level * 1000)
    events = some(3000)
    events["x"] %= 3
    events["y"] = 0
    free, kept = {}, []
    for i, (t, x, _, _) in enumerate(events.tolist()):
        if t >= free.get(x, 0):
            kept.append(i)
            free[x] = t + dead_us
    assert np.array_equal(corrupt(events, "refractory", severity, **WINDOW), events[kept])


def test_a_coarser_sensor_shows_whole_blocks_at_their_place():
    event = np.array([(10, 5, 6, 1), (20, 4, 7, 1), (5000, 4, 7, 1), (5000, 4, 7, 0)], EVENT_DTYPE)
    got = corrupt(event, "downscale", 3, **WINDOW)
    # 2 times coarser: columns 4 and 5, rows 6 and 7 are one pixel; its second event within a millisecond is the first.
    assert sorted(got.tolist()) == sorted(
        (t, x, y, p) for t, p in ((10, 1), (5000, 1), (5000, 0)) for x in (4, 5) for y in (6, 7)
    )
    assert len(corrupt(np.array([(0, 39, 23, 0)], EVENT_DTYPE), "downscale", 4, **WINDOW)) == 3  # the edge cuts it


@given(
    num=st.integers(0, 300), seed=st.integers(0, 1000), name=st.sampled_from(sorted(CORRUPTIONS)),
    severity=st.sampled_from(SEVERITIES), start_us=st.integers(-(10**6), 10**6),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_any_window_gives_valid_events(num, seed, name, severity, start_us):
    stop_us = start_us + 20_000
    got = corrupt(
        some(num, seed, stop_us, start_us), name, severity, size_hw=SIZE_HW, start_us=start_us, stop_us=stop_us
    )
    assert (np.diff(got["t"]) >= 0).all()
    assert ((got["t"] >= start_us) & (got["t"] < stop_us) & (got["x"] < 40) & (got["y"] < 24) & (got["p"] < 2)).all()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"name": "hot_pixel"}, ConfigError, "did you mean 'hot_pixels'"),
        ({"severity": 0}, ConfigError, "must be 1, 2, 3, 4 or 5, got 0"),
        ({"severity": 6}, ConfigError, "got 6"),
        ({"seed": -1}, ConfigError, "must not be negative"),
        ({"stop_us": 0}, WindowError, "is empty"),
        ({"size_hw": (24, 30)}, EventFileError, "outside the 30 x 24 sensor"),
        ({"events": np.zeros(3)}, ConfigError, "EVENT_DTYPE"),
    ],
)
def test_mistakes_are_named(change, error, words):
    arguments = {"events": some(100), "name": "hot_pixels", "severity": 1, **WINDOW}
    with pytest.raises(error, match=words):
        corrupt(**(arguments | change))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_dat(root / "val" / "a_td.dat", some(30_000, stop_us=400_000), SIZE_HW)
    boxes = np.zeros(4, BOX_DTYPE)
    boxes["ts"], boxes["w"], boxes["h"] = np.arange(4) * 100_000, 8, 8
    write_boxes(root / "val" / "a_bbox.npy", boxes)
    return root


def test_a_folder_shows_what_the_faulty_sensor_gives(folder):
    clean = FolderDataset(folder, "val")
    for name in CORRUPTIONS:
        faulty = FolderDataset(folder, "val", fault=Fault(name, 5, seed=2))
        assert all((a.boxes.xyxy == b.boxes.xyxy).all() for a, b in zip(clean, faulty, strict=False))
        cube = faulty[2].cube
        assert (cube != clean[2].cube).any() or name == "rate_cap"
        assert (cube == faulty[2].cube).all()
    dead = FolderDataset(folder, "val", fault=Fault("dead_pixels", 5))
    silent = [(sample.cube.sum((0, 1)) == 0) & (other.cube.sum((0, 1)) > 0)
              for sample, other in zip(dead, clean, strict=False)]  # fmt: skip
    assert all(mask.float().mean() > 0.3 for mask in silent[1:])


def test_no_noise_comes_from_before_the_recording(tmp_path):
    write_dat(tmp_path / "val" / "a_td.dat", some(3000, stop_us=400_000), SIZE_HW)
    boxes = np.zeros(3, BOX_DTYPE)
    boxes["ts"], boxes["w"], boxes["h"] = (0, 40_000, 300_000), 8, 8
    write_boxes(tmp_path / "val" / "a_bbox.npy", boxes)
    noisy = Augmentation(flip=0, zoom=0, noise=1, noise_range_hz=(500, 500))
    for change in (
        {"fault": Fault("background_activity", 5)},
        {"fault": Fault("hot_pixels", 5)},
        {"augmentation": noisy},
    ):
        before, begun, full = FolderDataset(tmp_path, "val", **change)
        assert not before.cube.any()
        assert not begun.cube[:3].any()  # 60 ms of its 100 lie before
        assert all(step.any() for step in (*begun.cube[3:], *full.cube))


def test_noise_and_loss_are_off_by_default_and_functions_of_the_seed(folder):
    def cubes(augmentation, epoch=0, seed=0):
        dataset = FolderDataset(folder, "val", augmentation=augmentation, seed=seed)
        dataset.set_epoch(epoch)
        return [sample.cube for sample in dataset][1:]

    still = Augmentation(flip=0, zoom=0)
    clean = cubes(None)
    assert all((a == b).all() for a, b in zip(clean, cubes(still), strict=True))
    noisy = dataclasses.replace(still, noise=1, noise_range_hz=(5, 5))
    lossy = dataclasses.replace(still, drop=1, drop_range=(0.5, 0.5))
    for before, more, less in zip(clean, cubes(noisy), cubes(lossy), strict=True):
        assert (more >= before).all()
        assert more.sum() > before.sum()
        assert (less <= before).all()
        assert less.sum() < 0.8 * before.sum()
    assert all((a == b).all() for a, b in zip(cubes(noisy), cubes(noisy), strict=True))
    assert not all((a == b).all() for a, b in zip(cubes(noisy), cubes(noisy, epoch=1), strict=True))
    assert not all((a == b).all() for a, b in zip(cubes(noisy), cubes(noisy, seed=1), strict=True))


@pytest.mark.parametrize(
    "wrong",
    [{"noise": 1.5}, {"drop": -0.1}, {"noise_range_hz": (0, 1)}, {"drop_range": (0.5, 1.5)}, {"drop_range": (0.5, 0.1)},
     {"noise": float("nan")}, {"noise_range_hz": (1, float("inf"))}],
)  # fmt: skip
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Augmentation(**wrong)

"""Harder conditions: what each does to light and camera, and that the easy one changes nothing."""

import numpy as np
import pytest
from toy_world import toy_scene

from spiking_centernet.data import open as open_recording
from spiking_centernet.errors import ConfigError, DatasetError
from spiking_centernet.simulate.conditions import CLEAR, Condition, _Rain
from spiking_centernet.simulate.dataset import Clips, simulate
from spiking_centernet.simulate.sensor import SensorParams

SIZE_HW = (24, 32)
DAY = {"train": 1, "val": 0, "test": 0}


def frames(condition, seed=3, count=20):
    scene = condition.scene(toy_scene, np.random.default_rng(seed), size_hw=SIZE_HW, duration_s=1.0)
    out = np.empty((count, *SIZE_HW), np.float32)
    for k in range(count):
        scene.render(k * 1e-3, out[k])
    return scene, out


def events(folder, **condition):
    simulate(
        folder, seed=5, clips=Clips(**DAY), duration_s=0.3, size_hw=SIZE_HW, workers=1,
        make_scene=toy_scene, condition=Condition(**condition),
    )  # fmt: skip
    return (folder / "train" / "sim5_train_0000_td.dat").read_bytes(), folder / "simulation.json"


def test_the_easy_condition_changes_no_byte(tmp_path):
    assert CLEAR.to_dict() == {}
    _, plain = frames(CLEAR)
    scene = toy_scene(np.random.default_rng(3), size_hw=SIZE_HW, duration_s=1.0)
    scene.render(0.0, frame := np.empty(SIZE_HW, np.float32))
    assert (plain[0] == frame).all()
    simulate(
        tmp_path / "a", seed=5, clips=Clips(**DAY), duration_s=0.3, size_hw=SIZE_HW, workers=1,
        make_scene=toy_scene,
    )  # fmt: skip
    data, description = events(tmp_path / "b", flicker_depth=0.2)
    assert (tmp_path / "a" / "train" / "sim5_train_0000_td.dat").read_bytes() == data
    assert (tmp_path / "a" / "simulation.json").read_bytes() == description.read_bytes()


def test_thresholds_are_scaled_and_a_lower_one_fires_more(tmp_path):
    params = SensorParams(threshold_on=0.2, threshold_off=0.3)
    scaled = Condition(threshold_scale=1.5).params(params)
    assert (scaled.threshold_on, scaled.threshold_off) == pytest.approx((0.3, 0.45))
    assert Condition().params(params) is params
    low, _ = events(tmp_path / "low", threshold_scale=0.6)
    high, _ = events(tmp_path / "high", threshold_scale=2.0)
    assert len(low) > len(high)


@pytest.mark.parametrize("light", ["day", "night"])
def test_only_the_light_asked_for_is_drawn(light):
    scenes = [frames(Condition(light=light), seed, 1)[0] for seed in range(12)]
    assert {scene.night for scene in scenes} == {light == "night"}


def test_flicker_swings_the_light_and_shortens_the_step():
    scene, flickering = frames(Condition(flicker_hz=100, flicker_depth=0.25))
    _, plain = frames(CLEAR)
    swing = (flickering / plain).mean((1, 2))
    assert swing == pytest.approx(1 + 0.25 * np.sin(2 * np.pi * 0.1 * np.arange(20)), abs=1e-5)
    assert scene.max_speed_px_s(0) == 1000


def test_rain_is_a_function_of_time_and_falls():
    _, wet = frames(Condition(rain_mm_h=20))
    _, again = frames(Condition(rain_mm_h=20))
    _, plain = frames(CLEAR)
    assert (wet == again).all()
    assert (wet != plain).any((1, 2)).all()
    rain = _Rain(np.random.default_rng(0), 10, (240, 304))
    # 8000 / 2.53 exp(-2.53) = 252 drops of 1 mm and more a cubic meter, in a pyramid of 16.8 m3.
    assert len(rain._x) == pytest.approx(252 * 16.8, rel=0.1)
    assert rain._speed_px_s.max() <= 9.65 * 304 / 0.3
    heavy, light = (_Rain(np.random.default_rng(0), r, (240, 304)) for r in (50, 2))
    assert len(heavy._x) > 3 * len(light._x)


def test_a_folder_keeps_its_condition(tmp_path):
    _, description = events(tmp_path / "a", flicker_hz=100)
    assert '"flicker_hz": 100' in description.read_text()
    count = open_recording(tmp_path / "a" / "train" / "sim5_train_0000_td.dat").num_events
    events(tmp_path / "c")
    assert count > open_recording(tmp_path / "c" / "train" / "sim5_train_0000_td.dat").num_events
    with pytest.raises(DatasetError, match="condition"):
        events(tmp_path / "a")
    with pytest.raises(DatasetError, match="condition"):
        events(tmp_path / "c", light="night")


@pytest.mark.parametrize(
    "wrong",
    [{"threshold_scale": 0}, {"light": "nigth"}, {"rain_mm_h": -1}, {"flicker_hz": float("nan")}, {"flicker_depth": 1}],
)
def test_impossible_conditions_are_refused(wrong):
    with pytest.raises(ConfigError, match="light" if "light" in wrong else next(iter(wrong))):
        Condition(**wrong)

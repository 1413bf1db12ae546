import dataclasses

import numpy as np
import pytest

from spiking_centernet.errors import ConfigError
from spiking_centernet.simulate.profiles import random_params
from spiking_centernet.simulate.sensor import LUMINANCE_FLOOR, LUMINANCE_REFERENCE, Sensor, SensorParams
from spiking_centernet.structures import EVENT_DTYPE

# fast enough that the low-pass reaches its input within a step, and logarithmic to the last per mille
EXACT = SensorParams(
    threshold_on=0.2, threshold_off=0.2, threshold_spread=0.0, bandwidth_hz=1e6, dark_luminance=1e-3, refractory_us=1
)


def frame(value, size_hw=(1, 1)):
    return np.full(size_hw, value, np.float32)


def run(params, lights, step_us=1000, size_hw=(1, 1), seed=0):
    """Events of a camera that sees each of the lights for one step; the first settles it before time zero."""
    sensor = Sensor(params, size_hw, np.random.default_rng(seed))
    sensor.step(frame(lights[0], size_hw), -step_us, 0)
    steps = [sensor.step(frame(v, size_hw), i * step_us, (i + 1) * step_us) for i, v in enumerate(lights[1:])]
    return np.concatenate(steps) if steps else np.empty(0, EVENT_DTYPE)


def noise(params, light=60.0, size_hw=(100, 100), seconds=2.0, step_us=2000, seed=0):
    return run(params, [light] * (1 + round(seconds * 1e6 / step_us)), step_us, size_hw, seed)


@pytest.mark.parametrize(
    ("rise", "polarity", "times_us"),
    [
        (0.0, 1, []),
        (0.19, 1, []),
        (0.5, 1, [400, 800]),
        (1.1, 1, [181, 363, 545, 727, 909]),
        (-0.5, 0, [400, 800]),
        (-1.1, 0, [181, 363, 545, 727, 909]),
    ],
)
def test_a_ramp_of_the_logarithm_fires_once_per_threshold_at_the_interpolated_times(rise, polarity, times_us):
    events = run(EXACT, [50.0, 50.0 * np.exp(rise)])
    np.testing.assert_allclose(events["t"], times_us, atol=6)  # one microsecond of dead time per event
    assert (events["p"] == polarity).all()


def test_a_partial_rise_is_remembered_until_it_completes_a_threshold():
    events = run(EXACT, [50.0, 50 * np.exp(0.15), 50 * np.exp(0.15), 50 * np.exp(0.25)])
    np.testing.assert_allclose(events["t"], [2500], atol=2)


@pytest.mark.parametrize("light", [0.0, 0.5, 60.0, 255.0])
def test_constant_light_without_noise_gives_no_event(light):
    assert len(run(dataclasses.replace(EXACT, bandwidth_hz=30.0), [light] * 200, size_hw=(8, 8))) == 0


def test_negative_light_is_darkness():
    assert len(run(EXACT, [0.0, -5.0, 0.0])) == 0


@pytest.mark.parametrize(("light", "step_us"), [(100.0, 200), (100.0, 2000), (1.0, 500)])
def test_the_low_pass_has_the_bandwidth_of_the_light(light, step_us):
    """After a small step of the light the response reaches 1 - 1/e of it at tau = 1 / (2 pi f)."""
    bandwidth_hz = 20.0
    scaled_hz = bandwidth_hz * (light + LUMINANCE_FLOOR) / (LUMINANCE_REFERENCE + LUMINANCE_FLOOR)
    rise = 0.1
    threshold = (1 - np.exp(-1)) * rise
    params = dataclasses.replace(
        EXACT, bandwidth_hz=bandwidth_hz * (light + 10) / (light * np.exp(rise) + 10), threshold_on=threshold
    )
    events = run(params, [light] + [light * np.exp(rise)] * 400, step_us)
    assert len(events) == 1
    assert events["t"][0] == pytest.approx(1e6 / (2 * np.pi * scaled_hz), rel=0.01)


def test_near_dark_the_response_is_linear_and_far_above_logarithmic():
    params = dataclasses.replace(EXACT, dark_luminance=10.0, threshold_on=0.1, threshold_off=0.1)
    doubled_in_the_dark = run(params, [0.1, 0.2])  # ln(10.2 / 10.1) = 0.0099
    doubled_in_the_light = run(params, [1000.0, 2000.0])  # ln(2010 / 1010) = 0.688
    assert (len(doubled_in_the_dark), len(doubled_in_the_light)) == (0, 6)


def test_the_dead_time_limits_the_rate_and_forgets_what_happens_in_it():
    params = dataclasses.replace(EXACT, refractory_us=300)
    events = run(params, [50.0, 50 * np.exp(10.0)], step_us=2000)
    # 0.2 is crossed every 40 us; each event then waits 300 us and starts anew: one per 340 us
    np.testing.assert_allclose(events["t"], 40 + 340 * np.arange(6), atol=1)


def test_a_pixel_is_held_in_reset_across_steps():
    params = dataclasses.replace(EXACT, refractory_us=1500)
    events = run(params, [50.0, 50 * np.exp(0.4), 50 * np.exp(0.8), 50 * np.exp(1.2)])
    # fires at 500, is free at 2000 (two thirds of the rise are lost), fires again after another 0.2
    np.testing.assert_allclose(events["t"], [500, 2500], atol=1)


@pytest.mark.slow
def test_thresholds_spread_over_the_pixels_as_asked():
    params = dataclasses.replace(EXACT, threshold_on=0.3, threshold_spread=0.03)
    events = run(params, [50.0, 50 * np.exp(0.5)], step_us=100_000, size_hw=(100, 100))
    first = events[np.unique(events["x"].astype(int) + 100 * events["y"], return_index=True)[1]]
    crossing = first["t"] / 100_000 * 0.5
    assert crossing.mean() == pytest.approx(0.3, abs=4 * 0.03 / 100)
    assert crossing.std() == pytest.approx(0.03, rel=0.03)


def test_events_are_sorted_integers_and_no_pixel_fires_twice_in_a_microsecond():
    rng = np.random.default_rng(3)
    params = dataclasses.replace(random_params(rng, night=True), refractory_us=1, shot_hz=50.0, hot_share=0.1)
    sensor = Sensor(params, (20, 30), rng)
    steps = [sensor.step(rng.uniform(0, 255, (20, 30)).astype(np.float32), t, t + 500) for t in range(0, 50_000, 500)]
    events = np.concatenate(steps)
    assert events.dtype == EVENT_DTYPE
    assert len(events) > 10_000
    assert (np.diff(events["t"]) >= 0).all()
    assert events["x"].max() == 29
    assert events["y"].max() == 19
    assert len(np.unique(events[["t", "x", "y"]])) == len(events)
    for i, step in enumerate(steps):
        assert ((step["t"] >= 500 * i) & (step["t"] < 500 * (i + 1))).all()


def test_the_buffer_grows_when_every_pixel_fires_many_times():
    events = run(EXACT, [1.0, np.exp(5.0)], size_hw=(6, 400))
    counts = np.bincount(events["x"].astype(int) + 400 * events["y"], minlength=2400)
    assert (counts == counts[0]).all()
    assert counts[0] in (24, 25)


@pytest.mark.parametrize(
    ("params", "rate_hz", "on_share"),
    [
        (SensorParams(), 0.0, None),
        (SensorParams(leak_hz=2.0), 2.0, 1.0),
        (SensorParams(shot_hz=3.0, shot_on_share=0.5), 3.0 * (1 - 0.75 * 60 / 255), 0.5),
        (SensorParams(shot_hz=3.0, shot_on_share=0.8), 3.0 * (1 - 0.75 * 60 / 255), 0.8),
        (SensorParams(shot_hz=3.0, shot_on_share=1.0, shot_echo_share=0.5), 6.0 * (1 - 0.75 * 60 / 255), 2 / 3),
    ],
    ids=["off", "leak", "shot", "shot mostly on", "shot answered"],
)
def test_noise_has_the_rate_and_the_polarity_that_were_asked_for(params, rate_hz, on_share):
    events = noise(params)
    expected = rate_hz * 100 * 100 * 2.0
    # the spread over the pixels and paired events widen the Poisson bound
    assert len(events) == pytest.approx(expected, abs=4 * np.sqrt(4 * expected) + 0.005 * expected)
    if on_share is not None:
        assert events["p"].mean() == pytest.approx(on_share, abs=4 * 0.5 / np.sqrt(len(events)))


def test_shot_noise_is_stronger_in_the_dark():
    params = SensorParams(shot_hz=3.0)
    assert len(noise(params, light=255.0)) == pytest.approx(0.25 * len(noise(params, light=0.0)), rel=0.05)


def test_hot_pixels_have_the_share_and_the_rates_that_were_asked_for():
    params = SensorParams(hot_share=0.01, hot_min_hz=100.0, hot_max_hz=400.0, refractory_us=500)
    events = noise(params)
    rate_hz = np.bincount(events["x"].astype(int) + 100 * events["y"], minlength=10_000) / 2.0
    assert (rate_hz > 0).sum() == 100
    assert rate_hz[rate_hz > 0].min() > 100 - 4 * np.sqrt(100 / 2)
    assert rate_hz.max() < 400 + 4 * np.sqrt(400 / 2)


def test_the_seed_decides_everything():
    params = random_params(np.random.default_rng(1), night=False)
    first, same, other = (noise(params, size_hw=(30, 30), seconds=0.5, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert first.tobytes() != other.tobytes()


@pytest.mark.parametrize("night", [False, True])
def test_random_cameras_stay_in_the_documented_ranges(night):
    cameras = [random_params(np.random.default_rng(i), night) for i in range(300)]
    for camera in cameras:
        assert 0.11 < np.sqrt(camera.threshold_on * camera.threshold_off) < 0.46
        assert 0.02 <= camera.threshold_spread <= 0.06
        assert 30 <= camera.bandwidth_hz <= 500
        assert 100 <= camera.refractory_us <= 2000
        assert 7e-6 <= camera.hot_share <= 5e-4
    assert len({camera.threshold_on for camera in cameras}) == 300


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"threshold_on": 0.0}, "threshold_on must be at least"),
        ({"threshold_off": float("nan")}, "threshold_off"),
        ({"bandwidth_hz": 0.0}, "bandwidth_hz must be positive"),
        ({"leak_hz": -1.0}, "leak_hz must not be negative"),
        ({"hot_share": 2.0}, r"hot_share must lie in \[0, 1.0\]"),
        ({"refractory_us": 0}, "refractory_us must be at least 1"),
        ({"hot_min_hz": 100.0, "hot_max_hz": 10.0}, "below hot_min_hz"),
    ],
)
def test_impossible_cameras_are_refused(change, words):
    with pytest.raises(ConfigError, match=words):
        SensorParams(**change)


def test_frames_and_times_that_do_not_fit_are_refused():
    sensor = Sensor(EXACT, (2, 3), np.random.default_rng(0))
    with pytest.raises(ConfigError, match=r"luminance must be float32 \[2, 3\], got float64 \[2, 3\]"):
        sensor.step(np.zeros((2, 3)), 0, 10)
    with pytest.raises(ConfigError, match="must be float32"):
        sensor.step(np.zeros((3, 2), np.float32), 0, 10)
    with pytest.raises(ConfigError, match="a step must end after it begins, got 10 to 10"):
        sensor.step(np.zeros((2, 3), np.float32), 10, 10)

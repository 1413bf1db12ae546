"""Boxes and scores filtered over time: against a Kalman filter in matrices, and by what they are for."""

import numpy as np
import pytest
from tiny import some_events, tiny_detector

import spiking_centernet as scn
from spiking_centernet.cli import program
from spiking_centernet.data import open, write_boxes, write_dat
from spiking_centernet.errors import ConfigError
from spiking_centernet.evaluation.prediction import dataset_for, predict
from spiking_centernet.inference import Stream, stream
from spiking_centernet.inference.recordings import detections_at, write_detections
from spiking_centernet.model import smoothing
from spiking_centernet.model.smoothing import EVERY_US, LEAST_SCORE, Smoother, smoothed
from spiking_centernet.model.weights import save
from spiking_centernet.structures import BOX_DTYPE, Detections

SIZE_HW = (240, 304)
SMALL_HW = (56, 72)


def found(t_us, *objects, distances=None):
    """Detections from (left, top, right, bottom, score, label), and where known meters ahead."""
    rows = np.array(objects, np.float64).reshape(-1, 6)
    box3d = np.full((len(rows), 7), np.nan, np.float32)
    if distances is not None:
        box3d[:] = [0, 0.75, 1, 1.5, 1.8, 4, 0.3]
        box3d[:, 2] = distances
    return Detections(
        rows[:, :4].astype(np.float32), rows[:, 4].astype(np.float32), rows[:, 5].astype(np.int64), t_us, box3d=box3d
    )


def moving(k, *, speed=2.0, score=0.8, label=0, shake=0.0):
    left = 20 + speed * k + shake
    return (left, 50, left + 40, 80, score, label)


def run(timestamps, **settings):
    smooth = Smoother(SIZE_HW, **settings)
    return [smooth(one) for one in timestamps]


def kalman(measured, *, noise, speed, acceleration, dt):
    """The places that a Kalman filter of one coordinate gives, in matrices; ``unit`` scales are in the arguments."""
    state, spread = np.array([measured[0], 0.0]), np.diag([noise[0] ** 2, speed**2])
    push, step = np.array([[dt**2 / 2], [dt]]), np.array([[1, dt], [0, 1]])
    places = [state[0]]
    for z, r, a in zip(measured[1:], noise[1:], acceleration, strict=True):
        state, spread = step @ state, step @ spread @ step.T + push @ push.T * a**2
        gain = spread[:, :1] / (spread[0, 0] + r**2)
        state = state + gain[:, 0] * (z - state[0])
        spread = (np.eye(2) - gain @ np.array([[1.0, 0.0]])) @ spread
        places.append(state[0])
    return np.array(places)


def test_edges_are_those_of_a_kalman_filter_in_matrices():
    rng = np.random.default_rng(1)
    shifts = rng.normal(0, 2, 12)
    results = run([found((k + 1) * EVERY_US, moving(k, shake=shifts[k])) for k in range(12)])
    left = np.array([moving(k, shake=shifts[k])[0] for k in range(12)], np.float32).astype(float)
    # The box keeps its width of 40 pixels, because both sides are filtered alike.
    expected = kalman(
        left, noise=np.full(12, 40 * smoothing.EDGE_NOISE), speed=40 * smoothing.SPEED,
        acceleration=np.full(11, 40 * smoothing.ACCELERATION), dt=EVERY_US * 1e-6,
    )  # fmt: skip
    np.testing.assert_allclose([one.xyxy[0, 0] for one in results], expected, rtol=1e-5)
    np.testing.assert_allclose([one.xyxy[0, 2] - one.xyxy[0, 0] for one in results], 40, rtol=1e-5)


def test_distances_are_filtered_in_logarithms_along_the_line_of_sight():
    meters = [20.0, 25.0, 19.0, 21.0, 24.0]
    results = run([found((k + 1) * EVERY_US, moving(k), distances=[z]) for k, z in enumerate(meters)])
    expected = kalman(
        np.log(meters), noise=np.full(5, smoothing.RANGE_NOISE), speed=smoothing.SPEED,
        acceleration=np.full(4, smoothing.ACCELERATION), dt=EVERY_US * 1e-6,
    )  # fmt: skip
    box3d = np.concatenate([one.box3d for one in results])
    np.testing.assert_allclose(np.log(box3d[:, 2]), expected, rtol=1e-5)
    np.testing.assert_allclose(box3d[:, [0, 1, 3, 4, 5, 6]], np.tile([0, 0.75, 1.5, 1.8, 4, 0.3], (5, 1)), atol=1e-6)


def test_a_steady_object_stays_where_it_is_and_a_moving_one_does_not_lag():
    still = run([found((k + 1) * EVERY_US, moving(0)) for k in range(20)])
    np.testing.assert_allclose(np.concatenate([one.xyxy for one in still]), [[20, 50, 60, 80]] * 20, atol=1e-4)
    fast = run([found((k + 1) * EVERY_US, moving(k, speed=9.0)) for k in range(20)])
    off = [one.xyxy[0, 0] - moving(k, speed=9.0)[0] for k, one in enumerate(fast)]
    assert np.abs(off).max() < 1
    assert abs(off[-1]) < 0.05


def test_shaking_boxes_shake_less():
    rng = np.random.default_rng(3)
    shifts = rng.normal(0, 3, 40)
    results = run([found((k + 1) * EVERY_US, moving(k, shake=shifts[k])) for k in range(40)])
    off = np.array([one.xyxy[0, 0] - moving(k)[0] for k, one in enumerate(results)])
    assert off[5:].std() < 0.9 * shifts[5:].std()


def test_a_score_grows_with_every_time_the_object_is_found_again():
    results = run([found(EVERY_US), *(found((k + 2) * EVERY_US, moving(k, score=0.6)) for k in range(30))])
    scores = np.array([one.scores[0] for one in results[1:]])
    assert (np.diff(scores) > 0).all()
    assert scores[0] < 0.3
    assert scores[-1] == pytest.approx(0.6, abs=1e-3)
    odds = np.log(scores / (1 - scores)).astype(float)
    target = np.log(0.6 / 0.4)
    left = np.exp(-EVERY_US / smoothing.MEMORY_US)
    np.testing.assert_allclose((target - odds[1:4]) / (target - odds[:3]), left, rtol=1e-4)


def test_a_recording_begins_with_what_is_there():
    (first,) = run([found(EVERY_US, moving(0, score=0.6))])
    assert first.scores[0] == pytest.approx(0.6)
    np.testing.assert_array_equal(first.xyxy, [[20, 50, 60, 80]])


def test_what_is_seen_once_counts_less_than_what_was_there():
    start = [found((k + 1) * EVERY_US, moving(k, score=0.5)) for k in range(6)]
    last = found(7 * EVERY_US, moving(6, score=0.5), (200, 100, 230, 120, 0.7, 0))
    result = run([*start, last])[-1]
    assert len(result) == 2
    assert result.xyxy[0, 0] < 100  # the one that was there
    assert (np.diff(result.scores) <= 0).all()


def test_classes_are_kept_apart():
    car, person = moving(0, label=0), moving(0, label=1)
    apart = run([found(EVERY_US, car), found(2 * EVERY_US, person)])[-1]
    alone = run([found(EVERY_US), found(2 * EVERY_US, person)])[-1]
    assert apart.scores[0] == alone.scores[0]


@pytest.mark.parametrize(("gap", "known"), [(1, True), (3, True), (4, False)])
def test_an_object_is_remembered_for_a_moment(gap, known):
    before = [found((k + 1) * EVERY_US, moving(0, score=0.9)) for k in range(10)]
    silence = [found((10 + k) * EVERY_US) for k in range(1, gap)]
    after = found((10 + gap) * EVERY_US, moving(0, score=0.9))
    result = run([*before, *silence, after])[-1]
    assert bool(result.scores[0] > 0.85) is known


def test_a_distance_may_come_and_go():
    timestamps = [
        found(EVERY_US, moving(0)), found(2 * EVERY_US, moving(1), distances=[20.0]), found(3 * EVERY_US, moving(2)),
        found(4 * EVERY_US, moving(3), distances=[30.0]),
    ]  # fmt: skip
    results = run(timestamps)
    assert [float(one.box3d[0, 2]) for one in results[1::2]] == pytest.approx([20, 30])
    assert np.isnan(results[0].box3d).all()
    assert np.isnan(results[2].box3d).all()


def test_boxes_stay_within_the_frame_and_nothing_is_made_up_or_lost():
    timestamps = [found((k + 1) * EVERY_US, (260 + 4 * k, 5, min(304, 290 + 8 * k), 60, 0.5, 0)) for k in range(8)]
    results = run([*timestamps, found(9 * EVERY_US)])
    assert [len(one) for one in results] == [1] * 8 + [0]
    boxes = np.concatenate([one.xyxy for one in results])
    assert boxes.max() <= 304
    assert (boxes[:, 2] > boxes[:, 0]).all()


def test_whatever_is_detected_comes_out_as_boxes_in_the_frame():
    rng = np.random.default_rng(5)
    smooth, t_us = Smoother(SIZE_HW), 0
    for _ in range(200):
        t_us += int(rng.integers(1, 200_000))
        first = rng.uniform(0, [303, 239], (rng.integers(0, 12), 2))
        last = np.minimum(first + rng.exponential([40, 60], first.shape) + 0.5, [304, 240])
        scores = rng.uniform(size=(len(first), 1)) ** 4
        labels = rng.integers(0, 2, (len(first), 1))
        meters = np.where(rng.uniform(size=len(first)) < 0.5, np.nan, rng.uniform(1, 80, len(first)))
        before = found(t_us, *np.concatenate([first, last, scores, labels], axis=1), distances=meters)
        after = smooth(before)
        assert len(after) == len(before)
        assert (after.xyxy[:, 2:] > after.xyxy[:, :2]).all()
        assert (after.xyxy >= 0).all()
        assert (after.xyxy <= [304, 240, 304, 240]).all()
        assert ((after.scores > 0) & (after.scores < 1)).all()
        assert np.isfinite(after.box3d[:, 2]).sum() == np.isfinite(meters).sum()


def test_time_must_rise_unless_it_is_reset():
    smooth = Smoother(SIZE_HW)
    first = smooth(found(EVERY_US, moving(0)))
    with pytest.raises(ConfigError, match="in the order of time, got 50000 us after 50000 us; reset"):
        smooth(found(EVERY_US, moving(0)))
    smooth.reset()
    np.testing.assert_array_equal(smooth(found(EVERY_US, moving(0))).scores, first.scores)


@pytest.fixture
def recording(tmp_path):
    write_dat(tmp_path / "noise_td.dat", some_events(), SMALL_HW)
    return open(tmp_path / "noise_td.dat")


def test_detecting_streaming_and_scoring_smooth_alike(tmp_path, recording):
    model = tiny_detector()
    plain = detections_at(model, recording, recording.stops_us(EVERY_US), min_score=LEAST_SCORE)
    expected = list(smoothed(plain, SMALL_HW, min_score=0.1))
    offline = list(detections_at(model, recording, recording.stops_us(EVERY_US), min_score=0.1, smooth=True))
    streamed = list(stream(model, recording, every_us=EVERY_US, min_score=0.1, smooth=True))
    written = write_detections(model, recording, tmp_path / "out", save=["json"], min_score=0.1, smooth=True)
    assert sum(map(len, expected)) > 0
    for answers in (offline, streamed, written.detections):
        assert [one.t_us for one in answers] == [one.t_us for one in expected]
        for one, wanted in zip(answers, expected, strict=True):
            np.testing.assert_array_equal(one.xyxy, wanted.xyxy)
            np.testing.assert_array_equal(one.scores, wanted.scores)


def test_a_data_set_is_scored_with_the_half_second_before_each_frame(tmp_path):
    (tmp_path / "val").mkdir()
    write_dat(tmp_path / "val" / "noise_td.dat", some_events(), SMALL_HW)
    boxes = np.zeros(2, BOX_DTYPE)
    boxes["ts"], boxes["w"], boxes["h"] = [120_000, 400_000], 10, 10  # not on one grid of 50 ms
    write_boxes(tmp_path / "val" / "noise_bbox.npy", boxes)
    model = tiny_detector()
    dataset = dataset_for(model, tmp_path, "val")
    result = predict(model, dataset, batch_size=1, smooth=True)
    assert set(result.truth) == set(result.detections) == {("noise", 120_000), ("noise", 400_000)}
    recording = open(tmp_path / "val" / "noise_td.dat")
    for t_us, num in ((120_000, 3), (400_000, 8)):
        chain = [t_us - k * EVERY_US for k in reversed(range(num))]
        expected = list(smoothed(detections_at(model, recording, chain, min_score=0.0), SMALL_HW, min_score=0.0))[-1]
        np.testing.assert_array_equal(result.detections["noise", t_us].xyxy, expected.xyxy)
        np.testing.assert_array_equal(result.detections["noise", t_us].scores, expected.scores)


def test_a_stream_asked_twice_remembers_once_and_forgets_when_reset(recording):
    flow = Stream(tiny_detector(), SMALL_HW, every_us=EVERY_US, min_score=0.0, smooth=True)
    answers = flow.push(recording.read(0, 420_000))
    again = flow.answer()
    np.testing.assert_array_equal(again.scores, answers[-1].scores)
    flow.reset()
    first = flow.push(recording.read(0, 420_000))[0]
    np.testing.assert_array_equal(first.scores, answers[0].scores)


def test_what_cannot_be_smoothed_is_refused(tmp_path, recording):
    model = tiny_detector()
    with pytest.raises(ConfigError, match="the page shows every timestamp by itself"):
        write_detections(model, recording, tmp_path, save=["html"], smooth=True)
    with pytest.raises(ConfigError, match="forgets what it has not seen for 150 ms, and timestamps are 200 ms apart"):
        write_detections(model, recording, tmp_path, every_us=200_000, smooth=True)
    with pytest.raises(ConfigError, match="timestamps are 200 ms apart; take 50 ms"):
        Stream(model, SMALL_HW, every_us=200_000, smooth=True)
    with pytest.raises(ConfigError, match="timestamps are 200 ms apart; take 50 ms"):
        scn.predict(recording, model, every_us=200_000, smooth=True)
    (tmp_path / "val").mkdir()
    write_dat(tmp_path / "val" / "noise_td.dat", some_events(), SMALL_HW)
    boxes = np.zeros(1, BOX_DTYPE)
    boxes["ts"], boxes["w"], boxes["h"] = 120_000, 10, 10
    write_boxes(tmp_path / "val" / "noise_bbox.npy", boxes)
    with pytest.raises(ConfigError, match="smooth scores windows of their own"):
        predict(model, dataset_for(model, tmp_path, "val"), mode="stateful", smooth=True)


def test_the_command_smooths(tmp_path, recording, capsys):
    save(tiny_detector(), tmp_path / "tiny.safetensors")
    words = [str(tmp_path / "tiny.safetensors"), str(recording.path), "--save", "npy", "--min_score", "0.1"]
    assert program.main(["detect", *words, "--smooth", "--out", str(tmp_path / "smooth")]) == 0
    assert program.main(["detect", *words, "--out", str(tmp_path / "plain")]) == 0
    smooth, plain = (
        np.load(tmp_path / name / "noise_detections_bbox.npy")["confidence"] for name in ("smooth", "plain")
    )
    assert len(smooth)
    assert smooth.max() != plain.max()

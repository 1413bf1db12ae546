import itertools

import numpy as np
import pytest
import torch
from tiny import some_events, tiny_detector

from spiking_centernet.data import Recording, Window, open, write_boxes, write_dat
from spiking_centernet.data.cameras import pitched_camera
from spiking_centernet.errors import ConfigError, EventFileError
from spiking_centernet.evaluation.prediction import dataset_for, predict
from spiking_centernet.inference import detect_windows, stream
from spiking_centernet.inference.recordings import detections_at
from spiking_centernet.inference.streaming import Stream
from spiking_centernet.model.heads import ground
from spiking_centernet.structures import BOX_DTYPE, EVENT_DTYPE

SIZE_HW = (56, 72)
EVERY_US = 50_000
STOP_US = 420_000


@pytest.fixture
def recording(tmp_path) -> Recording:
    write_dat(tmp_path / "noise_td.dat", some_events(), SIZE_HW)
    return open(tmp_path / "noise_td.dat")


def test_a_recording_without_events_has_no_timestamps(tmp_path):
    write_dat(tmp_path / "empty_td.dat", np.zeros(0, EVENT_DTYPE), SIZE_HW)
    assert list(stream(tiny_detector(), open(tmp_path / "empty_td.dat"))) == []


def test_timestamps_are_multiples_until_every_event_was_seen(recording):
    timestamps = [found.t_us for found in stream(tiny_detector(), recording, every_us=EVERY_US)]
    assert timestamps == list(range(EVERY_US, STOP_US + EVERY_US, EVERY_US))[: len(timestamps)]
    assert timestamps[-1] == 450_000


def test_a_late_start_is_not_waited_for(tmp_path):
    write_dat(tmp_path / "late_td.dat", some_events(start_us=230_000), SIZE_HW)
    first = next(stream(tiny_detector(), open(tmp_path / "late_td.dat"), every_us=EVERY_US))
    assert first.t_us == 250_000


def test_detections_are_those_of_predict_to_the_bit(tmp_path, recording):
    timestamps = range(EVERY_US, STOP_US + EVERY_US, EVERY_US)
    boxes = np.zeros(len(timestamps), BOX_DTYPE)
    boxes["ts"], boxes["w"], boxes["h"] = list(timestamps), 10, 10
    (tmp_path / "val").mkdir()
    recording.path.rename(tmp_path / "val" / "noise_td.dat")
    write_boxes(tmp_path / "val" / "noise_bbox.npy", boxes)
    model = tiny_detector()
    expected = predict(model, dataset_for(model, tmp_path, "val"), batch_size=1).detections
    moved = open(tmp_path / "val" / "noise_td.dat")
    streamed = list(stream(model, moved, every_us=EVERY_US, min_score=0.0))
    offline = list(detections_at(model, moved, moved.stops_us(EVERY_US), min_score=0.0))
    assert len(streamed) == len(offline) == len(timestamps) == len(expected)
    for found in (*streamed, *offline):
        wanted = expected["noise", found.t_us]
        assert len(found) > 0
        np.testing.assert_array_equal(found.xyxy, wanted.xyxy)
        np.testing.assert_array_equal(found.scores, wanted.scores)
        np.testing.assert_array_equal(found.labels, wanted.labels)


def test_windows_from_elsewhere_give_the_same(recording):
    model = tiny_detector()
    events = some_events()
    windows = (
        Window(t - 100_000, t, events[(events["t"] >= t - 100_000) & (events["t"] < t)])
        for t in range(EVERY_US, 451_000, EVERY_US)
    )
    live = list(detect_windows(model, windows, size_hw=SIZE_HW, min_score=0.0))
    stored = list(stream(model, recording, every_us=EVERY_US, min_score=0.0))
    assert len(live) == len(stored)
    for a, b in zip(live, stored, strict=True):
        assert a.t_us == b.t_us
        np.testing.assert_array_equal(a.xyxy, b.xyxy)


def test_the_threshold_is_the_networks_unless_given(recording):
    model = tiny_detector()
    everything = next(stream(model, recording, min_score=0.0))
    middle = float(np.median(everything.scores))
    assert 0 < len(everything.above(middle)) < len(everything)
    given = next(stream(model, recording, min_score=middle))
    np.testing.assert_array_equal(given.scores, everything.above(middle).scores)
    assert next(stream(model, recording)).scores.min(initial=1.0) >= model.config.deployment.score_threshold


def test_the_model_is_left_as_it_was(recording):
    model = tiny_detector()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    list(itertools.islice(stream(model, recording), 2))
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"every_us": 0}, "every_us"), ({"every_us": -5}, "every_us"), ({"min_score": 1.5}, "min_score")],
)
def test_impossible_settings_are_refused_at_once(recording, settings, words):
    with pytest.raises(ConfigError, match=words):
        stream(tiny_detector(), recording, **settings)


def test_an_event_outside_the_sensor_is_refused():
    window = Window(0, 100_000, some_events(stop_us=100_000))
    with pytest.raises(EventFileError, match="sensor"):
        next(detect_windows(tiny_detector(), [window], size_hw=(8, 8)))


@pytest.mark.parametrize("mode", ["windowed", "stateful"])
def test_an_unknown_height_of_the_camera_is_voted_on_by_all_windows_so_far(recording, monkeypatch, mode):
    monkeypatch.setattr(ground, "VOTING_SCORE", 0.0)
    model = tiny_detector(tasks=("detect", "detect3d"), **{"head.placing": "ground"})
    with torch.no_grad():
        model.heads["wh"].out.bias.fill_(2.0)
    camera = pitched_camera(60.0, 5.0, SIZE_HW)
    live = Stream(model, SIZE_HW, mode=mode, every_us=100_000, min_score=0.05, camera=camera)
    events = recording.read(0, STOP_US)
    answers = live.push(events) + live.flush()
    live.reset()
    again = live.push(events) + live.flush()
    assert len(answers) == len(again) == 5
    # A stream that starts again votes anew.
    assert all(np.array_equal(a.box3d, b.box3d, equal_nan=True) for a, b in zip(answers, again, strict=True))
    if mode == "stateful":
        return
    stops = [answer.t_us for answer in answers]
    whole = list(detections_at(model, recording, stops, min_score=0.05, camera=camera))
    alone = [next(detections_at(model, recording, [stop], min_score=0.05, camera=camera)) for stop in stops]
    assert all(np.array_equal(a.box3d, b.box3d) for a, b in zip(answers, whole, strict=True))
    assert [np.array_equal(a.box3d, b.box3d) for a, b in zip(answers, alone, strict=True)] == [True] + 4 * [False]
    assert all(np.array_equal(a.xyxy, b.xyxy) for a, b in zip(answers, alone, strict=True))
    assert camera.votes is None

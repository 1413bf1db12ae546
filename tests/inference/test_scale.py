"""Detection at other scales than the sensor's: recordings, windows, streams and folders agree."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import some_events, tiny_detector

import spiking_centernet as scn
from spiking_centernet.data import Window, voxelize, write_boxes, write_dat
from spiking_centernet.errors import ConfigError
from spiking_centernet.evaluation.prediction import dataset_for, predict
from spiking_centernet.inference import detect_windows
from spiking_centernet.inference.coverage import Coverage, filled_share
from spiking_centernet.inference.recordings import detections_at, write_detections
from spiking_centernet.model.scaling import merge, to_sensor
from spiking_centernet.structures import BOX_DTYPE, EVENT_DTYPE, VoxelSpec

SIZE_HW = (112, 144)
EVENTS = some_events(30_000, 300_000, SIZE_HW)
STOPS_US = (100_000, 200_000, 300_000)


@pytest.fixture(scope="module")
def model():
    return tiny_detector()


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("scale") / "clip_td.dat"
    write_dat(path, EVENTS, SIZE_HW)
    return scn.open(path)


def by_hand(model, scale, stop_us, min_score=0.0):
    """What a recording of a smaller sensor gives, its boxes enlarged."""
    spec = replace(model.config.voxels, scale=scale)
    cube = voxelize(EVENTS, stop_us=stop_us, size_hw=SIZE_HW, spec=spec)
    with torch.inference_mode():
        output, _ = model.fuse()(cube[:, None], keep_state=False)
    found = model.head.detections(output, [stop_us], size_hw=tuple(cube.shape[-2:]), min_score=min_score)[0]
    return to_sensor(found, spec.ratio, SIZE_HW)


def same(found, expected):
    assert [x.t_us for x in found] == [x.t_us for x in expected]
    for a, b in zip(found, expected, strict=True):
        for name in ("xyxy", "scores", "labels"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.5, 1 / 3])
def test_every_way_gives_the_same_boxes(model, recording, scale):
    expected = [by_hand(model, scale, stop_us) for stop_us in STOPS_US]
    assert sum(map(len, expected))
    same(list(detections_at(model, recording, STOPS_US, min_score=0.0, scale=scale)), expected)
    windows = [Window(t - 100_000, t, recording.read(t - 100_000, t)) for t in STOPS_US]
    same(list(detect_windows(model, windows, size_hw=SIZE_HW, min_score=0.0, scale=scale)), expected)
    live = list(scn.stream(model, recording, every_us=100_000, min_score=0.0, scale=scale))
    same(live, expected)


@pytest.mark.slow
def test_several_scales_are_merged(model, recording):
    parts = [[by_hand(model, scale, stop_us) for scale in (1, 0.5)] for stop_us in STOPS_US]
    expected = [merge(part) for part in parts]
    same(list(detections_at(model, recording, STOPS_US, min_score=0.0, scale=(1, 0.5))), expected)
    windows = [Window(t - 100_000, t, recording.read(t - 100_000, t)) for t in STOPS_US]
    same(list(detect_windows(model, windows, size_hw=SIZE_HW, min_score=0.0, scale=(1, 0.5))), expected)


def test_a_stream_has_one_scale(model, recording):
    with pytest.raises(ConfigError, match="give one scale"):
        scn.stream(model, recording, scale="pyramid")


@pytest.mark.slow
def test_a_stateful_stream_is_scaled_too(model, recording):
    small = EVENTS.copy()
    small["x"], small["y"] = EVENTS["x"] // 2, EVENTS["y"] // 2
    expected = list(scn.stream(model, [small], size_hw=(56, 72), mode="stateful", min_score=0.0))
    found = list(scn.stream(model, recording, mode="stateful", min_score=0.0, scale=0.5))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.xyxy, b.xyxy * 2)
        np.testing.assert_array_equal(a.scores, b.scores)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("folder")
    boxes = np.zeros(len(STOPS_US), BOX_DTYPE)
    boxes["ts"], boxes["x"], boxes["y"], boxes["w"], boxes["h"] = STOPS_US, 20, 30, 40, 50
    (root / "val").mkdir()
    write_dat(root / "val" / "clip_td.dat", EVENTS, SIZE_HW)
    write_boxes(root / "val" / "clip_bbox.npy", boxes)
    return root


@pytest.mark.parametrize("scale", [0.5, (1, 0.5)])
def test_a_folder_is_scored_in_pixels_of_the_sensor(model, folder, scale):
    predictions = predict(model, dataset_for(model, folder, "val"), scale=scale, batch_size=2)
    scales = (scale,) if isinstance(scale, float) else scale
    expected = [merge([by_hand(model, one, stop_us) for one in scales]) for stop_us in STOPS_US]
    assert predictions.size_hw == SIZE_HW
    np.testing.assert_array_equal(predictions.truth["clip", 100_000].xyxy, [[20, 30, 60, 80]])
    # A batch adds floats in another order than a single window.
    for found, one in zip(predictions.detections.values(), expected, strict=True):
        np.testing.assert_allclose(found.scores, one.scores, atol=1e-4)


def test_auto_is_scale_1_on_a_small_sensor(model, folder):
    plain = predict(model, dataset_for(model, folder, "val"))
    auto = predict(model, dataset_for(model, folder, "val"), scale="auto")
    same(list(auto.detections.values()), list(plain.detections.values()))


def one_event(t_us):
    return np.array([(t_us, 3, 2, 1)], EVENT_DTYPE)


@pytest.mark.parametrize(("t_us", "share"), [(0, 1.0), (9_999, 1.0), (10_000, 0.9), (60_000, 0.4), (99_999, 0.1)])
def test_a_window_is_filled_from_its_first_event_on(t_us, share):
    spec = VoxelSpec()
    cube = voxelize(one_event(t_us), stop_us=100_000, size_hw=(4, 6), spec=spec)
    assert filled_share(cube, spec) == pytest.approx(share)
    assert filled_share(torch.zeros_like(cube), spec) == 0


def test_a_run_says_what_was_partly_empty_and_what_to_try(model, tmp_path):
    write_dat(tmp_path / "late_td.dat", EVENTS[EVENTS["t"] >= 60_000], SIZE_HW)
    run = write_detections(model, scn.open(tmp_path / "late_td.dat"), tmp_path, save=("json",), min_score=0.999)
    found = json.loads(run.paths["json"].read_text())
    best = max(
        float(one.scores.max(initial=0))
        for one in detections_at(
            model, scn.open(tmp_path / "late_td.dat"), range(100_000, 350_000, 50_000), min_score=0
        )
    )
    assert (found["windows"], found["partly_empty_windows"], found["partly_empty_filled"]) == (5, 2, 0.65)
    assert found["best_score"] == pytest.approx(best, abs=1e-6)
    empty, advice = run.coverage.messages(num_boxes=0, min_score=0.999)
    assert empty.startswith("2 of 5 windows are partly empty, on average 65% filled: their time steps were shortened")
    assert found["fit_windows"]
    assert f"the best is {best:.3f}" in advice
    assert "--min_score" in advice
    assert "--scale" in advice
    assert "--scale" not in run.coverage.messages(num_boxes=0, min_score=0.999, num_scales=3)[1]


def test_full_windows_with_boxes_need_no_words():
    coverage = Coverage(fit=True)
    spec = VoxelSpec()
    coverage.add_window(voxelize(one_event(0), stop_us=100_000, size_hw=(4, 6), spec=spec), spec)
    assert coverage.messages(num_boxes=1, min_score=0.3) == []
    assert coverage.messages(num_boxes=0, min_score=0.3) == []

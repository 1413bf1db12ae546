"""A network with memory on a recording: its state goes on from answer to answer, however many steps lie between."""

import json

import numpy as np
import pytest
import torch
from tiny import some_events, tiny_memory

import spiking_centernet as scn
from spiking_centernet.cli import program
from spiking_centernet.data import open, write_dat
from spiking_centernet.errors import ConfigError
from spiking_centernet.inference import stream, view_page
from spiking_centernet.inference.clip import Clip
from spiking_centernet.inference.recordings import detections_at, write_detections
from spiking_centernet.model.weights import save
from spiking_centernet.structures import VoxelSpec

SIZE_HW = (16, 24)


@pytest.fixture(scope="module")
def model():
    return tiny_memory()


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("noise") / "noise_td.dat"
    write_dat(path, some_events(800, 300_000, SIZE_HW, 0), SIZE_HW)
    return open(path)


def at(model, recording, stops_us, **settings):
    return list(detections_at(model, recording, stops_us, min_score=0.0, **settings))


def assert_alike(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.t_us == other.t_us
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        order, others = np.lexsort(one.xyxy.T), np.lexsort(other.xyxy.T)
        np.testing.assert_allclose(one.xyxy[order], other.xyxy[others], atol=1e-3)


@pytest.mark.parametrize("every_us", [20_000, 40_000, 60_000, 100_000])
def test_answers_are_those_of_the_stream(model, recording, every_us):
    streamed = list(stream(model, recording, min_score=0.0))
    stops_us = range(every_us, 300_001, every_us)
    expected = [answer for answer in streamed if answer.t_us in stops_us]
    assert_alike(at(model, recording, stops_us), expected)


def test_windows_on_their_own_have_no_past(model, recording):
    stops_us = range(140_000, 300_001, 20_000)
    scores = [
        np.concatenate([answer.scores for answer in at(model, recording, stops_us, **settings)])
        for settings in ({}, {"voxels": VoxelSpec(120_000, num_steps=6)})
    ]
    assert len(scores[0]) != len(scores[1]) or not np.allclose(*scores, atol=1e-5)


def test_between_two_steps_an_answer_is_as_of_the_last(model, recording):
    found = at(model, recording, [10_000, 50_000, 55_000, 250_000])
    assert [answer.t_us for answer in found] == [10_000, 50_000, 55_000, 250_000]
    assert not len(found[0])
    at_steps = at(model, recording, [40_000, 240_000])
    for one, other in zip([found[1], found[2], found[3]], [at_steps[0], at_steps[0], at_steps[1]], strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


def test_predict_and_the_files_of_a_detection_remember(model, recording, tmp_path):
    expected = at(model, recording, range(50_000, 300_001, 50_000))
    assert_alike(scn.predict(recording, model, min_score=0.0), expected)
    run = write_detections(model, recording, tmp_path, save=("json",), min_score=0.0)
    assert_alike(run.detections, expected)
    assert run.coverage.best_score == pytest.approx(max(answer.scores.max(initial=0) for answer in expected))
    told = json.loads((tmp_path / "noise_detections.json").read_text())
    assert len(told["instants"]) == len(expected)


@pytest.mark.parametrize("most_frames", [2, 1000])
def test_the_page_shows_what_was_detected(model, recording, tmp_path, monkeypatch, most_frames):
    monkeypatch.setattr(view_page, "MOST_FRAMES", most_frames)
    pages = []
    monkeypatch.setattr(view_page.viewer, "render", lambda about, frames: pages.append((about, frames)) or "page")
    expected = at(model, recording, range(70_000, 350_001, 70_000))
    settings = {"every_us": 70_000, "min_score": 0.0}
    run = write_detections(model, recording, tmp_path, save=("json", "html"), **settings)
    assert_alike(run.detections, expected)
    assert_alike(write_detections(model, recording, tmp_path, save=("json",), **settings).detections, expected)
    ((about, frames),) = pages
    assert about["models"][0]["num_steps"] == 2
    assert [len(frame["models"][0]["boxes"]) for frame in frames] == [len(one) for one in expected[:most_frames]]
    for frame, one in zip(frames, expected, strict=False):
        np.testing.assert_allclose([row[4] for row in frame["models"][0]["boxes"]], one.scores, atol=1e-5)


def test_frames_out_of_order_begin_a_window_before(model, recording):
    clip = Clip({"one": model}, recording, every_us=20_000, min_score=0.0)
    in_order = at(model, recording, clip.stops_us)
    alone = at(model, recording, [260_000])
    found = {index: clip.frame(index).found[0] for index in (12, 13, 1, 2, 6, 0)}
    assert_alike([found[k] for k in (12, 1, 2, 6, 0)], alone + [in_order[k] for k in (1, 2, 6, 0)])
    assert_alike([found[13]], at(model, recording, [260_000, 280_000])[1:])
    assert in_order[12].scores.tolist() != pytest.approx(alone[0].scores.tolist(), abs=1e-5)


def test_tracks_of_a_page_are_of_the_carried_state(model, recording):
    pytest.importorskip("trackers")
    settings = {"every_us": 50_000, "min_score": 0.3, "track": True}
    in_order, last = Clip({"one": model}, recording, **settings), Clip({"one": model}, recording, **settings)
    for index in range(len(in_order)):
        expected = in_order.frame(index).values["models"][0]["boxes"]
    (at_once,) = last.frame(len(last) - 1).values["models"]
    assert at_once["boxes"]
    assert {row[6] for row in at_once["boxes"]} <= {row[6] for row in expected} | {-1}


def test_what_is_kept_is_of_the_steps_that_an_answer_averages(model, recording):
    results = scn.predict(recording, model, every_us=50_000, min_score=0.0, keep=("spikes", "rates", "operations"))
    (whole,) = recording.cubes([300_000], VoxelSpec(300_000, num_steps=15))
    spikes = {}
    model.fuse()(whole[1][:, None], observe=lambda name, layer: spikes.update({name: layer.bool().numpy()}))
    for result in results:
        stop = result.t_us // 20_000
        assert torch.equal(result.inspection.cube, whole[1][stop - 2 : stop])
        for name, layer in result.inspection.spikes.items():
            assert layer.shape == (2, *spikes[name].shape[1:])
            assert (layer != spikes[name][stop - 2 : stop]).mean() < 1e-3  # rounding may move a spike
        assert result.inspection.operations["encoder.stem"] > 0


def test_before_the_first_step_a_frame_is_empty(model, recording):
    frame = Clip({"one": model}, recording, every_us=10_000, min_score=0.0).frame(0)
    (values,) = frame.values["models"]
    assert (values["boxes"], values["rate"], values["heatmap"]) == ([], 0, None)


def test_several_scales_are_refused(model, recording):
    with pytest.raises(ConfigError, match="one scale"):
        at(model, recording, [100_000], scale=(1, 0.5))


def test_the_command_remembers_too(model, recording, tmp_path):
    path = save(model, tmp_path / "memory.safetensors")
    assert program.main(["detect", str(path), str(recording.path), "--out", str(tmp_path), "--save", "json"]) == 0
    told = json.loads((tmp_path / "noise_detections.json").read_text())["instants"]
    expected = list(detections_at(model, recording, range(50_000, 300_001, 50_000)))
    assert [len(one["boxes"]) for one in told] == [len(one) for one in expected]
    scores = [box["score"] for one in told for box in one["boxes"]]
    np.testing.assert_allclose(scores, np.concatenate([one.scores for one in expected]), atol=1e-4)

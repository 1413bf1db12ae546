"""A network with memory on a recording: its state goes on from answer to answer, however many steps lie between."""

import json

import numpy as np
import pytest
import torch
from tiny import some_events, tiny_detector

import spiking_centernet as scn
from spiking_centernet.cli import program
from spiking_centernet.data import open, write_dat
from spiking_centernet.errors import ConfigError
from spiking_centernet.inference import stream
from spiking_centernet.inference.recordings import detections_at, write_detections
from spiking_centernet.model.weights import save
from spiking_centernet.structures import VoxelSpec

SIZE_HW = (16, 24)
MEMORY = {
    "recurrent.kind": "gated", "head.readout_steps": 2, "voxels.num_steps": 6, "voxels.window_us": 120_000,
}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    model = tiny_detector(**MEMORY)
    with torch.no_grad():
        model.recurrent.conv.weight.mul_(1.5)  # an untrained memory is silent
    return model


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
    run = write_detections(model, recording, tmp_path, save=("json", "html"), min_score=0.0)
    assert_alike(run.detections, expected)
    assert run.coverage.best_score == pytest.approx(max(answer.scores.max(initial=0) for answer in expected))
    told = json.loads((tmp_path / "noise_detections.json").read_text())
    assert len(told["instants"]) == len(expected)
    assert run.paths["html"].is_file()


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

"""Windows that reach back a number of events: recordings, streams and folders agree, whatever the packets."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import some_events, tiny_detector

import spiking_centernet as scn
from spiking_centernet.data import voxelize, write_boxes, write_dat
from spiking_centernet.deploy.export.contract import contract_of
from spiking_centernet.errors import ConfigError, ExportError
from spiking_centernet.evaluation.prediction import dataset_for
from spiking_centernet.inference.recordings import detections_at
from spiking_centernet.inference.windows import WindowCollector
from spiking_centernet.structures import BOX_DTYPE, EVENT_DTYPE, VoxelSpec

SIZE_HW = (56, 72)
EVENTS = some_events(20_000, 300_000, SIZE_HW)
COUNTING = VoxelSpec(150_000, num_events=3_000, least_us=5_000)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("counting") / "clip_td.dat"
    write_dat(path, EVENTS, SIZE_HW)
    return scn.open(path)


@pytest.mark.parametrize("packet_us", [1_000, 13_000, 400_000])
def test_a_collector_bins_what_a_recording_does(recording, packet_us):
    collector = WindowCollector(SIZE_HW, every_us=20_000, spec=COUNTING)
    windows = []
    for start_us in range(0, 300_000, packet_us):
        inside = (EVENTS["t"] >= start_us) & (EVENTS["t"] < start_us + packet_us)
        windows += collector.push(EVENTS[inside])
    windows += collector.flush()
    assert [window.stop_us for window in windows] == list(range(20_000, 300_001, 20_000))
    for window in windows:
        assert torch.equal(window.cube, recording.cube(window.stop_us, COUNTING))


def test_a_silence_is_empty_and_keeps_nothing():
    collector = WindowCollector(SIZE_HW, every_us=20_000, spec=COUNTING)
    list(collector.push(EVENTS[EVENTS["t"] < 20_000]))
    windows = list(collector.push(scn.inference.Packet(np.zeros(0, EVENT_DTYPE), 400_000)))
    assert not windows[-1].cube.any()
    assert not collector._kept


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_detections_of_a_stream_are_those_of_the_recording(recording, scale):
    model = tiny_detector()
    voxels = replace(model.config.voxels, num_events=3_000, least_us=5_000)
    stops_us = range(50_000, 300_001, 50_000)
    offline = list(detections_at(model, recording, stops_us, min_score=0.0, voxels=voxels, scale=scale))
    live = list(scn.stream(model, recording, min_score=0.0, voxels=voxels, scale=scale))
    plain = list(detections_at(model, recording, stops_us, min_score=0.0, scale=scale))
    for a, b in zip(offline, live, strict=True):
        np.testing.assert_array_equal(a.xyxy, b.xyxy)
        np.testing.assert_array_equal(a.scores, b.scores)
    assert any(len(a) != len(b) or (a.scores != b.scores).any() for a, b in zip(offline, plain, strict=True))


def test_a_network_may_be_made_for_them(tmp_path, recording):
    model = tiny_detector(**{"voxels.num_events": 3_000, "voxels.window_us": 150_000, "voxels.least_us": 5_000})
    boxes = np.zeros(1, BOX_DTYPE)
    boxes["ts"], boxes["w"], boxes["h"] = 200_000, 30, 30
    (tmp_path / "val").mkdir()
    write_dat(tmp_path / "val" / "clip_td.dat", EVENTS, SIZE_HW)
    write_boxes(tmp_path / "val" / "clip_bbox.npy", boxes)
    expected = voxelize(EVENTS, stop_us=200_000, size_hw=SIZE_HW, spec=COUNTING)
    assert torch.equal(dataset_for(model, tmp_path, "val")[0].cube, expected)
    assert scn.load(scn.save(model, tmp_path / "counting")).config == model.config
    with pytest.raises(ExportError, match="reach back 3000 events"):
        contract_of(model, (64, 64))


def test_what_cannot_be_is_refused(recording):
    model = tiny_detector()
    counting = replace(model.config.voxels, num_events=100)
    with pytest.raises(ConfigError, match='need mode="windowed"'):
        scn.stream(model, recording, mode="stateful", voxels=counting)
    with pytest.raises(ConfigError, match="counts 100 events"):
        scn.stream(model, recording, policy="merge", voxels=counting)
    with pytest.raises(ConfigError, match="num_steps 3, the network was trained with 5"):
        scn.stream(model, recording, voxels=replace(counting, num_steps=3))
    with pytest.raises(ConfigError, match="give the scale as scale"):
        scn.stream(model, recording, voxels=replace(counting, scale=0.5))

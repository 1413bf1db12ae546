"""Windows that begin without events are shortened to what there is: recordings, streams and folders agree."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import some_events, tiny_detector

import spiking_centernet as scn
from spiking_centernet.data import voxelize, write_boxes, write_dat
from spiking_centernet.data.voxel import window_start_us
from spiking_centernet.evaluation.prediction import dataset_for
from spiking_centernet.inference.recordings import detections_at
from spiking_centernet.inference.windows import Packet, WindowCollector
from spiking_centernet.structures import BOX_DTYPE, EVENT_DTYPE, VoxelSpec

SIZE_HW = (56, 72)
WHOLE = VoxelSpec()
FIT = VoxelSpec(fit=True)


def with_silences():
    """Return events of 600 ms with silences of 8 to 150 ms between them."""
    events = some_events(6_000, 600_000, SIZE_HW)
    keep = np.ones(len(events), bool)
    for start_us, stop_us in (
        (0, 33_000),
        (90_000, 98_000),
        (130_000, 141_000),
        (180_000, 330_000),
        (410_000, 500_000),
    ):
        keep &= (events["t"] < start_us) | (events["t"] >= stop_us)
    return events[keep]


EVENTS = with_silences()


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("silences") / "clip_td.dat"
    write_dat(path, EVENTS, SIZE_HW)
    return scn.open(path)


def test_a_window_begins_at_its_first_event_if_its_first_cell_is_empty():
    def start_us(*times_us, spec=FIT):
        return window_start_us(np.array(times_us, np.int64), 200_000, spec)

    assert start_us(100_000, 150_000) == 100_000
    assert start_us(109_999, 150_000) == 100_000
    assert start_us(110_000, 150_000) == 110_000
    assert start_us(160_001, 150_000) == 150_000
    assert start_us(99_999, 160_000, 200_000) == 160_000  # those outside do not count
    assert start_us(199_999) == 190_000  # the least length
    assert start_us() == 100_000
    assert start_us(50_000) == 100_000
    assert start_us(160_000, spec=WHOLE) == 100_000
    assert start_us(4, spec=VoxelSpec(5, fit=True)) == 100_000 + 99_995  # a window below the least length is left alone
    few = VoxelSpec(fit=True, num_events=9)
    assert start_us(150_000, 160_000, spec=few) == 150_000
    assert start_us(*range(150_000, 150_010), spec=few) == 150_001


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_its_cube_is_that_of_a_shorter_window(recording, scale):
    spec = replace(FIT, scale=scale)
    starts_us = []
    for stop_us in recording.stops_us(10_000):
        cube = recording.cube(stop_us, spec)
        start_us = window_start_us(EVENTS["t"], stop_us, spec)
        shorter = VoxelSpec(stop_us - start_us, scale=scale)
        assert torch.equal(cube, voxelize(EVENTS, stop_us=stop_us, size_hw=SIZE_HW, spec=shorter))
        assert torch.equal(cube, voxelize(EVENTS, stop_us=stop_us, size_hw=SIZE_HW, spec=spec))
        starts_us.append(stop_us - start_us)
    assert sum(length == 100_000 for length in starts_us) > 10
    assert sum(length < 100_000 for length in starts_us) > 10


@pytest.mark.parametrize("packet_us", [700, 13_000, 210_000, 700_000])
@pytest.mark.parametrize("every_us", [20_000, 50_000])
def test_a_stream_bins_what_a_recording_does(recording, packet_us, every_us):
    collector = WindowCollector(SIZE_HW, every_us=every_us, spec=FIT)
    windows = []
    for start_us in range(0, 600_000, packet_us):
        inside = (EVENTS["t"] >= start_us) & (EVENTS["t"] < start_us + packet_us)
        windows += collector.push(EVENTS[inside])
    windows += collector.flush()
    assert [window.stop_us for window in windows] == list(recording.stops_us(every_us))
    for window in windows:
        assert torch.equal(window.cube, recording.cube(window.stop_us, FIT))


def test_events_are_kept_only_near_a_silence():
    collector = WindowCollector(SIZE_HW, every_us=20_000, spec=FIT)
    busy = some_events(40_000, 400_000, SIZE_HW)
    most = 0
    for start_us in range(0, 400_000, 5_000):
        list(collector.push(busy[(busy["t"] >= start_us) & (busy["t"] < start_us + 5_000)]))
        if start_us >= 130_000:
            most = max(most, len(collector._kept))
    assert most == 0
    list(collector.push(Packet(np.zeros(0, EVENT_DTYPE), 900_000)))
    assert not collector._kept


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_detections_of_a_stream_are_those_of_the_recording(recording, scale):
    model = tiny_detector()
    stops_us = recording.stops_us(50_000)
    offline = list(detections_at(model, recording, stops_us, min_score=0.0, scale=scale))
    live = list(scn.stream(model, recording, min_score=0.0, scale=scale))
    whole = list(detections_at(model, recording, stops_us, min_score=0.0, scale=scale, voxels=model.config.voxels))
    for a, b in zip(offline, live, strict=True):
        np.testing.assert_array_equal(a.xyxy, b.xyxy)
        np.testing.assert_array_equal(a.scores, b.scores)
    assert any(len(a) != len(b) or (a.scores != b.scores).any() for a, b in zip(offline, whole, strict=True))


def test_validation_sees_what_detection_sees_unless_told(tmp_path):
    model = tiny_detector()
    boxes = np.zeros(2, BOX_DTYPE)
    boxes["ts"], boxes["w"], boxes["h"] = (60_000, 400_000), 30, 30
    (tmp_path / "val").mkdir()
    write_dat(tmp_path / "val" / "clip_td.dat", EVENTS, SIZE_HW)
    write_boxes(tmp_path / "val" / "clip_bbox.npy", boxes)
    fitted, whole = (dataset_for(model, tmp_path, "val", fit=fit) for fit in (True, False))
    assert torch.equal(fitted[0].cube, voxelize(EVENTS, stop_us=60_000, size_hw=SIZE_HW, spec=FIT))
    assert torch.equal(whole[0].cube, voxelize(EVENTS, stop_us=60_000, size_hw=SIZE_HW, spec=WHOLE))
    assert not torch.equal(fitted[0].cube, whole[0].cube)

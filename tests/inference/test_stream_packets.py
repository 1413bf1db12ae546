"""A stream cut into packets anywhere equals one pass; state carried equals one long window."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiers import thorough
from tiny import some_events, tiny_detector

from spiking_centernet.data import open, voxelize, write_dat
from spiking_centernet.errors import ConfigError, EventFileError
from spiking_centernet.inference import Packet, Stream, stream
from spiking_centernet.inference.runner import Answerer
from spiking_centernet.inference.windows import WindowCollector
from spiking_centernet.structures import EVENT_DTYPE, VoxelSpec

SIZE_HW = (16, 24)
MODEL = tiny_detector()


def noise(num=400, stop_us=300_000, start_us=0):
    return some_events(num, stop_us, SIZE_HW, start_us)


def same(found, expected):
    assert [a.t_us for a in found] == [b.t_us for b in expected]
    for a, b in zip(found, expected, strict=True):
        for name in ("xyxy", "scores", "labels"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        assert a.num_steps == b.num_steps
        np.testing.assert_equal(a.confidence, b.confidence)


def test_an_empty_stream_answers_nothing():
    flow = Stream(MODEL, SIZE_HW)
    assert flow.push(np.zeros(0, EVENT_DTYPE)) == []
    assert flow.push(Packet(np.zeros(0, EVENT_DTYPE), 1_000_000)) == []
    assert flow.flush() == []
    with pytest.raises(ConfigError, match="nothing to answer yet"):
        flow.answer()


cuts = st.lists(st.integers(0, 400), max_size=8).map(sorted)


@settings(max_examples=20, deadline=None)
@given(
    cuts=cuts,
    every_us=st.sampled_from([7_000, 50_000, 130_000]),
    start_us=st.sampled_from([0, 123_456]),
    mode=st.sampled_from(["binary", "count"]),
)
def test_windows_are_those_of_one_pass_however_the_packets_are_cut(cuts, every_us, start_us, mode):
    events = noise(start_us=start_us)
    spec = VoxelSpec(mode=mode)
    collector = WindowCollector(SIZE_HW, every_us=every_us, spec=spec)
    windows = []
    for packet in np.split(events, cuts):
        windows += collector.push(packet)
        assert len(collector._open) <= 100_000 // every_us + 1, "memory grows with the events"
    windows += collector.flush()
    first, last = start_us // every_us + 1, 299_999 // every_us + 1
    assert [w.stop_us for w in windows] == [k * every_us for k in range(first, last + 1)]
    for w in windows:
        assert w.start_us == w.stop_us - 100_000
        expected = voxelize(events, stop_us=w.stop_us, size_hw=SIZE_HW, spec=spec)
        assert torch.equal(w.cube, expected)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["stateful", *thorough("windowed")])
@settings(max_examples=3, deadline=None)
@given(cuts=cuts)
def test_a_chunked_stream_equals_one_pass(mode, cuts):
    events = noise()
    whole = Stream(MODEL, SIZE_HW, mode=mode, min_score=0.0)
    expected = [*whole.push(events), *whole.flush()]
    assert len(expected) == (6 if mode == "windowed" else 15)
    flow = Stream(MODEL, SIZE_HW, mode=mode, min_score=0.0)
    for _ in range(2):
        found = [answer for packet in np.split(events, cuts) for answer in flow.push(packet)]
        same([*found, *flow.flush()], expected)
        flow.reset()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["windowed", "stateful"])
def test_a_recording_equals_its_packets(tmp_path, mode):
    write_dat(tmp_path / "noise_td.dat", noise(), SIZE_HW)
    expected = list(stream(MODEL, open(tmp_path / "noise_td.dat"), mode=mode, min_score=0.0))
    same(list(stream(MODEL, np.split(noise(), 7 * [20]), mode=mode, min_score=0.0, size_hw=SIZE_HW)), expected)
    assert all(answer.lag_ms == 0 for answer in expected)
    assert all(answer.latency_ms > 0 for answer in expected)


def test_steps_from_rest_average_to_the_window():
    """The first five steps of a stateful stream are the network's whole window."""
    events = noise(stop_us=100_000)
    answers = [*(flow := Stream(MODEL, SIZE_HW, mode="stateful", min_score=0.0)).push(events), *flow.flush()]
    assert [answer.t_us for answer in answers] == [20_000, 40_000, 60_000, 80_000, 100_000]
    assert [answer.num_steps for answer in answers] == [1, 2, 3, 4, 5]
    cube = voxelize(events, stop_us=100_000, size_hw=SIZE_HW)
    output, _ = MODEL.fuse()(cube[:, None])
    expected = MODEL.head.detections(output, [100_000], size_hw=SIZE_HW)[0]
    order, other = np.lexsort(answers[-1].xyxy.T), np.lexsort(expected.xyxy.T)
    np.testing.assert_allclose(answers[-1].xyxy[order], expected.xyxy[other], atol=1e-3)
    np.testing.assert_allclose(answers[-1].scores, expected.scores, atol=1e-5)


@pytest.mark.slow
def test_membranes_are_carried_beyond_the_window():
    events = noise(2000)
    flow = Stream(MODEL, SIZE_HW, mode="stateful", min_score=0.0, readout_steps=1)
    last = [*flow.push(events), *flow.flush()][-1]
    fused, state = MODEL.fuse(), None
    for t in range(0, 300_000, 20_000):
        cube = voxelize(events, stop_us=t + 20_000, size_hw=SIZE_HW, spec=VoxelSpec(20_000, num_steps=1))
        output, state = fused(cube[:, None], state)
    np.testing.assert_array_equal(last.scores, MODEL.head.detections(output, [0], size_hw=SIZE_HW)[0].scores)


def test_the_confidence_tells_how_far_the_last_step_moved_the_answer():
    flow = Stream(MODEL, SIZE_HW, mode="stateful", min_score=0.0)
    answers = flow.push(noise(2000))
    assert np.isnan(answers[0].confidence)
    assert all(0 <= answer.confidence < 1 for answer in answers[1:])
    first, second = (Stream(MODEL, SIZE_HW, mode="stateful").answerer for _ in range(2))
    cube = torch.ones((1, 4, *SIZE_HW), dtype=torch.uint8)
    first.take(cube)
    second.take(cube)
    second.take(cube)
    change = torch.sigmoid(second._output.heatmap) - torch.sigmoid(first._output.heatmap)
    assert second._confidence == 1 - float(change.abs().max())


def test_an_answer_may_be_had_after_any_step():
    flow = Stream(MODEL, SIZE_HW, mode="stateful", every_us=100_000, min_score=0.0)
    assert flow.push(noise(stop_us=70_000)) == []
    early = flow.answer()
    assert (early.t_us, early.num_steps) == (60_000, 3)
    assert early.lag_ms == pytest.approx(9.999)
    assert [answer.t_us for answer in flow.push(noise(start_us=70_000))] == [100_000, 200_000]


@pytest.mark.parametrize("policy", ["wait", "drop"])
def test_a_stateful_stream_answers_until_every_event_was_seen(tmp_path, policy):
    """The last answer comes at a multiple of ``every_us`` after the last event, as in windowed mode."""
    write_dat(tmp_path / "noise_td.dat", noise(stop_us=170_000), SIZE_HW)
    recording = open(tmp_path / "noise_td.dat")
    settings = {"every_us": 100_000, "policy": policy, "max_waiting": 100}
    for mode in ("windowed", "stateful"):
        assert [answer.t_us for answer in stream(MODEL, recording, mode=mode, **settings)] == [100_000, 200_000]
    flow = Stream(MODEL, SIZE_HW, mode="stateful", every_us=100_000)
    assert [answer.t_us for answer in flow.push(recording.read())] == [100_000]
    assert [answer.t_us for answer in flow.flush()] == [200_000]
    assert flow.flush() == []


def test_latency_counts_the_wait_for_earlier_windows_of_the_same_packet(monkeypatch):
    """All of their events were complete when the packet came."""
    clock, original = [0.0], Answerer.take
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def slow(self, cube):
        clock[0] += 1
        original(self, cube)

    monkeypatch.setattr(Answerer, "take", slow)
    found = Stream(MODEL, SIZE_HW).push(Packet(noise(), 300_000))
    assert [answer.latency_ms for answer in found] == [1000, 2000, 3000, 4000, 5000, 6000]


def test_late_events_are_counted_by_the_first_answer_there_is():
    flow = Stream(MODEL, SIZE_HW)
    flow.push(noise(10, stop_us=80_000, start_us=60_000))
    flow.push(noise(7, stop_us=40_000))
    with pytest.raises(ConfigError, match="nothing to answer yet"):
        flow.answer()
    assert [answer.num_late for answer in flow.flush()] == [7]


@pytest.mark.slow
def test_a_stream_goes_on_after_a_failed_packet_and_a_reset():
    flow, events = Stream(MODEL, SIZE_HW, mode="stateful", min_score=0.0), noise()
    expected = [*flow.push(events), *flow.flush()]
    flow.reset()
    wrong = events.copy()
    wrong["x"][200] = 99
    with pytest.raises(EventFileError, match="sensor"):
        flow.push(wrong)
    flow.reset()
    same([*flow.push(events), *flow.flush()], expected)


def test_time_passes_while_nothing_moves():
    flow = Stream(MODEL, SIZE_HW)
    flow.push(noise(stop_us=40_000))
    found = flow.push(Packet(np.zeros(0, EVENT_DTYPE), 200_000))
    assert [answer.t_us for answer in found] == [50_000, 100_000, 150_000, 200_000]
    assert found[0].lag_ms == 150
    assert flow.flush() == []


def test_events_after_their_answer_are_counted():
    flow = Stream(MODEL, SIZE_HW)
    flow.push(noise(stop_us=60_000))
    flow.push(noise(30, stop_us=40_000))
    assert [answer.num_late for answer in flow.push(noise(start_us=60_000))] == [30, 0, 0, 0]


def test_disorder_within_a_packet_changes_nothing():
    events = noise()
    shuffled = np.random.default_rng(0).permutation(events)
    expected = Stream(MODEL, SIZE_HW, min_score=0.0).push(events)
    same(Stream(MODEL, SIZE_HW, min_score=0.0).push(shuffled), expected)


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("did you mean 'stateful'", {"mode": "statefull"}),
        ("multiple", {"mode": "stateful", "every_us": 50_000}),
        ("every_us", {"every_us": 0}),
        ("readout_steps", {"readout_steps": 0}),
    ],
)
def test_impossible_streams_are_refused(words, changes):
    with pytest.raises(ConfigError, match=words):
        Stream(MODEL, SIZE_HW, **changes)


def test_wrong_packets_are_refused():
    with pytest.raises(ConfigError, match="EVENT_DTYPE"):
        Stream(MODEL, SIZE_HW).push(np.zeros((3, 4)))
    with pytest.raises(EventFileError, match="8 x 8 sensor"):
        Stream(MODEL, (8, 8)).push(noise())

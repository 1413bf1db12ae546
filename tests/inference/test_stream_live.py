"""Sources that do not wait: what is skipped is said, what fails is told, and nothing piles up."""

import threading
import time

import numpy as np
import pytest
import torch
from tiny import some_events, tiny_detector

from spiking_centernet.data import open, write_dat
from spiking_centernet.errors import ConfigError
from spiking_centernet.inference import Camera, Packet, Replay, Stream, Udp, stream
from spiking_centernet.inference.live import WaitingRoom
from spiking_centernet.inference.runner import Answerer
from spiking_centernet.inference.sources import packets_of
from spiking_centernet.inference.windows import ClosedWindow

SIZE_HW = (16, 24)
MODEL = tiny_detector()
COUNTING, ANCHORED = tiny_detector(voxels={"mode": "count"}), tiny_detector(head={"kind": "ssd"})


def window(k):
    cube = torch.zeros((1, 4, 2, 2), dtype=torch.uint8)
    cube[0, 0, 0, k % 2] = 1
    return ClosedWindow(20 * k, 20 * (k + 1), cube, 0.0)


def test_dropping_forgets_the_oldest():
    room = WaitingRoom(2, merge=False)
    for k in range(5):
        room.put(window(k))
    room.end()
    (first, skipped), (second, none) = room.get(), room.get()
    assert (first.stop_us, second.stop_us, skipped, none) == (80, 100, 3, 0)
    assert room.get() is None


def test_merging_keeps_every_event():
    room = WaitingRoom(2, merge=True)
    for k in range(5):
        room.put(window(k))
    (first, skipped), (second, _) = room.get(), room.get()
    assert (first.start_us, first.stop_us, skipped) == (0, 20, 3)
    assert (second.start_us, second.stop_us) == (20, 100)
    assert second.cube[0, 0, 0].tolist() == [1, 1]


class Flood:
    """Delivers everything before the network can have answered once."""

    size_hw = SIZE_HW

    def __init__(self):
        self.delivered = threading.Event()

    def __iter__(self):
        yield from np.split(some_events(2000, 1_000_000, SIZE_HW), 20)
        self.delivered.set()


@pytest.mark.parametrize(("mode", "windows"), [("windowed", 20), ("stateful", 50)])
@pytest.mark.parametrize("policy", ["drop", "merge"])
def test_no_window_is_lost_silently(mode, windows, policy, monkeypatch):
    flood = Flood()
    original = Answerer.take

    def slow(self, cube):
        assert flood.delivered.wait(10)
        original(self, cube)

    monkeypatch.setattr(Answerer, "take", slow)
    answers = list(stream(MODEL, flood, mode=mode, policy=policy, max_waiting=3))
    assert len(answers) <= 5
    assert len(answers) + sum(answer.num_skipped for answer in answers) == windows
    assert answers[-1].t_us == 1_000_000
    assert answers[0].lag_ms > 0


def test_an_unhurried_source_loses_nothing(tmp_path):
    write_dat(tmp_path / "noise_td.dat", some_events(400, 300_000, SIZE_HW), SIZE_HW)
    recording = open(tmp_path / "noise_td.dat")
    expected = list(stream(MODEL, recording, min_score=0.0))
    found = list(stream(MODEL, recording, min_score=0.0, policy="drop", max_waiting=100))
    assert [a.t_us for a in found] == [b.t_us for b in expected]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.xyxy, b.xyxy)


def test_a_failing_source_is_told():
    def packets():
        yield some_events(100, 60_000, SIZE_HW)
        raise OSError("unplugged")

    with pytest.raises(OSError, match="unplugged"):
        list(stream(MODEL, packets(), size_hw=SIZE_HW, policy="drop"))


def test_closing_ends_the_reader():
    ended = threading.Event()

    def packets():
        try:
            for k in range(1_000_000):
                yield some_events(10, 60_000 + 60_000 * k, SIZE_HW, 60_000 * k)
        finally:
            ended.set()

    answers = stream(MODEL, packets(), size_hw=SIZE_HW, policy="drop")
    next(answers)
    answers.close()
    assert ended.wait(10)


def test_a_replay_delivers_each_packet_in_its_time(tmp_path, monkeypatch):
    write_dat(tmp_path / "noise_td.dat", some_events(400, 300_000, SIZE_HW, 100_000), SIZE_HW)
    recording = open(tmp_path / "noise_td.dat")
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda s: clock.__setitem__(0, clock[0] + s))
    due = [(packet.until_us, clock[0]) for packet in Replay(recording, speed=2.0, packet_us=50_000)]
    expected = [(t, (t - recording.start_us) * 1e-6 / 2) for t in range(150_000, 300_001, 50_000)]
    np.testing.assert_allclose(due, expected)
    events = np.concatenate([packet.events for packet in packets_of(recording, 50_000)])
    np.testing.assert_array_equal(events, recording.read())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: stream(MODEL, []), "size_hw"),
        (lambda: stream(MODEL, [], size_hw=SIZE_HW, policy="forget"), "unknown policy 'forget'"),
        (lambda: stream(MODEL, [], size_hw=SIZE_HW, max_waiting=0), "max_waiting"),
        (lambda: stream(COUNTING, [], size_hw=SIZE_HW, policy="merge"), 'take "drop" or "wait"'),
        (lambda: stream(ANCHORED, [], size_hw=SIZE_HW, mode="stateful"), 'take mode="windowed"'),
        (lambda: Replay(None, speed=0), "speed"),
    ],
)
def test_impossible_settings_are_refused_at_once(call, words):
    with pytest.raises(ConfigError, match=words):
        call()


@pytest.mark.parametrize("timestamps", [True, False])
def test_events_arrive_from_a_socket(timestamps):
    eventcv = pytest.importorskip("eventcv", reason="the extra [live] is not installed")
    source = Udp("127.0.0.1:0", SIZE_HW, timestamps=timestamps, packet_us=20_000)
    sender = eventcv.UdpSender(source.address, timestamps=timestamps)
    rows = np.array([[1, 2, 5_000, 1], [3, 4, 5_100, 0]])
    sender.send(eventcv.from_numpy(rows, sensor_size=(24, 16), time_unit="us"))
    packet = next(packet for packet in source if len(packet.events))
    assert packet.events[["x", "y", "p"]].tolist() == [(1, 2, 1), (3, 4, 0)]
    if timestamps:
        assert packet.events["t"].tolist() == [5_000, 5_100]
        assert packet.until_us is None
    else:
        assert (packet.events["t"] == packet.until_us - 1).all()
        flow = Stream(MODEL, SIZE_HW)
        flow.push(packet)
        assert flow.push(Packet(packet.events[:0], packet.until_us + 50_000))


def test_the_clock_of_a_socket_that_starts_again_goes_on(monkeypatch):
    pytest.importorskip("eventcv", reason="the extra [live] is not installed")
    source = Udp("127.0.0.1:0", SIZE_HW, timestamps=True)
    first, wrap = 2**32 - 5, 2**32
    # Within a packet, between two, and a datagram that was overtaken.
    sent = [[first], [first + 2, wrap, wrap + 3], [first + 4, wrap + 9], [wrap + 2**31], [2 * wrap - 9], [2 * wrap + 1]]
    batches = iter(sent)

    class Received:
        def recv(self, dt_ms):
            return self

        def numpy(self):
            return np.array([[0, 0, t % wrap, 1] for t in next(batches, [])], np.uint64).reshape(-1, 4)

    source._receiver = Received()
    packets = iter(source)
    assert [next(packets).events["t"].tolist() for _ in range(7)] == [*sent, []]


class FakeCamera:
    """What eventcv documents of its cameras; none was at hand."""

    sensor_size = (24, 16)
    n_overflows = 0

    def __init__(self):
        self.rows = [[[1, 2, 5_000, 1], [3, 4, 5_100, 0]], None, [[5, 6, 70_000, 1]]]
        self.closed = False

    def read(self, *, timeout_ms=None):
        if not self.rows:
            raise RuntimeError("unplugged")
        self._row, self.n_overflows = self.rows.pop(0), 3 if len(self.rows) == 0 else 0
        return None if self._row is None else self

    def numpy(self):
        return np.array(self._row, np.uint64)

    def close(self):
        self.closed = True


def test_a_camera_is_followed_and_what_it_lost_is_told(monkeypatch):
    eventcv = pytest.importorskip("eventcv", reason="the extra [live] is not installed")
    monkeypatch.setattr(eventcv, "list_cameras", list)
    with pytest.raises(ConfigError, match="no event camera is connected"):
        Camera()
    camera = FakeCamera()
    monkeypatch.setattr(eventcv, "list_cameras", lambda: [{}])
    monkeypatch.setattr(eventcv, "stream", lambda serial, *, dt_us: camera)
    with Camera() as source:
        assert source.size_hw == SIZE_HW
        packets = iter(source)
        assert next(packets).tolist() == [(5_000, 1, 2, 1), (5_100, 3, 4, 0)]
        assert next(packets).tolist() == []
        with pytest.warns(UserWarning, match="overflowed 3 times"):
            assert next(packets).tolist() == [(70_000, 5, 6, 1)]
        with pytest.raises(OSError, match=r"the camera stopped .unplugged.; connect it"):
            next(packets)
    assert camera.closed


def test_a_wrong_address_is_refused():
    pytest.importorskip("eventcv", reason="the extra [live] is not installed")
    with pytest.raises(ConfigError, match="host:port"):
        Udp("nowhere", SIZE_HW)

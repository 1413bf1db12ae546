"""Streams whose stamps jump: a glitch, a restart of the camera, a long silence."""

import itertools
import warnings

import numpy as np
import pytest

from spiking_centernet.inference.windows import Packet, WindowCollector
from spiking_centernet.structures import EVENT_DTYPE, VoxelSpec

SIZE_HW = (6, 8)
STEP_US = 50_000


def collector():
    return WindowCollector(SIZE_HW, every_us=STEP_US, spec=VoxelSpec(100_000, 2, 1, "count"))


def events_at(times):
    events = np.zeros(len(times), EVENT_DTYPE)
    events["t"] = times
    events["x"], events["y"], events["p"] = np.arange(len(times)) % 8, np.arange(len(times)) % 6, 1
    return events


def packets(start_us, stop_us, step_us=25_000, spacing_us=500):
    return [events_at(np.arange(t, t + step_us, spacing_us)) for t in range(start_us, stop_us, step_us)]


def run(parts):
    taker = collector()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        windows = list(itertools.chain(*(taker.push(part) for part in parts), taker.flush()))
    return taker, windows, [str(each.message) for each in caught]


def same(found, wanted):
    assert [(w.start_us, w.stop_us) for w in found] == [(w.start_us, w.stop_us) for w in wanted]
    assert all((a.cube == b.cube).all() for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("shift_us", [5_000_000, 1_500_000, 3_600_000_000, 1 << 45])
@pytest.mark.parametrize("places", [[0], [10], [49], [3, 30], [7, 8]])
@pytest.mark.parametrize("which", [3, 9, 18])
def test_stamps_ahead_of_the_stream_cost_themselves_alone(shift_us, places, which):
    parts = packets(0, 500_000)
    wrong = [part.copy() for part in parts]
    wrong[which]["t"][places] += shift_us
    parts[which] = np.delete(parts[which], places)
    taker, found, messages = run(wrong)
    same(found, run(parts)[1])
    assert (taker.num_dropped, taker.num_late, taker.segment) == (len(places), 0, 0)
    assert [message for message in messages if "dropped and counted" in message] == messages != []


@pytest.mark.parametrize("start_us", [0, 3_000, 1_000_000])
@pytest.mark.parametrize("in_one_packet", [False, True])
def test_a_restart_begins_a_segment_with_windows_of_its_own(start_us, in_one_packet):
    first, second = packets(5_000_000, 5_300_000), packets(start_us, start_us + 400_000)
    third = packets(start_us, start_us + 100_000)
    parts = [*first, *second, *third]
    if in_one_packet:
        parts = [np.concatenate(parts)]
    taker, found, messages = run(parts)
    for number, part in enumerate((first, second, third)):
        same([window for window in found if window.segment == number], run(part)[1])
    assert (taker.segment, taker.num_dropped, taker.num_late) == (2, 0, 0)
    assert ["clock started again" in message for message in messages] == [True, True]


def test_stale_events_stay_late_ones():
    parts = packets(2_000_000, 2_500_000)
    wrong = [*parts[:10], events_at([5, 6, 7]), *parts[10:]]
    taker, found, _ = run(wrong)
    same(found, run(parts)[1])
    assert (taker.num_late, taker.segment) == (3, 0)


@pytest.mark.parametrize("after", [1, 3, 200])
def test_a_silence_is_believed_however_few_events_follow_it(after):
    parts = [*packets(0, 200_000), *(events_at([60_000_000 + k * 3_000_000]) for k in range(after))]
    taker, found, _ = run(parts)
    if after == 1:  # nothing confirms it
        assert (taker.num_dropped, found[-1].stop_us) == (1, 200_000)
        return
    assert taker.num_dropped == 0
    assert sum(int(w.cube.sum()) for w in found if w.start_us >= 59_000_000) == 2 * after - 1


def test_a_promise_of_the_source_settles_what_was_held_back():
    taker = collector()
    list(taker.push(packets(0, 25_000)[0]))
    assert list(taker.push(events_at([2_000_010]))) == []
    closed = list(taker.push(Packet(events_at([]), 2_100_000)))
    assert closed[-1].stop_us == 2_100_000
    assert [w.stop_us for w in closed if w.cube.any()] == [50_000, 100_000, 2_050_000, 2_100_000]


@pytest.mark.slow
def test_the_windows_of_a_silence_share_one_cube():
    _, found, _ = run([*packets(0, 100_000), *packets(3_600_000_000, 3_600_100_000)])
    silent = {id(window.cube) for window in found if not window.cube.any()}
    assert len(silent) == 1
    assert len(found) == 3_600_100_000 // STEP_US

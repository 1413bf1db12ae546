"""RAW files: time stamps that wrap and step back, events without a time, words that are none."""

import event_writers as writers
import numpy as np
import pytest

from spiking_centernet import data as scn_events
from spiking_centernet.data.formats import evt
from spiking_centernet.errors import EventFileError
from spiking_centernet.structures import EVENT_DTYPE

SIZE_HW = (24, 40)
HEADER = len(writers.raw_header("EVT3", SIZE_HW))


def every(step_us, count, first_us=0):
    events = np.zeros(count, EVENT_DTYPE)
    events["t"] = first_us + step_us * np.arange(count)
    events["x"], events["y"], events["p"] = np.arange(count) % 40, np.arange(count) % 24, np.arange(count) % 2
    return events


def evt3(tmp_path, words, size_hw=SIZE_HW):
    path = tmp_path / "a.raw"
    path.write_bytes(writers.raw_header("EVT3", size_hw) + np.array(words, "<u2").tobytes())
    return path


def read(path):
    return scn_events.open(path).read()


@pytest.mark.parametrize(
    ("kind", "first_us", "step_us"),
    [
        ("EVT3", 3, 4000),
        ("EVT3", (1 << 24) - 5_000_000, 100_000),
        ("EVT3", (1 << 24) - 1, 1),
        ("EVT2", (1 << 34) - 5_000_000, 100_000),
        ("EVT21", (1 << 34) - 5_000_000, 100_000),
    ],
)
def test_time_goes_on_after_the_counter_wraps(tmp_path, monkeypatch, kind, first_us, step_us):
    """Of 5000 steps of 4 ms, 20 s; of a wrap between any two events; and of a wrap between two blocks."""
    events = every(step_us, 5000 if step_us == 4000 else 120, first_us)
    path = writers.write_raw(tmp_path / "a.raw", kind, events, SIZE_HW)
    events["t"] -= first_us
    np.testing.assert_array_equal(read(path), events)
    monkeypatch.setattr(evt, "BLOCK_BYTES", 64)
    np.testing.assert_array_equal(read(path), events)


@pytest.mark.slow
def test_time_goes_on_over_many_wraps_and_gaps_of_fifteen_seconds(tmp_path):
    events = every(15_000_000, 100)
    np.testing.assert_array_equal(read(writers.write_raw(tmp_path / "a.raw", "EVT3", events, SIZE_HW)), events)


def test_a_low_stamp_that_steps_back_is_disorder_and_not_4_ms(tmp_path):
    words = [0x8001, 0x6010, 0x0000, 0x2001, 0x600C, 0x2002, 0x6014, 0x2003, 0x8002, 0x6001, 0x2004]
    with pytest.warns(UserWarning, match="1 of 4 events are not in order"):
        events = read(evt3(tmp_path, words))
    assert events["t"].tolist() == [0, 0, 4, 4096 - 0x10 + 1]


def test_a_high_stamp_that_steps_back_around_the_wrap_is_disorder_and_no_second_wrap(tmp_path):
    words = [0x0000]
    for high in (4094, 4095, 0, 4095, 0, 1):
        words += [0x8000 | high, 0x6000, 0x2001]
    with pytest.warns(UserWarning, match="1 of 6"):
        events = read(evt3(tmp_path, words))
    assert (events["t"] // 4096).tolist() == [0, 1, 2, 2, 2, 3]


def test_a_new_high_stamp_forgets_the_old_low_one(tmp_path):
    """An event between the two takes the start of the new 4 ms, never a time ahead of what follows."""
    events = read(evt3(tmp_path, [0x8001, 0x6FFF, 0x0000, 0x2001, 0x8002, 0x2002, 0x6003, 0x2003]))
    assert events["t"].tolist() == [0, 1, 4]


def test_events_before_the_first_high_stamp_have_no_time_and_are_left_out(tmp_path):
    vector = [0x3000, 0x4FFF, 0x5001]
    events = read(evt3(tmp_path, [0x0003, 0x2001, *vector, 0x8001, 0x6000, 0x2004, *vector]))
    # The row was known before.
    assert events[["x", "y"]].tolist() == [(x, 3) for x in (4, *range(13))]


def test_vectors_follow_each_other_without_a_new_base(tmp_path):
    words = [0x8000, 0x6000, 0x0005, 0x3803, 0x4801, 0x4001, 0x5081]
    events = read(evt3(tmp_path, words))
    assert events["x"].tolist() == [3, 14, 15, 27, 34]
    assert set(events["p"].tolist()) == {1}


def test_words_without_events_change_nothing(tmp_path):
    quiet = [0x7123, 0xA801, 0xE456, 0xF789]
    words = [0x8001, *quiet, 0x6000, *quiet, 0x0001, *quiet, 0x2002]
    assert read(evt3(tmp_path, words))[["x", "y"]].tolist() == [(2, 1)]


@pytest.mark.parametrize(
    ("lines", "kind", "size_hw", "swapped"),
    [
        (["evt 3.0", "geometry 1280x720", "end"], "EVT3", (720, 1280), False),
        (["evt 2.0"], "EVT2", None, False),
        (
            ["Date 2022-01-01 10:00:00", "format EVT21;height=720;width=1280;endianness=legacy"],
            "EVT2.1",
            (720, 1280),
            True,
        ),
        (["format EVT21;width=320;height=320", "end"], "EVT2.1", (320, 320), False),
    ],
)
def test_headers_of_every_age(tmp_path, lines, kind, size_hw, swapped):
    path = tmp_path / "a.raw"
    path.write_bytes("".join(f"% {line}\n" for line in lines).encode() + b"\x25\x20\xff\x0a")
    header = evt.read_evt_header(path)
    assert (header.encoding.name, header.size_hw, header.swapped) == (kind, size_hw, swapped)
    assert header.data_offset == sum(len(line) + 3 for line in lines)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x89PNG\r\n", "does not say an encoding; known: EVT2, EVT2.1 and EVT3"),
        (b"% format EVT4;height=2;width=2\n% end\n", "says 'evt4'"),
        (b"% evt 3.0\n% geom", "header line at byte 10 is cut short"),
    ],
)
def test_headers_that_say_nothing(tmp_path, content, words):
    path = tmp_path / "a.raw"
    path.write_bytes(content)
    with pytest.raises(EventFileError, match=words):
        scn_events.open(path)


@pytest.mark.parametrize(("kind", "word_bytes"), [("EVT2", 4), ("EVT21", 8), ("EVT3", 2)])
def test_a_file_cut_within_a_word_names_the_byte_and_what_can_be_kept(tmp_path, kind, word_bytes):
    path = writers.write_raw(tmp_path / "a.raw", kind, every(10, 30), SIZE_HW)
    whole = path.stat().st_size
    path.write_bytes(path.read_bytes()[: whole - 1])
    kept = whole - word_bytes
    with pytest.raises(EventFileError, match=rf"word at byte {kept} has {word_bytes - 1} of {word_bytes}.*-s {kept}"):
        scn_events.open(path)


@pytest.mark.parametrize("kind", ["EVT2", "EVT21", "EVT3"])
def test_a_word_of_no_known_kind_names_its_byte(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(evt, "BLOCK_BYTES", 64)
    path = writers.write_raw(tmp_path / "a.raw", kind, every(10, 100), SIZE_HW)
    data = bytearray(path.read_bytes())
    word_bytes = {"EVT2": 4, "EVT21": 8, "EVT3": 2}[kind]
    at = len(writers.raw_header(kind, SIZE_HW)) + 50 * word_bytes
    data[at + word_bytes - 1] = 0xB0
    path.write_bytes(data)
    with pytest.raises(EventFileError, match=f"byte {at} holds no EVT"):
        scn_events.open(path)


def test_an_event_outside_the_sensor_names_its_byte(tmp_path, monkeypatch):
    monkeypatch.setattr(evt, "BLOCK_BYTES", 8)
    path = evt3(tmp_path, [0x8000, 0x6000, 0x0001, 0x2001, 0x2002, 0x2003, 0x2028, 0x2001])
    with pytest.raises(EventFileError, match=rf"event 3 \(byte {HEADER + 12}\) lies at x 40, y 1, outside the 40 x 24"):
        scn_events.open(path)
    assert len(scn_events.open(path, size_hw=(24, 41)).read()) == 5

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spiking_centernet.data import DatFile, DatWriter, read_header, write_dat
from spiking_centernet.data.formats.dat import LOOK_BACK
from spiking_centernet.errors import ConfigError, EventFileError
from spiking_centernet.structures import EVENT_DTYPE


def saved(tmp_path, content):
    path = tmp_path / "clip_td.dat"
    path.write_bytes(content)
    return path


def test_the_golden_recording_decodes_to_the_plain_unpacking_of_its_words(golden_dir):
    path = golden_dir / "random_td.dat"
    header = read_header(path)
    assert (header.size_hw, header.version, header.event_type) == ((240, 304), 2, 0)
    events = DatFile(path).decode()
    words = np.fromfile(path, "<u4", offset=header.data_offset).reshape(-1, 2)
    assert len(events) == 200_000
    assert (events["t"] == words[:, 0]).all()
    assert (events["x"] == (words[:, 1] & 0x3FFF)).all()
    assert (events["y"] == (words[:, 1] >> 14 & 0x3FFF)).all()
    assert (events["p"] == (words[:, 1] >> 28 & 1)).all()


@pytest.mark.parametrize(
    ("name", "size_hw", "num_events"),
    [
        ("icns_roadside_cars", (260, 346), 6_676),
        ("gen31_person_2s", (480, 640), 343_474),
        ("imx636_static_noise", (720, 1280), 82_469),
        ("dvxplorer_static_noise", (480, 640), 334_331),
    ],
)
def test_real_recordings_decode_with_the_listed_size_and_count(recordings_dir, name, size_hw, num_events):
    dat = DatFile(recordings_dir / name / f"{name}_td.dat")
    events = dat.decode()
    assert dat.size_hw == size_hw
    assert len(events) == dat.num_events == num_events
    assert dat.num_unsorted == 0
    assert (events["t"][0], events["t"][-1]) == (dat.first_us, dat.last_us)


EVENTS = [(5, 0, 0, 1), (9, 303, 239, 0), (9, 17, 100, 1)]


@pytest.mark.parametrize(
    ("how", "size_hw"),
    [
        ({}, (240, 304)),
        ({"kind": 12}, (240, 304)),
        ({"lines": ("Version 1", "Height 240", "Width 304"), "bits": (9, 8)}, (240, 304)),
        ({"lines": ("Data file containing Event2D events.", "Version 2")}, None),
        ({"lines": ("Height 240", "Width 304")}, (240, 304)),
    ],
    ids=["type 0", "type 12", "version 1", "no size", "no version"],
)
def test_every_variant_of_the_header_reads_the_same_events(tmp_path, dat_bytes, how, size_hw):
    dat = DatFile(saved(tmp_path, dat_bytes(EVENTS, **how)))
    assert dat.size_hw == size_hw
    assert dat.decode().tolist() == EVENTS


def test_a_file_without_header_is_type_0(tmp_path, dat_bytes):
    dat = DatFile(saved(tmp_path, dat_bytes(EVENTS)[-24:]))
    assert dat.size_hw is None
    assert dat.decode().tolist() == EVENTS


def test_an_event_that_looks_like_a_header_is_an_event(tmp_path, dat_bytes):
    looks_like_a_comment = int.from_bytes(b"% \x00\x00", "little"), 10, 0, 0
    dat = DatFile(saved(tmp_path, dat_bytes([looks_like_a_comment])[-8:]))
    assert dat.decode().tolist() == [looks_like_a_comment]


def test_no_events_is_a_recording_too(tmp_path):
    write_dat(tmp_path / "none_td.dat", np.empty(0, EVENT_DTYPE), (240, 304))
    dat = DatFile(tmp_path / "none_td.dat")
    assert (dat.size_hw, dat.num_events, dat.num_unsorted, len(dat.decode())) == ((240, 304), 0, 0, 0)
    assert dat.span(0, 10) == slice(0, 0)


def test_times_use_all_32_bits(tmp_path, dat_bytes):
    dat = DatFile(saved(tmp_path, dat_bytes([(2**31 + 7, 1, 1, 1), (2**32 - 1, 2, 2, 0)])))
    assert dat.decode()["t"].tolist() == [2**31 + 7, 2**32 - 1]
    assert dat.span(2**32 - 1, 2**32) == slice(1, 2)


# --- bad input -------------------------------------------------------------------------------------------------------


def test_truncated_record_names_event_byte_and_remedy(tmp_path, dat_bytes):
    content = dat_bytes(EVENTS)[:-3]
    with pytest.raises(EventFileError, match=rf"event 2 at byte {len(content) - 5} has 5 of 8 bytes.*truncate -s"):
        DatFile(saved(tmp_path, content))


def test_header_without_data(tmp_path, dat_bytes):
    header = dat_bytes()[:-2]
    for content in (header, header + b"\x00"):
        with pytest.raises(EventFileError, match=f"ends at byte {len(content)}.*without event type"):
            DatFile(saved(tmp_path, content))


def test_header_line_cut_short(tmp_path, dat_bytes):
    with pytest.raises(EventFileError, match="header line at byte 12 is cut short"):
        DatFile(saved(tmp_path, dat_bytes()[:20]))


def test_unknown_event_type(tmp_path, dat_bytes):
    with pytest.raises(EventFileError, match=r"event type 14.*known: 0 \(Event2D\), 12 \(CD\)"):
        DatFile(saved(tmp_path, dat_bytes(EVENTS, kind=14)))


def test_unknown_event_size(tmp_path, dat_bytes):
    with pytest.raises(EventFileError, match="16 bytes an event, must be 8"):
        DatFile(saved(tmp_path, dat_bytes(EVENTS, size=16)))


@pytest.mark.parametrize(
    ("line", "told"),
    [("Version 3", "version 3, known: 1, 2"), ("Height tall", "'tall', must be a whole"), ("Height 0", "height 0")],
)
def test_impossible_header(tmp_path, dat_bytes, line, told):
    with pytest.raises(EventFileError, match=told):
        DatFile(saved(tmp_path, dat_bytes(EVENTS, lines=("Height 240", "Width 304", line))))


def test_coordinates_outside_the_sensor(tmp_path, dat_bytes):
    content = dat_bytes([*EVENTS, (10, 304, 3, 0), (11, 1, 240, 0)])
    dat = DatFile(saved(tmp_path, content))
    with pytest.raises(EventFileError, match=rf"event 3 \(byte {len(content) - 16}\).*x 304, y 3.*304 x 240"):
        dat.decode()
    with pytest.raises(EventFileError, match=r"event 4 .*x 1, y 240"):
        dat.decode(4, 5)
    assert len(dat.decode(0, 3)) == 3
    assert len(DatFile(dat.path, size_hw=(241, 305)).decode()) == 5


def test_unsorted_times_take_the_running_maximum_and_are_reported_once(tmp_path, dat_bytes):
    times = [10, 30, 20, 29, 30, 40, 35]
    dat = DatFile(saved(tmp_path, dat_bytes([(t, i, 0, 0) for i, t in enumerate(times)])))
    with pytest.warns(UserWarning, match="3 of 7 events are not in order"):
        events = dat.decode()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dat.decode()
    assert events["t"].tolist() == [10, 30, 30, 30, 30, 40, 40]
    assert events["x"].tolist() == list(range(7))
    assert dat.num_unsorted == 3


@pytest.mark.parametrize("outlier_at", [5, 500, 30_000])
def test_windows_of_a_badly_unsorted_file_are_those_of_its_running_maximum(tmp_path, dat_bytes, outlier_at):
    times = np.arange(40_000)
    times[outlier_at] = times[outlier_at] + 9999
    dat = DatFile(saved(tmp_path, dat_bytes([(int(t), 0, 0, 0) for t in times])))
    with pytest.warns(UserWarning, match="not in order"):
        dat.scan()
    running = np.maximum.accumulate(times)
    assert (running != times).sum() > LOOK_BACK
    for start_us in (0, 40, 5000, 10_000, 10_004, 29_990, 35_000, 39_800):
        events = dat.read(start_us, start_us + 100)
        assert events["t"].tolist() == running[(running >= start_us) & (running < start_us + 100)].tolist()


def test_the_records_themselves_refuse_a_clock_that_jumps_back(tmp_path, dat_bytes):
    dat = DatFile(saved(tmp_path, dat_bytes([(7, 0, 0, 0), (2**32 - 5, 0, 0, 0), (3, 0, 0, 0)])))
    with pytest.raises(EventFileError, match=r"clock jumps back at or before event 2 \(byte"):
        dat.decode()


def test_empty_file(tmp_path):
    with pytest.raises(EventFileError, match="the file is empty"):
        DatFile(saved(tmp_path, b""))


def test_missing_file(tmp_path):
    with pytest.raises(EventFileError, match=r"none_td\.dat: cannot be read \(No such file"):
        DatFile(tmp_path / "none_td.dat")


def test_another_format_under_the_name(tmp_path):
    with pytest.raises(EventFileError, match="no DAT header"):
        DatFile(saved(tmp_path, b"\x89PNG\r\n\x1a\n" + b"once upon a time" * 4))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 90), st.binary(max_size=24), st.booleans())
def test_damage_is_an_error_or_harmless_never_a_crash(tmp_path_factory, at, noise, cut):
    whole = b"% Data file\n% Version 2\n% Height 240\n% Width 304\n\x00\x08" + np.arange(12, dtype="<u4").tobytes()
    content = whole[:at] + noise + (b"" if cut else whole[at + len(noise) :])
    path = tmp_path_factory.mktemp("dat") / "clip_td.dat"
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dat = DatFile(path)
            events = dat.decode()
        except EventFileError:
            return
    height, width = dat.size_hw or (2**14, 2**14)
    assert dat.header.data_offset + 8 * len(events) == len(content)
    assert (np.diff(events["t"]) >= 0).all()
    assert (events["x"] < width).all()
    assert (events["y"] < height).all()


# --- writing ---------------------------------------------------------------------------------------------------------


@st.composite
def sorted_events(draw):
    size_hw = draw(st.tuples(st.integers(1, 2**14), st.integers(1, 2**14)))
    one = st.tuples(
        st.integers(0, 2**31 - 1), st.integers(0, size_hw[1] - 1), st.integers(0, size_hw[0] - 1), st.integers(0, 1)
    )
    events = np.array(sorted(draw(st.lists(one, max_size=60)), key=lambda event: event[0]), EVENT_DTYPE)
    return events, size_hw


@settings(max_examples=60, deadline=None)
@given(sorted_events(), st.integers(0, 60))
def test_write_then_read_is_the_identity(tmp_path_factory, written, cut):
    events, size_hw = written
    path = tmp_path_factory.mktemp("dat") / "clip_td.dat"
    with DatWriter(path, size_hw) as writer:
        writer.append(events[:cut])
        writer.append(events[cut:])
    dat = DatFile(path)
    assert dat.size_hw == size_hw
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dat.decode().tolist() == events.tolist()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 50), max_size=40), st.integers(-5, 60), st.integers(0, 30))
def test_any_window_is_the_mask_over_the_running_maximum(tmp_path_factory, times, start_us, length_us):
    path = tmp_path_factory.mktemp("dat") / "clip_td.dat"
    records = np.array([(t, i) for i, t in enumerate(times)], "<u4")
    path.write_bytes(b"% Height 1\n% Width 100\n\x00\x08" + records.tobytes())
    dat = DatFile(path)
    running = np.maximum.accumulate(np.array([0, *times]))[1:]
    inside = (running >= start_us) & (running < start_us + length_us)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        events = dat.read(start_us, start_us + length_us)
    assert events["t"].tolist() == running[inside].tolist()
    assert events["x"].tolist() == np.flatnonzero(inside).tolist()


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([(5, 0, 0, 0), (4, 1, 0, 0)], r"event 4 \(t 4 us, x 1, y 0, p 0\) is earlier"),
        ([(2, 0, 0, 0)], "event 3 .* is earlier"),
        ([(9, 32, 0, 0)], "event 3 .* lies outside 32 x 24"),
        ([(9, 0, 24, 0)], "event 3 .* lies outside 32 x 24"),
        ([(9, 0, 0, 2)], "event 3 .* polarity"),
        ([(2**32, 0, 0, 0)], "event 3 .* is later than"),
    ],
)
def test_a_writer_refuses_what_no_reader_could_give_back_and_leaves_no_file(tmp_path, events, told):
    def write():
        with DatWriter(tmp_path / "a_td.dat", (24, 32)) as writer:
            writer.append(np.array([(0, 0, 0, 0), (1, 0, 0, 1), (3, 31, 23, 1)], EVENT_DTYPE))
            writer.append(np.array(events, EVENT_DTYPE))

    with pytest.raises(EventFileError, match=told):
        write()
    assert not list(tmp_path.iterdir())


def test_a_writer_takes_only_events(tmp_path):
    with pytest.raises(ConfigError, match="flat array of EVENT_DTYPE"):
        write_dat(tmp_path / "a_td.dat", np.zeros((3, 4)), (24, 32))
    with pytest.raises(ConfigError, match="size_hw must be 1 to 16384"):
        DatWriter(tmp_path / "a_td.dat", (0, 32))
    with pytest.raises(ConfigError, match="use it in a with block"):
        DatWriter(tmp_path / "a_td.dat", (24, 32)).append(np.empty(0, EVENT_DTYPE))


def test_writing_leaves_the_callers_events_alone(tmp_path, random_events):
    events = random_events(100)
    events.flags.writeable = False
    write_dat(tmp_path / "a_td.dat", events, (24, 32))
    assert (DatFile(tmp_path / "a_td.dat").decode() == events).all()

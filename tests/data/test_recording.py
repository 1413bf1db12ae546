import numpy as np
import pytest

from spiking_centernet import data as scn_events
from spiking_centernet.data import write_dat
from spiking_centernet.data.formats.arrays import open_events
from spiking_centernet.errors import ConfigError, EventFileError, WindowError
from spiking_centernet.structures import EVENT_DTYPE, VoxelSpec


@pytest.fixture
def clip(tmp_path):
    events = np.array([(100, 1, 2, 1), (199, 3, 4, 0), (200, 5, 6, 1), (300, 7, 8, 0)], EVENT_DTYPE)
    write_dat(tmp_path / "clip_td.dat", events, (24, 32))
    return scn_events.open(tmp_path / "clip_td.dat")


def test_what_a_recording_tells(clip):
    assert (clip.size_hw, clip.start_us, clip.stop_us, clip.num_events) == ((24, 32), 100, 301, 4)
    assert clip.path.name == "clip_td.dat"


@pytest.mark.parametrize(
    ("start_us", "stop_us", "times"),
    [
        (0, 100, []),
        (0, 101, [100]),
        (100, 200, [100, 199]),
        (199, 200, [199]),
        (200, 300, [200]),
        (300, 10_000, [300]),
        (-100_000, 150, [100]),
        (None, None, [100, 199, 200, 300]),
    ],
)
def test_windows_are_half_open_and_an_early_one_has_an_empty_past(clip, start_us, stop_us, times):
    assert clip.read(start_us, stop_us)["t"].tolist() == times


@pytest.mark.parametrize(("start_us", "stop_us"), [(301, 400), (-100, 0), (-200, -100)])
def test_a_window_outside_the_recording(clip, start_us, stop_us):
    message = rf"window \[{start_us}, {stop_us}\) us lies outside.*\[0, 301\)"
    with pytest.raises(WindowError, match=message):
        clip.read(start_us, stop_us)
    with pytest.raises(WindowError, match=message):
        clip.cube(stop_us, VoxelSpec(stop_us - start_us))


@pytest.mark.parametrize(("start_us", "stop_us"), [(100, 100), (200, 100)])
def test_an_empty_window(clip, start_us, stop_us):
    with pytest.raises(WindowError, match="is empty"):
        clip.read(start_us, stop_us)


def test_windows_end_at_every_multiple_until_the_last_event_was_seen(clip):
    told = [(window.start_us, window.stop_us, window.events["t"].tolist()) for window in clip.windows(100, 150)]
    assert told == [(50, 200, [100, 199]), (150, 300, [199, 200]), (250, 400, [300])]


def test_windows_without_overlap_share_the_events_out(recordings_dir):
    recording = scn_events.open(recordings_dir / "gen31_person_2s" / "gen31_person_2s_td.dat")
    parts = [window.events for window in recording.windows(100_000, 100_000)]
    assert len(parts) == 21
    assert (np.concatenate(parts) == recording.read()).all()


def test_windows_need_a_duration(clip):
    with pytest.raises(WindowError, match="every_us must be positive, got 0"):
        next(clip.windows(0, 5))


def test_a_recording_without_events(tmp_path):
    write_dat(tmp_path / "none_td.dat", np.empty(0, EVENT_DTYPE), (24, 32))
    recording = scn_events.open(tmp_path / "none_td.dat")
    assert (recording.start_us, recording.stop_us, recording.num_events) == (0, 0, 0)
    assert len(recording.read()) == 0
    assert list(recording.windows(10, 10)) == []
    with pytest.raises(WindowError, match="holds no events"):
        recording.read(0, 10)


def test_a_size_that_nobody_says_is_inferred_and_said(tmp_path, dat_bytes):
    path = tmp_path / "cars_td.dat"
    path.write_bytes(dat_bytes([(1, 99, 3, 0), (2, 4, 49, 1)], lines=("Version 2",)))
    with pytest.warns(UserWarning, match=r"100 x 50 \(width x height\) is the smallest that holds its events"):
        assert scn_events.open(path).size_hw == (50, 100)
    assert scn_events.open(path, size_hw=(60, 120)).size_hw == (60, 120)
    path.write_bytes(dat_bytes(lines=("Version 2",)))
    with pytest.raises(EventFileError, match="neither a sensor size nor events"):
        scn_events.open(path)


def test_opening_counts_unsorted_events(tmp_path, dat_bytes):
    path = tmp_path / "clip_td.dat"
    path.write_bytes(dat_bytes([(5, 0, 0, 0), (3, 0, 0, 0), (9, 0, 0, 0)]))
    with pytest.warns(UserWarning, match="1 of 3 events"):
        recording = scn_events.open(path)
    assert recording.dat.num_unsorted == 1


def test_an_unknown_suffix_names_the_known_ones(tmp_path):
    with pytest.raises(
        EventFileError, match=r"unknown kind of recording '.dta'; did you mean '.dat'\? known: .aedat, .aedat4, "
    ):
        scn_events.open(tmp_path / "clip.dta")


@pytest.mark.parametrize(
    "call",
    [
        lambda r: r.read(0.0, 0.1), lambda r: r.read(0, 1.0), lambda r: r.cube(0.1), lambda r: list(r.cubes([0.1])),
        lambda r: r.stops_us(0.05), lambda r: list(r.windows(1000, 0.5)),
    ],
)  # fmt: skip
def test_seconds_are_refused_where_microseconds_are_meant(clip, call):
    with pytest.raises(WindowError, match=r"must be a whole number of microseconds, got .*round\(seconds"):
        call(clip)


def test_a_short_sample_has_one_window_that_ends_with_it():
    events = np.zeros(3, EVENT_DTYPE)
    events["t"] = [0, 12_000, 39_999]
    recording = open_events(events)
    assert list(recording.stops_us(50_000)) == [40_000]
    assert list(recording.stops_us(40_000)) == [40_000]
    assert list(recording.stops_us(20_000)) == [20_000, 40_000]
    events["t"] += 30_000  # over a multiple: the first window holds the first events alone
    assert list(open_events(events).stops_us(50_000)) == [50_000, 100_000]


def test_a_second_time_is_no_spec(clip):
    with pytest.raises(ConfigError, match=r"spec must be a VoxelSpec, got 0\.1"):
        clip.cube(200, 0.1)

"""Bad events and jumping clocks: few are dropped and counted, many refused, restarts become segments."""

import warnings

import numpy as np
import pytest

from spiking_centernet import data as scn_events
from spiking_centernet.data.formats.dat_recording import DatRecording
from spiking_centernet.data.formats.timeline import SEGMENT_GAP_US, tolerable
from spiking_centernet.errors import EventFileError
from spiking_centernet.structures import EVENT_DTYPE, VoxelSpec

SIZE_HW = (24, 40)
HEAD = b"% Version 2\n% Height 24\n% Width 40\n\x0c\x08"


def save_dat(path, events):
    """The events as they are, bad ones too; the writer of the package refuses them."""
    records = np.zeros((len(events), 2), "<u4")
    records[:, 0] = events["t"]
    records[:, 1] = events["x"].astype("u4") | events["y"].astype("u4") << 14 | events["p"].astype("u4") << 28
    path.write_bytes(HEAD + records.tobytes())
    return path


def save_npz(path, events):
    np.savez(path, **{name: events[name] for name in "txyp"})
    return path


def save_csv(path, events):
    path.write_text("t,x,y,p\n" + "".join(f"{t},{x},{y},{p}\n" for t, x, y, p in events.tolist()))
    return path


def save_h5(path, events):
    import h5py

    with h5py.File(path, "w") as file:
        for name in "xypt":
            file.create_dataset(f"events/{name}", data=events[name])
    return path


SAVERS = {"a_td.dat": save_dat, "a.npz": save_npz, "a.csv": save_csv, "a.h5": save_h5}


@pytest.fixture(params=SAVERS)
def opened(request, tmp_path):
    """Write events in each format and open the file."""
    folders = (tmp_path / str(number) for number in range(9))

    def open_(events):
        folder = next(folders)
        folder.mkdir()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            recording = scn_events.open(SAVERS[request.param](folder / request.param, events), size_hw=SIZE_HW)
        return recording, [str(each.message) for each in caught]

    return open_


@pytest.fixture
def events(random_events):
    made = random_events(4000, size_hw=SIZE_HW, duration_us=1_000_000)
    made["t"] += 1_000_000
    return made


def test_how_many_bad_events_are_tolerable():
    assert [tolerable(n) for n in (0, 99, 100, 999, 1000, 2000, 20_000, 10**6, 10**9)] == [
        0, 0, 1, 9, 10, 10, 20, 1000, 1000,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "places"),
    [("x", 40, [0]), ("y", 24, [3999]), ("x", 5000, [1200]), ("y", 24, [5, 6, 7, 3000]), ("x", 40, [3999])],
)
def test_few_events_outside_the_sensor_are_dropped_and_counted(opened, events, name, value, places):
    events[name][places] = value
    recording, messages = opened(events)
    good = np.delete(events, places)
    np.testing.assert_array_equal(recording.read(), good)
    assert (recording.num_dropped, recording.num_events) == (len(places), len(good))
    assert [f"{len(places)} outside the 40 x 24 sensor" in message for message in messages] == [True]
    part = good[(good["t"] >= 1_200_000) & (good["t"] < 1_300_000)]
    np.testing.assert_array_equal(recording.read(1_200_000, 1_300_000), part)


def test_many_events_outside_the_sensor_are_an_error(opened, events):
    events["x"][100:111] = 41
    with pytest.raises(EventFileError, match=r"event 100.* lies at x 41.*as do 10 others.*give size_hw"):
        opened(events)


@pytest.mark.parametrize(
    ("shift_us", "places"),
    [
        (-900_000, [0, 1, 2]), (-900_000, [2000]), (5_000_000, [3998]), (5_000_000, [7, 900, 901, 3000]),
        (50_000_000, [0, 1, 2]), (50_000_000, [7, 900, 901, 3000]), (2**32 - 3_000_000, [2000]),
        (2**32 - 3_000_000, [3998]),
    ],
)  # fmt: skip
def test_few_stamps_far_from_their_neighbors_are_dropped_and_counted(opened, events, shift_us, places):
    shifted = events.copy()
    shifted["t"][places] += shift_us
    recording, messages = opened(shifted)
    if places == [0, 1, 2] and shift_us == -900_000:
        # A second of silence after the first events is no fault.
        np.testing.assert_array_equal(recording.read(), shifted)
        return
    np.testing.assert_array_equal(recording.read(), np.delete(events, places))
    assert recording.num_dropped == len(places)
    assert [f"{len(places)} whose time jumps away" in message for message in messages] == [True]


def test_stale_stamps_at_the_end_and_a_late_handful_are_dropped(opened, events):
    events["t"][-3:] = 2
    recording, _ = opened(events)
    assert (recording.num_dropped, recording.stop_us) == (3, int(events["t"][-4]) + 1)
    events["t"][-3:] = 60_000_000
    recording, _ = opened(events)
    assert (recording.num_dropped, recording.stop_us) == (3, int(events["t"][-4]) + 1)


def test_many_stamps_that_jump_are_an_error(opened, events):
    events["t"][np.arange(50, 4000, 100)] += 700_000
    with pytest.raises(EventFileError, match=r"40 of 4000 events are bad.*more than the 10"):
        opened(events)


def test_a_long_silence_is_no_fault(opened, events):
    events["t"][2000:] += 3_600_000_000
    recording, messages = opened(events)
    np.testing.assert_array_equal(recording.read(), events)
    assert (recording.num_dropped, messages) == (0, [])


def test_a_restart_of_the_camera_begins_a_segment(opened, events):
    parts = [events.copy() for _ in range(3)]
    parts[1]["t"] -= 1_000_000
    parts[2]["t"] -= 999_000
    recording, messages = opened(np.concatenate(parts))
    found = recording.read()
    wanted, begins = [parts[0]], []
    for part in parts[1:]:
        begins.append(int(wanted[-1]["t"][-1]) + SEGMENT_GAP_US)
        part["t"] += begins[-1] - part["t"][0]
        wanted.append(part)
    assert recording.restarts_us == tuple(begins)
    np.testing.assert_array_equal(found, np.concatenate(wanted))
    assert ["2 further segment(s) begin" in message for message in messages] == [True]
    window = recording.read(begins[0], begins[0] + 50_000)
    np.testing.assert_array_equal(window, wanted[1][wanted[1]["t"] < begins[0] + 50_000])


def test_a_counter_of_32_bits_is_carried_on(opened, events):
    whole = events.copy()
    whole["t"] += 2**32 - 1_500_000
    stored = whole.copy()
    stored["t"] %= 2**32
    recording, messages = opened(stored)
    found = recording.read()
    found["t"] += recording.clock_us
    np.testing.assert_array_equal(found, whole)
    assert any("clock of 32 bits starts again" in message for message in messages)
    assert (recording.num_dropped, recording.restarts_us) == (0, ())


@pytest.mark.parametrize("order", ["shuffled", "pixel by pixel", "polarity by polarity", "halves of rows", "exchanged"])
def test_a_file_that_is_not_in_order_is_sorted(opened, events, order):
    keys = {
        "shuffled": np.random.default_rng(0).permutation(len(events)),
        "pixel by pixel": events["y"].astype(int) * 40 + events["x"],
        "polarity by polarity": events["p"],
        "halves of rows": events["y"] // 12,
        "exchanged": np.where((events["t"] // 100_000) % 4 == 1, 1.5, 0) + events["t"] // 100_000,
    }
    recording, messages = opened(events[np.argsort(keys[order], kind="stable")])
    found = recording.read()
    assert (found["t"] == events["t"]).all()
    assert (np.sort(found) == np.sort(events)).all()
    assert any("not in order of time; sorted by time" in message for message in messages)
    part = events[(events["t"] >= 1_200_000) & (events["t"] < 1_300_000)]
    assert (np.sort(recording.read(1_200_000, 1_300_000)) == np.sort(part)).all()


def test_a_dat_file_that_is_not_scanned_is_repaired_where_trouble_is_met(tmp_path, events):
    many = np.tile(events, 20)
    many["t"] = np.arange(len(many)) * 20
    clean = save_dat(tmp_path / "clean_td.dat", many)
    many["x"][50_000], many["t"][60_001] = 41, 4_000_000
    recording = DatRecording(save_dat(tmp_path / "a_td.dat", many), scan=False)
    assert recording.num_dropped == 0
    with pytest.warns(UserWarning, match=r"2 of 80000 events were dropped: 1 outside .*, 1 whose time jumps"):
        cube = recording.cube(1_050_000, VoxelSpec(100_000, 5, 2))
    assert recording.num_dropped == 2
    whole = DatRecording(clean).read(950_000, 1_050_000)
    wanted = whole[whole["t"] != 1_000_000]
    np.testing.assert_array_equal(recording.read(950_000, 1_050_000), wanted)
    assert int(cube.sum()) > 0


def test_bad_events_leave_the_others_of_a_sorted_file_alone(tmp_path):
    events = np.zeros(300, EVENT_DTYPE)
    events["t"] = np.arange(300)[::-1] * 100
    events["x"][7] = 50
    with pytest.warns(UserWarning, match="sorted by time"):
        recording = scn_events.open(save_npz(tmp_path / "a.npz", events), size_hw=SIZE_HW)
    assert recording.num_dropped == 1
    assert recording.read()["t"].tolist() == sorted(np.delete(events["t"], 7).tolist())

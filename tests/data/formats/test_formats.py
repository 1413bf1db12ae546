"""Every format behind the one door: what is written is read, whole and by windows; what is damaged is told."""

import tracemalloc

import event_writers as writers
import numpy as np
import pytest

from spiking_centernet import data as scn_events
from spiking_centernet.data import write_dat
from spiking_centernet.data.io import OPENERS
from spiking_centernet.errors import EventFileError, MissingPackageError
from spiking_centernet.structures import EVENT_DTYPE

SIZE_HW = (24, 40)


def save_npz(path, save, **arrays):
    save(path, **arrays)
    return path


def save_text(path, events, *, head="", comma=",", fields="txyp", seconds=False):
    def shown(event):
        t = f"{event['t'] / 1e6:.6f}" if seconds else str(event["t"])
        return comma.join(t if field == "t" else str(event[field]) for field in fields)

    path.write_text(head + "".join(f"{shown(event)}\n" for event in events))
    return path


def save_npy(path, array):
    np.save(path, array)
    return path


def plain(events, dtype, fields="txyp"):
    return np.stack([events[field].astype(dtype) for field in fields], axis=1)


def renamed(events):
    other = np.zeros(len(events), [("x", "<i4"), ("y", "<i4"), ("timestamp", "<f8"), ("polarity", "i1")])
    other["x"], other["y"], other["timestamp"] = events["x"], events["y"], events["t"] / 1e6
    other["polarity"] = events["p"].astype(int) * 2 - 1
    return other


FORMATS = {
    "dat": lambda d, e: (write_dat(d / "a_td.dat", e, SIZE_HW), d / "a_td.dat")[1],
    "evt2": lambda d, e: writers.write_raw(d / "a.raw", "EVT2", e, SIZE_HW),
    "evt21": lambda d, e: writers.write_raw(d / "a.raw", "EVT21", e, SIZE_HW),
    "evt21 swapped": lambda d, e: writers.write_raw(d / "a.raw", "EVT21", e, SIZE_HW, swapped=True),
    "evt3": lambda d, e: writers.write_raw(d / "a.raw", "EVT3", e, SIZE_HW),
    "evt3 without end": lambda d, e: writers.write_raw(d / "a.raw", "EVT3", e, SIZE_HW, end=False),
    "aedat4": lambda d, e: writers.write_aedat4(d / "a.aedat4", e, SIZE_HW),
    **{
        f"aedat4 {kind}": lambda d, e, kind=kind: writers.write_aedat4(d / "a.aedat4", e, SIZE_HW, compression=kind)
        for kind in ("lz4", "lz4 high", "zstd", "zstd high")
    },
    "metavision": lambda d, e: writers.write_metavision(d / "a.hdf5", e, SIZE_HW),
    "metavision gzip": lambda d, e: writers.write_metavision(d / "a.hdf5", e, SIZE_HW, ecf=False),
    "rvt": lambda d, e: writers.write_columns(d / "a.h5", e, SIZE_HW, chunks=(700,), compression="lzf"),
    "dsec": lambda d, e: writers.write_columns(d / "a.h5", e, None, chunks=(700,), **blosc()),
    "bin": lambda d, e: writers.write_bin(d / "a.bin", e),
    "npy": lambda d, e: save_npy(d / "a.npy", e),
    "npy renamed": lambda d, e: save_npy(d / "a.npy", renamed(e)),
    "npy plain": lambda d, e: save_npy(d / "a.npy", plain(e, np.int64)),
    "npy float": lambda d, e: save_npy(d / "a.npy", plain(e, np.float64)),
    "npz": lambda d, e: save_npz(d / "a.npz", np.savez, **{k: e[k] for k in "txyp"}),
    "npz packed": lambda d, e: save_npz(d / "a.npz", np.savez_compressed, events=e),
    "csv": lambda d, e: save_text(d / "a.csv", e),
    "csv named": lambda d, e: save_text(d / "a.csv", e, head="x,y,p,t\n", fields="xypt"),
    "txt seconds": lambda d, e: save_text(d / "a.txt", e, head="# t x y p\n", comma=" ", seconds=True),
}
UNSIZED = {name for name in FORMATS if name.startswith(("dsec", "bin", "npy", "npz", "csv", "txt"))}


def blosc():
    import hdf5plugin

    return dict(hdf5plugin.Blosc(cname="zstd"))


def at_zero(events):
    """The clock of every format but one moved to the first event, as the formats with a clock of their own do."""
    moved = events.copy()
    moved["t"] -= moved["t"][0]
    return moved


def opened(path):
    return scn_events.open(path, size_hw=SIZE_HW)


@pytest.mark.parametrize("name", FORMATS)
def test_what_was_written_is_read_whole_and_by_windows(tmp_path, random_events, name):
    events = at_zero(random_events(5000, size_hw=SIZE_HW, duration_us=2_000_000))
    recording = scn_events.open(FORMATS[name](tmp_path, events), size_hw=SIZE_HW if name in UNSIZED else None)
    assert recording.size_hw == SIZE_HW
    assert (recording.num_events, recording.num_unsorted) == (5000, 0)
    assert (recording.start_us, recording.stop_us) == (0, events["t"][-1] + 1)
    np.testing.assert_array_equal(recording.read(), events)
    rng = np.random.default_rng(0)
    for start, stop in np.sort(rng.integers(0, recording.stop_us, (20, 2))):
        wanted = events[(events["t"] >= start) & (events["t"] < stop + 1)]
        np.testing.assert_array_equal(recording.read(start, stop + 1), wanted)


@pytest.mark.parametrize("name", sorted(UNSIZED - {"npz", "npz packed"}))
def test_a_size_that_the_file_does_not_say_is_inferred_and_said(tmp_path, random_events, name):
    path = FORMATS[name](tmp_path, at_zero(random_events(3000, size_hw=SIZE_HW)))
    with pytest.warns(UserWarning, match=r"40 x 24 \(width x height\) is the smallest that holds its events"):
        assert scn_events.open(path).size_hw == SIZE_HW


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("evt2", {"size_hw": None}),
        ("npy", {"array": np.empty(0, EVENT_DTYPE)}),
        ("csv", {"text": "t,x,y,p\n"}),
    ],
)
def test_no_events_and_no_size(tmp_path, name, words):
    if name == "evt2":
        path = tmp_path / "a.raw"
        path.write_bytes(writers.raw_header("EVT2", None))
    elif name == "npy":
        path = save_npy(tmp_path / "a.npy", words["array"])
    else:
        path = tmp_path / "a.csv"
        path.write_text(words["text"])
    with pytest.raises(EventFileError, match="neither a sensor size nor events; give size_hw"):
        scn_events.open(path)
    recording = scn_events.open(path, size_hw=SIZE_HW)
    assert (recording.num_events, recording.start_us, recording.stop_us, len(recording.read())) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("real", "beside"),
    [
        ("icns_roadside_cars/sample.aedat4", "icns_roadside_cars/icns_roadside_cars_td.dat"),
        ("gen31_person_2s/gen31_person_2s_evt3.raw", "gen31_person_2s/gen31_person_2s_td.dat"),
        ("imx636_static_noise/imx636_static_noise_evt3.raw", "imx636_static_noise/imx636_static_noise_td.dat"),
    ],
)
def test_real_recordings_hold_exactly_the_events_of_the_dat_file_beside_them(recordings_dir, real, beside):
    recording, dat = scn_events.open(recordings_dir / real), scn_events.open(recordings_dir / beside)
    assert (recording.size_hw, recording.num_unsorted) == (dat.size_hw, 0)
    np.testing.assert_array_equal(recording.read(), dat.read())
    for window, wanted in zip(recording.windows(300_000, 100_000), dat.windows(300_000, 100_000), strict=True):
        np.testing.assert_array_equal(window.events, wanted.events)


@pytest.mark.parametrize("compression", ["", "lz4", "zstd"])
def test_the_writer_of_aedat4_satisfies_an_independent_reader(tmp_path, random_events, compression):
    aedat = pytest.importorskip("aedat")
    events = random_events(2500, size_hw=SIZE_HW)
    path = writers.write_aedat4(tmp_path / "a.aedat4", events, SIZE_HW, start_us=0, compression=compression)
    # The third-party reader knows the streams it can decode; ours skips the other stream's packets unread.
    path.write_bytes(path.read_bytes().replace(b"\1\0\0\0\3\0\0\0abc", b""))
    found = np.concatenate([packet["events"] for packet in aedat.Decoder(path) if "events" in packet])
    for mine, theirs in zip("txyp", ("t", "x", "y", "on"), strict=True):
        np.testing.assert_array_equal(found[theirs], events[mine])


def test_a_chunk_that_the_makers_filter_left_alone_is_read_as_it_is(tmp_path, random_events):
    """HDF5 stores a chunk unpacked, and says so in a bit of its own, where an optional filter refuses it."""
    import h5py

    events = at_zero(random_events(1200, size_hw=SIZE_HW))
    path = writers.write_metavision(tmp_path / "a.hdf5", events, SIZE_HW, chunk=500)
    with h5py.File(path, "r+") as file:
        table, stored = file["CD/events"], np.zeros(500, writers.CD_DTYPE)
        for name in "txyp":
            stored[name] = events[name][500:1000]
        table.id.write_direct_chunk((500,), stored.tobytes(), filter_mask=1)
    np.testing.assert_array_equal(opened(path).read(), events)


def test_unsorted_events_read_as_the_latest_time_before_them_in_every_block(tmp_path):
    t = np.arange(200_000, dtype=np.int64)
    t[127_000] = 135_000  # the rest up to 135000 comes late, across blocks
    events = np.zeros(len(t), EVENT_DTYPE)
    events["t"] = t
    with pytest.warns(UserWarning, match="7999 of 200000 events are not in order"):
        recording = opened(save_npy(tmp_path / "a.npy", events))
    settled = np.maximum.accumulate(t)
    np.testing.assert_array_equal(recording.read()["t"], settled)
    for start, stop in [(0, 126_999), (126_999, 135_000), (134_999, 135_001), (135_000, 135_001), (131_072, 160_000)]:
        wanted = settled[(settled >= start) & (settled < stop)]
        np.testing.assert_array_equal(recording.read(start, stop)["t"], wanted)


def test_a_clock_beyond_a_dat_file_is_moved_to_the_first_event(tmp_path):
    events = np.zeros(3, EVENT_DTYPE)
    events["t"] = 1_540_821_844_000_000 + np.array([0, 7, 9])
    recording = opened(save_npy(tmp_path / "a.npy", events))
    assert recording.clock_us == 1_540_821_844_000_000
    assert recording.read()["t"].tolist() == [0, 7, 9]
    assert recording.read(7, 9)["t"].tolist() == [7]


@pytest.mark.parametrize("head", ["", "t,x,y,p\n"])
def test_text_may_begin_with_a_byte_order_mark(tmp_path, head):
    path = tmp_path / "a.csv"
    path.write_text(f"{head}5,1,2,1\n7,3,4,0\n", encoding="utf-8-sig")
    assert opened(path).read().tolist() == [(5, 1, 2, 1), (7, 3, 4, 0)]


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"rvt", "dsec"}))
def test_a_single_event(tmp_path, name):
    event = np.array([(0, 3, 5, 1)], EVENT_DTYPE)
    recording = opened(FORMATS[name](tmp_path, event))
    assert (recording.num_events, recording.start_us, recording.stop_us) == (1, 0, 1)
    np.testing.assert_array_equal(recording.read(), event)
    assert [(w.start_us, w.stop_us, len(w.events)) for w in recording.windows(50, 100)] == [(-99, 1, 1)]


BIG = 2_000_000


def big_dat(path):
    records = np.zeros((BIG, 2), "<u4")
    records[:, 0] = np.arange(BIG)
    head, small = b"% Version 2\n\x00\x08", path.with_stem("small")
    small.write_bytes(head + records[:9].tobytes())
    list(opened(small).windows(100_000, 10))  # compiles the kernels, whose memory is not the file's
    path.write_bytes(head + records.tobytes())
    return path


def big_npy(path):
    array = np.lib.format.open_memmap(path, "w+", EVENT_DTYPE, (BIG,))
    array["t"] = np.arange(BIG)
    return path


def big_h5(path):
    import h5py

    with h5py.File(path, "w") as file:
        for name in "xyp":
            file.create_dataset(f"events/{name}", data=np.zeros(BIG, np.uint16), chunks=(65536,))
        file.create_dataset("events/t", data=np.arange(BIG), chunks=(65536,))
    return path


def big_raw(path):
    words = np.tile(np.array([0x8000_0000, *[0] * 63], np.uint32), BIG // 64)
    words[::64] += np.arange(BIG // 64, dtype=np.uint32)
    path.write_bytes(writers.raw_header("EVT2", SIZE_HW) + words.astype("<u4").tobytes())
    return path


def big_bin(path):
    return (path.write_bytes(bytes([1, 2, 0, 0, 9]) * BIG), path)[1]


def big_txt(path):
    return (path.write_bytes(b"5 1 2 1\n" * BIG), path)[1]


@pytest.mark.slow
@pytest.mark.parametrize("make", [big_dat, big_npy, big_h5, big_raw, big_bin, big_txt])
def test_memory_does_not_grow_with_the_file(tmp_path, make):
    """Decoded, the events take 26 MB; opening and reading a window may take a few blocks."""
    path = make(tmp_path / f"a.{make.__name__.removeprefix('big_')}")
    tracemalloc.start()
    recording = opened(path)
    # Where all events have one time, before it.
    for stop_us in range(100_000, recording.stop_us, 100_000) or (5,):
        recording.read(stop_us - 5, stop_us)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert recording.num_events > 0.98 * BIG
    assert peak < 12e6


@pytest.mark.parametrize("suffix", sorted(OPENERS))
def test_a_missing_and_an_empty_file(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    with pytest.raises(EventFileError, match=f"a\\{suffix}"):
        scn_events.open(path)
    path.touch()
    with pytest.raises(EventFileError, match=f"a\\{suffix}"):
        scn_events.open(path)


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [("metavision", "h5py", "h5py"), ("aedat4 lz4", "lz4.frame", "lz4"), ("aedat4 zstd", "zstandard", "zstandard")],
)
def test_a_missing_package_names_the_line_that_installs_it(tmp_path, random_events, monkeypatch, name, module, package):
    path = FORMATS[name](tmp_path, random_events(100, size_hw=SIZE_HW))
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(MissingPackageError, match=rf"needs {package}.*pip install .*{package}.*the extra \[formats\]"):
        opened(path)

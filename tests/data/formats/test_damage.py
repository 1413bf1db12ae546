"""What is cut short or damaged is told with the byte where it happened; text and ECF are taken at their word."""

import contextlib
import struct

import event_writers as writers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from spiking_centernet import data as scn_events
from spiking_centernet.data.formats.hdf5 import decode_chunk
from spiking_centernet.errors import EventFileError
from spiking_centernet.structures import EVENT_DTYPE

SIZE_HW = (24, 40)


def refused(path, words, **settings):
    with pytest.raises(EventFileError, match=words) as told:
        scn_events.open(path, size_hw=SIZE_HW, **settings)
    assert path.name in str(told.value)


def cut(path, num_bytes):
    path.write_bytes(path.read_bytes()[:num_bytes])
    return path


def damaged(path, at, byte):
    data = bytearray(path.read_bytes())
    data[at] = byte
    path.write_bytes(data)
    return path


@pytest.fixture
def events(random_events):
    return random_events(3000, size_hw=SIZE_HW)


@pytest.mark.parametrize("compression", ["", "lz4", "zstd"])
def test_aedat4(tmp_path, events, compression):
    path = writers.write_aedat4(tmp_path / "a.aedat4", events, SIZE_HW, compression=compression)
    whole = path.read_bytes()
    head = 18 + struct.unpack_from("<I", whole, 14)[0]
    second = whole.index(struct.pack("<ii", 1, 3), head + 1)
    refused(cut(path, 10), "does not begin with")
    path.write_bytes(whole)
    refused(cut(path, head - 5), f"ends at byte {head - 5}, inside its header")
    path.write_bytes(whole)
    refused(
        cut(path, second - 7),
        rf"packet at byte {head + 11} extends beyond the end at byte {second - 7}.*-s {head + 11}",
    )
    path.write_bytes(whole)
    refused(cut(path, second + 5), f"packet at byte {second}")
    path.write_bytes(whole)
    refused(damaged(path, head + 11 + 7, 0xFF), f"packet at byte {head + 11} is damaged")
    path.write_bytes(whole)
    refused(damaged(path, head + 11 + (8 if compression else 16), 0x55), f"packet at byte {head + 11} is damaged")
    path.write_bytes(whole.replace(b"EVTS</attr>", b"FRME</attr>"))
    refused(path, "holds no stream of events")
    path.write_bytes(whole.replace(b"<node ", b"<nodx ", 1))
    refused(path, "header at byte 14 cannot be read")


def test_aedat4_cut_between_two_packets_is_told_by_its_table(tmp_path, events):
    path = writers.write_aedat4(tmp_path / "a.aedat4", events, SIZE_HW, table=1 << 40)
    with pytest.warns(
        UserWarning, match=f"ends at byte {path.stat().st_size}, before its table of packets at byte 109951"
    ):
        assert len(scn_events.open(path).read()) == 3000
    size = path.stat().st_size
    writers.write_aedat4(path, events, SIZE_HW, table=size)
    path.write_bytes(path.read_bytes() + b"the table, which is no packet")
    assert len(scn_events.open(path).read()) == 3000


def test_hdf5(tmp_path, events):
    import h5py

    path = writers.write_metavision(tmp_path / "a.hdf5", events, SIZE_HW)
    whole = path.read_bytes()
    with h5py.File(path) as file:
        at = file["CD/events"].id.get_chunk_info(2).byte_offset
    refused(cut(path, len(whole) // 2), "cannot be opened as HDF5.*truncated file")
    path.write_bytes(whole)
    refused(damaged(path, at + 3, 0xFF), rf"events 1000 to 1499 \(chunk at byte {at}\) cannot be read")
    with h5py.File(path, "w") as file:
        file["frames"] = np.zeros(3)
    refused(path, r"holds \['frames'\], but neither 'CD/events'")
    with h5py.File(path, "w") as file:
        for name, length in (("x", 3), ("t", 4)):
            file[f"events/{name}"] = np.zeros(length)
    refused(path, r"lack \['y', 'p'\]")
    with h5py.File(path, "a") as file:
        file["events/y"], file["events/p"] = np.zeros(3), np.zeros(3)
    refused(path, "different lengths .*'t': 4, 'x': 3")


def test_hdf5_with_a_filter_that_nobody_has(tmp_path):
    import h5py

    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name in "xyt":
            file[f"events/{name}"] = np.zeros(8)
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((8,))
        plan.set_filter(40_000, h5py.h5z.FLAG_OPTIONAL, ())
        h5py.h5d.create(file["events"].id, b"p", h5py.h5t.NATIVE_INT8, h5py.h5s.create_simple((8,)), plan)
    refused(path, "compressed with HDF5 filter 40000, which hdf5plugin does not bring")


def test_bin(tmp_path, events):
    path = writers.write_bin(tmp_path / "a.bin", events)
    refused(cut(path, 998), "event 199 at byte 995 has 3 of 5 bytes.*truncate -s 995")
    # An overflow is no event and shifts the byte of those after it.
    path.write_bytes(bytes([1, 1, 0, 0, 1, 0, 240, 0, 0, 0, 1, 1, 0, 0, 2, 40, 1, 0, 0, 3]))
    refused(path, r"event 2 \(byte 15\) lies at x 40, y 1, outside the 40 x 24 sensor")
    assert scn_events.open(path, size_hw=(24, 41)).read()["t"].tolist() == [1, 8194, 8195]


def test_numpy(tmp_path, events):
    np.save(tmp_path / "a.npy", events)
    refused(cut(tmp_path / "a.npy", 5000), r"\(5000 bytes\) cannot be read")
    np.savez_compressed(tmp_path / "a.npz", events=events)
    size = (tmp_path / "a.npz").stat().st_size
    refused(damaged(tmp_path / "a.npz", size // 2, 0x77), "cannot be read")
    refused(cut(tmp_path / "a.npz", 500), r"\(500 bytes\) cannot be read")
    np.save(tmp_path / "a.npy", np.array([{"t": 1}], object))
    refused(tmp_path / "a.npy", "cannot be read.*objects")
    np.savez(tmp_path / "a.npz", t=np.array([{}], object))
    refused(tmp_path / "a.npz", "cannot be read.*objects")
    np.savez(tmp_path / "a.npz", t=np.zeros(3), x=np.zeros(3), y=np.zeros(3), p=np.zeros(4))
    refused(tmp_path / "a.npz", "different lengths")
    np.savez(tmp_path / "a.npz", t=np.zeros(3), x=np.zeros(3), w=np.zeros(3))
    refused(tmp_path / "a.npz", r"columns \['t', 'x', 'w'\], but none for \['y', 'p'\]")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[0.5, 1, 1, 1], [1.5, np.nan, 1, 1]], "event 1 has x nan"),
        ([[0, 1, 1, 1], [1, 1, -1, 1]], "event 1 has y -1"),
        ([[0, 1, 1, 1], [1, 1.5, 1, 1]], "event 1 has x 1.5"),
        ([[1, 1, 3, 1], [1, 70000, 4, 0]], "event 1 has x 70000.*the order is t, x, y, p"),
        ([[-1, 1, 3, 1]], "event 0 has a time before 0"),
        ([[0, 1, 1]], r"\[1, 3\]; it must be a structured array or \[N, 4\]"),
    ],
)
def test_arrays_that_are_no_events(tmp_path, rows, words):
    np.save(tmp_path / "a.npy", np.array(rows, float))
    refused(tmp_path / "a.npy", words)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("5,1,2,1\n6,3,4,0", [(5, 1, 2, 1), (6, 3, 4, 0)]),
        ("5 1 2 1\r\n\r\n6\t3 ; 4, -1\r\n", [(5, 1, 2, 1), (6, 3, 4, 0)]),
        ("# made by hand\n# t x y p\n5 1 2 1\n# more\n6 3 4 0\n", [(5, 1, 2, 1), (6, 3, 4, 0)]),
        ("polarity,Timestamp,id,x,y\n-1,5,99,1,2\n1,6,99,3.0,4\n", [(5, 1, 2, 0), (6, 3, 4, 1)]),
        ("0.000005 1 2 1\n1.5 3 4 0\n2.00000049 3 4 1\n2.0000005 3 4 1\n",
         [(5, 1, 2, 1), (1_500_000, 3, 4, 0), (2_000_000, 3, 4, 1), (2_000_001, 3, 4, 1)]),
        ("0.0000000000000000000001 1 2 1\n", [(0, 1, 2, 1)]),
    ],
)  # fmt: skip
def test_text_is_taken_at_its_word(tmp_path, text, rows):
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    assert scn_events.open(path, size_hw=SIZE_HW).read().tolist() == rows


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 2 3 1\n2 2 3\n", "line at byte 8 has too few or too many numbers.*'2 2 3'"),
        ("1 2 3 1\n2 2 3 1 7\n", "line at byte 8 has too few or too many"),
        ("1 2 3 1\n2 2 q 1\n", "line at byte 8 holds something other than numbers"),
        ("1 2 3 1\n1e3 2 3 1\n", "could be nanoseconds, .* say which with unit"),
        ("1 2 3 1\n2 -2 3 1\n", "line at byte 8 has a place"),
        ("1 2 3 1\n2 2.5 3 1\n", "line at byte 8 has a place"),
        ("1 2 3 1\n2.5 2 3 1\n", "could be nanoseconds, .* say which with unit"),
        ("1 2 3 1\n99999999999999999999 2 3 1\n", "line at byte 8 has a time that is no number or beyond every clock"),
        ("1 2 3 1\n2 40 3 1\n", r"event 1 \(line at byte 8\) lies at x 40, y 3, outside"),
        ("a,b,c,d\n1,2,3,4\n", r"columns \['a', 'b', 'c', 'd'\], but none for \['t', 'x', 'y', 'p'\]"),
        ("\0" * (1 << 20 | 9), "no line ends|other than numbers"),
    ],
)
def test_text_that_is_no_events(tmp_path, text, words):
    path = tmp_path / "a.csv"
    path.write_text(text)
    refused(path, words)


chunks = st_numpy.arrays(
    EVENT_DTYPE,
    st.integers(1, 70),
    elements=st.tuples(st.integers(0, 1 << 40), st.integers(0, 9), st.integers(0, 2047), st.integers(0, 1)),
    fill=st.nothing(),
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(chunks, st.sampled_from(["all", "x and p", "runs"]), st.sampled_from([1, 40, 20_000]))
def test_ecf_gives_back_what_was_packed(events, packing, repeat):
    events = np.repeat(np.sort(events, order="t"), repeat)[:20_000]
    np.testing.assert_array_equal(decode_chunk(writers.ecf_chunk(events, packing)), events)


@settings(max_examples=40, deadline=None)
@given(chunks, st.sampled_from(["all", "x and p", "runs"]), st.data())
def test_damaged_ecf_is_an_error_or_other_events_but_never_a_crash(events, packing, data):
    packed = bytearray(writers.ecf_chunk(np.sort(events, order="t"), packing))
    packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    kept = bytes(packed[: data.draw(st.integers(0, len(packed)))])
    with contextlib.suppress(ValueError):
        assert decode_chunk(kept).dtype == EVENT_DTYPE

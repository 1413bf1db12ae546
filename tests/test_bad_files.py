"""Recordings, labels and studies that once crashed, hung or read as something else: each is refused with a reason."""

import io
import struct
import zipfile
from pathlib import Path

import event_writers as writers
import numpy as np
import pytest
from fuzz_files import SIZE_HW, some_events

from spiking_centernet.cli import parser
from spiking_centernet.data import open as open_recording
from spiking_centernet.data.convert import coco, mot, yolo
from spiking_centernet.data.layouts import Files, get_layout
from spiking_centernet.errors import BoxFileError, ConfigError, DatasetError, EventFileError
from spiking_centernet.experiments.study.plan import folder_of, read_plan
from spiking_centernet.training.config import parse_recipe, read_yaml

EVENTS = some_events(20)


def npy(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy_saying(header: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()


def npz(method=zipfile.ZIP_STORED, **arrays) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in arrays.items():
            archive.writestr(f"{name}.npy", data)
    return file.getvalue()


def rows(**values):
    found = np.zeros(2, [("t", "<f8"), ("x", "<f8"), ("y", "<f8"), ("p", "<f8")])
    for name, value in values.items():
        found[name] = value
    return npy(found)


def damaged_lzma() -> bytes:
    data = bytearray(npz(zipfile.ZIP_LZMA, events=npy(EVENTS)))
    data[60:90] = bytes(30)
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.npy", npz(events=npy(EVENTS)), "cannot be read"),
        ("a.npy", npy_saying("{'descr': '<i8', 'shape': [[[["), "cannot be read"),
        ("a.npy", npy_saying("{'descr': '<i8', 'fortran_order': False, 'shape': (-4, 4), }"), "cannot be read"),
        ("a.npy", npy_saying("{'descr': '<i8', 'fortran_order': False, 'shape': (1 << 60, 4), }"), "cannot be read"),
        ("a.npy", rows(t=np.inf), "event 0 has t inf"),
        ("a.npy", rows(t=1e300), "event 0 has t 1e"),
        ("a.npy", rows(x=70000), "event 0 has x 70000"),
        ("a.npy", rows(x=65535, y=65535), "event 0 has a place that no sensor has"),
        ("a.npy", npy(np.full((2, 4), 2**63 + 5, np.uint64)), "has t 9223372036854775813"),
        ("a.npy", npy(np.array([[2**62, 0, 0, 1]])), "has t 4611686018427387904"),
        ("a.npz", damaged_lzma(), "cannot be read"),
        ("a.raw", b"% evt 3.0\n% geometry 99999999x9\n% end\n\x01\x80\x01\x20", "larger than any known"),
        ("a.raw", b"% evt 3.0\n% geometry 0x0\n% end\n", "0 x 0 pixels is invalid"),
        ("a.raw", b"% evt 3.0\n% geometry " + b"9" * 3000 + b"x9\n% end\n", "larger than any known"),
        ("a.csv", b"900000000000000000,1,1,1\n", "a time before 0 or after"),
    ],
)
def test_recordings_that_once_slipped_through(tmp_path, name, data, words):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(EventFileError, match=words) as told:
        open_recording(path)
    assert len(str(told.value)) < 1000


def test_only_the_arrays_of_an_archive_that_are_events_are_unpacked(tmp_path):
    columns = {name: npy(EVENTS[name]) for name in "txyp"}
    (tmp_path / "a.npz").write_bytes(npz(**columns, frames=b"no array at all"))
    found = open_recording(tmp_path / "a.npz", size_hw=SIZE_HW).read()
    assert found.tolist() == EVENTS.tolist()


def aedat4(tmp_path, old=b"", new=b"", **settings):
    pytest.importorskip("zstandard")
    path = writers.write_aedat4(tmp_path / "a.aedat4", EVENTS, SIZE_HW, **settings)
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    return path


def test_aedat4_files_that_once_slipped_through(tmp_path):
    start = b"#!AER-DAT4.0\r\n"
    for damage, words in (
        ((b'type="int">40', b'type="int">4e'), "header at byte 14 cannot be read"),
        ((b'type="int">40', b'type="int">-4'), "pixels is invalid"),
        ((b'<node name="4"', b'<node name="x"'), "header at byte 14 cannot be read"),
        ((start, start + b"\xff\xff\xff\xff"), "inside its header"),
    ):
        with pytest.raises(EventFileError, match=words):
            open_recording(aedat4(tmp_path, *damage))
    with pytest.raises(EventFileError, match="packets end at byte 100, before they begin"):
        open_recording(aedat4(tmp_path, table=100))
    left = EVENTS.copy()
    left["x"][3] = 65535
    path = writers.write_aedat4(tmp_path / "b.aedat4", left, SIZE_HW)
    with pytest.raises(EventFileError, match=r"event 3 \(number 3 of the packet at byte .*a place that no sensor has"):
        open_recording(path)


@pytest.mark.parametrize("kind", ["lz4", "zstd"])
def test_a_packet_of_aedat4_that_unpacks_without_end_is_refused(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("spiking_centernet.data.formats.aedat4.MAX_PACKET_BYTES", 100)
    with pytest.raises(EventFileError, match="unpacks to more than 100 bytes"):
        open_recording(aedat4(tmp_path, compression=kind))


def h5_columns(path, **changed):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name in "txyp":
            file[f"events/{name}"] = changed.get(name, EVENTS[name])
        for name in changed.keys() - set("txyp"):
            file[f"events/{name}"] = changed[name]
    return path


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"x": np.full(20, -1)}, "event 0 has x -1"),
        ({"x": np.full(20, 70_000)}, "event 0 has x 70000"),
        ({"y": np.full(20, np.nan)}, "event 0 has y nan"),
        ({"t": np.full(20, 2**63, np.uint64)}, "event 0 has t 9223372036854775808"),
        ({"t": np.full(20, b"abc")}, "must be a flat array of numbers"),
        ({"p": np.zeros((20, 2))}, "must be a flat array of numbers"),
        ({"height": [3, 4], "width": 40}, r"says height \[3 4\]"),
        ({"height": 24, "width": np.inf}, "says width inf"),
    ],
)
def test_columns_of_hdf5_that_once_read_as_something_else(tmp_path, changed, words):
    with pytest.raises(EventFileError, match=words):
        open_recording(h5_columns(tmp_path / "a.h5", **changed))


def test_hdf5_times_with_a_fraction_are_seconds(tmp_path):
    path = h5_columns(tmp_path / "a.h5", t=EVENTS["t"] * 1e-6)
    assert open_recording(path, size_hw=SIZE_HW).read().tolist() == EVENTS.tolist()


def test_hdf5_files_that_are_damaged_inside(tmp_path):
    h5py = pytest.importorskip("h5py")
    whole = writers.write_columns(tmp_path / "a.h5", EVENTS, SIZE_HW).read_bytes()
    for piece in (b"TREE", b"HEAP", b"SNOD"):
        (tmp_path / "b.h5").write_bytes(whole.replace(piece, b"oops"))
        with pytest.raises(EventFileError, match=r"is damaged inside|cannot be opened"):
            open_recording(tmp_path / "b.h5")
    with h5py.File(tmp_path / "c.h5", "w") as file:
        for name in "txyp":
            file.create_dataset(f"events/{name}", (1 << 50,), "u1", chunks=(1000,))
    with pytest.raises(EventFileError, match="claims 1125899906842624 events in 0 bytes"):
        open_recording(tmp_path / "c.h5")
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.create_group("CD/events")
    with pytest.raises(EventFileError, match="but neither 'CD/events'"):
        open_recording(tmp_path / "d.h5")


def test_an_ecf_chunk_that_was_never_written(tmp_path):
    h5py = pytest.importorskip("h5py")
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((20,))
    plan.set_filter(0x8ECF, h5py.h5z.FLAG_OPTIONAL, ())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        kind, space = h5py.h5t.py_create(writers.CD_DTYPE), h5py.h5s.create_simple((20,))
        h5py.h5d.create(file.create_group("CD").id, b"events", kind, space, plan)
    with pytest.raises(EventFileError, match="events 0 to 19 cannot be read"):
        open_recording(tmp_path / "a.h5", size_hw=SIZE_HW)


IMAGE = '{"id": 1, "file_name": "a.png", "width": 40, "height": 24, "t_us": 5}'
COCO = '{"categories": [{"id": 1, "name": "car"}], "images": [%s], "annotations": [%s]}'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "no COCO ground truth"),
        ((COCO % (IMAGE, "")).replace(', "name": "car"', ""), "KeyError: 'name'"),
        (COCO % (IMAGE.replace("5}", "1e999}"), ""), "no COCO ground truth .OverflowError"),
        (COCO % (IMAGE.replace("5}", "1" + "0" * 30 + "}"), ""), "says the time 1000000"),
        (COCO % (IMAGE.replace("5}", "-5}"), ""), "says the time -5"),
        (COCO % (IMAGE.replace("40", "0"), ""), "pictures of 0 x 24 pixels"),
        (COCO % (f"{IMAGE}, {IMAGE}", ""), "the same id"),
        (COCO % (IMAGE, '{"image_id": 1, "category_id": 1, "bbox": [1e39, 1, 1, 1]}'), "box 0 has time"),
        (COCO % (IMAGE, '{"image_id": 1, "category_id": 1, "bbox": [1, 1, 1, 1], "score": 1e999}'), "confidence inf"),
    ],
)
def test_coco_files_that_once_slipped_through(tmp_path, text, words):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(BoxFileError, match=words):
        coco.read(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("text", "sequence", "words"),
    [
        ("1\n", "frameRate=4", "line 1 is '1'"),
        ("inf,1,1,1,1,1,1\n", "frameRate=4", "line 1 is 'inf"),
        ("1,1,1,1,1,1,1\n", "frameRate=1e-320", "cannot be read"),
        ("1,1,1,1,1,1,1\n", "frameRate=inf", "cannot be read"),
        ("1,1,1,1,1,1,1\n", "everyUs=-5", "no time between frames"),
        ("1,1,1,1,1,1,1\n", "frameRate=4\nimWidth=0\nimHeight=5", "pictures of 0 x 5 pixels"),
        ("1,1,1,1,1,1,1,300\n", "frameRate=4\nclasses=" + ",".join(map(str, range(300))), "box 0 has class 299"),
    ],
)
def test_mot_files_that_once_slipped_through(tmp_path, text, sequence, words):
    (tmp_path / "a.csv").write_text(text)
    (tmp_path / "a.seqinfo.ini").write_text(f"[Sequence]\n{sequence}\n")
    with pytest.raises(BoxFileError, match=words):
        mot.read(tmp_path / "a.csv", classes=())


def test_mot_classes_may_hold_a_percent_sign(tmp_path):
    (tmp_path / "a.csv").write_text("1,1,1,1,1,1,1\n")
    (tmp_path / "a.seqinfo.ini").write_text("[Sequence]\nframeRate=4\nclasses=50%,%(x)s\n")
    assert mot.read(tmp_path / "a.csv", classes=()).classes == ("50%", "%(x)s")


@pytest.mark.parametrize(("name", "words"), [("a_1us.txt", "as text"), ("classes.txt", "as text")])
def test_yolo_files_that_are_no_text(tmp_path, name, words):
    (tmp_path / "a_1us.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / name).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BoxFileError, match=words):
        yolo.read(tmp_path, size_hw=SIZE_HW, classes=("car",))


def test_yolo_times_beyond_any_clock(tmp_path):
    (tmp_path / f"a_{'9' * 30}.txt").write_text("")
    with pytest.raises(BoxFileError, match="says the time 999"):
        yolo.read(tmp_path, size_hw=SIZE_HW, classes=("car",))


@pytest.mark.parametrize("offset", [np.int64(-5), np.complex64(1), np.float64(1.5), np.zeros(3, np.int64), b"abc"])
def test_clocks_of_dsec_that_are_none(tmp_path, offset):
    h5py = pytest.importorskip("h5py")
    box = np.zeros(1, [("t", "<u8"), *((n, "<f4") for n in "xywh"), ("class_id", "u1"), ("track_id", "<u4")])
    np.save(tmp_path / "tracks.npy", box)
    with h5py.File(tmp_path / "events.h5", "w") as file:
        file["t_offset"] = offset
    layout = get_layout("dsec-det")
    with pytest.raises(DatasetError, match="t_offset"):
        layout.boxes(Files("a", tmp_path / "events.h5", tmp_path / "tracks.npy"), layout.classes)


def test_pedro_boxes_in_an_encoding_nobody_knows(tmp_path):
    (tmp_path / "a.xml").write_text('<?xml version="1.0" encoding="cp_nobody"?><annotation/>')
    layout = get_layout("pedro")
    with pytest.raises(BoxFileError, match="VOC"):
        layout.boxes(Files("a", tmp_path / "a.npy", tmp_path / "a.xml"), layout.classes)


NINE = "[1, 2, 3, 4, 5, 6, 7, 8, 9]"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("combine: product\naxes: {" + ", ".join(f"k{k}: {NINE}" for k in range(15)) + "}", "205891132094649 rows"),
        ("axes:\n  ? a" + ".b" * 900 + "\n  : [1]", "settings lie one deep"),
        ("protocol: [1]\nrows: {a: {}}", "no evaluation protocol"),
        ("rows: {a: {}}\nresamples: 1" + "0" * 30, "resamples must be"),
        ("rows: {a: {}}\ntest_steps: {same_step: [10000000000]}", "whole numbers from 1 to 1000"),
        ("rows: {a: {}}\nseeds: [1" + "0" * 30 + "]", "seed must be"),
    ],
)
def test_studies_that_once_slipped_through(tmp_path, text, words):
    (tmp_path / "base.yaml").write_text("epochs: 2\n")
    (tmp_path / "a.yaml").write_text(f"recipe: base.yaml\n{text}\n")
    with pytest.raises(ConfigError, match=words):
        read_plan(tmp_path / "a.yaml")


@pytest.mark.parametrize("row", ["..", ".", "../../x", "/etc"])
def test_a_row_never_leads_elsewhere(row):
    folder = folder_of(Path("out"), row, 0)
    assert folder.parent.parent == Path("out/runs")
    assert folder.parent.name not in (".", "..")


def test_aliases_that_multiply_are_not_counted_to_their_end(tmp_path):
    lists = ["x0: &a0 [" + ",".join("1" * 900) + "]"]
    lists += [f"x{k}: &a{k} [" + ",".join([f"*a{k - 1}"] * 900) + "]" for k in (1, 2)]
    (tmp_path / "a.yaml").write_text("\n".join(lists))
    with pytest.raises(ConfigError, match="more than 10000 values"):
        read_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize("command_before", [False, True])
def test_a_recipe_is_parsed_without_the_defaults_of_what_it_leaves_out(command_before):
    if command_before:  # parsing arguments changes parsers that jsonargparse shares between all of a process
        recipe = Path(__file__).resolve().parents[1] / "recipes" / "nano_roads.yaml"
        parser.parse(["train", str(recipe), "--data", "data", "--out", "out"])
    found = parse_recipe({"learning_rate": "2e-3", "augmentation": {"flip": 0.25}, "penalty": None}, "here")
    assert found["learning_rate"] == 2e-3
    assert vars(found["augmentation"]) == {"flip": 0.25}
    assert found.keys() == {"learning_rate", "augmentation", "penalty"}

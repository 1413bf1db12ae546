"""``scn info``, ``detect`` and ``convert`` on every format, and tracks from the command line."""

import json
import re

import event_writers as writers
import numpy as np
import pytest
from tiny import some_events, tiny_detector

from spiking_centernet import data as scn_data
from spiking_centernet.cli.program import main
from spiking_centernet.data import read_boxes, write_dat
from spiking_centernet.data.convert import mot
from spiking_centernet.data.io import sample
from spiking_centernet.model import weights

SIZE_HW = (56, 72)


def save_csv(path, events):
    path.write_text("t,x,y,p\n" + "".join(f"{t},{x},{y},{p}\n" for t, x, y, p in events.tolist()))
    return path


def save_npz(path, events):
    np.savez_compressed(path, **{name: events[name] for name in "txyp"})
    return path


FORMATS = {
    "EVT2": lambda d, e: writers.write_raw(d / "a.raw", "EVT2", e, SIZE_HW),
    "EVT2.1": lambda d, e: writers.write_raw(d / "a.raw", "EVT21", e, SIZE_HW),
    "EVT3": lambda d, e: writers.write_raw(d / "a.raw", "EVT3", e, SIZE_HW),
    "AEDAT4": lambda d, e: writers.write_aedat4(d / "a.aedat4", e, SIZE_HW, compression="lz4"),
    "Metavision HDF5, ECF": lambda d, e: writers.write_metavision(d / "a.hdf5", e, SIZE_HW, chunk=4000),
    "HDF5 with columns": lambda d, e: writers.write_columns(d / "a.h5", e),
    "N-MNIST .bin": lambda d, e: writers.write_bin(d / "a.bin", e),
    "NumPy .npz": lambda d, e: save_npz(d / "a.npz", e),
    "text": lambda d, e: save_csv(d / "a.csv", e),
}


def run(capsys, *argv):
    code = main([str(word) for word in argv])
    told = capsys.readouterr()
    return code, told.out, told.err


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    return str(weights.save(tiny_detector(), tmp_path_factory.mktemp("weights") / "tiny"))


@pytest.fixture(scope="module")
def noise():
    events = some_events(num=8000, stop_us=220_000, size_hw=SIZE_HW)
    events["t"] -= events["t"][0]
    return events


@pytest.fixture(scope="module")
def wanted(tmp_path_factory, model_path, noise):
    """The detections in the same events as a DAT file."""
    folder = tmp_path_factory.mktemp("dat")
    write_dat(folder / "a_td.dat", noise, SIZE_HW)
    main(
        ["detect", model_path, str(folder / "a_td.dat"), "--out", str(folder), "--save", "json", "--min_score", "0.05"]
    )
    return json.loads((folder / "a_detections.json").read_text())["instants"]


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_described_detected_in_and_converted(capsys, tmp_path, model_path, noise, wanted, name):
    path = FORMATS[name](tmp_path, noise)
    code, out, _ = run(capsys, "info", path, "--size", "72x56")
    assert code == 0
    assert all(word in out for word in (name, "72 x 56 (width x height)", "8,000"))
    argv = ["--out", tmp_path, "--save", "json", "--min_score", "0.05", "--size", "72x56"]
    assert run(capsys, "detect", model_path, path, *argv)[0] == 0
    assert json.loads((tmp_path / "a_detections.json").read_text())["instants"] == wanted
    assert any(timestamp["boxes"] for timestamp in wanted)
    code, out, _ = run(capsys, "convert", path, tmp_path / "b_td.dat", "--size", "72x56")
    assert (code, re.search("8,000 events", out) is not None) == (0, True)
    write_dat(tmp_path / "c_td.dat", noise, SIZE_HW)
    assert (tmp_path / "b_td.dat").read_bytes() == (tmp_path / "c_td.dat").read_bytes()


def test_a_size_that_is_none(capsys, tmp_path):
    code, _, err = run(capsys, "info", tmp_path / "a.bin", "--size", "34")
    assert (code, "width x height in pixels, for example 304x240" in err) == (2, True)


def test_convert_says_what_is_lost(capsys, tmp_path):
    boxes = sample("sample-real").with_name("icns_roadside_cars_bbox.npy")
    code, out, _ = run(capsys, "convert", boxes, tmp_path / "a.json")
    assert (code, out.splitlines()[0]) == (0, "read Prophesee boxes, 14 boxes at 7 timestamps")
    assert out.splitlines()[2:] == ["lost: nothing"]
    _, out, _ = run(capsys, "convert", tmp_path / "a.json", tmp_path / "yolo", "--to", "yolo")
    assert out.splitlines()[2:] == ["lost: track ids (YOLO's labels have none)"]
    code, _, err = run(capsys, "convert", tmp_path / "yolo", tmp_path / "b.npy")
    assert (code, "--size WIDTHxHEIGHT" in err) == (2, True)


@pytest.mark.slow
def test_tracks_are_the_same_in_every_file(capsys, tmp_path, model_path):
    pytest.importorskip("trackers")
    argv = [
        "--every_ms",
        "10",
        "--min_score",
        "0.05",
        "--track",
        "--save",
        "json",
        "npy",
        "csv",
        "png",
        "--out",
        tmp_path,
    ]
    code, out, _ = run(capsys, "detect", model_path, sample("sample-real"), *argv)
    assert code == 0
    stem = tmp_path / "icns_roadside_cars_detections"
    timestamps = json.loads(stem.with_suffix(".json").read_text())["instants"]
    ids = [box["track_id"] for timestamp in timestamps for box in timestamp["boxes"]]
    assert ids
    assert re.search(rf"{len(ids)} boxes at {len(timestamps)} timestamps, {len(set(ids))} tracks", out)
    boxes = read_boxes(tmp_path / "icns_roadside_cars_detections_bbox.npy")
    assert boxes["track_id"].tolist() == ids
    assert len(ids) > len(set(ids))
    lost_nothing = mot.read(stem.with_suffix(".csv"), classes=())
    np.testing.assert_array_equal(lost_nothing.boxes, boxes)
    assert lost_nothing.classes == ("car", "pedestrian")


def test_csv_without_tracks_is_refused(capsys, tmp_path, model_path):
    code, _, err = run(capsys, "detect", model_path, sample("sample-real"), "--save", "csv", "--out", tmp_path)
    assert (code, "switch tracking on (--track)" in err) == (2, True)


def test_columns_and_unit_settle_what_a_text_does_not_say(capsys, tmp_path):
    events = some_events(num=2000, stop_us=1_000_000)
    path = tmp_path / "a.csv"
    path.write_text("".join(f"{e['x']},{e['y']},{e['t'] * 1e-3:.3f},{e['p']}\n" for e in events))
    code, _, err = run(capsys, "info", path, "--size", "72x56")
    assert code == 2
    assert "--unit us" in err
    settled = ("--size", "72x56", "--columns", "xytp", "--unit", "ms")
    code, out, err = run(capsys, "info", path, *settled)
    assert (code, err) == (0, "")
    assert re.search(r"dropped events\W+0\W", out)
    code, _, err = run(capsys, "convert", path, tmp_path / "a_td.dat", *settled)
    assert (code, err) == (0, "")
    np.testing.assert_array_equal(scn_data.open(tmp_path / "a_td.dat").read(), events)
    code, _, err = run(capsys, "info", tmp_path / "a_td.dat", "--unit", "ms")
    assert code == 2
    assert "say themselves what unit says" in err


def test_frames_a_second_place_labels_without_drift(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gt.txt").write_text("900,1,11,21,30,40,1,1,1\n", encoding="utf-8")
    for given in (["--fps", "30"], ["--every_ms", "33.3"]):
        assert main(["convert", "gt.txt", "a_bbox.npy", "--classes", "car", *given]) == 0
        assert np.load("a_bbox.npy")["ts"].tolist() == [30_000_000 if given[0] == "--fps" else 29_970_000]

"""The examples run, on the smallest input that shows they work."""

import importlib.util
from pathlib import Path

import event_writers
import numpy as np
import pytest
import toy_roads
from tiny import some_events, tiny_detector

from spiking_centernet.model.weights import load, save

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
TESTED = {
    "convert_labels", "count_line", "detect_recording", "evaluate_folder", "export_nir", "export_onnx",
    "read_any_format", "stream_packets", "track_recording", "train_tiny",
}  # fmt: skip


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_tested():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == TESTED


def test_detect_recording(tmp_path, capsys):
    weights = save(tiny_detector(), tmp_path / "tiny")
    example("detect_recording").main(
        ["sample-real", "--model", str(weights), "--min_score", "0.05", "--every_ms", "100"]
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "icns_roadside_cars_td.dat: 6676 events, 346 x 260"
    timestamps = [line for line in lines if " ms: " in line]
    assert [line.split()[0] for line in timestamps] == ["100", "200"]
    assert len(lines) - 1 - len(timestamps) == sum(int(line.split()[2]) for line in timestamps) > 0


def test_evaluate_folder(tmp_path, capsys):
    weights = save(tiny_detector(), tmp_path / "tiny")
    data = toy_roads.write_folder(tmp_path / "data")
    example("evaluate_folder").main([str(data), "--model", str(weights)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["prophesee", "prophesee-script", "cordone", "none"]
    assert lines[0].endswith(" 0 boxes")  # all of the toy's boxes are under 30 px
    assert lines[3].endswith(" 6 boxes")


def test_read_any_format(tmp_path, capsys):
    events = some_events(num=500, stop_us=200_000, size_hw=(34, 34))
    digit = event_writers.write_bin(tmp_path / "digit.bin", events)
    drive = event_writers.write_raw(tmp_path / "drive.raw", "EVT3", events, (34, 34))
    example("read_any_format").main([str(digit), str(drive), "--size", "34x34"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "digit.bin: N-MNIST .bin, 34 x 34, 500 events in"
    assert lines[2] == "drive.raw: RAW, EVT3, 34 x 34, 500 events in"
    assert lines[1] == lines[3]
    example("read_any_format").main(["sample-real"])
    assert capsys.readouterr().out.startswith("icns_roadside_cars_td.dat: DAT version 2, event type 0, 346 x 260, 6676")


def test_convert_labels(tmp_path, capsys):
    from spiking_centernet.data.io import sample

    example("convert_labels").main([str(sample("sample-real").with_name("icns_roadside_cars_bbox.npy")), str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{tmp_path / 'labels.json'}: lost nothing"
    assert lines[1].startswith(f"{tmp_path / 'labels.csv'}: lost times")
    assert lines[2].startswith(f"{tmp_path / 'yolo'}: lost track ids")
    assert len(list((tmp_path / "yolo").glob("*_*.txt"))) == 7


def test_track_recording(tmp_path, capsys):
    weights = save(tiny_detector(), tmp_path / "tiny")
    example("track_recording").main(["sample-real", "--model", str(weights), "--min_score", "0.05"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"icns_roadside_cars_td.dat: {len(lines) - 1} tracks"
    assert len(lines) > 1
    assert all(line.split()[1] in ("car:", "pedestrian:") for line in lines[1:])


def test_count_line_counts_each_object_once(tmp_path, capsys):
    pytest.importorskip("trackers", reason="trackers is not installed")
    import spiking_centernet as scn

    def result(k, *boxes):
        xyxy = np.array([box[:4] for box in boxes], np.float32).reshape(-1, 4)
        tracks = np.array([box[4] for box in boxes], np.int64)
        scores, labels = np.ones(len(boxes), np.float32), np.zeros(len(boxes), np.int64)
        return scn.Result(xyxy, scores, labels, k * 50_000, tracks, size_hw=(60, 100), class_names=("car",))

    # Track 1 goes right over x = 50, track 2 left, track 3 stays; track 4 turns round before the line.
    moves = [(20 + 8 * k, 70 - 8 * k, 10, min(10 + 8 * k, 34)) for k in range(8)]
    results = [
        result(k, *((x, 12 * n, x + 10, 12 * n + 10, n + 1) for n, x in enumerate(row))) for k, row in enumerate(moves)
    ]
    zone, seen = example("count_line").count([results[0], result(9), *results[1:]], (50, 0, 50, 60))
    assert sorted((zone.in_count, zone.out_count)) == [1, 1]
    assert {number: len(there) for number, there in seen.items()} == {1: 8, 2: 8, 3: 8, 4: 8}
    weights = save(tiny_detector(), tmp_path / "tiny")
    words = ["sample-real", "--model", str(weights), "--min_score", "0.05", "--picture", str(tmp_path / "count.png")]
    example("count_line").main(words)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(f"{len(lines) - 1} tracks")
    assert (tmp_path / "count.png").stat().st_size > 1_000


@pytest.mark.parametrize(("mode", "timestamps"), [("windowed", 4), ("stateful", 9)])
def test_stream_packets(tmp_path, capsys, mode, timestamps):
    weights = save(tiny_detector(), tmp_path / "tiny")
    example("stream_packets").main(["sample-real", "--model", str(weights), "--mode", mode])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == timestamps
    assert lines[-1].endswith("the last")


def test_export_onnx(tmp_path, capsys):
    for module in ("onnxscript", "onnxruntime"):
        pytest.importorskip(module, reason=f"{module} is not installed")
    weights = save(tiny_detector(), tmp_path / "tiny")
    size = ["--height", "64", "--width", "80"]
    example("export_onnx").main([str(tmp_path / "tiny.onnx"), "--model", str(weights), *size])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{tmp_path / 'tiny.onnx'}: ")
    assert lines[-1].startswith("step 2: highest logit")


def test_export_nir(tmp_path, capsys):
    pytest.importorskip("nir", reason="nir is not installed")
    example("export_nir").main([str(tmp_path / "nano_nir.nir"), "--height", "64", "--width", "64"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "spikes that differ on 4 real windows: 0.0000%"
    assert len(lines) == 5


@pytest.mark.slow
def test_train_tiny(tmp_path, capsys):
    example("train_tiny").main([str(tmp_path), "--clips", "4", "--duration_s", "0.7", "--epochs", "1"])
    assert "AP50 on the validation clips" in capsys.readouterr().out
    model = load(tmp_path / "run")
    assert model.config.encoder.widths == (8, 16, 32, 64)

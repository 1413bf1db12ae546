"""The examples run, on the smallest input that shows they work."""

import importlib.util
from pathlib import Path

import event_writers
import numpy as np
import pytest
import toy_roads
from tiny import FEW_LAYERS, some_events, tiny_detector

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


@pytest.mark.slow
def test_track_recording(tmp_path, capsys):
    weights = save(tiny_detector(), tmp_path / "tiny")
    example("track_recording").main(["sample-real", "--model", str(weights), "--min_score", "0.05"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"icns_roadside_cars_td.dat: {len(lines) - 1} tracks"
    assert len(lines) > 1
    assert all(line.split()[1] in ("car:", "pedestrian:") for line in lines[1:])


def moving(*tracks):
    """Return a result for every timestamp from the boxes of every track, None where it is not seen."""
    import spiking_centernet as scn

    results = []
    for k, row in enumerate(zip(*tracks, strict=True)):
        seen = [(number, box) for number, box in enumerate(row, 1) if box is not None]
        xyxy = np.array([box for _, box in seen], np.float32).reshape(-1, 4)
        ids, scores = np.array([number for number, _ in seen], np.int64), np.ones(len(seen), np.float32)
        labels = np.zeros(len(seen), np.int64)
        results.append(scn.Result(xyxy, scores, labels, k * 50_000, ids, size_hw=(60, 100), class_names=("car",)))
    return results


def at(x, bottom=40, side=8):
    """Return a box by its foot point."""
    return (x - side / 2, bottom - side, x + side / 2, bottom)


UP = (50, 60, 50, 0)


@pytest.mark.parametrize(
    ("track", "right", "left"),
    [
        ([at(x) for x in range(20, 84, 8)], 1, 0),
        ([at(x) for x in range(80, 16, -8)], 0, 1),
        ([at(x) for x in (20, 30, 40, 45, 40, 30, 20)], 0, 0),
        ([at(x) for x in (40, 42, 44, 51, 49, 51, 49, 51, 44)], 0, 0),
        ([at(x) for x in (30, 35, 40, 49, 51, 49, 51, 60, 65, 70)], 1, 0),
        ([at(x) for x in (30, 35, 40, 60, 65, 70, 40, 35, 30, 60, 65, 70)], 1, 1),
        ([at(x) for x in (40, 60, 40, 60, 40, 60, 40)], 0, 0),
        ([at(66), at(66), at(66), at(42), at(42)], 0, 0),
        ([at(20), at(30), at(40), None, None, None, None, None, at(60), at(70), at(80)], 1, 0),
        # The middle of the box goes over the line, its foot does not, and the other way round.
        ([(40, 0, 50 + 2 * k, 30) for k in range(4)], 0, 0),
        ([at(x, 70) for x in (30, 35, 40, 60, 65, 70)], 0, 0),
        ([], 0, 0),
    ],
    ids=["right", "left", "back before it", "trembles", "trembles and goes", "to and fro", "flickers", "leaps and ends",
         "unseen for a while", "grows", "beyond the end", "nothing"],
)  # fmt: skip
def test_count_line_counts_a_track_once_in_each_direction(track, right, left):
    counter, seen = example("count_line").count(moving(track), UP)
    assert (counter.count(1), counter.count(-1)) == (right, left)
    assert {number: len(there) for number, there in seen.items()} == (
        {1: sum(box is not None for box in track)} if track else {}
    )


def test_count_line_keeps_tracks_apart():
    right = [at(x) for x in range(20, 84, 8)]
    counter, _ = example("count_line").count(moving(right, right[::-1], [at(20)] * 8, right), UP)
    assert sorted(counter.crossed) == [(1, 1), (2, -1), (4, 1)]
    # The same from the side: along a level line, right is below.
    level = [(y, x, b, r) for x, y, r, b in map(tuple, right)]
    assert example("count_line").count(moving(level), (0, 50, 60, 50))[0].count(1) == 1


@pytest.mark.slow
@pytest.mark.thorough
def test_count_line_agrees_with_the_truth_of_a_simulated_clip(tmp_path, capsys):
    pytest.importorskip("trackers", reason="trackers is not installed")
    import spiking_centernet as scn

    sample = scn.open("sample")
    boxes = scn.data.read_boxes(sample.path.with_name("sample_bbox.npy"))
    height, width = sample.size_hw
    truth = [scn.data.boxes_at(boxes, t_us) for t_us in np.unique(boxes["ts"]).tolist()]
    counter = example("count_line").LineCounter((width // 2, height, width // 2, 0), steady=1)  # four labels a second
    for t_us, labeled in zip(np.unique(boxes["ts"]).tolist(), truth, strict=True):
        scores = np.ones(len(labeled), np.float32)
        counter.update(scn.Detections(labeled.xyxy, scores, labeled.labels, t_us, labeled.track_ids))
    assert sorted(counter.crossed) == [(4, -1)]
    example("count_line").main(["--model", "nano", "--picture", str(tmp_path / "count.png"), "--every_ms", "100"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{counter.count(1)} crossed to the right of the line, {counter.count(-1)} to its left")
    assert lines[0].endswith(f"{len(lines) - 1} tracks")
    assert (tmp_path / "count.png").stat().st_size > 1_000


@pytest.mark.parametrize(("mode", "timestamps"), [("windowed", 4), ("stateful", 9)])
def test_stream_packets(tmp_path, capsys, mode, timestamps):
    weights = save(tiny_detector(), tmp_path / "tiny")
    example("stream_packets").main(["sample-real", "--model", str(weights), "--mode", mode])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == timestamps
    assert lines[-1].endswith("the last")


@pytest.mark.slow
def test_export_onnx(tmp_path, capsys):
    for module in ("onnxscript", "onnxruntime"):
        pytest.importorskip(module, reason=f"{module} is not installed")
    weights = save(tiny_detector(**FEW_LAYERS), tmp_path / "tiny")
    size = ["--height", "64", "--width", "80"]
    example("export_onnx").main([str(tmp_path / "tiny.onnx"), "--model", str(weights), *size])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{tmp_path / 'tiny.onnx'}: ")
    assert lines[-1].startswith("step 2: highest logit")


@pytest.mark.slow
def test_export_nir(tmp_path, capsys):
    pytest.importorskip("nir", reason="nir is not installed")
    example("export_nir").main([str(tmp_path / "nano_nir.nir"), "--height", "64", "--width", "64"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "spikes that differ on 4 real windows: 0.0000%"
    assert len(lines) == 5


@pytest.mark.slow
@pytest.mark.thorough
def test_train_tiny(tmp_path, capsys):
    example("train_tiny").main([str(tmp_path), "--clips", "2", "--duration_s", "0.7", "--epochs", "1"])
    assert "AP50 on the validation clips" in capsys.readouterr().out
    model = load(tmp_path / "run")
    assert model.config.encoder.widths == (8, 16, 32, 64)

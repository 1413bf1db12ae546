"""``scn.predict``: whatever holds the same events gives the same detections."""

import importlib.util
import itertools
import json
import weakref

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import some_events, tiny_detector

import spiking_centernet as scn
from spiking_centernet.data import label_timestamps, read_boxes, write_boxes, write_dat
from spiking_centernet.errors import ConfigError, EventFileError, MissingPackageError
from spiking_centernet.inference import Packet
from spiking_centernet.inference.recordings import detections_at
from spiking_centernet.model.scaling import spec_for
from spiking_centernet.structures import BOX_DTYPE
from spiking_centernet.visualize.draw import CAPTION_PX

SIZE_HW = (56, 72)


@pytest.fixture(scope="module")
def model():
    return tiny_detector()


@pytest.fixture(scope="module")
def events():
    return some_events()


@pytest.fixture(scope="module")
def expected(model, events):
    """Detections by the function that predict is built on."""
    recording = scn.open(events, size_hw=SIZE_HW)
    results = list(detections_at(model, recording, recording.stops_us(50_000)))
    assert sum(map(len, results)) > 10
    return results


def agree(results, expected):
    results = list(results)
    assert [r.t_us for r in results] == [e.t_us for e in expected]
    for result, other in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result.boxes, other.xyxy)
        np.testing.assert_array_equal(result.scores, other.scores)
        np.testing.assert_array_equal(result.classes, other.labels)
        assert result.size_hw == SIZE_HW


def columns_of(events, order, dtype=np.int64):
    return np.stack([events[name].astype(dtype) for name in order], axis=1)


def structured(events):
    """As Metavision's ``EventCD``: other order, signed polarity."""
    out = np.zeros(len(events), [("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
    for name in "xypt":
        out[name] = events[name]
    return out


ARRAYS = {
    "structured": lambda e: e,
    "metavision": structured,
    "txyp": lambda e: columns_of(e, "txyp"),
    "float64": lambda e: columns_of(e, "txyp", np.float64),
    "tensor": lambda e: torch.from_numpy(columns_of(e, "txyp")),
    "dict": lambda e: {name: e[name] for name in "xypt"},
    "bool": lambda e: {"x": e["x"], "y": e["y"], "polarity": e["p"] == 1, "timestamp": e["t"]},
    "signed": lambda e: {"x": e["x"], "y": e["y"], "p": e["p"].astype(np.int8) * 2 - 1, "t_us": e["t"]},
    "named seconds": lambda e: {"x": e["x"], "y": e["y"], "p": e["p"], "t [s]": e["t"] * 1e-6},
    "four arrays": lambda e: (e["t"], e["x"], e["y"], e["p"]),
    "column-major": lambda e: np.asfortranarray(columns_of(e, "txyp")),
    "every second of twice": lambda e: np.repeat(e, 2)[::2],
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_in_any_common_form(model, events, expected, name):
    agree(model.predict(ARRAYS[name](events), size_hw=SIZE_HW), expected)


@pytest.mark.parametrize("order", ["xytp", "xypt", "ptyx"])
def test_columns_in_a_named_order(model, events, expected, order):
    agree(model.predict(columns_of(events, order), size_hw=SIZE_HW, columns=order), expected)


def test_an_order_is_inferred_where_only_one_is_possible_and_said(model, events, expected):
    with pytest.warns(UserWarning, match="x, y, t, p"):
        agree(model.predict(columns_of(events, "xytp"), size_hw=SIZE_HW), expected)


def test_seconds_are_said_or_refused(model, events, expected):
    seconds = columns_of(events, "txyp", np.float64)
    seconds[:, 0] /= 1e6
    agree(model.predict(seconds, size_hw=SIZE_HW, unit="s"), expected)
    few = seconds[:50]
    assert model.predict(few, size_hw=SIZE_HW, unit="s")
    milliseconds = seconds * [1000, 1, 1, 1]
    with pytest.raises(EventFileError, match="unit"):
        model.predict(milliseconds, size_hw=SIZE_HW)
    agree(model.predict(milliseconds, size_hw=SIZE_HW, unit="ms"), expected)


def test_the_callers_arrays_stay_as_they_are(model, events):
    mine = columns_of(events, "txyp")
    mine.setflags(write=False)
    before = mine.copy()
    model.predict(mine, size_hw=SIZE_HW)
    np.testing.assert_array_equal(mine, before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, events):
    """Two recordings, one below the other, with what else lies in such folders."""
    root = tmp_path_factory.mktemp("drives")
    write_dat(root / "a_td.dat", events, SIZE_HW)
    write_dat(root / "deep" / "b_td.dat", events, SIZE_HW)
    write_boxes(root / "a_bbox.npy", np.zeros(1, BOX_DTYPE))
    (root / "classes.txt").write_text("car\npedestrian\n")
    return root


@pytest.mark.slow
def test_files_folders_patterns_and_lists(model, folder, events, expected):
    path = folder / "a_td.dat"
    for source in (path, str(path), scn.open(path)):
        results = model.predict(source)
        agree(results, expected)
        assert {r.path for r in results} == {path}
    twice = [*expected, *expected]
    for source in (folder, str(folder / "**" / "*.dat"), [path, folder / "deep"], [events, path]):
        agree(model.predict(source, size_hw=SIZE_HW), twice)
    assert {r.path for r in model.predict(str(folder / "*_td.dat"))} == {path}


@pytest.mark.slow
def test_cubes_one_result_each(model, events, expected):
    recording = scn.open(events, size_hw=SIZE_HW)
    cubes = [cube for _, cube in recording.cubes([e.t_us for e in expected], model.config.voxels)]
    batch = torch.stack(cubes, dim=1)
    for source in (batch, batch.numpy(), batch.bool(), batch.float(), batch.double().numpy(), cubes):
        for result, other in zip(model.predict(source), expected, strict=True):
            np.testing.assert_array_equal(result.boxes, other.xyxy)
            assert result.t_us == model.config.voxels.window_us
            assert result.path is None
    assert len(model.predict(cubes[0])) == 1


def packets(events, make=lambda e: e):
    return (make(part) for part in np.array_split(events, 37))


@pytest.mark.parametrize("make", [lambda e: e, structured, lambda e: {n: e[n] for n in "txyp"}, lambda e: Packet(e)])
def test_a_generator_of_packets(model, events, expected, make):
    agree(model.predict(packets(events, make), size_hw=SIZE_HW), expected)


def test_packets_of_plain_columns_say_what_they_are(model, events, expected):
    seconds = lambda e: columns_of(e, "xytp", np.float64) * [1, 1, 1e-6, 1]  # noqa: E731
    agree(model.predict(packets(events, seconds), size_hw=SIZE_HW, columns="xytp", unit="s"), expected)
    with pytest.raises(ConfigError, match="columns"):
        list(model.predict(packets(events, seconds), size_hw=SIZE_HW, unit="s"))
    with pytest.raises(ConfigError, match="unit"):
        list(model.predict(packets(events, seconds), size_hw=SIZE_HW, columns="xytp"))


def test_a_camera_or_any_source_that_knows_its_sensor(model, events, expected):
    class Source:
        size_hw = SIZE_HW

        def __iter__(self):
            return packets(events)

    answers = model.predict(Source())
    assert iter(answers) is answers
    agree(answers, expected)


def test_the_public_functions_are_one(model, folder, expected, tmp_path):
    assert scn.detect is scn.predict
    agree(scn.detect(folder / "a_td.dat", model), expected)
    weights = scn.save(model, tmp_path / "tiny")
    agree(scn.detect(folder / "a_td.dat", weights, device="cpu"), expected)


def test_a_compiled_detector_predicts_too(model, folder):
    engine = scn.compile(model, precision="fp32")
    results = engine.predict(folder / "a_td.dat", keep=("operations", "spikes"))
    others = model.predict(folder / "a_td.dat", keep=("operations", "spikes"))
    for result, other in zip(results, others, strict=True):
        np.testing.assert_allclose(result.boxes, other.boxes, rtol=1e-4)
        assert result.spikes.keys() == other.spikes.keys()
        assert sum(result.operations.values()) == pytest.approx(sum(other.operations.values()), rel=1e-3)


BAD = [
    ({"min_scroe": 0.3}, "did you mean 'min_score'"),
    ({"keep": ("spike",)}, "did you mean 'spikes'"),
    ({"min_score": 3}, "min_score"),
    ({"every_us": 0}, "every_us"),
    ({"device": "cpu"}, "device"),
    ({"columns": "abc"}, "columns"),
    ({"unit": "min"}, "unit"),
]


@pytest.mark.parametrize(("options", "told"), BAD)
def test_impossible_options_are_named(model, events, options, told):
    with pytest.raises(ConfigError, match=told):
        model.predict(events, size_hw=SIZE_HW, **options)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (np.zeros((5, 3, 40, 40), np.uint8), r"\[5, 3, 40, 40\].*\[T, 4, H, W\]"),
        (np.zeros((4, 40, 40), np.uint8), r"\[4, 40, 40\]"),
        (np.full((5, 4, 40, 40), np.nan), "not finite"),
        (np.full((5, 4, 40, 40), -1), "-1"),
        (np.zeros((10, 3)), r"\[10, 3\].*t, x, y, p"),
        (np.zeros((4, 1000)), r"\[4, 1000\].*transpose"),
        ({"x": [1], "y": [1], "p": [1]}, "none for"),
        ({"x": [1, 2], "y": [1], "p": [1], "t": [0]}, "different lengths"),
        (np.array([None, 3]), "objects"),
        (7, "a int"),
        ([], "empty"),
        ([1, 2], "numbers"),
        (iter([]), "size_hw"),
        ("nothing.dat", "no such file"),
        ("*.nothing", "pattern"),
    ],
)
def test_what_is_no_source_is_said_with_its_shape(model, source, told):
    with pytest.raises((ConfigError, EventFileError), match=told):
        model.predict(source)


def test_a_folder_without_recordings_and_a_model_as_source(model, tmp_path):
    with pytest.raises(EventFileError, match="holds no recording"):
        model.predict(tmp_path)
    with pytest.raises(ConfigError, match=r"model\.predict"):
        scn.predict(model, "sample")


@pytest.mark.slow
@pytest.mark.parametrize("as_packets", [False, True])
def test_a_long_recording_stays_flat_in_memory(model, as_packets):
    """An iterator holds the window at hand and no other, however many have passed."""
    seconds = 3
    long = some_events(num=2_000 * seconds, stop_us=1_000_000 * seconds)
    source = packets(long) if as_packets else long
    cubes, results = [], []
    for result in model.predict(source, size_hw=SIZE_HW, stream=True, keep=("heatmap", "spikes")):
        cubes.append(weakref.ref(result.inspection.cube))
        results.append(weakref.ref(result))
        assert sum(ref() is not None for ref in cubes) <= 2
        assert sum(ref() is not None for ref in results) <= 2
    assert len(results) == 20 * seconds


def test_a_list_of_results_holds_no_cubes(model, events):
    results = model.predict(events, size_hw=SIZE_HW)
    assert all(result.inspection is None for result in results)
    assert results[3].plot().any()


def test_inspection_of_every_window(model, events, expected):
    results = model.predict(events, size_hw=SIZE_HW, keep=("heatmap", "spikes", "rates", "operations"))
    agree(results, expected)
    recording, fused = scn.open(events, size_hw=SIZE_HW), model.fuse()
    for result in results[::3]:
        cube = recording.cube(result.t_us, spec_for(model.config, None))
        spikes = {}
        output, _ = fused(cube[:, None], observe=lambda name, x, spikes=spikes: spikes.update({name: x.bool().numpy()}))
        np.testing.assert_array_equal(result.heatmap, torch.sigmoid(output.heatmap[0]).numpy())
        assert list(result.spikes) == model.neuron_names
        for name, layer in spikes.items():
            np.testing.assert_array_equal(result.spikes[name], layer)
            assert result.rates[name] == pytest.approx(layer.mean(), rel=1e-5)
        counted = scn.count_ops(fused, cube[:, None])
        assert sum(result.operations.values()) == counted.synaptic
        assert result.latency_ms > 0


def test_what_was_not_kept_says_how_to_keep_it(model, events):
    result = model.predict(events, size_hw=SIZE_HW)[0]
    for name in ("heatmap", "spikes", "rates", "operations"):
        with pytest.raises(ConfigError, match=rf"keep=\('{name}'"):
            getattr(result, name)


@pytest.mark.slow
def test_tracks(model, events):
    pytest.importorskip("trackers")
    results = model.predict(events, size_hw=SIZE_HW, track=True, every_us=20_000, min_score=0.05, keep="rates")
    numbers = [set(r.tracks.tolist()) for r in results]
    assert all(min(each, default=1) >= 1 for each in numbers)
    assert any(a & b for a, b in itertools.pairwise(numbers))
    live = list(model.predict(packets(events), size_hw=SIZE_HW, track=True, every_us=20_000, min_score=0.05))
    assert [set(r.tracks.tolist()) for r in live] == numbers


@pytest.fixture(scope="module")
def result(model, events):
    results = model.predict(events, size_hw=SIZE_HW, keep="heatmap")
    return max(results, key=len)


def test_a_picture(result, tmp_path):
    plain, overlaid = result.plot(enlarge=2), result.plot(enlarge=2, heatmap=True)
    assert plain.shape == overlaid.shape == (2 * SIZE_HW[0] + CAPTION_PX, 2 * SIZE_HW[1], 3)
    assert (plain != overlaid).any()
    np.testing.assert_array_equal(np.asarray(Image.open(result.save(tmp_path / "a.png", enlarge=2))), plain)
    assert Image.open(result.save(tmp_path / "a.jpg")).format == "JPEG"
    with pytest.raises(ConfigError, match=r"\.png"):
        result.save(tmp_path / "a.gif")
    assert not (tmp_path / "a.gif").exists()


def test_a_cube_is_drawn_like_its_recording(model, events, result):
    cube = scn.open(events, size_hw=SIZE_HW).cube(result.t_us, model.config.voxels)
    (again,) = model.predict(cube)
    shown = result.events(model.config.voxels.window_us)
    at = {tuple(place) for place in again.events(0)[["x", "y"]].tolist()}
    assert at == {tuple(place) for place in shown[["x", "y"]].tolist()}


def test_show_opens_the_picture(result, monkeypatch):
    shown = []
    monkeypatch.setattr(Image.Image, "show", lambda self: shown.append(self.size))
    result.show(enlarge=1)
    assert shown == [(SIZE_HW[1], SIZE_HW[0] + CAPTION_PX)]


def test_files_of_boxes(result, tmp_path):
    written = json.loads(result.save(tmp_path / "a.json").read_text())
    assert [box["class"] for box in written["boxes"]] == result.names
    assert written["t_us"] == result.t_us
    boxes = np.load(result.save(tmp_path / "a.npy"))
    assert boxes.dtype == BOX_DTYPE
    np.testing.assert_allclose(boxes["w"], result.boxes[:, 2] - result.boxes[:, 0])
    with pytest.raises(ConfigError, match="theme"):
        result.save(tmp_path / "a.json", theme="light")


def test_other_libraries_get_the_same_boxes(result):
    rows = result.to_coco(image_id=7)
    np.testing.assert_allclose([row["bbox"][2] for row in rows], result.boxes[:, 2] - result.boxes[:, 0])
    assert {row["category_id"] for row in rows} == {label + 1 for label in result.classes}
    assert {row["image_id"] for row in rows} == {7}
    pytest.importorskip("supervision")
    other = result.to_supervision()
    np.testing.assert_array_equal(other.xyxy, result.boxes)
    assert other.data["class_name"].tolist() == result.names


@pytest.mark.slow
def test_a_table(result):
    if importlib.util.find_spec("pandas") is None:
        with pytest.raises(MissingPackageError, match="pandas"):
            result.to_pandas()
        return
    table = result.to_pandas()
    assert len(table) == len(result)
    np.testing.assert_array_equal(table[["x1", "y1", "x2", "y2"]].to_numpy(), result.boxes)


def test_above_keeps_a_result(result):
    best = result.above(float(result.scores[0]))
    assert isinstance(best, scn.Result)
    assert len(best) == int((result.scores >= result.scores[0]).sum())
    assert best.size_hw == result.size_hw


def test_the_sample_is_there_without_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert scn.open("sample").num_events > 1000
    (tmp_path / "sample").write_text("mine")
    with pytest.raises(EventFileError):  # a file of that name comes first
        scn.open("sample")


def test_the_samples_are_what_their_notices_say():
    sample = scn.open("sample")
    assert (sample.size_hw, sample.num_events, sample.stop_us) == ((240, 304), 312_709, 2_999_995)
    boxes = read_boxes(sample.path.with_name("sample_bbox.npy"))
    assert (len(boxes), len(label_timestamps(boxes))) == (63, 11)
    assert sample.path.stat().st_size < 1_000_000
    assert "scn simulate" in sample.path.with_name("NOTICE.txt").read_text()
    assert scn.open("sample-real").num_events == 6676


def test_an_archive_says_its_sensors_size(tmp_path, events):
    columns = {name: events[name] for name in "txyp"}
    np.savez(tmp_path / "a.npz", **columns, size_hw=np.array([60, 80]))
    assert scn.open(tmp_path / "a.npz").size_hw == (60, 80)
    assert scn.open(tmp_path / "a.npz", size_hw=(70, 90)).size_hw == (70, 90)
    np.savez(tmp_path / "b.npz", **columns, size_hw=np.array([60.5, 80]))
    with pytest.raises(EventFileError, match="size_hw"):
        scn.open(tmp_path / "b.npz")

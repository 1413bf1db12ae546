"""What a detection costs on a folder: counts, JSON, page, heat maps, and the command."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import toy_roads
from tiny import tiny_detector, tiny_memory

from spiking_centernet.cli.program import main
from spiking_centernet.data import collate
from spiking_centernet.data import open as open_recording
from spiking_centernet.errors import ConfigError
from spiking_centernet.evaluation.energy import NoMeter, count_ops
from spiking_centernet.evaluation.energy.models import BreakEven
from spiking_centernet.evaluation.energy.report import answer_spec, clip_activity, costs
from spiking_centernet.evaluation.prediction import dataset_for
from spiking_centernet.experiments import energy_page
from spiking_centernet.experiments.energy_page import curve_plot, layer_bars, read_study, tables, write_page
from spiking_centernet.model import weights


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_roads.write_folder(tmp_path_factory.mktemp("toy") / "data")


@pytest.fixture(scope="module")
def model():
    return tiny_detector()


@pytest.fixture(scope="module")
def found(model, data):
    return costs(model, data, split="val", batch_size=4, measure_s=0)


def test_every_labeled_timestamp_is_counted_on_the_merged_network(found, model, data):
    dataset = dataset_for(model, data, "val")
    whole = collate([dataset[k] for k in range(len(dataset))]).cube
    assert found.operations == count_ops(model.fuse(), whole)
    assert (found.operations.num_windows, found.recordings, found.split) == (6, 2, "val")
    assert found.operations.fully_spiking
    assert "Fully spiking" in found.verdict
    assert "5.7%" in found.verdict
    assert found.joules == NoMeter("not measured: measure_s is 0")


def test_json_speaks_of_windows(found):
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    ops = found.operations
    assert values["per_window"]["synaptic"] == ops.synaptic / 6
    assert values["energy_uj_per_window"]["horowitz45"]["total"] == pytest.approx(
        found.breakdowns["horowitz45"].total() * 1e-6
    )
    assert values["joules"] == {"reason": "not measured: measure_s is 0"}
    assert len(values["convolutions"]) == len(ops.convolutions)
    assert len(values["break_even"]) == 3


def test_an_ann_is_told_not_to_be_spiking(data):
    found = costs(tiny_detector(neuron={"kind": "relu"}), data, split="val", measure_s=0)
    assert found.verdict.startswith("Not fully spiking: encoder.stages.0.0.conv is the first")
    assert found.break_evens == []
    titles = [title for title, *_ in tables(found)]
    assert "Against an equal quantized ANN" not in titles


def test_a_negative_time_is_refused(model, data):
    with pytest.raises(ConfigError, match="measure_s"):
        costs(model, data, split="val", measure_s=-1)
    with pytest.raises(ConfigError, match="measure_s"):
        costs(model, data, split="val", measure_s=float("nan"))


def test_a_batch_of_no_window_is_refused(model, data):
    with pytest.raises(ConfigError, match="batch_size must be at least 1 window, got 0"):
        costs(model, data, split="val", batch_size=0, measure_s=0)


def test_a_counter_that_stops_answering_leaves_the_counts(model, data, monkeypatch):
    class Counter:
        source = "RAPL (package-0)"

        def read(self):
            raise OSError("No data available")

    monkeypatch.setattr("spiking_centernet.evaluation.energy.report.find_counter", lambda device: Counter())
    found = costs(model, data, split="val", measure_s=1)
    assert found.joules == NoMeter("not measured: RAPL (package-0) stopped answering (No data available)")
    assert found.operations.synaptic > 0


def test_a_silent_network_is_not_told_to_cost_more(found):
    cheap = BreakEven("horowitz45", 0.0, None, 1.0, 2.0)
    dear = BreakEven("memory", 0.0, None, 2.0, 1.0)
    verdict = dataclasses.replace(found, break_evens=[cheap, dear]).verdict
    assert "by horowitz45 it costs less than the equal ANN (nothing spikes)" in verdict
    assert "by memory it costs more than the equal ANN (even in silence it would cost more)" in verdict


@pytest.mark.slow
def test_where_and_when_agree_with_each_other_and_with_the_recording(model, data):
    recording = open_recording(data / "val" / "clip2_td.dat")
    found = clip_activity(model, recording, max_windows=2)
    assert list(found.where) == model.fuse().neuron_names  # the names of the tables
    assert found.events.sum() == len(recording.read(0, 200_000)) < recording.num_events
    assert len(found.events) == 2 * model.config.voxels.num_steps
    for name in found.where:
        assert found.when[name].shape == (2 * model.config.voxels.num_steps,)
        assert np.isclose(found.where[name].mean(), found.when[name].mean())
    assert (found.start_us, found.step_us) == (0, 20_000)


def test_integers_are_counted_as_the_spikes_they_run_on(data):
    model = tiny_detector(**{"neuron.kind": "ilif", "neuron.levels": 3})
    found = costs(model, data, split="val", batch_size=4, measure_s=0)
    assert found.operations.fully_spiking
    assert "Fully spiking" in found.verdict
    assert (found.neurobench.effective_macs, len(found.break_evens)) == (0, 3)
    assert found.neurobench.effective_acs == found.operations.synaptic / found.operations.num_windows
    clip = clip_activity(model, open_recording(data / "val" / "clip2_td.dat"), max_windows=2)
    for name, where in clip.where.items():
        assert np.isclose(where.mean(), clip.when[name].mean())
        assert where.max() <= 1


def carried_through(model, path):
    """Return the cubes of a recording's answers one after the other, as one window [T, 1, C, H, W]."""
    recording = open_recording(path)
    spec = answer_spec(model)
    stops = [window.stop_us for window in recording.windows(spec.window_us, spec.window_us)]
    return torch.cat([recording.cube(stop_us, spec) for stop_us in stops])[:, None], len(stops)


def test_a_memory_is_counted_as_a_stream_computes_it(data):
    """Every step once: below the heads, the answers of a recording cost what one long window of it costs."""
    model = tiny_memory()
    found = costs(model, data, split="val", measure_s=0)
    paths = [labeled.path for labeled in dataset_for(model, data, "val").recordings]
    whole, num_answers = zip(*(carried_through(model, path) for path in paths), strict=True)
    expected = [count_ops(model.fuse(), cube) for cube in whole]
    assert (found.mode, found.unit) == ("stateful", "answer")
    assert (found.operations.num_windows, found.operations.num_steps) == (sum(num_answers), 2)
    for layer, *same in zip(found.operations.convolutions, *(each.convolutions for each in expected), strict=True):
        assert layer.times == 2 * sum(num_answers)
        if not layer.name.endswith(".out"):  # maps are computed in the steps that an answer averages alone
            assert layer.synaptic == sum(each.synaptic for each in same)
    for layer, *same in zip(found.operations.neurons, *(each.neurons for each in expected), strict=True):
        assert layer.spikes == sum(each.spikes for each in same)
    assert any(neuron.name.startswith("recurrent") and neuron.spikes for neuron in found.operations.neurons)


def test_a_memory_may_be_counted_in_windows(data):
    model = tiny_memory()
    found = costs(model, data, split="val", mode="windowed", measure_s=0)
    assert (found.mode, found.operations.num_windows, found.operations.num_steps) == ("windowed", 6, 6)
    dataset = dataset_for(model, data, "val")
    assert found.operations == count_ops(model.fuse(), collate([dataset[k] for k in range(6)]).cube)
    titles = [title for title, *_ in tables(found)]
    assert "NeuroBench's metrics, a window" in titles


def test_the_activity_of_a_memory_is_carried_along(data):
    model = tiny_memory()
    cube, num_answers = carried_through(model, path := data / "val" / "clip2_td.dat")
    found = clip_activity(model, open_recording(path), max_windows=num_answers)
    assert found.carried
    rates = {}
    model.fuse()(cube, observe=lambda name, spikes: rates.__setitem__(name, spikes.mean((1, 2, 3))))
    for name, when in found.when.items():
        np.testing.assert_allclose(when, rates[name].numpy(), atol=1e-6)
    alone = clip_activity(model, open_recording(path), mode="windowed", max_windows=1)
    assert (alone.carried, len(alone.events)) == (False, 6)


def study(tmp_path):
    def run(target, seed, ap, rate):
        part = {"ap": ap, "firing_rate": rate, "synaptic": rate * 6e8, "memory_uj": rate * 4e5}
        return {"target": target, "seed": seed, "val": part, "test": part}

    path = tmp_path / "study.json"
    path.write_text(json.dumps({"runs": [run(0.2, 0, 0.27, 0.115), run(0.05, 0, 0.2, 0.05), run(0.03, 1, None, 0.03)]}))
    return path


@pytest.mark.slow
def test_the_page_stands_with_its_pictures(found, model, data, tmp_path):
    clip = clip_activity(model, open_recording(data / "val" / "clip2_td.dat"), max_windows=1)
    page = write_page(
        found, tmp_path, model="<tiny>", clip=("clip2", clip), curve=study(tmp_path), stamp={"commit": "abc"}
    )
    text = page.read_text()
    assert "&lt;tiny&gt;" in text
    assert "<tiny>" not in text
    for name in ("where.png", "when.png", "curve.png"):
        assert (tmp_path / name).stat().st_size > 5000
        assert f'src="{name}"' in text
    assert "does not hold" in text
    assert text.count("<span class=name") == len(found.operations.convolutions) + len(found.operations.neurons)


def test_bars_scale_with_the_largest_whole():
    assert layer_bars({}) == ""
    text = layer_bars({"a.conv": (4e6, 1e6), "b": (2e6, 0.0)})
    assert "width:100.0%" in text
    assert "width:25.0%" in text
    assert "width:50.0%" in text
    assert "1.00 of 4.0 M" in text


NO_ENERGY = '{"runs": [{"target": 0.2, "seed": 0, "test": {"ap": 0.3, "firing_rate": 0.1, "synaptic": 1}}]}'


@pytest.mark.parametrize("text", [None, "{", "[]", '{"runs": []}', '{"runs": [{"target": 1}]}', NO_ENERGY])
def test_what_is_no_study_is_refused(tmp_path, text):
    path = tmp_path / "study.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"study\.json: is no result"):
        read_study(path)


@pytest.mark.slow
def test_the_curve_is_drawn(tmp_path):
    curve_plot(read_study(study(tmp_path)), tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 5000


@pytest.mark.slow
def test_the_command_prints_and_saves(model, data, tmp_path, capsys):
    path = str(weights.save(model, tmp_path / "tiny"))
    assert (
        main(["energy", path, "--data", str(data), "--split", "val", "--measure_s", "0", "--report", str(tmp_path)])
        == 0
    )
    told = capsys.readouterr().out
    for word in ("Operations", "all, a window", "horowitz45", "memory, 32-bit words", "NeuroBench", "does not hold"):
        assert word in told
    assert "joules: not measured" in told
    values = json.loads((tmp_path / "energy.json").read_text())
    assert values["provenance"]["command"]
    assert (tmp_path / "index.html").is_file()


@pytest.mark.slow
def test_recordings_that_do_not_say_their_size_get_a_page_too(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(energy_page, "where_plot", lambda *_: None)
    monkeypatch.setattr(energy_page, "when_plot", lambda *_: None)
    rows = np.random.default_rng(0).integers(0, (40_000, 346, 260, 2), (4000, 4))
    for folder in ("numpy/val", "xml/val"):
        (tmp_path / folder).mkdir(parents=True)
    np.save(tmp_path / "numpy/val/rec_1.npy", rows[rows[:, 0].argsort()])
    (tmp_path / "xml/val/rec_1.xml").write_text(
        "<annotation><object><name>person</name><bndbox><xmin>10</xmin><ymin>20</ymin><xmax>50</xmax><ymax>90</ymax>"
        "</bndbox></object></annotation>"
    )
    path = str(weights.save(tiny_detector(classes=("person",)), tmp_path / "tiny"))
    words = ["energy", path, "--data", f"pedro:{tmp_path}", "--split", "val", "--measure_s", "0"]
    assert main([*words, "--report", str(tmp_path / "page")]) == 0, capsys.readouterr().err
    assert "rec_1" in (tmp_path / "page" / "index.html").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--device", "gpu"], "--device takes cpu, cuda, or one GPU of several as in cuda:1, got 'gpu'"),
        (["--device", "cuda:"], "got 'cuda:'"),
        (["--device", "cpu:1"], "got 'cpu:1'"),
        (["--device", "cuda:99"], "--device cuda:99: torch finds"),
        (["--batch_size", "0"], "--batch_size takes a whole number of at least 1"),
        (["--track"], "--track"),  # scn detect's
        (["--split", "vall"], "has no folder 'vall'; found: train, val"),
        (["--data", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_wrong_words_are_told_in_one_line(data, capsys, words, told):
    assert main(["energy", "nano", "--data", str(data), "--split", "val", "--measure_s", "0", *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_a_wrong_curve_is_refused_before_the_counting(data, tmp_path, capsys):
    assert main(["energy", "nano", "--data", str(data), "--curve", str(tmp_path / "none.json")]) == 2
    assert "firing_rate_study" in capsys.readouterr().err

import dataclasses
import json
import re

import av
import numpy as np
import pytest
import yaml
from tiny import some_events, tiny_detector

from spiking_centernet.cli import parser, values
from spiking_centernet.cli.commands import COMMANDS
from spiking_centernet.cli.program import main
from spiking_centernet.data import read_boxes, write_boxes, write_dat
from spiking_centernet.evaluation import significance
from spiking_centernet.model import weights
from spiking_centernet.structures import BOX_DTYPE
from spiking_centernet.training.config import Recipe, make_recipe
from spiking_centernet.training.spike_penalty import SpikePenalty
from spiking_centernet.visualize.draw import CAPTION_PX

NAMES = sorted(COMMANDS)
RECORDINGS = {
    "icns_roadside_cars": ((260, 346), 10),
    "gen31_person_2s": ((480, 640), 400),
    "imx636_static_noise": ((720, 1280), 400),
    "dvxplorer_static_noise": ((480, 640), 400),
}
"""Recording -> size, milliseconds between detections: few, for large sensors are slow."""


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    return str(weights.save(tiny_detector(), tmp_path_factory.mktemp("weights") / "tiny"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of one split with two recordings of noise and a box at five timestamps each."""
    root = tmp_path_factory.mktemp("data")
    for split in ("train", "val"):
        for k in range(2):
            write_dat(root / split / f"clip{k}_td.dat", some_events(stop_us=1_300_000), (56, 72))
            boxes = np.zeros(5, BOX_DTYPE)
            boxes["ts"] = np.arange(1, 6) * 250_000
            boxes["x"], boxes["y"], boxes["w"], boxes["h"] = 10 + k, 12, 40, 30
            boxes["class_id"] = k
            write_boxes(root / split / f"clip{k}_bbox.npy", boxes)
    return str(root)


def run(capsys, *argv):
    code = main([str(word) for word in argv])
    told = capsys.readouterr()
    return code, told.out, told.err


def made(found):
    """Return the recipe of parsed arguments."""
    return make_recipe({field.name: found[field.name] for field in dataclasses.fields(Recipe)})


def fails(capsys, *argv):
    code, out, err = run(capsys, *argv)
    assert code == 2
    assert out == ""
    assert err.startswith("scn: error: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("argv", [[], ["--help"]])
def test_help_names_every_command(capsys, argv):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert all(name in out for name in NAMES)


@pytest.mark.parametrize("command", NAMES)
def test_every_command_helps_with_an_example_that_parses(capsys, tmp_path, monkeypatch, command):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    out = " ".join(capsys.readouterr().out.split())
    assert f"example: {parser.example(command)}" in out
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "nano_roads.yaml").write_text("epochs: 1\n")
    found, _ = parser.parse(parser.example(command).split()[1:])
    assert found == command


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("scn ")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["trian"], "did you mean 'train'"),
        (["info", "nowhere_td.dat"], "nowhere_td.dat"),
        (["info", "film.avi"], "unknown kind of recording '.avi'"),
        (["info"], "give recordings; see scn info --help"),
        (["val", "nowhere.safetensors", "--data", "x"], "nowhere.safetensors: no such weight file"),
        (["val", "nano"], "give --data; see scn val --help"),
        (["val", "nano", "--data", "x", "--device", "cuda:99"], "--device cuda:99: torch finds"),
        (["detect", "nowhere.safetensors", "x_td.dat"], "nowhere.safetensors"),
        (["detect", "m", "r", "--evry_ms", "3"], "did you mean '--every_ms'"),
        (["simulate", "x", "--seed", "one"], "--seed takes a whole number of at least 0, got 'one'"),
        (["demo", "--clips", "0"], "--clips takes a whole number of at least 1, got '0'"),
        (["train", "nowhere.yaml", "--data", "x", "--out", "y"], "nowhere.yaml: cannot be read"),
    ],
)
def test_errors_are_one_line(capsys, tmp_path, monkeypatch, argv, words):
    monkeypatch.chdir(tmp_path)
    assert words in fails(capsys, *argv)


def test_nothing_is_compiled_for_a_gpu(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    told = fails(capsys, "val", "nano", "--data", "x", "--device", "cuda", "--precision", "int8")
    assert "--precision compiles for the CPU; leave it out with --device cuda" in told


def test_debug_shows_where_an_error_came_from(monkeypatch):
    monkeypatch.setenv("SCN_DEBUG", "1")
    with pytest.raises(Exception, match="nowhere"):
        main(["info", "nowhere_td.dat"])


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("epoch: 3", "unknown recipe field 'epoch'; did you mean 'epochs'"),
        ("network: {neurons: relu}", "unknown network setting 'neurons'; did you mean 'neuron.kind'"),
        ("augmentation: {flips: 1}", "unknown augmentation setting 'flips'; did you mean 'flip'"),
        ("penalty: {targt: 0.1}", "unknown penalty setting 'targt'; did you mean 'target'"),
        ("penalty: {target: 2.0}", "target must be a share between 0 and 1"),
        ("network: {neuron.kind: rely}", "did you mean 'relu'"),
        ("network: {neuron: {tau: fast}}", "neuron.tau must be float"),
        ("epochs: many", 'key "epochs"'),
        ("preset: nanno", "did you mean 'nano'"),
        ("protocol: prophese", "did you mean 'prophesee'"),
        ("- epochs", "must map"),
        ("epochs: [", "is no YAML"),
    ],
)
def test_a_wrong_recipe_is_refused_before_any_work(capsys, tmp_path, recipe, words):
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe)
    assert words in fails(capsys, "train", path, "--data", tmp_path, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_command_line_overrides_the_recipe_and_the_recipe_the_defaults(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("epochs: 7\nlearning_rate: 3e-3\nnetwork: {neuron: {tau: 3e0}}\naugmentation: {flip: 0.25}\n")
    overrides = [
        "--epochs",
        "3",
        "--network.neuron.kind",
        "relu",
        "--network.voxels.num_steps",
        "1",
        "--augmentation.zoom",
        "0",
    ]
    _, found = parser.parse(["train", str(path), "--data", "d", "--out", "o", *overrides])
    recipe = made(found)
    assert (recipe.epochs, recipe.learning_rate, recipe.batch_size) == (3, 3e-3, 8)
    assert recipe.network == {"neuron.tau": 3.0, "neuron.kind": "relu", "voxels.num_steps": 1}
    assert (recipe.augmentation.flip, recipe.augmentation.zoom) == (0.25, 0)
    _, found = parser.parse(["train", str(path), "--data", "d", "--out", "o", "--augmentation", "null"])
    assert made(found).augmentation is None


def test_a_recipe_prices_spikes(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("weights: nano\npenalty: {target: 0.05, of: operations}\n")
    _, found = parser.parse(["train", str(path), "--data", "d", "--out", "o", "--penalty.target", "0.03"])
    assert made(found).penalty == SpikePenalty(target=0.03, of="operations")
    assert made(found).weights == "nano"
    path.write_text("epochs: 1\n")
    _, found = parser.parse(["train", str(path), "--data", "d", "--out", "o"])
    assert made(found).penalty is None


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDINGS)
def test_info_and_detect_on_real_recordings(capsys, tmp_path, recordings_dir, model_path, name):
    path = recordings_dir / name / f"{name}_td.dat"
    (height, width), every_ms = RECORDINGS[name]
    code, out, _ = run(capsys, "info", path)
    assert code == 0
    assert f"{width} x {height}" in out
    code, out, err = run(
        capsys, "detect", model_path, path, "--out", tmp_path, "--every_ms", every_ms, "--min_score", "0.01",
        "--save", "mp4", "json", "npy", "png",
    )  # fmt: skip
    assert (code, err) == (0, "")
    stem = tmp_path / f"{name}_detections"
    found = json.loads(stem.with_suffix(".json").read_text())
    assert found["size_hw"] == [height, width]
    assert found["provenance"]["versions"]["torch"]
    timestamps = found["instants"]
    step_us = every_ms * 1000
    assert [i["t_us"] for i in timestamps] == [timestamps[0]["t_us"] + k * step_us for k in range(len(timestamps))]
    rows = [(i["t_us"], box) for i in timestamps for box in i["boxes"]]
    assert rows
    assert re.search(rf"{len(rows):,} boxes at {len(timestamps)} timestamps", out)
    boxes = read_boxes(tmp_path / f"{name}_detections_bbox.npy")
    assert len(boxes) == len(rows)
    np.testing.assert_array_equal(boxes["ts"], [t_us for t_us, _ in rows])
    np.testing.assert_allclose(boxes["confidence"], [box["score"] for _, box in rows], atol=1e-6)
    np.testing.assert_allclose(boxes["x"] + boxes["w"], [box["xyxy"][2] for _, box in rows], atol=1e-2)
    assert len(np.unique(boxes["track_id"])) == len(boxes)
    assert boxes["x"].min() >= 0
    assert (boxes["x"] + boxes["w"]).max() <= width + 1e-3
    with av.open(str(stem.with_suffix(".mp4"))) as video:
        frames = list(video.decode(video=0))
        assert len(frames) == len(timestamps)
        assert float(video.streams.video[0].average_rate) == pytest.approx(1000 / every_ms, rel=1e-3)
        assert frames[0].width / (frames[0].height - CAPTION_PX) == pytest.approx(width / height, rel=0.01)
    assert stem.with_suffix(".png").is_file()


def test_info_counts_unsorted_events_and_hot_pixels(capsys, tmp_path):
    events = some_events(num=2000, stop_us=1_000_000)
    events["x"][:600], events["y"][:600] = 30, 20
    write_dat(tmp_path / "hot_td.dat", events, (56, 72))
    raw = bytearray((tmp_path / "hot_td.dat").read_bytes())
    head = len(raw) - 8 * len(events)
    # The events 10 and 11 change places.
    raw[head + 80 : head + 96] = raw[head + 88 : head + 96] + raw[head + 80 : head + 88]
    (tmp_path / "hot_td.dat").write_bytes(raw)
    code, out, err = run(capsys, "info", tmp_path / "hot_td.dat")
    assert code == 0
    assert re.search(r"out-of-order events\W+1\W", out)
    assert re.search(r"hot pixels\W+1, 30\.", out)
    assert err.startswith("scn: warning: ")
    assert err.count("\n") == 1


def test_detect_in_nothing_is_an_error(capsys, tmp_path, model_path):
    write_dat(tmp_path / "empty_td.dat", some_events()[:0], (56, 72))
    assert "holds no events" in fails(capsys, "detect", model_path, tmp_path / "empty_td.dat", "--out", tmp_path)
    write_dat(tmp_path / "noise_td.dat", some_events(), (56, 72))
    for option, value, words in (
        ("--save", "mp5", "did you mean 'mp4'"),
        ("--speed", "0", "speed"),
        ("--every_ms", "0", "every_ms"),
        ("--shown_ms", "nan", "shown_ms"),
        ("--min_score", "2", "min_score"),
    ):
        assert words in fails(capsys, "detect", model_path, tmp_path / "noise_td.dat", "--out", tmp_path, option, value)
    assert not list(tmp_path.glob("*detections*"))


@pytest.mark.slow
def test_a_slower_video_has_the_same_frames(capsys, tmp_path, model_path):
    write_dat(tmp_path / "noise_td.dat", some_events(), (56, 72))
    argv = ["detect", model_path, tmp_path / "noise_td.dat", "--out", tmp_path, "--save", "mp4", "--speed", "0.25"]
    assert run(capsys, *argv)[0] == 0
    with av.open(str(tmp_path / "noise_detections.mp4")) as video:
        assert float(video.streams.video[0].average_rate) == pytest.approx(5)
        assert len(list(video.decode(video=0))) == 9


@pytest.mark.slow
def test_val_under_all_protocols(capsys, tmp_path, data, model_path, monkeypatch):
    monkeypatch.setattr(significance, "ENOUGH_RECORDINGS", 2)
    out_dir = tmp_path / "score"
    code, out, err = run(capsys, "val", model_path, "--data", data, "--protocol", "all", "--save", out_dir)
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert "val: 2 recordings, 10 labeled frames" in out
    assert "firing rate" in out
    assert "in 95 % of 500 resamples of the 2 recordings" in out
    saved = json.loads((out_dir / "score.json").read_text())
    interval = saved["ap_interval"]
    assert interval["protocol"] == "prophesee"
    assert interval["low"] <= saved["scores"]["prophesee"]["ap"] <= interval["high"]
    names = {"prophesee", "prophesee-script", "cordone", "none"}
    assert set(saved["scores"]) == names
    # Prophesee skips the first half second, so 2 of 5 timestamps of each recording do not count.
    assert [saved["scores"][n]["num_truth"] for n in ("none", "prophesee")] == [10, 6]
    assert all(saved["scores"][n]["self_ap"] == pytest.approx(1) for n in names)
    assert 0 < saved["firing_rate"] < 1
    assert saved["model"] == model_path
    assert {"command", "commit", "machine", "versions"} <= set(saved["provenance"])
    shown = {"score.json", "predictions.npz", "mosaic.png", "confusion.png", "sizes.png"}
    assert {path.name for path in out_dir.iterdir()} == {*shown, *(f"pr_{n}.png" for n in names)}


def test_val_tells_what_is_wrong(capsys, tmp_path, data, model_path):
    assert "did you mean 'prophesee'" in fails(capsys, "val", model_path, "--data", data, "--protocol", "prophese")
    assert "has no folder 'test'" in fails(capsys, "val", model_path, "--data", data, "--split", "test")
    assert "no such folder" in fails(capsys, "val", model_path, "--data", tmp_path / "nowhere")
    assert "--batch_size takes a whole number" in fails(capsys, "val", model_path, "--data", data, "--batch_size", 0)


@pytest.mark.parametrize("value", ["nan", "inf", "0", "-5"])
def test_impossible_times_are_refused(capsys, value):
    told = fails(capsys, "detect", "nano", "x_td.dat", f"--every_ms={value}")
    assert f"--every_ms takes a number from 0.001 to 3600000 (milliseconds), got '{value}'" in told


def test_milliseconds_become_whole_microseconds():
    assert values.microseconds(0.5) == 500


@pytest.mark.slow
def test_train_runs_resumes_and_refuses_a_taken_folder(capsys, tmp_path, data):
    recipe = {
        "epochs": 1, "batch_size": 2, "log_every": 1, "precision": "float32", "num_workers": 0, "augmentation": None,
        "network": {
            "encoder": {"widths": [8, 8, 8, 16], "convs_per_stage": 1}, "head": {"width": 8}, "neuron.threshold": 1e6,
        },
    }  # fmt: skip
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    argv = ["train", path, "--data", data, "--out", tmp_path / "run"]
    code, out, err = run(capsys, *argv, "--learning_rate", "1e-4")
    assert code == 0
    assert "best.safetensors" in out
    assert "epoch 1/1  step 5/5" in err
    # A threshold no membrane reaches silences every layer, but so few steps say nothing.
    assert "silent layers" not in err
    assert "\x1b" not in err
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["learning_rate"] == 1e-4
    assert "holds a run already" in fails(capsys, *argv)
    assert run(capsys, *argv, "--learning_rate", "1e-4", "--resume")[0] == 0


def test_simulate_says_what_it_made(capsys, tmp_path, monkeypatch):
    from spiking_centernet.simulate import dataset

    asked = {}

    def fake(out, **settings):
        asked.update(settings, out=out)
        for split in ("train", "val"):
            write_dat(tmp_path / "made" / split / "a_td.dat", some_events(), (56, 72))
            write_boxes(tmp_path / "made" / split / "a_bbox.npy", np.zeros(0, BOX_DTYPE))

    monkeypatch.setattr(dataset, "simulate", fake)
    code, out, _ = run(capsys, "simulate", tmp_path / "made", "--seed", 5, "--train", 1, "--val", 1, "--test", 0)
    assert code == 0
    assert (asked["seed"], asked["clips"].train, asked["clips"].test) == (5, 1, 0)
    assert "20,000" in out


def test_doctor_finds_this_machine_and_names_remedies(capsys, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorboard" else real(name))
    monkeypatch.setenv("COLUMNS", "400")
    code, out, _ = run(capsys, "doctor")
    assert code == 0
    assert "the extra [train]" in out
    assert all(word in out for word in ("python", "torch", "bfloat16", "disk", "bundled weights"))


def test_a_missing_optional_package_is_one_line(capsys, tmp_path, data, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "lightning.fabric", None)
    path = tmp_path / "recipe.yaml"
    path.write_text("epochs: 1\n")
    err = fails(capsys, "train", path, "--data", data, "--out", tmp_path / "run")
    assert "training needs lightning.fabric" in err
    assert "the extra [train]" in err
    monkeypatch.setitem(sys.modules, "ray", None)
    err = fails(capsys, "simulate", tmp_path / "roads", "--train", 1, "--val", 0, "--test", 0, "--executor", "ray")
    assert "the executor ray needs ray, which is not installed; pip install ray" in err


def test_a_path_with_brackets_is_no_markup(capsys, tmp_path):
    path = tmp_path / "[red]odd_td.dat"
    write_dat(path, some_events(), (56, 72))
    code, out, _ = run(capsys, "info", path)
    assert code == 0
    assert "[red]odd_td.dat" in out

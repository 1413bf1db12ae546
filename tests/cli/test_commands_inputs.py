"""``scn detect`` with a model and recordings in any order, and ``scn predict``."""

import inspect
import json

import numpy as np
import pytest
from tiny import some_events, tiny_detector

import spiking_centernet as scn
from spiking_centernet.cli.commands.models import split_inputs
from spiking_centernet.cli.program import main
from spiking_centernet.cli.values import DEFAULT_MODEL
from spiking_centernet.data import write_dat
from spiking_centernet.data.convert import coco
from spiking_centernet.errors import ConfigError
from spiking_centernet.model import weights
from spiking_centernet.model.weights import bundled

SIZE_HW = (56, 72)
QUICK = ("--save", "json", "--min_score", "0.05")


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    return str(weights.save(tiny_detector(), tmp_path_factory.mktemp("weights") / "tiny"))


@pytest.fixture
def drives(tmp_path):
    for name in ("a", "b", "far/a"):
        write_dat(tmp_path / "drives" / f"{name}_td.dat", some_events(5_000, 150_000), SIZE_HW)
    return tmp_path / "drives"


def run(capsys, *argv):
    code = main([str(word) for word in argv])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    ("words", "model", "found"),
    [
        (["small", "a.dat"], None, ("small", ["a.dat"])),
        (["a.dat", "small"], None, ("small", ["a.dat"])),
        (["a.dat", "b/*.raw", "sample"], None, ("small-wide-one-step", ["a.dat", "b/*.raw", "sample"])),
        (["mine.safetensors", "a.dat"], None, ("mine.safetensors", ["a.dat"])),
        (["somebody/weights", "a.dat"], None, ("somebody/weights", ["a.dat"])),
        (["small", "a.dat"], "nano", ("nano", ["small", "a.dat"])),
    ],
)
def test_the_model_is_found_among_the_inputs(words, model, found):
    assert split_inputs(words, model) == found


@pytest.mark.parametrize(("words", "told"), [(["nano"], "nano sample"), (["nano", "small", "a.dat"], "several")])
def test_what_is_missing_or_too_much_is_said(words, told):
    with pytest.raises(ConfigError, match=told):
        split_inputs(words, None)


def test_a_misspelt_model_is_not_taken_for_a_recording(capsys, drives):
    code, _, err = run(capsys, "detect", "smal", drives / "a_td.dat")
    assert code == 2
    assert "did you mean 'small'" in err


def test_a_folder_gives_every_recording_its_files(capsys, tmp_path, model_path, drives):
    out = tmp_path / "out"
    code, text, _ = run(capsys, "detect", drives, model_path, "--out", out, *QUICK, "--json")
    assert code == 0
    told = json.loads(text)["recordings"]
    assert [each["recording"] for each in told] == [str(drives / f"{n}_td.dat") for n in ("a", "b", "far/a")]
    for each, name in zip(told, ("a", "b", "far/a"), strict=True):
        assert each["files"]["json"] == str(out / f"{name}_detections.json")
        timestamps = json.loads((out / f"{name}_detections.json").read_text())["instants"]
        assert sum(len(timestamp["boxes"]) for timestamp in timestamps) == each["boxes"] > 0


def test_predict_is_detect(capsys, tmp_path, model_path, drives):
    documents = []
    for command in ("detect", "predict"):
        out = tmp_path / command
        code, text, _ = run(capsys, command, model_path, drives / "a_td.dat", "--out", out, *QUICK)
        assert code == 0
        assert "a_detections.json" in text
        documents.append(json.loads((out / "a_detections.json").read_text())["instants"])
    assert documents[0] == documents[1]


def test_coco_holds_every_box(capsys, tmp_path, model_path, drives):
    argv = ("--save", "coco", "npy", "--min_score", "0.05", "--out", tmp_path)
    code, _, _ = run(capsys, "detect", model_path, drives / "a_td.dat", *argv)
    assert code == 0
    labels = coco.read(tmp_path / "a_detections_coco.json")
    boxes = np.load(tmp_path / "a_detections_bbox.npy")
    assert len(boxes)
    assert labels.size_hw == SIZE_HW
    for name in ("ts", "class_id", "x", "confidence"):
        np.testing.assert_allclose(np.sort(labels.boxes[name]), np.sort(boxes[name]), rtol=1e-5)


def test_3d_boxes_stand_on_the_ground_below_a_camera_of_known_height(capsys, tmp_path, drives):
    tasks = ("detect", "detect3d")
    model = weights.save(tiny_detector(tasks=tasks, **{"head.placing": "ground"}), tmp_path / "solid")
    drive, found = drives / "a_td.dat", {}
    for name, height in (("own", ()), ("low", ("--camera_height_m", 1)), ("high", ("--camera_height_m", 2))):
        out = tmp_path / name
        words = (model, drive, "--out", out, *QUICK, "--focal_px", 60, "--pitch_deg", 10)
        code, _, err = run(capsys, "detect", *words, *height)
        assert code == 0, err
        (file,) = out.rglob("*.json")
        boxes = [box for one in json.loads(file.read_text())["instants"] for box in one["boxes"]]
        found[name] = np.array([box["box3d"]["location"][2] for box in boxes])
    assert len(found["own"]) == len(found["low"]) == len(found["high"]) > 0
    assert (found["high"] >= found["low"]).all()
    assert (found["high"] > found["low"]).any()
    assert (found["own"] != found["low"]).any()
    free = weights.save(tiny_detector(tasks=tasks), tmp_path / "free")
    for other, told in (
        (free, "head.placing: free"),
        (weights.save(tiny_detector(), tmp_path / "flat"), "no 3D boxes"),
    ):
        for command in ("detect", "stream"):
            code, _, err = run(capsys, command, other, drive, "--focal_px", 60, "--camera_height_m", 1.5)
            assert code == 2
            assert told in err
            assert "small-one-step-3d-pose" in err
    for option, told in (("--camera_height_m", "--focal_px"), ("--camera_hight_m", "--camera_height_m")):
        code, _, err = run(capsys, "detect", model, drive, option, 1.5)
        assert code == 2
        assert told in err


def test_a_device_that_is_not_there(capsys, drives, model_path):
    code, _, err = run(capsys, "detect", model_path, drives / "a_td.dat", "--device", "cuda:99")
    assert code == 2
    assert "--device cuda:99" in err


def test_the_command_and_the_function_take_the_same_model_where_none_is_named():
    assert inspect.signature(scn.predict).parameters["model"].default == DEFAULT_MODEL
    assert DEFAULT_MODEL in bundled()

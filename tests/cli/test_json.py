"""``--json``: one JSON document on standard output and nothing else there."""

import json
import math

import numpy as np
import pytest
import toy_roads
import yaml
from tiny import some_events, tiny_detector

from spiking_centernet.cli import output
from spiking_centernet.cli.commands import COMMANDS
from spiking_centernet.cli.program import main
from spiking_centernet.data import read_boxes, write_dat
from spiking_centernet.data.io import sample
from spiking_centernet.model import weights

STREAMS_LINES = {"stream", "view"}
"""Writes a line of JSON for every result anyway."""


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    return str(weights.save(tiny_detector(), tmp_path_factory.mktemp("weights") / "tiny"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = toy_roads.write_folder(tmp_path_factory.mktemp("toy") / "data")
    (root / "test").symlink_to(root / "val")
    return root


def document(capsys, *words):
    code = main([*map(str, words), "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert captured.out.endswith("}\n")
    return json.loads(captured.out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_every_command_has_the_option():
    assert {name for name, f in COMMANDS.items() if "json" not in f.__annotations__} == STREAMS_LINES


def test_plain_values():
    assert output.plain({1: (math.nan, math.inf, 1.5), "a": np.float32(0.5), "b": np.arange(2)}) == {
        "1": [None, None, 1.5], "a": 0.5, "b": [0, 1],
    }  # fmt: skip


def test_info(capsys, tmp_path):
    for name in ("a", "b"):
        write_dat(tmp_path / f"{name}_td.dat", some_events(num=2000), (56, 72))
    first, second = document(capsys, "info", tmp_path / "a_td.dat", tmp_path / "b_td.dat")["recordings"]
    assert (first["size_hw"], first["num_events"]) == ([56, 72], 2000)
    assert second["path"] == str(tmp_path / "b_td.dat")


def test_convert(capsys, tmp_path):
    boxes = sample("sample-real").with_name("icns_roadside_cars_bbox.npy")
    done = document(capsys, "convert", boxes, tmp_path / "yolo", "--to", "yolo")
    assert done["target"] == str(tmp_path / "yolo")
    assert done["lost"] == ["track ids (YOLO's labels have none)"]


def test_detect(capsys, tmp_path, model_path):
    words = ["--save", "npy", "json", "--out", tmp_path, "--min_score", "0.05", "--every_ms", "50"]
    done = document(capsys, "detect", model_path, sample("sample-real"), *words)
    assert set(done["files"]) == {"npy", "json"}
    assert done["boxes"] == len(read_boxes(done["files"]["npy"])) > 0
    assert done["tracks"] is None


@pytest.mark.slow
def test_val_with_corruptions(capsys, tmp_path, model_path, data):
    words = ["--data", data, "--protocol", "none", "prophesee", "--corrupt", "polarity_flip", "--save", tmp_path]
    done = document(capsys, "val", model_path, *words)
    assert set(done["scores"]) == {"none", "prophesee"}
    assert done["scores"]["none"]["ap"] == json.loads((tmp_path / "score.json").read_text())["scores"]["none"]["ap"]
    assert len(done["robustness"]["corruptions"]["polarity_flip"]["severities"]) == 5
    assert {str(path) for path in tmp_path.iterdir()} == set(done["files"])


@pytest.mark.slow
def test_energy(capsys, tmp_path, model_path, data):
    words = ["--data", data, "--split", "val", "--measure_s", "0", "--report", tmp_path / "page"]
    done = document(capsys, "energy", model_path, *words)
    assert done["per_window"]["synaptic"] > 0
    assert str(tmp_path / "page" / "index.html") in done["files"]


@pytest.mark.slow
def test_train_and_study(capsys, tmp_path, data):
    recipe = {"epochs": 1, "batch_size": 8, "precision": "float32", "num_workers": 0, "protocol": "none",
              "network": toy_roads.NETWORK | {"encoder.widths": [8, 8, 16, 16]}}  # fmt: skip
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    done = document(capsys, "train", path, "--data", data, "--out", tmp_path / "run")
    assert done["best"] == str(tmp_path / "run" / "best.safetensors")
    plan = {"recipe": "recipe.yaml", "rows": {"a": {}}, "seeds": [0], "protocol": "none"}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(plan))
    words = ["study", tmp_path / "study.yaml", "--data", data, "--out", tmp_path / "study"]
    assert [run["row"] for run in document(capsys, *words, "--plan")["runs"]] == ["a"]
    assert [line["row"] for line in document(capsys, *words)["lines"]] == ["a"]


def test_simulate(capsys, tmp_path, monkeypatch, data):
    from spiking_centernet.simulate import dataset

    monkeypatch.setattr(dataset, "simulate", lambda out, **settings: None)
    done = document(capsys, "simulate", data)
    assert done["splits"]["train"]["boxes"] == 17


@pytest.mark.slow
def test_export(capsys, tmp_path, model_path):
    pytest.importorskip("nir", reason="the extra [nir] is not installed")
    flat = str(
        weights.save(tiny_detector(encoder={"widths": (8, 8, 16)}, decoder={"num_blocks": 1}), tmp_path / "flat")
    )
    done = document(capsys, "export", flat, tmp_path / "tiny.nir", "--size", "72x56", "--check")
    assert done["report"]["num_windows"] == 4
    assert done["files"] == [str(tmp_path / "tiny.nir"), str(tmp_path / "tiny.nir.check.json")]


def test_bench(capsys, tmp_path, monkeypatch):
    from spiking_centernet.experiments import bench

    def quick(out, *, threads, **settings):
        return {"races": [], "missing": {}, "settings": {"threads": threads}}

    monkeypatch.setattr(bench, "run_bench", quick)
    done = document(capsys, "bench", "--out", tmp_path, "--threads", "1", "2")
    assert done["settings"]["threads"] == [1, 2]


def test_demo(capsys, tmp_path, monkeypatch, model_path, data):
    from spiking_centernet.evaluation import report
    from spiking_centernet.experiments import demo

    def quick(out, **settings):
        run = demo.DemoRun(out / "index.html", {"page": out / "index.html"}, {"all": 1.0})
        run.card = report.score(weights.load(model_path), data, protocols=("none",))
        run.real = demo.RealCheck(14, 8, 0, 2, 2)
        return run

    monkeypatch.setattr(demo, "run_demo", quick)
    done = document(capsys, "demo", "--out", tmp_path)
    assert done["real_recording"]["num_found"] == 8
    assert done["page"] == str(tmp_path / "index.html")


def test_doctor(capsys):
    done = document(capsys, "doctor")
    assert {"python", "torch", "native kernels"} <= {finding["what"] for finding in done["findings"]}
    assert done["ok"] == all(finding["ok"] for finding in done["findings"])

"""The study of accuracy over firing rate: it runs on the toy folder, skips what is done, refuses another recipe."""

import json
import shutil

import pytest
import toy_roads
import yaml
from benchmark_files import load_benchmark

from spiking_centernet.experiments.energy_page import read_study
from spiking_centernet.training.trainer import train


@pytest.fixture(scope="module")
def study():
    return load_benchmark("firing_rate_study")


def test_the_recipe_of_the_study_is_one(study):
    recipe = study.recipe_of(study.RECIPE, 0.04, 2, None)
    assert (recipe.penalty.target, recipe.seed, recipe.weights) == (0.04, 2, "nano")
    assert recipe.val_every == recipe.epochs  # one validation: the last weights are the best ones


def test_the_conclusion_looks_at_validation_alone(study):
    def run(target, ap_val, ap_test, rate):
        val = {"ap": ap_val, "firing_rate": rate}
        return {"target": target, "seed": 0, "val": val, "test": val | {"ap": ap_test}}

    runs = [
        run(0.2, 0.4, 0.1, 0.1),
        run(0.05, 0.39, 0.0, 0.05),
        run(0.04, 0.381, 0.0, 0.04),
        run(0.03, 0.3, 0.9, 0.03),
    ]
    found = study.conclusion(runs)
    assert found["chosen_on_val"] == 0.04
    assert found["under_break_even_at_95_percent_of_ap"] is True
    assert [row["target"] for row in found["by_target"]] == [0.2, 0.05, 0.04, 0.03]
    assert study.conclusion(runs[:1])["chosen_on_val"] is None
    assert study.conclusion([run(0.2, None, None, 0.1), run(0.05, None, None, 0.05)])["chosen_on_val"] is None


@pytest.mark.slow
@pytest.mark.thorough
def test_the_study_runs_and_goes_on(study, tmp_path, monkeypatch, capsys):
    data = toy_roads.write_folder(tmp_path / "data")
    shutil.copytree(data / "val", data / "test")
    train(toy_roads.recipe(epochs=1), data, out=tmp_path / "start")
    fields = {
        "network": toy_roads.NETWORK | {"encoder.widths": list(toy_roads.NETWORK["encoder.widths"])},
        "weights": str(tmp_path / "start"),
        "epochs": 1, "batch_size": 4, "precision": "float32", "num_workers": 0, "penalty": {"target": 0.1},
    }  # fmt: skip
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(fields))
    monkeypatch.setattr(study, "TARGETS", (0.9, 0.05))
    words = ["--data", data, "--out", tmp_path / "runs", "--recipe", recipe, "--seeds", 1, "--results", tmp_path]
    words = [str(word) for word in (*words, "--plot", tmp_path / "curve.png")]
    study.main(words)
    found = json.loads((tmp_path / "firing_rate_study.json").read_text())
    assert [run["target"] for run in found["runs"]] == [0.9, 0.05]
    assert found["runs"] == read_study(tmp_path / "firing_rate_study.json")
    assert found["runs"][0]["test"]["synaptic"] > 0
    assert (tmp_path / "curve.png").is_file()

    def refuse(*_, **__):
        raise AssertionError("a finished run was trained again")

    monkeypatch.setattr(study, "train", refuse)
    study.main(words)
    assert json.loads((tmp_path / "firing_rate_study.json").read_text())["runs"] == found["runs"]
    recipe.write_text(yaml.safe_dump(fields | {"learning_rate": 1e-3}))
    with pytest.raises(SystemExit, match="another recipe"):
        study.main(words)
    capsys.readouterr()

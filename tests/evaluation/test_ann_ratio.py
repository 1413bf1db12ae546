"""``benchmarks/ann_ratio.py``: a spiking network over its ANN counterpart."""

import json
import sys

import pytest
import toy_roads
from benchmark_files import load_benchmark
from tiny import FEW_LAYERS

import spiking_centernet as scn
from spiking_centernet.errors import ConfigError
from spiking_centernet.model.weights import save


@pytest.fixture(scope="module")
def benchmark():
    return load_benchmark("ann_ratio")


def test_shares_are_of_the_counterparts_scores(benchmark):
    shares = benchmark.shares({"ap": 0.3, "pose": 0.1, "detect3d": None}, {"ap": 0.4, "pose": 0.0, "detect3d": 1})
    assert shares == {"ap": pytest.approx(0.75), "pose": None, "detect3d": None}


def test_only_a_network_and_its_counterpart_make_a_pair(benchmark):
    snn, ann = scn.build("nano"), scn.build("nano", **{"neuron.kind": "relu", "voxels.num_steps": 1})
    benchmark.same_task(snn, ann, "a=b")
    other = scn.build("nano", classes=["person"], **{"neuron.kind": "relu"})
    pictures = scn.build("nano", **{"neuron.kind": "relu", "voxels.mode": "direct"})
    for first, second, what in (
        (ann, snn, "give a spiking network"), (snn, snn, "give a spiking network"), (snn, other, "classes differ"),
        (snn, pictures, "one sees pictures"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=what):
            benchmark.same_task(first, second, "a=b")


def test_windows_of_all_parts_of_a_training_count(benchmark, tmp_path, monkeypatch):
    """Two runs before the weights' own: one from nothing, one from that; their logs end with a validation's row."""
    for name in ("RECIPES", "RESULTS"):
        monkeypatch.setattr(benchmark, name, tmp_path)
    (tmp_path / "first.yaml").write_text("batch_size: 32\n")
    (tmp_path / "first_training.csv").write_text("step,loss\n1,2.0\n10,1.5\n10,\n")
    (tmp_path / "second.yaml").write_text("batch_size: 8\nweights: runs/first\n")
    (tmp_path / "second_training.csv").write_text("step,loss\n1,2.0\n5,\n")
    own = {"step": 3, "recipe": {"batch_size": 8, "weights": "runs/second"}}
    save(scn.build("nano", **FEW_LAYERS), tmp_path / "own", notes=own)
    assert benchmark.windows_of(str(tmp_path / "own.safetensors")) == 3 * 8 + 5 * 8 + 10 * 32


def test_bundled_weights_that_a_training_started_from_count(benchmark):
    assert benchmark.windows_before("runs/nano_integer") == benchmark.windows_of("nano") + 1132 * 8


@pytest.mark.slow
def test_pairs_are_kept_and_not_measured_twice(benchmark, tmp_path, monkeypatch, capsys):
    data = toy_roads.write_folder(tmp_path / "data")
    for name, settings in (("my_snn", {}), ("my_relu", {"neuron.kind": "relu", "voxels.num_steps": 1})):
        noted = {"step": 7, "recipe": {"batch_size": 4, "weights": None}}
        save(scn.build("nano", **FEW_LAYERS, **settings), tmp_path / name, notes=noted)
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path)
    (tmp_path / "ann_ratio.json").write_text('{"pairs": {"other": {}}}')
    pair = f"{tmp_path}/my_snn.safetensors={tmp_path}/my_relu.safetensors"
    monkeypatch.setattr(sys, "argv", ["ann_ratio.py", "--data", str(data), "--split", "val", "--pairs", pair])
    benchmark.main()
    written = (tmp_path / "ann_ratio.json").read_bytes()
    pairs = json.loads(written)["pairs"]
    assert set(pairs) == {"other", "my-snn"}
    row = pairs["my-snn"]
    assert set(row["share"]) == {"ap", "ap50"}
    assert (row["snn"]["protocol"], row["ann"]["windows"], row["of"]["split"]) == ("prophesee", 28, "val")
    benchmark.main()
    assert "measured already" in capsys.readouterr().out
    assert (tmp_path / "ann_ratio.json").read_bytes() == written

import json
import os
import pickle
import sys
import time

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from spiking_centernet.errors import WeightsError
from spiking_centernet.model import build, weights

TINY = {"encoder.widths": (4, 6, 8), "decoder.num_blocks": 1, "head.width": 4, "encoder.convs_per_stage": 1}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build("nano", deployment={"score_threshold": 0.42}, **TINY)


@pytest.fixture
def path(model, tmp_path):
    return weights.save(model, tmp_path / "tiny.safetensors", notes={"ap": 0.25, "recipe": {"seed": 3}})


def rewritten(path, change):
    """Write the file again with its tensors and header changed in place by ``change``."""
    with safe_open(path, framework="pt") as file:
        header, tensors = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    change(tensors, header)
    other = path.with_name("changed.safetensors")
    save_file(tensors, other, header)
    return other


def set_config(**values):
    def change(_, header):
        header["config"] = json.dumps(json.loads(header["config"]) | values)

    return change


def test_loading_gives_back_what_was_saved(model, path):
    loaded = weights.load(path)
    assert loaded.config == model.config
    assert not loaded.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    cube = torch.ones(2, 1, 4, 20, 24)
    assert torch.equal(loaded(cube)[0].heatmap, model.eval()(cube)[0].heatmap)


def test_the_header_holds_format_configuration_and_notes(path):
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    assert header["format"] == "spiking-centernet 2"
    assert json.loads(header["config"])["encoder"]["widths"] == [4, 6, 8]
    assert weights.notes(path) == {"ap": 0.25, "recipe": {"seed": 3}}


def test_the_suffix_is_added_and_nothing_else_is_left(model, tmp_path):
    assert weights.save(model, tmp_path / "deep" / "best").name == "best.safetensors"
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["best.safetensors"]


def test_a_run_folder_stands_for_its_best_weights(model, tmp_path):
    with pytest.raises(WeightsError, match=r"holds no best\.safetensors"):
        weights.load(tmp_path)
    weights.save(model, tmp_path / "model")
    assert weights.find(tmp_path).name == "model.safetensors"
    weights.save(model, tmp_path / "best")
    assert weights.find(tmp_path).name == "best.safetensors"


def test_a_fused_detector_is_not_saved(model, tmp_path):
    with pytest.raises(WeightsError, match="fused"):
        weights.save(model.fuse(), tmp_path / "x")


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


@pytest.mark.parametrize("name", ["evil.pt", "evil.ckpt", "evil.safetensors"])
def test_a_pickle_is_refused_unread(tmp_path, name):
    (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(WeightsError, match=r"not a safetensors file.*pickled checkpoints .* refused"):
        weights.load(tmp_path / name)


@pytest.mark.parametrize("keep", [0, 4, 200, -1])
def test_a_truncated_file_is_refused(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match="not a safetensors file"):
        weights.load(path)


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(WeightsError, match="says format None, expected 'spiking-centernet 2'"):
        weights.load(tmp_path / "foreign.safetensors")


STEM = "encoder.stem.conv.weight"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t, h: t.pop(STEM), f"lacks {STEM}"),
        (lambda t, h: t.update(extra=torch.zeros(1)), "holds the unknown tensor extra"),
        (lambda t, h: t.update({STEM: torch.zeros(1, 2, 3, 3)}), rf"{STEM} is \[1, 2, 3, 3\], .* says \[4, 4, 7, 7\]"),
        (lambda t, h: h.pop("config"), "its header is damaged"),
        (lambda t, h: h.update(config="{"), "its header is damaged"),
        (lambda t, h: h.update(config="[]"), "its configuration does not make a network"),
        (lambda t, h: h.update(config="3"), "its configuration does not make a network"),
        (lambda t, h: h.update(format="spiking-centernet 3"), "says format 'spiking-centernet 3'"),
        (set_config(head={"widht": 3}), "unknown network setting 'head.widht'; did you mean 'head.width'"),
        (set_config(head={"width": "4"}), "head.width must be int, got '4'"),
        (set_config(head={"width": 8}), "the file does not belong|its configuration says"),
        (set_config(encoder={"widths": ["a", "b"]}), "encoder.widths must hold int"),
        (set_config(encoder={"widths": 5}), "encoder.widths must be tuple, got 5"),
        (set_config(neuron={"tau": 0.5}), "tau must be above 1"),
        (set_config(neuron={"soft_reset": 1}), "neuron.soft_reset must be bool, got 1"),
        (set_config(neuron="plif"), "neuron must map settings to values, got 'plif'"),
        (set_config(voxels={"num_steps": True}), "voxels.num_steps must be int, got True"),
    ],
)
def test_damaged_contents_are_refused_by_name(path, change, told):
    other = rewritten(path, change)
    with pytest.raises(WeightsError, match=told) as caught:
        weights.load(other)
    assert str(other) in str(caught.value)


@pytest.mark.parametrize("name", ["nanno", "weights.safetensors", "/no/such/file", "a/b/c"])
def test_a_path_that_is_not_there_is_refused_without_asking_the_hub(name, monkeypatch):
    monkeypatch.setattr(weights, "_from_hub", lambda _: pytest.fail("asked the network for a path"))
    with pytest.raises(WeightsError, match=f"{name}: no such weight file"):
        weights.load(name)


def test_a_misspelt_bundled_name_is_corrected(monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "bundled", lambda: {"nano": tmp_path / "nano.safetensors"})
    with pytest.raises(WeightsError, match="did you mean 'nano'"):
        weights.load("nanno")


def load_from_hub(name, folder):
    os.chdir(folder)
    time.sleep = lambda seconds: None  # the hub's client waits half a minute between its attempts
    with pytest.raises(WeightsError) as caught:
        weights.load(name)
    sys.stdout.write(f"REFUSED {caught.value}\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"HF_HUB_OFFLINE": "1"},
        {"HF_ENDPOINT": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"},
    ],
    ids=["offline", "unreachable"],
)
def test_a_hub_name_without_a_network_says_so(environment, in_new_process, tmp_path):
    done = in_new_process(load_from_hub, "someone/network", tmp_path, HF_HOME=str(tmp_path), **environment)
    assert done.stdout.startswith("REFUSED someone/network: neither a file here nor a model on the hub"), done.stderr

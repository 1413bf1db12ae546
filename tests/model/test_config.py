"""Configurations: nested and by dotted name, as JSON, and those of files that hold them flat."""

import dataclasses
import json
from typing import get_args

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file

from spiking_centernet.errors import ConfigError, WeightsError
from spiking_centernet.joint_sets import JOINTS_13
from spiking_centernet.model import PRESETS, DetectorConfig, NeuronConfig, build, weights
from spiking_centernet.model.config import Surrogate
from spiking_centernet.model.config_dict import (
    FORMAT_1_NAMES,
    config_from_dict,
    config_to_dict,
    differences,
    flat,
    nested_from_format_1,
    numbers_from_text,
    with_changes,
)
from spiking_centernet.ops.surrogate import SURROGATES
from spiking_centernet.training.run_dir import read_config


@pytest.fixture(scope="module")
def old(golden_dir):
    return json.loads((golden_dir / "config_format_1.json").read_text())


def test_no_change_is_the_preset():
    assert build("nano").config == PRESETS["nano"]
    assert config_from_dict({}) == DetectorConfig() == PRESETS["paper"]


@pytest.mark.parametrize(
    "changes",
    [
        {"neuron": {"kind": "relu", "threshold": 0.5}, "encoder": {"widths": [4, 8]}, "decoder": {"num_blocks": 1}},
        {"neuron.kind": "relu", "neuron.threshold": 0.5, "encoder.widths": (4, 8), "decoder.num_blocks": 1},
        {"neuron": {"kind": "relu"}, "neuron.threshold": 0.5, "encoder.widths": [4, 8], "decoder": {"num_blocks": 1}},
        {"neuron": NeuronConfig(kind="relu", threshold=0.5), "encoder.widths": [4, 8], "decoder.num_blocks": 1},
    ],
)
def test_nested_dotted_and_mixed_changes_are_the_same(changes):
    config = with_changes(PRESETS["nano"], changes)
    assert (config.neuron, config.encoder.widths) == (NeuronConfig(kind="relu", threshold=0.5), (4, 8))
    assert config.decoder == dataclasses.replace(PRESETS["nano"].decoder, num_blocks=1)
    assert PRESETS["nano"].neuron.kind == "plif"


def test_of_two_changes_of_one_setting_the_later_counts():
    assert flat({"neuron.tau": 3.0, "neuron": {"tau": 4.0}}) == {"neuron.tau": 4.0}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"neuron": 3}, "neuron must map settings to values, got 3; did you mean 'neuron.kind'"),
        ({"encoder": None}, "encoder must map settings to values, got None; known: encoder.widths"),
        ({"neuron": {"treshold": 1.0}}, "unknown network setting 'neuron.treshold'; did you mean 'neuron.threshold'"),
        ({"neuron.kind.x": 1.0}, "unknown network setting 'neuron.kind.x'"),
        ({"bins": 3}, "did you mean 'voxels.bins'"),
        ({"decoder_blocks": 3}, "did you mean 'decoder.num_blocks'"),
        ({"neuron.soft_reset": 1}, "neuron.soft_reset must be bool, got 1"),
        ({"encoder.widths": "ab"}, "encoder.widths must be tuple"),
        ({"neuron.kind": 3}, "neuron.kind must be str, got 3"),
        ({"decoder.kind": "iner"}, "unknown decoder.kind 'iner'; did you mean 'inner'"),
        ({"neuron.tau": float("nan")}, "neuron.tau must be finite"),
        ({"voxels.num_steps": 1001}, "voxels.num_steps must be at most 1000"),
        ({"classes": ["a"] * 1001}, "at most 1000 values"),
    ],
)
def test_wrong_changes_are_refused_by_name(changes, told):
    with pytest.raises(ConfigError, match=told):
        with_changes(PRESETS["nano"], changes)


@pytest.mark.parametrize("make", [lambda: NeuronConfig(kind="plfi"), lambda: NeuronConfig(surrogate="atn")])  # pyright: ignore
def test_a_configuration_checks_its_choices_itself(make):
    with pytest.raises(ConfigError, match=r"unknown neuron.*did you mean"):
        make()


def test_every_surrogate_can_be_chosen():
    assert set(get_args(Surrogate)) == set(SURROGATES)


def test_numbers_left_as_text_are_read_where_a_number_belongs():
    assert numbers_from_text({"neuron": {"tau": "2e0", "kind": "lif"}, "voxels.num_steps": "3"}) == {
        "neuron.tau": 2.0, "neuron.kind": "lif", "voxels.num_steps": 3,
    }  # fmt: skip
    assert numbers_from_text({"neuron.tau": "fast"}) == {"neuron.tau": "fast"}


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_configuration_survives_the_round_trip_through_json(name):
    config = with_changes(PRESETS[name], {"neuron.tau": 3.0, "classes": ("a",)})
    assert config_from_dict(json.loads(json.dumps(config_to_dict(config)))) == config
    assert differences(config, PRESETS[name]) == {"classes": (["a"], ["car", "pedestrian"]), "neuron.tau": (3.0, 2.0)}


def test_every_field_of_format_1_is_nested(old):
    assert set(old["flat"]) == set(FORMAT_1_NAMES)
    assert nested_from_format_1(old["flat"]) == old["nested"]
    config = config_from_dict(old["nested"])
    # What came later keeps its default.
    later = {"sizes": "linear", "edges": "clipped", "box_loss": "l1", "focal_px": 304.0, "readout_steps": 0}
    later |= {"quality": 0.0, "averaging": 0.0, "step_weights": "equal", "placing": "free"}
    later |= {"joints": list(JOINTS_13.names), "joint_units": "cells", "joint_sides": "named"}
    later |= {"pose_classes": ["pedestrian"]}
    expected = {**old["nested"], "tasks": ["detect"], "head": {**old["nested"]["head"], **later}}
    expected["deployment"] = {**expected["deployment"], "trained_hw": [240, 304], "score_fit": [0.0, 1.0, 0.0]}
    expected["voxels"] = {**expected["voxels"], "num_events": 0, "least_us": 10_000}
    expected["recurrent"] = {"kind": "none", "kernel": 3, "half_life_steps": 100.0}
    expected["voxels"] |= {"colors": 3, "frame_hw": [240, 304]}
    expected["neuron"] = {**expected["neuron"], "levels": 4}
    assert config_to_dict(config) == expected
    # Every setting differs from its default, so that none can be forgotten or mixed up.
    assert len(differences(config, DetectorConfig())) == len(FORMAT_1_NAMES)


@pytest.mark.parametrize("field", sorted(FORMAT_1_NAMES))
def test_each_field_of_format_1_alone_changes_its_setting_alone(old, field):
    config = config_from_dict(nested_from_format_1({"decoder_blocks": 1} | {field: old["flat"][field]}))
    usual = with_changes(DetectorConfig(), {"decoder.num_blocks": 1})
    assert list(differences(config, usual)) == ([] if field == "decoder_blocks" else [FORMAT_1_NAMES[field]])


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"head_widht": 3}, "unknown network setting 'head_widht'; did you mean 'head_width'"),
        ({"in_channels": 3}, "in_channels must be an even number"),
        ({"in_channels": "4"}, "in_channels must be an even number"),
        ([1], "must be a mapping"),
    ],
)
def test_a_damaged_configuration_of_format_1_is_refused(values, told):
    with pytest.raises(ConfigError, match=told):
        nested_from_format_1(values)


def as_format_1(path, values, target):
    """Write a weight file as version 0.1.0 did."""
    with safe_open(path, framework="pt") as file:
        tensors, notes = {k: file.get_tensor(k) for k in file.keys()}, file.metadata()["notes"]  # noqa: SIM118
    save_file(tensors, target, {"format": "spiking-centernet 1", "config": json.dumps(values), "notes": notes})
    return target


def test_a_weight_file_of_format_1_loads(old, tmp_path):
    model = build("nano", **old["nested"])
    path = as_format_1(
        weights.save(model, tmp_path / "new", notes={"ap": 0.5}), old["flat"], tmp_path / "old.safetensors"
    )
    loaded = weights.load(path)
    assert loaded.config == model.config
    assert weights.notes(path) == {"ap": 0.5}
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())
    bad = as_format_1(path, old["flat"] | {"in_channels": 3}, tmp_path / "bad.safetensors")
    with pytest.raises(WeightsError, match=r"bad\.safetensors: its configuration does not make a network: in_channels"):
        weights.load(bad)


@pytest.mark.parametrize("name", ["nano", "nano-nir", "nano-robust", "nano-sparse", "small"])
def test_bundled_weights_of_format_1_keep_their_configuration(name):
    with safe_open(weights.bundled()[name], framework="pt") as file:
        header = file.metadata()
    assert header["format"] == "spiking-centernet 1"
    values, config = json.loads(header["config"]), weights.load(name).config
    assert values.pop("in_channels") == config.voxels.channels
    held = flat(config_to_dict(config))
    assert {field: held[FORMAT_1_NAMES[field]] for field in values} == values


def test_the_configuration_of_an_old_run_folder_is_nested_when_read(old, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"preset": "nano", "network": old["flat"]}))
    assert read_config(path) == {"preset": "nano", "network": old["nested"]}
    path.write_text(yaml.safe_dump({"network": old["flat"] | {"width": 3}}))
    with pytest.raises(ConfigError, match=r"config\.yaml: unknown network setting 'width'"):
        read_config(path)

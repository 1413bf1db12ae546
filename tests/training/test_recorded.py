"""A run begun by an earlier version of the package goes on; one of another recipe is refused, setting by setting."""

import dataclasses
import json

import pytest
import yaml

from spiking_centernet.errors import ConfigError
from spiking_centernet.model.config_dict import config_to_dict
from spiking_centernet.training.config import Recipe, config_of
from spiking_centernet.training.recorded import changed_settings, told
from spiking_centernet.training.run_dir import RunFolder
from spiking_centernet.training.spike_penalty import SpikePenalty


def resolved(**fields):
    recipe = Recipe(preset="nano", penalty=SpikePenalty(target=0.05), **fields)
    return json.loads(
        json.dumps(dataclasses.asdict(recipe) | {"network": config_to_dict(config_of(recipe)), "data": "roads"})
    )


def leaves(values, path=()):
    for name, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, name))
        else:
            yield *path, name


def without(values, path):
    copy = json.loads(json.dumps(values))
    inner = copy
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return copy


def test_a_setting_that_came_later_has_its_default():
    now = resolved()
    # What every run of a preset says: a file without it is no file of an earlier version.
    said = {("preset",), ("data",), ("network", "encoder", "widths"), ("penalty", "target")}
    refused = set()
    for path in leaves(now):
        changed = changed_settings(without(now, path), now)
        assert set(changed) <= {".".join(path)}
        if changed:
            refused.add(path)
    assert said <= refused
    assert {path[0] for path in refused} <= {"preset", "data", "network", "penalty"}
    for later in (("network", "head", "joint_sides"), ("augmentation", "zoom_range"), ("penalty", "of"), ("answers",)):
        assert later in leaves(now)
        assert later not in refused


@pytest.mark.parametrize("group", ["augmentation", "distillation", "penalty"])
def test_a_group_of_settings_that_came_later_has_its_default(group):
    now = resolved()
    changed = changed_settings(without(now, [group]), now)
    assert changed == ({group: (None, now[group])} if group == "penalty" else {})


@pytest.mark.parametrize(
    ("fields", "name", "both"),
    [
        ({"network": {"head.joint_sides": "ordered"}}, "network.head.joint_sides", ("named", "ordered")),
        ({"learning_rate": 0.1}, "learning_rate", (0.002, 0.1)),
        ({"task_weights": {"detect": 2.0}}, "task_weights", (None, {"detect": 2.0})),
    ],
)
def test_another_value_is_told_by_its_name_alone(fields, name, both):
    before = resolved()
    changed = changed_settings(before, resolved(**fields))
    assert changed == {name: both}
    assert told(changed) == f"{name} was {both[0]!r}, is {both[1]!r}"
    # The other way round, and from a file that did not know the setting yet.
    assert changed_settings(resolved(**fields), before) == {name: both[::-1]}
    assert changed_settings(without(before, name.split(".")), resolved(**fields)) == {name: both}


def test_what_depends_on_the_machine_may_change(tmp_path):
    before = resolved()
    free = {"num_threads": 3, "num_workers": 2, "logger": "wandb", "checkpoint_every": 7}
    assert changed_settings(before, before | free) == {}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(before), encoding="utf-8")
    now = before | {"num_threads": 3, "checkpoint_every": 7}
    RunFolder(tmp_path, now, resume=True)
    assert yaml.safe_load((tmp_path / "config.yaml").read_text(encoding="utf-8")) == now


def test_a_run_folder_of_an_earlier_version_is_resumed(tmp_path):
    now = resolved()
    before = without(without(now, ("network", "head", "joint_sides")), ("select_by",))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(before), encoding="utf-8")
    RunFolder(tmp_path, now, resume=True)
    assert yaml.safe_load((tmp_path / "config.yaml").read_text(encoding="utf-8")) == now
    with pytest.raises(
        ConfigError, match=r"another configuration: network\.neuron\.kind was 'plif', is 'lif'; give back"
    ):
        RunFolder(tmp_path, resolved(network={"neuron.kind": "lif"}), resume=True)

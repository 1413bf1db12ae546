"""What a recipe takes from the data: classes, and which recipe suits."""

import logging

import numpy as np
import pytest
import torch
import toy_roads
import yaml

import spiking_centernet as scn
from spiking_centernet.cli import parser
from spiking_centernet.data import Augmentation
from spiking_centernet.errors import ConfigError, DatasetError
from spiking_centernet.model import build
from spiking_centernet.model.weights import load, save
from spiking_centernet.training import recipes
from spiking_centernet.training.config import Recipe, make_recipe, read_recipe
from spiking_centernet.training.trainer import Trainer, train


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_roads.write_folder(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def named(tmp_path):
    """The toy folder with names of its own classes."""
    folder = toy_roads.write_folder(tmp_path / "mine")
    (folder / "classes.txt").write_text("truck\nperson\n")
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "old.safetensors"
    return str(save(scn.build("nano", **toy_roads.NETWORK), path))


def state(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


@pytest.mark.slow
def test_own_classes_are_learned_from_other_weights(named, weights, tmp_path):
    start = load(weights)
    model = train(toy_roads.recipe(weights=weights, epochs=1), named, out=tmp_path / "run")
    assert model.config.classes == load(tmp_path / "run").config.classes == ("truck", "person")
    assert not torch.equal(model.heads["heatmap"].out.weight[1], start.heads["heatmap"].out.weight[1])
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["network"]["classes"] == ["truck", "person"]
    train(toy_roads.recipe(weights=weights, epochs=1), named, out=tmp_path / "run", resume=True)


def test_a_recipe_without_a_preset_has_the_network_of_its_weights(weights):
    assert Recipe(weights=weights, network={"classes": ["bus"]}).build().config.encoder.widths == (8, 8, 16, 16)
    assert Recipe().build().config == scn.build("nano").config


def test_classes_of_the_recipe_must_be_the_folder_s(named):
    subset = recipes.with_classes_of(Recipe(network={"classes": ["pedestrian"]}), named)
    assert subset.network == {"classes": ["pedestrian"]}
    with pytest.raises(ConfigError) as error:
        recipes.with_classes_of(Recipe(network={"classes": ["car", "person"]}), named)
    assert str(error.value) == (
        f"the recipe's network.classes name car, {named} has truck, person; leave out network.classes to train on the "
        "folder's, or set it to [person], which both have, or rename them in classes.txt"
    )


def test_a_layout_names_the_classes(tmp_path):
    assert recipes.with_classes_of(Recipe(), f"pedro:{tmp_path}").network == {"classes": ["person"]}
    assert recipes.with_classes_of(Recipe(), tmp_path).network == {}


@pytest.mark.parametrize(("text", "message"), [("\n", "names no class"), ("bus\ncar\nbus\n", "names 'bus' twice")])
def test_a_bad_list_of_names_is_refused(named, text, message):
    (named / "classes.txt").write_text(text)
    with pytest.raises(DatasetError, match=rf"classes\.txt: {message}"):
        train(toy_roads.recipe(), named, out=named / "run")


@pytest.mark.slow
@pytest.mark.parametrize("freeze", ["encoder", "encoder+decoder"])
def test_frozen_parts_keep_weights_and_running_means(data, weights, tmp_path, freeze):
    start = load(weights).state_dict()
    model = train(toy_roads.recipe(weights=weights, epochs=1, freeze=freeze, penalty=None), data, out=tmp_path / "run")
    parts = freeze.split("+")
    for key, value in model.state_dict().items():
        if key.split(".")[0] in parts:
            assert torch.equal(value, start[key]), key
    changed = {key.split(".")[0] for key, value in model.state_dict().items() if not torch.equal(value, start[key])}
    assert changed == {"encoder", "decoder", "heads"} - set(parts)


@pytest.mark.slow
def test_a_memory_is_trained_on_a_frozen_detector(data, weights, tmp_path):
    start = load(weights).state_dict()
    longer = {"recurrent.kind": "gated", "voxels.num_steps": 6, "voxels.window_us": 200_000, "head.readout_steps": 3}
    fields = {"weights": weights, "epochs": 1, "freeze": "detector", "penalty": None, "answers": 2}
    shape = toy_roads.recipe().network
    model = train(toy_roads.recipe(**fields, network=shape | longer), data, out=tmp_path / "run")
    fresh = build("nano", **(shape | longer)).state_dict()
    for key, value in model.state_dict().items():
        if key in start:
            assert torch.equal(value, start[key]), key
    weight = "recurrent.conv.weight"
    assert model.state_dict().keys() - start.keys() == {weight, "recurrent.conv.bias"}
    assert not torch.equal(model.state_dict()[weight], fresh[weight])
    with pytest.raises(ConfigError, match="freeze: detector leaves nothing to train; add a memory"):
        train(toy_roads.recipe(**(fields | {"answers": 1})), data, out=tmp_path / "none")


@pytest.mark.slow
def test_the_maps_of_further_tasks_are_trained_alone(weights, tmp_path):
    folder = toy_roads.write_objects_beside(toy_roads.write_folder(tmp_path / "data"))
    network = {"tasks": ["detect", "detect3d", "pose"]}
    fields = {"weights": weights, "network": network, "freeze": "detector", "epochs": 1}
    model = train(toy_roads.recipe(**fields), folder, out=tmp_path / "run")
    start = load(weights).state_dict()
    fresh = scn.build("nano", **toy_roads.NETWORK, **network).state_dict()
    for key, value in model.state_dict().items():
        assert torch.equal(value, start[key]) if key in start else key.startswith(("heads.box3d.", "heads.joints.")), (
            key
        )
    trained = [key for key in fresh if key not in start and key.endswith("conv.weight")]
    assert len(trained) == 2
    assert not any(torch.equal(model.state_dict()[key], fresh[key]) for key in trained)


def test_frozen_boxes_need_further_tasks_and_known_classes(data, named, weights, tmp_path):
    recipe = toy_roads.recipe(weights=weights, freeze="detector")
    with pytest.raises(ConfigError, match="leaves nothing to train"):
        train(recipe, data, out=tmp_path / "run")
    network = {"tasks": ["detect", "pose"], "classes": ["truck", "person"]}
    with pytest.raises(ConfigError, match="random weights for the class 'truck'"):
        train(
            toy_roads.recipe(weights=weights, network=network, freeze="detector"),
            named,
            out=tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()


def test_the_encoder_has_a_learning_rate_of_its_own(data, weights, tmp_path):
    trainer = Trainer(
        toy_roads.recipe(weights=weights, encoder_learning_rate=0.1), data, tmp_path / "run", resume=False
    )
    trainer.train_set.set_epoch(0)
    from spiking_centernet.data import collate

    trainer._step(collate([trainer.train_set[k] for k in range(4)]), None)
    encoder = {id(p) for p in trainer.state.model.encoder.parameters()}
    rates = {(id(p) in encoder): group["lr"] for group in trainer.state.optimizer.param_groups for p in group["params"]}
    assert rates[True] == pytest.approx(0.1 * rates[False])
    assert sum(len(group["params"]) for group in trainer.state.optimizer.param_groups) == len(
        list(trainer.state.model.parameters())
    )


@pytest.mark.slow
def test_training_stops_when_validation_gets_no_better(data, tmp_path, caplog, monkeypatch):
    recipe = toy_roads.recipe(epochs=6, early_stopping=2, learning_rate=1e-9, final_learning_rate=0.0)
    rows = []
    with caplog.at_level(logging.INFO, "spiking_centernet"):
        train(recipe, data, out=tmp_path / "run", on_row=lambda row: rows.append(row) if "ap" in row else None)
    aps = [row["ap"] for row in rows]
    best = int(np.argmax(aps))
    assert len(aps) == best + 1 + 2 < 6
    assert "stopped early: no better AP in 2 validations" in caplog.text
    train(recipe, data, out=tmp_path / "run", resume=True, on_row=rows.append)
    assert len(rows) == len(aps)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"freeze": "head", "weights": "nano"}, "unknown freeze 'head'"),
        ({"freeze": "encoder"}, "would keep random weights"),
        ({"encoder_learning_rate": 0.0}, "must be a positive factor"),
        ({"early_stopping": 0}, "early_stopping must be at least 1"),
    ],
)
def test_impossible_fields_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        Recipe(**fields)


def test_few_frames_are_fine_tuned_on_and_many_trained_on_from_scratch(data, monkeypatch):
    few = recipes.suggest(data)
    assert (few.name, few.fields["weights"]) == ("fine_tune", "nano")
    assert "17 labeled frames are too few for training from scratch" in few.reason
    made = make_recipe(few.read())
    assert made.epochs * (17 // made.batch_size) >= recipes.LEAST_STEPS
    assert 10 <= made.epochs // made.val_every <= 2 * recipes.MOST_VALIDATIONS
    monkeypatch.setattr(recipes, "MANY_FRAMES", 17)
    many = recipes.suggest(data)
    assert many.name == "from_scratch"
    assert make_recipe(many.read()).weights is None
    given = recipes.suggest(data, weights="small")
    assert (given.name, given.fields["weights"]) == ("fine_tune", "small")
    assert recipes.suggest_recipe(data, seed=3).seed == 3


@pytest.mark.slow
def test_a_folder_alone_is_trained_on_as_the_command_does(data, weights, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.INFO, "spiking_centernet"):
        model = scn.train(data, weights=weights, epochs=1, val_every=1)
    assert "recipe fine_tune: " in caplog.text
    folder = tmp_path / "runs" / data.name
    assert load(folder).config == model.config
    words = ["train", "--data", str(data), "--weights", weights, "--epochs", "1", "--val_every", "1"]
    fields = parser.parse(words)[1]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    expected = make_recipe({name: fields[name] for name in Recipe.__dataclass_fields__})
    assert recipes.recipe_for(None, data, {"weights": weights, "epochs": 1, "val_every": 1}) == expected
    assert (config["batch_size"], config["epochs"]) == (expected.batch_size, 1)


def test_a_recipe_by_name_or_with_other_fields(data):
    named = recipes.recipe_for("fine_tune", data, {"epochs": 3})
    assert (named.epochs, named.weights) == (3, "nano")
    assert recipes.recipe_for(named, data, {"epochs": 4}).epochs == 4
    assert recipes.recipe_for(named, data, {}) is named
    augmented = recipes.recipe_for(named, data, {"augmentation": Augmentation(flip=0.0), "penalty": {"target": 0.1}})
    assert (augmented.augmentation.flip, augmented.penalty.target, augmented.epochs) == (0.0, 0.1, 3)
    for recipe in (None, "fine_tune", named):
        with pytest.raises(ConfigError, match="unknown recipe field 'epoch'; did you mean 'epochs'"):
            recipes.recipe_for(recipe, data, {"epoch": 3})


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Recipe(), r'scn.train\(recipe, "mine"\)'),
        ("fine_tune", r"scn.train\('fine_tune', \"mine\"\)"),
        (None, "data is"),
    ],
)
def test_a_recipe_without_data_is_refused(recipe, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        scn.train(recipe)
    with pytest.raises(DatasetError, match="nowhere"):
        scn.train("nowhere")


def test_the_command_needs_no_recipe_and_says_which_it_takes(data, caplog):
    with caplog.at_level(logging.INFO, "spiking_centernet"):
        arguments = parser.parse(["train", "--data", str(data), "--weights", "small", "--epochs", "2"])[1]
    assert (arguments["recipe"], arguments["out"], arguments["epochs"], arguments["weights"]) == (
        None,
        None,
        2,
        "small",
    )
    assert (arguments["protocol"], arguments["early_stopping"]) == ("none", 8)
    assert f"recipe fine_tune: {data}: 17 labeled frames" in caplog.text


def test_a_bundled_recipe_is_found_by_name():
    names = recipes.bundled_recipes()
    assert {"fine_tune", "from_scratch", "nano_roads", "paper_snn"} <= set(names)
    assert recipes.find_recipe("nano_roads") == recipes.find_recipe("nano_roads.yaml") == names["nano_roads"]
    assert read_recipe(recipes.find_recipe("nano_roads"))["preset"] == "nano"
    with pytest.raises(ConfigError, match="neither a file nor a bundled recipe; did you mean 'nano_roads'"):
        recipes.find_recipe("nano_road")

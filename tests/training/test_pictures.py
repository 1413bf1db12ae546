"""From a folder of pictures to boxes in a photograph: training, scores, detecting, what is refused."""

import json

import numpy as np
import pytest
import torch
import toy_photos
import toy_roads
from PIL import Image

import spiking_centernet as scn
from spiking_centernet.cli.program import main
from spiking_centernet.data.box_files import read_boxes
from spiking_centernet.data.io import sample
from spiking_centernet.errors import ConfigError, DatasetError, EventFileError
from spiking_centernet.evaluation import report
from spiking_centernet.evaluation.comparison import Side, compare_sides, save_comparison
from spiking_centernet.training import recipes
from spiking_centernet.training.distillation import Distillation, check
from spiking_centernet.training.trainer import Trainer, train

NETWORK = toy_roads.NETWORK | {
    "voxels.mode": "direct", "voxels.num_steps": 2, "voxels.frame_hw": (32, 48), "neuron.threshold": 0.3
}  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return toy_photos.write_coco(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """A run folder and its detector."""
    out = tmp_path_factory.mktemp("run") / "run"
    return out, train(toy_roads.recipe(network=NETWORK, epochs=2), photos, out=out)


def test_training_on_pictures_writes_a_whole_run(run):
    out, model = run
    assert model.config.classes == toy_photos.CLASSES
    assert model.config.deployment.trained_hw == (32, 48)
    assert all((out / "pictures" / name).is_file() for name in ("train_batch.png", "val_epoch001.png", "curves.png"))
    loaded = scn.load(out)
    assert loaded.config == model.config
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in loaded.state_dict().items())


@pytest.mark.slow
def test_scores_are_in_the_pictures_own_pixels(run, photos, tmp_path):
    _, model = run
    card = report.score(model, photos)
    assert list(card.scores) == ["none"]
    assert card.predictions.size_hw == toy_photos.SIZE_HW
    for k, (_, (left, top, width, height), _) in enumerate(toy_photos.pictures(4, 1)):
        truth = card.predictions.truth[f"{k:03d}.png", 0]
        np.testing.assert_allclose(truth.xyxy, [[left, top, left + width, top + height]], atol=0.01)
    files = report.save(card, model, tmp_path)
    assert files["mosaic"].is_file()
    with pytest.raises(ConfigError, match="stands at time 0; score pictures under protocol none"):
        report.score(model, photos, protocols=["prophesee"])
    side = Side("a", card.predictions, 0.1)
    compared = compare_sides(side, side, protocol="none")
    assert save_comparison(compared, tmp_path, dataset=card.dataset)["json"].is_file()


def test_a_picture_is_answered_in_its_own_pixels(run, photos):
    _, model = run
    paths = sorted((photos / "val").glob("*.png"))
    (result,) = scn.predict(paths[0], model, min_score=0, keep=("heatmap", "rates"))
    assert result.size_hw == toy_photos.SIZE_HW
    assert len(result) > 0
    assert result.path == paths[0]
    assert (result.xyxy[:, 2] <= toy_photos.SIZE_HW[1]).all()
    assert (result.xyxy[:, 3] <= toy_photos.SIZE_HW[0]).all()
    image = np.asarray(Image.open(paths[0]))
    (again,) = model.predict(image, min_score=0)
    np.testing.assert_array_equal(result.xyxy, again.xyxy)
    assert result.plot(enlarge=1).shape == (*toy_photos.SIZE_HW, 3)
    assert len(scn.predict(photos / "val", model)) == len(scn.predict(list(paths), model)) == 4
    scored = report.score(model, photos).predictions.detections["000.png", 0]
    np.testing.assert_allclose(scored.xyxy, result.xyxy, atol=1e-2)


def test_pictures_and_events_are_not_confused(run, photos, tmp_path):
    _, model = run
    with pytest.raises(EventFileError, match="this network sees pictures"):
        scn.predict(sample(), model)
    with pytest.raises(ConfigError, match="the network sees pictures"):
        model.predict({"t": [0], "x": [0], "y": [0], "p": [0]})
    with pytest.raises(ConfigError, match="track: for recordings of events"):
        scn.predict(photos, model, track=True)
    with pytest.raises(EventFileError, match="is a picture, not a recording"):
        scn.predict(next((photos / "val").glob("*.png")), scn.build("nano", **toy_roads.NETWORK))
    with pytest.raises(DatasetError, match="holds pictures"):
        Trainer(toy_roads.recipe(), photos, tmp_path / "run", resume=False)
    with pytest.raises(ConfigError, match="scale is for events"):
        report.score(model, photos, scale=0.5)


def test_pictures_have_a_recipe_of_their_own(photos):
    suggestion = recipes.suggest(photos)
    assert suggestion.name == "pictures"
    recipe = recipes.suggest_recipe(photos)
    assert recipe.build().config.voxels.mode == "direct"
    assert recipe.epochs * (8 // recipe.batch_size) >= recipes.LEAST_STEPS


def test_the_command_writes_pictures_and_boxes(run, photos, tmp_path, capsys):
    out, _ = run
    main(["detect", str(out), str(photos / "val"), "--out", str(tmp_path), "--min_score", "0", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert len(document["pictures"]) == 4
    for name in ("000_detections.png", "000_detections.json", "000_detections_bbox.npy"):
        assert (tmp_path / name).is_file()
    boxes = read_boxes(tmp_path / "000_detections_bbox.npy", classes=toy_photos.CLASSES)
    assert len(boxes) == document["pictures"][0]["boxes"] > 0


def test_energy_says_which_layer_multiplies(run, photos):
    from spiking_centernet.evaluation.energy.report import costs

    _, model = run
    found = costs(model, photos, split="val", measure_s=0)
    assert "encoder.stem.conv" in found.verdict
    assert "every other layer adds" in found.verdict
    assert found.to_dict()["num_steps"] == 2


@pytest.mark.slow
def test_a_student_copies_a_teacher_that_sees_the_same_pictures(run, photos, tmp_path):
    out, teacher = run
    rows = []
    train(
        toy_roads.recipe(
            network=NETWORK | {"voxels.num_steps": 3}, epochs=1, teacher=str(out),
            distillation=Distillation(features=1.0),
        ), photos, out=tmp_path / "run", on_row=rows.append,
    )  # fmt: skip
    assert all(row["loss_distillation"] > 0 for row in rows if "loss" in row)
    gray = scn.build("nano", **(NETWORK | {"voxels.colors": 1, "classes": toy_photos.CLASSES})).config
    with pytest.raises(ConfigError, match=r"the same pictures"):
        check(teacher.config, gray)

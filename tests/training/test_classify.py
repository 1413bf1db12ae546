"""Classifiers: head, training, scores, answers, what is refused, and that order of time matters."""

import json

import numpy as np
import pytest
import torch
import toy_gestures
import toy_roads

import spiking_centernet as scn
from spiking_centernet.cli.program import main
from spiking_centernet.data import Augmentation, FolderDataset
from spiking_centernet.data.class_layouts import GESTURES
from spiking_centernet.deploy.engine import compile as compile_detector
from spiking_centernet.deploy.export.contract import contract_of
from spiking_centernet.errors import ConfigError, DatasetError, ExportError, WeightsError
from spiking_centernet.evaluation import report
from spiking_centernet.model import PRESETS
from spiking_centernet.model.heads.classify import Classification
from spiking_centernet.model.weights import save
from spiking_centernet.structures import Boxes
from spiking_centernet.training.trainer import Trainer, train

SMALL = {"encoder.widths": (8, 8, 8, 16), "encoder.convs_per_stage": 1, "head.width": 8, "neuron.threshold": 0.3}
GESTURE = SMALL | {"voxels.window_us": 1_500_000, "voxels.num_steps": toy_gestures.NUM_STEPS, "voxels.bins": 1}
CLASSIFY = {"tasks": ("classify",), "decoder.num_blocks": 0}


def recipe(**changes):
    network = GESTURE | CLASSIFY | {"classes": toy_gestures.CLASSES}
    values = {"network": network, "epochs": 1, "batch_size": 4, "augmentation": None} | changes
    return toy_roads.recipe(**values)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = toy_gestures.write_folder(tmp_path_factory.mktemp("gestures"), users=(1, 20, 24), repeats=1)
    return f"dvs-gesture:{root}"


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A run folder and its classifier."""
    out = tmp_path_factory.mktemp("run") / "run"
    return out, train(recipe(), data, out=out)


def test_the_preset_is_nano_s_encoder():
    config = PRESETS["nano-classify"]
    assert config.tasks == ("classify",)
    assert config.encoder == PRESETS["nano"].encoder
    model = scn.build("nano-classify", classes=["background", "car"])
    assert sum(p.numel() for p in model.encoder.parameters()) == 691697  # weights, norms, time constants


def test_logits_are_the_mean_over_steps_and_places():
    model = scn.build("nano-classify", **SMALL).eval()
    cube = (torch.rand(3, 2, 4, 64, 96) < 0.2).to(torch.uint8)
    spikes = {}
    output, _ = model(cube, observe=lambda name, x: spikes.update({name: x}))
    assert isinstance(output, Classification)
    rate = spikes["heads.logits.block"].unflatten(0, (3, 2)).mean((0, 3, 4))
    out = model.heads["logits"].out
    torch.testing.assert_close(output.logits, rate @ out.weight[:, :, 0, 0].T + out.bias, rtol=1e-4, atol=1e-5)


def test_the_loss_is_the_cross_entropy():
    head = scn.build("nano-classify", classes=["a", "b", "c"], **SMALL).head
    logits = torch.tensor([[1.0, 2.0, 0.5], [0.0, 0.0, 0.0]])
    boxes = [Boxes(np.array([[0, 0, 9, 9]], np.float32), np.array([label])) for label in (1, 2)]
    wanted = (torch.logsumexp(logits[0], 0) - 2 + np.log(3)) / 2
    torch.testing.assert_close(head.loss(Classification(logits), boxes).total, wanted)
    with pytest.raises(DatasetError, match="has one label"):
        head.loss(Classification(logits), [boxes[0], Boxes.empty()])
    first, second = head.detections(Classification(logits), [5, 6], size_hw=(10, 20))
    assert first.labels.tolist() == [1, 0, 2]
    assert first.xyxy[0].tolist() == [0, 0, 20, 10]
    assert first.scores.sum() == pytest.approx(1)
    assert second.t_us == 6


def test_a_classifier_stands_alone():
    with pytest.raises(ConfigError, match="classify"):
        scn.build("nano", tasks=("classify", "pose"))
    with pytest.raises(ConfigError, match="classify"):
        scn.build("nano", tasks=("detect", "classify"))


def test_training_and_scores(run, data, tmp_path):
    out, model = run
    assert (out / "pictures" / "curves.png").is_file()
    assert "classify_accuracy" in (out / "metrics.csv").read_text().splitlines()[0]
    card = report.score(model, data, split="test")
    score = card.scores["none"].tasks["classify"]
    assert score.num_trials == score.num_windows == 5
    assert 0 <= score.accuracy <= 1
    assert report.save(card, model, tmp_path)["json"].is_file()
    document = json.loads((tmp_path / "score.json").read_text())
    assert document["scores"]["none"]["tasks"]["classify"]["accuracy"] == score.accuracy


def test_the_command_prints_accuracy_and_answers(run, data, tmp_path, capsys):
    out, _ = run
    main(["val", str(out), "--data", data, "--split", "test"])
    printed = capsys.readouterr().out
    assert "balanced accuracy" in printed
    assert "hand_clapping" in printed
    recording = next((toy_gestures.Path(data.partition(":")[2]) / "DvsGesture").glob("user24*.aedat"))
    main(["detect", str(out), str(recording), "--out", str(tmp_path), "--save", "json", "--every_ms", "2000"])
    (written,) = tmp_path.glob("*.json")
    instants = json.loads(written.read_text())["instants"]
    assert all(each["class"] in toy_gestures.CLASSES and 0 < each["score"] <= 1 for each in instants)


def test_detectors_and_classifiers_keep_to_their_data(data, tmp_path):
    boxes = toy_roads.write_folder(tmp_path / "boxes")
    with pytest.raises(ConfigError, match=r"one class a recording .* network.tasks: \[classify\]"):
        Trainer(toy_roads.recipe(network=GESTURE, augmentation=None), data, tmp_path / "a", resume=False)
    with pytest.raises(ConfigError, match="holds boxes"):
        Trainer(recipe(network=SMALL | CLASSIFY), boxes, tmp_path / "b", resume=False)
    with pytest.raises(ConfigError, match="a mirrored recording has another label"):
        Trainer(recipe(augmentation=Augmentation(flip=0.5)), data, tmp_path / "c", resume=False)
    with pytest.raises(ConfigError, match="one class a recording"):
        report.score(scn.build("nano", **GESTURE, classes=GESTURES), data)
    with pytest.raises(ConfigError, match="holds boxes"):
        report.score(scn.build("nano-classify", **SMALL), boxes)


def test_an_encoder_is_taken_over_from_a_detector(tmp_path):
    torch.manual_seed(1)
    detector = scn.build("nano", **SMALL)
    path = str(save(detector, tmp_path / "detector.safetensors"))
    classifier = scn.build("nano-classify", weights=path, weights_parts="encoder", **SMALL, classes=["a", "b", "c"])
    for name, weight in detector.encoder.state_dict().items():
        assert torch.equal(classifier.encoder.state_dict()[name], weight)
    other_steps = {"voxels.num_steps": 3, "voxels.window_us": 50_000}
    scn.build("nano-classify", weights=path, weights_parts="encoder", **(SMALL | other_steps))
    with pytest.raises(WeightsError, match="weights_parts: encoder"):
        scn.build("nano-classify", weights=path, **SMALL)
    with pytest.raises(WeightsError, match=r"voxels\.bins"):
        scn.build("nano-classify", weights=path, weights_parts="encoder", **(SMALL | {"voxels.bins": 1}))
    with pytest.raises(ConfigError, match="unknown parts"):
        scn.build("nano-classify", weights=path, weights_parts="head", **SMALL)
    # And the other way: a detector from a classifier's encoder.
    back = str(save(classifier, tmp_path / "classifier.safetensors"))
    again = scn.build("nano", weights=back, weights_parts="encoder", **SMALL)
    assert torch.equal(again.encoder.stem.conv.weight, detector.encoder.stem.conv.weight)


def test_the_engine_and_export_say_why_not():
    model = scn.build("nano-classify", **SMALL)
    with pytest.raises(ConfigError, match="classify"):
        compile_detector(model)
    with pytest.raises(ExportError, match="run a classifier"):
        contract_of(model, (64, 96))


def test_the_two_turns_differ_in_order_alone(data):
    """The same places, whose steps put in order of their places are the same pictures: order is all there is."""
    rng = np.random.default_rng(0)
    turns = [toy_gestures.places(name, np.random.default_rng(3)) for name in toy_gestures.TURNS]
    assert turns[0] != turns[1]
    first, second = ({tuple(np.round(place[:2], 6)) for place in turn} for turn in turns)
    assert first == second
    # A step shows ON and OFF all over the bar: neither says where it came from.
    events = toy_gestures.gesture(toy_gestures.TURNS[0], rng, 0)
    step = events[events["t"] < toy_gestures.STEP_US]
    on, off = step[step["p"] == 1], step[step["p"] == 0]
    assert len(on) == len(off)
    assert abs(on["x"].mean() - off["x"].mean()) < 2
    split = FolderDataset(data, "train", scn.build("nano", **GESTURE).config.voxels, classes=toy_gestures.CLASSES)
    assert len(split) == 5
    assert split[0].cube.shape == (15, 2, 128, 128)
    assert all(int(step.sum()) > 200 for step in split[0].cube)

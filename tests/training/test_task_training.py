"""Detect, detect3d and pose from training to files, on the toy folder."""

import json
import math
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import toy_roads
from tiny import tiny_detector

import spiking_centernet as scn
from spiking_centernet.data.cameras import camera_beside, pitched_camera
from spiking_centernet.errors import ConfigError, DatasetError
from spiking_centernet.evaluation import report
from spiking_centernet.evaluation.prediction import dataset_for, predict
from spiking_centernet.evaluation.prediction_files import load_predictions, save_predictions
from spiking_centernet.inference.recordings import write_detections
from spiking_centernet.inference.runner import as_line
from spiking_centernet.inference.streaming import stream
from spiking_centernet.model.heads.base import Loss
from spiking_centernet.model.weights import load, save
from spiking_centernet.training.config import make_recipe
from spiking_centernet.training.distillation import Distillation, Teacher
from spiking_centernet.training.run_dir import read_metrics
from spiking_centernet.training.trainer import train

NETWORK = {**toy_roads.NETWORK, "tasks": ["detect", "detect3d", "pose"]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_roads.write_objects_beside(toy_roads.write_folder(tmp_path_factory.mktemp("toy") / "data"))


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("tasks") / "run"
    train(toy_roads.recipe(network=NETWORK, epochs=1), data, out=out)
    return out


@pytest.fixture(scope="module")
def model(run):
    return load(run)


@pytest.fixture(scope="module")
def awake():
    """A network that finds boxes although nothing was trained."""
    return tiny_detector(tasks=tuple(NETWORK["tasks"]))


def test_every_part_of_the_loss_and_every_score_is_logged(run):
    rows = read_metrics(run / "metrics.csv")
    parts = {"depth", "dims", "rotation", "center3d", "joints", "joint_heatmap", "joint_offset", "heatmap", "wh"}
    first = rows[0]
    assert all(math.isfinite(first[f"loss_{part}"]) and first[f"loss_{part}"] > 0 for part in parts)
    last = rows[-1]
    assert {"ap", "detect3d_ap", "detect3d_car_ate_m", "pose_ap", "pose_mpjpe_px"} <= last.keys()


@pytest.mark.slow
def test_scores_of_tasks_come_with_the_score_and_survive_a_file(model, data, tmp_path):
    card = report.score(model, data, protocols=("none",), scale=1.0)
    tasks = card.scores["none"].tasks
    assert list(tasks) == ["detect3d", "pose"]
    written = json.loads(report.save(card, model, tmp_path / "card")["json"].read_text())
    assert written["scores"]["none"]["tasks"]["pose"]["num_people"] == 3
    assert [one["name"] for one in written["box3d_errors"]] == ["car", "pedestrian"]
    # Boxes of one height at one depth: their size says the depth.
    assert written["box3d_errors"][1]["size_prior"] < 0.1
    again = load_predictions(save_predictions(card.predictions, tmp_path / "predictions.npz"))
    assert again.tasks == model.config.tasks
    for name, score in again.score("none").tasks.items():
        np.testing.assert_equal(score.rows(), tasks[name].rows())
    truth = again.truth[min(again.truth)]
    np.testing.assert_allclose(truth.box3d[0, 3:6], [1.5, 1.6, 1.8])
    assert truth.joints.shape == (1, 13, 3)


def test_truth_against_itself_is_perfect(model, data):
    predictions = predict(model, dataset_for(model, data, "val"), min_score=0.99)
    perfect = {
        key: scn.Detections(b.xyxy, np.ones(len(b), np.float32), b.labels, key[1], box3d=b.box3d, joints=b.joints)
        for key, b in predictions.truth.items()
    }
    score = replace(predictions, detections=perfect).score("none")
    assert score.tasks["detect3d"].primary == pytest.approx(1.0)
    assert score.tasks["pose"].primary == pytest.approx(1.0)
    assert score.primary("pose") == score.tasks["pose"].primary
    assert score.primary() == score.ap


@pytest.mark.slow
def test_detections_carry_3d_boxes_and_joints_everywhere(awake, data, tmp_path):
    path = data / "val" / "clip2_td.dat"
    recording = scn.open(path)
    results = scn.predict(path, awake, every_us=100_000, min_score=0.0)
    first = results[0]
    people = first.labels == 1
    assert np.isfinite(first.box3d).all()
    assert np.isfinite(first.joints[people]).all()
    assert not np.isfinite(first.joints[~people, :, :2]).any()
    run = write_detections(
        awake, recording, tmp_path, save=("json", "png", "mp4"), every_us=100_000, min_score=0.0, scale=1.0, track=False
    )
    for found, result in zip(run.detections, results, strict=True):
        np.testing.assert_array_equal(found.box3d, result.box3d)
        np.testing.assert_array_equal(found.joints, result.joints)
    boxes = json.loads(run.paths["json"].read_text())["instants"][0]["boxes"]
    assert all(set(box["box3d"]) == {"location", "dimensions", "yaw"} for box in boxes)
    assert [("joints" in box) for box in boxes] == people.tolist()
    answers = list(stream(awake, recording, every_us=100_000, min_score=0.0))
    np.testing.assert_array_equal(answers[0].box3d, first.box3d)
    line = json.loads(as_line(answers[0], awake.config.classes))
    assert line["boxes"][0]["box3d"] == boxes[0]["box3d"]
    stateful = list(stream(awake, recording, mode="stateful", min_score=0.0))
    assert np.isfinite(stateful[0].box3d).all()
    assert not np.array_equal(first.plot(), replace(first, camera=None).plot())


def test_without_a_camera_it_says_what_to_pass(awake, data, tmp_path):
    alone = tmp_path / "clip2_td.dat"
    shutil.copy(data / "val" / "clip2_td.dat", alone)
    with pytest.warns(UserWarning, match=r"pass focal_px .*clip2_camera\.npy"):
        blind = scn.predict(alone, awake, every_us=100_000, min_score=0.0)
    assert np.isnan(blind[0].box3d).all()
    assert "box3d" not in blind[0].to_dict()["boxes"][0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seeing = scn.predict(alone, awake, every_us=100_000, min_score=0.0, camera=toy_roads.camera())
    beside = scn.predict(data / "val" / "clip2_td.dat", awake, every_us=100_000, min_score=0.0)
    np.testing.assert_allclose(seeing[0].box3d, beside[0].box3d, rtol=1e-6)
    assert camera_beside(alone) is None
    with pytest.raises(ConfigError, match="pitch_deg"):
        pitched_camera(100.0, 90.0, (10, 10))
    with pytest.raises(ConfigError, match="focal_px"):
        pitched_camera(0.0, 0.0, (10, 10))
    with pytest.raises(ConfigError, match="height_m"):
        pitched_camera(100.0, 0.0, (10, 10), height_m=0.0)


def test_data_without_what_a_task_needs_are_refused(tmp_path, model):
    plain = toy_roads.write_folder(tmp_path / "plain")
    with pytest.raises(DatasetError, match="simulate with --labels objects"):
        train(toy_roads.recipe(network=NETWORK), plain, out=tmp_path / "run")
    with pytest.raises(DatasetError, match="no box file has objects"):
        report.score(model, plain)
    toy_roads.write_objects_beside(plain)
    for path in plain.glob("*/*_camera.npy"):
        path.unlink()
    with pytest.raises(DatasetError, match="no recording has a camera"):
        report.score(model, plain)


def test_tasks_of_a_recipe_must_be_the_networks():
    for field, value in (("select_by", "pose"), ("task_weights", {"pose": 1.0})):
        with pytest.raises(ConfigError, match=f"{field}: the network has no task 'pose'"):
            make_recipe({"preset": "nano", field: value})
    assert make_recipe({"preset": "nano", "network": {"tasks": ["detect", "pose"]}, "select_by": "detect"})
    with pytest.raises(ConfigError, match=r"task_weights\.pose"):
        toy_roads.recipe(network=NETWORK, task_weights={"pose": -1.0})


def test_a_student_copies_every_map_of_its_teacher(model):
    torch.manual_seed(5)
    student = scn.build("nano", **NETWORK)
    teacher = Teacher(model, Distillation(heatmap=0.0, heads=1.0), student)
    cube = (torch.rand(3, 2, 4, 32, 48) < 0.1).to(torch.uint8)
    output, _ = student.eval()(cube)
    taught, _ = model(cube)
    zero = Loss(torch.zeros(()), {})
    loss = teacher.add(zero, cube, output, student, None, [scn.Boxes.empty(), scn.Boxes.empty()])
    whole = torch.cat(list(output), dim=1) - torch.cat(list(taught), dim=1)
    assert loss.total.item() == pytest.approx(whole.square().mean().item(), rel=1e-5)
    other = scn.build("nano", **NETWORK, **{"head.focal_px": 100.0})
    with pytest.raises(ConfigError, match=r"head\.focal_px"):
        Teacher(model, Distillation(), other)


def test_starting_from_a_detector_keeps_all_its_tensors(model, data, tmp_path):
    detector = scn.build("nano", **toy_roads.NETWORK)
    save(detector, tmp_path / "plain.safetensors")
    more = scn.build(None, weights=tmp_path / "plain.safetensors", tasks=("detect", "detect3d", "pose"))
    theirs, ours = detector.state_dict(), more.state_dict()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    assert {name.split(".")[1] for name in ours.keys() - theirs.keys()} == {"box3d", "joints"}

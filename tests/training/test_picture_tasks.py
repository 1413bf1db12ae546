"""Pose from COCO's keypoints and 3D boxes from KITTI's folder: train, score and detect, each with one command."""

import json

import numpy as np
import pytest
import toy_photos
import toy_roads

import spiking_centernet as scn
from spiking_centernet.cli.program import main
from spiking_centernet.data import read_boxes, write_boxes
from spiking_centernet.data.convert import convert_file
from spiking_centernet.errors import DatasetError
from spiking_centernet.evaluation import report
from spiking_centernet.joint_sets import JOINTS_17
from spiking_centernet.model.weights import load
from spiking_centernet.training.recipes import recipe_for
from spiking_centernet.training.trainer import Trainer, train

SMALL = {
    f"network.{name}": list(value) if isinstance(value, tuple) else value
    for name, value in (toy_roads.NETWORK | {"voxels.num_steps": 2, "voxels.frame_hw": (32, 48)}).items()
}


def options(fields):
    words = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
    return [word for name, value in words.items() for word in (f"--{name}", value)]


def run(recipe, data, out):
    small = SMALL | {"epochs": 1, "batch_size": 4, "num_workers": 0, "precision": "float32"}
    main(["train", recipe, "--data", str(data), "--out", str(out), *options(small)])
    return load(out)


@pytest.mark.slow
def test_coco_keypoints_train_pose(tmp_path, capsys):
    data = toy_photos.write_keypoints(toy_photos.write_coco(tmp_path / "photos"), keep=False)
    path = data / "annotations" / "person_keypoints_train.json"
    document = json.loads(path.read_text())
    document["annotations"].append(
        {"id": 99, "image_id": 0, "category_id": 8, "bbox": [0, 0, 20, 20], "iscrowd": 1, "num_keypoints": 0}
    )
    path.write_text(json.dumps(document))
    model = run("pictures_pose", data, tmp_path / "run")
    assert (model.config.tasks, model.config.classes) == (("detect", "pose"), ("person",))
    card = report.score(model, data)
    truth = card.predictions.truth["001.png", 0]
    left, top, width, height = next(box for k, (_, box, _) in enumerate(toy_photos.pictures(4, 1)) if k == 1)
    wanted = toy_photos.joints_in((left, top, width, height), 1)
    seen = wanted[:, 2] > 0
    np.testing.assert_allclose(truth.joints[0, seen, :2], wanted[seen, :2], atol=0.01)
    assert card.scores["none"].tasks["pose"].joint_set == 17
    capsys.readouterr()
    main(["val", str(tmp_path / "run"), "--data", str(data), "--json"])
    assert "pose" in json.loads(capsys.readouterr().out)["scores"]["none"]["tasks"]


@pytest.mark.slow
def test_coco_keypoints_beside_events_train_pose(tmp_path):
    data = toy_roads.write_folder(tmp_path / "roads")
    for path in sorted(data.glob("*/*_bbox.npy")):
        boxes = read_boxes(path)
        boxes["class_id"], boxes["track_id"] = 1, 7
        write_boxes(path, boxes)
        labels = path.with_suffix(".json")
        convert_file(path, labels)
        document = json.loads(labels.read_text())
        for a in document["annotations"]:
            a["keypoints"] = toy_photos.joints_in(a["bbox"], a["id"]).ravel().tolist()
        crowd = {"id": 99, "image_id": 1, "category_id": 2, "bbox": [0, 0, 9, 9], "iscrowd": 1}
        document["annotations"].append(crowd)
        labels.write_text(json.dumps(document))
        assert convert_file(labels, path).lost == ()
    recipe = toy_roads.recipe(
        network=toy_roads.NETWORK | {"tasks": ("detect", "pose"), "head.joints": JOINTS_17.names}, epochs=1
    )
    model = train(recipe, data, out=tmp_path / "run")
    predictions = report.score(model, data).predictions
    boxes = predictions.truth["clip2", toy_roads.PERIOD_US]
    assert (boxes.crowd.tolist(), boxes.xyxy[1].tolist()) == ([False, True], [0, 0, 9, 9])
    assert predictions.score("none").num_truth == 6
    assert boxes.joints[0, :, 2].tolist() == [0, 1, 2] * 5 + [0, 1]
    assert predictions.score("none").tasks["pose"].joint_set == 17


@pytest.mark.slow
def test_kitti_trains_3d_boxes(tmp_path, capsys):
    data = toy_photos.write_kitti(tmp_path / "kitti")
    model = run("pictures_3d", data, tmp_path / "run")
    assert (model.config.tasks, model.config.classes) == (("detect", "detect3d"), ("car", "pedestrian"))
    card = report.score(model, data)
    score = card.scores["none"]
    assert (score.num_truth, sum(c.num_truth for c in score.tasks["detect3d"].classes)) == (4, 4)
    truth = card.predictions.truth["000008", 0]
    np.testing.assert_allclose(truth.box3d[0], [-1.25, 1.5, 12, 1.5, 1.75, 4, 0.75], atol=1e-6)

    def detect(source, *options):
        out = tmp_path / f"found{len(options)}{source.stem}"
        main(["detect", str(tmp_path / "run"), str(source), "--out", str(out), "--min_score", "0", "--save", "json",
              *options])  # fmt: skip
        return json.loads((out / f"{source.stem}_detections.json").read_text())["boxes"]

    picture = data / "training" / "image_2" / "000008.png"
    assert all(len(box["box3d"]["location"]) == 3 for box in detect(picture))
    alone = tmp_path / "alone.png"
    alone.write_bytes(picture.read_bytes())
    assert "camera is unknown" not in capsys.readouterr().err
    assert not any("box3d" in box for box in detect(alone))
    assert "the camera is unknown, so 3D boxes are left out; pass --focal_px" in capsys.readouterr().err
    assert all("box3d" in box for box in detect(alone, "--focal_px", "50"))
    (result,) = scn.predict(picture, model, min_score=0)
    np.testing.assert_allclose(result.camera.matrix[:, 3], [0.5, -0.25, 0], atol=1e-9)
    assert np.isfinite(result.box3d).all()


def test_pictures_without_joints_or_cameras_are_refused(tmp_path):
    photos, kitti = toy_photos.write_coco(tmp_path / "photos"), toy_photos.write_kitti(tmp_path / "kitti")
    for recipe, data, message in (
        ("pictures_pose", photos, "COCO's keypoints"),
        ("pictures_3d", photos, "KITTI's labels"),
        ("pictures_pose", kitti, "labels have no joints, the network 17"),
    ):
        with pytest.raises(DatasetError, match=message):
            Trainer(recipe_for(recipe, data, {}), data, tmp_path / "run", resume=False)

"""Labels made for a recording, and the way through a COCO tool and back."""

import json

import numpy as np
import pytest
from PIL import Image
from tiny import some_events, tiny_detector

import spiking_centernet as scn
from spiking_centernet.cli.program import main
from spiking_centernet.data import FolderDataset, boxes_at, read_boxes, write_dat
from spiking_centernet.data.convert import coco
from spiking_centernet.data.convert.corrections import take_back
from spiking_centernet.errors import BoxFileError, ConfigError, WindowError
from spiking_centernet.inference.labeling import boxes_by_model, boxes_by_motion, label_stops_us, write_labels
from spiking_centernet.inference.recordings import detections_at
from spiking_centernet.structures import EVENT_DTYPE

SIZE_HW = (56, 72)


def moving_events():
    """A square of 20 x 20 pixels that crosses the picture within half a second, and the quiet second after it."""
    x, y = np.meshgrid(np.arange(20), np.arange(20))
    parts = []
    for t_us in range(0, 500_000, 10_000):
        events = np.zeros(400, EVENT_DTYPE)
        events["t"], events["x"], events["y"] = t_us, x.ravel() + t_us // 10_000, y.ravel() + 16
        parts.append(events)
    return np.concatenate([*parts, np.array([(1_500_000, 0, 0, 0)], EVENT_DTYPE)])


@pytest.fixture
def recording(tmp_path):
    write_dat(tmp_path / "walk_td.dat", moving_events(), SIZE_HW)
    return scn.open(tmp_path / "walk_td.dat")


def test_motion_becomes_a_folder_that_training_reads(recording, tmp_path):
    stops_us = label_stops_us(recording, 50_000, 100_000, 500_000)
    assert stops_us == list(range(150_000, 500_001, 50_000))
    labels = boxes_by_motion(recording, stops_us, every_us=50_000, name="person")
    files = write_labels(recording, labels, tmp_path / "mine")
    assert files.events.samefile(recording.path)
    assert files.classes.read_text() == "person\n"
    dataset = FolderDataset(tmp_path / "mine", "train", classes=("person",))
    assert len(dataset) == 8
    for sample in dataset:
        # The square is between the two places it had in the window of 50 ms.
        left = (sample.t_us - 50_000) // 10_000
        np.testing.assert_allclose(sample.boxes.xyxy, [[left, 16, left + 24, 36]], atol=2)


def test_a_detector_labels_what_it_detects(recording):
    model = tiny_detector(classes=("a", "b"))
    labels = boxes_by_model(model, recording, [300_000, 600_000], every_us=300_000, min_score=0.3)
    for found in detections_at(model, recording, [300_000, 600_000], min_score=0.3):
        boxes = boxes_at(labels.boxes, found.t_us)
        np.testing.assert_allclose(boxes.xyxy, found.xyxy, rtol=1e-5, atol=1e-4)
        np.testing.assert_array_equal(boxes.labels, found.labels)
    assert len(labels.boxes)
    assert labels.classes == ("a", "b")


def test_pictures_and_coco_lie_together(recording, tmp_path):
    labels = boxes_by_motion(recording, [300_000, 400_000], every_us=100_000)
    files = write_labels(recording, labels, tmp_path / "mine", split="val")
    assert files.coco == tmp_path / "mine" / "coco" / "walk_val" / "annotations.json"
    document = json.loads(files.coco.read_text())
    assert [image["file_name"] for image in document["images"]] == ["walk_300000us.png", "walk_400000us.png"]
    for image in document["images"]:
        picture = Image.open(files.coco.with_name(image["file_name"]))
        assert picture.size == (72, 56)
        assert len(picture.getcolors()) > 1
    read = coco.read(files.coco)
    np.testing.assert_array_equal(read.boxes, labels.boxes)


def corrected(path, tmp_path):
    """What a tool writes that knows nothing of our keys, numbers classes anew and puts words before names."""
    document = json.loads(path.read_text())
    document["categories"] = [{"id": 4, "name": "dog"}, {"id": 9, "name": "object"}]
    for image in document["images"]:
        del image["t_us"]
        image["file_name"] = f"images/0a1b-{image['file_name']}"
    for k, annotation in enumerate(document["annotations"]):
        del annotation["track_id"], annotation["confidence"]
        annotation["category_id"] = 4 if k else 9
    document["annotations"][0]["bbox"] = [1, 2, 30, 40]
    (tmp_path / "corrected.json").write_text(json.dumps(document))
    return tmp_path / "corrected.json"


def test_corrections_come_back(recording, tmp_path):
    labels = boxes_by_motion(recording, [300_000, 400_000], every_us=100_000)
    files = write_labels(recording, labels, tmp_path / "mine")
    path, back = take_back(corrected(files.coco, tmp_path), tmp_path / "mine")
    assert path == files.boxes
    assert files.classes.read_text() == "object\ndog\n"
    assert back.classes == ("object", "dog")
    boxes = read_boxes(path, classes=back.classes)
    assert boxes["ts"].tolist() == [300_000, 400_000]
    assert boxes["class_id"].tolist() == [0, 1]
    assert boxes[0][["x", "y", "w", "h"]].tolist() == (1, 2, 30, 40)


def test_the_folder_must_know_the_recording(recording, tmp_path):
    labels = boxes_by_motion(recording, [300_000], every_us=100_000)
    files = write_labels(recording, labels, tmp_path / "mine")
    file = corrected(files.coco, tmp_path)
    with pytest.raises(BoxFileError, match="holds nothing: give the folder"):
        take_back(file, tmp_path / "other")
    write_labels(recording, labels, tmp_path / "mine", split="val", pictures=False)
    with pytest.raises(BoxFileError, match="give --split"):
        take_back(file, tmp_path / "mine")
    assert take_back(file, tmp_path / "mine", split="val")[0] == tmp_path / "mine" / "val" / "walk_bbox.npy"


def test_a_folder_has_one_list_of_classes(recording, tmp_path):
    labels = boxes_by_motion(recording, [300_000], every_us=100_000)
    write_labels(recording, labels, tmp_path / "mine", pictures=False)
    write_labels(recording, labels, tmp_path / "mine", pictures=False)
    other = boxes_by_motion(recording, [300_000], every_us=100_000, name="car")
    with pytest.raises(ConfigError, match="names other classes than car"):
        write_labels(recording, other, tmp_path / "mine")


def test_events_that_are_no_dat_file_are_copied(tmp_path):
    np.savez(tmp_path / "walk.npz", events=moving_events())
    recording = scn.open(tmp_path / "walk.npz", size_hw=SIZE_HW)
    labels = boxes_by_motion(recording, [300_000], every_us=100_000)
    files = write_labels(recording, labels, tmp_path / "mine", pictures=False)
    np.testing.assert_array_equal(scn.open(files.events).read(), recording.read())


def test_a_dat_file_that_does_not_say_its_size_is_copied(tmp_path, recording):
    raw = recording.path.read_bytes()
    bare = tmp_path / "bare_td.dat"
    bare.write_bytes(raw.replace(b"% Height 56\n", b"").replace(b"% Width 72\n", b""))
    opened = scn.open(bare, size_hw=SIZE_HW)
    labels = boxes_by_motion(opened, [300_000], every_us=100_000)
    files = write_labels(opened, labels, tmp_path / "mine", pictures=False)
    assert scn.open(files.events).size_hw == SIZE_HW


def test_times_outside_the_recording_are_refused(recording):
    with pytest.raises(WindowError, match="choose other times"):
        label_stops_us(recording, 100_000, 5_000_000)


def test_the_command_labels_and_takes_back(recording, tmp_path, capsys):
    mine = tmp_path / "mine"
    assert (
        main(["label", str(recording.path), str(mine), "--motion", "--name", "object", "--stop_s", "0.5", "--json"])
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert (found["timestamps"], found["classes"]) == (5, ["object"])
    assert found["boxes"] >= 4
    file = corrected(mine / "coco" / "walk_train" / "annotations.json", tmp_path)
    assert main(["label", str(file), str(mine)]) == 0
    assert "wrote" in capsys.readouterr().out
    assert (mine / "classes.txt").read_text() == "object\ndog\n"


def test_the_command_labels_by_a_model(tmp_path, capsys):
    write_dat(tmp_path / "a_td.dat", some_events(), SIZE_HW)
    weights = scn.save(tiny_detector(), tmp_path / "tiny")
    words = ["label", str(tmp_path / "a_td.dat"), str(tmp_path / "mine"), "--model", str(weights), "--min_score", "0.2"]
    assert main([*words, "--no_pictures"]) == 0
    assert "boxes of car, pedestrian at 4 timestamps" in capsys.readouterr().out
    assert not (tmp_path / "mine" / "coco").exists()

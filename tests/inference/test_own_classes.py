"""A detector with classes of its own says their names wherever detections are shown or written."""

import json

from tiny import some_events, tiny_detector

from spiking_centernet.cli.program import main
from spiking_centernet.data import write_dat
from spiking_centernet.data.convert import coco
from spiking_centernet.model.weights import save
from spiking_centernet.visualize import draw


def test_own_names_are_in_pictures_json_and_coco(monkeypatch, tmp_path):
    weights = save(tiny_detector(classes=("forklift", "crane")), tmp_path / "own")
    write_dat(tmp_path / "drive_td.dat", some_events(), (56, 72))
    written = []
    tag = draw._tag
    monkeypatch.setattr(
        draw, "_tag", lambda pen, corners, text, ground: (written.append(text), tag(pen, corners, text, ground))
    )
    words = [
        "detect",
        weights,
        tmp_path / "drive_td.dat",
        "--save",
        "png",
        "json",
        "--out",
        tmp_path,
        "--min_score",
        0.05,
    ]
    assert main([str(word) for word in words]) == 0
    found = json.loads((tmp_path / "drive_detections.json").read_text())
    assert found["classes"] == ["forklift", "crane"]
    names = {box["class"] for timestamp in found["instants"] for box in timestamp["boxes"]}
    assert names
    assert names <= {"forklift", "crane"}
    assert written
    assert all(text.split()[0] in names for text in written)
    assert main(["convert", str(tmp_path / "drive_detections.json"), str(tmp_path / "coco.json")]) == 0
    assert coco.read(tmp_path / "coco.json").classes == ("forklift", "crane")
    assert main(["convert", str(tmp_path / "drive_detections.json"), str(tmp_path / "mine" / "drive_bbox.npy")]) == 0
    assert (tmp_path / "mine" / "classes.txt").read_text() == "forklift\ncrane\n"

"""Scores of other data have another fingerprint."""

import json
import shutil

import numpy as np
import pytest
import toy_roads

from spiking_centernet.data import FolderDataset, read_boxes, write_boxes
from spiking_centernet.data.fingerprint import fingerprint_of


@pytest.fixture(scope="module")
def roads(tmp_path_factory):
    return toy_roads.write_folder(tmp_path_factory.mktemp("roads"))


def test_another_box_event_or_name_gives_another_fingerprint(roads, tmp_path):
    first = fingerprint_of(FolderDataset(roads, "val"))
    assert first == fingerprint_of(FolderDataset(roads, "val"))
    assert first["sha256"] != fingerprint_of(FolderDataset(roads, "train"))["sha256"]
    copy = tmp_path / "copy"
    shutil.copytree(roads, copy)
    assert fingerprint_of(FolderDataset(copy, "val")) == first
    boxes_path = next((copy / "val").glob("*_bbox.npy"))
    boxes = read_boxes(boxes_path).copy()
    boxes["x"][0] += np.float32(1)
    write_boxes(boxes_path, boxes)
    moved = fingerprint_of(FolderDataset(copy, "val"))
    assert moved["sha256"] != first["sha256"]
    events = boxes_path.with_name(boxes_path.name.replace("_bbox.npy", "_td.dat"))
    events.write_bytes(events.read_bytes() + bytes(8))
    assert fingerprint_of(FolderDataset(copy, "val"))["sha256"] != moved["sha256"]


@pytest.mark.parametrize(("text", "version"), [('{"simulator_version": 7}', 7), ("[]", None), ("{", None)])
def test_the_simulators_version_is_told_where_there_is_one(roads, tmp_path, text, version):
    copy = tmp_path / "copy"
    shutil.copytree(roads, copy)
    (copy / "simulation.json").unlink(missing_ok=True)
    assert fingerprint_of(FolderDataset(copy, "val"))["simulator_version"] is None
    (copy / "simulation.json").write_text(text)
    found = fingerprint_of(FolderDataset(copy, "val"))
    assert found["simulator_version"] == version
    json.dumps(found)

"""What ``scn val`` prints of the tasks, and ``scn export --check`` of a file."""

from types import SimpleNamespace

import numpy as np

from spiking_centernet.cli import tables
from spiking_centernet.deploy.export.exporting import Report
from spiking_centernet.deploy.export.parity import Parity
from spiking_centernet.evaluation.prediction import Predictions
from spiking_centernet.evaluation.significance import Interval
from spiking_centernet.structures import Boxes, Detections


class Frames(list):
    """One labeled frame of one recording."""

    recordings = (0,)


def card(predictions):
    rates = SimpleNamespace(per_layer=lambda: {"stem": 0.1}, overall=lambda: 0.1, silent=list)
    return SimpleNamespace(
        split="test", mode="windows", dataset=Frames([0]), predictions=predictions, box3d_errors=(),
        ap_interval=Interval(0.5, 1.0, 500),
        rates=rates, spiking=True,
        scores={"none": predictions.score("none")},
    )  # fmt: skip


def test_every_task_has_a_table_with_words(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    xyxy, labels = np.array([[100, 80, 160, 120], [40, 70, 60, 130]], np.float32), np.array([0, 1])
    box3d = np.array([[1, 1.5, 12, 1.5, 1.8, 4.2, 0.3], [-2, 1.6, 9, 1.7, 0.6, 0.5, -1]], np.float32)
    joints = np.zeros((2, 13, 3), np.float32)
    joints[1, :, :2], joints[1, :, 2] = np.linspace((45, 75), (55, 125), 13), 2
    truth = Boxes(xyxy, labels, box3d=box3d, joints=joints)
    found = Detections(xyxy, np.array([0.9, 0.8], np.float32), labels, 0, box3d=box3d, joints=joints)
    key, tasks = ("drive", 0), ("detect", "detect3d", "pose")
    predictions = Predictions({key: truth}, {key: found}, (240, 304), ("car", "pedestrian"), tasks, frozenset({1}))
    tables.scores(card(predictions))
    shown = capsys.readouterr().out
    assert "3D boxes: AP by distance on the ground, mean 1.000; errors of those within 2 m\n" in shown
    assert "pose, 13 joints; swapped: left and right as fits better\n" in shown
    assert "1 of 1 found" in shown
    assert "AP under none is 0.500 to 1.000 in 95 % of 500 resamples of the 1 recording\n" in shown
    assert "car_ap_0.5m" not in shown


def test_a_check_says_whose_the_two_scores_are(capsys):
    tables.exported(Report(Parity(4, {"heatmap": 0.25}, 0.5, 0.5), None, (0.25, 0.125)))
    shown = capsys.readouterr().out
    assert "ap of the network" in shown
    assert "ap of the file" in shown

import numpy as np
import pytest
from PIL import Image

from spiking_centernet.evaluation.box_matches import by_size, confusion_of, match_frames
from spiking_centernet.evaluation.plots import confusion_plot, sizes_plot
from spiking_centernet.evaluation.prediction import Predictions
from spiking_centernet.evaluation.significance import match_recordings
from spiking_centernet.structures import Boxes, Detections

NAMES = ("car", "pedestrian")


def boxes(*rows):
    array = np.array(rows, np.float64).reshape(-1, 5)
    return Boxes(array[:, :4].astype(np.float32), array[:, 4].astype(np.int64))


def detections(t_us, *rows):
    array = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        array[:, :4].astype(np.float32), array[:, 5].astype(np.float32), array[:, 4].astype(np.int64), t_us
    )


def predictions(truth, found):
    return Predictions({("a", 1): truth}, {("a", 1): found}, (240, 304), NAMES)


CAR, FAR = (0, 0, 40, 40), (100, 100, 120, 160)


def matrix(truth, found, **settings):
    frames = match_frames(predictions(truth, found), protocol="none", min_score=0.3, **settings)
    return confusion_of(frames, NAMES).counts.tolist()


@pytest.mark.parametrize(
    ("truth", "found", "counts"),
    [
        (boxes(), detections(1), [[0, 0, 0], [0, 0, 0], [0, 0, 0]]),
        (boxes((*CAR, 0)), detections(1, (*CAR, 0, 0.9)), [[1, 0, 0], [0, 0, 0], [0, 0, 0]]),
        (boxes((*CAR, 0)), detections(1, (*CAR, 0, 0.2)), [[0, 0, 1], [0, 0, 0], [0, 0, 0]]),
        (boxes((*CAR, 0)), detections(1, (*CAR, 1, 0.9)), [[0, 1, 0], [0, 0, 0], [0, 0, 0]]),
        (boxes((*CAR, 0)), detections(1, (*FAR, 1, 0.9)), [[0, 0, 1], [0, 0, 0], [0, 1, 0]]),
        # The right class goes first, though the wrong one scores higher, and what is left over is false.
        (boxes((*CAR, 0)), detections(1, (*CAR, 1, 0.9), (*CAR, 0, 0.5)), [[1, 0, 0], [0, 0, 0], [0, 1, 0]]),
        (boxes((*CAR, 0), (*FAR, 1)), detections(1, (*CAR, 0, 0.9), (*FAR, 0, 0.9)), [[1, 0, 0], [1, 0, 0], [0, 0, 0]]),
    ],
)
def test_confusion(truth, found, counts):
    assert matrix(truth, found) == counts


def test_a_detection_finds_one_box_and_the_better_overlap_wins():
    truth = boxes((0, 0, 40, 40, 0), (4, 0, 44, 40, 0))
    found = detections(1, (4, 0, 44, 40, 0, 0.9))
    (match,) = match_frames(predictions(truth, found), protocol="none", min_score=0.3).values()
    assert match.taken.tolist() == [-1, 0]
    assert match.iou.tolist() == [0, 1]
    assert (match.num_found, match.num_false) == (1, 0)


def test_every_box_and_detection_stands_once_in_the_matrix_and_hits_are_cocos():
    rng = np.random.default_rng(0)
    truth, found = {}, {}
    for frame in range(30):
        key = (f"r{frame % 3}", 600_000 + frame)
        corner = rng.uniform(0, 200, (rng.integers(0, 6), 2))
        side = rng.uniform(12, 60, (len(corner), 2))
        label = rng.integers(0, 2, len(corner))
        truth[key] = Boxes(np.hstack([corner, corner + side]).astype(np.float32), label)
        moved = np.hstack([corner, corner + side]) + rng.normal(0, 4, (len(corner), 4))
        swapped = np.where(rng.random(len(corner)) < 0.2, 1 - label, label)
        score = rng.random(len(corner)).astype(np.float32)
        order = np.argsort(-score)
        found[key] = Detections(moved[order].astype(np.float32), score[order], swapped[order], key[1])
    made = Predictions(truth, found, (240, 304), NAMES)
    for protocol in ("none", "prophesee"):
        matches = match_frames(made, protocol=protocol, min_score=0.0)
        counts = confusion_of(matches, NAMES).counts
        assert counts[:2].sum() == sum(len(m.truth) for m in matches.values()) > 0
        assert counts[:, :2].sum() == sum(len(m.shown) for m in matches.values()) > 0
        assert counts[0, 1] + counts[1, 0] > 0
        # Without a threshold the right ones are COCO's matches at IoU 0.5, counted independently.
        hits = [int(c.hit[0].sum()) for c in match_recordings(made, protocol).classes]
        assert np.diag(counts)[:2].tolist() == hits


@pytest.mark.parametrize(
    ("found", "truth", "is_found", "is_false"),
    [
        ([], [], [], []),
        ([(0, 0, 10, 10, 0, 0.9)], [], [], [True]),
        ([], [(0, 0, 10, 10, 0)], [False], []),
        ([(0, 0, 10, 10, 0, 0.9)], [(0, 0, 10, 10, 0)], [True], [False]),
        ([(0, 0, 10, 10, 0, 0.9)], [(0, 0, 10, 10, 1)], [False], [True]),  # another class
        ([(0, 0, 10, 5, 0, 0.9)], [(0, 0, 10, 10, 0)], [True], [False]),  # IoU exactly 0.5
        ([(0, 0, 10, 4, 0, 0.9)], [(0, 0, 10, 10, 0)], [False], [True]),
        ([(0, 0, 10, 10, 0, 0.9), (0, 0, 10, 9, 0, 0.5)], [(0, 0, 10, 10, 0)], [True], [False, True]),  # found once
        (
            [(0, 0, 10, 10, 0, 0.9)],
            [(0, 0, 10, 6, 0), (0, 0, 10, 9, 0)],
            [False, True],
            [False],
        ),  # the one it covers most
    ],
)
def test_which_boxes_were_found_and_which_detections_found_none(found, truth, is_found, is_false):
    (match,) = match_frames(predictions(boxes(*truth), detections(1, *found)), protocol="none", min_score=0.3).values()
    assert match.is_found.tolist() == is_found
    assert match.is_false.tolist() == is_false
    assert (match.num_found, match.num_false) == (sum(is_found), sum(is_false))


def test_by_size():
    truth = boxes((0, 0, 10, 10, 0), (100, 0, 140, 40, 0), (100, 100, 200, 200, 1))
    found = detections(1, (100, 0, 140, 40, 0, 0.9), (100, 100, 200, 180, 1, 0.8), (0, 200, 20, 220, 1, 0.7),
                       (100, 102, 200, 200, 1, 0.6))  # fmt: skip
    sizes = by_size(match_frames(predictions(truth, found), protocol="none", min_score=0.3), (0, 16, 32, 96))
    assert sizes.labels == ["0-16", "16-32", "32-96", "96+"]
    assert sizes.num_truth.tolist() == [1, 0, 1, 1]
    assert sizes.num_shown.tolist() == [0, 1, 2, 1]  # 100 x 80 and 100 x 98 pixels
    np.testing.assert_array_equal(sizes.recall_50, [0, np.nan, 1, 1])
    np.testing.assert_array_equal(sizes.recall_75, [0, np.nan, 1, 1])
    np.testing.assert_array_equal(sizes.precision, [np.nan, 0, 1, 0])
    assert sizes.to_dict()["recall_50"] == [0, None, 1, 1]


def test_plots_are_written(tmp_path):
    matches = match_frames(predictions(boxes((*CAR, 0)), detections(1, (*CAR, 0, 0.9))), protocol="none", min_score=0.3)
    confusion_plot(confusion_of(matches, NAMES), tmp_path / "c.png")
    sizes_plot(by_size(matches), tmp_path / "s.png")
    assert all((tmp_path / name).stat().st_size > 5_000 for name in ("c.png", "s.png"))
    confusion_plot(confusion_of(matches, NAMES), tmp_path / "classes.png", classifies=True)
    widths = [Image.open(tmp_path / name).width for name in ("c.png", "classes.png")]
    assert widths[0] - widths[1] == 143  # a class less, at 1.1 inches and 130 pixels an inch

"""Numbers stay with objects, and scores are those of closed forms and of an independent implementation."""

import sys

import numpy as np
import pytest

from spiking_centernet.errors import ConfigError, EvaluationError, MissingPackageError
from spiking_centernet.inference.recordings import as_box_array
from spiking_centernet.inference.tracking import score_tracks, track
from spiking_centernet.structures import Boxes, Detections

EVERY_US = 50_000
pytest.importorskip("trackers")


def seen(t, *objects):
    """Detections of a timestamp from (left, score, label) of 20 x 10 boxes, best first."""
    objects = sorted(objects, key=lambda o: -o[1])
    left = np.array([o[0] for o in objects], np.float32)
    xyxy = np.stack([left, left * 0 + 5, left + 20, left * 0 + 15], axis=1).reshape(-1, 4)
    scores = np.array([o[1] for o in objects], np.float32)
    return Detections(xyxy, scores, np.array([o[2] for o in objects], np.int64), (t + 1) * EVERY_US)


def followed(timestamps, **settings):
    settings = {"every_us": EVERY_US, "start_score": 0.5} | settings
    return [(list(zip(r.labels.tolist(), r.track_ids.tolist(), strict=True))) for r in track(timestamps, **settings)]


def test_no_detections():
    assert followed([]) == []
    assert followed([seen(0), seen(1)]) == [[], []]


def test_two_that_cross_in_different_classes_keep_their_numbers():
    """A car from left to right and a pedestrian back meet in the middle; the car is the surer one before, not after."""
    timestamps = [seen(k, (5 * k, 0.9 if k < 10 else 0.6, 0), (100 - 5 * k, 0.8, 1)) for k in range(20)]
    told = followed(timestamps)
    assert told[0] == []  # a box seen once is no track yet
    number = dict(told[1])
    assert sorted(number.values()) == [1, 2]
    assert all(dict(row) == number for row in told[1:])


def test_unsure_detections_continue_a_track_but_start_none():
    told = followed([seen(k, (3 * k, 0.9 if k < 4 else 0.2, 0), (200, 0.2, 0)) for k in range(8)])
    assert [[number for _, number in row] for row in told] == [[], *[[1]] * 7]
    told = followed([seen(k, (3 * k, 0.9 if k < 4 else 0.05, 0)) for k in range(8)])
    assert [len(row) for row in told] == [0, 1, 1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(("gap", "same"), [(5, True), (30, False)])
def test_an_object_that_is_gone_for_a_second_comes_back_as_another(gap, same):
    there = [seen(k, (50, 0.9, 0)) for k in (*range(5), *range(5 + gap, 10 + gap))]
    gone = [seen(k) for k in range(5, 5 + gap)]
    told = [row for row in followed(there[:5] + gone + there[5:]) if row]
    assert (told[0] == told[-1]) is same


def test_nothing_of_the_callers_is_changed_and_boxes_stay_as_they_were():
    timestamps = [seen(k, (3 * k, 0.9, 0), (100, 0.7, 1)) for k in range(3)]
    before = [d.xyxy.copy() for d in timestamps]
    last = list(track(timestamps, every_us=EVERY_US, start_score=0.5))[-1]
    np.testing.assert_array_equal(last.xyxy, timestamps[-1].xyxy)
    np.testing.assert_array_equal(last.scores, timestamps[-1].scores)
    assert all((d.xyxy == b).all() and (d.track_ids == -1).all() for d, b in zip(timestamps, before, strict=True))


@pytest.mark.parametrize(
    "settings", [{"every_us": 0}, {"start_score": 1.5}, {"continue_score": 0.6}, {"continue_score": -0.1}]
)
def test_impossible_settings_are_refused_before_any_detection(settings):
    with pytest.raises(ConfigError, match="every_us must be"):
        track([], **{"every_us": EVERY_US, "start_score": 0.5} | settings)


def test_a_missing_package_names_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "trackers", None)
    with pytest.raises(MissingPackageError, match=r"tracking needs trackers.*pip install trackers, or .*\[track\]"):
        track([], every_us=EVERY_US, start_score=0.5)


def test_box_arrays_hold_the_numbers_and_one_of_its_own_for_what_has_none():
    tracked = Detections(
        *(getattr(seen(0, (1, 0.9, 0)), k) for k in ("xyxy", "scores", "labels", "t_us")), np.array([7])
    )
    assert as_box_array([tracked, seen(1, (1, 0.9, 0), (50, 0.8, 0))])["track_id"].tolist() == [7, 8, 9]


def labeled(*objects):
    """Boxes from (left, label, track)."""
    found = seen(0, *((left, 1, label) for left, label, _ in objects))
    return Boxes(found.xyxy, found.labels, np.array([number for *_, number in objects], np.int64))


def numbered(t, *objects):
    found = seen(t, *((left, 0.9, label) for left, label, _ in objects))
    ids = np.array([number for *_, number in objects], np.int64)
    return Detections(found.xyxy, found.scores, found.labels, found.t_us, ids)


def keyed(rows, make):
    return {("a", k): make(*row) for k, row in enumerate(rows)}


TRUTH = [[(5 * k, 0, 3), (100, 1, 8)] for k in range(10)]


def score(rows):
    found = {key: numbered(key[1], *rows[key[1]]) for key in keyed(TRUTH, labeled) if rows[key[1]] is not None}
    return score_tracks(keyed(TRUTH, labeled), found)


def test_the_truth_scores_one():
    result = score([[(left, label, number + 40) for left, label, number in row] for row in TRUTH])
    assert (result.hota, result.det_a, result.ass_a, result.mota, result.motp, result.idf1) == pytest.approx((1,) * 6)
    assert (result.num_switches, result.num_truth, result.num_found, result.num_instants) == (0, 20, 20, 10)


def test_nothing_scores_nothing():
    result = score([None] * 10)
    assert (result.hota, result.mota, result.idf1, result.num_truth, result.num_found) == (0, 0, 0, 20, 0)


def test_a_number_that_changes_half_way_is_one_switch():
    rows = [
        [(left, label, number if k < 5 or label else 50) for left, label, number in row] for k, row in enumerate(TRUTH)
    ]
    result = score(rows)
    assert result.num_switches == 1
    assert result.mota == pytest.approx((20 - 1) / 20)
    # Of the switched track half of the pairs hold: A = 5 / (10 + 5 - 5) for its 10 boxes, 1 for the other 10.
    assert result.ass_a == pytest.approx((10 * 0.5 + 10 * 1) / 20)
    assert result.det_a == pytest.approx(1)
    assert result.hota == pytest.approx(np.sqrt(0.75))
    assert result.idf1 == pytest.approx(15 / 20)


def test_a_wrong_class_is_a_miss_and_a_false_box():
    result = score([[(left, 0, number) for left, _, number in row] for row in TRUTH])
    assert result.mota == pytest.approx((10 - 10) / 20)


def test_two_recordings_do_not_share_numbers():
    truth = keyed(TRUTH, labeled)
    truth |= {("b", k): boxes for (_, k), boxes in truth.items()}
    found = {key: numbered(0, *[(left, label, n + (7 if key[0] == "b" else 0)) for left, label, n in TRUTH[key[1]]])
             for key in truth}  # fmt: skip
    assert score_tracks(truth, found).hota == pytest.approx(1)


def test_what_cannot_be_scored():
    with pytest.raises(EvaluationError, match="no labeled frames"):
        score_tracks({}, {})
    with pytest.raises(EvaluationError, match="a: a box has no track"):
        score_tracks({("a", 1): Boxes(np.zeros((1, 4), np.float32), np.zeros(1, np.int64))}, {})


def test_detections_carry_their_numbers_along():
    found = numbered(0, (1, 0, 4), (50, 1, 9))
    assert found.above(0.5).track_ids.tolist() == [4, 9]
    assert found.above(0.95).track_ids.tolist() == []
    assert seen(0, (1, 0.9, 0)).track_ids.tolist() == [-1]
    with pytest.raises(ValueError, match=r"track_ids must be \[2\] like xyxy, got \[1\]"):
        Detections(found.xyxy, found.scores, found.labels, 0, np.zeros(1, np.int64))


def test_the_number_is_drawn():
    from spiking_centernet.visualize.draw import draw_boxes

    image = np.zeros((60, 120, 3), np.uint8)
    plain, tracked = seen(0, (20, 0.9, 0)), numbered(0, (20, 0, 4))
    assert (draw_boxes(image, plain) != draw_boxes(image, tracked)).any()


@pytest.mark.parametrize("every_us", [50_000, 1_000_000, 1_100_000, 2_000_000, 7_300_000, 60_000_000])
def test_an_object_keeps_its_track_however_rarely_it_is_looked_at(every_us):
    pytest.importorskip("trackers")
    xyxy, score, label = np.array([[10, 50, 50, 90]], np.float32), np.array([0.9], np.float32), np.array([0])
    shown = (Detections(xyxy, score, label, k * every_us) for k in range(1, 9))
    found = list(track(shown, every_us=every_us, start_score=0.5))
    assert sum(len(detections) for detections in found) >= 7
    assert {number for detections in found for number in detections.track_ids.tolist()} == {1}

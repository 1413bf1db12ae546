"""Several answers of a window: their boxes, and what nothing is to be learned of."""

from dataclasses import replace

import numpy as np
import pytest

from spiking_centernet.data import Augmentation, FolderDataset, collate, write_boxes, write_dat
from spiking_centernet.data.augmentation import flip, zoom
from spiking_centernet.errors import ConfigError
from spiking_centernet.structures import BOX_DTYPE, VoxelSpec

SIZE_HW = (24, 32)
SPEC = VoxelSpec(window_us=400_000, num_steps=8)
STOPS, PARKED, DRIVES = 1, 2, 3


def boxes():
    """Return labels every 100 ms: one object that stops at 500 ms, one that never moved, one that drives on."""
    rows = []
    for t_us in range(100_000, 1_000_000, 100_000):
        moved = t_us / 100_000
        rows += [
            (t_us, min(moved, 5), 3, 8, 9, 0, 1, STOPS), (t_us, 20, 4, 6, 9, 1, 1, PARKED),
            (t_us, 2 * moved, 14, 9, 8, 0, 1, DRIVES),
        ]  # fmt: skip
    return np.array(rows, BOX_DTYPE)


@pytest.fixture
def root(tmp_path, random_events):
    events = random_events(3_000, size_hw=SIZE_HW, seed=0)
    events["t"] *= 2
    write_dat(tmp_path / "train" / "a_td.dat", events, SIZE_HW)
    write_boxes(tmp_path / "train" / "a_bbox.npy", boxes())
    return tmp_path


def answers_at(root, t_us, **settings):
    settings = {"answers": 4, "answer_us": 100_000} | settings
    dataset = FolderDataset(root, "train", SPEC, **settings)
    times = [dataset.locate(i)[1] for i in range(len(dataset))]
    return dataset[times.index(t_us)]


def tracks(boxes):
    return boxes.track_ids.tolist(), boxes.crowds.track_ids.tolist()


def test_every_answer_has_the_boxes_of_its_time(root):
    sample = answers_at(root, 600_000)
    answers = [*sample.earlier, sample.boxes]
    everything = boxes()
    for t_us, found in zip(range(300_000, 700_000, 100_000), answers, strict=True):
        here = everything[everything["ts"] == t_us]
        assert found.xyxy[:, 0].tolist() == here["x"].tolist()
        assert found.labels.tolist() == here["class_id"].tolist()


def test_what_has_not_moved_since_the_window_began_is_left_out(root):
    # It stops at 500 ms: a window that begins at 200 ms saw it move, one that begins at 500 ms did not.
    sample = answers_at(root, 600_000)
    assert [tracks(found)[1] for found in (*sample.earlier, sample.boxes)] == [[PARKED]] * 4
    sample = answers_at(root, 900_000)
    assert [tracks(found)[1] for found in (*sample.earlier, sample.boxes)] == [[STOPS, PARKED]] * 4
    sample = answers_at(root, 800_000)
    assert [tracks(found)[1] for found in (*sample.earlier, sample.boxes)] == [[PARKED]] * 4


def test_objects_without_a_track_of_their_own_are_kept(root):
    shared = boxes()
    shared["track_id"] = 7
    write_boxes(root / "train" / "a_bbox.npy", shared)
    assert not answers_at(root, 900_000).boxes.crowd.any()


def test_at_times_without_a_label_nothing_is_learned(root):
    sample = answers_at(root, 900_000, answer_us=50_000)
    known = [900_000 - n * 50_000 for n in (3, 2, 1, 0)]
    for t_us, found in zip(known, (*sample.earlier, sample.boxes), strict=True):
        if t_us % 100_000:
            assert found.xyxy.tolist() == [[0, 0, 32, 24]] * 2
            assert found.labels.tolist() == [0, 1]
            assert found.crowd.all()
        else:
            assert tracks(found)[0] == [STOPS, PARKED, DRIVES]


@pytest.mark.parametrize(("late_us", "is_labeled"), [(-24_000, True), (2_000, True), (25_000, True), (26_000, False)])
def test_a_label_half_a_step_away_is_that_of_the_answer(root, late_us, is_labeled):
    rows = boxes()
    rows["ts"][rows["ts"] == 500_000] = 500_000 + late_us
    write_boxes(root / "train" / "a_bbox.npy", rows)
    sample = answers_at(root, 600_000)
    answers = [*sample.earlier, sample.boxes]
    assert [found.crowd.all() for found in answers] == [False, False, not is_labeled, False]
    if is_labeled:
        assert tracks(answers[2]) == ([STOPS, PARKED, DRIVES], [PARKED])


def test_boxes_of_earlier_answers_are_flipped_and_zoomed_too(root):
    sample = answers_at(root, 600_000)
    for change in (flip, lambda s: zoom(s, 0.5, (-12, -16))):
        changed = change(sample)
        for before, after in zip(sample.earlier, changed.earlier, strict=True):
            alone = change(replace(sample, boxes=before, earlier=())).boxes
            assert np.array_equal(after.xyxy, alone.xyxy)
            assert not np.array_equal(after.xyxy, before.xyxy)
    assert len(collate([sample, sample]).earlier[1]) == 3


def test_one_answer_is_labeled_as_before(root):
    sample = answers_at(root, 900_000, answers=1)
    assert not sample.earlier
    assert not sample.boxes.crowd.any()


def test_changed_events_have_no_earlier_answers(root):
    with pytest.raises(ConfigError, match="as recorded"):
        answers_at(root, 600_000, augmentation=Augmentation(paste=0.1))
    assert len(answers_at(root, 600_000, augmentation=Augmentation()).earlier) == 3

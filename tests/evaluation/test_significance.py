"""The bootstrap's AP is faster-coco-eval's, also of resampled recordings; its verdicts hold on known differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spiking_centernet.errors import EvaluationError
from spiking_centernet.evaluation.metrics import evaluate_boxes
from spiking_centernet.evaluation.prediction import Predictions
from spiking_centernet.evaluation.significance import (
    ENOUGH_RECORDINGS,
    ap_interval,
    average_precision,
    compare,
    draw_weights,
    load_matches,
    match_recordings,
    resampled_ap,
    same_recordings,
    save_matches,
    student_quantile,
    student_within,
)
from spiking_centernet.structures import Boxes, Detections

SIZE_HW = (240, 304)


def matches_of(truth, found, protocol="cordone"):
    return match_recordings(Predictions(truth, found, SIZE_HW, ("car", "pedestrian")), protocol)


def world(seed, num_recordings=4, timestamps=3, most=6):
    """Return ground truth and detections: some boxes found well, some roughly, some missed, some false."""
    rng = np.random.default_rng(seed)
    truth, found = {}, {}
    for r in range(num_recordings):
        for t in range(1, timestamps + 1):
            count = int(rng.integers(0, most))
            corner = rng.uniform(0, 200, (count, 2))
            xyxy = np.concatenate([corner, corner + rng.uniform(15, 60, (count, 2))], axis=1)
            labels = rng.integers(0, 2, count)
            truth[f"r{r}", t * 1000] = Boxes(xyxy.astype(np.float32), labels)
            shifted = np.repeat(xyxy, 2, axis=0) + rng.normal(0, 4, (2 * count, 4))
            extra = rng.uniform(0, 150, (3, 2))
            boxes = np.concatenate([shifted, np.concatenate([extra, extra + 40], axis=1)]).astype(np.float32)
            scores = rng.random(len(boxes)).astype(np.float32)
            order = np.argsort(-scores)
            guess = np.concatenate([np.repeat(labels, 2), rng.integers(0, 2, 3)])
            found[f"r{r}", t * 1000] = Detections(boxes[order], scores[order], guess[order], t * 1000)
    return truth, found


def coco(truth, found, protocol="cordone"):
    score = evaluate_boxes(truth, found, size_hw=SIZE_HW, protocol=protocol)
    return score.ap, score.ap50, score.ap75


def repeated(by_timestamp, weights):
    """Return the recordings as often as they were drawn, each copy under a name of its own."""
    names = sorted({name for name, _ in by_timestamp})
    return {
        (f"{name}.{copy}", t): value
        for (name, t), value in by_timestamp.items()
        for copy in range(weights[names.index(name)])
    }


@pytest.mark.parametrize("protocol", ["cordone", "none", "prophesee-script"])
@pytest.mark.parametrize("seed", range(3))
def test_ap_is_that_of_coco(seed, protocol):
    truth, found = world(seed)
    truth, found = ({(n, t + 200_000): v for (n, t), v in side.items()} for side in (truth, found))
    found = {k: Detections(d.xyxy, d.scores, d.labels, k[1]) for k, d in found.items()}
    ap = average_precision(matches_of(truth, found, protocol))
    assert (ap.mean(), ap[0], ap[5]) == pytest.approx(coco(truth, found, protocol), abs=1e-9)
    assert 0.01 < ap.mean() < 0.9


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 3), min_size=3, max_size=3).filter(any))
def test_ap_of_a_resample_is_that_of_coco_on_repeated_recordings(seed, weights):
    truth, found = world(seed, num_recordings=3, timestamps=2)
    matches = matches_of(truth, found)
    ours = average_precision(matches, np.array(weights)).mean()
    theirs = coco(repeated(truth, weights), repeated(found, weights))[0]
    assert ours == pytest.approx(theirs, abs=1e-9, nan_ok=True)


def test_nothing_to_find_is_not_a_number():
    empty = {("a", 1000): Boxes.empty()}
    none = {("a", 1000): Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), 1000)}
    assert np.isnan(average_precision(matches_of(empty, none))).all()
    assert np.isnan(average_precision(matches_of({}, {}))).all()


def test_nothing_found_is_zero():
    truth, _ = world(0)
    assert average_precision(matches_of(truth, {})).tolist() == [0] * 10


def test_perfect_detections_have_ap_one_however_recordings_are_drawn():
    truth, _ = world(1)
    found = {k: Detections(b.xyxy, np.ones(len(b), np.float32), b.labels, k[1]) for k, b in truth.items()}
    weights = draw_weights(4, 20)
    assert weights[0].tolist() == [1, 1, 1, 1]
    assert (weights.sum(1) == 4).all()
    assert resampled_ap(matches_of(truth, found), weights) == pytest.approx(1.0)


def test_matches_survive_a_file(tmp_path):
    matches = matches_of(*world(2))
    save_matches(matches, tmp_path / "matches.npz")
    again = load_matches(tmp_path / "matches.npz")
    assert same_recordings([matches, again])
    assert not same_recordings([matches, matches_of(*world(3))])
    weights = draw_weights(4, 5)
    assert np.array_equal(resampled_ap(matches, weights), resampled_ap(again, weights))


def noisy(rng, mean, seeds, samples):
    return mean + rng.normal(0, 0.01, (seeds, 1)) + rng.normal(0, 0.002, (seeds, samples))


def test_a_large_difference_is_significant_and_none_is_not():
    rng = np.random.default_rng(0)
    base = noisy(rng, 0.2, 5, 1001)
    better = compare(base + 0.1 + rng.normal(0, 0.01, (5, 1)), base, num_recordings=9)
    assert better.significant
    assert better.low > 0.07
    assert better.high < 0.12
    assert better.p_value < 0.001
    assert "not significant" not in better.describe()
    same = compare(base, base, num_recordings=9)
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)
    assert same.describe().endswith("p = 1.000, not significant")


def test_swapping_the_sides_swaps_the_sign():
    rng = np.random.default_rng(1)
    a, b = noisy(rng, 0.2, 3, 401), noisy(rng, 0.21, 3, 401)
    one, two = compare(a, b, num_recordings=4), compare(b, a, num_recordings=4)
    assert one.difference == pytest.approx(-two.difference)
    assert (one.low, one.high) == pytest.approx((-two.high, -two.low))
    assert one.p_value == two.p_value


@pytest.mark.parametrize("num_seeds", [2, 3, 5, 20])
def test_pure_chance_is_called_significant_about_as_often_as_it_says(num_seeds):
    calls = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        chance = rng.normal(0, 0.01, (num_seeds, 1)) + rng.normal(0, 0.001, (num_seeds, 301))
        calls += compare(chance, np.zeros_like(chance), num_recordings=9, seed=seed).significant
    assert calls <= 18  # 10 expected; drawing three seeds with replacement would call about 50


def test_the_recordings_count_with_few_seeds_too():
    """Seeds that agree say nothing about other recordings."""
    rng = np.random.default_rng(0)
    difference = np.full((3, 1), 0.01) + np.concatenate([np.zeros((1, 1)), rng.normal(0, 0.02, (1, 400))], axis=1)
    assert not compare(difference, np.zeros_like(difference), num_recordings=9).significant
    steady = np.full((3, 401), 0.01)
    assert compare(steady, np.zeros_like(steady), num_recordings=9).p_value == 0


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 30])
def test_students_t_is_that_of_scipy(freedom):
    t = pytest.importorskip("scipy.stats").t
    for value in (0.0, 0.3, 1.0, 2.5, 12.0):
        assert student_within(value, freedom) == pytest.approx(1 - 2 * t.sf(value, freedom), abs=1e-12)
    assert student_quantile(0.95, freedom) == pytest.approx(t.ppf(0.975, freedom), rel=1e-9)


@pytest.mark.parametrize("shapes", [((0, 9), (0, 9)), ((2, 9), (3, 9)), ((2, 1), (2, 1))], ids=str)
def test_what_cannot_be_compared_is_refused(shapes):
    with pytest.raises(EvaluationError, match="same seeds and resamples"):
        compare(*map(np.zeros, shapes), num_recordings=3)


def test_the_interval_holds_the_ap_and_narrows_with_more_recordings():
    few, many = (matches_of(*world(0, num_recordings=n)) for n in (10, 160))
    reach = []
    for matches in (few, many):
        found = ap_interval(matches, num_resamples=200)
        assert found.low < average_precision(matches).mean() < found.high
        reach.append(found.high - found.low)
    assert 2 < reach[0] / reach[1] < 8  # sixteen times as many: four times as narrow
    assert ap_interval(few) == ap_interval(few)


def test_equal_recordings_leave_no_doubt_and_few_no_interval():
    truth, found = world(3, num_recordings=1)
    copies = [
        {(f"r{n}", t): v for n in range(ENOUGH_RECORDINGS) for (_, t), v in side.items()} for side in (truth, found)
    ]
    interval = ap_interval(matches_of(*copies))
    assert interval.high - interval.low == pytest.approx(0, abs=0.002)  # equal scores may come in another order
    assert ap_interval(matches_of(*world(3, num_recordings=ENOUGH_RECORDINGS - 1))) is None
    nothing = {(f"r{n}", 1000): Boxes.empty() for n in range(ENOUGH_RECORDINGS)}
    assert ap_interval(matches_of(nothing, {})) is None

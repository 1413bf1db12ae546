import dataclasses
import json
import math

import numpy as np
import pytest

from spiking_centernet.errors import ConfigError, EvaluationError
from spiking_centernet.evaluation.metrics import PROTOCOLS, Protocol, evaluate_boxes, get_protocol
from spiking_centernet.structures import Boxes, Detections

GEN1 = (240, 304)
MEGAPIXEL = (720, 1280)
COCO_ORDER = (
    "ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large",
    "ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large",
)  # fmt: skip


def boxes(*rows) -> Boxes:
    """Rows of left, top, right, bottom, label."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Boxes(table[:, :4], table[:, 4].astype(np.int64))


def found(t_us, *rows) -> Detections:
    """Rows of left, top, right, bottom, label, score."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 5], table[:, 4].astype(np.int64), t_us)


def by_timestamp(golden_dir, suffix):
    out = {}
    for k in range(4):
        table = np.load(golden_dir / f"rec{k}_{suffix}.npy")
        t = table[table.dtype.names[0]].astype(np.int64)
        x, y, w, h = (table[c].astype(np.float64) for c in "xywh")
        xyxy = np.stack([x, y, x + w, y + h], axis=1).astype(np.float32)
        labels = table["class_id"].astype(np.int64)
        for t_us in np.unique(t).tolist():
            own = t == t_us
            if suffix == "bbox":
                out[f"rec{k}", t_us] = Boxes(xyxy[own], labels[own])
            else:
                out[f"rec{k}", t_us] = Detections(xyxy[own], table["class_confidence"][own], labels[own], t_us)
    return out


@pytest.mark.parametrize(
    ("key", "protocol", "tolerance_us"),
    [
        ("gen1_skip500ms_diag30_side10_tol50ms", "prophesee", 50_000),
        ("no_filter_tol50ms", "none", 50_000),
        ("gen1_tol25ms", "prophesee", 25_000),
    ],
)
def test_golden_statistics(golden_dir, key, protocol, tolerance_us):
    expected = json.loads((golden_dir / "coco_expected.json").read_text())[key]
    score = evaluate_boxes(
        by_timestamp(golden_dir, "bbox"),
        by_timestamp(golden_dir, "detections_bbox"),
        size_hw=GEN1,
        protocol=protocol,
        tolerance_us=tolerance_us,
    )
    np.testing.assert_allclose([getattr(score, name) for name in COCO_ORDER], expected, rtol=0, atol=1e-6)
    # The labels are 50 ms apart: only the wider tolerance reaches the neighbors.
    assert (score.self_ap < 0.5) == (tolerance_us == 50_000)


def pycocotools_statistics(truth, detections, class_names):
    """The reference implementation, on boxes already filtered and timestamps already matched."""
    import contextlib
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images, gt, dt = [], [], []
    for image, key in enumerate(sorted(truth), start=1):
        images.append({"id": image})
        for rows, side in ((truth[key], gt), (detections.get(key, found(key[1])), dt)):
            for k in range(len(rows)):
                x1, y1, x2, y2 = rows.xyxy[k].astype(float)
                row = {"id": len(side) + 1, "image_id": image, "category_id": int(rows.labels[k]) + 1, "iscrowd": 0}
                row |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
                side.append(row | ({} if side is gt else {"score": float(rows.scores[k])}))
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(class_names)]
    sides = []
    with contextlib.redirect_stdout(io.StringIO()):
        for rows in (gt, dt):
            sides.append(COCO())
            sides[-1].dataset = {"images": images, "annotations": rows, "categories": categories}
            sides[-1].createIndex()
        run = COCOeval(*sides, iouType="bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return [math.nan if value == -1 else value for value in run.stats]


def scene(seed, *, timestamps, max_truth, max_found, truth_classes=(0, 1), found_classes=(0, 1), score_levels=1000):
    """Random truth, and detections of which half are jittered truth."""
    rng = np.random.default_rng(seed)
    truth, detections = {}, {}
    for k in range(timestamps):
        key = ("clip", 1_000_000 + 250_000 * k)
        n, m = rng.integers(0, max_truth + 1), rng.integers(0, max_found + 1)
        low, side = rng.uniform(0, 180, (n, 2)), rng.uniform(4, 120, (n, 2))
        truth[key] = Boxes(
            np.concatenate([low, low + side], 1).astype(np.float32), rng.choice(truth_classes, n).astype(np.int64)
        )
        low, side = rng.uniform(0, 180, (m, 2)), rng.uniform(4, 120, (m, 2))
        xyxy, labels = np.concatenate([low, low + side], 1), rng.choice(found_classes, m).astype(np.int64)
        for j in range(0, m if n else 0, 2):
            source = rng.integers(n)
            xyxy[j] = truth[key].xyxy[source] + rng.normal(0, 3, 4)
            if truth[key].labels[source] in found_classes:
                labels[j] = truth[key].labels[source]
        xyxy[:, 2:] = np.maximum(xyxy[:, 2:], xyxy[:, :2] + 1)
        scores = (rng.integers(0, score_levels + 1, m) / score_levels).astype(np.float32)
        detections[key] = Detections(xyxy.astype(np.float32), scores, labels, key[1])
    return truth, detections


@pytest.mark.parametrize(
    "settings",
    [
        {"timestamps": 1, "max_truth": 0, "max_found": 0},
        {"timestamps": 3, "max_truth": 0, "max_found": 5},
        {"timestamps": 3, "max_truth": 5, "max_found": 0},
        {"timestamps": 12, "max_truth": 8, "max_found": 12},
        {"timestamps": 12, "max_truth": 8, "max_found": 12, "score_levels": 1},
        {"timestamps": 12, "max_truth": 8, "max_found": 12, "score_levels": 4},
        {"timestamps": 8, "max_truth": 6, "max_found": 8, "truth_classes": (1,)},
        {"timestamps": 8, "max_truth": 6, "max_found": 8, "found_classes": (0,)},
        {"timestamps": 8, "max_truth": 6, "max_found": 8, "truth_classes": (0,), "found_classes": (1,)},
        {"timestamps": 2, "max_truth": 30, "max_found": 500, "score_levels": 50},
    ],
    ids=lambda s: ",".join(f"{k}={v}" for k, v in s.items()),
)
@pytest.mark.parametrize("seed", range(3))
def test_same_as_pycocotools(settings, seed):
    truth, detections = scene(seed, **settings)
    score = evaluate_boxes(truth, detections, size_hw=GEN1, protocol="none")
    expected = pycocotools_statistics(truth, detections, ("car", "pedestrian"))
    np.testing.assert_allclose([getattr(score, name) for name in COCO_ORDER], expected, rtol=0, atol=1e-9)


def test_more_than_a_hundred_detections_per_timestamp_are_cut_at_the_best():
    truth = {("a", 1_000_000): boxes((10, 10, 60, 60, 0))}
    misses = [(100, 100, 150, 150, 0, 0.9)] * 100
    hit_last = found(1_000_000, *misses, (10, 10, 60, 60, 0, 0.5))
    hit_within = found(1_000_000, *misses[1:], (10, 10, 60, 60, 0, 0.5))
    cut = evaluate_boxes(truth, {("a", 1_000_000): hit_last}, size_hw=GEN1)
    kept = evaluate_boxes(truth, {("a", 1_000_000): hit_within}, size_hw=GEN1)
    assert cut.ap == 0
    assert kept.ap == pytest.approx(1 / 100)


@pytest.mark.parametrize(
    ("protocol", "size_hw", "limits_px"),
    [
        ("prophesee", GEN1, (30, 10)),
        ("prophesee", MEGAPIXEL, (60, 20)),
        ("prophesee", (260, 346), (30, 10)),
        ("prophesee", (480, 640), (30, 10)),
        ("prophesee-script", GEN1, (30, 20)),
        ("prophesee-script", MEGAPIXEL, (60, 10)),
        ("cordone", GEN1, (30, 20)),
        ("cordone", MEGAPIXEL, (30, 20)),
        ("none", GEN1, (0, 0)),
    ],
)
def test_least_sizes(protocol, size_hw, limits_px):
    assert get_protocol(protocol).limits_px(size_hw) == limits_px


@pytest.mark.parametrize(
    ("box", "kept_by"),
    [
        ((0, 0, 0.5, 0.5), {"none"}),
        ((0, 0, 18, 24), {"prophesee"}),  # diagonal exactly 30, side under 20
        ((0, 0, 17.9, 24), set()),  # diagonal 29.94
        ((0, 0, 9.99, 100), set()),
        ((0.1, 0.1, 10.1, 100), {"prophesee"}),  # side 10 in float32 corners
        ((0, 0, 20, 24), {"prophesee", "prophesee-script", "cordone"}),
    ],
)
def test_which_boxes_count_on_gen1(box, kept_by):
    xyxy = np.array([box], np.float32)
    kept = {name for name, protocol in PROTOCOLS.items() if protocol.keep(xyxy, 1_000_000, GEN1)[0]}
    assert kept == kept_by | {"none"}


@pytest.mark.parametrize(
    ("t_us", "kept_by"),
    [
        (0, {"cordone", "none"}),
        (100_000, {"cordone", "none"}),
        (100_001, {"cordone", "none", "prophesee-script"}),
        (500_000, {"cordone", "none", "prophesee-script"}),
        (500_001, {"cordone", "none", "prophesee-script", "prophesee"}),
    ],
)
def test_which_times_count(t_us, kept_by):
    xyxy = np.array([[0, 0, 100, 100]], np.float32)
    assert {name for name, protocol in PROTOCOLS.items() if protocol.keep(xyxy, t_us, GEN1)[0]} == kept_by


def test_an_emptied_timestamp_costs_precision_only_where_it_is_scored():
    truth = {("a", 1_000_000): boxes((10, 10, 60, 60, 0)), ("a", 2_000_000): boxes((10, 10, 15, 15, 0))}
    detections = {
        ("a", 1_000_000): found(1_000_000, (10, 10, 60, 60, 0, 0.5)),
        ("a", 2_000_000): found(2_000_000, (100, 100, 160, 160, 0, 0.9)),
    }
    prophesee = evaluate_boxes(truth, detections, size_hw=GEN1, protocol="prophesee")
    cordone = evaluate_boxes(truth, detections, size_hw=GEN1, protocol="cordone")
    assert (prophesee.ap50, prophesee.num_instants, prophesee.num_detections_unlabelled) == (1, 1, 1)
    assert (cordone.ap50, cordone.num_instants, cordone.num_detections_unlabelled) == (0.5, 2, 0)
    assert prophesee.num_truth_filtered == cordone.num_truth_filtered == 1


def test_counts_and_curves():
    truth = {
        ("a", 1_000_000): boxes((10, 10, 60, 60, 0), (100, 100, 160, 160, 0)),
        ("b", 1_000_000): boxes((10, 10, 60, 60, 0)),
    }
    detections = {
        ("a", 1_000_000): found(1_000_000, (10, 10, 60, 60, 0, 0.9), (0, 0, 3, 3, 0, 0.99), (200, 0, 260, 60, 1, 0.2)),
        ("a", 1_250_000): found(1_250_000, (10, 10, 60, 60, 0, 0.95)),
    }
    score = evaluate_boxes(truth, detections, size_hw=GEN1)
    car, pedestrian = score.classes
    assert (score.num_instants, score.num_truth, score.num_detections) == (2, 3, 2)
    assert (score.num_detections_filtered, score.num_detections_unlabelled) == (1, 1)
    assert score.num_instants_undetected == 1
    assert (car.num_truth, car.num_detections, pedestrian.num_truth, pedestrian.num_detections) == (3, 1, 0, 1)
    # One of three found, without a false alarm: precision 1 up to recall 0.33, nothing beyond.
    assert car.precision_at_50 == (1.0,) * 34 + (0.0,) * 67
    assert car.score_at_50[:34] == pytest.approx([0.9] * 34)
    assert car.ap50 == score.ap50 == pytest.approx(34 / 101)
    assert math.isnan(pedestrian.ap)
    assert score.self_ap == pytest.approx(1)


def test_the_dictionary_is_json_without_nan():
    score = evaluate_boxes({("a", 1_000_000): boxes((10, 10, 60, 60, 0))}, {}, size_hw=GEN1)
    plain = json.loads(json.dumps(score.to_dict(), allow_nan=False))
    assert plain["ap"] == 0
    assert plain["ap_small"] is None
    assert plain["protocol"] == "prophesee"
    assert plain["classes"][1]["ap50"] is None


@pytest.mark.parametrize("detections", [{}, {("a", 1_000_000): found(1_000_000, (10, 10, 60, 60, 0, 0.5))}])
def test_no_truth_has_no_score(detections):
    score = evaluate_boxes({}, detections, size_hw=GEN1)
    assert all(math.isnan(getattr(score, name)) for name in COCO_ORDER)
    assert math.isnan(score.self_ap)
    assert score.num_detections_unlabelled == len(detections)


def test_the_tolerance_merges_neighbors_of_ground_truth():
    truth = {("a", 1_000_000 + 50_000 * k): boxes((10 + 30 * k, 10, 60 + 30 * k, 60, 0)) for k in range(5)}
    own = {k: Detections(b.xyxy, np.full(1, 0.5, np.float32), b.labels, k[1]) for k, b in truth.items()}
    exact = evaluate_boxes(truth, own, size_hw=GEN1)
    merged = evaluate_boxes(truth, own, size_hw=GEN1, tolerance_us=50_000)
    assert (exact.ap, exact.self_ap) == (1, 1)
    assert merged.ap == merged.self_ap < 0.7
    assert merged.num_detections == 3 * 5 - 2


@pytest.mark.parametrize(
    ("truth", "detections", "message"),
    [
        ({("a", 1): boxes((0, 0, math.nan, 9, 0))}, {}, "ground truth of 'a' at 1 us: a box is not finite"),
        ({("a", 1): boxes((0, 0, 9, 9, 2))}, {}, "labels reach from 2 to 2"),
        ({}, {("a", 1): found(1, (0, 0, 9, 9, 0, math.nan))}, "detections of 'a' at 1 us: a score is not finite"),
        ({}, {("a", 1): found(2, (0, 0, 9, 9, 0, 0.5))}, "file them under their own timestamp"),
        ({("a", 1): boxes()}, {("a", 2): found(2)}, "no detection lies at a labeled frame"),
        (
            {("a", 1): boxes((5, 5, 5, 9, 0))},
            {},
            "against itself gives AP 0.0000 instead of 1: in 'a' at 1 us a box has",
        ),
        ({("a", 1): boxes(*[(k, k, k + 9, k + 9, 0) for k in range(101)])}, {}, "more than 100 boxes"),
    ],
)
def test_what_cannot_be_scored_says_why(truth, detections, message):
    with pytest.raises(EvaluationError, match=message):
        evaluate_boxes(truth, detections, size_hw=GEN1, protocol="none")


def test_an_unknown_protocol_gets_a_suggestion():
    with pytest.raises(ConfigError, match="did you mean 'prophesee'"):
        evaluate_boxes({}, {}, size_hw=GEN1, protocol="prophese")
    with pytest.raises(ConfigError, match="tolerance_us must be 0 or more, got -1"):
        evaluate_boxes({}, {}, size_hw=GEN1, tolerance_us=-1)


def test_a_protocol_of_ones_own():
    strict = dataclasses.replace(PROTOCOLS["prophesee"], name="large only", gen1_px=(100, 50))
    assert isinstance(strict, Protocol)
    score = evaluate_boxes({("a", 1_000_000): boxes((10, 10, 60, 60, 0))}, {}, size_hw=GEN1, protocol=strict)
    assert (score.protocol, score.num_truth, score.num_truth_filtered) == ("large only", 0, 1)

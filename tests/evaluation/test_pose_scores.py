import contextlib
import io
import json

import numpy as np
import pytest
import toy_photos

from spiking_centernet.data import FolderDataset
from spiking_centernet.data.convert.conversion import convert_file
from spiking_centernet.data.formats.dat_writer import write_dat
from spiking_centernet.data.frames import Letterbox
from spiking_centernet.errors import EvaluationError
from spiking_centernet.evaluation.pose_scores import STATISTICS, coco_statistics, evaluate_pose, oks
from spiking_centernet.evaluation.prediction import Predictions
from spiking_centernet.evaluation.prediction_files import load_predictions, save_predictions
from spiking_centernet.joint_sets import AREA_SHARE, JOINT_SETS
from spiking_centernet.structures import EVENT_DTYPE, Boxes, Detections, VoxelSpec


@pytest.mark.parametrize("count", [13, 17])
def test_statistics_and_similarities_are_those_of_coco(golden_dir, count):
    golden = json.loads((golden_dir / "tasks" / f"oks_{count}.json").read_text())
    assert golden["sigmas"] == pytest.approx(JOINT_SETS[count].sigmas)
    stats = coco_statistics(golden["ground_truth"], golden["detections"], JOINT_SETS[count].sigmas)
    assert tuple(stats) == STATISTICS
    assert stats == pytest.approx(golden["stats"], abs=1e-9)
    for image, wanted in golden["oks_by_image"].items():
        truth = [a for a in golden["ground_truth"]["annotations"] if a["image_id"] == int(image)]
        found = [d for d in golden["detections"] if d["image_id"] == int(image)]
        found.sort(key=lambda d: -d["score"])
        if not truth or not found:
            continue
        similarity = oks(
            np.array([a["keypoints"] for a in truth], np.float64).reshape(-1, count, 3),
            np.array([d["keypoints"] for d in found], np.float64).reshape(-1, count, 3),
            np.array([a["area"] for a in truth], np.float64), np.array([a["bbox"] for a in truth], np.float64),
            JOINT_SETS[count].sigmas,
        )  # fmt: skip
        np.testing.assert_allclose(similarity.T, np.array(wanted), rtol=1e-6, atol=1e-9)


def people(count=13):
    rng = np.random.default_rng(count)
    truth, found = {}, {}
    for i in range(4):
        low = rng.uniform(0, 60, (3, 2)) + np.arange(3)[:, None] * 100
        sides = rng.uniform(40, 60, (3, 2))
        uv = low[:, None] + rng.uniform(0, 1, (3, count, 2)) * sides[:, None]
        joints = np.concatenate([uv, rng.integers(1, 3, (3, count, 1))], axis=2).astype(np.float32)
        xyxy = np.concatenate([low, low + sides], axis=1).astype(np.float32)
        truth["a", i] = Boxes(xyxy, np.ones(3, np.int64), joints=joints)
        found["a", i] = Detections(xyxy, np.array([0.9, 0.8, 0.7], np.float32), np.ones(3, np.int64), i, joints=joints)
    return truth, found


@pytest.mark.parametrize("count", [13, 17])
def test_truth_against_itself_is_perfect(count):
    truth, found = people(count)
    score = evaluate_pose(truth, found, label=1)
    assert (score.ap, score.swapped_ap, score.pck[0.1], score.mpjpe_px) == (1, 1, 1, 0)
    assert (score.num_people, score.num_matched, score.joint_set) == (12, 12, count)


def test_people_labeled_the_wrong_way_round_are_right_when_swapped():
    truth, found = people()
    for key, own in found.items():
        found[key] = Detections(
            own.xyxy, own.scores, own.labels, own.t_us, joints=own.joints[:, JOINT_SETS[13].mirrored]
        )
    score = evaluate_pose(truth, found, label=1)
    assert score.ap < 0.2
    assert score.swapped_ap == 1


def test_errors_in_pixels_are_those_that_were_made():
    truth, found = people()
    for key, own in found.items():
        found[key] = Detections(
            own.xyxy, own.scores, own.labels, own.t_us, joints=own.joints + np.array([3, 4, 0], np.float32)
        )
    score = evaluate_pose(truth, found, label=1)
    assert score.mpjpe_px == pytest.approx(5, rel=1e-5)
    assert (score.pck[0.1], score.pck[0.2]) == (pytest.approx(np.mean(_sides(truth) >= 50)), 1)


def _sides(truth):
    return np.concatenate([np.repeat((b.xyxy[:, 2:] - b.xyxy[:, :2]).max(axis=1), 13) for b in truth.values()])


def test_nobody_and_nobody_detected():
    assert np.isnan(evaluate_pose({}, {}, label=1).ap)
    truth, _ = people()
    assert evaluate_pose(truth, {}, label=1).ap == 0
    without = {key: Boxes(b.xyxy, b.labels) for key, b in truth.items()}
    with pytest.raises(EvaluationError, match="no labeled person has joints"):
        evaluate_pose(without, {}, label=1)
    assert (
        evaluate_pose(
            truth, {k: Detections(b.xyxy, np.ones(3, np.float32), b.labels, k[1]) for k, b in truth.items()}, label=1
        ).ap
        == 0
    )


def crowded_people(root, areas=True):
    """Write four pictures of people with areas, some without joints and some crowds; return the file of keypoints."""
    path = toy_photos.write_keypoints(toy_photos.write_coco(root)) / "annotations" / "person_keypoints_val.json"
    document, rng = json.loads(path.read_text()), np.random.default_rng(3)
    document["annotations"] = []
    for k in range(24):
        w, h = rng.integers(12, 30), rng.integers(10, 24)
        box = [int(rng.integers(0, 64 - w)), int(rng.integers(0, 40 - h)), int(w), int(h)]
        crowd, posed = k % 6 == 5, k % 6 < 4
        joints = toy_photos.joints_in(box, k) if posed else np.zeros((17, 3))
        document["annotations"].append({
            "id": k + 1, "image_id": k % 4, "category_id": 8, "bbox": box, "iscrowd": int(crowd),
            "keypoints": joints.ravel().tolist(), "num_keypoints": int((joints[:, 2] > 0).sum()),
            "area": float(rng.uniform(0.1, 1)) * float(w * h),
        })  # fmt: skip
    stated = json.dumps(document)
    if not areas:
        for a in document["annotations"]:
            del a["area"]
    path.write_text(json.dumps(document))
    (path.parent / "instances_val.json").unlink()
    return path, json.loads(stated)


def near(document):
    """Return detections near the people of a file, by picture, and the same in COCO's form."""
    rng, found, results = np.random.default_rng(4), {}, []
    for image in range(4):
        here = [a for a in document["annotations"] if a["image_id"] == image] * 2
        joints = np.array([a["keypoints"] for a in here], np.float64).reshape(-1, 17, 3)
        for one, a in zip(joints, here, strict=True):
            if not one.any():
                one[:] = toy_photos.joints_in(a["bbox"], 1)
        joints[..., :2] += rng.normal(0, 1, (len(here), 1, 1)) * rng.normal(0, 1.5, (len(here), 17, 2))
        scores = np.sort(rng.random(len(here)).astype(np.float32))[::-1].copy()
        xyxy = np.array([[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in here)], np.float32)
        own = Detections(xyxy, scores, np.zeros(len(here), np.int64), 0, joints=joints.astype(np.float32))
        found[f"{image:03d}", 0] = own
        results += [
            {"image_id": image, "category_id": 8, "score": float(score), "keypoints": one.ravel().tolist()}
            for score, one in zip(own.scores, own.joints.astype(np.float64), strict=True)
        ]
    return found, results


def pycocotools_statistics(truth, results):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = truth
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(results), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(STATISTICS, evaluation.stats, strict=True))


def truth_of(root):
    """Return the people as prediction sees them: letterboxed into a frame of another size, and back."""
    frame_hw = (52, 90)
    samples = list(FolderDataset(root, "val", VoxelSpec(num_steps=1, mode="direct", frame_hw=frame_hw)))
    lies = Letterbox(toy_photos.SIZE_HW, frame_hw)
    return {(s.recording.removesuffix(".png"), 0): lies.to_source(s.boxes) for s in samples}


def test_with_areas_people_are_scored_as_pycocotools_scores_them(tmp_path):
    _, document = crowded_people(tmp_path)
    found, results = near(document)
    wanted = pycocotools_statistics(document, results)
    score = evaluate_pose(truth_of(tmp_path), found, label=0)
    names = ("ap", "ap50", "ap75", "ar")
    assert 0.2 < wanted["ap"] < 0.8
    assert [getattr(score, name) for name in names] == pytest.approx([wanted[name] for name in names], abs=1e-6)
    predictions = Predictions(truth_of(tmp_path), found, (40, 64), ("person",), ("detect", "pose"), frozenset({0}))
    again = load_predictions(save_predictions(predictions, tmp_path / "p.npz"))
    assert again.task_scores["pose"].primary == pytest.approx(wanted["ap"], abs=1e-6)
    # Without areas it is the share of the box, for which pycocotools has to be told it.
    crowded_people(tmp_path / "without", areas=False)
    for a in document["annotations"]:
        a["area"] = AREA_SHARE * a["bbox"][2] * a["bbox"][3]
    guessed = pycocotools_statistics(document, results)["ap"]
    assert abs(guessed - wanted["ap"]) > 0.005
    assert evaluate_pose(truth_of(tmp_path / "without"), found, label=0).ap == pytest.approx(guessed, abs=1e-6)


def test_areas_go_with_a_box_file_to_the_score_and_back_to_coco(tmp_path):
    _, document = crowded_people(tmp_path / "photos")
    found, _ = near(document)
    for image in document["images"]:
        image["t_us"] = 100_000 * (image["id"] + 1)
    (tmp_path / "val").mkdir()
    (tmp_path / "people.json").write_text(json.dumps(document))
    target = tmp_path / "val" / "people_bbox.npy"
    assert convert_file(tmp_path / "people.json", target).lost == ()
    events = np.zeros(9, EVENT_DTYPE)
    events["t"] = np.linspace(0, 450_000, 9)
    write_dat(tmp_path / "val" / "people_td.dat", events, toy_photos.SIZE_HW)
    moved = {("people", 100_000 * (int(name) + 1)): own for (name, _), own in found.items()}
    samples = FolderDataset(tmp_path, "val", classes=("person",))
    truth = {(s.recording, s.t_us): s.boxes for s in samples}
    wanted = evaluate_pose(truth_of(tmp_path / "photos"), found, label=0)
    assert evaluate_pose(truth, moved, label=0).ap == pytest.approx(wanted.ap, abs=1e-9)
    convert_file(target, tmp_path / "again.json")

    def areas(path):
        rows = [(a["bbox"], a["iscrowd"], a["area"]) for a in json.loads(path.read_text())["annotations"]]
        return [area for *_, area in sorted(rows)]

    assert areas(tmp_path / "again.json") == pytest.approx(areas(tmp_path / "people.json"), rel=1e-6)


def test_unknown_areas_stay_unknown_through_coco(tmp_path):
    path, document = crowded_people(tmp_path / "photos", areas=False)
    for image in document["images"]:
        image["t_us"] = 100_000 * (image["id"] + 1)
    (tmp_path / "people.json").write_text(
        json.dumps(document | {"annotations": json.loads(path.read_text())["annotations"]})
    )
    first, second = tmp_path / "a_bbox.npy", tmp_path / "b_bbox.npy"
    convert_file(tmp_path / "people.json", first)
    convert_file(first, tmp_path / "a.json", size_hw=toy_photos.SIZE_HW)
    a = json.loads((tmp_path / "a.json").read_text())["annotations"][0]
    assert a["area"] == AREA_SHARE * a["bbox"][2] * a["bbox"][3]
    convert_file(tmp_path / "a.json", second)
    for ending in ("bbox", "objects", "crowds"):
        assert (tmp_path / f"a_{ending}.npy").read_bytes() == (tmp_path / f"b_{ending}.npy").read_bytes()

import json
from dataclasses import replace

import numpy as np
import pytest
from tiny import tiny_detector, tiny_memory
from toy_roads import write_folder

from spiking_centernet.cli.program import main
from spiking_centernet.errors import EvaluationError
from spiking_centernet.evaluation.comparison import Side, compare_sides, side_of_folder
from spiking_centernet.evaluation.prediction import Predictions
from spiking_centernet.evaluation.prediction_files import FILE, load_predictions, save_predictions
from spiking_centernet.model import weights
from spiking_centernet.structures import Boxes, Detections


def made(quality, seed=0, num_recordings=12):
    """Twelve recordings of five frames; a detector of this quality finds that share of the boxes."""
    rng, chance = np.random.default_rng(7), np.random.default_rng(seed)
    truth, found = {}, {}
    for k in range(num_recordings):
        for frame in range(5):
            key = (f"r{k:02d}", 600_000 + frame * 100_000)
            corner = rng.uniform(0, 150, (3, 2)).astype(np.float32)
            xyxy = np.hstack([corner, corner + 50])
            truth[key] = Boxes(xyxy, np.array([0, 1, 0]))
            hit = chance.random(3) < quality
            moved = xyxy + np.where(hit, 0, 80)[:, None].astype(np.float32)
            scores = np.sort(chance.random(3).astype(np.float32))[::-1]
            found[key] = Detections(moved, scores, np.array([0, 1, 0]), key[1])
    return Predictions(truth, found, (240, 304), ("car", "pedestrian"))


def test_predictions_survive_a_file_to_the_bit(tmp_path):
    predictions = made(0.5)
    first = next(iter(predictions.truth))
    missing = {key: value for key, value in predictions.detections.items() if key != first}
    for each in (predictions, replace(predictions, detections=missing), Predictions({}, {}, (0, 0), ("car",))):
        again = load_predictions(save_predictions(each, tmp_path / "p.npz"))
        assert (again.size_hw, again.class_names) == (each.size_hw, each.class_names)
        assert again.truth.keys() == each.truth.keys()
        assert again.detections.keys() == each.detections.keys()
        for key, boxes in each.truth.items():
            np.testing.assert_array_equal(again.truth[key].xyxy, boxes.xyxy)
            np.testing.assert_array_equal(again.truth[key].track_ids, boxes.track_ids)
        for key, result in each.detections.items():
            for name in ("xyxy", "scores", "labels", "t_us"):
                np.testing.assert_array_equal(getattr(again.detections[key], name), getattr(result, name))
        if each.truth:
            assert again.score("none").ap == each.score("none").ap


def test_predictions_are_found_by_their_folder(tmp_path):
    save_predictions(made(0.5), tmp_path / FILE)
    assert load_predictions(tmp_path).truth.keys() == made(0.5).truth.keys()
    with pytest.raises(EvaluationError, match="scn val --save"):
        load_predictions(tmp_path / "elsewhere")


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / "p.npz"
    if content is None:
        np.savez(path, a=np.zeros(3))
    else:
        path.write_bytes(content)
    with pytest.raises(EvaluationError, match="scn val --save"):
        load_predictions(path)


@pytest.mark.slow
def test_a_better_detector_is_better_and_the_same_is_the_same():
    good, bad = Side("good", made(0.9), 0.0), Side("bad", made(0.4, seed=1), 0.0)
    compared = compare_sides(good, bad, num_resamples=200)
    assert compared.difference.difference == pytest.approx(compared.scores[0].ap - compared.scores[1].ap, abs=1e-9)
    assert compared.difference.difference > 0.1
    assert compared.difference.significant
    turned = compare_sides(bad, good, num_resamples=200)
    assert turned.difference.difference == -compared.difference.difference
    same = compare_sides(good, good, num_resamples=200)
    assert same.difference.difference == 0
    assert not same.difference.significant
    assert same.most_different() == []
    found = {name: values for name, *values in compared.rows()}
    assert found["boxes found"][0] > found["boxes found"][1]
    assert found["boxes found"][0] + found["false boxes"][0] == 12 * 5 * 3
    key = compared.most_different(1)[0]
    gains = [abs(first.num_found - second.num_found - first.num_false + second.num_false)
             for first, second in zip(*(m.values() for m in compared.matches), strict=True)]  # fmt: skip
    first, second = (m[key] for m in compared.matches)
    assert abs(first.num_found - second.num_found - first.num_false + second.num_false) == max(gains) > 0


def test_other_frames_or_classes_do_not_compare():
    side = Side("a", made(0.9), 0.0)
    with pytest.raises(EvaluationError, match="different frames"):
        compare_sides(side, Side("b", made(0.9, num_recordings=3), 0.0))
    with pytest.raises(EvaluationError, match="classes"):
        compare_sides(side, Side("b", replace(made(0.9), class_names=("bus", "pram")), 0.0))


@pytest.fixture(scope="module")
def roads(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    write_folder(folder / "data")
    for name, seed in (("one", 0), ("two", 3)):
        weights.save(tiny_detector(seed), folder / name)
    return folder


def run(capsys, *argv):
    code = main([str(word) for word in argv])
    return (code, *capsys.readouterr())


@pytest.mark.slow
def test_the_command_compares_weights_and_folders_alike(capsys, roads):
    words = ("--data", roads / "data", "--protocol", "none")
    first, second = (roads / f"{name}.safetensors" for name in ("one", "two"))
    code, out, _ = run(capsys, "compare", first, second, *words, "--json", "--out", roads / "out")
    assert code == 0
    told = json.loads(out)
    assert {path.rpartition("/")[2] for path in told["files"]} == {"comparison.json", "differences.png"}
    for name, path in (("one", first), ("two", second)):
        assert run(capsys, "val", path, *words, "--save", roads / name)[0] == 0
        assert side_of_folder(roads / name / "score.json").name == name
    code, out, _ = run(capsys, "compare", roads / "one", roads / "two", "--protocol", "none", "--json")
    assert code == 0
    again = json.loads(out)
    assert (again["table"], again["ap_difference"]) == (told["table"], told["ap_difference"])
    assert again["files"] == []
    code, out, _ = run(capsys, "compare", roads / "one", second, *words)
    assert code == 0
    assert "p = " in out


@pytest.mark.slow
def test_a_memory_is_compared_in_the_mode_asked_for(capsys, roads, tmp_path):
    path = weights.save(tiny_memory(), tmp_path / "memory")
    words = ("--data", roads / "data", "--protocol", "none")
    assert run(capsys, "val", path, *words, "--mode", "windowed", "--save", tmp_path / "windowed")[0] == 0

    def same(mode):
        code, out, _ = run(capsys, "compare", tmp_path / "windowed", path, *words, "--mode", mode, "--json")
        assert code == 0
        return all(first == second for first, second in json.loads(out)["table"].values())

    assert same("windowed")
    assert not same("stateful")
    assert not same("auto")


def test_the_commands_errors_say_what_is_missing(capsys, roads, tmp_path):
    code, _, err = run(capsys, "compare", "small", "nano")
    assert (code, "--data" in err) == (2, True)
    (tmp_path / "score.json").write_text("{}")
    code, _, err = run(capsys, "compare", tmp_path, "nano", "--data", roads / "data")
    assert (code, "scn val --save" in err) == (2, True)


@pytest.mark.slow
def test_val_writes_confusion_and_sizes(capsys, roads):
    path = roads / "one.safetensors"
    code, out, _ = run(capsys, "val", path, "--data", roads / "data", "--protocol", "none", "--save", roads / "score")
    assert code == 0
    assert "missed" in out
    told = json.loads((roads / "score" / "score.json").read_text())
    assert sum(map(sum, told["confusion"]["counts"][:-1])) == told["scores"]["none"]["num_truth"]
    assert sum(told["sizes"]["num_truth"]) == told["scores"]["none"]["num_truth"]
    assert (roads / "score" / "confusion.png").stat().st_size > 5_000
    assert (roads / "score" / "sizes.png").stat().st_size > 5_000

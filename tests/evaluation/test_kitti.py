import json
from pathlib import Path

import numpy as np
import pytest

from spiking_centernet.data.kitti_files import read_kitti, write_kitti
from spiking_centernet.errors import BoxFileError, ConfigError, EvaluationError
from spiking_centernet.evaluation.kitti import LEVELS, METRICS, OVERLAPS, evaluate_kitti


@pytest.fixture(scope="module")
def golden():
    folder = Path(__file__).parents[1] / "golden" / "tasks" / "kitti"
    names = sorted(path.name for path in (folder / "label_2").iterdir())
    truth = [read_kitti(folder / "label_2" / name) for name in names]
    found = [read_kitti(folder / "results" / name) for name in names]
    return truth, found, json.loads((folder / "expected.json").read_text())


@pytest.mark.slow
def test_every_score_is_that_of_kittis_own_program(golden):
    truth, found, expected = golden
    compared = 0
    for name, chosen in expected["sets"].items():
        overlaps = {"moderate": "strict", "loose": "loose"}.get(name, name)
        for class_name, metrics in chosen["classes"].items():
            for metric, levels in metrics.items():
                for level, wanted in levels.items():
                    score = evaluate_kitti(
                        truth, found, class_name=class_name, metric=metric, level=level, overlaps=overlaps
                    )
                    where = f"{name} {class_name} {metric} {level}"
                    np.testing.assert_allclose(score.precision, wanted["precision"], atol=1e-6, err_msg=where)
                    assert 100 * score.r40 == pytest.approx(wanted["r40"], abs=1e-4), where
                    assert 100 * score.r11 == pytest.approx(wanted["r11"], abs=1e-4), where
                    compared += 1
    assert compared >= 36


@pytest.mark.parametrize("metric", METRICS)
def test_truth_against_itself_is_perfect(golden, metric):
    truth, _, _ = golden
    score = evaluate_kitti(truth, truth, class_name="car", metric=metric, level="all")
    assert score.num_truth > 50
    assert score.r40 == pytest.approx(1)


def test_nothing_to_find_and_nothing_found(golden):
    truth, _, _ = golden
    nothing = [read_kitti(Path("/dev/null"))] * len(truth)
    assert np.isnan(evaluate_kitti(nothing, nothing, class_name="car", metric="3d").r40)
    assert evaluate_kitti(truth, nothing, class_name="car", metric="3d").r40 == 0
    with pytest.raises(EvaluationError, match="one for each"):
        evaluate_kitti(truth, nothing[:1], class_name="car", metric="3d")
    with pytest.raises(ConfigError, match="did you mean 'bbox'"):
        evaluate_kitti(truth, nothing, class_name="car", metric="box")


def test_objects_come_back_from_the_file_they_are_written_to(golden, tmp_path):
    _, found, _ = golden
    for i, objects in enumerate(found[:5]):
        write_kitti(tmp_path / f"{i}.txt", objects, with_scores=True)
        again = read_kitti(tmp_path / f"{i}.txt")
        assert again.types == objects.types
        for name in ("alpha", "xyxy", "box3d", "scores", "occluded"):
            np.testing.assert_allclose(getattr(again, name), getattr(objects, name), atol=1e-4)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("Car 0 0 0 1 2 3", "has 6 numbers"),
        ("Car 0 0 x 1 2 3 4 5 6 7 8 9 1 2", "could not convert"),
        ("Car 0 0 nan 1 2 3 4 5 6 7 8 9 1 2", "finite"),
        ("Car 0 0 0 9 2 3 4 5 6 7 8 9 1 2", "negative size"),
    ],
)
def test_damaged_lines_are_named(tmp_path, line, what):
    path = tmp_path / "a.txt"
    path.write_text(f"\n{line}\n")
    with pytest.raises(BoxFileError, match=what) as error:
        read_kitti(path)
    assert "line 2" in str(error.value)


def test_levels_grow_easier_to_enter():
    easy, moderate, hard, every = LEVELS.values()
    assert easy.min_height_px >= moderate.min_height_px >= hard.min_height_px >= every.min_height_px
    assert OVERLAPS["loose"]["car"][0] == OVERLAPS["strict"]["car"][0]

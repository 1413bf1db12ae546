"""Studies on the toy folder: what is refused, what runs, what is skipped and continued, what the table says."""

import csv
import json
import logging
import math
import multiprocessing
import os
import re
import shutil
import subprocess
import tarfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_roads
import yaml
from PIL import Image
from tiers import thorough

from spiking_centernet.cli import parser
from spiking_centernet.cli.program import main
from spiking_centernet.errors import ConfigError, TrainingError
from spiking_centernet.evaluation.significance import load_matches
from spiking_centernet.experiments.study import read_plan, run_study
from spiking_centernet.experiments.study import runs as study_runs
from spiking_centernet.experiments.study.plan import Test, merged
from spiking_centernet.experiments.study.table import cells, read_lines
from spiking_centernet.model import build
from spiking_centernet.model.weights import sha256
from spiking_centernet.training.config import make_recipe, parse_recipe, read_yaml
from spiking_centernet.training.run_dir import read_metrics

ROOT = Path(__file__).resolve().parents[3]
STUDIES = sorted((ROOT / "recipes" / "studies").glob("*.yaml"))
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
TOY = {
    "network": {**toy_roads.NETWORK, "encoder.widths": [8, 8, 16, 16]}, "epochs": 1, "batch_size": 4,
    "learning_rate": 5e-3, "precision": "float32", "protocol": "none", "num_workers": 0, "ema_decay": 0.0,
    "augmentation": None, "num_threads": 1,  # sums differ with the number of threads, and so with the processor
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_roads.write_folder(tmp_path_factory.mktemp("toy") / "data")


@pytest.fixture(scope="module")
def four_windows(tmp_path_factory):
    """Two windows to train on and two to validate with, and pictures of them."""
    root = tmp_path_factory.mktemp("four") / "data"
    for seed, split in enumerate(("train", "val")):
        (root / split).mkdir(parents=True)
        toy_roads.write_recording(root / split / f"clip{seed}", seed, 2)
        pictures = root / split / f"clip{seed}_frames"
        pictures.mkdir()
        for t_us in range(25_000, 2 * toy_roads.PERIOD_US + 1, 25_000):  # the ends of four steps a window
            Image.fromarray(np.full(toy_roads.SIZE_HW, t_us // 1000, np.uint8)).save(pictures / f"{t_us}.png")
    return root


@pytest.fixture(scope="module")
def studied():
    """Where studies have run: many have the same base row, which is trained once, as ``make studies`` does."""
    return []


@pytest.fixture
def write(tmp_path):
    def write(**values):
        (tmp_path / "base.yaml").write_text(yaml.safe_dump(TOY))
        path = tmp_path / "toy.yaml"
        path.write_text(
            yaml.safe_dump({"recipe": "base.yaml", "protocol": "none", "resamples": 100} | values, sort_keys=False)
        )
        return path

    return write


@contextmanager
def messages():
    """Collect what the study logs."""
    told, handler, logger = [], logging.Handler(), logging.getLogger(study_runs.__name__)
    handler.emit = lambda record: told.append(record.getMessage())
    logger.addHandler(handler)
    before = logger.level
    logger.setLevel(logging.INFO)
    yield told
    logger.removeHandler(handler)
    logger.setLevel(before)


def names(path):
    return [row.name for row in read_plan(path).rows]


def test_axes_change_one_field_at_a_time(write):
    axes = {"network.decoder.skips": ["concat", "or"], "learning_rate": [0.005, 1e-3]}
    path = write(axes=axes, base="as it is", seeds=[3, 1])
    plan = read_plan(path)
    assert names(path) == ["as it is", "skips=or", "learning_rate=0.001"]
    assert plan.baseline == "as it is"
    runs = plan.runs(Path("out"))
    assert [(r.row.name, r.recipe.seed) for r in runs[:3]] == [(name, 3) for name in names(path)]
    assert runs[1].recipe.network["decoder.skips"] == "or"
    assert runs[1].recipe.network["encoder.convs_per_stage"] == 1
    assert str(runs[1].folder) == "out/runs/skips=or/seed3"


def test_axes_can_be_combined(write):
    path = write(
        axes={"network.neuron.kind": ["plif", "lif"], "network.neuron.soft_reset": [False, True]}, combine="product"
    )
    assert names(path) == [f"neuron={n}, soft_reset={s}" for n in ("plif", "lif") for s in ("false", "true")]


def test_dotted_and_nested_changes_are_the_same():
    base = {"network": {"neuron": {"tau": 3.0}}, "epochs": 2}
    expected = {"network": {"neuron.tau": 3.0, "decoder.skips": "or"}, "epochs": 2}
    assert (
        merged(base, {"network.decoder.skips": "or"}, "x")
        == merged(base, {"network": {"decoder.skips": "or"}}, "x")
        == expected
    )
    assert base == {"network": {"neuron": {"tau": 3.0}}, "epochs": 2}
    with pytest.raises(ConfigError, match="augmentation is False and has no settings"):
        merged({"augmentation": False}, {"augmentation.flip": 0.1}, "x")


def test_teachers_run_first_and_lend_their_seeds_weights(write):
    path = write(
        rows={
            "student": {"teacher": "row:teacher"},
            "teacher": {"network.neuron.kind": "relu", "network.voxels.num_steps": 1},
        },
        seeds=[0, 1],
    )
    runs = read_plan(path).runs(Path("out"))
    assert [run.name for run in runs[:2]] == ["teacher, seed 0", "student, seed 0"]
    assert runs[3].recipe.teacher == str(Path("out/runs/teacher/seed1/best.safetensors"))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"axis": {}}, "unknown study field 'axis'; did you mean 'axes'"),
        ({"axes": {"network.skipz": ["or"]}}, "unknown network setting 'skipz'; did you mean 'decoder.skips'"),
        ({"axes": {"learning_rat": [1.0]}}, "unknown recipe field 'learning_rat'; did you mean 'learning_rate'"),
        ({"axes": {"distillation.alfa": [1.0]}}, "unknown distillation setting 'alfa'; did you mean 'alpha'"),
        ({"axes": {"network.decoder.skips": ["orr"]}}, "unknown decoder.skips 'orr'"),
        ({"axes": {"learning_rate": ["fast"]}}, "learning_rate"),
        ({"axes": {"learning_rate": 1.0}}, "axis learning_rate must list its values"),
        ({"axes": {None: [1.0]}}, "an axis must name a setting of the recipe, got None"),
        ({"axes": {"batch_size": [2]}, "combine": "eech"}, "did you mean 'each'"),
        ({"axes": {"seed": [5]}}, "list seeds under seeds"),
        ({"rows": {"a": {}, "b": {}}}, "rows 'a' and 'b' are the same run"),
        ({"rows": {"a": {}, "b": {"network.decoder.skips": "concat"}}}, "rows 'a' and 'b' are the same run"),
        ({"rows": {"a/b": {}, "a b": {"network.decoder.skips": "or"}}}, "another row's folder would be called a_b"),
        ({"rows": {"a": 3}}, "row a must map"),
        ({}, "nothing varies"),
        ({"rows": {"a": {}}, "baseline": "aa"}, "baseline 'aa' is no row; did you mean 'a'"),
        ({"rows": {"a": {}}, "seeds": [1, 1]}, "different whole numbers"),
        ({"rows": {"a": {}}, "seeds": ["one"]}, "whole numbers from 0"),
        ({"rows": {"a": {}}, "protocol": "nonne"}, "did you mean 'none'"),
        ({"rows": {"a": {}}, "resamples": 3}, "from 100 to"),
        ({"rows": {"a": {}}, "test_steps": {"same_windo": [1]}}, "did you mean 'same_window'"),
        ({"rows": {"a": {}}, "test_steps": {"same_window": [0]}}, "whole numbers from 1"),
        ({"rows": {"a": {}, "b": {"epochs": 2}}}, r"different numbers of epochs \(a: 1, b: 2\); say budget: unequal"),
        ({"rows": {"a": {}, "b": {"windows_per_epoch": 8}}}, r"\(a: 1, b: 1 of 8 windows\)"),
        ({"rows": {"a": {"epochs": 2}}, "budget": "uneqal"}, "did you mean 'unequal'"),
        (
            {"rows": {"a": {"teacher": "row:teecher"}, "teacher": {"network.neuron.kind": "relu"}}},
            "did you mean 'teacher'",
        ),
        ({"rows": {"a": {"teacher": "row:b"}, "b": {"teacher": "row:a"}}}, "has a teacher itself"),
        (
            {
                "rows": {
                    "a": {"teacher": "row:t"},
                    "t": {"network.neuron.kind": "relu", "network.decoder.num_blocks": 1},
                }
            },
            "same output stride",
        ),
    ],
)
def test_mistakes_are_refused_before_anything_runs(write, data, tmp_path, values, told):
    with pytest.raises(ConfigError, match=told):
        run_study(write(**values), data, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unequal_budgets_are_allowed_where_they_are_said(write):
    assert not read_plan(write(rows={"a": {}, "b": {"epochs": 2}}, budget="unequal")).equal_budget


def test_numbers_of_steps_to_test_with(write):
    plan = read_plan(write(rows={"a": {}}, test_steps={"same_window": [1, 3], "same_step": [1, 3, 4]}))
    tests = plan.tests(build("nano", **toy_roads.NETWORK).config)
    assert [(t.num_steps, t.window_us) for t in tests] == [(3, 100_000), (1, 100_000), (1, 33_333), (4, 133_333)]
    assert tests[0].name == "3 x 33.33 ms"
    assert Test(5, 100_000).name == "5 x 20 ms"


@pytest.fixture(scope="module")
def ran(data, tmp_path_factory):
    """Two rows and a teacher, two seeds, tested with two numbers of steps."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "base.yaml").write_text(yaml.safe_dump(TOY))
    path = folder / "toy.yaml"
    values = {
        "recipe": "base.yaml", "protocol": "none", "resamples": 100, "seeds": [0, 1], "baseline": "SNN",
        "test_steps": {"same_window": [1]},
        "rows": {
            "SNN": {}, "KD": {"teacher": "row:teacher"},
            "teacher": {"network": {"neuron.kind": "relu", "voxels.num_steps": 1}},
        },
    }  # fmt: skip
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    with messages() as told:
        summary = run_study(path, data, out=folder / "out")
    return path, folder / "out", summary, told


@pytest.mark.slow
def test_a_study_fills_its_table(ran, data):
    _, out, summary, told = ran
    assert told[0] == "6 runs, 0 finished before"
    assert [(line.row, line.test) for line in summary.lines] == [
        ("SNN", "3 x 33.33 ms"), ("SNN", "1 x 100 ms"), ("KD", "3 x 33.33 ms"), ("KD", "1 x 100 ms"), ("teacher", None),
    ]  # fmt: skip
    for line in summary.lines:
        assert line.seeds == (0, 1)
        assert not line.failed
        assert math.isfinite(line.mean["ap"])
        assert line.steps == 4
        assert line.train_s > 0
        assert line.parameters == summary.lines[0].parameters or line.row == "teacher"
    assert [line.comparison is None for line in summary.lines] == [True, False, False, False, False]
    assert summary.lines[2].comparison.num_recordings == 2
    first = json.loads((out / "runs/KD/seed1/outcome.json").read_text())
    assert first["teacher_sha256"] == sha256(out / "runs/teacher/seed1")
    assert load_matches(out / "runs/SNN/seed0/matches_1_steps_100000_us.npz").recordings == ("clip2", "clip3")


@pytest.mark.slow
def test_a_study_writes_its_table_in_every_form(ran):
    _, out, summary, _ = ran
    text = (out / "study.md").read_text()
    assert text.startswith("| row | AP | AP50 | firing rate | dense ops a step | steps | parameters | train time |")
    assert "| KD, tested 3 x 33.33 ms |" in text
    assert "by Student's t" in text
    rows = list(csv.DictReader((out / "study.csv").open()))
    assert [row["row"] for row in rows] == ["SNN", "SNN", "KD", "KD", "teacher"]
    assert float(rows[2]["ap_mean"]) == pytest.approx(summary.lines[2].mean["ap"])
    result = json.loads((out / "study.json").read_text())
    assert result["provenance"]["machine"]["cores"] > 0
    assert [cells(line) for line in read_lines(result)] == [cells(line) for line in summary.lines]
    assert (out / "study.png").stat().st_size > 1000


@pytest.mark.slow
def test_finished_runs_are_skipped(ran, data):
    path, out, summary, _ = ran
    before = {p: p.stat().st_mtime_ns for p in (out / "runs").rglob("*") if p.is_file()}
    with messages() as told:
        again = run_study(path, data, out=out)
    assert told == ["6 runs, 6 finished before"]
    assert before == {p: p.stat().st_mtime_ns for p in (out / "runs").rglob("*") if p.is_file()}
    assert [cells(line) for line in again.lines] == [cells(line) for line in summary.lines]


@pytest.mark.slow
def test_another_recipe_in_the_same_folder_is_refused(ran, data):
    path, out, _, _ = ran
    with pytest.raises(ConfigError, match=r"another recipe .*learning_rate was 0\.005, is 0\.1"):
        run_study(path, data, out=out, changes={"learning_rate": 0.1})


@pytest.mark.slow
def test_interrupted_runs_are_continued_to_the_same_end(write, data, tmp_path, monkeypatch):
    path = write(rows={"a": {}}, set={"epochs": 2, "log_every": 1})
    whole = run_study(path, data, out=tmp_path / "whole")
    real = study_runs.train

    def stop(recipe, data, **settings):
        def report(row):
            if row["step"] == 6:
                raise KeyboardInterrupt

        return real(recipe, data, **settings, on_row=report)

    with monkeypatch.context() as patch:
        patch.setattr(study_runs, "train", stop)
        with pytest.raises(KeyboardInterrupt):
            run_study(path, data, out=tmp_path / "out")
    assert not (tmp_path / "out/runs/a/seed0/outcome.json").exists()
    continued = run_study(path, data, out=tmp_path / "out")
    assert continued.lines[0].mean == whole.lines[0].mean
    steps = [row["step"] for row in read_metrics(tmp_path / "out/runs/a/seed0/metrics.csv") if row["loss"] is not None]
    assert steps == list(range(1, 9))


@pytest.mark.slow
def test_failed_runs_are_shown_and_tried_again(write, data, tmp_path, monkeypatch):
    path = write(rows={"a": {}, "b": {"network.decoder.skips": "or"}}, seeds=[0, 1])
    real = study_runs.train

    def fail(recipe, data, **settings):
        if recipe.network.get("decoder.skips") == "or" or recipe.seed == 1:
            raise TrainingError("the loss of step 3 is nan")
        return real(recipe, data, **settings)

    with monkeypatch.context() as patch, messages() as told:
        patch.setattr(study_runs, "train", fail)
        summary = run_study(path, data, out=tmp_path / "out")
    assert summary.num_failed == 3
    assert sum("FAILED" in line for line in told) == 3
    a, b = map(cells, summary.lines)
    assert a[8] == "1 of 2, 1 failed"
    assert b[1] == "-"
    assert b[8:] == ("0 of 2", "TrainingError: the loss of step 3 is nan")
    text = (tmp_path / "out/study.md").read_text()
    assert "3 of 4 runs failed" in text
    assert len(list(csv.DictReader((tmp_path / "out/study.csv").open()))) == 2
    with messages() as told:
        assert run_study(path, data, out=tmp_path / "out").num_failed == 0
    assert told[0] == "4 runs, 1 finished before"


@pytest.mark.slow
def test_several_runs_at_once_give_the_same_results(ran, data, tmp_path, fork_pools):
    path, out, *_ = ran
    one_seed = path.with_name("one_seed.yaml")
    one_seed.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"seeds": [0]}, sort_keys=False))
    assert run_study(one_seed, data, out=tmp_path / "out", jobs=2).num_failed == 0
    for row in ("SNN", "KD", "teacher"):
        alone, at_once = (
            json.loads((o / f"runs/{row}/seed0/outcome.json").read_text()) for o in (out, tmp_path / "out")
        )
        assert at_once["tests"] == alone["tests"]


@pytest.mark.slow
def test_a_run_among_several_keeps_to_its_threads(fork_pools):
    """In a new process, where nothing has started numba's threads yet."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(study_runs._limit_threads, 1).result()
        assert pool.submit(torch.get_num_threads).result() == 1


@pytest.mark.slow
def test_equal_runs_of_another_study_are_taken_over(ran, data, tmp_path):
    path, out, summary, _ = ran
    values = yaml.safe_load(path.read_text())
    values["test_steps"] = {"same_window": [2]}
    # Another name for the teacher is the same teacher; another learning rate is another run.
    values["rows"] = {
        "plain": {}, "student": {"teacher": "row:taught"}, "taught": values["rows"]["teacher"],
        "slow": {"learning_rate": 1e-3},
    }  # fmt: skip
    values["baseline"] = "plain"
    other = path.parent / "other.yaml"
    other.write_text(yaml.safe_dump(values, sort_keys=False))
    with messages() as told:
        again = run_study(other, data, out=tmp_path / "other", reuse=[out])
    assert sum("weights of" in line for line in told) == 6
    assert sha256(tmp_path / "other/runs/student/seed1") == sha256(out / "runs/KD/seed1")
    assert not (tmp_path / "other/runs/plain/seed0/config.yaml").exists()
    assert (tmp_path / "other/runs/slow/seed0/config.yaml").exists()
    assert again.lines[0].mean["ap"] == summary.lines[0].mean["ap"]
    assert again.lines[0].train_s == summary.lines[0].train_s
    assert [line.test for line in again.lines][:2] == ["3 x 33.33 ms", "2 x 50 ms"]
    with pytest.raises(ConfigError, match=r"nowhere: holds no runs of a study"):
        run_study(other, data, out=tmp_path / "third", reuse=[tmp_path / "nowhere"])
    shutil.copytree(data, tmp_path / "other data")
    other.write_text(yaml.safe_dump(values | {"rows": {"plain": {}}, "seeds": [0]}, sort_keys=False))
    with messages() as told:
        run_study(other, tmp_path / "other data", out=tmp_path / "fourth", reuse=[out])
    assert not any("weights of" in line for line in told)


def test_jobs_must_be_positive(write, data, tmp_path):
    with pytest.raises(ConfigError, match="jobs must be at least 1"):
        run_study(write(rows={"a": {}}), data, out=tmp_path / "out", jobs=0)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_is_valid_and_says_what_it_is(path):
    make_recipe(parse_recipe(read_yaml(path), path.name))
    head = re.match(r"(#.*\n)+", path.read_text())[0]
    assert re.search(r"GEN1|SIMULATED", head)
    assert f"recipes/{path.name}" in head or "train_paper.sh" in head


@pytest.mark.parametrize(
    ("name", "row"), [("nano_snn", "SNN"), ("nano_snn_kd", "SNN + KD(heatmap)"), ("nano_teacher", "teacher")]
)
def test_recipes_state_what_the_study_measured(name, row):
    lines = read_lines(json.loads((ROOT / "results" / "study_distillation.json").read_text()))
    line = next(line for line in lines if line.row == row)
    head = " ".join((ROOT / "recipes" / f"{name}.yaml").read_text().split("preset:")[0].replace("#", "").split())
    assert f"AP {line.mean['ap']:.3f} (standard deviation {line.std['ap']:.3f}), AP50 {line.mean['ap50']:.3f}" in head
    assert f"{line.train_s / 60:.1f} minutes of training" in head


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.stem)
def test_every_study_is_valid_and_says_how_to_run_it(path):
    head = re.match(r"(#.*\n)+", path.read_text())[0]
    assert "SIMULATED" in head
    assert f"scn study recipes/studies/{path.name}" in head or "train_paper.sh" in head
    result = ROOT / "results" / f"study_{path.stem}.json"
    if result.is_file():
        trained = [run["train_s"] for run in json.loads(result.read_text())["runs"] if "weights_from" not in run]
        told = f"{len(trained)} runs, {sum(trained) / 60:.0f} minutes" if trained else "the weights of the first study"
        assert told in head
    plan = read_plan(path)
    assert len(plan.seeds) >= (5 if path.stem == "distillation" else 3)
    assert plan.equal_budget == (path.stem != "distillation_why")  # a longer teacher is one of its questions
    assert plan.split == ("val" if path.stem == "distillation_why" else "test")


RUN = {
    "boxes": {"as bundled", "GIoU, edges, quality", "GIoU, edges, learned steps"},
    "distillation_why": {"SNN", "heatmap", "features", "all heads, teacher of 5 steps",
                         "teacher", "teacher of 5 steps"},
}  # fmt: skip
"""Of a study, the rows to run here: the others change numbers alone, or the loss, which is tested where it is."""
QUICK = [path for path in STUDIES if path.stem in ("neuron", "distillation_why")]


@pytest.mark.slow
@pytest.mark.parametrize("path", [*QUICK, *thorough(*sorted(set(STUDIES) - set(QUICK)))], ids=lambda p: p.stem)
def test_every_study_runs_with_a_one_step_budget(path, four_windows, studied, tmp_path):
    """With a network and a schedule so small that all of them take seconds; what they vary stays."""
    plan = read_plan(path)
    toy = {k: v for k, v in TOY.items() if k not in ("learning_rate", "network", "protocol")} | {"batch_size": 2}
    changes = toy | {"network": {"encoder.widths": [8, 8, 16, 16], "encoder.convs_per_stage": 1, "head.width": 8}}
    changes |= {"weights": None, "freeze": None}  # theirs is a larger network
    small = tmp_path / path.name
    values = yaml.safe_load(path.read_text())
    values |= {"seeds": [0], "split": "val", "protocol": "none", "resamples": 100}
    values["recipe"] = str(path.parent / values["recipe"])
    chosen = RUN.get(path.stem, {row.name for row in plan.rows})
    if path.stem in RUN:
        values["rows"] = {name: row for name, row in values["rows"].items() if name in chosen}
    small.write_text(yaml.safe_dump(values, sort_keys=False))
    rows = [row.name for row in plan.rows if row.name in chosen]
    assert [row.name for row in read_plan(small).rows] == rows
    summary = run_study(small, four_windows, out=tmp_path / "out", changes=changes, reuse=studied)
    studied.append(tmp_path / "out")
    assert summary.num_failed == 0, [line.failed for line in summary.lines]
    assert {line.row for line in summary.lines} == set(rows)
    epochs = {row.name: row.values["epochs"] for row in read_plan(small, changes=changes).rows}
    assert {line.row: line.steps for line in summary.lines} == epochs  # a batch holds all windows


@pytest.mark.slow
def test_the_command_plans_and_runs(write, data, tmp_path, capsys):
    path = write(rows={"a": {}}, seeds=[0])
    out = str(tmp_path / "out")
    assert main(["study", str(path), "--data", str(data), "--out", out, "--plan"]) == 0
    assert "toy: 1 run\n" in capsys.readouterr().out
    assert not Path(out).exists()
    assert main(["study", str(path), "--data", str(data), "--out", out, "--set", "{batch_size: 8}"]) == 0
    told = capsys.readouterr()
    assert "study.md" in told.out
    assert "a, seed 0" in told.err
    assert json.loads(Path(out, "runs/a/seed0/outcome.json").read_text())["recipe"]["batch_size"] == 8
    assert main(["study", str(path), "--data", str(data), "--out", out, "--set", "{batch_sise: 8}"]) == 2
    assert "did you mean 'batch_size'" in capsys.readouterr().err
    notes = Path(out, "runs/a/seed0/outcome.json")
    whole = notes.read_text()
    for damaged in ("", "[]", whole.replace('"train_s"', '"train"'), whole.replace('"ap": ', '"ap": 1e999, "was": ')):
        notes.write_text(damaged)
        assert main(["study", str(path), "--data", str(data), "--out", out, "--set", "{batch_size: 8}"]) == 2
        assert "outcome.json: is damaged; remove it" in capsys.readouterr().err


STUB = """#!/usr/bin/env bash
# Stands for the interpreter: notes its words, one a line, and leaves what a study leaves.
printf '%s\\n' "$@" >> "{words}"
run="{out}/study/runs/SNN/seed0"
mkdir -p "$run/tensorboard"
touch "$run"/{{outcome.json,best.safetensors,last.safetensors,tensorboard/events}} "{out}/study/study.md"
"""


def test_the_gpu_script_studies_and_packs(tmp_path):
    """Its study itself runs above."""
    out, words, stub = tmp_path / "out", tmp_path / "words", tmp_path / "python"
    (tmp_path / "data" / "test").mkdir(parents=True)
    stub.write_text(STUB.format(words=words, out=out))
    stub.chmod(0o755)
    command = [
        "bash",
        ROOT / "benchmarks/train_paper.sh",
        out,
        tmp_path / "data",
        "--set",
        "{epochs: 1}",
        "--jobs",
        "2",
    ]
    done = subprocess.run(command, env=os.environ | {"PYTHON": str(stub)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    module, *given = words.read_text().splitlines()[1:]
    assert module == "spiking_centernet"
    name, settings = parser.parse(given)
    assert (name, settings["jobs"], settings["set"]) == ("study", 2, {"epochs": 1})
    assert (ROOT / settings["file"]).samefile(ROOT / "recipes/studies/paper_roads.yaml")
    assert (settings["data"], Path(settings["out"])) == (str(tmp_path / "data"), out / "study")
    with tarfile.open(out / "bring_back.tar.gz") as packed:
        names = {Path(name).name for name in packed.getnames()}
    assert {"study.md", "outcome.json", "best.safetensors", "gpu.csv"} <= names
    assert not names & {"last.safetensors", "tensorboard", "bring_back.tar.gz"}

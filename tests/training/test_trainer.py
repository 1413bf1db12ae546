"""Training on the toy folder; the golden loss curve is written by ``python tests/toy_roads.py``."""

import dataclasses
import json
import math
import os
import shutil
import signal
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import toy_roads
import yaml
from tiers import thorough
from toy_roads import recipe

import spiking_centernet.training.trainer as training
from spiking_centernet.errors import ConfigError, DatasetError, EventFileError, TrainingError
from spiking_centernet.evaluation.metrics import evaluate_boxes
from spiking_centernet.evaluation.prediction import predict
from spiking_centernet.model import Detector, build
from spiking_centernet.model.heads.centernet import CenterNet
from spiking_centernet.model.weights import load, notes, read_tensors
from spiking_centernet.structures import Boxes, Detections
from spiking_centernet.training.config import Recipe
from spiking_centernet.training.run_dir import read_metrics
from spiking_centernet.training.trainer import EpochBatches, Trainer, best_threshold, learning_rate_at, train
from spiking_centernet.utils import files

STEPS_PER_EPOCH, EPOCHS = 4, 3
TIMES = ("seconds", "loading_s")


class StoppedError(Exception):
    """Stands for whatever may end a run."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_roads.write_folder(tmp_path_factory.mktemp("toy") / "data")


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """The uninterrupted run that every resumed one must equal."""
    out = tmp_path_factory.mktemp("whole") / "run"
    rows = []
    train(recipe(checkpoint_every=2), data, out=out, on_row=rows.append)
    return out, rows


def assert_same_run(a: Path, b: Path):
    for name in ("last.safetensors", "best.safetensors"):
        (tensors_a, config_a, notes_a), (tensors_b, config_b, notes_b) = read_tensors(a / name), read_tensors(b / name)
        assert tensors_a.keys() == tensors_b.keys()
        assert all(torch.equal(tensors_a[k], tensors_b[k]) for k in tensors_a), name
        assert (config_a, notes_a) == (config_b, notes_b)
    rows_a, rows_b = ([{k: v for k, v in r.items() if k not in TIMES} for r in read_metrics(p / "metrics.csv")]
                      for p in (a, b))  # fmt: skip
    assert rows_a == rows_b
    assert sorted(p.name for p in a.iterdir()) == sorted(p.name for p in b.iterdir())


@pytest.mark.slow
def test_the_loss_falls_and_the_blobs_are_found(data, tmp_path):
    rows = []
    train(recipe(epochs=18, learning_rate=2e-2, val_every=18), data, out=tmp_path / "run", on_row=rows.append)
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(losses) == STEPS_PER_EPOCH * 18
    assert sum(losses[-8:]) < 0.6 * sum(losses[:8])
    assert rows[-1]["ap50"] > 0.1, (losses[::8], rows[-1])


@pytest.mark.slow
@pytest.mark.parametrize("spikes", ["float", "uint8"])
def test_mixed_precision_trains_and_validates_in_float32_as_weights_are_run(data, tmp_path, spikes, monkeypatch):
    rows, computed = [], []

    def watched(model, dataset, *, observe, **settings):
        def look(name, spikes):
            computed.append(torch.is_autocast_enabled("cpu"))
            observe(name, spikes)

        return predict(model, dataset, observe=look, **settings)

    monkeypatch.setattr(training, "predict", watched)
    train(recipe(epochs=1, precision="bfloat16", spikes=spikes), data, out=tmp_path / "run", on_row=rows.append)
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(losses) == STEPS_PER_EPOCH
    assert all(math.isfinite(loss) for loss in losses)
    assert computed
    assert not any(computed)


def test_the_loss_curve_is_the_golden_one(whole):
    losses = [row["loss"] for row in whole[1] if "loss" in row]
    assert len(losses) == STEPS_PER_EPOCH * EPOCHS
    assert losses[:10] == pytest.approx(json.loads(toy_roads.CURVE.read_text()), rel=1e-3)


def test_every_layer_of_the_toy_network_fires(whole):
    row = next(row for row in whole[1] if "firing_rate" in row)
    assert row["dead_layers"] == 0
    assert 0.01 < row["firing_rate"] < 0.5


def test_the_run_folder_holds_what_it_should(whole, data):
    out, reported = whole
    names = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file() and "tensorboard" not in str(p)}
    pictures = {f"pictures/{n}.png" for n in ("train_batch", "curves", *(f"val_epoch{e:03d}" for e in range(EPOCHS)))}
    assert names == {"config.yaml", "metrics.csv", "last.safetensors", "best.safetensors"} | pictures
    assert list((out / "tensorboard").glob("events.out.tfevents.*"))
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert (config["seed"], config["network"]["encoder"]["widths"], config["data"]) == (1, [8, 8, 16, 16], str(data))
    rows = read_metrics(out / "metrics.csv")
    assert [r["step"] for r in rows if r["loss"] is not None] == list(range(1, 13))
    assert [r["step"] for r in rows if r["ap"] is not None] == [4, 8, 12]
    assert len(reported) == len(rows) == 15
    best = notes(out)
    assert best["validation"]["ap"] == max(r["ap"] for r in reported if "ap" in r)
    assert best["validation"]["protocol"] == "none"
    assert best["recipe"]["learning_rate"] == 5e-3
    assert set(best["firing_rates"]) == set(load(out).neuron_names)


# Before the first checkpoint, at the end of an epoch, within one, at the last step.
@pytest.mark.slow
@pytest.mark.parametrize("step", [4, *thorough(1, 7, 12)])
def test_a_run_stopped_at_any_step_resumes_to_the_same_end(whole, data, tmp_path, step):
    def stop(row):
        if row["step"] == step:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(recipe(checkpoint_every=2), data, out=tmp_path / "run", on_row=stop)
    train(recipe(checkpoint_every=2), data, out=tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", whole[0])


# Checkpoints: step 2, step 4, end of epoch 0, step 6, step 8, end of epoch 1, step 10, step 12, end of epoch 2.
@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", [2, *thorough(1, 3, 9)])
def test_a_run_stopped_right_after_a_checkpoint_resumes_to_the_same_end(whole, data, tmp_path, checkpoint, monkeypatch):
    calls = []
    write = Trainer._checkpoint

    def write_and_stop(self):
        write(self)
        calls.append(self.state.step)
        if len(calls) == checkpoint:
            raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_checkpoint", write_and_stop)
        with pytest.raises(StoppedError):
            train(recipe(checkpoint_every=2), data, out=tmp_path / "run")
    train(recipe(checkpoint_every=2), data, out=tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", whole[0])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["save_best", *thorough("draw_validation", "finish")])
def test_a_run_stopped_while_validating_resumes_to_the_same_end(whole, data, tmp_path, method, monkeypatch):
    def stop(*_, **__):
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(training.RunFolder, method, stop)
        with pytest.raises(StoppedError):
            train(recipe(checkpoint_every=2), data, out=tmp_path / "run")
    train(recipe(checkpoint_every=2), data, out=tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", whole[0])


def test_training_goes_on_from_given_weights(whole, data, tmp_path):
    start = load(whole[0])
    model = recipe(weights=str(whole[0])).build()
    assert all(torch.equal(value, start.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.slow
def test_resuming_a_finished_run_changes_nothing(whole, data, tmp_path):
    train(recipe(checkpoint_every=2), data, out=tmp_path / "run")
    detector = train(recipe(checkpoint_every=2), data, out=tmp_path / "run", resume=True)
    assert isinstance(detector, Detector)
    assert_same_run(tmp_path / "run", whole[0])


def train_until_killed(data, out, moment, num_threads):
    # Sums of many pixels are added up by thread, so that another number of them rounds differently.
    torch.set_num_threads(num_threads)
    replaced, checkpoints = os.replace, []

    def kill():
        os.kill(os.getpid(), signal.SIGKILL)

    def report(row):
        if moment == f"step {row['step']}" and "loss" in row:
            kill()

    def replace(source, target):
        # The third checkpoint: written to its temporary name, not yet moved to its own.
        checkpoints.extend([target] * str(target).endswith("last.safetensors"))
        if moment == "checkpoint" and len(checkpoints) == 3:
            kill()
        replaced(source, target)

    files.os.replace = replace
    train(recipe(checkpoint_every=2), data, out=out, on_row=report)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["checkpoint", *thorough("step 3", "step 11")])
def test_a_killed_run_resumes_to_the_same_end(whole, data, in_new_process, tmp_path, moment):
    out = tmp_path / "run"
    done = in_new_process(train_until_killed, data, out, moment, torch.get_num_threads())
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = [p.name for p in out.iterdir() if p.name.startswith(".")]
    assert bool(left) == (moment == "checkpoint")
    train(recipe(checkpoint_every=2), data, out=out, resume=True)
    assert_same_run(out, whole[0])


def not_a_number(loss):
    return dataclasses.replace(loss, total=loss.total * math.nan)


def endless_gradient(loss):
    return dataclasses.replace(loss, total=loss.total + torch.sqrt(loss.total * 0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "told"),
    [(not_a_number, "the loss of step 6 is nan"), *thorough((endless_gradient, "gradient's norm of step 6"))],
)
def test_a_loss_that_is_not_finite_stops_with_the_batch_saved(whole, data, tmp_path, spoil, told, monkeypatch):
    out, calls, checkpoints = tmp_path / "run", [], []
    real, write = CenterNet.loss, Trainer._checkpoint

    def loss(*arguments, **options):
        calls.append(1)
        value = real(*arguments, **options)
        return spoil(value) if len(calls) == 7 else value

    def remember(self):
        write(self)
        checkpoints.append((out / "last.safetensors").read_bytes())

    with monkeypatch.context() as patch:
        patch.setattr(CenterNet, "loss", loss)
        patch.setattr(Trainer, "_checkpoint", remember)
        with pytest.raises(TrainingError, match=told) as caught:
            train(recipe(checkpoint_every=2), data, out=out)
    assert str(out / "bad_batch.safetensors") in str(caught.value)
    assert (out / "last.safetensors").read_bytes() == checkpoints[-1]
    tensors, _, about = read_tensors(out / "bad_batch.safetensors")
    assert tensors["cube"].shape == (3, 4, 4, *toy_roads.SIZE_HW)
    assert tensors["cube"].any()
    assert {f"{n}/{i}" for n in ("xyxy", "labels") for i in range(4)} < set(tensors)
    assert len(about["recordings"]) == len(about["t_us"]) == 4

    (out / "bad_batch.safetensors").unlink()
    train(recipe(checkpoint_every=2), data, out=out, resume=True)
    assert_same_run(out, whole[0])


def test_a_taken_folder_is_not_trained_over(whole, data):
    before = (whole[0] / "last.safetensors").read_bytes()
    with pytest.raises(ConfigError, match="holds a run already; continue it with --resume"):
        train(recipe(checkpoint_every=2), data, out=whole[0])
    with pytest.raises(ConfigError, match=r"learning_rate was 0\.005, is 0\.001"):
        train(recipe(checkpoint_every=2, learning_rate=1e-3), data, out=whole[0], resume=True)
    assert (whole[0] / "last.safetensors").read_bytes() == before


@pytest.mark.slow
def test_resuming_an_empty_folder_starts_the_run(data, tmp_path):
    train(recipe(epochs=1), data, out=tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "best.safetensors").is_file()


@pytest.mark.slow
def test_dead_layers_are_reported(data, tmp_path):
    rows = []
    detector = train(
        recipe(epochs=1, network=toy_roads.NETWORK | {"neuron.threshold": 1e6}),
        data,
        out=tmp_path / "run",
        on_row=rows.append,
    )
    num_layers = len(detector.neuron_names)
    assert [row["dead_layers"] for row in rows if "dead_layers" in row] == [num_layers] * STEPS_PER_EPOCH
    assert rows[-1]["val_dead_layers"] == num_layers
    assert rows[-1]["val_firing_rate"] == 0


def test_missing_data_and_too_large_batches_are_refused(data, tmp_path):
    with pytest.raises(DatasetError, match="no such folder"):
        train(recipe(), tmp_path / "nowhere", out=tmp_path / "run")
    with pytest.raises(ConfigError, match="batch_size 18 is more than the 17 windows of an epoch"):
        train(recipe(batch_size=18), data, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"preset": "nanno"}, "did you mean 'nano'"),
        ({"precision": "float16"}, "precision must be"),
        ({"protocol": "propheseee"}, "did you mean 'prophesee'"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"num_workers": -1}, "num_workers must be at least 0"),
        ({"num_threads": 0}, "num_threads must be at least 1"),
        ({"checkpoint_every": -2}, "checkpoint_every must be at least 0"),
        ({"final_learning_rate": -1.0}, "final_learning_rate must be finite and not negative"),
        ({"learning_rate": float("inf")}, "learning_rate must be finite"),
        ({"weight_decay": -0.1}, "weight_decay must be finite and not negative"),
        ({"clip_norm": -1.0}, "clip_norm must be finite and not negative"),
        ({"clip_norm": 0.0}, "clip_norm must be positive"),
        ({"warmup": 1.0}, r"warmup and ema_decay in \[0, 1\)"),
        ({"ema_decay": 1.0}, r"warmup and ema_decay in \[0, 1\)"),
    ],
)
def test_impossible_recipes_are_refused(changes, told):
    with pytest.raises(ConfigError, match=told):
        Recipe(**changes)


def test_the_learning_rate_in_closed_form():
    plan = Recipe(learning_rate=1.0, final_learning_rate=0.1, warmup=0.1)
    rates = [learning_rate_at(step, 101, plan) for step in range(101)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert rates[10] == 1
    assert rates[55] == pytest.approx(0.55)
    assert rates[100] == pytest.approx(0.1)
    assert all(b < a for a, b in pairwise(rates[10:]))
    assert learning_rate_at(0, 1, Recipe(warmup=0.0, learning_rate=1.0)) == 1


def test_epochs_visit_every_sample_at_most_once_in_an_order_of_their_own():
    batches = EpochBatches(17, 4, seed=3)
    epochs = []
    for epoch in range(3):
        batches.epoch, batches.first = epoch, 0
        assert len(batches) == 4
        epochs.append(list(batches))
        seen = [i for batch in epochs[-1] for i in batch]
        assert len(seen) == len(set(seen)) == 16
        assert set(seen) <= set(range(17))
        batches.first = 3
        assert list(batches) == epochs[-1][3:]
        batches.first = 4
        assert (len(batches), list(batches)) == (0, [])
    assert epochs[0] != epochs[1] != epochs[2]
    assert list(EpochBatches(17, 4, seed=3)) == epochs[0]
    assert list(EpochBatches(17, 4, seed=4)) != epochs[0]


def test_a_short_epoch_takes_the_first_windows_of_the_long_one():
    whole, short = EpochBatches(17, 4, seed=3), EpochBatches(17, 4, seed=3, most=9)
    assert (len(short), list(short)) == (2, list(whole)[:2])
    assert len(EpochBatches(17, 4, seed=3, most=1000)) == 4
    whole.epoch = short.epoch = 1
    assert list(short) == list(whole)[:2]
    with pytest.raises(ConfigError, match="windows_per_epoch must be null or at least batch_size"):
        Recipe(batch_size=8, windows_per_epoch=7)


@pytest.mark.slow
def test_no_average_is_the_weights_themselves(data, tmp_path):
    train(recipe(epochs=1, ema_decay=0.0), data, out=tmp_path / "run")
    tensors, _, _ = read_tensors(tmp_path / "run" / "last.safetensors")
    model = {k.removeprefix("model/"): v for k, v in tensors.items() if k.startswith("model/")}
    assert model
    assert all(torch.equal(v, tensors[f"ema/{k}"]) for k, v in model.items())


@pytest.mark.slow
def test_fitted_scores_are_saved_and_forgotten_by_the_next_training(data, tmp_path, monkeypatch):
    fit = (0.5, 2.0, 0.25)
    monkeypatch.setattr(training, "fit_scores", lambda predictions, protocol: fit)
    trained = train(recipe(epochs=1, fit_scores=True), data, out=tmp_path / "run")
    assert trained.config.deployment.score_fit == load(tmp_path / "run").config.deployment.score_fit == fit
    assert trained.head.score_fit == fit
    assert build(weights=tmp_path / "run").config.deployment.score_fit == (0, 1, 0)


def boxes_and_detections(scores):
    """Four boxes apart, each detected exactly with these scores; a score below 0 misses its box."""
    xyxy = torch.tensor([[i * 50.0, 10.0, i * 50.0 + 40, 50.0] for i in range(4)]).numpy()
    labels = torch.zeros(4, dtype=torch.int64).numpy()
    found = xyxy.copy()
    for i, score in enumerate(scores):
        found[i, [1, 3]] += 100 * (score < 0)
    order = sorted(range(4), key=lambda i: -abs(scores[i]))
    scores = torch.tensor([abs(scores[i]) for i in order]).numpy()
    return Boxes(xyxy, labels), Detections(found[order], scores, labels, 1)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [((-0.9, -0.8, -0.7, -0.6), 0.3), ((0.9, 0.8, 0.7, 0.6), 0.6), ((0.9, 0.8, 0.7, -0.2), 0.7)],
)
def test_the_best_threshold_keeps_what_is_right_and_drops_what_is_wrong(scores, expected):
    truth, found = boxes_and_detections(scores)
    score = evaluate_boxes({("a", 1): truth}, {("a", 1): found}, size_hw=(240, 304), protocol="none")
    assert best_threshold(score) == pytest.approx(expected, abs=0.01)


# --- judgement and resuming ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_where_no_box_counts_the_last_weights_are_the_best_and_it_is_said(data, tmp_path):
    with pytest.warns(UserWarning, match="passes the size and time filter of protocol prophesee"):
        train(recipe(protocol="prophesee"), data, out=tmp_path / "run")  # its boxes are 12 x 10 px
    assert notes(tmp_path / "run" / "best.safetensors")["epoch"] == 2


@pytest.mark.slow
def test_the_same_folder_may_be_written_otherwise(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("data", "link"):
        (tmp_path / name).symlink_to(data)
    train(recipe(epochs=1), "data", out="run")
    for written in ("data/", "./data", str(data), "folder:data", "link"):
        train(recipe(epochs=1, num_workers=1), written, out="run", resume=True)
    shutil.copytree(data, tmp_path / "other")
    with pytest.raises(ConfigError, match="is 'other'"):
        train(recipe(epochs=1), "other", out="run", resume=True)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_in_the_data_is_one_line_from_a_loading_process_too(tmp_path, num_workers):
    data = toy_roads.write_folder(tmp_path / "data")
    for path in (data / "train").glob("*_td.dat"):
        path.write_bytes(path.read_bytes()[:-5])  # half an event
    with pytest.raises(EventFileError) as caught:
        train(recipe(num_workers=num_workers), data, out=tmp_path / "run")
    assert "Traceback" not in str(caught.value)
    assert str(caught.value).count("\n") == 0

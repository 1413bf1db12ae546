"""Killed at random moments and with a full disk: nothing damaged stands under a final name, nothing done is lost."""

import contextlib
import csv
import errno
import importlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import toy_roads
from calibrated import calibrated, random_cube
from toy_roads import recipe

from spiking_centernet.cli.program import main
from spiking_centernet.errors import WeightsError
from spiking_centernet.experiments.study import run_study
from spiking_centernet.model.weights import read_tensors, save, save_tensors
from spiking_centernet.simulate.dataset import Clips, simulate
from spiking_centernet.training.run_dir import RunFolder
from spiking_centernet.training.trainer import train
from spiking_centernet.utils import files

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def kill_test(monkeypatch):
    """What ``make kill`` runs; training is killed in test_trainer.py, simulation in test_dataset.py."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("kill_test")


@pytest.mark.slow
@pytest.mark.thorough
def test_a_detection_killed_at_random_loses_nothing(kill_test, tmp_path, subprocess_env):
    job = next(job for job in kill_test.jobs(tmp_path) if job.name == "detection")
    network = calibrated("nano", random_cube(toy_roads.SIZE_HW, num_steps=3), **toy_roads.NETWORK)
    save(network, tmp_path / "weights" / "best")
    done = kill_test.torture(job, tmp_path, 1, np.random.default_rng(0), subprocess_env | {"OMP_NUM_THREADS": "1"})
    assert done["kills"] == 1
    assert not done["damaged_files"]
    assert not done["trials_with_another_result"]


def killed_study(path, data, out):
    replaced = os.replace

    def replace(source, target):
        # What is noted of the second run stands under its temporary name, not yet under its own.
        if str(target).endswith("b/seed0/outcome.json"):
            os.kill(os.getpid(), signal.SIGKILL)
        replaced(source, target)

    files.os.replace = replace
    run_study(path, data, out=out)


@pytest.mark.slow
@pytest.mark.thorough
def test_a_killed_study_loses_nothing(kill_test, data, tmp_path, in_new_process):
    kill_test.jobs(tmp_path)
    path, whole, out = tmp_path / "tiny_study.yaml", tmp_path / "whole", tmp_path / "out"
    done = in_new_process(killed_study, path, data, out)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert [path.parent.parent.name for path in out.rglob("outcome.json")] == ["a"]
    assert not list(kill_test.check_whole(out))
    for folder in (whole, out):
        run_study(path, data, out=folder)
    assert kill_test._study(out) == kill_test._study(whole)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_roads.write_folder(tmp_path_factory.mktemp("toy") / "data")


def no_space(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.slow
def test_a_full_disk_stops_training_with_the_last_checkpoint_intact(data, tmp_path, monkeypatch):
    out, kept = tmp_path / "run", []

    def fill_up(row):
        if row["step"] == 6 and "loss" in row:
            kept.append((out / "last.safetensors").read_bytes())
            monkeypatch.setattr(files, "_flush_to_disk", no_space)

    with pytest.raises(OSError, match="No space left") as caught:
        train(recipe(checkpoint_every=2), data, out=out, on_row=fill_up)
    assert caught.value.errno == errno.ENOSPC
    assert str(out) in str(caught.value)
    assert (out / "last.safetensors").read_bytes() == kept[0]
    assert read_tensors(out / "last.safetensors")[2]["step"] == 4
    assert not [path for path in out.rglob(".*") if path.is_file()]
    monkeypatch.undo()
    train(recipe(checkpoint_every=2), data, out=out, resume=True)
    train(recipe(checkpoint_every=2), data, out=tmp_path / "whole")
    for name in ("last", "best"):
        a, b = (read_tensors(folder / f"{name}.safetensors")[0] for folder in (out, tmp_path / "whole"))
        assert all((a[key] == b[key]).all() for key in b)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["tensor", "notes"])
def test_a_checkpoint_that_does_not_fit_is_refused(data, tmp_path, damage):
    out = tmp_path / "run"
    train(recipe(epochs=1), data, out=out)
    tensors, config, notes = read_tensors(out / "last.safetensors")
    lost = tensors if damage == "tensor" else notes
    lost.pop(next(name for name in lost if name.startswith("model/") or damage == "notes"))
    save_tensors(tensors, out / "last.safetensors", config, notes)
    with pytest.raises(WeightsError, match=r"last\.safetensors: is no checkpoint of this run"):
        train(recipe(epochs=1), data, out=out, resume=True)


def test_leftovers_of_a_killed_run_go_when_it_goes_on(tmp_path):
    folder = RunFolder(tmp_path, {"seed": 0}, resume=True)
    (tmp_path / "pictures").mkdir()
    left = [
        tmp_path / name for name in (".last.0123abcd.safetensors", ".metrics.0123abcd.csv", "pictures/.a.0123abcd.png")
    ]
    for path in left:
        path.touch()
    folder.rewind(0, 0)
    assert not [path for path in left if path.exists()]


def test_metrics_that_find_no_room_are_named(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path, {"seed": 0}, resume=True)
    folder.log({"step": 1, "loss": 0.5})
    monkeypatch.setattr(csv.DictWriter, "writerow", no_space)
    with pytest.raises(OSError, match=r"metrics\.csv was not written"):
        folder.log({"step": 2, "loss": 0.25})


def command_with_small_files(num_bytes, argv):
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sys.exit(main(argv))


@pytest.mark.slow
def test_a_disk_that_takes_no_more_bytes_is_told_in_one_line(data, tmp_path, in_new_process):
    out = tmp_path / "run"
    (tmp_path / "a.yaml").write_text("epochs: 1\nbatch_size: 4\nnum_workers: 0\nprotocol: none\n")
    command = ["train", str(tmp_path / "a.yaml"), "--data", str(data), "--out", str(out)]
    done = in_new_process(command_with_small_files, 1_000_000, command)
    assert done.returncode == 2
    assert "File too large" in done.stderr
    assert done.stderr.count("scn: error") == 1
    assert not list(out.rglob("*.safetensors"))


@pytest.fixture
def small(tmp_path):
    """A file system of eight megabytes of its own, where this process may make one."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this process may not mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


def fill(path, leave):
    """Write until nothing goes in any more, and leave so many bytes."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    os.truncate(path, path.stat().st_size - leave)


@pytest.mark.slow
def test_a_full_file_system(small):
    (small / "a.bin").write_bytes(b"1" * 700_000)
    fill(small / "filler", 500_000)

    def write_another():
        with files.atomic_write(small / "a.bin") as temporary:
            temporary.write_bytes(b"2" * 700_000)

    with pytest.raises(OSError, match=r"No space left.*a\.bin was not written"):
        write_another()
    assert (small / "a.bin").read_bytes() == b"1" * 700_000
    with pytest.raises(OSError, match="No space left"):
        simulate(small / "roads", clips=Clips(train=1, val=0, test=0), duration_s=2.0, workers=1)
    assert not list((small / "roads" / "train").glob("*"))
    assert {path.name for path in small.iterdir()} == {"a.bin", "filler", "roads"}


@pytest.mark.slow
def test_training_on_a_full_file_system_goes_on_from_its_last_checkpoint(data, small):
    out, kept = small / "run", []

    def fill_up(row):
        if row["step"] == 6 and "loss" in row:
            kept.append((out / "last.safetensors").read_bytes())
            fill(small / "filler", 8192)

    with pytest.raises(OSError, match=r"No space left.*last\.safetensors was not written"):
        train(recipe(checkpoint_every=2), data, out=out, on_row=fill_up)
    assert (out / "last.safetensors").read_bytes() == kept[0]
    assert read_tensors(out / "last.safetensors")[2]["step"] == 4
    (small / "filler").unlink()
    train(recipe(checkpoint_every=2), data, out=out, resume=True)
    assert read_tensors(out / "last.safetensors")[2]["step"] == 12

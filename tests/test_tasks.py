"""Many recordings as tasks: skipped when done, done again when damaged, the same from every executor."""

import json
import os
from pathlib import Path

import pytest
import toy_roads
from calibrated import calibrated, random_cube

from spiking_centernet import weights
from spiking_centernet.errors import ConfigError, DatasetError
from spiking_centernet.executors import Executor
from spiking_centernet.simulate.roads import Clips
from spiking_centernet.tasks import Task, evaluate_recordings, index, run_tasks, simulate_recordings
from spiking_centernet.validate import evaluate


def square(number):
    if number == 13:
        raise ValueError("unlucky")
    return number * number, os.getpid()


def die(number):
    if number == 1:
        os._exit(9)
    return number


def write_twice(out, text):
    path = out / f"{text}.txt"
    path.write_text(text * 2)
    log = out / "log"
    log.write_text((log.read_text() if log.exists() else "") + text)
    if text == "bad":
        raise ValueError("bad text")
    return {"length": len(text)}, [path]


def tasks(out, names=("a", "b", "c"), **changes):
    out.mkdir(exist_ok=True)
    return [Task(name, out, write_twice, {"text": name}, **changes) for name in names]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_roads.write_folder(tmp_path_factory.mktemp("toy") / "data")


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    model = calibrated("nano", random_cube(toy_roads.SIZE_HW, num_steps=3), **toy_roads.NETWORK)
    return weights.save(model, tmp_path_factory.mktemp("weights") / "toy")


def test_nothing_to_do_is_done(tmp_path):
    assert run_tasks([]) == {}
    assert list(Executor().map(square, [])) == []


def test_an_error_is_carried_back_and_the_others_go_on():
    found = dict(Executor(workers=1).map(square, [1, 13, 3]))
    assert [found[0][0], found[2][0]] == [1, 9]
    assert isinstance(found[1], ValueError)
    values = Executor(workers=1).values(square, [13, 2])
    assert next(values)[0] == 4
    with pytest.raises(ValueError, match="unlucky"):
        next(values)


def test_what_is_done_is_not_done_again(tmp_path):
    first = run_tasks(tasks(tmp_path))
    assert list(first) == ["a", "b", "c"]
    assert first["a"]["values"] == {"length": 1}
    assert json.loads((tmp_path / "manifest.json").read_text()) == first
    assert run_tasks(tasks(tmp_path)) == first
    assert (tmp_path / "log").read_text() == "abc"
    (tmp_path / "b.txt").write_text("damaged")
    (tmp_path / ".tasks" / "c.json").write_text("{")
    assert run_tasks(tasks(tmp_path)) == first
    assert (tmp_path / "log").read_text() == "abcbc"
    run_tasks(tasks(tmp_path, settings={"size": 3}))
    assert (tmp_path / "log").read_text() == "abcbcabc"


def test_a_changed_input_is_worked_on_again(tmp_path):
    source = tmp_path / "source"
    source.write_text("1")
    for text, log in (("1", "a"), ("1", "a"), ("2", "aa")):
        source.write_text(text)
        run_tasks(tasks(tmp_path / "out", ["a"], inputs=(source,)))
        assert (tmp_path / "out" / "log").read_text() == log


def test_a_failed_task_is_named_and_the_others_are_kept(tmp_path):
    with pytest.raises(DatasetError, match="1 of 3 recordings failed; bad: bad text"):
        run_tasks(tasks(tmp_path, ("a", "bad", "c")))
    assert not (tmp_path / "manifest.json").exists()
    assert run_tasks(tasks(tmp_path, ("a", "c")))
    assert (tmp_path / "log").read_text() == "abadc"


def test_scoring_by_recording_is_scoring_the_split(model_path, data, tmp_path):
    model = weights.load(model_path)
    apart = evaluate_recordings(model_path, data, "val", tmp_path / "val", protocol="none", batch_size=3)
    together = evaluate(model, data, protocol="none", batch_size=3)
    assert apart.to_dict() == together.to_dict()
    manifest = json.loads((tmp_path / "val" / "manifest.json").read_text())
    assert set(manifest) == {"clip2", "clip3"}
    assert set(manifest["clip2"]["task"]["inputs"]) == {"clip2_td.dat", "clip2_bbox.npy"}


def test_an_index_counts(data, tmp_path):
    found = index(data, "train", tmp_path)
    assert found["clip0"]["values"]["boxes"] == {"car": 9, "pedestrian": 0}
    assert found["clip1"]["values"]["boxes"] == {"car": 0, "pedestrian": 8}
    assert found["clip0"]["values"]["size_hw"] == list(toy_roads.SIZE_HW)
    assert found["clip0"]["values"]["events"] == 60 * 9 * 8


def simulated(out, executor=None):
    from toy_world import toy_scene

    return simulate_recordings(
        out, executor=executor, seed=5, clips=Clips(train=1, val=1, test=0), duration_s=0.3, size_hw=(24, 32),
        make_scene=toy_scene, workers=1, progress=False,
    )  # fmt: skip


def test_a_damaged_clip_is_made_again(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "simulate"))
    first = simulated(tmp_path)
    path = tmp_path / "train" / "sim5_train_0000_td.dat"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # the same size: only the checksum tells
    assert simulated(tmp_path) == first
    assert path.read_bytes() == whole


ENGINES = [
    pytest.param("local", None, id="local"),
    pytest.param("ray", None, id="ray", marks=pytest.mark.slow),
    pytest.param("slurm", {"cluster": "local"}, id="submitit", marks=pytest.mark.slow),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "settings"), ENGINES)
def test_every_executor_gives_the_same(kind, settings, model_path, data, tmp_path, monkeypatch):
    pytest.importorskip({"ray": "ray", "slurm": "submitit"}.get(kind, "spiking_centernet"))
    here = Path(__file__).parent
    for folder in (here / "simulate", here):
        monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(here), str(here / "simulate"), os.environ.get("PYTHONPATH", "")])
    )
    monkeypatch.setenv("RAY_worker_niceness", "0")  # on a busy machine ray's own 15 would take minutes
    executor = Executor(kind=kind, workers=2, logs=tmp_path / "logs", settings=settings)
    found = dict(executor.map(square, [1, 13, 3]))
    assert [found[0][0], found[2][0]] == [1, 9]
    assert "unlucky" in str(found[1])
    assert found[0][1] != os.getpid()
    for name, some in (("alone", None), ("there", executor)):
        index(data, "train", tmp_path / name / "index", executor=some)
        evaluate_recordings(model_path, data, "val", tmp_path / name / "val", protocol="none", executor=some)
        simulated(tmp_path / name / "roads", some)
    for work in ("index", "val", "roads"):
        a, b = ((tmp_path / name / work / "manifest.json").read_text() for name in ("alone", "there"))
        assert a == b, work
    if kind == "local":
        ended = dict(executor.map(die, [0, 1]))
        assert isinstance(ended[1], Exception)


@pytest.mark.parametrize(
    ("settings", "words"), [({"kind": "rya"}, "did you mean 'ray'"), ({"workers": 0}, "workers must be at least 1")]
)
def test_impossible_executors_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        Executor(**settings)

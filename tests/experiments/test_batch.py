"""Many recordings as tasks: skipped when done, done again when damaged, the same from every executor."""

import json
import os
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import toy_roads
from calibrated import calibrated, random_cube
from light_tasks import die, mark, square

from spiking_centernet.data import write_dat
from spiking_centernet.errors import ConfigError, DatasetError
from spiking_centernet.evaluation.prediction import evaluate
from spiking_centernet.experiments.batch import Task, evaluate_recordings, index, run_tasks
from spiking_centernet.model import weights
from spiking_centernet.simulate.dataset import Clips, simulate
from spiking_centernet.structures import EVENT_DTYPE
from spiking_centernet.utils import executors
from spiking_centernet.utils.executors import Executor, ray_settings
from spiking_centernet.utils.files import atomic_write


class UnsendableError(Exception):
    def __init__(self, number, text):
        super().__init__(f"{number} {text}")


def fail_unsendably(number):
    raise UnsendableError(number, "lost")


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


def test_an_error_that_cannot_be_sent_comes_in_words():
    with pytest.raises(TypeError):
        pickle.loads(pickle.dumps(UnsendableError(1, "lost")))
    ((_, error),) = Executor(workers=1).map(fail_unsendably, [1])
    assert str(pickle.loads(pickle.dumps(error))) == "UnsendableError: 1 lost"


def test_ray_starts_a_cluster_or_joins_one(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    started = ray_settings(Executor(kind="ray", workers=2))
    assert (started["address"], started["num_cpus"]) == ("local", 2)
    joined = ray_settings(Executor(kind="ray", workers=2, settings={"address": "auto", "include_dashboard": True}))
    assert joined == {"address": "auto", "include_dashboard": True, "log_to_driver": False}
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")  # ray takes no number of cores for a cluster that is there
    assert "num_cpus" not in ray_settings(Executor(kind="ray", workers=2))


class FakeRay(ModuleType):
    """Runs a task when it is asked for, and counts how many wait."""

    def __init__(self):
        super().__init__("ray")
        self.most, self.waiting, self.started, self.stopped = 0, [], None, False
        self.exceptions = SimpleNamespace(RayError=RuntimeError)

    def is_initialized(self):
        return False

    def init(self, **settings):
        self.started = settings

    def shutdown(self):
        self.stopped = True

    def remote(self, num_cpus):
        return lambda function: SimpleNamespace(remote=lambda *given: self.submit(lambda: function(*given)))

    def submit(self, call):
        self.waiting.append(call)
        self.most = max(self.most, len(self.waiting))
        return call

    def wait(self, waiting, num_returns):
        assert set(waiting) == set(self.waiting)
        return [self.waiting.pop()], self.waiting

    def get(self, call):
        return call()


def test_no_more_tasks_wait_in_ray_than_workers_are_asked_for(monkeypatch):
    for workers, most in ((2, 2), (None, 5)):
        ray = FakeRay()
        monkeypatch.setitem(sys.modules, "ray", ray)
        monkeypatch.setitem(sys.modules, "ray.exceptions", ray.exceptions)
        found = dict(Executor(kind="ray", workers=workers, settings={"address": "auto"}).map(square, [1, 2, 13, 4, 5]))
        assert [found[k][0] for k in (0, 1, 3, 4)] == [1, 4, 16, 25]
        assert isinstance(found[2], ValueError)
        assert (ray.most, ray.started["address"], ray.stopped) == (most, "auto", True)


def test_slurm_where_there_is_none(tmp_path):
    pytest.importorskip("submitit")
    for settings, words in ((None, "cannot go to slurm"), ({"cluster": "local", "timeout": 3}, "cannot go to local")):
        with pytest.raises(ConfigError, match=words):
            next(Executor(kind="slurm", logs=tmp_path, settings=settings).map(square, [1]))


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


@pytest.mark.parametrize("path", ["/dev/zero", "../secret.txt"])
def test_a_record_does_not_lead_out_of_its_folder(path, tmp_path):
    out = tmp_path / "out"
    (task,) = tasks(out, ["a"])
    (tmp_path / "secret.txt").write_text("a")
    record = run_tasks([task])["a"]
    ((_, digest),) = record["files"].items()
    task.record_path.write_text(json.dumps(record | {"files": {path: digest}}))
    assert task.done() is None


def test_a_changed_input_is_worked_on_again(tmp_path):
    source = tmp_path / "source"
    source.write_text("1")
    for text, log in (("1", "a"), ("1", "a"), ("2", "aa")):
        source.write_text(text)
        run_tasks(tasks(tmp_path / "out", ["a"], inputs=(source,)))
        assert (tmp_path / "out" / "log").read_text() == log


meeting = threading.Barrier(2)


def meet(out, text):
    meeting.wait(60)
    return write(out, text)


def write(out, text):
    with atomic_write(out / f"{text}.txt") as temporary:
        temporary.write_text(text)
    return {"length": len(text)}, [out / f"{text}.txt"]


def test_two_that_do_the_same_at_a_time_end_alike(tmp_path):
    jobs = [Task("a", tmp_path, meet, {"text": "a"})]
    with ThreadPoolExecutor(2) as both:
        one, two = both.map(run_tasks, [jobs, jobs])
    assert one == two == run_tasks(jobs)  # alone a third would wait for another
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tasks", "a.txt", "manifest.json"]
    (tmp_path / ".tasks" / "a.json").write_text("[" * 100_000)
    assert jobs[0].done() is None


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


def test_an_index_counts_in_any_layout(tmp_path):
    write_dat(tmp_path / "train" / "a_td.dat", np.zeros(3, EVENT_DTYPE), (24, 40))
    boxes = np.zeros(7, [("t", "<i8"), *((n, "<f4") for n in "xywh"), ("class_id", "<u4"), ("track_id", "<u4")])
    boxes["w"], boxes["h"], boxes["class_id"], boxes["track_id"] = 20, 20, range(7), range(7)
    np.save(tmp_path / "train" / "a_bbox.npy", boxes)
    found = index(f"1mpx:{tmp_path}", "train", tmp_path / "out")["a"]["values"]
    assert (found["events"], found["boxes"]) == (3, {"pedestrian": 1, "two wheeler": 1, "car": 1})


def simulated(out, executor=None):
    from toy_world import toy_scene

    return simulate(
        out, executor=executor, seed=5, clips=Clips(train=1, val=1, test=0), duration_s=0.3, size_hw=(24, 32),
        make_scene=toy_scene, workers=1,
    )  # fmt: skip


def test_another_engine_fails_in_our_own_words(tmp_path, monkeypatch):
    def broken(function, items, executor):
        yield 0, MemoryError("no room")

    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "simulate"))
    monkeypatch.setitem(executors.ENGINES, "ray", broken)
    with pytest.raises(DatasetError, match="MemoryError: no room"):
        simulated(tmp_path, Executor(kind="ray"))


ENGINES = [
    pytest.param("local", None, id="local"),
    pytest.param("ray", None, id="ray", marks=pytest.mark.slow),
    pytest.param("slurm", {"cluster": "local"}, id="submitit", marks=pytest.mark.slow),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "settings"), ENGINES)
def test_every_executor_gives_the_same(kind, settings, model_path, data, tmp_path, monkeypatch, fork_pools):
    pytest.importorskip({"ray": "ray", "slurm": "submitit"}.get(kind, "spiking_centernet"))
    tests = Path(__file__).parents[1]
    folders = [str(folder) for folder in (tests, tests / "simulate", tests / "experiments")]
    for folder in folders:
        monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*folders, os.environ.get("PYTHONPATH", "")]))
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
    for work in ("index/manifest.json", "val/manifest.json", "roads/simulation.json"):
        a, b = ((tmp_path / name / work).read_text() for name in ("alone", "there"))
        assert a == b, work
    if kind == "local":
        ended = dict(executor.map(die, [0, 1]))
        assert isinstance(ended[1], Exception)
        marks = executor.map(mark, [tmp_path / f"{number}.mark" for number in range(400)])
        next(marks)
        marks.close()
        assert len(list(tmp_path.glob("*.mark"))) < 200


@pytest.mark.parametrize(
    ("settings", "words"), [({"kind": "rya"}, "did you mean 'ray'"), ({"workers": 0}, "workers must be at least 1")]
)
def test_impossible_executors_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        Executor(**settings)

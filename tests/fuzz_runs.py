"""What the fuzzers feed to those who read what earlier runs left, and to those who collect what a socket delivers."""

import json
import math
from functools import cache
from itertools import islice, pairwise

import numpy as np
import yaml
from fuzz_files import SIZE_HW, file, folder

from spiking_centernet.errors import DatasetError
from spiking_centernet.experiments.batch import FOUND_DTYPE, Task, _read_detections
from spiking_centernet.experiments.energy_page import read_study
from spiking_centernet.experiments.study import runs, table
from spiking_centernet.experiments.study.plan import Plan, Run, read_plan
from spiking_centernet.inference.sources import Udp
from spiking_centernet.inference.windows import WindowCollector
from spiking_centernet.structures import VoxelSpec
from spiking_centernet.training.config import config_of
from spiking_centernet.training.run_dir import RunFolder

CONFIG = {"preset": "nano", "epochs": 2, "network": {"encoder.widths": [2, 2]}, "weights": None}
COLUMNS = np.dtype([("x", "<u2"), ("y", "<u2"), ("t", "<u4"), ("p", "u1")])
"""What a datagram can say of an event."""


def run_folder(data: bytes) -> object:
    """The configuration that a run is resumed with; what is resumed is what lies there."""
    path = file(data, "run/config.yaml").parent
    RunFolder(path, CONFIG, resume=True)
    assert yaml.safe_load((path / "config.yaml").read_text()) == CONFIG


def outcome(data: bytes) -> bool:
    """What a study notes of a run, read to skip the run and to write the table."""
    plan, run = _planned()
    file(data, str((run.folder / runs.OUTCOME).relative_to(folder())))
    finished = runs._finished(plan, run)
    (test,) = plan.tests(config_of(run.recipe))
    if finished or "failed" in table._of_run(run):
        table.cells(table._line(run.row, test, [run], None, several=False))
    json.dumps(table._of_run(run), allow_nan=False)
    return finished


def task_record(data: bytes) -> object:
    """What a task notes when it is done; one that is not believed counts as refused."""
    task = Task("a", folder(), _planned, {}, settings={"size": [24, 40]})
    file(b"1", "made.txt")
    file(data, str(task.record_path.relative_to(folder())))
    record = task.done()
    if record is None:
        raise DatasetError("the task is done again")
    assert record["task"] == task._identity()
    assert all((folder() / path).resolve().is_relative_to(folder().resolve()) for path in record["files"])
    return record


class _Receiver:
    def __init__(self, datagrams: list[np.ndarray]):
        self.datagrams = iter(datagrams)

    def recv(self, _: float) -> "_Receiver":
        self.columns = next(self.datagrams)
        return self

    def numpy(self) -> np.ndarray:
        return self.columns


def datagrams(data: bytes) -> int:
    """Byte 0: whether the sender's times count, and events a datagram; the others are events as the receiver gives."""
    choice, data = data[0] if data else 0, data[1:]
    events = np.frombuffer(data[: len(data) // COLUMNS.itemsize * COLUMNS.itemsize], COLUMNS)
    columns = np.stack([events[name].astype(np.int64) for name in "xytp"], axis=1)
    some = choice >> 1 & 7
    source = Udp.__new__(Udp)
    source.timestamps, source.packet_us = bool(choice & 1), 1000
    sent = [columns[i : i + some + 1] for i in range(0, len(columns), some + 1)]
    source._receiver = _Receiver(sent)
    collector = WindowCollector(SIZE_HW, every_us=10_000, spec=VoxelSpec(20_000, num_steps=2, bins=1))
    ends = []
    for packet in islice(source, len(sent)):
        for window in islice(collector.push(packet), 50):  # half an hour may lie between two events
            assert window.cube.max() <= 1
            ends.append((window.segment, window.stop_us))
    assert all(after[0] > before[0] or after[1] >= before[1] + 10_000 for before, after in pairwise(ends))
    assert not any(end % 10_000 for _, end in ends)
    assert len(collector._open) <= 3
    return len(ends)


@cache
def _planned() -> tuple[Plan, Run]:
    base = folder() / "planned"
    base.mkdir()
    (base / "base.yaml").write_text(
        yaml.safe_dump({"epochs": 2, "network": {"encoder.widths": [2, 2], "decoder.num_blocks": 1}})
    )
    (base / "study.yaml").write_text("recipe: base.yaml\nrows: {a: {}, b: {learning_rate: 0.001}}\nsplit: val\n")
    plan = read_plan(base / "study.yaml")
    return plan, plan.runs(base)[0]


def curve(data: bytes) -> list:
    """The result of a firing rate study, and the plot that is made of it."""
    found = read_study(file(data, "firing_rate_study.json"))
    for run in found:
        assert math.isfinite(run["target"] + run["test"]["ap"])
    return found


def detections(data: bytes) -> object:
    """What a task notes of the detections in a recording."""
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        record = {}
    np.save(folder() / "a_detections.npy", np.zeros(2, FOUND_DTYPE))
    size_hw, timestamps_us, rows = _read_detections(folder(), "a", record if isinstance(record, dict) else {})
    assert min(size_hw) > 0
    return timestamps_us, rows


RUNS = (run_folder, outcome, task_record, datagrams, curve, detections)


def seeds(name: str) -> list[bytes]:
    """Return valid inputs of a target."""
    if name == "run_folder":
        return [yaml.safe_dump(CONFIG, sort_keys=False).encode()]
    if name == "outcome":
        plan, run = _planned()
        key = runs._key(plan, run)
        test = {"name": key["test_names"][0], "ap": 0.25, "ap50": None, "firing_rate": 0.1, "dense_operations": 100}
        done = {"data": "data", "parameters": 10, "steps": 2, "train_s": 1.5, "teacher_sha256": None, "tests": [test]}
        return [json.dumps({**key, **more}).encode() for more in (done, {"failed": "ValueError: no"})]
    if name == "task_record":
        task = Task("a", folder(), _planned, {}, settings={"size": [24, 40]})
        made = file(b"1", "made.txt")
        digest = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
        record = {"task": task._identity(), "files": {made.name: digest}, "values": {}}
        return [json.dumps(record).encode(), json.dumps(record | {"files": {"/dev/zero": digest}}).encode()]
    if name == "curve":
        test = {"ap": 0.2, "firing_rate": 0.1, "synaptic": 5, "memory_uj": 3.0}
        return [json.dumps({"runs": [{"target": 0.1, "seed": 0, "test": test}] * 2}).encode()]
    if name == "detections":
        return [json.dumps({"values": {"size_hw": [24, 40], "instants": [50_000, 100_000]}}).encode()]
    events = np.zeros(30, COLUMNS)
    events["x"], events["y"], events["t"] = np.arange(30), np.arange(30) % 24, np.arange(30) * 2500 + (1 << 32) - 30_000
    return [bytes([choice]) + events.tobytes() for choice in (0, 1, 7)]

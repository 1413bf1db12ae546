"""Work on many recordings as one task each: what is done is not done again, and a manifest says what it gave.

A task writes its files, then a record with their checksums; both appear whole or not at all. A task whose record and
files are intact is skipped, wherever it ran before. The manifest is the same whatever executor did the work.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from spiking_centernet.data import boxes_at, clean_boxes
from spiking_centernet.data import open as open_recording
from spiking_centernet.data.layouts import Files, Layout, locate
from spiking_centernet.errors import DatasetError
from spiking_centernet.evaluation.metrics import FrameKey, Protocol, Score
from spiking_centernet.evaluation.prediction import Predictions, dataset_for, predict
from spiking_centernet.model.firing_rate import FiringRates
from spiking_centernet.model.weights import find, load
from spiking_centernet.structures import Boxes, Detections
from spiking_centernet.utils.allocator import give_memory_back
from spiking_centernet.utils.executors import Executor
from spiking_centernet.utils.files import atomic_write
from spiking_centernet.utils.progress import track
from spiking_centernet.utils.provenance import write_json
from spiking_centernet.utils.text import counted

RECORDS = ".tasks"
MANIFEST = "manifest.json"

FOUND_DTYPE = np.dtype([("t", "<i8"), ("xyxy", "<f4", (4,)), ("score", "<f4"), ("label", "<i8")])
"""Detections of a recording, as they came out of the network."""

Work = Callable[..., tuple[dict[str, Any], Sequence[Path]]]
"""Called as ``work(out, **arguments)``; returns plain values to remember, and the files it wrote under ``out``."""


@dataclass(frozen=True)
class Task:
    """One recording's work.

    Attributes:
        name: unlike every other of its folder.
        out: folder of the whole work.
        work: at module level, so that other processes find it.
        arguments: of the work, picklable.
        inputs: files it depends on: when their bytes change, the task is done again.
        settings: plain values it depends on.
    """

    name: str
    out: Path
    work: Work
    arguments: Mapping[str, Any]
    inputs: tuple[Path, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def record_path(self) -> Path:
        """Where its record goes."""
        return self.out / RECORDS / f"{self.name}.json"

    def done(self) -> dict[str, Any] | None:
        """Return the record of the finished task, None where it, a file or an input is missing or changed."""
        try:
            record = json.loads(self.record_path.read_text(encoding="utf-8"))
            if record["task"] != self._identity():
                return None
            intact = all(self._holds(path, digest) for path, digest in record["files"].items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        return record if intact else None

    def _holds(self, path: str, digest: str) -> bool:
        """Return whether the folder holds this file; a record from a stranger may name one elsewhere, or a device."""
        file = self.out / path
        return file.resolve().is_relative_to(self.out.resolve()) and file.is_file() and sha256(file) == digest

    def _identity(self) -> dict[str, Any]:
        found = {
            "name": self.name,
            "work": f"{self.work.__module__}.{self.work.__qualname__}",
            "settings": self.settings,
            "inputs": {path.name: sha256(path) for path in self.inputs},
        }
        return json.loads(json.dumps(found))

    def run(self) -> dict[str, Any]:
        """Do the work and write its record; return the record."""
        identity = self._identity()
        values, files = self.work(self.out, **self.arguments)
        digests = {path.relative_to(self.out).as_posix(): sha256(path) for path in sorted(files)}
        record = {"task": identity, "files": digests, "values": json.loads(json.dumps(values))}
        write_json(self.record_path, record)
        return record


def run_tasks(tasks: Sequence[Task], executor: Executor | None = None) -> dict[str, dict[str, Any]]:
    """Run the tasks that are not done and write ``manifest.json`` next to their files.

    Args:
        tasks: all of one folder, each with a name of its own.
        executor: where they run; None takes one process here.

    Returns:
        the record of every task by its name, in the order of the names.

    Raises:
        DatasetError: a task failed; the others are done and kept.
    """
    tasks = sorted(tasks, key=lambda task: task.name)
    records = {task.name: task.done() for task in tasks}
    todo = [task for task in tasks if records[task.name] is None]
    results = (executor or Executor(workers=1)).map(Task.run, todo)
    failed: dict[str, Exception] = {}
    for index, value in track(results, "recordings", len(todo)):
        name = todo[index].name
        if isinstance(value, Exception):
            failed[name] = value
        else:
            records[name] = value
    if failed:
        name, error = min(failed.items())
        raise DatasetError(
            f"{len(failed)} of {counted(len(tasks), 'recording')} failed; {name}: {error or type(error).__name__}. "
            "The others are done: fix this and run the same again"
        ) from error
    done = {name: record for name, record in records.items() if record is not None}
    if tasks:
        write_json(tasks[0].out / MANIFEST, done)
    return done


def sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _index(out: Path, layout: Layout, files: Files, classes: tuple[str, ...]) -> tuple[dict[str, Any], list[Path]]:
    opened = open_recording(files.events, size_hw=layout.size_hw)
    boxes = clean_boxes(layout.boxes(files, classes), opened.size_hw)
    counts = np.bincount(boxes["class_id"], minlength=len(classes))
    values = {
        "size_hw": list(opened.size_hw), "events": int(opened.num_events), "start_us": int(opened.start_us),
        "stop_us": int(opened.stop_us), "unsorted": int(opened.num_unsorted), "instants": len(np.unique(boxes["ts"])),
        "boxes": {name: int(count) for name, count in zip(classes, counts, strict=True)},
    }  # fmt: skip
    return values, []


def index(
    root: str | os.PathLike[str], split: str, out: str | os.PathLike[str], *, classes: Sequence[str] | None = None,
    executor: Executor | None = None,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Describe every recording of a split: size, events, time, disorder, boxes by class; see ``run_tasks``.

    Args:
        root: folder that holds the splits; the name of its layout may stand before it, ``"1mpx:/data/1mpx"``.
        split: name of the split.
        out: folder for the records and the manifest.
        classes: whose boxes are counted; None takes those the layout scores.
        executor: where the tasks run.
    """
    layout, folder = locate(root)
    wanted = tuple(layout.classes if classes is None else classes)
    tasks = [
        Task(
            files.name, Path(out), _index, {"layout": layout, "files": files, "classes": wanted},
            (files.events, files.boxes), {"classes": list(wanted)},
        )
        for files in layout.find(folder, split)
    ]  # fmt: skip
    return run_tasks(tasks, executor)


def _detect(
    out: Path, model_path: str, root: Path, split: str, name: str, batch_size: int
) -> tuple[dict[str, Any], list[Path]]:
    import torch

    torch.set_num_threads(1)  # the executor shares the cores out
    give_memory_back()
    model = load(model_path)
    dataset = dataset_for(model, root, split, names=[name])
    rates = FiringRates.of(model)
    predictions = predict(model, dataset, batch_size=batch_size, observe=rates)
    found = predictions.detections
    rows = np.zeros(sum(map(len, found.values())), FOUND_DTYPE)
    ordered = [found[key] for key in sorted(found)]
    if ordered:
        rows["t"] = np.concatenate([np.full(len(d), d.t_us) for d in ordered])
        for column in ("xyxy", "score", "label"):
            rows[column] = np.concatenate([getattr(d, column if column == "xyxy" else f"{column}s") for d in ordered])
    path = out / f"{name}_detections.npy"
    with atomic_write(path) as temporary:
        np.save(temporary, rows, allow_pickle=False)
    return {
        "instants": [d.t_us for d in ordered],
        "size_hw": list(predictions.size_hw),
        "firing_rate": rates.overall(),
    }, [path]


def _are_whole(numbers: object) -> TypeGuard[list[int]]:
    return isinstance(numbers, list) and all(type(number) is int for number in numbers)


def _read_detections(out: Path, name: str, record: dict[str, Any]) -> tuple[tuple[int, int], list[int], np.ndarray]:
    """Return the size, the timestamps and the detections that a task noted.

    Raises:
        DatasetError: they are not what :func:`_detect` writes.
    """
    values = record.get("values")
    noted: dict[str, Any] = values if isinstance(values, dict) else {}
    size_hw, timestamps_us = noted.get("size_hw"), noted.get("instants")
    path = out / f"{name}_detections.npy"
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f"{path}: cannot be read ({error}); delete it and run the same again") from error
    if (
        not _are_whole(size_hw)
        or not _are_whole(timestamps_us)
        or len(size_hw) != 2
        or min(size_hw) < 1
        or rows.dtype != FOUND_DTYPE
        or rows.ndim != 1
    ):
        raise DatasetError(
            f"{out / RECORDS / f'{name}.json'}: is no record of detections; delete it and run the same again"
        )
    return (size_hw[0], size_hw[1]), timestamps_us, rows


def evaluate_recordings(
    model: str | os.PathLike[str],
    root: str | os.PathLike[str],
    split: str,
    out: str | os.PathLike[str],
    *,
    protocol: str | Protocol = "prophesee",
    batch_size: int = 1,
    executor: Executor | None = None,
) -> Score:
    """Score a detector on a split, one task a recording; equals ``evaluate`` with the same batch size.

    Args:
        model: bundled name, weight file, run folder or hub id.
        root: folder that holds the splits.
        split: name of the split.
        out: folder for the detections, the records and the manifest.
        protocol: under which to score.
        batch_size: windows at a time; a worker's memory grows with it.
        executor: where the tasks run.

    Raises:
        DatasetError: a task failed; the others are done and kept.
        WeightsError, ConfigError, BoxFileError: as ``load``, ``evaluate`` and ``FolderDataset``.
    """
    path, out = find(model).resolve(), Path(out)
    detector = load(path)
    dataset = dataset_for(detector, root, split)
    digest = sha256(path)
    tasks = [
        Task(
            r.name, out, _detect,
            {"model_path": str(path), "root": Path(root), "split": split, "name": r.name, "batch_size": batch_size},
            (r.path, r.boxes_path), {"model": digest, "batch_size": batch_size},
        )
        for r in dataset.recordings if len(r.boxes)
    ]  # fmt: skip
    truth: dict[FrameKey, Boxes] = {}
    found: dict[FrameKey, Detections] = {}
    size_hw = (0, 0)
    boxes = {r.name: r.boxes for r in dataset.recordings}
    for name, record in run_tasks(tasks, executor).items():
        size_hw, timestamps_us, rows = _read_detections(out, name, record)
        cleaned = clean_boxes(boxes[name], size_hw)
        for t_us in timestamps_us:
            here = rows[rows["t"] == t_us]
            truth[name, t_us] = boxes_at(cleaned, t_us)
            found[name, t_us] = Detections(here["xyxy"], here["score"], here["label"], t_us)
    return Predictions(truth, found, size_hw, detector.config.classes).score(protocol)

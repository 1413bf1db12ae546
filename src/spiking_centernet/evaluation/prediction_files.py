"""Predictions as a file: ground truth and detections of every labeled frame, so that scores can be made again."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from spiking_centernet.errors import EvaluationError, one_line
from spiking_centernet.evaluation.metrics import FrameKey
from spiking_centernet.evaluation.prediction import Predictions
from spiking_centernet.structures import Boxes, Detections, concatenate
from spiking_centernet.utils.files import atomic_write

FILE = "predictions.npz"
"""The name of the file in the folder that ``scn val --save`` writes."""


def save_predictions(predictions: Predictions, path: str | os.PathLike[str]) -> Path:
    """Write predictions as one compressed file, whole or not at all.

    Args:
        predictions: of labeled frames.
        path: the file, with the suffix ``.npz``.
    """
    frames = sorted(predictions.truth)
    truth = [predictions.truth[frame] for frame in frames]
    arrays: dict[str, Any] = {
        "recordings": np.array([name for name, _ in frames], dtype=np.str_),
        "t_us": np.array([t_us for _, t_us in frames], np.int64),
        "size_hw": np.array(predictions.size_hw, np.int64),
        "class_names": np.array(predictions.class_names, dtype=np.str_),
        "tasks": np.array(predictions.tasks, dtype=np.str_),
        "pose_labels": np.array(sorted(predictions.pose_labels), np.int64),
        **_flat("truth", dict(enumerate(truth)), ("xyxy", "labels", "track_ids", *_columns(predictions.tasks))),
    }
    if any(boxes.crowd.any() for boxes in truth):
        arrays["truth_crowd"] = np.concatenate([boxes.crowd for boxes in truth])
    if not all(np.isnan(boxes.areas).all() for boxes in truth):
        arrays["truth_areas"] = np.concatenate([boxes.areas for boxes in truth])
    found = {k: predictions.detections[f] for k, f in enumerate(frames) if f in predictions.detections}
    columns = ("xyxy", "scores", "labels", *_columns(predictions.tasks))
    arrays |= {"detected": np.array(sorted(found), np.int64), **_flat("found", found, columns)}
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return Path(path)


def load_predictions(path: str | os.PathLike[str]) -> Predictions:
    """Return what :func:`save_predictions` wrote.

    Args:
        path: the file, or the folder that holds it under the name ``FILE``.

    Raises:
        EvaluationError: If there is no such file, or it is another.
    """
    path = Path(path) / FILE if Path(path).is_dir() else Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        frames: list[FrameKey] = list(zip(arrays["recordings"].tolist(), arrays["t_us"].tolist(), strict=True))
        # Files of before the further tasks do not name any.
        tasks = tuple(arrays["tasks"].tolist()) if "tasks" in arrays else ("detect",)
        further = tuple(name for name in ("crowd", "areas") if f"truth_{name}" in arrays)
        truth = {frame: Boxes(**row) for frame, row in zip(
            frames, _split(arrays, "truth", ("xyxy", "labels", "track_ids", *_columns(tasks), *further)), strict=True
        )}  # fmt: skip
        detected = [frames[k] for k in arrays["detected"].tolist()]
        rows = _split(arrays, "found", ("xyxy", "scores", "labels", *_columns(tasks)))
        found = {frame: Detections(t_us=frame[1], **row) for frame, row in zip(detected, rows, strict=True)}
        height, width = arrays["size_hw"].tolist()
        pose_labels = frozenset(arrays["pose_labels"].tolist()) if "pose_labels" in arrays else frozenset()
        return Predictions(truth, found, (height, width), tuple(arrays["class_names"].tolist()), tasks, pose_labels)
    except (OSError, KeyError, ValueError, IndexError, TypeError, AttributeError, EOFError, BadZipFile) as error:
        raise EvaluationError(
            f"{path}: holds no predictions ({one_line(error)}); write them with scn val --save FOLDER, and give "
            "the folder"
        ) from error


def _columns(tasks: Collection[str]) -> tuple[str, ...]:
    """Return the columns that the tasks fill besides those of "detect"."""
    return tuple(column for task, column in (("detect3d", "box3d"), ("pose", "joints")) if task in tasks)


def _flat(name: str, frames: Mapping[int, Boxes | Detections], fields: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return the fields of every frame end to end, and how many rows each frame has."""
    ordered = [frames[k] for k in sorted(frames)]
    empty = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), 0)
    whole = concatenate(ordered) if ordered else empty
    arrays = {f"{name}_{field}": getattr(whole, field) for field in fields}
    return {**arrays, f"{name}_rows": np.array([len(each) for each in ordered], np.int64)}


def _split(arrays: Mapping[str, np.ndarray], name: str, fields: tuple[str, ...]) -> list[dict[str, np.ndarray]]:
    rows = arrays[f"{name}_rows"]
    stops = np.cumsum(rows)
    if any(len(arrays[f"{name}_{field}"]) != (stops[-1] if len(stops) else 0) for field in fields):
        raise ValueError(f"{name} has another number of rows than its frames")
    return [{field: arrays[f"{name}_{field}"][a - n : a] for field in fields} for a, n in zip(stops, rows, strict=True)]

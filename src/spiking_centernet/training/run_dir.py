"""The folder of a training run: configuration, metrics, checkpoint, best weights, pictures; safe against power cuts."""

import contextlib
import csv
import io
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from spiking_centernet.data import FolderDataset
from spiking_centernet.data.layouts import locate
from spiking_centernet.errors import ConfigError, WeightsError, one_line
from spiking_centernet.evaluation.prediction import Predictions, in_cube
from spiking_centernet.model import Detector, DetectorConfig
from spiking_centernet.model.config_dict import is_format_1, nested_from_format_1
from spiking_centernet.model.weights import load, read_tensors, save, save_tensors
from spiking_centernet.structures import Batch
from spiking_centernet.training.loggers import BOARD, make_logger, require_logger
from spiking_centernet.training.recorded import changed_settings, told
from spiking_centernet.utils.files import atomic_write, naming_full_disk, remove_leftovers
from spiking_centernet.visualize.draw import cube_image, drawer, mosaic, save_png
from spiking_centernet.visualize.plots import curves_plot

CHECKPOINT = "last.safetensors"
BEST = "best.safetensors"
METRICS = "metrics.csv"
PICTURES = 8


def default_run_folder(data: str | os.PathLike[str]) -> Path:
    """Return ``runs/NAME``, named like the data.

    Raises:
        DatasetError: the data folder does not hold what it should.
    """
    return Path("runs") / (locate(data)[1].resolve().name or "run")


class RunFolder:
    """Writes what a run leaves behind; every file appears whole under its name or not at all."""

    def __init__(self, path: Path, config: dict[str, Any], *, resume: bool):
        """Take a folder for a run.

        Args:
            path: the folder; made if missing.
            config: the resolved configuration, kept as ``config.yaml``.
            resume: continue the run that lies there, if one does.

        Raises:
            ConfigError: the folder is taken and ``resume`` is not given, or its run had another configuration.
        """
        self.path, self._logger_kind = path, str(config.get("logger", BOARD))
        require_logger(self._logger_kind)
        taken = path / "config.yaml"
        config = json.loads(json.dumps(config))
        if taken.is_file():
            if not resume:
                raise ConfigError(f"{path}: holds a run already; continue it with --resume, or choose another --out")
            changed = changed_settings(read_config(taken), config)
            changed = {k: both for k, both in changed.items() if not _same(k, *both)}
            if changed:
                raise ConfigError(
                    f"{path}: cannot resume with another configuration: {told(changed)}; give back what it had, or "
                    f"begin another run from its weights: --weights {path} and another --out"
                )
        path.mkdir(parents=True, exist_ok=True)
        with atomic_write(taken) as temporary:
            temporary.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        self._logger: Any = None

    @property
    def _metrics(self) -> Path:
        return self.path / METRICS

    def log(self, row: dict[str, Any]) -> None:
        """Append a row to ``metrics.csv`` and the logger; every row keeps its own columns, empty where it has none."""
        rows = read_metrics(self._metrics) if self._metrics.is_file() else []
        known = list(rows[0]) if rows else []
        new = [name for name in row if name not in known]
        if new:
            self._rewrite([*rows, row], known + new)
        else:
            with naming_full_disk(self._metrics), self._metrics.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, known).writerow(_plain(row))
        if self._logger is None:
            self._logger = make_logger(self._logger_kind, self.path)
        shown = {k: v for k, v in row.items() if k != "step" and isinstance(v, int | float) and math.isfinite(v)}
        with naming_full_disk(self.path):
            self._logger.log_metrics(shown, step=row["step"])
            self._logger.save()

    def _rewrite(self, rows: list[dict[str, Any]], columns: list[str]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(_plain(row) for row in rows)
        with atomic_write(self._metrics) as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8")

    def rewind(self, step: int, epochs_done: int) -> None:
        """Drop what was written after the checkpoint of ``step``, when ``epochs_done`` were validated."""
        for folder in (self.path, self.path / "pictures"):
            remove_leftovers(folder)
        if self._metrics.is_file():
            kept = [row for row in read_metrics(self._metrics) if _was_written_before(row, step, epochs_done)]
            self._rewrite(kept, list(kept[0]) if kept else [])

    def save_checkpoint(self, tensors: dict[str, Tensor], config: dict[str, Any], notes: dict[str, Any]) -> None:
        """Replace the checkpoint."""
        save_tensors(tensors, self.path / CHECKPOINT, config, notes)

    def read_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the tensors and notes of the checkpoint, None before the first."""
        if not (self.path / CHECKPOINT).is_file():
            return None
        tensors, _, notes = read_tensors(self.path / CHECKPOINT)
        return tensors, notes

    def save_best(self, model: Detector, weights: Mapping[str, Tensor], notes: dict[str, Any]) -> None:
        """Replace the best weights so far."""
        model.load_state_dict(weights)
        save(model, self.path / BEST, notes=notes)

    def best(self) -> Detector:
        """Return the detector with the best weights of the run."""
        if not (self.path / BEST).is_file():
            raise WeightsError(f"{self.path}: holds no {BEST}; no validation has finished yet")
        return load(self.path / BEST)

    def save_bad_batch(self, batch: Batch) -> Path:
        """Keep the batch that made the loss not finite, with its boxes."""
        tensors = {"cube": batch.cube}
        for i, boxes in enumerate(batch.boxes):
            tensors[f"xyxy/{i}"] = torch.from_numpy(boxes.xyxy)
            tensors[f"labels/{i}"] = torch.from_numpy(boxes.labels)
            tensors[f"box3d/{i}"] = torch.from_numpy(boxes.box3d)
            tensors[f"joints/{i}"] = torch.from_numpy(boxes.joints)
            tensors[f"crowd/{i}"] = torch.from_numpy(boxes.crowd)
        notes = {"recordings": batch.recordings, "t_us": batch.t_us}
        return save_tensors(tensors, self.path / "bad_batch", {}, notes)

    def draw_batch(self, batch: Batch, config: DetectorConfig) -> None:
        """Picture the first training batch as the network sees it, with its boxes."""
        pictures = []
        for i, boxes in list(enumerate(batch.boxes))[:PICTURES]:
            image = cube_image(batch.cube[:, i], config.voxels)
            draw = drawer(classifies=config.classifies)
            pictures.append(draw(image, truth=boxes, class_names=config.classes, scale=2))
        save_png(mosaic(pictures, 4), self.path / "pictures" / "train_batch.png")

    def draw_validation(self, epoch: int, dataset: FolderDataset, predictions: Predictions) -> None:
        """Picture detections (solid) and ground truth (dashed) at labeled frames spread over the split."""
        pictures = []
        for index in np.linspace(0, len(dataset) - 1, min(PICTURES, len(dataset))).astype(int):
            sample = dataset[int(index)]
            image = cube_image(sample.cube, dataset.spec)
            result = in_cube(predictions.detections[sample.recording, sample.t_us].above(0.3), sample)
            draw = drawer(classifies="classify" in predictions.tasks)
            pictures.append(draw(image, result, sample.boxes, class_names=predictions.class_names, scale=2))
        save_png(mosaic(pictures, 4), self.path / "pictures" / f"val_epoch{epoch:03d}.png")

    def finish(self) -> None:
        """Draw the curves of the whole run and close the logger."""
        if self._logger is not None:
            self._logger.finalize("success")
        rows = read_metrics(self._metrics)
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        scores = {"accuracy on validation": ["classify_accuracy"]}
        if not any("classify_accuracy" in row for row in rows):
            scores = {"AP on validation": ["ap", "ap50"]}
        panels = {"loss": ["loss"], **scores, "firing rate": ["firing_rate"]}
        curves_plot(columns, self.path / "pictures" / "curves.png", panels=panels)


class OnlookerFolder(RunFolder):
    """The same folder for the other processes of a run: they read what the first one writes."""

    def __init__(self, path: Path, config: dict[str, Any], *, resume: bool):
        self.path = path

    def _nothing(self, *_: Any, **__: Any) -> None:
        """Leave it to the first process."""

    log = rewind = save_checkpoint = save_best = draw_batch = draw_validation = finish = _nothing

    def save_bad_batch(self, batch: Batch) -> Path:
        """Return where the first process keeps its part of the batch."""
        return self.path / "bad_batch.safetensors"


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, float | None]]:
    """Return the rows of a ``metrics.csv``; None where a row has no value."""
    with Path(path).open(newline="", encoding="utf-8", errors="replace") as file:
        try:
            lines = list(csv.reader(line.replace("\0", "") for line in file))
        except csv.Error as error:
            raise ConfigError(f"{path}: is damaged ({error}); remove it, or restore it") from error
    columns = lines[0] if lines else []
    rows = []
    for line in lines[1:]:
        # A kill may have cut the last line short: such a row has columns missing, or half a number that reads whole.
        with contextlib.suppress(ValueError):
            rows.append({k: float(v) if v else None for k, v in zip(columns, line, strict=True)})
    return rows


def read_config(path: Path) -> dict[str, Any]:
    """Return the resolved configuration of a run, its network nested by owner whatever version wrote it.

    Raises:
        ConfigError: The file is damaged or holds something else.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, OverflowError, AttributeError, KeyError) as error:
        raise ConfigError(f"{path}: is damaged ({one_line(error)}); restore it, or choose another --out") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: holds no configuration of a run; restore it, or choose another --out")
    network = found.get("network")
    if isinstance(network, dict) and is_format_1(network):
        try:
            found["network"] = nested_from_format_1(network)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}; restore it, or choose another --out") from error
    return found


def _same(name: str, before: Any, now: Any) -> bool:
    """Return whether two values of a setting mean the same: a data folder may be written in several ways."""
    if name == "data" and isinstance(before, str) and isinstance(now, str):
        (layout_before, folder_before), (layout, folder) = locate(before), locate(now)
        return layout_before.name == layout.name and folder_before.resolve() == folder.resolve()
    return False


def _was_written_before(row: dict[str, Any], step: int, epochs_done: int) -> bool:
    return row["step"] <= step and ("ap" not in row or row["ap"] is None or row["epoch"] < epochs_done)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {k: (f"{v:.6g}" if isinstance(v, float) else v) for k, v in row.items()}

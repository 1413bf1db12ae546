"""A detector scored on a split: tables, JSON, precision-recall curves, a mosaic, firing rates."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from spiking_centernet.data import FolderDataset
from spiking_centernet.data.fingerprint import fingerprint_of
from spiking_centernet.evaluation.box3d_errors import MatchedErrors, matched_errors
from spiking_centernet.evaluation.box_matches import MIN_IOU, BySize, Confusion, by_size, confusion_of, match_frames
from spiking_centernet.evaluation.metrics import PROTOCOLS, Score, get_protocol
from spiking_centernet.evaluation.plots import confusion_plot, pr_plot, sizes_plot
from spiking_centernet.evaluation.prediction import (
    Predictions,
    dataset_for,
    in_cube,
    likeliest,
    predict,
    protocol_for,
    require_task_labels,
)
from spiking_centernet.evaluation.prediction_files import FILE as PREDICTIONS
from spiking_centernet.evaluation.prediction_files import save_predictions
from spiking_centernet.evaluation.significance import Interval, ap_interval, match_recordings
from spiking_centernet.model import AnyDetector
from spiking_centernet.model.firing_rate import FiringRates
from spiking_centernet.model.scaling import Scale, Scaling, choose_scaling
from spiking_centernet.model.stepping import Mode, choose_mode
from spiking_centernet.utils.provenance import collect_provenance, write_json
from spiking_centernet.visualize.draw import cube_image, drawer, mosaic, save_png

PICTURES = 12
COLUMNS = 4
GAP = (60, 66, 80)
"""Color between the pictures of a mosaic, at ease on light and dark pages."""


@dataclass(frozen=True)
class EvaluationReport:
    """Scores of one detector on one split.

    Attributes:
        split: name of the split.
        scores: by protocol.
        rates: how often the neurons spiked, by layer and overall.
        spiking: whether the layers spike; an ANN counterpart's "rates" are shares of outputs that are not zero.
        predictions: what was scored.
        dataset: the frames.
        scaling: the scales at which the events were binned.
        min_score: the threshold of the detections that users are shown, for the confusion and the sizes.
        confusion: what boxes were detected as, at that threshold, under the first protocol.
        sizes: recall and precision by size, likewise.
        mode: "windowed" or "stateful", see ``prediction.predict``.
        box3d_errors: errors of 3D boxes whose 2D boxes are right, by class, at that threshold; empty without the task.
        ap_interval: where AP under the first protocol would lie on other recordings; None for few, and of a classifier.
        smooth: whether boxes and scores were filtered over the half second before each frame.
    """

    split: str
    scores: dict[str, Score]
    rates: FiringRates
    spiking: bool
    predictions: Predictions
    dataset: FolderDataset
    scaling: Scaling
    min_score: float
    confusion: Confusion
    sizes: BySize
    mode: Literal["windowed", "stateful"] = "windowed"
    box3d_errors: Sequence[MatchedErrors] = ()
    ap_interval: Interval | None = None
    smooth: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "split": self.split,
            "recordings": len(self.dataset.recordings),
            "fingerprint": fingerprint_of(self.dataset),
            "scale": list(self.scaling.scales),
            "fit_windows": self.dataset.spec.fit,
            "mode": self.mode,
            "smooth": self.smooth,
            "scores": {name: score.to_dict() for name, score in self.scores.items()},
            "ap_interval": self.ap_interval and {"protocol": next(iter(self.scores)), **vars(self.ap_interval)},
            "firing_rate": self.rates.overall(),
            "firing_rates": self.rates.per_layer(),
            "min_score": self.min_score,
            "confusion": self.confusion.to_dict(),
            "sizes": self.sizes.to_dict(),
            **({"box3d_errors": [one.to_dict() for one in self.box3d_errors]} if self.box3d_errors else {}),
        }


def score(
    model: AnyDetector,
    data: str | os.PathLike[str],
    *,
    split: str = "val",
    protocols: Sequence[str] = (),
    batch_size: int = 8,
    scale: Scale = "auto",
    fit: bool = True,
    mode: Mode = "auto",
    smooth: bool = False,
) -> EvaluationReport:
    """Detect once at every labeled frame of a split and score under each protocol.

    Args:
        model: the detector.
        data: folder that holds the splits.
        split: name of the split.
        protocols: names of ``PROTOCOLS``, or ("all",); none takes "prophesee", of pictures "none".
        batch_size: windows at a time; clips in mode "stateful".
        scale: at which the events are binned, see ``prediction.predict``; boxes are scored in the sensor's pixels.
        fit: whether windows are fitted to their events, see ``VoxelSpec``.
        mode: of the detection, see ``prediction.predict``.
        smooth: filter boxes and scores over the half second before each frame, see ``prediction.predict``.

    Raises:
        ConfigError: unknown protocol or mode.
        DatasetError: the folder does not hold what it should.
        EvaluationError: ground truth does not score 1 against itself.
    """
    dataset = dataset_for(model, data, split, fit=fit)
    require_task_labels(dataset, model.config)
    names = list(PROTOCOLS) if "all" in protocols else [get_protocol(name).name for name in protocols]
    names = list(dict.fromkeys(protocol_for(dataset, name) for name in names)) or [protocol_for(dataset)]
    rates = FiringRates.of(model)
    predictions = predict(model, dataset, batch_size=batch_size, observe=rates, scale=scale, mode=mode, smooth=smooth)
    scores = {name: predictions.score(name) for name in names}
    scaling = choose_scaling(scale, predictions.size_hw, model.config)
    min_score = model.config.deployment.score_threshold
    shown = likeliest(predictions) if model.config.classifies else predictions
    matches = match_frames(shown, min_score=min_score, protocol=names[0])
    confusion, sizes = confusion_of(matches, predictions.class_names), by_size(matches)
    spiking = model.config.neuron.is_spiking
    return EvaluationReport(
        split, scores, rates, spiking, predictions, dataset, scaling, min_score, confusion, sizes,
        choose_mode(mode, model),
        _box3d_errors(predictions, dataset, min_score) if "detect3d" in model.config.tasks else (),
        None if model.config.classifies else ap_interval(match_recordings(predictions, names[0])),
        smooth,
    )  # fmt: skip


def _box3d_errors(predictions: Predictions, dataset: FolderDataset, min_score: float) -> Sequence[MatchedErrors]:
    objects = {recording.name: recording.objects for recording in dataset.recordings}
    cameras = {}
    for name, t_us in predictions.truth:
        known = objects[name]
        cameras[name, t_us] = None if known is None else known.calibration(t_us)
    return matched_errors(
        predictions.truth, predictions.detections, cameras, class_names=predictions.class_names, min_score=min_score
    )


def save(
    card: EvaluationReport, model: AnyDetector, out: str | os.PathLike[str], *, notes: Mapping[str, Any] | None = None
) -> dict[str, Path]:
    """Write scores, predictions and pictures.

    These are ``score.json``, ``predictions.npz``, a ``pr_<protocol>.png`` for each protocol, ``confusion.png``,
    ``sizes.png`` and ``mosaic.png``; of a classifier no ``pr_<protocol>.png`` and ``sizes.png``.

    Args:
        card: what :func:`score` returned.
        model: the detector that was scored.
        out: folder for the files.
        notes: what else to put into the JSON, plain values.

    Returns:
        the files by name: "json", "predictions", "mosaic", "confusion", and of a detector "sizes" and
        "pr_<protocol>" for each protocol.
    """
    out = Path(out)
    paths = {
        "json": write_json(out / "score.json", {**card.to_dict(), **(notes or {}), "provenance": collect_provenance()})
    }
    for name, result in card.scores.items() if not model.config.classifies else ():
        paths[f"pr_{name}"] = out / f"pr_{name}.png"
        pr_plot(result, paths[f"pr_{name}"])
    paths["predictions"] = save_predictions(card.predictions, out / PREDICTIONS)
    title = f"score at least {card.min_score:g}, IoU at least {MIN_IOU:g}, protocol {next(iter(card.scores))}"
    paths["confusion"] = out / "confusion.png"
    if model.config.classifies:
        confusion_plot(card.confusion, paths["confusion"], title=f"windows of the split {card.split}", classifies=True)
    else:
        confusion_plot(card.confusion, paths["confusion"], title=title)
        paths["sizes"] = out / "sizes.png"
        sizes_plot(card.sizes, paths["sizes"], title=title)
    paths["mosaic"] = out / "mosaic.png"
    save_png(draw_mosaic(card, model), paths["mosaic"])
    return paths


def draw_mosaic(card: EvaluationReport, model: AnyDetector) -> np.ndarray:
    """Picture ground truth (dashed) and the detections shown by default (solid) at timestamps spread over the split."""
    dataset = card.dataset
    pictures = []
    for index in np.linspace(0, len(dataset) - 1, min(PICTURES, len(dataset))).round().astype(int):
        sample = dataset[int(index)]
        key = (sample.recording, sample.t_us)
        # The last third of the window: all of it would smear what moves.
        cube = sample.cube if dataset.spec.takes_frames else sample.cube[-max(1, len(sample.cube) // 3) :]
        image = cube_image(cube, dataset.spec)
        shown = in_cube(card.predictions.detections[key].above(model.config.deployment.score_threshold), sample)
        draw = drawer(classifies=model.config.classifies)
        more = {"camera": sample.calibration} if "detect3d" in model.config.tasks else {}
        caption = f"{sample.recording}  {sample.t_us * 1e-6:.2f} s"
        pictures.append(
            draw(image, shown, sample.boxes, class_names=model.config.classes, scale=2, caption=caption, **more)
        )
    return mosaic(pictures, COLUMNS, ground=GAP)

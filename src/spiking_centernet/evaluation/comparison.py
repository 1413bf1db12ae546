"""Two detectors on the same labeled frames: scores side by side, whether they differ, and where."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spiking_centernet.data import FolderDataset
from spiking_centernet.errors import EvaluationError
from spiking_centernet.evaluation.box_matches import FrameMatch, match_frames
from spiking_centernet.evaluation.metrics import FrameKey, Protocol, Score
from spiking_centernet.evaluation.prediction import Predictions, in_cube
from spiking_centernet.evaluation.prediction_files import FILE, load_predictions
from spiking_centernet.evaluation.significance import (
    Comparison,
    compare,
    draw_weights,
    match_recordings,
    resampled_ap,
)
from spiking_centernet.utils.provenance import collect_provenance, write_json
from spiking_centernet.visualize.draw import Image, cube_image, draw_boxes, mosaic, save_png

NUM_RESAMPLES = 1000
PICTURES = 6
GAP = (60, 66, 80)
"""Color between the pictures."""


@dataclass(frozen=True)
class Side:
    """One of the two.

    Attributes:
        name: what it is called.
        predictions: its detections and the ground truth.
        min_score: the threshold of the detections it shows.
    """

    name: str
    predictions: Predictions
    min_score: float


def side_of_folder(name: str | os.PathLike[str]) -> Side | None:
    """Return the detector whose predictions lie in a folder that ``scn val --save`` wrote, None of anything else.

    Args:
        name: the folder, or a file in it.

    Raises:
        EvaluationError: If a score was written without predictions, or one of the files is damaged.
    """
    path = Path(name)
    folder = path.parent if path.name in ("score.json", FILE) else path
    if not (folder / "score.json").is_file():
        return None
    if not (folder / FILE).is_file():
        raise EvaluationError(f"{folder}: holds a score without {FILE}; write both again with scn val --save {folder}")
    try:
        report = json.loads((folder / "score.json").read_text(encoding="utf-8"))
        min_score = float(report["min_score"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise EvaluationError(
            f"{folder / 'score.json'}: is no score of this version ({error}); write it again with scn val --save"
        ) from error
    return Side(folder.name, load_predictions(folder), min_score)


@dataclass(frozen=True)
class Compared:
    """What two detectors differ in.

    Attributes:
        sides: the two.
        scores: of each.
        difference: AP of the first less that of the second, with its interval; of one training run each.
        matches: of each, at the threshold it shows, by frame.
    """

    sides: tuple[Side, Side]
    scores: tuple[Score, Score]
    difference: Comparison
    matches: tuple[dict[FrameKey, FrameMatch], dict[FrameKey, FrameMatch]]

    def rows(self) -> list[tuple[str, float, float]]:
        """Return name and value of both for every line of a table."""
        names = {"AP": "ap", "AP50": "ap50", "AP75": "ap75", "AP small": "ap_small", "AP medium": "ap_medium",
                 "AP large": "ap_large", "AR100": "ar100"}  # fmt: skip
        first, second = self.scores
        rows = [(title, getattr(first, name), getattr(second, name)) for title, name in names.items()]
        rows += [(f"AP {a.name}", a.ap, b.ap) for a, b in zip(first.classes, second.classes, strict=True)]
        for task in sorted(first.tasks.keys() & second.tasks.keys()):
            rows.append((f"{task} primary score", first.primary(task), second.primary(task)))
        ours, theirs = (list(side.values()) for side in self.matches)
        for title, count in (("boxes found", _num_found), ("false boxes", _num_false)):
            rows.append((title, float(sum(map(count, ours))), float(sum(map(count, theirs)))))
        return rows

    def most_different(self, count: int = PICTURES) -> list[FrameKey]:
        """Return the frames in which one does better than the other by most boxes, the greatest difference first."""
        first, second = self.matches
        gain = {key: _balance(first[key]) - _balance(second[key]) for key in first}
        differing = [key for key in gain if gain[key]]
        return sorted(differing, key=lambda key: (-abs(gain[key]), key))[:count]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        first, second = self.scores
        table = {name: [None if np.isnan(v) else v for v in values] for name, *values in self.rows()}
        difference = {name: None if value != value else value for name, value in vars(self.difference).items()}
        return {
            "models": [side.name for side in self.sides], "min_score": [side.min_score for side in self.sides],
            "protocol": first.protocol, "frames": first.num_instants, "boxes": second.num_truth, "table": table,
            "ap_difference": {**difference, "significant": self.difference.significant},
            "most_different": [list(key) for key in self.most_different()],
        }  # fmt: skip


def _num_found(match: FrameMatch) -> int:
    return match.num_found


def _num_false(match: FrameMatch) -> int:
    return match.num_false


def _balance(match: FrameMatch) -> int:
    return match.num_found - match.num_false


def compare_sides(
    first: Side, second: Side, *, protocol: str | Protocol = "prophesee", num_resamples: int = NUM_RESAMPLES
) -> Compared:
    """Compare two detectors on the same frames by a paired bootstrap over recordings.

    Args:
        first: one of them.
        second: the other.
        protocol: which boxes count.
        num_resamples: of the recordings.

    Raises:
        ConfigError: If the protocol is unknown.
        EvaluationError: If they were not scored on the same ground truth.
    """
    a, b = first.predictions, second.predictions
    if a.class_names != b.class_names:
        raise EvaluationError(
            f"{first.name} and {second.name} have the classes {a.class_names} and {b.class_names}; compare detectors "
            "of the same classes"
        )
    same = a.truth.keys() == b.truth.keys() and all(
        np.array_equal(a.truth[key].xyxy, b.truth[key].xyxy)
        and np.array_equal(a.truth[key].labels, b.truth[key].labels)
        for key in a.truth
    )
    if not same or a.size_hw != b.size_hw:
        raise EvaluationError(
            f"{first.name} and {second.name} were scored on different frames or boxes ({len(a.truth)} and "
            f"{len(b.truth)} frames); score both on one split with scn val --save"
        )
    sides = (first, second)
    matched = [match_recordings(side.predictions, protocol) for side in sides]
    num_recordings = len(matched[0].recordings)
    weights = draw_weights(num_recordings, num_resamples)
    ours, theirs = (resampled_ap(each, weights)[None] for each in matched)
    scores = (a.score(protocol), b.score(protocol))
    frames = (
        match_frames(a, min_score=first.min_score, protocol=protocol),
        match_frames(b, min_score=second.min_score, protocol=protocol),
    )
    return Compared(sides, scores, compare(ours, theirs, num_recordings=num_recordings), frames)


def draw_differences(compared: Compared, dataset: FolderDataset, frames: Sequence[FrameKey]) -> Image:
    """Picture frames in two columns, the first detector left: detections solid, ground truth dashed.

    Args:
        compared: the two.
        dataset: the split they were scored on.
        frames: of it, at least one.
    """
    located = (dataset.locate(index) for index in range(len(dataset)))
    index_of = {(recording.name, t_us): index for index, (recording, t_us) in enumerate(located)}
    pictures = []
    for key in frames:
        sample = dataset[index_of[key]]
        cube = sample.cube if dataset.spec.takes_frames else sample.cube[-max(1, len(sample.cube) // 3) :]
        image = cube_image(cube, dataset.spec)
        for side, matches in zip(compared.sides, compared.matches, strict=True):
            match = matches[key]
            caption = f"{side.name}: {match.num_found} of {len(match.truth)} found, {match.num_false} false"
            names = side.predictions.class_names
            shown, truth = in_cube(match.shown, sample), in_cube(match.truth, sample)
            pictures.append(draw_boxes(image, shown, truth, class_names=names, scale=2, caption=caption))
    return mosaic(pictures, 2, ground=GAP)


def save_comparison(
    compared: Compared, out: str | os.PathLike[str], *, dataset: FolderDataset | None = None
) -> dict[str, Path]:
    """Write ``comparison.json``, and with the data ``differences.png``.

    Args:
        compared: the two.
        out: folder for the files.
        dataset: the split they were scored on; None draws nothing.
    """
    out = Path(out)
    values = {**compared.to_dict(), "provenance": collect_provenance()}
    paths = {"json": write_json(out / "comparison.json", values)}
    frames = compared.most_different()
    if dataset is not None and frames:
        paths["differences"] = out / "differences.png"
        save_png(draw_differences(compared, dataset, frames), paths["differences"])
    return paths

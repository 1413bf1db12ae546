"""What filtering detections over time is worth, and what each of its constants is: each is changed alone.

    python benchmarks/smoothing.py --data data/roads
    python benchmarks/smoothing.py --data data/roads --chosen_on small-one-step-3d-pose --weights small-one-step-3d-pose
        --name smoothing_3d

The constants are scored on the validation split, for one network; choose them there. Then every network is scored on
the test split, smoothed and not, and the two are compared by paired resampling of recordings. Writes
``results/smoothing.json``, or another name.
"""

import argparse
from copy import copy
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from stamp import stamp, this_command, write_result
from tasks import placed_on_ground, without_heights

import spiking_centernet as scn
from spiking_centernet.boxes import iou_matrix
from spiking_centernet.evaluation.comparison import Side, compare_sides
from spiking_centernet.evaluation.moments import NUM_BEFORE, FramesAndBefore, smoothed
from spiking_centernet.evaluation.prediction import Predictions, dataset_for, predict
from spiking_centernet.model import smoothing
from spiking_centernet.model.weights import sha256

LABELS_US = 250_000
"""Between labeled frames of simulated roads."""

WEIGHTS = ("nano", "nano-integer", "small-integer-sparse")

VALUES = {
    "EDGE_NOISE": (0.03, 0.06, 0.12),
    "ACCELERATION": (10.0, 20.0, 40.0),
    "SPEED": (3.0, 6.0, 12.0),
    "MEMORY_US": (50_000, 100_000, 200_000),
    "UNKNOWN_LOGIT": (-4.0, -3.0, -2.0),
    "SAME_IOU": (0.2, 0.3, 0.4),
    "LOST_US": (50_000, 150_000, 300_000),
}
RANGE_VALUES = {"RANGE_NOISE": (0.05, 0.1, 0.2)}
"""Of networks with 3D boxes alone."""


class Moments:
    """What a network says of all moments before the labeled frames of a split, and of these.

    Attributes:
        alone: the predictions of labeled frames.
        chains: which moments lie before each frame.
    """

    def __init__(self, name: str, data: Path, split: str):
        config = scn.load(name).config
        self.has_boxes3d = "detect3d" in config.tasks
        model = scn.build(weights=name, **({"head.placing": "free"} if self.has_boxes3d else {})).eval()
        dataset = dataset_for(model, data, split)
        frames = FramesAndBefore(dataset, range(len(dataset)))
        self.chains = frames.chains
        found = predict(model, frames)
        self._found, self.alone = found.detections, replace(found, truth={key: found.truth[key] for key in self.chains})
        self._cameras = {}
        for index in range(len(dataset)):
            recording, t_us, _, camera = dataset.frame(index)
            for at_us in self.chains[recording, t_us]:
                self._cameras.setdefault((recording, at_us), camera)

    def placed(self, *, height_is_known: bool = True) -> "Moments":
        """Return the same with 3D boxes on one ground."""
        if not self.has_boxes3d:
            return self
        cameras = self._cameras if height_is_known else without_heights(self._cameras)
        other = copy(self)
        other._found = placed_on_ground(self._found, cameras, self.alone.size_hw)
        return other

    def scored(self, *, smooth: bool) -> dict:
        """Return the AP of boxes and, where there are any, of 3D boxes."""
        predictions = self.predictions(smooth=smooth)
        score = predictions.score("prophesee")
        row = {"ap": score.ap, "ap50": score.ap50, "ap75": score.ap75}
        if self.has_boxes3d:
            row["center_distance_ap"] = score.tasks["detect3d"].primary
        return row

    def predictions(self, *, smooth: bool) -> Predictions:
        """Return the predictions of labeled frames."""
        if smooth:
            return replace(self.alone, detections=smoothed(self._found, self.chains, self.alone.size_hw))
        return replace(self.alone, detections={key: self._found[key] for key in self.chains})


def persistence(predictions: Predictions) -> dict:
    """Return how errors of boxes correlate with those of the same object a quarter of a second later.

    Of widths and heights it is the logarithm of detected over true, of centers the shift over width or height; of
    detections of at least score 0.1 that overlap the box by IoU 0.3, of boxes that end within the frame.
    """
    height, width = predictions.size_hw
    errors: dict[tuple[str, int, int], np.ndarray] = {}
    for (name, t_us), boxes in predictions.truth.items():
        found = predictions.detections[name, t_us].above(0.1)
        within = ((boxes.xyxy > 0) & (boxes.xyxy < [width - 1, height - 1] * 2)).all(axis=1)
        for k in np.flatnonzero(within) if len(found) else ():
            overlap = iou_matrix(boxes.xyxy[k : k + 1], found.xyxy)[0] * (found.labels == boxes.labels[k])
            if overlap.max() >= 0.3:
                true, seen = (one.astype(np.float64) for one in (boxes.xyxy[k], found.xyxy[overlap.argmax()]))
                size, other = true[2:] - true[:2], seen[2:] - seen[:2]
                shift = (seen[:2] + seen[2:] - true[:2] - true[2:]) / 2 / size
                errors[name, int(boxes.track_ids[k]), t_us] = np.concatenate([np.log(other / size), shift])
    pairs = [(one, errors[later]) for (n, i, t), one in errors.items() if (later := (n, i, t + LABELS_US)) in errors]
    first, second = (np.array(side).T for side in zip(*pairs, strict=True))
    names = ("width", "height", "x", "y")
    return {"pairs": len(pairs)} | {
        name: float(np.corrcoef(a, b)[0, 1]) for name, a, b in zip(names, first, second, strict=True)
    }


def main() -> None:
    """Detect once for every network and split; smooth and score with every value."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/roads"))
    parser.add_argument("--chosen_on", default="nano-integer", help="the network whose validation scores are shown")
    parser.add_argument("--weights", nargs="+", default=WEIGHTS)
    parser.add_argument("--name", default="smoothing", help="of the file in results")
    arguments = parser.parse_args()
    if not (arguments.data / "test").is_dir():
        # `make bench` runs every script; without a data set there is nothing to measure.
        print(f"{arguments.data} has no test split: scn simulate {arguments.data}")
        return
    torch.set_num_threads(1)
    moments = Moments(arguments.chosen_on, arguments.data, "val").placed()
    kept = persistence(moments.alone)
    rows = {"not smoothed": moments.scored(smooth=False)}
    values = VALUES | (RANGE_VALUES if moments.has_boxes3d else {})
    for constant, tried in values.items():
        for value in tried:
            with mock.patch.object(smoothing, constant, value):
                rows[f"{constant} {value:g}"] = moments.scored(smooth=True)
            print(f"{constant} {value:g}", rows[f"{constant} {value:g}"], flush=True)
    weights = {}
    for name in arguments.weights:
        moments = Moments(name, arguments.data, "test")
        sides = [Side(str(smooth), moments.predictions(smooth=smooth), 0.3) for smooth in (True, False)]
        weights[name] = {"sha256": sha256(name), "difference": vars(compare_sides(*sides).difference)}
        for how, known in (("known", True), ("voted", False))[: 1 + moments.has_boxes3d]:
            placed = moments.placed(height_is_known=known)
            weights[name][how] = {
                "alone": placed.scored(smooth=False), "smoothed": placed.scored(smooth=True)
            }  # fmt: skip
        print(name, weights[name], flush=True)
    about = {"data": str(arguments.data), "chosen_on": arguments.chosen_on, "sha256": sha256(arguments.chosen_on)}
    about |= {"chosen": {constant: getattr(smoothing, constant) for constant in values}}
    about |= {"persistence": kept, "every_us": smoothing.EVERY_US, "num_before": NUM_BEFORE}
    print(
        write_result(arguments.name, {**stamp(command=this_command(), seed=0), **about, "val": rows, "test": weights})
    )


if __name__ == "__main__":
    main()

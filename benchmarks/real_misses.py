"""Where the misses on real recordings come from, one cause for each object, and pictures of them.

    python benchmarks/real_misses.py --real data/real [--models small-wide] [--picture docs/images/real_misses.png]

The recordings are those of ``real_suite.py``. An object is found if a box of its class at the model's own threshold
overlaps it by IoU 0.5. One that is not found gets the first cause of ``CAUSES`` that holds: what would have to be
right, all else as it is, for it to be found. Nothing is chosen by this: it says what to work on. The picture shows
frames of the first model, boxes at its threshold, ground truth dashed. Writes ``results/real_misses.json``.
"""

import argparse
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import real_suite
from real_suite import MATCH_IOU, Frame
from stamp import stamp, this_command, write_result

import spiking_centernet as scn
from spiking_centernet.boxes import iou_matrix
from spiking_centernet.structures import CLASS_NAMES, Detections
from spiking_centernet.visualize.draw import draw_boxes, events_image, mosaic, save_png

CAUSES = {
    "found": "a box of its class, IoU 0.5, above the threshold",
    "score": "such a box is there, but its score is below the threshold",
    "class": "a box above the threshold fits, but it is of the other class",
    "fit": "a box of its class above the threshold overlaps it by IoU 0.1, not 0.5",
    "scale": "it is found at another resolution of the events",
    "unseen": "none of these",
}
"""Cause -> when it holds; asked for in this order."""

LOOSE_IOU = 0.1
OTHER_SCALES = (1.0, 2 / 3, 1 / 2, 1 / 3, 1 / 4)
SHOWN_FRAMES, SHOWN_CROPS, LARGEST_PX = 4, 8, 400


def cause(box: np.ndarray, label: int, seen: Detections, elsewhere: list[Detections], threshold: float) -> str:
    """Return why an object is not found, "found" if it is.

    Args:
        box: the object's, [4].
        label: its class.
        seen: all detections in its frame.
        elsewhere: those at other scales.
        threshold: the score from which a detection counts.
    """
    overlap = iou_matrix(seen.xyxy, box[None])[:, 0] if len(seen) else np.zeros(0)
    right, shown, fits = seen.labels == label, seen.scores >= threshold, overlap >= MATCH_IOU
    if (right & shown & fits).any():
        return "found"
    if (right & fits).any():
        return "score"
    if (shown & fits).any():
        return "class"
    if (right & shown & (overlap >= LOOSE_IOU)).any():
        return "fit"
    for other in elsewhere:
        found = other.above(threshold)
        found = found.xyxy[found.labels == label]
        if len(found) and (iou_matrix(found, box[None]) >= MATCH_IOU).any():
            return "scale"
    return "unseen"


def causes(model, frames: list[Frame], name: str) -> tuple[Counter, list[tuple[Frame, Detections]]]:
    """Count the causes of all objects of frames of one size; return also what was seen in each frame."""
    threshold = model.config.deployment.score_threshold
    seen = list(real_suite.detect(model, frames, name, "auto"))
    at_scales = [[d for _, d in real_suite.detect(model, frames, f"{name} {s:.2f}", s)] for s in OTHER_SCALES]
    total: Counter = Counter()
    for i, (frame, detections) in enumerate(seen):
        elsewhere = [scale[i] for scale in at_scales]
        for box, label in zip(frame.truth.xyxy, frame.truth.labels, strict=True):
            total[cause(box, int(label), detections, elsewhere, threshold)] += 1
    return total, seen


def tile(frame: Frame, detections: Detections, threshold: float, *, enlarged: bool) -> np.ndarray:
    """Return a picture with boxes: the middle quarter twice as large, or the frame, a large one half as large."""
    shrink = 1 if max(frame.size_hw) <= LARGEST_PX else 2
    events, found = frame.events.copy(), detections.above(threshold)
    for axis in "xy":
        events[axis] //= shrink
    size_hw = frame.size_hw[0] // shrink, frame.size_hw[1] // shrink
    truth, found = (replace(boxes, xyxy=boxes.xyxy / shrink) for boxes in (frame.truth, found))
    image = draw_boxes(events_image(events, size_hw), found, truth, class_names=CLASS_NAMES, scale=2 if enlarged else 1)
    top, left = (side // 2 for side in size_hw)
    return image[top : top + size_hw[0], left : left + size_hw[1]] if enlarged else image


def main() -> None:
    """Score every model, and picture the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, required=True, help="folder with pedro and ncars")
    parser.add_argument("--models", nargs="+", default=["small-wide"])
    parser.add_argument("--picture", type=Path, help="PNG of what the first model misses")
    options = parser.parse_args()
    rows, shown = [], []
    for name in options.models:
        model = scn.load(name)
        length_us, threshold = model.config.voxels.window_us, model.config.deployment.score_threshold
        cut_outs = real_suite.crops(options.real / "ncars")
        parts = {
            "pedro": real_suite.pedro(options.real / "pedro"),
            "gen31": real_suite.gen31(length_us),
            "icns": real_suite.labeled(
                real_suite.RECORDINGS / "icns_roadside_cars" / "icns_roadside_cars_td.dat", length_us
            ),
            "ncars": [frame for frame in cut_outs if frame.name == "car"],
        }
        row: dict = {"model": name, "threshold": threshold, "parts": {}}
        for part, frames in parts.items():
            total, seen = causes(model, frames, part)
            row["parts"][part] = {key: total[key] for key in CAUSES}
            print(name, part, row["parts"][part], flush=True)
            if name == options.models[0]:
                num = SHOWN_CROPS if part == "ncars" else SHOWN_FRAMES
                chosen = seen[:: max(1, len(seen) // num)][:num]
                shown += [tile(*pair, threshold, enlarged=part == "ncars") for pair in chosen]
        rows.append(row)
    if options.picture is not None:
        save_png(mosaic(shown, 4), options.picture)
    head = stamp(command=this_command(), seed=None)
    write_result("real_misses", {**head, "match_iou": MATCH_IOU, "causes": CAUSES, "models": rows})


if __name__ == "__main__":
    main()

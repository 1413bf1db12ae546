"""Recall of objects that stand still, by the time since they stopped.

    python benchmarks/parked.py --data data/stops --models nano runs/nano_memory [--split val]

An object that stops before a fixed camera makes no events any more, but its label stays. Every recording is streamed
from its start to its end, the membranes carried along; the answers of the last step before each labeled timestamp are
matched with the ground truth at IoU 0.5, from the model's own threshold up. Where the last model draws more false boxes
than the first, the first is told once more at a lower threshold, with as many. An object has stood still since the last
label whose box overlaps its present one with an IoU below 0.95; one that has not yet moved never made an event. Writes
``results/parked.json``, ``docs/images/parked.png`` and, of the clip with most objects that stand still for 1 to 2 s,
``docs/images/parked_frames.png``: a row for every model, ground truth dashed.
"""

import argparse
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from stamp import ROOT, stamp, this_command, write_result

import spiking_centernet as scn
from spiking_centernet.boxes import iou_matrix
from spiking_centernet.data import LabeledRecording, boxes_at
from spiking_centernet.evaluation.box_matches import match_frames
from spiking_centernet.evaluation.prediction import Predictions, dataset_for
from spiking_centernet.inference.recordings import detections_at, events_before
from spiking_centernet.utils.progress import track
from spiking_centernet.visualize.draw import draw_boxes, events_image, save_png
from spiking_centernet.visualize.plots import curves_plot

SAME_PLACE = 0.95
LEAST_SCORE = 0.01
PICTURE_EVERY_US, SHOWN_US = 1_000_000, 40_000
EDGES_S = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0)
"""An object that stands still belongs to the last of these that is shorter than its time."""


def groups_of(boxes: np.ndarray, timestamps_us: np.ndarray) -> dict[tuple[int, int], str]:
    """Return for every time and track whether its object moves, or how long it has stood still."""
    groups: dict[tuple[int, int], str] = {}
    before: dict[int, tuple[np.ndarray, int | None]] = {}
    for t_us in timestamps_us.tolist():
        now = boxes_at(boxes, t_us)
        for track_id, box in zip(now.track_ids.tolist(), now.xyxy, strict=True):
            place, stopped_us = before.get(track_id, (box, None))
            if iou_matrix(place[None], box[None])[0, 0] < SAME_PLACE:
                place, stopped_us = box, t_us
            before[track_id] = place, stopped_us
            groups[t_us, track_id] = "not yet moved" if stopped_us is None else group_of((t_us - stopped_us) / 1e6)
    return groups


def group_of(seconds: float) -> str:
    """Return the name of the group of an object that stopped so many seconds ago."""
    if seconds == 0:
        return "moving"
    low = max((edge for edge in EDGES_S if edge < seconds), default=0.0)
    high = next((edge for edge in EDGES_S if edge > low), None)
    return f"still for more than {low:g} s" if high is None else f"still for {low:g} to {high:g} s"


@dataclass
class Streamed:
    """What a model answered at every labeled time, and how long every labeled object had stood still then."""

    name: str
    predictions: Predictions
    groups: dict[tuple[str, int, int], str]
    threshold: float

    def row(self, threshold: float, label: str) -> dict:
        """Return found and labeled objects by group, and false boxes a frame."""
        groups: dict[str, list[int]] = {}
        false = 0
        truth = self.predictions.truth
        matches = match_frames(self.predictions, min_score=threshold, protocol="none", min_iou=0.5)
        for (recording, t_us), match in matches.items():
            false += int(match.is_false.sum())
            for track_id, hit in zip(truth[recording, t_us].track_ids.tolist(), match.is_found, strict=True):
                counts = groups.setdefault(self.groups[recording, t_us, track_id], [0, 0])
                counts[0] += int(hit)
                counts[1] += 1
        return {
            "model": label, "threshold": round(threshold, 3), "frames": len(matches),
            "false_per_frame": round(false / max(1, len(matches)), 3),
            "groups": {k: {"found": f, "labeled": n} for k, (f, n) in sorted(groups.items())},
        }  # fmt: skip


def streamed(name: str, data: str, split: str) -> Streamed:
    """Stream every recording through a compiled model."""
    model = scn.load(name)
    compiled = scn.compile(model, precision="fp32")
    step_us, truth, answers, groups = model.config.voxels.step_us, {}, {}, {}
    for recording in track(dataset_for(model, data, split).recordings, name):
        waiting = recording.timestamps_us.tolist()
        for answer in scn.stream(compiled, scn.open(recording.path), mode="stateful", min_score=LEAST_SCORE):
            while waiting and answer.t_us + step_us > waiting[0]:
                if answer.t_us <= waiting[0]:
                    answers[recording.name, waiting[0]] = answer
                    truth[recording.name, waiting[0]] = boxes_at(recording.boxes, waiting[0])
                waiting.pop(0)
        times = groups_of(recording.boxes, recording.timestamps_us)
        groups |= {(recording.name, *key): group for key, group in times.items()}
        size_hw = scn.open(recording.path).size_hw
    predictions = Predictions(truth, answers, size_hw, model.config.classes)
    return Streamed(Path(name).name, predictions, groups, model.config.deployment.score_threshold)


def with_as_many_false(found: Streamed, false_per_frame: float) -> dict:
    """Return the row of the highest threshold at which a model draws at least as many false boxes a frame."""
    label = f"{found.name}, as many false boxes"
    thresholds = np.arange(found.threshold, LEAST_SCORE, -0.005)
    rows = (found.row(float(threshold), label) for threshold in thresholds)
    return next((row for row in rows if row["false_per_frame"] >= false_per_frame), found.row(LEAST_SCORE, label))


def plot(rows: list[dict]) -> None:
    """Draw recall over the seconds that an object has stood still, 0 while it moves."""
    seconds = [0.0, *((low + high) / 2 for low, high in pairwise(EDGES_S)), EDGES_S[-1] + 0.5]
    names = [group_of(0), *(group_of(after) for after in seconds[1:])]
    curves = {row["model"]: [_share(row["groups"].get(name)) for name in names] for row in rows}
    curves_plot(
        {"seconds since it stopped": seconds, **curves}, ROOT / "docs" / "images" / "parked.png",
        x="seconds since it stopped", panels={"objects found at IoU 0.5": list(curves)},
    )  # fmt: skip


def frames(models: list[str], data: str, split: str) -> None:
    """Draw what every model finds second by second in one clip."""
    detectors = [scn.load(name) for name in models]
    recordings = dataset_for(detectors[0], data, split).recordings
    late = {group_of(after) for after in EDGES_S if after > 1}

    def num_late(recording: LabeledRecording) -> int:
        return sum(group in late for group in groups_of(recording.boxes, recording.timestamps_us).values())

    chosen = max(recordings, key=num_late)
    events = scn.open(chosen.path)
    times_us = [int(t) for t in chosen.timestamps_us if t % PICTURE_EVERY_US == 0]
    rows = []
    for detector in detectors:
        found = detections_at(scn.compile(detector, precision="fp32"), events, times_us)
        pictures = [
            draw_boxes(
                events_image(events_before(events, here.t_us, SHOWN_US), events.size_hw), here,
                boxes_at(chosen.boxes, here.t_us), class_names=detector.config.classes,
                caption=f"{here.t_us / 1e6:.0f} s",
            )
            for here in found
        ]  # fmt: skip
        rows.append(np.concatenate(pictures, axis=1))
    save_png(np.concatenate(rows), ROOT / "docs" / "images" / "parked_frames.png")


def _share(counts: dict[str, int] | None) -> float:
    return math.nan if counts is None else counts["found"] / counts["labeled"]


def main() -> None:
    """Measure every model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--models", nargs="+", default=["nano"])
    parser.add_argument("--split", default="val")
    options = parser.parse_args()
    found = [streamed(name, options.data, options.split) for name in options.models]
    rows = [each.row(each.threshold, each.name) for each in found]
    if rows[-1]["false_per_frame"] > rows[0]["false_per_frame"]:
        rows.insert(1, with_as_many_false(found[0], rows[-1]["false_per_frame"]))
    for row in rows:
        print(row)
    head = stamp(command=this_command(), seed=None)
    plot(rows)
    frames(options.models, options.data, options.split)
    write_result("parked", {**head, "split": options.split, "same_place_iou": SAME_PLACE, "models": rows})


if __name__ == "__main__":
    main()

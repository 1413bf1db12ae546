"""Recall of objects that stand still, by the time since they stopped.

    python benchmarks/parked.py --data data/stops --models nano runs/nano_memory [--split val]

An object that stops before a fixed camera makes no events any more, but its label stays. Every recording is streamed
from its start to its end, the membranes carried along; the answers of the last step before each labeled timestamp are
matched with the ground truth at IoU 0.5, from the model's own threshold up. An object has stood still since the last
label whose box overlaps its present one with an IoU below 0.95; one that has not yet moved never made an event. Writes
``results/parked.json`` and ``docs/images/parked.png``.
"""

import argparse
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
from stamp import ROOT, stamp, this_command, write_result

import spiking_centernet as scn
from spiking_centernet.boxes import iou_matrix
from spiking_centernet.data import boxes_at
from spiking_centernet.evaluation.box_matches import match_frames
from spiking_centernet.evaluation.prediction import Predictions, dataset_for
from spiking_centernet.utils.progress import track
from spiking_centernet.visualize.plots import curves_plot

SAME_PLACE = 0.95
LEAST_SCORE = 0.01
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


def recall(name: str, data: str, split: str) -> dict:
    """Return found and labeled objects by group, and false boxes a frame."""
    model = scn.load(name)
    groups: dict[str, list[int]] = {}
    threshold, step_us = model.config.deployment.score_threshold, model.config.voxels.step_us
    false = frames = 0
    compiled = scn.compile(model, precision="fp32")
    for recording in track(dataset_for(model, data, split).recordings, name):
        events, found = scn.open(recording.path), {}
        waiting = recording.timestamps_us.tolist()
        for answer in scn.stream(compiled, events, mode="stateful", min_score=LEAST_SCORE):
            while waiting and answer.t_us + step_us > waiting[0]:
                if answer.t_us <= waiting[0]:
                    found[recording.name, waiting[0]] = answer
                waiting.pop(0)
        truth = {key: boxes_at(recording.boxes, key[1]) for key in found}
        group = groups_of(recording.boxes, recording.timestamps_us)
        predictions = Predictions(truth, found, events.size_hw, model.config.classes)
        for key, match in match_frames(predictions, min_score=threshold, protocol="none", min_iou=0.5).items():
            frames += 1
            false += int(match.is_false.sum())
            for track_id, hit in zip(truth[key].track_ids.tolist(), match.is_found, strict=True):
                row = groups.setdefault(group[key[1], track_id], [0, 0])
                row[0] += int(hit)
                row[1] += 1
    return {
        "model": Path(name).name, "frames": frames, "false_per_frame": round(false / max(1, frames), 3),
        "groups": {k: {"found": f, "labeled": n} for k, (f, n) in sorted(groups.items())},
    }  # fmt: skip


def plot(rows: list[dict]) -> None:
    """Draw recall over the seconds that an object has stood still, 0 while it moves."""
    seconds = [0.0, *((low + high) / 2 for low, high in pairwise(EDGES_S)), EDGES_S[-1] + 0.5]
    names = [group_of(0), *(group_of(after) for after in seconds[1:])]
    curves = {row["model"]: [_share(row["groups"].get(name)) for name in names] for row in rows}
    curves_plot(
        {"seconds since it stopped": seconds, **curves}, ROOT / "docs" / "images" / "parked.png",
        x="seconds since it stopped", panels={"objects found at IoU 0.5": list(curves)},
    )  # fmt: skip


def _share(counts: dict[str, int] | None) -> float:
    return math.nan if counts is None else counts["found"] / counts["labeled"]


def main() -> None:
    """Measure every model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--models", nargs="+", default=["nano"])
    parser.add_argument("--split", default="val")
    options = parser.parse_args()
    rows = [recall(name, options.data, options.split) for name in options.models]
    for row in rows:
        print(row)
    head = stamp(command=this_command(), seed=None)
    plot(rows)
    write_result("parked", {**head, "split": options.split, "same_place_iou": SAME_PLACE, "models": rows})


if __name__ == "__main__":
    main()

"""How well the bundled weights track simulated objects: HOTA, CLEAR and identity scores at the labeled frames."""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from stamp import stamp, this_command, write_result

import spiking_centernet as scn
from spiking_centernet.data import boxes_at, clean_boxes, label_timestamps, read_boxes
from spiking_centernet.inference.tracking import CONTINUE_SCORE, score_tracks, track
from spiking_centernet.utils import progress

EVERY_US = 50_000
"""Divides the 250 ms between labels of simulated roads."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data/roads"))
    parser.add_argument("--split", default="test")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--clips", type=int, help="only so many, to try it out; nothing is written then")
    options = parser.parse_args()
    paths = sorted((options.data / options.split).glob("*_td.dat"))
    if not paths:
        # `make bench` runs every script; without a data set there is nothing to measure.
        print(f"{options.data / options.split} holds no recordings: scn simulate {options.data}")
        return
    model = scn.load(options.model)
    start_score = model.config.deployment.score_threshold
    truth, found = {}, {}
    for path in progress.track(paths[: options.clips], "tracking"):
        recording = scn.open(path)
        boxes = clean_boxes(read_boxes(path.with_name(path.name.replace("_td.dat", "_bbox.npy"))), recording.size_hw)
        detections = scn.stream(model, recording, every_us=EVERY_US, min_score=CONTINUE_SCORE)
        tracked = {d.t_us: d for d in track(detections, every_us=EVERY_US, start_score=start_score)}
        for t_us in label_timestamps(boxes).tolist():
            truth[path.stem, t_us] = boxes_at(boxes, t_us)
            if t_us in tracked:
                found[path.stem, t_us] = tracked[t_us]
    score = score_tracks(truth, found)
    print(score)
    if options.clips is None:
        objects = sum(
            len(np.unique(np.concatenate([b.track_ids for (name, _), b in truth.items() if name == path.stem])))
            for path in paths
            if any(name == path.stem for name, _ in truth)
        )
        write_result(
            "tracking",
            {
                **stamp(command=this_command(), seed=None), "model": options.model, "split": options.split,
                "recordings": len(paths), "objects": objects, "every_us": EVERY_US, "start_score": start_score,
                "continue_score": CONTINUE_SCORE, **dataclasses.asdict(score),
            },
        )  # fmt: skip


if __name__ == "__main__":
    main()

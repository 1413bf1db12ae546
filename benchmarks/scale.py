"""AP and speed of bundled weights by the scale at which a large sensor's events are binned.

    python benchmarks/scale.py --data vga=build/vga hd=build/hd [--models small] [--split test]

Every folder was simulated, as by ``scn simulate build/vga --size 640x480 --train 0 --val 4 --test 0 --duration_s 3
--seed 77``, the same with ``--world wide --val 12 --duration_s 2``, or with ``--size 1280x720``; the rule of
``scale="auto"`` goes by the sensor's size and was checked on such recordings alone. The times of a window, from events
to boxes, are medians of rounds in which the scales take turns, so that a slow minute of the machine meets all of them;
shown as ratios to scale 1. Writes ``results/scale.json``.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
from stamp import stamp, this_command, write_result
from torch.utils.data import Subset

import spiking_centernet as scn
from spiking_centernet.data import Window
from spiking_centernet.evaluation.prediction import dataset_for, predict
from spiking_centernet.inference import detect_windows
from spiking_centernet.model.scaling import choose_scaling

SCALES = {"1": 1.0, "2/3": 2 / 3, "1/2": 1 / 2, "1/3": 1 / 3, "1/4": 1 / 4, "pyramid": "pyramid"}
PROTOCOL = "none"
NUM_WINDOWS = 4


def seconds_a_window(model, dataset, rounds: int) -> dict[str, float]:
    """Return the median time of a window by scale, over the middle windows of the split's recordings."""
    windows, size_hw = [], None
    for clip in dataset.recordings[:NUM_WINDOWS]:
        recording = scn.open(clip.path)
        stop_us = int(clip.timestamps_us[len(clip.timestamps_us) // 2])
        start_us = stop_us - model.config.voxels.window_us
        windows.append(Window(start_us, stop_us, recording.read(start_us, stop_us)))
        size_hw = recording.size_hw
    times: dict[str, list[float]] = {name: [] for name in SCALES}
    for turn in range(rounds + 1):
        for name, scale in SCALES.items():
            found = detect_windows(model, windows, size_hw=size_hw, scale=scale)
            next(found)  # the first compiles, and fuses
            start = time.perf_counter()
            num = sum(1 for _ in found)
            if turn:
                times[name].append((time.perf_counter() - start) / num)
    return {name: float(np.median(values)) for name, values in times.items()}


def rounded(value: float) -> float | None:
    """Return a score with four digits, None where there is no box of its kind."""
    return None if math.isnan(value) else round(value, 4)


def row(name: str, folder: Path, split: str, weights: str, rounds: int, every: int) -> dict:
    """Return AP and relative time by scale of one model on one folder."""
    model = scn.load(weights)
    dataset = dataset_for(model, folder, split)
    seconds = seconds_a_window(model, dataset, rounds)
    frames, scales = Subset(dataset, range(0, len(dataset), every)), {}
    for label, scale in SCALES.items():
        predictions = predict(model, frames, scale=scale)
        score = predictions.score(PROTOCOL)
        chosen = choose_scaling(scale, predictions.size_hw, model.config)
        scales[label] = {
            "ap": round(score.ap, 4), "ap50": round(score.ap50, 4), "ap_small": rounded(score.ap_small),
            "ap_medium": rounded(score.ap_medium), "ap_large": rounded(score.ap_large),
            "ms": round(1e3 * seconds[label], 1),
            "time_ratio": round(seconds[label] / seconds["1"], 3), "pixel_ratio": round(chosen.cost, 3),
        }  # fmt: skip
        print(name, weights, label, scales[label], flush=True)
    (auto,) = choose_scaling("auto", predictions.size_hw, model.config).scales
    label = next(label for label, scale in SCALES.items() if scale == auto)
    return {
        "data": name, "model": weights, "size_hw": list(predictions.size_hw), "frames": len(frames), "auto": label,
        "scales": scales,
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", required=True, help="name=folder of simulated recordings")
    parser.add_argument("--models", nargs="+", default=["small"])
    parser.add_argument("--split", default="test")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--every", type=int, default=4, help="labeled frames from one scored to the next")
    parser.add_argument("--name", default="scale", help="of the result file")
    options = parser.parse_args()
    rows = []
    for weights in options.models:
        for item in options.data:
            name, _, folder = item.partition("=")
            rows.append(row(name, Path(folder), options.split, weights, options.rounds, options.every))
    head = stamp(command=this_command(), seed=None)
    write_result(options.name, {**head, "protocol": PROTOCOL, "rows": rows})


if __name__ == "__main__":
    main()

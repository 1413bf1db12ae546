"""AP of a stream in both modes, and of fewer steps, on a labeled folder.

    python benchmarks/stateful_accuracy.py --data data/roads --split val

- windowed: each labeled frame from zero-initialized state, as ``scn val``.
- last_steps: only the last 1..5 steps before the timestamp, from zero-initialized state: a shorter window.
- first_steps: the answer that the window allows after its first 1..5 steps, scored at the window's end; early_stop
  takes the first whose confidence reaches a value.
- stateful: membranes carried from the recording's start, the last 1..5 steps averaged. Steps end on a fixed grid, so an
  answer can be older than its timestamp by up to a step; the mean age is reported.
"""

import argparse
from collections import deque
from dataclasses import replace

import torch
from stamp import stamp, this_command, write_result

import spiking_centernet as scn
from spiking_centernet.evaluation.prediction import Predictions, dataset_for
from spiking_centernet.model import DetectorOutput
from spiking_centernet.model.heads import make_head
from spiking_centernet.utils.progress import track

CONFIDENCES = (0.5, 0.8, 0.9, 0.95)


class Scores:
    """Detections under many names, scored together at the end."""

    def __init__(self, config, protocol):
        self.config, self.protocol, self.found, self.truth, self.size_hw = config, protocol, {}, {}, (0, 0)

    def put(self, name, output, key):
        result = make_head(self.config).detections(output, [key[1]], size_hw=self.size_hw)[0]
        self.found.setdefault(name, {})[key] = result

    def of(self, name):
        score = Predictions(self.truth, self.found[name], self.size_hw, self.config.classes).score(self.protocol)
        return {"ap": score.ap, "ap50": score.ap50}


def mean(outputs):
    return DetectorOutput(*(torch.stack(parts).mean(0) for parts in zip(*outputs, strict=True)))


def confidence(now, before):
    return 1 - float((torch.sigmoid(now.heatmap) - torch.sigmoid(before.heatmap)).abs().max())


def windows(fused, dataset, scores, stopped_after):
    for k in track(range(len(dataset)), "windows"):
        sample = dataset[k]
        cube, key = sample.cube[:, None], (sample.recording, sample.t_us)
        scores.truth[key], scores.size_hw = sample.boxes, tuple(cube.shape[-2:])
        for steps in range(1, len(cube) + 1):
            scores.put(f"last {steps}", fused(cube[-steps:])[0], key)
        state, outputs, before, waiting = None, [], None, set(CONFIDENCES)
        for steps, frame in enumerate(cube, start=1):
            output, state = fused(frame[None], state)
            outputs.append(output)
            now = mean(outputs)
            scores.put(f"first {steps}", now, key)
            sure = confidence(now, before) if before is not None else 0.0
            for least in sorted(waiting):
                if sure >= least or steps == len(cube):
                    scores.put(f"stop {least}", now, key)
                    stopped_after[least].append(steps)
                    waiting.discard(least)
            before = now


def stateful(fused, dataset, scores, ages_us):
    config = scores.config
    step_us = config.voxels.window_us // config.voxels.num_steps
    step = replace(config.voxels, window_us=step_us, num_steps=1)
    for labeled in track(dataset.recordings, "stateful"):
        timestamps = sorted(t for name, t in scores.truth if name == labeled.name)
        recording = scn.open(labeled.path)
        state, recent, at_us = None, deque(maxlen=config.voxels.num_steps), 0
        for t_us in timestamps:
            while at_us + step_us <= t_us:
                start_us, at_us = at_us, at_us + step_us
                if start_us >= recording.stop_us:
                    continue
                frame = recording.cube(at_us, step)
                output, state = fused(frame[:, None], state)
                recent.append(output)
            ages_us.append(t_us - at_us)
            for steps in range(1, config.voxels.num_steps + 1):
                scores.put(f"stateful {steps}", mean(list(recent)[-steps:]), (labeled.name, t_us))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="data/roads")
    parser.add_argument("--split", default="val")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--protocol", default="prophesee")
    options = parser.parse_args()
    model = scn.load(options.model)
    dataset, steps = dataset_for(model, options.data, options.split), range(1, model.config.voxels.num_steps + 1)
    scores, stopped_after, ages_us = Scores(model.config, options.protocol), {c: [] for c in CONFIDENCES}, []
    fused = model.fuse()
    with torch.inference_mode():
        windows(fused, dataset, scores, stopped_after)
        stateful(fused, dataset, scores, ages_us)
    result = {
        "protocol": options.protocol,
        "split": options.split,
        "instants": len(scores.truth),
        "windowed": scores.of(f"last {model.config.voxels.num_steps}"),
        "last_steps": {k: scores.of(f"last {k}") for k in steps},
        "first_steps": {k: scores.of(f"first {k}") for k in steps},
        "early_stop": {
            c: {**scores.of(f"stop {c}"), "mean_steps": sum(taken) / len(taken)} for c, taken in stopped_after.items()
        },
        "stateful": {k: scores.of(f"stateful {k}") for k in steps},
        "stateful_mean_age_ms": sum(ages_us) / len(ages_us) / 1000,
    }
    print(result)
    print(write_result("stateful_accuracy", {**stamp(command=this_command(), seed=None), **result}))


if __name__ == "__main__":
    main()

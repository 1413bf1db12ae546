"""Detect in a recording and print what was found.

python examples/detect_recording.py                  # the real clip that comes with the package
python examples/detect_recording.py drive_td.dat --model runs/nano --min_score 0.5
"""

import argparse
from collections.abc import Sequence

import spiking_centernet as scn


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for every box."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recording", nargs="?", default="sample")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--every_ms", type=float, default=50.0)
    parser.add_argument("--min_score", type=float)
    options = parser.parse_args(arguments)
    model, recording = scn.load(options.model), scn.open(options.recording)
    print(f"{recording.path.name}: {recording.num_events} events, {recording.size_hw[1]} x {recording.size_hw[0]}")
    for found in scn.stream(model, recording, every_us=round(options.every_ms * 1000), min_score=options.min_score):
        print(f"{found.t_us * 1e-3:.0f} ms: {len(found)} boxes")
        for xyxy, label, score in zip(found.xyxy, found.labels, found.scores, strict=True):
            left, top, right, bottom = xyxy.round().astype(int).tolist()
            print(f"  {model.config.classes[label]} {score:.2f} from ({left}, {top}) to ({right}, {bottom})")


if __name__ == "__main__":
    main()

"""Follow objects through a recording: where each was first and last seen.

python examples/track_recording.py                  # the real clip that comes with the package
python examples/track_recording.py drive_td.dat --model runs/nano --every_ms 20
"""

import argparse
from collections.abc import Sequence

import spiking_centernet as scn
from spiking_centernet.inference.tracking import CONTINUE_SCORE, track


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for every track."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recording", nargs="?", default="sample")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--every_ms", type=float, default=20.0)
    parser.add_argument("--min_score", type=float)
    options = parser.parse_args(arguments)
    model, recording = scn.load(options.model), scn.open(options.recording)
    every_us = round(options.every_ms * 1000)
    start_score = model.config.deployment.score_threshold if options.min_score is None else options.min_score
    continue_score = min(CONTINUE_SCORE, start_score)
    found = scn.stream(model, recording, every_us=every_us, min_score=continue_score)
    seen: dict[int, list[tuple[int, str, list[int]]]] = {}
    for result in track(found, every_us=every_us, start_score=start_score, continue_score=continue_score):
        for xyxy, label, number in zip(result.xyxy, result.labels, result.track_ids, strict=True):
            place = [round(float(side)) for side in xyxy]
            seen.setdefault(int(number), []).append((result.t_us, model.config.classes[label], place))
    print(f"{recording.path.name}: {len(seen)} tracks")
    for number, places in seen.items():
        (first_us, name, start), (last_us, _, stop) = places[0], places[-1]
        print(f"#{number} {name}: {first_us * 1e-3:.0f} ms at {start} to {last_us * 1e-3:.0f} ms at {stop}")


if __name__ == "__main__":
    main()

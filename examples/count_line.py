"""Count objects that cross a line, and how long each stays in view; needs the extra "track".

python examples/count_line.py                                     # the clip that comes with the package
python examples/count_line.py drive.raw --line 0 120 304 120 --picture count.png
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import supervision as sv

import spiking_centernet as scn


def count(results: Iterable[scn.Result], line: Sequence[int]) -> tuple[sv.LineZone, dict[int, list[scn.Result]]]:
    """Return the counts at a line from (x, y) to (x, y), and by track the results in which it was seen."""
    # The center of a box crosses; three results on the other side, so that a box that trembles on the line counts once.
    zone = sv.LineZone(
        sv.Point(*line[:2]), sv.Point(*line[2:]), triggering_anchors=(sv.Position.CENTER,), minimum_crossing_threshold=3
    )
    seen: dict[int, list[scn.Result]] = {}
    for result in results:
        if len(result):
            zone.trigger(result.to_supervision())
        for number in result.tracks.tolist():
            seen.setdefault(number, []).append(result)
    return zone, seen


def main(arguments: Sequence[str] | None = None) -> None:
    """Print crossings by class and direction, and a line for every track."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recording", nargs="?", default="sample")
    parser.add_argument("--model", default="small")
    parser.add_argument("--line", type=int, nargs=4, metavar=("X1", "Y1", "X2", "Y2"), help="default: down the middle")
    parser.add_argument("--every_ms", type=float, default=20.0)
    parser.add_argument("--min_score", type=float)
    parser.add_argument("--picture", help="file for the last frame with the line")
    options = parser.parse_args(arguments)
    recording = scn.open(options.recording)
    height, width = recording.size_hw
    line = options.line or (width // 2, 0, width // 2, height)
    every_us = round(options.every_ms * 1000)
    results = scn.predict(
        recording, options.model, track=True, every_us=every_us, min_score=options.min_score, stream=True
    )
    zone, seen = count(results, line)
    names = {number: Counter(r.names[r.tracks.tolist().index(number)] for r in there) for number, there in seen.items()}
    print(f"{zone.in_count} crossed one way, {zone.out_count} the other; {len(seen)} tracks")
    for number, there in sorted(seen.items()):
        stayed_s = (there[-1].t_us - there[0].t_us) * 1e-6
        print(f"#{number} {names[number].most_common(1)[0][0]}: {stayed_s:.2f} s from {there[0].t_us * 1e-6:.2f} s")
    if options.picture and seen:
        last = max((there[-1] for there in seen.values()), key=lambda result: result.t_us)
        picture = last.plot(enlarge=2)
        ends = (np.array(line) * 2).tolist()
        sv.draw_line(picture, sv.Point(*ends[:2]), sv.Point(*ends[2:]), color=sv.Color.WHITE, thickness=2)
        sv.cv2_to_pillow(picture[..., ::-1]).save(options.picture)


if __name__ == "__main__":
    main()

"""Count objects that cross a line, and how long each stays in view; needs the extra "track".

python examples/count_line.py                                     # the clip that comes with the package
python examples/count_line.py drive.raw --line 0 120 304 120 --picture count.png
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw

import spiking_centernet as scn

MARGIN = 0.25
"""An object is over the line when its foot point is farther behind it than this share of the box's shorter side."""

STEADY = 3
"""And when it was seen there so many times in a row: a track that leaps to another object and ends does not count."""


class LineCounter:
    """Counts tracks that cross a line from (x, y) to (x, y), each once in each direction.

    What crosses is the foot point, the middle of a box's lower side: there the object stands on the ground. Feet nearer
    to the line than ``MARGIN`` decide nothing, so that a box that trembles on the line does not count.

    Args:
        line: x and y of both ends in pixels.
        steady: how many times in a row an object must be seen on a side, before the line and behind it.

    Attributes:
        crossed: the timestamp in microseconds of every crossing, by track and side: 1 is to the right of somebody who
            goes along the line, -1 to the left.
    """

    def __init__(self, line: Sequence[float], *, steady: int = STEADY):
        self.start, self.end, self.steady = np.array(line[:2], float), np.array(line[2:], float), steady
        self.crossed: dict[tuple[int, int], int] = {}
        # By track: foot and distance where it was last seen on its side, and where it has been seen on another since.
        self._last: dict[int, tuple[np.ndarray, float]] = {}
        self._since: dict[int, list[tuple[np.ndarray, float]]] = {}

    def update(self, boxes: scn.Detections) -> None:
        """Take the tracks of one timestamp."""
        along = self.end - self.start
        length = np.hypot(*along)
        for track, (left, top, right, bottom) in zip(boxes.track_ids.tolist(), boxes.xyxy.tolist(), strict=True):
            foot = np.array([(left + right) / 2, bottom])
            across = foot - self.start
            distance = (along[0] * across[1] - along[1] * across[0]) / length
            if abs(distance) <= MARGIN * min(right - left, bottom - top):
                continue
            since = self._since.setdefault(track, [])
            if since and since[0][1] * distance < 0:
                since.clear()
            before, distance_before = self._last.get(track, (foot, 0.0))
            if distance * distance_before > 0:
                self._last[track] = foot, distance
                since.clear()
                continue
            since.append((foot, distance))
            if len(since) < self.steady:
                continue
            self._last[track] = foot, distance
            if distance_before:
                behind, distance_behind = since[0]
                where = before + (behind - before) * distance_before / (distance_before - distance_behind)
                if 0 <= (where - self.start) @ along <= length**2:  # between the ends of the line
                    self.crossed.setdefault((track, 1 if distance > 0 else -1), boxes.t_us)
            since.clear()

    def count(self, side: int) -> int:
        """Return how many tracks crossed to a side."""
        return sum(to == side for _, to in self.crossed)


def count(results: Iterable[scn.Result], line: Sequence[float]) -> tuple[LineCounter, dict[int, list[scn.Result]]]:
    """Return the counts at a line from (x, y) to (x, y), and by track the results in which it was seen."""
    counter = LineCounter(line)
    seen: dict[int, list[scn.Result]] = {}
    for result in results:
        counter.update(result)
        for number in result.tracks.tolist():
            seen.setdefault(number, []).append(result)
    return counter, seen


def main(arguments: Sequence[str] | None = None) -> None:
    """Print crossings by class and direction, and a line for every track."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recording", nargs="?", default="sample")
    parser.add_argument("--model", default="small")
    parser.add_argument("--line", type=int, nargs=4, metavar=("X1", "Y1", "X2", "Y2"), help="default: up the middle")
    parser.add_argument("--every_ms", type=float, default=20.0)
    parser.add_argument("--min_score", type=float)
    parser.add_argument("--picture", help="file for the last frame with the line")
    options = parser.parse_args(arguments)
    recording = scn.open(options.recording)
    height, width = recording.size_hw
    line = options.line or (width // 2, height, width // 2, 0)
    every_us = round(options.every_ms * 1000)
    results = scn.predict(
        recording, options.model, track=True, every_us=every_us, min_score=options.min_score, stream=True
    )
    counter, seen = count(results, line)
    names = {number: Counter(r.names[r.tracks.tolist().index(number)] for r in there) for number, there in seen.items()}
    print(f"{counter.count(1)} crossed to the right of the line, {counter.count(-1)} to its left; {len(seen)} tracks")
    for number, there in sorted(seen.items()):
        stayed_s = (there[-1].t_us - there[0].t_us) * 1e-6
        print(f"#{number} {names[number].most_common(1)[0][0]}: {stayed_s:.2f} s from {there[0].t_us * 1e-6:.2f} s")
    if options.picture and seen:
        last = max((there[-1] for there in seen.values()), key=lambda result: result.t_us)
        picture = Image.fromarray(last.plot(enlarge=2))
        ImageDraw.Draw(picture).line([2 * side for side in line], fill="white", width=2)
        picture.save(options.picture)


if __name__ == "__main__":
    main()

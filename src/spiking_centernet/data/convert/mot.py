"""MOTChallenge's text (https://motchallenge.net/instructions/), a line per box.

The columns are frame, track, left, top, width, height, confidence, class, visible. Classes count from 1, frames are
whole: frame k lies at k times the time between frames. That time, the sensor's size and the names of the classes
stand next to it in ``<name>.seqinfo.ini``, MOTChallenge's file with two words more. Left and top count from 0 as in our
boxes; MOTChallenge's own files count from 1.
"""

import configparser
import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from spiking_centernet.data.box_files import MAX_TIME_US
from spiking_centernet.data.convert.labels import Labels, Row, boxes_from, checked_size, number_tracks, short, time_of
from spiking_centernet.errors import BoxFileError
from spiking_centernet.structures import CLASS_NAMES
from spiking_centernet.utils.files import atomic_write
from spiking_centernet.utils.text import counted

SHORTEST_US = 1000
"""Timestamps without a common step of at least this are numbered instead: a camera of 1 MHz helps no tracker."""


def write(path: Path, labels: Labels) -> list[str]:
    """Write labels; return what the format cannot hold, in words."""
    timestamps = labels.timestamps_us.tolist()
    every_us = math.gcd(*timestamps) or 1_000_000  # of a timestamp at 0, any step is one
    lost = [f"{counted(labels.num_empty, 'labeled frame')} without a box"] if labels.num_empty else []
    if every_us >= SHORTEST_US:
        frame_of = {t_us: t_us // every_us for t_us in timestamps}
    else:
        lost.append("times (there is no common step of 1 ms or more, so frames count the timestamps)")
        every_us = 0
        frame_of = {t_us: k for k, t_us in enumerate(timestamps, start=1)}
    lines = []
    for box in labels.boxes:
        words = [frame_of[int(box["ts"])], box["track_id"], *(short(box[name]) for name in ("x", "y", "w", "h"))]
        lines.append(",".join(map(str, [*words, short(box["confidence"]), int(box["class_id"]) + 1, 1])) + "\n")
    with atomic_write(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")
    sequence = {"name": path.stem, "seqLength": max(frame_of.values(), default=0), "classes": ",".join(labels.classes)}
    if every_us:
        sequence |= {"frameRate": f"{1e6 / every_us:g}", "everyUs": every_us}
    if labels.size_hw is not None:
        sequence |= {"imWidth": labels.size_hw[1], "imHeight": labels.size_hw[0]}
    with atomic_write(beside(path)) as temporary:
        temporary.write_text(
            "[Sequence]\n" + "".join(f"{key}={value}\n" for key, value in sequence.items()), encoding="utf-8"
        )
    return lost


def beside(path: Path) -> Path:
    """Return the file that says times, size and classes."""
    return path.with_suffix(".seqinfo.ini")


def read(path: Path, *, classes: Sequence[str] | None, every_us: Fraction | float | None = None) -> Labels:
    """Read the labels of one recording.

    Args:
        path: the file.
        classes: used where no ``seqinfo.ini`` next to it names them; None takes car and pedestrian, and says so.
        every_us: microseconds between frames, where no ``seqinfo.ini`` says them.

    Raises:
        BoxFileError: a line is no box, or the time between frames is not known.
    """
    said = configparser.ConfigParser(interpolation=None)
    try:
        text = path.read_text(encoding="utf-8-sig")
        beside_it = [path.with_name("seqinfo.ini"), path.parent.parent / "seqinfo.ini", beside(path)]
        said.read(beside_it, encoding="utf-8-sig")
        sequence = said["Sequence"] if said.has_section("Sequence") else {}
        if every_us is None and "everyus" in sequence:
            every_us = int(sequence["everyus"])
        elif every_us is None and "framerate" in sequence:
            every_us = 1_000_000 / Fraction(sequence["framerate"])
        if every_us is not None and not 1 <= every_us <= MAX_TIME_US:
            raise ValueError("no time between frames")
        sides = [int(sequence[key]) for key in ("imheight", "imwidth") if key in sequence]
    except OSError as error:
        raise BoxFileError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except (configparser.Error, ValueError, ArithmeticError) as error:
        raise BoxFileError(f"{path}: it or its seqinfo.ini cannot be read ({error}); correct it") from error
    left_out = []
    if "classes" in sequence:
        classes = tuple(sequence["classes"].split(","))
    elif classes is None:
        classes = CLASS_NAMES
        numbered = ", ".join(f"{k} is {name}" for k, name in enumerate(classes, start=1))
        left_out.append(f"names of the classes: the file has numbers only ({numbered}); give --classes to be sure")
    rows: list[Row] = []
    tracked: list[bool] = []
    flags: list[bool] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            words = [float(word) for word in line.split(",")]
            frame, track, label = int(words[0]), int(words[1]), int(words[7]) - 1 if len(words) > 7 else 0
            x, y, w, h, confidence = words[2:7]
        except (ValueError, OverflowError, IndexError):
            raise BoxFileError(
                f"{path}: line {number} is {line[:60]!r}, must be: frame,track,left,top,width,height,confidence"
                "[,class]; correct it"
            ) from None
        t_us = time_of(frame, every_us, path, "it counts frames, and no seqinfo.ini next to it says their rate")
        # -1 is MOTChallenge's word for "none".
        tracked.append(track >= 0)
        rows.append((t_us, x, y, w, h, max(label, 0), confidence, max(track, 0)))
        # MOTChallenge's ground truth has nine columns, a class, and 0 or 1 where detections have their confidence; what
        # we write says its classes next to it and keeps confidences as they are.
        flags.append("classes" not in sequence and len(words) == 9 and label >= 0 and confidence in (0, 1))
    if rows and all(flags):
        considered = [row[6] == 1 for row in rows]
        if num_left := considered.count(False):
            left_out.append(f"{counted(num_left, 'row')} flagged 0 (not to be considered)")
        tracked = [is_tracked for is_tracked, kept in zip(tracked, considered, strict=True) if kept]
        rows = [row for row, kept in zip(rows, considered, strict=True) if kept]
    size_hw = checked_size(path, *sides) if len(sides) == 2 else None
    boxes = boxes_from(path, number_tracks(rows, tracked), classes)
    return Labels(boxes, tuple(classes), size_hw, np.empty(0, np.int64), tuple(left_out))

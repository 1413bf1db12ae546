"""MOTChallenge's text (https://motchallenge.net/instructions/), a line a box.

The columns are frame, track, left, top, width, height, confidence, class, visible. Classes count from 1, frames are
whole: frame k is the instant k times the time between frames. That time, the sensor's size and the names of the classes
stand beside it in ``<name>.seqinfo.ini``, MOTChallenge's file with two words more. Left and top count from 0 as in our
boxes; MOTChallenge's own files count from 1.
"""

import configparser
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spiking_centernet.data.box_files import MAX_TIME_US
from spiking_centernet.data.convert.labels import Labels, Row, boxes_from, checked_size, short, time_of
from spiking_centernet.errors import BoxFileError
from spiking_centernet.utils.files import atomic_write

SHORTEST_US = 1000
"""Instants without a common step of at least this are numbered instead: a camera of 1 MHz helps no tracker."""


def write(path: Path, labels: Labels) -> list[str]:
    """Write labels; return what the format cannot hold, in words."""
    instants = labels.instants_us.tolist()
    every_us = math.gcd(*instants) or 1_000_000  # of an instant at 0, any step is one
    lost = [f"{labels.num_empty} labelled instants without a box"] if labels.num_empty else []
    if every_us >= SHORTEST_US:
        frame_of = {t_us: t_us // every_us for t_us in instants}
    else:
        lost.append("times (there is no common step of 1 ms or more, so frames count the instants)")
        every_us = 0
        frame_of = {t_us: k for k, t_us in enumerate(instants, start=1)}
    lines = []
    for box in labels.boxes:
        words = [frame_of[int(box["ts"])], box["track_id"], *(short(box[name]) for name in ("x", "y", "w", "h"))]
        lines.append(",".join(map(str, [*words, short(box["confidence"]), int(box["class_id"]) + 1, 1])) + "\n")
    with atomic_write(path) as temporary:
        temporary.write_text("".join(lines))
    sequence = {"name": path.stem, "seqLength": max(frame_of.values(), default=0), "classes": ",".join(labels.classes)}
    if every_us:
        sequence |= {"frameRate": f"{1e6 / every_us:g}", "everyUs": every_us}
    if labels.size_hw is not None:
        sequence |= {"imWidth": labels.size_hw[1], "imHeight": labels.size_hw[0]}
    with atomic_write(beside(path)) as temporary:
        temporary.write_text("[Sequence]\n" + "".join(f"{key}={value}\n" for key, value in sequence.items()))
    return lost


def beside(path: Path) -> Path:
    """Return the file that says times, size and classes."""
    return path.with_suffix(".seqinfo.ini")


def read(path: Path, *, classes: Sequence[str], every_us: int | None = None) -> Labels:
    """Read the labels of one recording.

    Args:
        path: the file.
        classes: used where no ``seqinfo.ini`` beside it names them.
        every_us: microseconds between frames, where no ``seqinfo.ini`` says them.

    Raises:
        BoxFileError: a line is no box, or the time between frames is not known.
    """
    said = configparser.ConfigParser(interpolation=None)
    try:
        text = path.read_text()
        said.read([path.with_name("seqinfo.ini"), path.parent.parent / "seqinfo.ini", beside(path)])
        sequence = said["Sequence"] if said.has_section("Sequence") else {}
        if every_us is None and "everyus" in sequence:
            every_us = int(sequence["everyus"])
        elif every_us is None and "framerate" in sequence:
            every_us = round(1e6 / float(sequence["framerate"]))
        if every_us is not None and not 1 <= every_us <= MAX_TIME_US:
            raise ValueError("no time between frames")
        sides = [int(sequence[key]) for key in ("imheight", "imwidth") if key in sequence]
    except OSError as error:
        raise BoxFileError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except (configparser.Error, ValueError, ArithmeticError) as error:
        raise BoxFileError(f"{path}: it or its seqinfo.ini cannot be read ({error}); correct it") from error
    classes = tuple(sequence["classes"].split(",")) if "classes" in sequence else tuple(classes)
    rows: list[Row] = []
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
        t_us = time_of(frame, every_us, path, "it counts frames, and no seqinfo.ini beside it says their rate")
        # -1 is MOTChallenge's word for "none".
        track = track if track >= 0 else len(rows)
        rows.append((t_us, x, y, w, h, max(label, 0), confidence, track))
    size_hw = checked_size(path, *sides) if len(sides) == 2 else None
    return Labels(boxes_from(path, rows, classes), classes, size_hw, np.empty(0, np.int64))

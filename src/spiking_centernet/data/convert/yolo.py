"""YOLO's text files (https://docs.ultralytics.com/datasets/detect/): a folder with one for every labelled instant.

A line is ``class cx cy w h`` in shares of the picture; of detections ``confidence track_id`` follow, as Ultralytics
saves them. The time stands in the file's name, the names of the classes in ``classes.txt``. Ultralytics passes over a
picture that has a share outside 0 to 1, so a box is cut at the border where its centre or size would be one.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spiking_centernet.data.convert.labels import Labels, Row, boxes_from, by_number, checked_time, read_text, time_of
from spiking_centernet.errors import BoxFileError
from spiking_centernet.utils.files import atomic_write

NAMES = "classes.txt"


def write(folder: Path, labels: Labels, *, stem: str) -> list[str]:
    """Write ``<stem>_<t_us>.txt`` into a folder; return what it cannot hold, in words.

    Raises:
        BoxFileError: the sensor's size is not known, or the folder holds text files already.
    """
    height, width = labels.sized("YOLO")
    if folder.is_dir() and any(folder.glob("*.txt")):
        raise BoxFileError(
            f"{folder}: holds text files already, which would mix with the new ones; choose another folder"
        )
    digits = len(str(max([0, *labels.instants_us.tolist()])))
    with_scores = labels.are_detections
    num_cut = num_outside = 0
    for t_us in labels.instants_us.tolist():
        lines = []
        for box in labels.boxes[labels.boxes["ts"] == t_us]:
            sides = [(float(box["x"]), float(box["w"]), width), (float(box["y"]), float(box["h"]), height)]
            if any(not 0 <= start + size / 2 <= limit or size > limit for start, size, limit in sides):
                sides = [_cut(*side) for side in sides]
                if min(size for _, size, _ in sides) <= 0:
                    num_outside += 1
                    continue
                num_cut += 1
            (x, w, _), (y, h, _) = sides
            words = [box["class_id"], (x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
            words += [box["confidence"], box["track_id"]] if with_scores else []
            lines.append(" ".join(map(str, words)) + "\n")
        with atomic_write(folder / f"{stem}_{t_us:0{digits}}.txt") as temporary:
            temporary.write_text("".join(lines))
    with atomic_write(folder / NAMES) as temporary:
        temporary.write_text("".join(f"{name}\n" for name in labels.classes))
    lost = [] if with_scores or not len(labels.boxes) else ["track ids (YOLO's labels have none)"]
    if num_cut:
        refused = "YOLO's tools refuse shares of a picture outside 0 to 1"
        lost.append(f"the part beyond the border of {num_cut} boxes ({refused})")
    if num_outside:
        lost.append(f"{num_outside} boxes beyond the border")
    return lost


def _cut(start: float, size: float, limit: int) -> tuple[float, float, int]:
    low = max(start, 0.0)
    return low, min(start + size, limit) - low, limit


def read(
    folder: Path, *, size_hw: tuple[int, int] | None, classes: Sequence[str], every_us: int | None = None
) -> Labels:
    """Read a folder of text files as the labels of one recording.

    Args:
        folder: with the files, or with a folder ``labels`` that has them.
        size_hw: height and width of the sensor in pixels.
        classes: used where there is no ``classes.txt``.
        every_us: microseconds between pictures whose names do not end in ``_<microseconds>``; they count in
            the order of their names, numbers in them as numbers.

    Raises:
        BoxFileError: a line is no box, or size or times are not known.
    """
    folder = folder / "labels" if (folder / "labels").is_dir() else folder
    if (folder / NAMES).is_file():
        classes = read_text(folder / NAMES).split("\n")
        classes = tuple(name.strip() for name in classes if name.strip())
    paths = [path for path in folder.glob("*.txt") if path.name != NAMES]
    paths.sort(key=lambda path: by_number(path.name))
    if not paths:
        raise BoxFileError(f"{folder}: holds no text files; give the folder of YOLO's labels")
    height, width = Labels(boxes_from(folder, [], classes), tuple(classes), size_hw).sized("YOLO")
    rows: list[Row] = []
    instants = []
    for rank, path in enumerate(paths, start=1):
        named = re.search(r"_(\d+)$", path.stem)
        t_us = time_of(rank, every_us, path, "its name has no time") if every_us or named is None else int(named[1])
        checked_time(path, t_us)
        instants.append(t_us)
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            words = line.split()
            if not words:
                continue
            try:
                if len(words) not in (5, 6, 7):
                    raise ValueError
                cx, cy, w, h = (float(word) for word in words[1:5])
                confidence = float(words[5]) if len(words) > 5 else 1.0
                track = int(words[6]) if len(words) > 6 else len(rows)
                box = ((cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height)
                rows.append((t_us, *box, int(words[0]), confidence, track))
            except ValueError:
                raise BoxFileError(
                    f"{path}: line {number} is {line!r}, must be: class cx cy w h [confidence [track]]; correct it"
                ) from None
    return Labels(boxes_from(folder, rows, classes), tuple(classes), (height, width), np.array(instants, np.int64))

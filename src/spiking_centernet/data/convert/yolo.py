"""YOLO's text files (https://docs.ultralytics.com/datasets/detect/): a folder with one for every labeled frame.

A line is ``class cx cy w h`` in shares of the picture; ``confidence``, ``track`` or both follow, as Ultralytics saves
them. The time stands in the file's name, the names of the classes in ``classes.txt`` or ``data.yaml``. Ultralytics
passes over a picture that has a share outside 0 to 1, so a box is cut at the border where its center or size would be
one.
"""

import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import yaml

from spiking_centernet.data.convert.labels import (
    Labels,
    Row,
    boxes_from,
    by_number,
    checked_time,
    number_tracks,
    read_names,
    read_text,
    time_of,
)
from spiking_centernet.errors import BoxFileError
from spiking_centernet.structures import CLASS_NAMES
from spiking_centernet.utils.files import atomic_write
from spiking_centernet.utils.text import counted

NAMES = "classes.txt"
MAX_SHARE = 2.0
"""A box may lie beyond the border; one that is twice as far away as the picture is wide is given in pixels."""
SHORTEST_US = 1000
"""Numbers closer together count pictures: nobody labels a thousand times a second."""
COUNTING = ("frame", "frames", "img", "image", "images", "pic", "picture")
"""Words before a number that counts pictures."""


def write(folder: Path, labels: Labels, *, stem: str) -> list[str]:
    """Write ``<stem>_<microseconds>us.txt`` into a folder; return what it cannot hold, in words.

    Raises:
        BoxFileError: the sensor's size is not known, or the folder holds text files already.
    """
    height, width = labels.sized("YOLO")
    if folder.is_dir() and any(folder.glob("*.txt")):
        raise BoxFileError(
            f"{folder}: holds text files already, which would mix with the new ones; choose another folder"
        )
    digits = len(str(max([0, *labels.timestamps_us.tolist()])))
    with_scores = labels.are_detections
    num_cut = num_outside = 0
    for t_us in labels.timestamps_us.tolist():
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
        with atomic_write(folder / f"{stem}_{t_us:0{digits}}us.txt") as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")
    with atomic_write(folder / NAMES) as temporary:
        temporary.write_text("".join(f"{name}\n" for name in labels.classes), encoding="utf-8")
    lost = [] if with_scores or not len(labels.boxes) else ["track ids (YOLO's labels have none)"]
    if num_cut:
        refused = "YOLO's tools refuse shares of a picture outside 0 to 1"
        lost.append(f"the part beyond the border of {counted(num_cut, 'box')} ({refused})")
    if num_outside:
        lost.append(f"{counted(num_outside, 'box')} beyond the border")
    return lost


def _cut(start: float, size: float, limit: int) -> tuple[float, float, int]:
    low = max(start, 0.0)
    return low, min(start + size, limit) - low, limit


def read(
    folder: Path,
    *,
    size_hw: tuple[int, int] | None,
    classes: Sequence[str] | None,
    every_us: Fraction | float | None = None,
) -> Labels:
    """Read a folder of text files as the labels of one recording.

    Args:
        folder: with the files, or with a folder ``labels`` that has them.
        size_hw: height and width of the sensor in pixels.
        classes: used where neither ``classes.txt`` nor ``data.yaml`` names them; None takes car and pedestrian, and
            says so.
        every_us: microseconds between pictures; they count in the order of their names, numbers in them as numbers.
            None takes the microseconds at the end of the names.

    Raises:
        BoxFileError: a line is no box in shares of the picture, or size or times are not known.
    """
    inner = folder / "labels" if (folder / "labels").is_dir() else folder
    named, left_out = _names(inner), []
    if named is None and classes is None:
        numbered = ", ".join(f"{k} is {name}" for k, name in enumerate(CLASS_NAMES))
        left_out.append(f"names of the classes: the files have numbers only ({numbered}); give --classes to be sure")
    names = named or tuple(classes or CLASS_NAMES)
    paths = [path for path in inner.glob("*.txt") if path.name != NAMES]
    paths.sort(key=lambda path: by_number(path.name))
    if not paths:
        raise BoxFileError(f"{inner}: holds no text files; give the folder of YOLO's labels")
    height, width = Labels(boxes_from(inner, [], names), names, size_hw).sized("YOLO")
    timestamps = _times(paths, every_us)
    lines = [
        (t_us, path, number, words)
        for t_us, path in zip(timestamps, paths, strict=True)
        for number, line in enumerate(read_text(path).splitlines(), start=1)
        if (words := line.split())
    ]
    sixth_is_track = _sixth_is_track([(path, number, words[5]) for _, path, number, words in lines if len(words) == 6])
    rows: list[Row] = []
    tracked: list[bool] = []
    for t_us, path, number, words in lines:
        try:
            if len(words) not in (5, 6, 7):
                raise ValueError
            cx, cy, w, h = (float(word) for word in words[1:5])
            has_score = len(words) == 7 or (len(words) == 6 and not sixth_is_track)
            confidence = float(words[5]) if has_score else 1.0
            tracked.append(len(words) == 7 or (len(words) == 6 and sixth_is_track))
            track = int(words[-1]) if tracked[-1] else 0
            label = int(words[0])
        except ValueError:
            raise BoxFileError(
                f"{path}: line {number} is {' '.join(words)[:80]!r}, must be: class cx cy w h [confidence [track]]; "
                "correct it"
            ) from None
        if max(abs(cx - 0.5), abs(cy - 0.5), w, h) > MAX_SHARE or not 0 <= confidence <= 1:
            raise BoxFileError(
                f"{path}: line {number} is {' '.join(words)[:80]!r}; place and size must be shares of the picture "
                "(0 to 1), not pixels, and a confidence lies between 0 and 1"
            )
        box = ((cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height)
        rows.append((t_us, *box, label, confidence, track))
    boxes = boxes_from(inner, number_tracks(rows, tracked), names)
    return Labels(boxes, names, (height, width), np.array(timestamps, np.int64), tuple(left_out))


def _names(folder: Path) -> tuple[str, ...] | None:
    """Return the names of the classes from ``classes.txt`` or ``data.yaml`` in the folder or the one around it."""
    for place in (folder, folder.parent) if folder.name == "labels" else (folder,):
        if (place / NAMES).is_file():
            return read_names(place / NAMES)
        for path in (place / "data.yaml", place / "dataset.yaml"):
            if path.is_file():
                return _yaml_names(path)
    return None


def _yaml_names(path: Path) -> tuple[str, ...]:
    try:
        names = yaml.safe_load(read_text(path))["names"]
        if isinstance(names, dict):
            if sorted(names) != list(range(len(names))):
                raise ValueError("they must count from 0")
            names = [names[k] for k in range(len(names))]
        if not isinstance(names, list):
            raise TypeError("they are no list")
        return tuple(str(name) for name in names)
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise BoxFileError(f"{path}: does not give the classes' names ({error}); correct it") from error


def _times(paths: Sequence[Path], every_us: Fraction | float | None) -> list[int]:
    """Return the time of every file in microseconds.

    A number that ends in ``us`` is a time. One without a unit is taken for a time only if it cannot be the number of a
    picture: the numbers lie a millisecond apart or more, and no word before them says that they count pictures.
    """
    if every_us is not None:
        return [checked_time(p, time_of(k, every_us, p, "")) for k, p in enumerate(paths, start=1)]
    found = [re.search(r"^(.*?)[_-]?(\d+)(us)?$", path.stem) for path in paths]
    times = []
    for path, match in zip(paths, found, strict=True):
        if match is None or not (match[3] or re.search(r"[_-]\d+$", path.stem)):
            time_of(0, None, path, "its name has no time")
        assert match is not None
        times.append(checked_time(path, int(match[2])))
    if not all(match is not None and match[3] for match in found):
        words = {match[1].lower().rstrip("_-") for match in found if match is not None}
        steps = np.diff(np.array(sorted({0, *times}), np.int64))
        if (len(steps) and steps.min() < SHORTEST_US) or any(word.endswith(COUNTING) for word in words):
            time_of(0, None, paths[0], "the numbers in the names may count pictures, not microseconds")
    return times


def _sixth_is_track(sixth: Sequence[tuple[Path, int, str]]) -> bool:
    """Return whether the last of six columns is a track, as Ultralytics' tracking saves it, or a confidence.

    Raises:
        BoxFileError: some can be one only and some the other only.
    """
    whole = [re.fullmatch(r"\d+", word) is not None for _, _, word in sixth]
    if all(whole):
        return bool(whole)
    if any(is_whole and int(word) > 1 for is_whole, (_, _, word) in zip(whole, sixth, strict=True)):
        path, number, word = next(
            entry for is_whole, entry in zip(whole, sixth, strict=True) if is_whole and int(entry[2]) > 1
        )
        raise BoxFileError(
            f"{path}: line {number} ends in {word}, a track, where other lines end in a confidence; export with both"
        )
    return False

"""The boxes of one recording between two files, and what every label format has in common."""

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from spiking_centernet.data.box_files import MAX_CLASSES, MAX_CONFIDENCE, MAX_PX, MAX_TIME_US
from spiking_centernet.errors import BoxFileError
from spiking_centernet.structures import BOX_DTYPE


@dataclass(frozen=True)
class Labels:
    """The boxes of one recording.

    Attributes:
        boxes: BOX_DTYPE [N], sorted by time.
        classes: the names that class ids count through.
        size_hw: height and width of the sensor in pixels; None where the file does not say.
        timestamps_us: int64 [M], every labeled time, those without a box too; sorted, each once.
        left_out: what the file says that is not in ``boxes``, and what was assumed in reading it, in words.
        joints: float32 [N, J, 3], u and v in pixels and visibility of every box; None where there are none.
        crowds: BOX_DTYPE or AREA_DTYPE [C], regions that are neither learned nor scored, sorted by time.
        areas: float32 [N], square pixels that the object of every box covers, NaN where unknown; None where there are
            none.
    """

    boxes: np.ndarray
    classes: tuple[str, ...]
    size_hw: tuple[int, int] | None = None
    timestamps_us: np.ndarray = field(default=None)  # pyright: ignore[reportAssignmentType]
    left_out: tuple[str, ...] = ()
    joints: np.ndarray | None = None
    crowds: np.ndarray = field(default_factory=lambda: np.zeros(0, BOX_DTYPE))
    areas: np.ndarray | None = None

    def __post_init__(self):
        with_box = np.unique(self.boxes["ts"]).astype(np.int64)
        with_box = np.union1d(with_box, self.crowds["ts"].astype(np.int64)) if len(self.crowds) else with_box
        known = with_box if self.timestamps_us is None else np.union1d(with_box, self.timestamps_us).astype(np.int64)
        object.__setattr__(self, "timestamps_us", known)

    @property
    def num_empty(self) -> int:
        """How many labeled frames have no box."""
        return len(self.timestamps_us) - len(np.unique(self.boxes["ts"]))

    @property
    def are_detections(self) -> bool:
        """Whether some box has a confidence other than 1, as boxes drawn by hand have."""
        return bool((self.boxes["confidence"] != 1).any())

    def sized(self, what: str) -> tuple[int, int]:
        """Return height and width.

        Raises:
            BoxFileError: nobody said them.
        """
        if self.size_hw is None:
            raise BoxFileError(f"{what} needs the sensor's size, which no file here says; give --size WIDTHxHEIGHT")
        return self.size_hw


Row = tuple[int, float, float, float, float, int, float, int]
"""The fields of BOX_DTYPE in their order."""


def read_text(path: Path) -> str:
    """Return a file's text.

    Raises:
        BoxFileError: it cannot be read, or is no text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BoxFileError(f"{path}: cannot be read as text ({error}); copy or export it again") from error


def checked_size(path: Path, height: int, width: int) -> tuple[int, int]:
    """Return height and width in pixels.

    Raises:
        BoxFileError: no picture has them.
    """
    if not (0 < height <= MAX_PX and 0 < width <= MAX_PX):
        raise BoxFileError(f"{path}: says pictures of {f'{width} x {height}'[:40]} pixels; correct it")
    return height, width


def boxes_from(path: Path, rows: Iterable[Row], classes: Sequence[str]) -> np.ndarray:
    """Return rows as BOX_DTYPE, sorted by time.

    Raises:
        BoxFileError: a number does not fit, or a class id is unknown.
    """
    listed = list(rows)
    for k, row in enumerate(listed):
        fits = 0 <= row[0] <= MAX_TIME_US and all(abs(value) <= MAX_PX for value in row[1:5])
        if not fits or min(row[3:5]) < 0:
            raise BoxFileError(f"{path}: box {k} has time {row[0]} us, place and size {row[1:5]}; correct or remove it")
        if not 0 <= row[5] < min(len(classes), MAX_CLASSES):
            known = ", ".join(f"{index} {name}" for index, name in enumerate(classes))
            raise BoxFileError(f"{path}: box {k} has class {row[5]}, known: {known}; give the data set's own --classes")
        if not abs(row[6]) <= MAX_CONFIDENCE:
            raise BoxFileError(f"{path}: box {k} has confidence {row[6]}; correct or remove it")
        if not 0 <= row[7] < 1 << 32:
            raise BoxFileError(f"{path}: box {k} has track {row[7]}, must be 0 to {(1 << 32) - 1}; number them again")
    boxes = np.array(listed, BOX_DTYPE)
    return boxes[np.argsort(boxes["ts"], kind="stable")]


def short(value: np.float32) -> float:
    """Return the number of fewest digits that reads back as this float32."""
    return float(str(value))


def checked_time(path: Path, t_us: int) -> int:
    """Return a picture's time.

    Raises:
        BoxFileError: no recording reaches it.
    """
    if not 0 <= t_us <= MAX_TIME_US:
        raise BoxFileError(f"{path}: says the time {str(t_us)[:40]} us, must be 0 to {MAX_TIME_US}; correct it")
    return t_us


def by_number(name: str) -> list[str | int]:
    """Return a key that sorts names with numbers as people count: picture_10 after picture_9."""
    return [int(part) if k % 2 else part for k, part in enumerate(re.split(r"([0-9]+)", name))]


def number_tracks(rows: Sequence[Row], known: Sequence[bool]) -> list[Row]:
    """Give every box without a track a number that no other box has.

    Args:
        rows: the boxes; the last field of those without a track means nothing.
        known: for each box, whether its track is known.
    """
    taken = {row[7] for row, is_known in zip(rows, known, strict=True) if is_known}
    free = (number for number in itertools.count() if number not in taken)
    return [row if is_known else (*row[:7], next(free)) for row, is_known in zip(rows, known, strict=True)]


def read_names(path: Path) -> tuple[str, ...]:
    """Return the names in a text file, a line each; empty lines are passed over."""
    return tuple(name.strip() for name in read_text(path).splitlines() if name.strip())


def time_of(rank: int, every_us: Fraction | float | None, path: Path, what: str) -> int:
    """Return the time of the ``rank``-th picture, counted from 1, rounded once, so that it never drifts.

    Raises:
        BoxFileError: the time between pictures is not given.
    """
    if every_us is None:
        raise BoxFileError(f"{path}: {what}; give the time between pictures with --every_ms, or --fps")
    return round(rank * Fraction(every_us))

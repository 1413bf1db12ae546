"""Data sets of whole recordings with one class each, as boxes around the whole frame: N-CARS and DVS128 Gesture.

Sources: N-CARS (Sironi et al., CVPR 2018), DVS128 Gesture (Amir et al., CVPR 2017) and their own files.
"""

import csv
import re
from pathlib import Path

import numpy as np

from spiking_centernet.errors import BoxFileError, DatasetError
from spiking_centernet.structures import BOX_DTYPE

NCARS_HW = (100, 120)
"""The largest cut-out; smaller ones stand at the top left."""

NCARS_US = 100_000
"""Length of every recording."""

NCARS_CLASSES = ("background", "car")
NCARS_FOLDERS = ("background", "cars")

VAL_STRIDE = 10
"""Every so manieth training recording of N-CARS by name is for validation; the data set has no such split."""

GESTURES = (
    "hand_clapping", "right_hand_wave", "left_hand_wave", "right_arm_clockwise", "right_arm_counter_clockwise",
    "left_arm_clockwise", "left_arm_counter_clockwise", "arm_roll", "air_drums", "air_guitar", "other_gestures",
)  # fmt: skip
"""Classes 1 to 11 of ``gesture_mapping.csv``."""

GESTURE_HW = (128, 128)

GESTURE_WINDOW_US = 1_500_000
"""Windows end every half of this inside a gesture, and at its end."""

VAL_USERS = range(20, 24)
"""Training users of DVS128 Gesture that are for validation; the data set has no such split."""

MAX_CSV_BYTES = 1 << 20


def whole_frame(ts: int, size_hw: tuple[int, int], label: int, trial: int) -> np.ndarray:
    """Return a BOX_DTYPE row [1] around the whole frame.

    Args:
        ts: end of the window in microseconds.
        size_hw: height and width in pixels.
        label: the class.
        trial: which trial of the recording the window belongs to, its track.
    """
    row = np.zeros(1, BOX_DTYPE)
    row[0] = (ts, 0, 0, size_hw[1], size_hw[0], label, 1, trial)
    return row


def find_ncars(root: Path, split: str) -> list[tuple[str, Path]]:
    """Return names and event files of a split of N-CARS.

    Raises:
        DatasetError: The folders are missing or empty, or hold too few recordings for a validation split.
    """
    stored = "test" if split == "test" else "train"
    if split not in ("train", "val", "test"):
        raise DatasetError(f"N-CARS has the splits train, val and test, not {split!r}")
    places = [root / f"n-cars_{stored}", root / f"n-cars_{stored}" / stored, root / stored]
    places += [root / "Prophesee_Dataset_n_cars" / f"n-cars_{stored}"]
    folder = next((place for place in places if (place / NCARS_FOLDERS[1]).is_dir()), None)
    if folder is None:
        raise DatasetError(f"{root}: holds no n-cars_{stored}/cars; unpack N-CARS there")
    found = []
    for name in NCARS_FOLDERS:
        paths = sorted((folder / name).glob("*_td.dat")) if (folder / name).is_dir() else []
        if not paths:
            raise DatasetError(f"{folder / name}: holds no recording *_td.dat; unpack N-CARS again")
        found += [(f"{name}_{path.name.removesuffix('_td.dat')}", path) for path in paths]
    if split == "test":
        return found
    if split == "val" and len(found) < VAL_STRIDE:
        raise DatasetError(
            f"{folder}: holds {len(found)} recordings, of which every {VAL_STRIDE}th is for validation; add recordings "
            f"until there are {VAL_STRIDE}, better some hundred"
        )
    return [one for i, one in enumerate(found) if (i % VAL_STRIDE == VAL_STRIDE - 1) == (split == "val")]


def read_ncars(events: Path) -> np.ndarray:
    """Return the one label of a recording of N-CARS as a BOX_DTYPE row."""
    return whole_frame(NCARS_US, NCARS_HW, NCARS_FOLDERS.index(events.parent.name), 0)


def find_gestures(root: Path, split: str) -> list[tuple[str, Path, Path]]:
    """Return names, event and label files of a split of DVS128 Gesture.

    Raises:
        DatasetError: The list of the split or a file is missing.
    """
    if split not in ("train", "val", "test"):
        raise DatasetError(f"DVS128 Gesture has the splits train, val and test, not {split!r}")
    folder = next((place for place in (root / "DvsGesture", root) if place.is_dir()), root)
    listed = folder / f"trials_to_{'test' if split == 'test' else 'train'}.txt"
    try:
        lines = listed.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{listed}: cannot be read ({error}); unpack DvsGesture.tar.gz there") from error
    found = []
    for line in lines:
        name = Path(line).name
        user = re.match(r"user(\d+)_\w+\.aedat$", name)
        if user is None:
            raise DatasetError(f"{listed}: {line!r} is no recording like user01_led.aedat")
        if split != "test" and (int(user[1]) in VAL_USERS) != (split == "val"):
            continue
        events = folder / name
        labels = events.with_name(f"{events.stem}_labels.csv")
        for path in (events, labels):
            if not path.is_file():
                raise DatasetError(f"{path} is missing, but {listed.name} lists it; unpack the data set again")
        found.append((events.stem, events, labels))
    return found


def read_intervals(path: Path) -> np.ndarray:
    """Return class from 0, start and stop in microseconds of every gesture, int64 [N, 3], in the file's order.

    A gesture ends at the latest where the next one begins, because one file of the data set says otherwise.

    Raises:
        BoxFileError: The file is damaged.
    """
    try:
        if path.stat().st_size > MAX_CSV_BYTES:
            raise BoxFileError(f"{path}: is larger than {MAX_CSV_BYTES} bytes; no label file of DVS128 Gesture is")
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BoxFileError(f"{path}: cannot be read ({error}); copy it again") from error
    if not rows or [word.strip() for word in rows[0]] != ["class", "startTime_usec", "endTime_usec"]:
        raise BoxFileError(f"{path}: must begin with class,startTime_usec,endTime_usec; copy it again")
    found = []
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        try:
            label, start, stop = (int(word) for word in row)
        except ValueError as error:
            raise BoxFileError(f"{path}: line {number} is no class, start and end ({error}); copy it again") from error
        if not 1 <= label <= len(GESTURES) or not 0 <= start < stop < 2**53:
            raise BoxFileError(f"{path}: line {number} has class {label} from {start} to {stop} us; correct it")
        found.append((label - 1, start, stop))
    intervals = np.array(found, np.int64).reshape(-1, 3)
    starts = np.sort(intervals[:, 1])
    after = np.append(starts, np.iinfo(np.int64).max)[np.searchsorted(starts, intervals[:, 1], side="right")]
    intervals[:, 2] = np.minimum(intervals[:, 2], after)
    return intervals


def read_gestures(path: Path) -> np.ndarray:
    """Return the windows of a recording's gestures as BOX_DTYPE rows, sorted by time; the track is the gesture's row.

    Raises:
        BoxFileError: The file is damaged.
    """
    rows = [np.zeros(0, BOX_DTYPE)]
    for trial, (label, start, stop) in enumerate(read_intervals(path).tolist()):
        end = stop
        while True:
            rows.append(whole_frame(end, GESTURE_HW, label, trial))
            end -= GESTURE_WINDOW_US // 2
            if end - GESTURE_WINDOW_US < start:
                break
    joined = np.concatenate(rows)
    return joined[np.argsort(joined["ts"], kind="stable")]

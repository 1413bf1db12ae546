"""A labeled folder of whole scenes -> cut-outs in N-CARS' own files: cars, and as many places without any object.

N-CARS (Sironi et al., CVPR 2018) was made so from a recording of a road. A cut-out is 100 ms of events at most 120 x
100 pixels large, its events counted from the top left and from time 0.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spiking_centernet.data.box_files import boxes_at, clean_boxes
from spiking_centernet.data.class_layouts import NCARS_HW, NCARS_US
from spiking_centernet.data.dataset import FolderDataset
from spiking_centernet.data.formats.dat_writer import write_dat
from spiking_centernet.data.io import open as open_recording
from spiking_centernet.errors import ConfigError, DatasetError
from spiking_centernet.structures import Boxes, find_class
from spiking_centernet.utils.progress import track

LEAST_SIDE_PX = 16
"""Cars smaller than this are left out: a handful of events show nothing."""

LEAST_EVENTS = 50
"""Cut-outs with fewer events are left out; N-CARS has none so empty."""

PLACE_TRIES = 50


@dataclass(frozen=True)
class CutOuts:
    """What :func:`write_ncars` wrote.

    Attributes:
        folder: with ``cars`` and ``background``.
        cars: cut-outs of cars.
        background: cut-outs without an object.
    """

    folder: Path
    cars: int
    background: int


def write_ncars(source: str | os.PathLike[str], split: str, out: str | os.PathLike[str], *, seed: int = 0) -> CutOuts:
    """Cut the cars of a split out of its recordings, and as many places of the same sizes that show no object.

    Args:
        source: folder that holds the splits, with cars among its classes.
        split: which of them; "test" becomes ``n-cars_test``, any other ``n-cars_train``, of which the layout takes
            every tenth for validation.
        out: root of the new data set.
        seed: of the places.

    Raises:
        DatasetError: the source is damaged, or shows no car.
        ConfigError: the target holds cut-outs already.
    """
    folder = Path(out) / f"n-cars_{'test' if split == 'test' else 'train'}"
    for name in ("cars", "background"):
        if any((folder / name).glob("*_td.dat")):
            raise ConfigError(f"{folder / name}: holds cut-outs already; choose another folder")
    dataset = FolderDataset(source, split)
    car = find_class("car", dataset.classes)
    if car is None:
        raise DatasetError(f"{dataset.folder}: has no class car among {', '.join(dataset.classes)}")
    counts = {"cars": 0, "background": 0}
    rng = np.random.default_rng([seed, 5])
    for which in track(range(len(dataset.recordings)), "cutting out cars", len(dataset.recordings)):
        for name, events, size_hw in _cut_outs(dataset, which, car, rng):
            write_dat(folder / name / f"obj_{counts[name]:06d}_td.dat", events, size_hw)
            counts[name] += 1
    if not counts["cars"]:
        raise DatasetError(f"{dataset.folder}: shows no car of {LEAST_SIDE_PX} px or more to cut out")
    return CutOuts(folder, counts["cars"], counts["background"])


def _cut_outs(
    dataset: FolderDataset, which: int, car: int, rng: np.random.Generator
) -> Iterator[tuple[str, np.ndarray, tuple[int, int]]]:
    """Yield kind, events and size of the cut-outs of one recording."""
    labeled = dataset.recordings[which]
    recording = open_recording(labeled.path, size_hw=dataset.size_hw)
    stored = clean_boxes(labeled.boxes, recording.size_hw)
    for t_us in labeled.timestamps_us.tolist():
        if t_us < NCARS_US or t_us - NCARS_US >= recording.stop_us:
            continue
        boxes = boxes_at(stored, t_us)
        events = recording.read(t_us - NCARS_US, t_us)
        for xyxy in boxes.xyxy[boxes.labels == car]:
            left, top = np.floor(xyxy[:2]).astype(int).tolist()
            width, height = np.ceil(xyxy[2:]).astype(int) - (left, top)
            if min(width, height) < LEAST_SIDE_PX:
                continue
            width, height = min(int(width), NCARS_HW[1]), min(int(height), NCARS_HW[0])
            cut = _inside(events, (left, top), (height, width), t_us)
            if len(cut) < LEAST_EVENTS:
                continue
            for place in _free_places(boxes, (height, width), recording.size_hw, rng):
                empty = _inside(events, place, (height, width), t_us)
                if len(empty) >= LEAST_EVENTS:  # as many of both
                    yield "cars", cut, (height, width)
                    yield "background", empty, (height, width)
                    break


def _inside(events: np.ndarray, left_top: tuple[int, int], size_hw: tuple[int, int], t_us: int) -> np.ndarray:
    """Return the events of a rectangle, counted from its top left and from the beginning of the window."""
    x, y = (events[axis].astype(np.int64) - start for axis, start in zip(("x", "y"), left_top, strict=True))
    keep = (x >= 0) & (x < size_hw[1]) & (y >= 0) & (y < size_hw[0])
    cut = events[keep]
    cut["x"], cut["y"] = x[keep], y[keep]
    cut["t"] -= t_us - NCARS_US
    return cut


def _free_places(
    boxes: Boxes, side_hw: tuple[int, int], size_hw: tuple[int, int], rng: np.random.Generator
) -> Iterator[tuple[int, int]]:
    """Yield left and top of places of this size that overlap no box."""
    height, width = side_hw
    if height > size_hw[0] or width > size_hw[1]:
        return
    for _ in range(PLACE_TRIES):
        left, top = int(rng.integers(0, size_hw[1] - width + 1)), int(rng.integers(0, size_hw[0] - height + 1))
        apart = (boxes.xyxy[:, 2] <= left) | (boxes.xyxy[:, 0] >= left + width)
        apart |= (boxes.xyxy[:, 3] <= top) | (boxes.xyxy[:, 1] >= top + height)
        if apart.all():
            yield left, top

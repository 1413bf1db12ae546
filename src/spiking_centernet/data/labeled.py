"""A recording of a folder with its labels: found by a layout, and checked to belong together."""

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from spiking_centernet.data.box_files import label_timestamps
from spiking_centernet.data.layouts import Layout
from spiking_centernet.data.object_files import Objects
from spiking_centernet.data.recording import Recording
from spiking_centernet.errors import DatasetError
from spiking_centernet.structures import BOX_DTYPE


@dataclass(frozen=True)
class LabeledRecording:
    """A recording of a folder: its name, its files, and its boxes as stored (BOX_DTYPE, sorted by time).

    ``objects`` are the 3D boxes, joints and cameras next to them, ``frames`` the picture or the folder of pictures;
    each is None where there is none. ``crowds`` are regions as boxes, in which nothing is learned or scored.
    """

    name: str
    path: Path
    boxes_path: Path
    boxes: np.ndarray
    objects: Objects | None = None
    frames: Path | None = None
    crowds: np.ndarray = field(default_factory=lambda: np.zeros(0, BOX_DTYPE))

    @property
    def is_picture(self) -> bool:
        """Whether there are no events but a picture, which is labeled at time 0 though it may show nothing."""
        return self.frames == self.path

    @cached_property
    def timestamps_us(self) -> np.ndarray:
        """The labeled times in microseconds, int64, sorted."""
        return np.zeros(1, np.int64) if self.is_picture else label_timestamps(self.boxes)


def find_recordings(
    root: Path, split: str, layout: Layout, classes: Sequence[str], names: Collection[str] | None
) -> list[LabeledRecording]:
    """Return the labeled recordings of a split in the order of their names.

    Args:
        root: the folder of the split's folder.
        split: its name.
        layout: finds files and reads labels.
        classes: the names that labels count through.
        names: of the recordings to take; None takes all.

    Raises:
        DatasetError: there are none, or none has a box.
    """
    recordings = [
        LabeledRecording(
            files.name,
            files.events,
            files.boxes,
            layout.boxes(files, classes),
            layout.objects(files),
            files.frames,
            layout.crowds(files, classes),
        )
        for files in layout.find(root, split)
        if names is None or files.name in names
    ]
    if not any(len(recording.boxes) for recording in recordings):
        raise DatasetError(
            f"{root / split}: none of its {len(recordings)} box files holds a box of {', '.join(classes)}; "
            "there is nothing to load"
        )
    return recordings


def check_times(labeled: LabeledRecording, recording: Recording, window_us: int) -> None:
    """Refuse boxes of which half or more lie after the events; say it of fewer, whose windows are empty."""
    timestamps_us = labeled.timestamps_us
    late = int((timestamps_us - window_us >= recording.stop_us).sum())
    if 0 < 2 * late < len(timestamps_us):
        warnings.warn(
            f"{labeled.boxes_path}: {late} of {len(timestamps_us)} labeled frames lie more than a window after the "
            f"last event ({recording.stop_us} us); their windows are empty",
            stacklevel=2,
        )
    elif len(timestamps_us) and (late or timestamps_us[-1] + window_us <= recording.start_us):
        raise DatasetError(
            f"{labeled.boxes_path}: boxes stand at {timestamps_us[0]} to {timestamps_us[-1]} us, but "
            f"{recording.path.name} holds events from {recording.start_us} to {recording.stop_us} us; "
            "the two do not belong together"
        )

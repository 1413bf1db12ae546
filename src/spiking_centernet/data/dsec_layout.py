"""The boxes of DSEC-Det (github.com/uzh-rpg/dsec-det), whose clock is not that of the events."""

import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spiking_centernet.data.box_files import read_boxes
from spiking_centernet.errors import DatasetError, need


def read_dsec(events: Path, boxes: Path, classes: Sequence[str]) -> np.ndarray:
    """Return the boxes of a sequence, BOX_DTYPE, on the clock of its events.

    Boxes stand on the clock of the car, events on their own: ``t_offset`` of the event file lies between them.

    Raises:
        MissingPackageError: h5py is not installed.
        DatasetError: the event file does not say its offset, or the two files do not fit.
        BoxFileError: the box file is damaged.
    """
    h5py = need("h5py", f"reading {events}", "formats")

    found = read_boxes(boxes, classes=classes)
    try:
        with h5py.File(events, "r") as file:
            stored: Any = file["t_offset"]
            offset_us = operator.index(stored[()])
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise DatasetError(f"{events}: does not say t_offset ({error}); copy the file again") from error
    if len(found) and int(found["ts"].min()) < offset_us:
        raise DatasetError(f"{boxes}: holds a box before the events begin ({offset_us} us); the two do not fit")
    if offset_us < 0:
        raise DatasetError(f"{events}: says t_offset {offset_us}, which is before 0; copy the file again")
    found["ts"] -= np.uint64(offset_us)
    return found

"""One door to a recording, whatever its file format."""

import os
from collections.abc import Callable
from pathlib import Path

from spiking_centernet.data.formats.aedat4 import Aedat4Recording
from spiking_centernet.data.formats.arrays import ArrayRecording, BinRecording
from spiking_centernet.data.formats.dat import DatRecording
from spiking_centernet.data.formats.evt import EvtRecording
from spiking_centernet.data.formats.hdf5 import Hdf5Recording
from spiking_centernet.data.formats.text import TextRecording
from spiking_centernet.data.recording import Recording
from spiking_centernet.errors import EventFileError, did_you_mean

OPENERS: dict[str, Callable[..., Recording]] = {
    ".dat": DatRecording,
    ".raw": EvtRecording,
    ".h5": Hdf5Recording,
    ".hdf5": Hdf5Recording,
    ".aedat4": Aedat4Recording,
    ".bin": BinRecording,
    ".npy": ArrayRecording,
    ".npz": ArrayRecording,
    ".csv": TextRecording,
    ".txt": TextRecording,
}
"""File suffix -> opener; another format moves in by adding its line."""


def open(path: str | os.PathLike[str], *, size_hw: tuple[int, int] | None = None) -> Recording:
    """Open a recording of any known format.

    Args:
        path: the file.
        size_hw: height and width of the sensor in pixels, for files that do not say or say it wrong.

    Raises:
        EventFileError: the format is unknown, the file damaged, or a package that reads it is not installed.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in OPENERS:
        raise EventFileError(f"{path}: unknown kind of recording {suffix!r}{did_you_mean(suffix, OPENERS)}")
    return OPENERS[suffix](path, size_hw=size_hw)

"""Open a recording of any file format."""

import inspect
import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from spiking_centernet.data.formats.aedat import open_aedat
from spiking_centernet.data.formats.aedat4 import Aedat4Recording
from spiking_centernet.data.formats.arrays import ArrayRecording, BinRecording, open_events
from spiking_centernet.data.formats.dat_recording import DatRecording
from spiking_centernet.data.formats.event_stream import EventStreamRecording
from spiking_centernet.data.formats.evt import EvtRecording
from spiking_centernet.data.formats.hdf5 import Hdf5Recording
from spiking_centernet.data.formats.matlab import MatlabRecording
from spiking_centernet.data.formats.rosbag import RosbagRecording
from spiking_centernet.data.formats.text import TextRecording
from spiking_centernet.data.frames import is_image
from spiking_centernet.data.recording import Recording
from spiking_centernet.errors import ConfigError, EventFileError, did_you_mean

OPENERS: dict[str, Callable[..., Recording]] = {
    ".dat": DatRecording,
    ".raw": EvtRecording,
    ".h5": Hdf5Recording,
    ".hdf5": Hdf5Recording,
    ".aedat": open_aedat,
    ".aedat4": Aedat4Recording,
    ".es": EventStreamRecording,
    ".mat": MatlabRecording,
    ".bag": RosbagRecording,
    ".db3": RosbagRecording,
    ".mcap": RosbagRecording,
    ".bin": BinRecording,
    ".npy": ArrayRecording,
    ".npz": ArrayRecording,
    ".csv": TextRecording,
    ".txt": TextRecording,
}
"""File suffix -> opener; a new format is a new line."""


LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How a pointer of Git LFS starts (its specification, docs/spec.md)."""


SAMPLES = {
    "sample": "sample/sample.npz",
    "sample-real": "icns_roadside_cars/icns_roadside_cars_td.dat",
}
"""Recordings that come with the package, by the name that opens them: files of its folder ``assets``."""


def sample(name: str = "sample") -> Path:
    """Return the file of a recording that comes with the package; see ``SAMPLES`` and the NOTICE.txt next to it."""
    return Path(str(resources.files("spiking_centernet") / "assets" / SAMPLES[name]))


def open(
    path: Any,
    *,
    size_hw: tuple[int, int] | None = None,
    columns: str | None = None,
    unit: str | None = None,
) -> Recording:
    """Open a recording of any known format, or events in memory.

    Args:
        path: the file; "sample" for the recording that comes with the package; or events in memory: a structured array,
            [N, 4], a mapping of named columns, a table, or a tuple of four flat arrays (see ``open_events``).
        size_hw: height and width of the sensor in pixels, for files that do not say or say it wrong.
        columns: the order of columns without names in text and arrays: a letter each, t, x, y and p, and - for others,
            such as "xypt"; None infers it where only one is possible.
        unit: what the times of text, arrays and HDF5 are counted in: "ns", "us", "ms" or "s"; None infers it where only
            one is possible.

    Raises:
        EventFileError: the format is unknown, or the file damaged.
        MissingPackageError: a package that reads it is not installed.
        ConfigError: an option is written wrong, or the format says itself what the option says.
    """
    if not isinstance(path, str | os.PathLike):
        return open_events(path, size_hw=size_hw, columns=columns, unit=unit)
    path = Path(path)
    if str(path) in SAMPLES and not path.exists():
        path = sample(str(path))
    suffix = ".db3" if os.path.isfile(path / "metadata.yaml") else path.suffix.lower()
    if suffix not in OPENERS:
        if is_image(path):
            raise EventFileError(
                f"{path}: is a picture, not a recording of events; detect in it with a network of pictures "
                "(voxels.mode direct or rate), or give a recording"
            )
        raise EventFileError(f"{path}: unknown kind of recording {suffix!r}{did_you_mean(suffix, OPENERS)}")
    _refuse_pointer(path)
    opener = OPENERS[suffix]
    options = {name: value for name, value in (("columns", columns), ("unit", unit)) if value is not None}
    for name in options:
        if name not in inspect.signature(opener).parameters:
            raise ConfigError(f"{path}: {suffix} files say themselves what {name} says; leave it out")
    return opener(path, size_hw=size_hw, **options)


def _refuse_pointer(path: Path) -> None:
    """Refuse the stand-in that git leaves where a file is kept in Git LFS and was not fetched."""
    try:
        with path.open("rb") as file:
            is_pointer = file.read(len(LFS_POINTER)) == LFS_POINTER
    except (OSError, ValueError):
        return  # the opener says what is wrong
    if is_pointer:
        raise EventFileError(
            f"{path}: is no recording but a pointer of Git LFS, which holds its place; fetch it with `git lfs pull`"
        )

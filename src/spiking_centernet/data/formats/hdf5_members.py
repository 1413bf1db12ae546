"""Data sets of an HDF5 file that a stranger made: none lie in other files, none claim more than they hold."""

import math
from pathlib import Path, PurePosixPath
from typing import Any

from spiking_centernet.errors import EventFileError

MOST_LINKS = 16
"""Soft links that may lead to a data set; more are a circle."""

MAX_CHUNK_BYTES = 1 << 25
"""Largest chunk, unpacked: HDF5 holds one whole in memory. Writers take a megabyte or less."""

SLACK_BYTES = 1 << 28
"""Bytes that may be claimed however small the file is."""

MAX_RATIO = 100
"""How many times the stored bytes the claimed ones may be beyond that; real events pack to a tenth at best."""


def member(path: Path, h5py: Any, file: Any, name: str) -> Any:
    """Return a group or data set of a file by its path inside, None where there is none.

    Links are followed by hand, so that nothing outside the file is opened.

    Raises:
        EventFileError: it leads to another file, or round in a circle.
    """
    parts = list(PurePosixPath("/" + name).parts[1:])
    place, walked, links = file["/"], PurePosixPath("/"), 0
    while parts:
        part = parts.pop(0)
        if part in (".", ".."):
            raise EventFileError(f"{path}: its link to {name} is no path inside the file; copy or export it again")
        if not isinstance(place, h5py.Group) or not place.id.links.exists(part.encode()):
            return None
        link = place.get(part, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            _refuse(path, str(walked / part))
        if isinstance(link, h5py.SoftLink):
            links += 1
            if links > MOST_LINKS:
                raise EventFileError(f"{path}: its links to {name} go round in a circle; copy or export it again")
            target = PurePosixPath(link.path)
            if target.is_absolute():
                place, walked = file["/"], PurePosixPath("/")
            parts = [each for each in target.parts if each != "/"] + parts
            continue
        place, walked = place[part], walked / part
    if isinstance(place, h5py.Dataset):
        check_source(path, h5py, place)
    return place


def check_source(path: Path, h5py: Any, source: Any) -> None:
    """Check that a data set lies in its file, in chunks that fit into memory.

    Raises:
        EventFileError: it is virtual, lies in other files, or has chunks that are too large.
    """
    if source.id.get_create_plist().get_layout() == h5py.h5d.VIRTUAL or source.external:
        _refuse(path, source.name)
    chunk_bytes = source.dtype.itemsize
    for side in source.chunks or ():
        chunk_bytes *= side
    if source.chunks and chunk_bytes > MAX_CHUNK_BYTES:
        raise EventFileError(
            f"{path}: {source.name} has chunks of {chunk_bytes} bytes, more than {MAX_CHUNK_BYTES}; repack it "
            "(h5repack -l CHUNK=65536)"
        )


def check_claims(path: Path, sources: list[Any]) -> None:
    """Refuse a length that nothing is stored for: HDF5 would make up zeros without end.

    Raises:
        EventFileError: the data sets claim far more bytes than they store.
    """
    claimed = sum(math.prod(source.shape) * source.dtype.itemsize for source in sources)
    stored = sum(source.id.get_storage_size() for source in sources)
    if claimed > SLACK_BYTES + MAX_RATIO * stored:
        raise EventFileError(
            f"{path}: {sources[0].name} claims {math.prod(sources[0].shape)} events in {stored} bytes; the file is "
            "damaged: copy it again"
        )


def _refuse(path: Path, name: str) -> None:
    raise EventFileError(
        f"{path}: {name} lies in another file (an external link, external storage or a virtual data set), which is not "
        "followed; write the events into one file"
    )

"""HDF5 event files (``.h5``, ``.hdf5``): Metavision's, and the layout that DSEC and RVT share.

Metavision (https://docs.prophesee.ai/stable/data/file_formats/hdf5.html) has one table ``CD/events`` of x, y, p, t.
DSEC (https://dsec.ifi.uzh.ch/data-format/) and RVT have the columns ``events/x``, ``y``, ``t``, ``p``; RVT adds
``events/height`` and ``events/width``.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from spiking_centernet.errors import EventFileError
from spiking_centernet.events.blocks import BLOCK_EVENTS, INSTALL, BlockRecording, needed, spans
from spiking_centernet.events.ecf import decode_chunk
from spiking_centernet.types import EVENT_DTYPE

ECF_FILTER = 0x8ECF
OTHER_FILTERS = 256
"""Filters numbered from here on are no part of HDF5 (its reference manual, H5Z)."""

_Key = tuple[int, int]
"""First event and one past the last."""


class Hdf5Recording(BlockRecording):
    """An HDF5 file as a recording."""

    def __init__(self, path: str | os.PathLike[str], *, size_hw: tuple[int, int] | None = None):
        """Open and index an HDF5 file; see ``BlockRecording``."""
        self.path = path = Path(path)
        h5py = needed(path, "h5py")
        try:
            self._file: Any = h5py.File(path, "r")
        except OSError as error:
            raise EventFileError(f"{path}: cannot be opened as HDF5 ({error}); copy or export it again") from error
        try:
            kind, said_hw = self._find_events(h5py)
            super().__init__(path, kind=kind, size_hw=size_hw or said_hw)
        except BaseException:
            self._file.close()
            raise

    def _find_events(self, h5py: Any) -> tuple[str, tuple[int, int] | None]:
        """Set where the events are; return the layout in words, and the height and width if the file says them."""
        path, file = self.path, self._file
        self._table, self._columns = None, {}
        if "CD/events" in file:
            self._table = file["CD/events"]
            kind, found = "Metavision HDF5", self._table.dtype.names or ()
            said = re.fullmatch(r"(\d+)x(\d+)", _text(file.attrs.get("geometry", "")))
            said_hw = None if said is None else (int(said[2]), int(said[1]))
        elif "events/t" in file:
            group = file["events"]
            kind, found = "HDF5 with columns (DSEC, RVT)", list(group)
            self._columns = {name: group[name] for name in "xypt" if name in group}
            sides = [int(group[name][()]) for name in ("height", "width") if name in group]
            said_hw = (sides[0], sides[1]) if len(sides) == 2 else None
        else:
            raise EventFileError(
                f"{path}: holds {sorted(file)}, but neither 'CD/events' (Metavision) nor 'events/t' (DSEC, RVT); "
                "export its events in one of these layouts"
            )
        missing = [name for name in "xypt" if name not in found]
        if missing:
            raise EventFileError(f"{path}: its events lack {missing}; export them again")
        sources = [self._columns[name] for name in "xypt"] if self._table is None else [self._table]
        lengths = {len(source) for source in sources}
        if len(lengths) != 1:
            raise EventFileError(f"{path}: its columns have different lengths {sorted(lengths)}; export them again")
        self._length = lengths.pop()
        self._ecf = self._table is not None and _filters(self._table) == [ECF_FILTER]
        for source in () if self._ecf else sources:
            _check_filters(path, h5py, source)
        return (f"{kind}, ECF" if self._ecf else kind), said_hw

    def _blocks(self) -> Iterator[tuple[_Key, np.ndarray]]:
        # A block of compressed chunks that starts within one would unpack it twice.
        step = self._table.chunks[0] if self._ecf and self._table is not None else BLOCK_EVENTS
        for key in spans(self._length, step):
            yield key, self._decode(key)

    def _decode(self, key: _Key) -> np.ndarray:
        try:
            return self._ecf_chunk(key) if self._ecf else self._slice(key)
        except (OSError, ValueError) as error:
            raise EventFileError(
                f"{self.path}: events {key[0]} to {key[1] - 1}{self._place(key, 0)} cannot be read ({error}); "
                "copy the file again"
            ) from error

    def _slice(self, key: _Key) -> np.ndarray:
        part = slice(*key)
        stored = {name: column[part] for name, column in self._columns.items()} or self._table[part]  # pyright: ignore
        events = np.empty(key[1] - key[0], EVENT_DTYPE)
        for name in ("t", "x", "y"):
            events[name] = stored[name]
        events["p"] = stored["p"] > 0
        return events

    def _ecf_chunk(self, key: _Key) -> np.ndarray:
        assert self._table is not None
        _, data = self._table.id.read_direct_chunk((key[0],))
        events = decode_chunk(data)
        if len(events) < key[1] - key[0]:
            raise ValueError(f"the chunk holds {len(events)} events")
        # The last chunk is filled up.
        return events[: key[1] - key[0]].copy()

    def _place(self, key: _Key, index: int) -> str:
        source = self._columns["t"] if self._table is None else self._table
        if source.chunks is None:
            return "" if source.id.get_offset() is None else f" (data at byte {source.id.get_offset()})"
        start = (key[0] + index) // source.chunks[0] * source.chunks[0]
        return f" (chunk at byte {source.id.get_chunk_info_by_coord((start,)).byte_offset})"


def _filters(source: Any) -> list[int]:
    plan = source.id.get_create_plist()
    return [plan.get_filter(k)[0] for k in range(plan.get_nfilters())]


def _check_filters(path: Path, h5py: Any, source: Any) -> None:
    for number in _filters(source):
        if number >= OTHER_FILTERS and not h5py.h5z.filter_avail(number):
            needed(path, "hdf5plugin")
            if not h5py.h5z.filter_avail(number):
                raise EventFileError(
                    f"{path}: {source.name} is compressed with HDF5 filter {number}, which hdf5plugin does not bring; "
                    f"repack it (h5repack -f GZIP=1), or update: {INSTALL} --upgrade"
                )


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)

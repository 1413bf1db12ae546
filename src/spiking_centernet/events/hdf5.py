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
from spiking_centernet.events.columns import check_columns, events_of, holds_seconds
from spiking_centernet.events.ecf import decode_chunk

ECF_FILTER = 0x8ECF
MAX_COMPRESSION = 4096
"""Bytes that a stored byte may stand for; deflate reaches 1032."""
OTHER_FILTERS = 256
"""Filters numbered from here on are no part of HDF5 (its reference manual, H5Z)."""

DAMAGED = (AttributeError, KeyError, MemoryError, OSError, OverflowError, RuntimeError, TypeError, ValueError)
"""What h5py says of a file that is damaged inside; MemoryError of a chunk that was never written."""

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
            try:
                kind, said_hw = self._find_events(h5py)
            except EventFileError:
                raise
            except DAMAGED as error:
                raise EventFileError(f"{path}: is damaged inside ({error}); copy or export it again") from error
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
            said = re.fullmatch(r"(\d{1,9})x(\d{1,9})", _text(file.attrs.get("geometry", "")))
            said_hw = None if said is None else (int(said[2]), int(said[1]))
        elif "events/t" in file:
            group = file["events"]
            kind, found = "HDF5 with columns (DSEC, RVT)", list(group)
            self._columns = {name: group[name] for name in "xypt" if name in group}
            sides = [self._side(group, name) for name in ("height", "width") if name in group]
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
        if not all(isinstance(source, h5py.Dataset) for source in sources):
            raise EventFileError(f"{path}: its events are no data sets of HDF5; export them again")
        if self._table is None:
            check_columns(path, self._columns)
        elif self._table.ndim != 1 or any(self._table.dtype[name].kind not in "iufb" for name in "xypt"):
            raise EventFileError(f"{path}: CD/events is {self._table.dtype} {list(self._table.shape)}, must be flat")
        self._length = len(sources[0])
        for source in sources:
            self._check_storage(source)
        self._ecf = self._table is not None and _filters(self._table) == [ECF_FILTER]
        for source in () if self._ecf else sources:
            _check_filters(path, h5py, source)
        kind_of_t = (self._columns["t"].dtype if self._table is None else self._table.dtype["t"]).kind
        head = (0, min(self._length, BLOCK_EVENTS))
        self._in_seconds = not self._ecf and kind_of_t == "f" and holds_seconds(self._stored(head)["t"])
        return (f"{kind}, ECF" if self._ecf else kind), said_hw

    def _side(self, group: Any, name: str) -> int:
        value = np.asarray(group[name][()])
        if value.size != 1 or value.dtype.kind not in "iuf" or not 0 < value.item() <= 1 << 16:
            raise EventFileError(f"{self.path}: says {name} {str(value)[:100]}, must be one whole number; correct it")
        return int(value.item())

    def _check_storage(self, source: Any) -> None:
        """Refuse a length that nothing is stored for: HDF5 would make up zeros without end."""
        claimed, stored = len(source) * source.dtype.itemsize, source.id.get_storage_size()
        if len(source) > BLOCK_EVENTS and claimed > stored * MAX_COMPRESSION:
            raise EventFileError(
                f"{self.path}: {source.name} claims {len(source)} events in {stored} bytes; the file is damaged: copy "
                "it again"
            )

    def _blocks(self) -> Iterator[tuple[_Key, np.ndarray]]:
        # A block of compressed chunks that starts within one would unpack it twice.
        step = self._table.chunks[0] if self._ecf and self._table is not None else BLOCK_EVENTS
        for key in spans(self._length, step):
            yield key, self._decode(key)

    def _decode(self, key: _Key) -> np.ndarray:
        try:
            return self._ecf_chunk(key) if self._ecf else self._slice(key)
        except EventFileError:
            raise
        except DAMAGED as error:
            raise EventFileError(
                f"{self.path}: events {key[0]} to {key[1] - 1}{self._place(key, 0)} cannot be read ({error}); "
                "copy the file again"
            ) from error

    def _slice(self, key: _Key) -> np.ndarray:
        return events_of(self.path, self._stored(key), key[0], in_seconds=self._in_seconds)

    def _stored(self, key: _Key) -> dict[str, np.ndarray]:
        part = slice(*key)
        if self._table is None:
            return {name: column[part] for name, column in self._columns.items()}
        table = self._table[part]
        return {name: table[name] for name in "xypt"}

    def _ecf_chunk(self, key: _Key) -> np.ndarray:
        assert self._table is not None
        skipped, data = self._table.id.read_direct_chunk((key[0],))
        if skipped:  # HDF5 stores a chunk as it is where an optional filter refuses it
            rows: Any = np.frombuffer(data, self._table.dtype)
            events = events_of(self.path, {name: rows[name] for name in "xypt"}, key[0], in_seconds=False)
        else:
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
        try:
            at = source.id.get_chunk_info_by_coord((start,)).byte_offset
        except DAMAGED:  # it is an error about that chunk which asks
            at = None
        return "" if at is None else f" (chunk at byte {at})"


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

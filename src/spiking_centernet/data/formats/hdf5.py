"""HDF5 event files (``.h5``, ``.hdf5``): Metavision's table, and the layouts of ``hdf5_layouts.py``.

Metavision (https://docs.prophesee.ai/stable/data/file_formats/hdf5.html) has one table ``CD/events`` of x, y, p, t.
DSEC (https://dsec.ifi.uzh.ch/data-format/) and RVT have the columns ``events/x``, ``y``, ``t``, ``p``; RVT adds
``events/height`` and ``events/width``.

Chunks of Metavision HDF5 files in the maker's event compression (ECF, HDF5 filter 0x8ECF).

Format: what https://github.com/prophesee-ai/hdf5_ecf writes; the decoder here is our own. hdf5plugin does not bring
that filter, so a chunk's bytes are taken from the file as they are and unpacked here.

A chunk is u32 (number of events << 2 | how places are packed), then times, then places. Times: u64 of the first, then
bytes ``dt:4 count:4``; count 15 is followed by u16 count; bytes with dt 15 carry four bits each of a longer step,
lowest first. Places in one of three ways: y, x and polarity in 24 bits; y in runs, x and polarity in 12 bits; y, x and
polarity in runs.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from spiking_centernet.data._kernels import PAIRED_DTYPE
from spiking_centernet.data.formats import hdf5_layouts
from spiking_centernet.data.formats.hdf5_members import check_claims, member
from spiking_centernet.data.formats.indexed import BLOCK_EVENTS, BlockRecording, spans
from spiking_centernet.data.formats.table import Meaning, check_columns, check_options, infer_unit
from spiking_centernet.errors import EventFileError, need
from spiking_centernet.structures import EVENT_DTYPE
from spiking_centernet.utils.compile_cache import compiled

ECF_FILTER = 0x8ECF
OTHER_FILTERS = 256
"""Filters numbered from here on are no part of HDF5 (its reference manual, H5Z)."""

DAMAGED = (AttributeError, KeyError, MemoryError, OSError, OverflowError, RuntimeError, TypeError, ValueError)
"""What h5py says of a file that is damaged inside; MemoryError of a chunk that was never written."""

_Key = tuple[int, int]
"""First event and one past the last."""


class Hdf5Recording(BlockRecording):
    """An HDF5 file as a recording."""

    def __init__(
        self, path: str | os.PathLike[str], *, size_hw: tuple[int, int] | None = None, unit: str | None = None
    ):
        """Open and index an HDF5 file; see ``BlockRecording``; ``unit`` is what times are counted in, as in arrays."""
        self.path = path = Path(path)
        check_options(None, unit)
        self._unit = unit
        h5py = need("h5py", f"reading {path}", "formats")
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
        table = member(path, h5py, file, "CD/events")
        if isinstance(table, h5py.Dataset):
            self._table = table
            kind, found = "Metavision HDF5", table.dtype.names or ()
            said = re.fullmatch(r"(\d{1,9})x(\d{1,9})", _text(file.attrs.get("geometry", "")))
            said_hw = None if said is None else (int(said[2]), int(said[1]))
        else:
            kind, prefix, columns = hdf5_layouts.locate(path, h5py, file)
            self._columns, found = columns, list(columns)
            said_hw = hdf5_layouts.said_size(path, h5py, file, prefix)
        missing = [name for name in "xypt" if name not in found]
        if missing:
            raise EventFileError(f"{path}: its events lack {missing}; export them again")
        sources = [self._columns[name] for name in "xypt"] if self._table is None else [self._table]
        if not all(isinstance(source, h5py.Dataset | hdf5_layouts.Column) for source in sources):
            raise EventFileError(f"{path}: its events are no data sets of HDF5; export them again")
        if self._table is None:
            check_columns(path, self._columns)
        elif self._table.ndim != 1 or any(self._table.dtype[name].kind not in "iufb" for name in "xypt"):
            raise EventFileError(f"{path}: CD/events is {self._table.dtype} {list(self._table.shape)}, must be flat")
        self._length = len(sources[0])
        check_claims(path, sources)
        self._ecf = self._table is not None and _filters(self._table) == [ECF_FILTER]
        for source in () if self._ecf else sources:
            _check_filters(path, h5py, source)
        kind_of_t = (self._columns["t"].dtype if self._table is None else self._table.dtype["t"]).kind
        head = (0, min(self._length, BLOCK_EVENTS))
        # Whole times are microseconds in every layout.
        inferred = "us" if self._ecf or kind_of_t != "f" else infer_unit(path, self._stored(head)["t"])
        self._meaning = Meaning(path, self._unit or inferred, self._length, self._unit is not None)
        return (f"{kind}, ECF" if self._ecf else kind), said_hw

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
        return self._meaning.events(self._stored(key), key[0])

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
            events = self._meaning.events({name: rows[name] for name in "xypt"}, key[0])
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
            need("hdf5plugin", f"reading {path}", "formats")
            if not h5py.h5z.filter_avail(number):
                raise EventFileError(
                    f"{path}: {source.name} is compressed with HDF5 filter {number}, which hdf5plugin does not bring; "
                    f"repack it (h5repack -f GZIP=1), or update it: pip install --upgrade hdf5plugin"
                )


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


MAX_EVENTS = 65535
"""The most a chunk may hold."""


def decode_chunk(data: bytes) -> np.ndarray:
    """Return the events of a chunk, EVENT_DTYPE.

    Raises:
        ValueError: the bytes are no ECF chunk.
    """
    if len(data) < 12:
        raise ValueError(f"{len(data)} bytes are too few for a chunk")
    head = int.from_bytes(data[:4], "little")
    num_events = head >> 2
    if num_events > MAX_EVENTS:
        raise ValueError(f"{num_events} events are more than a chunk holds")
    events = np.empty(num_events, PAIRED_DTYPE)
    # Reading a little beyond the end is an error only if something there was needed.
    padded = np.frombuffer(data + bytes(16), np.uint8)
    used = _decode(padded, events, (head >> 1) & 1, head & 1, len(data))
    if not 0 < used <= len(data):
        raise ValueError("its runs do not add up to the number of events it states")
    return events.view(EVENT_DTYPE)


@compiled()
def _u16(data, at):
    return np.int64(data[at]) | np.int64(data[at + 1]) << 8


@compiled()
def _decode(data, out, all_packed, packed, size):
    """Fill ``out``; return the bytes used, or -1 if the runs do not fit."""
    num = len(out)
    t = np.int64(0)
    for k in range(8):
        t |= np.int64(data[4 + k]) << (8 * k)
    at, i = 12, 0
    while i < num:
        if at >= size:
            return -1
        step, count = np.int64(data[at]) >> 4, np.int64(data[at]) & 15
        at += 1
        if step == 15:
            t_more, shift = count, 4
            while at < size and data[at] >> 4 == 15:
                t_more |= (np.int64(data[at]) & 15) << shift
                shift += 4
                at += 1
            t += t_more
            continue
        t += step
        if count == 15:
            count = _u16(data, at)
            at += 2
        if count == 0 or i + count > num:
            return -1
        for _ in range(count):
            out[i].t = t
            i += 1
    if all_packed:
        return _packed24(data, out, at, size)
    at = _runs_of_y(data, out, at, size)
    if at < 0:
        return at
    if packed:
        return _packed12(data, out, at, size)
    return _runs_of_p(data, out, _masks_of_x(data, out, at, size), size)


@compiled()
def _packed24(data, out, at, size):
    """Unpack groups of four 24-bit places in three u32: y 11 bits, x 11 bits, polarity 1 bit."""
    for i in range(0, len(out), 4):
        if at >= size:
            return -1
        a = _u16(data, at) | _u16(data, at + 2) << 16
        b = _u16(data, at + 4) | _u16(data, at + 6) << 16
        c = _u16(data, at + 8) | _u16(data, at + 10) << 16
        for j in range(min(4, len(out) - i)):
            if j == 0:
                v = a >> 8
            elif j == 1:
                v = (a & 0xFF) | (b >> 16) << 8
            elif j == 2:
                v = (b & 0xFFFF) | (c >> 24) << 16
            else:
                v = c & 0xFFFFFF
            out[i + j].xy = np.uint32((v >> 1) & 2047 | ((v >> 12) & 2047) << 16)
            out[i + j].p = np.uint8(v & 1)
        at += 12
    return at


@compiled()
def _packed12(data, out, at, size):
    """Unpack groups of four 12-bit values in three u16: x 11 bits, polarity 1 bit."""
    for i in range(0, len(out), 4):
        if at >= size:
            return -1
        a, b, c = _u16(data, at), _u16(data, at + 2), _u16(data, at + 4)
        for j in range(min(4, len(out) - i)):
            if j == 0:
                v = a >> 4
            elif j == 1:
                v = (a & 15) | (b >> 8) << 4
            elif j == 2:
                v = (b & 255) | (c >> 12) << 8
            else:
                v = c & 4095
            out[i + j].xy |= np.uint32(v >> 1)
            out[i + j].p = np.uint8(v & 1)
        at += 6
    return at


@compiled()
def _runs_of_y(data, out, at, size):
    """Unpack u16 ``y:11 count:5``; count 31 is followed by u16 count."""
    i = 0
    while i < len(out):
        if at >= size:
            return -1
        v = _u16(data, at)
        count = v & 31
        at += 2
        if count == 31:
            count = _u16(data, at)
            at += 2
        if count == 0 or i + count > len(out):
            return -1
        for _ in range(count):
            out[i].xy = np.uint32((v >> 5) << 16)
            i += 1
    return at


@compiled()
def _masks_of_x(data, out, at, size):
    """Unpack u16 ``x:11 mask:5``; the mask's bits, highest first, say which of the next five columns follow."""
    i = 0
    while i < len(out):
        if at >= size:
            return -1
        v = _u16(data, at)
        at += 2
        out[i].xy |= np.uint32(v >> 5)
        i += 1
        for j in range(5):
            if v & (16 >> j) and i < len(out):
                out[i].xy |= np.uint32((v >> 5) + j + 1)
                i += 1
    return at


@compiled()
def _runs_of_p(data, out, at, size):
    """Unpack bytes ``p:1 count:7``; count 127 is followed by u16 count."""
    i = 0
    while i < len(out):
        if at < 0 or at >= size:
            return -1
        v = np.int64(data[at])
        count = v & 127
        at += 1
        if count == 127:
            count = _u16(data, at)
            at += 2
        if count == 0 or i + count > len(out):
            return -1
        for _ in range(count):
            out[i].p = np.uint8(v >> 7)
            i += 1
    return at

"""Events as columns of numbers: ``.npy``, ``.npz`` and text (``.csv``, ``.txt``).

What columns mean is the subject of ``table.py``.

N-MNIST and N-Caltech101 files (``.bin``): five bytes an event, no header.

Layout: byte 0 x, byte 1 y, then 24 bits, first the highest: polarity and 23 bits of microseconds
(https://www.garrickorchard.com/datasets/n-mnist). A row 240 is no event: it says that 2^13 microseconds are to be added
from there on.
"""

import math
import os
import tempfile
import warnings
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spiking_centernet.data.formats.hdf5_members import MAX_RATIO, SLACK_BYTES
from spiking_centernet.data.formats.indexed import BLOCK_EVENTS, BlockRecording, open_bytes, spans
from spiking_centernet.data.formats.table import (
    Meaning,
    check_columns,
    check_options,
    infer_columns,
    infer_unit,
    match_names,
    split_unit,
)
from spiking_centernet.errors import EventFileError
from spiking_centernet.structures import EVENT_DTYPE

_Key = tuple[int, int]
"""First event and one past the last."""


class ArrayRecording(BlockRecording):
    """Arrays in a ``.npy`` or ``.npz`` file as a recording; an archive is unpacked to temporary files first."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        size_hw: tuple[int, int] | None = None,
        columns: str | None = None,
        unit: str | None = None,
    ):
        """Open and index a file; see ``BlockRecording``.

        Args:
            path: the file.
            size_hw: height and width in pixels.
            columns: the order of the columns of a plain array, such as "xypt"; None infers it, see ``infer_columns``.
            unit: what times are counted in: "ns", "us", "ms" or "s"; None infers it, see ``infer_unit``.
        """
        path = Path(path)
        check_options(columns, unit)
        self._columns, said_unit = _mapped(path, size_hw, columns)
        check_columns(path, self._columns)
        is_given = unit is not None or said_unit is not None
        unit = unit or said_unit or infer_unit(path, np.asarray(self._columns["t"][:BLOCK_EVENTS]))
        self._meaning = Meaning(path, unit, len(self._columns["t"]), is_given)
        super().__init__(path, kind=f"NumPy {path.suffix.lower()}, times in {unit}", size_hw=size_hw)

    def _blocks(self) -> Iterator[tuple[_Key, np.ndarray]]:
        for key in spans(len(self._columns["t"]), BLOCK_EVENTS):
            yield key, self._decode(key)

    def _decode(self, key: _Key) -> np.ndarray:
        stored = {name: np.asarray(column[slice(*key)]) for name, column in self._columns.items()}
        return self._meaning.events(stored, key[0])


def _mapped(
    path: Path, size_hw: tuple[int, int] | None, columns: str | None
) -> tuple[dict[str, np.ndarray], str | None]:
    """Return t, x, y and p, and the unit of time that a name says."""
    with open_bytes(path):
        pass
    try:
        arrays = _archive(path) if path.suffix.lower() == ".npz" else {"": _plain(path)}
    except EventFileError:
        raise
    except Exception as error:  # numpy evaluates headers as Python text, and each way to pack has errors of its own
        told = " ".join(str(error).split())[:200] or type(error).__name__
        raise EventFileError(
            f"{path} ({path.stat().st_size} bytes) cannot be read ({told}); copy or save it again"
        ) from error
    if _has_places(arrays):
        xy = arrays["xy"]
        if xy.ndim != 2 or xy.shape[1] != 2:
            raise EventFileError(f"{path}: xy is {xy.dtype} {list(xy.shape)}, must be [N, 2] with columns and rows")
        named = {"t": arrays["t"], "x": xy[:, 0], "y": xy[:, 1], "p": arrays["p"]}
        if arrays["t"].dtype.kind not in "iu":
            return named, None
        warnings.warn(f"{path}: whole times beside an array xy are ESIM's nanoseconds", stacklevel=4)
        return {**named, "t": arrays["t"] // 1000}, "us"
    if not arrays:
        raise EventFileError(f"{path}: holds no array; save the events again")
    (array, *others) = arrays.values()
    named = arrays if others else {name: array[name] for name in array.dtype.names or ()}
    if named:
        names = match_names(path, list(named))
        return {field: named[name] for field, name in names.items()}, split_unit(names["t"])[1]
    order = columns or "txyp"
    if array.ndim != 2 or array.shape[1] != len(order):
        raise EventFileError(
            f"{path}: holds {array.dtype} {list(array.shape)}; it must be a structured array or [N, {len(order)}] with "
            f"{', '.join(order)}"
        )
    if columns is None and array.dtype.kind in "iuf":
        order = infer_columns(path, np.asarray(array[:BLOCK_EVENTS]).astype(np.float64), size_hw)
    return {letter: array[:, k] for k, letter in enumerate(order) if letter != "-"}, None


def _has_places(names: Collection[str]) -> bool:
    """Return whether an archive has its places in one array ``xy`` [N, 2], as ESIM's Python bindings write them."""
    return {"xy", "t", "p"} <= set(names) and not {"x", "y"} & set(names)


def _plain(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        return _map_npy(file, path.stat().st_size)


PACKED_BYTES = 4096
"""Packed bytes to read at a time: bzip2 makes up to 80 MB of so many, and holds them in memory."""


def _archive(path: Path) -> Mapping[str, np.ndarray]:
    """Return the arrays of an archive, each mapped from a temporary file that vanishes with it."""
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(path) as archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
        if len(members) > 1:
            # The others may be of any size, and are not looked at.
            wanted = ("t", "xy", "p") if _has_places(members) else match_names(path, list(members)).values()
            members = {name: members[name] for name in wanted}
        infos = [archive.getinfo(member) for member in members.values()]
        if (claimed := sum(info.file_size for info in infos)) > SLACK_BYTES + MAX_RATIO * path.stat().st_size:
            raise EventFileError(
                f"{path}: its arrays would unpack to {claimed} bytes, {claimed // max(1, path.stat().st_size)} times "
                "the file's size; it is damaged, or no recording"
            )
        for name, member in members.items():
            with archive.open(member) as packed, tempfile.TemporaryFile() as unpacked:
                # Read to the end, so that the archive's checksum is compared.
                size = 0
                while piece := packed.read(PACKED_BYTES):
                    size += unpacked.write(piece)
                unpacked.flush()
                unpacked.seek(0)
                arrays[name] = _map_npy(unpacked, size)
    return arrays


def _map_npy(file: Any, size: int) -> np.ndarray:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, column_major, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not loaded")
    needed, given = math.prod(shape) * dtype.itemsize, size - file.tell()
    if min(shape, default=0) < 0 or needed > given:
        raise ValueError(f"its header claims {needed} bytes of {dtype}, it holds {given}")
    if not needed:
        return np.empty(shape, dtype)
    return np.memmap(file, dtype, "r", file.tell(), shape, "F" if column_major else "C")


RECORD_BYTES = 5
OVERFLOW_ROW = 240
OVERFLOW_US = 1 << 13

_BinKey = tuple[int, int, int]
"""First record, one past the last, and the microseconds added before them."""


class BinRecording(BlockRecording):
    """A ``.bin`` file as a recording; it does not say the sensor's size (N-MNIST: 34 x 34)."""

    def __init__(self, path: str | os.PathLike[str], *, size_hw: tuple[int, int] | None = None):
        """Open and index a file; see ``BlockRecording``."""
        super().__init__(path, kind="N-MNIST .bin", size_hw=size_hw)

    def _blocks(self) -> Iterator[tuple[_BinKey, np.ndarray]]:
        with open_bytes(self.path):
            num_records, rest = divmod(self.path.stat().st_size, RECORD_BYTES)
        if rest:
            whole = num_records * RECORD_BYTES
            raise EventFileError(
                f"{self.path}: event {num_records} at byte {whole} has {rest} of {RECORD_BYTES} bytes; it is no "
                f"N-MNIST file, or was cut short: copy it again, or keep the whole events with truncate -s {whole}"
            )
        added_us = 0
        for start, stop in spans(num_records, BLOCK_EVENTS):
            key = (start, stop, added_us)
            yield key, self._decode(key)
            added_us += OVERFLOW_US * int((self._records(key)[:, 1] == OVERFLOW_ROW).sum())

    def _records(self, key: _BinKey) -> np.ndarray:
        count = (key[1] - key[0]) * RECORD_BYTES
        return np.fromfile(self.path, np.uint8, count, offset=key[0] * RECORD_BYTES).reshape(-1, RECORD_BYTES)

    def _decode(self, key: _BinKey) -> np.ndarray:
        raw = self._records(key)
        overflow = raw[:, 1] == OVERFLOW_ROW
        added_us = key[2] + OVERFLOW_US * np.cumsum(overflow)
        events = np.empty(len(raw), EVENT_DTYPE)
        high, middle, low = raw[:, 2:].T.astype(np.int64)
        events["t"] = ((high & 127) << 16 | middle << 8 | low) + added_us
        events["x"], events["y"], events["p"] = raw[:, 0], raw[:, 1], high >> 7
        return events[~overflow]

    def _place(self, key: _BinKey, index: int) -> str:
        record = np.flatnonzero(self._records(key)[:, 1] != OVERFLOW_ROW)[index]
        return f" (byte {(key[0] + int(record)) * RECORD_BYTES})"

"""Events as columns of numbers: ``.npy``, ``.npz`` and text (``.csv``, ``.txt``).

Columns go by their names, or without names in the order t, x, y, p. Whole times are microseconds, times with a
fraction seconds.

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
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spiking_centernet.data.formats.indexed import BLOCK_EVENTS, LATEST_US, BlockRecording, open_bytes, spans
from spiking_centernet.errors import EventFileError
from spiking_centernet.structures import EVENT_DTYPE

NAMES = {
    "t": ("t", "ts", "time", "timestamp", "timestamps", "t_us"),
    "x": ("x", "xs", "col", "column"),
    "y": ("y", "ys", "row"),
    "p": ("p", "ps", "pol", "polarity", "polarities", "on"),
}
"""What the four columns are called in the wild."""

_Key = tuple[int, int]
"""First event and one past the last."""


def match_names(path: Path, names: Sequence[str]) -> dict[str, str]:
    """Return which of ``names`` is t, x, y and p.

    Raises:
        EventFileError: one is missing.
    """
    by_lower = {name.strip().lower(): name for name in names}
    found = {field: next((by_lower[a] for a in NAMES[field] if a in by_lower), None) for field in NAMES}
    missing = [field for field, name in found.items() if name is None]
    if missing:
        raise EventFileError(f"{path}: has the columns {list(names)}, but none for {missing}; call them t, x, y and p")
    return {field: name for field, name in found.items() if name is not None}


def events_of(path: Path, columns: Mapping[str, np.ndarray], first: int, *, in_seconds: bool) -> np.ndarray:
    """Return columns of numbers as EVENT_DTYPE.

    Args:
        path: what to name in an error.
        columns: t, x, y and p, flat and of one length.
        first: number of their first event.
        in_seconds: times are seconds with a fraction, not whole microseconds.

    Raises:
        EventFileError: a number is no place or no time.
    """
    for field, stored in columns.items():
        values, whole = stored, np.True_
        if stored.dtype.kind == "f":
            with np.errstate(over="ignore", invalid="ignore"):  # infinity has no remainder
                values = stored.astype(np.float64)
                whole = values % 1 == 0
        if field in "xy":
            bad = ~(whole & (values >= 0) & (values < 1 << 16))
        elif field == "t":
            latest = LATEST_US * 1e-6 if in_seconds else LATEST_US
            bad = ~((values >= -latest) & (values <= latest) & (whole | in_seconds))
        else:
            bad = np.isnan(values)
        if bad.any():
            k = int(np.argmax(bad))
            raise EventFileError(
                f"{path}: event {first + k} has {field} {stored[k]}; x and y must be whole numbers from 0 to 65535, "
                "times all in seconds (with a fraction) or all whole microseconds; without names the order is "
                "t, x, y, p"
            )
    t = columns["t"]
    events = np.empty(len(t), EVENT_DTYPE)
    events["t"] = np.rint(t.astype(np.float64) * 1e6) if in_seconds else t
    events["x"], events["y"], events["p"] = columns["x"], columns["y"], columns["p"] > 0
    return events


def check_columns(path: Path, columns: Mapping[str, Any]) -> None:
    """Check that columns are flat, of numbers and of one length.

    Raises:
        EventFileError: they are not.
    """
    for field, column in columns.items():
        if column.ndim != 1 or column.dtype.kind not in "iufb":
            raise EventFileError(
                f"{path}: column {field} is {column.dtype} {list(column.shape)}, must be a flat array of numbers"
            )
    lengths = {field: len(column) for field, column in columns.items()}
    if len(set(lengths.values())) != 1:
        raise EventFileError(f"{path}: its columns have different lengths {lengths}; save them again")


def holds_seconds(t: np.ndarray) -> bool:
    """Return whether times are seconds: floats of which some have a fraction."""
    finite = t[np.isfinite(t)] if t.dtype.kind == "f" else t[:0]
    return bool((finite % 1 != 0).any())


class ArrayRecording(BlockRecording):
    """Arrays in a ``.npy`` or ``.npz`` file as a recording; an archive is unpacked to temporary files first."""

    def __init__(self, path: str | os.PathLike[str], *, size_hw: tuple[int, int] | None = None):
        """Open and index a file; see ``BlockRecording``."""
        path = Path(path)
        self._columns = _mapped(path)
        check_columns(path, self._columns)
        self._in_seconds = holds_seconds(np.asarray(self._columns["t"][:BLOCK_EVENTS]))
        super().__init__(path, kind=f"NumPy {path.suffix.lower()}", size_hw=size_hw)

    def _blocks(self) -> Iterator[tuple[_Key, np.ndarray]]:
        for key in spans(len(self._columns["t"]), BLOCK_EVENTS):
            yield key, self._decode(key)

    def _decode(self, key: _Key) -> np.ndarray:
        stored = {field: np.asarray(column[slice(*key)]) for field, column in self._columns.items()}
        return events_of(self.path, stored, key[0], in_seconds=self._in_seconds)


def _mapped(path: Path) -> dict[str, np.ndarray]:
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
        t = arrays["t"]
        if t.dtype.kind in "iu":
            warnings.warn(f"{path}: whole times beside an array xy are ESIM's nanoseconds", stacklevel=4)
            t = t // 1000
        return {"t": t, "x": xy[:, 0], "y": xy[:, 1], "p": arrays["p"]}
    if len(arrays) > 1:
        return {field: arrays[name] for field, name in match_names(path, list(arrays)).items()}
    if not arrays:
        raise EventFileError(f"{path}: holds no array; save the events again")
    (array,) = arrays.values()
    if array.dtype.names:
        return {field: array[name] for field, name in match_names(path, array.dtype.names).items()}
    if array.ndim == 2 and array.shape[1] == 4:
        return dict(zip("txyp", array.T, strict=True))
    raise EventFileError(
        f"{path}: holds {array.dtype} {list(array.shape)}; it must be a structured array or [N, 4] with t, x, y, p"
    )


def _has_places(names: Collection[str]) -> bool:
    """Return whether an archive has its places in one array ``xy`` [N, 2], as ESIM's Python bindings write them."""
    return {"xy", "t", "p"} <= set(names) and not {"x", "y"} & set(names)


def _plain(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        return _map_npy(file, path.stat().st_size)


def _archive(path: Path) -> Mapping[str, np.ndarray]:
    """Return the arrays of an archive, each mapped from a temporary file that vanishes with it."""
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(path) as archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
        if len(members) > 1:
            # The others may be of any size, and are not looked at.
            wanted = ("t", "xy", "p") if _has_places(members) else match_names(path, list(members)).values()
            members = {name: members[name] for name in wanted}
        for name, member in members.items():
            with archive.open(member) as packed, tempfile.TemporaryFile() as unpacked:
                # Read to the end, so that the archive's checksum is compared.
                size = 0
                while piece := packed.read(1 << 20):
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

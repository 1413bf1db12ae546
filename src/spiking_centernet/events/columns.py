"""Events as columns of numbers: ``.npy``, ``.npz`` and text (``.csv``, ``.txt``).

Columns go by their names, or without names in the order t, x, y, p. Whole times are microseconds, times with a
fraction seconds.
"""

import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spiking_centernet.errors import EventFileError
from spiking_centernet.events.blocks import BLOCK_EVENTS, BlockRecording, open_bytes, spans
from spiking_centernet.types import EVENT_DTYPE

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


class ArrayRecording(BlockRecording):
    """Arrays in a ``.npy`` or ``.npz`` file as a recording; an archive is unpacked to temporary files first."""

    def __init__(self, path: str | os.PathLike[str], *, size_hw: tuple[int, int] | None = None):
        """Open and index a file; see ``BlockRecording``."""
        path = Path(path)
        self._columns = _mapped(path)
        lengths = {field: len(column) for field, column in self._columns.items()}
        if len(set(lengths.values())) != 1:
            raise EventFileError(f"{path}: its columns have different lengths {lengths}; save them again")
        for field, column in self._columns.items():
            if column.ndim != 1 or column.dtype.kind not in "iufb":
                raise EventFileError(
                    f"{path}: column {field} is {column.dtype} {list(column.shape)}, must be a flat array of numbers"
                )
        head = np.asarray(self._columns["t"][:BLOCK_EVENTS])
        self._in_seconds = head.dtype.kind == "f" and bool((head % 1 != 0).any())
        super().__init__(path, kind=f"NumPy {path.suffix.lower()}", size_hw=size_hw)

    def _blocks(self) -> Iterator[tuple[_Key, np.ndarray]]:
        for key in spans(len(self._columns["t"]), BLOCK_EVENTS):
            yield key, self._decode(key)

    def _decode(self, key: _Key) -> np.ndarray:
        stored = {field: np.asarray(column[slice(*key)]) for field, column in self._columns.items()}
        for field, values in stored.items():
            bad = ~np.isfinite(values) if values.dtype.kind == "f" else np.zeros(len(values), bool)
            if field in "xy":
                bad |= (values < 0) | (values >= 1 << 16) | (values % 1 != 0)
            elif field == "t" and values.dtype.kind == "f" and not self._in_seconds:
                bad |= values % 1 != 0
            if bad.any():
                k = int(np.argmax(bad))
                raise EventFileError(
                    f"{self.path}: event {key[0] + k} has {field} {values[k]}; x and y must be whole numbers from 0, "
                    "times all in seconds (with a fraction) or all whole microseconds; without names the order is "
                    "t, x, y, p"
                )
        t = stored["t"]
        events = np.empty(key[1] - key[0], EVENT_DTYPE)
        events["t"] = np.rint(t.astype(np.float64) * 1e6) if self._in_seconds else t
        events["x"], events["y"], events["p"] = stored["x"], stored["y"], stored["p"] > 0
        return events


def _mapped(path: Path) -> dict[str, np.ndarray]:
    with open_bytes(path):
        pass
    try:
        arrays = _archive(path) if path.suffix.lower() == ".npz" else {"": np.load(path, mmap_mode="r")}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise EventFileError(
            f"{path} ({path.stat().st_size} bytes) cannot be read ({error}); copy or save it again"
        ) from error
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


def _archive(path: Path) -> Mapping[str, np.ndarray]:
    """Return the arrays of an archive, each mapped from a temporary file that vanishes with it."""
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                continue
            with archive.open(member) as packed, tempfile.TemporaryFile() as unpacked:
                # Read to the end, so that the archive's checksum is compared.
                while piece := packed.read(1 << 20):
                    unpacked.write(piece)
                unpacked.flush()
                unpacked.seek(0)
                arrays[member.filename.removesuffix(".npy")] = _map_npy(unpacked)
    return arrays


def _map_npy(file: Any) -> np.ndarray:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, column_major, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not loaded")
    if not np.prod(shape):
        return np.empty(shape, dtype)
    return np.memmap(file, dtype, "r", file.tell(), shape, "F" if column_major else "C")

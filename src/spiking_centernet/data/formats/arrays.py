"""Events as arrays of numbers in memory, in ``.npy`` and ``.npz``, and the ``.bin`` files of N-MNIST.

What columns mean is the subject of ``table.py``, text that of ``text.py``.

N-MNIST and N-Caltech101 files (``.bin``): five bytes per event, no header.

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

from spiking_centernet.data.formats.columns import ColumnRecording
from spiking_centernet.data.formats.hdf5_members import MAX_RATIO, SLACK_BYTES
from spiking_centernet.data.formats.indexed import BLOCK_EVENTS, BlockRecording, open_bytes, spans
from spiking_centernet.data.formats.table import (
    Meaning,
    check_columns,
    check_options,
    infer_columns,
    match_names,
    split_unit,
)
from spiking_centernet.errors import ConfigError, EventFileError, one_line
from spiking_centernet.structures import EVENT_DTYPE


class ArrayRecording(ColumnRecording):
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
            size_hw: height and width in pixels; None takes an archive's array ``size_hw``, if there is one.
            columns: the order of the columns of a plain array, such as "xypt"; None infers it, see ``infer_columns``.
            unit: what times are counted in: "ns", "us", "ms" or "s"; None infers it, see ``infer_unit``.
        """
        path = Path(path)
        check_options(columns, unit)
        matched, named_unit = _mapped(path, size_hw, columns)
        size_hw = size_hw or _stored_size(path)
        kind = f"NumPy {path.suffix.lower()}"
        super().__init__(path, matched, kind=kind, size_hw=size_hw, unit=unit or named_unit, own_clock=False)
        self.kind = f"{kind}, times in {self.unit}"


EVENTS = Path("events")
"""What messages call events in memory, which have no file."""


def open_events(
    events: Any, *, size_hw: tuple[int, int] | None = None, columns: str | None = None, unit: str | None = None
) -> ColumnRecording:
    """Return events in memory as a recording; the arrays are read where they lie, not copied.

    Args:
        events: a structured array; [N, 4] with a column each for t, x, y and p, in any order that is said or can be
            inferred; a mapping or a table (pandas) of named columns; or a tuple of four flat arrays. Tensors count as
            arrays. Polarity is 0 and 1, -1 and 1, or False and True.
        size_hw: height and width of the sensor in pixels; None takes the smallest that holds the events.
        columns: the order of columns without names, such as "xypt"; None infers it where only one is possible.
        unit: what times are counted in: "ns", "us", "ms" or "s"; None takes it from the name, or infers it where only
            one is possible.

    Raises:
        EventFileError: they are no events, or can be read in more than one way.
        ConfigError: an option is written wrong, or this is nothing to read events from.
    """
    check_options(columns, unit)
    matched, named_unit = _columns_in_memory(events, size_hw, columns)
    return ColumnRecording(
        EVENTS, matched, kind="events in memory", size_hw=size_hw, unit=unit or named_unit, own_clock=False
    )


def packet_events(events: Any, *, columns: str | None = None, unit: str | None = None) -> np.ndarray:
    """Return one packet of a stream as EVENT_DTYPE: too few events to infer what they mean.

    Args:
        events: as :func:`open_events`.
        columns: the order of columns without names; they need it.
        unit: what times are counted in; None takes it from the name, or whole numbers as microseconds.

    Raises:
        EventFileError: they are no events.
        ConfigError: ``columns`` or ``unit`` is missing.
    """
    check_options(columns, unit)
    has_names = isinstance(events, Mapping) or hasattr(events, "columns") or as_array(events).dtype.names
    if not has_names and columns is None:
        raise ConfigError(
            f"{EVENTS}: a packet {list(as_array(events).shape)} whose columns have no names; say them: columns='txyp'"
        )
    matched, named_unit = _columns_in_memory(events, None, columns)
    check_columns(EVENTS, matched)
    unit = unit or named_unit
    if unit is None and matched["t"].dtype.kind == "f":
        raise ConfigError(f'{EVENTS}: the times of packets are {matched["t"].dtype}; say what they count: unit="s"')
    return Meaning(EVENTS, unit or "us", 0, is_given=True).events(matched, 0)


def _columns_in_memory(
    events: Any, size_hw: tuple[int, int] | None, columns: str | None
) -> tuple[dict[str, np.ndarray], str | None]:
    if hasattr(events, "columns") and hasattr(events, "to_numpy"):
        events = {str(name): events[name].to_numpy() for name in events.columns}
    if isinstance(events, Mapping):
        arrays = {str(name): as_array(values) for name, values in events.items()}
        if len(arrays) < 2:
            raise EventFileError(f"{EVENTS}: a mapping of {list(arrays)}; give the columns t, x, y and p")
    elif isinstance(events, tuple) and len(events) == 4:
        parts = [as_array(part) for part in events]
        check_columns(EVENTS, dict(zip("0123", parts, strict=True)))
        head = np.stack([part[:BLOCK_EVENTS].astype(np.float64) for part in parts], axis=1)
        order = columns or infer_columns(EVENTS, head, size_hw)
        arrays = dict(zip(order, parts, strict=True))
    else:
        arrays = {"": as_array(events)}
    return _columns(EVENTS, arrays, size_hw, columns)


def as_array(values: Any) -> np.ndarray:
    """Return an array, tensor or sequence of numbers as an array.

    Raises:
        ConfigError: it is none.
    """
    if hasattr(values, "detach"):  # a tensor, on whatever device
        values = values.detach().cpu().numpy()
    if not isinstance(values, np.ndarray) and isinstance(values, str | bytes | int | float):
        raise ConfigError(f"events must be arrays of numbers, got {type(values).__name__}")
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"events must be arrays of numbers ({error})") from error
    if array.dtype.hasobject:
        raise ConfigError(f"events must be arrays of numbers, got {type(values).__name__} of Python objects")
    return array


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
        raise EventFileError(
            f"{path} ({path.stat().st_size} bytes) cannot be read ({one_line(error)}); copy or save it again"
        ) from error
    return _columns(path, arrays, size_hw, columns)


def _columns(
    path: Path, arrays: Mapping[str, np.ndarray], size_hw: tuple[int, int] | None, columns: str | None
) -> tuple[dict[str, np.ndarray], str | None]:
    """Return t, x, y and p of arrays by name, and the unit of time that a name says; "" is an array without a name."""
    if _has_places(arrays):
        xy = arrays["xy"]
        if xy.ndim != 2 or xy.shape[1] != 2:
            raise EventFileError(f"{path}: xy is {xy.dtype} {list(xy.shape)}, must be [N, 2] with columns and rows")
        named = {"t": arrays["t"], "x": xy[:, 0], "y": xy[:, 1], "p": arrays["p"]}
        if arrays["t"].dtype.kind not in "iu":
            return named, None
        warnings.warn(f"{path}: whole times next to an array xy are ESIM's nanoseconds", stacklevel=4)
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
        turned = array.ndim == 2 and array.shape[0] == len(order)
        raise EventFileError(
            f"{path}: holds {array.dtype} {list(array.shape)}; it must be a structured array or [N, {len(order)}] with "
            f"{', '.join(order)}" + ("; transpose it" if turned else "")
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


def _stored_size(path: Path) -> tuple[int, int] | None:
    """Return height and width that an archive holds as its array ``size_hw``, None where it does not."""
    if path.suffix.lower() != ".npz":
        return None
    with zipfile.ZipFile(path) as archive:
        if "size_hw.npy" not in archive.namelist() or archive.getinfo("size_hw.npy").file_size > SIZE_BYTES:
            return None
        with archive.open("size_hw.npy") as file:
            size_hw = np.lib.format.read_array(file, allow_pickle=False)
    if size_hw.shape != (2,) or size_hw.dtype.kind not in "iu":
        raise EventFileError(
            f"{path}: its size_hw is {size_hw.dtype} {list(size_hw.shape)}; it must be height and width in pixels"
        )
    return int(size_hw[0]), int(size_hw[1])


SIZE_BYTES = 4096
"""Two numbers and a header take 144 bytes; what is longer is no ``size_hw``."""

PACKED_BYTES = 4096
"""Packed bytes to read at a time: bzip2 makes up to 80 MB of this many, and holds them in memory."""


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

"""AEDAT 2.0 and 3.1 files (``.aedat``), as jAER and cAER write them.

The first line says the version. AEDAT 2.0 (jAER's page "AER Data File Formats") holds pairs of a 32-bit address and a
32-bit time in microseconds, big-endian; what an address means depends on the camera, whose class stands in the header
line ``# AEChip:``. AEDAT 3.1 (iniVation's page "AEDAT file formats") holds little-endian packets of events.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from spiking_centernet.data.formats.aedat4 import Aedat4Recording
from spiking_centernet.data.formats.indexed import BLOCK_EVENTS, BlockRecording, open_bytes, spans
from spiking_centernet.data.recording import Recording
from spiking_centernet.errors import EventFileError
from spiking_centernet.structures import EVENT_DTYPE

MAX_HEADER_BYTES = 1 << 22
"""jAER writes its whole configuration into the header, tens of kilobytes of XML."""


@dataclass(frozen=True)
class Camera:
    """How a camera's AEDAT 2.0 addresses are packed.

    Columns and rows count from the right and from the bottom, as in jAER's ``DVS128.java`` and
    ``DavisBaseCamera.java``; the reader turns them round, so that row 0 is the top of the picture.

    Attributes:
        name: of the camera.
        size_hw: height and width in pixels.
        x_shift: lowest bit of the column.
        x_mask: the column's bits, moved down.
        y_shift: lowest bit of the row.
        y_mask: the row's bits, moved down.
        polarity_bit: the bit that says brighter or darker.
        on: its value for brighter.
        other_mask: an address with one of these bits is no change of brightness (frames, inertia, triggers).
    """

    name: str
    size_hw: tuple[int, int]
    x_shift: int
    x_mask: int
    y_shift: int
    y_mask: int
    polarity_bit: int
    on: int
    other_mask: int


def _davis(name: str, size_hw: tuple[int, int]) -> Camera:
    return Camera(name, size_hw, 12, 0x3FF, 22, 0x1FF, 11, 1, 1 << 31 | 1 << 10)


CAMERAS = {
    r"DVS128|Tmpdiff128": Camera("DVS128", (128, 128), 1, 0x7F, 8, 0x7F, 0, 0, 0xFFFF8000),
    r"DAVIS240|SBRet10": _davis("DAVIS240", (180, 240)),
    r"DAVIS346": _davis("DAVIS346", (260, 346)),
    r"DAVISRGB640|DAVIS640": _davis("DAVIS640", (480, 640)),
}
"""What the class of the chip contains -> how its addresses are packed."""


def open_aedat(path: str | os.PathLike[str], *, size_hw: tuple[int, int] | None = None) -> Recording:
    """Open an AEDAT file of any version that its first line names.

    Raises:
        EventFileError: the version is unknown or has another order of bits, or see ``Recording``.
    """
    path = Path(path)
    with open_bytes(path) as file:
        first = file.readline(64)
    said = re.match(rb"#!AER-DAT(\d\.\d)", first)
    if said is None:
        raise EventFileError(
            f"{path}: does not start with '#!AER-DAT' and a version; it is damaged or of another format"
        )
    version = said[1].decode()
    readers = {"2.0": Aedat2Recording, "3.1": Aedat3Recording, "4.0": Aedat4Recording}
    if version not in readers:
        raise EventFileError(
            f"{path}: is AEDAT {version}; known: {', '.join(readers)}. Convert it with jAER or DV (File, Export)"
        )
    return readers[version](path, size_hw=size_hw)


def _header(path: Path) -> tuple[list[str], int]:
    """Return the lines that start with # and the offset of the first byte behind them."""
    lines: list[str] = []
    with open_bytes(path) as file:
        offset = 0
        while (line := file.readline(1 << 16)).startswith(b"#"):
            if not line.endswith(b"\n"):
                raise EventFileError(f"{path}: the header line at byte {offset} is cut short; copy the file again")
            offset += len(line)
            if offset > MAX_HEADER_BYTES:
                raise EventFileError(
                    f"{path}: the header continues beyond byte {MAX_HEADER_BYTES}; copy the file again"
                )
            lines.append(line.decode("latin-1").strip())
            if lines[-1].startswith("#!END-HEADER"):
                break
    return lines, offset


class Aedat2Recording(BlockRecording):
    """An AEDAT 2.0 file as a recording; its clock is moved to 0 at the first event."""

    RECORD = np.dtype([("address", ">u4"), ("t", ">i4")])

    def __init__(self, path: str | os.PathLike[str], *, size_hw: tuple[int, int] | None = None):
        """Open and index a file.

        Args:
            path: the file.
            size_hw: height and width in pixels; where the header names no known camera it chooses the camera.

        Raises:
            EventFileError: the camera is unknown, or see ``BlockRecording``.
        """
        self.path = path = Path(path)
        lines, self._offset = _header(path)
        self.camera = self._camera(lines, size_hw)
        height, width = self.camera.size_hw
        if size_hw is not None and tuple(size_hw) != self.camera.size_hw:
            raise EventFileError(
                f"{path}: was recorded by a {self.camera.name}, which has {width} x {height} pixels, not "
                f"{size_hw[1]} x {size_hw[0]}; leave size_hw out"
            )
        num_bytes = path.stat().st_size - self._offset
        self._num_records, rest = divmod(num_bytes, self.RECORD.itemsize)
        if rest:
            whole = self._offset + self._num_records * self.RECORD.itemsize
            raise EventFileError(
                f"{path}: the record at byte {whole} has {rest} of {self.RECORD.itemsize} bytes; the copy was cut "
                f"short: copy it again, or keep the whole records with truncate -s {whole}"
            )
        super().__init__(path, kind=f"AEDAT 2.0, {self.camera.name}", size_hw=self.camera.size_hw, own_clock=True)

    def _camera(self, lines: list[str], size_hw: tuple[int, int] | None) -> Camera:
        chips = [line.partition("AEChip:")[2].strip() for line in lines if "AEChip:" in line]
        for pattern, camera in CAMERAS.items():
            if any(re.search(pattern, chip, re.IGNORECASE) for chip in chips):
                return camera
        by_size: dict[tuple[int, ...], Camera] = {camera.size_hw: camera for camera in CAMERAS.values()}
        if size_hw is not None and tuple(size_hw) in by_size:
            return by_size[tuple(size_hw)]
        known = ", ".join(f"{c.size_hw[1]}x{c.size_hw[0]} ({c.name})" for c in CAMERAS.values())
        said = f"names the chip {chips[0]!r}, whose addresses are unknown" if chips else "does not name its camera"
        raise EventFileError(f"{self.path}: the header {said}; say which it is by its size_hw, width x height: {known}")

    def _blocks(self) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        for key in spans(self._num_records, BLOCK_EVENTS):
            yield key, self._decode(key)

    def _records(self, key: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return a block's records, and which of them are changes of brightness."""
        at = self._offset + key[0] * self.RECORD.itemsize
        records = np.fromfile(self.path, self.RECORD, key[1] - key[0], offset=at)
        return records, records["address"] & np.uint32(self.camera.other_mask) == 0

    def _decode(self, key: tuple[int, int]) -> np.ndarray:
        camera = self.camera
        records, changes = self._records(key)
        address = records["address"][changes].astype(np.uint32)
        x, y = address >> camera.x_shift & camera.x_mask, address >> camera.y_shift & camera.y_mask
        events = np.empty(len(address), EVENT_DTYPE)
        events["t"] = records["t"][changes]
        # What lies outside wraps to a large number, which the index refuses.
        events["x"], events["y"] = (
            camera.size_hw[1] - 1 - x.astype(np.int64),
            camera.size_hw[0] - 1 - y.astype(np.int64),
        )
        events["p"] = (address >> camera.polarity_bit & 1) == camera.on
        return events

    def _place(self, key: tuple[int, int], index: int) -> str:
        record = key[0] + int(np.flatnonzero(self._records(key)[1])[index])
        return f" (byte {self._offset + record * self.RECORD.itemsize})"


class Aedat3Recording(BlockRecording):
    """An AEDAT 3.1 file as a recording; times are those stored, because label files use the same clock."""

    HEADER = np.dtype(
        [("type", "<i2"), ("source", "<i2"), ("size", "<i4"), ("ts_offset", "<i4"), ("overflow", "<i4"),
         ("capacity", "<i4"), ("number", "<i4"), ("valid", "<i4")]
    )  # fmt: skip
    POLARITY = 1
    SIZES: ClassVar = {"DVS128": (128, 128), "DAVIS240": (180, 240), "DAVIS346": (260, 346), "DAVIS640": (480, 640)}
    """Start of the name in ``#Source 1: NAME`` -> height and width in pixels."""

    def __init__(self, path: str | os.PathLike[str], *, size_hw: tuple[int, int] | None = None):
        """Open and index a file; see ``BlockRecording``."""
        self.path = path = Path(path)
        lines, self._offset = _header(path)
        if not lines or not lines[-1].startswith("#!END-HEADER"):
            raise EventFileError(f"{path}: the header ends at byte {self._offset} without #!END-HEADER; copy it again")
        names = [line.partition(":")[2].strip().upper() for line in lines if line.startswith("#Source")]
        said_hw = next((hw for name in names for start, hw in self.SIZES.items() if name.startswith(start)), None)
        super().__init__(path, kind="AEDAT 3.1", size_hw=size_hw or said_hw)

    def _blocks(self) -> Iterator[tuple[tuple[int, int, int, int], np.ndarray]]:
        end, at = self.path.stat().st_size, self._offset
        with open_bytes(self.path) as file:
            while at < end:
                file.seek(at)
                raw = file.read(self.HEADER.itemsize)
                if len(raw) < self.HEADER.itemsize:
                    raise EventFileError(
                        f"{self.path}: the packet header at byte {at} has {len(raw)} of {self.HEADER.itemsize} bytes; "
                        f"copy the file again, or keep the whole packets with truncate -s {at}"
                    )
                head = np.frombuffer(raw, self.HEADER)[0]
                size, capacity, number, valid = (int(head[n]) for n in ("size", "capacity", "number", "valid"))
                data = at + self.HEADER.itemsize
                stop = data + capacity * size
                polarity = int(head["type"]) == self.POLARITY
                if min(size, capacity, number, valid) < 0 or not valid <= number <= capacity or (polarity and size < 8):
                    raise EventFileError(
                        f"{self.path}: the packet header at byte {at} says {valid} valid of {number} events in room "
                        f"for {capacity}, {size} bytes each, which cannot be; the file is damaged: copy it again"
                    )
                if stop > end:
                    raise EventFileError(
                        f"{self.path}: the packet at byte {at} ends at byte {stop}, the file at byte {end}; copy it "
                        f"again, or keep the whole packets with truncate -s {at}"
                    )
                if polarity and valid:
                    for first, last in spans(number, BLOCK_EVENTS):
                        key = (data + first * size, last - first, size, int(head["overflow"]))
                        yield key, self._decode(key)
                at = stop

    def _stored(self, key: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return a block's rows of (data, time), and which of them are valid."""
        offset, count, size, _ = key
        rows = np.fromfile(self.path, np.uint8, count * size, offset=offset).reshape(count, size)
        pairs = np.ascontiguousarray(rows[:, :8]).view("<u4")
        return pairs, pairs[:, 0] & 1 == 1

    def _decode(self, key: tuple[int, int, int, int]) -> np.ndarray:
        pairs, valid = self._stored(key)
        data, t = pairs[valid].T
        events = np.empty(len(data), EVENT_DTYPE)
        events["t"] = t.astype(np.int64) + (key[3] << 31)
        events["x"], events["y"], events["p"] = data >> 17, data >> 2 & 0x7FFF, data >> 1 & 1
        return events

    def _place(self, key: tuple[int, int, int, int], index: int) -> str:
        return f" (byte {key[0] + int(np.flatnonzero(self._stored(key)[1])[index]) * key[2]})"

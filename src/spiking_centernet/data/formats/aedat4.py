"""AEDAT4 files of iniVation's cameras (``.aedat4``).

Layout: https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-4.0.html. Only what holds events
is read. The few flatbuffer fields are taken apart here, because windows need packets at any place of the file.
"""

import os
import struct
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spiking_centernet.data.formats.indexed import BlockRecording, open_bytes
from spiking_centernet.data.formats.timeline import WRONG_PLACE
from spiking_centernet.errors import EventFileError, need
from spiking_centernet.structures import EVENT_DTYPE

MAGIC = b"#!AER-DAT4.0\r\n"
EVENT_STRUCT = np.dtype(
    {"names": ["t", "x", "y", "on"], "formats": ["<i8", "<i2", "<i2", "u1"], "offsets": [0, 8, 10, 12], "itemsize": 16}
)
"""An event as a packet stores it (``event.fbs`` of dv-processing)."""
MAX_PACKET_BYTES = 1 << 26
"""4 million events in a packet; a camera writes some thousands."""
MAX_WINDOW_BYTES = 1 << 27
"""Memory that Zstandard may ask for to unpack a packet."""
MAX_RATIO = 100
"""How many times its size a packet may unpack to, beyond the first megabyte; events reach ten."""
COMPRESSIONS = {0: "", 1: "lz4.frame", 2: "lz4.frame", 3: "zstandard", 4: "zstandard"}
"""The header's number -> the module that unpacks a packet."""


@dataclass(frozen=True)
class _Key:
    """A packet's content."""

    offset: int
    num_bytes: int


class Aedat4Recording(BlockRecording):
    """An AEDAT4 file as a recording; its clock, which is Unix time, is moved to 0 at the first event."""

    def __init__(self, path: str | os.PathLike[str], *, size_hw: tuple[int, int] | None = None):
        """Open and index an AEDAT4 file; see ``BlockRecording``."""
        path = Path(path)
        with open_bytes(path) as file:
            start = file.read(len(MAGIC) + 4)
            if start[: len(MAGIC)] != MAGIC:
                raise EventFileError(f"{path}: does not begin with '#!AER-DAT4.0'; it is of another format, or damaged")
            num_bytes, size = int.from_bytes(start[len(MAGIC) :], "little"), path.stat().st_size
            if len(start) < len(MAGIC) + 4 or size < len(start) + num_bytes:
                raise EventFileError(f"{path}: ends at byte {size}, inside its header; copy or record it again")
            header = file.read(num_bytes)
        self._data_offset = len(MAGIC) + 4 + num_bytes
        try:
            fields = _fields(header)
            number = 0 if fields[0] is None else struct.unpack_from("<i", header, fields[0])[0]
            # Where a table of the packets begins and the packets end; -1 if there is none.
            self._table = -1 if fields[1] is None else struct.unpack_from("<q", header, fields[1])[0]
            if fields[2] is None:
                raise ValueError("it does not describe its streams")
            at = fields[2] + struct.unpack_from("<I", header, fields[2])[0]
            text = header[at + 4 : at + 4 + struct.unpack_from("<I", header, at)[0]]
            self._stream, said_hw = _event_stream(text.decode())
        except (struct.error, IndexError, ValueError, ElementTree.ParseError) as error:
            raise EventFileError(
                f"{path}: its header at byte {len(MAGIC)} cannot be read ({error}); copy it again"
            ) from error
        if 0 <= self._table < self._data_offset:
            raise EventFileError(
                f"{path}: says that its packets end at byte {self._table}, before they begin; copy it again"
            )
        if self._stream < 0:
            raise EventFileError(f"{path}: holds no stream of events (EVTS); record the camera's events too")
        if number not in COMPRESSIONS:
            raise EventFileError(f"{path}: compression {number} is unknown, known: {list(COMPRESSIONS)}")
        self._unpacker = need(COMPRESSIONS[number], f"reading {path}", "formats") if number else None
        super().__init__(path, kind="AEDAT4", size_hw=size_hw or said_hw, own_clock=True)

    def _blocks(self) -> Iterator[tuple[_Key, np.ndarray]]:
        size = self.path.stat().st_size
        end = self._table if 0 <= self._table <= size else size
        if self._table > size:
            warnings.warn(
                f"{self.path}: ends at byte {size}, before its table of packets at byte {self._table}: the copy was "
                "cut short, and the end of the recording is missing",
                stacklevel=6,
            )
        offset = self._data_offset
        with self.path.open("rb") as file:
            while offset < end:
                file.seek(offset)
                head = file.read(8)
                num_bytes = struct.unpack_from("<i", head, 4)[0] if len(head) == 8 else 0
                if len(head) < 8 or offset + 8 + num_bytes > end:
                    raise EventFileError(
                        f"{self.path}: the packet at byte {offset} extends beyond the end at byte {end}; the copy "
                        f"was cut short: copy it again, or keep the whole packets with truncate -s {offset}"
                    )
                if num_bytes <= 0:
                    raise EventFileError(f"{self.path}: the packet at byte {offset} is damaged; copy the file again")
                if struct.unpack_from("<i", head)[0] == self._stream:
                    key = _Key(offset + 8, num_bytes)
                    yield key, self._decode(key)
                offset += 8 + num_bytes

    def _decode(self, key: _Key) -> np.ndarray:
        with self.path.open("rb") as file:
            file.seek(key.offset)
            data = file.read(key.num_bytes)
        try:
            stored = _elements(self._unpack(data))
        except Exception as error:  # each unpacker has errors of its own
            raise EventFileError(
                f"{self.path}: the packet at byte {key.offset - 8} is damaged ({error}); copy the file again"
            ) from error
        beyond = (stored["x"] < 0) | (stored["y"] < 0)
        events = np.empty(len(stored), EVENT_DTYPE)
        events["t"], events["x"], events["y"], events["p"] = stored["t"], stored["x"], stored["y"], stored["on"] != 0
        events["x"][beyond] = events["y"][beyond] = WRONG_PLACE
        return events

    def _unpack(self, data: bytes) -> bytes:
        if self._unpacker is None:
            return data
        most = min(MAX_PACKET_BYTES, (1 << 20) + MAX_RATIO * len(data))
        if self._unpacker.__name__ == "zstandard":
            unpacked = bytearray()
            unpacker = self._unpacker.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
            with unpacker.stream_reader(data) as reader:
                while len(unpacked) <= most and (piece := reader.read(1 << 16)):
                    unpacked += piece
        else:
            unpacked = self._unpacker.LZ4FrameDecompressor().decompress(data, most + 1)
        if len(unpacked) > most:
            raise ValueError(f"it unpacks to more than {most} bytes")
        return bytes(unpacked)

    def _place(self, key: _Key, index: int) -> str:
        return f" (number {index} of the packet at byte {key.offset - 8})"


def _fields(buffer: bytes, start: int = 0) -> list[int | None]:
    """Return where the fields of a flatbuffer's root table lie, None for absent ones (at least three entries)."""
    root = start + struct.unpack_from("<I", buffer, start)[0]
    directory = root - struct.unpack_from("<i", buffer, root)[0]
    count = (struct.unpack_from("<H", buffer, directory)[0] - 4) // 2
    offsets = struct.unpack_from(f"<{count}H", buffer, directory + 4)
    return [root + offset if offset else None for offset in offsets] + [None] * (3 - count)


def _elements(packet: bytes) -> np.ndarray:
    """Return the events of an unpacked packet, EVENT_STRUCT; a packet is a flatbuffer after its length."""
    if packet[8:12] != b"EVTS":
        raise ValueError(f"holds {packet[8:12]!r} instead of events")
    at = _fields(packet, 4)[0]
    if at is None:
        return np.empty(0, EVENT_STRUCT)
    vector = at + struct.unpack_from("<I", packet, at)[0]
    count = struct.unpack_from("<I", packet, vector)[0]
    return np.frombuffer(packet, EVENT_STRUCT, count, vector + 4)


def _event_stream(text: str) -> tuple[int, tuple[int, int] | None]:
    """Return the number of the first stream of events (-1 if none), and its height and width."""
    if "<!" in text:
        raise ValueError("it declares a document type, which no camera writes")  # its entities may nest without end
    for node in ElementTree.fromstring(text).findall("./node[@name='outInfo']/node"):
        if node.findtext("attr[@key='typeIdentifier']") == "EVTS":
            width, height = (node.findtext(f"node[@name='info']/attr[@key='{key}']") for key in ("sizeX", "sizeY"))
            return int(node.get("name", -1)), (int(height), int(width)) if height and width else None
    return -1, None

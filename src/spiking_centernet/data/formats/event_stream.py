"""Event Stream files (``.es``), version 2: DVS and ATIS events.

Layout: https://github.com/neuromorphic-paris/event_stream. "Event Stream", three bytes of version, a byte for the kind
of events, width and height (u16 each); then events of five bytes, whose first holds the time since the event before,
and single bytes that let more time pass. Rows are taken as they are stored: the specification does not say whether they
count from the top.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from spiking_centernet.data._kernels import PAIRED_DTYPE
from spiking_centernet.data.formats.indexed import BlockRecording, open_bytes
from spiking_centernet.errors import EventFileError
from spiking_centernet.structures import EVENT_DTYPE
from spiking_centernet.utils.compile_cache import compiled

MAGIC = b"Event Stream"
HEADER_BYTES = 20
EVENT_BYTES = 5
BLOCK_BYTES = 1 << 19
KINDS = {0: "generic", 1: "DVS", 2: "ATIS", 3: "display", 4: "color"}
DVS, ATIS = 1, 2

_Key = tuple[int, int, int]
"""Offset of a block, its bytes, and the time before it in microseconds."""


class EventStreamRecording(BlockRecording):
    """An ``.es`` file as a recording."""

    def __init__(self, path: str | os.PathLike[str], *, size_hw: tuple[int, int] | None = None):
        """Open and index a file; see ``BlockRecording``."""
        self.path = path = Path(path)
        with open_bytes(path) as file:
            head = file.read(HEADER_BYTES)
        if not head.startswith(MAGIC) or len(head) < HEADER_BYTES:
            raise EventFileError(f"{path}: does not start with the {HEADER_BYTES} bytes of an Event Stream file")
        version, self._kind = head[12:15], head[15]
        if version[0] != 2 or self._kind not in (DVS, ATIS):
            raise EventFileError(
                f"{path}: is Event Stream {'.'.join(map(str, version))} with "
                f"{KINDS.get(self._kind, f'unknown ({self._kind})')} events; known: version 2 with DVS or ATIS events"
            )
        width, height = (int(side) for side in np.frombuffer(head[16:20], "<u2"))
        kind = f"Event Stream {'.'.join(map(str, version))}, {KINDS[self._kind]}"
        super().__init__(path, kind=kind, size_hw=size_hw or (height, width))

    def _blocks(self) -> Iterator[tuple[_Key, np.ndarray]]:
        at, end, t_us = HEADER_BYTES, self.path.stat().st_size, 0
        while at < end:
            key = (at, min(BLOCK_BYTES, end - at), t_us)
            events, used, t_us = self._unpack(key)
            if not used:
                raise EventFileError(
                    f"{self.path}: the event at byte {at} has {end - at} of {EVENT_BYTES} bytes; copy the file again, "
                    f"or keep the whole events with truncate -s {at}"
                )
            yield (at, used, key[2]), events
            at += used

    def _decode(self, key: _Key) -> np.ndarray:
        return self._unpack(key)[0]

    def _unpack(self, key: _Key) -> tuple[np.ndarray, int, int]:
        raw = np.fromfile(self.path, np.uint8, key[1], offset=key[0])
        events = np.empty(len(raw) // EVENT_BYTES + 1, PAIRED_DTYPE)
        count, used, t_us = _unpack(raw, events, key[2], self._kind == ATIS)
        return events[:count].view(EVENT_DTYPE), int(used), int(t_us)


@compiled()
def _unpack(raw, events, t, is_atis):
    """Decode whole events; return how many, the bytes used and the time after them.

    A first byte is time << 1 | brighter in DVS files, time << 2 | brighter << 1 | exposure in ATIS files, where an
    exposure measurement is no change of brightness. Its largest values let time pass or mean nothing.
    """
    count, i = 0, 0
    while i < len(raw):
        head = np.int64(raw[i])
        if is_atis and head >= 0xFC:
            t += (head & 3) * 0x3F
            i += 1
        elif not is_atis and head >= 0xFE:
            t += (head & 1) * 0x7F
            i += 1
        elif i + 5 > len(raw):
            break
        else:
            t += head >> 2 if is_atis else head >> 1
            if not (is_atis and head & 1):
                events[count].t = t
                x, y = (
                    np.uint32(raw[i + 1]) | np.uint32(raw[i + 2]) << 8,
                    np.uint32(raw[i + 3]) | np.uint32(raw[i + 4]) << 8,
                )
                events[count].xy = np.uint32(y << np.uint32(16) | x)
                events[count].p = (head >> 1) & 1 if is_atis else head & 1
                count += 1
            i += 5
    return count, i, t

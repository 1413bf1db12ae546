"""N-MNIST and N-Caltech101 files (``.bin``): five bytes an event, no header.

Layout: byte 0 x, byte 1 y, then 24 bits, first the highest: polarity and 23 bits of microseconds
(https://www.garrickorchard.com/datasets/n-mnist). A row 240 is no event: it says that 2^13 microseconds are to be added
from there on.
"""

import os
from collections.abc import Iterator

import numpy as np

from spiking_centernet.errors import EventFileError
from spiking_centernet.events.blocks import BLOCK_EVENTS, BlockRecording, open_bytes, spans
from spiking_centernet.types import EVENT_DTYPE

RECORD_BYTES = 5
OVERFLOW_ROW = 240
OVERFLOW_US = 1 << 13

_Key = tuple[int, int, int]
"""First record, one past the last, and the microseconds added before them."""


class BinRecording(BlockRecording):
    """A ``.bin`` file as a recording; it does not say the sensor's size (N-MNIST: 34 x 34)."""

    def __init__(self, path: str | os.PathLike[str], *, size_hw: tuple[int, int] | None = None):
        """Open and index a file; see ``BlockRecording``."""
        super().__init__(path, kind="N-MNIST .bin", size_hw=size_hw)

    def _blocks(self) -> Iterator[tuple[_Key, np.ndarray]]:
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

    def _records(self, key: _Key) -> np.ndarray:
        count = (key[1] - key[0]) * RECORD_BYTES
        return np.fromfile(self.path, np.uint8, count, offset=key[0] * RECORD_BYTES).reshape(-1, RECORD_BYTES)

    def _decode(self, key: _Key) -> np.ndarray:
        raw = self._records(key)
        overflow = raw[:, 1] == OVERFLOW_ROW
        added_us = key[2] + OVERFLOW_US * np.cumsum(overflow)
        events = np.empty(len(raw), EVENT_DTYPE)
        high, middle, low = raw[:, 2:].T.astype(np.int64)
        events["t"] = ((high & 127) << 16 | middle << 8 | low) + added_us
        events["x"], events["y"], events["p"] = raw[:, 0], raw[:, 1], high >> 7
        return events[~overflow]

    def _place(self, key: _Key, index: int) -> str:
        record = np.flatnonzero(self._records(key)[:, 1] != OVERFLOW_ROW)[index]
        return f" (byte {(key[0] + int(record)) * RECORD_BYTES})"

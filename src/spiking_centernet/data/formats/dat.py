"""DAT files (``*_td.dat``): bytes to events and back.

Layout: https://docs.prophesee.ai/stable/data/file_formats/dat.html and the MATLAB loader of ATIS recordings for the
packing of version 1.
"""

import os
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch

from spiking_centernet.data._kernels import (
    PAIRED_DTYPE,
    RAW_DTYPE,
    bin_records,
    decode_records,
    find_record,
    scan_records,
)
from spiking_centernet.data.voxel import empty_cube, pixel_places
from spiking_centernet.errors import EventFileError
from spiking_centernet.structures import EVENT_DTYPE, VoxelSpec

EVENT_TYPES = {0: "Event2D", 12: "CD"}
COORDINATE_BITS = {1: (9, 8), 2: (14, 14)}
RECORD_BYTES = 8
MAX_TIME_US = 2**32 - 1
MAX_SIDE = 2**14
MAX_HEADER_BYTES = 1 << 20
LOOK_BACK = 8192
"""Time lookups are exact while fewer records than this come late in a row; a scan tells whether more do."""
SCAN_LIMIT = 1 << 24
"""Files up to this many events (128 MiB) are counted whole when disorder is met, at about 1 Gev/s."""


@dataclass(frozen=True)
class DatHeader:
    """What the first lines of a DAT file say.

    Attributes:
        size_hw: height and width of the sensor in pixels, None where the file does not say.
        version: 1 packs x in 9 bits and y in 8, 2 packs both in 14.
        event_type: 0 (Event2D) or 12 (CD).
        data_offset: bytes before the first record.
    """

    size_hw: tuple[int, int] | None
    version: int
    event_type: int
    data_offset: int


class Scan(NamedTuple):
    """What only a pass over the whole file tells.

    Attributes:
        num_unsorted: how many events carry a time before an earlier one's.
        longest_run: most events in a row that do.
        latest_us: the latest time in microseconds.
        occupied_hw: the smallest height and width in pixels that hold every event.
        largest_step_back_us: how far a time lies before an earlier one's at most, in microseconds.
    """

    num_unsorted: int
    longest_run: int
    latest_us: int
    occupied_hw: tuple[int, int]
    largest_step_back_us: int


def read_header(path: str | os.PathLike[str]) -> DatHeader:
    """Read the header of a DAT file.

    Raises:
        EventFileError: the file is missing or empty, ends inside its header, or holds something other than events.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _parse_header(path, file)
    except EventFileError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        reason = getattr(error, "strerror", None) or error
        raise EventFileError(f"{path}: cannot be read ({reason}); check the path") from error


def _parse_header(path: Path, file: BinaryIO) -> DatHeader:
    fields: dict[str, str] = {}
    offset, has_header = 0, False
    while True:
        line = file.readline(4096)
        if not (line.startswith(b"% ") and line.endswith(b"\n") and _is_text(line)):
            break
        has_header = True
        offset += len(line)
        if offset > MAX_HEADER_BYTES:
            raise EventFileError(f"{path}: the header continues beyond byte {MAX_HEADER_BYTES}; copy the file again")
        name, _, value = line[2:].decode("latin-1").strip().partition(" ")
        fields[name.lower()] = value.strip()
    if not has_header:
        return _headerless(path, file)
    file.seek(offset)
    kind = file.read(2)
    if len(kind) < 2:
        raise EventFileError(
            f"{path}: ends at byte {offset + len(kind)}, right after its header, without event type and data; "
            "copy or record it again"
        )
    event_type, event_bytes = kind
    if event_type == ord("%"):
        raise EventFileError(f"{path}: the header line at byte {offset} is cut short; copy or record the file again")
    if event_type not in EVENT_TYPES:
        known = ", ".join(f"{number} ({name})" for number, name in EVENT_TYPES.items())
        raise EventFileError(
            f"{path}: byte {offset} says event type {event_type}, which is not a brightness change; "
            f"known: {known}. Export the change-detection (CD) events of the recording"
        )
    if event_bytes != RECORD_BYTES:
        raise EventFileError(
            f"{path}: byte {offset + 1} says {event_bytes} bytes an event, must be {RECORD_BYTES}; "
            "the file is damaged or of another format"
        )
    version = _whole_number(path, fields, "version")
    if version is not None and version not in COORDINATE_BITS:
        raise EventFileError(f"{path}: header says version {version}, known: 1, 2; convert the recording to version 2")
    height, width = (_whole_number(path, fields, name) for name in ("height", "width"))
    size_hw = None if height is None or width is None else (height, width)
    if size_hw is not None and not all(0 < side <= MAX_SIDE for side in size_hw):
        raise EventFileError(f"{path}: header says height {height}, width {width}; both must be 1 to {MAX_SIDE}")
    return DatHeader(size_hw, version or 2, event_type, offset + 2)


def _is_text(line: bytes) -> bool:
    # A headerless file may begin with an event whose bytes happen to be "% ": its record then holds control bytes.
    return all(byte >= 32 or byte in b"\t\r\n" for byte in line)


def _headerless(path: Path, file: BinaryIO) -> DatHeader:
    file.seek(0)
    start = file.read(1024 * RECORD_BYTES)
    if not start:
        raise EventFileError(f"{path}: the file is empty; copy or record it again")
    words = np.frombuffer(start[: len(start) // RECORD_BYTES * RECORD_BYTES], RAW_DTYPE)["w"]
    if (words >> 29).any():
        bad = int(np.argmax(words >> 29 != 0))
        raise EventFileError(
            f"{path}: has no DAT header, and byte {bad * RECORD_BYTES} does not start an event either; "
            "it is damaged or of another format"
        )
    return DatHeader(None, 2, 0, 0)


def _whole_number(path: Path, fields: dict[str, str], name: str) -> int | None:
    if name not in fields:
        return None
    try:
        return int(fields[name])
    except ValueError:
        raise EventFileError(
            f"{path}: header line {name!r} says {fields[name]!r}, must be a whole number; correct the line"
        ) from None


class DatFile:
    """A DAT file mapped into memory: any window costs a bisection and its own events.

    Times are the running maximum of the stored ones, because real files are not sorted everywhere.

    Attributes:
        path: the file.
        header: what its first lines say.
        size_hw: height and width in pixels; None where neither the header nor the caller says.
        num_events: how many events it holds.
        first_us: time of the first event in microseconds; 0 in a file without events.
        last_us: time of the last event in microseconds; 0 in a file without events.
        records: the stored records.
        coordinate_bits: how many bits of the packed word hold x and y.
    """

    def __init__(self, path: str | os.PathLike[str], *, size_hw: tuple[int, int] | None = None):
        """Open a file.

        Args:
            path: the file.
            size_hw: height and width in pixels, for files that do not say or say it wrong.

        Raises:
            EventFileError: see ``read_header``; also a last record cut short.
        """
        self.path = Path(path)
        self.header = read_header(self.path)
        self.size_hw = self.header.size_hw if size_hw is None else (int(size_hw[0]), int(size_hw[1]))
        self.coordinate_bits = COORDINATE_BITS[self.header.version]
        offset = self.header.data_offset
        num_bytes = self.path.stat().st_size - offset
        self.num_events, rest = divmod(num_bytes, RECORD_BYTES)
        if rest:
            whole = offset + self.num_events * RECORD_BYTES
            raise EventFileError(
                f"{self.path}: event {self.num_events} at byte {whole} has {rest} of {RECORD_BYTES} bytes; "
                f"the copy was cut short: copy it again, or keep the whole events with truncate -s {whole}"
            )
        self.records = (
            # A plain array over the map: np.memmap's own indexing costs microseconds each time.
            np.asarray(np.memmap(self.path, RAW_DTYPE, mode="r", offset=offset, shape=(self.num_events,)))
            if self.num_events
            else np.zeros(0, RAW_DTYPE)
        )
        self._look_back = LOOK_BACK
        self._warned = False
        times = self.records["t"]
        self.first_us = int(times[0]) if self.num_events else 0
        self.last_us = int(times[-LOOK_BACK:].max()) if self.num_events else 0

    @cached_property
    def scanned(self) -> Scan:
        """What is known once the whole file was read; reads it once."""
        num_late, longest_run, latest_us, height, width, back_us = scan_records(self.records, *self.coordinate_bits)
        return Scan(num_late, longest_run, latest_us, (height, width), back_us)

    @property
    def num_unsorted(self) -> int:
        """How many events carry a time before an earlier one's; reads the whole file once."""
        return self.scanned.num_unsorted

    def find(self, t_us: int) -> int:
        """Return the index of the first event at or after ``t_us``."""
        # Beyond the u32 of the format every time is the same; int64 must hold it.
        return int(find_record(self.records, min(max(int(t_us), -1), MAX_TIME_US + 1), self._look_back))

    def span(self, start_us: int, stop_us: int) -> slice:
        """Return which records lie in ``[start_us, stop_us)``."""
        first = self.find(start_us)
        return slice(first, max(first, self.find(stop_us)))

    def decode(self, first: int = 0, stop: int | None = None) -> np.ndarray:
        """Decode the events ``first`` to ``stop`` (exclusive) into an EVENT_DTYPE array.

        The running maximum of time starts at ``first``; ``read`` chooses it so that this changes nothing.

        Raises:
            EventFileError: an event lies outside the sensor, or the clock jumped back inside.
        """
        records = self.records[first:stop]
        events = np.empty(len(records), PAIRED_DTYPE)
        height, width = self.size_hw or (MAX_SIDE, MAX_SIDE)
        late, outside, jumped = decode_records(records, events, *self.coordinate_bits, height, width)
        self.check(first, late, outside, jumped)
        return events.view(EVENT_DTYPE)

    def read(self, start_us: int, stop_us: int) -> np.ndarray:
        """Decode the events in ``[start_us, stop_us)`` into an EVENT_DTYPE array; raises as ``decode`` does."""
        look_back = self._look_back
        span = self.span(start_us, stop_us)
        events = self.decode(span.start, span.stop)
        return events if look_back == self._look_back else self.read(start_us, stop_us)

    def cube(self, stop_us: int, spec: VoxelSpec) -> torch.Tensor:
        """Do what ``voxelize`` does straight from the records, without decoding them first; raises as ``decode``."""
        assert self.size_hw is not None
        start_us = stop_us - spec.window_us
        cube = empty_cube(stop_us, self.size_hw, spec)
        span = self.span(start_us, stop_us)
        late, outside, jumped = bin_records(
            self.records[span], cube.numpy().reshape(-1), *self.coordinate_bits, *self.size_hw,
            pixel_places(self.size_hw, spec.ratio), start_us, stop_us, spec.num_steps, spec.bins, spec.mode == "count",
        )  # fmt: skip
        self.check(span.start, late, outside, jumped)
        if self.span(start_us, stop_us) != span:
            # The check met disorder that had misled the lookup, and has put the lookup right.
            return self.cube(stop_us, spec)
        return cube

    def scan(self) -> None:
        """Read the whole file once: count and report out-of-order events, make every lookup exact."""
        if self.scanned.longest_run >= self._look_back:
            self._look_back = self.num_events
        self.last_us = self.scanned.latest_us
        if self.scanned.num_unsorted:
            self._warn_unsorted(str(self.scanned.num_unsorted))

    def check(self, first: int, late: int, outside: int, jumped: int) -> None:
        """Judge what a pass over the records from ``first`` on met.

        Args:
            first: index of the first record of the pass.
            late: how many records came late; reported once a file.
            outside: offset of the first record outside the sensor, -1 if none.
            jumped: offset of the first record after the clock jumped back, -1 if none.

        Raises:
            EventFileError: an event lies outside the sensor, or the clock jumped back.
        """
        if outside >= 0:
            index = first + outside
            x, y = self._place(index)
            height, width = self.size_hw or (MAX_SIDE, MAX_SIDE)
            raise EventFileError(
                f"{self.path}: event {index} (byte {self.byte(index)}) lies at x {x}, y {y}, outside the "
                f"{width} x {height} sensor; if the header is wrong give size_hw, else copy the file again"
            )
        if jumped >= 0:
            self._refuse_jump(first + jumped)
        if late and not self._warned:
            if self.num_events <= SCAN_LIMIT:
                self.scan()
            else:
                self._warn_unsorted(f"at least {late}")

    def _refuse_jump(self, index: int) -> None:
        raise EventFileError(
            f"{self.path}: the clock jumps back at or before event {index} (byte {self.byte(index)}); "
            "open it as a recording, which repairs it, or split it there"
        )

    def _warn_unsorted(self, count: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{self.path}: {count} of {self.num_events} events are not in order of time; "
                "each takes the latest time before it",
                stacklevel=4,
            )

    def _place(self, index: int) -> tuple[int, int]:
        x_bits, y_bits = self.coordinate_bits
        word = int(self.records["w"][index])
        return word & ((1 << x_bits) - 1), word >> x_bits & ((1 << y_bits) - 1)

    def byte(self, index: int) -> int:
        """Return where in the file a record begins."""
        return self.header.data_offset + index * RECORD_BYTES

"""A DAT file as a recording: read straight from its records, or repaired block by block where a check meets trouble."""

import os
import warnings
from collections.abc import Iterator

import numpy as np
import torch

from spiking_centernet.data._kernels import DISORDER_US
from spiking_centernet.data.formats.dat import LOOK_BACK, SCAN_LIMIT, DatFile
from spiking_centernet.data.formats.indexed import BLOCK_EVENTS, BlockRecording, spans
from spiking_centernet.data.formats.timeline import ISOLATED_US, is_disordered, tolerable
from spiking_centernet.data.recording import Recording, check_size
from spiking_centernet.data.voxel import begins_empty
from spiking_centernet.errors import EventFileError
from spiking_centernet.structures import EVENT_DTYPE, VoxelSpec

NUM_PROBES = 64
"""Places of a large file where opening looks whether time moves on."""


class DatRecording(Recording):
    """A DAT file as a recording.

    Windows are read from the records of the window alone. Where that or opening meets an event outside the sensor or a
    clock that jumps, the file is read once whole and repaired as the other formats are; see ``BlockRecording``.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, size_hw: tuple[int, int] | None = None, scan: bool | None = None
    ):
        """Open a DAT file.

        Args:
            path: the file.
            size_hw: height and width in pixels, for files that do not say or say it wrong.
            scan: read the whole file once to count out-of-order events and make every lookup exact; by default only up
                to ``SCAN_LIMIT`` events, where it takes milliseconds. Without it only both ends and a few places
                between are checked on opening.

        Raises:
            EventFileError: the file cannot be read, neither it nor the caller nor its events tell a size, or more
                events are bad than may be left out.
        """
        self.dat = DatFile(path, size_hw=size_hw)
        self._repaired: _Records | None = None
        self.path = self.dat.path
        self.kind = f"DAT version {self.dat.header.version}, event type {self.dat.header.event_type}"
        self.num_events = self.dat.num_events
        if self.dat.size_hw is None:
            self.dat.size_hw = self._infer_size()
        self.size_hw = self.dat.size_hw
        check_size(self.path, self.size_hw)
        self.start_us = self.dat.first_us
        self.stop_us = self.dat.last_us + 1 if self.num_events else 0
        if not self._is_sound(self.num_events <= SCAN_LIMIT if scan is None else scan):
            self._repair()

    @property
    def num_unsorted(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """How many events carry a time before an earlier one's; reads the whole file once."""
        return self.dat.num_unsorted if self._repaired is None else self._repaired.num_unsorted

    def _is_sound(self, scan: bool) -> bool:
        """Return whether nothing is wrong with the file, as far as a scan or a few probes tell."""
        dat, times = self.dat, self.dat.records["t"]
        if not self.num_events:
            return True
        limit = tolerable(self.num_events)
        step = max(1, self.num_events // NUM_PROBES)
        head, middle, tail = (
            part.astype(np.int64) for part in (times[: LOOK_BACK + 1], times[::step], times[-LOOK_BACK - 1 :])
        )
        for part in (head, middle, tail):
            if (np.maximum.accumulate(part) - part > DISORDER_US).any():
                return False
        gaps = np.flatnonzero(np.diff(head[: limit + 1]) > ISOLATED_US), np.diff(tail[-limit - 1 :]) > ISOLATED_US
        if limit and (len(gaps[0]) or gaps[1].any()):
            return False
        if not scan:
            return True
        scanned, (height, width) = dat.scanned, dat.scanned.occupied_hw
        if (
            height > self.size_hw[0]
            or width > self.size_hw[1]
            or scanned.largest_step_back_us > DISORDER_US
            or is_disordered(scanned.num_unsorted, self.num_events)
        ):
            return False
        dat.scan()
        self.stop_us = dat.last_us + 1
        return True

    def _repair(self) -> "_Records":
        self._repaired = fixed = _Records(self.dat, self.kind)
        self.num_events, self.num_dropped = fixed.num_events, fixed.num_dropped
        self.start_us, self.stop_us, self.clock_us = fixed.start_us, fixed.stop_us, fixed.clock_us
        self.restarts_us = fixed.restarts_us
        return fixed

    def _infer_size(self) -> tuple[int, int]:
        if not self.num_events:
            raise EventFileError(f"{self.path}: has neither a sensor size nor events; give size_hw")
        height, width = self.dat.scanned.occupied_hw
        warnings.warn(
            f"{self.path}: the header does not say the sensor's size; {width} x {height} (width x height) is the "
            "smallest that holds its events; give size_hw to be exact",
            stacklevel=4,
        )
        return height, width

    def _read(self, start_us: int, stop_us: int) -> np.ndarray:
        if self._repaired is None:
            try:
                return self.dat.read(start_us, stop_us)
            except EventFileError:
                return self._repair()._read(start_us, stop_us)
        return self._repaired._read(start_us, stop_us)

    def _cube(self, stop_us: int, spec: VoxelSpec) -> torch.Tensor:
        # How far a window of this many events reaches back is known once they are read.
        if self._repaired is not None or spec.num_events:
            return super()._cube(stop_us, spec)
        try:
            cube = self.dat.cube(stop_us, spec)
        except EventFileError:
            self._repair()
            return super()._cube(stop_us, spec)
        return super()._cube(stop_us, spec) if spec.fit and begins_empty(cube, spec) else cube


class _Records(BlockRecording):
    """The records of a DAT file as blocks."""

    def __init__(self, dat: DatFile, kind: str):
        self._dat = dat
        super().__init__(dat.path, kind=kind, size_hw=dat.size_hw)

    def _blocks(self) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        for key in spans(self._dat.num_events, BLOCK_EVENTS):
            yield key, self._decode(key)

    def _decode(self, key: tuple[int, int]) -> np.ndarray:
        records = self._dat.records[slice(*key)]
        x_bits, y_bits = self._dat.coordinate_bits
        events, words = np.empty(len(records), EVENT_DTYPE), records["w"]
        events["t"], events["x"] = records["t"], words & ((1 << x_bits) - 1)
        events["y"], events["p"] = words >> x_bits & ((1 << y_bits) - 1), words >> (x_bits + y_bits) & 1
        return events

    def _place(self, key: tuple[int, int], index: int) -> str:
        return f" (byte {self._dat.byte(key[0] + index)})"

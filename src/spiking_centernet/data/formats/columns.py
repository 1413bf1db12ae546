"""Columns of t, x, y and p in memory or in a mapped file, as a recording."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from spiking_centernet.data.formats.indexed import BLOCK_EVENTS, BlockRecording, spans
from spiking_centernet.data.formats.table import Meaning, check_columns, check_options, infer_unit


class ColumnRecording(BlockRecording):
    """Columns as a recording."""

    def __init__(
        self, path: str | os.PathLike[str], columns: Mapping[str, np.ndarray], *, kind: str,
        size_hw: tuple[int, int] | None = None, unit: str | None = None, own_clock: bool = True,
    ):  # fmt: skip
        """Index columns.

        Args:
            path: the file they come from.
            columns: t, x, y and p, flat and of one length; times are whole microseconds or seconds with a fraction.
            kind: the format, in words.
            size_hw: height and width of the sensor in pixels; None takes the smallest that holds the events.
            unit: what times are counted in: "ns", "us", "ms" or "s"; None infers it.
            own_clock: the clock is moved to 0 at the first event; see ``BlockRecording``.

        Raises:
            EventFileError: the columns are no events, or see ``BlockRecording``.
        """
        check_columns(Path(path), columns)
        self._columns = columns
        check_options(None, unit)
        self.unit = unit or infer_unit(Path(path), np.asarray(columns["t"][:BLOCK_EVENTS]))
        self._meaning = Meaning(Path(path), self.unit, len(columns["t"]), unit is not None)
        super().__init__(path, kind=kind, size_hw=size_hw, own_clock=own_clock)

    def _blocks(self) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        for key in spans(len(self._columns["t"]), BLOCK_EVENTS):
            yield key, self._decode(key)

    def _decode(self, key: tuple[int, int]) -> np.ndarray:
        stored = {field: np.asarray(column[slice(*key)]) for field, column in self._columns.items()}
        return self._meaning.events(stored, key[0])

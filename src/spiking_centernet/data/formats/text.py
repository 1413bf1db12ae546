"""Events as text (``.csv``, ``.txt``): a line an event, parsed by a compiled pass over blocks of bytes."""

import os
from collections.abc import Iterator
from pathlib import Path

import numba
import numpy as np

from spiking_centernet.data._kernels import PAIRED_DTYPE
from spiking_centernet.data.formats.arrays import match_names
from spiking_centernet.data.formats.indexed import BlockRecording, open_bytes
from spiking_centernet.errors import EventFileError
from spiking_centernet.structures import EVENT_DTYPE

BLOCK_BYTES = 1 << 20
LONGEST_LINE = 4096
BOM = b"\xef\xbb\xbf"
"""Byte order mark, with which spreadsheets begin a text."""
MOST_SECONDS = 1 << 42
"""Beyond, microseconds overflow 63 bits."""

_Key = tuple[int, int]
"""First byte and one past the last; a block ends with a line."""


class TextRecording(BlockRecording):
    """A text file as a recording: numbers apart by comma, semicolon or blanks; lines that begin with # are skipped."""

    def __init__(self, path: str | os.PathLike[str], *, size_hw: tuple[int, int] | None = None):
        """Open and index a file; see ``BlockRecording``."""
        path = Path(path)
        with open_bytes(path) as file:
            offset, names, first = len(BOM) if file.read(len(BOM)) == BOM else 0, None, b""
            file.seek(offset)
            for line in iter(lambda: file.readline(LONGEST_LINE), b""):
                words = line.decode("latin-1").replace(",", " ").replace(";", " ").split()
                if (
                    names is None
                    and words
                    and not words[0].startswith("#")
                    and any(word[0].isalpha() for word in words)
                ):
                    names = words
                elif words and not words[0].startswith("#"):
                    first = line
                    break
                offset += len(line)
        num_columns = len(names) if names is not None else 4
        wanted = dict(zip("txyp", range(4), strict=True))
        if names is not None:
            wanted = {field: names.index(name) for field, name in match_names(path, names).items()}
        # column of the file -> 0 t, 1 x, 2 y, 3 p, -1 another
        self._meaning = np.full(num_columns, -1)
        for k, field in enumerate("txyp"):
            self._meaning[wanted[field]] = k
        self._offset = offset
        words = first.decode("latin-1").replace(",", " ").replace(";", " ").split()
        self._in_seconds = len(words) > wanted["t"] and "." in words[wanted["t"]]
        super().__init__(
            path, kind=f"text, times in {'seconds' if self._in_seconds else 'microseconds'}", size_hw=size_hw
        )

    def _blocks(self) -> Iterator[tuple[_Key, np.ndarray]]:
        offset, size = self._offset, self.path.stat().st_size
        with self.path.open("rb") as file:
            while offset < size:
                file.seek(offset)
                data = file.read(BLOCK_BYTES)
                stop = size if offset + len(data) >= size else offset + data.rfind(b"\n") + 1
                if stop <= offset:
                    raise EventFileError(f"{self.path}: no line ends after byte {offset}; it holds no text of events")
                yield (offset, stop), self._decode((offset, stop))
                offset = stop

    def _decode(self, key: _Key) -> np.ndarray:
        return self._parse(key, None)[0]

    def _parse(self, key: _Key, most: int | None) -> tuple[np.ndarray, int]:
        with self.path.open("rb") as file:
            file.seek(key[0])
            data = np.frombuffer(file.read(key[1] - key[0]) + b"\n", np.uint8)
        # The shortest line is "0 0 0 0\n".
        out = np.empty(len(data) // 8 + 1 if most is None else most, PAIRED_DTYPE)
        count, at, why = parse_lines(data, out, self._meaning, self._in_seconds)
        if why:
            line = bytes(data[at : at + LONGEST_LINE]).split(b"\n")[0].decode("latin-1")[:60]
            raise EventFileError(
                f"{self.path}: the line at byte {key[0] + at} {PROBLEMS[why]}: {line!r}; "
                "correct it or export the file again"
            )
        return out[:count].copy().view(EVENT_DTYPE), at

    def _place(self, key: _Key, index: int) -> str:
        return f" (line at byte {key[0] + self._parse(key, index)[1]})"


PROBLEMS = {
    1: "holds something other than numbers without exponents",
    2: "has too few or too many numbers (t, x, y, p are wanted; or is it cut short?)",
    3: "has a place that is no whole number from 0 to 65535",
    4: "has a time in seconds where others are in microseconds, or the reverse",
}


@numba.njit(cache=True, nogil=True)
def parse_lines(data, out, meaning, in_seconds):
    """Parse lines of numbers into PAIRED_DTYPE events until ``out`` is full.

    Returns:
        the number of events, the byte of the line looked at last, and what is wrong with it (0 nothing).
    """
    num, at, size = 0, 0, len(data)
    values = np.zeros(4, np.int64)
    while at < size:
        start, column, comment = at, 0, data[at] == 35
        while at < size and data[at] != 10:
            c = data[at]
            if comment or c == 32 or c == 44 or c == 59 or c == 9 or c == 13:
                at += 1
                continue
            negative = c == 45
            if negative or c == 43:
                at += 1
            whole, micros, scale, digits, point = np.int64(0), np.int64(0), np.int64(1_000_000), 0, False
            while at < size:
                c = data[at]
                if c == 46 and not point:
                    point = True
                elif 48 <= c <= 57:
                    digits += not point or scale > 0
                    if not point:
                        whole = whole * 10 + (c - 48)
                    elif scale > 1:
                        scale //= 10
                        micros += (c - 48) * scale
                    elif scale == 1:
                        # The first digit beyond a microsecond rounds it.
                        scale = 0
                        micros += c >= 53
                else:
                    break
                at += 1
            ends = at == size or c == 32 or c == 44 or c == 59 or c == 9 or c == 13 or c == 10
            if not digits or digits > 18 or not ends or (point and whole > MOST_SECONDS):
                return num, start, 1
            which = meaning[column] if column < len(meaning) else -2
            if which == -2:
                return num, start, 2
            if which == 0:
                if point != in_seconds:
                    return num, start, 4
                value = whole * 1_000_000 + micros if point else whole
                values[0] = -value if negative else value
            elif which == 3:
                values[3] = 0 if negative else whole > 0 or micros > 0
            elif which > 0:
                if negative or micros or whole > 65535:
                    return num, start, 3
                values[which] = whole
            column += 1
        at += 1
        if column == 0:
            continue
        if column != len(meaning):
            return num, start, 2
        if num == len(out):
            return num, start, 0
        out[num].t = values[0]
        out[num].xy = np.uint32(values[1] | values[2] << 16)
        out[num].p = np.uint8(values[3])
        num += 1
    return num, at, 0

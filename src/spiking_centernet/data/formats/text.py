"""Events as text (``.csv``, ``.txt``): a line per event, parsed by a compiled pass over blocks of bytes."""

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from spiking_centernet.data._kernels import PAIRED_DTYPE
from spiking_centernet.data.formats.indexed import BlockRecording, open_bytes
from spiking_centernet.data.formats.table import (
    UNITS,
    check_options,
    infer_columns,
    infer_unit,
    match_names,
    split_unit,
)
from spiking_centernet.data.formats.timeline import tolerable
from spiking_centernet.errors import EventFileError
from spiking_centernet.structures import EVENT_DTYPE
from spiking_centernet.utils.compile_cache import compiled

BLOCK_BYTES = 1 << 20
LONGEST_LINE = 4096
BOM = b"\xef\xbb\xbf"
"""Byte order mark, with which spreadsheets begin a text."""
HEAD_BYTES = 1 << 18
HEAD_ROWS = 4096
"""Lines that the order of the columns and the unit of time are inferred from."""
MOST = 1 << 60
"""Beyond every clock in microseconds."""

_Key = tuple[int, int]
"""First byte and one past the last; a block ends with a line."""


class TextRecording(BlockRecording):
    """A text file as a recording: numbers apart by comma, semicolon or blanks; lines that begin with # are skipped."""

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
            size_hw: height and width in pixels.
            columns: the order of the columns, such as "xypt"; None takes a line of names, or infers it.
            unit: what times are counted in: "ns", "us", "ms" or "s"; None takes it from the name, or infers it.
        """
        path = Path(path)
        check_options(columns, unit)
        with open_bytes(path) as file:
            self._offset, names = _skip_head(file)
            head = file.read(HEAD_BYTES).split(b"\n")
        num_columns = len(columns or names or "txyp")
        rows = _head_rows(head[: -1 if len(head) > 1 else None], num_columns)
        numbers = np.array([[_number(word) for word in row] for row in rows], np.float64).reshape(-1, num_columns)
        said_unit = None
        if columns is not None:
            order = columns
        elif names is not None:
            by_field = match_names(path, names)
            order = "".join(next((f for f, name in by_field.items() if name == each), "-") for each in names)
            said_unit = split_unit(by_field["t"])[1]
        else:
            order = infer_columns(path, numbers, size_hw)
        column = order.index("t")
        words = [row[column] for row in rows]
        written = {any(mark in word for mark in ".eE") for word in words if word.lower() not in _WORDS}
        is_given = unit is not None or said_unit is not None
        unit = unit or said_unit or infer_unit(path, numbers[:, column], is_mixed=len(written) > 1)
        # column of the file -> 0 t, 1 x, 2 y, 3 p, -1 another
        self._meaning = np.array(["txyp".find(letter) for letter in order], np.int64)
        self._power = UNITS[unit]
        # Whether times must be written with a point or an exponent; -1 where the unit is known anyway.
        self._written = -1 if is_given or not written else int(written.pop())
        length = sum(map(len, head[:1000])) / min(1000, len(head)) + 1
        self._limit = tolerable(int(path.stat().st_size / length))
        self._off = 0
        super().__init__(path, kind=f"text, columns {', '.join(order)}, times in {SAID[unit]}", size_hw=size_hw)

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
        count, at, why, off = parse_lines(data, out, self._meaning, self._power, self._written, self._limit)
        self._off |= off
        if self._off == BOTH_OFF:
            raise EventFileError(
                f"{self.path}: its polarities are -1, 0 and 1; only two of them can be OFF and ON: write 0 and 1"
            )
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
    1: "holds something other than numbers",
    2: "has too few or too many numbers (is it cut short, or say the columns as in columns='txyp'?)",
    3: "has a place that is no whole number from 0 to 65535",
    4: "has a time with a fraction where others have none, or the reverse; say what they count with unit='us'",
    5: "has a polarity other than 0 and 1, or -1 and 1",
    6: "has a time that is no number or beyond every clock",
}
SAID = {"ns": "nanoseconds", "us": "microseconds", "ms": "milliseconds", "s": "seconds"}
BOTH_OFF = 3
"""Bit 0: some polarity is 0; bit 1: some is -1."""


def _skip_head(file: BinaryIO) -> tuple[int, list[str] | None]:
    """Move to the first line of numbers; return its byte and the names of the columns, if a line before says them."""
    offset, names = len(BOM) if file.read(len(BOM)) == BOM else 0, None
    file.seek(offset)
    for line in iter(lambda: file.readline(LONGEST_LINE), b""):
        words = _words(line)
        if words and not words[0].startswith("#"):
            if names is not None or all(_is_number(word) for word in words):
                break
            if not any(word.strip("\"'")[:1].isalpha() for word in words):
                break
            names = _names(line)
        offset += len(line)
    file.seek(offset)
    return offset, names


def _words(line: bytes) -> list[str]:
    return line.decode("utf-8", "replace").replace(",", " ").replace(";", " ").split()


def _names(line: bytes) -> list[str]:
    """Return the names of columns; blanks belong to a name where commas or semicolons part them."""
    text = line.decode("utf-8", "replace").strip()
    mark = next((mark for mark in ",;\t" if mark in text), None)
    return text.split() if mark is None else [name.strip() for name in text.split(mark)]


def _head_rows(lines: list[bytes], num_columns: int) -> list[list[str]]:
    """Return the words of the first whole lines of numbers."""
    rows = []
    for line in lines:
        words = _words(line)
        if len(words) == num_columns and all(map(_is_number, words)):
            rows.append(words)
            if len(rows) == HEAD_ROWS:
                break
    return rows


def _is_number(word: str) -> bool:
    return word.lower() in _WORDS or re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", word) is not None


def _number(word: str) -> float:
    value = _WORDS.get(word.lower())
    return float(word) if value is None else value


_WORDS = {"true": 1.0, "false": 0.0, "nan": math.nan, "inf": math.inf, "-inf": -math.inf}
"""What numpy and pandas write for what is no number."""


@compiled()
def _ends(data, at):
    """Return whether a number may end before this byte."""
    if at >= len(data):
        return True
    c = data[at]
    return c == 32 or c == 44 or c == 59 or c == 9 or c == 13 or c == 10


@compiled()
def _parse_number(data, at):
    """Parse a number from byte ``at``.

    Returns:
        its digits without the point (at most 18), the power of ten to multiply them by, whether it has a point or an
        exponent, its kind (0 a number, 1 True or False, 2 not finite, -1 none) and the byte after it.
    """
    digits, count, power, marked, any_digit = np.int64(0), 0, 0, False, False
    c = data[at]
    if c == 84 or c == 116 or c == 70 or c == 102 or c == 78 or c == 110 or c == 73 or c == 105:
        word = at
        while not _ends(data, at):
            at += 1
        second = data[word + 1] | 32
        third = data[word + 2] | 32 if at - word > 2 else np.uint8(0)
        if at - word == 4 and (c | 32) == 116 and second == 114 and third == 117:
            return np.int64(1), 0, False, 1, at
        if at - word == 5 and (c | 32) == 102 and second == 97 and third == 108:
            return np.int64(0), 0, False, 1, at
        if at - word == 3 and (((c | 32) == 110 and second == 97) or ((c | 32) == 105 and second == 110)):
            return np.int64(0), 0, False, 2, at
        return np.int64(0), 0, False, -1, at
    while at < len(data):
        c = data[at]
        if c == 46 and not marked:
            marked = True
        elif 48 <= c <= 57:
            any_digit = True
            if count < 18:
                digits = digits * 10 + (c - 48)
                count += digits > 0
                power -= marked
            elif not marked:
                power += 1
        else:
            break
        at += 1
    if not any_digit:
        return np.int64(0), 0, False, -1, at
    if at < len(data) and (data[at] == 101 or data[at] == 69):
        marked = True
        at += 1
        minus = at < len(data) and data[at] == 45
        if at < len(data) and (data[at] == 45 or data[at] == 43):
            at += 1
        exponent, start = 0, at
        while at < len(data) and 48 <= data[at] <= 57 and exponent < 10_000:
            exponent = exponent * 10 + (data[at] - 48)
            at += 1
        if at == start:
            return np.int64(0), 0, False, -1, at
        power += -exponent if minus else exponent
    return digits, power, marked, 0 if _ends(data, at) else -1, at


@compiled()
def _rounded(digits, power):
    """Return ``digits * 10^power`` rounded, half up; whether it is whole, and whether it fits."""
    if digits == 0:
        return np.int64(0), True, True
    if power >= 0:
        if power > 18:
            return np.int64(0), True, False
        for _ in range(power):
            if digits > MOST // 10:
                return np.int64(0), True, False
            digits *= 10
        return digits, True, digits <= MOST
    if power < -19:
        return np.int64(0), False, True
    whole, last = True, np.int64(0)
    for _ in range(-power):
        last = digits % 10
        digits //= 10
        whole &= last == 0
    return digits + (last >= 5), whole, digits <= MOST


@compiled()
def parse_lines(data, out, meaning, unit_power, written, limit):
    """Parse lines of numbers into PAIRED_DTYPE events until ``out`` is full.

    Up to ``limit`` events with an impossible time, place or polarity get the place WRONG_PLACE.

    Returns:
        the number of events, the byte of the line looked at last, what is wrong with it (0 nothing), and how OFF is
        written (see BOTH_OFF).
    """
    num, at, size, num_bad, off = 0, 0, len(data), 0, 0
    values = np.zeros(4, np.int64)
    while at < size:
        start, column, comment, bad = at, 0, data[at] == 35, 0
        off_here = 0
        while at < size and data[at] != 10:
            c = data[at]
            if comment or c == 32 or c == 44 or c == 59 or c == 9 or c == 13:
                at += 1
                continue
            negative = c == 45
            if negative or c == 43:
                at += 1
            if at >= size:
                return num, start, 1, off
            digits, power, marked, kind, at = _parse_number(data, at)
            if kind < 0:
                return num, start, 1, off
            which = meaning[column] if column < len(meaning) else -2
            if which == -2:
                return num, start, 2, off
            if kind == 1 and which != 3 and which >= 0:
                return num, start, 1, off
            if which == 0:
                if kind == 0 and written >= 0 and marked != (written == 1):
                    return num, start, 4, off
                value, whole, fits = _rounded(digits, power + unit_power)
                if kind == 2 or not fits:
                    bad = 6
                elif not whole and written >= 0 and unit_power == 0:
                    return num, start, 4, off
                values[0] = -value if negative else value
            elif which > 0:
                value, whole, fits = _rounded(digits, power)
                if which == 3:
                    values[3] = value == 1 and not negative
                    if kind == 2 or not whole or not fits or value > 1:
                        bad = 5
                    elif value == 0:
                        off_here = 1
                    elif negative:
                        off_here = 2
                else:
                    values[which] = value
                    if kind == 2 or not whole or not fits or value > 65535 or (negative and value > 0):
                        bad = 3
            column += 1
        at += 1
        if column == 0:
            continue
        if column != len(meaning):
            return num, start, 2, off
        if num == len(out):
            return num, start, 0, off
        if bad:
            num_bad += 1
            if num_bad > limit:
                return num, start, bad, off
            values[0] = values[0] if bad != 6 else 0
            values[1] = values[2] = 65535
            values[3] = 0
        else:
            off |= off_here
        out[num].t = values[0]
        out[num].xy = np.uint32(values[1] | values[2] << 16)
        out[num].p = np.uint8(values[3])
        num += 1
    return num, at, 0, off

"""Prophesee RAW files (``.raw``) in the encodings EVT2, EVT2.1 and EVT3.

Layouts: https://docs.prophesee.ai/stable/data/encoding_formats/evt2.html, evt21.html and evt3.html. A decoder of our
own, because windows need its state at any block, and because the stamps are easy to get wrong: the time of EVT3 wraps
every 2^24 microseconds (16.78 s), that of EVT2 every 2^34 (4.8 h), and low stamps may step back between high ones.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from spiking_centernet.data._kernels import PAIRED_DTYPE
from spiking_centernet.data.formats.indexed import BlockRecording, open_bytes
from spiking_centernet.errors import EventFileError
from spiking_centernet.structures import EVENT_DTYPE
from spiking_centernet.utils.compile_cache import compiled

BLOCK_BYTES = 1 << 17
"""At most 0.8 M events in EVT3, whose vectors hold 12 a word."""

STEP_BACK_US = 1 << 18
"""A high stamp up to a quarter second back is disorder; further back, the counter wrapped."""


SENSORS = {
    "gen31": (480, 640), "gen3": (480, 640), "gen41": (720, 1280), "gen4": (720, 1280), "imx636": (720, 1280),
    "imx646": (720, 1280), "genx320": (320, 320),
}  # fmt: skip
"""What the name of Metavision's camera plugin contains -> height and width of its sensor in pixels
(OpenEB, ``hal_psee_plugins``; for example ``hal_plugin_gen3_fx3``, ``hal_plugin_gen41_evk2``)."""


@dataclass(frozen=True)
class Encoding:
    """One way to pack events into words.

    Attributes:
        name: in words.
        word_bytes: bytes that belong together.
        max_events: what a word can hold.
    """

    name: str
    word_bytes: int
    max_events: int


ENCODINGS = {"2.0": Encoding("EVT2", 4, 1), "2.1": Encoding("EVT2.1", 8, 32), "3.0": Encoding("EVT3", 2, 12)}


@dataclass(frozen=True)
class EvtHeader:
    """What the first lines of a RAW file say.

    Attributes:
        encoding: how its words are packed.
        swapped: whether EVT2.1 words come with the half that holds the type first, as from an IMX636.
        size_hw: height and width of the sensor in pixels, None where the file does not say.
        data_offset: bytes before the first word.
    """

    encoding: Encoding
    swapped: bool
    size_hw: tuple[int, int] | None
    data_offset: int


def read_evt_header(path: Path) -> EvtHeader:
    """Read the header of a RAW file.

    Raises:
        EventFileError: the file is missing or empty, or does not say an encoding we know.
    """
    with open_bytes(path) as file:
        lines, offset = _header_lines(path, file)
    fields = _pairs(lines, " ")
    # "format EVT3;height=720;width=1280" of newer files, "evt 3.0" and "geometry 1280x720" of older ones.
    kind, _, rest = fields.get("format", "").partition(";")
    options = _pairs(rest.split(";"), "=")
    version = {"evt2": "2.0", "evt21": "2.1", "evt3": "3.0"}.get(kind.strip(), fields.get("evt", "").strip())
    if version not in ENCODINGS:
        said = f"says {kind or version!r}" if kind or version else "does not say an encoding"
        raise EventFileError(
            f"{path}: the header {said}; known: EVT2, EVT2.1 and EVT3. A .raw file starts with lines like '% evt 3.0'"
        )
    geometry = re.fullmatch(r"(\d+)x(\d+)", fields.get("geometry", "").strip())
    width, height = (options.get("width", ""), options.get("height", "")) if geometry is None else geometry.groups()
    size_hw = (int(height), int(width)) if height.isdigit() and width.isdigit() else _size_of(fields)
    return EvtHeader(ENCODINGS[version], options.get("endianness") == "legacy", size_hw, offset)


def _size_of(fields: dict[str, str]) -> tuple[int, int] | None:
    """Return the size of the sensor that the recording's driver names, where the header has none."""
    plugin = fields.get("plugin_name", "")
    return next((size_hw for part, size_hw in SENSORS.items() if part in plugin), None)


def _pairs(parts: list[str], between: str) -> dict[str, str]:
    split = (part.strip().lower().partition(between) for part in parts)
    return {name: value for name, _, value in split}


def _header_lines(path: Path, file: BinaryIO) -> tuple[list[str], int]:
    lines: list[str] = []
    offset = 0
    while True:
        line = file.readline(4096)
        text = _header_text(line[2:])
        # Words may happen to begin with "% " where there is no "% end": such a line is no text.
        if not line.startswith(b"% ") or text is None:
            return lines, offset
        if not line.endswith(b"\n"):
            raise EventFileError(
                f"{path}: the header line at byte {offset} is cut short; copy or record the file again"
            )
        offset += len(line)
        if text == "end":
            return lines, offset
        lines.append(text)


def _header_text(line: bytes) -> str | None:
    """Return a line of the header, None where the bytes are none: comments may be in any language."""
    if not line.strip(b"\r\n").isascii() and any(byte < 32 and byte not in b"\t\r\n" for byte in line):
        return None
    for encoding in ("utf-8", "latin-1"):
        try:
            text = line.decode(encoding).strip()
        except UnicodeDecodeError:
            continue
        # Words read as Latin-1 hold control characters sooner or later; letters with accents are none.
        return text if text.isprintable() and (encoding == "utf-8" or _is_wordy(text)) else None
    return None


def _is_wordy(text: str) -> bool:
    return sum(char.isascii() and (char.isalnum() or char.isspace()) for char in text) * 2 > len(text)


@dataclass(frozen=True)
class _Key:
    """A block: where it starts, how long it is, and what the decoder knew before it."""

    offset: int
    num_bytes: int
    state: tuple[int, ...]


class EvtRecording(BlockRecording):
    """A RAW file as a recording; its clock, which counts from the sensor's start, is moved to 0 at the first event."""

    def __init__(self, path: str | os.PathLike[str], *, size_hw: tuple[int, int] | None = None):
        """Open and index a RAW file; see ``BlockRecording``."""
        path = Path(path)
        self.header = read_evt_header(path)
        self._scratch = np.empty(0, PAIRED_DTYPE)
        super().__init__(
            path, kind=f"RAW, {self.header.encoding.name}", size_hw=size_hw or self.header.size_hw, own_clock=True
        )

    def _blocks(self) -> Iterator[tuple[_Key, np.ndarray]]:
        encoding, offset = self.header.encoding, self.header.data_offset
        num_words, rest = divmod(self.path.stat().st_size - offset, encoding.word_bytes)
        end = offset + num_words * encoding.word_bytes
        if rest:
            raise EventFileError(
                f"{self.path}: the {encoding.name} word at byte {end} has {rest} of {encoding.word_bytes} bytes; the "
                f"copy was cut short: copy it again, or keep the whole words with truncate -s {end}"
            )
        state = np.zeros(6, np.int64)
        while offset < end:
            key = _Key(offset, min(BLOCK_BYTES, end - offset), tuple(state.tolist()))
            yield key, self._unpack(key, state)
            offset += key.num_bytes

    def _decode(self, key: _Key) -> np.ndarray:
        return self._unpack(key, np.array(key.state, np.int64))

    def _unpack(self, key: _Key, state: np.ndarray, most: int | None = None) -> np.ndarray:
        count, _ = self._run(key, state, most)
        return self._scratch[:count].copy().view(EVENT_DTYPE)

    def _run(self, key: _Key, state: np.ndarray, most: int | None = None) -> tuple[int, int]:
        """Decode a block into the scratch array; return the number of events and of the words looked at."""
        encoding = self.header.encoding
        with self.path.open("rb") as file:
            file.seek(key.offset)
            data = file.read(key.num_bytes)
        if not len(self._scratch):
            self._scratch = np.empty(BLOCK_BYTES // encoding.word_bytes * encoding.max_events, PAIRED_DTYPE)
        out = self._scratch[:most]
        if encoding.word_bytes == 2:
            count, words, bad = decode_evt3(np.frombuffer(data, "<u2"), out, state)
        else:
            masked = encoding.word_bytes == 8
            words32 = np.frombuffer(data, "<u4").reshape(-1, 2 if masked else 1)
            count, words, bad = decode_evt2(words32, out, state, 0 if self.header.swapped or not masked else 1)
        if bad:
            raise EventFileError(
                f"{self.path}: byte {key.offset + words * encoding.word_bytes} holds no {encoding.name} word; the file "
                "is damaged or of another encoding: copy it again"
            )
        return count, words

    def _place(self, key: _Key, index: int) -> str:
        _, words = self._run(key, np.array(key.state, np.int64), index)
        return f" (byte {key.offset + words * self.header.encoding.word_bytes})"


@compiled()
def _unwrapped(high, stamp, bits, step_back):
    """Return the high stamp nearest ahead of ``high``, or up to ``step_back`` behind, with these last bits."""
    return high + ((stamp - high + step_back) & ((1 << bits) - 1)) - step_back


@compiled()
def decode_evt2(words, out, state, head):
    """Decode EVT2 ([N, 1]) or EVT2.1 ([N, 2], type in column ``head``) words; state: known, high stamp.

    Returns:
        how many events were written, the number of the word that was looked at last, and whether it is no word at all.
        Stops before a word that does not fit ``out``.
    """
    known, high = state[0], state[1]
    step_back = np.int64(STEP_BACK_US >> 6)
    num = 0
    for i in range(len(words)):
        word = np.int64(words[i, head])
        kind = word >> 28
        if kind <= 1:
            if not known:
                continue
            t = high << 6 | (word >> 22) & 63
            x, y = (word >> 11) & 2047, word & 2047
            mask = np.int64(1) if words.shape[1] == 1 else np.int64(words[i, 1 - head])
            while mask:
                if mask & 1:
                    if num == len(out):
                        return num, i, False
                    out[num].t = t
                    out[num].xy = np.uint32(x | y << 16)
                    out[num].p = np.uint8(kind)
                    num += 1
                mask >>= 1
                x += 1
        elif kind == 8:
            stamp = word & 0xFFFFFFF
            high = _unwrapped(high, stamp, 28, step_back) if known else stamp
            known = 1
        elif kind != 0xA and kind != 0xE and kind != 0xF:
            return num, i, True
    state[0], state[1] = known, high
    return num, len(words), False


@compiled()
def decode_evt3(words, out, state):
    """Decode EVT3 words; state: known, high stamp, low stamp, y, x of the next vector, its polarity.

    Returns as ``decode_evt2``. Events before the first high stamp have no time and are left out, as the maker's own
    reader does.
    """
    known, high, low, y, base, p = state[0], state[1], state[2], state[3], state[4], state[5]
    step_back = np.int64(STEP_BACK_US >> 12)
    num = 0
    for i in range(len(words)):
        word = np.int64(words[i])
        kind = word >> 12
        if kind == 0:
            y = word & 2047
        elif kind == 2:
            if not known:
                continue
            if num == len(out):
                return num, i, False
            out[num].t = high << 12 | low
            out[num].xy = np.uint32(word & 2047 | y << 16)
            out[num].p = np.uint8((word >> 11) & 1)
            num += 1
        elif kind == 3:
            base, p = word & 2047, (word >> 11) & 1
        elif kind == 4 or kind == 5:
            width = 12 if kind == 4 else 8
            mask = word & ((1 << width) - 1) if known else np.int64(0)
            x = base
            while mask:
                if mask & 1:
                    if num == len(out):
                        return num, i, False
                    out[num].t = high << 12 | low
                    out[num].xy = np.uint32(x | y << 16)
                    out[num].p = np.uint8(p)
                    num += 1
                mask >>= 1
                x += 1
            base += width
        elif kind == 6:
            low = word & 4095
        elif kind == 8:
            stamp = word & 4095
            before = high
            high = _unwrapped(high, stamp, 12, step_back) if known else stamp
            if high != before or not known:
                # The low stamp that belongs to it follows; the old one would put events up to 4 ms ahead.
                low = np.int64(0)
            known = 1
        elif kind != 7 and kind != 0xA and kind != 0xE and kind != 0xF:
            return num, i, True
    state[0], state[1], state[2], state[3], state[4], state[5] = known, high, low, y, base, p
    return num, len(words), False

"""Chunks of Metavision HDF5 files in the maker's event compression (ECF, HDF5 filter 0x8ECF).

Format: what https://github.com/prophesee-ai/hdf5_ecf writes; the decoder here is our own. hdf5plugin does not bring
that filter, so a chunk's bytes are taken from the file as they are and unpacked here.

A chunk is u32 (number of events << 2 | how places are packed), then times, then places. Times: u64 of the first, then
bytes ``dt:4 count:4``; count 15 is followed by u16 count; bytes with dt 15 carry four bits each of a longer step,
lowest first. Places in one of three ways: y, x and polarity in 24 bits; y in runs, x and polarity in 12 bits; y, x and
polarity in runs.
"""

import numba
import numpy as np

from spiking_centernet.events.kernels import PAIRED_DTYPE
from spiking_centernet.types import EVENT_DTYPE

MAX_EVENTS = 65535
"""The most a chunk may hold."""


def decode_chunk(data: bytes) -> np.ndarray:
    """Return the events of a chunk, EVENT_DTYPE.

    Raises:
        ValueError: the bytes are no ECF chunk.
    """
    if len(data) < 12:
        raise ValueError(f"{len(data)} bytes are too few for a chunk")
    head = int.from_bytes(data[:4], "little")
    num_events = head >> 2
    if num_events > MAX_EVENTS:
        raise ValueError(f"{num_events} events are more than a chunk holds")
    events = np.empty(num_events, PAIRED_DTYPE)
    # Reading a little beyond the end is an error only if something there was needed.
    padded = np.frombuffer(data + bytes(16), np.uint8)
    used = _decode(padded, events, (head >> 1) & 1, head & 1, len(data))
    if not 0 < used <= len(data):
        raise ValueError("its runs do not add up to the number of events it states")
    return events.view(EVENT_DTYPE)


@numba.njit(cache=True, nogil=True)
def _u16(data, at):
    return np.int64(data[at]) | np.int64(data[at + 1]) << 8


@numba.njit(cache=True, nogil=True)
def _decode(data, out, all_packed, packed, size):
    """Fill ``out``; return the bytes used, or -1 if the runs do not fit."""
    num = len(out)
    t = np.int64(0)
    for k in range(8):
        t |= np.int64(data[4 + k]) << (8 * k)
    at, i = 12, 0
    while i < num:
        if at >= size:
            return -1
        step, count = np.int64(data[at]) >> 4, np.int64(data[at]) & 15
        at += 1
        if step == 15:
            t_more, shift = count, 4
            while at < size and data[at] >> 4 == 15:
                t_more |= (np.int64(data[at]) & 15) << shift
                shift += 4
                at += 1
            t += t_more
            continue
        t += step
        if count == 15:
            count = _u16(data, at)
            at += 2
        if count == 0 or i + count > num:
            return -1
        for _ in range(count):
            out[i].t = t
            i += 1
    if all_packed:
        return _packed24(data, out, at, size)
    at = _runs_of_y(data, out, at, size)
    if at < 0:
        return at
    if packed:
        return _packed12(data, out, at, size)
    return _runs_of_p(data, out, _masks_of_x(data, out, at, size), size)


@numba.njit(cache=True, nogil=True)
def _packed24(data, out, at, size):
    """Unpack groups of four 24-bit places in three u32: y 11 bits, x 11 bits, polarity 1 bit."""
    for i in range(0, len(out), 4):
        if at >= size:
            return -1
        a = _u16(data, at) | _u16(data, at + 2) << 16
        b = _u16(data, at + 4) | _u16(data, at + 6) << 16
        c = _u16(data, at + 8) | _u16(data, at + 10) << 16
        for j in range(min(4, len(out) - i)):
            if j == 0:
                v = a >> 8
            elif j == 1:
                v = (a & 0xFF) | (b >> 16) << 8
            elif j == 2:
                v = (b & 0xFFFF) | (c >> 24) << 16
            else:
                v = c & 0xFFFFFF
            out[i + j].xy = np.uint32((v >> 1) & 2047 | ((v >> 12) & 2047) << 16)
            out[i + j].p = np.uint8(v & 1)
        at += 12
    return at


@numba.njit(cache=True, nogil=True)
def _packed12(data, out, at, size):
    """Unpack groups of four 12-bit values in three u16: x 11 bits, polarity 1 bit."""
    for i in range(0, len(out), 4):
        if at >= size:
            return -1
        a, b, c = _u16(data, at), _u16(data, at + 2), _u16(data, at + 4)
        for j in range(min(4, len(out) - i)):
            if j == 0:
                v = a >> 4
            elif j == 1:
                v = (a & 15) | (b >> 8) << 4
            elif j == 2:
                v = (b & 255) | (c >> 12) << 8
            else:
                v = c & 4095
            out[i + j].xy |= np.uint32(v >> 1)
            out[i + j].p = np.uint8(v & 1)
        at += 6
    return at


@numba.njit(cache=True, nogil=True)
def _runs_of_y(data, out, at, size):
    """Unpack u16 ``y:11 count:5``; count 31 is followed by u16 count."""
    i = 0
    while i < len(out):
        if at >= size:
            return -1
        v = _u16(data, at)
        count = v & 31
        at += 2
        if count == 31:
            count = _u16(data, at)
            at += 2
        if count == 0 or i + count > len(out):
            return -1
        for _ in range(count):
            out[i].xy = np.uint32((v >> 5) << 16)
            i += 1
    return at


@numba.njit(cache=True, nogil=True)
def _masks_of_x(data, out, at, size):
    """Unpack u16 ``x:11 mask:5``; the mask's bits, highest first, say which of the next five columns follow."""
    i = 0
    while i < len(out):
        if at >= size:
            return -1
        v = _u16(data, at)
        at += 2
        out[i].xy |= np.uint32(v >> 5)
        i += 1
        for j in range(5):
            if v & (16 >> j) and i < len(out):
                out[i].xy |= np.uint32((v >> 5) + j + 1)
                i += 1
    return at


@numba.njit(cache=True, nogil=True)
def _runs_of_p(data, out, at, size):
    """Unpack bytes ``p:1 count:7``; count 127 is followed by u16 count."""
    i = 0
    while i < len(out):
        if at < 0 or at >= size:
            return -1
        v = np.int64(data[at])
        count = v & 127
        at += 1
        if count == 127:
            count = _u16(data, at)
            at += 2
        if count == 0 or i + count > len(out):
            return -1
        for _ in range(count):
            out[i].p = np.uint8(v >> 7)
            i += 1
    return at

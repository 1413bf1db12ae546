"""Writers of the formats this package only reads, made from the makers' pages and apart from the readers."""

import struct
from pathlib import Path

import numpy as np

from spiking_centernet.data.formats.aedat import Aedat2Recording

RAW_NAMES = {"EVT2": "2.0", "EVT21": "2.1", "EVT3": "3.0"}


def raw_header(kind, size_hw, *, options="", end=True) -> bytes:
    size = f";height={size_hw[0]};width={size_hw[1]}" if size_hw else ""
    lines = [f"evt {RAW_NAMES[kind]}", f"format {kind}{size}{options}", *(["end"] if end else [])]
    return "".join(f"% {line}\n" for line in lines).encode()


def evt2_words(events) -> list[int]:
    words, high = [], None
    for t, x, y, p in events.tolist():
        if t >> 6 != high:
            high = t >> 6
            words.append(0x8 << 28 | high & 0xFFFFFFF)
        words.append(p << 28 | (t & 63) << 22 | x << 11 | y)
    return words


def evt21_words(events) -> list[tuple[int, int]]:
    """Pairs of the half with the type and the half with the mask; neighbors of one row, time and polarity share."""
    words, high = [], None
    for t, x, y, p in events.tolist():
        if t >> 6 != high:
            high = t >> 6
            words.append((0x8 << 28 | high & 0xFFFFFFF, 0))
        base = x & ~31
        head = p << 28 | (t & 63) << 22 | base << 11 | y
        bit = 1 << (x - base)
        if words[-1][0] == head and words[-1][1] < bit:
            words[-1] = (head, words[-1][1] | bit)
        else:
            words.append((head, bit))
    return words


def evt3_words(events, *, vectors=True) -> list[int]:
    words, high, low, row = [], None, None, None
    rows = events.tolist()
    i = 0
    while i < len(rows):
        t, x, y, p = rows[i]
        if t >> 12 != high:
            high, low = t >> 12, None
            words.append(0x8000 | high & 0xFFF)
        if t & 0xFFF != low:
            low = t & 0xFFF
            words.append(0x6000 | low)
        if y != row:
            row = y
            words.append(y)
        run = 1
        while i + run < len(rows) and (rows[i + run][0], *rows[i + run][2:]) == (t, y, p):
            if not rows[i + run - 1][1] < rows[i + run][1] < x + 20:
                break
            run += 1
        if vectors and run > 1:
            mask = sum(1 << (event[1] - x) for event in rows[i : i + run])
            words += [0x3000 | p << 11 | x, 0x4000 | mask & 0xFFF, 0x5000 | mask >> 12]
            i += run
        else:
            words.append(0x2000 | p << 11 | x)
            i += 1
    return words


def write_raw(path, kind, events, size_hw, *, swapped=False, **header) -> Path:
    options = ";endianness=legacy" if swapped else ""
    words = {"EVT2": evt2_words, "EVT21": evt21_words, "EVT3": evt3_words}[kind](events)
    if kind == "EVT21" and not swapped:
        words = [(mask, head) for head, mask in words]
    data = np.array(words, "<u2" if kind == "EVT3" else "<u4").tobytes()
    path.write_bytes(raw_header(kind, size_hw, options=options, **header) + data)
    return path


def write_bin(path, events) -> Path:
    out = bytearray()
    added = 0
    for t, x, y, p in events.tolist():
        while t - added >= 1 << 23:
            out += bytes([0, 240, 0, 0, 0])
            added += 1 << 13
        rest = t - added
        out += bytes([x, y, p << 7 | rest >> 16, rest >> 8 & 255, rest & 255])
    path.write_bytes(out)
    return path


def _flatbuffer(identifier: bytes, fields: list[bytes], tail: bytes, points_at: int) -> bytes:
    """A flatbuffer after its length: a table of fields of 8 bytes, one of them an offset to ``tail``."""
    directory = struct.pack("<HH", 4 + 2 * len(fields), 4 + 8 * len(fields))
    directory += b"".join(struct.pack("<H", 4 + 8 * k) for k in range(len(fields)))
    # The table itself starts 4 bytes before a multiple of 8, so that its fields lie on one.
    directory += bytes((4 - len(directory)) % 8)
    table_at = 8 + len(directory)
    table = struct.pack("<i", len(directory)) + b"".join(field.ljust(8, b"\0") for field in fields)
    offset_at = table_at + 4 + 8 * points_at
    pad = bytes(-(table_at + len(table) + 4) % 8)
    tail_at = table_at + len(table) + len(pad)
    out = bytearray(struct.pack("<I", table_at) + identifier + directory + table + pad + tail)
    struct.pack_into("<I", out, offset_at, tail_at - offset_at)
    return struct.pack("<I", len(out)) + bytes(out)


def aedat4_packet(events, start_us) -> bytes:
    stored = np.zeros(len(events), [("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("on", "u1"), ("pad", "V3")])
    stored["t"], stored["x"], stored["y"], stored["on"] = (events[k] for k in "txyp")
    stored["t"] += start_us
    return _flatbuffer(b"EVTS", [b""], struct.pack("<I", len(events)) + stored.tobytes(), 0)


def write_aedat4(
    path, events, size_hw, *, start_us=1_589_163_147_368_868, compression="", packet=1000, table=-1
) -> Path:
    def pack(data):
        if compression.startswith("lz4"):
            import lz4.frame

            return lz4.frame.compress(data)
        if compression.startswith("zstd"):
            import zstandard

            return zstandard.ZstdCompressor().compress(data)
        return data

    attributes = {"compression": "x", "typeIdentifier": "EVTS"}
    size = "".join(
        f'<attr key="{key}" type="int">{side}</attr>'
        for key, side in zip(("sizeX", "sizeY"), size_hw[::-1], strict=True)
    )
    text = (
        '<dv version="2.0"><node name="outInfo" path="/">'
        '<node name="1" path="/1/"><attr key="compression" type="string">NONE</attr>'
        '<attr key="typeIdentifier" type="string">TRIG</attr><node name="info" path="/"></node></node>'
        '<node name="4" path="/4/">'
        + "".join(f'<attr key="{key}" type="string">{value}</attr>' for key, value in attributes.items())
        + f'<node name="info" path="/">{size}</node></node></node></dv>'
    ).encode()
    number = ["", "lz4", "lz4 high", "zstd", "zstd high"].index(compression)
    tail = struct.pack("<I", len(text)) + text + b"\0"
    head = _flatbuffer(b"IOHE", [struct.pack("<i", number), struct.pack("<q", table), b""], tail, 2)
    out = bytearray(b"#!AER-DAT4.0\r\n" + head)
    for first in range(0, len(events), packet):
        part = events[first : first + packet]
        out += struct.pack("<ii", 1, 3) + b"abc"  # a packet of another stream
        data = pack(aedat4_packet(part, start_us))
        out += struct.pack("<ii", 4, len(data)) + data
    path.write_bytes(out)
    return path


def ecf_chunk(events, packing) -> bytes:
    """A chunk in the maker's compression; ``packing`` "all", "x and p" or "runs"."""
    t, x, y, p = (events[k].astype(np.int64).tolist() for k in "txyp")
    flags = {"all": 2, "x and p": 1, "runs": 0}[packing]
    out = bytearray(struct.pack("<IQ", len(events) << 2 | flags, t[0]))

    def runs(values):
        at = 0
        while at < len(values):
            stop = at
            while stop < len(values) and values[stop] == values[at]:
                stop += 1
            yield values[at], stop - at
            at = stop

    before = t[0]
    for now, count in runs(t):
        step = now - before
        if step >= 15:
            while step:
                out.append(0xF0 | step & 15)
                step >>= 4
        out += bytes([step << 4 | 15, count & 255, count >> 8]) if count >= 15 else bytes([step << 4 | count])
        before = now
    if packing == "all":
        for k in range(0, len(events), 4):
            v = [y[i] << 12 | x[i] << 1 | p[i] if i < len(events) else 0 for i in range(k, k + 4)]
            out += struct.pack(
                "<III", v[0] << 8 | v[1] & 0xFF, (v[1] >> 8) << 16 | v[2] & 0xFFFF, (v[2] >> 16) << 24 | v[3]
            )
        return bytes(out)
    for row, count in runs(y):
        out += struct.pack("<HH", row << 5 | 31, count) if count >= 31 else struct.pack("<H", row << 5 | count)
    if packing == "x and p":
        for k in range(0, len(events), 4):
            v = [x[i] << 1 | p[i] if i < len(events) else 0 for i in range(k, k + 4)]
            out += struct.pack("<HHH", v[0] << 4 | v[1] & 15, (v[1] >> 4) << 8 | v[2] & 255, (v[2] >> 8) << 12 | v[3])
        return bytes(out)
    k = 0
    while k < len(x):
        base, mask = x[k], 0
        k += 1
        for j in range(5):
            if k < len(x) and x[k] == base + j + 1:
                mask |= 16 >> j
                k += 1
        out += struct.pack("<H", base << 5 | mask)
    for on, count in runs(p):
        out += bytes([on << 7 | 127, count & 255, count >> 8]) if count >= 127 else bytes([on << 7 | count])
    return bytes(out)


CD_DTYPE = np.dtype(
    {"names": ["x", "y", "p", "t"], "formats": ["<u2", "<u2", "<i2", "<i8"], "offsets": [0, 2, 4, 8], "itemsize": 16}
)


def write_metavision(path, events, size_hw, *, ecf=True, chunk=500) -> Path:
    import h5py

    chunk = min(chunk, len(events))
    stored = np.zeros(len(events), CD_DTYPE)
    for name in "txyp":
        stored[name] = events[name]
    with h5py.File(path, "w") as file:
        file.attrs["geometry"] = f"{size_hw[1]}x{size_hw[0]}"
        group = file.create_group("CD")
        if not ecf:
            group.create_dataset("events", data=stored, chunks=(chunk,), compression="gzip")
            return path
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((chunk,))
        plan.set_filter(0x8ECF, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((len(events),))
        table = h5py.h5d.create(group.id, b"events", h5py.h5t.py_create(CD_DTYPE), space, plan)
        for number, first in enumerate(range(0, len(events), chunk)):
            part = events[first : first + chunk]
            full = np.concatenate([part, np.repeat(part[-1:], chunk - len(part))])
            table.write_direct_chunk((first,), ecf_chunk(full, ("all", "x and p", "runs")[number % 3]))
    return path


def write_columns(path, events, size_hw=None, **settings) -> Path:
    """The layout of DSEC, and with a size that of RVT."""
    import h5py

    with h5py.File(path, "w") as file:
        for name in "xypt":
            file.create_dataset(f"events/{name}", data=events[name], **settings)
        for name, side in zip(("height", "width"), size_hw or (), strict=False):
            file.create_dataset(f"events/{name}", data=side)
        file.create_dataset("t_offset", data=49_599_300_523)
    return path


def write_aedat2(path: Path, events: np.ndarray, camera, *, chip: str, between=()) -> Path:
    """Write AEDAT 2.0 as jAER does, with addresses of other things ``between`` the header and the events."""
    height, width = camera.size_hw
    x, y = width - 1 - events["x"].astype(np.uint32), height - 1 - events["y"].astype(np.uint32)
    polarity = (events["p"] == camera.on).astype(np.uint32) << camera.polarity_bit
    records = np.zeros(len(events), Aedat2Recording.RECORD)
    records["address"] = x << camera.x_shift | y << camera.y_shift | polarity
    records["t"] = events["t"]
    lines = ["#!AER-DAT2.0", "# Timestamps tick is 1 us", *([f"# AEChip: {chip}"] if chip else [])]
    other = np.array([(address, 0) for address in between], Aedat2Recording.RECORD)
    path.write_bytes("".join(f"{line}\r\n" for line in lines).encode() + other.tobytes() + records.tobytes())
    return path


def write_event_stream(path: Path, events: np.ndarray, size_hw: tuple[int, int], *, kind: int) -> Path:
    """Write Event Stream of kind 1 (DVS) or 2 (ATIS): the time before an event in its first byte, longer gaps apart."""
    head = b"Event Stream" + bytes([2, 0, 0, kind]) + struct.pack("<2H", size_hw[1], size_hw[0])
    out, now = bytearray(head), 0
    most, letting = (127, 0xFF) if kind == 1 else (63, 0xFD)
    for t, x, y, p in events.tolist():
        gap, now = t - now, t
        out += bytes([letting] * (gap // most))
        first = (gap % most) << 1 | p if kind == 1 else (gap % most) << 2 | p << 1
        out += bytes([first]) + struct.pack("<2H", x, y)
        if kind == 2:
            out += bytes([0b01]) + struct.pack("<2H", 0, 0)  # an exposure measurement at the same time
            out += bytes([0xFC])  # and a reset
    path.write_bytes(out)
    return path

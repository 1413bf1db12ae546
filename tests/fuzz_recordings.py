"""What the fuzzers feed to ``events.open``: every format but DAT, and the invariants of whatever opens.

Where a format has several kinds, the first byte chooses. HDF5 has two targets: ``hdf5`` writes a whole file around the
values, types and chunks it is given; ``hdf5_file`` damages the file itself, and with it what libhdf5 has to withstand.
It runs only when named: libhdf5 2.0 may search a damaged file without end.
"""

import io
import struct
from pathlib import Path

import event_writers as writers
import numpy as np
from fuzz_files import SIZE_HW, file, folder, some_events

from spiking_centernet.data import Recording
from spiking_centernet.data import open as open_recording
from spiking_centernet.data.formats.aedat import CAMERAS
from spiking_centernet.structures import VoxelSpec

MOST_PIXELS = 1 << 16
"""Larger sensors are slow, not different."""


def checked(recording: Recording) -> int:
    """Read everything, and two windows that must agree with it."""
    assert recording.size_hw[0] * recording.size_hw[1] <= 1 << 22
    if not recording.num_events:
        return 0
    events = recording.read()
    assert len(events) == recording.num_events
    assert events["t"][0] == recording.start_us >= 0
    assert events["t"][-1] == recording.stop_us - 1
    assert (np.diff(events["t"]) >= 0).all()
    assert events["x"].max() < recording.size_hw[1]
    assert events["y"].max() < recording.size_hw[0]
    assert events["p"].max() <= 1
    middle_us = int(events["t"][len(events) // 2]) + 1
    cut = int(np.searchsorted(events["t"], middle_us))
    assert (recording.read(0, middle_us) == events[:cut]).all()
    if recording.size_hw[0] * recording.size_hw[1] <= MOST_PIXELS and recording.stop_us < 1 << 53:
        recording.cube(recording.stop_us, VoxelSpec(1000, num_steps=1, bins=1))
    return len(events)


def evt(data: bytes) -> int:
    return checked(open_recording(file(data, "a.raw")))


def aedat4(data: bytes) -> int:
    return checked(open_recording(file(data, "a.aedat4")))


def numpy(data: bytes) -> int:
    """An even first byte is ``.npy``, an odd one ``.npz``."""
    return checked(open_recording(file(data[1:], "a.npz" if data[:1] and data[0] & 1 else "a.npy")))


def text(data: bytes) -> int:
    return checked(open_recording(file(data, "a.csv")))


def nmnist(data: bytes) -> int:
    return checked(open_recording(file(data, "a.bin")))


def aedat(data: bytes) -> int:
    return checked(open_recording(file(data, "a.aedat")))


def event_stream(data: bytes) -> int:
    return checked(open_recording(file(data, "a.es")))


def matlab(data: bytes) -> int:
    return checked(open_recording(file(data, "a.mat")))


COLUMN_TYPES = ("<u2", "<i2", "<u4", "<i8", "<u8", "<f4", "<f8", "|u1", "|b1", "|S3", "<c8", "<i4")


def hdf5(data: bytes) -> int:
    """Byte 0 chooses the layout, bytes 1 to 4 the types of x, y, t and p; u16 says how many; then come the values."""
    import h5py

    layout, *kinds = data[:5].ljust(5, b"\0")
    num = int.from_bytes(data[5:7].ljust(2, b"\0"), "little") % 512
    body = data[7:]
    path = folder() / "a.h5"
    path.unlink(missing_ok=True)
    types = [np.dtype(COLUMN_TYPES[kind % len(COLUMN_TYPES)]) for kind in kinds]
    with h5py.File(path, "w") as out:
        if layout % 16 % 3 == 0:
            _one_ecf_chunk(out, body, num)
        elif layout % 16 % 3 == 1:
            table = np.dtype(list(zip("xytp", types, strict=True)))
            out["CD/events"] = np.frombuffer(body.ljust(num * table.itemsize, b"\0"), table, num)
        else:
            for name, kind in zip("xytp", types, strict=True):
                out[f"events/{name}"] = np.frombuffer(body.ljust(num * kind.itemsize, b"\0"), kind, num)
                body = body[num * kind.itemsize :]
        if layout & 64:  # the last bytes say the size, as in Metavision's files or in RVT's
            out.attrs["geometry"] = np.bytes_(body[-5:] or b"x")
            for name, value in (("height", body[-16:-8]), ("width", body[-8:])):
                number = np.frombuffer(value.ljust(8, b"\0"), "<i8" if layout & 32 else "<f8")
                out[f"events/{name}"] = number[0] if layout & 16 else number
    return checked(open_recording(path, size_hw=SIZE_HW if layout & 128 else None))


def _one_ecf_chunk(out, body: bytes, num: int) -> None:
    import h5py

    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((max(num, 1),))
    plan.set_filter(0x8ECF, h5py.h5z.FLAG_OPTIONAL, ())
    group = out.create_group("CD")
    kind = h5py.h5t.py_create(writers.CD_DTYPE)
    table = h5py.h5d.create(group.id, b"events", kind, h5py.h5s.create_simple((num,)), plan)
    if num and body:
        table.write_direct_chunk((0,), body)


def hdf5_file(data: bytes) -> int:
    return checked(open_recording(file(data, "b.h5")))


def timeline(data: bytes) -> int:
    """Byte 0 says how often the events come again; then steps of the clock, each a sign, a power of ten and a digit."""
    repeat, data = (data[0] % 16 + 1 if data else 1), data[1:]
    steps = np.frombuffer(data, "u1").astype(np.int64)
    steps = np.tile(np.where(steps & 128, -1, 1) * 10 ** (steps >> 4 & 7) * (steps & 15), repeat)
    columns = {"t": np.cumsum(steps), "x": steps % 45, "y": steps % 24, "p": steps & 1}
    path = folder() / "clock.npz"
    path.unlink(missing_ok=True)
    np.savez(path, **columns)
    return checked(open_recording(path, size_hw=SIZE_HW, unit="us"))


def hdf5_links(data: bytes) -> int:
    """A byte for each of x, y, p and t: how the column is stored, or where its link leads."""
    import h5py

    path, other = folder() / "links.h5", folder() / "other.h5"
    path.unlink(missing_ok=True)
    with h5py.File(other, "w") as file_:
        file_["x"] = np.arange(10)
    with h5py.File(path, "w") as file_:
        group = file_.create_group("events")
        for name, kind in zip("xypt", data.ljust(4, b"\0"), strict=False):
            kind, how = kind % 7, data[4:].decode("latin-1").replace("\0", "") or "x"
            if kind == 0:
                group[name] = np.arange(10) % 2
            elif kind == 1:
                group[name] = h5py.SoftLink(how)
            elif kind == 2:
                group[name] = h5py.ExternalLink(str(other), "x")
            elif kind == 3:
                group.create_dataset(name, (10,), "<i8", external=[(str(other), 0, 80)])
            elif kind == 4:
                layout = h5py.VirtualLayout((10,), "<i8")
                layout[:] = h5py.VirtualSource(".", f"events/{name}", (10,))
                group.create_virtual_dataset(name, layout)
            elif kind == 5:
                group.create_dataset(name, (1 << 40,), "<i8", chunks=(1 << 10,), compression="gzip")
            else:
                group[name] = group
    return checked(open_recording(path, size_hw=SIZE_HW))


RECORDINGS = (evt, aedat, aedat4, event_stream, numpy, text, nmnist, hdf5, timeline, hdf5_links)
LIBRARIES = (
    hdf5_file,
    matlab,
)


def seeds(name: str, where: Path) -> list[bytes]:
    """Return valid inputs of a target, made with files in the folder ``where``."""
    events, path = some_events(40), where / "a"
    if name == "evt":
        made = [
            writers.write_raw(path, kind, events, SIZE_HW, swapped=swapped).read_bytes()
            for kind, swapped in (("EVT2", False), ("EVT21", False), ("EVT21", True), ("EVT3", False))
        ]
        dense = events.copy()
        dense["t"], dense["y"], dense["p"], dense["x"] = 5000, 3, 1, np.arange(40)
        old = b"% evt 3.0\n% geometry 40x24\n"
        return [*made, writers.write_raw(path, "EVT3", dense, None, end=False).read_bytes(), old + made[3][-90:]]
    if name == "aedat4":
        return [
            writers.write_aedat4(path, events, SIZE_HW, compression=kind, packet=20, table=table).read_bytes()
            for kind, table in (("", -1), ("lz4", -1), ("zstd", -1), ("", 1 << 40))
        ]
    if name == "aedat":
        made = [
            writers.write_aedat2(path, events, camera, chip=camera.name).read_bytes() for camera in CAMERAS.values()
        ]
        golden = Path(__file__).resolve().parent / "golden" / "aedat31"
        return [*made, *((golden / f"{kind}.aedat").read_bytes() for kind in ("overflow", "empty_packet"))]
    if name == "event_stream":
        return [writers.write_event_stream(path, events, SIZE_HW, kind=kind).read_bytes() for kind in (1, 2)]
    if name == "matlab":
        return _matlab_seeds(events)
    if name == "numpy":
        return _numpy_seeds(events)
    if name == "text":
        rows = events[:12].tolist()
        micro = "".join(f"{t},{x},{y},{p}\n" for t, x, y, p in rows)
        seconds = "".join(f"{x} {y} {p} {t * 1e-6:.6f}\r\n" for t, x, y, p in rows)
        return [micro.encode(), b"# made here\nt,x,y,p\n" + micro.encode(), b"x y pol timestamp\n" + seconds.encode()]
    if name == "nmnist":
        late = events.copy()
        late["t"] += 1 << 23
        return [writers.write_bin(path, each).read_bytes() for each in (events, late)]
    if name == "timeline":
        ahead = bytes([0x15] * 60 + [0x71] + [0xF1] + [0x15] * 60)
        return [b"\3" + bytes([0x15] * 100), b"\2" + ahead, b"\1" + bytes([0x15] * 200 + [0xE9] + [0x15] * 200)]
    if name == "hdf5_links":
        return [bytes(4), b"\0\0\1\0/events/x", b"\0\1\0\2x", b"\0\3\4\5/"]
    if name == "hdf5_file":
        return [
            writers.write_metavision(path, events, SIZE_HW, ecf=True, chunk=15).read_bytes(),
            writers.write_metavision(path, events, SIZE_HW, ecf=False, chunk=15).read_bytes(),
            writers.write_columns(path, events, SIZE_HW).read_bytes(),
            writers.write_columns(path, events, chunks=(16,), compression="gzip").read_bytes(),
        ]
    head = struct.pack("<H", len(events))
    stored = np.zeros(len(events), [("x", "<u2"), ("y", "<u2"), ("t", "<i8"), ("p", "|u1")])
    for column in "xytp":
        stored[column] = events[column]
    columns = b"".join(stored[column].tobytes() for column in "xytp")
    found = [b"\0\0\0\0\0" + head + writers.ecf_chunk(events, packing) for packing in ("all", "x and p", "runs")]
    table, rvt, dsec = bytes([65, 0, 0, 3, 7]), bytes([2 | 16 | 32 | 64, 0, 0, 3, 7]), bytes([2 | 128, 1, 1, 6, 8])
    said = struct.pack("<qq", *SIZE_HW)
    return [*found, table + head + stored.tobytes() + b"40x24", rvt + head + columns + said, dsec + head + columns]


def _matlab_seeds(events: np.ndarray) -> list[bytes]:
    import scipy.io

    found, columns = [], {name: events[name] for name in "txyp"}
    for variables in (columns, {"TD": columns}):
        for packed in (False, True):
            made = io.BytesIO()
            scipy.io.savemat(made, variables, do_compression=packed)
            found.append(made.getvalue())
    return found


def _numpy_seeds(events: np.ndarray) -> list[bytes]:
    def saved(save, *arrays, **named) -> bytes:
        made = io.BytesIO()
        save(made, *arrays, **named)
        return made.getvalue()

    columns = {name: events[name] for name in "txyp"}
    plain = np.stack([column.astype(np.int64) for column in columns.values()], axis=1)
    in_seconds = plain * np.array([1e-6, 1, 1, 1])
    return [
        b"\0" + saved(np.save, events),
        b"\0" + saved(np.save, plain),
        b"\0" + saved(np.save, in_seconds),
        b"\1" + saved(np.savez, **columns),
        b"\1" + saved(np.savez_compressed, **columns),
        b"\1" + saved(np.savez, events=events),
    ]

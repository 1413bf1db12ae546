"""MATLAB files (``.mat``) with a struct or variables of x, y, t and p.

Files of version 5 to 7.2 are read with SciPy, those of version 7.3 are HDF5. They are held in memory; to protect it, a
file whose compressed variables unpack to more than ``MAX_BYTES`` is refused.
"""

import os
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spiking_centernet.data.formats.columns import ColumnRecording
from spiking_centernet.data.formats.hdf5_members import check_claims, check_source
from spiking_centernet.data.formats.indexed import open_bytes
from spiking_centernet.data.formats.table import NAMES
from spiking_centernet.errors import EventFileError, need

MAX_BYTES = 1 << 31
CHILD = """
import sys
import numpy, scipy.io

def flat(tree, start=""):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, start + name + "/")
        elif not name.startswith("__") and numpy.asarray(value).dtype.kind in "iufb":
            yield start + name, numpy.asarray(value)

numpy.savez(sys.argv[2], **dict(flat(scipy.io.loadmat(sys.argv[1], simplify_cells=True))))
"""
"""Reads a file in a process of its own: damaged bytes can crash SciPy's compiled reader."""
MOST_NESTED = 8
HEADER_BYTES = 128
COMPRESSED = 15
"""miCOMPRESSED, MathWorks' "MAT-File Format", table 1-1."""


class MatlabRecording(ColumnRecording):
    """A ``.mat`` file as a recording."""

    def __init__(
        self, path: str | os.PathLike[str], *, size_hw: tuple[int, int] | None = None, unit: str | None = None
    ):
        """Open and index a file; see ``ColumnRecording``."""
        path = Path(path)
        with open_bytes(path) as file:
            head = file.read(HEADER_BYTES)
        tree = _hdf5_tree(path) if b"MATLAB 7.3" in head else _tree(path)
        found = _find(tree)
        if found is None:
            raise EventFileError(
                f"{path}: holds {sorted(tree)}, but no struct or variables named x, y, t and p; save the events so"
            )
        super().__init__(path, found, kind="MATLAB", size_hw=size_hw, unit=unit)


def _tree(path: Path) -> Mapping[str, Any]:
    need("scipy.io", f"reading {path}", "formats")
    _check_unpacked_size(path)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "columns.npz"
        child = subprocess.run(
            [sys.executable, "-c", CHILD, str(path), str(target)], capture_output=True, text=True, errors="replace"
        )
        if child.returncode or not target.is_file():
            lines = child.stderr.strip().splitlines()
            said = lines[-1][:200] if child.returncode > 0 and lines else "SciPy gives up on its bytes"
            raise EventFileError(f"{path}: cannot be read as MATLAB 5 ({said}); copy or save it again")
        tree: dict[str, Any] = {}
        with np.load(target, allow_pickle=False) as columns:
            for name in columns.files:
                *structs, field = name.split("/")
                place = tree
                for struct in structs:
                    place = place.setdefault(struct, {})
                place[field] = columns[name]
    return tree


def _check_unpacked_size(path: Path) -> None:
    """Unpack compressed variables piece by piece, and refuse more than ``MAX_BYTES`` before anything is kept."""
    total, at, end = 0, HEADER_BYTES, path.stat().st_size
    with open_bytes(path) as file:
        while at + 8 <= end:
            file.seek(at)
            kind, size = np.frombuffer(file.read(8), "<u4").tolist()
            at += 8 + size
            if kind != COMPRESSED:
                continue
            unpacker, left = zlib.decompressobj(), min(size, end - file.tell())
            try:
                while left and (piece := file.read(min(left, 1 << 16))):
                    left -= len(piece)
                    while piece:
                        total += len(unpacker.decompress(piece, 1 << 20))
                        piece = unpacker.unconsumed_tail
                        if total > MAX_BYTES:
                            raise EventFileError(
                                f"{path}: its variables unpack to more than {MAX_BYTES >> 30} GiB; save it in version "
                                "7.3 (HDF5) or in parts"
                            )
            except zlib.error as error:
                raise EventFileError(f"{path}: is damaged at byte {file.tell()} ({error}); copy it again") from error


def _hdf5_tree(path: Path) -> Mapping[str, Any]:
    h5py = need("h5py", f"reading {path}", "formats")
    try:
        with h5py.File(path, "r") as file:
            return _group(path, h5py, file)
    except (OSError, RuntimeError, ValueError) as error:
        raise EventFileError(f"{path}: cannot be read as MATLAB 7.3 ({error}); copy or save it again") from error


def _group(path: Path, h5py: Any, group: Any, depth: int = 0) -> Mapping[str, Any]:
    tree: dict[str, Any] = {}
    if depth > MOST_NESTED:  # a group may hold itself
        return tree
    for name in group:
        if name.startswith("#") or not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue  # MATLAB's own bookkeeping, and links that lead out of the file
        entry = group[name]
        if isinstance(entry, h5py.Group):
            tree[name] = _group(path, h5py, entry, depth + 1)
        elif entry.dtype.kind in "iufb" and entry.nbytes <= MAX_BYTES:
            check_source(path, h5py, entry)
            check_claims(path, [entry])
            tree[name] = entry[()]
    return tree


def _find(tree: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
    """Return the columns of the first struct, from the outside in, that has them all."""
    for place in _structs(tree):
        by_lower = {name.lower(): value for name, value in place.items()}
        columns = {field: next((by_lower[n] for n in names if n in by_lower), None) for field, names in NAMES.items()}
        if all(column is not None and np.asarray(column).dtype.kind in "iufb" for column in columns.values()):
            return {field: np.asarray(column).reshape(-1) for field, column in columns.items()}
    return None


def _structs(tree: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield tree
    for value in tree.values():
        if isinstance(value, Mapping):
            yield from _structs(value)

"""Where HDF5 files of different tools keep t, x, y and p.

- a group with columns: ``events`` (DSEC, RVT, rpg_e2vid, TUM-VIE) or the root, with the names of ``table.NAMES``;
- a table [N, 4]: ``events`` of v2e with t, x, y, p (v2e's ``h5`` output: whole microseconds, polarity 0 and 1), and
  ``davis/left/events`` of MVSEC with x, y, t, p (seconds, polarity -1 and 1).
"""

from pathlib import Path
from typing import Any

import numpy as np

from spiking_centernet.data.formats.hdf5_members import member
from spiking_centernet.data.formats.table import NAMES, split_unit
from spiking_centernet.errors import EventFileError

GROUPS = ("events", "CD", "")
"""Where columns are looked for; an empty name is the root."""

TABLES = {"events": ("v2e", "txyp"), "davis/left/events": ("MVSEC", "xytp"), "davis/right/events": ("MVSEC", "xytp")}
"""Tables [N, 4] -> who writes them, and the order of their columns."""


class Column:
    """One column of a table [N, 4] that looks like a data set of its own."""

    def __init__(self, table: Any, index: int):
        self._table, self._index = table, index
        self.dtype, self.ndim, self.shape = table.dtype, 1, (len(table),)
        self.chunks = None if table.chunks is None else table.chunks[:1]
        self.name, self.id = table.name, table.id

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: slice) -> np.ndarray:
        return self._table[part, self._index]


def locate(path: Path, h5py: Any, file: Any) -> tuple[str, str, dict[str, Any]]:
    """Return the layout in words, the name of the group it was found in, and t, x, y and p.

    Raises:
        EventFileError: the file has none of the layouts above, or they lie in another file.
    """
    for name, (writer, order) in TABLES.items():
        table = member(path, h5py, file, name)
        if isinstance(table, h5py.Dataset) and table.ndim == 2 and table.shape[1] == 4:
            columns = {field: Column(table, index) for index, field in enumerate(order)}
            return f"HDF5 with a table ({writer})", name.rpartition("/")[0], columns
    for name in GROUPS:
        group = member(path, h5py, file, name) if name else file
        if isinstance(group, h5py.Group) and (columns := _columns(path, h5py, file, name, list(group))) is not None:
            return f"HDF5 with columns ({f'{name}/' if name else ''}{'x, y, t, p'})", name, columns
    places = {name: member(path, h5py, file, name) for name in list(file)[:20]}
    held = sorted(places) + [
        f"{name}/{inner}"
        for name, group in places.items()
        if isinstance(group, h5py.Group)
        for inner in list(group)[:20]
    ]
    raise EventFileError(
        f"{path}: holds {held[:20]}, but neither 'CD/events' (Metavision), columns t, x, y and p in 'events' or at the "
        "root (DSEC, RVT, rpg_e2vid), nor a table 'events' (v2e) or 'davis/left/events' (MVSEC); export its events so"
    )


def _columns(path: Path, h5py: Any, file: Any, prefix: str, names: list[str]) -> dict[str, Any] | None:
    by_base = {split_unit(name)[0]: name for name in names}
    found = {field: next((by_base[n] for n in known if n in by_base), None) for field, known in NAMES.items()}
    if found["t"] is None:
        return None
    return {field: member(path, h5py, file, f"{prefix}/{name}") for field, name in found.items() if name is not None}


def said_size(path: Path, h5py: Any, file: Any, prefix: str) -> tuple[int, int] | None:
    """Return height and width if the file says them: as scalars of the group, or as an attribute of it or the root.

    Raises:
        EventFileError: they are no whole numbers.
    """
    group = member(path, h5py, file, prefix) if prefix else file
    sides = [member(path, h5py, file, f"{prefix}/{name}") for name in ("height", "width")]
    if all(isinstance(side, h5py.Dataset) for side in sides):
        height, width = (side[()] if side.size <= 4 else np.empty(0) for side in sides)
        return _side(path, height, "height"), _side(path, width, "width")
    for place in (group, file):
        for name in ("sensor_resolution", "sensor_size", "resolution"):
            if name in place.attrs:
                numbers = np.asarray(place.attrs[name]).reshape(-1)
                if len(numbers) == 2:  # height first, as rpg_e2vid writes it
                    return _side(path, numbers[0], name), _side(path, numbers[1], name)
    return None


def _side(path: Path, stored: Any, name: str) -> int:
    value = np.asarray(stored)
    if value.size != 1 or value.dtype.kind not in "iuf" or not 0 < value.item() <= 1 << 16:
        raise EventFileError(f"{path}: says {name} {str(value)[:100]}, must be one whole number; correct it")
    return int(value.item())

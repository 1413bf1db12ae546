"""Where HDF5 files of different tools keep t, x, y and p.

- a group with columns: ``events`` (DSEC, RVT, rpg_e2vid, TUM-VIE) or the root, with the names of ``arrays.NAMES``;
- a table [N, 4]: ``events`` of v2e with t, x, y, p (v2e's ``h5`` output: whole microseconds, polarity 0 and 1), and
  ``davis/left/events`` of MVSEC with x, y, t, p (seconds, polarity -1 and 1).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spiking_centernet.data.formats.arrays import NAMES
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


def locate(path: Path, h5py: Any, file: Any) -> tuple[str, Any, dict[str, Any]]:
    """Return the layout in words, the group it was found in, and t, x, y and p.

    Raises:
        EventFileError: the file has none of the layouts above.
    """
    for name, (writer, order) in TABLES.items():
        table = file.get(name)
        if isinstance(table, h5py.Dataset) and table.ndim == 2 and table.shape[1] == 4:
            columns = {field: Column(table, index) for index, field in enumerate(order)}
            return f"HDF5 with a table ({writer})", table.parent, columns
    for name in GROUPS:
        group = file.get(name) if name else file
        if isinstance(group, h5py.Group) and (columns := _columns(group)) is not None:
            return f"HDF5 with columns ({f'{name}/' if name else ''}{'x, y, t, p'})", group, columns
    groups = [name for name in file if isinstance(file.get(name), h5py.Group)]
    held = sorted(file) + [f"{g}/{name}" for g in groups for name in file[g]]
    raise EventFileError(
        f"{path}: holds {held[:20]}, but neither 'CD/events' (Metavision), columns t, x, y and p in 'events' or at the "
        "root (DSEC, RVT, rpg_e2vid), nor a table 'events' (v2e) or 'davis/left/events' (MVSEC); export its events so"
    )


def _columns(group: Any) -> dict[str, Any] | None:
    by_lower: Mapping[str, str] = {name.lower(): name for name in group}
    found = {field: next((by_lower[n] for n in names if n in by_lower), None) for field, names in NAMES.items()}
    if not any(found.values()) or found["t"] is None:
        return None
    return {field: group[name] for field, name in found.items() if name is not None}


def said_size(path: Path, file: Any, group: Any) -> tuple[int, int] | None:
    """Return height and width if the file says them: as scalars of the group, or as an attribute of it or the root.

    Raises:
        EventFileError: they are no whole numbers.
    """
    if "height" in group and "width" in group:
        return _side(path, group["height"][()], "height"), _side(path, group["width"][()], "width")
    for place in (group, file):
        for name in ("sensor_resolution", "sensor_size", "resolution"):
            if name in place.attrs:
                sides = np.asarray(place.attrs[name]).reshape(-1)
                if len(sides) == 2:  # height first, as rpg_e2vid writes it
                    return _side(path, sides[0], name), _side(path, sides[1], name)
    return None


def _side(path: Path, stored: Any, name: str) -> int:
    value = np.asarray(stored)
    if value.size != 1 or value.dtype.kind not in "iuf" or not 0 < value.item() <= 1 << 16:
        raise EventFileError(f"{path}: says {name} {str(value)[:100]}, must be one whole number; correct it")
    return int(value.item())

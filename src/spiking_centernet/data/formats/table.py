"""What columns of numbers mean: which is t, x, y and p, what the times are counted in, which polarity is ON.

Names say it where there are names. Otherwise it is inferred where only one reading is possible, and said; where several
are, the file is refused with the option that settles it.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spiking_centernet.data.formats.timeline import MOST_DESCENTS, WRONG_PLACE, tolerable
from spiking_centernet.data.voxel import MAX_TIME_US as LATEST_US
from spiking_centernet.errors import ConfigError, EventFileError, did_you_mean
from spiking_centernet.structures import EVENT_DTYPE

NAMES = {
    "t": ("t", "ts", "time", "timestamp", "timestamps"),
    "x": ("x", "xs", "col", "column"),
    "y": ("y", "ys", "row"),
    "p": ("p", "ps", "pol", "polarity", "polarities", "on"),
}
"""What the four columns are called in the wild; after the name of a time its unit may stand: ``t_us``, ``time [s]``."""

UNITS = {"ns": -3, "us": 0, "ms": 3, "s": 6}
"""What times are counted in -> the power of ten that makes microseconds of it."""

_UNIT_WORDS = {
    "ns": ("ns", "nsec", "nanosecond", "nanoseconds"),
    "us": ("us", "\u00b5s", "\u03bcs", "usec", "microsecond", "microseconds"),
    "ms": ("ms", "msec", "millisecond", "milliseconds"),
    "s": ("s", "sec", "secs", "second", "seconds"),
}

FEW = 100
"""Of fewer events than this the median step of time says nothing about its unit."""

FEW_ROWS = 20
"""Of fewer rows than this no order of columns is inferred; it is t, x, y, p."""


def check_options(columns: str | None, unit: str | None) -> None:
    """Check the order of columns and the unit of time that a caller gives.

    Raises:
        ConfigError: they are written wrong.
    """
    if columns is not None and (sorted(c for c in columns if c != "-") != sorted("txyp") or len(columns) > 64):
        raise ConfigError(
            f"columns is written with one letter a column, each of t, x, y and p once and - for others, as in 'xypt' "
            f"or 't-xyp'; got {columns!r}"
        )
    if unit is not None and unit not in UNITS:
        raise ConfigError(f"unknown unit of time {unit!r}{did_you_mean(unit, UNITS)}")


def split_unit(name: str) -> tuple[str, str | None]:
    """Return a column's name in lower case without its unit, and the unit of time it says (None if it says none)."""
    name = name.strip().strip("\"'").lower()
    bracketed = re.fullmatch(r"([^\[(]*?)[\s_]*[\[(](.*)[\])]", name)
    base, _, word = (bracketed[1], "", bracketed[2]) if bracketed else name.rpartition("_")
    unit = next((unit for unit, words in _UNIT_WORDS.items() if word.strip() in words), None)
    base = base.strip()
    if base in NAMES["t"] and unit is not None:
        return base, unit
    return (base if bracketed else name), None


def match_names(path: Path, names: Sequence[str]) -> dict[str, str]:
    """Return which of ``names`` is t, x, y and p.

    Raises:
        EventFileError: one is missing.
    """
    bases = {name: split_unit(name)[0] for name in reversed(names)}
    by_base = {base: name for name, base in bases.items()}
    matched = {field: next((by_base[a] for a in NAMES[field] if a in by_base), None) for field in NAMES}
    missing = [field for field, name in matched.items() if name is None]
    if missing:
        raise EventFileError(
            f"{path}: has the columns {list(names)}, but none for {missing}; call them t, x, y and p, or say their "
            "order (columns='txyp')"
        )
    return {field: name for field, name in matched.items() if name is not None}


def infer_columns(path: Path, rows: np.ndarray, size_hw: tuple[int, int] | None) -> str:
    """Return the order of four columns without names: t, x, y, p if that is possible, else the only one that is.

    Args:
        path: what to name in an error.
        rows: float [N, 4], the first rows of the file.
        size_hw: height and width of the sensor in pixels, if known.

    Raises:
        EventFileError: no order is possible, or several other than the usual one.
    """
    if len(rows) < FEW_ROWS:
        return "txyp"  # what does not fit it is refused number by number
    limit = tolerable(len(rows))
    width = (size_hw or (1 << 16, 1 << 16))[1]
    height = (size_hw or (1 << 16, 1 << 16))[0]
    whole = rows % 1 == 0

    def is_place(k: int, side: int) -> bool:
        good = whole[:, k] & (rows[:, k] >= 0) & (rows[:, k] < side)
        return int((~good).sum()) <= limit

    def is_polarity(k: int) -> bool:
        return any(int((~np.isin(rows[:, k], pair)).sum()) <= limit for pair in ((0, 1), (-1, 1)))

    def is_time(k: int) -> bool:
        steps_back = int((np.diff(rows[:, k]) < 0).sum())
        return int((rows[:, k] < 0).sum()) <= limit and steps_back <= len(rows) * MOST_DESCENTS

    def is_no_place(k: int) -> bool:
        return not is_place(k, max(height, width))

    for can_be_time in (is_time, is_no_place):
        orders = []
        for t, p in ((t, p) for t in range(4) for p in range(4) if t != p):
            x, y = (k for k in range(4) if k not in (t, p))
            if can_be_time(t) and is_polarity(p) and is_place(x, width) and is_place(y, height):
                letters = {t: "t", x: "x", y: "y", p: "p"}
                orders.append("".join(letters[k] for k in range(4)))
        if "txyp" in orders:
            return "txyp"
        if len(orders) == 1:
            shown = ", ".join(orders[0])
            warnings.warn(
                f"{path}: its columns have no names; they are taken as {shown}, the only order they can have "
                f"(columns={orders[0]!r} says it)",
                stacklevel=6,
            )
            return orders[0]
        if orders:
            break
    shown = f"could be {' or '.join(orders)}" if orders else "cannot be t, x, y, p, nor in any other order"
    example = " ".join(f"{value:g}" for value in rows[0])
    raise EventFileError(
        f"{path}: its columns have no names and {shown} (first row: {example}); p must be 0 and 1 or -1 and 1, t must "
        "not run backwards: say the order with columns='xypt'"
    )


def infer_unit(path: Path, t: np.ndarray, *, is_mixed: bool = False) -> str:
    """Return what times without a named unit are counted in: whole ones microseconds, others seconds.

    Args:
        path: what to name in an error.
        t: the first times of the file.
        is_mixed: some are written with a fraction and some without.

    Raises:
        EventFileError: that is not the only unit in which they can be read.
    """
    finite = np.sort(t[np.isfinite(t)].astype(np.float64))
    if not len(finite):
        return "us"
    step = float(np.median(np.diff(finite))) if len(finite) >= FEW else None
    if not (finite % 1 != 0).any():
        beyond = step is not None and finite[len(finite) // 2] > LATEST_US
        slow = step is not None and step > 100_000
        coarse = step is not None and step >= 1000 and not (finite % 1000 != 0).any() and finite[-1] > finite[0]
        if not (beyond or slow or coarse or is_mixed):
            return "us"
    elif not is_mixed:
        finite = np.clip(finite, -1e300, 1e300)
        thousandths = finite * 1000
        slack = np.maximum(1e-4, np.abs(thousandths) * 1e-15 * 4)
        fine = bool((np.abs(thousandths - np.rint(thousandths)) > slack).any())
        span = float(finite[-1] - finite[0])
        if step is None or (fine and step <= 0.01 and (span <= 100 or step <= 0.001)):
            return "s"
    raise EventFileError(
        f"{path}: its times ({finite[0]:.15g} to {finite[-1]:.15g} in the first {len(finite)} events) could be "
        'nanoseconds, microseconds, milliseconds or seconds; say which with unit="us" (--unit us)'
    )


@dataclass
class Meaning:
    """How to read columns of numbers as events.

    Attributes:
        path: what to name in an error.
        unit: a name of ``UNITS``.
        num_events: how many the file holds.
        is_given: the unit was named by the file or the caller, so that fractions of it are no contradiction.
    """

    path: Path
    unit: str
    num_events: int
    is_given: bool = False
    _off: set[int] = field(default_factory=set)

    def events(self, columns: Mapping[str, np.ndarray], first: int) -> np.ndarray:
        """Return columns as EVENT_DTYPE; a few bad events get the place ``WRONG_PLACE``.

        Args:
            columns: t, x, y and p, flat and of one length.
            first: number of their first event.

        Raises:
            EventFileError: more numbers than a few are no place, no time or no polarity.
        """
        events = np.empty(len(columns["t"]), EVENT_DTYPE)
        bad = np.zeros(len(events), bool)
        for name in "txyp":
            stored = columns[name]
            values = stored.astype(np.float64) if stored.dtype.kind == "f" else stored
            wrong = self._wrong(name, values)
            if int(wrong.sum()) > tolerable(self.num_events):
                self._refuse(name, stored, int(np.argmax(wrong)), first)
            bad |= wrong
            good = np.where(wrong, values.dtype.type(0), values) if wrong.any() else values
            if name == "t":
                events["t"] = self._microseconds(good)
            else:
                events[name] = good == 1 if name == "p" else good
        self.check_polarity(columns["p"][~bad] if bad.any() else columns["p"])
        events["x"][bad] = events["y"][bad] = WRONG_PLACE
        return events

    def _wrong(self, name: str, values: np.ndarray) -> np.ndarray:
        whole = np.True_
        if values.dtype.kind == "f":
            with np.errstate(invalid="ignore"):  # infinity has no remainder
                whole = values % 1 == 0
        if name == "p":
            return ~((values == 0) | (values == 1) | (values == -1))
        if name in "xy":
            return ~(whole & (values >= 0) & (values < 1 << 16))
        latest = LATEST_US / 10.0 ** UNITS[self.unit]
        return ~((values >= -latest) & (values <= latest) & (whole | (self.unit != "us") | self.is_given))

    def _refuse(self, name: str, stored: np.ndarray, k: int, first: int) -> None:
        if name == "p":
            values = np.unique(stored)[:6].tolist()
            raise EventFileError(
                f"{self.path}: event {first + k} has polarity {stored[k]} (there are {values}); write 1 for ON and 0 "
                "or -1 for OFF, or say the order of the columns (columns='xypt')"
            )
        raise EventFileError(
            f"{self.path}: event {first + k} has {name} {stored[k]}; x and y must be whole numbers from 0 to 65535, "
            "times all in seconds (with a fraction) or all whole microseconds, unless unit says it; without names the "
            "order is t, x, y, p, unless columns says otherwise"
        )

    def _microseconds(self, t: np.ndarray) -> np.ndarray:
        power = UNITS[self.unit]
        if t.dtype.kind == "f":
            return np.rint(t * 10.0**power)
        t = t.astype(np.int64)
        # Half a microsecond counts up, as in text.
        return t * 10**power if power >= 0 else (t + 500) // 1000

    def check_polarity(self, p: np.ndarray) -> None:
        """Check that OFF is written in one way.

        Raises:
            EventFileError: both 0 and -1 occur, so that one of them says something else.
        """
        self._off |= {value for value in (0, -1) if (p == value).any()}
        if len(self._off) > 1:
            raise EventFileError(
                f"{self.path}: its polarities are -1, 0 and 1; only two of them can be OFF and ON: write 0 and 1"
            )


def check_columns(path: Path, columns: Mapping[str, Any]) -> None:
    """Check that columns are flat, of numbers and of one length.

    Raises:
        EventFileError: they are not.
    """
    for name, column in columns.items():
        if column.ndim != 1 or column.dtype.kind not in ("iufb" if name == "p" else "iuf"):
            raise EventFileError(
                f"{path}: column {name} is {column.dtype} {list(column.shape)}, must be a flat array of numbers"
            )
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) != 1:
        raise EventFileError(f"{path}: its columns have different lengths {lengths}; save them again")

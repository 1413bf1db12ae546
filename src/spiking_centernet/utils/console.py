"""What the command shows: one bar and one training line while it works, tables; plain lines where nobody watches."""

import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH = 120
PLAIN_EVERY_S = 30.0
"""Seconds between lines of training where the output is a file: a log should be short."""


def make_console(*, stderr: bool = False) -> Console:
    """Return a console: results go to standard output, whatever moves to standard error."""
    found = Console(stderr=stderr, highlight=False)
    # Files and pipes have no width: without this, tables would break at 80 columns.
    return (
        found
        if found.is_terminal or "COLUMNS" in os.environ
        else Console(stderr=stderr, highlight=False, width=PLAIN_WIDTH)
    )


def say(text: str) -> None:
    """Print a result as it is."""
    make_console().print(text, markup=False, soft_wrap=True)


def show_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]], *, words: int = 1) -> None:
    """Print a table whose first ``words`` columns are words and whose others are numbers."""
    table = Table(title=title or None, title_justify="left")
    for k, name in enumerate(header):
        table.add_column(name, justify="left" if k < words else "right", overflow="fold")
    for row in rows:
        # Text, so that a path with brackets is not taken for markup.
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    make_console().print(table)


def flat_rows(values: dict[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Return nested values as rows of a table."""
    rows = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += flat_rows(value, f"{above}{name} ")
        elif isinstance(value, list | tuple):
            rows += [(f"{above}{name}", str(item)) for item in value or ("nothing found",)]
        elif value is not None:
            rows.append((f"{above}{name}", f"{value:.3g}" if isinstance(value, float) else str(value)))
    return rows


def track(items: Iterable[Any], total: int, what: str) -> Iterator[Any]:
    """Pass items on and show a bar on a terminal; nothing where there is none."""
    shown = make_console(stderr=True)
    if not shown.is_terminal:
        yield from items
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    )  # fmt: skip
    with Progress(*columns, console=shown, transient=True) as progress:
        yield from progress.track(items, total=total, description=what)


class TrainingLine:
    """Shows the rows that training reports: epoch, step, loss, AP, firing rate, steps/s, time left, dead layers."""

    def __init__(self, epochs: int, dead_below: float):
        self._console = make_console(stderr=True)
        self._epochs, self._dead_below = epochs, dead_below
        self._loss = self._seconds = math.nan
        self._ap = self._rate = self._activity = math.nan
        self._warned: set[str] = set()
        self._printed_at = -math.inf
        self._progress = Progress(
            BarColumn(bar_width=20), TextColumn("{task.description}"), console=self._console, transient=True,
            disable=not self._console.is_terminal,
        )  # fmt: skip
        self._task = self._progress.add_task("starting", total=None)

    def __enter__(self) -> "TrainingLine":
        self._progress.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._progress.stop()

    def __call__(self, row: dict[str, Any]) -> None:
        """Take a row of training."""
        if "loss" in row:
            self._loss = _smooth(self._loss, row["loss"])
            self._seconds = _smooth(self._seconds, row["seconds"])
        self._rate = row.get("firing_rate", row.get("val_firing_rate", self._rate))
        self._activity = row.get("activity", self._activity)
        validated = "ap" in row
        if validated:
            self._ap = row["ap"]
        line = self.describe(row)
        self._progress.update(self._task, description=line, completed=row["step"], total=row["num_steps"])
        self._alarm(row)
        last = row["step"] == row["num_steps"]
        late = time.monotonic() - self._printed_at > PLAIN_EVERY_S
        if validated or (not self._console.is_terminal and (late or last)):
            self._console.print(line, soft_wrap=True, markup=False)
            self._printed_at = time.monotonic()

    def describe(self, row: dict[str, Any]) -> str:
        """Return the line of a row."""
        parts = [f"epoch {row['epoch'] + 1}/{self._epochs}", f"step {row['step']}/{row['num_steps']}"]
        for name, value, form in (("loss", self._loss, ".3f"), ("AP", self._ap, ".3f"), ("firing", self._rate, ".1%")):
            parts.append(f"{name} {'-' if math.isnan(value) else format(value, form)}")
        if not math.isnan(self._activity):
            parts.append(f"activity {self._activity:.1%}")
        if self._seconds > 0:
            left_s = round((row["num_steps"] - row["step"]) * self._seconds)
            parts.append(f"{1 / self._seconds:.2f} steps/s")
            parts.append(f"{left_s // 3600}:{left_s // 60 % 60:02d}:{left_s % 60:02d} left")
        return "  ".join(parts)

    def _alarm(self, row: dict[str, Any]) -> None:
        rates = {name.split("rate/", 1)[1]: rate for name, rate in row.items() if "rate/" in name}
        dead = {name for name, rate in rates.items() if rate < self._dead_below}
        if new := sorted(dead - self._warned):
            text = f"ALARM step {row['step']}: dead layers pass nothing on: {', '.join(new)}"
            self._console.print(Text(text, style="bold red"), soft_wrap=True)
        if rates:
            self._warned = dead


def _smooth(before: float, now: float) -> float:
    return now if math.isnan(before) else 0.9 * before + 0.1 * now

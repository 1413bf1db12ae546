"""Progress of a long job: one bar on a terminal, silent elsewhere.

The bar follows the package's log: it is shown where messages (level INFO) are, as by the command without ``--quiet``.
"""

import logging
import sys
from collections.abc import Iterable, Iterator, Sized
from typing import Any, ClassVar, TypeVar

T = TypeVar("T")

LOGGER = logging.getLogger("spiking_centernet")


class Progress:
    """A bar on standard error; silent within another.

    Args:
        what: what is being done.
        total: how much there is to do, None where that is unknown.
        done: how much of it is done already.
        unit: of both; they count items without one.
        hidden: show neither this bar nor those within it.
    """

    _outermost: ClassVar["Progress | None"] = None

    def __init__(self, what: str, total: float | None = None, *, done: float = 0, unit: str = "", hidden: bool = False):
        self._task = {"description": what, "total": total, "completed": done}
        self._unit, self._hidden = unit, hidden
        self._bar: Any = None

    def __enter__(self) -> "Progress":
        if Progress._outermost is not None:
            return self
        Progress._outermost = self
        if not self._hidden and LOGGER.isEnabledFor(logging.INFO) and sys.stderr.isatty():
            from rich import progress
            from rich.console import Console

            count = progress.MofNCompleteColumn()
            if self._unit:
                count = progress.TextColumn(f"{{task.completed:.1f}}/{{task.total:.1f}} {self._unit}")
            self._bar = progress.Progress(
                progress.TextColumn("{task.description}", markup=False), progress.BarColumn(20), count,
                progress.TimeElapsedColumn(), progress.TimeRemainingColumn(), console=Console(stderr=True),
                transient=True,
            )  # fmt: skip
            self._bar.add_task(**self._task)
            self._bar.start()
        return self

    def __exit__(self, *failure: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        if Progress._outermost is self:
            Progress._outermost = None

    @property
    def shown(self) -> bool:
        """Whether somebody sees it."""
        return self._bar is not None

    def advance(self, amount: float = 1, what: str | None = None) -> None:
        """Count what is done; ``what`` replaces the description."""
        if self._bar is not None:
            self._bar.update(0, advance=amount, description=what)


def close() -> None:
    """End the bar that an error left behind: its traceback may keep a :func:`track` alive."""
    if Progress._outermost is not None:
        Progress._outermost.__exit__()


def track(items: Iterable[T], what: str, total: float | None = None) -> Iterator[T]:
    """Pass items on and show how many are done of ``total``, by default as many as there are."""
    with Progress(what, len(items) if total is None and isinstance(items, Sized) else total) as bar:
        for item in items:
            yield item
            bar.advance()

"""What training says of its rows: a bar, a line for every validation, a warning of silent layers."""

import logging
import math
import time
from collections.abc import Callable
from typing import Any

from spiking_centernet.model.firing_rate import DEAD_BELOW
from spiking_centernet.utils.progress import Progress

LOG = logging.getLogger(__name__)

EVERY_S = 30.0
"""Seconds between two lines: a log should be short."""


SETTLED_STEP = 100
"""Before, a silent layer means nothing: the learning rate is still rising, and the running means of batch norms still
hold a share of their initial values."""

OnRow = Callable[[dict[str, Any]], object]
"""Called with the metrics of a step or of a validation; ``num_steps`` is the last step of the run."""


class TrainingLog:
    """Shows epoch, step, loss, AP, firing rate, steps/s and time left.

    Args:
        epochs: of the whole run.
        num_steps: of the whole run.
        step: how many of them are done.
        on_row: called with every row.
        hidden: show nothing and pass no row on: another process does.
    """

    def __init__(self, epochs: int, num_steps: int, step: int, *, on_row: OnRow | None = None, hidden: bool = False):
        self._on_row, self._hidden = on_row, hidden
        self._epochs, self._num_steps, self._step = epochs, num_steps, step
        self._loss = self._seconds = self._ap = self._rate = self._activity = math.nan
        self._warned: set[str] = set()
        self._logged_at = -math.inf
        self._bar = Progress("training", num_steps, done=step, hidden=hidden)

    def __enter__(self) -> "TrainingLog":
        self._bar.__enter__()
        return self

    def __exit__(self, *failure: object) -> None:
        self._bar.__exit__(*failure)

    def show(self, row: dict[str, Any]) -> None:
        """Take a row of the metrics."""
        if self._hidden:
            return
        if self._on_row is not None:
            self._on_row({**row, "num_steps": self._num_steps})
        if "loss" in row:
            self._loss = _smooth(self._loss, row["loss"])
            self._seconds = _smooth(self._seconds, row["seconds"])
        self._rate = row.get("firing_rate", row.get("val_firing_rate", self._rate))
        self._activity = row.get("activity", self._activity)
        self._ap = row.get("ap", self._ap)
        self._bar.advance(row["step"] - self._step, what=self._line(row))
        self._step = row["step"]
        self._warn_of_silent_layers(row)
        late = time.monotonic() - self._logged_at > EVERY_S
        if "ap" in row or (not self._bar.shown and (late or self._step == self._num_steps)):
            LOG.info("%s", self._line(row, f"step {self._step}/{self._num_steps}", self._time_left()))
            self._logged_at = time.monotonic()

    def _line(self, row: dict[str, Any], step: str = "", time_left: str = "") -> str:
        parts = [f"epoch {row['epoch'] + 1}/{self._epochs}", step]
        for name, value, form in (("loss", self._loss, ".3f"), ("AP", self._ap, ".3f"), ("firing", self._rate, ".1%")):
            parts.append(f"{name} {'-' if math.isnan(value) else format(value, form)}")
        if not math.isnan(self._activity):
            parts.append(f"activity {self._activity:.1%}")
        if self._seconds > 0:
            parts.append(f"{1 / self._seconds:.2f} steps/s")
        return "  ".join(part for part in (*parts, time_left) if part)

    def _time_left(self) -> str:
        if math.isnan(self._seconds):
            return ""
        left_s = round((self._num_steps - self._step) * self._seconds)
        return f"{left_s // 3600}:{left_s // 60 % 60:02d}:{left_s % 60:02d} left"

    def _warn_of_silent_layers(self, row: dict[str, Any]) -> None:
        if row["step"] < SETTLED_STEP:
            return
        rates = {name.split("rate/", 1)[1]: rate for name, rate in row.items() if "rate/" in name}
        silent = {name for name, rate in rates.items() if rate < DEAD_BELOW}
        if new := sorted(silent - self._warned):
            LOG.warning("step %d: silent layers: %s", row["step"], ", ".join(new))
        if rates:
            self._warned = silent


def _smooth(before: float, now: float) -> float:
    return now if math.isnan(before) else 0.9 * before + 0.1 * now

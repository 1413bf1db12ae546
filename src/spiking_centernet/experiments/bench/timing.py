"""Timing on a machine with other load: implementations take turns, medians are compared."""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Times:
    """Durations of one implementation in milliseconds, in the order in which they were taken."""

    ms: tuple[float, ...]

    def __post_init__(self):
        if not self.ms:
            raise ValueError("Times needs at least one duration")

    @property
    def median(self) -> float:
        """The middle duration."""
        return float(np.median(self.ms))

    def to_dict(self) -> dict[str, float | int]:
        """Return median, p95, p99, least and count as plain values."""
        p95, p99 = np.percentile(self.ms, [95, 99])
        return {
            "median_ms": self.median, "p95_ms": float(p95), "p99_ms": float(p99), "min_ms": float(min(self.ms)),
            "repeats": len(self.ms),
        }  # fmt: skip


def take_turns(
    contestants: Mapping[str, Callable[[], object]],
    *,
    seconds: float,
    least: int = 5,
) -> dict[str, Times]:
    """Call the implementations in turn until each has had its share of the time; returns the durations of each.

    What disturbs the machine then disturbs all alike, and a ratio of medians keeps its meaning. A turn is two calls of
    which the second counts: the first brings an implementation's weights back into the caches, as its call before would
    have done in use.

    Args:
        contestants: what to time, by name.
        seconds: in total; slow implementations get at least ``least`` turns all the same.
        least: turns that every implementation gets.
    """
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        end = time.perf_counter() + seconds
        while any(len(ms) < least for ms in taken.values()) or time.perf_counter() < end:
            for name, call in contestants.items():
                call()
                began = time.perf_counter()
                call()
                taken[name].append((time.perf_counter() - began) * 1e3)
    finally:
        if collecting:
            gc.enable()
    return {name: Times(tuple(ms)) for name, ms in taken.items()}


def growth(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return the exponent ``k`` of the least-squares fit ``value = c * size**k``: 1 is "as the data grows"."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])

"""Repair of the clock of a recording: glitches are dropped, wraps undone, camera restarts become segments.

The stored times are cut into runs, within which time moves on without a jump. A weighted longest increasing subsequence
over the runs finds the cheapest explanation of the jumps: an event that is left out costs 1, a restart of the clock
``RESTART_COST``. It costs O(R log R) for R runs, and is asked for only when a cheap check met a jump.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from spiking_centernet.data._kernels import DISORDER_US
from spiking_centernet.data.voxel import MAX_TIME_US
from spiking_centernet.utils.compile_cache import compiled

ISOLATED_US = 10_000_000
"""A few events at either end that lie further than this from all others are glitches, not a recording."""

RESTART_COST = 10
"""Events that a camera must deliver after a restart before it counts as one; fewer are glitches."""

MOST_RESTARTS = 16
"""A clock that goes back more often belongs to a file that is not in order of time."""

MOST_DESCENTS = 0.1
"""Share of the events that may be earlier than the one before; beyond, the file is not in order of time."""

MOST_RUNS = 1 << 20
"""A file with more jumps than this is not in order of time."""

SEGMENT_GAP_US = 1_000_000
"""Silence between two segments; longer than any window, so that none holds events of both."""

SORT_LIMIT = 1 << 26
"""Most events that are sorted: one gigabyte of times and places."""

WRAP_US = 1 << 32
"""Microseconds after which a 32-bit counter starts again."""

WRAP_MARGIN_US = 1 << 28
"""A counter that starts again stood this close below the wrap and stands this close above it (268 s)."""

WRONG_PLACE = (1 << 16) - 1
"""Column or row of an event whose place is impossible; larger than any sensor."""


def tolerable(num_events: int) -> int:
    """Return how many bad events a recording may hold; more are an error.

    One in a thousand, but at least one in a hundred up to ten, and at most 1000: published data sets hold a handful. A
    sensor size that is too small by one row loses more than that (one row of 720 holds 1.4 in a thousand events).
    """
    return min(1000, max(num_events // 1000, min(10, num_events // 100)))


def is_disordered(num_late: int, num_events: int) -> bool:
    """Return whether so many events come late that the file is not in order of time; of fewer than 100, none is."""
    return num_events >= 100 and num_late > num_events * MOST_DESCENTS


@dataclass(frozen=True)
class Timeline:
    """What to do with the stored events, run by run; a run ends where the next begins.

    Attributes:
        first: int64 [R], number of the first stored event of each run.
        offset_us: int64 [R], what to add to its stored times.
        kept: bool [R], whether its events are kept.
        restarts_us: when each further segment begins, in repaired time.
        wrapped: whether a 32-bit counter started again.
        in_order: whether the events are in order of time, apart from what is left out; otherwise they must be sorted.
        num_left_out: how many events fit into no order of time.
    """

    first: np.ndarray
    offset_us: np.ndarray
    kept: np.ndarray
    restarts_us: tuple[int, ...] = ()
    wrapped: bool = False
    in_order: bool = True
    num_left_out: int = 0

    def apply(self, events: np.ndarray, first: int) -> np.ndarray:
        """Return the events that are kept of a block whose first stored event has the number ``first``."""
        low = int(np.searchsorted(self.first, first, "right")) - 1
        high = int(np.searchsorted(self.first, first + len(events)))
        if high - low == 1:
            if not self.kept[low]:
                return events[:0]
            events["t"] += self.offset_us[low]
            return events
        bounds = np.clip(self.first[low:high], first, None)
        lengths = np.diff(np.append(bounds, first + len(events)))
        events["t"] += np.repeat(self.offset_us[low:high], lengths)
        return events[np.repeat(self.kept[low:high], lengths)]


_NOT_IN_ORDER = Timeline(np.zeros(1, np.int64), np.zeros(1, np.int64), np.ones(1, bool), in_order=False)


def plan(blocks: Iterable[np.ndarray], size_hw: tuple[int, int], num_events: int) -> Timeline:
    """Find the cheapest explanation of the jumps in a recording's clock.

    Args:
        blocks: its events as stored, EVENT_DTYPE.
        size_hw: height and width of the sensor; events outside count neither as kept nor as dropped.
        num_events: how many there are.

    Returns:
        the timeline; its events are left out even if they are more than ``tolerable``.
    """
    runs, wrapped, num_descents = _runs(blocks, size_hw)
    if runs is None or is_disordered(num_descents, num_events):
        return _NOT_IN_ORDER
    if not len(runs):
        return Timeline(np.zeros(1, np.int64), np.zeros(1, np.int64), np.ones(1, bool))
    runs["first"][0] = 0
    columns = (np.ascontiguousarray(runs[name]) for name in ("start_us", "latest_us", "count"))
    kept, segment = _cheapest(*columns, DISORDER_US, RESTART_COST)
    _drop_isolated(runs, kept, segment, tolerable(num_events))
    num_left_out = int(runs["count"][~kept].sum())
    num_restarts = int(segment[kept].max(initial=0))
    if num_left_out > tolerable(num_events) and (
        num_left_out >= int(runs["count"].sum()) // 2 or num_restarts > MOST_RESTARTS
    ):
        return _NOT_IN_ORDER
    if num_restarts and not _is_restart(runs[kept], segment[kept], num_restarts):
        return _NOT_IN_ORDER
    offset_us, restarts_us, stop_us = runs["epoch_us"].copy(), [], 0
    for number in range(num_restarts + 1):
        members = kept & (segment == number)
        if number:
            start_us = stop_us + SEGMENT_GAP_US
            offset_us[members] += start_us - int(runs["start_us"][members][0])
            restarts_us.append(start_us)
        shift = offset_us[members] - runs["epoch_us"][members]
        stop_us = int((runs["latest_us"][members] + shift).max())
    return Timeline(runs["first"], offset_us, kept, tuple(restarts_us), wrapped, num_left_out=num_left_out)


_RUN = np.dtype(
    [(name, "i8") for name in ("first", "count", "start_us", "latest_us", "epoch_us")]
    + [(name, "i4") for name in ("y_low", "y_high", "x_low", "x_high", "p_low", "p_high")]
)
"""A run: its times with the wraps undone, ``epoch_us`` that the stored ones lack, and the box that its events span."""


def _runs(blocks: Iterable[np.ndarray], size_hw: tuple[int, int]) -> tuple[np.ndarray | None, bool, int]:
    """Return the runs (None if there are too many), whether the counter wrapped, and the number of steps back."""
    runs, num, epoch_us, first = np.zeros(1024, _RUN), 0, 0, 0
    wrapped, num_descents, before_us = False, 0, -MAX_TIME_US
    for events in blocks:
        if len(events):
            t = np.concatenate(([before_us], events["t"]))
            num_descents += int((t[1:] < t[:-1]).sum())
            before_us = int(t[-1])
        at = 0
        while at < len(events):
            num, epoch_us, at, wraps = _cut(events, at, first, runs, num, epoch_us, size_hw[0], size_hw[1])
            wrapped |= wraps
            if at < len(events):
                if num >= MOST_RUNS:
                    return None, wrapped, num_descents
                runs = np.concatenate([runs, np.zeros(len(runs), _RUN)])
        first += len(events)
    return runs[:num], wrapped, num_descents


@compiled()
def _cut(events, at, first, runs, num, epoch, height, width):
    """Continue the runs with the events from ``at`` on; stops where ``runs`` is full."""
    wraps = False
    for i in range(at, len(events)):
        x, y = np.int64(events[i].x), np.int64(events[i].y)
        if x >= width or y >= height or events[i].t < -WRAP_US or events[i].t > MAX_TIME_US:
            continue
        t = events[i].t + epoch
        new = num == 0
        if not new:
            run = runs[num - 1]
            latest = run.latest_us
            back = latest - t
            if back > WRAP_US - WRAP_MARGIN_US and back < WRAP_US + WRAP_MARGIN_US and latest - epoch < WRAP_US:
                # Unsigned counters wrap at 2^32, signed ones at 2^31; a lone stamp there is a glitch, not a counter.
                neighbor_us = runs[num - 2].latest_us if num > 1 else np.int64(0)
                alone = run.count < RESTART_COST and neighbor_us < latest - WRAP_MARGIN_US
                before = (latest - epoch) & (WRAP_US // 2 - 1)
                if not alone and before > WRAP_US // 2 - WRAP_MARGIN_US:
                    epoch += WRAP_US
                    t += WRAP_US
                    wraps = True
            elif epoch > 0 and -back > WRAP_US - WRAP_MARGIN_US:
                # An event from before the wrap comes after it.
                epoch -= WRAP_US
                t -= WRAP_US
            new = t < latest - DISORDER_US or t > latest + DISORDER_US or run.epoch_us != epoch
        if new:
            if num == len(runs):
                return num, epoch, i, wraps
            run = runs[num]
            run.first, run.count, run.start_us, run.latest_us, run.epoch_us = first + i, 0, t, t, epoch
            run.y_low, run.x_low, run.p_low, run.y_high, run.x_high, run.p_high = y, x, events[i].p, y, x, events[i].p
            num += 1
        run = runs[num - 1]
        run.count += 1
        run.latest_us = max(run.latest_us, t)
        run.y_low, run.y_high = min(run.y_low, y), max(run.y_high, y)
        run.x_low, run.x_high = min(run.x_low, x), max(run.x_high, x)
        run.p_low, run.p_high = min(run.p_low, events[i].p), max(run.p_high, events[i].p)
    return num, epoch, len(events), wraps


@compiled()
def _cheapest(start, latest, count, disorder, cost):
    """Return which runs are kept, and the segment of each, so that left out events and restarts cost least."""
    num = len(start)
    order = np.argsort(latest)
    rank = np.empty(num, np.int64)
    rank[order] = np.arange(num)
    sorted_latest = latest[order]
    # A Fenwick tree of the best run among those that end up to a time.
    tree = np.full(num + 1, -1)
    best, before, restarted = np.empty(num, np.int64), np.full(num, -1), np.zeros(num, np.bool_)
    overall = -1
    for j in range(num):
        best[j] = count[j]
        k, found = np.searchsorted(sorted_latest, start[j] + disorder, "right"), -1
        while k > 0:
            if tree[k] >= 0 and (found < 0 or best[tree[k]] > best[found]):
                found = tree[k]
            k -= k & -k
        if found >= 0:
            best[j], before[j] = best[found] + count[j], found
        if overall >= 0 and best[overall] - cost + count[j] > best[j]:
            best[j], before[j], restarted[j] = best[overall] - cost + count[j], overall, True
        k = rank[j] + 1
        while k <= num:
            if tree[k] < 0 or best[j] > best[tree[k]]:
                tree[k] = j
            k += k & -k
        if overall < 0 or best[j] >= best[overall]:
            overall = j
    kept, segment = np.zeros(num, np.bool_), np.zeros(num, np.int64)
    j, number = overall, 0
    while j >= 0:
        kept[j], segment[j] = True, number
        number += restarted[j]
        j = before[j]
    for j in range(num):
        segment[j] = number - segment[j]
    return kept, segment


def _drop_isolated(runs: np.ndarray, kept: np.ndarray, segment: np.ndarray, limit: int) -> None:
    """Leave out a few events at either end of the recording that lie far from all others."""
    members = np.flatnonzero(kept)
    counts = np.cumsum(runs["count"][members])
    gaps_us = np.where(
        np.diff(segment[members]) == 0, runs["start_us"][members[1:]] - runs["latest_us"][members[:-1]], 0
    )
    before = counts[:-1] <= limit  # gaps that few events lie before
    after = counts[-1] - counts[:-1] <= limit
    usual_us = int(gaps_us[~before & ~after].max(initial=0))
    # Where all events are far apart, none is a glitch.
    far = gaps_us > max(ISOLATED_US, 10 * usual_us)
    for gaps, ends in ((np.flatnonzero(far & before)[-1:], slice(None)), (np.flatnonzero(far & after)[:1], None)):
        for gap in gaps.tolist():
            kept[members[: gap + 1] if ends else members[gap + 1 :]] = False
    segment -= segment[kept].min(initial=segment.max())


def _is_restart(runs: np.ndarray, segment: np.ndarray, num_restarts: int) -> bool:
    """Return whether a clock that goes back is that of a camera, and not events written out of order.

    A camera that starts again sees the same pixels and polarities as before. A file written polarity by polarity, row
    by row or in exchanged pieces shares nothing between its parts.
    """
    if num_restarts > MOST_RESTARTS:
        return False
    parts = [runs[segment == number] for number in range(num_restarts + 1)]
    for before, after in pairwise(parts):
        if before["count"].sum() < 100 or after["count"].sum() < 100:
            continue  # too few to tell
        for side in "yxp":
            low, high = f"{side}_low", f"{side}_high"
            if before[high].max() < after[low].min() or after[high].max() < before[low].min():
                return False
    back_us = max(int(before["latest_us"].max() - after["start_us"][0]) for before, after in pairwise(parts))
    return back_us >= SEGMENT_GAP_US or _overlap(parts)


def _overlap(parts: list[np.ndarray]) -> bool:
    spans = np.concatenate([np.stack([part["start_us"], part["latest_us"]], 1) for part in parts])
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    return bool((spans[1:, 0] < np.maximum.accumulate(spans[:, 1])[:-1] - DISORDER_US).any())

"""Sensor faults on events, by name and severity: what a detector meets that its training data did not show.

Every fault takes events and gives new ones; a severity from 1 to 5 chooses its level. Which pixels are faulty depends
on the seed alone, so that they stay faulty all through a recording; everything else depends on the seed and the window.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from spiking_centernet.data._kernels import outside_dead_time
from spiking_centernet.data.voxel import check_events
from spiking_centernet.errors import ConfigError, EventFileError, WindowError, did_you_mean
from spiking_centernet.structures import EVENT_DTYPE

SEVERITIES = (1, 2, 3, 4, 5)

SETTLE_US = 50_000
"""Events before a window that a fault should see as well, five times its longest memory (10 ms)."""

HOT_HZ = (100.0, 5000.0)
"""Rates of hot pixels, drawn evenly in the logarithm."""

CAP_US = 1000
"""A readout that is too slow loses events of every millisecond in which more come than it carries."""

MERGE_US = 1000
"""What a larger pixel sees twice within a millisecond, in one polarity, is one event."""


@dataclass(frozen=True)
class Scope:
    """Where a fault acts: the window, the sensor's size in pixels, and two sources of chance.

    Attributes:
        start_us: first microsecond.
        stop_us: first microsecond after the window.
        size_hw: height and width of the sensor.
        pixels: chance that decides which pixels are faulty, the same in every window of a seed.
        moments: chance for everything else.
    """

    start_us: int
    stop_us: int
    size_hw: tuple[int, int]
    pixels: np.random.Generator
    moments: np.random.Generator

    @property
    def num_pixels(self) -> int:
        """How many pixels the sensor has."""
        return self.size_hw[0] * self.size_hw[1]

    @property
    def duration_s(self) -> float:
        """Length of the window in seconds."""
        return (self.stop_us - self.start_us) * 1e-6


Apply = Callable[[np.ndarray, float, Scope], np.ndarray]


@dataclass(frozen=True)
class Corruption:
    """One kind of fault: how it acts, and its level at severities 1 to 5 with their unit."""

    apply: Apply
    levels: tuple[float, float, float, float, float]
    unit: str


def add_noise(events: np.ndarray, rate_hz: float, scope: Scope) -> np.ndarray:
    """Background activity: every pixel fires at random, ``rate_hz`` events per second, either polarity."""
    count = int(scope.moments.poisson(rate_hz * scope.duration_s * scope.num_pixels))
    return _with(events, scope.moments.integers(0, scope.num_pixels, count), scope)


def drop_events(events: np.ndarray, share: float, scope: Scope) -> np.ndarray:
    """Every event is lost with probability ``share``."""
    return events[scope.moments.random(len(events)) >= share]


def _hot_pixels(events: np.ndarray, share: float, scope: Scope) -> np.ndarray:
    pixels = _faulty(share, scope)
    low, high = np.log(HOT_HZ)
    rates_hz = np.exp(scope.pixels.uniform(low, high, len(pixels)))
    return _with(events, np.repeat(pixels, scope.moments.poisson(rates_hz * scope.duration_s)), scope)


def _dead_pixels(events: np.ndarray, share: float, scope: Scope) -> np.ndarray:
    dead = np.zeros(scope.num_pixels, bool)
    dead[_faulty(share, scope)] = True
    return events[~dead[_pixel(events, scope)]]


def _rate_cap(events: np.ndarray, mev_s: float, scope: Scope) -> np.ndarray:
    slot = events["t"] // CAP_US
    # Rank of every event within its millisecond in a random order: those beyond the capacity are lost.
    order = np.lexsort((scope.moments.random(len(events)), slot))
    slots = slot[order]
    first = np.flatnonzero(np.r_[True, slots[1:] != slots[:-1]]) if len(slots) else np.zeros(0, np.int64)
    rank = np.arange(len(slots)) - np.repeat(first, np.diff(np.r_[first, len(slots)]))
    return events[np.sort(order[rank < max(1, round(mev_s * CAP_US))])]


def _refractory(events: np.ndarray, dead_ms: float, scope: Scope) -> np.ndarray:
    return events[outside_dead_time(events["t"], _pixel(events, scope), scope.num_pixels, round(dead_ms * 1000))]


def _jitter(events: np.ndarray, sigma_ms: float, scope: Scope) -> np.ndarray:
    # No event from after the window moves into it: who answers at its end has not received it yet.
    moved = events.copy()
    moved["t"] += np.rint(scope.moments.normal(0, sigma_ms * 1000, len(events))).astype(np.int64)
    inside = (moved["t"] >= scope.start_us) & (moved["t"] < scope.stop_us)
    return _sorted(moved[inside])


def _flip_polarity(events: np.ndarray, share: float, scope: Scope) -> np.ndarray:
    flipped = events.copy()
    flipped["p"] ^= (scope.moments.random(len(events)) < share).astype(np.uint8)
    return flipped


def _downscale(events: np.ndarray, factor: float, scope: Scope) -> np.ndarray:
    height, width = scope.size_hw
    rows, columns = (np.floor(np.arange(side) / factor).astype(np.int64) for side in (height, width))
    across = int(columns[-1]) + 1
    large = rows[events["y"]] * across + columns[events["x"]]
    key = np.stack([events["t"] // MERGE_US, large * 2 + events["p"]])
    _, first = np.unique(key, axis=1, return_index=True)
    seen = np.sort(first)
    # Where a large pixel lies on the small ones, so that boxes keep their pixels.
    left, top = np.searchsorted(columns, columns), np.searchsorted(rows, rows)
    kept, block = events[seen], large[seen]
    spans_x = np.bincount(columns)[block % across]
    spans_y = np.bincount(rows)[block // across]
    copies = spans_x * spans_y
    spread = np.repeat(kept, copies)
    within = np.arange(len(spread)) - np.repeat(np.cumsum(copies) - copies, copies)
    spread["x"] = np.repeat(left[kept["x"]], copies) + within % np.repeat(spans_x, copies)
    spread["y"] = np.repeat(top[kept["y"]], copies) + within // np.repeat(spans_x, copies)
    return spread


CORRUPTIONS: dict[str, Corruption] = {
    "background_activity": Corruption(add_noise, (0.1, 0.5, 1, 3, 10), "events/s/pixel"),
    "hot_pixels": Corruption(_hot_pixels, (1e-5, 1e-4, 5e-4, 2e-3, 1e-2), "share of the pixels"),
    "event_drop": Corruption(drop_events, (0.1, 0.25, 0.5, 0.7, 0.9), "share of the events"),
    "dead_pixels": Corruption(_dead_pixels, (0.01, 0.05, 0.1, 0.2, 0.4), "share of the pixels"),
    "rate_cap": Corruption(_rate_cap, (2, 1, 0.5, 0.25, 0.1), "million events/s"),
    "refractory": Corruption(_refractory, (0.5, 1, 2, 5, 10), "ms"),
    "time_jitter": Corruption(_jitter, (0.1, 0.5, 2, 5, 10), "ms"),
    "polarity_flip": Corruption(_flip_polarity, (0.05, 0.1, 0.2, 0.3, 0.5), "share of the events"),
    "downscale": Corruption(_downscale, (1.25, 1.5, 2, 3, 4), "times coarser"),
}
"""Every fault by its name. Levels are our choice: from hardly visible to hardly usable."""


@dataclass(frozen=True)
class Fault:
    """A corruption to apply: its name, its severity from 1 to 5, the seed of what is random in it.

    Raises:
        ConfigError: the name is unknown or the severity impossible.
    """

    name: str
    severity: int
    seed: int = 0

    def __post_init__(self):
        if self.name not in CORRUPTIONS:
            raise ConfigError(f"no corruption is called {self.name!r}{did_you_mean(self.name, CORRUPTIONS)}")
        if self.severity not in SEVERITIES:
            raise ConfigError(f"the severity of {self.name} must be 1, 2, 3, 4 or 5, got {self.severity}")
        if self.seed < 0:
            raise ConfigError(f"the seed of {self.name} must not be negative, got {self.seed}")

    @property
    def level(self) -> float:
        """The level of this severity, in the corruption's unit."""
        return CORRUPTIONS[self.name].levels[self.severity - 1]


def corrupt(
    events: np.ndarray,
    name: str,
    severity: int,
    *,
    size_hw: tuple[int, int],
    start_us: int,
    stop_us: int,
    seed: int | Sequence[int] = 0,
) -> np.ndarray:
    """Return the events of a window as a faulty sensor would give them.

    Args:
        events: EVENT_DTYPE of ``[start_us, stop_us)``, sorted by time; not changed.
        name: a name of ``CORRUPTIONS``.
        severity: 1 to 5.
        size_hw: height and width of the sensor in pixels.
        start_us: first microsecond of the window.
        stop_us: first microsecond after the window.
        seed: one number or several, none negative; the same seed, window and events give the same result.

    Returns:
        EVENT_DTYPE in ``[start_us, stop_us)``, sorted by time.

    Raises:
        ConfigError: unknown name, impossible severity or seed, or other events.
        WindowError: the window is empty or reversed.
        EventFileError: an event lies outside the sensor.
    """
    fault = Fault(name, severity)
    scope = scope_of(size_hw, start_us, stop_us, seed)
    check_events(events)
    if ((events["x"] >= size_hw[1]) | (events["y"] >= size_hw[0])).any():
        raise EventFileError(f"an event lies outside the {size_hw[1]} x {size_hw[0]} sensor; give the right size_hw")
    return CORRUPTIONS[name].apply(events, fault.level, scope)


def scope_of(size_hw: tuple[int, int], start_us: int, stop_us: int, seed: int | Sequence[int]) -> Scope:
    """Return the scope of a window; see ``corrupt``.

    Raises:
        WindowError: the window is empty or reversed.
        ConfigError: a seed is negative.
    """
    if stop_us <= start_us:
        raise WindowError(f"window [{start_us}, {stop_us}) us is empty; stop_us must be later than start_us")
    seeds = [seed] if isinstance(seed, int) else list(seed)
    if any(value < 0 for value in seeds):
        raise ConfigError(f"a seed must not be negative, got {seed}")
    # A window may begin before zero; a seed may not.
    when = [int(start_us < 0), abs(int(start_us))]
    pixels, moments = np.random.default_rng([*seeds, 0]), np.random.default_rng([*seeds, 1, *when])
    return Scope(int(start_us), int(stop_us), (int(size_hw[0]), int(size_hw[1])), pixels, moments)


def _faulty(share: float, scope: Scope) -> np.ndarray:
    """Draw that share of the pixels, at least one."""
    return scope.pixels.choice(scope.num_pixels, max(1, round(share * scope.num_pixels)), replace=False)


def _pixel(events: np.ndarray, scope: Scope) -> np.ndarray:
    return events["y"].astype(np.int64) * scope.size_hw[1] + events["x"]


def _with(events: np.ndarray, pixels: np.ndarray, scope: Scope) -> np.ndarray:
    """Add an event at each of these pixels, at random times and of random polarity."""
    added = np.zeros(len(pixels), EVENT_DTYPE)
    added["t"] = scope.moments.integers(scope.start_us, scope.stop_us, len(pixels))
    added["y"], added["x"] = np.divmod(pixels, scope.size_hw[1])
    added["p"] = scope.moments.integers(0, 2, len(pixels))
    return _sorted(np.concatenate([events, added]))


def _sorted(events: np.ndarray) -> np.ndarray:
    return events[np.argsort(events["t"], kind="stable")]

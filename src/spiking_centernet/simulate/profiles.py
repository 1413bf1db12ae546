"""Event cameras that people own, as ranges to draw a camera from: thresholds, speed, readout, noise, hot columns.

Sizes, least contrasts and readout limits are those of Table 1 of Gallego et al., "Event-based Vision: A Survey", TPAMI
2022, https://arxiv.org/abs/1904.08405, where it lists the sensor; the GenX320's size is Prophesee's. A threshold's
range begins at about the least contrast: users set thresholds up to three times as high. All else is our choice, wide
enough for both recordings of ``calibration`` and for N-CARS' training crops (ATIS in a driving car), of which the event
rates, active pixels and shares of ON were used and nothing else.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.simulate.sensor import MIN_THRESHOLD, SensorParams

HEADROOM_US = 2000
"""How far ahead of its limit a readout may run: its buffers hold so much time's worth of events."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Ranges of one kind of camera.

    Attributes:
        size_hw: rows and columns of its array.
        threshold: mean of the ON and OFF thresholds, natural logarithm units.
        bandwidth_hz: see ``SensorParams``.
        refractory_us: dead time of a pixel.
        readout_mev_s: most events per second that leave the whole array, in millions.
        tick_us: events leave in groups of this many microseconds with one time stamp; 1 for single events.
        share: how often it is drawn.
    """

    size_hw: tuple[int, int]
    threshold: tuple[float, float]
    bandwidth_hz: tuple[float, float]
    refractory_us: tuple[float, float]
    readout_mev_s: float
    tick_us: int
    share: float


PROFILES: dict[str, Profile] = {
    "dvs128": Profile(
        size_hw=(128, 128), threshold=(0.17, 0.5), bandwidth_hz=(60, 300), refractory_us=(300, 3000), readout_mev_s=1.0,
        tick_us=1, share=0.1,
    ),
    "davis240": Profile(
        size_hw=(180, 240), threshold=(0.11, 0.4), bandwidth_hz=(80, 400), refractory_us=(100, 2000),
        readout_mev_s=12.0, tick_us=1, share=0.1,
    ),
    "davis346": Profile(
        size_hw=(260, 346), threshold=(0.14, 0.45), bandwidth_hz=(80, 400), refractory_us=(100, 2000),
        readout_mev_s=12.0, tick_us=1, share=0.18,
    ),
    "atis": Profile(
        size_hw=(240, 304), threshold=(0.13, 0.5), bandwidth_hz=(80, 400), refractory_us=(100, 3000),
        readout_mev_s=15.0, tick_us=1, share=0.22,
    ),
    "gen3.1": Profile(
        size_hw=(480, 640), threshold=(0.12, 0.45), bandwidth_hz=(100, 600), refractory_us=(50, 1000),
        readout_mev_s=66.0, tick_us=1, share=0.1,
    ),
    "dvxplorer": Profile(
        size_hw=(480, 640), threshold=(0.09, 0.4), bandwidth_hz=(100, 500), refractory_us=(190, 2000),
        readout_mev_s=165.0, tick_us=200, share=0.1,
    ),
    "imx636": Profile(
        size_hw=(720, 1280), threshold=(0.11, 0.4), bandwidth_hz=(150, 800), refractory_us=(50, 1000),
        readout_mev_s=1066.0, tick_us=1, share=0.1,
    ),
    "genx320": Profile(
        size_hw=(320, 320), threshold=(0.15, 0.5), bandwidth_hz=(60, 400), refractory_us=(100, 2000),
        readout_mev_s=10.0, tick_us=1, share=0.1,
    ),
}  # fmt: skip
"""The cameras there are. The readout of ATIS and GenX320 and the DVXplorer's tick are our choice."""

ANY = "any"
"""Draws one of the profiles for each clip."""


@dataclass(frozen=True, kw_only=True)
class Camera:
    """One camera drawn from a profile.

    Attributes:
        profile: its name.
        params: what its pixels do.
        readout_mev_s: most events per second, for the array as it is rendered.
        tick_us: grid of the time stamps.
        polarity: "both", or "on": OFF events are switched off.
        clump_sigma: spread (log-normal) of the noise's rate over regions some pixels wide.
        edge_gain: how many times noisier one edge of the array is.
        hot_columns: columns whose pixels make ten times the noise.
    """

    profile: str
    params: SensorParams
    readout_mev_s: float
    tick_us: int
    polarity: str
    clump_sigma: float
    edge_gain: float
    hot_columns: int

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters of pixels and readout together, ready for JSON."""
        readout = {key: value for key, value in asdict(self).items() if key != "params"}
        return asdict(self.params) | readout

    def noise_gain(self, size_hw: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """Draw how much noisier than the mean each pixel is, float64 [H, W] of mean 1."""
        height, width = size_hw
        gain = np.ones(size_hw)
        if self.clump_sigma > 0:
            field = sum(_smooth(rng, size_hw, cell) for cell in (3, 8, 24)) / np.sqrt(3.0)
            gain *= np.exp(self.clump_sigma * field)
        ramp = np.linspace(0, 1, height)[:, None] ** 4 * np.ones((1, width))
        gain *= 1 + (self.edge_gain - 1) * (ramp if rng.random() < 0.5 else ramp[::-1])
        columns = rng.permutation(width)[: self.hot_columns]
        gain[:, columns] *= 10.0
        return gain / gain.mean()


def _smooth(rng: np.random.Generator, size_hw: tuple[int, int], cell: int) -> np.ndarray:
    """Return white noise averaged over squares of ``cell`` pixels, of standard deviation 1."""
    rows, cols = (-(-side // cell) for side in size_hw)
    return np.kron(rng.standard_normal((rows, cols)), np.ones((cell, cell)))[: size_hw[0], : size_hw[1]]


class Readout:
    """What leaves the array: too many events are thinned, times fall on a grid, OFF may be switched off.

    Args:
        camera: the camera.
        rng: decides which events are lost; the readout owns it from here on.
    """

    def __init__(self, camera: Camera, rng: np.random.Generator):
        self._camera, self._rng = camera, rng
        self._credit = camera.readout_mev_s * HEADROOM_US

    def step(self, events: np.ndarray, t0_us: int, t1_us: int) -> np.ndarray:
        """Return what is left of the events of ``[t0_us, t1_us)``, in order of time."""
        camera = self._camera
        if camera.polarity == "on":
            events = events[events["p"] == 1]
        most = camera.readout_mev_s * HEADROOM_US
        self._credit = min(self._credit + camera.readout_mev_s * (t1_us - t0_us), most)
        if len(events) > self._credit:
            keep = self._rng.permutation(len(events))[: int(self._credit)]
            events = events[np.sort(keep)]
        self._credit -= len(events)
        if camera.tick_us > 1 and len(events):
            events = events.copy()
            events["t"] = np.maximum(events["t"] // camera.tick_us * camera.tick_us, t0_us)
        return events


def profile_names(name: str) -> tuple[str, ...]:
    """Return the profiles that a name stands for.

    Raises:
        ConfigError: If there is no such profile.
    """
    if name == ANY:
        return tuple(PROFILES)
    if name not in PROFILES:
        known = (ANY, *PROFILES)
        raise ConfigError(f"unknown sensor profile {name!r}{did_you_mean(name, known)}; known: {', '.join(known)}")
    return (name,)


def random_camera(rng: np.random.Generator, night: bool, *, profile: str, size_hw: tuple[int, int]) -> Camera:
    """Draw a camera of a profile, or of any; its readout limit is scaled to the size of the rendered array.

    Args:
        rng: the only source of chance.
        night: draw for a night scene: less leak, more shot noise.
        profile: one of ``PROFILES`` or "any".
        size_hw: rows and columns that are rendered.
    """
    names = profile_names(profile)
    shares = np.array([PROFILES[name].share for name in names])
    name = str(rng.choice(names, p=shares / shares.sum()))
    kind = PROFILES[name]

    def drawn(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    threshold = drawn(*kind.threshold)
    # ON over OFF: 80 % of N-CARS' crops of cars have 42 to 70 % ON events, of backgrounds 32 to 76 %.
    mismatch = float(np.exp(np.clip(0.08 + 0.3 * rng.standard_normal(), -0.7, 0.7)))
    params = SensorParams(
        threshold_on=max(threshold * np.sqrt(mismatch), MIN_THRESHOLD),
        threshold_off=max(threshold / np.sqrt(mismatch), MIN_THRESHOLD),
        threshold_spread=float(min(rng.uniform(0.02, 0.08), 0.25 * threshold)),
        bandwidth_hz=drawn(*kind.bandwidth_hz),
        dark_luminance=drawn(0.5, 8),
        refractory_us=round(drawn(*kind.refractory_us)),
        leak_hz=drawn(0.005, 0.05) if night else drawn(0.005, 0.2),
        leak_spread=float(rng.uniform(0.2, 0.6)),
        shot_hz=drawn(0.1, 3) if night else drawn(0.01, 0.6),
        shot_spread=float(rng.uniform(0.2, 1.2)),
        shot_on_share=float(rng.uniform(0.3, 0.7)),
        shot_echo_share=float(rng.uniform(0, 0.7)),
        shot_echo_us=drawn(500, 30_000),
        hot_share=drawn(5e-6, 1e-3),
        hot_min_hz=50.0,
        hot_max_hz=drawn(200, 5000),
        hot_tail=float(rng.uniform(1.1, 1.9)),
    )
    scale = min(size_hw[0] * size_hw[1] / (kind.size_hw[0] * kind.size_hw[1]), 4.0)
    return Camera(
        profile=name,
        params=params,
        readout_mev_s=kind.readout_mev_s * scale * (drawn(0.05, 1.0) if rng.random() < 0.15 else 1.0),
        tick_us=kind.tick_us,
        polarity="on" if rng.random() < 0.02 else "both",
        clump_sigma=float(rng.uniform(0, 1.0)) if rng.random() < 0.7 else 0.0,
        edge_gain=float(rng.uniform(1, 6)) if rng.random() < 0.3 else 1.0,
        hot_columns=int(rng.integers(1, 4)) if rng.random() < 0.04 else 0,
    )


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def random_params(rng: np.random.Generator, night: bool) -> SensorParams:
    """Draw a camera: ranges wide enough to hold a DVXplorer and an IMX636 (see ``calibration``).

    By day the leak dominates and the noise is mostly ON; by night the shot noise does and is symmetric
    (Hu et al. 2021, section 3). The pixels are slower by night because the bandwidth follows the light.
    Low thresholds and short dead times are drawn more often than high ones: with an even draw the roads' event rate
    stays well below the 0.66 Mev/s of GEN1's drives.

    Args:
        rng: the only source of chance.
        night: draw for a night scene.
    """
    threshold = 0.12 * (0.45 / 0.12) ** (rng.random() ** 2)
    mismatch = rng.uniform(0.85, 1.18)
    return SensorParams(
        threshold_on=float(threshold * np.sqrt(mismatch)),
        threshold_off=float(threshold / np.sqrt(mismatch)),
        threshold_spread=float(min(rng.uniform(0.02, 0.06), 0.2 * threshold)),
        bandwidth_hz=_log_uniform(rng, 100, 500),
        dark_luminance=_log_uniform(rng, 0.5, 3),
        refractory_us=round(100 * 20 ** (rng.random() ** 2)),
        leak_hz=_log_uniform(rng, 0.005, 0.05) if night else _log_uniform(rng, 0.01, 0.3),
        leak_spread=float(rng.uniform(0.2, 0.6)),
        shot_hz=_log_uniform(rng, 0.1, 3) if night else _log_uniform(rng, 0.02, 0.5),
        shot_spread=float(rng.uniform(0.2, 1.2)),
        shot_on_share=float(rng.uniform(0.45, 0.55)) if night else float(rng.uniform(0.45, 0.8)),
        shot_echo_share=float(rng.uniform(0, 0.7)),
        shot_echo_us=_log_uniform(rng, 500, 30_000),
        hot_share=_log_uniform(rng, 7e-6, 5e-4),
        hot_min_hz=50.0,
        hot_max_hz=_log_uniform(rng, 200, 5000),
        hot_tail=float(rng.uniform(1.1, 1.9)),
    )

"""An event camera as a function of light: luminance frames in, events out.

Every pixel takes the logarithm of its light, low-passes it, compares it with the value it remembers from its last event
and fires when the difference passes its own threshold. The structure follows v2e (Hu, Liu, Delbruck, "v2e: From Video
Frames to Realistic DVS Events", CVPR-W 2021, https://arxiv.org/abs/2006.07722); times inside a step, the reset during
the refractory period and the noise that answers itself are our own.
"""

from dataclasses import dataclass

import numpy as np

from spiking_centernet.errors import ConfigError
from spiking_centernet.structures import EVENT_DTYPE
from spiking_centernet.utils.compile_cache import compiled

LUMINANCE_REFERENCE = 100.0
"""The luminance at which ``SensorParams.bandwidth_hz`` holds: a mid gray of a scene whose white is 255."""

LUMINANCE_FLOOR = 10.0
"""Added to the luminance before it scales the bandwidth: v2e keeps a tenth of the bandwidth in the dark as well."""

SHOT_AT_WHITE = 0.25
"""Share of the shot noise of the dark that is left at luminance 255 (v2e's SHOT_NOISE_INTEN_FACTOR)."""

MIN_THRESHOLD = 0.03
"""No pixel's threshold is drawn below this: a threshold of zero would fire for ever."""


@dataclass(frozen=True, kw_only=True)
class SensorParams:
    """What one camera does to light, in SI units except where the name says otherwise.

    Attributes:
        threshold_on: mean contrast of an ON event, natural logarithm units. Published sensors: 0.1-0.5.
        threshold_off: mean contrast of an OFF event, positive.
        threshold_spread: standard deviation of both over the pixels (v2e: 0.03).
        bandwidth_hz: -3 dB frequency of the photoreceptor at luminance 100; proportional to the light elsewhere.
        dark_luminance: luminance equivalent of the dark current; the response is linear below it, logarithmic above.
        refractory_us: dead time after an event; the pixel forgets what happens in it.
        leak_hz: mean ON events per second and pixel of the leaking reference (Nozaki, Delbruck 2017: 0.1-0.2 at 25 C).
        leak_spread: sigma of the log-normal spread of the leak over the pixels.
        shot_hz: mean first shot noise events per second and pixel in the dark, the hot pixels not counted.
        shot_spread: sigma of the log-normal spread of the shot noise over the pixels.
        shot_on_share: share of ON among them.
        shot_echo_share: share of shot noise events that are answered by one of the other polarity as the noise swings
            back, which may be answered in turn: the total rate is ``shot_hz / (1 - shot_echo_share)``. In the static
            IMX636 recording 98 % of neighboring events of a pixel alternate.
        shot_echo_us: mean delay of that answer.
        hot_share: share of the array that is hot.
        hot_min_hz: lowest rate of a hot pixel.
        hot_max_hz: highest rate of a hot pixel.
        hot_tail: index of the Pareto law between the two.

    Raises:
        ConfigError: if a value is impossible.
    """

    threshold_on: float = 0.25
    threshold_off: float = 0.25
    threshold_spread: float = 0.03
    bandwidth_hz: float = 200.0
    dark_luminance: float = 2.0
    refractory_us: int = 300
    leak_hz: float = 0.0
    leak_spread: float = 0.3
    shot_hz: float = 0.0
    shot_spread: float = 0.5
    shot_on_share: float = 0.5
    shot_echo_share: float = 0.0
    shot_echo_us: float = 3000.0
    hot_share: float = 0.0
    hot_min_hz: float = 50.0
    hot_max_hz: float = 5000.0
    hot_tail: float = 1.3

    @property
    def noise_hz(self) -> float:
        """Return the mean noise events per second and pixel of a dark pixel that is not hot."""
        return self.leak_hz + self.shot_hz / (1 - self.shot_echo_share)

    def __post_init__(self):
        for name in ("threshold_on", "threshold_off"):
            if not getattr(self, name) >= MIN_THRESHOLD:
                raise ConfigError(f"{name} must be at least {MIN_THRESHOLD}, got {getattr(self, name)}")
        for name in ("bandwidth_hz", "dark_luminance", "shot_echo_us", "hot_min_hz", "hot_tail"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("threshold_spread", "leak_hz", "leak_spread", "shot_hz", "shot_spread"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        for name, highest in (("shot_on_share", 1.0), ("shot_echo_share", 0.95), ("hot_share", 1.0)):
            if not 0 <= getattr(self, name) <= highest:
                raise ConfigError(f"{name} must lie in [0, {highest}], got {getattr(self, name)}")
        if self.refractory_us < 1:
            raise ConfigError(f"refractory_us must be at least 1, the clock of the events, got {self.refractory_us}")
        if self.hot_max_hz < self.hot_min_hz:
            raise ConfigError(f"hot_max_hz {self.hot_max_hz} is below hot_min_hz {self.hot_min_hz}")


@compiled(error_model="numpy")
def _step_rows(
    luminance, row_start, value, bits, mantissa, mantissa_bits, change, busy, busy_words, crossed, filtered, contrast,
    release_us, threshold_on, threshold_off, leak_per_s, dark, radians_per_value, t0_us, t1_us, refractory_us, events,
    count,
):  # fmt: skip
    """Advance the rows from ``row_start``; return the first row that did not fit and the number of events so far.

    ``contrast`` is the filtered logarithm minus the remembered one; NaN while the pixel is held in reset. It is summed
    from the rounded differences of ``filtered``: with an unrounded one a constant light would creep up to a threshold.
    """
    height, width = luminance.shape
    span_us = t1_us - t0_us
    dt_s = np.float32(span_us * 1e-6)
    per_pixel = span_us // refractory_us + 1
    ln2 = np.float32(0.6931471805599453)
    one, half, two = np.float32(1), np.float32(0.5), np.float32(2)
    third, fifth, seventh = np.float32(1 / 3), np.float32(1 / 5), np.float32(1 / 7)
    sixth = np.float32(1 / 6)
    floor = np.float32(LUMINANCE_FLOOR)
    zero = np.float32(0)
    for y in range(row_start, height):
        if len(events) - count < width * per_pixel:
            return y, count
        for x in range(width):
            light = luminance[y, x]
            value[x] = (light if light > zero else zero) + dark
        for x in range(width):
            exponent = (bits[x] - np.int32(0x3F3504F3)) >> np.int32(23)
            mantissa_bits[x] = bits[x] - (exponent << np.int32(23))
            change[x] = np.float32(exponent) * ln2
        # Short loops over few arrays each: the compiler checks every pair for overlap and gives up on many.
        for x in range(width):
            # ln(v) = e ln2 + 2 atanh((m - 1) / (m + 1)) with m in [sqrt(1/2), sqrt(2)): exact to 3e-8
            s = (mantissa[x] - one) / (mantissa[x] + one)
            s2 = s * s
            change[x] = change[x] + two * s * (one + s2 * (third + s2 * (fifth + s2 * seventh)))
        for x in range(width):
            # 1 - exp(-c) with the exponential as the inverse of its own series: stable however long the step
            c = radians_per_value * (value[x] - dark + floor)
            value[x] = one - one / (one + c * (one + c * (half + c * sixth)))
        for x in range(width):
            old = filtered[y, x]
            new = old + value[x] * (change[x] - old)
            filtered[y, x] = new
            change[x] = new - old
        for x in range(width):
            change[x] += leak_per_s[y, x] * dt_s
            contrast[y, x] += change[x]
        for x in range(width):
            d = contrast[y, x]
            busy[x] = np.uint8(1) - (np.uint8(d < threshold_on[y, x]) & np.uint8(d > -threshold_off[y, x]))
        num_crossed = 0
        for word in range(len(busy_words)):
            if busy_words[word]:
                for x in range(8 * word, 8 * word + 8):
                    crossed[num_crossed] = x
                    num_crossed += busy[x]
        for x in crossed[:num_crossed]:
            end = contrast[y, x]
            moved_total = np.float64(change[x])
            begin_us = float(t0_us)
            if np.isnan(end):
                if release_us[y, x] >= t1_us:
                    continue
                level = 0.0
                begin_us = max(begin_us, float(release_us[y, x]))
            else:
                level = np.float64(end) - moved_total
            slope = moved_total / span_us
            while True:
                now = level + slope * (t1_us - begin_us)
                if now >= threshold_on[y, x]:
                    threshold, polarity = np.float64(threshold_on[y, x]), 1
                elif -now >= threshold_off[y, x]:
                    threshold, polarity = -np.float64(threshold_off[y, x]), 0
                else:
                    break
                # a pixel that noise kept busy may start beyond its threshold: it fires as soon as it is free
                late = (level - threshold) * (1.0 if polarity == 1 else -1.0) >= 0.0
                cross_us = begin_us if late else begin_us + (threshold - level) / slope
                t_us = max(np.int64(cross_us), np.int64(release_us[y, x]))
                if t_us >= t1_us:
                    if release_us[y, x] >= t1_us:
                        break
                    t_us = t1_us - 1
                events[count].t = t_us
                events[count].x = x
                events[count].y = y
                events[count].p = polarity
                count += 1
                release_us[y, x] = t_us + refractory_us
                if release_us[y, x] >= t1_us:
                    now = np.nan
                    break
                level, begin_us = 0.0, float(release_us[y, x])
            contrast[y, x] = now
    return height, count


@compiled()
def _draw_noise(
    rng, noise_hz_sum, is_hot, on_share, luminance, echo_share, echo_us, refractory_us, t0_us, t1_us, t_us, pixel,
    polarity,
):  # fmt: skip
    """Return times, pixels and polarities of the noise of a step in order of time, then of what it leaves for later.

    ``t_us, pixel, polarity`` are what steps before left.
    """
    total_hz = noise_hz_sum[-1]
    drawn = rng.poisson(total_hz * (t1_us - t0_us) * 1e-6)
    new_pixel = np.searchsorted(noise_hz_sum, rng.random(drawn) * total_hz, side="right")
    new_t = rng.integers(t0_us, t1_us, drawn)
    new_polarity = rng.random(drawn) < on_share[new_pixel]
    white = np.minimum(np.maximum(luminance[new_pixel] / np.float32(255), np.float32(0)), np.float32(1))
    keep = is_hot[new_pixel] | (rng.random(drawn) < 1 - (1 - SHOT_AT_WHITE) * white)
    new_t, new_pixel, new_polarity = new_t[keep], new_pixel[keep], new_polarity[keep]
    while True:
        t_us = np.concatenate((t_us, new_t))
        pixel = np.concatenate((pixel, new_pixel))
        polarity = np.concatenate((polarity, new_polarity))
        answered = (rng.random(len(new_t)) < echo_share) & ~is_hot[new_pixel]
        if not answered.any():
            break
        delay = refractory_us + rng.exponential(echo_us, np.count_nonzero(answered))
        new_t, new_pixel = new_t[answered] + delay.astype(np.int64), new_pixel[answered]
        new_polarity = ~new_polarity[answered]
    due = t_us < t1_us
    order = np.argsort(t_us[due], kind="mergesort")
    return (
        (t_us[due][order], pixel[due][order], polarity[due][order]),
        (t_us[~due], pixel[~due], polarity[~due]),
    )


@compiled()
def _emit_noise(t_us, pixel, polarity, release_us, refractory_us, events):
    """Write the noise events, in order of time, whose pixel is not in its dead time; return how many."""
    width = release_us.shape[1]
    count = 0
    for i in range(len(t_us)):
        y, x = pixel[i] // width, pixel[i] % width
        if t_us[i] >= release_us[y, x]:
            release_us[y, x] = t_us[i] + refractory_us
            events[count].t = t_us[i]
            events[count].x = x
            events[count].y = y
            events[count].p = polarity[i]
            count += 1
    return count


class Sensor:
    """An event camera with its own pixels; each step takes the light at the end of a short interval.

    The first step only settles the pixels on the light it is given: nothing has changed yet, so only noise fires.

    Args:
        params: the camera.
        size_hw: rows and columns of the array.
        rng: draws the pixels now and the noise later; the sensor owns it from here on.
        noise_gain: [H, W], how much shot noise each pixel has of the mean; None for alike.
    """

    def __init__(
        self,
        params: SensorParams,
        size_hw: tuple[int, int],
        rng: np.random.Generator,
        *,
        noise_gain: np.ndarray | None = None,
    ):
        self.params = params
        self.size_hw = size_hw
        self._rng = rng

        def spread(mean: float, sigma: float) -> np.ndarray:
            return mean * np.exp(sigma * rng.standard_normal(size_hw) - 0.5 * sigma**2)

        def threshold(mean: float) -> np.ndarray:
            drawn = mean + params.threshold_spread * rng.standard_normal(size_hw)
            return np.maximum(drawn, MIN_THRESHOLD).astype(np.float32)

        self._threshold_on = threshold(params.threshold_on)
        self._threshold_off = threshold(params.threshold_off)
        leak_hz = spread(params.leak_hz, params.leak_spread)
        self._leak_per_s = (leak_hz * self._threshold_on).astype(np.float32)
        shot_hz = spread(params.shot_hz, params.shot_spread).ravel()
        if noise_gain is not None:
            shot_hz *= noise_gain.ravel()
        pixels = shot_hz.size
        hot = rng.permutation(pixels)[: round(params.hot_share * pixels)]
        hot_hz = params.hot_min_hz * (1 - rng.random(len(hot))) ** (-1 / params.hot_tail)
        shot_hz[hot] = np.minimum(hot_hz, params.hot_max_hz)
        self._is_hot = np.zeros(pixels, bool)
        self._is_hot[hot] = True
        # each real hot pixel has its own polarity: 0 to 93 % ON among the fifteen hottest of the DVXplorer
        self._on_share = np.full(pixels, params.shot_on_share)
        self._on_share[hot] = rng.random(len(hot))
        # the dead time swallows its share of the drawn noise, so draw more
        busy = np.minimum(shot_hz * params.refractory_us * 1e-6, 0.9)
        self._noise_hz_sum = np.cumsum(shot_hz / (1 - busy))
        # a leaking pixel is somewhere on its way at any moment; all starting at zero would fire together
        phase = rng.random(size_hw) if params.leak_hz > 0 else np.zeros(size_hw)
        self._contrast = (phase * self._threshold_on).astype(np.float32)
        self._release_us = np.full(size_hw, np.iinfo(np.int64).min // 2)
        self._filtered: np.ndarray | None = None
        self._echo = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, bool))
        self._events = np.zeros(4 * pixels, EVENT_DTYPE)
        value, mantissa, change = (np.zeros(size_hw[1], np.float32) for _ in range(3))
        busy = np.zeros(-(-size_hw[1] // 8) * 8, np.uint8)  # looked at eight pixels at a time
        self._row = (
            value, value.view(np.int32), mantissa, mantissa.view(np.int32), change, busy, busy.view(np.uint64),
            np.zeros(len(busy), np.int64),
        )  # fmt: skip

    def step(self, luminance: np.ndarray, t0_us: int, t1_us: int) -> np.ndarray:
        """Return the events of ``[t0_us, t1_us)``, sorted by time, as the light moves to ``luminance``.

        Args:
            luminance: float32 [H, W], linear, white about 255, the light at ``t1_us``.
            t0_us: where the last step ended.
            t1_us: end of this step, exclusive.

        Raises:
            ConfigError: if the frame or the times do not fit.
        """
        if luminance.shape != self.size_hw or luminance.dtype != np.float32:
            raise ConfigError(
                f"luminance must be float32 {list(self.size_hw)}, got {luminance.dtype} {list(luminance.shape)}; "
                "make the sensor with the size of the frames"
            )
        if t1_us <= t0_us:
            raise ConfigError(f"a step must end after it begins, got {t0_us} to {t1_us} us")
        params = self.params
        if self._filtered is None:
            light = np.maximum(luminance, 0) + np.float32(params.dark_luminance)
            self._filtered = np.log(light).astype(np.float32)
        count = self._noise(luminance, t0_us, t1_us)
        scale = 2 * np.pi * params.bandwidth_hz * (t1_us - t0_us) * 1e-6 / (LUMINANCE_REFERENCE + LUMINANCE_FLOOR)
        row = 0
        while True:
            row, count = _step_rows(
                luminance, row, *self._row, self._filtered, self._contrast,
                self._release_us, self._threshold_on, self._threshold_off, self._leak_per_s,
                np.float32(params.dark_luminance), np.float32(scale), t0_us, t1_us, params.refractory_us,
                self._events, count,
            )  # fmt: skip
            if row == self.size_hw[0]:
                break
            self._grow()
        since_us = self._events["t"][:count] - t0_us
        if t1_us - t0_us <= 2**16:
            since_us = since_us.astype(np.uint16)  # numpy sorts short numbers by their digits, in one pass each
        return self._events[:count].take(np.argsort(since_us, kind="stable"))

    def _grow(self) -> None:
        self._events = np.concatenate((self._events, np.zeros_like(self._events)))

    def _noise(self, luminance: np.ndarray, t0_us: int, t1_us: int) -> int:
        """Write the noise of a step at the head of the buffer and return how many events it has."""
        params = self.params
        due, self._echo = _draw_noise(
            self._rng, self._noise_hz_sum, self._is_hot, self._on_share, luminance.ravel(), params.shot_echo_share,
            params.shot_echo_us, params.refractory_us, t0_us, t1_us, *self._echo,
        )  # fmt: skip
        while len(self._events) < len(due[0]):
            self._grow()
        return _emit_noise(*due, self._release_us, params.refractory_us, self._events)

"""What the noise of a resting camera looks like, and two cameras whose simulated noise matches a real recording.

The two parameter sets were fitted to recordings of a static scene: the silent share and the rate fix the mean and the
spread of the shot noise, the polarity its leak, the tail of the pixel rates the hot pixels. Only the noise is fitted:
a static scene says nothing about thresholds and bandwidth. ``benchmarks/noise_calibration.py`` compares.

Not modeled: where the noise is. Real noise clumps (in the DVXplorer recording the event counts of neighbors correlate
at 0.38, which may be flicker of the light as well as the sensor) and is denser at one edge of the IMX636.
"""

from typing import Any

import numpy as np

from spiking_centernet.errors import ConfigError
from spiking_centernet.simulate.sensor import Sensor, SensorParams

HOT_HZ = 50.0
"""A pixel that fires more often than this while nothing moves counts as hot."""

STATIC_LUMINANCE = 60.0
"""Light of the static scene, the gray of asphalt; the recordings do not say theirs."""

IMX636_STATIC = SensorParams(
    leak_hz=0.0,
    shot_hz=0.0325,
    shot_spread=0.5,
    shot_on_share=0.5,
    shot_echo_share=0.63,
    shot_echo_us=20_000.0,
    hot_share=6.5e-6,
    hot_min_hz=50.0,
    hot_max_hz=193.0,
    hot_tail=1.1,
)
"""Noise of the Sony/Prophesee IMX636 recording: few pixels make it, and their ON and OFF events alternate."""

DVXPLORER_STATIC = SensorParams(
    refractory_us=190,
    leak_hz=0.04,
    shot_hz=0.465,
    shot_spread=0.15,
    shot_on_share=0.5,
    hot_share=4.2e-4,
    hot_min_hz=50.0,
    hot_max_hz=5124.0,
    hot_tail=1.1,
)
"""Noise of the DVXplorer recording: nearly the same Poisson noise in every pixel, and many hot ones."""


def noise_statistics(events: np.ndarray, size_hw: tuple[int, int], duration_us: int) -> dict[str, Any]:
    """Describe the noise of a recording of a static scene.

    Args:
        events: EVENT_DTYPE [N], sorted by time.
        size_hw: rows and columns of the sensor.
        duration_us: length of the recording.

    Returns:
        ``rate_hz_per_pixel``; ``silent_share``, the share of pixels without an event; ``hot_share``, the share above
        50 events/s; ``hot_event_share``, their share of the events; ``hottest_hz``; ``on_share``;
        ``alternating_share``, how often the next event of a pixel that is not hot has the other polarity;
        ``neighbour_correlation`` of the counts, clipped at 3, of pixels side by side; ``pixels_by_count``, the share
        of pixels with 0 to 9 events. Shares of nothing are None.

    Raises:
        ConfigError: the duration is not positive.
    """
    if duration_us <= 0:
        raise ConfigError(f"duration_us must be positive, got {duration_us}")
    height, width = size_hw
    pixel = events["y"].astype(np.int64) * width + events["x"]
    counts = np.bincount(pixel, minlength=height * width)
    duration_s = duration_us * 1e-6
    hot = counts > HOT_HZ * duration_s
    order = np.argsort(pixel, kind="stable")
    order = order[~hot[pixel[order]]]
    same = pixel[order][1:] == pixel[order][:-1]
    changed = (events["p"][order][1:] != events["p"][order][:-1])[same]
    return {
        "rate_hz_per_pixel": len(events) / (height * width) / duration_s,
        "silent_share": float((counts == 0).mean()),
        "hot_share": float(hot.mean()),
        "hot_event_share": float(counts[hot].sum() / len(events)) if len(events) else None,
        "hottest_hz": float(counts.max() / duration_s),
        "on_share": float(events["p"].mean()) if len(events) else None,
        "alternating_share": float(changed.mean()) if len(changed) else None,
        "neighbour_correlation": _neighbour_correlation(np.minimum(counts, 3).reshape(height, width)),
        "pixels_by_count": [float((counts == count).mean()) for count in range(10)],
    }


def _neighbour_correlation(image: np.ndarray) -> float | None:
    left, right = image[:, :-1].ravel(), image[:, 1:].ravel()
    return float(np.corrcoef(left, right)[0, 1]) if left.size and np.ptp(left) and np.ptp(right) else None


def static_noise(params: SensorParams, size_hw: tuple[int, int], duration_us: int, *, seed: int = 0) -> np.ndarray:
    """Return the events of a camera that looks at an even gray, as EVENT_DTYPE.

    Args:
        params: the camera.
        size_hw: rows and columns.
        duration_us: how long, in microseconds.
        seed: draws the pixels and the noise.
    """
    step_us = 2000
    light = np.full(size_hw, STATIC_LUMINANCE, np.float32)
    sensor = Sensor(params, size_hw, np.random.default_rng(seed))
    stops = [*range(step_us, duration_us, step_us), duration_us]
    return np.concatenate([sensor.step(light, t1 - (t1 - 1) % step_us - 1, t1) for t1 in stops])

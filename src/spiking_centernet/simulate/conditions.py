"""The same roads under harder conditions: another threshold, only night, rain, flickering light."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.simulate.sensor import SensorParams

LIGHTS = ("any", "day", "night")

FLICKER_STEPS = 10
"""Steps of the simulation in a period of the flicker."""

RAIN_REACH_M = 4.0
"""Beyond this distance a drop of 2 mm covers less than a sixth of a pixel of the GEN1 sensor and is left out."""

RAIN_NEAREST_M = 0.3
RAIN_SMALLEST_MM, RAIN_LARGEST_MM = 1.0, 5.0


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What is harder than usual; the defaults change nothing, not a byte.

    Attributes:
        threshold_scale: factor on both contrast thresholds of every camera.
        light: "day" or "night" keeps only such scenes, "any" all.
        rain_mm_h: rain in millimeters an hour; 2 is light, 10 moderate to heavy, 50 violent.
        flicker_hz: frequency at which all light flickers; mains of 50 Hz make 100.
        flicker_depth: its amplitude as a share of the light.

    Raises:
        ConfigError: a value is impossible.
    """

    threshold_scale: float = 1.0
    light: str = "any"
    rain_mm_h: float = 0.0
    flicker_hz: float = 0.0
    flicker_depth: float = 0.2

    def __post_init__(self):
        if not 0.1 <= self.threshold_scale <= 10:
            raise ConfigError(f"threshold_scale must lie in [0.1, 10], got {self.threshold_scale}")
        if self.light not in LIGHTS:
            raise ConfigError(f"unknown light {self.light!r}{did_you_mean(self.light, LIGHTS)}")
        if not 0 <= self.rain_mm_h <= 200:
            raise ConfigError(f"rain_mm_h must lie in [0, 200], got {self.rain_mm_h}")
        if not 0 <= self.flicker_hz <= 500:
            raise ConfigError(f"flicker_hz must lie in [0, 500], got {self.flicker_hz}")
        if not 0 <= self.flicker_depth < 1:
            raise ConfigError(f"flicker_depth must lie in [0, 1), got {self.flicker_depth}")

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"condition": ...}``, and nothing where nothing is harder."""
        return {} if self == CLEAR else {"condition": asdict(self)}

    def params(self, params: SensorParams) -> SensorParams:
        """Return a camera with scaled thresholds."""
        if self.threshold_scale == 1:
            return params
        return replace(
            params,
            threshold_on=params.threshold_on * self.threshold_scale,
            threshold_off=params.threshold_off * self.threshold_scale,
            threshold_spread=params.threshold_spread * self.threshold_scale,
        )

    def scene(
        self, make_scene: Callable[..., Any], rng: np.random.Generator, *, size_hw: tuple[int, int], duration_s: float
    ) -> Any:
        """Draw a scene with this light, seen through this weather."""
        scene = make_scene(rng, size_hw=size_hw, duration_s=duration_s)
        while self.light != "any" and scene.night != (self.light == "night"):
            scene = make_scene(rng.spawn(1)[0], size_hw=size_hw, duration_s=duration_s)
        if not self.rain_mm_h and not self.flicker_hz:
            return scene
        drops = _Rain(rng.spawn(1)[0], self.rain_mm_h, size_hw) if self.rain_mm_h else None
        return _Weather(scene, drops, self)


CLEAR = Condition()


class _Weather:
    """A scene behind rain and under flickering light."""

    def __init__(self, scene: Any, rain: "_Rain | None", condition: Condition):
        self._scene, self._rain, self._condition = scene, rain, condition
        self.night, self.description, self.boxes = scene.night, scene.description, scene.boxes

    def render(self, t_s: float, out: np.ndarray) -> None:
        self._scene.render(t_s, out)
        if self._rain is not None:
            self._rain.draw(t_s, out)
        if self._condition.flicker_hz:
            phase = 2 * np.pi * self._condition.flicker_hz * t_s
            out *= np.float32(1 + self._condition.flicker_depth * np.sin(phase))

    def max_speed_px_s(self, t_s: float) -> float:
        # The simulation's step is a pixel of motion: so many pixels a second make enough steps a period.
        fastest = max(self._scene.max_speed_px_s(t_s), FLICKER_STEPS * self._condition.flicker_hz)
        return fastest if self._rain is None else max(fastest, self._rain.typical_speed_px_s)


class _Rain:
    """Drops that fall straight down before the camera; where they are is a function of time.

    Their number and sizes follow N(D) = 8000 exp(-4.1 R^-0.21 D) per m3 and mm (Marshall, Palmer 1948), their speed
    9.65 - 10.3 exp(-0.6 D) m/s (Atlas et al. 1973), D in mm. A drop shows the sky: the mean of the frame's upper third.
    """

    def __init__(self, rng: np.random.Generator, rain_mm_h: float, size_hw: tuple[int, int]):
        height, width = size_hw
        focal_px = float(width)
        per_mm = 4.1 * rain_mm_h**-0.21
        per_m3 = 8000 / per_mm * np.exp(-per_mm * RAIN_SMALLEST_MM)
        seen_m3 = (width / focal_px) * (height / focal_px) * RAIN_REACH_M**3 / 3
        num = max(1, int(rng.poisson(per_m3 * seen_m3)))
        size_mm = np.minimum(RAIN_SMALLEST_MM + rng.exponential(1 / per_mm, num), RAIN_LARGEST_MM)
        away_m = np.maximum(RAIN_REACH_M * np.cbrt(rng.random(num)), RAIN_NEAREST_M)
        self._width_px = size_mm * 1e-3 * focal_px / away_m
        self._speed_px_s = (9.65 - 10.3 * np.exp(-0.6 * size_mm)) * focal_px / away_m
        self._x, self._y = rng.random(num), rng.random(num)
        self.typical_speed_px_s = float(np.median(self._speed_px_s))

    def draw(self, t_s: float, out: np.ndarray) -> None:
        height, width = out.shape
        fallen = self._y + self._speed_px_s * t_s / height
        # A drop that left below comes in above at another place: the golden ratio spreads them evenly.
        columns = ((self._x + 0.6180339887 * np.floor(fallen)) % 1 * width).astype(np.int64)
        rows = (fallen % 1 * height).astype(np.int64)
        place = np.minimum(rows, height - 1) * width + np.minimum(columns, width - 1)
        cover = np.minimum(np.bincount(place, self._width_px**2, height * width), 1).astype(np.float32)
        sky = np.float32(out[: max(1, height // 3)].mean())
        out += cover.reshape(height, width) * (sky - out)

"""The worlds there are to simulate.

``roads`` is as published; in ``stops`` traffic stands still now and then before a fixed camera; ``wide`` is for
recordings of any camera, ``close`` the same from nearby.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.simulate.scene.close import CloseScene
from spiking_centernet.simulate.scene.scene import Scene as RoadScene
from spiking_centernet.simulate.scene.stops import StopsScene
from spiking_centernet.simulate.scene.wide import WideScene


class Scene(Protocol):
    """What a simulated world must offer; ``simulate.scene`` holds ours."""

    @property
    def night(self) -> bool:
        """Whether it is dark."""
        ...

    @property
    def description(self) -> dict[str, Any]:
        """What was drawn, ready for JSON."""
        ...

    def render(self, t_s: float, out: np.ndarray) -> object:
        """Write the float32 [H, W] luminance at a time into ``out``."""
        ...

    def boxes(self, t_s: float, t_us: int) -> np.ndarray:
        """Return the visible boxes at a time as BOX_DTYPE, stamped ``t_us``."""
        ...

    def max_speed_px_s(self, t_s: float) -> float:
        """Return the speed of the fastest thing in the picture."""
        ...


SceneFactory = Callable[..., Scene]
"""Called as ``factory(rng, size_hw=..., duration_s=...)``; at module level, so that other processes find it."""


@dataclass(frozen=True)
class World:
    """A kind of data set.

    Attributes:
        name: what users call it.
        version: raised whenever the same seed would give other bytes; a folder of another version is not continued.
        make_scene: draws the scene of a clip.
        label_period_us: time between labels, and of the first.
        step_range_us: bounds of the time step: 500 to 5000 frames a second; fewer where nearly nothing moves.
        has_profiles: whether cameras are drawn from ``PROFILES``; otherwise by ``random_params``.
        box_events: events in the 100 ms before it that a box must hold, and how many more per pixel of its area besides
            one and a half times the noise; what stands still before a camera that stands still cannot be seen.
    """

    name: str
    version: int
    make_scene: SceneFactory
    label_period_us: int
    step_range_us: tuple[int, int] = (200, 2000)
    has_profiles: bool = False
    box_events: tuple[float, float] = (0.0, 0.0)


WORLDS = {
    # GEN1 is labeled at 1, 2 or 4 Hz; the first label has a full window of events before it. Version 2 of the roads
    # differs from 1 by rounding alone: it draws in float32.
    "roads": World("roads", 2, RoadScene, 250_000),
    # The first label of a clip has half a window of events before it: recordings begin somewhere.
    "stops": World("stops", 1, StopsScene, 100_000),
    "wide": World("wide", 3, WideScene, 50_000, (500, 8000), True, (15.0, 0.03)),
    "close": World("close", 1, CloseScene, 50_000, (500, 8000), True, (15.0, 0.03)),
}
"""The worlds by name."""


def world_of(name: str) -> World:
    """Return a world by its name.

    Raises:
        ConfigError: If there is no such world.
    """
    if name not in WORLDS:
        raise ConfigError(f"unknown world {name!r}{did_you_mean(name, WORLDS)}; known: {', '.join(WORLDS)}")
    return WORLDS[name]

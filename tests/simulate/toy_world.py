"""A bright block that slides over a gray ground: a world whose events and boxes are known."""

import multiprocessing
import os

import numpy as np

from spiking_centernet.structures import BOX_DTYPE


class SlidingBlock:
    def __init__(self, size_hw, row, speed_px_s, night):
        self.size_hw = size_hw
        self.row = row
        self.speed_px_s = speed_px_s
        self.night = night
        self.description = {"row": row, "speed_px_s": np.float64(speed_px_s)}

    def _left(self, t_s):
        return self.speed_px_s * t_s

    def render(self, t_s, out):
        out[:] = 60.0
        x = np.arange(self.size_hw[1])
        left = self._left(t_s)
        cover = np.clip(np.minimum(x + 1, left + 8) - np.maximum(x, left), 0, 1)
        out[self.row : self.row + 6] = (60 + 140 * cover).astype(np.float32)

    def boxes(self, t_s, t_us):
        return np.array([(t_us, self._left(t_s), self.row, 8, 6, 0, 1.0, 7)], BOX_DTYPE)

    def max_speed_px_s(self, t_s):
        return self.speed_px_s


def toy_scene(rng, *, size_hw, duration_s):
    return SlidingBlock(
        size_hw, int(rng.integers(0, size_hw[0] - 6)), float(rng.uniform(20, 60)), bool(rng.random() < 0.5)
    )


def failing_scene(rng, *, size_hw, duration_s):
    """The second half of every clip cannot be drawn."""
    scene = toy_scene(rng, size_hw=size_hw, duration_s=duration_s)
    draw = scene.render

    def render(t_s, out):
        if t_s > duration_s / 2:
            raise RuntimeError("the world ended")
        draw(t_s, out)

    scene.render = render
    return scene


def dying_scene(rng, *, size_hw, duration_s):
    """A worker process is gone in the second half of every clip, as if killed; the process of the tests fails."""
    scene = failing_scene(rng, size_hw=size_hw, duration_s=duration_s)
    draw = scene.render

    def render(t_s, out):
        try:
            draw(t_s, out)
        except RuntimeError:
            if multiprocessing.parent_process() is None:
                raise
            os._exit(9)

    scene.render = render
    return scene

"""Print digests of what seeds give: alike before and after a change of the simulator that promises the same bytes.

    python benchmarks/simulator_digests.py > before.txt   # then change, print again, and diff

Twelve short clips: two for each mount of the camera by day and by night. Frames and speeds count too, so a difference
too small to move an event shows as well. ``--clips 2`` is a quick look. Digests of different kinds of CPU differ.
"""

import argparse
import hashlib
import tempfile
from pathlib import Path

import numpy as np

from spiking_centernet.simulate.dataset import Clip, make_clip
from spiking_centernet.simulate.scene.scene import Scene

# Seed, split and index, picked for the mount and the light they draw.
CLIPS = (
    (5, "train", 2), (9, "val", 0), (2, "train", 2), (1, "train", 1), (2, "val", 2), (20, "val", 2),
    (0, "val", 0), (6, "val", 0), (1, "val", 1), (3, "val", 0), (0, "train", 0), (19, "train", 1),
)  # fmt: skip


class HashedScene:
    """A scene that digests every frame and speed it hands out."""

    def __init__(self, scene: Scene):
        self._scene = scene
        self.night, self.description, self.boxes = scene.night, scene.description, scene.boxes
        self.digest = hashlib.sha256()

    def render(self, t_s: float, out: np.ndarray) -> None:
        self._scene.render(t_s, out)
        self.digest.update(out.tobytes())

    def max_speed_px_s(self, t_s: float) -> float:
        speed = self._scene.max_speed_px_s(t_s)
        self.digest.update(np.float64(speed).tobytes())
        return speed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=len(CLIPS))
    parser.add_argument("--seconds", type=float, default=0.4)
    options = parser.parse_args()
    for seed, split, index in CLIPS[: options.clips]:
        scenes: list[HashedScene] = []

        def make_scene(rng: np.random.Generator, into: list[HashedScene] = scenes, **settings) -> HashedScene:
            into.append(HashedScene(Scene(rng, **settings)))
            return into[0]

        with tempfile.TemporaryDirectory() as folder:
            clip = Clip(Path(folder), seed, split, index, round(options.seconds * 1e6), (240, 304), make_scene)
            scene = make_clip(clip)["scene"]
            digests = [hashlib.sha256(path.read_bytes()) for path in (clip.events_path, clip.boxes_path)]
        parts = zip(("frames", "events", "boxes"), [scenes[0].digest, *digests], strict=True)
        print(clip.name, scene["mount"], scene["light"], *(f"{k} {v.hexdigest()[:16]}" for k, v in parts), flush=True)


if __name__ == "__main__":
    main()

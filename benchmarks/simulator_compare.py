"""Show how far two versions of the simulator differ: save what one gives, then compare another with it.

    python benchmarks/simulator_compare.py save before      # with the old version
    python benchmarks/simulator_compare.py compare before   # with the new one

The clips are those of ``simulator_digests.py``. Frames are compared at the same timestamps, pixel by pixel, relative to
the brighter of both and at least 1; whole clips by their boxes and their number of events.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from simulator_digests import CLIPS

from spiking_centernet.data import DatFile, read_boxes
from spiking_centernet.simulate.dataset import Clip, make_clip
from spiking_centernet.simulate.scene.scene import Scene


def measure(clip: Clip, num_frames: int) -> dict[str, np.ndarray]:
    """Return some frames of a clip's scene, and the events and boxes of the whole clip."""
    scene = Scene(clip.rng().spawn(3)[0], size_hw=clip.size_hw, duration_s=clip.duration_us * 1e-6 + 0.05)
    frames = np.empty((num_frames, *clip.size_hw), np.float32)
    for frame, t_s in zip(frames, np.linspace(0.05, clip.duration_us * 1e-6, num_frames), strict=True):
        scene.render(float(t_s), frame)
    with tempfile.TemporaryDirectory() as folder:
        made = replace(clip, out=Path(folder))
        make_clip(made)
        events, boxes = DatFile(made.events_path).decode(), read_boxes(made.boxes_path)
    return {"frames": frames, "events": events, "boxes": boxes}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("save", "compare"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=len(CLIPS))
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for seed, split, index in CLIPS[: options.clips]:
        clip = Clip(options.folder, seed, split, index, round(options.seconds * 1e6), (240, 304))
        found, path = measure(clip, options.frames), options.folder / f"{clip.name}.npz"
        if options.action == "save":
            np.savez_compressed(path, frames=found["frames"], events=found["events"], boxes=found["boxes"])
            continue
        with np.load(path) as before:
            old, new = before["frames"].astype(float), found["frames"].astype(float)
            apart = np.abs(new - old) / np.maximum(np.maximum(old, new), 1.0)
            num_old, num_new = len(before["events"]), len(found["events"])
            print(
                f"{clip.name} luminance: mean {apart.mean():.1e} 99.9 % {np.quantile(apart, 0.999):.1e} "
                f"most {apart.max():.1e}; events {num_old} to {num_new} ({num_new / num_old - 1:+.2%}); "
                f"boxes {'identical' if np.array_equal(before['boxes'], found['boxes']) else 'DIFFERENT'}",
                flush=True,
            )


if __name__ == "__main__":
    main()

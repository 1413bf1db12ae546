"""The clips of a simulated data set: what decides their bytes, and the files they become."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spiking_centernet.data.frames import FRAMES_SUFFIX
from spiking_centernet.data.object_files import CAMERA_SUFFIX, OBJECTS_SUFFIX, write_cameras, write_objects
from spiking_centernet.errors import ConfigError
from spiking_centernet.simulate.conditions import CLEAR, Condition
from spiking_centernet.simulate.frames import channels_of, picture_times_us, write_pictures
from spiking_centernet.simulate.profiles import ANY
from spiking_centernet.simulate.worlds import WORLDS, Scene, SceneFactory, World
from spiking_centernet.utils.files import atomic_write

SPLITS = ("train", "val", "test")

LABELS = ("objects", "frames")
"""What can be written beyond events and boxes: "objects" are 3D boxes, joints and the camera, ``*_objects.npy`` and
``*_camera.npy``; "frames" are pictures, ``*_frames/<microseconds>.png``."""


@dataclass(frozen=True, kw_only=True)
class Clips:
    """How many clips each split has."""

    train: int = 60
    val: int = 12
    test: int = 12

    def __post_init__(self):
        for split in SPLITS:
            if getattr(self, split) < 0:
                raise ConfigError(f"clips.{split} must not be negative, got {getattr(self, split)}")


USUAL_CLIPS = Clips()
"""How many clips a split has unless said otherwise."""


@dataclass(frozen=True)
class Clip:
    """One clip to make: everything that decides its bytes."""

    out: Path
    seed: int
    split: str
    index: int
    duration_us: int
    size_hw: tuple[int, int]
    make_scene: SceneFactory | None = None
    condition: Condition = CLEAR
    world: World = WORLDS["roads"]
    profile: str = ANY
    labels: tuple[str, ...] = ()
    frames_per_window: int = 1
    color: bool = False

    @property
    def name(self) -> str:
        """Name of its files, without ``_td.dat`` or ``_bbox.npy``."""
        return f"sim{self.seed}_{self.split}_{self.index:04d}"

    @property
    def events_path(self) -> Path:
        """Where its events go."""
        return self.out / self.split / f"{self.name}_td.dat"

    @property
    def boxes_path(self) -> Path:
        """Where its boxes go."""
        return self.out / self.split / f"{self.name}_bbox.npy"

    @property
    def objects_path(self) -> Path:
        """Where its 3D boxes and joints go."""
        return self.out / self.split / f"{self.name}{OBJECTS_SUFFIX}"

    @property
    def camera_path(self) -> Path:
        """Where its camera goes."""
        return self.out / self.split / f"{self.name}{CAMERA_SUFFIX}"

    @property
    def frames_path(self) -> Path:
        """Folder of its pictures."""
        return self.out / self.split / f"{self.name}{FRAMES_SUFFIX}"

    @property
    def label_paths(self) -> tuple[Path, ...]:
        """The files beyond events and boxes that it is to have."""
        objects = (self.objects_path, self.camera_path) if "objects" in self.labels else ()
        return (*objects, self.frames_path) if "frames" in self.labels else objects

    @property
    def report_path(self) -> Path:
        """Where its description goes; written last, so it marks a finished clip."""
        return self.out / ".clips" / f"{self.name}.json"

    def rng(self) -> np.random.Generator:
        """Return its own stream of chance; no two splits or indices share one."""
        return np.random.default_rng(
            np.random.SeedSequence(self.seed, spawn_key=(SPLITS.index(self.split), self.index))
        )

    def finished(self) -> dict[str, Any] | None:
        """Return the description of the clip if all its files are there and as long as it says."""
        files = (self.report_path, self.events_path, self.boxes_path, *self.label_paths)
        if not all(path.exists() for path in files):
            return None
        report = read_json(self.report_path) or {}
        sizes = {"events_bytes": self.events_path, "boxes_bytes": self.boxes_path}
        if report.get("name") != self.name or report.get("split") != self.split:
            return None
        return report if all(report.get(key) == path.stat().st_size for key, path in sizes.items()) else None


def write_labels(clip: Clip, scene: Scene, boxes: list[np.ndarray], labels_us: range, before_us: int) -> None:
    """Write the labels that a clip is to have beyond its boxes, each file whole or not at all.

    Args:
        clip: with its paths.
        scene: of the clip; it draws nothing at random here, so that events and boxes stay what they are.
        boxes: BOX_DTYPE rows of every labeled timestamp.
        labels_us: the labeled timestamps.
        before_us: how long the scene runs before time zero.

    Raises:
        ConfigError: If the scene has no such labels.
    """
    if "frames" in clip.labels:
        times_us = picture_times_us(labels_us, clip.frames_per_window)
        # A fourth stream of chance, next to those of scene, sensor and its settings.
        channels = channels_of(scene, clip.rng().spawn(4)[3]) if clip.color else [scene]
        write_pictures(clip.frames_path, channels, clip.size_hw, times_us, before_us)
    if "objects" not in clip.labels:
        return
    if not (hasattr(scene, "objects") and hasattr(scene, "calibration")):
        raise ConfigError("this world knows no 3D boxes and joints; leave out labels, or take the world roads")
    times_s = [(t_us + before_us) * 1e-6 for t_us in labels_us]
    rows = [scene.objects(t_s, here) for t_s, here in zip(times_s, boxes, strict=True)]  # pyright: ignore
    write_objects(clip.objects_path, np.concatenate(rows))
    cameras = {t_us: scene.calibration(t_s) for t_us, t_s in zip(labels_us, times_s, strict=True)}  # pyright: ignore
    write_cameras(clip.camera_path, cameras)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a description, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, sort_keys=True, default=_plain) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any] | None:
    """Return what a file holds, None where that is no mapping."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"a scene's description must be ready for JSON, got {type(value).__name__}")

"""Detect in pictures, with a network that sees pictures; and the files of what was found."""

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spiking_centernet.calibration import Calibration
from spiking_centernet.data.cameras import Camera, camera_at, camera_of_picture
from spiking_centernet.data.frames import (
    FrameSource,
    Letterbox,
    checked_image,
    encode,
    image_paths,
    letterboxed,
    read_image,
)
from spiking_centernet.errors import ConfigError
from spiking_centernet.inference.further_tasks import NO_CAMERA
from spiking_centernet.inference.inspection import Inspector
from spiking_centernet.model import AnyDetector
from spiking_centernet.structures import Detections, VoxelSpec


@dataclass(frozen=True)
class Picture:
    """A picture to detect in.

    Attributes:
        image: uint8 [H, W, 3].
        cube: uint8 [T, C, h, w] that the network sees.
        t_us: its time in microseconds; 0 of a photograph.
        path: where it is stored; None in memory.
    """

    image: np.ndarray
    cube: torch.Tensor
    t_us: int = 0
    path: Path | None = None


def pictures_of(source: Any, spec: VoxelSpec) -> Iterator[Picture]:
    """Yield the pictures that a source stands for, each read when its turn comes.

    Args:
        source: a picture's path, a folder, a picture in memory uint8 [H, W, 3], or a list of those. For mode
            "difference" a folder of one camera's ``<microseconds>.png``.
        spec: of the network.

    Raises:
        EventFileError: a picture is missing or damaged.
        ConfigError: the source is something else.
    """
    if isinstance(source, list):
        for each in source:
            yield from pictures_of(each, spec)
    elif isinstance(source, str | os.PathLike):
        yield from _in_files(Path(source), spec)
    elif isinstance(source, np.ndarray):
        image = checked_image(source)
        yield Picture(image, encode(letterboxed(image, spec)[None], spec))
    else:
        raise ConfigError(
            f"the network sees pictures (voxels.mode {spec.mode!r}), source is a {type(source).__name__}; give a "
            "picture's path, a folder of pictures, or an array uint8 [H, W, 3]; for events take another network"
        )


def _in_files(source: Path, spec: VoxelSpec) -> Iterator[Picture]:
    if spec.mode == "difference":
        frames = FrameSource(source)
        for t_us in frames.times_us[1:].tolist() or frames.times_us.tolist():
            yield Picture(frames.image(t_us), frames.cube(t_us, spec), t_us, frames.path)
        return
    for path in image_paths(source):
        yield Picture(read_image(path), FrameSource(path).cube(0, spec), 0, path)


def detections_in(
    model: AnyDetector,
    pictures: Iterator[Picture],
    *,
    min_score: float,
    inspector: Inspector | None = None,
    camera: Camera | None = None,
) -> Iterator[tuple[Picture, Detections, Calibration | None]]:
    """Yield pictures, what was found in them, boxes in their own pixels, and their cameras.

    Args:
        model: the detector; it is fused here once and left unchanged.
        pictures: what to detect in.
        min_score: detections below are dropped.
        inspector: keeps more of every picture than its detections.
        camera: of the pictures, for 3D boxes; None takes what lies next to each, without which they are NaN.
    """
    warned = "detect3d" not in model.config.tasks
    fused, device = model.fuse(), model.device
    for picture in pictures:
        frame_hw = picture.cube.shape[-2], picture.cube.shape[-1]
        with torch.inference_mode():
            output, _ = fused(
                picture.cube[:, None].to(device), keep_state=False,
                observe=None if inspector is None else inspector.observe,
            )  # fmt: skip
        if inspector is not None:
            inspector.inspect(picture.cube, output)
        lies = Letterbox((picture.image.shape[0], picture.image.shape[1]), frame_hw)
        view = camera_at(camera, picture.t_us)
        if view is None and picture.path is not None:
            view = camera_of_picture(picture.path, picture.t_us)
        if view is None and not warned:
            # By folder, so that many pictures that are asked for one by one give one warning.
            warnings.warn(f"{picture.path.parent if picture.path else 'a picture'}: {NO_CAMERA}", stacklevel=2)
            warned = True
        (found,) = model.head.detections(
            output, [picture.t_us], size_hw=lies.inner_hw, min_score=min_score,
            calibrations=[None if view is None else lies.camera(view)],
        )  # fmt: skip
        yield picture, lies.to_source(found), view


SAVED = {"mp4": "png", "png": "png", "json": "json", "npy": "npy"}
"""What ``scn detect --save`` writes of recordings -> the file that it means of a picture, which has no video."""


def saved_kinds(save: Sequence[str]) -> list[str]:
    """Return the endings of the files to write for a picture.

    Raises:
        ConfigError: a format is for recordings alone.
    """
    for name in save:
        if name not in SAVED:
            raise ConfigError(f"cannot save {name!r} of a picture; known: {', '.join(SAVED)}")
    return list(dict.fromkeys(SAVED[name] for name in save))

"""Pictures into cubes: read, letterbox, and code as real values, as spikes by intensity or as differences."""

import os
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import UInt8

from spiking_centernet.calibration import Calibration
from spiking_centernet.errors import ConfigError, EventFileError
from spiking_centernet.structures import Boxes, Detections, VoxelSpec

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
"""Suffixes of pictures; pillow reads them."""

FRAMES_SUFFIX = "_frames"
"""Ending of the folder of pictures next to a recording; a picture's name is its time in microseconds."""

LUMINANCE = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in luminance (ITU-R BT.601)."""

FILL = 115
"""Gray of what lies beyond a letterboxed picture: 0.45 of full intensity, 0 once the network has normalized it."""

CONTRAST = 0.15
"""Change of log intensity from which mode "difference" marks a pixel: a usual threshold of event cameras (ESIM,
Rebecq et al., CoRL 2018, draws around it)."""

EXIF_ORIENTATION = 0x0112
"""Tag of how a camera was held; 5 to 8 lie on the side (EXIF 2.32, table 4)."""

MAX_IMAGE_PIXELS = 100_000_000
"""More than any camera; a damaged or hostile file may claim more than memory holds."""

Placed = TypeVar("Placed", Boxes, Detections)


@dataclass(frozen=True)
class Letterbox:
    """How a picture lies in a frame: as large as fits, at the top left, its proportions kept to a pixel.

    Attributes:
        source_hw: height and width of the picture in pixels.
        frame_hw: height and width of the frame in pixels.
    """

    source_hw: tuple[int, int]
    frame_hw: tuple[int, int]

    @property
    def inner_hw(self) -> tuple[int, int]:
        """Height and width in pixels of the part of the frame that shows the picture."""
        scale = min(frame / source for frame, source in zip(self.frame_hw, self.source_hw, strict=True))
        height, width = (max(1, round(scale * side)) for side in self.source_hw)
        return min(height, self.frame_hw[0]), min(width, self.frame_hw[1])

    @property
    def scale_xy(self) -> np.ndarray:
        """Pixels of the frame over pixels of the picture along x and y, float64 [2]; equal up to rounding to pixels."""
        return np.array(self.inner_hw[::-1], np.float64) / np.array(self.source_hw[::-1], np.float64)

    def to_frame(self, objects: Placed) -> Placed:
        """Return boxes or detections in pixels of the picture as such in the frame's."""
        return _scaled(objects, self.scale_xy)

    def to_source(self, found: Placed) -> Placed:
        """Return boxes or detections in pixels of the frame as such in the picture's, clipped to it."""
        found = _scaled(found, 1 / self.scale_xy)
        height, width = self.source_hw
        return replace(found, xyxy=np.clip(found.xyxy, 0, np.array([width, height, width, height], np.float32)))

    def camera(self, calibration: Calibration) -> Calibration:
        """Return the camera of the frame for the picture's."""
        scale = self.scale_xy
        return replace(calibration, focal=scale * calibration.focal, center=scale * calibration.center)


def _scaled(objects: Placed, scale_xy: np.ndarray) -> Placed:
    xyxy = (objects.xyxy.astype(np.float64) * np.tile(scale_xy, 2)).astype(np.float32)
    joints = objects.joints.copy()
    joints[..., :2] = joints[..., :2] * scale_xy
    scaled = replace(objects, xyxy=xyxy, joints=joints)
    return replace(scaled, areas=scaled.areas * np.float32(scale_xy.prod())) if isinstance(scaled, Boxes) else scaled


def is_image(path: str | os.PathLike[str]) -> bool:
    """Return whether a path ends like a picture."""
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


def image_paths(source: str | os.PathLike[str]) -> list[Path]:
    """Return a picture's path, or those of a folder and the folders in it, sorted.

    Raises:
        EventFileError: there is no picture.
    """
    path = Path(source)
    if path.is_dir():
        found = sorted(each for each in path.rglob("*") if is_image(each) and each.is_file())
        if not found:
            raise EventFileError(f"{path}: this folder holds no picture; known are {', '.join(IMAGE_SUFFIXES)}")
        return found
    if not path.exists():
        raise EventFileError(f"{path}: no such file")
    if not is_image(path):
        raise EventFileError(
            f"{path}: is no picture ({', '.join(IMAGE_SUFFIXES)}), but this network sees pictures; for recordings of "
            "events take a network with voxels.mode binary or count"
        )
    return [path]


def read_image(path: str | os.PathLike[str]) -> UInt8[np.ndarray, "H W 3"]:
    """Return a picture as red, green, blue, upright as its camera says it was held.

    Raises:
        EventFileError: the file is missing, damaged or no picture, or too large.
    """
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.width * image.height > MAX_IMAGE_PIXELS:
                    raise EventFileError(f"{path}: has {image.width} x {image.height} pixels; make it smaller")
                upright = ImageOps.exif_transpose(image)
                if upright.mode.startswith("I") or upright.mode == "F":
                    raise EventFileError(
                        f"{path}: has more than 8 bits a color (mode {upright.mode}); save it with 8 bits"
                    )
                return np.asarray(upright.convert("RGB")).copy()
    except EventFileError:
        raise
    except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError, MemoryError) as error:
        raise EventFileError(f"{path}: is no picture that can be read ({error}); copy it again") from error


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return height and width of a picture, upright, without reading its pixels; raises as :func:`read_image`."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            turned = image.getexif().get(EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
            return (image.width, image.height) if turned else (image.height, image.width)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise EventFileError(f"{path}: is no picture that can be read ({error}); copy it again") from error


def checked_image(image: Any) -> UInt8[np.ndarray, "H W 3"]:
    """Return a picture in memory, uint8 [H, W, 3] or gray [H, W], as red, green, blue.

    Raises:
        ConfigError: it is something else.
    """
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or 0 in array.shape or array.shape[2:] not in ((), (3,)):
        raise ConfigError(f"a picture is uint8 [H, W, 3] or [H, W], got {array.dtype} {list(array.shape)}")
    return np.repeat(array[..., None], 3, axis=2) if array.ndim == 2 else array


def letterboxed(image: UInt8[np.ndarray, "H W 3"], spec: VoxelSpec) -> UInt8[np.ndarray, "C h w"]:
    """Return a picture in the network's colors and frame, resized bilinearly over all pixels under a new one.

    Args:
        image: uint8 [H, W, 3].
        spec: colors and size of the frame.

    Returns:
        uint8 [C, h, w]; what lies beyond the picture is ``FILL``.
    """
    from PIL import Image

    height, width = (int(side) for side in spec.frame_hw)
    inner_h, inner_w = Letterbox((image.shape[0], image.shape[1]), (height, width)).inner_hw
    if image.shape[:2] != (inner_h, inner_w):
        image = np.asarray(Image.fromarray(image).resize((inner_w, inner_h), Image.Resampling.BILINEAR))
    colors = image if spec.colors == 3 else np.rint(image @ np.array(LUMINANCE))[..., None].astype(np.uint8)
    frame = np.full((spec.colors, height, width), FILL, np.uint8)
    frame[:, :inner_h, :inner_w] = np.moveaxis(colors, 2, 0)
    return frame


def encode(
    frames: UInt8[np.ndarray, "N C H W"], spec: VoxelSpec, rng: np.random.Generator | None = None
) -> UInt8[torch.Tensor, "T K H W"]:
    """Return the cube of a window from its pictures, oldest first.

    - "direct": the last picture as it is, once; the network shows it to its neurons at every step.
    - "rate": at every step 1 where ``u < I / 255``, ``u`` uniform in [0, 1) and ``I`` the last picture's intensity.
    - "difference": of ``num_steps + 1`` pictures, ON where ``ln(Y_t + 1) - ln(Y_(t-1) + 1) > CONTRAST`` and OFF where
      it is below ``-CONTRAST``, ``Y`` the luminance from 0 to 255; OFF is channel 0, ON is channel 1, as of events.

    Args:
        frames: uint8 [N, C, H, W], letterboxed.
        spec: mode and time steps.
        rng: draws ``u``; None is a generator of seed 0.

    Raises:
        ConfigError: the mode sees events, or the number of pictures is another.
    """
    needed = frames_needed(spec)
    if len(frames) != needed:
        raise ConfigError(f"mode {spec.mode!r} of {spec.num_steps} steps takes {needed} pictures, got {len(frames)}")
    if spec.mode == "direct":
        return torch.from_numpy(frames.copy())
    if spec.mode == "rate":
        rng = np.random.default_rng(0) if rng is None else rng
        shares = frames[-1].astype(np.float32) / np.float32(255)
        draws = rng.random((spec.num_steps, *shares.shape), np.float32)
        return torch.from_numpy((draws < shares).astype(np.uint8))
    weights = np.array(LUMINANCE if frames.shape[1] == 3 else (1.0,))
    log_y = np.log1p(np.tensordot(frames.astype(np.float64), weights, axes=([1], [0])))
    change = np.diff(log_y, axis=0)
    return torch.from_numpy(np.stack([change < -CONTRAST, change > CONTRAST], axis=1).astype(np.uint8))


def frames_needed(spec: VoxelSpec) -> int:
    """Return how many pictures make a window.

    Raises:
        ConfigError: the mode sees events.
    """
    if not spec.takes_frames:
        raise ConfigError(f"voxels.mode {spec.mode!r} sees events, not pictures; take direct, rate or difference")
    return spec.num_steps + 1 if spec.mode == "difference" else 1


class FrameSource:
    """The pictures of a recording: one, which stands at time 0, or a folder of ``<microseconds>.png``.

    Attributes:
        path: the picture or the folder.
        size_hw: height and width of the pictures in pixels.
        times_us: when they were taken, int64, sorted.

    Raises:
        EventFileError: a picture is missing or damaged, or a name in the folder is no time.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        if self.path.is_dir():
            by_time = {_time_of(each): each for each in image_paths(self.path)}
            self._paths = [by_time[t_us] for t_us in sorted(by_time)]
            self.times_us = np.array(sorted(by_time), np.int64)
        else:
            self._paths, self.times_us = image_paths(self.path), np.zeros(1, np.int64)
        self.size_hw: tuple[int, int] = image_size(self._paths[0])

    def cube(self, t_us: int, spec: VoxelSpec, *, seed: Sequence[int] = (0,)) -> UInt8[torch.Tensor, "T C H W"]:
        """Return the cube of the window that ends at a time.

        Args:
            t_us: microseconds; a picture must have been taken then, and for mode "difference" at the ends of the steps
                before. Of times before the first picture the first is taken.
            spec: how pictures become cubes.
            seed: of the draws of mode "rate", next to the recording's name and the time.

        Raises:
            EventFileError: there is no picture of a time, or it has another size.
        """
        times = [t_us]
        if spec.mode == "difference":
            if len(self.times_us) == 1:
                raise EventFileError(
                    f"{self.path}: mode difference compares {frames_needed(spec)} pictures of a window, here is one; "
                    "take voxels.mode direct or rate"
                )
            first_us = int(self.times_us[0])
            times = [max(first_us, round(t_us - k * spec.step_us)) for k in range(spec.num_steps, 0, -1)] + [t_us]
        frames = np.stack([letterboxed(self._at(t), spec) for t in times])
        return encode(frames, spec, np.random.default_rng([*seed, 3, zlib.crc32(self.path.stem.encode()), t_us]))

    def image(self, t_us: int) -> UInt8[np.ndarray, "H W 3"]:
        """Return the picture of a time as it is stored; raises as :meth:`cube`."""
        return self._at(t_us)

    def _at(self, t_us: int) -> np.ndarray:
        k = int(np.searchsorted(self.times_us, t_us))
        if k == len(self.times_us) or self.times_us[k] != t_us:
            raise EventFileError(
                f"{self.path}: has no picture at {t_us} us; there are {len(self.times_us)} from {self.times_us[0]} to "
                f"{self.times_us[-1]} us. Mode difference needs some between the labels: simulate with "
                "--frames_per_window equal to the steps"
            )
        image = read_image(self._paths[k])
        if image.shape[:2] != self.size_hw:
            raise EventFileError(
                f"{self._paths[k]}: is {image.shape[1]} x {image.shape[0]}, the first of its folder is "
                f"{self.size_hw[1]} x {self.size_hw[0]}; bring them to one size"
            )
        return image


def _time_of(path: Path) -> int:
    if not (path.stem.isascii() and path.stem.isdigit()) or int(path.stem) >= 1 << 53:
        raise EventFileError(f"{path}: its name must be its time in microseconds, such as 500000.png")
    return int(path.stem)

"""The camera of a recording: one that stands still, or one that moves as a file next to the recording says."""

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from spiking_centernet.calibration import Calibration, HeightVotes
from spiking_centernet.data.frames import FRAMES_SUFFIX
from spiking_centernet.data.kitti_files import read_projection
from spiking_centernet.data.object_files import calibration_of_row, read_cameras
from spiking_centernet.errors import ConfigError


@dataclass(frozen=True)
class CameraTrack:
    """A camera at several times.

    Attributes:
        rows: of ``CAMERA_DTYPE``, sorted by time, at least one.
        votes: see :class:`Calibration`.
    """

    rows: np.ndarray
    votes: HeightVotes | None = None

    def at(self, t_us: int) -> Calibration:
        """Return the camera at the nearest time that is known."""
        times = self.rows["ts"].astype(np.int64)
        return replace(calibration_of_row(self.rows[int(np.abs(times - t_us).argmin())]), votes=self.votes)


Camera = Calibration | CameraTrack


def camera_at(camera: Camera | None, t_us: int) -> Calibration | None:
    """Return the camera at a timestamp in microseconds, None where it is unknown."""
    return camera.at(t_us) if isinstance(camera, CameraTrack) else camera


def with_votes(camera: Camera | None) -> Camera | None:
    """Return the camera of a recording whose unknown height is voted on by all pictures, from the first one on."""
    return None if camera is None else replace(camera, votes=HeightVotes())


def camera_beside(recording: str | os.PathLike[str]) -> CameraTrack | None:
    """Return the camera that lies next to a recording as ``NAME_camera.npy``, None where there is none.

    Raises:
        BoxFileError: The file is damaged.
    """
    path = Path(recording)
    beside = path.with_name(f"{path.stem.removesuffix('_td')}_camera.npy")
    rows = read_cameras(beside) if beside.is_file() else None
    return None if rows is None or not len(rows) else CameraTrack(rows)


def camera_of_picture(picture: Path, t_us: int) -> Calibration | None:
    """Return the camera of a picture of a data set, None where none lies next to it.

    Args:
        picture: a file in KITTI's ``image_2`` or in ``NAME_frames``, or a folder ``NAME_frames``.
        t_us: time of the picture in microseconds, if it is one of such a folder's.

    Raises:
        BoxFileError: The file of the camera is damaged.
    """
    folder = picture if picture.is_dir() else picture.parent
    if folder.name.endswith(FRAMES_SUFFIX):
        camera = camera_beside(folder.with_name(folder.name.removesuffix(FRAMES_SUFFIX)))
        return camera_at(camera, int(picture.stem) if picture.stem.isdecimal() else t_us)
    calibration = folder.parent / "calib" / f"{picture.stem}.txt"
    return read_projection(calibration) if folder.name == "image_2" and calibration.is_file() else None


def pitched_camera(
    focal_px: float, pitch_deg: float, size_hw: tuple[int, int], *, height_m: float | None = None
) -> Calibration:
    """Return a camera that looks down by an angle, its principal point in the middle of the sensor.

    Args:
        focal_px: focal length in pixels.
        pitch_deg: degrees that the optical axis points below the horizon.
        size_hw: height and width of the sensor in pixels.
        height_m: of the camera above the level ground on which networks with ``head.placing: ground`` place 3D boxes;
            None where unknown.

    Raises:
        ConfigError: The focal length or the height is not positive, or the pitch not between -90 and 90 degrees.
    """
    if not 0 < focal_px < math.inf:
        raise ConfigError(f"focal_px must be a positive number of pixels, got {focal_px}")
    if not -90 < pitch_deg < 90:
        raise ConfigError(f"pitch_deg must lie between -90 and 90 degrees below the horizon, got {pitch_deg}")
    if height_m is not None and not 0 < height_m < math.inf:
        raise ConfigError(f"height_m must be a positive number of meters, got {height_m}")
    cos, sin = math.cos(math.radians(pitch_deg)), math.sin(math.radians(pitch_deg))
    height, width = size_hw
    rotation = np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])
    return Calibration(np.full(2, float(focal_px)), np.array([width / 2, height / 2]), rotation, height_m=height_m)

"""The camera that 3D boxes and joints are projected by."""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

MAX_ROTATION_ERROR = 1e-4
"""How far the product of a rotation with its transpose may lie from the identity."""

MAX_VOTES = 5000
"""A :class:`HeightVotes` forgets the oldest beyond: fifty seconds of five objects, 50 ms apart."""


class HeightVotes:
    """How high a camera hangs above the ground, as the objects in all its pictures so far say."""

    def __init__(self):
        self._heights: deque[float] = deque(maxlen=MAX_VOTES)

    def add(self, heights_m: Iterable[float]) -> None:
        """Count the heights in meters that the objects of one more picture say."""
        self._heights.extend(heights_m)

    @property
    def median(self) -> float | None:
        """The height in meters that half of the votes lie below; None before the first."""
        return float(np.median(self._heights)) if self._heights else None


@dataclass(frozen=True)
class Calibration:
    """A pinhole camera: how meters of the leveled camera frame become pixels.

    The leveled frame stands at the camera, x right, y down along gravity, z forward and level; 3D boxes live in it, as
    KITTI's live in that of its rectified camera. ``p_camera = rotation p_leveled + translation``, and
    ``(u, v) = focal p_camera[:2] / p_camera[2] + center``; pixel i covers [i, i + 1).

    Attributes:
        focal: float64 [2], focal lengths along x and y in pixels.
        center: float64 [2], principal point in pixels.
        rotation: float64 [3, 3], leveled to camera axes.
        translation: float64 [3] in meters; 0 where the camera is the origin.
        height_m: how far the level ground lies below the camera's own place; None where unknown.
        votes: what the pictures before say where ``height_m`` is None; cameras of one recording share them, and
            decoding adds to them. None where a picture stands alone.
    """

    focal: np.ndarray
    center: np.ndarray
    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))
    translation: np.ndarray = field(default_factory=lambda: np.zeros(3))
    height_m: float | None = None
    votes: HeightVotes | None = field(default=None, compare=False, repr=False)

    def __post_init__(self):
        for name, shape in (("focal", (2,)), ("center", (2,)), ("rotation", (3, 3)), ("translation", (3,))):
            array = np.asarray(getattr(self, name), np.float64)
            if array.shape != shape:
                raise ValueError(f"{name} must be {list(shape)}, got {list(array.shape)}")
            if not np.isfinite(array).all():
                raise ValueError(f"{name} must be finite, got {array.tolist()}")
            object.__setattr__(self, name, array)
        if not (self.focal > 0).all():
            raise ValueError(f"focal must be positive, got {self.focal.tolist()}")
        if self.height_m is not None and not 0 < self.height_m < math.inf:
            raise ValueError(f"height_m must be a positive number of meters or None, got {self.height_m}")
        error = np.abs(self.rotation @ self.rotation.T - np.eye(3)).max()
        if error > MAX_ROTATION_ERROR or np.linalg.det(self.rotation) <= 0:
            raise ValueError(
                f"rotation must be orthonormal to {MAX_ROTATION_ERROR} and right-handed, got {self.rotation.tolist()}"
            )

    @property
    def matrix(self) -> np.ndarray:
        """The projection float64 [3, 4] of homogeneous leveled points: KITTI's P2."""
        intrinsics = np.array([[self.focal[0], 0, self.center[0]], [0, self.focal[1], self.center[1]], [0, 0, 1]])
        return intrinsics @ np.column_stack([self.rotation, self.translation])

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """Return points [..., 3] of the leveled frame in camera axes, meters."""
        return np.asarray(points, np.float64) @ self.rotation.T + self.translation

    def project(self, points: np.ndarray) -> np.ndarray:
        """Return u, v [..., 2] in pixels of points [..., 3] of the leveled frame; those behind the camera mislead."""
        camera = self.to_camera(points)
        return self.focal * camera[..., :2] / camera[..., 2:] + self.center

    def unproject(self, uv: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Return leveled points [..., 3] at pixels [..., 2] and depths [...] along the camera's own axis in meters."""
        depth = np.asarray(depth, np.float64)[..., None]
        rays = np.concatenate([(np.asarray(uv, np.float64) - self.center) / self.focal, np.ones_like(depth)], axis=-1)
        return (depth * rays - self.translation) @ self.rotation

    def flipped(self, width: int) -> "Calibration":
        """Return the camera of the mirrored picture, ``width`` pixels wide."""
        mirror = np.diag([-1.0, 1.0, 1.0])
        center = np.array([width - self.center[0], self.center[1]])
        rotation, translation = mirror @ self.rotation @ mirror, mirror @ self.translation
        return replace(self, center=center, rotation=rotation, translation=translation)

    def zoomed(self, factor: float, top_left: tuple[float, float]) -> "Calibration":
        """Return the camera of the view that begins at ``top_left`` (row, column) and is enlarged by ``factor``."""
        top, left = top_left
        return replace(self, focal=factor * self.focal, center=factor * (self.center - [left, top]))

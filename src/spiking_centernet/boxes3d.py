"""Pure geometry of 3D boxes: x, y, z of the bottom face's middle, height, width, length, yaw, in the leveled frame."""

import math

import numpy as np
from jaxtyping import Float, Float64, Shaped


def wrap(angle: np.ndarray) -> np.ndarray:
    """Return angles in radians as their equals in [-pi, pi)."""
    wrapped = np.mod(np.asarray(angle) + math.pi, 2 * math.pi) - math.pi
    # Rounding may give the upper end for an angle just below the lower one.
    return np.where(wrapped >= math.pi, -math.pi, wrapped).astype(np.asarray(angle).dtype)


def alpha_of(yaw: np.ndarray, center: Float[np.ndarray, "*N 3"]) -> np.ndarray:
    """Return the angle under which boxes are seen, ``wrap(yaw - atan2(x, z))``: KITTI's alpha.

    Args:
        yaw: [*N], radians about the y axis: 0 faces +x, the heading is ``(cos yaw, 0, -sin yaw)``.
        center: [*N, 3], the middle of the box in the leveled frame, metres.
    """
    return wrap(yaw - np.arctan2(center[..., 0], center[..., 2]))


def yaw_of(alpha: np.ndarray, center: Float[np.ndarray, "*N 3"]) -> np.ndarray:
    """Return the yaw of boxes seen under ``alpha``; see :func:`alpha_of`."""
    return wrap(alpha + np.arctan2(center[..., 0], center[..., 2]))


def centers(box3d: Float[np.ndarray, "*N 7"]) -> Float64[np.ndarray, "*N 3"]:
    """Return the middles of boxes, half a height above the bottom faces' middles, metres."""
    box3d = np.asarray(box3d, np.float64)
    up = np.zeros_like(box3d[..., :3])
    up[..., 1] = box3d[..., 3] / 2
    return box3d[..., :3] - up


def corners(box3d: Float[np.ndarray, "*N 7"]) -> Float64[np.ndarray, "*N 8 3"]:
    """Return the corners: the bottom face, front right first and round to front left, then the top face alike.

    The order is that of KITTI's development kit: along the heading and to its right (+, +), (+, -), (-, -), (-, +).
    """
    box3d = np.asarray(box3d, np.float64)
    height, width, length, yaw = (box3d[..., k, None] for k in (3, 4, 5, 6))
    along = length / 2 * np.array([1, 1, -1, -1, 1, 1, -1, -1])
    across = width / 2 * np.array([1, -1, -1, 1, 1, -1, -1, 1])
    down = -height * np.array([0, 0, 0, 0, 1, 1, 1, 1])
    cos, sin = np.cos(yaw), np.sin(yaw)
    turned = np.stack([cos * along + sin * across, down, -sin * along + cos * across], axis=-1)
    return box3d[..., None, :3] + turned


def flipped(box3d: Shaped[np.ndarray, "*N 7"]) -> Shaped[np.ndarray, "*N 7"]:
    """Return the boxes in the mirrored picture: x and heading change sides."""
    mirrored = box3d.copy()
    mirrored[..., 0] = -box3d[..., 0]
    mirrored[..., 6] = wrap(math.pi - box3d[..., 6])
    return mirrored

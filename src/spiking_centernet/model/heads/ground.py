"""3D boxes of one picture, made to stand on one level ground.

How far away an object is shows in where it touches the ground, for whoever knows how high above it the camera hangs.
That is the same for all objects of a picture, and for all pictures of a recording: where it is unknown, all of them
together say it better than each alone.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64

from spiking_centernet import boxes3d
from spiking_centernet.calibration import Calibration, HeightVotes

EVEN_PX = 8.0
"""Ground and own depth count alike for a box whose bottom edge lies as many pixels below the horizon.

It is the error of an edge in pixels over the relative error of a depth. The constants here were chosen on validation
clips of simulated roads (``benchmarks/ground.py``, results/ground.json), where 4 to 16 do nearly as well.
"""

FOOTPRINT = 0.6
"""Objects touch the ground within as much of their box's length and width: the wheelbase of a car is 0.6 of its length.

With all of the box, what stands on the ground comes out too far away.
"""

VOTING_SCORE = 0.4
"""Boxes of at least this score say how high the camera hangs."""

NEAREST, FARTHEST = 0.25, 4.0
"""The depth that the ground gives is taken for at most this factor of the box's own: what asks for more floats."""


def on_ground(
    box3d: Float[np.ndarray, "N 7"],
    xyxy: Float[np.ndarray, "N 4"],
    scores: Float[np.ndarray, "N"],
    camera: Calibration,
    *,
    size_hw: tuple[int, int],
) -> Float[np.ndarray, "N 7"]:
    """Return the boxes of a picture, moved along their lines of sight towards one level ground.

    The camera's height is its own or, where unknown, the median of what the 3D boxes say, those of the pictures before
    included where the camera has ``votes``. A depth then becomes the
    geometric mean of itself and of that at which the object, standing on the ground, ends at the bottom edge of its 2D
    box, weighted by the inverse of their variances: the ground counts more the further below the horizon the edge lies.
    Boxes that end at the border of the frame or above the horizon stay where they are.

    Args:
        box3d: as decoded; rows with NaN stay as they are.
        xyxy: their 2D boxes in pixels, clipped to the frame.
        scores: in [0, 1].
        camera: of the picture.
        size_hw: height and width of the frame in pixels.
    """
    boxes = box3d.astype(np.float64)
    ends = _bottom_edges(boxes, xyxy[:, 3].astype(np.float64), camera)
    stands = ends.known & (xyxy[:, 3] < size_hw[0])
    height = camera.height_m
    if height is None:
        below = (boxes[:, :3] + camera.rotation.T @ camera.translation)[:, 1]
        votes = HeightVotes() if camera.votes is None else camera.votes
        votes.add(below[(scores >= VOTING_SCORE) & (below > 0)].tolist())
        height = votes.median
        if height is None:
            return box3d
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = ((height + ends.rise) / (ends.height + ends.rise)).clip(NEAREST, FARTHEST) ** ends.weight
    return _farther(boxes, np.where(stands, factor, 1), camera).astype(np.float32)


@dataclass(frozen=True)
class _BottomEdges:
    """What the bottom edges of N boxes say.

    Attributes:
        known: whether the edge lies below the horizon, and the box is known.
        height: of the camera in meters, if the box's own depth is right and it ends at the edge.
        rise: of the ground in meters, for what a depth is proportional to: if the camera is ``h`` high, the depth is
            off by ``(h + rise) / (height + rise)``.
        weight: of the ground in the mean of two depths, in [0, 1].
    """

    known: Bool[np.ndarray, "N"]
    height: Float64[np.ndarray, "N"]
    rise: Float64[np.ndarray, "N"]
    weight: Float64[np.ndarray, "N"]


def _bottom_edges(
    box3d: Float64[np.ndarray, "N 7"], row: Float64[np.ndarray, "N"], camera: Calibration
) -> _BottomEdges:
    """Return what bottom edges at a row of the picture say.

    From the camera's place, the points p that are seen in row v lie on the plane ``n p = 0`` with ``n = f r_2 - (v - c)
    r_3``, r being the rows of the rotation; those seen below it have ``n p > 0``. A box stands at ``s (x, h / s, z)``,
    s times its own depth away; of the corners of its footprint, which lie ``d`` from their middle, the last reaches the
    row where ``s n (x, 0, z) + max(n d) + n_y h = 0``.
    """
    along = row - camera.center[1]
    normal = camera.focal[1] * camera.rotation[1] - along[:, None] * camera.rotation[2]
    place = box3d[:, :3] + camera.rotation.T @ camera.translation
    level = place * [1.0, 0.0, 1.0]
    corners = FOOTPRINT * (boxes3d.corners(box3d)[:, :4] - box3d[:, None, :3])
    reach = np.einsum("nkd,nd->nk", corners, normal).max(axis=1)
    above, ahead = -np.einsum("nd,nd->n", level, normal), level @ camera.rotation[2]
    with np.errstate(divide="ignore", invalid="ignore"):
        below_px = above / ahead
        height, rise = (above - reach) / normal[:, 1], reach / normal[:, 1]
        known = np.isfinite(box3d).all(axis=1) & (ahead > 0) & (below_px > 0) & (normal[:, 1] > 0) & (height > 0)
        weight = 1 / (1 + (EVEN_PX / below_px) ** 2)
    return _BottomEdges(known, height, rise, weight)


def _farther(
    box3d: Float64[np.ndarray, "N 7"], factor: Float64[np.ndarray, "N"], camera: Calibration
) -> Float64[np.ndarray, "N 7"]:
    """Return boxes at ``factor`` times their depth, their middles seen where they were."""
    to_eye = camera.rotation.T @ camera.translation
    shift = (factor - 1)[:, None] * (boxes3d.centers(box3d) + to_eye)
    return np.concatenate([box3d[:, :3] + shift, box3d[:, 3:]], axis=1)

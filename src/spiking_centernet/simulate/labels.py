"""What a simulated scene knows of its actors: boxes, 3D boxes, joints, visibility, the camera."""

import math
from collections.abc import Sequence

import numpy as np

from spiking_centernet.boxes3d import corners, wrap
from spiking_centernet.calibration import Calibration
from spiking_centernet.data.object_files import object_dtype
from spiking_centernet.joint_sets import JOINTS_13
from spiking_centernet.simulate.scene.actors import pose_pedestrian
from spiking_centernet.structures import BOX_DTYPE

Silhouette = tuple[float, float, float, float, float, int, int]
"""Visible share, left, top, right, bottom in pixels, class and track of an actor."""

MIN_VISIBLE = 0.35
"""Objects of which a smaller share of the silhouette is to be seen get no label."""

LABEL_SCALE = 2
"""Labels are drawn at this many times the frame's resolution."""

NEAREST_M = 0.15
"""Joints nearer than this are not in the picture; corners nearer are moved to this depth."""

NUM_VERTICES = 22
"""What ``pose_pedestrian`` places: both ends of eleven capsules."""

HEAD = (4, 5)
"""Vertices of the head's capsule in ``pose_pedestrian``."""

LIMB_CHAINS = {
    "near": (("shoulder", 0), ("elbow", 1), ("hand", 3), ("hip", 8), ("knee", 9), ("foot", 11)),
    "far": (("shoulder", 16), ("elbow", 17), ("hand", 19), ("hip", 12), ("knee", 13), ("foot", 15)),
}
"""Vertices of the joints of the near and the far side in ``pose_pedestrian``."""


def as_boxes(silhouettes: Sequence[Silhouette], t_us: int) -> np.ndarray:
    """Return BOX_DTYPE rows stamped ``t_us`` around those of which enough is visible."""
    rows = [row for row in silhouettes if row[0] >= MIN_VISIBLE]
    boxes = np.zeros(len(rows), BOX_DTYPE)
    for i, (_, left, top, right, bottom, class_id, track) in enumerate(rows):
        boxes[i] = (t_us, left, top, right - left, bottom - top, class_id, 1.0, track)
    return boxes


def calibration_of(cam: np.ndarray) -> Calibration:
    """Return the calibration of a camera vector: position, right, down, forward, focal length, principal point.

    The ground lies at height 0.
    """
    axes = cam[3:12].reshape(3, 3)
    return Calibration(
        np.full(2, cam[12]),
        cam[13:15].copy(),
        axes @ leveled_axes(cam).T,
        height_m=float(cam[2]) if cam[2] > 0 else None,
    )


def leveled_axes(cam: np.ndarray) -> np.ndarray:
    """Return right, down and forward of the leveled frame in world axes, float64 [3, 3]."""
    heading = camera_yaw(cam)
    cos, sin = math.cos(heading), math.sin(heading)
    return np.array([[sin, -cos, 0.0], [0.0, 0.0, -1.0], [cos, sin, 0.0]])


def camera_yaw(cam: np.ndarray) -> float:
    """Return the direction in radians from +x to which the camera looks."""
    return math.atan2(cam[10], cam[9])


def box_in_frame(
    cam: np.ndarray, place: tuple[float, float], heading: float, dimensions: tuple[float, float, float]
) -> np.ndarray:
    """Return the 3D box, float64 [7], of something that stands on the ground at ``place`` with a world heading."""
    location = leveled_axes(cam) @ (np.array([*place, 0.0]) - cam[:3])
    yaw = wrap(np.array(camera_yaw(cam) - heading - math.pi / 2))
    return np.array([*location, *dimensions, float(yaw)])


def box_around(cam: np.ndarray, pose: tuple[float, float, float], low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the 3D box, float64 [7], from the ground up around something at x, y with a heading in radians.

    Args:
        cam: camera vector.
        pose: x, y, heading.
        low: [3], least coordinates in its own frame, x ahead, y left, z up; the ground is at 0.
        high: [3], greatest coordinates there.
    """
    x, y, heading = pose
    cos, sin = math.cos(heading), math.sin(heading)
    middle = (low[:2] + high[:2]) / 2
    place = (x + middle[0] * cos - middle[1] * sin, y + middle[0] * sin + middle[1] * cos)
    return box_in_frame(cam, place, heading, (float(high[2]), float(high[1] - low[1]), float(high[0] - low[0])))


def figure(cam: np.ndarray, actor: np.ndarray, height_m: float, radii: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the tight 3D box [7] of a walking figure and its joints [13, 3] in world axes, meters.

    The figure is posed again as it is drawn, because walkers share the vertices of their shape.

    Args:
        cam: camera vector.
        actor: [7], x, y, heading, shape, mover, distance walked, speed.
        height_m: of the figure.
        radii: [11, 2], of its capsules at both ends in meters.
    """
    x, y, heading, _, _, walked, speed = actor.tolist()
    cos, sin = math.cos(heading), math.sin(heading)
    near_left = (cam[1] - y) * cos - (cam[0] - x) * sin > 0.0
    phase = 2.0 * math.pi * walked / (0.8 * height_m) * (1.0 if cos + sin > 0 else -1.0)
    vertices = np.zeros((NUM_VERTICES, 3))
    pose_pedestrian(vertices, 0, height_m, phase, min(speed / 1.2, 1.2), near_left)
    reach = radii.reshape(-1, 1)
    low, high = (vertices - reach).min(axis=0), (vertices + reach).max(axis=0)
    high[2] = (vertices[list(HEAD)] + reach[list(HEAD)])[:, 2].max()
    box = box_around(cam, (x, y, heading), low, high)
    by_name = {"head": vertices[list(HEAD)].mean(axis=0)}
    for side, chain in LIMB_CHAINS.items():
        word = "left" if (side == "near") == near_left else "right"
        by_name |= {f"{word}_{joint}": vertices[vertex] for joint, vertex in chain}
    own = np.array([by_name[name] for name in JOINTS_13.names])
    turned = np.stack([own[:, 0] * cos - own[:, 1] * sin, own[:, 0] * sin + own[:, 1] * cos, own[:, 2]], axis=1)
    return box, turned + np.array([x, y, 0.0])


def truncation(box3d: np.ndarray, camera: Calibration, size_hw: tuple[int, int]) -> float:
    """Return which share of the rectangle around a projected 3D box lies outside the frame."""
    points = camera.to_camera(corners(box3d))
    uv = camera.focal * points[:, :2] / np.maximum(points[:, 2:], NEAREST_M) + camera.center
    low, high = uv.min(axis=0), uv.max(axis=0)
    frame = np.array([size_hw[1], size_hw[0]], np.float64)
    inside = np.maximum(np.minimum(high, frame) - np.maximum(low, 0.0), 0.0).prod()
    whole = (high - low).prod()
    return float(np.clip(1.0 - inside / whole, 0.0, 1.0)) if whole > 0 else 0.0


def joints_seen(
    points: np.ndarray, camera: Calibration, ids: np.ndarray, number: int, scale: int, size_hw: tuple[int, int]
) -> np.ndarray:
    """Return u, v and visibility, float64 [J, 3], of joints [J, 3] in the leveled frame.

    Visibility is 0 outside the frame or too near (u and v are 0 then), 2 where the label buffer shows this actor, 1
    where something else covers the joint.

    Args:
        points: meters.
        camera: of the frame.
        ids: int [h, w], the label buffer.
        number: of the actor in it.
        scale: pixels of the label buffer a pixel of the frame.
        size_hw: height and width of the frame in pixels.
    """
    depth = camera.to_camera(points)[:, 2]
    near = depth < NEAREST_M
    uv = camera.project(np.where(near[:, None], [0.0, 0.0, 1.0], points))
    inside = ~near & (uv >= 0).all(axis=1) & (uv < [size_hw[1], size_hw[0]]).all(axis=1)
    seen = np.zeros((len(points), 3))
    seen[inside, :2] = uv[inside]
    column, row = (uv[inside] * scale).astype(np.int64).T
    seen[inside, 2] = np.where(ids[row, column] == number, 2.0, 1.0)
    return seen


def fill_row(
    row: np.ndarray,
    box: np.ndarray,
    box3d: np.ndarray,
    *,
    camera: Calibration,
    visible: float,
    size_hw: tuple[int, int],
) -> None:
    """Write everything but joints into a row of ``*_objects.npy``.

    Args:
        row: to be filled.
        box: BOX_DTYPE row of the same object.
        box3d: [7], in the leveled frame.
        camera: of the frame.
        visible: share of the silhouette that is seen.
        size_hw: height and width of the frame in pixels.
    """
    for name in ("ts", "track_id", "class_id"):
        row[name] = box[name]
    row["location"], row["dimensions"], row["yaw"] = box3d[:3], box3d[3:6], box3d[6]
    row["visible"], row["truncated"] = visible, truncation(box3d, camera, size_hw)


def empty_rows(count: int) -> np.ndarray:
    """Return rows for ``*_objects.npy`` to be filled."""
    return np.zeros(count, object_dtype(len(JOINTS_13)))

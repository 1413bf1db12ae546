"""Cuboids and skeletons drawn into pictures, and the scene from above."""

from typing import TYPE_CHECKING

import numpy as np

from spiking_centernet import boxes3d
from spiking_centernet.calibration import Calibration
from spiking_centernet.joint_sets import JOINT_SETS
from spiking_centernet.structures import Boxes, Detections
from spiking_centernet.visualize.draw import CLASS_COLORS, THEMES, Color, Image, write_text

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

NEAR_M = 0.15
"""Edges are cut where they come nearer to the camera than this."""

EDGES = (
    *((0, 1), (1, 2), (2, 3), (3, 0)),
    *((4, 5), (5, 6), (6, 7), (7, 4)),
    *((0, 4), (1, 5), (2, 6), (3, 7)),
)
"""Pairs of corners of :func:`boxes3d.corners`."""

FRONT = ((0, 5), (1, 4))
"""A cross over the front face, so that the heading is seen."""

RANGE_M = 50.0
"""How far ahead a view from above shows."""

RING_M = 10.0
"""Distance between the rings of a view from above."""

READABLE_PX = 200
"""A view from above of at least this height says how far its rings are, and how much lies beyond it."""

Line = tuple[np.ndarray, np.ndarray]
"""From u, v to u, v in pixels of the sensor."""


def draw_tasks(
    pen: "ImageDraw", objects: Detections | Boxes, k: int, color: Color, scale: int, camera: Calibration | None
) -> None:
    """Draw the cuboid and the skeleton of an object, where they are known, into an enlarged picture.

    Args:
        pen: of the picture.
        objects: detections or labeled boxes.
        k: number of the object.
        color: of the lines.
        scale: pixels of the picture a pixel of the sensor.
        camera: of the sensor; without one no cuboid is drawn.
    """
    for start, stop in object_lines(objects, k, camera):
        pen.line((*(start * scale).tolist(), *(stop * scale).tolist()), fill=color, width=2)
    for x, y in (_known_joints(objects, k)[0] * scale).tolist():
        pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=(255, 255, 255), outline=color)


def object_lines(objects: Detections | Boxes, k: int, camera: Calibration | None) -> list[Line]:
    """Return the lines of an object's cuboid and of its limbs, those that are known.

    Args:
        objects: detections or labeled boxes; of these, limbs between joints that are labeled.
        k: number of the object.
        camera: of the sensor; without one there is no cuboid.
    """
    lines: list[Line] = []
    if camera is not None and np.isfinite(objects.box3d[k]).all():
        lines += cuboid_lines(objects.box3d[k], camera)
    points, at = _known_joints(objects, k)
    limbs = JOINT_SETS[objects.joints.shape[1]].limbs if at else ()
    return lines + [(points[at[a]], points[at[b]]) for a, b in limbs if a in at and b in at]


def _known_joints(objects: Detections | Boxes, k: int) -> tuple[np.ndarray, dict[int, int]]:
    """Return the known joints [N, 2] in pixels of the sensor, and which of them a joint's number is."""
    joints = objects.joints[k]
    if len(joints) not in JOINT_SETS or not np.isfinite(joints).all() or not joints.any():
        return np.zeros((0, 2)), {}
    known = joints[:, 2] > 0 if isinstance(objects, Boxes) else np.ones(len(joints), bool)
    return joints[known, :2], {int(number): place for place, number in enumerate(np.flatnonzero(known))}


def cuboid_lines(box3d: np.ndarray, camera: Calibration) -> list[Line]:
    """Return the lines of a 3D box in pixels of the sensor, each from u, v to u, v; what lies behind is cut off.

    Args:
        box3d: [7], x, y, z of the bottom face's middle, height, width, length in meters, yaw.
        camera: of the sensor.
    """
    corners = boxes3d.corners(box3d)
    depth = camera.to_camera(corners)[:, 2]
    lines: list[Line] = []
    for a, b in (*EDGES, *FRONT):
        if max(depth[a], depth[b]) < NEAR_M:
            continue
        ends, d = corners[[a, b]], depth[[a, b]]
        if d.min() < NEAR_M:
            near, far = int(d.argmin()), int(d.argmax())
            ends[near] += (NEAR_M - d[near]) / (d[far] - d[near]) * (ends[far] - ends[near])
        uv = camera.project(ends)
        lines.append((uv[0], uv[1]))
    return lines


def birds_eye(
    detections: Detections | None,
    truth: Boxes | None = None,
    *,
    size_hw: tuple[int, int],
    range_m: float = RANGE_M,
) -> Image:
    """Picture 3D boxes from above: the camera in the middle of the bottom edge, looking up; truth is white.

    Rings say their distance in meters, and a line how many detections lie outside the picture.

    Args:
        detections: those with a known 3D box are drawn.
        truth: labeled boxes, likewise.
        size_hw: of the picture.
        range_m: meters from the bottom edge to the top.

    Returns:
        uint8 [H, W, 3].
    """
    from PIL import Image as PilImage
    from PIL import ImageDraw

    height, width = size_hw
    canvas = PilImage.new("RGB", (width, height), THEMES["dark"].background)
    pen = ImageDraw.Draw(canvas)
    scale = height / range_m

    def at(x: np.ndarray, z: np.ndarray) -> list[tuple[float, float]]:
        return [(float(u), float(v)) for u, v in zip(width / 2 + x * scale, height - z * scale, strict=True)]

    for ring in np.arange(RING_M, range_m + 1, RING_M):
        radius = ring * scale
        pen.ellipse((width / 2 - radius, height - radius, width / 2 + radius, height + radius), outline=(60, 66, 80))
        if height >= READABLE_PX:
            at_top = round(width / 2), round(height - radius) + 20
            write_text(pen, at_top, f"{ring:g} m", (140, 146, 160), THEMES["dark"].background)
    outside = 0
    for objects, truth_color in ((truth, (235, 235, 235)), (detections, None)):
        if objects is None:
            continue
        for k in np.flatnonzero(np.isfinite(objects.box3d).all(axis=1)):
            color = truth_color or CLASS_COLORS[int(objects.labels[k]) % len(CLASS_COLORS)]
            bottom = boxes3d.corners(objects.box3d[k])[:4]
            outline = at(bottom[:, 0], bottom[:, 2])
            is_seen = any(0 <= u < width and 0 <= v < height for u, v in outline)
            outside += objects is detections and not is_seen
            pen.line([*outline, outline[0]], fill=color, width=2)
            front = bottom[:2].mean(axis=0)
            middle = objects.box3d[k, :3]
            pen.line(at(np.array([middle[0], front[0]]), np.array([middle[2], front[2]])), fill=color, width=2)
    if outside and height >= READABLE_PX:
        write_text(pen, (0, height), f"{outside} outside this view", (235, 235, 235), THEMES["dark"].background)
    return np.asarray(canvas).copy()

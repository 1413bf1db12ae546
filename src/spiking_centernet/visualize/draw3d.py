"""Cuboids and skeletons drawn into pictures, and the scene from above."""

from typing import TYPE_CHECKING

import numpy as np

from spiking_centernet import boxes3d
from spiking_centernet.joint_sets import JOINT_SETS
from spiking_centernet.structures import Boxes, Calibration, Detections
from spiking_centernet.visualize.draw import CLASS_COLORS, THEMES, Color, Image

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
    if camera is not None and np.isfinite(objects.box3d[k]).all():
        for start, stop in cuboid_lines(objects.box3d[k], camera):
            pen.line((*(start * scale).tolist(), *(stop * scale).tolist()), fill=color, width=2)
    if objects.joints.shape[1] in JOINT_SETS and np.isfinite(objects.joints[k]).all() and objects.joints[k].any():
        _skeleton(pen, objects.joints[k], scale, color, labeled=isinstance(objects, Boxes))


def cuboid_lines(box3d: np.ndarray, camera: Calibration) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the lines of a 3D box in pixels of the sensor, each from u, v to u, v; what lies behind is cut off.

    Args:
        box3d: [7], x, y, z of the bottom face's middle, height, width, length in meters, yaw.
        camera: of the sensor.
    """
    corners = boxes3d.corners(box3d)
    depth = camera.to_camera(corners)[:, 2]
    lines = []
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


def _skeleton(pen: "ImageDraw", joints: np.ndarray, scale: int, color: Color, *, labeled: bool) -> None:
    """Draw limbs and joints; of labels only joints that are known (visibility above 0)."""
    known = joints[:, 2] > 0 if labeled else np.ones(len(joints), bool)
    points = (joints[:, :2] * scale).tolist()
    for a, b in JOINT_SETS[len(joints)].limbs:
        if known[a] and known[b]:
            pen.line((*points[a], *points[b]), fill=color, width=2)
    for (x, y), is_known in zip(points, known, strict=True):
        if is_known:
            pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=(255, 255, 255), outline=color)


def birds_eye(
    detections: Detections | None,
    truth: Boxes | None = None,
    *,
    size_hw: tuple[int, int],
    range_m: float = RANGE_M,
) -> Image:
    """Picture 3D boxes from above: the camera in the middle of the bottom edge, looking up; truth is white.

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
    for objects, truth_color in ((truth, (235, 235, 235)), (detections, None)):
        if objects is None:
            continue
        for k in np.flatnonzero(np.isfinite(objects.box3d).all(axis=1)):
            color = truth_color or CLASS_COLORS[int(objects.labels[k]) % len(CLASS_COLORS)]
            bottom = boxes3d.corners(objects.box3d[k])[:4]
            outline = at(bottom[:, 0], bottom[:, 2])
            pen.line([*outline, outline[0]], fill=color, width=2)
            front = bottom[:2].mean(axis=0)
            middle = objects.box3d[k, :3]
            pen.line(at(np.array([middle[0], front[0]]), np.array([middle[2], front[2]])), fill=color, width=2)
    return np.asarray(canvas).copy()

"""How far 3D boxes overlap: from above, and in space."""

import math

import numpy as np
from jaxtyping import Float64

from spiking_centernet.utils.compile_cache import compiled

_jit = compiled(error_model="numpy")


@_jit
def _footprint(box, out):
    """Write the corners of a box seen from above, x and z, in one sense of rotation."""
    half_w, half_l = box[4] / 2.0, box[5] / 2.0
    cos, sin = math.cos(box[6]), math.sin(box[6])
    for k in range(4):
        along = half_l if k == 0 or k == 3 else -half_l
        across = half_w if k < 2 else -half_w
        out[k, 0] = box[0] + cos * along + sin * across
        out[k, 1] = box[2] - sin * along + cos * across


@_jit
def _common_area(first, second, polygon, clipped):
    """Return the area that two convex quadrilaterals share: the first, cut by every side of the second."""
    num = 4
    for k in range(4):
        polygon[k, 0], polygon[k, 1] = first[k, 0], first[k, 1]
    turn = 0.0
    for k in range(4):
        m = (k + 1) % 4
        turn += second[k, 0] * second[m, 1] - second[m, 0] * second[k, 1]
    sense = 1.0 if turn > 0.0 else -1.0
    for k in range(4):
        ax, az = second[k, 0], second[k, 1]
        bx, bz = second[(k + 1) % 4, 0] - ax, second[(k + 1) % 4, 1] - az
        count = 0
        for i in range(num):
            j = (i + 1) % num
            here = sense * (bx * (polygon[i, 1] - az) - bz * (polygon[i, 0] - ax))
            there = sense * (bx * (polygon[j, 1] - az) - bz * (polygon[j, 0] - ax))
            if here >= 0.0:
                clipped[count, 0], clipped[count, 1] = polygon[i, 0], polygon[i, 1]
                count += 1
            if (here > 0.0 and there < 0.0) or (here < 0.0 and there > 0.0):
                share = here / (here - there)
                clipped[count, 0] = polygon[i, 0] + share * (polygon[j, 0] - polygon[i, 0])
                clipped[count, 1] = polygon[i, 1] + share * (polygon[j, 1] - polygon[i, 1])
                count += 1
        num = count
        for i in range(num):
            polygon[i, 0], polygon[i, 1] = clipped[i, 0], clipped[i, 1]
        if num == 0:
            return 0.0
    area = 0.0
    for i in range(1, num - 1):  # from one corner, so that a place far from the origin costs no digits
        area += (polygon[i, 0] - polygon[0, 0]) * (polygon[i + 1, 1] - polygon[0, 1])
        area -= (polygon[i + 1, 0] - polygon[0, 0]) * (polygon[i, 1] - polygon[0, 1])
    return abs(area) / 2.0


@_jit
def _overlaps(a, b, from_above, in_space):
    first, second = np.empty((4, 2)), np.empty((4, 2))
    polygon, clipped = np.empty((16, 2)), np.empty((16, 2))
    for i in range(a.shape[0]):
        _footprint(a[i], first)
        for j in range(b.shape[0]):
            if math.hypot(a[i, 0] - b[j, 0], a[i, 2] - b[j, 2]) > (
                math.hypot(a[i, 4], a[i, 5]) + math.hypot(b[j, 4], b[j, 5])
            ):
                continue
            _footprint(b[j], second)
            common = _common_area(first, second, polygon, clipped)
            area_a, area_b = a[i, 4] * a[i, 5], b[j, 4] * b[j, 5]
            from_above[i, j] = common / (area_a + area_b - common)
            tall = min(a[i, 1], b[j, 1]) - max(a[i, 1] - a[i, 3], b[j, 1] - b[j, 3])
            volume = common * max(tall, 0.0)
            in_space[i, j] = volume / (area_a * a[i, 3] + area_b * b[j, 3] - volume)


def overlaps3d(
    box3d_a: np.ndarray, box3d_b: np.ndarray
) -> tuple[Float64[np.ndarray, "N M"], Float64[np.ndarray, "N M"]]:
    """Return intersection over union of every pair, seen from above and in space.

    Args:
        box3d_a: [N, 7], x, y, z of the bottom face's middle, height, width, length, yaw; sizes positive.
        box3d_b: [M, 7].
    """
    a, b = np.ascontiguousarray(box3d_a, np.float64), np.ascontiguousarray(box3d_b, np.float64)
    from_above, in_space = np.zeros((len(a), len(b))), np.zeros((len(a), len(b)))
    _overlaps(a, b, from_above, in_space)
    return from_above, in_space

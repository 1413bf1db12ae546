"""Numba kernels that turn polygons into exact area coverage, front to back, so that nothing aliases into false events.

A camera is a float64 [15] vector: position, right, down, forward (three numbers each), focal length in pixels and the
principal point ``cx, cy``. A pixel ``i`` covers ``[i, i + 1)``.
"""

import math

import numpy as np

from spiking_centernet.simulate.render.facades import fill_wall
from spiking_centernet.simulate.render.sampling import ONE, ZERO, inline, jit

POLYGON, CAPSULE, BLOB, WALL = 0, 1, 2, 3
"""Kinds of primitive: flat polygon, rounded limb, leafy ball, textured vertical rectangle."""

NEAR_M = 0.15
"""Anything nearer to the camera than this is cut off."""


@jit
def _add_edge(acc, x0, y0, x1, y1, width, height):
    """Add one directed edge to the signed-area buffer: a running sum over a row then gives the exact coverage."""
    if y0 == y1:
        return
    sign = 1.0
    if y0 > y1:
        x0, y0, x1, y1, sign = x1, y1, x0, y0, -1.0
    if y1 <= 0.0 or y0 >= height:
        return
    slope = (x1 - x0) / (y1 - y0)
    if y0 < 0.0:
        x0 -= y0 * slope
        y0 = 0.0
    y1 = min(y1, float(height))
    x = x0
    for row in range(int(y0), min(height, math.ceil(y1))):
        dy = min(row + 1.0, y1) - max(float(row), y0)
        x_next = x + slope * dy
        d = sign * dy
        left = min(max(min(x, x_next), 0.0), float(width))
        right = min(max(max(x, x_next), 0.0), float(width))
        x = x_next
        first = int(left)
        last = math.ceil(right)
        if last <= first + 1:
            mid = 0.5 * (left + right) - first
            acc[row, first] += d * (1.0 - mid)
            acc[row, first + 1] += d * mid
            continue
        s = 1.0 / (right - left)
        f0 = left - first
        a0 = 0.5 * s * (1.0 - f0) * (1.0 - f0)
        f1 = right - last + 1.0
        am = 0.5 * s * f1 * f1
        acc[row, first] += d * a0
        if last == first + 2:
            acc[row, first + 1] += d * (1.0 - a0 - am)
        else:
            a1 = s * (1.5 - f0)
            acc[row, first + 1] += d * (a1 - a0)
            for col in range(first + 2, last - 1):
                acc[row, col] += d * s
            acc[row, last - 1] += d * (1.0 - (a1 + (last - first - 3) * s) - am)
        acc[row, last] += d * am


@jit
def _edges(px, py, n, acc, box):
    """Write all edges of a closed outline and return its pixel box as ``box = x0, y0, x1, y1``; False if outside."""
    height, width = acc.shape[0], acc.shape[1] - 2
    x_min, x_max, y_min, y_max = px[0], px[0], py[0], py[0]
    for i in range(1, n):
        x_min, x_max = min(x_min, px[i]), max(x_max, px[i])
        y_min, y_max = min(y_min, py[i]), max(y_max, py[i])
    if x_max <= 0.0 or y_max <= 0.0 or x_min >= width or y_min >= height:
        return False
    box[0], box[1] = int(max(x_min, 0.0)), int(max(y_min, 0.0))
    box[2] = int(min(math.ceil(x_max), float(width)))
    box[3] = int(min(math.ceil(y_max), float(height)))
    for i in range(n):
        j = i + 1 if i + 1 < n else 0
        _add_edge(acc, px[i], py[i], px[j], py[j], width, height)
    return True


@jit
def _fill(acc, box, lum, opacity, out, clear, alpha, gray):
    """Turn the signed-area buffer into coverage, add it to the object's alpha and paint one gray; empty the buffer."""
    bright, share = np.float32(lum), np.float32(opacity)
    first, last = np.uint64(box[0]), np.uint64(box[2])
    for y in range(np.uint64(box[1]), np.uint64(box[3])):
        total = ZERO
        for x in range(first, last):
            # The running sum takes its time: the rest is done in its shadow, and a branch would only cost.
            total += acc[y, x]
            acc[y, x] = ZERO
            cover = max(min(abs(total) * share, ONE - alpha[y, x]), ZERO)
            alpha[y, x] += cover
            if gray:
                out[y, x] += clear[y, x] * cover * bright
        acc[y, last] = ZERO
        acc[y, last + np.uint64(1)] = ZERO


@inline
def _project(cam, vx, vy, vz):
    """Return right, down and forward distances of a point."""
    x, y, z = vx - cam[0], vy - cam[1], vz - cam[2]
    return (
        x * cam[3] + y * cam[4] + z * cam[5],
        x * cam[6] + y * cam[7] + z * cam[8],
        x * cam[9] + y * cam[10] + z * cam[11],
    )


@jit
def polygon_outline(cam, verts, start, n, px, py):
    """Clip a polygon in space, ``verts[start : start + n]``, at the near plane; return the number of image points."""
    m = 0
    if n < 1:
        return 0
    last = start + n - 1
    a0, a1, a2 = _project(cam, verts[last, 0], verts[last, 1], verts[last, 2])
    for i in range(start, start + n):
        b0, b1, b2 = _project(cam, verts[i, 0], verts[i, 1], verts[i, 2])
        if (a2 >= NEAR_M) != (b2 >= NEAR_M):
            w = (NEAR_M - a2) / (b2 - a2)
            px[m] = cam[13] + cam[12] * (a0 + w * (b0 - a0)) / NEAR_M
            py[m] = cam[14] + cam[12] * (a1 + w * (b1 - a1)) / NEAR_M
            m += 1
        if b2 >= NEAR_M:
            scale = cam[12] / b2
            px[m] = cam[13] + scale * b0
            py[m] = cam[14] + scale * b1
            m += 1
        a0, a1, a2 = b0, b1, b2
    return m if m >= 3 else 0


_ROUND_X, _ROUND_Y = np.cos(math.pi * (0.5 + np.arange(6) / 5)), np.sin(math.pi * (0.5 + np.arange(6) / 5))
"""Half a circle in six corners, from straight up to straight down."""


@jit
def _capsule_outline(cam, verts, start, r0, r1, px, py, width, height):
    """Outline a limb between two balls; return the number of image points, 0 if too near or out of sight."""
    a0, a1, a2 = _project(cam, verts[start, 0], verts[start, 1], verts[start, 2])
    b0, b1, b2 = _project(cam, verts[start + 1, 0], verts[start + 1, 1], verts[start + 1, 2])
    if a2 < NEAR_M * 2 or b2 < NEAR_M * 2:
        return 0
    a_scale, b_scale = cam[12] / a2, cam[12] / b2
    x0, y0 = cam[13] + a_scale * a0, cam[14] + a_scale * a1
    x1, y1 = cam[13] + b_scale * b0, cam[14] + b_scale * b1
    r0, r1 = r0 * a_scale, r1 * b_scale
    reach = max(r0, r1)
    if max(x0, x1) < -reach or min(x0, x1) > width + reach or max(y0, y1) < -reach or min(y0, y1) > height + reach:
        return 0
    long = math.sqrt((x1 - x0) ** 2 + (y1 - y0) ** 2)
    c, s = ((x1 - x0) / long, (y1 - y0) / long) if long > 0.0 else (1.0, 0.0)
    for k in range(6):
        dx, dy = c * _ROUND_X[k] - s * _ROUND_Y[k], s * _ROUND_X[k] + c * _ROUND_Y[k]
        px[k], py[k] = x0 + r0 * dx, y0 + r0 * dy
        px[k + 6], py[k + 6] = x1 - r1 * dx, y1 - r1 * dy
    return 12


_LEAF_X, _LEAF_Y = np.cos(math.pi / 8 * np.arange(16)), np.sin(math.pi / 8 * np.arange(16))
"""A circle in sixteen corners."""


@jit
def _blob_outline(cam, verts, start, radius, seed, px, py, width, height):
    """Outline a leafy ball with uneven corners fixed by ``seed``; return how many, 0 if too near or out of sight."""
    right, down, depth = _project(cam, verts[start, 0], verts[start, 1], verts[start, 2])
    if depth < NEAR_M * 2:
        return 0
    scale = cam[12] / depth
    x, y, r = cam[13] + scale * right, cam[14] + scale * down, scale * radius
    if x < -1.2 * r or x > width + 1.2 * r or y < -1.2 * r or y > height + 1.2 * r:
        return 0
    for k in range(16):
        uneven = 0.85 + 0.3 / 101.0 * (np.uint64(seed * 31 + k) * np.uint64(7919) % np.uint64(101))
        px[k] = x + r * uneven * _LEAF_X[k]
        py[k] = y + r * uneven * _LEAF_Y[k]
    return 16


@jit
def view_from(x, y, cos, sin, cam, light, eye, sun):
    """Write camera and light as an object at ``x, y`` with this heading sees them: its vertices then need no turn."""
    for k in range(len(cam)):  # whole arrays at once would be checked for their shapes, which takes seconds to compile
        eye[k] = cam[k]
    for k in range(len(light)):
        sun[k] = light[k]
    eye[0], eye[1] = (cam[0] - x) * cos + (cam[1] - y) * sin, (cam[1] - y) * cos - (cam[0] - x) * sin
    for k in (3, 6, 9):
        eye[k], eye[k + 1] = cam[k] * cos + cam[k + 1] * sin, cam[k + 1] * cos - cam[k] * sin
    sun[2], sun[3] = light[2] * cos + light[3] * sin, light[3] * cos - light[2] * sin


@jit
def draw_object(first, last, pool, eye, sun, haze, tex, wall_num, canvas, gray, outline, bounds):
    """Draw primitives ``first..last`` in the order given, nearest detail first, adding up one alpha for the object.

    ``eye`` is the camera and ``sun`` ``Look.light`` as the object sees them; ``canvas`` is out, clear, alpha and the
    signed-area buffer; ``outline`` is room for 48 corners' x and y and a box. ``bounds`` receives the pixel box
    touched. Coverage within an object adds, so shared edges leave no seam.
    """
    kinds, starts, counts, albedo, emit, size, verts, normals = pool
    out, clear, alpha, acc = canvas
    px, py, box = outline
    height, width = clear.shape
    bounds[0], bounds[1], bounds[2], bounds[3] = width, height, 0, 0
    for prim in range(first, last):
        kind, start, n = kinds[prim], starts[prim], counts[prim]
        ex, ey, ez = eye[0] - verts[start, 0], eye[1] - verts[start, 1], eye[2] - verts[start, 2]
        facing, shade = 0.6, 0.5
        if kind in (POLYGON, WALL):
            nx, ny, nz = normals[prim, 0], normals[prim, 1], normals[prim, 2]
            side = nx * ex + ny * ey + nz * ez
            if side <= 0.0:
                continue
            facing = side / math.sqrt(ex * ex + ey * ey + ez * ez)
            shade = max(nx * sun[2] + ny * sun[3] + nz * sun[4], 0.0)
            m = polygon_outline(eye, verts, start, n, px, py)
        elif kind == CAPSULE:
            m = _capsule_outline(eye, verts, start, size[prim, 0], size[prim, 1], px, py, width, height)
        else:
            m = _blob_outline(eye, verts, start, size[prim, 0], prim, px, py, width, height)
            shade = 0.35 + 0.3 * size[prim, 1]
        if m == 0 or not _edges(px, py, m, acc, box):
            continue
        if kind == WALL and gray:
            ux, uy = verts[start + 1, 0] - verts[start, 0], verts[start + 1, 1] - verts[start, 1]
            norm = math.sqrt(ux * ux + uy * uy)
            gain = albedo[prim] * (sun[0] + sun[1] * shade)
            fill_wall(
                acc, box, eye, verts[start], ux / norm, uy / norm, size[prim, 0], tex[int(size[prim, 1])], wall_num,
                emit[prim], gain, haze, out, clear, alpha,
            )  # fmt: skip
        else:
            near = max(-ex * eye[9] - ey * eye[10] - ez * eye[11], 1.0)
            lum = albedo[prim] * (sun[0] + sun[1] * shade + sun[5] * facing / (1.0 + near * near / 150.0))
            lum += emit[prim] * sun[6] * facing
            lum += near / (near + haze[1]) * (haze[0] - lum) * (0.0 if emit[prim] * sun[6] > 0.0 else 1.0)
            _fill(acc, box, lum, 1.0, out, clear, alpha, gray)
        bounds[0], bounds[1] = min(bounds[0], box[0]), min(bounds[1], box[1])
        bounds[2], bounds[3] = max(bounds[2], box[2]), max(bounds[3], box[3])


@jit
def close_object(clear, alpha, bounds):
    """Take the finished object's alpha out of what is still clear behind it and empty the object's buffer."""
    first, last = np.uint64(bounds[0]), np.uint64(bounds[2])
    for y in range(np.uint64(bounds[1]), np.uint64(bounds[3])):
        for x in range(first, last):
            clear[y, x] *= max(ONE - alpha[y, x], ZERO)
            alpha[y, x] = ZERO


@jit
def mark_object(number, ids, alpha, bounds):
    """Give the free pixels an object covers by half or more its number; return the pixels it got and all it covers."""
    seen, covered = 0, 0
    for y in range(bounds[1], bounds[3]):
        for x in range(bounds[0], bounds[2]):
            if alpha[y, x] >= 0.5:
                covered += 1
                if ids[y, x] < 0:
                    ids[y, x] = number
                    seen += 1
            alpha[y, x] = 0.0
    return seen, covered


@jit
def draw_shadow(cam, base, shift_x, shift_y, opacity, clear, acc, alpha):
    """Darken the ground by the hull of a base rectangle [4, 3] and the same rectangle moved by the sun's shift."""
    hull = np.zeros((8, 3))
    n = 0
    for i in range(4):
        before, after = (i + 3) % 4, (i + 1) % 4
        turn_in = (base[i, 1] - base[before, 1]) * shift_x - (base[i, 0] - base[before, 0]) * shift_y > 0.0
        turn_out = (base[after, 1] - base[i, 1]) * shift_x - (base[after, 0] - base[i, 0]) * shift_y > 0.0
        if turn_in != turn_out:
            k = 0 if turn_in else 1
            hull[n, 0], hull[n, 1] = base[i, 0] + (1 - k) * shift_x, base[i, 1] + (1 - k) * shift_y
            hull[n + 1, 0], hull[n + 1, 1] = base[i, 0] + k * shift_x, base[i, 1] + k * shift_y
            n += 2
        else:
            hull[n, 0] = base[i, 0] + (shift_x if turn_in else 0.0)
            hull[n, 1] = base[i, 1] + (shift_y if turn_in else 0.0)
            n += 1
    px = np.empty(24)
    py = np.empty(24)
    box = np.zeros(4, np.int64)
    m = polygon_outline(cam, hull, np.int64(0), n, px, py)  # a literal would be compiled anew
    if m == 0 or not _edges(px, py, m, acc, box):
        return
    _fill(acc, box, 0.0, opacity, alpha, clear, alpha, False)
    close_object(clear, alpha, box)

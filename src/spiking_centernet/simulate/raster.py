"""Numba kernels that turn polygons into exact area coverage, front to back, so that nothing aliases into false events.

A camera is a float64 [15] vector: position, right, down, forward (three numbers each), focal length in pixels and the
principal point ``cx, cy``. A pixel ``i`` covers ``[i, i + 1)``.
"""

import math

import numba as nb
import numpy as np

POLYGON, CAPSULE, BLOB, WALL = 0, 1, 2, 3
"""Kinds of primitive: flat polygon, rounded limb, leafy ball, textured vertical rectangle."""

NEAR_M = 0.15
"""Anything nearer to the camera than this is cut off."""

_jit = nb.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")


@_jit
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


@_jit
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


@_jit
def _fill(acc, box, lum, opacity, out, clear, alpha, grey):
    """Turn the signed-area buffer into coverage, add it to the object's alpha and paint one grey; empty the buffer."""
    for y in range(box[1], box[3]):
        total = 0.0
        for x in range(box[0], box[2]):
            total += acc[y, x]
            acc[y, x] = 0.0
            cover = min(abs(total) * opacity, 1.0 - alpha[y, x])
            if cover > 0.0:
                alpha[y, x] += cover
                if grey:
                    out[y, x] += clear[y, x] * cover * lum
        acc[y, box[2]] = 0.0
        acc[y, box[2] + 1] = 0.0


@nb.njit(cache=True, nogil=True, fastmath=True, error_model="numpy", forceinline=True)
def _level(footprint, top):
    """Return the level of detail as whole and fraction: a cheap log2, flat near whole levels to save half the reads."""
    bits = np.float32(max(footprint, 1.0)).view(np.int32)
    level = (bits >> 23) - 127
    if level >= top:
        return top, np.float32(0.0)
    part = np.float32(bits & 0x7FFFFF) * np.float32(2.0 / 0x800000) - np.float32(0.5)
    return level, min(max(part, np.float32(0.0)), np.float32(1.0))


_HALVES = 0.5 ** np.arange(16)


@nb.njit(cache=True, nogil=True, fastmath=True, error_model="numpy", forceinline=True)
def sample(tex, offsets, num_u, num_v, u, v, foot_u, foot_v):
    """Read a rip-map at texel position ``u, v`` filtered over ``foot_u`` by ``foot_v`` texels, wrapping around.

    Neighbouring levels are mixed, so a footprint that changes slowly changes the value slowly.
    """
    lu, wu = _level(foot_u, offsets.shape[0] - 1)
    lv, wv = _level(foot_v, offsets.shape[1] - 1)
    one = np.uint64(1)
    # Unsigned positions, moved up by a multiple of every size, spare the floor and the check for negative indices.
    at_u, at_v = u * _HALVES[lu] + 1048575.5, v * _HALVES[lv] + 1048575.5
    nu, nv = np.uint64(num_u >> lu), np.uint64(num_v >> lv)
    whole_u, whole_v = np.int64(at_u), np.int64(at_v)
    fu, fv = np.float32(at_u - whole_u), np.float32(at_v - whole_v)
    iu, iv = np.uint64(whole_u), np.uint64(whole_v)
    base = np.uint64(offsets[lu, lv])
    u0, u1 = iu & (nu - one), (iu + one) & (nu - one)
    r0, r1 = base + (iv & (nv - one)) * nu, base + ((iv + one) & (nv - one)) * nu
    top = tex[r0 + u0] + fu * (tex[r0 + u1] - tex[r0 + u0])
    bottom = tex[r1 + u0] + fu * (tex[r1 + u1] - tex[r1 + u0])
    value = top + fv * (bottom - top)
    if wu + wv == np.float32(0.0):
        return value
    value *= (np.float32(1.0) - wu) * (np.float32(1.0) - wv)
    # One loop, not calls: handing arrays to inlined helpers costs reference counting at every pixel.
    for k in range(1, 4):
        a, b = k & 1, k >> 1
        weight = (wu if a else np.float32(1.0) - wu) * (wv if b else np.float32(1.0) - wv)
        if weight <= np.float32(0.0):
            continue
        nu, nv = np.uint64(num_u >> (lu + a)), np.uint64(num_v >> (lv + b))
        at_u, at_v = u * _HALVES[lu + a] + 1048575.5, v * _HALVES[lv + b] + 1048575.5
        whole_u, whole_v = np.int64(at_u), np.int64(at_v)
        fu, fv = np.float32(at_u - whole_u), np.float32(at_v - whole_v)
        iu, iv = np.uint64(whole_u), np.uint64(whole_v)
        base = np.uint64(offsets[lu + a, lv + b])
        u0, u1 = iu & (nu - one), (iu + one) & (nu - one)
        r0, r1 = base + (iv & (nv - one)) * nu, base + ((iv + one) & (nv - one)) * nu
        top = tex[r0 + u0] + fu * (tex[r0 + u1] - tex[r0 + u0])
        bottom = tex[r1 + u0] + fu * (tex[r1 + u1] - tex[r1 + u0])
        value += weight * (top + fv * (bottom - top))
    return value


@_jit
def _fill_wall(acc, box, cam, p0, ux, uy, texel_m, tex, offsets, num, u_shift, gain, haze, out, clear, alpha):
    """Fill one vertical textured rectangle: the point under each pixel's centre picks the texel and its footprint."""
    nx, ny = uy, -ux
    plane = nx * (p0[0] - cam[0]) + ny * (p0[1] - cam[1])
    focal = cam[12]
    n_right = (nx * cam[3] + ny * cam[4]) / focal
    n_down = (nx * cam[6] + ny * cam[7]) / focal
    limit = 1e-4 * abs(plane) + 1e-9
    for y in range(box[1], box[3]):
        total = 0.0
        oy = y + 0.5 - cam[14]
        for x in range(box[0], box[2]):
            total += acc[y, x]
            acc[y, x] = 0.0
            seen = clear[y, x]
            cover = min(abs(total), 1.0 - alpha[y, x])
            if cover <= 0.0:
                continue
            alpha[y, x] += cover
            if seen * cover < 2e-3:
                continue
            ox = x + 0.5 - cam[13]
            dx = cam[9] + (ox * cam[3] + oy * cam[6]) / focal
            dy = cam[10] + (ox * cam[4] + oy * cam[7]) / focal
            dz = cam[11] + (ox * cam[5] + oy * cam[8]) / focal
            dn = nx * dx + ny * dy
            if abs(dn) < limit:
                dn = limit if plane > 0.0 else -limit
            t = min(max(plane / dn, 0.0), 900.0)
            u = (cam[0] + t * dx - p0[0]) * ux + (cam[1] + t * dy - p0[1]) * uy
            v = cam[2] + t * dz - p0[2]
            along = dx * ux + dy * uy
            k_right, k_down = n_right / dn, n_down / dn
            step = t / texel_m
            foot_u = step * (
                abs((cam[3] * ux + cam[4] * uy) / focal - along * k_right)
                + abs((cam[6] * ux + cam[7] * uy) / focal - along * k_down)
            )
            foot_v = step * (abs(cam[5] / focal - dz * k_right) + abs(cam[8] / focal - dz * k_down))
            lum = gain * sample(tex, offsets, num, num, u / texel_m + u_shift, v / texel_m, foot_u, foot_v)
            mist = t / (t + haze[1])
            out[y, x] += seen * cover * (lum + mist * (haze[0] - lum))
        acc[y, box[2]] = 0.0
        acc[y, box[2] + 1] = 0.0


@_jit
def _project(cam, vx, vy, vz, out):
    """Write right, down and forward distances of a world point."""
    x, y, z = vx - cam[0], vy - cam[1], vz - cam[2]
    out[0] = x * cam[3] + y * cam[4] + z * cam[5]
    out[1] = x * cam[6] + y * cam[7] + z * cam[8]
    out[2] = x * cam[9] + y * cam[10] + z * cam[11]


@_jit
def polygon_outline(cam, points, n, px, py):
    """Clip a polygon in space at the near plane and project it; return the number of image points."""
    m = 0
    a = np.empty(3)
    b = np.empty(3)
    if n < 1:
        return 0
    _project(cam, points[n - 1, 0], points[n - 1, 1], points[n - 1, 2], a)
    for i in range(n):
        _project(cam, points[i, 0], points[i, 1], points[i, 2], b)
        if (a[2] >= NEAR_M) != (b[2] >= NEAR_M):
            w = (NEAR_M - a[2]) / (b[2] - a[2])
            px[m] = cam[13] + cam[12] * (a[0] + w * (b[0] - a[0])) / NEAR_M
            py[m] = cam[14] + cam[12] * (a[1] + w * (b[1] - a[1])) / NEAR_M
            m += 1
        if b[2] >= NEAR_M:
            px[m] = cam[13] + cam[12] * b[0] / b[2]
            py[m] = cam[14] + cam[12] * b[1] / b[2]
            m += 1
        a[0], a[1], a[2] = b[0], b[1], b[2]
    return m if m >= 3 else 0


@_jit
def _capsule_outline(cam, points, r0, r1, px, py):
    """Outline a limb between two balls; return the number of image points (0 if too near)."""
    a = np.empty(3)
    b = np.empty(3)
    _project(cam, points[0, 0], points[0, 1], points[0, 2], a)
    _project(cam, points[1, 0], points[1, 1], points[1, 2], b)
    if a[2] < NEAR_M * 2 or b[2] < NEAR_M * 2:
        return 0
    x0, y0 = cam[13] + cam[12] * a[0] / a[2], cam[14] + cam[12] * a[1] / a[2]
    x1, y1 = cam[13] + cam[12] * b[0] / b[2], cam[14] + cam[12] * b[1] / b[2]
    r0, r1 = r0 * cam[12] / a[2], r1 * cam[12] / b[2]
    angle = math.atan2(y1 - y0, x1 - x0)
    for k in range(6):
        turn = angle + math.pi * (0.5 + k / 5.0)
        px[k], py[k] = x0 + r0 * math.cos(turn), y0 + r0 * math.sin(turn)
        turn += math.pi
        px[k + 6], py[k + 6] = x1 + r1 * math.cos(turn), y1 + r1 * math.sin(turn)
    return 12


@_jit
def _blob_outline(cam, point, radius, seed, px, py):
    """Outline a leafy ball with sixteen uneven corners fixed by ``seed``; return the number of image points."""
    a = np.empty(3)
    _project(cam, point[0], point[1], point[2], a)
    if a[2] < NEAR_M * 2:
        return 0
    x, y, r = cam[13] + cam[12] * a[0] / a[2], cam[14] + cam[12] * a[1] / a[2], radius * cam[12] / a[2]
    for k in range(16):
        uneven = 0.85 + 0.3 * (((seed * 31 + k) * 7919 % 101) / 101.0)
        px[k] = x + r * uneven * math.cos(k * math.pi / 8.0)
        py[k] = y + r * uneven * math.sin(k * math.pi / 8.0)
    return 16


@_jit
def draw_object(
    first, last, kinds, starts, counts, albedo, emit, size, verts, pose, cam, light, haze,
    tex, offsets, wall_num, out, clear, alpha, acc, grey, bounds,
):  # fmt: skip
    """Draw primitives ``first..last`` in the order given, nearest detail first, adding up one alpha for the object.

    ``pose`` is x, y, z, cos and sin of the heading. ``light`` is ``Look.light``.
    ``bounds`` receives the pixel box touched. Coverage within an object adds, so shared edges leave no seam.
    """
    height, width = clear.shape
    bounds[0], bounds[1], bounds[2], bounds[3] = width, height, 0, 0
    box = np.zeros(4, np.int64)
    px = np.empty(48)
    py = np.empty(48)
    points = np.empty((32, 3))
    for prim in range(first, last):
        n = counts[prim]
        for i in range(n):
            v = verts[starts[prim] + i]
            points[i, 0] = pose[0] + v[0] * pose[3] - v[1] * pose[4]
            points[i, 1] = pose[1] + v[0] * pose[4] + v[1] * pose[3]
            points[i, 2] = pose[2] + v[2]
        kind = kinds[prim]
        depth = (points[0, 0] - cam[0]) * cam[9] + (points[0, 1] - cam[1]) * cam[10] + (points[0, 2] - cam[2]) * cam[11]
        facing, shade = 0.6, 0.5
        if kind in (POLYGON, WALL):
            # Newell's normal also serves concave outlines.
            nx, ny, nz = 0.0, 0.0, 0.0
            for i in range(n):
                j = i + 1 if i + 1 < n else 0
                nx += (points[i, 1] - points[j, 1]) * (points[i, 2] + points[j, 2])
                ny += (points[i, 2] - points[j, 2]) * (points[i, 0] + points[j, 0])
                nz += (points[i, 0] - points[j, 0]) * (points[i, 1] + points[j, 1])
            norm = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-12
            nx, ny, nz = nx / norm, ny / norm, nz / norm
            ex, ey, ez = cam[0] - points[0, 0], cam[1] - points[0, 1], cam[2] - points[0, 2]
            side = nx * ex + ny * ey + nz * ez
            if side <= 0.0:
                continue
            facing = side / math.sqrt(ex * ex + ey * ey + ez * ez)
            shade = max(nx * light[2] + ny * light[3] + nz * light[4], 0.0)
            m = polygon_outline(cam, points, n, px, py)
        elif kind == CAPSULE:
            m = _capsule_outline(cam, points, size[prim, 0], size[prim, 1], px, py)
        else:
            m = _blob_outline(cam, points[0], size[prim, 0], prim, px, py)
            shade = 0.35 + 0.3 * size[prim, 1]
        if m == 0 or not _edges(px, py, m, acc, box):
            continue
        if kind == WALL and grey:
            ux, uy = points[1, 0] - points[0, 0], points[1, 1] - points[0, 1]
            norm = math.sqrt(ux * ux + uy * uy)
            gain = albedo[prim] * (light[0] + light[1] * shade)
            _fill_wall(
                acc, box, cam, points[0], ux / norm, uy / norm, size[prim, 0], tex[int(size[prim, 1])], offsets,
                wall_num, emit[prim], gain, haze, out, clear, alpha,
            )  # fmt: skip
        else:
            near = max(depth, 1.0)
            lum = albedo[prim] * (light[0] + light[1] * shade + light[5] * facing / (1.0 + near * near / 150.0))
            lum += emit[prim] * light[6] * facing
            lum += near / (near + haze[1]) * (haze[0] - lum) * (0.0 if emit[prim] * light[6] > 0.0 else 1.0)
            _fill(acc, box, lum, 1.0, out, clear, alpha, grey)
        bounds[0], bounds[1] = min(bounds[0], box[0]), min(bounds[1], box[1])
        bounds[2], bounds[3] = max(bounds[2], box[2]), max(bounds[3], box[3])


@_jit
def close_object(clear, alpha, bounds):
    """Take the finished object's alpha out of what is still clear behind it and empty the object's buffer."""
    for y in range(bounds[1], bounds[3]):
        for x in range(bounds[0], bounds[2]):
            clear[y, x] *= max(1.0 - alpha[y, x], 0.0)
            alpha[y, x] = 0.0


@_jit
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


@_jit
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
    m = polygon_outline(cam, hull, n, px, py)
    if m == 0 or not _edges(px, py, m, acc, box):
        return
    _fill(acc, box, 0.0, opacity, alpha, clear, alpha, False)
    close_object(clear, alpha, box)

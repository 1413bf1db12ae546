"""Numba kernels that fill textured flat polygons and shaded round limbs, front to back, with exact or filtered edges.

They serve the wide world. A picture is ``out`` [H, W] and ``clear`` [H, W], what is still to be seen of the background;
``alpha`` gathers the coverage of the object being drawn and ``acc`` [H, W + 2] is the signed-area buffer of ``raster``.
"""

import math

import numpy as np

from spiking_centernet.simulate.render.ground import UNSEEN
from spiking_centernet.simulate.render.sampling import (
    DX,
    DY,
    DZ,
    FOOT_U,
    FOOT_V,
    HALF,
    ONE,
    PIXEL,
    PIXELS,
    VALUE,
    VALUES,
    ZERO,
    U,
    V,
    jit,
    places,
    sample,
)  # fmt: skip

COVER, FAR, _COLUMN, _ROW, SHADE, LUMINANCE = places(VALUES, 6)
WORK = (VALUES + 6) * int(PIXELS)
"""Length of the buffer of what is known of the pixels being filled."""

SKY_LUMINANCE, GROUND_LUMINANCE = 170.0, 45.0
"""What they reflect from above and from below by full light: our choice."""

TEXELS = 256
"""Side of every texture of the wide world in texels."""


@jit
def _compose(look, textures, has_texture, cutout, haze, work, index, n, canvas, gray):
    """Blend ``n`` gathered pixels into the canvas: texture, then what the cut-out leaves of the coverage.

    ``look`` holds gain, contrast, texture, cut-out and shine; ``work`` coverage, distance and shade of each pixel;
    ``haze`` the haze's luminance, the distance at which it takes half, and the light that shiny surfaces reflect.
    """
    out, clear, alpha = canvas[0], canvas[1], canvas[2]
    lights, shares, opacity = out.reshape(out.size), clear.reshape(clear.size), alpha.reshape(alpha.size)
    per_texture = textures.shape[1]
    flat = textures.reshape(textures.size)
    gain, contrast = np.float32(look[0]), np.float32(look[1])
    if gray:
        if has_texture:
            first = int(look[2]) * per_texture
            sample(flat[first : first + per_texture], TEXELS, TEXELS, work, index, n)
            for i in range(n):
                work[LUMINANCE + i] = gain * max(ONE + contrast * (work[VALUE + i] - ONE), np.float32(0.02))
        else:
            for i in range(n):
                work[LUMINANCE + i] = gain
        if look[4] > 0.0:
            _reflect(np.float32(look[4]), np.float32(haze[2]), flat[:per_texture], work, index, n)
        haze_lum, haze_m = np.float32(haze[0]), np.float32(haze[1])
        for i in range(n):
            far, lum = work[FAR + i], work[LUMINANCE + i] * work[SHADE + i]
            work[LUMINANCE + i] = lum + far / (far + haze_m) * (haze_lum - lum)
    if cutout:
        first = int(look[3]) * per_texture
        sample(flat[first : first + per_texture], TEXELS, TEXELS, work, index, n)
        for i in range(n):
            kept = min(max(work[VALUE + i], ZERO), ONE)
            work[COVER + i] *= kept * (ONE - opacity[np.uint32(index[PIXEL + i])])
    for i in range(n):
        pixel = np.uint32(index[PIXEL + i])
        cover = max(min(work[COVER + i], ONE - opacity[pixel]), ZERO)
        opacity[pixel] += cover
        if gray:
            lights[pixel] += shares[pixel] * cover * work[LUMINANCE + i]


@jit
def _reflect(shine, light, environment, work, index, n):
    """Add what a shiny surface reflects from the directions ``DX, DY, DZ``: sky above, ground below, both textured."""
    foot = np.float32(2.0)
    for i in range(n):
        work[U + i], work[V + i] = np.float32(TEXELS) * work[DX + i], np.float32(TEXELS) * work[DZ + i]
        work[FOOT_U + i], work[FOOT_V + i] = foot, foot
    sample(environment, TEXELS, TEXELS, work, index, n)
    low, rise = np.float32(GROUND_LUMINANCE), np.float32(SKY_LUMINANCE - GROUND_LUMINANCE)
    for i in range(n):
        above = min(max(HALF + np.float32(4.0) * work[DZ + i], ZERO), ONE)
        mirrored = light * (low + rise * above) * min(work[VALUE + i], np.float32(3.0))
        work[LUMINANCE + i] = (ONE - shine) * work[LUMINANCE + i] + shine * mirrored


@jit
def _mirror(cam, normal, work, n):
    """Write the unit directions ``DX, DY, DZ`` into which the rays of the gathered pixels are mirrored."""
    per_focal = 1.0 / cam[12]
    for i in range(n):
        right = (work[_COLUMN + i] + 0.5 - cam[13]) * per_focal
        down = (work[_ROW + i] + 0.5 - cam[14]) * per_focal
        x = cam[9] + right * cam[3] + down * cam[6]
        y = cam[10] + right * cam[4] + down * cam[7]
        z = cam[11] + right * cam[5] + down * cam[8]
        twice = 2.0 * (x * normal[0] + y * normal[1] + z * normal[2])
        per = 1.0 / math.sqrt(x * x + y * y + z * z)
        work[DX + i], work[DY + i] = (x - twice * normal[0]) * per, (y - twice * normal[1]) * per
        work[DZ + i] = (z - twice * normal[2]) * per


@jit
def fill_polygon(box, cam, anchor, along_u, along_v, normal, look, textures, haze, canvas, work, index, gray):
    """Turn the signed-area buffer into coverage of a flat textured polygon, and empty the buffer.

    ``anchor`` is a point of its plane, ``along_u`` and ``along_v`` (texels per meter) its texture's axes, ``normal``
    its unit normal. With ``gray`` false only coverage is worked out.
    """
    clear, alpha, acc = canvas[1], canvas[2], canvas[3]
    width = np.uint64(clear.shape[1])
    has_texture, cutout = look[2] >= 0.0, look[3] >= 0.0
    needs_place = cutout or (gray and has_texture)
    per_focal = 1.0 / cam[12]
    # What a ray d = d0 + column * dx + row * dy makes of a dot product is linear in column and row.
    linear = np.empty((3, 3))
    ox, oy = (0.5 - cam[13]) * per_focal, (0.5 - cam[14]) * per_focal
    reach = np.empty(3)
    for k in range(3):
        reach[k] = anchor[k] - cam[k]
    for row in range(3):
        axis = normal if row == 0 else along_u if row == 1 else along_v
        d_x = (axis[0] * cam[3] + axis[1] * cam[4] + axis[2] * cam[5]) * per_focal
        d_y = (axis[0] * cam[6] + axis[1] * cam[7] + axis[2] * cam[8]) * per_focal
        ahead = axis[0] * cam[9] + axis[1] * cam[10] + axis[2] * cam[11]
        linear[row, 0] = ahead + ox * d_x * cam[12] + oy * d_y * cam[12]
        linear[row, 1], linear[row, 2] = d_x, d_y
    plane = normal[0] * reach[0] + normal[1] * reach[1] + normal[2] * reach[2]
    at_u = reach[0] * along_u[0] + reach[1] * along_u[1] + reach[2] * along_u[2]
    at_v = reach[0] * along_v[0] + reach[1] * along_v[1] + reach[2] * along_v[2]
    # Whole tiles are taken off, lest float32 lose the fraction of what lies far from the anchor.
    at_u, at_v = at_u - TEXELS * math.floor(at_u / TEXELS), at_v - TEXELS * math.floor(at_v / TEXELS)
    n0, nx, ny = linear[0, 0], linear[0, 1], linear[0, 2]
    u0, ux, uy = np.float32(linear[1, 0]), np.float32(linear[1, 1]), np.float32(linear[1, 2])
    v0, vx, vy = np.float32(linear[2, 0]), np.float32(linear[2, 1]), np.float32(linear[2, 2])
    k_plane, off_u, off_v = np.float32(plane), np.float32(at_u), np.float32(at_v)
    sign = np.float32(1.0 if plane > 0.0 else -1.0)
    smallest = np.float32(1e-3 * per_focal)
    w0, wx, wy = np.float32(n0) * sign, np.float32(nx) * sign, np.float32(ny) * sign
    k_plane = abs(k_plane)
    unseen = np.float32(UNSEEN)
    n = np.uint64(0)
    first, last = np.uint64(box[0]), np.uint64(box[2])
    for y in range(np.uint64(box[1]), np.uint64(box[3])):
        total = ZERO
        for x in range(first, last):
            total += acc[y, x]
            acc[y, x] = ZERO
            cover = min(abs(total), ONE)
            if cover < unseen or clear[y, x] < unseen or alpha[y, x] > np.float32(0.999):
                continue
            index[PIXEL + n] = np.int32(y * width + x)
            work[COVER + n] = cover
            work[_COLUMN + n], work[_ROW + n] = np.float32(x), np.float32(y)
            n += np.uint64(1)
            if n == PIXELS:
                if gray or needs_place:
                    _place_texels(
                        w0, wx, wy, u0, ux, uy, v0, vx, vy, k_plane, off_u, off_v, smallest, needs_place, work, n
                    )
                if gray and look[4] > 0.0:
                    _mirror(cam, normal, work, n)
                _compose(look, textures, has_texture, cutout, haze, work, index, n, canvas, gray)
                n = np.uint64(0)
        acc[y, last] = ZERO
        acc[y, last + np.uint64(1)] = ZERO
    if n > np.uint64(0):
        if gray or needs_place:
            _place_texels(w0, wx, wy, u0, ux, uy, v0, vx, vy, k_plane, off_u, off_v, smallest, needs_place, work, n)
        if gray and look[4] > 0.0:
            _mirror(cam, normal, work, n)
        _compose(look, textures, has_texture, cutout, haze, work, index, n, canvas, gray)


@jit
def _place_texels(w0, wx, wy, u0, ux, uy, v0, vx, vy, plane, off_u, off_v, smallest, needs_place, work, n):
    """Write distance, texels and their footprint where the rays of the gathered pixels meet a plane."""
    for i in range(n):
        x, y = work[_COLUMN + i], work[_ROW + i]
        per_w = ONE / max(w0 + wx * x + wy * y, smallest)
        work[FAR + i] = plane * per_w
        work[SHADE + i] = ONE
    if not needs_place:
        return
    for i in range(n):
        x, y = work[_COLUMN + i], work[_ROW + i]
        per_w = ONE / max(w0 + wx * x + wy * y, smallest)
        far = plane * per_w
        du, dv = u0 + ux * x + uy * y, v0 + vx * x + vy * y
        work[U + i] = far * du - off_u
        work[V + i] = far * dv - off_v
        slope_u, slope_v = du * per_w, dv * per_w
        work[FOOT_U + i] = far * (abs(ux - slope_u * wx) + abs(uy - slope_u * wy))
        work[FOOT_V + i] = far * (abs(vx - slope_v * wx) + abs(vy - slope_v * wy))


@jit
def fill_limb(cam, p, q, r0_m, r1_m, per_m, offset, sun, look, textures, haze, canvas, work, index, gray, bounds):
    """Fill a limb between two balls, shaded as round, with a texture of ``per_m`` texels a meter wound around it.

    ``sun`` is ambient light, strength of the sun and its direction. ``bounds`` [4] grows by the pixels touched.
    Coverage is that of a band of the limb's width whose edge is a pixel wide, also where it is thinner than a pixel.
    """
    clear, alpha = canvas[1], canvas[2]
    height, width = clear.shape
    ends = np.empty((2, 3))
    for k in range(2):
        point = p if k == 0 else q
        x, y, z = point[0] - cam[0], point[1] - cam[1], point[2] - cam[2]
        ends[k, 0] = x * cam[3] + y * cam[4] + z * cam[5]
        ends[k, 1] = x * cam[6] + y * cam[7] + z * cam[8]
        ends[k, 2] = x * cam[9] + y * cam[10] + z * cam[11]
    near = 0.12 + 0.5 * max(r0_m, r1_m)
    if ends[0, 2] < near and ends[1, 2] < near:
        return
    for k in range(2):  # an end behind the eye is drawn up to where it can be seen
        if ends[k, 2] < near:
            other = 1 - k
            w = (near - ends[k, 2]) / (ends[other, 2] - ends[k, 2])
            for j in range(3):
                ends[k, j] += w * (ends[other, j] - ends[k, j])
    scale0, scale1 = cam[12] / ends[0, 2], cam[12] / ends[1, 2]
    x0, y0 = cam[13] + scale0 * ends[0, 0], cam[14] + scale0 * ends[0, 1]
    x1, y1 = cam[13] + scale1 * ends[1, 0], cam[14] + scale1 * ends[1, 1]
    r0, r1 = r0_m * scale0, r1_m * scale1
    reach = max(r0, r1) + 1.0
    left, right = int(max(min(x0, x1) - reach, 0.0)), int(min(max(x0, x1) + reach + 1.0, float(width)))
    top, bottom = int(max(min(y0, y1) - reach, 0.0)), int(min(max(y0, y1) + reach + 1.0, float(height)))
    if left >= right or top >= bottom:
        return
    bounds[0], bounds[1] = min(bounds[0], left), min(bounds[1], top)
    bounds[2], bounds[3] = max(bounds[2], right), max(bounds[3], bottom)
    long = math.sqrt((x1 - x0) ** 2 + (y1 - y0) ** 2)
    ax, ay = ((x1 - x0) / long, (y1 - y0) / long) if long > 1e-6 else (0.0, 1.0)
    long_m = math.sqrt((p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2 + (p[2] - q[2]) ** 2)
    far = 0.5 * (ends[0, 2] + ends[1, 2])
    m_per_px = far / cam[12]
    # The sun as the limb's cross-section sees it: across the picture and towards the eye.
    cross = (
        sun[2] * (cam[3] * -ay + cam[6] * ax) + sun[3] * (cam[4] * -ay + cam[7] * ax)
        + sun[4] * (cam[5] * -ay + cam[8] * ax)
    )  # fmt: skip
    toward = -(sun[2] * cam[9] + sun[3] * cam[10] + sun[4] * cam[11])
    f_x0, f_y0, f_ax, f_ay = np.float32(x0), np.float32(y0), np.float32(ax), np.float32(ay)
    f_r0, f_slope = np.float32(r0), np.float32((r1 - r0) / max(long, 1e-6))
    f_long, per_px = np.float32(long), np.float32(per_m * long_m / max(long, 1e-6))
    if long < 1.0:
        per_px = np.float32(per_m * m_per_px)
    around, foot = np.float32(per_m * m_per_px), np.float32(max(per_m * m_per_px, 1.0))
    f_cross, f_toward = np.float32(cross * sun[1]), np.float32(toward * sun[1])
    ambient, f_offset, f_far = np.float32(sun[0]), np.float32(offset), np.float32(far)
    unseen, has_texture = np.float32(UNSEEN), look[2] >= 0.0
    n = np.uint64(0)
    for y in range(top, bottom):
        dy = np.float32(y) + HALF - f_y0
        for x in range(left, right):
            dx = np.float32(x) + HALF - f_x0
            along = min(max(dx * f_ax + dy * f_ay, ZERO), f_long)
            radius = f_r0 + f_slope * along
            ex, ey = dx - along * f_ax, dy - along * f_ay
            away = math.sqrt(ex * ex + ey * ey)
            cover = min(max(radius - away + HALF, ZERO), ONE) - min(max(HALF - radius - away, ZERO), ONE)
            if cover < unseen or clear[y, x] < unseen or alpha[y, x] > np.float32(0.999):
                continue
            index[PIXEL + n] = np.int32(y * width + x)
            work[COVER + n] = cover
            if gray:
                side = min(max((dy * f_ax - dx * f_ay) / max(radius, HALF), -ONE), ONE)
                front = math.sqrt(max(ONE - side * side, ZERO))
                work[SHADE + n] = ambient + max(side * f_cross + front * f_toward, ZERO)
                work[FAR + n] = f_far
                work[U + n] = f_offset + along * per_px
                work[V + n] = f_offset + side * (ONE + np.float32(0.4) * side * side) * radius * around
                work[FOOT_U + n], work[FOOT_V + n] = foot, foot
            n += np.uint64(1)
            if n == PIXELS:
                _compose(look, textures, has_texture, False, haze, work, index, n, canvas, gray)
                n = np.uint64(0)
    if n > np.uint64(0):
        _compose(look, textures, has_texture, False, haze, work, index, n, canvas, gray)

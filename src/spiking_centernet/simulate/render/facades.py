"""The numba kernel that fills vertical textured rectangles: the fronts and sides of houses."""

import numpy as np

from spiking_centernet.simulate.render.sampling import (
    DX,
    DY,
    DZ,
    FOOT_U,
    FOOT_V,
    INDICES,
    ONE,
    PIXEL,
    PIXELS,
    VALUE,
    VALUES,
    ZERO,
    U,
    V,
    cast_rays,
    jit,
    places,
    sample,
)  # fmt: skip

UNSEEN = 2e-3
"""A pixel to which a wall adds less than this share is left alone."""

_SHARE, _FAR = places(VALUES, 2)
_WORK = (VALUES + 2) * int(PIXELS)


@jit
def _paint(cam, p0, ux, uy, texel_m, tex, num, u_shift, gain, haze, out, work, index, n):
    """Add the wall's light at the pixels of ``work``: the point under each one's center picks texel and footprint."""
    cast_rays(cam, out.shape[1], work, index, n)
    nx, ny = np.float32(uy), np.float32(-ux)
    plane = uy * (p0[0] - cam[0]) - ux * (p0[1] - cam[1])
    limit = np.float32(1e-4 * abs(plane) + 1e-9)
    least = limit if plane > 0.0 else -limit
    far = np.float32(plane)
    per_focal = 1.0 / cam[12]
    n_right = np.float32((uy * cam[3] - ux * cam[4]) * per_focal)
    n_down = np.float32((uy * cam[6] - ux * cam[7]) * per_focal)
    u_right = np.float32((ux * cam[3] + uy * cam[4]) * per_focal)
    u_down = np.float32((ux * cam[6] + uy * cam[7]) * per_focal)
    v_right, v_down = np.float32(cam[5] * per_focal), np.float32(cam[8] * per_focal)
    along_x, along_y, per_texel = np.float32(ux), np.float32(uy), np.float32(1.0 / texel_m)
    u0 = np.float32(((cam[0] - p0[0]) * ux + (cam[1] - p0[1]) * uy) / texel_m + u_shift)
    v0 = np.float32((cam[2] - p0[2]) / texel_m)
    for i in range(n):
        dx, dy, dz = work[DX + i], work[DY + i], work[DZ + i]
        dn = nx * dx + ny * dy
        dn = dn if abs(dn) >= limit else least
        t = min(max(far / dn, ZERO), np.float32(900.0))
        along = dx * along_x + dy * along_y
        k_right, k_down = n_right / dn, n_down / dn
        step = t * per_texel
        work[_FAR + i] = t
        work[U + i] = u0 + step * along
        work[V + i] = v0 + step * dz
        work[FOOT_U + i] = step * (abs(u_right - along * k_right) + abs(u_down - along * k_down))
        work[FOOT_V + i] = step * (abs(v_right - dz * k_right) + abs(v_down - dz * k_down))
    sample(tex, num, num, work, index, n)
    bright, haze_lum, haze_m = np.float32(gain), np.float32(haze[0]), np.float32(haze[1])
    for i in range(n):
        t, lum = work[_FAR + i], bright * work[VALUE + i]
        work[VALUE + i] = work[_SHARE + i] * (lum + t / (t + haze_m) * (haze_lum - lum))
    pixels = out.reshape(out.size)
    for i in range(n):
        pixels[np.uint32(index[PIXEL + i])] += work[VALUE + i]


@jit
def fill_wall(acc, box, cam, p0, ux, uy, texel_m, tex, num, u_shift, gain, haze, out, clear, alpha):
    """Fill a vertical rectangle from ``p0`` along ``ux, uy`` where the signed-area buffer has it; empty the buffer."""
    work, index = np.empty(_WORK, np.float32), np.empty(INDICES, np.int32)
    unseen = np.float32(UNSEEN)
    first, last = np.uint64(box[0]), np.uint64(box[2])
    n = np.uint64(0)
    for y in range(np.uint64(box[1]), np.uint64(box[3])):
        total = ZERO
        start = np.int32(y * out.shape[1])
        for x in range(first, last):
            total += acc[y, x]
            acc[y, x] = ZERO
            cover = max(min(abs(total), ONE - alpha[y, x]), ZERO)
            alpha[y, x] += cover
            share = clear[y, x] * cover
            index[PIXEL + n], work[_SHARE + n] = start + np.int32(x), share
            n += np.uint64(share >= unseen)
            if n == PIXELS:
                _paint(cam, p0, ux, uy, texel_m, tex, num, u_shift, gain, haze, out, work, index, n)
                n = np.uint64(0)
        acc[y, last] = ZERO
        acc[y, last + np.uint64(1)] = ZERO
    if n > 0:
        _paint(cam, p0, ux, uy, texel_m, tex, num, u_shift, gain, haze, out, work, index, n)

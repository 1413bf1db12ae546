"""Rays through pixels and textures under them, many at a time: short loops over one buffer become vector code."""

import numpy as np

from spiking_centernet.utils.compile_cache import compiled

PIXELS = np.uint64(128)
"""Pixels worked on at a time: all that is known of them stays in the nearest cache."""


def places(start: int, num: int) -> list[np.uint64]:
    """Return where ``num`` values of ``PIXELS`` pixels each start in the buffer, after ``start`` others.

    They are unsigned: a check for negative indices, or for buffers that overlap, would prevent vector code.
    """
    return [np.uint64(k) * PIXELS for k in range(start, start + num)]


DX, DY, DZ, U, V, FOOT_U, FOOT_V, VALUE = places(0, 8)
_FINE_U, _FINE_V, _MIX_U, _MIX_V, _PART_U, _PART_V, _TEXEL = places(8, 7)
VALUES = 15
"""Values of each pixel that this module keeps in the buffer; those of its callers follow."""

PIXEL, _I00, _I01, _I10, _I11 = places(0, 5)
INDICES = 5 * int(PIXELS)
"""Length of the buffer of indices: of the pixels in the frame and of their texels."""

_OPTIONS = {"fastmath": True, "error_model": "numpy"}
jit, inline = compiled(**_OPTIONS), compiled(**_OPTIONS, forceinline=True)
"""How every kernel that fills pixels is compiled."""

ZERO, HALF, ONE, TWO = (np.float32(value) for value in (0, 0.5, 1, 2))
"""A plain number would turn every sum with it into float64."""


@jit
def cast_rays(cam, width, work, index, n):
    """Write the directions ``DX, DY, DZ`` of the pixels ``PIXEL`` of a frame so wide, one unit forward long."""
    per_focal = 1.0 / cam[12]
    # Rows are counted from the horizon, where dz is nearly 0, lest float32 lose the dz of what is far.
    horizon = np.floor(cam[14] - cam[12] * cam[11] / cam[8])
    ox, oy = (0.5 - cam[13]) * per_focal, (horizon + 0.5 - cam[14]) * per_focal
    x0 = np.float32(cam[9] + ox * cam[3] + oy * cam[6])
    y0 = np.float32(cam[10] + ox * cam[4] + oy * cam[7])
    z0 = np.float32(cam[11] + ox * cam[5] + oy * cam[8])
    rx, ry, rz = np.float32(cam[3] * per_focal), np.float32(cam[4] * per_focal), np.float32(cam[5] * per_focal)
    qx, qy, qz = np.float32(cam[6] * per_focal), np.float32(cam[7] * per_focal), np.float32(cam[8] * per_focal)
    columns, per_width, above = np.float32(width), np.float32(1.0 / width), np.float32(horizon)
    for i in range(n):
        pixel = np.float32(index[PIXEL + i])
        row = np.floor((pixel + HALF) * per_width)
        right, down = pixel - row * columns, row - above
        work[DX + i] = x0 + right * rx + down * qx
        work[DY + i] = y0 + right * ry + down * qy
        work[DZ + i] = z0 + right * rz + down * qz


@inline
def _choose_levels(at, foot, fine, mix, num, work, n):
    """Wrap positions into ``[0, num]`` and choose levels of detail; return the sum of the coarser ones' shares.

    The level is a cheap log2, kept as 2^-level, flat near whole levels to save half the reads.
    """
    size, per_size, coarsest = np.float32(num), np.float32(1.0 / num), np.float32(num // 4)
    shares = ZERO
    for i in range(n):
        texel = work[at + i]
        work[at + i] = texel - np.floor(texel * per_size) * size
        wide = np.float32(min(max(work[foot + i], ONE), coarsest))
        exponent = np.int32(np.float32(wide).view(np.int32) & np.int32(0x7F800000))
        per_level = np.int32(np.int32(0x7F000000) - exponent).view(np.float32)
        part = min(max(TWO * wide * per_level - np.float32(2.5), ZERO), ONE)
        work[fine + i] = per_level
        work[mix + i] = part
        shares += part
    return shares


@jit
def _read(tex, work, index, n):
    """Read and blend four texels a pixel: no vector code, as the compiler cannot tell reads from writes apart."""
    for i in range(n):
        part_u = work[_PART_U + i]
        top, right = tex[np.uint32(index[_I00 + i])], tex[np.uint32(index[_I01 + i])]
        top += part_u * (right - top)
        bottom, right = tex[np.uint32(index[_I10 + i])], tex[np.uint32(index[_I11 + i])]
        bottom += part_u * (right - bottom)
        work[_TEXEL + i] = top + work[_PART_V + i] * (bottom - top)


@jit
def sample(tex, num_u, num_v, work, index, n):
    """Read the rip-map ``tex`` (see ``textures.ripmap``) at the pixels' ``U, V``, wrapping around, into ``VALUE``.

    Positions are in texels, ``FOOT_U, FOOT_V`` the extent to filter over. Neighboring levels are mixed, so a footprint
    that changes slowly changes the value slowly.
    """
    shares_u = _choose_levels(U, FOOT_U, _FINE_U, _MIX_U, num_u, work, n)
    shares_v = _choose_levels(V, FOOT_V, _FINE_V, _MIX_V, num_v, work, n)
    size_u, size_v = np.float32(num_u), np.float32(num_v)
    last_u, last_v = np.float32(4.0 / num_u), np.float32(4.0 / num_v)
    column = np.float32(2 * num_v - 4)
    for i in range(n):
        work[VALUE + i] = ZERO
    for k in range(4):
        coarse_u, coarse_v = k & 1 == 1, k >> 1 == 1
        if (coarse_u and shares_u == ZERO) or (coarse_v and shares_v == ZERO):
            continue
        scale_u, scale_v = HALF if coarse_u else ONE, HALF if coarse_v else ONE
        for i in range(n):
            # Whole numbers below 2^24 are exact as float32; each level starts where ripmap puts it.
            per_u, per_v = max(work[_FINE_U + i] * scale_u, last_u), max(work[_FINE_V + i] * scale_v, last_v)
            num_i, num_j = size_u * per_u, size_v * per_v
            x, y = work[U + i] * per_u - HALF, work[V + i] * per_v - HALF
            left, upper = np.floor(x), np.floor(y)
            work[_PART_U + i] = x - left
            work[_PART_V + i] = y - upper
            right, lower = left + ONE, upper + ONE
            left = left if left >= ZERO else left + num_i
            right = right if right < num_i else right - num_i
            upper = upper if upper >= ZERO else upper + num_j
            lower = lower if lower < num_j else lower - num_j
            start = TWO * ((size_u - num_i) * column + (size_v - num_j) * num_i)
            index[_I00 + i] = np.int32(start + upper * num_i + left)
            index[_I01 + i] = np.int32(start + upper * num_i + right)
            index[_I10 + i] = np.int32(start + lower * num_i + left)
            index[_I11 + i] = np.int32(start + lower * num_i + right)
        _read(tex, work, index, n)
        flat_u, flat_v = ZERO if coarse_u else ONE, ZERO if coarse_v else ONE
        sign_u, sign_v = ONE if coarse_u else -ONE, ONE if coarse_v else -ONE
        for i in range(n):
            weight = (flat_u + sign_u * work[_MIX_U + i]) * (flat_v + sign_v * work[_MIX_V + i])
            work[VALUE + i] += weight * work[_TEXEL + i]

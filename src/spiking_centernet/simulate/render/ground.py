"""The numba kernels that fill whatever the objects left clear: the ground plane and the sky."""

import math

import numpy as np

from spiking_centernet.simulate.render.sampling import (
    DX,
    DY,
    DZ,
    FOOT_U,
    FOOT_V,
    HALF,
    INDICES,
    ONE,
    PIXEL,
    PIXELS,
    TWO,
    VALUE,
    VALUES,
    ZERO,
    U,
    V,
    cast_rays,
    inline,
    jit,
    places,
    sample,
)  # fmt: skip

UNSEEN = 2e-3
"""A pixel of which less is clear is left alone."""

BEAM_STEP = 8
"""The light of head lamps is smooth enough to be worked out at every eighth pixel of a row."""

_FAR, _LIT, _BELOW, _GROUND, _SKY, _SLOPE, _TREE, _STANDS, _DARK = places(VALUES, 9)
_WORK = (VALUES + 9) * int(PIXELS)

_BLOCK = 16
"""Pixels are looked at this many at a time: mostly all of them are clear, or none."""


@inline
def _bell(x):
    """Return exp(-x) for x from 0 to 9, exact to 1e-6, as 1 / exp(x / 8)^8: the library's is no vector code."""
    y = x * np.float32(1 / 8)
    series = ONE + y * np.float32(1 / 6) * (ONE + y * np.float32(1 / 7))
    series = ONE + y * np.float32(1 / 4) * (ONE + y * np.float32(1 / 5) * series)
    series = ONE + y * (ONE + y * HALF * (ONE + y * np.float32(1 / 3) * series))
    series *= series
    series *= series
    return ONE / (series * series)


@jit
def _light_row(beams, cam, row, highest, nodes, lit):
    """Write how many times brighter head lights make the ground at each pixel of a row.

    ``nodes`` is room for every ``BEAM_STEP``-th pixel. Rays that rise more than ``highest`` see sky, which stays.
    """
    for k in range(nodes.shape[0]):
        nodes[k] = ONE
    per_focal = 1.0 / cam[12]
    oy, ox = (row + 0.5 - cam[14]) * per_focal, (0.5 - cam[13]) * per_focal
    step = BEAM_STEP * per_focal
    dx0 = np.float32(cam[9] + oy * cam[6] + ox * cam[3])
    dy0 = np.float32(cam[10] + oy * cam[7] + ox * cam[4])
    dz0 = np.float32(cam[11] + oy * cam[8] + ox * cam[5])
    rx, ry, rz = np.float32(step * cam[3]), np.float32(step * cam[4]), np.float32(step * cam[5])
    height, steepest = np.float32(cam[2]), np.float32(-0.3 * per_focal)
    for b in range(beams.shape[0]):
        bx, by = np.float32(beams[b, 0] - cam[0]), np.float32(beams[b, 1] - cam[1])
        along_x, along_y, strength = np.float32(beams[b, 2]), np.float32(beams[b, 3]), np.float32(beams[b, 4])
        for k in range(nodes.shape[0]):
            col = np.float32(k)
            slope = dz0 + col * rz
            t = -height / min(slope, steepest)
            x, y = t * (dx0 + col * rx) - bx, t * (dy0 + col * ry) - by
            ahead, aside = x * along_x + y * along_y, x * along_y - y * along_x
            aside /= np.float32(0.8) + np.float32(0.22) * max(ahead, ZERO)
            square = min(aside * aside, np.float32(9.0))
            rise = min(max(ahead - HALF, ZERO), np.float32(4.0)) * np.float32(0.25)
            light = strength * rise * _bell(square) / (ONE + ahead * ahead * np.float32(1 / 220.0))
            nodes[k] += light if square < np.float32(9.0) and slope < highest else ZERO
    for k in range(nodes.shape[0] - 1):
        light, change = nodes[k], (nodes[k + 1] - nodes[k]) * np.float32(1 / BEAM_STEP)
        for j in range(BEAM_STEP):
            lit[k * BEAM_STEP + j] = light + np.float32(j) * change


@jit
def _ground(
    cam, bend, bend_start_m, bend_step_m, tex, num_u, num_v, texel_u_m, texel_v_m, fold_m, haze, work, index, n
):  # fmt: skip
    """Write the luminance of the ground under the rays of ``work``; see ``draw_ground_and_sky``."""
    per_focal = 1.0 / cam[12]
    height, steepest = np.float32(cam[2]), np.float32(-0.3 * per_focal)
    bend_at, per_bend = np.float32((cam[1] - bend_start_m) / bend_step_m), np.float32(1.0 / bend_step_m)
    last_bend = np.float32(bend.shape[0] - 1.001)
    for i in range(n):
        t = -height / min(work[DZ + i], steepest)
        work[_FAR + i] = t
        work[V + i] = min(max(bend_at + t * work[DY + i] * per_bend, ZERO), last_bend)
    for i in range(n):
        at = work[V + i]
        k = np.uint64(at)
        rise = bend[k + np.uint64(1)] - bend[k]
        work[_SLOPE + i] = rise / bend_step_m
        work[U + i] = bend[k] + rise * (at - k) - cam[0]
    rx, ry, rz = np.float32(cam[3] * per_focal), np.float32(cam[4] * per_focal), np.float32(cam[5] * per_focal)
    qx, qy, qz = np.float32(cam[6] * per_focal), np.float32(cam[7] * per_focal), np.float32(cam[8] * per_focal)
    per_u, per_v = np.float32(1.0 / texel_u_m), np.float32(1.0 / texel_v_m)
    along = np.float32(cam[1] / texel_v_m % num_v)  # within a period, lest float32 lose the fraction
    for i in range(n):
        dx, dy, t, slope = work[DX + i], work[DY + i], work[_FAR + i], work[_SLOPE + i]
        per_down = ONE / min(work[DZ + i], steepest)
        k_right, k_down = rz * per_down, qz * per_down
        y_right, y_down = ry - dy * k_right, qy - dy * k_down
        x_right, x_down = rx - dx * k_right - slope * y_right, qx - dx * k_down - slope * y_down
        work[FOOT_U + i] = t * per_u * (abs(x_right) + abs(x_down))
        work[FOOT_V + i] = t * per_v * (abs(y_right) + abs(y_down))
        work[V + i] = along + t * dy * per_v
    half_u, edge = np.float32(0.5 * num_u), np.float32(0.5 * num_u * texel_u_m)
    fold, per_fold = np.float32(fold_m), np.float32(0.5 / fold_m)
    for i in range(n):
        across = work[_FAR + i] * work[DX + i] - work[U + i]
        beyond = max(abs(across) - edge, ZERO)
        beyond -= TWO * fold * np.floor(beyond * per_fold)
        folded = per_u * (min(abs(across), edge) - (fold - abs(beyond - fold)))
        work[U + i] = half_u + (folded if across > ZERO else -folded)
    sample(tex, num_u, num_v, work, index, n)
    haze_lum, haze_m = np.float32(haze[0]), np.float32(haze[1])
    for i in range(n):
        t, lum = work[_FAR + i], work[VALUE + i] * work[_LIT + i]
        work[_GROUND + i] = lum + t / (t + haze_m) * (haze_lum - lum)


@jit
def _sky(cam, sky, skyline, highest, steepest, cloud, work, index, n):
    """Write the luminance of the sky along the rays of ``work``; see ``draw_ground_and_sky``.

    No tree stands above the slope ``highest``, nor where a ray rises by more than ``steepest``.
    """
    low, high, clouds = np.float32(sky[0]), np.float32(sky[1]), np.float32(sky[2])
    for i in range(n):
        up = max(work[DZ + i], ZERO)
        work[_SKY + i] = low + (high - low) * up / (up + np.float32(0.4))
    if clouds > ZERO:
        for i in range(n):
            k = np.float32(40.0) / (max(work[DZ + i], ZERO) + np.float32(0.25))
            work[U + i] = work[DX + i] * k
            work[V + i] = work[DY + i] * k
            work[FOOT_U + i] = ONE
            work[FOOT_V + i] = ONE
        sample(cloud, 256, 256, work, index, n)
        for i in range(n):
            work[_SKY + i] *= ONE + clouds * work[VALUE + i]
    low_rays = ZERO
    for i in range(n):
        low_rays += ONE if work[DZ + i] < steepest else ZERO
    if low_rays == ZERO:
        return
    for i in range(n):
        dx, dy = work[DX + i], work[DY + i]
        work[_SLOPE + i] = max(work[DZ + i], ZERO) / np.sqrt(dx * dx + dy * dy)
    per_turn = (skyline.shape[0] - 1) / (2.0 * math.pi)
    fine = np.float32(800.0 / cam[12])
    far = np.uint64(0)
    for i in range(n):
        slope = work[_SLOPE + i]
        if slope > highest or work[DZ + i] > steepest:
            continue
        at = (math.atan2(np.float64(work[DY + i]), np.float64(work[DX + i])) + math.pi) * per_turn
        k = min(int(at), skyline.shape[0] - 2)
        tall = skyline[k, 0] + (at - k) * (skyline[k + 1, 0] - skyline[k, 0])
        stands = min((tall - slope) * cam[12] + 0.5, 1.0)
        if stands > 0.0:
            work[_TREE + far], work[_STANDS + far] = i, stands
            work[_DARK + far] = skyline[k, 1] + (at - k) * (skyline[k + 1, 1] - skyline[k, 1])
            work[U + far], work[V + far] = at * 2.0, slope * 800.0
            work[FOOT_U + far], work[FOOT_V + far] = fine, fine
            far += np.uint64(1)
    if far > 0:
        sample(cloud, 256, 256, work, index, far)
        for i in range(far):
            at_sky = _SKY + np.uint64(work[_TREE + i])
            dark = work[_DARK + i] * (ONE + np.float32(0.22) * work[VALUE + i])
            work[at_sky] += work[_STANDS + i] * (dark - work[at_sky])


@jit
def draw_ground_and_sky(
    cam, bend, bend_start_m, bend_step_m, tex, num_u, num_v, texel_u_m, texel_v_m, fold_m, haze, sky, skyline, cloud,
    beams, out, clear,
):  # fmt: skip
    """Add ground and sky to ``out`` [H, W] in proportion to ``clear``.

    The ground's texture runs along the road: across = x - bend(y), along = y. Beyond its edge the outermost ``fold_m``
    meters are mirrored back and forth. ``sky`` is luminance at the horizon, at the zenith and the strength of clouds;
    ``skyline`` [K, 2] holds, around the compass, the slope up to which far trees and roofs stand, and their luminance;
    ``beams`` [N, 5] are head lights: x, y, direction and strength.
    """
    height, width = out.shape
    work, index = np.ones(_WORK, np.float32), np.empty(INDICES, np.int32)
    nodes = np.empty(width // BEAM_STEP + 2, np.float32)
    lit = np.ones((nodes.shape[0] - 1) * BEAM_STEP, np.float32)
    focal, unseen = np.float32(cam[12]), np.float32(UNSEEN)
    highest = 0.5 / cam[12] + skyline[:, 0].max()
    aside = max(cam[13], width - cam[13]) ** 2 + max(cam[14], height - cam[14]) ** 2
    steepest = np.float32(min(highest * math.sqrt(1.0 + aside / cam[12] ** 2), 0.12))
    lights, shares = out.reshape(out.size), clear.reshape(clear.size)
    n = np.uint64(0)
    for row in range(height):
        if beams.shape[0] > 0:
            _light_row(beams, cam, row, ONE, nodes, lit)
        for first in range(0, width, _BLOCK):
            start, size = np.uint64(row * width + first), np.uint64(min(_BLOCK, width - first))
            num_clear = ZERO
            for k in range(size):
                num_clear += ONE if shares[start + k] >= unseen else ZERO
            if num_clear == np.float32(size):
                for k in range(size):
                    index[PIXEL + n + k] = start + k
                for k in range(size):
                    work[_LIT + n + k] = lit[np.uint64(first) + k]
                n += size
            elif num_clear > ZERO:
                for k in range(size):
                    index[PIXEL + n] = start + k
                    work[_LIT + n] = lit[np.uint64(first) + k]
                    n += np.uint64(shares[start + k] >= unseen)
            is_last = row == height - 1 and first + _BLOCK >= width
            if n == 0 or not (is_last or n + np.uint64(_BLOCK) > PIXELS):
                continue
            cast_rays(cam, width, work, index, n)
            total = ZERO
            for i in range(n):
                # The horizon is a ramp one pixel wide: dz grows by about 1/focal from one row to the next.
                below = min(max(HALF - work[DZ + i] * focal, ZERO), ONE)
                work[_BELOW + i] = below
                total += below
            if total > ZERO:
                _ground(
                    cam, bend, bend_start_m, bend_step_m, tex, num_u, num_v, texel_u_m, texel_v_m, fold_m, haze, work,
                    index, n,
                )  # fmt: skip
            if total < np.float32(n):
                _sky(cam, sky, skyline, highest, steepest, cloud, work, index, n)
            for i in range(n):
                work[VALUE + i] = work[_SKY + i] + work[_BELOW + i] * (work[_GROUND + i] - work[_SKY + i])
            first_pixel = np.uint64(index[PIXEL])
            if np.uint64(index[PIXEL + n - np.uint64(1)]) == first_pixel + n - np.uint64(1):
                for i in range(n):
                    lights[first_pixel + i] += shares[first_pixel + i] * work[VALUE + i]
            else:
                for i in range(n):
                    pixel = np.uint32(index[PIXEL + i])
                    lights[pixel] += shares[pixel] * work[VALUE + i]
            n = np.uint64(0)


@jit
def draw_still(cam, objects, clear, ground, beams, out):
    """Write ``objects`` before ``ground``, both [H, W] and drawn before, under the head lights of now to ``out``.

    For a camera that stands: ``ground`` holds the sky as well.
    """
    height, width = np.uint64(out.shape[0]), np.uint64(out.shape[1])
    nodes = np.empty(out.shape[1] // BEAM_STEP + 2, np.float32)
    lit = np.ones((nodes.shape[0] - 1) * BEAM_STEP, np.float32)
    unseen = np.float32(UNSEEN)
    for row in range(height):
        if beams.shape[0] > 0:
            _light_row(beams, cam, row, np.float32(-1.0 / cam[12]), nodes, lit)
        for col in range(width):
            behind = clear[row, col] * ground[row, col] * lit[col]
            out[row, col] = objects[row, col] + (behind if clear[row, col] >= unseen else ZERO)

"""The numba kernel that fills whatever the objects left clear: the ground plane and the sky."""

import math

import numba as nb
import numpy as np

from spiking_centernet.simulate.raster import sample

UNSEEN = 2e-3
"""A pixel of which less is clear is left alone."""

BEAM_STEP = 8
"""The light of head lamps is smooth enough to be worked out at every eighth pixel of a row."""


_jit = nb.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")


@_jit
def _strength(beams, x, y):
    """Return how many times brighter head lights make the ground at ``x, y``."""
    strength = 1.0
    for b in range(beams.shape[0]):
        bx, by = x - beams[b, 0], y - beams[b, 1]
        ahead = bx * beams[b, 2] + by * beams[b, 3]
        aside = bx * beams[b, 3] - by * beams[b, 2]
        spread = 0.8 + 0.22 * ahead
        if ahead > 0.5 and abs(aside) < 3.0 * spread:
            rise = min(ahead - 0.5, 4.0) * 0.25
            aside /= spread
            strength += beams[b, 4] * rise * math.exp(-aside * aside) / (1.0 + ahead * ahead / 220.0)
    return strength


@_jit
def draw_ground_and_sky(
    cam, bend, bend_start_m, bend_step_m, tex, offsets, num_u, num_v, texel_u_m, texel_v_m, fold_m, haze, sky,
    skyline, cloud, cloud_offsets, beams, out, clear,
):  # fmt: skip
    """Add ground and sky to ``out`` [H, W] in proportion to ``clear``.

    The ground's texture runs along the road: across = x - bend(y), along = y. Beyond its edge the outermost ``fold_m``
    metres are mirrored back and forth. ``sky`` is luminance at the horizon, at the zenith and the strength of clouds;
    ``skyline`` [K, 2] holds, around the compass, the slope up to which far trees and roofs stand, and their luminance;
    ``beams`` [N, 5] are head lights: x, y, direction and strength.
    """
    height, width = out.shape
    per_focal = 1.0 / cam[12]
    per_u, per_v, per_bend = 1.0 / texel_u_m, 1.0 / texel_v_m, 1.0 / bend_step_m
    half_u = 0.5 * num_u
    num_sky = (skyline.shape[0] - 1) / (2.0 * math.pi)
    fine = 800.0 * per_focal
    edge = half_u * texel_u_m
    last_bend = bend.shape[0] - 1.001
    rx, ry, rz = cam[3] * per_focal, cam[4] * per_focal, cam[5] * per_focal
    qx, qy, qz = cam[6] * per_focal, cam[7] * per_focal, cam[8] * per_focal
    pos_u, pos_v = np.empty(width), np.empty(width)
    foot_u, foot_v = np.empty(width), np.empty(width)
    far, below = np.empty(width), np.empty(width)
    lit = np.ones(width // BEAM_STEP + 2)
    for row in range(height):
        oy = row + 0.5 - cam[14]
        dx0 = cam[9] + oy * qx - (cam[13] - 0.5) * rx
        dy0 = cam[10] + oy * qy - (cam[13] - 0.5) * ry
        dz0 = cam[11] + oy * qz - (cam[13] - 0.5) * rz
        for col in range(width):
            # The horizon is a ramp one pixel wide: dz grows by about 1/focal from one row to the next.
            below[col] = min(max(0.5 - (dz0 + col * rz) * cam[12], 0.0), 1.0)
        if below[0] > 0.0 or below[width - 1] > 0.0:
            for col in range(width):
                dx, dy = dx0 + col * rx, dy0 + col * ry
                per_down = 1.0 / min(dz0 + col * rz, -0.3 * per_focal)
                t = -cam[2] * per_down
                y = cam[1] + t * dy
                at = min(max((y - bend_start_m) * per_bend, 0.0), last_bend)
                i = int(at)
                slope = bend[i + 1] - bend[i]
                pos_u[col] = cam[0] + t * dx - bend[i] - slope * (at - i)
                pos_v[col] = y
                far[col] = t
                slope *= per_bend
                k_right, k_down = rz * per_down, qz * per_down
                y_right, y_down = ry - dy * k_right, qy - dy * k_down
                foot_v[col] = t * per_v * (abs(y_right) + abs(y_down))
                foot_u[col] = (
                    t * per_u * (abs(rx - dx * k_right - slope * y_right) + abs(qx - dx * k_down - slope * y_down))
                )
            if beams.shape[0] > 0:
                for k in range(width // BEAM_STEP + 2):
                    dx, dy, dz = dx0 + BEAM_STEP * k * rx, dy0 + BEAM_STEP * k * ry, dz0 + BEAM_STEP * k * rz
                    t = -cam[2] / min(dz, -0.3 * per_focal)
                    lit[k] = _strength(beams, cam[0] + t * dx, cam[1] + t * dy)
        for col in range(width):
            seen = clear[row, col]
            if seen < UNSEEN:
                continue
            lum = 0.0
            if below[col] < 1.0:
                up = max(dz0 + col * rz, 0.0)
                lum = sky[0] + (sky[1] - sky[0]) * up / (up + 0.4)
                if sky[2] > 0.0:
                    k = 40.0 / (up + 0.25)
                    clouds = sample(
                        cloud, cloud_offsets, 256, 256, (dx0 + col * rx) * k, (dy0 + col * ry) * k, 1.0, 1.0
                    )
                    lum *= 1.0 + sky[2] * clouds
                if up < 0.12:
                    dx, dy = dx0 + col * rx, dy0 + col * ry
                    slope = up / math.sqrt(dx * dx + dy * dy)
                    at = (math.atan2(dy, dx) + math.pi) * num_sky
                    i = min(int(at), skyline.shape[0] - 2)
                    tall = skyline[i, 0] + (at - i) * (skyline[i + 1, 0] - skyline[i, 0])
                    stands = min(max((tall - slope) * cam[12] + 0.5, 0.0), 1.0)
                    if stands > 0.0:
                        leaves = sample(cloud, cloud_offsets, 256, 256, at * 2.0, slope * 800.0, fine, fine)
                        dark = skyline[i, 1] + (at - i) * (skyline[i + 1, 1] - skyline[i, 1])
                        lum += stands * (dark * (1.0 + 0.22 * leaves) - lum)
            if below[col] > 0.0:
                across, along, t = pos_u[col], pos_v[col], far[col]
                folded = across
                if abs(across) > edge:
                    beyond = (abs(across) - edge) % (2.0 * fold_m)
                    folded = edge - (beyond if beyond < fold_m else 2.0 * fold_m - beyond)
                    folded = folded if across > 0.0 else -folded
                value = sample(
                    tex, offsets, num_u, num_v, folded * per_u + half_u, along * per_v, foot_u[col], foot_v[col]
                )
                if beams.shape[0] > 0:
                    k = col // BEAM_STEP
                    value *= lit[k] + (col / BEAM_STEP - k) * (lit[k + 1] - lit[k])
                value += t / (t + haze[1]) * (haze[0] - value)
                lum += below[col] * (value - lum)
            out[row, col] += seen * lum


@_jit
def draw_still(cam, still, beams, out, clear):
    """Add ground and sky drawn before, ``still`` [H, W], under the head lights of now, for a camera that stands."""
    height, width = out.shape
    lit = np.ones(width // BEAM_STEP + 2)
    for row in range(height):
        oy = (row + 0.5 - cam[14]) / cam[12]
        if beams.shape[0] > 0:
            for k in range(width // BEAM_STEP + 2):
                ox = (BEAM_STEP * k + 0.5 - cam[13]) / cam[12]
                dz = cam[11] + ox * cam[5] + oy * cam[8]
                lit[k] = 1.0
                if dz < -1.0 / cam[12]:
                    t = -cam[2] / dz
                    x = cam[0] + t * (cam[9] + ox * cam[3] + oy * cam[6])
                    y = cam[1] + t * (cam[10] + ox * cam[4] + oy * cam[7])
                    lit[k] = _strength(beams, x, y)
        for col in range(width):
            seen = clear[row, col]
            if seen < UNSEEN:
                continue
            k = col // BEAM_STEP
            out[row, col] += seen * still[row, col] * (lit[k] + (col / BEAM_STEP - k) * (lit[k + 1] - lit[k]))

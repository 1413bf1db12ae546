"""The numba kernel that fills whatever the objects left clear: the ground plane and the sky."""

import math

import numba as nb

from spiking_centernet.simulate.raster import sample


@nb.njit(cache=True, nogil=True, fastmath=True)
def draw_ground_and_sky(
    cam, bend, bend_start_m, bend_step_m, tex, offsets, num_u, num_v, texel_u_m, texel_v_m, fold_m, gain, haze, sky,
    cloud, beams, out, clear,
):  # fmt: skip
    """Add ground and sky to ``out`` [H, W] in proportion to ``clear``.

    The ground's texture runs along the road: across = x - bend(y), along = y. Beyond ``fold_m`` metres beside the road
    the verge is mirrored back and forth. ``sky`` is luminance at the horizon, at the zenith and the strength of clouds;
    ``beams`` [N, 5] are head lights: x, y, direction and strength.
    """
    height, width = out.shape
    focal = cam[12]
    num_bend = bend.shape[0]
    half_u = num_u // 2
    for row in range(height):
        oy = row + 0.5 - cam[14]
        for col in range(width):
            seen = clear[row, col]
            if seen < 2e-3:
                continue
            ox = col + 0.5 - cam[13]
            dx = cam[9] + (ox * cam[3] + oy * cam[6]) / focal
            dy = cam[10] + (ox * cam[4] + oy * cam[7]) / focal
            dz = cam[11] + (ox * cam[5] + oy * cam[8]) / focal
            # The horizon is a ramp one pixel wide: dz grows by about 1/focal from one row to the next.
            below = min(max(0.5 - dz * focal, 0.0), 1.0)
            lum = 0.0
            if below < 1.0:
                up = max(dz, 0.0)
                lum = sky[0] + (sky[1] - sky[0]) * up / (up + 0.4)
                if sky[2] > 0.0:
                    k = 40.0 / (up + 0.25)
                    lum *= 1.0 + sky[2] * sample(cloud, offsets[:1, :1], 256, 256, dx * k, dy * k, 1.0, 1.0)
            if below > 0.0:
                down = min(dz, -0.3 / focal)
                t = -cam[2] / down
                x, y = cam[0] + t * dx, cam[1] + t * dy
                at = (y - bend_start_m) / bend_step_m
                at = min(max(at, 0.0), num_bend - 1.001)
                i = int(at)
                slope = bend[i + 1] - bend[i]
                across = x - bend[i] - slope * (at - i)
                slope /= bend_step_m
                k_right, k_down = cam[5] / (focal * down), cam[8] / (focal * down)
                y_right, y_down = cam[4] / focal - dy * k_right, cam[7] / focal - dy * k_down
                x_right = cam[3] / focal - dx * k_right - slope * y_right
                x_down = cam[6] / focal - dx * k_down - slope * y_down
                foot_u = t * (abs(x_right) + abs(x_down)) / texel_u_m
                foot_v = t * (abs(y_right) + abs(y_down)) / texel_v_m
                edge = half_u * texel_u_m
                if abs(across) > edge:
                    beyond = (abs(across) - edge) % (2.0 * fold_m)
                    folded = edge - (beyond if beyond < fold_m else 2.0 * fold_m - beyond)
                    across = folded if across > 0.0 else -folded
                u = across / texel_u_m + half_u
                value = gain * sample(tex, offsets, num_u, num_v, u, y / texel_v_m, foot_u, foot_v)
                strength = 1.0
                for b in range(beams.shape[0]):
                    bx, by = x - beams[b, 0], y - beams[b, 1]
                    ahead = bx * beams[b, 2] + by * beams[b, 3]
                    if ahead > 0.5:
                        aside = (bx * beams[b, 3] - by * beams[b, 2]) / (0.8 + 0.22 * ahead)
                        rise = min(ahead - 0.5, 4.0) / 4.0
                        strength += beams[b, 4] * rise * math.exp(-aside * aside) / (1.0 + ahead * ahead / 220.0)
                value *= strength
                value += t / (t + haze[1]) * (haze[0] - value)
                lum += below * (value - lum)
            out[row, col] += seen * lum

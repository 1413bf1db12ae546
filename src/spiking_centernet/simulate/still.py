"""Numba kernels for a camera that stands: only the windows that moving things may touch are drawn anew."""

import numba as nb
import numpy as np

from spiking_centernet.simulate.frame import SHADOW_HEIGHT, draw_queue, draw_shadows, order
from spiking_centernet.simulate.ground import BEAM_STEP, draw_still
from spiking_centernet.simulate.raster import NEAR_M

WINDOW_COST_PX = 1000
"""Two windows are drawn as one if that adds fewer pixels than this, about what it costs to look for what is in one."""

_jit = nb.njit(cache=True, nogil=True, error_model="numpy")


@_jit
def _window_of(cam, actor, shape, is_walker, shadow_x, shadow_y, width, height, window):
    """Write the box x0, y0, x1, y1 of the frame that an actor and its shadow may touch; return whether there is one."""
    # Room for lamps and hubs; the limbs of a walker swing far beyond its footprint.
    half_length = 0.5 * shape[4] if is_walker else 0.5 * shape[2] + 0.05
    half_width = 0.5 * shape[4] if is_walker else 0.5 * shape[3] + 0.05
    c, s = np.cos(actor[2]), np.sin(actor[2])
    left, top, right, bottom = 1e9, 1e9, -1e9, -1e9
    behind = 0
    for corner in range(12):
        along, across = half_length if corner & 1 else -half_length, half_width if corner & 2 else -half_width
        x, y = actor[0] + along * c - across * s - cam[0], actor[1] + along * s + across * c - cam[1]
        z = -cam[2]
        if corner >= 8:
            x, y = x + SHADOW_HEIGHT * shape[4] * shadow_x, y + SHADOW_HEIGHT * shape[4] * shadow_y
        elif corner >= 4:
            z += 1.08 * shape[4]
        depth = x * cam[9] + y * cam[10] + z * cam[11]
        if depth < NEAR_M:
            behind += 1
            continue
        u = cam[13] + cam[12] * (x * cam[3] + y * cam[4] + z * cam[5]) / depth
        v = cam[14] + cam[12] * (x * cam[6] + y * cam[7] + z * cam[8]) / depth
        left, right, top, bottom = min(left, u), max(right, u), min(top, v), max(bottom, v)
    if behind == 12:
        return False
    if behind > 0:
        left, top, right, bottom = 0.0, 0.0, width, height
    # Lamps' light is worked out at every BEAM_STEP-th pixel: the same ones as in the whole frame.
    window[0] = int(max(left - 1.0, 0.0)) // BEAM_STEP * BEAM_STEP
    window[1] = int(max(top - 1.0, 0.0))
    window[2] = int(min(right + 2.0, width))
    window[3] = int(min(bottom + 2.0, height))
    return window[0] < window[2] and window[1] < window[3]


@_jit
def _area(a, b):
    """Return how many pixels the box around two boxes has."""
    return (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))


@_jit
def find_windows(cam, placed, num_placed, movers, shapes, limb_shape, shadow, width, height, windows):
    """Write boxes of the frame outside which nothing but the light of lamps changes; return how many."""
    n = 0
    for i in range(num_placed):
        if movers[int(placed[i, 4]), 5] == 1:
            continue  # parked
        kind = int(placed[i, 3])
        reach = (shadow[0], shadow[1]) if shadow[2] > 0.0 else (0.0, 0.0)
        if _window_of(
            cam, placed[i], shapes[kind], kind >= limb_shape, reach[0], reach[1], width, height, windows[n]
        ):
            n += 1
    a = 0
    while a < n:
        b = a + 1
        while b < n:
            one, two = windows[a], windows[b]
            if _area(one, two) < _area(one, one) + _area(two, two) + WINDOW_COST_PX:
                one[0], one[1] = min(one[0], two[0]), min(one[1], two[1])
                one[2], one[3] = max(one[2], two[2]), max(one[3], two[3])
                windows[b] = windows[n - 1]
                n -= 1
                b = a + 1
            else:
                b += 1
        a += 1
    return n


@_jit
def draw_windows(
    windows, num_windows, placed, num_placed, props, walls, shapes, pool, limb_shape, cam, light, haze, facades, shadow,
    ground, beams, queue, buffers, out,
):  # fmt: skip
    """Draw the windows of ``out`` anew; ``ground`` is the whole frame's, ``buffers`` [4, room] are taken for each."""
    nothing, no_ids = np.zeros(0, np.int64), np.zeros((0, 0), np.int32)
    view = cam.copy()
    for k in range(num_windows):
        x0, y0, x1, y1 = windows[k]
        width, height = x1 - x0, y1 - y0
        size = height * width
        view[13], view[14] = cam[13] - x0, cam[14] - y0
        part, clear, alpha = (
            buffers[0][:size].reshape(height, width),
            buffers[1][:size].reshape(height, width),
            buffers[2][:size].reshape(height, width),
        )
        acc = buffers[3][: size + 2 * height].reshape(height, width + 2)
        part[:] = 0.0
        clear[:] = 1.0
        length = order(view, placed, num_placed, shapes, props, walls, width, height, queue)
        draw_queue(
            queue, length, placed, props, walls, shapes, pool, limb_shape, view, light, haze, facades,
            (part, clear, alpha, acc), True, no_ids, nothing, nothing,
        )  # fmt: skip
        draw_shadows(queue, length, placed, shapes, view, shadow[0], shadow[1], shadow[2], clear, alpha, acc)
        draw_still(view, part, clear, ground, x0, y0, beams, out)

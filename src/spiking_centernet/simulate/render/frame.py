"""Numba kernels of one frame: who is in view, in which order from near to far, and drawing them."""

import math

import numpy as np

from spiking_centernet.simulate.render.raster import (
    NEAR_M,
    close_object,
    draw_object,
    draw_shadow,
    mark_object,
    view_from,
)
from spiking_centernet.simulate.scene.actors import pose_pedestrian
from spiking_centernet.utils.compile_cache import compiled

_jit = compiled(error_model="numpy")

FAR_M = 260.0
"""Nothing but ground and sky is drawn further away than this."""

SHADOW_HEIGHT = 0.85
"""A shadow is that of a box of this share of the actor's height, rounded as actors are."""


@_jit
def place(t_step, table, bend, bend_start_m, bend_step_m, cam_x, cam_y, movers, rows, placed):
    """Write x, y, heading, shape, mover, distance and speed of all actors present to ``placed``; return how many.

    ``movers`` [M, 6] holds role, shape, first step, heading, first row, number of rows; between two rows of ``rows``
    the position is the cubic through both positions and speeds. ``table`` is the time between rows in seconds.
    """
    n = 0
    for m in range(movers.shape[0]):
        count = int(movers[m, 5])
        row = int(movers[m, 4])
        local = t_step - movers[m, 2]
        if count == 1:
            along, across = rows[row, 0], rows[row, 1]
            v_along, v_across = 0.0, 0.0
        else:
            if local < 0.0 or local >= count - 1:
                continue
            k = int(local)
            w = local - k
            a, b = rows[row + k], rows[row + k + 1]
            h01 = w * w * (3.0 - 2.0 * w)
            h10, h11 = w * (1.0 - w) * (1.0 - w), w * w * (w - 1.0)
            along = a[0] + h01 * (b[0] - a[0]) + table * (h10 * a[2] + h11 * b[2])
            across = a[1] + h01 * (b[1] - a[1]) + table * (h10 * a[3] + h11 * b[3])
            v_along, v_across = a[2] + w * (b[2] - a[2]), a[3] + w * (b[3] - a[3])
        at = min(max((along - bend_start_m) / bend_step_m, 0.0), bend.shape[0] - 1.001)
        i = int(at)
        slope = (bend[i + 1] - bend[i]) / bend_step_m
        x, y = bend[i] + (at - i) * (bend[i + 1] - bend[i]) + across, along
        if (x - cam_x) ** 2 + (y - cam_y) ** 2 > FAR_M**2 or n >= placed.shape[0]:
            continue
        placed[n, 0], placed[n, 1] = x, y
        placed[n, 2] = movers[m, 3] - (math.atan(slope) if abs(math.sin(movers[m, 3])) > 0.5 else 0.0)
        placed[n, 3], placed[n, 4] = movers[m, 1], m
        placed[n, 5] = along + across
        placed[n, 6] = math.sqrt(v_along * v_along + v_across * v_across)
        n += 1
    return n


@_jit
def _in_view(cam, x, y, z, radius, width, height):
    dx, dy, dz = x - cam[0], y - cam[1], z - cam[2]
    depth = dx * cam[9] + dy * cam[10] + dz * cam[11]
    if depth < -radius or dx * dx + dy * dy > FAR_M**2:
        return False
    if depth < radius + 0.3:
        return True
    right = dx * cam[3] + dy * cam[4] + dz * cam[5]
    down = dx * cam[6] + dy * cam[7] + dz * cam[8]
    reach = 1.5 * radius * cam[12] / (depth - 0.7 * radius)
    u, v = cam[13] + cam[12] * right / depth, cam[14] + cam[12] * down / depth
    return u > -reach and u < width + reach and v > -reach and v < height + reach


@_jit
def order(cam, placed, num_placed, shapes, props, walls, width, height, queue):
    """Fill ``queue`` [Q, 2] (kind, index) from near to far and return its length; kinds: 0 actor, 1 prop, 2 wall.

    ``shapes`` [S, 5] are first, last, length, width, height; ``props`` [N, 3] x, y, shape; ``walls`` [N, 5] the two
    feet and the shape. Actors and props go by distance; a wall goes before those that stand behind its plane.
    """
    size = num_placed + props.shape[0]
    index = np.empty(size, np.int64)
    kind = np.empty(size, np.int64)
    far = np.empty(size)
    xs, ys, radii = np.empty(size), np.empty(size), np.empty(size)
    n = 0
    for i in range(size):
        if i < num_placed:
            x, y, s, k, j = placed[i, 0], placed[i, 1], int(placed[i, 3]), 0, i
        else:
            j = i - num_placed
            x, y, s, k = props[j, 0], props[j, 1], int(props[j, 2]), 1
        reach = 0.5 * math.sqrt(shapes[s, 2] ** 2 + shapes[s, 3] ** 2)
        tall = shapes[s, 4]
        if not _in_view(cam, x, y, tall / 2, math.sqrt(reach * reach + tall * tall / 4), width, height):
            continue
        index[n], kind[n], xs[n], ys[n], radii[n] = j, k, x - cam[0], y - cam[1], reach
        far[n] = math.sqrt(xs[n] ** 2 + ys[n] ** 2)
        if k == 0:  # half the width across the line of sight, lest a wall next to a long car be taken for one before it
            turn = placed[j, 2] - math.atan2(ys[n], xs[n])
            radii[n] = 0.5 * (shapes[s, 2] * abs(math.sin(turn)) + shapes[s, 3] * abs(math.cos(turn)))
        n += 1
    near_first = np.argsort(far[:n])
    wall_at = np.empty(walls.shape[0], np.int64)
    wall_far = np.empty(walls.shape[0])
    num_walls = 0
    for i in range(walls.shape[0]):
        px, py, qx, qy = walls[i, 0] - cam[0], walls[i, 1] - cam[1], walls[i, 2] - cam[0], walls[i, 3] - cam[1]
        mx, my = 0.5 * (px + qx), 0.5 * (py + qy)
        s = int(walls[i, 4])
        half = 0.5 * shapes[s, 2]
        if qx * py - qy * px <= 0.0:
            continue
        tall = shapes[s, 4]
        if not _in_view(
            cam, mx + cam[0], my + cam[1], tall / 2, math.sqrt(half * half + tall * tall / 4), width, height
        ):
            continue
        wall_at[num_walls] = i
        wall_far[num_walls] = math.sqrt(mx * mx + my * my)
        num_walls += 1
    wall_order = np.argsort(wall_far[:num_walls])
    after = np.zeros(n, np.int64)
    for i in range(n):
        for w in range(num_walls):
            wall = walls[wall_at[wall_order[w]]]
            px, py, qx, qy = wall[0] - cam[0], wall[1] - cam[1], wall[2] - cam[0], wall[3] - cam[1]
            if (qx - px) * (ys[i] - py) - (qy - py) * (xs[i] - px) <= 0.0:
                continue  # on the camera's side of the wall
            p_far, q_far = math.sqrt(px * px + py * py), math.sqrt(qx * qx + qy * qy)
            if xs[i] * py - ys[i] * px > -radii[i] * p_far and qx * ys[i] - qy * xs[i] > -radii[i] * q_far:
                after[i] = w + 1
    length = 0
    for w in range(num_walls + 1):
        for i in near_first:
            if after[i] == w:
                queue[length, 0], queue[length, 1] = kind[i], index[i]
                length += 1
        if w < num_walls:
            queue[length, 0], queue[length, 1] = 2, wall_at[wall_order[w]]
            length += 1
    return length


@_jit
def draw_queue(
    queue, length, placed, props, walls, shapes, pool, limb_shape, cam, light, haze, facades, canvas, gray, ids, seen,
    covered,
):  # fmt: skip
    """Draw the queue. With ``gray`` into ``canvas`` (see ``draw_object``); without, numbers into ``ids`` and counts."""
    starts, verts = pool[1], pool[6]
    tex, wall_num = facades
    clear, alpha = canvas[1], canvas[2]
    eye, sun = np.empty(15), np.empty(7)
    outline = (np.empty(48), np.empty(48), np.zeros(4, np.int64))
    bounds = np.zeros(4, np.int64)
    for q in range(length):
        j = queue[q, 1]
        x, y, cos, sin = 0.0, 0.0, 1.0, 0.0
        if queue[q, 0] == 0:
            shape = int(placed[j, 3])
            x, y = placed[j, 0], placed[j, 1]
            cos, sin = math.cos(placed[j, 2]), math.sin(placed[j, 2])
            if shape >= limb_shape:
                tall = shapes[shape, 4]
                left = (cam[1] - y) * cos - (cam[0] - x) * sin > 0.0
                swing = min(placed[j, 6] / 1.2, 1.2)
                phase = 2.0 * math.pi * placed[j, 5] / (0.8 * tall) * (1.0 if cos + sin > 0 else -1.0)
                pose_pedestrian(verts, starts[int(shapes[shape, 0])], tall, phase, swing, left)
        elif queue[q, 0] == 1:
            shape = int(props[j, 2])
        else:
            shape = int(walls[j, 4])
        view_from(x, y, cos, sin, cam, light, eye, sun)
        draw_object(
            int(shapes[shape, 0]), int(shapes[shape, 1]), pool, eye, sun, haze, tex, wall_num, canvas, gray, outline,
            bounds,
        )  # fmt: skip
        if gray:
            close_object(clear, alpha, bounds)
        else:
            a, b = mark_object(q, ids, alpha, bounds)
            seen[q], covered[q] = a, b


@_jit
def draw_shadows(queue, length, placed, shapes, cam, reach_x, reach_y, opacity, clear, alpha, acc):
    """Darken the ground under every actor and where the sun's shadow falls, ``reach`` meters per meter of height."""
    base = np.zeros((4, 3))
    for q in range(length):
        if queue[q, 0] != 0:
            continue
        j = queue[q, 1]
        s = int(placed[j, 3])
        c, d = math.cos(placed[j, 2]), math.sin(placed[j, 2])
        for k in range(4):
            u = (0.5 if k in (0, 3) else -0.5) * shapes[s, 2]
            v = (0.5 if k < 2 else -0.5) * shapes[s, 3]
            base[k, 0], base[k, 1] = placed[j, 0] + u * c - v * d, placed[j, 1] + u * d + v * c
        draw_shadow(cam, base, 0.0, 0.0, 0.55, clear, acc, alpha)
        if opacity > 0.0:
            tall = SHADOW_HEIGHT * shapes[s, 4]
            draw_shadow(cam, base, reach_x * tall, reach_y * tall, opacity, clear, acc, alpha)


@_jit
def rows_of_movers(cam, placed, num_placed, movers, shapes, limb_shape, shadow, width, height):
    """Return first and last (exclusive) row that any actor which is not parked, or its shadow, may touch."""
    first, last = height, 0
    for i in range(num_placed):
        if movers[int(placed[i, 4]), 5] == 1:
            continue
        shape = shapes[int(placed[i, 3])]
        tall, shaded = shape[4], SHADOW_HEIGHT * shape[4] if shadow[2] > 0.0 else 0.0
        # Room for hubs and lamps; a walker's limbs swing far beyond its footprint.
        reach = 0.5 * tall if placed[i, 3] >= limb_shape else 0.5 * math.sqrt(shape[2] ** 2 + shape[3] ** 2) + 0.1
        top, bottom, behind = 1e9, -1e9, 0
        leftmost, rightmost, deepest = 1e9, -1e9, NEAR_M
        for corner in range(12):
            x = placed[i, 0] - cam[0] + (reach if corner & 1 else -reach)
            y = placed[i, 1] - cam[1] + (reach if corner & 2 else -reach)
            z = (1.08 * tall if 4 <= corner < 8 else 0.0) - cam[2]
            if corner >= 8:
                x, y = x + shaded * shadow[0], y + shaded * shadow[1]
            depth = x * cam[9] + y * cam[10] + z * cam[11]
            right = x * cam[3] + y * cam[4] + z * cam[5]
            leftmost, rightmost, deepest = min(leftmost, right), max(rightmost, right), max(deepest, depth)
            if depth < NEAR_M:
                behind += 1
                continue
            row = cam[14] + cam[12] * (x * cam[6] + y * cam[7] + z * cam[8]) / depth
            top, bottom = min(top, row), max(bottom, row)
        # Beside the camera: what lies in front of it at all lies beyond the edge of the frame.
        is_right = leftmost > 0.0 and cam[13] + cam[12] * leftmost / deepest > width
        is_left = rightmost < 0.0 and cam[13] + cam[12] * rightmost / deepest < 0.0
        if behind == 12 or is_right or is_left:
            continue
        if behind > 0:
            return 0, height
        if bottom > 0.0 and top < height:
            first, last = min(first, int(max(top, 0.0))), max(last, int(min(bottom + 1.0, height)))
    return min(first, last), last


@_jit
def boxes_of(ids, length, scale, boxes):
    """Write the left, top, right and bottom of each number's pixels, in pixels of the full frame, to ``boxes``."""
    for q in range(length):
        boxes[q, 0], boxes[q, 1], boxes[q, 2], boxes[q, 3] = 1e9, 1e9, -1.0, -1.0
    for y in range(ids.shape[0]):
        for x in range(ids.shape[1]):
            q = ids[y, x]
            if q >= 0:
                boxes[q, 0], boxes[q, 1] = min(boxes[q, 0], x / scale), min(boxes[q, 1], y / scale)
                boxes[q, 2], boxes[q, 3] = max(boxes[q, 2], (x + 1) / scale), max(boxes[q, 3], (y + 1) / scale)


@_jit
def _shift(before, after, p, q, width, height):
    """Return how many pixels lie between ``p`` seen ``before`` and ``q`` seen ``after``; 0 when out of sight."""
    u = v = 0.0
    shift_u = shift_v = 0.0
    for k in range(2):
        cam = before if k == 0 else after
        place = p if k == 0 else q
        x, y, z = place[0] - cam[0], place[1] - cam[1], place[2] - cam[2]
        depth = x * cam[9] + y * cam[10] + z * cam[11]
        if depth < 0.3:
            return 0.0
        shift_u, shift_v = -u, -v
        u = cam[13] + cam[12] * (x * cam[3] + y * cam[4] + z * cam[5]) / depth
        v = cam[14] + cam[12] * (x * cam[6] + y * cam[7] + z * cam[8]) / depth
        if k == 0 and not (-0.15 * width < u < 1.15 * width and -0.15 * height < v < 1.15 * height):
            return 0.0
    return math.sqrt((u + shift_u) ** 2 + (v + shift_v) ** 2)


@_jit
def fastest(before, after, old, num_old, new, num_new, dt, shapes, limb_shape, left_m, right_m, width, height):
    """Return how far, in pixels, the fastest thing in sight moves between two timestamps ``dt`` seconds apart.

    ``old`` and ``new`` are actors as ``place`` writes them, by rising mover. Still things are looked for on a grid of
    pixels: on the ground, or next to the street (at x ``left_m`` and ``right_m``) where that is nearer.
    """
    best = 0.0
    p, q = np.empty(3), np.empty(3)
    j = 0
    for i in range(num_old):
        a = old[i]
        while j < num_new and new[j, 4] < a[4]:
            j += 1
        if j == num_new:
            break
        b = new[j]
        if b[4] != a[4]:
            continue
        shape = shapes[int(a[3])]
        stride = 1.6 * dt * a[6] if a[3] >= limb_shape else 0.0
        ca, sa, cb, sb = math.cos(a[2]), math.sin(a[2]), math.cos(b[2]), math.sin(b[2])
        for corner in range(8):
            along = (0.5 if corner & 1 else -0.5) * shape[2]
            aside = (0.5 if corner & 2 else -0.5) * shape[3]
            p[2] = q[2] = shape[4] if corner & 4 else 0.0
            p[0], p[1] = a[0] + along * ca - aside * sa, a[1] + along * sa + aside * ca
            q[0], q[1] = b[0] + (along + stride) * cb - aside * sb, b[1] + (along + stride) * sb + aside * cb
            best = max(best, _shift(before, after, p, q, width, height))
    moving = 0.0
    for k in range(12):
        moving += abs(after[k] - before[k])
    if moving == 0.0:
        return best
    for row in range(7):
        for col in range(7):
            ox, oy = (col / 6.0 * width - before[13]) / before[12], (row / 6.0 * height - before[14]) / before[12]
            dx = before[9] + ox * before[3] + oy * before[6]
            dy = before[10] + ox * before[4] + oy * before[7]
            dz = before[11] + ox * before[5] + oy * before[8]
            far = 60.0
            if dz < -1e-3:
                far = min(far, -before[2] / dz)
            gap = (right_m if dx > 0.0 else left_m) - before[0]
            if gap * dx > 0.0:
                far = min(far, gap / dx)
            p[0], p[1], p[2] = before[0] + far * dx, before[1] + far * dy, before[2] + far * dz
            best = max(best, _shift(before, after, p, p, width, height))
    return best

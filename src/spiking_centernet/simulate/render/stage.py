"""Numba kernels of a frame of the wide world: where its objects are, who stands before whom, and drawing them.

An object is a span of primitives that moves as one; people and animals also have joints (``scene.bodies``).
"""

import math

import numpy as np

from spiking_centernet.simulate.render.ground import UNSEEN
from spiking_centernet.simulate.render.raster import _edges, close_object, draw_shadow, mark_object, polygon_outline
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
    ZERO,
    U,
    V,
    cast_rays,
    jit,
    sample,
)  # fmt: skip
from spiking_centernet.simulate.render.surfaces import TEXELS, WORK, fill_limb, fill_polygon
from spiking_centernet.utils.compile_cache import compiled

POLYGON, LIMB = 0, 1
"""Kinds of primitive: a flat textured polygon, a limb between two balls."""

THING, HANGING, BACKDROP, FLOOR = 0, 1, 2, 3
"""Layers, from near to far: things by their distance, what hangs on walls, walls and tree lines, then what lies flat:
``FLOOR`` on what is ``FLOOR + 1``, and so on."""

_moves = compiled(error_model="numpy")


@_moves
def travelled(motion, t_s):
    """Return meters gone and speed at a time: ``motion`` is x, y, z, heading, speed, start, ramp, turn rate.

    Positive ``ramp`` seconds: stands until ``start``, then speeds up; negative: slows down from ``start`` on.
    """
    speed, start, ramp = motion[4], motion[5], motion[6]
    since = t_s - start
    if ramp > 0.0:
        if since <= 0.0:
            return 0.0, 0.0
        if since < ramp:
            return speed * since * since / (2.0 * ramp), speed * since / ramp
        return speed * (since - 0.5 * ramp), speed
    if ramp < 0.0:
        if since <= 0.0:
            return speed * since, speed
        since = min(since, -ramp)
        return speed * (since + since * since / (2.0 * ramp)), speed * (1.0 + since / ramp)
    return speed * t_s, speed


@_moves
def place_objects(motions, t_s, poses):
    """Write x, y, z, heading, meters gone and speed of every object to ``poses`` [O, 6]."""
    for i in range(motions.shape[0]):
        gone, speed = travelled(motions[i], t_s)
        heading = motions[i, 3] + motions[i, 7] * t_s
        poses[i, 0] = motions[i, 0] + gone * math.cos(motions[i, 3])
        poses[i, 1] = motions[i, 1] + gone * math.sin(motions[i, 3])
        poses[i, 2], poses[i, 3], poses[i, 4], poses[i, 5] = motions[i, 2], heading, gone, speed


@_moves
def to_world(first, last, prims, local, world, pose, sway, t_s):
    """Write the world's corners of primitives ``first..last``; ``sway`` is meters per meter of height, Hz, phase."""
    starts, counts = prims[1], prims[2]
    c, s = math.cos(pose[3]), math.sin(pose[3])
    lean = sway[0] * math.sin(2.0 * math.pi * sway[1] * t_s + sway[2]) if sway[0] > 0.0 else 0.0
    for v in range(starts[first], starts[last - 1] + counts[last - 1] + 1):
        x, y, z = local[v, 0], local[v, 1], local[v, 2]
        world[v, 0] = pose[0] + x * c - y * s + lean * z
        world[v, 1] = pose[1] + x * s + y * c + 0.6 * lean * z
        world[v, 2] = pose[2] + z


@_moves
def _is_seen(cam, first, last, prims, world, width, height):
    """Return whether any part may be in the frame, and the distance of the middle of the object."""
    starts, counts, size = prims[1], prims[2], prims[5]
    left, right, top, bottom = 1e9, -1e9, 1e9, -1e9
    near, mid, num = False, 0.0, 0
    front = False
    for prim in range(first, last):
        radius = max(size[prim, 0], size[prim, 1])
        for v in range(starts[prim], starts[prim] + counts[prim]):
            x, y, z = world[v, 0] - cam[0], world[v, 1] - cam[1], world[v, 2] - cam[2]
            depth = x * cam[9] + y * cam[10] + z * cam[11]
            mid += math.sqrt(x * x + y * y + z * z)
            num += 1
            if depth < 0.3 + radius:
                near = True
                front |= depth > -radius
                continue
            front = True
            u = cam[13] + cam[12] * (x * cam[3] + y * cam[4] + z * cam[5]) / depth
            w = cam[14] + cam[12] * (x * cam[6] + y * cam[7] + z * cam[8]) / depth
            reach = 1.5 * radius * cam[12] / depth
            left, right = min(left, u - reach), max(right, u + reach)
            top, bottom = min(top, w - reach), max(bottom, w + reach)
    seen = front and (near or (left < width and right > 0.0 and top < height and bottom > 0.0))
    return seen, mid / max(num, 1)


@_moves
def queue_objects(cam, objects, prims, world, width, height, queue, far):
    """Write the objects that may be seen to ``queue``, from near to far within each layer; return how many.

    ``objects`` [O, 4] holds first and last primitive, layer, and whether its parts are sorted by distance.
    """
    n = 0
    for i in range(objects.shape[0]):
        seen, away = _is_seen(cam, objects[i, 0], objects[i, 1], prims, world, width, height)
        if seen:
            queue[n], far[n] = i, away + 1e5 * objects[i, 2]
            n += 1
    order = np.argsort(far[:n])
    sorted_queue = queue[:n][order]
    for k in range(n):
        queue[k] = sorted_queue[k]
    return n


@jit
def _draw_parts(
    i, objects, prims, world, pose, cam, sun, textures, haze, canvas, work, index, gray, px, py, box, bounds, t_s
):  # fmt: skip
    """Draw the primitives of one object, adding up their coverage in the canvas's alpha."""
    kinds, starts, counts, look, axes, size, own_light, two_sided, drift = prims
    clear, acc = canvas[1], canvas[3]
    first, last = objects[i, 0], objects[i, 1]
    bounds[0], bounds[1], bounds[2], bounds[3] = clear.shape[1], clear.shape[0], 0, 0
    order = np.arange(first, last)
    if objects[i, 3]:
        away = np.empty(last - first)
        for k in range(last - first):
            a, b = world[starts[first + k]], world[starts[first + k] + counts[first + k] - 1]
            x, y = 0.5 * (a[0] + b[0]) - cam[0], 0.5 * (a[1] + b[1]) - cam[1]
            z = 0.5 * (a[2] + b[2]) - cam[2]
            away[k] = math.sqrt(x * x + y * y + z * z) - max(size[first + k, 0], size[first + k, 1])
        order = first + np.argsort(away)
    c, s = math.cos(pose[3]), math.sin(pose[3])
    along_u, along_v, normal, lit = np.empty(3), np.empty(3), np.empty(3), np.empty(5)
    for prim in order:
        start = starts[prim]
        if kinds[prim] == LIMB:
            for k in range(5):
                lit[k] = look[prim, k]
            fill_limb(
                cam, world[start], world[start + 1], size[prim, 0], size[prim, 1], size[prim, 2], 37.0 * prim, sun,
                lit, textures, haze, canvas, work, index, gray, bounds,
            )  # fmt: skip
            continue
        anchor = world[start + counts[prim]]
        a, b, d = world[start], world[start + 1], world[start + 2]
        normal[0] = (b[1] - a[1]) * (d[2] - a[2]) - (b[2] - a[2]) * (d[1] - a[1])
        normal[1] = (b[2] - a[2]) * (d[0] - a[0]) - (b[0] - a[0]) * (d[2] - a[2])
        normal[2] = (b[0] - a[0]) * (d[1] - a[1]) - (b[1] - a[1]) * (d[0] - a[0])
        norm = math.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2)
        if norm == 0.0:
            continue
        normal /= norm
        side = normal[0] * (cam[0] - a[0]) + normal[1] * (cam[1] - a[1]) + normal[2] * (cam[2] - a[2])
        if side <= 0.0:
            if not two_sided[prim]:
                continue
            normal *= -1.0
        m = polygon_outline(cam, world, start, counts[prim], px, py)
        if m == 0 or not _edges(px, py, m, acc, box):
            continue
        turn = pose[4] / size[prim, 0] if size[prim, 0] > 0.0 else 0.0
        ct, st = math.cos(turn), math.sin(turn)
        for k in range(2):
            u0, u1, u2 = axes[prim, 0], axes[prim, 1], axes[prim, 2]
            v0, v1, v2 = axes[prim, 3], axes[prim, 4], axes[prim, 5]
            x = ct * u0 + st * v0 if k == 0 else ct * v0 - st * u0
            y = ct * u1 + st * v1 if k == 0 else ct * v1 - st * u1
            z = ct * u2 + st * v2 if k == 0 else ct * v2 - st * u2
            axis = along_u if k == 0 else along_v
            axis[0], axis[1], axis[2] = x * c - y * s, x * s + y * c, z
        if size[prim, 0] > 0.0:  # the texture's middle, not its corner, is at the hub
            anchor = anchor - (along_u + along_v) * (2.0 * size[prim, 0] ** 2 / TEXELS)
        if drift[prim] != 0.0:  # a pattern that glides over its surface, as glints over water
            shift = drift[prim] * t_s
            anchor = anchor + shift * np.array((1.0, 0.37, 0.0))
        for k in range(5):
            lit[k] = look[prim, k]
        if own_light[prim] == 0.0:
            facing = normal[0] * sun[2] + normal[1] * sun[3] + normal[2] * sun[4]
            lit[0] *= sun[0] + sun[1] * max(facing, 0.0)
        fill_polygon(
            box, cam, anchor, along_u, along_v, normal, lit, textures, haze, canvas, work, index, gray
        )  # fmt: skip
        bounds[0], bounds[1] = min(bounds[0], box[0]), min(bounds[1], box[1])
        bounds[2], bounds[3] = max(bounds[2], box[2]), max(bounds[3], box[3])


@jit
def draw_stage(
    cam, queue, num, objects, prims, world, poses, shadows, sun, textures, haze, canvas, gray, ids, seen, covered, t_s
):  # fmt: skip
    """Draw the queue. With ``gray`` into the canvas; without, things alone, as numbers into ``ids`` and counts.

    ``shadows`` [O, 4] is half length and half width of the footprint, height, and darkness; ``sun`` as in
    ``fill_limb`` with the sun's shift x, y per meter of height after it.
    """
    work, index = np.ones(WORK, np.float32), np.empty(INDICES, np.int32)
    px, py, box, bounds = np.empty(64), np.empty(64), np.zeros(4, np.int64), np.zeros(4, np.int64)
    clear, alpha, acc = canvas[1], canvas[2], canvas[3]
    shaded = False
    for q in range(num):
        i = queue[q]
        if objects[i, 2] != THING and not gray:
            break
        if objects[i, 2] >= FLOOR and not shaded:
            shaded = True
            _darken(queue, q, objects, poses, shadows, sun, cam, clear, acc, alpha)
        _draw_parts(
            i, objects, prims, world, poses[i], cam, sun, textures, haze, canvas, work, index, gray, px, py, box,
            bounds, t_s,
        )  # fmt: skip
        if bounds[2] <= bounds[0] or bounds[3] <= bounds[1]:
            continue
        if gray:
            close_object(clear, alpha, bounds)
        else:
            seen[q], covered[q] = mark_object(q, ids, alpha, bounds)


@jit
def _darken(queue, num, objects, poses, shadows, sun, cam, clear, acc, alpha):
    base = np.zeros((4, 3))
    for q in range(num):
        i = queue[q]
        if shadows[i, 3] <= 0.0:
            continue
        c, s = math.cos(poses[i, 3]), math.sin(poses[i, 3])
        for k in range(4):
            u = (1.0 if k in (0, 3) else -1.0) * shadows[i, 0]
            v = (1.0 if k < 2 else -1.0) * shadows[i, 1]
            base[k, 0], base[k, 1] = poses[i, 0] + u * c - v * s, poses[i, 1] + u * s + v * c
        draw_shadow(cam, base, 0.0, 0.0, shadows[i, 3], clear, acc, alpha)
        if sun[1] > 0.25:
            tall = shadows[i, 2]
            draw_shadow(cam, base, sun[5] * tall, sun[6] * tall, 0.4, clear, acc, alpha)


@jit
def draw_sky(cam, sky, textures, out, clear):
    """Add the sky where the frame is clear: ``sky`` is luminance at horizon and zenith, clouds, their texture."""
    width = out.shape[1]
    work, index = np.ones(WORK, np.float32), np.empty(INDICES, np.int32)
    lights, shares = out.reshape(out.size), clear.reshape(clear.size)
    low, high, clouds = np.float32(sky[0]), np.float32(sky[1]), np.float32(sky[2])
    per_texture = textures.shape[1]
    first = int(sky[3]) * per_texture
    cloud = textures.reshape(textures.size)[first : first + per_texture]
    tile, foot = np.float32(1.5 * TEXELS), np.float32(max(1.5 * TEXELS / cam[12], 1.0))
    n = np.uint64(0)
    for pixel in range(out.size):
        if shares[pixel] >= np.float32(UNSEEN):
            index[PIXEL + n] = pixel
            n += np.uint64(1)
        if n == PIXELS or (n > np.uint64(0) and pixel == out.size - 1):
            cast_rays(cam, width, work, index, n)
            for i in range(n):
                x, y, z = work[DX + i], work[DY + i], work[DZ + i]
                per = ONE / np.sqrt(x * x + y * y + z * z)
                work[U + i], work[V + i], work[DZ + i] = tile * x * per, tile * z * per, z * per
                work[FOOT_U + i], work[FOOT_V + i] = foot, foot
            sample(cloud, TEXELS, TEXELS, work, index, n)
            for i in range(n):
                up = max(work[DZ + i], ZERO)
                lum = low + (high - low) * up / (up + np.float32(0.4))
                lum *= ONE + clouds * (work[VALUE + i] - ONE)
                at = np.uint32(index[PIXEL + i])
                lights[at] += shares[at] * lum
            n = np.uint64(0)


@_moves
def blur(image, radius_taps, passed):
    """Blur a frame in place by symmetric taps (middle first), repeating the edge; ``passed`` is room for another."""
    height, width = image.shape
    reach = len(radius_taps) - 1
    for y in range(height):
        for x in range(width):
            passed[y, x] = radius_taps[0] * image[y, x]
        for k in range(1, reach + 1):
            for x in range(k, width - k):
                passed[y, x] += radius_taps[k] * (image[y, x - k] + image[y, x + k])
            for side in range(min(k, width)):
                for x in (side, width - 1 - side):
                    passed[y, x] += radius_taps[k] * (image[y, max(x - k, 0)] + image[y, min(x + k, width - 1)])
    for y in range(height):
        for x in range(width):
            image[y, x] = radius_taps[0] * passed[y, x]
        for k in range(1, reach + 1):
            above, below = max(y - k, 0), min(y + k, height - 1)
            for x in range(width):
                image[y, x] += radius_taps[k] * (passed[above, x] + passed[below, x])


@_moves
def fastest_shift(before, after, objects, local, prims, old, new, swing, width, height):
    """Return how far in pixels the fastest thing in sight moves between two timestamps.

    ``old`` and ``new`` are poses, ``swing`` meters that limbs may move besides. Still things are looked for on a grid
    of directions, at the ground or 30 m away.
    """
    starts, counts = prims[1], prims[2]
    best = 0.0
    p, q = np.empty(3), np.empty(3)
    for i in range(objects.shape[0]):
        if objects[i, 2] != THING:
            continue
        first, last = starts[objects[i, 0]], starts[objects[i, 1] - 1] + counts[objects[i, 1] - 1]
        step = max((last - first) // 6, 1)
        ca, sa, cb, sb = math.cos(old[i, 3]), math.sin(old[i, 3]), math.cos(new[i, 3]), math.sin(new[i, 3])
        for v in range(first, last, step):
            x, y, z = local[v, 0], local[v, 1], local[v, 2]
            p[0], p[1], p[2] = old[i, 0] + x * ca - y * sa, old[i, 1] + x * sa + y * ca, old[i, 2] + z
            q[0], q[1], q[2] = new[i, 0] + x * cb - y * sb, new[i, 1] + x * sb + y * cb, new[i, 2] + z
            moved, per_m = _shift(before, after, p, q, width, height)
            best = max(best, moved + swing[i] * per_m)
    for row in range(5):
        for col in range(5):
            ox, oy = (col / 4.0 * width - before[13]) / before[12], (row / 4.0 * height - before[14]) / before[12]
            dx = before[9] + ox * before[3] + oy * before[6]
            dy = before[10] + ox * before[4] + oy * before[7]
            dz = before[11] + ox * before[5] + oy * before[8]
            far = 30.0
            if dz < -1e-3:
                far = min(far, -before[2] / dz)
            p[0], p[1], p[2] = before[0] + far * dx, before[1] + far * dy, max(before[2] + far * dz, 0.0)
            best = max(best, _shift(before, after, p, p, width, height)[0])
    return best


@_moves
def _shift(before, after, p, q, width, height):
    """Return how many pixels lie between ``p`` seen ``before`` and ``q`` seen ``after``, and pixels a meter there."""
    x, y, z = p[0] - before[0], p[1] - before[1], p[2] - before[2]
    depth = x * before[9] + y * before[10] + z * before[11]
    if depth < 0.3:
        return 0.0, 0.0
    u = before[13] + before[12] * (x * before[3] + y * before[4] + z * before[5]) / depth
    v = before[14] + before[12] * (x * before[6] + y * before[7] + z * before[8]) / depth
    if not (-0.1 * width < u < 1.1 * width and -0.1 * height < v < 1.1 * height):
        return 0.0, 0.0
    x, y, z = q[0] - after[0], q[1] - after[1], q[2] - after[2]
    depth = x * after[9] + y * after[10] + z * after[11]
    if depth < 0.3:
        return 0.0, 0.0
    u -= after[13] + after[12] * (x * after[3] + y * after[4] + z * after[5]) / depth
    v -= after[14] + after[12] * (x * after[6] + y * after[7] + z * after[8]) / depth
    return math.sqrt(u * u + v * v), after[12] / depth

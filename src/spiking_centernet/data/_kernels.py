"""Compiled single passes over raw DAT records and over events."""

from typing import Any

import numpy as np

from spiking_centernet.utils.compile_cache import compiled

RAW_DTYPE = np.dtype([("t", "<u4"), ("w", "<u4")])
"""One DAT record: time in microseconds, packed address and polarity."""

PAIRED_DTYPE = np.dtype(
    {"names": ["t", "xy", "p"], "formats": ["<i8", "<u4", "u1"], "offsets": [0, 8, 12], "itemsize": 13}
)
"""EVENT_DTYPE with x and y as one field: an access less for every event, a third faster."""

DISORDER_US = 10_000
"""A step back of up to this is disorder of the readout: an event moves by one micro bin of a 100 ms window at most."""


def _jit(function: Any) -> Any:
    return compiled()(function)


@_jit
def decode_records(raw, out, x_bits, y_bits, height, width):
    """Unpack records into events with a running maximum of time.

    Returns:
        how many events came late, the index of the first one outside the sensor (-1 if none) and the index of the first
        one after the clock jumped back (-1 if none).
    """
    x_mask = np.uint32((1 << x_bits) - 1)
    y_mask = np.uint32((1 << y_bits) - 1)
    y_shift, p_shift = np.uint32(x_bits), np.uint32(x_bits + y_bits)
    height, width = np.uint32(height), np.uint32(width)
    latest = np.uint32(0)
    num_late, outside, jumped = 0, False, False
    for i in range(len(raw)):
        t, w = raw[i].t, raw[i].w
        if t < latest:
            num_late += 1
            jumped |= latest - t > DISORDER_US
            t = latest
        latest = t
        x = w & x_mask
        y = (w >> y_shift) & y_mask
        outside |= (x >= width) | (y >= height)
        out[i].t = t
        out[i].xy = x | (y << np.uint32(16))
        out[i].p = (w >> p_shift) & np.uint32(1)
    if not outside and not jumped:
        return num_late, -1, -1
    first_outside, first_jumped = -1, -1
    for i in range(len(raw)):
        w = raw[i].w
        if first_outside < 0 and ((w & x_mask) >= width or ((w >> y_shift) & y_mask) >= height):
            first_outside = i
        if first_jumped < 0 and out[i].t - np.int64(raw[i].t) > DISORDER_US:
            first_jumped = i
    return num_late, first_outside, first_jumped


@_jit
def scan_records(raw, x_bits, y_bits):
    """Count what is out of order.

    Returns:
        the number of late events, the longest run of them, the latest time, one past the largest y and x, and how late
        an event comes at most.
    """
    x_mask = np.uint32((1 << x_bits) - 1)
    y_mask = np.uint32((1 << y_bits) - 1)
    y_shift = np.uint32(x_bits)
    latest, largest_x, largest_y = np.uint32(0), np.uint32(0), np.uint32(0)
    num_late, run, longest_run, back = 0, 0, 0, np.uint32(0)
    for i in range(len(raw)):
        t, w = raw[i].t, raw[i].w
        if t < latest:
            back = max(back, latest - t)
            num_late += 1
            run += 1
            longest_run = max(longest_run, run)
        else:
            run = 0
            latest = t
        largest_x = max(largest_x, w & x_mask)
        largest_y = max(largest_y, (w >> y_shift) & y_mask)
    return num_late, longest_run, np.int64(latest), np.int64(largest_y) + 1, np.int64(largest_x) + 1, np.int64(back)


@_jit
def find_record(raw, t_us, look_back):
    """Return the index of the first record at or after a time, exact while fewer than ``look_back`` in a row come late.

    Bisection may land behind an early outlier. Whatever lies between that outlier and the landing place came late, so
    stepping back over runs of late records finds it.
    """
    low, high = 0, len(raw)
    while low < high:
        middle = (low + high) >> 1
        if np.int64(raw[middle].t) < t_us:
            low = middle + 1
        else:
            high = middle
    found = True
    while found:
        found = False
        for i in range(max(0, high - look_back), high):
            if np.int64(raw[i].t) >= t_us:
                high = i
                found = True
                break
    return high


@_jit
def bin_records(raw, cube, x_bits, y_bits, height, width, places, start_us, stop_us, num_steps, bins, count):
    """Fill a zeroed flat cube straight from raw records, with a running maximum of time.

    ``raw`` must all lie in the window once the running maximum is applied. ``places`` says where in a plane of the cube
    the sensor's rows begin and its columns lie, None where the cube has the sensor's pixels.

    Returns:
        how many events came late, the index of the first one outside the sensor (-1 if none; such events are never
        written) and the index of the first one after the clock jumped back (-1 if none).
    """
    x_mask = np.uint32((1 << x_bits) - 1)
    y_mask = np.uint32((1 << y_bits) - 1)
    y_shift, p_shift = np.uint32(x_bits), np.uint32(x_bits + y_bits)
    height, width = np.uint32(height), np.uint32(width)
    num_cells = num_steps * bins
    plane = len(cube) // (2 * num_cells)
    polarity_step = np.uintp(bins * plane)
    latest, num_late, first_outside, first_jumped = np.int64(0), 0, -1, -1
    i = 0
    for cell in range(num_cells):
        # Ceiling division: the first microsecond that belongs to the next cell.
        cell_stop_us = start_us - (-(cell + 1) * (stop_us - start_us)) // num_cells
        base = np.uintp(((cell // bins) * 2 * bins + cell % bins) * plane)
        while i < len(raw):
            t, w = np.int64(raw[i].t), raw[i].w
            if t >= cell_stop_us:
                break
            if t < latest:
                num_late += 1
                if latest - t > DISORDER_US and first_jumped < 0:
                    first_jumped = i
            else:
                latest = t
            x = w & x_mask
            y = (w >> y_shift) & y_mask
            if (x >= width) | (y >= height):
                if first_outside < 0:
                    first_outside = i
            else:
                # Unsigned, so that the compiler need not allow for an index that counts from the end.
                place = base + np.uintp((w >> p_shift) & np.uint32(1)) * polarity_step
                # numba drops the branch that the type of places rules out.
                if places is None:
                    place += np.uintp(y * width + x)
                else:
                    place += places[0][y] + places[1][x]
                if count:
                    cube[place] += cube[place] < 255
                else:
                    cube[place] = 1
            i += 1
    return num_late, first_outside, first_jumped


@_jit
def bin_events(events, cube, height, width, places, start_us, stop_us, num_steps, bins, count):
    """Fill a zeroed flat cube from PAIRED_DTYPE events in any order; ``places`` as in ``bin_records``.

    Returns:
        the index of the first event of the window that is outside the sensor or has no polarity (-1 if none); such
        events are never written.
    """
    length, num_cells = stop_us - start_us, num_steps * bins
    plane = len(cube) // (2 * num_cells)
    height, width = np.uint32(height), np.uint32(width)
    polarity_step = np.uintp(bins * plane)
    first_outside = -1
    low, high, base = np.int64(0), np.int64(0), np.uintp(0)
    for i in range(len(events)):
        t = events[i].t
        if t < low or t >= high:
            if t < start_us or t >= stop_us:
                continue
            cell = (t - start_us) * num_cells // length
            low = start_us - (-cell * length) // num_cells
            high = start_us - (-(cell + 1) * length) // num_cells
            base = np.uintp(((cell // bins) * 2 * bins + cell % bins) * plane)
        xy, p = events[i].xy, np.uintp(events[i].p)
        x, y = xy & np.uint32(0xFFFF), xy >> np.uint32(16)
        if (x >= width) | (y >= height) | (p > 1):
            if first_outside < 0:
                first_outside = i
            continue
        place = base + p * polarity_step
        if places is None:
            place += np.uintp(y * width + x)
        else:
            place += places[0][y] + places[1][x]
        if count:
            cube[place] += cube[place] < 255
        else:
            cube[place] = 1
    return first_outside


@_jit
def resample(planes, rows, columns, top, left, out):
    """Copy ``planes[:, rows[i], columns[j]]`` to ``out[:, top + i, left + j]``."""
    rows, columns = rows.astype(np.uintp), columns.astype(np.uintp)
    for plane in range(len(planes)):
        for i in range(len(rows)):
            source, target = planes[plane, rows[i]], out[plane, top + i, left:]
            for j in range(len(columns)):
                target[j] = source[columns[j]]


@_jit
def outside_dead_time(t_us, pixel, num_pixels, dead_us):
    """Return which events, sorted by time, come at least ``dead_us`` after the last one kept of their pixel."""
    free_us = np.full(num_pixels, np.iinfo(np.int64).min)
    keep = np.zeros(len(t_us), np.bool_)
    for i in range(len(t_us)):
        if t_us[i] >= free_us[pixel[i]]:
            keep[i] = True
            free_us[pixel[i]] = t_us[i] + dead_us
    return keep

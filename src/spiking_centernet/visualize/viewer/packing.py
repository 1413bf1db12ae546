"""Arrays as short texts for the viewer's page: bytes, deflated (zlib, RFC 1950), as base64."""

import base64
import zlib

import numpy as np

TIME_BINS = 256
"""Times within a frame's interval are kept to so many parts: 0.2 ms at 50 ms between frames."""


def pack_bytes(values: np.ndarray) -> str:
    """Return uint8 values of any shape as text."""
    assert values.dtype == np.uint8
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values).tobytes(), 6)).decode("ascii")


def pack_bits(values: np.ndarray) -> str:
    """Return which values of an array of any shape are not zero as text, eight to a byte, the first one highest."""
    return pack_bytes(np.packbits(values != 0))


def pack_events(events: np.ndarray, *, start_us: int, length_us: int, at_most: int) -> dict[str, int | str]:
    """Return the events of an interval as a JSON object.

    Column by column, since equal bytes next to each other deflate well: the time as one of ``TIME_BINS`` parts of the
    interval, low and high bytes of x, low and high bytes of y, polarities as bits.

    Args:
        events: EVENT_DTYPE [N], in time order.
        start_us: begin of the interval in microseconds.
        length_us: its length.
        at_most: events to keep; of more, every second, third, ... is.

    Returns:
        ``num`` events there were, ``stride`` of which one was kept, ``kept``, and their columns as ``data``.
    """
    stride = max(1, -(-len(events) // at_most))
    kept = events[::stride]
    part = np.clip((kept["t"] - start_us) * TIME_BINS // length_us, 0, TIME_BINS - 1).astype(np.uint8)
    x, y = kept["x"].astype(np.uint16), kept["y"].astype(np.uint16)
    columns = (part, x & 255, x >> 8, y & 255, y >> 8, np.packbits(kept["p"] != 0))
    data = pack_bytes(np.concatenate([column.astype(np.uint8) for column in columns]))
    return {"num": len(events), "stride": stride, "kept": len(kept), "data": data}

"""What glibc does with memory that is freed: keep it for the next step, or give it back to the system.

Other C libraries are left as they are.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
"""Options of glibc's ``mallopt``, from malloc.h."""

LARGE_BYTES = 4 << 20
"""Activations of a large sensor are larger; what this saves, benchmarks/worker_memory.py measures."""

NEVER = -1
"""Threshold of trimming that is never reached, from mallopt(3)."""

MOST_MAPPED = 65_536
"""How many blocks glibc maps at most when nothing is set, from mallopt(3)."""

LARGEST_BYTES = 32 << 20
"""Size up to which glibc comes to keep blocks by itself, DEFAULT_MMAP_THRESHOLD_MAX in mallopt(3)."""


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep freed memory in the process, so that every training step finds that of the one before.

    Left to itself, glibc maps every block above 32 MiB afresh and the system fills it with zeros, page by page. What
    that costs a training step, benchmarks/sequences.py measures. In the end all of it is given back.
    """
    libc = _set({M_MMAP_MAX: 0, M_TRIM_THRESHOLD: NEVER})
    try:
        yield
    finally:
        _set({M_MMAP_MAX: MOST_MAPPED, M_MMAP_THRESHOLD: LARGEST_BYTES, M_TRIM_THRESHOLD: 2 * LARGEST_BYTES})
        if libc is not None:
            libc.malloc_trim(0)


def give_memory_back() -> None:
    """Return large blocks to the system when they are freed.

    Left to itself, glibc keeps them for later, in pieces that the next window does not fit into.
    """
    _set({M_MMAP_MAX: MOST_MAPPED, M_MMAP_THRESHOLD: LARGE_BYTES, M_TRIM_THRESHOLD: LARGE_BYTES})


def _set(options: dict[int, int]) -> Any:
    """Set options and return the C library, None if it is another one than glibc."""
    try:
        libc = ctypes.CDLL(None)
        mallopt = libc.mallopt
    except (OSError, AttributeError, TypeError):
        return None
    for option, value in options.items():
        mallopt(option, value)
    return libc

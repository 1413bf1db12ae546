"""Functions compiled by numba, wherever the package lies."""

from collections.abc import Callable
from typing import Any

import numba


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function when it is first called and keeps the code for the next process.

    numba keeps it next to the source, in ``NUMBA_CACHE_DIR`` or in the user's cache. Where none of them can be written
    to (a read-only installation, a user without a home) the function is compiled in every process again.

    Args:
        options: of ``numba.njit``; ``cache`` and ``nogil`` are set.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(cache=True, nogil=True, **options)(function)
        except RuntimeError:
            return numba.njit(nogil=True, **options)(function)

    return decorate

"""Making the next items while the last one is being worked on."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
_END = object()


def prefetch(items: Iterable[Item], *, ahead: int = 2) -> Iterator[Item]:
    """Yield the items in their order while a thread makes the next ones.

    A thread and not a process: reading and binning run in compiled code that leaves Python to others, a process would
    import the package once more and copy every batch, and on two cores it would fight with the threads that compute.

    Args:
        items: iterated in the thread alone.
        ahead: how many items are made in advance.

    Raises:
        Exception: whatever making an item raises, when its turn comes.
    """
    iterator = iter(items)
    pool = ThreadPoolExecutor(1, "prefetch")
    try:
        pending = deque(pool.submit(next, iterator, _END) for _ in range(ahead))
        while (item := pending.popleft().result()) is not _END:
            pending.append(pool.submit(next, iterator, _END))
            yield item  # pyright: ignore[reportReturnType]
    finally:
        pool.shutdown(cancel_futures=True)

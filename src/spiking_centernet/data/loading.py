"""Samples -> batches; errors of reading that survive a loading process; the next items made ahead in a thread."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch.utils.data import Dataset

from spiking_centernet.errors import DatasetError, SpikingCenterNetError
from spiking_centernet.structures import Batch, Sample


def collate(samples: Sequence[Sample]) -> Batch:
    """Join samples of one size into a batch, time first.

    Raises:
        DatasetError: there are no samples, or they differ in size.
    """
    shapes = {tuple(sample.cube.shape): sample.recording for sample in samples}
    if len(shapes) != 1:
        sizes = ", ".join(f"{list(shape)} of {name}" for shape, name in shapes.items()) or "no samples"
        raise DatasetError(f"a batch needs cubes of one size, got {sizes}; load one kind of recording at a time")
    return Batch(
        # numpy copies in the calling thread; torch would start threads of its own next to those that compute.
        torch.from_numpy(np.stack([sample.cube.numpy() for sample in samples], axis=1)),
        [sample.boxes for sample in samples],
        [sample.t_us for sample in samples],
        [sample.recording for sample in samples],
        [sample.calibration for sample in samples],
        [sample.source_hw for sample in samples],
        [sample.earlier for sample in samples],
    )


class Guarded(Dataset):
    """A data set whose errors survive a loading process: it hands them on as items, :func:`collate_guarded` as batches.

    torch would raise them with the process's whole traceback as their message.
    """

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)  # pyright: ignore[reportArgumentType]

    def __getitem__(self, index: int) -> Sample | SpikingCenterNetError:
        """Return a sample, or the error of reading it."""
        try:
            return self.dataset[index]
        except SpikingCenterNetError as error:
            return error


def collate_guarded(samples: Sequence[Sample | SpikingCenterNetError]) -> Batch | SpikingCenterNetError:
    """Join samples as :func:`collate` does, or return the first error among them or of joining them."""
    whole = [sample for sample in samples if isinstance(sample, Sample)]
    if len(whole) < len(samples):
        return next(sample for sample in samples if not isinstance(sample, Sample))
    try:
        return collate(whole)
    except SpikingCenterNetError as error:
        return error


def raising(batches: Iterable[Batch | SpikingCenterNetError]) -> Iterator[Batch]:
    """Yield batches; raise the error that stands where one should be."""
    for batch in batches:
        if isinstance(batch, SpikingCenterNetError):
            raise batch
        yield batch


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

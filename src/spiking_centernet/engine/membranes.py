"""Membranes between calls: handed out as tensors, taken back once nobody holds them."""

import math
import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from spiking_centernet.engine.network import Network
from spiking_centernet.errors import ConfigError
from spiking_centernet.nn.blocks import State

Shape = tuple[int, int, int, int]


class MembranePool:
    """Memory for the membranes of every block, float32 [B, h, w, padded channels] each.

    A call reads the old membranes and writes new ones beside them, so a caller may keep a state and go back to it. What
    the caller lets go of is used again: a stream holds two states in memory, however long it runs.

    Args:
        network: whose neuron layers they belong to.
        shapes: of every block.
    """

    def __init__(self, network: Network, shapes: list[Shape]):
        self._shapes = shapes
        self._widths = [block.widths for block in network.blocks]
        self._names = [name for block in network.blocks for name in block.names]
        sizes = [math.prod(shape) for shape in shapes]
        self._starts = [sum(sizes[:i]) for i in range(len(sizes))]
        self._size = sum(sizes)
        self._arrays: list[np.ndarray] = []

    def take(self) -> tuple[State, list[int]]:
        """Return a state whose memory nobody else holds, and the address of every block in it."""
        return self._views(torch.from_numpy(self._free()))

    def place(self, state: State) -> tuple[State, list[int]]:
        """Return a state with the same values in this pool's memory, itself if it lies there, and the addresses.

        Raises:
            ConfigError: the state does not fit the cube or the network.
        """
        own, addresses = self._like(state)
        if own is None:
            own, addresses = self.take()
            check_state(self._names, state, [t.shape for t in own if t is not None])
            for target, source in zip(own, state, strict=True):
                assert target is not None
                target.copy_(torch.zeros(()) if source is None else source)
        return own, addresses

    def _like(self, state: State) -> tuple[State | None, list[int]]:
        places = [(None if t is None else (t.data_ptr(), t.stride(), t.shape)) for t in state]
        for array in self._arrays:
            memory = torch.from_numpy(array)
            views, addresses = self._views(memory)
            if places == [(t.data_ptr(), t.stride(), t.shape) for t in views if t is not None]:
                return state, addresses
        return None, []

    def _views(self, memory: Tensor) -> tuple[State, list[int]]:
        views: State = []
        for start, shape, widths in zip(self._starts, self._shapes, self._widths, strict=True):
            block = memory[start : start + math.prod(shape)].view(shape).permute(0, 3, 1, 2)
            views += block[:, : sum(widths)].split(widths, dim=1)
        return views, [memory.data_ptr() + memory.element_size() * start for start in self._starts]

    def _free(self) -> np.ndarray:
        for i in range(len(self._arrays)):
            # The list and the call itself: a tensor over the array would be a third.
            if sys.getrefcount(self._arrays[i]) == 2:
                return self._arrays[i]
        # Zeros, because the padding is never written by a caller's state and must not fire.
        self._arrays.append(np.zeros(self._size, np.float32))
        return self._arrays[-1]


def check_state(names: Sequence[str], state: State, shapes: Sequence[Sequence[int]]) -> None:
    """Refuse a state that belongs to another network or cube.

    Raises:
        ConfigError: the number of membranes or a shape differs.
    """
    if len(state) != len(names):
        raise ConfigError(f"the state has {len(state)} membranes, the network {len(names)} neuron layers")
    for name, given, wanted in zip(names, state, shapes, strict=True):
        if given is not None and tuple(given.shape) != tuple(wanted):
            raise ConfigError(
                f"the state of {name} is {list(given.shape)}, this cube needs {list(wanted)}; "
                "start a cube of another size or batch with state=None"
            )

"""What every precision shares on the native kernels: spikes as bytes, buffers by shape, the way through the layers.

Membranes between calls: handed out as tensors, taken back once nobody holds them.
"""

import ctypes
import math
import sys
from abc import ABC, abstractmethod
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Collection
from ctypes import byref

import numpy as np
import torch
from torch import Tensor

from spiking_centernet.deploy.engine.bindings import (
    CGated,
    CLayer,
    EventLists,
    Kernels,
    Plane,
    c_gated,
    c_layer,
    keys_fit,
    run_events,
)
from spiking_centernet.deploy.engine.ir import Network, traverse
from spiking_centernet.deploy.engine.packing import Packed
from spiking_centernet.model.context import Observe, State, check_membrane
from spiking_centernet.model.graph import Combine, MaxPool, NeuronLayer, Node, SizeHW, halved, walk
from spiking_centernet.model.neurons import GatedNeuron

MAX_WORKSPACES = 4
"""Shapes of cubes whose buffers are kept."""

UsesEvents = Callable[[CLayer, int], bool]
"""Whether a layer whose input holds this many spikes is computed event-driven."""


class NativeNetwork(ABC):
    """The network on the native kernels; a precision says how it multiplies.

    Args:
        network: what to compute.
        kernels: the native kernels.
        packed: the weights of every block.
        uses_events: decides for every layer and call.
        factored: the blocks of the decoder that are computed in their three convolutions, by index.
    """

    def __init__(
        self,
        network: Network,
        kernels: Kernels,
        packed: list[Packed],
        uses_events: UsesEvents,
        factored: Collection[int],
    ):
        self.network = network
        self.kernels = kernels
        self.packed = packed
        self.uses_events = uses_events
        self.factored = frozenset(factored)
        self.lists = EventLists()
        self._workspaces: OrderedDict[tuple[int, ...], Workspace] = OrderedDict()

    def __call__(
        self, cube: Tensor, state: State | None, observe: Observe | None, *, keep_state: bool
    ) -> tuple[Tensor, State]:
        """Return the heads' spikes summed over the steps, float32 [B, h, w, K], and the membranes."""
        return self.workspace(tuple(cube.shape)).run(cube, state, observe, keep_state=keep_state)

    def workspace(self, shape: tuple[int, ...]) -> "Workspace":
        """Return the buffers for one shape of cube [T, B, C, H, W]; the last few are kept."""
        if shape not in self._workspaces:
            self._workspaces[shape] = self.make(shape)
            if len(self._workspaces) > MAX_WORKSPACES:
                self._workspaces.popitem(last=False)
        self._workspaces.move_to_end(shape)
        return self._workspaces[shape]

    @abstractmethod
    def make(self, shape: tuple[int, ...]) -> "Workspace":
        """Return new buffers."""


class Workspace(ABC):
    """The buffers for one shape of cube [T, B, C, H, W], and the steps of the traversal on them.

    Attributes:
        layers: every block as the kernels take it; of a memory the convolution, which leaves currents.
        sources: the spikes that every block takes; of a factored one the skip's.
        targets: the spikes of every block but the heads.
        pooled: the spikes behind the max-pooling.
    """

    pooled: Plane

    def __init__(self, owner: NativeNetwork, shape: tuple[int, ...]):
        self.owner = owner
        self.steps, self.batch, _, height, width = shape
        self.num = self.steps * self.batch
        self.layers: list[CLayer] = []
        self.sources: list[Plane] = []
        self.targets: list[Plane] = []
        self._joined: dict[int, Plane] = {}
        self._factored: dict[int, Callable[[], int]] = {}
        self._memories: dict[int, CGated] = {}
        self._currents: list[Tensor] = []
        self._observe: Observe | None = None
        network = owner.network
        halo = max(1, network.blocks[0].kernel // 2)
        self.cube = Plane(self.num, (height, width), shape[2], halo)
        self._sizes_hw = network.sizes_hw((height, width))
        x = self._lay_out()
        self.size_hw = (x.c.height, x.c.width)
        self.head_spikes: Plane | None = None
        self._add(len(self.layers), x, None)
        self.counts = torch.zeros(self.batch, *self.size_hw, owner.packed[-1].padded_channels)
        self.layers[-1].counts = self.counts.data_ptr()
        self._holders = [self._memories.get(i, layer) for i, layer in enumerate(self.layers)]
        self.membranes = MembranePool(
            network, [(self.batch, x.height, x.width, x.padded_channels) for x in self._holders]
        )
        self._earlier = self._earlier_heads()

    def _lay_out(self) -> Plane:
        """Make the planes of all nodes before the head and return the last."""
        network = self.owner.network
        num_takers = Counter(source for node in network.graph.nodes for source in node.sources)
        chain = {node.name for node in network.body if isinstance(node, NeuronLayer) and num_takers[node.name] == 1}
        free: dict[tuple[SizeHW, int], list[Plane]] = defaultdict(list)
        combined: dict[str, tuple[Plane, ...]] = {}

        def lay_out(node: Node, *sources: Plane) -> Plane:
            x, size_hw = sources[0], (sources[-1].c.height, sources[-1].c.width)
            if isinstance(node, MaxPool):
                self.pooled = self._plane((halved(size_hw[0]), halved(size_hw[1])), node.channels)
                return self.pooled
            index = network.index_of[node.name]
            if isinstance(node, Combine):
                combined[node.name] = sources
                if index in self.owner.factored:
                    return sources[-1]
                self._joined[index] = self._plane(size_hw, sum(plane.c.channels for plane in sources))
                return self._joined[index]
            (source,) = node.sources
            kind = self._sizes_hw[index], node.channels
            target = self._add(index, x, free[kind].pop() if free[kind] else self._plane(*kind))
            if index in self.owner.factored:
                coarse, skip = combined[source]
                self._factored[index] = self.factor(index, coarse, skip)
            # Layers that follow each other write two planes by turns: what is read again soon is still in the cache.
            if source in chain:
                free[size_hw, x.channels].append(x)
            return target

        (features,) = walk(network.body, lay_out, self.cube).values()
        return features

    def _plane(self, size_hw: tuple[int, int], channels: int) -> Plane:
        return Plane(self.num, size_hw, channels, halo=1)

    def _add(self, index: int, source: Plane, target: Plane | None) -> Plane:
        block, packed = self.owner.network.blocks[index], self.owner.packed[index]
        neuron = block.neurons[0]
        assert source.c.halo >= block.kernel // 2
        if isinstance(neuron, GatedNeuron):
            assert target is not None
            return self._add_memory(index, source, target, neuron)
        layer = c_layer(
            packed, source, target, self._sizes_hw[index],
            num_steps=self.steps, batch=self.batch, kernel=block.kernel, stride=block.stride,
            leaky=neuron.leaky, decay_input=neuron.decay_input, soft_reset=neuron.options.soft_reset,
        )  # fmt: skip
        self.layers.append(layer)
        self.sources.append(source)
        if target is None:
            return source
        self.targets.append(target)
        return target

    def _add_memory(self, index: int, source: Plane, target: Plane, neuron: GatedNeuron) -> Plane:
        block, packed, size_hw = self.owner.network.blocks[index], self.owner.packed[index], self._sizes_hw[index]
        # Integrate-and-fire neurons that see one step each and never fire: their membranes are what they were given.
        layer = c_layer(
            packed, source, None, size_hw, num_steps=1, batch=self.num, kernel=block.kernel, stride=block.stride,
            leaky=0, decay_input=0, soft_reset=0,
        )  # fmt: skip
        currents = torch.empty(self.num, *size_hw, packed.padded_channels)
        layer.membranes = currents.data_ptr()
        self._memories[index] = c_gated(layer, source, target, neuron, num_steps=self.steps, batch=self.batch)
        self._currents.append(currents)
        self.layers.append(layer)
        self.sources.append(source)
        self.targets.append(target)
        return target

    def _earlier_heads(self) -> CLayer | None:
        """Return the heads in the steps before those that are averaged, None where all are."""
        num_read = self.owner.network.config.head.readout_steps or self.steps
        if num_read >= self.steps:
            return None
        earlier = CLayer.from_buffer_copy(self.layers[-1])
        earlier.num_steps = self.steps - num_read
        self._earlier_counts = torch.zeros_like(self.counts)
        earlier.counts = self._earlier_counts.data_ptr()
        return earlier

    @abstractmethod
    def take(self, cube: Tensor) -> None:
        """Take the cube's spikes."""

    @abstractmethod
    def dense(self, index: int) -> int:
        """Compute a block densely; returns the number of spikes."""

    @abstractmethod
    def factor(self, index: int, coarse: Plane, skip: Plane) -> Callable[[], int]:
        """Return what computes a block in its three convolutions and returns the number of spikes."""

    def run(
        self, cube: Tensor, state: State | None, observe: Observe | None, *, keep_state: bool
    ) -> tuple[Tensor, State]:
        """See :class:`NativeNetwork`."""
        self.take(cube)
        self._observe = observe
        nothing: tuple[State, list[int | None]] = ({}, [None] * len(self.layers))
        # Held until the call ends: the pool gives away what nobody holds.
        _old, before = self.membranes.place(state) if state else nothing
        new, after = self.membranes.take() if keep_state else nothing
        for holder, source, target in zip(self._holders, before, after, strict=True):
            holder.old_membranes, holder.membranes = source, target
        last = len(self.layers) - 1
        traverse(self.owner.network, self, self.cube)
        heads = self.owner.network.heads
        if observe is not None:
            # Memory that only an observer needs: without one the heads keep nothing but sums.
            if self.head_spikes is None:
                self.head_spikes = self._plane(self.size_hw, sum(heads.widths))
            self.layers[last].output = ctypes.pointer(self.head_spikes.c)
        self.compute(last)
        if observe is not None and self.head_spikes is not None:
            for name, part in zip(heads.names, self.head_spikes.spikes().split(heads.widths, dim=1), strict=True):
                observe(name, part)
            self.layers[last].output = None
        if self._earlier is not None:
            self.counts -= self._counted_earlier(last)
        return self.counts[..., : sum(heads.widths)], new

    def _counted_earlier(self, last: int) -> Tensor:
        """Return the heads' spikes summed over the steps that are not averaged."""
        assert self._earlier is not None
        # The way of the whole: floats round differently on the other, and what is taken off must have been counted.
        by_events = self._takes_events(last)
        whole, self.layers[last] = self.layers[last], self._earlier
        self._earlier.old_membranes = whole.old_membranes
        self._convolve(last, by_events=by_events)
        self.layers[last] = whole
        return self._earlier_counts

    def compute(self, index: int) -> int:
        """Compute a block from its input; returns the number of spikes."""
        if index in self._factored:
            return self._factored[index]()
        total = self._convolve(index, by_events=self._takes_events(index))
        return self.owner.kernels.gated(byref(self._memories[index])) if index in self._memories else total

    def _takes_events(self, index: int) -> bool:
        layer, count = self.layers[index], self.sources[index].count
        # Where nobody can tell how many spikes there are, they are no spikes.
        return count is not None and self.owner.uses_events(layer, count) and keys_fit(layer)

    def _convolve(self, index: int, *, by_events: bool) -> int:
        if not by_events:
            return self.dense(index)
        self.owner.lists.reserve(self.layers[index])
        return run_events(self.owner.kernels, self.layers[index], self.owner.lists)

    def fire(self, index: int, x: Plane) -> Plane:
        """See ``Ops``; ``x`` is the block's own source."""
        target = self.targets[index]
        target.count = self.compute(index)
        if self._observe is not None:
            (name,) = self.owner.network.blocks[index].names
            self._observe(name, target.spikes())
        return target

    def pool(self, x: Plane) -> Plane:
        """See ``Ops``."""
        self.pooled.count = self.owner.kernels.or_pool(byref(x.c), byref(self.pooled.c), self.num)
        return self.pooled

    def join(self, index: int, x: Plane, skip: Plane) -> Plane:
        """See ``Ops``."""
        if index in self._factored:
            return skip
        joined = self._joined[index]
        joined.count = self.owner.kernels.join(byref(x.c), byref(skip.c), byref(joined.c), self.num)
        return joined


Shape = tuple[int, int, int, int]


class MembranePool:
    """Memory for the membranes of every block, float32 [B, h, w, padded channels] each.

    A call reads the old membranes and writes new ones, so that a caller may keep a state and go back to it. What
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
            for name, target in own.items():
                if name in state:
                    check_membrane(name, state[name], target.shape)
                    target.copy_(state[name])
                else:
                    target.zero_()
        return own, addresses

    def _like(self, state: State) -> tuple[State | None, list[int]]:
        places = {name: (v.data_ptr(), v.stride(), v.shape) for name, v in state.items()}
        for array in self._arrays:
            memory = torch.from_numpy(array)
            views, addresses = self._views(memory)
            if places == {name: (v.data_ptr(), v.stride(), v.shape) for name, v in views.items()}:
                return state, addresses
        return None, []

    def _views(self, memory: Tensor) -> tuple[State, list[int]]:
        views: list[Tensor] = []
        for start, shape, widths in zip(self._starts, self._shapes, self._widths, strict=True):
            block = memory[start : start + math.prod(shape)].view(shape).permute(0, 3, 1, 2)
            views += block[:, : sum(widths)].split(widths, dim=1)
        addresses = [memory.data_ptr() + memory.element_size() * start for start in self._starts]
        return dict(zip(self._names, views, strict=True)), addresses

    def _free(self) -> np.ndarray:
        for i in range(len(self._arrays)):
            # The list and the call itself: a tensor over the array would be a third.
            if sys.getrefcount(self._arrays[i]) == 2:
                return self._arrays[i]
        # Zeros, because the padding is never written by a caller's state and must not fire.
        self._arrays.append(np.zeros(self._size, np.float32))
        return self._arrays[-1]

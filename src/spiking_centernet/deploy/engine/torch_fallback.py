"""The network in torch operations alone, for where the native library is missing: slower, the same results."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from spiking_centernet.deploy.engine.float import FloatFactors
from spiking_centernet.deploy.engine.ir import Block, Network, traverse
from spiking_centernet.deploy.engine.quantize import Int8, int8_of
from spiking_centernet.deploy.engine.separable import Factors, currents
from spiking_centernet.errors import ConfigError
from spiking_centernet.model.context import Observe, State, check_membrane
from spiking_centernet.model.decoder import join

Currents = Callable[[Tensor], Tensor]
"""A block's convolution: from spikes [N, C, H, W] to what its neurons take."""


class PlainNetwork:
    """Same call as ``NativeNetwork``; spikes are [T, B, C, h, w] of a floating type.

    Args:
        network: what to compute.
        layers: the convolution of every block.
        dtype: of the spikes.
        only_binary: refuse cubes of other values than 0 and 1.
    """

    def __init__(self, network: Network, layers: Sequence[Currents], dtype: torch.dtype, *, only_binary: bool):
        self.network = network
        self.layers = layers
        self.dtype = dtype
        self.only_binary = only_binary

    def __call__(
        self, cube: Tensor, state: State | None, observe: Observe | None, *, keep_state: bool
    ) -> tuple[Tensor, State]:
        """Return the heads' spikes summed over the steps, float32 [B, h, w, K], and the membranes."""
        if self.only_binary:
            cube = binary(cube)
            check_binary(int(cube.max()))
        if state is not None:
            sizes = self.network.sizes_hw((cube.shape[3], cube.shape[4]))
            for block, size in zip(self.network.blocks, sizes, strict=True):
                for name, width in zip(block.names, block.widths, strict=True):
                    if name in state:
                        check_membrane(name, state[name], (cube.shape[1], width, *size))
        call = _Call(self.network, self.layers, state, observe)
        features = traverse(self.network, call, cube.to(self.dtype))
        spikes = call.fire(len(self.layers) - 1, features)
        read = spikes[-self.network.config.head.readout_steps :]
        return read.float().sum(0).permute(0, 2, 3, 1), call.new if keep_state else {}


def int8_layers(network: Network, factors: Mapping[int, Factors]) -> list[Currents]:
    """Return the convolutions in int8, as whole numbers held by floats."""
    return [
        partial(currents, factors[index]) if index in factors else partial(_int8_currents, block, int8_of(block))
        for index, block in enumerate(network.blocks)
    ]


def _int8_currents(block: Block, q: Int8, x: Tensor) -> Tensor:
    # Whole numbers below 2**24: float32 holds every partial sum exactly.
    sums = F.conv2d(x, q.weight.float(), None, block.stride, block.kernel // 2)
    return sums * q.scale[:, None, None] + q.bias[:, None, None]


def float_layers(network: Network, factors: Mapping[int, FloatFactors], dtype: torch.dtype) -> list[Currents]:
    """Return the convolutions in a floating type."""
    return [
        factors.get(index) or partial(
            F.conv2d, weight=block.weight.to(dtype), bias=block.bias.to(dtype), stride=block.stride,
            padding=block.kernel // 2,
        )
        for index, block in enumerate(network.blocks)
    ]  # fmt: skip


def binary(cube: Tensor) -> Tensor:
    """Return the cube as uint8.

    Raises:
        ConfigError: it holds anything but 0 and 1.
    """
    whole = cube if cube.dtype == torch.uint8 else cube.to(torch.uint8)
    if whole is not cube and not torch.equal(whole.to(cube.dtype), cube):
        raise ConfigError(f'precision="int8" takes cubes of 0 and 1, this one holds other values ({cube.dtype})')
    return whole


def check_binary(largest: int) -> None:
    """Refuse a cube whose largest value is above 1.

    Raises:
        ConfigError: it is.
    """
    if largest > 1:
        raise ConfigError(
            f'precision="int8" takes cubes of 0 and 1, this one holds {largest}; '
            'use cube.clamp(max=1), or precision="fp32"'
        )


class _Call:
    """One call's state and the torch operations of the traversal."""

    def __init__(self, network: Network, layers: Sequence[Currents], state: State | None, observe: Observe | None):
        self.network, self.layers, self.observe = network, layers, observe
        self.old: State = {} if state is None else state
        self.new: State = {}

    def fire(self, index: int, x: Tensor) -> Tensor:
        """See ``Ops``."""
        block = self.network.blocks[index]
        y = self.layers[index](x.flatten(0, 1))
        if block.memory is not None:
            return self._remember(block, x, y)
        parts = []
        currents = y.split(block.widths, dim=1)
        for name, current, neuron in zip(block.names, currents, block.neurons, strict=True):
            spikes, self.new[name] = neuron(current.unflatten(0, x.shape[:2]), self.old.get(name))
            if self.observe is not None:
                self.observe(name, spikes.flatten(0, 1).to(torch.uint8))
            parts.append(spikes)
        return torch.cat(parts, 2)

    def _remember(self, block: Block, x: Tensor, currents: Tensor) -> Tensor:
        (name,) = block.names
        assert block.memory is not None
        remembered, self.new[name] = block.memory(currents.unflatten(0, x.shape[:2]), self.old.get(name))
        spikes = torch.maximum(x, remembered)
        if self.observe is not None:
            self.observe(name, spikes.flatten(0, 1).to(torch.uint8))
        return spikes

    def pool(self, x: Tensor) -> Tensor:
        """See ``Ops``."""
        return F.max_pool2d(x.flatten(0, 1), 3, 2, 1).unflatten(0, x.shape[:2])

    def join(self, index: int, x: Tensor, skip: Tensor) -> Tensor:
        """See ``Ops``."""
        return join(x, skip).unflatten(0, x.shape[:2])

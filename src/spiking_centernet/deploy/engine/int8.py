"""The int8 network on the native kernels: sums are exact integers, so every way of computing gives the same."""

import ctypes
from collections.abc import Callable, Mapping
from ctypes import byref, c_int64

import torch
from torch import Tensor

from spiking_centernet.deploy.engine.bindings import Kernels, Plane, run_dense
from spiking_centernet.deploy.engine.buffers import NativeNetwork, UsesEvents, Workspace
from spiking_centernet.deploy.engine.ir import Network
from spiking_centernet.deploy.engine.packing import pack, with_currents
from spiking_centernet.deploy.engine.quantize import int8_of
from spiking_centernet.deploy.engine.separable import Factors, pack_factors
from spiking_centernet.deploy.engine.torch_fallback import binary, check_binary
from spiking_centernet.ops.structs import CFactored


class Int8Network(NativeNetwork):
    """The network in int8.

    Args:
        network: what to compute.
        kernels: the native kernels.
        uses_events: decides for every layer and call.
        factors: blocks of the decoder that are computed in their three convolutions, by index.
    """

    def __init__(
        self, network: Network, kernels: Kernels, uses_events: UsesEvents, factors: Mapping[int, Factors] | None = None
    ):
        parts, factors = network.input_parts(), factors or {}
        packed = [pack(block, int8_of(block), p) for block, p in zip(network.blocks, parts, strict=True)]
        self.factors = {
            index: pack_factors(found, parts[index], packed[index].padded_channels, packed[index].dense_block)
            for index, found in factors.items()
        }
        for index, found in factors.items():
            packed[index] = with_currents(packed[index], found.scale, found.bias)
        super().__init__(network, kernels, packed, uses_events, factors)

    def make(self, shape: tuple[int, ...]) -> Workspace:
        """See :class:`NativeNetwork`."""
        return _Int8Workspace(self, shape)


class _Int8Workspace(Workspace):
    def __init__(self, owner: Int8Network, shape: tuple[int, ...]):
        self._factors = owner.factors
        self._buffers: list[Tensor] = []
        super().__init__(owner, shape)

    def take(self, cube: Tensor) -> None:
        """See :class:`Workspace`."""
        largest = c_int64()
        cube = binary(cube).contiguous()
        self.cube.count = self.owner.kernels.fill(
            cube.data_ptr(), self.num, cube.shape[2], byref(self.cube.c), byref(largest)
        )
        check_binary(largest.value)

    def dense(self, index: int) -> int:
        """See :class:`Workspace`."""
        return run_dense(self.owner.kernels, self.layers[index])

    def factor(self, index: int, coarse: Plane, skip: Plane) -> Callable[[], int]:
        """See :class:`Workspace`."""
        packed, layer = self._factors[index], self.layers[index]
        found = CFactored(hidden=packed.hidden)
        found.coarse, found.skip, found.layer = (ctypes.pointer(x) for x in (coarse.c, skip.c, layer))
        for name in (
            "expand_coarse", "expand_skip", "expand_bias", "expand_shift", "filter", "filter_bias", "filter_shift",
            "project",
        ):  # fmt: skip
            setattr(found, name, getattr(packed, name).data_ptr())
        height, width = layer.height, layer.width
        for name, dtype, size_hw in (
            ("coarse_sums", torch.int32, (coarse.c.height, coarse.c.width)),
            ("expanded", torch.int16, (height + 2, width + 2)),
            ("filtered", torch.int16, (height, width)),
        ):
            buffer = torch.empty(self.num, *size_hw, packed.hidden, dtype=dtype)
            self._buffers.append(buffer)
            setattr(found, name, buffer.data_ptr())
        return lambda: self.owner.kernels.factored(byref(found))

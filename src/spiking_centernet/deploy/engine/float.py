"""The network in float32 or bfloat16: torch's own convolutions, or the weights of active inputs added up."""

from collections.abc import Callable, Mapping
from ctypes import byref, c_int64
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spiking_centernet.deploy.engine.bindings import Kernels, Plane
from spiking_centernet.deploy.engine.buffers import NativeNetwork, UsesEvents, Workspace
from spiking_centernet.deploy.engine.ir import Network
from spiking_centernet.deploy.engine.packing import join_inputs, pack_floats, with_currents
from spiking_centernet.model.decoder import DecoderBlock
from spiking_centernet.model.layers import fold_batch_norm


@dataclass(frozen=True)
class FloatFactors:
    """A decoder block's three convolutions, batch norms folded.

    A 1x1 convolution commutes with repeating pixels, so the coarse spikes are expanded before that. The first bias is
    taken beyond the border too: its part in the filter's output is the same everywhere and joins the filter's bias.
    """

    expand: Tensor
    filter: Tensor
    filter_bias: Tensor
    project: Tensor
    project_bias: Tensor

    @staticmethod
    def of(block: DecoderBlock, dtype: torch.dtype) -> "FloatFactors":
        """Return the factors of a block."""
        assert block.project.norm is not None
        expand, expand_bias = fold_batch_norm(block.expand, block.expand_norm)
        filters, filter_bias = fold_batch_norm(block.filter, block.filter_norm)
        project, project_bias = fold_batch_norm(block.project.conv, block.project.norm)
        filter_bias = filter_bias + filters.sum((1, 2, 3)) * expand_bias
        return FloatFactors(*(x.detach().to(dtype) for x in (expand, filters, filter_bias, project, project_bias)))

    def __call__(self, joined: Tensor) -> Tensor:
        """Return the neurons' input [N, O, H, W] for joined spikes [N, C, H, W], in torch operations."""
        expanded = F.conv2d(joined, self.expand)
        filtered = F.conv2d(expanded, self.filter, self.filter_bias, padding=1, groups=len(self.filter))
        return F.conv2d(filtered, self.project, self.project_bias)


class FloatNetwork(NativeNetwork):
    """The network in float32 or bfloat16; membranes are float32 in both, and so are sums of active inputs' weights.

    Args:
        network: what to compute.
        dtype: of weights, and of dense sums.
        kernels: the native kernels.
        uses_events: decides for every layer and call.
        unmerged: blocks of the decoder that are computed in their three convolutions, by index.
    """

    def __init__(
        self,
        network: Network,
        dtype: torch.dtype,
        kernels: Kernels,
        uses_events: UsesEvents,
        unmerged: Mapping[int, DecoderBlock] | None = None,
    ):
        self.dtype = dtype
        self.factors = {index: FloatFactors.of(block, dtype) for index, block in (unmerged or {}).items()}
        parts = network.input_parts()
        packed = [pack_floats(block, dtype, p) for block, p in zip(network.blocks, parts, strict=True)]
        for index, found in self.factors.items():
            packed[index] = with_currents(packed[index], torch.ones(0), found.project_bias.float())
        self.weights = [
            join_inputs(block.weight, p).to(dtype, memory_format=torch.channels_last)
            for block, p in zip(network.blocks, parts, strict=True)
        ]
        super().__init__(network, kernels, packed, uses_events, self.factors)

    def make(self, shape: tuple[int, ...]) -> Workspace:
        """See :class:`NativeNetwork`."""
        return _FloatWorkspace(self, shape)


@dataclass
class Convolution:
    """A convolution for one input size; weights packed by oneDNN on the first call, where there is oneDNN."""

    weight: Tensor
    bias: Tensor | None = None
    stride: int = 1
    groups: int = 1
    packed: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Return the sums of an input that is channels last, likewise."""
        pad, stride = [self.weight.shape[-1] // 2] * 2, [self.stride] * 2
        if not _has_onednn(x.dtype):
            y = F.conv2d(x, self.weight, self.bias, stride, pad, groups=self.groups)
            return y.contiguous(memory_format=torch.channels_last)
        if self.packed is None:
            self.packed = torch.ops.mkldnn._reorder_convolution_weight(
                self.weight, pad, stride, [1, 1], self.groups, list(x.shape)
            )
        y = torch.ops.mkldnn._convolution_pointwise(
            x, self.packed, self.bias, pad, stride, [1, 1], self.groups, "none", [], ""
        )
        return y.contiguous(memory_format=torch.channels_last)


def _has_onednn(dtype: torch.dtype) -> bool:
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def float_spikes(plane: Plane, dtype: torch.dtype) -> Tensor:
    """Return a copy of the spikes [N, C, H, W] with the padded channels, channels last."""
    return plane.inside.to(dtype, memory_format=torch.contiguous_format).permute(0, 3, 1, 2)


class _FloatWorkspace(Workspace):
    def __init__(self, owner: FloatNetwork, shape: tuple[int, ...]):
        self._dtype = owner.dtype
        self._factors = owner.factors
        self._convolutions = [
            Convolution(weight, stride=block.stride)
            for block, weight in zip(owner.network.blocks, owner.weights, strict=True)
        ]
        self._values: Tensor | None = None
        super().__init__(owner, shape)

    def take(self, cube: Tensor) -> None:
        """See :class:`Workspace`; a cube of other values than 0 and 1 is kept for the first convolution as it is."""
        bytes_, largest = cube.to(torch.uint8).contiguous(), c_int64()
        count = self.owner.kernels.fill(bytes_.data_ptr(), self.num, cube.shape[2], byref(self.cube.c), byref(largest))
        binary = largest.value <= 1 and (bytes_.dtype == cube.dtype or torch.equal(bytes_.to(cube.dtype), cube))
        self.cube.count = count if binary else None
        self._values = None if binary else cube

    def dense(self, index: int) -> int:
        """See :class:`Workspace`."""
        source = self.sources[index]
        if index == 0 and self._values is not None:
            x = F.pad(self._values.flatten(0, 1), (0, 0, 0, 0, 0, source.c.channels - self._values.shape[2]))
            x = x.to(self._dtype).contiguous(memory_format=torch.channels_last)
        else:
            x = float_spikes(source, self._dtype)
        return self._fire(index, self._convolutions[index](x))

    def factor(self, index: int, coarse: Plane, skip: Plane) -> Callable[[], int]:
        """See :class:`Workspace`."""
        factors, last = self._factors[index], {"memory_format": torch.channels_last}
        own, other = (
            Convolution(join_inputs(part, (part.shape[1],)).contiguous(**last))
            for part in factors.expand.split((coarse.channels, skip.channels), dim=1)
        )
        filters = Convolution(factors.filter.contiguous(**last), factors.filter_bias, groups=len(factors.filter))
        project = Convolution(factors.project.contiguous(**last))

        def compute() -> int:
            up = F.interpolate(own(float_spikes(coarse, self._dtype)), scale_factor=2, mode="nearest")
            up = up[..., : skip.c.height, : skip.c.width]
            return self._fire(index, project(filters(other(float_spikes(skip, self._dtype)).add_(up))))

        return compute

    def _fire(self, index: int, y: Tensor) -> int:
        kernels = self.owner.kernels
        fire = kernels.fire_float32 if self._dtype == torch.float32 else kernels.fire_bfloat16
        return fire(byref(self.layers[index]), y.data_ptr(), y.shape[1])

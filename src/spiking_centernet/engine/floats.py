"""The network in float32 or bfloat16: torch's own convolutions with packed weights, the neurons in one native pass."""

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spiking_centernet.engine.kernels import CLayer, Kernels
from spiking_centernet.engine.membranes import MembranePool
from spiking_centernet.engine.network import Network, traverse
from spiking_centernet.engine.packing import LANES, padded
from spiking_centernet.nn.blocks import Observe, State, fold_batch_norm
from spiking_centernet.nn.m2unet import DecoderBlock, join

MAX_SHAPES = 4
"""Shapes of cubes for which weights are packed at a time."""


class FloatNetwork:
    """The network in float32 or bfloat16; membranes are float32 in both.

    Args:
        network: what to compute.
        dtype: of weights, sums and spikes.
        kernels: the native kernels; None fires the neurons in torch operations.
        unmerged: blocks of the decoder that are computed in their three convolutions, by index.
    """

    def __init__(
        self,
        network: Network,
        dtype: torch.dtype,
        kernels: Kernels | None,
        unmerged: Mapping[int, DecoderBlock] | None = None,
    ):
        self.network = network
        self.unmerged = {index: _Factors.of(block, dtype) for index, block in (unmerged or {}).items()}
        self.dtype = dtype
        self.kernels = kernels
        self.weights = [block.weight.to(dtype, memory_format=torch.channels_last) for block in network.blocks]
        self.biases = [block.bias.to(dtype) for block in network.blocks]
        self._plans: dict[tuple[int, ...], _Plan] = {}

    def __call__(
        self, cube: Tensor, state: State | None, observe: Observe | None, *, keep_state: bool
    ) -> tuple[Tensor, State]:
        """Return the heads' spikes summed over the steps, float32 [B, h, w, K], and the membranes."""
        shape = tuple(cube.shape)
        if shape not in self._plans:
            if len(self._plans) == MAX_SHAPES:
                del self._plans[next(iter(self._plans))]
            self._plans[shape] = _Plan(self, shape)
        return self._plans[shape].run(cube, state, observe, keep_state=keep_state)


@dataclass
class _Convolution:
    """A convolution for one input size; weights packed by oneDNN on the first call, where there is oneDNN."""

    weight: Tensor
    bias: Tensor | None
    stride: int = 1
    groups: int = 1
    packed: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        pad, stride = [self.weight.shape[-1] // 2] * 2, [self.stride] * 2
        x = x.contiguous(memory_format=torch.channels_last)
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


@dataclass(frozen=True)
class _Factors:
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
    def of(block: DecoderBlock, dtype: torch.dtype) -> "_Factors":
        assert block.project.norm is not None
        expand, expand_bias = fold_batch_norm(block.expand, block.expand_norm)
        filters, filter_bias = fold_batch_norm(block.filter, block.filter_norm)
        project, project_bias = fold_batch_norm(block.project.conv, block.project.norm)
        filter_bias = filter_bias + filters.sum((1, 2, 3)) * expand_bias
        return _Factors(*(x.detach().to(dtype) for x in (expand, filters, filter_bias, project, project_bias)))


class _Factored:
    """The three convolutions for one input size."""

    def __init__(self, factors: _Factors, coarse_channels: int):
        last = {"memory_format": torch.channels_last}
        coarse, skip = factors.expand[:, :coarse_channels], factors.expand[:, coarse_channels:]
        self.coarse = _Convolution(coarse.contiguous(**last), None)
        self.skip = _Convolution(skip.contiguous(**last), None)
        self.filter = _Convolution(factors.filter.contiguous(**last), factors.filter_bias, groups=len(factors.filter))
        self.project = _Convolution(factors.project.contiguous(**last), factors.project_bias)

    def __call__(self, x: Tensor, skip: Tensor) -> Tensor:
        height, width = skip.shape[-2:]
        up = F.interpolate(self.coarse(x), scale_factor=2, mode="nearest")[..., :height, :width]
        return self.project(self.filter(self.skip(skip).add_(up)))


def _has_onednn(dtype: torch.dtype) -> bool:
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()


class _Plan:
    """The way through the network for one shape of cube."""

    def __init__(self, owner: FloatNetwork, shape: tuple[int, ...]):
        self.owner = owner
        network = owner.network
        self.steps, self.batch = shape[:2]
        self.convolutions = [
            _Convolution(weight, bias, block.stride)
            for block, weight, bias in zip(network.blocks, owner.weights, owner.biases, strict=True)
        ]
        self.factored: dict[int, _Factored] = {}
        coarse = network.stages[-1][-1].weight.shape[0]
        for index, block in enumerate(network.decoder, start=network.first_decoder):
            if index in owner.unmerged:
                self.factored[index] = _Factored(owner.unmerged[index], coarse)
            coarse = block.weight.shape[0]
        self.sizes = network.sizes_hw((shape[3], shape[4]))
        widths = [padded(block.weight.shape[0], LANES) for block in network.blocks]
        self.membranes = MembranePool(
            network, [(self.batch, *size, width) for size, width in zip(self.sizes, widths, strict=True)]
        )
        self.counts = torch.zeros(self.batch, *self.sizes[-1], widths[-1])
        self.constants = [
            tuple(F.pad(values, (0, width - len(values)), value=1.0) for values in (block.q, block.threshold))
            for block, width in zip(network.blocks, widths, strict=True)
        ]
        self.layers = [self._layer(i) for i in range(len(network.blocks))]
        self.observe: Observe | None = None
        self.old: State = []
        self.new: State = []

    def _layer(self, index: int) -> CLayer:
        neuron, (q, threshold) = self.owner.network.blocks[index].neurons[0], self.constants[index]
        return CLayer(
            num_steps=self.steps, batch=self.batch, height=self.sizes[index][0], width=self.sizes[index][1],
            padded_channels=len(q), q=q.data_ptr(), threshold=threshold.data_ptr(),
            leaky=neuron.leaky, decay_input=neuron.decay_input, soft_reset=neuron.soft_reset,
        )  # fmt: skip

    def run(
        self, cube: Tensor, state: State | None, observe: Observe | None, *, keep_state: bool
    ) -> tuple[Tensor, State]:
        """See :class:`FloatNetwork`."""
        nothing: tuple[State, list[int | None]] = ([], [None] * len(self.layers))
        # Held until the call ends: the pool gives away what nobody holds.
        old, before = nothing if state is None else self.membranes.place(state)
        new, after = self.membranes.take() if keep_state or self.owner.kernels is None else nothing
        for layer, source, target in zip(self.layers, before, after, strict=True):
            layer.old_membranes, layer.membranes = source, target
        self.observe, self.old, self.new = observe, old, new
        x = cube.flatten(0, 1).contiguous(memory_format=torch.channels_last).to(self.owner.dtype)
        features = traverse(self.owner.network, self, x)
        last = len(self.layers) - 1
        heads = self.owner.network.heads
        if observe is None and self.owner.kernels is not None:
            y = self.convolutions[last](features)
            self.layers[last].counts = self.counts.data_ptr()
            self._fire_natively(last, y)
            self.layers[last].counts = None
            counts = self.counts[..., : sum(heads.widths)]
        else:
            spikes = self.fire(last, features)
            counts = spikes.unflatten(0, (self.steps, self.batch)).float().sum(0).permute(0, 2, 3, 1)
        self.old = self.new = []
        return counts, new if keep_state else []

    def fire(self, index: int, x: Tensor) -> Tensor:
        """See ``Ops``."""
        return self._fire(index, x if index in self.factored else self.convolutions[index](x))

    def _fire(self, index: int, y: Tensor) -> Tensor:
        if self.owner.kernels is None:
            y = self._fire_in_torch(index, y)
        else:
            self._fire_natively(index, y)
        if self.observe is not None:
            for part in y.split(self.owner.network.blocks[index].widths, dim=1):
                self.observe(part.to(torch.uint8))
        return y

    def _fire_natively(self, index: int, y: Tensor) -> None:
        assert self.owner.kernels is not None
        fire = self.owner.kernels.fire_float32 if y.dtype == torch.float32 else self.owner.kernels.fire_bfloat16
        fire(ctypes.byref(self.layers[index]), y.data_ptr(), y.shape[1])

    def _fire_in_torch(self, index: int, y: Tensor) -> Tensor:
        block = self.owner.network.blocks[index]
        first = sum(len(b.names) for b in self.owner.network.blocks[:index])
        parts = []
        for i, (part, neuron) in enumerate(zip(y.split(block.widths, dim=1), block.neurons, strict=True), first):
            spikes, v = neuron(part.unflatten(0, (self.steps, self.batch)), self.old[i] if self.old else None)
            target = self.new[i]
            assert target is not None
            target.copy_(v)
            parts.append(spikes.flatten(0, 1))
        return torch.cat(parts, 1).contiguous(memory_format=torch.channels_last)

    def pool(self, x: Tensor) -> Tensor:
        """See ``Ops``."""
        return F.max_pool2d(x, 3, 2, 1)

    def join(self, index: int, x: Tensor, skip: Tensor) -> Tensor:
        """See ``Ops``; of a factored block all that its neurons take."""
        if index in self.factored:
            return self.factored[index](x, skip)
        return join(x[None], skip[None])

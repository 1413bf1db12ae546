"""Weights in the order in which the native kernels read them."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from spiking_centernet.deploy.engine.ir import Block
from spiking_centernet.deploy.engine.quantize import Int8

LANES = 16
"""Channels are computed in multiples of this (the widest of LANES in native/neuron.h)."""


def padded(channels: int, multiple: int) -> int:
    """Return the next multiple."""
    return -(-channels // multiple) * multiple


def plane_channels(channels: int) -> int:
    """Return how many channels the plane of this many channels has in memory: four bytes are read at a time."""
    return padded(channels, 4)


@dataclass(frozen=True)
class Packed:
    """A block for the native kernels: see ``Layer`` in native/spikes.h.

    Attributes:
        padded_channels: output channels as computed.
        dense_block, event_block: how many of them at a time.
        dense_weights: int8; None where somebody else computes densely.
        event_weights: uint8 or float32.
        scale, bias, q: float32 [padded_channels].
        threshold: float32 [1 + levels, padded_channels]; padding never spikes.
        largest_input: of the block.
    """

    padded_channels: int
    dense_block: int
    event_block: int
    dense_weights: Tensor | None
    event_weights: Tensor
    scale: Tensor
    bias: Tensor
    q: Tensor
    threshold: Tensor
    largest_input: int

    @property
    def levels(self) -> int:
        """Those of the block."""
        return len(self.threshold) - 1


def with_currents(packed: Packed, scale: Tensor, bias: Tensor) -> Packed:
    """Return a packed block whose sums become currents by another scale and bias, float32 [O]."""
    more = packed.padded_channels - len(scale)
    return replace(
        packed,
        scale=F.pad(scale, (0, more), value=1.0).contiguous(),
        bias=F.pad(bias, (0, more)).contiguous(),
    )


def pack(block: Block, q: Int8, parts: tuple[int, ...]) -> Packed:
    """Return the packed block.

    Args:
        block: the block.
        q: its quantized convolution.
        parts: how the input channels are joined from planes, each of which is padded by itself.
    """
    weight = _pad_outputs(join_inputs(q.weight, parts))
    dense_block, event_block = (_largest(sizes, len(weight)) for sizes in ((64, 32, 16), (128, 64, 32, 16)))
    dense, events = pack_dense(weight, dense_block), pack_events(weight, event_block)
    return _packed(block, dense_block, event_block, dense, events, q.scale, q.bias)


def pack_floats(block: Block, dtype: torch.dtype, parts: tuple[int, ...]) -> Packed:
    """Return the packed block with its weights rounded to a type and held as float32."""
    weight = _pad_outputs(join_inputs(block.weight.to(dtype).float(), parts))
    size = _largest((64, 32, 16), len(weight))
    return _packed(block, size, size, None, pack_event_floats(weight, size), torch.ones(0), block.bias)


def join_inputs(weight: Tensor, parts: tuple[int, ...]) -> Tensor:
    """Return a weight [O, I, k, k] with the channels of every part of its inputs padded as in a plane."""
    pieces = [
        F.pad(piece, (0, 0, 0, 0, 0, plane_channels(part) - part))
        for piece, part in zip(weight.split(parts, dim=1), parts, strict=True)
    ]
    return torch.cat(pieces, 1)


def _pad_outputs(weight: Tensor) -> Tensor:
    return F.pad(weight, (0, 0, 0, 0, 0, 0, 0, padded(len(weight), LANES) - len(weight)))


def _largest(sizes: tuple[int, ...], channels: int) -> int:
    return next(size for size in sizes if channels % size == 0)


def _packed(
    block: Block, dense_block: int, event_block: int, dense: Tensor | None, events: Tensor, scale: Tensor, bias: Tensor
) -> Packed:
    channels = padded(len(block.weight), LANES)

    def per_channel(values: Tensor, fill: float) -> Tensor:
        return F.pad(values, (0, channels - values.shape[-1]), value=fill).contiguous()

    return Packed(
        padded_channels=channels,
        dense_block=dense_block,
        event_block=event_block,
        dense_weights=dense,
        event_weights=events,
        scale=per_channel(scale, 1.0),
        bias=per_channel(bias, 0.0),
        q=per_channel(block.q, 1.0),
        threshold=per_channel(block.threshold, 1.0),
        largest_input=block.largest_input,
    )


def pack_dense(weight: Tensor, block: int) -> Tensor:
    """Return int8 [O / block, k, k * I / 4, block, 4] of a weight [O, I, k, k]."""
    out, channels, k, _ = weight.shape
    rows = weight.reshape(out // block, block, channels // 4, 4, k, k)
    return rows.permute(0, 4, 5, 2, 1, 3).reshape(out // block, k, k * channels // 4, block, 4).contiguous()


def pack_events(weight: Tensor, block: int) -> Tensor:
    """Return uint8 [O / block, k (x), k (y), I, block] of a weight [O, I, k, k].

    Within each unit of up to 64 channels, byte ``2 i`` is channel ``i`` plus 128 and byte ``2 i + 1`` is channel
    ``unit / 2 + i`` (see native/events.c).
    """
    out, channels, k, _ = weight.shape
    unit = min(block, 64)
    rows = weight.reshape(out // block, block // unit, 2, unit // 2, channels, k, k)
    low, high = rows[:, :, 0].to(torch.int16) + 128, rows[:, :, 1].to(torch.int16) & 255
    pairs = torch.stack([low, high], dim=3).to(torch.uint8)  # [O / block, units, unit / 2, 2, I, k, k]
    return pairs.permute(0, 6, 5, 4, 1, 2, 3).reshape(out // block, k, k, channels, block).contiguous()


def pack_event_floats(weight: Tensor, block: int) -> Tensor:
    """Return float32 [O / block, k (x), k (y), I, block] of a weight [O, I, k, k]."""
    return weight.reshape(-1, block, *weight.shape[1:]).permute(0, 4, 3, 2, 1).contiguous()

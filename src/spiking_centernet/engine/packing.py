"""Weights in the order in which the native kernels read them."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spiking_centernet.engine.network import Block
from spiking_centernet.engine.quantise import Int8

LANES = 16
"""Channels are computed in multiples of this (LANES in native/neuron.h)."""


def padded(channels: int, multiple: int) -> int:
    """Return the next multiple."""
    return -(-channels // multiple) * multiple


def plane_channels(channels: int) -> int:
    """Return how many channels the plane of so many channels has in memory: four bytes are read at a time."""
    return padded(channels, 4)


@dataclass(frozen=True)
class Packed:
    """A block for the native kernels: see ``Layer`` in native/spikes.h.

    Attributes:
        padded_channels: output channels as computed.
        dense_block, event_block: how many of them at a time.
        dense_weights, event_weights: int8 and uint8.
        scale, bias, q, threshold: float32 [padded_channels]; padding never fires.
    """

    padded_channels: int
    dense_block: int
    event_block: int
    dense_weights: Tensor
    event_weights: Tensor
    scale: Tensor
    bias: Tensor
    q: Tensor
    threshold: Tensor


def with_currents(packed: Packed, scale: Tensor, bias: Tensor) -> Packed:
    """Return a packed block whose sums become currents by another scale and bias, float32 [O]."""
    more = packed.padded_channels - len(scale)
    return replace(
        packed,
        scale=torch.nn.functional.pad(scale, (0, more), value=1.0).contiguous(),
        bias=torch.nn.functional.pad(bias, (0, more)).contiguous(),
    )


def pack(block: Block, q: Int8, parts: tuple[int, ...]) -> Packed:
    """Return the packed block.

    Args:
        block: the block.
        q: its quantised convolution.
        parts: how the input channels are joined from planes, each of which is padded by itself.
    """
    channels = padded(q.weight.shape[0], LANES)
    dense_block = next(size for size in (64, 32, 16) if channels % size == 0)
    event_block = next(size for size in (128, 64, 32, 16) if channels % size == 0)
    pieces = [
        torch.nn.functional.pad(piece, (0, 0, 0, 0, 0, plane_channels(part) - part))
        for piece, part in zip(q.weight.split(parts, dim=1), parts, strict=True)
    ]
    weight = torch.nn.functional.pad(torch.cat(pieces, 1), (0, 0, 0, 0, 0, 0, 0, channels - q.weight.shape[0]))

    def per_channel(values: Tensor, fill: float) -> Tensor:
        return torch.nn.functional.pad(values, (0, channels - len(values)), value=fill).contiguous()

    return Packed(
        padded_channels=channels,
        dense_block=dense_block,
        event_block=event_block,
        dense_weights=pack_dense(weight, dense_block),
        event_weights=pack_events(weight, event_block),
        scale=per_channel(q.scale, 1.0),
        bias=per_channel(q.bias, 0.0),
        q=per_channel(block.q, 1.0),
        threshold=per_channel(block.threshold, 1.0),
    )


def pack_dense(weight: Tensor, block: int) -> Tensor:
    """Return int8 [O / block, k, k * I / 4, block, 4] of a weight [O, I, k, k]."""
    out, channels, k, _ = weight.shape
    rows = weight.reshape(out // block, block, channels // 4, 4, k, k)
    return rows.permute(0, 4, 5, 2, 1, 3).reshape(out // block, k, k * channels // 4, block, 4).contiguous()


def pack_events(weight: Tensor, block: int) -> Tensor:
    """Return uint8 [O / block, k (x), k (y), I, block] of a weight [O, I, k, k].

    Within each unit of up to 64 channels, byte ``2 i`` is channel ``i`` plus 128 and byte ``2 i + 1`` is channel
    ``unit / 2 + i`` (see native/conv.c).
    """
    out, channels, k, _ = weight.shape
    unit = min(block, 64)
    rows = weight.reshape(out // block, block // unit, 2, unit // 2, channels, k, k)
    low, high = rows[:, :, 0].to(torch.int16) + 128, rows[:, :, 1].to(torch.int16) & 255
    pairs = torch.stack([low, high], dim=3).to(torch.uint8)  # [O / block, units, unit / 2, 2, I, k, k]
    return pairs.permute(0, 6, 5, 4, 1, 2, 3).reshape(out // block, k, k, channels, block).contiguous()

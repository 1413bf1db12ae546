"""Decoder blocks in their three convolutions, as integers: the fused convolution's function at a fraction of its work.

``expanded = (W_e s + b_e) >> r_e`` over the joined spikes ``s``, ``filtered = (W_f * expanded + b_f) >> r_f`` in every
channel, ``current = scale * (W_p filtered) + bias``. Weights stand on power-of-two grids. Grids and shifts follow from
the largest sums that the weights allow, whatever the spikes: ``expanded`` and ``filtered`` fit 16 bits, sums 32 bits,
and nothing overflows.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spiking_centernet.deploy.engine.packing import padded, plane_channels
from spiking_centernet.deploy.engine.quantize import LARGEST, LEAST_SCALE
from spiking_centernet.errors import ConfigError
from spiking_centernet.model.decoder import DecoderBlock
from spiking_centernet.model.graph import conv_macs
from spiking_centernet.model.layers import fold_batch_norm

LARGEST_16 = 2**15 - 1
LARGEST_SUM = 2.0**29
"""Bound of the real-valued sums; rounding the weights, half a last place and a bias at most double it."""

HIDDEN_MULTIPLE = 32
"""Hidden channels are computed in multiples of this (native/factored.c)."""


@dataclass(frozen=True)
class Factors:
    """The integers of a decoder block with C joined, M hidden and O output channels.

    Attributes:
        expand: int8 [M, C].
        expand_bias, expand_shift: int32 [M]; the bias holds half of the last place that the shift cuts off.
        filter: int16 [M, 3, 3].
        filter_bias, filter_shift: int32 [M], likewise.
        project: int16 [O, M].
        scale, bias: float32 [O].
    """

    expand: Tensor
    expand_bias: Tensor
    expand_shift: Tensor
    filter: Tensor
    filter_bias: Tensor
    filter_shift: Tensor
    project: Tensor
    scale: Tensor
    bias: Tensor


def is_cheaper(block: DecoderBlock) -> bool:
    """Whether the three convolutions multiply less often than the fused one."""
    convs = block.expand, block.filter, block.project.conv
    factored = sum(conv_macs(c.in_channels // c.groups, c.out_channels, c.kernel_size[0], (1, 1)) for c in convs)
    return factored < conv_macs(block.expand.in_channels, block.out_channels, block.filter.kernel_size[0], (1, 1))


def factor(block: DecoderBlock, largest_input: int = 1) -> Factors:
    """Return the integers of a block with its batch norms folded, for inputs of up to so many spikes.

    Raises:
        ConfigError: its weights or biases are so far apart that the sums do not fit 32 bits.
    """
    assert block.project.norm is not None
    weight, bias = _folded(block.expand, block.expand_norm)
    weight = weight[:, :, 0, 0]
    scale = _power_of_two(weight.abs().amax(1) / LARGEST, LEAST_SCALE)
    expand = (weight / scale[:, None]).round()
    most = torch.maximum(expand.clamp_min(0).sum(1), -expand.clamp_max(0).sum(1)) * largest_input
    expand_bias, expand_shift, most, grid = _narrow((bias / scale).round(), most, scale)

    weight, bias = _folded(block.filter, block.filter_norm)
    weight = weight[:, 0]
    reach = weight.abs().sum((1, 2)) * most
    tallest = weight.abs().amax((1, 2)) / LARGEST_16
    scale = _power_of_two(torch.stack([tallest, reach / LARGEST_SUM, bias.abs() / grid / LARGEST_SUM]).amax(0))
    filters = (weight / scale[:, None, None]).round()
    filter_bias, filter_shift, most, grid = _narrow(
        (bias / scale / grid).round(), filters.abs().sum((1, 2)) * most, scale * grid
    )

    weight, bias = _folded(block.project.conv, block.project.norm)
    weight = weight[:, :, 0, 0] * grid
    reach = (weight.abs() * most).sum(1)
    scale = _power_of_two(torch.stack([weight.abs().amax(1) / LARGEST_16, reach / LARGEST_SUM]).amax(0))
    project = (weight / scale[:, None]).round()
    _check_fits((project.abs() * most).sum(1))
    return Factors(
        expand.to(torch.int8), expand_bias, expand_shift, filters.to(torch.int16), filter_bias, filter_shift,
        project.to(torch.int16), scale.float(), bias.float(),
    )  # fmt: skip


def _check_fits(sums: Tensor) -> None:
    if not bool((sums < 2**31).all()):
        raise ConfigError(
            f"a decoder block's weights and biases are too far apart for int8 (sums of up to {float(sums.max()):.3g}); "
            'compile the network with precision="fp32"'
        )


def _folded(conv: torch.nn.Conv2d, norm: torch.nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    weight, bias = fold_batch_norm(conv, norm)
    return weight.detach().double(), bias.detach().double()


def _power_of_two(least: Tensor, at_least: float = 2.0**-60) -> Tensor:
    return torch.exp2(torch.ceil(torch.log2(least.clamp_min(at_least))))


def _narrow(bias: Tensor, most: Tensor, grid: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the bias with its rounding, the shift that brings sums to 16 bits, and the largest value and grid then."""
    reach = bias.abs() + most
    shift = torch.ceil(torch.log2((reach + 1) / LARGEST_16)).clamp_min(0)
    half = torch.where(shift > 0, torch.exp2(shift - 1), 0)
    _check_fits(reach + half)
    largest = torch.floor((reach + half) / torch.exp2(shift))
    return (bias + half).to(torch.int32), shift.to(torch.int32), largest, grid * torch.exp2(shift)


def currents(factors: Factors, joined: Tensor) -> Tensor:
    """Return the neurons' input float32 [N, O, H, W] for joined spikes [N, C, H, W], in torch operations.

    Float64 holds every integer exactly, so this equals the native kernel to the last bit.
    """
    f = factors

    def shifted(sums: Tensor, bias: Tensor, shift: Tensor) -> Tensor:
        return torch.floor((sums + bias[:, None, None]) / torch.exp2(shift.double())[:, None, None])

    spikes = F.pad(joined.double(), (1, 1, 1, 1))
    expanded = shifted(F.conv2d(spikes, f.expand.double()[:, :, None, None]), f.expand_bias, f.expand_shift)
    filtered = F.conv2d(expanded, f.filter.double()[:, None], groups=len(f.filter))
    filtered = shifted(filtered, f.filter_bias, f.filter_shift)
    sums = F.conv2d(filtered, f.project.double()[:, :, None, None]).float()
    return sums * f.scale[:, None, None] + f.bias[:, None, None]


@dataclass(frozen=True)
class PackedFactors:
    """Factors in the order in which native/factored.c reads them; see ``Factored`` in native/factored.h."""

    hidden: int
    expand_coarse: Tensor
    expand_skip: Tensor
    expand_bias: Tensor
    expand_shift: Tensor
    filter: Tensor
    filter_bias: Tensor
    filter_shift: Tensor
    project: Tensor


def pack_factors(factors: Factors, parts: tuple[int, ...], padded_channels: int, block: int) -> PackedFactors:
    """Return the packed factors.

    Args:
        factors: of the block.
        parts: how many of the joined channels are coarse, how many the skip's; planes pad each.
        padded_channels: output channels as computed.
        block: how many of them at a time.
    """
    hidden = padded(len(factors.expand), HIDDEN_MULTIPLE)
    more = hidden - len(factors.expand)
    coarse, skip = (
        F.pad(part, (0, plane_channels(part.shape[1]) - part.shape[1], 0, more)).t().contiguous()
        for part in factors.expand.split(parts, dim=1)
    )
    project = F.pad(factors.project, (0, more, 0, padded_channels - len(factors.project)))  # [padded, hidden]
    pairs = project.reshape(padded_channels // block, block, hidden // 2, 2).permute(0, 2, 1, 3).contiguous()
    filters = F.pad(factors.filter.reshape(-1, 9), (0, 0, 0, more)).t().contiguous()
    per_channel = (
        F.pad(values, (0, more)).contiguous()
        for values in (factors.expand_bias, factors.expand_shift, factors.filter_bias, factors.filter_shift)
    )
    expand_bias, expand_shift, filter_bias, filter_shift = per_channel
    return PackedFactors(hidden, coarse, skip, expand_bias, expand_shift, filters, filter_bias, filter_shift, pairs)

"""The decoder: M2U-Net blocks whose skips concatenate binary spikes, and their merging into one convolution."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from spiking_centernet.model.context import ForwardContext
from spiking_centernet.model.layers import ConvNeuron, MakeNeuron, convolution, fold_batch_norm
from spiking_centernet.ops import norm_conv

MakeBlock = Callable[[int, int], nn.Module]
"""Builds a decoder block from the channels of its coarser input and of its skip."""


def enlarge(x: Float[Tensor, "T B C h w"], skip: Float[Tensor, "T B D H W"]) -> Float[Tensor, "N C H W"]:
    """Repeat every pixel twice in both directions and crop to the skip: binary stays binary.

    Returns [T * B, C, H, W], which keeps the channels-last layout that a time axis would lose.
    """
    x = F.interpolate(x.flatten(0, 1), scale_factor=2, mode="nearest")
    return x[..., : skip.shape[-2], : skip.shape[-1]]


def join(x: Float[Tensor, "T B C h w"], skip: Float[Tensor, "T B D H W"]) -> Float[Tensor, "N K H W"]:
    """Enlarge and concatenate the skip: [T * B, C + D, H, W], binary stays binary."""
    return torch.cat([enlarge(x, skip), skip.flatten(0, 1)], dim=1)


class Skip(nn.Module):
    """How a block takes in the encoder's spikes. This one is the paper's: :func:`join`, without parameters.

    Args:
        out_channels: channels of the result.
    """

    def __init__(self, out_channels: int):
        super().__init__()
        self.out_channels = out_channels

    def forward(
        self, x: Float[Tensor, "T B C h w"], skip: Float[Tensor, "T B D H W"], context: ForwardContext
    ) -> Float[Tensor, "N K H W"]:
        """Return the coarser input and the skip as one tensor of the skip's size."""
        return join(x, skip)

    def convolved(
        self, conv: nn.Conv2d, x: Float[Tensor, "T B C h w"], skip: Float[Tensor, "T B D H W"], context: ForwardContext
    ) -> Float[Tensor, "N K H W"]:
        """Return what a 1x1 convolution without bias makes of the result; each part is convolved at its own size."""
        coarse, fine = conv.weight.split((x.shape[2], skip.shape[2]), dim=1)
        y = F.conv2d(skip.flatten(0, 1), fine)
        return y.add_(enlarge(F.conv2d(x.flatten(0, 1), coarse).unflatten(0, x.shape[:2]), skip))

    def fused(self) -> "Skip":
        """Return itself: there is nothing to fold."""
        return self


def inner_channels(in_channels: int, skip_channels: int, expansion: float) -> tuple[int, int]:
    """Return hidden and output channels of a block: a share, and half, of the concatenated ones (M2U-Net)."""
    joined = in_channels + skip_channels
    return max(1, round(expansion * joined)), joined // 2


class DecoderBlock(nn.Module):
    """Upsample, concatenate the skip, expand 1x1, filter 3x3 depthwise, project 1x1, fire once.

    There is no neuron between the three convolutions, so that they merge into one 3x3 convolution for inference. The
    padding sits before the first convolution: the depthwise filter then sees the first batch norm's bias beyond the
    border, as the fused convolution does.

    Args:
        in_channels: channels of the coarser input.
        skip_channels: channels of the encoder's spikes.
        expansion: hidden channels over concatenated channels, 0.15 in M2U-Net (Laibacher et al., arXiv 1811.07738).
        make_neuron: builds one neuron layer.
        skips: joins input and skip; None concatenates. Hidden and output channels are those of concatenation always.
    """

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        expansion: float,
        make_neuron: MakeNeuron,
        skips: Skip | None = None,
    ):
        super().__init__()
        hidden, self.out_channels = inner_channels(in_channels, skip_channels, expansion)
        self.join = Skip(in_channels + skip_channels) if skips is None else skips
        self.expand = nn.Conv2d(self.join.out_channels, hidden, 1, bias=False)
        self.expand_norm = nn.BatchNorm2d(hidden)
        self.filter = nn.Conv2d(hidden, hidden, 3, groups=hidden, bias=False)
        self.filter_norm = nn.BatchNorm2d(hidden)
        self.project = ConvNeuron.make(hidden, self.out_channels, make_neuron, kernel=1)

    def forward(
        self, x: Float[Tensor, "T B C h w"], skip: Float[Tensor, "T B D H W"], context: ForwardContext
    ) -> Float[Tensor, "T B K H W"]:
        """Return the block's spikes at the skip's size."""
        folds = self._folds(skip)
        if context.saver is not None:
            folds = context.saver.decide(self, folds)
        if folds:
            y = self.join.convolved(self.expand, x, skip, context)
            y = norm_conv.norm_convolution(y, self.expand_norm, self.filter, padding=1)
            y = norm_conv.norm_convolution(y, self.filter_norm, self.project.conv)
        else:
            y = self.expand(F.pad(self.join(x, skip, context), (1, 1, 1, 1)))
            y = self.filter(self.expand_norm(y))
            y = self.project.conv(self.filter_norm(y))
        return self.project.norm_and_fire(y, (x.shape[0], x.shape[1]), context)

    def _folds(self, x: Tensor) -> bool:
        """Return whether the norms are folded into the convolutions behind them; hooks want those as they are."""
        convs = self.expand, self.filter, self.project.conv
        hooked = any(conv._forward_hooks or conv._forward_pre_hooks for conv in convs)
        return not hooked and norm_conv.supports(x, self.expand_norm) and norm_conv.supports(x, self.filter_norm)

    def fused(self) -> "FusedDecoderBlock":
        """Return the block with its three convolutions and batch norms merged into one 3x3 convolution."""
        expand, expand_bias = fold_batch_norm(self.expand, self.expand_norm)
        filters, filter_bias = fold_batch_norm(self.filter, self.filter_norm)
        assert self.project.norm is not None
        outer, project_bias = fold_batch_norm(self.project.conv, self.project.norm)
        expand, filters, outer = expand[:, :, 0, 0].double(), filters[:, 0].double(), outer[:, :, 0, 0].double()
        weight = torch.einsum("om,mkl,mi->oikl", outer, filters, expand)
        hidden_bias = filter_bias.double() + filters.sum((1, 2)) * expand_bias.double()
        bias = project_bias.double() + outer @ hidden_bias
        merged = convolution(weight.float(), bias.float(), stride=1, padding=1)
        project = ConvNeuron(merged, None, self.project.neuron, name=self.project.name)
        return FusedDecoderBlock(project, self.join.fused())


class FusedDecoderBlock(nn.Module):
    """A fused decoder block: upsample, join the skip, one 3x3 convolution, fire.

    Its neuron layer is the unmerged block's and keeps that one's place and name.
    """

    def __init__(self, project: ConvNeuron, skips: Skip):
        super().__init__()
        self.join = skips
        self.project = project
        self.out_channels = project.conv.out_channels

    def forward(
        self, x: Float[Tensor, "T B C h w"], skip: Float[Tensor, "T B D H W"], context: ForwardContext
    ) -> Float[Tensor, "T B K H W"]:
        """Return the block's spikes at the skip's size."""
        return self.project(self.join(x, skip, context).unflatten(0, x.shape[:2]), context)


class Decoder(nn.Module):
    """Decoder blocks from the coarsest encoder stage upwards.

    Args:
        widths: channels of the encoder's stages, finest first.
        num_blocks: how many blocks; each halves the stride.
        make_block: builds one block, for example a :class:`DecoderBlock`.
    """

    def __init__(self, widths: tuple[int, ...], num_blocks: int, make_block: MakeBlock):
        super().__init__()
        self.blocks = nn.ModuleList()
        self.out_channels = widths[-1]
        for skip_channels in widths[-2 : -2 - num_blocks : -1]:
            block = make_block(self.out_channels, skip_channels)
            self.blocks.append(block)
            self.out_channels = int(block.out_channels)  # pyright: ignore[reportArgumentType]

    def levels(
        self, features: list[Float[Tensor, "T B _ _ _"]], context: ForwardContext
    ) -> list[Float[Tensor, "T B _ _ _"]]:
        """Return the spikes of the coarsest encoder stage and of every block, coarsest first."""
        levels, skips = [features[-1]], features[-2::-1]
        for block, skip in zip(self.blocks, skips, strict=False):
            levels.append(context.run_stage(block, levels[-1], skip, stage=block))
        return levels

    def forward(
        self, features: list[Float[Tensor, "T B _ _ _"]], context: ForwardContext
    ) -> Float[Tensor, "T B K H W"]:
        """Return the spikes of the last block."""
        return self.levels(features, context)[-1]

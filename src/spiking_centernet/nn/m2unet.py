"""The decoder: M2U-Net blocks whose skips concatenate binary spikes, and their merging into one convolution."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from spiking_centernet.nn.blocks import ConvNeuron, MakeNeuron, Membranes, convolution, fold_batch_norm


def join(x: Float[Tensor, "T B C h w"], skip: Float[Tensor, "T B D H W"]) -> Float[Tensor, "N K H W"]:
    """Repeat every pixel twice in both directions, crop to the skip, concatenate: binary stays binary.

    Returns [T * B, C + D, H, W], which keeps the channels-last layout that a time axis would lose.
    """
    x = F.interpolate(x.flatten(0, 1), scale_factor=2, mode="nearest")
    return torch.cat([x[..., : skip.shape[-2], : skip.shape[-1]], skip.flatten(0, 1)], dim=1)


class DecoderBlock(nn.Module):
    """Upsample, concatenate the skip, expand 1x1, filter 3x3 depthwise, project 1x1, fire once.

    There is no neuron between the three convolutions, so that they merge into one 3x3 convolution for inference. The
    padding sits before the first convolution: the depthwise filter then sees the first batch norm's bias beyond the
    border, as the merged convolution does.

    Args:
        in_channels: channels of the coarser input.
        skip_channels: channels of the encoder's spikes.
        expansion: hidden channels over concatenated channels, 0.15 in M2U-Net (Laibacher et al., arXiv 1811.07738).
        make_neuron: builds one neuron layer.
    """

    def __init__(self, in_channels: int, skip_channels: int, expansion: float, make_neuron: MakeNeuron):
        super().__init__()
        joined = in_channels + skip_channels
        hidden = max(1, round(expansion * joined))
        self.out_channels = joined // 2
        self.expand = nn.Conv2d(joined, hidden, 1, bias=False)
        self.expand_norm = nn.BatchNorm2d(hidden)
        self.filter = nn.Conv2d(hidden, hidden, 3, groups=hidden, bias=False)
        self.filter_norm = nn.BatchNorm2d(hidden)
        self.project = ConvNeuron.make(hidden, self.out_channels, make_neuron, kernel=1)

    def forward(
        self, x: Float[Tensor, "T B C h w"], skip: Float[Tensor, "T B D H W"], membranes: Membranes
    ) -> Float[Tensor, "T B K H W"]:
        """Return the block's spikes at the skip's size."""

        def expand(x: Tensor, skip: Tensor) -> Tensor:
            return self.expand(F.pad(join(x, skip), (1, 1, 1, 1)))

        def filters(y: Tensor) -> Tensor:
            return self.filter(self.expand_norm(y))

        def project(y: Tensor) -> Tensor:
            return self.project.conv(self.filter_norm(y))

        # What a convolution here is given costs less to compute again than to keep; the convolution itself runs once.
        y = membranes.run_lean(expand, x, skip, stage=self)
        y = membranes.run_lean(filters, y, stage=self.expand_norm)
        y = membranes.run_lean(project, y, stage=self.filter_norm)
        return self.project.norm_and_fire(y, (x.shape[0], x.shape[1]), membranes)

    def fused(self) -> "FusedDecoderBlock":
        """Return the block with its three convolutions and batch norms merged into one 3x3 convolution."""
        expand, expand_bias = fold_batch_norm(self.expand, self.expand_norm)
        filters, filter_bias = fold_batch_norm(self.filter, self.filter_norm)
        assert self.project.norm is not None
        project, project_bias = fold_batch_norm(self.project.conv, self.project.norm)
        expand, filters, project = expand[:, :, 0, 0].double(), filters[:, 0].double(), project[:, :, 0, 0].double()
        weight = torch.einsum("om,mkl,mi->oikl", project, filters, expand)
        hidden_bias = filter_bias.double() + filters.sum((1, 2)) * expand_bias.double()
        bias = project_bias.double() + project @ hidden_bias
        return FusedDecoderBlock(
            ConvNeuron(convolution(weight.float(), bias.float(), stride=1, padding=1), None, self.project.neuron)
        )


class FusedDecoderBlock(nn.Module):
    """A merged decoder block: upsample, concatenate the skip, one 3x3 convolution, fire."""

    def __init__(self, block: ConvNeuron):
        super().__init__()
        self.block = block
        self.out_channels = block.conv.out_channels

    def forward(
        self, x: Float[Tensor, "T B C h w"], skip: Float[Tensor, "T B D H W"], membranes: Membranes
    ) -> Float[Tensor, "T B K H W"]:
        """Return the block's spikes at the skip's size."""
        return self.block(join(x, skip).unflatten(0, x.shape[:2]), membranes)


class Decoder(nn.Module):
    """Decoder blocks from the coarsest encoder stage upwards.

    Args:
        widths: channels of the encoder's stages, finest first.
        num_blocks: how many blocks; each halves the stride.
        expansion: see :class:`DecoderBlock`.
        make_neuron: builds one neuron layer.
    """

    def __init__(self, widths: tuple[int, ...], num_blocks: int, expansion: float, make_neuron: MakeNeuron):
        super().__init__()
        self.blocks = nn.ModuleList()
        self.out_channels = widths[-1]
        for skip_channels in widths[-2 : -2 - num_blocks : -1]:
            block = DecoderBlock(self.out_channels, skip_channels, expansion, make_neuron)
            self.blocks.append(block)
            self.out_channels = block.out_channels

    def forward(self, features: list[Float[Tensor, "T B _ _ _"]], membranes: Membranes) -> Float[Tensor, "T B K H W"]:
        """Return the spikes of the last block."""
        x, skips = features[-1], features[-2::-1]
        for block, skip in zip(self.blocks, skips, strict=False):
            x = membranes.run_stage(block, x, skip, stage=block)
        return x

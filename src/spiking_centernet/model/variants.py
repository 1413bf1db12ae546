"""What the paper's network might have been instead: other skips, decoder blocks and encoders, for ablations.

Each class takes the place of one block of the network and is called in the same way. None of them is on the paper's
path.
"""

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spiking_centernet.model.config import DecoderConfig, Skips
from spiking_centernet.model.context import ForwardContext
from spiking_centernet.model.decoder import DecoderBlock, MakeBlock, Skip, enlarge, inner_channels
from spiking_centernet.model.encoder import Encoder
from spiking_centernet.model.layers import ConvNeuron, MakeNeuron


def combine(kind: Skips, x: Float[Tensor, "N C H W"], skip: Float[Tensor, "N D H W"]) -> Float[Tensor, "N K H W"]:
    """Return input and skip as one tensor: concatenated, their OR (maximum), their sum, or the input alone.

    A sum of spikes holds 0, 1 and 2; the others stay binary.
    """
    if kind == "concat":
        return torch.cat([x, skip], dim=1)
    if kind == "none":
        return x
    return torch.maximum(x, skip) if kind == "or" else x + skip


class Join(Skip):
    """Enlarge the input and :func:`combine` it with the skip.

    OR and sum need equal channels: a 1x1 convolution with its own neurons brings the input to the skip's (the
    narrowing of LinkNet, arXiv 1707.03718). The paper names the OR and "no skips" without a table or a detail.
    """

    def __init__(self, kind: Skips, in_channels: int, skip_channels: int, make_neuron: MakeNeuron):
        super().__init__(in_channels if kind == "none" else skip_channels)
        self.kind: Skips = kind
        self.narrow = None if kind == "none" else ConvNeuron.make(in_channels, skip_channels, make_neuron, kernel=1)

    def forward(
        self, x: Float[Tensor, "T B C h w"], skip: Float[Tensor, "T B D H W"], context: ForwardContext
    ) -> Float[Tensor, "N K H W"]:
        """Return the narrowed input and the skip as one tensor of the skip's size."""
        x = x if self.narrow is None else self.narrow(x, context)
        return combine(self.kind, enlarge(x, skip), skip.flatten(0, 1))

    def convolved(
        self, conv: nn.Conv2d, x: Float[Tensor, "T B C h w"], skip: Float[Tensor, "T B D H W"], context: ForwardContext
    ) -> Float[Tensor, "N K H W"]:
        """Return ``conv(self(x, skip, context))``."""
        return conv(self(x, skip, context))

    def fused(self) -> "Join":
        """Return a copy with its batch norm folded."""
        fused = copy.deepcopy(self)
        fused.narrow = None if fused.narrow is None else fused.narrow.fused()
        return fused


class InnerNeuronBlock(nn.Module):
    """An M2U-Net block with a neuron after each of its three convolutions: binary inside, and nothing to merge."""

    def __init__(self, in_channels: int, skip_channels: int, expansion: float, make_neuron: MakeNeuron, skips: Skip):
        super().__init__()
        hidden, self.out_channels = inner_channels(in_channels, skip_channels, expansion)
        self.join = skips
        self.expand = ConvNeuron.make(skips.out_channels, hidden, make_neuron, kernel=1)
        filters = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False)
        self.filter = ConvNeuron(filters, nn.BatchNorm2d(hidden), make_neuron())
        self.project = ConvNeuron.make(hidden, self.out_channels, make_neuron, kernel=1)

    def forward(
        self, x: Float[Tensor, "T B C h w"], skip: Float[Tensor, "T B D H W"], context: ForwardContext
    ) -> Float[Tensor, "T B K H W"]:
        """Return the block's spikes at the skip's size."""
        y = self.join(x, skip, context).unflatten(0, x.shape[:2])
        return self.project(self.filter(self.expand(y, context), context), context)

    def fused(self) -> "InnerNeuronBlock":
        """Return a copy whose three convolutions hold their batch norms; they stay three."""
        return _each_fused(self, "join", "expand", "filter", "project")


class TransposedConvNeuron(ConvNeuron):
    """:class:`ConvNeuron` whose convolution doubles the size: 4x4, stride 2, as in CenterNet (arXiv 1904.07850)."""

    def __init__(self, in_channels: int, out_channels: int, make_neuron: MakeNeuron):
        nn.Module.__init__(self)  # not ConvNeuron's, which takes convolutions alone
        self.name = ""
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, 4, 2, 1, bias=False)  # pyright: ignore
        self.norm = nn.BatchNorm2d(out_channels)
        self.neuron = make_neuron()

    def forward(self, x: Float[Tensor, "T B C H W"], context: ForwardContext) -> Float[Tensor, "T B K h w"]:
        """Return the spikes of every step; the input is kept as it is for the backward pass."""
        steps_batch = x.shape[0], x.shape[1] // self.virtual_steps
        return self.norm_and_fire(self.conv(x.flatten(0, 1)), steps_batch, context)

    def fused(self) -> "TransposedConvNeuron":
        """Return a copy with its batch norm folded into the convolution."""
        fused = copy.deepcopy(self)
        norm, fused.norm = fused.norm, None
        assert norm is not None
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        # A transposed convolution stores [in, out, K, K].
        fused.conv.weight = nn.Parameter((fused.conv.weight * scale[None, :, None, None]).detach())
        fused.conv.bias = nn.Parameter((norm.bias - norm.running_mean * scale).detach())
        return fused


class TransposedBlock(nn.Module):
    """A transposed convolution enlarges, a 3x3 convolution joins; each with its neuron."""

    def __init__(self, in_channels: int, skip_channels: int, make_neuron: MakeNeuron, kind: Skips):
        super().__init__()
        _, self.out_channels = inner_channels(in_channels, skip_channels, 1.0)
        self.kind: Skips = kind
        enlarged = skip_channels if kind in ("or", "add") else in_channels
        joined = in_channels + skip_channels if kind == "concat" else enlarged
        self.up = TransposedConvNeuron(in_channels, enlarged, make_neuron)
        self.project = ConvNeuron.make(joined, self.out_channels, make_neuron)

    def forward(
        self, x: Float[Tensor, "T B C h w"], skip: Float[Tensor, "T B D H W"], context: ForwardContext
    ) -> Float[Tensor, "T B K H W"]:
        """Return the block's spikes at the skip's size."""
        y = self.up(x, context).flatten(0, 1)[..., : skip.shape[-2], : skip.shape[-1]]
        return self.project(combine(self.kind, y, skip.flatten(0, 1)).unflatten(0, x.shape[:2]), context)

    def fused(self) -> "TransposedBlock":
        """Return a copy whose convolutions hold their batch norms; they stay two."""
        return _each_fused(self, "up", "project")


def _each_fused(block, *names: str):
    fused = copy.deepcopy(block)
    for name in names:
        setattr(fused, name, getattr(fused, name).fused())
    return fused


def block_maker(config: DecoderConfig, make_neuron: MakeNeuron) -> MakeBlock:
    """Return what builds the decoder's blocks where they are not the paper's, "merged" and "concat"."""

    def make(in_channels: int, skip_channels: int) -> nn.Module:
        if config.kind == "transposed":
            return TransposedBlock(in_channels, skip_channels, make_neuron, config.skips)
        if config.skips == "concat":
            join = Skip(in_channels + skip_channels)
        else:
            join = Join(config.skips, in_channels, skip_channels, make_neuron)
        kind = DecoderBlock if config.kind == "merged" else InnerNeuronBlock
        return kind(in_channels, skip_channels, config.expansion, make_neuron, join)

    return make


class Residual(nn.Module):
    """``f(x) + x`` with f two convolutions and their neurons: ResNet's addition, on spikes (SEW, arXiv 2102.04159).

    Sums of spikes are whole numbers, not binary. Where the shape changes, a 1x1 convolution with its neurons takes the
    place of x, as in ResNet.
    """

    def __init__(self, blocks: Sequence[ConvNeuron], make_neuron: MakeNeuron):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        first, last = blocks[0].conv, blocks[-1].conv
        same = first.stride[0] == 1 and first.in_channels == last.out_channels
        self.shortcut = (
            None
            if same
            else ConvNeuron.make(
                first.in_channels, last.out_channels, make_neuron, kernel=1, stride=int(first.stride[0])
            )
        )

    def forward(self, x: Float[Tensor, "T B C H W"], context: ForwardContext) -> Float[Tensor, "T B K h w"]:
        """Return the sum of every step."""
        y = x
        for block in self.blocks:
            y = block(y, context)
        return y + (x if self.shortcut is None else self.shortcut(x, context))

    def fused(self) -> "Residual":
        """Return a copy whose convolutions hold their batch norms."""
        fused = copy.deepcopy(self)
        fused.blocks = nn.ModuleList(block.fused() for block in fused.blocks)  # pyright: ignore[reportCallIssue]
        fused.shortcut = None if fused.shortcut is None else fused.shortcut.fused()
        return fused


def add_identities(encoder: Encoder, make_neuron: MakeNeuron) -> None:
    """Give every pair of an encoder's convolutions, in place, ResNet's identity addition."""
    for i, stage in enumerate(encoder.stages):
        blocks = list(stage)  # pyright: ignore[reportArgumentType]
        pairs = [blocks[j : j + 2] for j in range(0, len(blocks), 2)]
        encoder.stages[i] = nn.ModuleList(Residual(pair, make_neuron) for pair in pairs)

"""The binary execution of I-LIF networks: every time step becomes D virtual steps that carry 0 or 1.

A neuron that answers n in the integer network spikes in the first n of the D virtual steps here. Convolutions are
linear, so a layer's results for the D virtual steps add up to its result for n, and the bias is added once. A maximum
is exact as well: of neurons that spike n and m times, the OR of their virtual steps has max(n, m) spikes, because all
spike from the first virtual step on. Membranes take the sum and are those of the integer network.

The virtual steps of a time step lie next to each other in the batch axis: spikes are [T, B D, C, H, W].
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from spiking_centernet.model.heads.base import BranchModule
from spiking_centernet.model.layers import ConvNeuron
from spiking_centernet.model.neurons import ILIF
from spiking_centernet.ops.ilif import integrated


class UnrolledILIF(ILIF):
    """:class:`ILIF` that spikes 0 or 1 in each of D virtual steps: virtual step k where ``h >= (k - 1/2) threshold``.

    Its spikes add up to the integer that :class:`ILIF` gives for the same input, and its membrane is the same.
    """

    def __init__(self, neuron: ILIF):
        super().__init__(
            levels=neuron.levels, learned=isinstance(neuron.w, nn.Parameter), threshold=neuron.threshold,
            surrogate=neuron.surrogate, decay_input=neuron.decay_input, detach_reset=neuron.detach_reset,
        )  # fmt: skip
        self.leaky, self.max_spikes = neuron.leaky, 1
        self.w = neuron.w

    def forward(
        self, x: Float[Tensor, "T B C H W"], v: Float[Tensor, "B C H W"] | None = None
    ) -> tuple[Float[Tensor, "T N C H W"], Float[Tensor, "B C H W"]]:
        """Return the spikes, 0 or 1, of every virtual step, and the membrane potential after the last step.

        Args:
            x: input currents, one a time step.
            v: membrane before the first step; None is zero-initialized.

        Returns:
            Spikes [T, B D, C, H, W], and the membrane.
        """
        currents = x.to(torch.promote_types(x.dtype, torch.float32))
        v = torch.zeros_like(currents[0]) if v is None else v
        q = self.q
        trains = []
        for current in currents:
            h = integrated(current, v, q, decay_input=self.decay_input)
            train = torch.stack([(h >= (k + 0.5) * self.threshold).to(h.dtype) for k in range(self.levels)], dim=1)
            v = h - train.sum(1) * self.threshold
            trains.append(train.flatten(0, 1).to(x.dtype))
        return torch.stack(trains), v


class _Virtual(nn.Module):
    """What makes a kind of convolution, named behind it as a base, take virtual steps: it keeps the layer's tensors."""

    def __init__(self, conv: Any, virtual_steps: int):
        super().__init__(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, groups=conv.groups,
            bias=False,
        )  # fmt: skip
        self.weight, self.bias, self.virtual_steps = conv.weight, conv.bias, virtual_steps


class VirtualConv2d(_Virtual, nn.Conv2d):
    """A convolution of every virtual step, [N D, C, H, W], whose D results are added up, and the bias once."""

    def forward(self, input: Float[Tensor, "M C H W"]) -> Float[Tensor, "N K h w"]:
        """Return the sums [N, K, h, w] of N time steps' virtual steps."""
        return _added_up(self._conv_forward(input, self.weight, None), self.virtual_steps, self.bias)


class VirtualConvTranspose2d(_Virtual, nn.ConvTranspose2d):
    """As :class:`VirtualConv2d`, of a transposed convolution."""

    def forward(self, input: Float[Tensor, "M C H W"], output_size: None = None) -> Float[Tensor, "N K h w"]:
        """Return the sums [N, K, h, w] of N time steps' virtual steps."""
        settings = {"stride": self.stride, "padding": self.padding, "groups": self.groups}
        y = F.conv_transpose2d(input, self.weight, None, **settings)  # pyright: ignore[reportArgumentType]
        return _added_up(y, self.virtual_steps, self.bias)


def _added_up(y: Tensor, virtual_steps: int, bias: Tensor | None) -> Tensor:
    total = y.unflatten(0, (len(y) // virtual_steps, virtual_steps)).sum(1)
    return total if bias is None else total + bias[:, None, None]


def unroll_layer(layer: ConvNeuron, *, sees_cube: bool) -> None:
    """Let a fused layer, in place, spike in virtual steps; it takes virtual steps unless it sees the cube."""
    neuron = layer.neuron
    assert isinstance(neuron, ILIF)
    layer.neuron = UnrolledILIF(neuron)
    if not sees_cube:
        layer.virtual_steps = neuron.levels
        layer.conv = _virtual(layer.conv, neuron.levels)  # pyright: ignore[reportAttributeAccessIssue]


def unroll_branch(branch: BranchModule, virtual_steps: int) -> None:
    """Let the last convolution of a branch, in place, take virtual steps; its map stays the mean over time steps."""
    branch.virtual_steps = virtual_steps
    branch.out = VirtualConv2d(branch.out, virtual_steps)


def _virtual(conv: nn.Conv2d | nn.ConvTranspose2d, virtual_steps: int) -> nn.Conv2d | nn.ConvTranspose2d:
    kind = VirtualConvTranspose2d if isinstance(conv, nn.ConvTranspose2d) else VirtualConv2d
    return kind(conv, virtual_steps)  # pyright: ignore[reportArgumentType]


EXACT_BITS = 24
"""float32 holds every whole number up to 2**24, and every one times a power of two."""


def round_to_exact_sums(conv: nn.Conv2d | nn.ConvTranspose2d, largest_input: int) -> None:
    """Round weights and biases, in place, so that sums over whole numbers are exact in float32, in any order.

    Every output channel has a grid of its own, a power of two: weights and bias are multiples of it, and so is every
    partial sum. It is the finest on which no such sum, with all inputs at their largest, passes 2**24 multiples.

    Args:
        conv: a convolution with a bias.
        largest_input: of its inputs, which are whole numbers from 0.
    """
    assert conv.bias is not None
    channel = 1 if isinstance(conv, nn.ConvTranspose2d) and conv.groups == 1 else 0
    others = [axis for axis in range(4) if axis != channel]
    weight, bias = conv.weight.detach().double(), conv.bias.detach().double()
    largest_sum = largest_input * weight.abs().sum(others) + bias.abs()
    # One bit less: rounding may add half a multiple for every weight.
    exponent = torch.floor(torch.log2(largest_sum.clamp(min=2.0**-100))) + 2 - EXACT_BITS
    grid = torch.exp2(exponent)
    shape = [-1 if axis == channel else 1 for axis in range(4)]
    multiples = torch.round(weight / grid.reshape(shape)), torch.round(bias / grid)
    assert float((largest_input * multiples[0].abs().sum(others) + multiples[1].abs()).max()) <= 2**EXACT_BITS
    with torch.no_grad():
        conv.weight.copy_(multiples[0] * grid.reshape(shape))
        conv.bias.copy_(multiples[1] * grid)

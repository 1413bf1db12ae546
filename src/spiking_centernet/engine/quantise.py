"""Weights as int8: symmetric, one power-of-two scale a channel. Spikes need no quantising: 0 and 1 are exact."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spiking_centernet.engine.network import Block

LARGEST = 127
"""Symmetric: -128 is not used."""

BIAS_STEP = 2.0**-10
"""Biases are multiples of this, so that float32 sums of them and of scaled weights are exact in any order."""

LEAST_SCALE = 2.0**-16
"""Channels whose weights are all below 127 * 2**-16 = 0.002 keep this scale, for the same reason; what they lose is a
thousandth of a threshold."""


@dataclass(frozen=True)
class Int8:
    """The quantised convolution of a block, ``y = scale * (weight conv x) + bias``.

    Attributes:
        weight: int8 [O, I, k, k].
        scale: float32 [O], powers of two.
        bias: float32 [O].
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor

    @property
    def values(self) -> Tensor:
        """The weights as float32."""
        return self.weight.float() * self.scale[:, None, None, None]


def quantise(block: Block) -> Int8:
    """Return a block's convolution in int8: weights rounded to the finest power of two that holds them all."""
    largest = block.weight.abs().amax((1, 2, 3))
    scale = torch.exp2(torch.ceil(torch.log2(largest / LARGEST))).clamp_min(LEAST_SCALE)
    weight = (block.weight / scale[:, None, None, None]).round().clamp(-LARGEST, LARGEST).to(torch.int8)
    return Int8(weight, scale, (block.bias / BIAS_STEP).round() * BIAS_STEP)

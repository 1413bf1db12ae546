"""Weights as int8: symmetric, one power-of-two scale per channel. Spikes need no quantizing: they are whole numbers.

What the int8 engine must equal: the fused detector itself with the quantized values as its weights.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spiking_centernet.deploy.engine.ir import Block, unfold
from spiking_centernet.errors import ConfigError
from spiking_centernet.model import Detector

LARGEST = 127
"""Symmetric: -128 is not used."""

BIAS_STEP = 2.0**-10
"""Biases are multiples of this, so that float32 sums of them and of scaled weights are exact in any order."""

LEAST_SCALE = 2.0**-16
"""Channels whose weights are all below 127 * 2**-16 = 0.002 keep this scale, for the same reason; what they lose is a
thousandth of a threshold."""

EXACT = 2.0**24
"""Float32 holds every integer up to this: sums of scaled weights and biases, in their finest step, stay below."""


@dataclass(frozen=True)
class Int8:
    """The quantized convolution of a block, ``y = scale * (weight conv x) + bias``.

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


def int8_of(block: Block) -> Int8:
    """Return a block's convolution in int8: weights rounded to the finest power of two that holds them all.

    Raises:
        ConfigError: weights and biases are so large that sums of them would not be exact.
    """
    largest = block.weight.abs().amax((1, 2, 3))
    scale = torch.exp2(torch.ceil(torch.log2(largest / LARGEST))).clamp_min(LEAST_SCALE)
    weight = (block.weight / scale[:, None, None, None]).round().clamp(-LARGEST, LARGEST).to(torch.int8)
    bias = (block.bias / BIAS_STEP).round() * BIAS_STEP
    reach = weight.double().abs().sum((1, 2, 3)) * block.largest_input * scale.double() + bias.double().abs()
    exact = reach / scale.double().clamp_max(BIAS_STEP) <= EXACT
    if not exact.all():
        raise ConfigError(
            f"channel {int((~exact).nonzero()[0])} of a layer with {len(scale)} has weights of up to "
            f"{float(block.weight.abs().max()):.3g} and biases of up to {float(block.bias.abs().max()):.3g}: its sums "
            'are not exact, so int8 would not compute this network; compile it with precision="fp32"'
        )
    return Int8(weight, scale, bias)


def reference(model: Detector) -> Detector:
    """Return the fused detector in float32 with int8 weights on power-of-two scales: every sum in it is exact.

    Its spikes equal those of the int8 engine to the last bit; its outputs up to the rounding of the last layer, whose
    weights and sums are real numbers.
    """
    fused = model.fuse().cpu().float()
    with torch.no_grad():
        for block in unfold(model).blocks:
            q = int8_of(block)
            parts = zip(block.names, q.values.split(block.out_widths), q.bias.split(block.out_widths), strict=True)
            for name, weight, bias in parts:
                conv = fused.get_submodule(f"{name}.conv")
                conv.weight.copy_(weight)  # pyright: ignore[reportCallIssue]
                conv.bias.copy_(bias)  # pyright: ignore[reportCallIssue]
    return fused

"""A gated spiking memory behind the decoder: what was seen stays seen while nothing happens there."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spiking_centernet.model.config import RecurrentConfig
from spiking_centernet.model.context import ForwardContext
from spiking_centernet.model.layers import ConvNeuron
from spiking_centernet.model.neurons import GatedNeuron

OPEN = 5.0
"""Initial weight of a neuron's own input on its gate: a spike opens a gate of 1 / 145 to one half."""

DRIVE = 0.9
"""Initial weight of a neuron's own input on its drive, over the threshold: close to it, but silent."""


class GatedMemory(ConvNeuron):
    """Spikes of a level and, joined by OR, those of a memory that the same spikes write, hold and erase.

    One convolution gives every neuron of the memory its drive and its gate, so between layers only 0 and 1 travel. It
    begins silent: with a memory added, a trained network answers as before.

    Args:
        channels: of the level.
        config: kernel and initial half-life.
        threshold: firing threshold of the memory's neurons.
        surrogate: name of the derivative used for a spike in the backward pass.
    """

    def __init__(self, channels: int, config: RecurrentConfig, *, threshold: float, surrogate: str):
        conv = nn.Conv2d(channels, 2 * channels, config.kernel, padding=config.kernel // 2)
        assert conv.bias is not None
        closed = 1 - 0.5 ** (1 / config.half_life_steps)
        own, center = torch.arange(channels), config.kernel // 2
        with torch.no_grad():
            conv.weight.zero_()
            conv.weight[own, own, center, center] = DRIVE * threshold
            conv.weight[channels + own, own, center, center] = OPEN
            conv.bias[:channels] = 0
            conv.bias[channels:] = math.log(closed / (1 - closed))
        super().__init__(conv, None, GatedNeuron(threshold=threshold, surrogate=surrogate))

    def forward(self, x: Float[Tensor, "T B C H W"], context: ForwardContext) -> Float[Tensor, "T B C H W"]:
        """Return where the level or its memory spikes; the membrane of the last step goes to ``context``."""
        y = self.conv(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        remembered, v = self.neuron(y, context.membrane(self.name, x.shape[1:]))
        # OR as a sum: its derivative reaches both.
        return context.emit(self.name, x + remembered - x * remembered, v)

"""The int8 network in torch operations alone, for where the native library is missing: slower, the same results."""

import torch
import torch.nn.functional as F
from torch import Tensor

from spiking_centernet.engine.network import Network, traverse
from spiking_centernet.engine.quantise import Int8, quantise
from spiking_centernet.errors import ConfigError
from spiking_centernet.nn.blocks import Observe, State
from spiking_centernet.nn.m2unet import join


class PlainInt8Network:
    """Same call as ``Int8Network``; spikes are float32 [T, B, C, h, w]."""

    def __init__(self, network: Network):
        self.network = network
        self.layers = [quantise(block) for block in network.blocks]

    def __call__(
        self, cube: Tensor, state: State | None, observe: Observe | None, *, keep_state: bool
    ) -> tuple[Tensor, State]:
        """Return the head's spikes summed over the steps, float32 [B, h, w, K], and the membranes."""
        if int(cube.max() if cube.numel() else 0) > 1:
            raise ConfigError("")
        call = _Call(self.network, self.layers, state, observe)
        features = traverse(self.network, call, cube.float())
        spikes = call.fire(len(self.layers) - 1, features)
        return spikes.sum(0).permute(0, 2, 3, 1), call.new if keep_state else []


class _Call:
    def __init__(self, network: Network, layers: list[Int8], state: State | None, observe: Observe | None):
        self.network, self.layers, self.observe = network, layers, observe
        self.old = [None] * sum(len(b.names) for b in network.blocks) if state is None else list(state)
        self.new: State = []

    def fire(self, index: int, x: Tensor) -> Tensor:
        block, layer = self.network.blocks[index], self.layers[index]
        # Whole numbers below 2**24: float32 holds every partial sum exactly.
        sums = F.conv2d(x.flatten(0, 1), layer.weight.float(), None, block.stride, block.kernel // 2)
        y = sums * layer.scale[:, None, None] + layer.bias[:, None, None]
        parts = []
        for current, neuron in zip(y.split(block.widths, dim=1), block.neurons, strict=True):
            spikes, v = neuron(current.unflatten(0, x.shape[:2]), self.old[len(self.new)])
            self.new.append(v)
            if self.observe is not None:
                self.observe(spikes.flatten(0, 1).to(torch.uint8))
            parts.append(spikes)
        return torch.cat(parts, 2)

    def pool(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x.flatten(0, 1), 3, 2, 1).unflatten(0, x.shape[:2])

    def join(self, index: int, x: Tensor, skip: Tensor) -> Tensor:
        return join(x, skip).unflatten(0, x.shape[:2])

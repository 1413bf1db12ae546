"""A detector laid out for execution: its convolutions in order, heads merged, and the way through them."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from spiking_centernet.errors import ConfigError
from spiking_centernet.model import Detector, DetectorConfig
from spiking_centernet.model.decoder import DecoderBlock
from spiking_centernet.model.layers import ConvNeuron
from spiking_centernet.model.neurons import PLIF


@dataclass(frozen=True, kw_only=True)
class Block:
    """A convolution with folded batch norm and the neurons behind it.

    Attributes:
        names: the neuron layers computed together, one but for the heads, as in ``Detector.neuron_names``.
        widths: output channels of each of them.
        weight: float32 [O, I, k, k]; the padding is ``k // 2``.
        bias: float32 [O].
        stride: of the convolution.
        q: float32 [O], the leak; 1 for integrate-and-fire.
        threshold: float32 [O].
        neurons: the neuron layers themselves.
    """

    names: tuple[str, ...]
    widths: tuple[int, ...]
    weight: Tensor
    bias: Tensor
    stride: int
    q: Tensor
    threshold: Tensor
    neurons: tuple[PLIF, ...]

    @property
    def kernel(self) -> int:
        """Side of the kernel."""
        return self.weight.shape[-1]

    def size_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of the output."""
        height, width = (halved(side, self.stride) for side in size_hw)
        return height, width


def halved(side: int, stride: int) -> int:
    """Return the output's side of an odd kernel with padding ``k // 2``."""
    return (side - 1) // stride + 1


@dataclass(frozen=True, kw_only=True)
class Network:
    """The whole detector.

    Attributes:
        config: the detector's.
        stem: the first block; a 3x3 max-pooling with stride 2 follows.
        stages: the encoder's blocks, stage by stage.
        decoder: each takes the joined channels of the coarser spikes, repeated 2x2, and of the skip.
        heads: the hidden layers of all heads as one block.
        out_weight: float32 [outputs, heads' channels], block-diagonal.
        out_bias: float32 [outputs].
        out_widths: output channels of every head.
        head_names: in the same order.
        unmerged: the decoder's blocks in their three convolutions; empty where the detector came fused.
    """

    config: DetectorConfig
    stem: Block
    stages: tuple[tuple[Block, ...], ...]
    decoder: tuple[Block, ...]
    heads: Block
    out_weight: Tensor
    out_bias: Tensor
    out_widths: tuple[int, ...]
    head_names: tuple[str, ...]
    unmerged: tuple[DecoderBlock, ...] = ()

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Every block in the order of computing."""
        return (self.stem, *(block for stage in self.stages for block in stage), *self.decoder, self.heads)

    @property
    def first_decoder(self) -> int:
        """The index of the decoder's first block among ``blocks``."""
        return 1 + sum(len(stage) for stage in self.stages)

    def sizes_hw(self, size_hw: tuple[int, int]) -> list[tuple[int, int]]:
        """Return height and width of every block's output for a cube's."""
        sizes = [self.stem.size_hw(size_hw)]
        now = (halved(sizes[0][0], 2), halved(sizes[0][1], 2))
        features = []
        for stage in self.stages:
            for block in stage:
                now = block.size_hw(now)
                sizes.append(now)
            features.append(now)
        for _, skip in zip(self.decoder, features[-2::-1], strict=False):
            sizes.append(skip)
            now = skip
        return [*sizes, now]


def unfold(model: Detector) -> Network:
    """Return the network of a detector, which is fused here and left unchanged.

    Raises:
        ConfigError: the detector is an ANN, whose activations are no spikes, or a variant of the network.
    """
    if not model.config.neuron.is_spiking:
        raise ConfigError('the engine computes with spikes; neuron.kind "relu" makes an ANN: call the detector itself')
    if model.config.variations:
        raise ConfigError(
            f"the engine does not compute networks with {model.config.variations}; call the detector itself"
        )
    whole = copy.deepcopy(model).eval().requires_grad_(False).cpu().float()
    fused = whole.fuse()
    names = iter(fused.neuron_names)
    stem = _block([fused.encoder.stem], [next(names)])
    stages = tuple(tuple(_block([layer], [next(names)]) for layer in stage) for stage in fused.encoder.stages)  # pyright: ignore
    decoder = tuple(_block([layer.project], [next(names)]) for layer in fused.decoder.blocks)  # pyright: ignore
    heads = dict(fused.heads.items())
    outs = [head.out for head in heads.values()]
    return Network(
        config=model.config,
        stem=stem,
        stages=stages,
        decoder=decoder,
        heads=_block([head.block for head in heads.values()], list(names)),  # pyright: ignore
        out_weight=torch.block_diag(*(out.weight.detach()[:, :, 0, 0] for out in outs)),  # pyright: ignore
        out_bias=torch.cat([out.bias.detach() for out in outs]),  # pyright: ignore
        out_widths=tuple(out.out_channels for out in outs),  # pyright: ignore
        head_names=tuple(heads),
        unmerged=tuple(block for block in whole.decoder.blocks if isinstance(block, DecoderBlock)),
    )


def _block(layers: Sequence[ConvNeuron], names: Sequence[str]) -> Block:
    convs, neurons = [layer.conv for layer in layers], [layer.neuron for layer in layers]
    widths = tuple(conv.out_channels for conv in convs)
    for conv in convs:
        assert conv.padding == (conv.kernel_size[0] // 2, conv.kernel_size[0] // 2)
    leaks = [1.0 if neuron.q is None else float(neuron.q) for neuron in neurons]  # pyright: ignore
    return Block(
        names=tuple(names),
        widths=widths,
        weight=torch.cat([conv.weight.detach() for conv in convs]).contiguous(),
        bias=torch.cat([conv.bias.detach() for conv in convs]),  # pyright: ignore
        stride=convs[0].stride[0],
        q=_per_channel(leaks, widths),
        threshold=_per_channel([neuron.threshold for neuron in neurons], widths),  # pyright: ignore
        neurons=tuple(neurons),  # pyright: ignore
    )


def _per_channel(values: Sequence[float], widths: Sequence[int]) -> Tensor:
    return torch.cat([torch.full((width,), value) for value, width in zip(values, widths, strict=True)])


X = TypeVar("X")


class Ops(Protocol[X]):
    """What a way of computing must offer; ``X`` is how it holds the spikes of a layer."""

    def fire(self, index: int, x: X) -> X:
        """Return the spikes of block ``index``."""
        ...

    def pool(self, x: X) -> X:
        """Return the 3x3 max-pooling with stride 2."""
        ...

    def join(self, index: int, x: X, skip: X) -> X:
        """Return the input of decoder block ``index``: ``x`` repeated 2x2 and cropped, and the skip behind it."""
        ...


def traverse(network: Network, ops: Ops[X], x: X) -> X:
    """Take the input through the network; returns the input of the heads."""
    index = 0
    x = ops.pool(ops.fire(index, x))
    features = []
    for stage in network.stages:
        for _ in stage:
            index += 1
            x = ops.fire(index, x)
        features.append(x)
    for skip in features[-2 : -2 - len(network.decoder) : -1]:
        index += 1
        x = ops.fire(index, ops.join(index, x, skip))
    return x

"""A detector laid out for execution: its convolutions in order, the head's merged, and the way through them."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from spiking_centernet.errors import ConfigError
from spiking_centernet.model import Detector, DetectorConfig
from spiking_centernet.model.decoder import DecoderBlock
from spiking_centernet.model.graph import Combine, Graph, MaxPool, Node, SizeHW, graph_of, walk
from spiking_centernet.model.layers import ConvNeuron
from spiking_centernet.model.neurons import ILIF, PLIF, GatedNeuron
from spiking_centernet.model.unroll import UnrolledILIF
from spiking_centernet.ops.structs import MAX_SPIKES

SpikingNeuron = PLIF | ILIF | GatedNeuron


@dataclass(frozen=True, kw_only=True)
class Block:
    """A convolution with folded batch norm and the neurons behind it.

    Attributes:
        names: the neuron layers computed together, one but for the heads, as in ``Detector.neuron_names``.
        widths: output channels of each of them.
        weight: float32 [O, I, k, k]; the padding is ``k // 2``. Of a memory the drives and behind them the gates.
        bias: float32 [O].
        stride: of the convolution.
        q: float32 [O], the leak; 1 for integrate-and-fire.
        threshold: float32 [1 + levels, O]: first what a spike takes from the membrane. Neurons that answer with 0 or 1
            spike there too and have no levels; others at the second row, twice at the third, and so on. Of a memory
            infinite, for its neurons are no part of the convolution.
        neurons: the neuron layers themselves.
        largest_input: most spikes of an input in a time step.
    """

    names: tuple[str, ...]
    widths: tuple[int, ...]
    weight: Tensor
    bias: Tensor
    stride: int
    q: Tensor
    threshold: Tensor
    neurons: tuple[SpikingNeuron, ...]
    largest_input: int = 1

    def __post_init__(self):
        # The kernels read as many rows as there are: one that is no row would be read beyond its end.
        assert self.threshold.shape[1:] == self.bias.shape

    @property
    def memory(self) -> GatedNeuron | None:
        """The neurons of a memory, None of any other block."""
        (neuron, *_) = self.neurons
        return neuron if isinstance(neuron, GatedNeuron) else None

    @property
    def levels(self) -> int:
        """Most spikes in a time step of neurons that answer with whole numbers; 0 of all others."""
        return len(self.threshold) - 1

    @property
    def out_widths(self) -> tuple[int, ...]:
        """Output channels of each convolution."""
        return self.widths if self.memory is None else (2 * self.widths[0],)

    @property
    def kernel(self) -> int:
        """Side of the kernel."""
        return self.weight.shape[-1]


@dataclass(frozen=True, kw_only=True)
class Network:
    """The whole detector.

    Attributes:
        config: the detector's.
        graph: of the fused detector.
        blocks: the neuron layers in the order of computing; the head's are the last block, all in one.
        out_weight: float32 [outputs, heads' channels], block-diagonal.
        out_bias: float32 [outputs].
        out_widths: output channels of every head.
        head_names: in the same order.
        unmerged: the decoder's blocks in their three convolutions, by index; empty where the detector came fused.
    """

    config: DetectorConfig
    graph: Graph
    blocks: tuple[Block, ...]
    out_weight: Tensor
    out_bias: Tensor
    out_widths: tuple[int, ...]
    head_names: tuple[str, ...]
    unmerged: Mapping[int, DecoderBlock] = field(default_factory=dict)

    @property
    def heads(self) -> Block:
        """The hidden layers of all heads as one block."""
        return self.blocks[-1]

    @cached_property
    def body(self) -> tuple[Node, ...]:
        """The graph's nodes before the head."""
        return self.graph.body

    @cached_property
    def index_of(self) -> dict[str, int]:
        """By neuron layer, the index of its block; by combined tensor, that of the block that takes it."""
        layers = {name: i for i, block in enumerate(self.blocks) for name in block.names}
        takers = {source: node.name for node in self.body for source in node.sources}
        return layers | {n.name: layers[takers[n.name]] for n in self.body if isinstance(n, Combine)}

    def input_parts(self) -> list[tuple[int, ...]]:
        """Return of every block how its input channels are joined."""
        parts = []
        for block in self.blocks:
            source = self.graph.by_name[self.graph.by_name[block.names[0]].sources[0]]
            joined = source.sources if isinstance(source, Combine) else (source.name,)
            parts.append(tuple(self.graph.by_name[name].channels for name in joined))
        return parts

    def sizes_hw(self, size_hw: SizeHW) -> list[SizeHW]:
        """Return height and width of every block's output for a cube's."""
        sizes = self.graph.sizes_hw(size_hw)
        return [sizes[block.names[0]] for block in self.blocks]


def unfold(model: Detector) -> Network:
    """Return the network of a detector, which is fused here and left unchanged.

    Raises:
        ConfigError: the detector is an ANN, whose activations are no spikes, or a variant of the network.
    """
    if not model.config.neuron.is_spiking:
        raise ConfigError('the engine computes with spikes; neuron.kind "relu" makes an ANN: call the detector itself')
    if model.config.neuron.max_spikes > MAX_SPIKES:
        raise ConfigError(
            f"the engine's neurons spike up to {MAX_SPIKES} times a step, these up to {model.config.neuron.max_spikes} "
            "times (neuron.levels); call the detector itself"
        )
    if any(isinstance(module, UnrolledILIF) for module in model.modules()):
        raise ConfigError("this network is unrolled: compile the one it was made from, which spikes in the same way")
    if variations := model.config.variations_but("recurrent.kind", "head.readout_steps"):
        raise ConfigError(f"the engine does not compute networks with {variations}; call the detector itself")
    whole = copy.deepcopy(model).eval().requires_grad_(False).cpu().float()
    fused = whole.fuse()
    graph = graph_of(fused)
    modules = {layer.name: fused.get_submodule(layer.name) for layer in graph.layers}
    head = [readout.sources[0] for readout in graph.readouts]
    blocks = [[layer.name] for layer in graph.layers if layer.name not in head] + [head]
    outs = [fused.get_submodule(readout.conv.name) for readout in graph.readouts]
    unmerged = [m for m in whole.decoder.blocks if isinstance(m, DecoderBlock)]
    inputs = [1] + [model.config.neuron.max_spikes] * (len(blocks) - 1)  # the cube's, then spikes
    return Network(
        config=model.config,
        graph=graph,
        blocks=tuple(
            _block([modules[name] for name in names], names, largest)  # pyright: ignore[reportArgumentType]
            for names, largest in zip(blocks, inputs, strict=True)
        ),
        out_weight=torch.block_diag(*(out.weight.detach()[:, :, 0, 0] for out in outs)),  # pyright: ignore
        out_bias=torch.cat([out.bias.detach() for out in outs]),  # pyright: ignore
        out_widths=tuple(readout.channels for readout in graph.readouts),
        head_names=tuple(readout.name for readout in graph.readouts),
        unmerged={blocks.index([block.project.name]): block for block in unmerged},
    )


def _block(layers: Sequence[ConvNeuron], names: Sequence[str], largest_input: int) -> Block:
    convs, neurons = [layer.conv for layer in layers], [layer.neuron for layer in layers]
    widths = out_widths = tuple(conv.out_channels for conv in convs)
    for conv in convs:
        assert conv.padding == (conv.kernel_size[0] // 2, conv.kernel_size[0] // 2)
    if isinstance(neurons[0], GatedNeuron):
        widths, leaks, thresholds = (widths[0] // 2,), [1.0], [[math.inf]]
    else:
        leaks = [1.0 if neuron.q is None else float(neuron.q) for neuron in neurons]  # pyright: ignore
        thresholds = [_thresholds(neuron) for neuron in neurons]  # pyright: ignore
    return Block(
        names=tuple(names),
        widths=widths,
        weight=torch.cat([conv.weight.detach() for conv in convs]).contiguous(),
        bias=torch.cat([conv.bias.detach() for conv in convs]),  # pyright: ignore
        stride=convs[0].stride[0],
        q=_per_channel(leaks, out_widths),
        threshold=torch.stack([_per_channel(row, out_widths) for row in zip(*thresholds, strict=True)]),
        neurons=tuple(neurons),  # pyright: ignore
        largest_input=largest_input,
    )


def _thresholds(neuron: PLIF | ILIF) -> list[float]:
    return [neuron.threshold] + (neuron.options.thresholds if isinstance(neuron, ILIF) else [])


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

    def compute(node: Node, *sources: X) -> X:
        if isinstance(node, MaxPool):
            return ops.pool(*sources)
        if isinstance(node, Combine):
            return ops.join(network.index_of[node.name], *sources)
        return ops.fire(network.index_of[node.name], *sources)

    (features,) = walk(network.body, compute, x).values()
    return features

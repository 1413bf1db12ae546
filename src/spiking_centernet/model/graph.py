"""The network as a list of nodes in the order in which they compute: the one description of the way through it.

Execution, export, operation counts and comparisons walk these nodes; only the modules' own ``forward`` does not. Nodes
are plain data: who needs weights asks the detector for the module of that name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from torch import nn

from spiking_centernet.model.config import Skips
from spiking_centernet.model.decoder import DecoderBlock, FusedDecoderBlock
from spiking_centernet.model.detector import Detector
from spiking_centernet.model.heads.base import BranchModule
from spiking_centernet.model.layers import ConvNeuron
from spiking_centernet.model.variants import InnerNeuronBlock, Join, Residual, TransposedBlock

SizeHW = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Node:
    """A tensor of the network and how it comes about.

    Attributes:
        name: of the node, unique in its graph.
        sources: the nodes whose tensors it takes.
        channels: of its own tensor.
    """

    name: str
    sources: tuple[str, ...]
    channels: int


@dataclass(frozen=True, kw_only=True)
class Cube(Node):
    """The input: voxel cubes."""


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """A convolution and the batch norm behind it.

    Attributes:
        name: of its module in the detector.
        norm: of the batch norm's module; None where it is folded or there is none.
        in_channels: of the input.
        out_channels: of the output.
        kernel: side of the kernel.
        stride: of the convolution.
        padding: zeros on every side of the input.
        groups: of the convolution.
        transposed: whether the stride enlarges.
    """

    name: str
    norm: str | None
    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    padding: int
    groups: int
    transposed: bool

    def size_hw(self, size_hw: SizeHW) -> SizeHW:
        """Return height and width of the output for an input's."""
        if self.transposed:
            height, width = ((side - 1) * self.stride - 2 * self.padding + self.kernel for side in size_hw)
        else:
            height, width = ((side + 2 * self.padding - self.kernel) // self.stride + 1 for side in size_hw)
        return height, width

    def macs(self, size_hw: SizeHW) -> int:
        """Return the multiply-accumulates of a step for an input's height and width, those with zeros included."""
        # A transposed convolution does per input what the other does per output.
        height, width = size_hw if self.transposed else self.size_hw(size_hw)
        return conv_macs(self.in_channels // self.groups, self.out_channels, self.kernel, (height, width))


def conv_macs(in_channels: int, out_channels: int, kernel: int, out_hw: SizeHW) -> int:
    """Return the multiply-accumulates of a convolution, padding included, as papers count them."""
    return in_channels * out_channels * kernel * kernel * out_hw[0] * out_hw[1]


@dataclass(frozen=True, kw_only=True)
class NeuronLayer(Node):
    """A convolution with its neurons; its name is that of ``Detector.neuron_names``.

    Attributes:
        convs: one convolution, or the three that follow each other without neurons between where a decoder block is
            not merged.
        pad: zeros around the input before the first of several, next to their own padding.
    """

    convs: tuple[Convolution, ...]
    pad: int = 0

    @property
    def merged(self) -> Convolution:
        """The shape of the one convolution that they merge into, named as that which has its kernel and stride."""
        widest = max(self.convs, key=lambda conv: conv.kernel)
        return replace(
            widest, norm=None, in_channels=self.convs[0].in_channels, out_channels=self.convs[-1].out_channels,
            padding=widest.padding + self.pad, groups=1 if len(self.convs) > 1 else widest.groups,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Recurrence(NeuronLayer):
    """The spikes of its source, joined by OR with those of a memory; its convolution gives drives and gates."""


@dataclass(frozen=True, kw_only=True)
class MaxPool(Node):
    """3x3 maximum with stride 2 and padding 1."""


@dataclass(frozen=True, kw_only=True)
class Combine(Node):
    """The first source at the size of the second, and both as one tensor.

    Attributes:
        kind: "concat", "or", "add", or "none" for the first source alone; see ``variants.combine``.
        upsample: every pixel of the first source is repeated 2x2 before; what is beyond the second is cropped.
    """

    kind: Skips
    upsample: bool


@dataclass(frozen=True, kw_only=True)
class Readout(Node):
    """A head branch's 1x1 convolution on spikes, averaged over the steps; named as the branch.

    Attributes:
        conv: the convolution.
    """

    conv: Convolution


@dataclass(frozen=True)
class Graph:
    """All nodes, each behind its sources.

    Attributes:
        nodes: the first is the cube.
    """

    nodes: tuple[Node, ...]

    @cached_property
    def by_name(self) -> dict[str, Node]:
        """The nodes by their names."""
        return {node.name: node for node in self.nodes}

    @property
    def layers(self) -> tuple[NeuronLayer, ...]:
        """The neuron layers, in the order of ``Detector.neuron_names``."""
        return tuple(node for node in self.nodes if isinstance(node, NeuronLayer))

    @property
    def readouts(self) -> tuple[Readout, ...]:
        """The last convolutions of the head's branches."""
        return tuple(node for node in self.nodes if isinstance(node, Readout))

    @property
    def body(self) -> tuple[Node, ...]:
        """The nodes before the head: those that are neither a readout nor the layer under one."""
        head = {readout.sources[0] for readout in self.readouts}
        return tuple(node for node in self.nodes if not isinstance(node, Readout) and node.name not in head)

    def sizes_hw(self, size_hw: SizeHW) -> dict[str, SizeHW]:
        """Return height and width of every node's tensor for a cube's."""
        sizes: dict[str, SizeHW] = {}

        def size_of(node: Node, *sources: SizeHW) -> SizeHW:
            sizes[node.name] = _size_hw(node, *sources)
            return sizes[node.name]

        sizes[self.nodes[0].name] = size_hw
        walk(self.nodes, size_of, size_hw)
        return sizes

    def macs(self, size_hw: SizeHW) -> dict[str, int]:
        """Return the multiply-accumulates of a step by node, padding included, decoder blocks fused.

        Args:
            size_hw: height and width of the cube.
        """
        sizes = self.sizes_hw(size_hw)
        convs = {layer.name: (layer.merged, layer.sources[0]) for layer in self.layers}
        convs |= {readout.name: (readout.conv, readout.sources[0]) for readout in self.readouts}
        return {name: conv.macs(sizes[source]) for name, (conv, source) in convs.items()}


X = TypeVar("X")


def walk(nodes: Sequence[Node], compute: Callable[..., X], cube: X) -> dict[str, X]:
    """Compute nodes one after the other and let go of what no other will take; return what is left, by node.

    Args:
        nodes: of a graph, the cube first.
        compute: called with a node and the values of its sources.
        cube: the value of the first node.
    """
    last_taker = {source: node.name for node in nodes for source in node.sources}
    values = {nodes[0].name: cube}
    for node in nodes[1:]:
        values[node.name] = compute(node, *(values[source] for source in node.sources))
        for source in set(node.sources):
            if last_taker[source] == node.name:
                del values[source]
    return values


def _size_hw(node: Node, *sources: SizeHW) -> SizeHW:
    if isinstance(node, MaxPool):
        height, width = sources[0]
        return halved(height), halved(width)
    if isinstance(node, NeuronLayer):
        return node.merged.size_hw(sources[0])
    return sources[-1]


def halved(side: int) -> int:
    """Return the side of the output of a max-pooling."""
    return (side + 1) // 2


def graph_of(model: Detector) -> Graph:
    """Return the nodes of a detector, fused or not, of any kind."""
    builder = _Builder(model.config.voxels.channels)
    x = builder.pool(builder.layer(model.encoder.stem, "cube"))
    features = []
    for i, stage in enumerate(model.encoder.stages):
        for j, block in enumerate(stage):  # pyright: ignore[reportArgumentType]
            x = builder.encoder_block(f"encoder.stages.{i}.{j}", block, x)
        features.append(x)
    levels = [x]
    for i, (block, skip) in enumerate(zip(model.decoder.blocks, features[-2::-1], strict=False)):
        levels.append(builder.decoder_block(f"decoder.blocks.{i}", block, levels[-1], skip))
    if model.recurrent is not None:
        levels[-1] = builder.recurrence(model.recurrent, levels[-1])
    for name, branch in model.head.branches.items():
        module = model.heads[name]
        assert isinstance(module, BranchModule)
        builder.readout(name, module.out, builder.layer(module.block, levels[branch.level]))
    return Graph(tuple(builder.nodes.values()))


def convolution_of(name: str, conv: nn.Conv2d | nn.ConvTranspose2d, norm: str | None = None) -> Convolution:
    """Return the shape of a convolution, square in everything.

    Args:
        name: of its module.
        conv: the module.
        norm: name of the batch norm behind it.
    """
    assert isinstance(conv.padding, tuple)
    assert conv.padding[0] == conv.padding[1]
    return Convolution(
        name=name, norm=norm, in_channels=conv.in_channels, out_channels=conv.out_channels,
        kernel=conv.kernel_size[0], stride=conv.stride[0], padding=conv.padding[0], groups=conv.groups,
        transposed=isinstance(conv, nn.ConvTranspose2d),
    )  # fmt: skip


class _Builder:
    """Collects nodes; every method returns the name of the last one it added."""

    def __init__(self, channels: int):
        self.nodes: dict[str, Node] = {"cube": Cube(name="cube", sources=(), channels=channels)}

    def add(self, node: Node) -> str:
        assert node.name not in self.nodes
        self.nodes[node.name] = node
        return node.name

    def pool(self, source: str) -> str:
        return self.add(MaxPool(name="pool", sources=(source,), channels=self.nodes[source].channels))

    def readout(self, name: str, conv: nn.Conv2d, source: str) -> str:
        shape = convolution_of(f"heads.{name}.out", conv)
        return self.add(Readout(name=name, sources=(source,), channels=conv.out_channels, conv=shape))

    def layer(self, module: ConvNeuron, source: str) -> str:
        conv = convolution_of(
            f"{module.name}.conv", module.conv, None if module.norm is None else f"{module.name}.norm"
        )
        return self.neurons(module.name, (conv,), source)

    def neurons(self, name: str, convs: tuple[Convolution, ...], source: str, *, pad: int = 0) -> str:
        channels = convs[-1].out_channels
        return self.add(NeuronLayer(name=name, sources=(source,), channels=channels, convs=convs, pad=pad))

    def recurrence(self, module: ConvNeuron, source: str) -> str:
        convs = (convolution_of(f"{module.name}.conv", module.conv),)
        channels = self.nodes[source].channels
        return self.add(Recurrence(name=module.name, sources=(source,), channels=channels, convs=convs))

    def combine(self, name: str, kind: Skips, x: str, skip: str, *, upsample: bool) -> str:
        channels = self.nodes[x].channels + (self.nodes[skip].channels if kind == "concat" else 0)
        return self.add(Combine(name=name, sources=(x, skip), channels=channels, kind=kind, upsample=upsample))

    def encoder_block(self, name: str, block: nn.Module, x: str) -> str:
        if isinstance(block, ConvNeuron):
            return self.layer(block, x)
        assert isinstance(block, Residual)
        y = x
        for module in block.blocks:
            y = self.layer(module, y)  # pyright: ignore[reportArgumentType]
        shortcut = x if block.shortcut is None else self.layer(block.shortcut, x)
        return self.combine(name, "add", y, shortcut, upsample=False)

    def decoder_block(self, name: str, block: nn.Module, x: str, skip: str) -> str:
        if isinstance(block, TransposedBlock):
            joined = self.combine(f"{name}.join", block.kind, self.layer(block.up, x), skip, upsample=False)
            return self.layer(block.project, joined)
        assert isinstance(block, DecoderBlock | FusedDecoderBlock | InnerNeuronBlock)
        kind: Skips = "concat"
        if isinstance(block.join, Join):
            kind = block.join.kind
            x = x if block.join.narrow is None else self.layer(block.join.narrow, x)
        joined = self.combine(f"{name}.join", kind, x, skip, upsample=True)
        if isinstance(block, FusedDecoderBlock):
            return self.layer(block.project, joined)
        if isinstance(block, InnerNeuronBlock):
            return self.layer(block.project, self.layer(block.filter, self.layer(block.expand, joined)))
        convs = (
            convolution_of(f"{name}.expand", block.expand, f"{name}.expand_norm"),
            convolution_of(f"{name}.filter", block.filter, f"{name}.filter_norm"),
            convolution_of(f"{name}.project.conv", block.project.conv, f"{name}.project.norm"),
        )
        return self.neurons(block.project.name, convs, joined, pad=1)


def dense_macs(model: Detector, size_hw: SizeHW) -> int:
    """Return the multiply-accumulates of one step of a dense engine, padding included, decoder blocks fused.

    The first convolution of a network of mode "direct" computes once a picture, so a step has its share of it.

    Args:
        model: the detector.
        size_hw: height and width of the cube in pixels.
    """
    macs = graph_of(model).macs(size_hw)
    if model.config.voxels.mode == "direct":
        macs["encoder.stem"] = round(macs["encoder.stem"] / model.config.voxels.num_steps)
    return sum(macs.values())

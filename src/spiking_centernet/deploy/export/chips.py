"""What the makers' documents say stands between a NIR graph and each family of chips."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Layer:
    """A population of neurons and what feeds it.

    Attributes:
        name: of the population.
        shape: its neurons, [C, h, w].
        weights: shapes [O, I, K, K] of the convolutions into it.
        strides: of those convolutions.
        paddings: of those convolutions.
        fan_out: populations and outputs that it feeds.
    """

    name: str
    shape: tuple[int, ...]
    weights: list[tuple[int, ...]]
    strides: list[int]
    paddings: list[int]
    fan_out: int


@dataclass(frozen=True)
class ChipFamily:
    """A family of chips: its name, the document that its limits come from, and the check."""

    name: str
    source: str
    check: Callable[[Any, list[Layer]], list[str]]


def layers_of(graph: Any) -> list[Layer]:
    """Return the populations of LIF and IF neurons of a NIR graph."""
    found = []
    for name, node in graph.nodes.items():
        if type(node).__name__ not in ("LIF", "IF"):
            continue
        convs = [graph.nodes[a] for a, b in graph.edges if b == name and type(graph.nodes[a]).__name__ == "Conv2d"]
        found.append(
            Layer(
                name, tuple(node.v_threshold.shape), [tuple(c.weight.shape) for c in convs],
                [int(np.atleast_1d(c.stride)[0]) for c in convs], [int(np.atleast_1d(c.padding)[0]) for c in convs],
                sum(a == name for a, _ in graph.edges),
            )
        )  # fmt: skip
    return found


def _speck(graph: Any, layers: list[Layer]) -> list[str]:
    blocks = []
    kinds = {type(node).__name__ for node in graph.nodes.values()}
    height, width = graph.nodes["input"].input_type["input"][1:]
    if max(height, width) > 128:
        blocks.append(f"the input is {width} x {height}, the largest is 128 x 128")
    if len(layers) > 9:
        blocks.append(f"{len(layers)} layers of neurons, the chip has 9 cores")
    if "LIF" in kinds:
        blocks.append("LIF neurons leak by a share of their membrane, the chip's leak is a constant")
    for kind in {"SumPool2d", "Threshold"} & kinds:
        blocks.append(f"{kind}: pooling is 1x1, 2x2 or 4x4 at the output of a core, its sum is not thresholded")
    for what, wrong in (
        ("maps above 64 x 64", [x.name for x in layers if max(x.shape[1:]) > 64]),
        ("more than 1024 channels", [x.name for x in layers if x.shape[0] > 1024]),
        ("kernels above 16 x 16", [x.name for x in layers if any(w[-1] > 16 for w in x.weights)]),
        ("strides other than 1, 2, 4, 8", [x.name for x in layers if not {1, 2, 4, 8}.issuperset(x.strides)]),
        ("padding above 7", [x.name for x in layers if max(x.paddings, default=0) > 7]),
        ("more than 2 destinations", [x.name for x in layers if x.fan_out > 2]),
        ("more than 64 Ki entries of weights", [x.name for x in layers if sum(map(_speck_entries, x.weights)) > 65536]),
        ("more than 64 Ki neurons in a core", [x.name for x in layers if math.prod(x.shape) > 65536]),
    ):
        if wrong:
            blocks.append(f"{what}: {', '.join(wrong)}")
    return blocks


def _speck_entries(weight: tuple[int, ...]) -> int:
    out_channels, in_channels, kernel = weight[0], weight[1], weight[2] * weight[3]
    return in_channels * 2 ** (math.ceil(math.log2(kernel)) + math.ceil(math.log2(out_channels)))


def _xylo(graph: Any, layers: list[Layer]) -> list[str]:
    blocks = []
    inputs, neurons = int(np.prod(graph.nodes["input"].input_type["input"])), sum(math.prod(x.shape) for x in layers)
    if any(type(node).__name__ == "Conv2d" for node in graph.nodes.values()):
        blocks.append("convolutions, the chip has dense layers")
    if inputs > 16:
        blocks.append(f"{inputs:,} inputs, the chip has 16")
    if neurons > 1000:
        blocks.append(f"{neurons:,} neurons, the chip has 1000")
    return blocks


def _loihi2(graph: Any, layers: list[Layer]) -> list[str]:
    return _too_many_neurons(layers, 1_000_000)


def _spinnaker2(graph: Any, layers: list[Layer]) -> list[str]:
    weights = sum(math.prod(w) for x in layers for w in x.weights)
    states = 4 * sum(math.prod(x.shape) for x in layers)
    room = 152 * 128 * 1024
    if weights + states > room:
        return [f"{(weights + states) / 1e6:.0f} MB of int8 weights and membranes, its cores hold {room / 1e6:.0f} MB"]
    return []


def _too_many_neurons(layers: list[Layer], most: int) -> list[str]:
    neurons = sum(math.prod(x.shape) for x in layers)
    return [f"{neurons:,} neurons, one chip has {most:,}: it takes {-(-neurons // most)}"] if neurons > most else []


FAMILIES = (
    ChipFamily("SynSense Speck (DYNAP-CNN)", "https://sinabs.readthedocs.io/en/main/speck/overview.html", _speck),
    ChipFamily("SynSense Xylo", "https://rockpool.ai/devices/xylo-overview.html", _xylo),
    ChipFamily(
        "Intel Loihi 2",
        "https://download.intel.com/newsroom/2021/new-technologies/neuromorphic-computing-loihi-2-brief.pdf",
        _loihi2,
    ),
    ChipFamily("SpiNNaker2", "https://arxiv.org/abs/2401.04491", _spinnaker2),
)
"""Families of chips that read NIR (arXiv 2311.14641); their weights are integers of 8 bits, so quantize first."""


def blockers(graph: Any) -> dict[str, list[str]]:
    """Return, by family of chips, what documents say it cannot hold of a graph; an empty list is no promise."""
    layers = layers_of(graph)
    return {family.name: family.check(graph, layers) for family in FAMILIES}

"""Which weights an input meets in a convolution, and how many pairs of spike and weight a window computes by it."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from spiking_centernet.model.graph import Combine, Convolution, Graph, MaxPool, NeuronLayer, Node, Readout, walk
from spiking_centernet.model.variants import combine
from spiking_centernet.ops.pooling import max_pool


def taps_met(
    side: int, outputs: int, *, kernel: int, stride: int, before: int, dilation: int = 1, transposed: bool = False
) -> np.ndarray:
    """Return which taps of a kernel an input position meets along one axis: 0 or 1, int64 [kernel, side].

    Input position ``i`` meets tap ``k`` if an output position ``o`` has ``o stride - before + k dilation = i``; in a
    transposed convolution, which writes what the other reads, if it has ``i stride - before + k dilation = o``.

    Args:
        side: of the input.
        outputs: side of the output.
        kernel: side of the kernel.
        stride: of the convolution.
        before: zeros before the first input.
        dilation: distance of taps.
        transposed: whether the stride enlarges.
    """
    taps = np.arange(kernel)[:, None] * dilation
    if transposed:
        position = np.arange(side) * stride - before + taps  # [kernel, side]
        return ((position >= 0) & (position < outputs)).astype(np.int64)
    position = np.arange(outputs) * stride - before + taps  # [kernel, outputs]
    met = np.zeros((kernel, side), np.int64)
    for k in range(kernel):
        met[k, position[k][(position[k] >= 0) & (position[k] < side)]] = 1
    return met


def fan_out(conv: Convolution, size_hw: tuple[int, int]) -> np.ndarray:
    """Return how many weights of one output channel an input at every position meets, int64 [H, W]."""
    rows, columns = (
        taps_met(side, outputs, kernel=conv.kernel, stride=conv.stride, before=conv.padding, transposed=conv.transposed)
        for side, outputs in zip(size_hw, conv.size_hw(size_hw), strict=True)
    )
    return np.outer(rows.sum(0), columns.sum(0))


def synaptic_operations(
    graph: Graph, cube: Tensor, spikes: Mapping[str, Tensor], *, max_spikes: int = 1
) -> dict[str, int]:
    """Return how many pairs of non-zero input and weight meet in every convolution, border and stride included.

    A neuron's n spikes of one step, which I-LIF gives as a number, meet a weight n times.

    Args:
        graph: of the fused detector.
        cube: [T, B, C, H, W].
        spikes: the output [T * B, K, h, w] of every neuron layer on that cube, by name.
        max_spikes: most spikes that a value there stands for.

    Returns:
        by neuron layer, and by branch of the head for the readouts.
    """
    counts: dict[str, int] = {}

    def compute(node: Node, *sources: Tensor) -> Tensor:
        if isinstance(node, MaxPool):
            return max_pool(sources[0].float())
        if isinstance(node, Combine):
            x, skip = (source.float() for source in sources)
            if node.upsample:
                x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)[..., : skip.shape[2], : skip.shape[3]]
            return combine(node.kind, x, skip)
        assert isinstance(node, NeuronLayer | Readout)
        conv = node.merged if isinstance(node, NeuronLayer) else node.conv
        x = sources[0]
        counts_spikes = max_spikes > 1 and node.sources[0] != graph.nodes[0].name
        active = (x.double().sum((0, 1)) if counts_spikes else torch.count_nonzero(x, dim=(0, 1))).cpu().numpy()
        met = int((active.astype(np.int64) * fan_out(conv, (x.shape[-2], x.shape[-1]))).sum())
        counts[node.name] = met * (conv.out_channels // conv.groups)
        return spikes[node.name] if isinstance(node, NeuronLayer) else x

    walk(graph.nodes, compute, cube.flatten(0, 1))
    return counts

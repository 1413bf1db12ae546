"""NeuroBench's complexity metrics by our own code.

Definitions: Yik et al., "The NeuroBench framework for benchmarking neuromorphic computing algorithms and systems",
Nature Communications 2025 (arXiv 2304.04640), as its package computes them.
"""

from dataclasses import dataclass

from spiking_centernet.energy.counting import Operations
from spiking_centernet.nn import Detector


@dataclass(frozen=True)
class NeuroBench:
    """The algorithm track's correctness-free metrics of a network on counted input.

    Attributes:
        footprint: bytes of parameters and buffers.
        connection_sparsity: share of the convolutions' weights that are zero.
        activation_sparsity: share of the neurons' outputs that are zero, over all layers, steps and windows.
        dense: pairs of input and weight a window, as if none were zero; zeros of the padding are no inputs.
        effective_macs: pairs of non-zero input and non-zero weight a window, in layers with other inputs than 0 and 1.
        effective_acs: the same in layers with inputs 0 and 1.
        membrane_updates: neurons that integrate x steps, a window. NeuroBench's package counts only membranes that
            changed; here every one is updated, because it leaks.
    """

    footprint: int
    connection_sparsity: float
    activation_sparsity: float
    dense: float
    effective_macs: float
    effective_acs: float
    membrane_updates: float


def neurobench(model: Detector, operations: Operations) -> NeuroBench:
    """Return NeuroBench's metrics for a detector and the operations counted on it.

    Args:
        model: the detector that was counted, fused or not.
        operations: what :func:`count_ops` returned for it.
    """
    windows = operations.num_windows
    tensors = [*model.parameters(), *model.buffers()]
    return NeuroBench(
        footprint=sum(t.numel() * t.element_size() for t in tensors),
        connection_sparsity=sum(c.num_zeros for c in operations.convolutions)
        / sum(c.num_weights for c in operations.convolutions),
        activation_sparsity=1 - operations.rate,
        dense=operations.dense / windows,
        effective_macs=sum(c.effective for c in operations.convolutions if not c.binary) / windows,
        effective_acs=sum(c.effective for c in operations.convolutions if c.binary) / windows,
        membrane_updates=sum(n.updates for n in operations.neurons if n.adds) / windows,
    )

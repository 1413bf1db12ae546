"""The energies that papers print, recomputed from architecture and firing rate: dense and rate-scaled side by side.

NeuroBench's complexity metrics by our own code.

Definitions: Yik et al., "The NeuroBench framework for benchmarking neuromorphic computing algorithms and systems",
Nature Communications 2025 (arXiv 2304.04640), as its package computes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from spiking_centernet.evaluation.energy.models import ADD_FLOAT32_PJ
from spiking_centernet.evaluation.energy.operations import Operations
from spiking_centernet.model import Detector, build
from spiking_centernet.model.graph import conv_macs, dense_macs

SIZE_HW = (240, 304)
IN_CHANNELS = 4
"""GEN1's sensor; two polarities in two micro bins."""


def densenet_macs(
    growth: int, blocks: Sequence[int], *, in_channels: int = IN_CHANNELS, size_hw: tuple[int, int] = SIZE_HW
) -> int:
    """Return the multiply-accumulates a step of a DenseNet without its head (Cordone et al., arXiv 2205.04339).

    Stem 3x3 stride 2 with 2 growth channels and 3x3 max-pool stride 2; every dense layer a 1x1 convolution to 4 growth
    and a 3x3 to growth channels; between blocks a 1x1 convolution to half the channels and 2x2 max-pool.
    """
    size = _halved(size_hw)
    total = conv_macs(in_channels, 2 * growth, 3, size)
    size, channels = _halved(size), 2 * growth
    for k, num_layers in enumerate(blocks):
        for layer in range(num_layers):
            total += conv_macs(channels + layer * growth, 4 * growth, 1, size)
            total += conv_macs(4 * growth, growth, 3, size)
        channels += num_layers * growth
        if k != len(blocks) - 1:
            total += conv_macs(channels, channels // 2, 1, size)
            channels, size = channels // 2, (size[0] // 2, size[1] // 2)
    return total


DENSENET121 = (6, 12, 24, 16)
"""Dense layers in every block."""


def _halved(size_hw: tuple[int, int]) -> tuple[int, int]:
    return (size_hw[0] + 1) // 2, (size_hw[1] + 1) // 2


@dataclass(frozen=True)
class Published:
    """What a paper prints for GEN1, and what follows from its architecture.

    Attributes:
        name: the network.
        rate: firing rate as published; the papers' tables call it sparsity.
        energy_mj: energy a step as printed in arXiv 2402.01287, millijoules.
        dense: multiply-accumulates a step, padding included: as published, or recomputed where nothing is.
        recomputed: the same from the architecture, and of what; None where the layers are not at hand.
        covers: what ``recomputed`` counts.
    """

    name: str
    rate: float
    energy_mj: float
    dense: int
    recomputed: int | None
    covers: str

    @property
    def dense_mj(self) -> float:
        """Energy a step as if every input were active, 0.9 pJ an operation."""
        return self.dense * ADD_FLOAT32_PJ * 1e-9

    @property
    def scaled_mj(self) -> float:
        """The same times the firing rate."""
        return self.dense_mj * self.rate

    @property
    def printed_is(self) -> str:
        """Which of the two the printed energy is."""
        nearer_dense = abs(self.energy_mj - self.dense_mj) < abs(self.energy_mj - self.scaled_mj)
        return "dense" if nearer_dense else "rate-scaled"


def published() -> list[Published]:
    """Return the paper's energy table (arXiv 2402.01287) with the operations counted again.

    Cordone et al. (arXiv 2205.04339) publish 2.33 G accumulations a step for DenseNet121-24 with SSD; its backbone
    alone has 2.24 G, so that the published count is a dense one. The layers of 64-ST-VGG are not at hand: its 1.73 G is
    the printed energy over 0.9 pJ.
    """
    with torch.device("meta"):  # shapes alone
        ours = dense_macs(build("paper"), SIZE_HW)
    densenet = densenet_macs(24, DENSENET121)
    return [
        Published("Spiking CenterNet", 0.108, 0.619, ours, ours, "whole network"),
        Published("Spiking CenterNet, distilled", 0.174, 0.999, ours, ours, "whole network"),
        Published("DenseNet121-24 + SSD", 0.372, 2.097, 2_330_000_000, densenet, "backbone"),
        Published("64-ST-VGG + SSD", 0.389, 1.557, 1_730_000_000, None, ""),
    ]


def what_follows(rows: Sequence[Published]) -> str:
    """Return in words what the two columns say about the printed ones."""
    printed_dense = [row for row in rows if row.printed_is == "dense"]
    printed_scaled = [row for row in rows if row.printed_is == "rate-scaled"]
    if not printed_dense or not printed_scaled:
        return "All printed energies are computed alike."
    ours = " and ".join(f"{row.scaled_mj:.2f}" for row in printed_scaled)
    theirs = " and ".join(f"{row.scaled_mj:.2f}" for row in printed_dense)
    cheapest = min(row.scaled_mj for row in printed_dense)
    halved = all(row.scaled_mj < cheapest / 2 for row in printed_scaled)
    verdict = "holds" if halved else "does not hold"
    return (
        f"The table compares unlike with unlike: {_names(printed_dense)} are printed dense, "
        f"{_names(printed_scaled)} scaled by the firing rate. Scaled alike, {_names(printed_scaled)} cost {ours} mJ a "
        f'step, {_names(printed_dense)} {theirs} mJ: the claim "less than half the energy" {verdict}.'
    )


def _names(rows: Sequence[Published]) -> str:
    return " and ".join(row.name for row in rows)


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

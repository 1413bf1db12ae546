"""From operations to picojoules: the papers' convention, a model that counts memory, and the break-even firing rate.

Constants are those of Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014, for 45 nm at
0.9 V. Both models are arithmetic on counts: they predict no chip, and neither includes the camera, control or leakage.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from spiking_centernet.evaluation.energy.operations import ConvOperations, NeuronOperations, Operations

ADD_FLOAT32_PJ = 0.9
MULTIPLY_FLOAT32_PJ = 3.7
ADD_INT32_PJ = 0.1
MULTIPLY_INT32_PJ = 3.1
SRAM_BYTES = (8 * 1024, 32 * 1024, 1024 * 1024)
SRAM_PJ = (10.0, 20.0, 100.0)
"""Energy of reading or writing 4 bytes in a memory of this many bytes, linear between; Horowitz gives 64 bits a read.

Charged for 4 bytes as in Lemaire et al., "An Analytical Estimation of Spiking Neural Networks Energy Efficiency", 2022.
"""

LITERATURE_BREAK_EVEN = 0.057
"""Firing rate below which a spiking network of 5 steps beats an equal quantized one on typical neuromorphic hardware:
Yan et al., arXiv 2409.08290, version 4 (versions 2 and 3 said 6.4 %)."""


@dataclass(frozen=True)
class Breakdown:
    """Energy of one window in picojoules, by what spends it.

    Attributes:
        first_layer: the convolution on the events.
        convolutions: all others.
        neurons: membrane updates.
    """

    first_layer: float
    convolutions: float
    neurons: float

    def total(self, *, first_layer: bool = True, neurons: bool = True) -> float:
        """Return picojoules a window, with or without the first layer and the membrane updates."""
        return self.convolutions + first_layer * self.first_layer + neurons * self.neurons

    def __mul__(self, factor: float) -> "Breakdown":
        return Breakdown(self.first_layer * factor, self.convolutions * factor, self.neurons * factor)


EnergyModel = Callable[[Operations], Breakdown]
"""Turns counted operations into the breakdown of one window."""


def horowitz45(operations: Operations) -> Breakdown:
    """Return the breakdown by the papers' convention: 4.6 pJ a multiply-accumulate, 0.9 pJ an addition, memory free.

    A binary input costs an addition for every pair that meets; any other input a multiply-accumulate for every pair,
    active or not, because a dense engine does not skip zeros. A membrane update costs its multiplication and addition,
    which most papers leave out.
    """
    windows = operations.num_windows

    def conv(layer: ConvOperations) -> float:
        if layer.binary:
            return layer.synaptic * ADD_FLOAT32_PJ
        return layer.dense * (ADD_FLOAT32_PJ + MULTIPLY_FLOAT32_PJ)

    first, *others = (conv(layer) for layer in operations.convolutions)
    neurons = sum(
        n.updates * (n.multiplies * MULTIPLY_FLOAT32_PJ + n.adds * ADD_FLOAT32_PJ) for n in operations.neurons
    )
    return Breakdown(first, sum(others), neurons) * (1 / windows)


def sram_pj(num_bytes: float) -> float:
    """Return the energy in pJ of reading or writing 4 bytes in a memory of this size.

    Below 8 KB that of 8 KB; above 1 MB on along the last line.
    """
    if num_bytes > SRAM_BYTES[-1]:
        slope = (SRAM_PJ[-1] - SRAM_PJ[-2]) / (SRAM_BYTES[-1] - SRAM_BYTES[-2])
        return SRAM_PJ[-1] + slope * (num_bytes - SRAM_BYTES[-1])
    return float(np.interp(num_bytes, SRAM_BYTES, SRAM_PJ))


@dataclass(frozen=True, kw_only=True)
class MemoryModel:
    """Integer arithmetic and every read and write of weights, membranes and spikes, each layer in its own memory.

    A layer that receives spikes works event by event: for each pair that meets it reads the weight, reads and writes
    the membrane, and adds. Spikes are kept as bits and all of them are looked at. A dense layer reads a weight and an
    input for each pair, multiplies and adds in a register, and writes each output once. A membrane update reads, leaks
    and writes the membrane.

    An addition costs 0.1 pJ and a multiplication 3.1 pJ at 32 bits (Horowitz 2014). Additions scale with the width,
    multiplications with the product of the widths, which meets Horowitz's 0.03 and 0.2 pJ at 8 bits.

    Attributes:
        weight_bits: of a weight.
        membrane_bits: of a membrane and of a dense layer's sum.
        activation_bits: of a value that is no spike.
    """

    weight_bits: int = 32
    membrane_bits: int = 32
    activation_bits: int = 32

    def __call__(self, operations: Operations) -> Breakdown:
        """Return the breakdown of one window."""
        first, *others = (self._conv(layer, operations) for layer in operations.convolutions)
        neurons = sum(self._neurons(layer) for layer in operations.neurons)
        return Breakdown(first, sum(others), neurons) * (1 / operations.num_windows)

    @property
    def add_pj(self) -> float:
        """Energy of adding to a membrane."""
        return ADD_INT32_PJ * self.membrane_bits / 32

    def multiply_pj(self, bits: int) -> float:
        """Energy of multiplying a weight by a value of this many bits."""
        return MULTIPLY_INT32_PJ * self.weight_bits * bits / 32**2

    def _weight_pj(self, layer: ConvOperations) -> float:
        return sram_pj(layer.num_weights * self.weight_bits / 8) * self.weight_bits / 32

    def _membrane_pj(self, places: float) -> float:
        return sram_pj(places * self.membrane_bits / 8) * self.membrane_bits / 32

    def _conv(self, layer: ConvOperations, operations: Operations) -> float:
        frames = layer.times or operations.num_windows * operations.num_steps
        if layer.binary:
            look = layer.inputs / 32 * sram_pj(layer.inputs / frames / 8)
            pair = self._weight_pj(layer) + 2 * self._membrane_pj(layer.outputs / frames) + self.add_pj
            return look + layer.synaptic * pair + self._bias(layer)
        return self._dense(layer, frames, self.activation_bits)

    def _bias(self, layer: ConvOperations) -> float:
        return layer.outputs * self.add_pj if layer.has_bias else 0.0

    def _dense(self, layer: ConvOperations, frames: int, bits: int) -> float:
        read = sram_pj(layer.inputs / frames * bits / 8) * bits / 32
        write = sram_pj(layer.outputs / frames * bits / 8) * bits / 32
        pair = self._weight_pj(layer) + read + self.multiply_pj(bits) + self.add_pj
        return layer.dense * pair + layer.outputs * write + self._bias(layer)

    def _neurons(self, layer: NeuronOperations) -> float:
        if not layer.adds:
            return 0.0
        update = 2 * self._membrane_pj(layer.neurons) + layer.adds * self.add_pj
        update += layer.multiplies * MULTIPLY_INT32_PJ * (self.membrane_bits / 32) ** 2
        return layer.updates * (update + sram_pj(layer.neurons * layer.levels / 8) * layer.levels / 32)

    def quantized_counterpart(self, operations: Operations) -> float:
        """Return picojoules a window of the equal quantized ANN: same convolutions once, not once a step.

        Its activations have ``ceil(log2(steps + 1))`` bits, which tell as much as the spike count of the steps
        (arXiv 2409.08290); of I-LIF, of the virtual steps.
        """
        frames = operations.num_windows * operations.num_steps
        bits = math.ceil(math.log2(operations.num_steps * operations.levels + 1))
        return sum(self._dense(layer, frames, bits) for layer in operations.convolutions) / frames


def horowitz45_counterpart(operations: Operations) -> float:
    """Return picojoules a window of the ANN counterpart as papers count: every pair of one step, 4.6 pJ each."""
    frames = operations.num_windows * operations.num_steps
    return operations.dense / frames * (ADD_FLOAT32_PJ + MULTIPLY_FLOAT32_PJ)


@dataclass(frozen=True)
class BreakEven:
    """Where a spiking network and its equal quantized ANN cost the same.

    Attributes:
        model: by what the energies are computed.
        own_rate: the network's firing rate.
        rate: the firing rate of equal cost; None if the ANN costs less even in silence, or without a spike, so that
            there is no cost of a spike to go by. May exceed 1.
        snn_pj: picojoules a window of the network.
        ann_pj: picojoules a window of the ANN.
    """

    model: str
    own_rate: float
    rate: float | None
    snn_pj: float
    ann_pj: float

    @property
    def is_cheaper(self) -> bool:
        """Whether the network costs less than the ANN."""
        return self.snn_pj < self.ann_pj


def break_even(name: str, model: EnergyModel, operations: Operations, ann_pj: float) -> BreakEven:
    """Return the firing rate at which a spiking network costs as much as its ANN counterpart.

    All layers' firing rates are scaled alike; the events of the first layer, the looking at spikes and the membrane
    updates stay as they are. Every energy model here is linear in the spikes, so that two breakdowns fix the line.

    Args:
        name: what the model is called.
        model: ``horowitz45`` or a :class:`MemoryModel`.
        operations: counted on a fully spiking network.
        ann_pj: picojoules a window of the counterpart.
    """
    now = model(operations).total()
    silent = model(_silenced(operations)).total()
    spent = now - silent
    rate = None
    if spent > 0 and ann_pj > silent:
        rate = operations.rate * (ann_pj - silent) / spent
    return BreakEven(name, operations.rate, rate, now, ann_pj)


def _silenced(operations: Operations) -> Operations:
    first, *others = operations.convolutions
    silent = tuple(replace(layer, synaptic=0, effective=0, active=0) for layer in others)
    neurons = tuple(replace(layer, spikes=0) for layer in operations.neurons)
    return replace(operations, convolutions=(first, *silent), neurons=neurons)


MODELS: dict[str, EnergyModel] = {"horowitz45": horowitz45, "memory": MemoryModel()}
"""The energy models by name; "memory" has words of 32 bits."""

NARROW = MemoryModel(weight_bits=8, membrane_bits=16, activation_bits=8)
"""Widths that an embedded chip would have."""


def break_evens(operations: Operations) -> list[BreakEven]:
    """Return the break-even firing rate by the papers' convention and by memory, wide and narrow words.

    Empty for a network that is not fully spiking.
    """
    if not operations.fully_spiking:
        return []
    wide = MemoryModel()
    return [
        break_even("horowitz45", horowitz45, operations, horowitz45_counterpart(operations)),
        break_even("memory, 32-bit words", wide, operations, wide.quantized_counterpart(operations)),
        break_even(
            "memory, 8-bit weights, 16-bit membranes", NARROW, operations, NARROW.quantized_counterpart(operations)
        ),
    ]

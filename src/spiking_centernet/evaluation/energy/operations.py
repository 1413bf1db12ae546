"""Counts of operations: of a convolution, of a neuron layer, of a network over a number of windows."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ConvOperations:
    """What one convolution computed, summed over every step of every window.

    Attributes:
        name: the module, for example "encoder.stages.0.1.conv".
        dense: pairs of input and weight that meet, as if every input were active; zeros of the padding are no inputs.
            Of I-LIF once a time step, as an engine of integers would, not once a virtual step.
        padded: multiply-accumulates of a dense engine, which multiplies the padding too; what papers publish.
        synaptic: pairs of non-zero input and weight that meet.
        effective: pairs of non-zero input and non-zero weight; NeuroBench's count. Equals ``synaptic`` unless pruned.
        inputs: input values.
        active: input values that are not zero.
        outputs: output values.
        binary: whether every input was 0 or 1, so that a pair costs an addition and not a multiplication.
        num_weights: weights of the layer.
        num_zeros: those of them that are zero.
        has_bias: whether every output has a constant added.
        times: how often it was computed: every step of every window, or once a picture of mode "direct"; 0 if unknown.
    """

    name: str
    dense: int
    padded: int
    synaptic: int
    effective: int
    inputs: int
    active: int
    outputs: int
    binary: bool
    num_weights: int
    num_zeros: int
    has_bias: bool
    times: int = 0


@dataclass(frozen=True)
class NeuronOperations:
    """What one layer of neurons computed, summed over every step of every window.

    Attributes:
        name: the layer, as in ``Detector.neuron_names``.
        neurons: how many there are.
        spikes: outputs that are not zero.
        updates: neurons x steps x windows.
        dead: neurons that never spiked.
        saturated: neurons that spiked at every step, of I-LIF at every virtual step.
        multiplies: multiplications of an update: 1 for a leaky or gated membrane, else 0; a gate's sigmoid is not
            counted, hardware reads it from a table.
        adds: additions of an update: 1 for a membrane, of I-LIF one for every virtual step, 0 for the ANN
            counterpart's ReLU.
        levels: most spikes of an update, those of I-LIF's virtual steps.
    """

    name: str
    neurons: int
    spikes: int
    updates: int
    dead: int
    saturated: int
    multiplies: int
    adds: int
    levels: int = 1

    @property
    def rate(self) -> float:
        """Spikes over (neurons x steps), of I-LIF over (neurons x virtual steps)."""
        return self.spikes / max(1, self.updates * self.levels)

    @property
    def dead_share(self) -> float:
        """Share of the neurons that never spiked."""
        return self.dead / self.neurons

    @property
    def saturated_share(self) -> float:
        """Share of the neurons that spiked at every step."""
        return self.saturated / self.neurons


@dataclass(frozen=True)
class Operations:
    """Operations of a network over a number of windows; divide by ``num_windows``, or by that times ``num_steps``.

    Attributes:
        num_windows: windows counted.
        num_steps: time steps of every window.
        convolutions: in the order in which they compute.
        neurons: in the order in which they compute.
    """

    num_windows: int
    num_steps: int
    convolutions: tuple[ConvOperations, ...]
    neurons: tuple[NeuronOperations, ...]

    @property
    def dense(self) -> int:
        """Pairs as if every input were active."""
        return sum(layer.dense for layer in self.convolutions)

    @property
    def padded(self) -> int:
        """Multiply-accumulates of a dense engine, padding included."""
        return sum(layer.padded for layer in self.convolutions)

    @property
    def synaptic(self) -> int:
        """Pairs of active input and weight."""
        return sum(layer.synaptic for layer in self.convolutions)

    @property
    def rate(self) -> float:
        """Firing rate of all neurons together: spikes over (neurons x steps), of I-LIF (neurons x virtual steps)."""
        places = sum(layer.updates * layer.levels for layer in self.neurons)
        return sum(layer.spikes for layer in self.neurons) / max(1, places)

    @property
    def levels(self) -> int:
        """Most spikes of a neuron in a time step."""
        return max((layer.levels for layer in self.neurons), default=1)

    @property
    def first_not_binary(self) -> str | None:
        """The first convolution whose input was not binary, None in a fully spiking network."""
        return next((layer.name for layer in self.convolutions if not layer.binary), None)

    @property
    def fully_spiking(self) -> bool:
        """Whether every convolution received nothing but 0 and 1."""
        return self.first_not_binary is None

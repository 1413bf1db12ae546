"""What the kernels of a layer need to know, whichever device they run on."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class NeuronOptions:
    """How integrate-and-fire neurons behave; see ``plif_step``.

    With ``levels`` from 1 on they answer with whole numbers up to it, see ``ilif_step``, and the reset is soft.
    """

    threshold: float = 1.0
    soft_reset: bool = False
    decay_input: bool = True
    detach_reset: bool = True
    surrogate: str = "atan"
    levels: int = 0

    @property
    def thresholds(self) -> list[float]:
        """The membrane at which each spike of a step comes."""
        return [(k + 0.5) * self.threshold for k in range(self.levels)] or [self.threshold]


@dataclass(frozen=True)
class Layer:
    """Neurons over some steps whose input is ``(y - mean) * scale + bias``, a value per channel.

    Attributes:
        num_steps: T of the input [T, N].
        num_channels: C; the channel is the fastest axis of N.
        mean: [C].
        scale: [C].
        bias: [C].
        q: the leak ``1 / tau``, a scalar.
        leaky: False for integrate-and-fire, whatever ``q`` is.
        options: threshold, reset, surrogate.
    """

    num_steps: int
    num_channels: int
    mean: Tensor
    scale: Tensor
    bias: Tensor
    q: Tensor
    leaky: bool
    options: NeuronOptions

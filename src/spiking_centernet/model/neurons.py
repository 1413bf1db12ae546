"""Neurons: a pure step function, thin modules over it, state always in the caller's hands."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.model.config import NeuronConfig
from spiking_centernet.ops import plif
from spiking_centernet.ops.plif_layer import NeuronOptions
from spiking_centernet.ops.surrogate import SURROGATES, spike


def plif_step(
    x: Float[Tensor, "*shape"],
    v: Float[Tensor, "*shape"],
    q: Float[Tensor, ""] | float | None,
    *,
    threshold: float = 1.0,
    surrogate: str = "atan",
    soft_reset: bool = False,
    decay_input: bool = True,
    detach_reset: bool = True,
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Advance leaky integrate-and-fire neurons by one time step.

    ``h = v + q (x - v)`` if ``decay_input``, else ``h = v - q v + x``; ``h = v + x`` where ``q`` is None.
    ``s = 1 if h >= threshold else 0``; then ``v' = 0`` where it spiked (hard reset) or ``v' = h - threshold s`` (soft).

    Args:
        x: input current of the step.
        v: membrane potential before the step, same shape.
        q: leak ``1 / tau`` in (0, 1]; None integrates without a leak.
        threshold: firing threshold of the membrane.
        surrogate: name of the derivative used for ``s`` in the backward pass.
        soft_reset: subtract the threshold instead of resetting to 0.
        decay_input: the leak also scales the input (SpikingJelly's default).
        detach_reset: no gradient flows through the reset.

    Returns:
        Spikes (0 or 1, dtype of ``x``) and the membrane potential after the step.
    """
    if q is None:
        h = v + x
    elif decay_input:
        h = v + (x - v) * q
    else:
        h = v - v * q + x
    s = spike(h - threshold, surrogate)
    fired = s.detach() if detach_reset else s
    return s, h - fired * threshold if soft_reset else (1 - fired) * h


class PLIF(nn.Module):
    """Leaky integrate-and-fire neurons over several time steps, with a learned time constant shared by the layer.

    ``q = 1 / tau = sigmoid(w)`` and ``w`` is the parameter (Fang et al. 2021, arXiv 2007.05785). With ``learned=False``
    the leak is fixed (LIF); with ``tau=inf`` there is none (IF). Membranes are kept in float32 whatever the input is.

    Args:
        tau: initial time constant in steps, above 1; ``math.inf`` makes integrate-and-fire neurons.
        learned: whether the time constant is trained.
        threshold: firing threshold.
        surrogate: "atan", "sigmoid" or "rectangle".
        soft_reset: subtract the threshold instead of resetting to 0.
        decay_input: the leak also scales the input.
        detach_reset: no gradient flows through the reset.
    """

    spiking = True

    def __init__(
        self,
        *,
        tau: float = 2.0,
        learned: bool = True,
        threshold: float = 1.0,
        surrogate: str = "atan",
        soft_reset: bool = False,
        decay_input: bool = True,
        detach_reset: bool = True,
    ):
        super().__init__()
        if not tau > 1:
            raise ConfigError(f"tau must be above 1 time step, got {tau}")
        if not threshold > 0:
            raise ConfigError(f"the firing threshold must be positive, got {threshold}")
        if surrogate not in SURROGATES:
            raise ConfigError(f"unknown surrogate {surrogate!r}{did_you_mean(surrogate, SURROGATES)}")
        self.leaky = math.isfinite(tau)
        w = torch.tensor(-math.log(tau - 1) if self.leaky else 0.0)
        if self.leaky and learned:
            self.w = nn.Parameter(w)
        else:
            self.register_buffer("w", w)
        self.threshold = threshold
        self.surrogate = surrogate
        self.soft_reset = soft_reset
        self.decay_input = decay_input
        self.detach_reset = detach_reset

    @property
    def q(self) -> Tensor | None:
        """The leak ``1 / tau`` as a scalar tensor, None for integrate-and-fire."""
        return torch.sigmoid(self.w) if self.leaky else None

    @property
    def options(self) -> NeuronOptions:
        """Threshold, reset and surrogate as the kernels take them."""
        return NeuronOptions(
            threshold=self.threshold, soft_reset=self.soft_reset, decay_input=self.decay_input,
            detach_reset=self.detach_reset, surrogate=self.surrogate,
        )  # fmt: skip

    def has_kernel(self, x: Tensor) -> bool:
        """Return whether kernels compute this neuron for such an input; else it is computed step by step."""
        return plif.supports(x) and self.surrogate in plif.passes(x).SURROGATES

    def forward(
        self, x: Float[Tensor, "T B C H W"], v: Float[Tensor, "B C H W"] | None = None
    ) -> tuple[Float[Tensor, "T B C H W"], Float[Tensor, "B C H W"]]:
        """Return the spikes of every step and the membrane potential after the last; ``v=None`` is zero-initialized."""
        if self.has_kernel(x):
            return plif.plif_steps(x, v, self.w, leaky=self.leaky, options=self.options)
        return self.step_by_step(x, v)

    def step_by_step(
        self, x: Float[Tensor, "T B C H W"], v: Float[Tensor, "B C H W"] | None = None
    ) -> tuple[Float[Tensor, "T B C H W"], Float[Tensor, "B C H W"]]:
        """Return what the call does, computed by torch one step after the other: the reference of the kernels."""
        v = torch.zeros_like(x[0], dtype=torch.float32) if v is None else v
        q = self.q
        spikes = []
        for x_step in x.float():
            s, v = plif_step(
                x_step,
                v,
                q,
                threshold=self.threshold,
                surrogate=self.surrogate,
                soft_reset=self.soft_reset,
                decay_input=self.decay_input,
                detach_reset=self.detach_reset,
            )
            spikes.append(s.to(x.dtype))
        return torch.stack(spikes), v

    def extra_repr(self) -> str:
        """Name what distinguishes this neuron."""
        reset = "soft" if self.soft_reset else "hard"
        return f"leaky={self.leaky}, threshold={self.threshold}, surrogate={self.surrogate}, reset={reset}"


class ReLU(nn.Module):
    """The neuron of the ANN counterpart: stateless, same call as :class:`PLIF`."""

    spiking = False

    def forward(self, x: Float[Tensor, "T B C H W"], v: None = None) -> tuple[Float[Tensor, "T B C H W"], None]:
        """Return ``max(x, 0)`` and no state."""
        return torch.relu(x), None


class GatedNeuron(nn.Module):
    """Leaky integrate-and-fire neurons whose leak is told by their input, and which keep their membrane when they fire.

    ``v' = v + sigmoid(g) (d - v)`` with drive ``d`` and gate ``g``; a spike where ``v' >= threshold``. While nothing
    comes, the gate is nearly closed: the membrane stays, and with it the spikes, step after step.

    Args:
        threshold: firing threshold of the membrane.
        surrogate: name of the derivative used for a spike in the backward pass.
    """

    spiking = True

    def __init__(self, *, threshold: float, surrogate: str):
        super().__init__()
        self.threshold, self.surrogate = threshold, surrogate

    def forward(
        self, x: Float[Tensor, "T B D H W"], v: Float[Tensor, "B C H W"] | None = None
    ) -> tuple[Float[Tensor, "T B C H W"], Float[Tensor, "B C H W"]]:
        """Return the spikes of every step and the membrane after the last; ``v=None`` is zero-initialized.

        Args:
            x: the drives of all C channels, and behind them their gates: D = 2 C.
            v: membrane before the first step, float32.
        """
        drive, gate = x.float().chunk(2, dim=2)
        opening = torch.sigmoid(gate)
        v = torch.zeros_like(drive[0]) if v is None else v
        spikes = []
        for d, q in zip(drive, opening, strict=True):
            v = torch.lerp(v, d, q)
            spikes.append(spike(v - self.threshold, self.surrogate).to(x.dtype))
        return torch.stack(spikes), v


Neuron = PLIF | ReLU | GatedNeuron


def make_neuron(config: NeuronConfig) -> Neuron:
    """Return a neuron layer.

    Raises:
        ConfigError: If a value is impossible.
    """
    if config.kind == "relu":
        return ReLU()
    return PLIF(
        tau=math.inf if config.kind == "if" else config.tau,
        learned=config.kind == "plif",
        threshold=config.threshold,
        surrogate=config.surrogate,
        soft_reset=config.soft_reset,
        decay_input=config.decay_input,
        detach_reset=config.detach_reset,
    )

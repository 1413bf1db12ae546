"""Neurons: a pure step function, thin modules over it, state always in the caller's hands."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.model.config import MAX_LEVELS, NeuronConfig
from spiking_centernet.ops import ilif, plif
from spiking_centernet.ops.ilif import ilif_steps, integrated
from spiking_centernet.ops.plif_layer import NeuronOptions
from spiking_centernet.ops.surrogate import SURROGATES, spike, spike_count


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
    h = integrated(x, v, q, decay_input=decay_input)
    s = spike(h - threshold, surrogate)
    fired = s.detach() if detach_reset else s
    return s, h - fired * threshold if soft_reset else (1 - fired) * h


class LeakyNeuron(nn.Module):
    """What PLIF and I-LIF share: a leak ``q = 1 / tau = sigmoid(w)``, the parameter ``w`` shared by the layer.

    Fang et al. 2021, arXiv 2007.05785. With ``learned=False`` the leak is fixed (LIF); with ``tau=inf`` there is none
    (IF).

    Args:
        tau: initial time constant in steps, above 1; ``math.inf`` makes integrate-and-fire neurons.
        learned: whether the time constant is trained.
        threshold: firing threshold.
        surrogate: "atan", "sigmoid" or "rectangle".
        decay_input: the leak also scales the input.
        detach_reset: no gradient flows through the reset.

    Raises:
        ConfigError: If a value is impossible.
    """

    spiking = True
    max_spikes = 1

    def __init__(
        self,
        *,
        tau: float = 2.0,
        learned: bool = True,
        threshold: float = 1.0,
        surrogate: str = "atan",
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
        self.decay_input = decay_input
        self.detach_reset = detach_reset

    @property
    def q(self) -> Tensor | None:
        """The leak ``1 / tau`` as a scalar tensor, None for integrate-and-fire."""
        return torch.sigmoid(self.w) if self.leaky else None

    def has_kernel(self, x: Tensor) -> bool:
        """Return whether kernels compute this neuron for such an input; else it is computed step by step."""
        return plif.supports(x) and self.surrogate in plif.passes(x).SURROGATES


class PLIF(LeakyNeuron):
    """Leaky integrate-and-fire neurons over several time steps, with a learned time constant shared by the layer.

    Membranes are kept in float32 whatever the input is.

    Args:
        soft_reset: subtract the threshold instead of resetting to 0.
        options: as of :class:`LeakyNeuron`.
    """

    def __init__(self, *, soft_reset: bool = False, **options: Any):
        super().__init__(**options)
        self.soft_reset = soft_reset

    @property
    def options(self) -> NeuronOptions:
        """Threshold, reset and surrogate as the kernels take them."""
        return NeuronOptions(
            threshold=self.threshold, soft_reset=self.soft_reset, decay_input=self.decay_input,
            detach_reset=self.detach_reset, surrogate=self.surrogate,
        )  # fmt: skip

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


def ilif_step(
    x: Float[Tensor, "*shape"],
    v: Float[Tensor, "*shape"],
    q: Float[Tensor, ""] | float | None,
    *,
    levels: int,
    threshold: float = 1.0,
    surrogate: str = "atan",
    decay_input: bool = True,
    detach_reset: bool = True,
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Advance neurons that answer with a whole number of spikes by one time step.

    ``h`` is that of :func:`plif_step`; ``n`` is ``h / threshold`` rounded, a half upwards, and clipped to 0 to
    ``levels``; then ``v' = h - threshold n``.

    Args:
        x: input current of the step.
        v: membrane potential before the step, same shape.
        q: leak ``1 / tau`` in (0, 1]; None integrates without a leak.
        levels: most spikes of a neuron.
        threshold: what a spike takes from the membrane; the first comes at half of it.
        surrogate: name of the derivative used for ``n`` in the backward pass, see ``surrogate.spike_count``.
        decay_input: the leak also scales the input.
        detach_reset: no gradient flows through the reset.

    Returns:
        ``n`` (dtype of ``x``) and the membrane potential after the step.
    """
    h = integrated(x, v, q, decay_input=decay_input)
    n = spike_count(h, threshold, levels, surrogate)
    return n, h - (n.detach() if detach_reset else n) * threshold


class ILIF(LeakyNeuron):
    """Leaky integrate-and-fire neurons that answer with 0 to D spikes in a time step: I-LIF (arXiv 2407.20708).

    The next layer takes a neuron's n spikes at once, as the number n; ``Detector.unrolled`` makes the network in which
    D virtual steps carry them one by one, as 0 and 1.

    The leak is PLIF's, learned and scaling the input as well, so that a network of either neuron differs in nothing
    else. The paper's fixed decay of 0.25 between steps is ``tau=4/3, learned=False, decay_input=False``, and its
    straight-through gradient ``surrogate="rectangle"``. The paper rounds a half to the even number, this neuron
    upwards: every spike is a threshold reached, as PLIF's are. Membranes are float32, or float64 where the input is.

    Args:
        levels: D, most spikes in a time step; 1 makes binary neurons that spike at half of what they subtract.
        options: as of :class:`LeakyNeuron`.

    Raises:
        ConfigError: If a value is impossible.
    """

    def __init__(self, *, levels: int = 4, **options: Any):
        super().__init__(**options)
        if not 1 <= levels <= MAX_LEVELS:
            raise ConfigError(f"levels must be 1 to {MAX_LEVELS} spikes in a time step, got {levels}")
        self.levels = self.max_spikes = levels

    @property
    def options(self) -> NeuronOptions:
        """Levels, threshold, reset and surrogate as the kernels and torch's operation take them."""
        return NeuronOptions(
            threshold=self.threshold, soft_reset=True, decay_input=self.decay_input, detach_reset=self.detach_reset,
            surrogate=self.surrogate, levels=self.levels,
        )  # fmt: skip

    def has_kernel(self, x: Tensor) -> bool:
        """Return whether kernels compute this neuron for such an input; else torch does."""
        return super().has_kernel(x) and plif.passes(x).WHOLE_NUMBERS

    def forward(
        self, x: Float[Tensor, "T B C H W"], v: Float[Tensor, "B C H W"] | None = None
    ) -> tuple[Float[Tensor, "T B C H W"], Float[Tensor, "B C H W"]]:
        """Return the spikes of every step, 0 to ``levels``, and the membrane potential after the last.

        Args:
            x: input currents.
            v: membrane before the first step; None is zero-initialized.
        """
        if self.has_kernel(x):
            return plif.plif_steps(x, v, self.w, leaky=self.leaky, options=self.options)
        return self.in_torch(x, v)

    def in_torch(
        self, x: Float[Tensor, "T B C H W"], v: Float[Tensor, "B C H W"] | None = None
    ) -> tuple[Float[Tensor, "T B C H W"], Float[Tensor, "B C H W"]]:
        """Return what the call does, computed by torch."""
        v = torch.zeros_like(x[0], dtype=torch.promote_types(x.dtype, torch.float32)) if v is None else v
        return ilif_steps(x, v, self.q, self.options) if ilif.supports(x) else self.step_by_step(x, v)

    def step_by_step(
        self, x: Float[Tensor, "T B C H W"], v: Float[Tensor, "B C H W"]
    ) -> tuple[Float[Tensor, "T B C H W"], Float[Tensor, "B C H W"]]:
        """Return what the call does, one :func:`ilif_step` after the other: the reference of the operation."""
        q, counts = self.q, []
        for current in x.to(v.dtype):
            n, v = ilif_step(
                current, v, q, levels=self.levels, threshold=self.threshold, surrogate=self.surrogate,
                decay_input=self.decay_input, detach_reset=self.detach_reset,
            )  # fmt: skip
            counts.append(n.to(x.dtype))
        return torch.stack(counts), v

    def extra_repr(self) -> str:
        """Name what distinguishes this neuron."""
        return f"levels={self.levels}, leaky={self.leaky}, threshold={self.threshold}, surrogate={self.surrogate}"


class ReLU(nn.Module):
    """The neuron of the ANN counterpart: stateless, same call as :class:`PLIF`."""

    spiking = False
    max_spikes = 1

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
    max_spikes = 1

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


Neuron = PLIF | ILIF | ReLU | GatedNeuron


def make_neuron(config: NeuronConfig) -> Neuron:
    """Return a neuron layer.

    Raises:
        ConfigError: If a value is impossible.
    """
    if config.kind == "relu":
        return ReLU()
    options = {
        "threshold": config.threshold, "surrogate": config.surrogate, "decay_input": config.decay_input,
        "detach_reset": config.detach_reset,
    }  # fmt: skip
    if config.kind == "ilif":
        return ILIF(levels=config.levels, tau=config.tau, **options)
    tau = math.inf if config.kind == "if" else config.tau
    return PLIF(tau=tau, learned=config.kind == "plif", soft_reset=config.soft_reset, **options)

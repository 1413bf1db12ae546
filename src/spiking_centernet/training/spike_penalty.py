"""A price on spikes in training: how active the network may be before its loss rises."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.evaluation.energy.counting import fan_out
from spiking_centernet.model import Detector
from spiking_centernet.model.context import Observe
from spiking_centernet.model.graph import Convolution, graph_of

KINDS = ("spikes", "operations")


@dataclass(frozen=True, kw_only=True)
class SpikePenalty:
    """``weight x max(0, activity / target - 1)``, added to the loss: nothing below the target, a constant pull above.

    Attributes:
        target: the activity that costs nothing, a share in (0, 1).
        weight: the penalty at twice the target.
        of: "spikes" for the firing rate, spikes over (neurons x steps); "operations" for synaptic operations over dense
            ones, in which a spike weighs as much as the convolutions it sets off in the fused network. The first
            convolution is left out: its input are the events. The steps of I-LIF neurons are their virtual steps.
        per_layer: every layer has the target on its own, and their penalties are averaged.
    """

    target: float
    weight: float = 1.0
    of: str = "spikes"
    per_layer: bool = False

    def __post_init__(self):
        if not 0 < self.target < 1:
            raise ConfigError(f"the penalty's target must be a share between 0 and 1, got {self.target}")
        if not self.weight > 0:
            raise ConfigError(
                f"the penalty's weight must be positive, got {self.weight}; leave the penalty out instead"
            )
        if self.of not in KINDS:
            raise ConfigError(
                f"the penalty can be of spikes or operations, not {self.of!r}{did_you_mean(self.of, KINDS)}"
            )


@dataclass
class Activity:
    """What one forward pass was seen to do.

    Attributes:
        penalty: what is asked for; None costs nothing.
        observe: to be passed to ``Detector.forward``.
        done: of every layer, how much it did: a float32 scalar that carries the gradient.
        most: of every layer, how much it could have done.
        max_spikes: most spikes that a neuron's output stands for.
    """

    penalty: SpikePenalty | None
    observe: Observe | None
    done: list[Tensor] = field(default_factory=list)
    most: list[float] = field(default_factory=list)
    max_spikes: int = 1

    def weigh(self, x: Tensor, geometry: nn.Conv2d, out_channels: int, pad: int) -> None:
        """Take the spikes [N, C, H, W] into a convolution, each as much as the weights it meets.

        Args:
            x: its input.
            geometry: has its kernel, stride and padding.
            out_channels: how many output channels an input channel meets.
            pad: zeros that stand around the input already, which are no input.
        """
        edge = slice(pad, -pad or None)
        fan = fan_out(geometry, (x.shape[-2], x.shape[-1]))[edge, edge] * out_channels
        weights = torch.from_numpy(fan).to(x.device, torch.float32)
        self.done.append(_Weighed.apply(x[..., edge, edge].sum((0, 1), dtype=torch.float32), weights))
        self.most.append(float(fan.sum()) * x.shape[0] * x.shape[1] * self.max_spikes)

    def share(self) -> Tensor:
        """Return the activity of all layers together, in [0, 1]."""
        return torch.stack(self.done).sum() / sum(self.most)

    def loss(self) -> Tensor | float:
        """Return what to add to the loss; it carries the gradient."""
        if self.penalty is None:
            return 0.0
        shares = torch.stack(self.done) / torch.tensor(self.most, device=self.done[0].device)
        shares = shares if self.penalty.per_layer else self.share()[None]
        return self.penalty.weight * torch.relu(shares / self.penalty.target - 1).mean()

    def row(self) -> dict[str, float]:
        """Return the penalty and the activity for the log, nothing without a penalty."""
        if self.penalty is None:
            return {}
        with torch.no_grad():
            return {"loss_penalty": float(self.loss()), "activity": float(self.share())}


@contextmanager
def watched(model: Detector, penalty: SpikePenalty | None, observe: Observe | None) -> Iterator[Activity]:
    """Watch a detector's forward pass for its penalty; the hooks that this needs are gone afterwards.

    Sums are taken in float32 whatever the spikes are stored as: bfloat16 cannot count beyond 256.

    Args:
        model: the detector in training, not fused.
        penalty: what spikes cost, None for nothing.
        observe: sees the layers' outputs too.

    Raises:
        ConfigError: the network does not spike, or adds spikes up or enlarges them in convolutions, whose operations
            are not watched.
    """
    activity = Activity(penalty, observe, max_spikes=model.max_spikes)
    if penalty is None:
        yield activity
        return
    if not model.config.neuron.is_spiking:
        raise ConfigError("a penalty on spikes needs a spiking network, but neuron is relu; leave the penalty out")
    config, decoder = model.config, model.config.decoder
    if penalty.of == "operations" and (
        config.encoder.identity or decoder.skips == "add" or decoder.kind == "transposed"
    ):
        raise ConfigError(
            f"a penalty on operations needs spikes into convolutions everywhere, but the network has "
            f"{config.variations}; take of: spikes"
        )

    def see(name: str, spikes: Tensor) -> None:
        activity.done.append(spikes.sum(dtype=torch.float32))
        activity.most.append(spikes.numel() * activity.max_spikes)
        if observe is not None:
            observe(name, spikes)

    if penalty.of == "spikes":
        activity.observe = see
        yield activity
        return
    # Somebody observes: the network then computes nothing twice, and the hooks run once.
    activity.observe = observe or (lambda *_: None)

    handles = []

    def weigh_input(first: Convolution, merged: Convolution, pad: int) -> None:
        geometry: Any = model.get_submodule(merged.name)
        out_channels = merged.out_channels // merged.groups
        hook = lambda _, inputs: activity.weigh(inputs[0], geometry, out_channels, pad)  # noqa: E731
        handles.append(model.get_submodule(first.name).register_forward_pre_hook(hook))

    graph = graph_of(model)
    for layer in graph.layers[1:]:
        weigh_input(layer.convs[0], layer.merged, layer.pad)
    for readout in graph.readouts:
        weigh_input(readout.conv, readout.conv, 0)
    try:
        yield activity
    finally:
        for handle in handles:
            handle.remove()


class _Weighed(torch.autograd.Function):
    """``(x weights).sum()``; saves no tensor, as a stage that is computed again without the hooks would miss it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor) -> Tensor:
        ctx.weights = weights
        return (x * weights).sum()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad * ctx.weights, None

"""Convolution, batch norm and neuron as one block, and the folding of its batch norm."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from spiking_centernet.model.neurons import PLIF, Neuron
from spiking_centernet.ops import plif
from spiking_centernet.ops.memory_saving import Memory, convolve, run_stage

MakeNeuron = Callable[[], Neuron]
State = list[Tensor | None]
"""One membrane potential [B, C, H, W] a neuron layer, in the order in which the layers compute; None is at rest."""


Observe = Callable[[Tensor], None]
"""Called with the output [T * B, K, h, w] of every neuron layer, in the order in which the layers compute."""


class Membranes:
    """Hands every neuron layer its membrane of the last call and collects the new ones."""

    def __init__(
        self, state: State | None, observe: Observe | None = None, *, keep: bool = True, memory: Memory | None = None
    ):
        self.keep = keep
        self.memory = memory or Memory()
        self._old: Iterator[Tensor | None] | None = None if state is None else iter(state)
        self._observe = observe
        self._decided: dict[nn.Module, bool] = {}
        self._as_bytes: tuple[weakref.ref[Tensor], Tensor] | None = None
        self.new: State = []

    def next(self) -> Tensor | None:
        """Return the membrane of the layer that computes now, None at rest."""
        return None if self._old is None else next(self._old)

    def bytes_of(self, x: Tensor) -> Tensor | None:
        """Return spikes as uint8 for the backward pass, once for all who take them; None where floats are kept."""
        if not torch.is_grad_enabled():
            return None
        if self._as_bytes is not None and self._as_bytes[0]() is x:
            return self._as_bytes[1]
        if self.memory.spikes == "float":
            return None
        self.remember(x, x.detach().to(torch.uint8))
        return self.bytes_of(x)

    def remember(self, x: Tensor, as_bytes: Tensor) -> None:
        """Take note that ``as_bytes`` holds the values of ``x``, as those of the network's input do."""
        self._as_bytes = weakref.ref(x), as_bytes

    def decide(self, module: nn.Module, now: bool) -> bool:
        """Return what a module decided when it first computed: a second time, hooks it looked at may have gone."""
        return self._decided.setdefault(module, now)

    def run_stage(self, compute: Callable[..., Tensor], *inputs: Tensor, stage: nn.Module) -> Tensor:
        """Return ``compute(*inputs, self)``, kept or computed again in the backward pass as ``memory`` says."""
        # A second computation could not be handed the membranes of the first once more.
        if not self.memory.checkpoint_stages or self.keep or self._old is not None:
            return compute(*inputs, self)
        return run_stage(lambda *x: compute(*x, self), *inputs, stage=stage, silence=self._unobserved)

    @contextmanager
    def _unobserved(self) -> Iterator[None]:
        observe, self._observe = self._observe, None
        try:
            yield
        finally:
            self._observe = observe

    def put(self, spikes: Tensor, v: Tensor | None) -> Tensor:
        """Take the membrane after the last step; show the spikes [T, B, K, h, w] to the observer and return them."""
        if self.keep:
            self.new.append(v)
        if self._observe is not None:
            self._observe(spikes.flatten(0, 1))
        return spikes


def fold_batch_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return weight and bias of one convolution equal to ``norm(conv(x))`` in evaluation mode."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    weight = conv.weight.double() * scale[:, None, None, None]
    bias = norm.bias.double() - norm.running_mean.double() * scale
    return weight.float(), bias.float()


def convolution(weight: Tensor, bias: Tensor, *, stride: int, padding: int, groups: int = 1) -> nn.Conv2d:
    """Return a convolution layer with the given weight [O, I / groups, K, K] and bias [O]."""
    out_channels, in_channels, kernel = weight.shape[:3]
    conv = nn.Conv2d(in_channels * groups, out_channels, kernel, stride, padding, groups=groups, device=weight.device)
    with torch.no_grad():
        conv.weight.copy_(weight)
        conv.bias.copy_(bias)  # pyright: ignore[reportOptionalMemberAccess]
    return conv


class ConvNeuron(nn.Module):
    """``neuron(norm(conv(x)))`` on time-major tensors; once fused, the norm lives in the convolution.

    In training, where nobody asks for the membranes, batch norm and PLIF run as one kernel that keeps only the
    convolution's output for the backward pass.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None, neuron: Neuron):
        super().__init__()
        self.conv = conv
        self.norm = norm
        self.neuron = neuron

    @staticmethod
    def make(
        in_channels: int, out_channels: int, make_neuron: MakeNeuron, *, kernel: int = 3, stride: int = 1
    ) -> "ConvNeuron":
        """Return a block whose output is ``ceil(size / stride)``."""
        conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
        return ConvNeuron(conv, nn.BatchNorm2d(out_channels), make_neuron())

    def forward(self, x: Num[Tensor, "T B C H W"], membranes: Membranes) -> Float[Tensor, "T B K h w"]:
        """Return the spikes of every step; the membrane of the last step goes to ``membranes``."""
        steps, batch = x.shape[:2]
        as_bytes = membranes.bytes_of(x)
        y = convolve(self.conv, x.flatten(0, 1), None if as_bytes is None else as_bytes.flatten(0, 1))
        return self.norm_and_fire(y, (steps, batch), membranes)

    def norm_and_fire(self, y: Tensor, steps_batch: tuple[int, int], membranes: Membranes) -> Tensor:
        """Return the spikes for a convolution's output [T * B, K, h, w]."""
        v = membranes.next()
        if v is None and not membranes.keep and self._has_kernel(y):
            assert self.norm is not None
            assert isinstance(self.neuron, PLIF)
            spikes = plif.batch_norm_plif(
                y, self.norm, self.neuron.w, num_steps=steps_batch[0], leaky=self.neuron.leaky,
                options=self.neuron.options,
            )  # fmt: skip
            return membranes.put(spikes.unflatten(0, steps_batch), None)
        y = y if self.norm is None else self.norm(y)
        spikes, v = self.neuron(y.unflatten(0, steps_batch), v)
        return membranes.put(spikes, v)

    def _has_kernel(self, y: Tensor) -> bool:
        return plif.takes_norm(self.norm) and isinstance(self.neuron, PLIF) and self.neuron.has_kernel(y)

    def fused(self) -> "ConvNeuron":
        """Return the same block with its batch norm folded into the convolution."""
        assert self.norm is not None
        weight, bias = fold_batch_norm(self.conv, self.norm)
        settings = {"stride": self.conv.stride[0], "padding": int(self.conv.padding[0]), "groups": self.conv.groups}
        conv = convolution(weight, bias, **settings)
        return ConvNeuron(conv, None, self.neuron)

"""Convolution, batch norm and neuron as one block, and the folding of its batch norm."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spiking_centernet.nn.kernels import MAX_CHANNELS, BatchNormPLIF
from spiking_centernet.nn.neuron import PLIF, Neuron

MakeNeuron = Callable[[], Neuron]
State = list[Tensor | None]
"""One membrane potential [B, C, H, W] a neuron layer, in the order in which the layers compute; None is at rest."""


Observe = Callable[[Tensor], None]
"""Called with the output [T * B, K, h, w] of every neuron layer, in the order in which the layers compute."""


class Membranes:
    """Hands every neuron layer its membrane of the last call and collects the new ones."""

    def __init__(self, state: State | None, observe: Observe | None = None, *, keep: bool = True):
        self.keep = keep
        self._old: Iterator[Tensor | None] | None = None if state is None else iter(state)
        self._observe = observe
        self.new: State = []

    def next(self) -> Tensor | None:
        """Return the membrane of the layer that computes now, None at rest."""
        return None if self._old is None else next(self._old)

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
    conv = nn.Conv2d(in_channels * groups, out_channels, kernel, stride, padding, groups=groups)
    with torch.no_grad():
        conv.weight.copy_(weight)
        conv.bias.copy_(bias)  # pyright: ignore[reportOptionalMemberAccess]
    return conv


class ConvNeuron(nn.Module):
    """``neuron(norm(conv(x)))`` on time-major tensors; once fused, the norm lives in the convolution.

    On a CPU in training, where nobody asks for the membranes, batch norm and PLIF run as one kernel that keeps only the
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

    def forward(self, x: Float[Tensor, "T B C H W"], membranes: Membranes) -> Float[Tensor, "T B K h w"]:
        """Return the spikes of every step; the membrane of the last step goes to ``membranes``."""
        steps, batch = x.shape[:2]
        y = self.conv(x.flatten(0, 1))
        return self.norm_and_fire(y, (steps, batch), membranes)

    def norm_and_fire(self, y: Tensor, steps_batch: tuple[int, int], membranes: Membranes) -> Tensor:
        """Return the spikes for a convolution's output [T * B, K, h, w]."""
        v = membranes.next()
        if v is None and not membranes.keep and self.norm is not None and self.training and _has_kernel(y, self.neuron):
            spikes = _batch_norm_plif(y, self.norm, self.neuron, steps_batch[0]).unflatten(0, steps_batch)
            return membranes.put(spikes, None)
        y = y if self.norm is None else self.norm(y)
        spikes, v = self.neuron(y.unflatten(0, steps_batch), v)
        return membranes.put(spikes, v)

    def fused(self) -> "ConvNeuron":
        """Return the same block with its batch norm folded into the convolution."""
        assert self.norm is not None
        weight, bias = fold_batch_norm(self.conv, self.norm)
        settings = {"stride": self.conv.stride[0], "padding": int(self.conv.padding[0]), "groups": self.conv.groups}
        conv = convolution(weight, bias, **settings)
        return ConvNeuron(conv, None, self.neuron)


def _has_kernel(y: Tensor, neuron: Neuron) -> bool:
    return (
        y.device.type == "cpu"
        and y.dtype in (torch.float32, torch.bfloat16)
        and y.shape[1] <= MAX_CHANNELS
        and isinstance(neuron, PLIF)
        and neuron.leaky
        and neuron.decay_input
        and neuron.detach_reset
        and not neuron.soft_reset
        and neuron.surrogate == "atan"
    )


def _batch_norm_plif(y: Tensor, norm: nn.BatchNorm2d, neuron: Neuron, num_steps: int) -> Tensor:
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    return BatchNormPLIF.apply(
        y, norm.weight, norm.bias, norm.running_mean, norm.running_var, neuron.w,
        norm.momentum, norm.eps, num_steps, neuron.threshold, True,
    )  # fmt: skip  # pyright: ignore[reportReturnType]

"""What training keeps in memory for the backward pass, and what it computes again."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.ops.event_conv import event_convolution

STORAGES = ("float", "uint8")


class Memory(NamedTuple):
    """Ways to train in less memory. Neither changes a result. A tuple, which wrappers of the network let through.

    Attributes:
        spikes: "uint8" keeps a convolution's spikes as bytes, "float" as they were computed.
        checkpoint_stages: keep only the stages' inputs and compute what lies within again in the backward pass.
    """

    spikes: str = "float"
    checkpoint_stages: bool = False

    def checked(self) -> "Memory":
        """Return itself.

        Raises:
            ConfigError: there is no such way to keep spikes.
        """
        if self.spikes not in STORAGES:
            hint = did_you_mean(self.spikes, STORAGES)
            raise ConfigError(f"spikes must be float or uint8, got {self.spikes!r}{hint}")
        return self


class _ByteConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, as_bytes: Tensor, weight: Tensor, stride: tuple, padding: tuple, groups: int):
        ctx.save_for_backward(as_bytes, weight)
        ctx.settings = stride, padding, groups
        return F.conv2d(x, weight, None, stride, padding, 1, groups)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        (x, weight), (stride, padding, groups) = ctx.saved_tensors, ctx.settings
        grad, mask = grads[0], (ctx.needs_input_grad[0], ctx.needs_input_grad[2], False)
        grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
            grad, x.to(grad.dtype), weight.to(grad.dtype), None, stride, padding, (1, 1), False, (0, 0), groups, mask
        )
        return grad_x, None, None if grad_weight is None else grad_weight.to(weight.dtype), None, None, None


@contextmanager
def _statistics_left_alone(stage: nn.Module) -> Iterator[None]:
    """Let batch norms move copies of their running statistics: the first pass has moved the statistics themselves."""
    norms = [m for m in stage.modules() if isinstance(m, nn.BatchNorm2d)]
    kept = [(norm, name, buffer) for norm in norms for name, buffer in norm.named_buffers(recurse=False)]
    for norm, name, buffer in kept:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in kept:
            setattr(norm, name, buffer)


@contextmanager
def _again(stage: nn.Module, silence: Callable) -> Iterator[None]:
    with silence(), _statistics_left_alone(stage):
        yield


class MemorySaver:
    """What one forward pass keeps for its backward pass.

    Args:
        memory: how.
    """

    def __init__(self, memory: Memory):
        self._memory = memory
        self._decided: dict[nn.Module, bool] = {}
        self._as_bytes: tuple[weakref.ref[Tensor], Tensor] | None = None

    def convolve(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        """Return what a convolution makes of spikes [T, B, C, H, W] as [T * B, K, h, w].

        Where ``x`` is uint8, it is a cube as it was filled, and its events are convolved.
        """
        if x.dtype == torch.uint8:
            return event_convolution(x.flatten(0, 1), conv)
        as_bytes = self._bytes_of(x)
        if as_bytes is None or conv.bias is not None:
            return conv(x.flatten(0, 1))
        return _ByteConvolution.apply(  # pyright: ignore[reportReturnType]
            x.flatten(0, 1), as_bytes.flatten(0, 1), conv.weight, conv.stride, conv.padding, conv.groups
        )

    def _bytes_of(self, x: Tensor) -> Tensor | None:
        """Return spikes as uint8 for the backward pass, once for all who take them; None where floats are kept."""
        if self._as_bytes is not None and self._as_bytes[0]() is x:
            return self._as_bytes[1]
        if self._memory.spikes == "float":
            return None
        self.remember(x, x.detach().to(torch.uint8))
        return self._bytes_of(x)

    def remember(self, x: Tensor, as_bytes: Tensor) -> None:
        """Take note that ``as_bytes`` holds the values of ``x``, as those of the network's input do."""
        self._as_bytes = weakref.ref(x), as_bytes

    def decide(self, module: nn.Module, now: bool) -> bool:
        """Return what a module decided when it first computed: a second time, hooks it looked at may have gone."""
        return self._decided.setdefault(module, now)

    def run_stage(self, compute: Callable[..., Tensor], *inputs: Tensor, stage: nn.Module, silence: Callable) -> Tensor:
        """Return ``compute(*inputs)``; with ``checkpoint_stages`` keep only the inputs.

        The rest is then computed again in the backward pass.

        Args:
            compute: the stage's computation.
            inputs: tensors it is given.
            stage: the module that holds the stage's batch norms, whose running statistics move once.
            silence: returns a context in which nobody observes, for the second computation.
        """
        if not self._memory.checkpoint_stages:
            return compute(*inputs)
        return checkpoint(  # pyright: ignore[reportReturnType]
            compute, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), _again(stage, silence))
        )

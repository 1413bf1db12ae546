"""Neurons over all steps, alone or behind batch norm, as one differentiable operation.

Only the input is kept for the backward pass, which computes the membranes again. On a CPU the passes are those of
``native/plif.c``, on a GPU those of ``plif_triton.py``; where there are none, or for what they do not know, callers
take the eager loop, which gives the same spikes.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spiking_centernet.ops import plif_cpu
from spiking_centernet.ops.plif_layer import Layer, NeuronOptions


def passes(x: Tensor) -> Any:
    """Return the module with the passes for this tensor's device and type, None where there is none."""
    if plif_cpu.supports(x):
        return plif_cpu
    if x.device.type == "cuda":
        try:
            from spiking_centernet.ops import plif_triton
        except ImportError:
            return None
        return plif_triton if plif_triton.supports(x) else None
    return None


def supports(x: Tensor) -> bool:
    """Return whether the kernels compute this tensor: the type, the device, something to do, and nobody tracing."""
    tracing = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    traced = torch.compiler.is_compiling() or tracing or type(x) not in (Tensor, nn.Parameter)
    return not traced and x.numel() > 0 and passes(x) is not None


def supports_norm(norm: nn.BatchNorm2d | None) -> bool:
    """Return whether the fused kernel computes this batch norm: affine, its statistics of the batch and averaged.

    No subclass: its statistics may be those of more than this process's batch.
    """
    if norm is None or type(norm) is not nn.BatchNorm2d:
        return False
    return norm.training and norm.affine and norm.track_running_stats and norm.momentum is not None


def _is_step_major(x: Tensor) -> bool:
    """Return whether [T, ...] lies in memory step after step without gaps, whatever the order within a step."""
    dense = torch.empty_like(x, device="meta").stride() == x.stride()
    return dense and x.stride(0) * x.shape[0] == x.numel()


class _PLIF(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, v: Tensor | None, w: Tensor, leaky: bool, options: NeuronOptions):
        x = x if _is_step_major(x) else x.contiguous()
        v = None if v is None else torch.empty_like(x[0], dtype=torch.float32).copy_(v)
        # The input as it is, without a norm: mean 0, scale 1, bias 0.
        zero, one = torch.zeros(1, device=x.device), torch.ones(1, device=x.device)
        layer = Layer(x.shape[0], 1, zero, one, zero, torch.sigmoid(w.detach()), leaky, options)
        v_last = torch.empty_like(x[0], dtype=torch.float32)
        spikes = passes(x).forward(x, v, v_last, layer)
        ctx.save_for_backward(x, v)
        ctx.layer = layer
        ctx.set_materialize_grads(False)
        return spikes, v_last

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        (x, v), layer = ctx.saved_tensors, ctx.layer
        grad, grad_v_last = grads
        # The kernels read every tensor in the order of x's memory.
        grad = torch.zeros_like(x) if grad is None else torch.empty_like(x).copy_(grad)
        if grad_v_last is not None:
            grad_v_last = torch.empty_like(x[0], dtype=torch.float32).copy_(grad_v_last)
        grad_v = torch.empty_like(x[0], dtype=torch.float32) if ctx.needs_input_grad[1] else None
        grad_x, sums = passes(x).backward(grad, x, v, grad_v_last, grad_v, layer)
        return grad_x, grad_v, _grad_w(sums[2], layer.q) if layer.leaky else None, None, None


def plif_steps(x: Tensor, v: Tensor | None, w: Tensor, *, leaky: bool, options: NeuronOptions) -> tuple[Tensor, Tensor]:
    """Return the spikes [T, ...] of every step and the membrane [...] after the last, as the loop of ``PLIF`` does.

    Args:
        x: input current [T, ...], float32 or bfloat16.
        v: membrane before the first step, float32; None is zero-initialized.
        w: the leak is ``sigmoid(w)``.
        leaky: False integrates without a leak.
        options: threshold, reset, and a surrogate that the passes know.
    """
    return _PLIF.apply(x, v, w, leaky, options)  # pyright: ignore[reportReturnType]


def _grad_w(grad_q: Tensor, q: Tensor) -> Tensor:
    q = q.double()
    return (grad_q.sum() * q * (1 - q)).float()


class _BatchNormPLIF(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y: Tensor, weight: Tensor, bias: Tensor, w: Tensor, norm: nn.BatchNorm2d, num_steps: int,
                leaky: bool, options: NeuronOptions):  # fmt: skip
        y = y.contiguous(memory_format=torch.channels_last)
        num_channels = y.shape[1]
        count = y.numel() // num_channels
        mean, var = passes(y).moments(y)
        move_running_statistics(norm, mean, var, count)
        inverse_std = torch.rsqrt(var + norm.eps)
        q = torch.sigmoid(w.detach())
        scale = (weight.detach() * inverse_std).float()
        layer = Layer(num_steps, num_channels, mean.float(), scale, bias.detach().float(), q, leaky, options)
        spikes = passes(y).forward(y, None, None, layer)
        ctx.save_for_backward(y, inverse_std)
        ctx.layer = layer
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        (y, inverse_std), layer = ctx.saved_tensors, ctx.layer
        count = y.numel() // layer.num_channels
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        grad_x, (g, gy, gq) = passes(y).backward(grad, y, None, None, None, layer)
        grad_weight = gy * inverse_std
        slope = layer.scale * inverse_std * grad_weight / -count
        passes(y).normalize(grad_x, y, layer.mean, layer.scale, slope.float(), (layer.scale * g / -count).float())
        grad_w = _grad_w(gq, layer.q) if layer.leaky else None
        return grad_x, grad_weight.float(), g.float(), grad_w, None, None, None, None


def move_running_statistics(norm: nn.BatchNorm2d, mean: Tensor, var: Tensor, count: int) -> None:
    """Move a batch norm's running statistics towards mean and biased variance [C] of ``count`` values per channel."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.momentum is not None
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    norm.running_mean.lerp_(mean.float(), norm.momentum)
    norm.running_var.lerp_((var * (count / max(1, count - 1))).float(), norm.momentum)


def batch_norm_plif(
    y: Tensor, norm: nn.BatchNorm2d, w: Tensor, *, num_steps: int, leaky: bool, options: NeuronOptions
) -> Tensor:
    """Return the spikes of zero-initialized neurons behind a batch norm in training; move its running statistics.

    Args:
        y: a convolution's output [T * B, C, H, W], float32 or bfloat16; the spikes have its shape and type.
        norm: a norm that :func:`supports_norm` affirms.
        w: the leak is ``sigmoid(w)``.
        num_steps: T.
        leaky: False integrates without a leak.
        options: threshold, reset, and a surrogate that the passes know.
    """
    return _BatchNormPLIF.apply(y, norm.weight, norm.bias, w, norm, num_steps, leaky, options)  # pyright: ignore

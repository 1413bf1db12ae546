"""I-LIF neurons over all steps as one differentiable operation in torch: only the input is kept for the backward pass.

The backward pass computes the membranes again, as ``plif.py`` does for its neurons.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spiking_centernet.ops.plif_layer import NeuronOptions
from spiking_centernet.ops.surrogate import count_slope, spike_count


def integrated(x: Tensor, v: Tensor, q: Tensor | float | None, *, decay_input: bool) -> Tensor:
    """Return the membrane potential after leak and input: ``v + q (x - v)`` if ``decay_input``, else ``v - q v + x``.

    Where ``q`` is None there is no leak: ``v + x``.
    """
    if q is None:
        return v + x
    return v + (x - v) * q if decay_input else v - v * q + x


def supports(x: Tensor) -> bool:
    """Return whether the operation takes this tensor: there is a step, and nobody traces."""
    tracing = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    traced = torch.compiler.is_compiling() or tracing or type(x) not in (Tensor, nn.Parameter)
    return not traced and len(x) > 0


class _ILIF(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, v: Tensor, q: Tensor | None, options: NeuronOptions) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, v, q)
        ctx.options = options
        counts = torch.empty_like(x)  # in the memory format of the input, which a stack would lose
        for t, current in enumerate(x.to(v.dtype)):
            h = integrated(current, v, q, decay_input=options.decay_input)
            n = spike_count(h, options.threshold, options.levels)
            v = h - n * options.threshold
            counts[t] = n
        return counts, v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        (x, v, q), options = ctx.saved_tensors, ctx.options
        before, reached, currents = [], [], x.to(v.dtype)
        for current in currents:
            before.append(v)
            h = integrated(current, v, q, decay_input=options.decay_input)
            reached.append(h)
            v = h - spike_count(h, options.threshold, options.levels) * options.threshold
        grad_counts, grad_v = grads[0].to(v.dtype), grads[1]
        grad_x, grad_q = torch.empty_like(x), None if q is None else torch.zeros_like(q)
        for t in range(len(x) - 1, -1, -1):
            slope = count_slope(reached[t], options.threshold, options.levels, options.surrogate)
            from_count = grad_counts[t] if options.detach_reset else grad_counts[t] - grad_v * options.threshold
            grad_h = slope.mul_(from_count).add_(grad_v)
            grad_v = grad_h
            if q is not None:
                pulled = currents[t] - before[t] if options.decay_input else -before[t]
                grad_q += pulled.mul_(grad_h).sum()
                grad_v = grad_h * (1 - q)
            grad_x[t] = grad_h * q if q is not None and options.decay_input else grad_h
        return grad_x, grad_v, grad_q, None


def ilif_steps(x: Tensor, v: Tensor, q: Tensor | None, options: NeuronOptions) -> tuple[Tensor, Tensor]:
    """Return the spikes [T, ...] of every step and the membrane [...] after the last, as the loop of ``ILIF`` does.

    Args:
        x: input currents [T, ...].
        v: membrane [...] before the first step, float32 or float64.
        q: leak, a scalar; None for integrate-and-fire.
        options: of the neurons, with levels.
    """
    return _ILIF.apply(x, v, q, options)  # pyright: ignore[reportReturnType]

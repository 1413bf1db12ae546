"""Spikes forward, smooth derivatives backward: the surrogate gradients of the field."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

SLOPES = {"atan": 2.0, "sigmoid": 4.0, "rectangle": 1.0}
"""Slope alpha of every surrogate: SpikingJelly's for the first two, that of the authors for the third."""


def atan_derivative(u: Tensor, alpha: float = SLOPES["atan"]) -> Tensor:
    """Return ``alpha / 2 / (1 + (pi / 2 * alpha * u)**2)``, the ATan surrogate (Fang et al. 2021, arXiv 2007.05785)."""
    return (math.pi / 2 * alpha * u).square_().add_(1).reciprocal_().mul_(alpha / 2)


def sigmoid_derivative(u: Tensor, alpha: float = SLOPES["sigmoid"]) -> Tensor:
    """Return the derivative of ``sigmoid(alpha * u)``."""
    s = torch.sigmoid(alpha * u)
    return alpha * s * (1 - s)


def rectangle_derivative(u: Tensor, alpha: float = SLOPES["rectangle"]) -> Tensor:
    """Return ``1 / alpha`` where ``abs(u) < alpha / 2``, else 0 (Wu et al. 2018, arXiv 1706.02609)."""
    return (u.abs() < alpha / 2).to(u.dtype) / alpha


SURROGATES: dict[str, Callable[[Tensor], Tensor]] = {
    "atan": atan_derivative,
    "sigmoid": sigmoid_derivative,
    "rectangle": rectangle_derivative,
}


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u: Tensor, derivative: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(u)
        ctx.derivative = derivative
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx, *grads: Tensor):
        (u,) = ctx.saved_tensors
        return grads[0] * ctx.derivative(u), None


def spike(u: Tensor, surrogate: str = "atan") -> Tensor:
    """Return 1 where ``u >= 0``, else 0, with the named surrogate as its derivative.

    Args:
        u: membrane potential minus threshold, any shape.
        surrogate: a name in ``SURROGATES``.
    """
    return _Spike.apply(u, SURROGATES[surrogate])  # pyright: ignore[reportReturnType]


class _Count(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h: Tensor, threshold: float, levels: int, surrogate: str) -> Tensor:
        ctx.save_for_backward(h)
        ctx.settings = threshold, levels, surrogate
        # Comparisons written as numbers: to convert Booleans takes several times as long.
        count, reached = torch.ge(h, threshold / 2, out=torch.empty_like(h)), torch.empty_like(h)
        for k in range(1, levels):
            count += torch.ge(h, (k + 0.5) * threshold, out=reached)
        return count

    @staticmethod
    def backward(ctx, *grads: Tensor):
        return grads[0] * count_slope(*ctx.saved_tensors, *ctx.settings), None, None, None


def count_slope(h: Tensor, threshold: float, levels: int, surrogate: str) -> Tensor:
    """Return the derivative of :func:`spike_count`."""
    derivative = SURROGATES[surrogate]
    slope = derivative(h - threshold / 2)
    for k in range(1, levels):
        slope += derivative(h - (k + 0.5) * threshold)
    return slope


def spike_count(h: Tensor, threshold: float, levels: int, surrogate: str = "atan") -> Tensor:
    """Return how many of ``levels`` steps ``(k - 1/2) threshold``, k = 1, 2, ..., ``h`` reaches: 0 to ``levels``.

    That is ``h / threshold`` rounded, a half upwards, and clipped. The derivative is the sum of those of the steps:
    of surrogate "rectangle" and threshold 1 it is 1 from 0 to ``levels``, else 0, the straight-through estimator.

    Args:
        h: membrane potential, any shape.
        threshold: distance of the steps.
        levels: their number.
        surrogate: a name in ``SURROGATES``.
    """
    return _Count.apply(h, threshold, levels, surrogate)  # pyright: ignore[reportReturnType]

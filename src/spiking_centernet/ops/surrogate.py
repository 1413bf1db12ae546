"""Spikes forward, smooth derivatives backward: the surrogate gradients of the field."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

SLOPES = {"atan": 2.0, "sigmoid": 4.0, "rectangle": 1.0}
"""Slope alpha of every surrogate: SpikingJelly's for the first two, that of the authors for the third."""


def atan_derivative(u: Tensor, alpha: float = SLOPES["atan"]) -> Tensor:
    """Return ``alpha / 2 / (1 + (pi / 2 * alpha * u)**2)``, the ATan surrogate (Fang et al. 2021, arXiv 2007.05785)."""
    return (alpha / 2) / (1 + (math.pi / 2 * alpha * u) ** 2)


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

"""Batch norm folded into the convolution behind it, in training: what the norm gives is never written to memory.

As in inference, ``conv(norm(x))`` is another convolution of ``x``. Its weight's gradient holds all the sums over pixels
that the backward pass of the norm needs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spiking_centernet.ops import plif


def _moments(x: Tensor, padding: int) -> tuple[Tensor, Tensor, int]:
    """Return mean and biased variance [C] in float64, and the values per channel, of ``x`` with zeros around it."""
    mean, var = plif.passes(x).moments(x)
    num, _, height, width = x.shape
    inside = height * width / ((height + 2 * padding) * (width + 2 * padding))
    square = (var + mean * mean) * inside
    mean = mean * inside
    return mean, square - mean * mean, num * (height + 2 * padding) * (width + 2 * padding)


class _NormConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, gamma: Tensor, beta: Tensor, weight: Tensor, norm: nn.BatchNorm2d, padding: int,
                groups: int):  # fmt: skip
        x = x.contiguous(memory_format=torch.channels_last)
        mean, var, count = _moments(x, padding)
        plif.move_running_statistics(norm, mean, var, count)
        inverse_std = torch.rsqrt(var + norm.eps)
        scale = gamma * inverse_std
        shift = beta - scale * mean
        folded = (weight * _by_weight(scale, weight, groups)).to(x.dtype)
        bias = (weight * _by_weight(shift, weight, groups)).sum((1, 2, 3)).to(x.dtype)
        ctx.save_for_backward(x, folded, weight, mean, inverse_std, scale, shift)
        ctx.settings = count, padding, groups
        return F.conv2d(x, folded, bias, 1, padding, 1, groups)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        x, folded, weight, mean, inverse_std, scale, shift = ctx.saved_tensors
        count, padding, groups = ctx.settings
        grad_x, grad_folded, grad_bias = torch.ops.aten.convolution_backward(
            grads[0], x, folded, [len(weight)], (1, 1), (padding, padding), (1, 1), False, (0, 0), groups,
            (True, True, True),
        )  # fmt: skip
        grad_folded, grad_bias = grad_folded.double(), grad_bias.double()[:, None, None, None]
        # Per input channel, over all pixels: the sum of the gradient behind the norm, and of it times x - mean.
        g = _by_channel(weight * grad_bias, groups)
        gx = _by_channel(weight * (grad_folded - grad_bias * _by_weight(mean, weight, groups)), groups)
        slope = scale * inverse_std.square() * gx / -count
        one = torch.ones_like(scale, dtype=torch.float32)
        plif.passes(x).normalize(grad_x, x, mean.float(), one, slope.float(), (scale * g / -count).float())
        grad_weight = grad_folded * _by_weight(scale, weight, groups) + grad_bias * _by_weight(shift, weight, groups)
        return grad_x, (gx * inverse_std).float(), g.float(), grad_weight.to(weight.dtype), None, None, None


def _by_weight(per_channel: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Return a value an input channel [C] as a value a weight, [O, C / groups, 1, 1]."""
    num_out, num_in = weight.shape[:2]
    grouped = per_channel.reshape(groups, 1, num_in).expand(-1, num_out // groups, -1)
    return grouped.reshape(num_out, num_in, 1, 1)


def _by_channel(per_weight: Tensor, groups: int) -> Tensor:
    """Return the sum [C] over all weights [O, C / groups, K, K] that an input channel meets."""
    return per_weight.sum((2, 3)).unflatten(0, (groups, -1)).sum(1).flatten()


def supports(x: Tensor, norm: nn.BatchNorm2d) -> bool:
    """Return whether :func:`norm_convolution` computes this: a norm in training, a tensor that the kernels know."""
    return plif.supports_norm(norm) and plif.supports(x)


def norm_convolution(x: Tensor, norm: nn.BatchNorm2d, conv: nn.Conv2d, *, padding: int = 0) -> Tensor:
    """Return ``conv(norm(pad(x)))`` [N, O, h, w] and move the norm's running statistics.

    Args:
        x: what the norm is given, [N, C, H, W], float32 or bfloat16.
        norm: a norm that :func:`supports` affirms.
        conv: a convolution of stride 1 without bias and padding of its own.
        padding: zeros around ``x``, which are part of the norm's statistics.
    """
    return _NormConvolution.apply(x, norm.weight, norm.bias, conv.weight, norm, padding, conv.groups)  # pyright: ignore

"""Weights on powers of two: every sum is exact in float32, so that every way of computing agrees to the bit."""

import copy

import torch


def dyadic(fused):
    """Return a fused detector with int8 weights on a power-of-two scale and biases that are multiples of 2^-10."""
    exact = copy.deepcopy(fused)
    for module in exact.modules():
        if isinstance(module, torch.nn.Conv2d):
            with torch.no_grad():
                scale = 2.0 ** torch.ceil(torch.log2(module.weight.abs().max() / 127))
                module.weight.copy_(torch.round(module.weight / scale) * scale)
                module.bias.copy_(torch.round(module.bias * 1024) / 1024)
    return exact

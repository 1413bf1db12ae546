"""Weights in int8, one scale an output channel; activations need none: spikes are 0 or 1."""

import copy

import numpy as np
import torch
from torch import nn

from spiking_centernet.nn import Detector


def to_int8(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return integers and scales with ``weight ~ integers * scale``.

    ``scale = max |weight| / 127`` over each output channel and ``integers = round(weight / scale)``, so that no weight
    is off by more than half a scale.

    Args:
        weight: float32 [O, ...].

    Returns:
        int8 [O, ...] and float32 [O].
    """
    largest = np.abs(weight).reshape(len(weight), -1).max(1)
    scale = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
    integers = np.round(weight / scale.reshape(-1, *[1] * (weight.ndim - 1)))
    return integers.astype(np.int8), scale


def quantised(fused: Detector) -> Detector:
    """Return a fused detector whose convolutions have the weights that int8 can hold, in float32."""
    rounded = copy.deepcopy(fused)
    for module in rounded.modules():
        if isinstance(module, nn.Conv2d):
            integers, scale = to_int8(module.weight.detach().cpu().numpy())
            weight = integers.astype(np.float32) * scale[:, None, None, None]
            with torch.no_grad():
                module.weight.copy_(torch.from_numpy(weight))
    return rounded

"""The passes of ``native/plif.c`` on the CPU, called through ctypes on torch's memory.

Inputs are float32 or bfloat16 whose memory is [T, N], the channel fastest within N; membranes are float32.
"""

import ctypes
import math
from functools import cache

import torch
from torch import Tensor

from spiking_centernet.ops.library import native
from spiking_centernet.ops.plif_layer import Layer
from spiking_centernet.ops.structs import KERNEL_SURROGATES, PLIF_FIXED_ROWS, CPlifLayer, CPlifNeuron
from spiking_centernet.ops.surrogate import SLOPES

_PARTS = 32
"""Sums are split in this many parts at most; up to this many threads find work."""

_UNIT = 16
"""Values in the widest vector: tiles are a multiple of it, whichever instruction set is in use."""

_TILE = 512
"""Values a tile has at least: its rows stay in the first level of cache."""

SURROGATES = KERNEL_SURROGATES
"""What the kernels know."""

WHOLE_NUMBERS = True
"""They know neurons that answer with whole numbers of spikes."""

_SUFFIXES = {torch.float32: "f32", torch.bfloat16: "bf16"}

_POINTER = ctypes.c_void_p


_ARGUMENTS = {
    "moments": [_POINTER, ctypes.c_int64, _POINTER, _POINTER, _POINTER],
    "forward": [_POINTER] * 6,
    "backward": [_POINTER] * 8 + [ctypes.c_int64, _POINTER],
    "normalise": [_POINTER, _POINTER, ctypes.c_int64, _POINTER, _POINTER, _POINTER],
}


@cache
def _kernel(name: str, dtype: torch.dtype):
    library = native()
    assert library is not None
    return library.kernel(f"plif_{name}_{_SUFFIXES[dtype]}", _ARGUMENTS[name])


def supports(x: Tensor) -> bool:
    """Return whether the kernels compute this type of tensor here."""
    return x.device.type == "cpu" and x.dtype in _SUFFIXES and native() is not None


def _tiled(num_channels: int, size: int) -> CPlifLayer:
    """Return the C struct that says how a pass over ``size`` values is split."""
    unit = math.lcm(num_channels, _UNIT)
    tile = unit * max(1, _TILE // unit)
    return CPlifLayer(num_channels=num_channels, tile=tile, parts=max(1, min(_PARTS, -(-size // tile))))


def _described(layer: Layer, num_neurons: int) -> CPlifLayer:
    """Return the C struct of a layer, which must outlive it."""
    o = layer.options
    described = _tiled(layer.num_channels, num_neurons)
    described.mean, described.scale, described.bias = (x.data_ptr() for x in (layer.mean, layer.scale, layer.bias))
    described.num_neurons, described.num_steps = num_neurons, layer.num_steps
    thresholds = torch.tensor(o.thresholds)
    described.neuron = CPlifNeuron(
        float(layer.q), o.threshold, SLOPES[o.surrogate], layer.leaky, o.decay_input, o.soft_reset, o.detach_reset,
        SURROGATES.index(o.surrogate), o.levels, thresholds.data_ptr(),
    )  # fmt: skip
    described.kept = thresholds
    return described


def _pointer(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def moments(y: Tensor) -> Tensor:
    """Return mean and biased variance [2, C] in float64 of a channels-last [M, C, H, W] tensor."""
    described = _tiled(y.shape[1], y.numel())
    scratch = torch.empty(1 + 2 * described.parts, described.tile)
    partial = torch.empty(described.parts, 2, y.shape[1], dtype=torch.float64)
    _kernel("moments", y.dtype)(
        y.data_ptr(), y.numel(), ctypes.byref(described), scratch.data_ptr(), partial.data_ptr()
    )  # fmt: skip
    return partial[0]


def forward(y: Tensor, v: Tensor | None, v_last: Tensor | None, layer: Layer) -> Tensor:
    """Return the spikes, stored as ``y`` is, and write the membrane [N] after the last step to ``v_last``."""
    spikes = torch.empty_like(y)
    described = _described(layer, y.numel() // layer.num_steps)
    scratch = torch.empty(3 + described.parts, described.tile)
    _kernel("forward", y.dtype)(
        y.data_ptr(), spikes.data_ptr(), _pointer(v), _pointer(v_last), ctypes.byref(described), scratch.data_ptr()
    )
    return spikes


def backward(
    grad: Tensor, y: Tensor, v: Tensor | None, grad_v_last: Tensor | None, grad_v: Tensor | None, layer: Layer
) -> tuple[Tensor, Tensor]:
    """Return the gradient at the neurons' input and float64 sums [3, C] over it; write that of ``v`` to ``grad_v``.

    The sums are of the gradient, of the gradient times ``y - mean``, and the gradient of the leak ``q``.
    """
    grad_x = torch.empty_like(y)
    described = _described(layer, y.numel() // layer.num_steps)
    part_rows = PLIF_FIXED_ROWS + 3 * layer.num_steps
    scratch = torch.empty(3 + described.parts * part_rows, described.tile)
    partial = torch.empty(described.parts, 3, layer.num_channels, dtype=torch.float64)
    _kernel("backward", y.dtype)(
        grad.data_ptr(), y.data_ptr(), _pointer(v), _pointer(grad_v_last), grad_x.data_ptr(), _pointer(grad_v),
        ctypes.byref(described), scratch.data_ptr(), part_rows, partial.data_ptr(),
    )  # fmt: skip
    return grad_x, partial[0]


def normalize(grad_x: Tensor, y: Tensor, mean: Tensor, scale: Tensor, slope: Tensor, bias: Tensor) -> None:
    """Overwrite ``grad_x`` by ``grad_x * scale + (y - mean) * slope + bias``, float32 vectors [C]."""
    described = _tiled(y.shape[1], 1)
    described.mean, described.scale, described.bias = (x.data_ptr() for x in (mean, scale, bias))
    scratch = torch.empty(4, described.tile)
    _kernel("normalise", y.dtype)(
        grad_x.data_ptr(), y.data_ptr(), y.numel(), ctypes.byref(described), slope.data_ptr(), scratch.data_ptr()
    )

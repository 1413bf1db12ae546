"""The passes of ``plif_cpu.py`` on a GPU, in Triton: same functions, same order of operations.

Imported when the first CUDA tensor arrives; Triton comes with PyTorch's CUDA build. Sums are split in parts that depend
on the size alone, so that results are the same from run to run. The backward pass has no room to keep the membranes of
every step: it computes them again for every step, ``T (T + 1) / 2`` readings of which all but T come from cache.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from spiking_centernet.ops.plif_layer import Layer
from spiking_centernet.ops.surrogate import SLOPES

SURROGATES = ("atan",)
"""What the kernels know."""

WHOLE_NUMBERS = False
"""They do not know neurons that answer with whole numbers of spikes."""

_BLOCK = 1024
"""Values a program works on at a time."""

_MOST_CHANNELS = 64
"""Channels a program sums at a time."""

_PARTS = 512
"""Sums are split in this many parts at most."""

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@triton.jit
def _charge(x, v, q, LEAKY: tl.constexpr, DECAY_INPUT: tl.constexpr):
    if not LEAKY:
        h = v + x
    elif DECAY_INPUT:
        h = v + (x - v) * q
    else:
        h = v - v * q + x
    return h


@triton.jit
def _after_spike(h, threshold, SOFT: tl.constexpr):
    if SOFT:
        v = tl.where(h >= threshold, h - threshold, h)
    else:
        v = tl.where(h >= threshold, 0.0, h)
    return v


@triton.jit
def _forward(y, spikes, v_first, v_last, mean, scale, bias, q_pointer, threshold, num_neurons, num_channels, num_steps,
             HAS_FIRST: tl.constexpr, HAS_LAST: tl.constexpr, LEAKY: tl.constexpr, DECAY_INPUT: tl.constexpr,
             SOFT: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    step = program * 0 + num_neurons  # 64 bits wide: T * N may need more than 31
    at = program * BLOCK + tl.arange(0, BLOCK)
    inside = at < num_neurons
    channel = at % num_channels
    center, factor = tl.load(mean + channel), tl.load(scale + channel)
    shift, q = tl.load(bias + channel), tl.load(q_pointer)
    v = tl.load(v_first + at, mask=inside, other=0.0) if HAS_FIRST else tl.zeros([BLOCK], tl.float32)
    for t in range(num_steps):
        x = (tl.load(y + t * step + at, mask=inside, other=0.0).to(tl.float32) - center) * factor + shift
        h = _charge(x, v, q, LEAKY, DECAY_INPUT)
        fired = tl.where(h >= threshold, 1.0, 0.0)
        tl.store(spikes + t * step + at, fired.to(spikes.dtype.element_ty), mask=inside)
        v = _after_spike(h, threshold, SOFT)
    if HAS_LAST:
        tl.store(v_last + at, v, mask=inside)


@triton.jit
def _moments(y, pivot, partial, num_rows, num_channels, rows_per_part, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    part = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    known = channel < num_channels
    center = tl.load(pivot + channel, mask=known, other=0.0)
    total, square = tl.zeros([CHANNELS], tl.float32), tl.zeros([CHANNELS], tl.float32)
    for first in range(0, rows_per_part, ROWS):
        row = part * rows_per_part + first + tl.arange(0, ROWS)
        inside = ((first + tl.arange(0, ROWS) < rows_per_part) & (row < num_rows))[:, None] & known[None, :]
        value = tl.load(y + row[:, None] * num_channels + channel[None, :], mask=inside, other=0.0).to(tl.float32)
        d = tl.where(inside, value - center[None, :], 0.0)
        total += tl.sum(d, 0)
        square += tl.sum(d * d, 0)
    tl.store(partial + (part * 2) * num_channels + channel, total, mask=known)
    tl.store(partial + (part * 2 + 1) * num_channels + channel, square, mask=known)


@triton.jit
def _backward(grad, y, v_first, grad_v_last, grad_x, grad_v, partial, mean, scale, bias, q_pointer, threshold, alpha,
              num_rows, num_channels, num_neurons, num_steps, rows_per_part, HAS_FIRST: tl.constexpr,
              HAS_LAST: tl.constexpr, WANTS_FIRST: tl.constexpr, LEAKY: tl.constexpr, DECAY_INPUT: tl.constexpr,
              SOFT: tl.constexpr, DETACH: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr):  # fmt: skip
    part = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    known = channel < num_channels
    center = tl.load(mean + channel, mask=known, other=0.0)[None, :]
    factor = tl.load(scale + channel, mask=known, other=0.0)[None, :]
    shift = tl.load(bias + channel, mask=known, other=0.0)[None, :]
    q = tl.load(q_pointer)
    step = part * 0 + num_neurons
    sum_g, sum_gy = tl.zeros([CHANNELS], tl.float32), tl.zeros([CHANNELS], tl.float32)
    sum_gq = tl.zeros([CHANNELS], tl.float32)
    for first in range(0, rows_per_part, ROWS):
        row = part * rows_per_part + first + tl.arange(0, ROWS)
        inside = ((first + tl.arange(0, ROWS) < rows_per_part) & (row < num_rows))[:, None] & known[None, :]
        at = row[:, None] * num_channels + channel[None, :]
        rest = tl.load(v_first + at, mask=inside, other=0.0) if HAS_FIRST else tl.zeros([ROWS, CHANNELS], tl.float32)
        carried = tl.zeros([ROWS, CHANNELS], tl.float32)
        if HAS_LAST:
            carried = tl.load(grad_v_last + at, mask=inside, other=0.0)
        for done in range(num_steps):
            last = num_steps - 1 - done
            v = rest
            for t in range(last):
                x = (tl.load(y + t * step + at, mask=inside, other=0.0).to(tl.float32) - center) * factor + shift
                v = _after_spike(_charge(x, v, q, LEAKY, DECAY_INPUT), threshold, SOFT)
            d = tl.load(y + last * step + at, mask=inside, other=0.0).to(tl.float32) - center
            x = d * factor + shift
            h = _charge(x, v, q, LEAKY, DECAY_INPUT)
            g = tl.load(grad + last * step + at, mask=inside, other=0.0).to(tl.float32)
            u = 1.5707963267948966 * alpha * (h - threshold)
            if not DETACH:
                g -= carried * (threshold if SOFT else h)
            kept = carried if SOFT else tl.where(h >= threshold, 0.0, carried)
            g_h = g * (alpha * 0.5 / (1.0 + u * u)) + kept
            g_x = g_h * q if LEAKY and DECAY_INPUT else g_h
            tl.store(grad_x + last * step + at, g_x.to(grad_x.dtype.element_ty), mask=inside)
            carried = g_h * (1.0 - q) if LEAKY else g_h
            g_x = tl.where(inside, g_x, 0.0)
            sum_g += tl.sum(g_x, 0)
            sum_gy += tl.sum(g_x * d, 0)
            sum_gq += tl.sum(tl.where(inside, g_h * (x - v) if DECAY_INPUT else -(g_h * v), 0.0), 0)
        if WANTS_FIRST:
            tl.store(grad_v + at, carried, mask=inside)
    tl.store(partial + (part * 3) * num_channels + channel, sum_g, mask=known)
    tl.store(partial + (part * 3 + 1) * num_channels + channel, sum_gy, mask=known)
    tl.store(partial + (part * 3 + 2) * num_channels + channel, sum_gq, mask=known)


@triton.jit
def _normalize(grad_x, y, mean, scale, slope, bias, size, num_channels, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    channel = at % num_channels
    g = tl.load(grad_x + at, mask=inside, other=0.0).to(tl.float32) * tl.load(scale + channel)
    d = tl.load(y + at, mask=inside, other=0.0).to(tl.float32) - tl.load(mean + channel)
    g += d * tl.load(slope + channel) + tl.load(bias + channel)
    tl.store(grad_x + at, g.to(grad_x.dtype.element_ty), mask=inside)


def supports(x: Tensor) -> bool:
    """Return whether the kernels compute this type of tensor."""
    return x.device.type == "cuda" and x.dtype in _DTYPES


def _on(x: Tensor) -> AbstractContextManager:
    """Make the tensor's GPU the one that kernels are launched on."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def _launch(kernel: Any, grid: tuple[int, ...]) -> Any:
    """Return the kernel over a grid; Triton types neither its constants nor its options."""
    return kernel[grid]


def _blocks(num_rows: int, num_channels: int) -> tuple[tuple[int, int], int, dict[str, int]]:
    """Return the grid of a summing kernel (parts, channel blocks), the rows of a part, and the block's shape."""
    channels = min(_MOST_CHANNELS, triton.next_power_of_2(num_channels))
    rows = max(1, _BLOCK // channels)
    parts = max(1, min(_PARTS, triton.cdiv(num_rows, rows)))
    grid = parts, triton.cdiv(num_channels, channels)
    return grid, triton.cdiv(num_rows, parts), {"ROWS": rows, "CHANNELS": channels}


def moments(y: Tensor) -> Tensor:
    """Return mean and biased variance [2, C] in float64 of a channels-last [M, C, H, W] tensor."""
    num_channels = y.shape[1]
    num_rows = y.numel() // num_channels
    pivot = y[0, :, 0, 0].float().contiguous()
    grid, rows_per_part, shape = _blocks(num_rows, num_channels)
    partial = torch.empty(grid[0], 2, num_channels, device=y.device)
    with _on(y):
        _launch(_moments, grid)(y, pivot, partial, num_rows, num_channels, rows_per_part, **shape)
    distance, square = partial.double().sum(0) / num_rows
    return torch.stack((pivot + distance, (square - distance * distance).clamp_min(0)))


def _neuron(layer: Layer) -> dict[str, bool]:
    return {"LEAKY": layer.leaky, "DECAY_INPUT": layer.options.decay_input, "SOFT": layer.options.soft_reset}


def forward(y: Tensor, v: Tensor | None, v_last: Tensor | None, layer: Layer) -> Tensor:
    """Return the spikes, stored as ``y`` is, and write the membrane [N] after the last step to ``v_last``."""
    spikes = torch.empty_like(y)
    num_neurons = y.numel() // layer.num_steps
    # Without contraction: the compiler would round a product and a sum once, the eager loop rounds both.
    with _on(y):
        _launch(_forward, (triton.cdiv(num_neurons, _BLOCK),))(
            y, spikes, y if v is None else v, spikes if v_last is None else v_last, layer.mean, layer.scale,
            layer.bias, layer.q.to(y.device), layer.options.threshold, num_neurons, layer.num_channels,
            layer.num_steps, HAS_FIRST=v is not None, HAS_LAST=v_last is not None, **_neuron(layer), BLOCK=_BLOCK,
            enable_fp_fusion=False,
        )  # fmt: skip
    return spikes


def backward(
    grad: Tensor, y: Tensor, v: Tensor | None, grad_v_last: Tensor | None, grad_v: Tensor | None, layer: Layer
) -> tuple[Tensor, Tensor]:
    """Return the gradient at the neurons' input and float64 sums [3, C] over it; write that of ``v`` to ``grad_v``.

    The sums are of the gradient, of the gradient times ``y - mean``, and the gradient of the leak ``q``.
    """
    grad_x = torch.empty_like(y)
    num_rows = y.numel() // layer.num_steps // layer.num_channels
    grid, rows_per_part, shape = _blocks(num_rows, layer.num_channels)
    partial = torch.empty(grid[0], 3, layer.num_channels, device=y.device)
    with _on(y):
        _launch(_backward, grid)(
            grad, y, y if v is None else v, grad if grad_v_last is None else grad_v_last, grad_x,
            grad_x if grad_v is None else grad_v, partial, layer.mean, layer.scale, layer.bias, layer.q.to(y.device),
            layer.options.threshold, SLOPES[layer.options.surrogate], num_rows, layer.num_channels,
            num_rows * layer.num_channels, layer.num_steps, rows_per_part,
            HAS_FIRST=v is not None, HAS_LAST=grad_v_last is not None, WANTS_FIRST=grad_v is not None,
            **_neuron(layer), DETACH=layer.options.detach_reset, **shape, enable_fp_fusion=False,
        )  # fmt: skip
    return grad_x, partial.double().sum(0)


def normalize(grad_x: Tensor, y: Tensor, mean: Tensor, scale: Tensor, slope: Tensor, bias: Tensor) -> None:
    """Overwrite ``grad_x`` by ``grad_x * scale + (y - mean) * slope + bias``, vectors [C]."""
    grid = (triton.cdiv(y.numel(), _BLOCK),)
    with _on(y):
        _launch(_normalize, grid)(grad_x, y, mean, scale, slope, bias, y.numel(), y.shape[1], BLOCK=_BLOCK)

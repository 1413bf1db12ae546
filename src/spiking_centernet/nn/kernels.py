"""Batch norm and PLIF in one pass on the CPU, forward and backward, on channels-last memory.

Only the convolution's output is kept for the backward pass; membranes are computed again from it in fast cache, in
float32, whether the tensors are stored as float32 or bfloat16. Every sum is split in a fixed number of parts and added
up in a fixed order, so that results do not depend on the number of threads.
"""

import math

import numba as nb
import numpy as np
import torch
from torch import Tensor

_PARTS = 16
_TILE = 512


@nb.njit(inline="always")
def _widen(u):
    return np.uint32(np.uint32(u) << np.uint32(16)).view(np.float32)


@nb.njit(inline="always")
def _narrow(f):
    u = np.float32(f).view(np.uint32)
    return np.uint16((u + np.uint32(0x7FFF) + ((u >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


@nb.njit(inline="always")
def _same(f):
    return f


@nb.njit(inline="always")
def _float32(f):
    return np.float32(f)


def _build(load, store):
    """Return the four kernels for one storage type; 1-D arrays are [M * C] with the channel fastest.

    Scratch rows live in one array at constant offsets, because the compiler gives up vectorising a loop over many
    arrays that might overlap.
    """
    options = {"parallel": True, "cache": True, "nogil": True, "fastmath": {"contract"}}

    @nb.njit(**options)
    def sums(y, num_channels, tile):
        num_tiles = (y.size + tile - 1) // tile
        partial = np.zeros((_PARTS, 2, num_channels))
        for part in nb.prange(_PARTS):
            s = np.zeros(2 * _TILE, np.float32)
            since = 0
            last = num_tiles * (part + 1) // _PARTS
            for i in range(num_tiles * part // _PARTS, last):
                first = i * tile
                chunk = y[first : first + min(tile, y.size - first)]
                for j in range(chunk.size):
                    value = load(chunk[j])
                    s[j] += value
                    s[j + _TILE] += value * value
                since += 1
                if since == 64 or i + 1 == last:
                    for k in range(0, tile, num_channels):
                        for c in range(num_channels):
                            partial[part, 0, c] += s[k + c]
                            partial[part, 1, c] += s[k + c + _TILE]
                    s[:] = np.float32(0)
                    since = 0
        return partial.sum(axis=0)

    @nb.njit(**options)
    def forward(y, spikes, scale_shift, q, threshold, num_steps, tile):
        num_neurons = y.size // num_steps
        num_tiles = (num_neurons + tile - 1) // tile
        for part in nb.prange(_PARTS):
            s = np.empty(3 * _TILE, np.float32)
            s[: 2 * _TILE] = scale_shift
            for i in range(num_tiles * part // _PARTS, num_tiles * (part + 1) // _PARTS):
                size = min(tile, num_neurons - i * tile)
                s[2 * _TILE :] = np.float32(0)
                for t in range(num_steps):
                    base = t * num_neurons + i * tile
                    chunk = y[base : base + size]
                    out = spikes[base : base + size]
                    for j in range(size):
                        v = s[j + 2 * _TILE]
                        h = v + (load(chunk[j]) * s[j] + s[j + _TILE] - v) * q
                        fired = h >= threshold
                        out[j] = store(np.float32(1) if fired else np.float32(0))
                        s[j + 2 * _TILE] = np.float32(0) if fired else h

    @nb.njit(**options)
    def backward(grad, y, grad_x, scale_shift, q, threshold, alpha, num_steps, tile, num_channels):
        """Write the gradient at the neuron's input; return its sums per channel (plain, times y) and q's gradient."""
        num_neurons = y.size // num_steps
        num_tiles = (num_neurons + tile - 1) // tile
        partial = np.zeros((_PARTS, 3, num_channels))
        slope = np.float32(math.pi / 2) * alpha
        peak = alpha * np.float32(0.5)
        keep = np.float32(1) - q
        one = np.float32(1)
        for part in nb.prange(_PARTS):
            # rows: scale, shift, membrane or carried gradient, three sums, then input and membrane of every step
            s = np.zeros((6 + 3 * num_steps) * _TILE, np.float32)
            s[: 2 * _TILE] = scale_shift
            since = 0
            last = num_tiles * (part + 1) // _PARTS
            for i in range(num_tiles * part // _PARTS, last):
                size = min(tile, num_neurons - i * tile)
                s[2 * _TILE : 3 * _TILE] = np.float32(0)
                for t in range(num_steps):
                    base = t * num_neurons + i * tile
                    chunk = y[base : base + size]
                    x_v_h = s[(6 + 3 * t) * _TILE : (9 + 3 * t) * _TILE]
                    for j in range(size):
                        v = s[j + 2 * _TILE]
                        value = load(chunk[j])
                        h = v + (value * s[j] + s[j + _TILE] - v) * q
                        x_v_h[j] = value
                        x_v_h[j + _TILE] = v
                        x_v_h[j + 2 * _TILE] = h
                        s[j + 2 * _TILE] = np.float32(0) if h >= threshold else h
                s[2 * _TILE : 3 * _TILE] = np.float32(0)
                for step in range(num_steps):
                    t = num_steps - 1 - step
                    base = t * num_neurons + i * tile
                    g_in = grad[base : base + size]
                    g_out = grad_x[base : base + size]
                    x_v_h = s[(6 + 3 * t) * _TILE : (9 + 3 * t) * _TILE]
                    for j in range(size):
                        value = x_v_h[j]
                        h = x_v_h[j + 2 * _TILE]
                        u = slope * (h - threshold)
                        carried = s[j + 2 * _TILE]
                        carry = np.float32(0) if h >= threshold else carried
                        g_h = load(g_in[j]) * (peak / (one + u * u)) + carry
                        g_x = g_h * q
                        g_out[j] = store(g_x)
                        s[j + 2 * _TILE] = g_h * keep
                        s[j + 3 * _TILE] += g_x
                        s[j + 4 * _TILE] += g_x * value
                        s[j + 5 * _TILE] += g_h * (value * s[j] + s[j + _TILE] - x_v_h[j + _TILE])
                since += 1
                if since == 16 or i + 1 == last:
                    for k in range(0, tile, num_channels):
                        for c in range(num_channels):
                            partial[part, 0, c] += s[k + c + 3 * _TILE]
                            partial[part, 1, c] += s[k + c + 4 * _TILE]
                            partial[part, 2, c] += s[k + c + 5 * _TILE]
                    s[3 * _TILE : 6 * _TILE] = np.float32(0)
                    since = 0
        return partial.sum(axis=0)

    @nb.njit(**options)
    def affine(grad_x, y, abc, tile):
        """Overwrite the gradient by ``a * grad_x + b * y + c``: batch norm's part of the backward pass."""
        num_tiles = (y.size + tile - 1) // tile
        for i in nb.prange(num_tiles):
            first = i * tile
            size = min(tile, y.size - first)
            g = grad_x[first : first + size]
            chunk = y[first : first + size]
            for j in range(size):
                g[j] = store(load(g[j]) * abc[j] + load(chunk[j]) * abc[j + _TILE] + abc[j + 2 * _TILE])

    return sums, forward, backward, affine


_KERNELS = {torch.float32: _build(_same, _float32), torch.bfloat16: _build(_widen, _narrow)}


def _flat(x: Tensor) -> np.ndarray:
    """Return the memory of a channels-last [N, C, H, W] tensor as a 1-D array, bfloat16 as raw uint16."""
    rows = x.detach().permute(0, 2, 3, 1).reshape(-1)
    return (rows.view(torch.uint16) if x.dtype == torch.bfloat16 else rows).numpy()


def _rows(*per_channel: Tensor) -> np.ndarray:
    """Return float32 rows of ``_TILE`` values, each repeating one per-channel vector."""
    repeats = -(-_TILE // per_channel[0].numel())
    return torch.cat([row.float().repeat(repeats)[:_TILE] for row in per_channel]).numpy()


class BatchNormPLIF(torch.autograd.Function):
    """Batch norm over [T * B, C, H, W], then PLIF over T from rest: hard, detached reset and ATan surrogate."""

    @staticmethod
    def forward(ctx, y, weight, bias, running_mean, running_var, w, momentum, eps, num_steps, threshold, training):
        """Return the spikes; with ``training`` the batch's statistics are used and the running ones moved."""
        y = y.contiguous(memory_format=torch.channels_last)
        num_channels = y.shape[1]
        assert num_channels <= _TILE, f"{num_channels} channels do not fit a scratch row of {_TILE}"
        tile = _TILE // num_channels * num_channels
        sums, forward, _, _ = _KERNELS[y.dtype]
        count = y.numel() // num_channels
        if training:
            s0, s1 = torch.from_numpy(sums(_flat(y), num_channels, tile))
            mean = s0 / count
            var = (s1 / count - mean * mean).clamp_min(0)
            running_mean.lerp_(mean.float(), momentum)
            running_var.lerp_((var * (count / max(1, count - 1))).float(), momentum)
        else:
            mean, var = running_mean.double(), running_var.double()
        inverse_std = torch.rsqrt(var + eps)
        scale = (weight.detach().double() * inverse_std).float()
        shift = (bias.detach().double() - mean * weight.detach().double() * inverse_std).float()
        q = np.float32(torch.sigmoid(w.detach()).item())
        spikes = torch.empty_like(y)
        forward(_flat(y), _flat(spikes), _rows(scale, shift), q, np.float32(threshold), num_steps, tile)
        ctx.save_for_backward(y, scale, shift, mean, inverse_std)
        ctx.constants = q, num_steps, threshold, tile, count, training
        return spikes

    @staticmethod
    def backward(ctx, *grads):
        """Return the gradients of the input, the affine parameters and ``w``."""
        y, scale, shift, mean, inverse_std = ctx.saved_tensors
        q, num_steps, threshold, tile, count, training = ctx.constants
        _, _, backward, affine = _KERNELS[y.dtype]
        num_channels = y.shape[1]
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        grad_x = torch.empty_like(y)
        sums = backward(
            _flat(grad), _flat(y), _flat(grad_x), _rows(scale, shift),
            q, np.float32(threshold), np.float32(2.0), num_steps, tile, num_channels,
        )  # fmt: skip
        g, gy, gq = torch.from_numpy(sums)
        g_normalised = (gy - mean * g) * inverse_std
        a = scale.double()
        b = -a * inverse_std * g_normalised / count if training else torch.zeros_like(a)
        c = -a * g / count - b * mean if training else torch.zeros_like(a)
        affine(_flat(grad_x), _flat(y), _rows(a, b, c), tile)
        grad_w = torch.tensor(float(gq.sum()) * float(q) * (1 - float(q)), dtype=torch.float32)
        return (grad_x, g_normalised.float(), g.float(), None, None, grad_w, None, None, None, None, None)

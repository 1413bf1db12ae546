"""Convolutions at a fine resolution as convolutions between phase populations on a coarse grid.

NIR has no upsampling. A map of H x W neurons is held as ``f * f`` maps of H/f x W/f instead, one for every place within
a cell of f x f pixels: channel ``(row % f * f + column % f) * C + c``. Repeating every pixel twice then needs no node
at all: the neighbour's index is halved.
"""

import numpy as np


def between_phases(weight: np.ndarray, phases: int, *, repeat: int = 1) -> np.ndarray:
    """Return the coarse kernel of a 3x3 or 1x1 convolution of padding K // 2 from phases to phases.

    Args:
        weight: [O, I, K, K].
        phases: f of the output.
        repeat: how often each pixel of the input is repeated in both directions before the convolution, 1 or 2; the
            input has ``phases / repeat`` phases.

    Returns:
        ``[f*f*O, (f/repeat)**2 * I, 3, 3]``, to be used with padding 1; ``[f*f*O, f*f*I, 1, 1]`` for 1x1 kernels.
    """
    out_channels, in_channels, kernel = weight.shape[:3]
    pad, source, size = kernel // 2, phases // repeat, 1 if kernel == 1 else 3
    coarse = np.zeros((phases, phases, out_channels, source, source, in_channels, size, size), np.float32)
    for row in range(phases):
        for column in range(phases):
            for i in range(kernel):
                for j in range(kernel):
                    cell_i, place_i = divmod(row + i - pad, phases)
                    cell_j, place_j = divmod(column + j - pad, phases)
                    at = (place_i // repeat, place_j // repeat)
                    coarse[row, column, :, *at, :, cell_i + size // 2, cell_j + size // 2] += weight[:, :, i, j]
    return coarse.reshape(phases**2 * out_channels, source**2 * in_channels, size, size)


def to_phases(weight: np.ndarray, phases: int) -> np.ndarray:
    """Return the kernel of a K x K convolution of padding K // 2 from a plain fine map to phases.

    Args:
        weight: [O, I, K, K].
        phases: f of the output.

    Returns:
        ``[f*f*O, I, f-1+K, f-1+K]``, to be used with stride f and padding K // 2.
    """
    out_channels, in_channels, kernel = weight.shape[:3]
    size = phases - 1 + kernel
    spread = np.zeros((phases, phases, out_channels, in_channels, size, size), np.float32)
    for row in range(phases):
        for column in range(phases):
            spread[row, column, :, :, row : row + kernel, column : column + kernel] = weight
    return spread.reshape(phases**2 * out_channels, in_channels, size, size)


def from_phases(maps: np.ndarray, phases: int) -> np.ndarray:
    """Return the fine maps [..., C, H, W] of phase populations [..., f*f*C, H/f, W/f]."""
    *lead, channels, height, width = maps.shape
    parts = maps.reshape(*lead, phases, phases, channels // phases**2, height, width)
    n = len(lead)
    moved = parts.transpose(*range(n), n + 2, n + 3, n, n + 4, n + 1)
    return moved.reshape(*lead, channels // phases**2, height * phases, width * phases)

"""The first convolution in training, computed from the events of a cube with the kernels of ``native/stem.c``."""

import ctypes
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spiking_centernet.ops import plif
from spiking_centernet.ops.library import native
from spiking_centernet.ops.structs import STEM_LANES, CConvolution

_PARTS = 32
"""Rows of output are split in this many parts at most; up to this many threads find work."""

_DENSEST = 0.1
"""Share of values that are not zero from which a dense convolution is faster; both take as long at about 11 %."""

_EVERY = 31
"""Sampling stride by which that share is estimated: a whole pass would cost what it is to save."""

_POINTER = ctypes.c_void_p


@cache
def _kernel(name: str):
    library = native()
    assert library is not None
    return library.kernel(name, [ctypes.POINTER(CConvolution)] + [_POINTER] * 4)


def _described(cube: Tensor, out: Tensor, kernel: int, stride: int, padding: int) -> CConvolution:
    num, out_channels, height, width = out.shape
    parts = min(_PARTS, num * height)
    return CConvolution(
        num, *cube.shape[1:], out_channels, height, width, kernel, stride, padding, out.element_size(), parts
    )  # fmt: skip


def _run(name: str, c: CConvolution, *tensors: Tensor) -> None:
    scratch = torch.empty(c.parts, c.width + 2 * c.kernel, STEM_LANES)
    _kernel(name)(ctypes.byref(c), *(x.data_ptr() for x in (*tensors, scratch)))


class _EventConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, cube: Tensor, weight: Tensor, stride: int, padding: int, dtype: torch.dtype):
        num_out, _, kernel, _ = weight.shape
        size = ((side + 2 * padding - kernel) // stride + 1 for side in cube.shape[-2:])
        out = torch.empty(len(cube), num_out, *size, dtype=dtype, memory_format=torch.channels_last)
        # In the precision of the other convolutions' weights.
        blocks = F.pad(weight.to(dtype).float(), (0, 0, 0, 0, 0, 0, 0, -num_out % STEM_LANES)).unflatten(
            0, (-1, STEM_LANES)
        )
        packed = blocks.permute(0, 2, 3, 4, 1).contiguous()
        _run("stem_forward", _described(cube, out, kernel, stride, padding), cube, packed, out)
        ctx.save_for_backward(cube)
        ctx.settings = weight.shape, weight.dtype, stride, padding
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        (cube,), (shape, dtype, stride, padding) = ctx.saved_tensors, ctx.settings
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        num_out, num_in, kernel, _ = shape
        c = _described(cube, grad, kernel, stride, padding)
        blocks = torch.empty(c.parts, -(-num_out // STEM_LANES), num_in, kernel, kernel, STEM_LANES)
        _run("stem_backward", c, cube, grad, blocks)
        grad_weight = blocks[0].permute(0, 4, 1, 2, 3).flatten(0, 1)[:num_out]
        return None, grad_weight.to(dtype), None, None, None


def _precision(conv: nn.Conv2d) -> torch.dtype:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else conv.weight.dtype


def supports(cube: Tensor, conv: nn.Conv2d) -> bool:
    """Return whether :func:`event_convolution` computes this: whole numbers, weights in training, no hooks."""
    plain = conv.bias is None and conv.groups == 1 and conv.kernel_size[0] == conv.kernel_size[1]
    hooked = conv._forward_hooks or conv._forward_pre_hooks
    trains = torch.is_grad_enabled() and conv.weight.requires_grad
    if cube.dtype != torch.uint8 or cube.device.type != "cpu" or cube.numel() == 0 or hooked or not (plain and trains):
        return False
    return plif.supports(conv.weight) and _precision(conv) in (torch.float32, torch.bfloat16)


def is_faster(cube: Tensor) -> bool:
    """Return whether so few values are not zero that looking at them alone is faster."""
    looked_at = cube.flatten()[::_EVERY]
    return bool(torch.count_nonzero(looked_at) <= _DENSEST * len(looked_at))


def event_convolution(cube: Tensor, conv: nn.Conv2d) -> Tensor:
    """Return ``conv(cube)`` [N, O, h, w], channels last, in autocast's precision.

    The time is proportional to the number of values that are not zero; the cube alone is kept for the backward pass.

    Args:
        cube: uint8 [N, C, H, W].
        conv: a convolution that :func:`supports` affirms.
    """
    stride, padding = conv.stride[0], int(conv.padding[0])
    return _EventConvolution.apply(cube.contiguous(), conv.weight, stride, padding, _precision(conv))  # pyright: ignore

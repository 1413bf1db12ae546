"""The encoder's max-pool, with the kernels of ``native/max_pool.c`` where they fit."""

import ctypes
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from spiking_centernet.ops import plif
from spiking_centernet.ops.library import native
from spiking_centernet.ops.structs import CImages


@cache
def _kernel(name: str):
    library = native()
    assert library is not None
    return library.kernel(name, [ctypes.POINTER(CImages)] + [ctypes.c_void_p] * 3)


def _run(name: str, images: Tensor, *others: Tensor) -> None:
    num, channels, height, width = images.shape
    shape = CImages(num, height, width, channels, images.element_size())
    _kernel(name)(ctypes.byref(shape), *(x.data_ptr() for x in others))


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor):
        x = x.contiguous(memory_format=torch.channels_last)
        size = len(x), x.shape[1], (x.shape[2] + 1) // 2, (x.shape[3] + 1) // 2
        out = torch.empty(size, dtype=x.dtype, memory_format=torch.channels_last)
        places = torch.empty_like(out, dtype=torch.uint8)
        _run("pool_forward", x, x, out, places)
        ctx.save_for_backward(places)
        ctx.shape = x.shape
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        (places,) = ctx.saved_tensors
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        grad_x = torch.empty(ctx.shape, dtype=grad.dtype, memory_format=torch.channels_last)
        _run("pool_backward", grad_x, grad, places, grad_x)
        return grad_x


def max_pool(x: Tensor) -> Tensor:
    """Return the greatest of 3x3 pixels around every second one of [N, C, H, W], halving the size upwards.

    The backward pass is told the greatest's place by a byte; torch would keep the input and eight bytes.
    """
    if x.device.type == "cpu" and plif.supports(x):
        return _MaxPool.apply(x)  # pyright: ignore[reportReturnType]
    return F.max_pool2d(x, 3, 2, 1)

"""What this machine can do at best: copying memory, and convolving in each precision."""

import torch
import torch.nn.functional as F
from torch import Tensor

from spiking_centernet.experiments.bench.timing import take_turns

COPIED_BYTES = 256 * 2**20
"""Far beyond any cache."""

SHAPES = ((256, 256, 30, 38), (128, 128, 60, 76), (512, 512, 15, 19), (64, 64, 60, 76))
"""Input channels, output channels, height and width of the 3x3 convolutions tried: those of the paper's encoder. The
best rate of any is the roofline."""

FRAMES = 5
"""A window's steps as a batch."""


def peak_rates(seconds: float = 2.0) -> dict[str, float]:
    """Measure the machine with the threads torch has.

    Returns:
        ``copy_gb_s`` (bytes read and written), ``fp32_gmac_s``, and ``bf16_gmac_s`` and ``int8_gmac_s`` where torch has
        such convolutions.
    """
    source = torch.zeros(COPIED_BYTES, dtype=torch.uint8)
    target = torch.empty_like(source)
    copied = take_turns({"copy": lambda: target.copy_(source)}, seconds=seconds / 4)["copy"]
    found = {"copy_gb_s": 2 * COPIED_BYTES / min(copied.ms) * 1e-6}
    for precision in ("fp32", "bf16", "int8"):
        rates = [rate for shape in SHAPES if (rate := _rate(precision, shape, seconds / 16)) is not None]
        if rates:
            found[f"{precision}_gmac_s"] = max(rates)
    return found


def _rate(precision: str, shape: tuple[int, int, int, int], seconds: float) -> float | None:
    """Return billions of multiply-accumulates a second of one 3x3 convolution with prepacked weights."""
    channels, out_channels, height, width = shape
    weight = torch.randn(out_channels, channels, 3, 3)
    x = (torch.rand(FRAMES, channels, height, width) < 0.1).to(torch.float32)
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        try:
            call = _quantized(x, weight) if precision == "int8" else _floating(x, weight, precision)
            call()
        except (RuntimeError, AttributeError):
            return None
        times = take_turns({"conv": call}, seconds=seconds)["conv"]
    return FRAMES * height * width * out_channels * channels * 9 / min(times.ms) * 1e-6


def _floating(x: Tensor, weight: Tensor, precision: str):
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    x, weight = x.to(dtype), weight.to(dtype).contiguous(memory_format=torch.channels_last)
    if not torch.backends.mkldnn.is_available():
        return lambda: F.conv2d(x, weight, None, 1, 1)
    packed = torch.ops.mkldnn._reorder_convolution_weight(weight, [1, 1], [1, 1], [1, 1], 1, list(x.shape))
    return lambda: torch.ops.mkldnn._convolution_pointwise(
        x, packed, None, [1, 1], [1, 1], [1, 1], 1, "none", [], ""
    )  # fmt: skip


def _quantized(x: Tensor, weight: Tensor):
    channels = weight.shape[0]
    scale, zero = torch.full((channels,), 2.0**-6), torch.zeros(channels, dtype=torch.int64)
    spikes = x.to(torch.uint8).contiguous(memory_format=torch.channels_last)
    whole = (weight * 40).round().clamp(-127, 127).to(torch.int8)
    ones = [1, 1]
    packed = torch.ops.onednn.qconv_prepack(whole, scale, 1.0, 0, ones, ones, ones, 1, list(x.shape))
    return lambda: torch.ops.onednn.qconv_pointwise(
        spikes, 1.0, 0, packed, scale, zero, None, ones, ones, ones, 1, 1.0, 0, torch.float32, "none", [], ""
    )

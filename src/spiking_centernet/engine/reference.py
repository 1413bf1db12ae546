"""What the int8 engine must equal: the fused detector itself with the quantised values as its weights."""

import torch

from spiking_centernet.engine.network import unfold
from spiking_centernet.engine.quantise import quantise
from spiking_centernet.nn import Detector


def reference(model: Detector) -> Detector:
    """Return the fused detector in float32 with int8 weights on power-of-two scales: every sum in it is exact.

    Its spikes equal those of the int8 engine to the last bit; its outputs up to the rounding of the last layer, whose
    weights and sums are real numbers.
    """
    fused = model.fuse().cpu().float()
    layers = [
        fused.encoder.stem,
        *(layer for stage in fused.encoder.stages for layer in stage),  # pyright: ignore[reportGeneralTypeIssues]
        *(block.block for block in fused.decoder.blocks),
        *(head.block for head in fused.heads.values()),
    ]
    quantised = [quantise(block) for block in unfold(model).blocks]
    weights = [part for q in quantised[:-1] for part in [(q.values, q.bias)]]
    heads = quantised[-1]
    width = model.config.head_width
    weights += zip(heads.values.split(width), heads.bias.split(width), strict=True)
    with torch.no_grad():
        for layer, (weight, bias) in zip(layers, weights, strict=True):
            layer.conv.weight.copy_(weight)  # pyright: ignore
            layer.conv.bias.copy_(bias)  # pyright: ignore
    return fused

"""A detector small enough for tests, awake although nothing was trained, and noise to show it."""

import numpy as np
import torch

from spiking_centernet.model import Detector, build
from spiking_centernet.structures import EVENT_DTYPE

FEW_LAYERS = {"encoder.widths": (8, 8, 16), "decoder.num_blocks": 1}
"""Changes for :func:`tiny_detector` where it is exported: compilers take their time for every layer."""


def tiny_detector(seed=0, **changes) -> Detector:
    torch.manual_seed(seed)
    settings = {"encoder.widths": (8, 8, 8, 16), "head.width": 8, "encoder.convs_per_stage": 1, "neuron.threshold": 0.3}
    model = build("nano", **(settings | changes))
    # One pass of noise sets the batch norms, so that spikes reach the heads.
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    noise = torch.rand(5, 2, 4, 64, 64) < 0.1
    with torch.no_grad():
        model.train()(noise.to(torch.uint8))
        for head in model.heads.values():
            head.out.weight.mul_(4)
    return model.eval()


def some_events(num=20_000, stop_us=420_000, size_hw=(56, 72), start_us=0) -> np.ndarray:
    rng = np.random.default_rng(1)
    events = np.zeros(num, EVENT_DTYPE)
    events["t"] = np.sort(rng.integers(start_us, stop_us, num))
    events["t"][-1] = stop_us - 1
    events["x"], events["y"] = rng.integers(0, size_hw[1], num), rng.integers(0, size_hw[0], num)
    events["p"] = rng.integers(0, 2, num)
    return events


MEMORY = {
    "recurrent.kind": "gated", "head.readout_steps": 2, "voxels.num_steps": 6, "voxels.window_us": 120_000,
}  # fmt: skip
"""What makes the tiny detector one with a memory: answers of 2 steps of 20 ms."""


def tiny_memory() -> Detector:
    """A tiny detector with a memory that spikes and boxes that have areas."""
    model = tiny_detector(**MEMORY)
    with torch.no_grad():
        model.recurrent.conv.weight.mul_(1.5)  # an untrained memory is silent
        model.heads["wh"].out.bias.fill_(2.0)
    return model

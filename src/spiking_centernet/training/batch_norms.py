"""The statistics of batch norms, estimated anew in float32 for weights that learned in bfloat16.

In bfloat16 every convolution rounds, and the running means and variances are those of what it rounded. Run in float32,
each layer is off by a little, and the neurons behind it spike at other times. PyTorch's ``update_bn`` does the same
but spares no frozen part and carries no state.
"""

from collections.abc import Collection

import numpy as np
import torch
from torch import nn

from spiking_centernet.data import FolderDataset, collate
from spiking_centernet.model import Detector
from spiking_centernet.utils.progress import track

NUM_BATCHES = 100
"""Batches the statistics are the averages of: for those of 8 windows, see results/float32_*.json."""


def estimate_anew(
    model: Detector,
    dataset: FolderDataset,
    *,
    batch_size: int,
    chunks: int = 1,
    batches: int = NUM_BATCHES,
    seed: int = 0,
    frozen: Collection[nn.Module] = (),
) -> None:
    """Set the running means and variances of a detector's batch norms to their averages over windows drawn at random.

    Computed as the detector is, in float32; no weight changes, and the detector is in evaluation mode afterwards.

    Args:
        model: the detector.
        dataset: training windows, without augmentation.
        batch_size: windows a batch.
        chunks: windows of the network that a sample holds one after the other, its state carried along.
        batches: taken at most; fewer where the data set holds fewer.
        seed: of the draw.
        frozen: parts whose batch norms keep what they have.
    """
    kept = {norm for part in frozen for norm in part.modules()}
    norms = [norm for norm in model.modules() if isinstance(norm, nn.BatchNorm2d) and norm not in kept]
    if not norms:
        return
    usual = [norm.momentum for norm in norms]
    device = next(model.parameters()).device
    count = min(batches, len(dataset) // batch_size)
    drawn = np.random.default_rng(seed).permutation(len(dataset))[: count * batch_size].reshape(count, batch_size)
    model.eval()
    for norm in norms:
        norm.train().reset_running_stats()
        norm.momentum = None  # the plain average of all batches
    with torch.no_grad():
        for indices in track(drawn.tolist(), "batch norms", count):
            state = None
            for cube in collate([dataset[index] for index in indices]).cube.to(device).chunk(chunks):
                _, state = model(cube, state)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.eval().momentum = momentum

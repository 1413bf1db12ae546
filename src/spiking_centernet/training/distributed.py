"""Training in several processes, equal to one process with the same batch within rounding.

Every process computes its share of each batch. Batch norms take the statistics of the whole batch; the raw outputs are
gathered, so that every process computes the loss of the whole batch; the gradients then add up to that loss's own.
``torchrun`` starts the processes; on their own, all functions here do nothing.
"""

import os
from collections.abc import Iterator, Sequence, Sized
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from spiking_centernet.calibration import Calibration
from spiking_centernet.errors import ConfigError, need
from spiking_centernet.model import Detector, Head
from spiking_centernet.structures import Boxes


class Batches(Sized, Protocol):
    """Batches of sample numbers."""

    batch_size: int

    def __iter__(self) -> Iterator[list[int]]: ...


def make_fabric(precision: str) -> Any:
    """Return Lightning's Fabric for this process alone, or for all that ``torchrun`` started.

    Args:
        precision: as Fabric names it.
    """
    Fabric = need("lightning.fabric", "training", "train").Fabric
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Fabric(devices=1, precision=precision)
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    nodes = int(os.environ["WORLD_SIZE"]) // here
    fabric = Fabric(devices=here, num_nodes=nodes, strategy="ddp", precision=precision)
    fabric.launch()
    return fabric


class _SumOverAll(torch.autograd.Function):
    """The sum of every process's tensor; the gradient is the sum of every process's gradient."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        whole = x.detach().clone()
        torch.distributed.all_reduce(whole)
        return whole

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        whole = gradient.contiguous().clone()
        torch.distributed.all_reduce(whole)
        return whole


class _GatherAll(torch.autograd.Function):
    """Every process's tensor, one after the other; the gradient is the sum of all processes' for the own part."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, x.detach())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        whole = gradient.contiguous().clone()
        torch.distributed.all_reduce(whole)
        return whole.chunk(torch.distributed.get_world_size())[torch.distributed.get_rank()]


class WholeBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the batches of all processes; PyTorch's own SyncBatchNorm needs a GPU."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalize [B, C, H, W] by mean and variance over B, H and W of all processes."""
        if not self.training:
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        x = input.float()
        count = torch.tensor(float(x.numel() // x.shape[1]), device=x.device)
        torch.distributed.all_reduce(count)
        # In two passes, as the difference of squares would lose what a small variance is made of.
        mean = _sum(x.sum((0, 2, 3))) / count
        centered = x - mean[:, None, None]
        variance = _sum((centered * centered).sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean.detach(), share)
            self.running_var.lerp_(variance.detach() * (count / (count - 1).clamp(min=1)), share)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centered * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)


def _sum(x: Tensor) -> Tensor:
    return cast(Tensor, _SumOverAll.apply(x))


def with_whole_batch_norms(model: Detector, fabric: Any) -> Detector:
    """Let the batch norms of a detector see the whole batch; changes and returns it."""
    if fabric.world_size > 1:
        for module in list(model.modules()):
            for name, child in module.named_children():
                if type(child) is nn.BatchNorm2d:
                    whole = WholeBatchNorm2d(child.num_features, child.eps, child.momentum)
                    whole.load_state_dict(child.state_dict())
                    setattr(module, name, whole)
    return model


class OwnShare:
    """This process's part of every batch.

    Raises:
        ConfigError: the processes cannot share a batch evenly.
    """

    def __init__(self, batches: Batches, fabric: Any):
        if batches.batch_size % fabric.world_size:
            raise ConfigError(
                f"batch_size {batches.batch_size} cannot be shared evenly by {fabric.world_size} processes; "
                "it counts the windows of all of them together"
            )
        self._batches, self._world, self._rank = batches, fabric.world_size, fabric.global_rank

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        for numbers in self._batches:
            size = len(numbers) // self._world
            yield numbers[self._rank * size : (self._rank + 1) * size]


def own_indices(fabric: Any, num_samples: int) -> range:
    """Return which samples this process predicts: every one falls to exactly one process."""
    return range(fabric.global_rank, num_samples, fabric.world_size)


def own_clips(fabric: Any, recordings: Sequence[str]) -> list[int]:
    """Return which samples this process predicts where the state is carried on: every recording falls to one process.

    Args:
        fabric: the processes.
        recordings: the recording of every sample.
    """
    number = {name: k for k, name in enumerate(dict.fromkeys(recordings))}
    own = range(fabric.global_rank, len(number), fabric.world_size)
    return [index for index, name in enumerate(recordings) if number[name] in own]


def gather_batch(
    fabric: Any, head: Head, output: Any, boxes: list[Boxes], calibrations: list[Calibration | None]
) -> tuple[Any, list[Boxes], list[Calibration | None]]:
    """Return output, boxes and cameras of the whole batch; gradients flow back to every process's own part.

    Every process computes the same loss from them, so each receives its part of the gradient ``world_size`` times;
    averaging the parameters' gradients over the processes divides by as much.
    """
    if fabric.world_size == 1:
        return output, boxes, calibrations
    parts = {k: v for k, v in output._asdict().items() if k not in head.unbatched}
    whole = {k: cast(Tensor, _GatherAll.apply(part.contiguous())) for k, part in parts.items()}
    labels = gather(fabric, (boxes, calibrations))
    all_boxes = [box for part, _ in labels for box in part]
    return output._replace(**whole), all_boxes, [camera for _, part in labels for camera in part]


def gather(fabric: Any, value: Any) -> list[Any]:
    """Return what every process gave, in the order of their ranks."""
    if fabric.world_size == 1:
        return [value]
    values: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(values, value)
    return values

"""What changes from step to step: the weights, their running average, the optimizer, the order of the samples."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spiking_centernet.errors import ConfigError
from spiking_centernet.model import Detector
from spiking_centernet.training.config import Recipe


def learning_rate_at(step: int, num_steps: int, recipe: Recipe) -> float:
    """Return the learning rate of a step: a linear rise, then half a cosine."""
    warm = round(recipe.warmup * num_steps)
    if step < warm:
        return recipe.learning_rate * (step + 1) / warm
    share = (step - warm) / max(1, num_steps - 1 - warm)
    low, high = recipe.final_learning_rate, recipe.learning_rate
    return low + (high - low) * (1 + math.cos(math.pi * min(1.0, share))) / 2


class EpochBatches:
    """Batches of sample numbers, shuffled by seed and epoch alone, from any step of the epoch on.

    An epoch takes every sample once, or ``most`` of them, other ones each time.
    """

    def __init__(self, num_samples: int, batch_size: int, seed: int, most: int | None = None):
        taken = num_samples if most is None else min(num_samples, most)
        if taken < batch_size:
            raise ConfigError(f"batch_size {batch_size} is more than the {taken} windows of an epoch")
        self.num_samples, self.batch_size, self.seed = num_samples, batch_size, seed
        self.num_batches = taken // batch_size
        self.epoch = self.first = 0

    def __len__(self) -> int:
        return self.num_batches - self.first

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.num_samples)
        for i in range(self.first, self.num_batches):
            yield order[i * self.batch_size : (i + 1) * self.batch_size].tolist()


@dataclass
class TrainState:
    """What changes from step to step; all of it goes into a checkpoint."""

    model: Detector
    optimizer: torch.optim.AdamW
    ema: dict[str, Tensor]
    step: int = 0
    epochs_done: int = 0
    best_ap: float = -math.inf
    without_better: int = 0
    """Validations since the best one."""

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor under a flat name."""
        found = {f"model/{k}": v for k, v in self.model.state_dict().items()}
        found |= {f"ema/{k}": v for k, v in self.ema.items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                found[f"optimizer/{name}/{key}"] = value
        return found

    def restore(self, tensors: dict[str, Tensor], notes: dict[str, Any]) -> None:
        """Take over a checkpoint's tensors and counters."""
        self.model.load_state_dict({k.removeprefix("model/"): v for k, v in tensors.items() if k.startswith("model/")})
        for name in self.ema:
            self.ema[name].copy_(tensors[f"ema/{name}"])
        for name, parameter in self.model.named_parameters():
            prefix = f"optimizer/{name}/"
            state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            if state:
                # The fused optimizer goes through memory in order: the moments must lie as the weights do.
                moments = {k: torch.empty_like(parameter).copy_(v) for k, v in state.items() if k != "step"}
                self.optimizer.state[parameter] = {"step": state["step"].clone(), **moments}
        self.step, self.epochs_done, self.best_ap = notes["step"], notes["epochs_done"], notes["best_ap"]
        self.without_better = notes.get("without_better", 0)

    def average(self, decay: float) -> None:
        """Move the running average of the weights towards the weights; it follows faster in the first steps."""
        decay = min(decay, (1 + self.step) / (10 + self.step))
        values = {k: v.detach() for k, v in self.model.state_dict().items()}
        moving = [k for k, v in values.items() if v.dtype.is_floating_point and decay > 0]
        old, new = [self.ema[k] for k in moving], [values[k] for k in moving]
        if moving:
            torch._foreach_lerp_(old, new, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
        for name in values.keys() - set(moving):
            self.ema[name].copy_(values[name])

    def averaged(self) -> Detector:
        """Return a detector with the averaged weights."""
        model = Detector(self.model.config)
        model.load_state_dict(self.ema)
        return model.to(next(self.model.parameters()).device).eval()


def make_optimizer(model: Detector, recipe: Recipe) -> torch.optim.AdamW:
    """Return AdamW for what a recipe trains; biases, norms and time constants do not decay."""
    factor = 1.0 if recipe.encoder_learning_rate is None else recipe.encoder_learning_rate
    encoder = set(model.encoder.parameters()) if factor != 1 else set()
    groups = []
    for part_factor, part in (
        (1.0, [p for p in model.parameters() if p.requires_grad and p not in encoder]),
        (factor, [p for p in model.parameters() if p.requires_grad and p in encoder]),
    ):
        decayed, free = [p for p in part if p.ndim > 1], [p for p in part if p.ndim <= 1]
        for params, weight_decay in ((decayed, recipe.weight_decay), (free, 0.0)):
            if params:
                groups.append({"params": params, "weight_decay": weight_decay, "factor": part_factor})
    # On a CPU torch takes its slow way, one small operation after the other, unless told.
    fused = True if next(model.parameters()).device.type == "cpu" else None
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=fused)

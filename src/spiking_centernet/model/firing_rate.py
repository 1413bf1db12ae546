"""How often neurons fire, layer by layer and overall."""

from collections.abc import Iterable

import torch
from torch import Tensor

DEAD_BELOW = 1e-4
"""A layer whose neurons fire less than once in ten thousand steps passes nothing on."""


class FiringRates:
    """Spikes over (neurons x steps) of every layer; of an ANN, the share of outputs that are not zero.

    Pass it as ``observe`` to ``Detector.forward``, as often as there are batches.
    """

    def __init__(self, names: list[str]):
        self.names = names
        self._spikes = [0] * len(names)
        self._places = [0] * len(names)
        self._next = 0

    def __call__(self, spikes: Tensor) -> None:
        """Take the output of the next layer."""
        self._spikes[self._next] += int(torch.count_nonzero(spikes.detach()))
        self._places[self._next] += spikes.numel()
        self._next = (self._next + 1) % len(self.names)

    def merge(self, others: Iterable["FiringRates"]) -> None:
        """Count what others of the same layers counted as well."""
        for other in others:
            self._spikes = [a + b for a, b in zip(self._spikes, other._spikes, strict=True)]
            self._places = [a + b for a, b in zip(self._places, other._places, strict=True)]

    def per_layer(self) -> dict[str, float]:
        """Return the firing rate of every layer so far."""
        return {n: s / max(1, c) for n, s, c in zip(self.names, self._spikes, self._places, strict=True)}

    def overall(self) -> float:
        """Return the firing rate of all neurons together so far: large layers weigh more than small ones."""
        return sum(self._spikes) / max(1, sum(self._places))

    def dead(self) -> list[str]:
        """Return the layers that pass nothing on."""
        return [name for name, rate in self.per_layer().items() if rate < DEAD_BELOW]

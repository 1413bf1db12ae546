"""How often neurons spike, layer by layer and overall."""

from collections.abc import Iterable

import torch
from torch import Tensor

from spiking_centernet.errors import ConfigError
from spiking_centernet.model.detector import AnyDetector

DEAD_BELOW = 1e-4
"""A layer whose neurons spike less than once in ten thousand steps passes nothing on."""


def count_spikes(x: Tensor, max_spikes: int) -> int:
    """Return how many spikes there are in a layer's output; of an ANN, how many values are not zero.

    Args:
        x: any shape.
        max_spikes: most spikes that a value stands for.
    """
    return int(torch.count_nonzero(x) if max_spikes == 1 else x.sum(dtype=torch.float64))


def kept_spikes(x: Tensor, max_spikes: int) -> Tensor:
    """Return a small copy of a layer's output: bool, where it is not zero; of several spikes uint8, how many.

    Args:
        x: any shape.
        max_spikes: most spikes that a value stands for.
    """
    return x != 0 if max_spikes == 1 else x.to(torch.uint8, copy=True)


class FiringRates:
    """Spikes over (neurons x steps) of every layer; of an ANN, the share of outputs that are not zero.

    Of I-LIF neurons every step counts as its D virtual steps, of which each carries a spike or none. Pass it as
    ``observe`` to ``Detector.forward``, as often as there are batches.

    Args:
        names: the layers, in the order of the results.
        max_spikes: most spikes that an output stands for.
    """

    def __init__(self, names: Iterable[str], max_spikes: int = 1):
        self._max_spikes = max_spikes
        self._spikes = dict.fromkeys(names, 0)
        self._places = dict.fromkeys(self._spikes, 0)

    @staticmethod
    def of(model: AnyDetector) -> "FiringRates":
        """Return the counters of a detector's layers."""
        return FiringRates(model.neuron_names, model.max_spikes)

    def __call__(self, name: str, spikes: Tensor) -> None:
        """Take the output of a layer.

        Raises:
            ConfigError: no such layer is counted.
        """
        if name not in self._spikes:
            raise ConfigError(f"{name!r} is no layer of the network whose firing rates are counted; take one for each")
        self._spikes[name] += count_spikes(spikes.detach(), self._max_spikes)
        self._places[name] += spikes.numel() * self._max_spikes

    def merge(self, others: Iterable["FiringRates"]) -> None:
        """Count what others of the same layers counted as well."""
        for other in others:
            assert self._spikes.keys() == other._spikes.keys()
            for name in self._spikes:
                self._spikes[name] += other._spikes[name]
                self._places[name] += other._places[name]

    def per_layer(self) -> dict[str, float]:
        """Return the firing rate of every layer so far."""
        return {name: count / max(1, self._places[name]) for name, count in self._spikes.items()}

    def overall(self) -> float:
        """Return the firing rate of all neurons together so far: large layers weigh more than small ones."""
        return sum(self._spikes.values()) / max(1, sum(self._places.values()))

    def silent(self) -> list[str]:
        """Return the layers that pass nothing on."""
        return [name for name, rate in self.per_layer().items() if rate < DEAD_BELOW]

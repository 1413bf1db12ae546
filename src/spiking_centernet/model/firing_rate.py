"""How often neurons spike, layer by layer and overall."""

from collections.abc import Iterable

import torch
from torch import Tensor

from spiking_centernet.errors import ConfigError

DEAD_BELOW = 1e-4
"""A layer whose neurons spike less than once in ten thousand steps passes nothing on."""


class FiringRates:
    """Spikes over (neurons x steps) of every layer; of an ANN, the share of outputs that are not zero.

    Pass it as ``observe`` to ``Detector.forward``, as often as there are batches.

    Args:
        names: the layers, in the order of the results.
    """

    def __init__(self, names: Iterable[str]):
        self._spikes = dict.fromkeys(names, 0)
        self._places = dict.fromkeys(self._spikes, 0)

    def __call__(self, name: str, spikes: Tensor) -> None:
        """Take the output of a layer.

        Raises:
            ConfigError: no such layer is counted.
        """
        if name not in self._spikes:
            raise ConfigError(f"{name!r} is no layer of the network whose firing rates are counted; take one for each")
        self._spikes[name] += int(torch.count_nonzero(spikes.detach()))
        self._places[name] += spikes.numel()

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

"""What a window's forward pass can show besides detections: heatmap, spikes, firing rates, operations."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.model import AnyDetector, Detector
from spiking_centernet.model.context import Observe
from spiking_centernet.model.firing_rate import kept_spikes
from spiking_centernet.model.graph import Graph, graph_of
from spiking_centernet.model.operations import synaptic_operations

KEEP = ("heatmap", "spikes", "rates", "operations")
"""What can be kept of every window."""


@dataclass(frozen=True)
class Inspection:
    """What was kept of one window; None is what was not asked for.

    Attributes:
        cube: uint8 [T, C, H, W] that the network saw.
        heatmap: float32 [classes, h, w], probability of an object's center at every output pixel.
        spikes: bool [T, K, h, w] of every neuron layer, by name; uint8 counts of spikes with I-LIF neurons.
        rates: spikes over (neurons x steps) of every neuron layer, by name.
        operations: pairs of spike and weight that met in every layer, by name.
    """

    cube: Tensor
    heatmap: np.ndarray | None = None
    spikes: dict[str, np.ndarray] | None = None
    rates: dict[str, float] | None = None
    operations: dict[str, int] | None = None


class Inspector:
    """Keeps what a caller asked for of the window that was computed last.

    Args:
        model: the detector.
        keep: names of ``KEEP``.

    Attributes:
        last: of the last window; None before the first.
        observe: to be passed to the detector's call, None where nothing is observed.

    Raises:
        ConfigError: a name is unknown, or this network has nothing of it.
    """

    def __init__(self, model: AnyDetector, keep: Collection[str] = ()):
        if isinstance(keep, str):
            keep = (keep,)
        for name in keep:
            if name not in KEEP:
                raise ConfigError(f"keep: unknown {name!r}{did_you_mean(name, KEEP)}")
        if "heatmap" in keep and not model.head.is_dense:
            raise ConfigError(f"keep: a network with {model.config.variations} has no heatmap; leave it out")
        if "operations" in keep and model.config.voxels.mode == "direct":
            raise ConfigError(
                "keep: operations are pairs of spike and weight, and the first layer of a network of mode direct sees "
                "real values; count both with scn energy"
            )
        self._max_spikes = model.max_spikes
        self.keep = frozenset(keep)
        self.last: Inspection | None = None
        self.observe: Observe | None = self._observe if self.keep - {"heatmap"} else None
        self._spikes: dict[str, Tensor] = {}
        self._graph: Graph | None = None
        if "operations" in self.keep:
            fused = model.fuse()
            self._graph = graph_of(fused) if isinstance(fused, Detector) else getattr(fused, "graph", None)
            if self._graph is None:
                raise ConfigError(f"keep: operations of a {type(model).__name__} are not known; leave it out")

    def _observe(self, name: str, spikes: Tensor) -> None:
        # A copy: a compiled detector writes the next window into the same memory.
        self._spikes[name] = kept_spikes(spikes, self._max_spikes)

    def inspect(self, cube: Tensor, output: Any) -> None:
        """Take a window after it was computed.

        Args:
            cube: [T, C, H, W].
            output: the head's, of a batch of one.
        """
        spikes, self._spikes = self._spikes, {}
        operations = None
        if self._graph is not None:
            operations = synaptic_operations(self._graph, cube[:, None], spikes, max_spikes=self._max_spikes)
        rates = {name: float(layer.float().mean()) / self._max_spikes for name, layer in spikes.items()}
        self.last = Inspection(
            cube,
            torch.sigmoid(output[0][0].float()).cpu().numpy() if "heatmap" in self.keep else None,
            {name: layer.cpu().numpy() for name, layer in spikes.items()} if "spikes" in self.keep else None,
            rates if "rates" in self.keep else None,
            operations,
        )

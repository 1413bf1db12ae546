"""A detector compiled for a CPU: same call, same results, faster."""

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from spiking_centernet.deploy.engine.bindings import Kernels
from spiking_centernet.deploy.engine.cost_model import events_pay
from spiking_centernet.deploy.engine.float import FloatFactors, FloatNetwork
from spiking_centernet.deploy.engine.int8 import Int8Network
from spiking_centernet.deploy.engine.ir import Network, unfold
from spiking_centernet.deploy.engine.separable import Factors, factor, is_cheaper
from spiking_centernet.deploy.engine.torch_fallback import PlainNetwork, float_layers, int8_layers
from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.inference.predictor import predict
from spiking_centernet.model import Detector, DetectorConfig
from spiking_centernet.model.context import Observe, State, check_names
from spiking_centernet.model.decoder import DecoderBlock
from spiking_centernet.model.graph import Graph
from spiking_centernet.model.heads import make_head
from spiking_centernet.ops.library import native

PRECISIONS = ("fp32", "bf16", "int8")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
DECODERS = ("auto", "factored", "merged")
SPARSE = ("auto", "never", "always")


class Path(Protocol):
    """A way of computing the network up to the hidden layer of the heads."""

    def __call__(
        self, cube: Tensor, state: State | None, observe: Observe | None, *, keep_state: bool
    ) -> tuple[Tensor, State]:
        """Return the spikes of the heads summed over the steps, float32 [B, h, w, K], and the membranes."""
        ...


class Engine:
    """A compiled detector; made by :func:`compile`, called like the detector.

    Attributes:
        config: the detector's.
        precision: "fp32", "bf16" or "int8".
        sparse: "auto", "never" or "always".
    """

    def __init__(self, network: Network, path: Path, precision: str, sparse: str):
        self.config: DetectorConfig = network.config
        self.head = make_head(network.config)
        self.precision = precision
        self.sparse = sparse
        self.device = torch.device("cpu")
        self._network = network
        self._path = path

    def __call__(
        self,
        cube: Tensor,
        state: State | None = None,
        *,
        observe: Observe | None = None,
        keep_state: bool = True,
    ) -> tuple[Any, State]:
        """Return the raw output and the new state.

        Args:
            cube: voxel cubes [T, B, C, H, W] of any T, B, H and W; for int8 of 0 and 1.
            state: what the last call returned; None, and a layer that is missing, are zero-initialized.
            observe: called with the name and the spikes uint8 [T * B, K, h, w] of every neuron layer.
            keep_state: False returns no membranes and saves writing them.

        Raises:
            ConfigError: the cube or the state does not fit the network.
        """
        if cube.ndim != 5 or cube.shape[2] != self.config.voxels.channels or 0 in cube.shape:
            raise ConfigError(
                f"the network takes cubes [T, B, {self.config.voxels.channels}, H, W], got {list(cube.shape)}; "
                "add the batch axis with cube[:, None]"
            )
        if state is not None:
            check_names(state, self.neuron_names)
        with torch.inference_mode():
            counts, new = self._path(cube, state, observe, keep_state=keep_state)
            # A mean of spikes through a linear layer is the mean of its outputs.
            mean = counts / min(cube.shape[0], self.config.head.readout_steps or cube.shape[0])
            out = F.linear(mean, self._network.out_weight, self._network.out_bias).permute(0, 3, 1, 2)
            parts = out.contiguous().split(self._network.out_widths, dim=1)
        return self.head.output(dict(zip(self._network.head_names, parts, strict=True))), new

    @property
    def graph(self) -> Graph:
        """The fused network's nodes."""
        return self._network.graph

    @property
    def max_spikes(self) -> int:
        """Most spikes that one value of an observed output stands for."""
        return self.config.neuron.max_spikes

    @property
    def neuron_names(self) -> list[str]:
        """The neuron layers in the order in which they compute."""
        return [name for block in self._network.blocks for name in block.names]

    def fuse(self) -> "Engine":
        """Return itself: it is fused."""
        return self

    def predict(self, source: Any, **options: Any) -> Any:
        """Detect in a recording, a folder, arrays, cubes or a live source; see :func:`spiking_centernet.predict`."""
        return predict(source, self, **options)

    def __repr__(self) -> str:
        return f"Engine(precision={self.precision!r}, sparse={self.sparse!r})"


def compile(model: Detector, *, precision: str = "int8", sparse: str = "auto", decoder: str = "auto") -> Engine:
    """Return a detector compiled for this CPU.

    Args:
        model: the detector, fused or not; it is left unchanged.
        precision: of weights and sums, "fp32", "bf16" or "int8"; membranes are float32 in all of them.
        sparse: whether layers add up only the weights of active inputs: "auto" decides for every layer and call by the
            number of its input's spikes, "never" and "always" say so. With int8 the results are the same; floats are
            added in another order. A first layer whose cube holds other values than 0 and 1 is dense.
        decoder: "merged" computes every decoder block as the one convolution it can be merged into, which sees nothing
            but spikes; "factored" as the three that were trained, which often multiply less; "auto" takes what does.
            With int8 the two round differently. A fused detector stays fused.

    Raises:
        ConfigError: an unknown setting, a fused detector is to be factored, or the detector is an ANN, unrolled, or a
            variant that the engine does not compute.
    """
    for name, value, known in (
        ("precision", precision, PRECISIONS), ("sparse", sparse, SPARSE), ("decoder", decoder, DECODERS)
    ):  # fmt: skip
        if value not in known:
            raise ConfigError(f"unknown {name} {value!r}{did_you_mean(str(value), known)}")
    library = native()
    if library is None:
        return compile_in_torch(model, precision=precision, decoder=decoder)
    network, kernels = unfold(model), Kernels.of(library)
    unmerged = _unmerged(network, decoder)
    uses_events = {
        "auto": events_pay(library.instruction_set, precision),
        "never": lambda layer, count: False,
        "always": lambda layer, count: True,
    }[sparse]
    if precision == "int8":
        factors = _factors(network, unmerged)
        path = Int8Network(network, kernels, uses_events, factors)
    else:
        path = FloatNetwork(network, DTYPES[precision], kernels, uses_events, unmerged)
    return Engine(network, path, precision, sparse)


def compile_in_torch(model: Detector, *, precision: str = "int8", decoder: str = "auto") -> Engine:
    """Return the engine in torch operations alone: what ``compile`` takes where the native library is missing."""
    network = unfold(model)
    unmerged = _unmerged(network, decoder)
    if precision == "int8":
        layers = int8_layers(network, _factors(network, unmerged))
        path = PlainNetwork(network, layers, torch.float32, only_binary=True)
    else:
        dtype = DTYPES[precision]
        factors = {index: FloatFactors.of(block, dtype) for index, block in unmerged.items()}
        path = PlainNetwork(network, float_layers(network, factors, dtype), dtype, only_binary=False)
    return Engine(network, path, precision, "never")


def _factors(network: Network, unmerged: dict[int, DecoderBlock]) -> dict[int, Factors]:
    return {index: factor(block, network.blocks[index].largest_input) for index, block in unmerged.items()}


def _unmerged(network: Network, decoder: str) -> dict[int, DecoderBlock]:
    """Return the decoder blocks that are computed in their three convolutions, by index."""
    if decoder == "factored" and not network.unmerged and network.config.decoder.num_blocks:
        raise ConfigError('this detector is fused: decoder="factored" needs it as trained')
    blocks = network.unmerged.items()
    return {i: block for i, block in blocks if decoder == "factored" or (decoder == "auto" and is_cheaper(block))}

"""NIR: the fused network as convolutions and neurons that other simulators and chips know (arXiv 2311.14641).

Convolutions at a fine resolution as convolutions between phase populations on a coarse grid.

NIR has no upsampling. A map of H x W neurons is held as ``f * f`` maps of H/f x W/f instead, one for every place within
a cell of f x f pixels: channel ``(row % f * f + column % f) * C + c``. Repeating every pixel twice then needs no node
at all: the neighbor's index is halved.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import nn

from spiking_centernet.deploy.export.contract import require_plain
from spiking_centernet.errors import ExportError, did_you_mean, need
from spiking_centernet.model import Detector, DetectorConfig
from spiking_centernet.model.graph import Combine, Convolution, MaxPool, NeuronLayer, Node, Readout, graph_of, walk
from spiking_centernet.model.heads import make_head
from spiking_centernet.model.neurons import ILIF, PLIF
from spiking_centernet.utils.files import atomic_write

STEP_S = 1e-4
"""Seconds that a step stands for in the file: snnTorch's importer takes this for granted."""

MAX_WEIGHTS = 1 << 26
"""More weights (256 MB) are refused: phase populations grow with the square of every upsampling."""

Pooling = Literal["threshold", "neuron"]
POOLINGS = ("threshold", "neuron")


def nir_size(config: DetectorConfig, size_hw: tuple[int, int]) -> tuple[int, int]:
    """Return the input's height and width rounded up to what the coarsest stage divides; the sensor is at the top left.

    Phase populations need whole cells. The network itself may be run at that size too: it is the same network.
    """
    cell = 4 * 2 ** (len(config.encoder.widths) - 1)
    return -(-size_hw[0] // cell) * cell, -(-size_hw[1] // cell) * cell


def nir_graph(
    fused: Detector, size_hw: tuple[int, int], *, step_s: float = STEP_S, pooling: Pooling = "threshold"
) -> Any:
    """Return the network as a NIR graph that takes a step's cube and gives the raw heads of that step.

    - Convolution and PLIF become ``Conv2d -> LIF`` with ``tau = step / q``. NIR fires above the threshold, we at it:
      the threshold is the next smaller float32.
    - Concatenation and convolution become two ``Conv2d`` into one ``LIF``, which adds what comes in.
    - Maximum over spikes becomes ``SumPool2d -> Threshold``, or, for importers that know neither, ``Conv2d`` of ones
      and a ``LIF`` that any spike fires.
    - Upsampling becomes phase populations, see :mod:`spiking_centernet.deploy.export.nir`.

    The output's channels are, for each phase, the heatmap's classes, then wh, then offset.

    Args:
        fused: a detector after ``fuse()``.
        size_hw: height and width of the input; see :func:`nir_size`.
        step_s: seconds that a step stands for in the file.
        pooling: "threshold" or "neuron".

    Raises:
        ExportError: NIR has no such neuron or network, the size does not divide, or the graph would be too large.
        MissingPackageError: nir is not installed.
    """
    config = fused.config
    require_plain(config)
    if pooling not in POOLINGS:
        raise ExportError(f"unknown pooling {pooling!r}{did_you_mean(pooling, POOLINGS)}")
    if size_hw != nir_size(config, size_hw):
        raise ExportError(f"NIR needs a multiple of the coarsest stage, {nir_size(config, size_hw)}, got {size_hw}")
    graph = graph_of(fused)
    builder = _Builder(need("nir", "writing NIR", "nir"), config, step_s)
    # A map that was upsampled n times is held by 2**n * 2**n phases; what is combined stays apart until convolved.
    phases: dict[str, int] = {"cube": 1}
    widths = [readout.channels for readout in graph.readouts]

    def write(node: Node, *sources: tuple[str, ...]) -> tuple[str, ...]:
        if isinstance(node, Combine):
            phases[node.name] = 2 * phases[node.sources[0]]
            return sources[0] + sources[1]
        x, *skips = sources[0]
        f = phases[node.name] = phases[node.sources[0]]
        if isinstance(node, MaxPool):
            return (builder.pool(x, pooling),)
        if isinstance(node, Readout):
            weight, bias = _arrays(fused, node.conv)
            # Rows of zeros for the other branches: the output adds what comes in.
            rows = np.zeros((sum(widths), *weight.shape[1:]), np.float32)
            all_bias = np.zeros(len(rows), np.float32)
            first = sum(widths[: graph.readouts.index(node)])
            rows[first : first + len(bias)], all_bias[first : first + len(bias)] = weight, bias
            kernel = between_phases(rows, f), np.tile(all_bias, f**2), 1, 0
            return (builder.conv(f"heads.{node.name}.out", x, kernel),)
        assert isinstance(node, NeuronLayer)
        (conv,) = node.convs
        weight, bias = _arrays(fused, conv)
        name = population(node.name)
        if skips:
            split = weight.shape[1] - builder.shapes[skips[0]][0]
            up = between_phases(weight[:, :split], f, repeat=2), np.tile(bias, f**2), 1, 1
            parts = [
                builder.conv(f"{name}.up", x, up),
                builder.conv(f"{name}.skip", skips[0], (to_phases(weight[:, split:], f), None, f, 1)),
            ]
        elif f == 1:
            parts = [builder.conv(name, x, (weight, bias, conv.stride, conv.padding))]
        else:
            parts = [builder.conv(name, x, (between_phases(weight, f), np.tile(bias, f**2), 1, 1))]
        return (builder.neurons(name, fused.get_submodule(f"{node.name}.neuron"), parts),)

    outputs = walk(graph.nodes, write, (builder.input(config.voxels.channels, size_hw),))
    metadata = {"phases": phases[graph.readouts[-1].name], "classes": ",".join(config.classes), "step_s": step_s}
    return builder.graph([name for names in outputs.values() for name in names], metadata)


def population(layer: str) -> str:
    """Return the name of a neuron layer in the file: without the last part where a block has one neuron layer."""
    return layer.removesuffix(".block").removesuffix(".project")


def write_nir(
    model: Detector, path: Path, size_hw: tuple[int, int], *, step_s: float = STEP_S, pooling: Pooling = "threshold"
) -> Any:
    """Write a detector as a NIR file, whole or not at all, its input as :func:`nir_size` says; return the graph.

    Raises:
        ExportError, MissingPackageError: as :func:`nir_graph`.
    """
    nir = need("nir", "writing NIR", "nir")
    graph = nir_graph(model.fuse().cpu(), nir_size(model.config, size_hw), step_s=step_s, pooling=pooling)
    with atomic_write(path) as temporary:
        nir.write(temporary, graph)
    return graph


def heads_of(output: np.ndarray, config: DetectorConfig) -> tuple[np.ndarray, ...]:
    """Return the head's maps [..., K, H, W] in order from a NIR graph's output [..., phases**2 * channels, h, w]."""
    fine = from_phases(output, 2**config.decoder.num_blocks)
    ends = np.cumsum([branch.out_channels for branch in make_head(config).branches.values()])[:-1]
    return tuple(np.split(fine, ends, axis=-3))


Kernel = tuple[np.ndarray, np.ndarray | None, int, int]
"""Weight [O, I, K, K], bias [O] or None, stride, padding."""


def _arrays(fused: Detector, conv: Convolution) -> tuple[np.ndarray, np.ndarray]:
    module = fused.get_submodule(conv.name)
    assert isinstance(module, nn.Conv2d)
    assert module.bias is not None
    return module.weight.detach().numpy(), module.bias.detach().numpy()


class _Builder:
    """Collects nodes and edges; ``shapes`` holds [C, h, w] of every node's output."""

    def __init__(self, nir: Any, config: DetectorConfig, step_s: float):
        self._nir, self._config, self._step_s = nir, config, step_s
        self._nodes: dict[str, Any] = {}
        self._edges: list[tuple[str, str]] = []
        self._num_weights = 0
        self.shapes: dict[str, tuple[int, int, int]] = {}

    def input(self, channels: int, size_hw: tuple[int, int]) -> str:
        self._nodes["input"] = self._nir.Input({"input": np.array([channels, *size_hw])})
        self.shapes["input"] = (channels, *size_hw)
        return "input"

    def conv(self, name: str, source: str, kernel: Kernel) -> str:
        weight, bias, stride, padding = kernel
        self._num_weights += weight.size
        if self._num_weights > MAX_WEIGHTS:
            raise ExportError(
                f"this network would take more than {MAX_WEIGHTS / 1e6:.0f} M weights in NIR, which has no upsampling: "
                f"each decoder block multiplies the populations by 4, and it has {self._config.decoder.num_blocks}; "
                "train one with decoder.num_blocks 0 or 1, as in recipes/nano_nir.yaml"
            )
        _, height, width = self.shapes[source]
        bias = np.zeros(len(weight), np.float32) if bias is None else bias.astype(np.float32)
        name = f"{name}.conv"
        self._nodes[name] = self._nir.Conv2d(
            input_shape=(height, width), weight=np.ascontiguousarray(weight, np.float32), stride=(stride, stride),
            padding=(padding, padding), dilation=(1, 1), groups=1, bias=bias,
        )  # fmt: skip
        size = [(side + 2 * padding - weight.shape[-1]) // stride + 1 for side in (height, width)]
        self.shapes[name] = (len(weight), size[0], size[1])
        self._edges.append((source, name))
        return name

    def neurons(self, name: str, neuron: Any, currents: list[str]) -> str:
        if isinstance(neuron, ILIF):
            raise ExportError(
                f"NIR's neurons spike once a step at most, those of neuron.kind 'ilif' up to {neuron.levels} times, "
                "and no node adds up the virtual steps of unrolled(); export ONNX, or train with neuron.kind 'plif'"
            )
        if not isinstance(neuron, PLIF):
            raise ExportError(f"NIR is a format of spiking networks; this one has {type(neuron).__name__} neurons")
        if neuron.soft_reset:
            raise ExportError("NIR's neurons are reset to a value; this network's soft reset subtracts the threshold")
        q = None if neuron.q is None else float(neuron.q.detach())
        return self._lif(name, currents, q, neuron.threshold, decay_input=neuron.decay_input)

    def _lif(
        self, name: str, currents: list[str], q: float | None, threshold: float, *, decay_input: bool = True
    ) -> str:
        shape = self.shapes[currents[0]]

        def full(value: float) -> np.ndarray:
            return np.full(shape, value, np.float32)

        fires_above = full(float(np.nextafter(np.float32(threshold), np.float32(0))))
        if q is None:
            node = self._nir.IF(r=full(1 / self._step_s), v_threshold=fires_above, v_reset=full(0))
        else:
            node = self._nir.LIF(
                tau=full(self._step_s / q), r=full(1 if decay_input else 1 / q), v_leak=full(0),
                v_threshold=fires_above, v_reset=full(0),
            )  # fmt: skip
        self._nodes[name] = node
        self.shapes[name] = shape
        self._edges += [(current, name) for current in currents]
        return name

    def pool(self, source: str, pooling: Pooling) -> str:
        """3x3 maximum of stride 2 over spikes, padding 1."""
        channels, height, width = self.shapes[source]
        if pooling == "neuron":
            ones = np.zeros((channels, channels, 3, 3), np.float32)
            ones[range(channels), range(channels)] = 1
            # Any spike fires it and resets it, and without one it stays at 0: it carries nothing to the next step.
            return self._lif("pool", [self.conv("pool", source, (ones, None, 2, 1))], 0.5, 0.5)
        pair = {"kernel_size": np.array([3, 3]), "stride": np.array([2, 2]), "padding": np.array([1, 1])}
        self._nodes["pool.sum"] = self._nir.SumPool2d(**pair)
        shape = (channels, (height - 1) // 2 + 1, (width - 1) // 2 + 1)
        self._nodes["pool"] = self._nir.Threshold(np.full(shape, 0.5, np.float32))
        self.shapes["pool.sum"] = self.shapes["pool"] = shape
        self._edges += [(source, "pool.sum"), ("pool.sum", "pool")]
        return "pool"

    def graph(self, outputs: list[str], metadata: dict[str, Any]) -> Any:
        self._nodes["output"] = self._nir.Output({"output": np.array(self.shapes[outputs[0]])})
        self._edges += [(output, "output") for output in outputs]
        # The check knows no pooling: its shape cannot be told from its parameters.
        return self._nir.NIRGraph(self._nodes, self._edges, metadata=metadata, type_check=False)


def between_phases(weight: np.ndarray, phases: int, *, repeat: int = 1) -> np.ndarray:
    """Return the coarse kernel of a 3x3 or 1x1 convolution of padding K // 2 from phases to phases.

    Args:
        weight: [O, I, K, K].
        phases: f of the output.
        repeat: how often each pixel of the input is repeated in both directions before the convolution, 1 or 2; the
            input has ``phases / repeat`` phases.

    Returns:
        ``[f*f*O, (f/repeat)**2 * I, 3, 3]``, to be used with padding 1; ``[f*f*O, f*f*I, 1, 1]`` for 1x1 kernels.
    """
    out_channels, in_channels, kernel = weight.shape[:3]
    pad, source, size = kernel // 2, phases // repeat, 1 if kernel == 1 else 3
    coarse = np.zeros((phases, phases, out_channels, source, source, in_channels, size, size), np.float32)
    for row in range(phases):
        for column in range(phases):
            for i in range(kernel):
                for j in range(kernel):
                    cell_i, place_i = divmod(row + i - pad, phases)
                    cell_j, place_j = divmod(column + j - pad, phases)
                    at = (place_i // repeat, place_j // repeat)
                    coarse[row, column, :, *at, :, cell_i + size // 2, cell_j + size // 2] += weight[:, :, i, j]
    return coarse.reshape(phases**2 * out_channels, source**2 * in_channels, size, size)


def to_phases(weight: np.ndarray, phases: int) -> np.ndarray:
    """Return the kernel of a K x K convolution of padding K // 2 from a plain fine map to phases.

    Args:
        weight: [O, I, K, K].
        phases: f of the output.

    Returns:
        ``[f*f*O, I, f-1+K, f-1+K]``, to be used with stride f and padding K // 2.
    """
    out_channels, in_channels, kernel = weight.shape[:3]
    size = phases - 1 + kernel
    spread = np.zeros((phases, phases, out_channels, in_channels, size, size), np.float32)
    for row in range(phases):
        for column in range(phases):
            spread[row, column, :, :, row : row + kernel, column : column + kernel] = weight
    return spread.reshape(phases**2 * out_channels, in_channels, size, size)


def from_phases(maps: np.ndarray, phases: int) -> np.ndarray:
    """Return the fine maps [..., C, H, W] of phase populations [..., f*f*C, H/f, W/f]."""
    *lead, channels, height, width = maps.shape
    parts = maps.reshape(*lead, phases, phases, channels // phases**2, height, width)
    n = len(lead)
    moved = parts.transpose(*range(n), n + 2, n + 3, n, n + 4, n + 1)
    return moved.reshape(*lead, channels // phases**2, height * phases, width * phases)

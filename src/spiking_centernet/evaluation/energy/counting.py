"""Exact operation counts: every pair of an active input and a weight that meet, border, stride and groups included."""

import copy
import functools
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from spiking_centernet.errors import ConfigError, NotSpikingError
from spiking_centernet.evaluation.energy.operations import ConvOperations, NeuronOperations, Operations
from spiking_centernet.model import Detector, DetectorOutput
from spiking_centernet.model.context import State
from spiking_centernet.model.graph import convolution_of
from spiking_centernet.model.neurons import ILIF, GatedNeuron, LeakyNeuron, ReLU
from spiking_centernet.model.operations import taps_met

Conv = nn.Conv2d | nn.ConvTranspose2d


def reach(conv: Conv, size_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return which taps of a kernel an input position meets, by rows and by columns: 0 or 1, [kh, H] and [kw, W].

    The pairs of position (y, x) with one weight kernel are then ``rows[:, y] x columns[:, x]``; see ``taps_met``.

    Raises:
        ConfigError: the padding repeats inputs instead of adding zeros.
    """
    if conv.padding_mode != "zeros":
        raise ConfigError(f"operations are counted for zero padding, got padding_mode {conv.padding_mode!r}")
    taps = []
    for axis, size in enumerate(size_hw):
        kernel, stride, dilation = conv.kernel_size[axis], conv.stride[axis], conv.dilation[axis]
        span = dilation * (kernel - 1)
        if isinstance(conv, nn.ConvTranspose2d):
            before, extra = int(conv.padding[axis]), int(conv.output_padding[axis])
            outputs = (size - 1) * stride - 2 * before + span + extra + 1
        else:
            if isinstance(conv.padding, str):
                before, both = (span // 2, span) if conv.padding == "same" else (0, 0)
            else:
                before, both = conv.padding[axis], 2 * conv.padding[axis]
            outputs = (size + both - span - 1) // stride + 1
        transposed = isinstance(conv, nn.ConvTranspose2d)
        taps.append(
            taps_met(
                size, outputs, kernel=kernel, stride=stride, before=before, dilation=dilation, transposed=transposed
            )
        )
    return taps[0], taps[1]


def fan_out(conv: Conv, size_hw: tuple[int, int]) -> np.ndarray:
    """Return how many weights of one output channel an input at every position meets, int64 [H, W]."""
    rows, columns = reach(conv, size_hw)
    return np.outer(rows.sum(0), columns.sum(0))


def pairs(conv: Conv, active: np.ndarray, *, pruned: bool = False) -> int:
    """Return how many pairs of active input and weight meet in a convolution.

    ``sum over c, y, x of active[c, y, x] sum over taps of weights[c, tap] rows[tap_y, y] columns[tap_x, x]``

    Args:
        conv: the convolution.
        active: [C, H, W], how often every input was active.
        pruned: leave out weights that are zero.
    """
    size_hw = (active.shape[1], active.shape[2])
    if not pruned:
        met = active.sum(0, dtype=np.int64) * fan_out(conv, size_hw)
        return int(met.sum()) * (conv.out_channels // conv.groups)
    rows, columns = reach(conv, size_hw)
    kernels = (conv.weight.detach() != 0).cpu().numpy()
    if isinstance(conv, nn.ConvTranspose2d):
        weights = kernels.sum(1)  # stored as [C, O / G, kh, kw]
    else:
        by_group = kernels.reshape(conv.groups, -1, *kernels.shape[1:]).sum(1)  # [G, C / G, kh, kw]
        weights = by_group.reshape(conv.in_channels, *kernels.shape[2:])
    met = np.einsum("chw,ah,bw->cab", active.astype(np.int64), rows, columns, optimize=True)
    return int((met * weights).sum())


def active_counts(x: Tensor) -> tuple[Tensor, bool]:
    """Return how often every value of [N, C, H, W] was not zero, float32 [C, H, W], and whether all were 0 or 1.

    Exact while N is below 2**24: a product with ones adds whole numbers that float32 holds.
    """
    binary = torch.equal(x * x, x)
    counts = _summed(x if binary else (x != 0))
    if binary and torch.isinf(counts).any():  # infinity equals its square too
        return _summed(x != 0), False
    return counts, binary


def _summed(x: Tensor) -> Tensor:
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    rows = x.permute(0, 2, 3, 1) if last else x
    counts = torch.mv(rows.flatten(1).float().T, torch.ones(len(x), device=x.device)).reshape(rows.shape[1:])
    return counts.permute(2, 0, 1) if last else counts


class _Tally:
    """Sums [C, H, W] of one layer, its memory independent of how much is counted."""

    def __init__(self, name: str):
        self.name = name
        self.active: np.ndarray | None = None
        self.places = self.times = 0
        self.outputs = 0
        self.padded = 0
        self.binary = True

    def add(self, counts: Tensor, binary: bool, places: int) -> None:
        now = counts.cpu().numpy().astype(np.int64)
        if self.active is not None and self.active.shape != now.shape:
            raise ConfigError(
                f"{self.name} was counted on inputs {list(self.active.shape)}, now they are {list(now.shape)}; "
                "count recordings of different sensors apart"
            )
        self.active = now if self.active is None else self.active + now
        self.binary &= binary
        self.places += places


class OperationCounter:
    """Counts the operations of a detector while it detects; call it with one batch of windows after the other.

    It works on a copy: the detector itself is neither changed nor hooked. Count the fused detector to learn what
    inference costs; batch norms of an unfused one are not counted, and the zeros that its decoder blocks put around
    their input are inputs of the first convolution there. A detector of I-LIF neurons is counted as it runs on spikes,
    unrolled (:meth:`Detector.unrolled`): a neuron's n spikes of a step are n additions for every weight they meet.

    Args:
        model: any detector, fused or not, spiking or not.
    """

    def __init__(self, model: Detector):
        counts_integers = model.config.neuron.kind == "ilif"
        self._model = model.unrolled() if counts_integers else copy.deepcopy(model).eval()
        self._convs = {name: m for name, m in self._model.named_modules() if isinstance(m, Conv)}
        modules = dict(self._model.named_modules())
        neurons: dict[str, nn.Module] = {n: modules[f"{n}.neuron"] for n in self._model.neuron_names}
        self._neurons = neurons
        self._conv_tallies: dict[str, _Tally] = {}
        self._neuron_tallies = {name: _Tally(name) for name in neurons}
        self._last: tuple[Tensor, Tensor, bool] | None = None
        self._num_windows = self._num_steps = 0
        for name, conv in self._convs.items():
            conv.register_forward_hook(functools.partial(self._meet, name))

    def __call__(self, cube: Tensor) -> DetectorOutput:
        """Detect in windows [T, B, C, H, W] from zero-initialized state, count, and return the network's output.

        Raises:
            ConfigError: the windows' steps or size are not those of the calls before, or they have no step.
        """
        return self._count(cube, None, keep_state=False)[0]

    def carry_on(self, cube: Tensor, state: State | None) -> State:
        """Count the steps of an answer [T, B, C, H, W] as a window, from the state that the call before returned.

        Args:
            cube: the steps.
            state: None begins with a zero-initialized one.

        Raises:
            ConfigError: as a call.
        """
        return self._count(cube, state, keep_state=True)[1]

    @torch.no_grad()
    def _count(self, cube: Tensor, state: State | None, *, keep_state: bool) -> tuple[DetectorOutput, State]:
        if cube.ndim == 5 and not len(cube):
            raise ConfigError(f"windows need at least one time step to be counted, got {list(cube.shape)}")
        if cube.ndim == 5 and self._num_windows and len(cube) and self._model.num_steps(cube) != self._num_steps:
            raise ConfigError(
                f"windows of {self._num_steps} steps were counted, these have {len(cube)}; count them apart"
            )
        try:
            output, after = self._model(cube, state, observe=self._fire, keep_state=keep_state)
        finally:
            self._last = None
        self._num_steps = self._model.num_steps(cube)
        self._num_windows += cube.shape[1]
        return output, after

    def _counted(self, x: Tensor) -> tuple[Tensor, bool]:
        # A layer's spikes are most often the next convolution's input: the tensor kept here cannot be another's memory.
        if self._last is not None and self._last[0].data_ptr() == x.data_ptr() and self._last[0].shape == x.shape:
            return self._last[1:]
        counts, binary = active_counts(x)
        self._last = (x, counts, binary)
        return counts, binary

    def _fire(self, name: str, spikes: Tensor) -> None:
        self._neuron_tallies[name].add(*self._counted(spikes), spikes.numel())

    def _meet(self, name: str, conv: Conv, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        tally = self._conv_tallies.setdefault(name, _Tally(name))
        tally.add(*self._counted(inputs[0]), inputs[0].numel())
        tally.outputs += output.numel()
        tally.times += len(output)
        height, width = inputs[0].shape[-2:]
        tally.padded += len(output) * convolution_of(name, conv).macs((height, width))

    def result(self) -> Operations:
        """Return what was counted so far.

        Raises:
            ConfigError: nothing was.
        """
        if not self._num_windows:
            raise ConfigError("no window was counted; give at least one")
        convolutions = tuple(_conv_operations(self._convs[n], tally) for n, tally in self._conv_tallies.items())
        steps = self._num_windows * self._num_steps
        neurons = tuple(
            _neuron_operations(self._neurons[name], tally, steps) for name, tally in self._neuron_tallies.items()
        )
        return Operations(self._num_windows, self._num_steps, convolutions, neurons)


def _conv_operations(conv: Conv, tally: _Tally) -> ConvOperations:
    assert tally.active is not None
    zeros = int((conv.weight == 0).sum())
    synaptic = pairs(conv, tally.active)
    everywhere = np.full(tally.active.shape, tally.times)
    return ConvOperations(
        name=tally.name,
        dense=pairs(conv, everywhere),
        padded=tally.padded,
        synaptic=synaptic,
        effective=pairs(conv, tally.active, pruned=True) if zeros else synaptic,
        inputs=tally.places,
        active=int(tally.active.sum()),
        outputs=tally.outputs,
        binary=tally.binary,
        num_weights=conv.weight.numel(),
        num_zeros=zeros,
        has_bias=conv.bias is not None,
        times=tally.times,
    )


def _neuron_operations(neuron: nn.Module, tally: _Tally, steps: int) -> NeuronOperations:
    assert tally.active is not None
    levels = neuron.levels if isinstance(neuron, ILIF) else 1
    return NeuronOperations(
        name=tally.name,
        neurons=tally.active.size,
        spikes=int(tally.active.sum()),
        updates=tally.places // levels,
        dead=int((tally.active == 0).sum()),
        saturated=int((tally.active == steps * levels).sum()),
        multiplies=int(isinstance(neuron, GatedNeuron) or (isinstance(neuron, LeakyNeuron) and neuron.leaky)),
        adds=0 if isinstance(neuron, ReLU) else levels,
        levels=levels,
    )


def count_ops(model: Detector, cubes: Tensor | Iterable[Tensor]) -> Operations:
    """Count the operations of a detector on windows that start from zero-initialized state.

    Args:
        model: any detector, left unchanged; ``model.fuse()`` is what runs in inference.
        cubes: one batch [T, B, C, H, W], or any number of them.

    Raises:
        ConfigError: there is no window, or the batches differ in steps or size.
    """
    counter = OperationCounter(model)
    for cube in [cubes] if isinstance(cubes, Tensor) else cubes:
        counter(cube)
    return counter.result()


def require_fully_spiking(operations: Operations) -> None:
    """Check on counted input that every convolution received nothing but 0 and 1.

    Raises:
        NotSpikingError: one did not; the first is named. {0, 0.5} is not binary.
    """
    if (name := operations.first_not_binary) is not None:
        raise NotSpikingError(
            f"{name} receives values other than 0 and 1: its operations are multiplications. "
            "An ANN cannot pass; of a spiking network audit model.fuse(), which merges the decoder's convolutions"
        )

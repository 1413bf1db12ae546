"""The native kernels as Python sees them: their functions, and planes of spikes in memory."""

import ctypes
from ctypes import POINTER, byref, c_int32, c_int64, c_uint8, c_uint32, c_void_p
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spiking_centernet.deploy.engine.packing import LANES, Packed, padded, plane_channels
from spiking_centernet.model.neurons import GatedNeuron
from spiking_centernet.ops.library import Native
from spiking_centernet.ops.structs import LIST_SLACK, CFactored, CGated, CLayer, CLists, CPlane


class Plane:
    """Spikes of all steps and samples, how many a neuron has: uint8 [N, H, W, C] inside a halo of zeros.

    Args:
        num: steps times samples.
        size_hw: height and width without the halo.
        channels: channels with a meaning; memory holds a multiple of 4.
        halo: zeros on every side.

    Attributes:
        memory: with the halo.
        inside: without it.
        count: spikes in it, as the kernel that wrote them says; None where it holds none.
        c: what the kernels take.
    """

    def __init__(self, num: int, size_hw: tuple[int, int], channels: int, halo: int):
        height, width = size_hw
        self.channels = channels
        self.memory = torch.zeros(num, height + 2 * halo, width + 2 * halo, plane_channels(channels), dtype=torch.uint8)
        self.inside = self.memory[:, halo : halo + height, halo : halo + width]
        self.count: int | None = 0
        pointer = ctypes.cast(self.memory.data_ptr(), POINTER(c_uint8))
        self.c = CPlane(height, width, plane_channels(channels), halo, pointer)

    def spikes(self) -> Tensor:
        """Return a copy of the spikes, uint8 [N, C, H, W]."""
        return self.inside[..., : self.channels].permute(0, 3, 1, 2).clone()


@dataclass(frozen=True)
class Kernels:
    """The C functions of one instruction set."""

    fill: Any
    or_pool: Any
    join: Any
    list_events: Any
    dense: Any
    events: Any
    factored: Any
    fire_float32: Any
    fire_bfloat16: Any
    gated: Any

    @staticmethod
    def of(native: Native, isa: str | None = None) -> "Kernels":
        """Return the kernels of an instruction set, by default the one in use."""
        plane, layer, lists, i64 = POINTER(CPlane), POINTER(CLayer), POINTER(CLists), c_int64
        return Kernels(
            fill=native.kernel("fill", [c_void_p, i64, i64, plane, POINTER(i64)], i64, isa=isa),
            or_pool=native.kernel("or_pool", [plane, plane, i64], i64, isa=isa),
            join=native.kernel("join", [plane, plane, plane, i64], i64, isa=isa),
            list_events=native.kernel("list", [layer, i64, lists], isa=isa),
            dense=native.kernel("dense", [layer], i64, isa=isa),
            events=native.kernel("events", [layer, i64, lists], i64, isa=isa),
            factored=native.kernel("factored", [POINTER(CFactored)], i64, isa=isa),
            fire_float32=native.kernel("fire_float32", [layer, c_void_p, i64], i64, isa=isa),
            fire_bfloat16=native.kernel("fire_bfloat16", [layer, c_void_p, i64], i64, isa=isa),
            gated=native.kernel("gated", [POINTER(CGated)], i64, isa=isa),
        )


def c_layer(packed: Packed, source: Plane, target: Plane | None, size_hw: tuple[int, int], **settings: int) -> CLayer:
    """Return a layer without membranes and counts; the caller keeps ``packed`` and the planes alive."""
    layer = CLayer(
        height=size_hw[0], width=size_hw[1], padded_channels=packed.padded_channels, levels=packed.levels,
        largest_input=packed.largest_input, **settings,
    )  # fmt: skip
    layer.input = ctypes.pointer(source.c)
    if target is not None:
        layer.output = ctypes.pointer(target.c)
    layer.dense_block, layer.event_block = packed.dense_block, packed.event_block
    layer.floats = packed.event_weights.dtype == torch.float32
    for name in ("dense_weights", "event_weights", "scale", "bias", "q", "threshold"):
        values = getattr(packed, name)
        setattr(layer, name, None if values is None else values.data_ptr())
    return layer


def c_gated(layer: CLayer, source: Plane, target: Plane, neuron: GatedNeuron, *, num_steps: int, batch: int) -> CGated:
    """Return the neurons of a memory, whose currents a layer leaves in its membranes; the caller keeps all alive."""
    gated = CGated(
        num_steps=num_steps, batch=batch, height=layer.height, width=layer.width, channels=source.channels,
        padded_channels=padded(source.channels, LANES), padded_currents=layer.padded_channels,
        threshold=neuron.threshold, currents=layer.membranes,
    )  # fmt: skip
    gated.input, gated.output = ctypes.pointer(source.c), ctypes.pointer(target.c)
    return gated


class EventLists:
    """Room for the active inputs of one sample, shared by all layers; a page costs nothing until it is written."""

    def __init__(self):
        self._keys = torch.empty(0, dtype=torch.int32)
        self._offsets = torch.empty(0, dtype=torch.int32)
        self.c = CLists()

    def reserve(self, layer: CLayer) -> None:
        """Make room for the worst case of a layer."""
        plane = layer.input.contents
        rows, wide = layer.num_steps * layer.height, plane.width + 2 * plane.halo
        keys = rows * (layer.largest_input * layer.kernel * wide * plane.channels + LIST_SLACK)
        if keys > len(self._keys):
            self._keys = torch.empty(keys, dtype=torch.int32)
        if rows * (wide + 1) > len(self._offsets):
            self._offsets = torch.empty(rows * (wide + 1), dtype=torch.int32)
        self.c.keys = ctypes.cast(self._keys.data_ptr(), POINTER(c_uint32))
        self.c.offsets = ctypes.cast(self._offsets.data_ptr(), POINTER(c_int32))


def keys_fit(layer: CLayer) -> bool:
    """Whether every key of a layer is below 2**32."""
    plane = layer.input.contents
    row_bytes = layer.event_block * (4 if layer.floats else 1)
    return (plane.width + 2 * plane.halo) * layer.kernel * plane.channels * row_bytes < 2**32


def run_dense(kernels: Kernels, layer: CLayer) -> int:
    """Compute a layer densely; returns the number of spikes."""
    return kernels.dense(byref(layer))


def run_events(kernels: Kernels, layer: CLayer, lists: EventLists) -> int:
    """Compute a layer from its active inputs; returns the number of spikes."""
    total = 0
    for sample in range(layer.batch):
        kernels.list_events(byref(layer), sample, byref(lists.c))
        total += kernels.events(byref(layer), sample, byref(lists.c))
    return total

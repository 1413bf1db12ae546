"""When an event-driven layer is faster than a dense one."""

from collections.abc import Callable
from dataclasses import dataclass

from spiking_centernet.deploy.engine.bindings import CLayer


@dataclass(frozen=True)
class Costs:
    """What the kernels cost on one core with one instruction set and precision.

    Only the ratios decide, and those change little from CPU to CPU. Measured with ``benchmarks/engine_costs.py`` on an
    AMD EPYC of the Zen 4 generation at 3.7 GHz; int8 with AVX2 on one without AVX-512.

    Attributes:
        macs_per_ns: dense multiplications and additions in a nanosecond, by output channels computed at a time.
        key_ns: nanoseconds to add the weights of one active input, by the same.
        pixel_ns: nanoseconds an output pixel and step costs next to its additions, by the same.
        listed_per_ns: input bytes looked through for active ones in a nanosecond.
    """

    macs_per_ns: dict[int, float]
    key_ns: dict[int, float]
    pixel_ns: dict[int, float]
    listed_per_ns: float


def _floats(macs_per_ns: dict[int, float], isa: str) -> Costs:
    """Return what floats cost: from active inputs by the instruction set, densely by oneDNN."""
    key_ns, pixel_ns, listed_per_ns = {
        "avx512": ({16: 0.5, 32: 0.9, 64: 2.3}, {16: 10, 32: 11, 64: 12}, 18),
        "avx2": ({16: 0.6, 32: 1.0, 64: 2.7}, {16: 14, 32: 18, 64: 30}, 2.0),
        "portable": ({16: 0.7, 32: 1.6, 64: 4.2}, {16: 14, 32: 22, 64: 52}, 1.2),
    }[isa]
    return Costs(macs_per_ns, key_ns, pixel_ns, listed_per_ns)


COSTS = {
    ("avx512", "int8"): Costs(
        {16: 158, 32: 180, 64: 205}, {16: 0.28, 32: 0.35, 64: 0.6, 128: 1.4}, {16: 14, 32: 15, 64: 14, 128: 20}, 18
    ),
    ("avx2", "int8"): Costs(
        {16: 44, 32: 64, 64: 73}, {16: 0.4, 32: 0.7, 64: 1.1, 128: 2.3}, {16: 16, 32: 21, 64: 42, 128: 75}, 2.0
    ),
    ("portable", "int8"): Costs(
        {16: 6, 32: 10, 64: 14}, {16: 0.5, 32: 0.8, 64: 1.3, 128: 3.1}, {16: 20, 32: 32, 64: 60, 128: 118}, 1.2
    ),
    ("avx512", "fp32"): _floats({16: 46, 32: 50, 64: 55}, "avx512"),
    ("avx512", "bf16"): _floats({16: 76, 32: 98, 64: 108}, "avx512"),
    ("avx2", "fp32"): _floats({16: 40, 32: 48, 64: 52}, "avx2"),
    ("avx2", "bf16"): _floats({16: 40, 32: 48, 64: 52}, "avx2"),
    ("portable", "fp32"): _floats({16: 12, 32: 12, 64: 12}, "portable"),
    ("portable", "bf16"): _floats({16: 12, 32: 12, 64: 12}, "portable"),
}


def events_pay(isa: str, precision: str = "int8") -> Callable[[CLayer, int], bool]:
    """Return whether a layer whose input holds this many spikes is computed faster from them than densely."""
    costs = COSTS[isa, precision]

    def pay(layer: CLayer, count: int) -> bool:
        plane = layer.input.contents
        samples = layer.num_steps * layer.batch
        pixels = samples * layer.height * layer.width
        macs = pixels * layer.kernel**2 * plane.channels * layer.padded_channels
        blocks = layer.padded_channels // layer.event_block
        # How often an input is seen by an output pixel, and how often it is looked at.
        seen, listed = (layer.kernel / layer.stride) ** 2, layer.kernel / layer.stride * layer.largest_input
        keys = count * seen * costs.key_ns[layer.event_block]
        events = blocks * (keys + pixels * costs.pixel_ns[layer.event_block])
        events += samples * plane.height * plane.width * plane.channels * listed / costs.listed_per_ns
        return events < macs / costs.macs_per_ns[layer.dense_block]

    return pay

"""When an event-driven layer is faster than a dense one."""

from collections.abc import Callable
from dataclasses import dataclass

from spiking_centernet.engine.kernels import CLayer


@dataclass(frozen=True)
class Costs:
    """What the int8 kernels cost on one core with one instruction set.

    Only the ratios decide, and those change little from processor to processor. Measured with
    ``benchmarks/engine_costs.py`` on an AMD EPYC of the Zen 4 generation at 3.7 GHz.

    Attributes:
        macs_per_ns: dense multiplications and additions in a nanosecond, by output channels computed at a time.
        key_ns: nanoseconds to add the weights of one active input, by the same.
        pixel_ns: nanoseconds an output pixel and step costs beside its additions, by the same.
        listed_per_ns: input bytes looked through for active ones in a nanosecond.
    """

    macs_per_ns: dict[int, float]
    key_ns: dict[int, float]
    pixel_ns: dict[int, float]
    listed_per_ns: float


COSTS = {
    "avx512": Costs(
        {16: 158, 32: 180, 64: 205}, {16: 0.3, 32: 0.4, 64: 0.6, 128: 1.45}, {16: 20, 32: 21, 64: 24, 128: 24}, 12
    ),
    "avx2": Costs(
        {16: 29, 32: 45, 64: 75}, {16: 0.5, 32: 0.8, 64: 1.3, 128: 3}, {16: 58, 32: 100, 64: 160, 128: 380}, 1.2
    ),
    "portable": Costs(
        {16: 6, 32: 10, 64: 14}, {16: 0.5, 32: 0.9, 64: 1.7, 128: 3.3}, {16: 58, 32: 100, 64: 160, 128: 380}, 1.2
    ),
}


def events_pay(isa: str) -> Callable[[CLayer, int], bool]:
    """Return whether a layer whose input holds so many spikes is computed faster from them than densely."""
    costs = COSTS[isa]

    def pay(layer: CLayer, count: int) -> bool:
        plane = layer.input.contents
        samples = layer.num_steps * layer.batch
        pixels = samples * layer.height * layer.width
        macs = pixels * layer.kernel**2 * plane.channels * layer.padded_channels
        blocks = layer.padded_channels // layer.event_block
        # How often an input is seen by an output pixel, and how often it is listed.
        seen, listed = (layer.kernel / layer.stride) ** 2, layer.kernel / layer.stride
        keys = count * seen * costs.key_ns[layer.event_block]
        events = blocks * (keys + pixels * costs.pixel_ns[layer.event_block])
        events += samples * plane.height * plane.width * plane.channels * listed / costs.listed_per_ns
        return events < macs / costs.macs_per_ns[layer.dense_block]

    return pay

"""Rates of the engine's kernels on this machine: where the constants of engine/costs.py come from.

CPU time of one thread, best of several, so that other work on the machine matters little. What floats cost
densely is oneDNN's matter: ``ONEDNN_MAX_CPU_ISA=AVX2`` in the environment shows it on a lesser CPU.

    python benchmarks/engine_costs.py --isa avx512 --precision fp32
"""

import argparse
import json
import time
from ctypes import byref

import torch

from spiking_centernet.deploy.engine.bindings import EventLists, Kernels, Plane, c_layer, run_dense, run_events
from spiking_centernet.deploy.engine.engine import DTYPES
from spiking_centernet.deploy.engine.float import Convolution, float_spikes
from spiking_centernet.deploy.engine.ir import Block
from spiking_centernet.deploy.engine.packing import pack, pack_floats
from spiking_centernet.deploy.engine.quantize import int8_of
from spiking_centernet.model import PLIF
from spiking_centernet.ops.library import native


def best_ns(call, repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):
        start = time.thread_time_ns()
        call()
        times.append(time.thread_time_ns() - start)
    return min(times[1:])


def measure(
    isa: str | None, precision: str, channels: int, size_hw: tuple[int, int], rate: float, repeats: int
) -> dict[str, float]:
    """Return the rates and nanoseconds of a 3x3 layer of T = 5 steps, dense, event-driven and of the lists alone."""
    library = native()
    assert library is not None, "the native library is not built"
    kernels = Kernels.of(library, isa)
    rng = torch.Generator().manual_seed(0)
    block = Block(
        names=("layer",), widths=(channels,), weight=torch.randn(channels, channels, 3, 3, generator=rng) / 50,
        bias=torch.zeros(channels), stride=1, q=torch.full((channels,), 0.5), threshold=torch.ones(1, channels),
        neurons=(PLIF(),),
    )  # fmt: skip
    dtype = DTYPES.get(precision)
    packed = pack(block, int8_of(block), (channels,)) if dtype is None else pack_floats(block, dtype, (channels,))
    source, target = Plane(5, size_hw, channels, 1), Plane(5, size_hw, channels, 1)
    source.inside[:] = (torch.rand(source.inside.shape, generator=rng) < rate).to(torch.uint8)
    layer = c_layer(
        packed, source, target, size_hw, num_steps=5, batch=1, kernel=3, stride=1, leaky=1, decay_input=1, soft_reset=0
    )
    lists = EventLists()
    lists.reserve(layer)
    spikes, places = int(source.inside.sum()), source.inside.numel()
    pixels = 5 * size_hw[0] * size_hw[1] * channels // layer.event_block

    def list_only() -> None:
        kernels.list_events(layer, 0, lists.c)

    def dense_floats(convolution: Convolution, dtype: torch.dtype) -> None:
        y = convolution(float_spikes(source, dtype))
        fire = kernels.fire_float32 if dtype == torch.float32 else kernels.fire_bfloat16
        fire(byref(layer), y.data_ptr(), channels)

    if dtype is None:
        dense = best_ns(lambda: run_dense(kernels, layer), repeats)
    else:
        convolution = Convolution(block.weight.to(dtype, memory_format=torch.channels_last))
        with torch.inference_mode():
            dense = best_ns(lambda: dense_floats(convolution, dtype), repeats)
    events = best_ns(lambda: run_events(kernels, layer, lists), repeats)
    listing = best_ns(list_only, repeats)
    return {
        "channels": channels,
        "block": layer.event_block,
        "rate": rate,
        "dense_macs_per_ns": 9 * channels * places / dense,
        "events_ns_a_pixel": (events - listing) / pixels,
        "keys_a_pixel": 9 * spikes / (5 * size_hw[0] * size_hw[1]),
        "listed_bytes_per_ns": 3 * places / listing,
        "events_over_dense": events / dense,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", default=None, help="instruction set; default: the one in use")
    parser.add_argument("--precision", choices=("int8", *DTYPES), default="int8")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for channels, size_hw in ((16, (60, 76)), (32, (60, 76)), (64, (60, 76)), (256, (15, 19))):
        for rate in (0.02, 0.1, 0.2, 0.3, 0.5):
            row = measure(arguments.isa, arguments.precision, channels, size_hw, rate, arguments.repeats)
            print(json.dumps({name: round(value, 3) for name, value in row.items()}), flush=True)


if __name__ == "__main__":
    main()

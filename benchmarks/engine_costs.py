"""Rates of the int8 kernels on this machine: where the constants of engine/costs.py come from.

Processor time of one thread, best of several, so that other work on the machine matters little.

    python benchmarks/engine_costs.py --isa avx512
"""

import argparse
import json
import time

import torch

from spiking_centernet.engine.kernels import EventLists, Kernels, Plane, c_layer, run_dense, run_events
from spiking_centernet.engine.network import Block
from spiking_centernet.engine.packing import pack
from spiking_centernet.engine.quantise import quantise
from spiking_centernet.native import native
from spiking_centernet.nn import PLIF


def best_ns(call, repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):
        start = time.thread_time_ns()
        call()
        times.append(time.thread_time_ns() - start)
    return min(times[1:])


def measure(isa: str | None, channels: int, size_hw: tuple[int, int], rate: float, repeats: int) -> dict[str, float]:
    """Return the nanoseconds of a 3x3 layer of T = 5 steps, dense, event-driven and of the lists alone."""
    library = native()
    assert library is not None, "the native library is not built"
    kernels = Kernels.of(library, isa)
    rng = torch.Generator().manual_seed(0)
    block = Block(
        names=("layer",), widths=(channels,), weight=torch.randn(channels, channels, 3, 3, generator=rng) / 50,
        bias=torch.zeros(channels), stride=1, q=torch.full((channels,), 0.5), threshold=torch.ones(channels),
        neurons=(PLIF(),),
    )  # fmt: skip
    packed = pack(block, quantise(block), (channels,))
    source, target = Plane(5, size_hw, channels, 1), Plane(5, size_hw, channels, 1)
    source.inside[:] = (torch.rand(source.inside.shape, generator=rng) < rate).to(torch.uint8)
    layer = c_layer(
        packed, source, target, size_hw, num_steps=5, batch=1, kernel=3, stride=1, leaky=1, decay_input=1, soft_reset=0
    )
    lists = EventLists()
    lists.reserve(layer)
    spikes, places = int(source.inside.sum()), source.inside.numel()

    def list_only() -> None:
        kernels.list_events(layer, 0, lists.c)

    dense = best_ns(lambda: run_dense(kernels, layer), repeats)
    events = best_ns(lambda: run_events(kernels, layer, lists), repeats)
    listing = best_ns(list_only, repeats)
    return {
        "channels": channels,
        "rate": rate,
        "dense_macs_per_ns": 9 * channels * places / dense,
        "events_additions_per_ns": 9 * channels * spikes / (events - listing),
        "listed_bytes_per_ns": 3 * places / listing,
        "events_over_dense": events / dense,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", default=None, help="instruction set; default: the one in use")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for channels, size_hw in ((16, (60, 76)), (64, (60, 76)), (256, (15, 19))):
        for rate in (0.02, 0.1, 0.2, 0.3, 0.5):
            row = measure(arguments.isa, channels, size_hw, rate, arguments.repeats)
            print(json.dumps({name: round(value, 3) for name, value in row.items()}), flush=True)


if __name__ == "__main__":
    main()

"""A long live stream of random events: does its memory stay flat, and how late are its answers?

    python benchmarks/stream_soak.py --seconds 600 --rate_mev_s 5

The source delivers a packet every 10 ms of wall time, whether or not the network keeps up; what it cannot answer is
dropped and counted. Random events light more of the network than a street does: latencies are those of a bad case.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
from stamp import stamp, this_command, write_result

import spiking_centernet as scn
from spiking_centernet.inference import Packet, Summary, stream
from spiking_centernet.structures import EVENT_DTYPE

PACKET_US = 10_000
NUM_PACKETS = 20
"""Different packets, delivered in turn."""


class Flood:
    """Random events at a steady rate, in real time."""

    def __init__(self, size_hw, rate_hz, seconds, seed):
        self.size_hw, self.seconds = size_hw, seconds
        rng, count = np.random.default_rng(seed), round(rate_hz * PACKET_US * 1e-6)
        self.packets = []
        for _ in range(NUM_PACKETS):
            events = np.zeros(count, EVENT_DTYPE)
            events["t"] = np.sort(rng.integers(0, PACKET_US, count))
            events["x"], events["y"] = rng.integers(0, size_hw[1], count), rng.integers(0, size_hw[0], count)
            events["p"] = rng.integers(0, 2, count)
            self.packets.append(events)
        self.num_events, self.took_s = 0, 0.0

    def __iter__(self):
        start_s = time.perf_counter()
        for k in range(round(self.seconds * 1e6 / PACKET_US)):
            time.sleep(max(0.0, start_s + (k + 1) * PACKET_US * 1e-6 - time.perf_counter()))
            events = self.packets[k % NUM_PACKETS].copy()
            events["t"] += k * PACKET_US
            self.num_events += len(events)
            self.took_s = time.perf_counter() - start_s
            yield Packet(events, (k + 1) * PACKET_US)


def resident_mb():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--rate_mev_s", type=float, default=5)
    parser.add_argument("--mode", default="windowed")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="stream_soak", help="of the file in results/; empty writes none")
    options = parser.parse_args()
    source = Flood((240, 304), options.rate_mev_s * 1e6, options.seconds, options.seed)
    summary, samples, start_s = Summary(), [], time.perf_counter()
    for _ in summary.watch(stream(scn.load(options.model), source, mode=options.mode, policy="drop")):
        now_s = time.perf_counter() - start_s
        if not samples or now_s - samples[-1][0] >= 1:
            samples.append((now_s, resident_mb()))
    wall_s = time.perf_counter() - start_s
    # The first tenth is left out: compiled kernels load and pools fill.
    settled = np.array([sample for sample in samples if sample[0] >= 0.1 * wall_s])
    result = {
        "mode": options.mode,
        "seconds": wall_s,
        "million_events": source.num_events / 1e6,
        "million_events_per_s": source.num_events / 1e6 / source.took_s,
        "answers": summary.num_answers,
        "windows_skipped": summary.num_skipped,
        "latency_ms": {"median": summary.latency_ms(50), "p95": summary.latency_ms(95)},
        "worst_lag_ms": summary.worst_lag_ms,
        "resident_mb": {
            "settled": float(settled[0, 1]),
            "last": float(settled[-1, 1]),
            "largest": float(settled[:, 1].max()),
            "growth_mb_per_min": float(np.polyfit(settled[:, 0] / 60, settled[:, 1], 1)[0]) if len(settled) > 1 else 0,
        },
        "samples_s_mb": [[round(s, 1), round(mb, 1)] for s, mb in samples],
    }
    print({key: value for key, value in result.items() if key != "samples_s_mb"})
    if options.name:
        print(write_result(options.name, {**stamp(command=this_command(), seed=options.seed), **result}))


if __name__ == "__main__":
    main()

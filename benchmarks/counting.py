"""What counting operations adds to inference, in time and memory, on windows of the labeled frames of a split.

    python benchmarks/counting.py --data data/roads --split val

The baseline is the same fused network without the counter, on the same windows in the same process, one after the
other; each round takes one batch through both. Memory is what the process holds of its own, mapped recordings apart,
after the first and after the last round.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

import torch
from stamp import stamp, this_command, write_result
from torch.utils.data import DataLoader

import spiking_centernet as scn
from spiking_centernet.data import collate
from spiking_centernet.evaluation.energy import OperationCounter
from spiking_centernet.evaluation.prediction import dataset_for


def own_mb() -> float:
    resident, shared = (int(pages) for pages in Path("/proc/self/statm").read_text().split()[1:3])
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="data/roads")
    parser.add_argument("--split", default="val")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--num_threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.num_threads)
    model = scn.load(options.model).fuse()
    counter = OperationCounter(model)
    loader = DataLoader(
        dataset_for(model, options.data, options.split), batch_size=options.batch_size, collate_fn=collate
    )
    plain_ms, counting_ms, memory_mb = [], [], []
    with torch.no_grad():
        for number, batch in enumerate(loader):
            began_s = time.perf_counter()
            model(batch.cube, keep_state=False)
            middle_s = time.perf_counter()
            counter(batch.cube)
            ended_s = time.perf_counter()
            if number:  # the first round loads kernels
                plain_ms.append((middle_s - began_s) * 1e3)
                counting_ms.append((ended_s - middle_s) * 1e3)
                memory_mb.append(own_mb())
            if number == options.rounds:
                break
    result = {
        "model": options.model,
        "split": options.split,
        "batch_size": options.batch_size,
        "num_threads": options.num_threads,
        "rounds": len(plain_ms),
        "plain_ms": statistics.median(plain_ms),
        "counting_ms": statistics.median(counting_ms),
        "ratio": statistics.median(c / p for c, p in zip(counting_ms, plain_ms, strict=True)),
        "own_mb": {"first": memory_mb[0], "last": memory_mb[-1]},
    }
    print(result)
    print(write_result("counting", {**stamp(command=this_command(), seed=None), **result}))


if __name__ == "__main__":
    main()

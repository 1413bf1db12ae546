"""What scoring many recordings costs on one and two workers, and what that means for whole data sets.

    python benchmarks/scaling.py --data data/roads --split test

Scores the split recording by recording (``batch.evaluate_recordings``) and indexes it (``batch.index``) with each
number of workers, compares the results, and writes ``results/scaling.json``. The times for GEN1 and 1 Mpx are a model:
windows x seconds a window x pixels over GEN1's, plus bytes x seconds a byte of the index.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

from stamp import stamp, this_command, write_result

from spiking_centernet.data import FolderDataset
from spiking_centernet.experiments.batch import evaluate_recordings, index
from spiking_centernet.utils.executors import ENGINES, Executor

GEN1_HW = (240, 304)
DATA_SETS = {
    # Hours, bytes and size from the papers (arXiv 2001.08499, arXiv 2009.13436); windows at the labels' 4 Hz.
    "GEN1": {"hours": 39.0, "bytes": 200e9, "size_hw": GEN1_HW},
    "1 Mpx": {"hours": 14.65, "bytes": 3.5e12, "size_hw": (720, 1280)},
}
WINDOWS_HZ = 4.0


def measured(executor: Executor, model: str, data: str, split: str) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        found = index(data, split, Path(folder) / "index", executor=executor)
        indexed = time.perf_counter()
        score = evaluate_recordings(model, data, split, Path(folder) / "val", executor=executor)
        scored = time.perf_counter()
    # One local worker is this process, several are its children.
    who = resource.RUSAGE_SELF if executor.kind == "local" and executor.num_workers == 1 else resource.RUSAGE_CHILDREN
    return {
        "workers": executor.num_workers, "index_s": indexed - began, "score_s": scored - indexed, "ap": score.ap,
        "events": sum(record["values"]["events"] for record in found.values()),
        # Of the largest process so far, in kilobytes on Linux.
        "peak_memory_of_a_worker_mb": resource.getrusage(who).ru_maxrss / 1024,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="data/roads")
    parser.add_argument("--split", default="test")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--executor", default="local", choices=sorted(ENGINES))
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    runs = [
        measured(Executor(kind=arguments.executor, workers=n), arguments.model, arguments.data, arguments.split)
        for n in arguments.workers
    ]
    assert len({run["ap"] for run in runs}) == 1, "the number of workers changed the result"
    dataset = FolderDataset(arguments.data, arguments.split)
    window_s = runs[0]["score_s"] / len(dataset)
    byte_s = runs[0]["index_s"] / sum(r.path.stat().st_size for r in dataset.recordings)
    model = {}
    for name, known in DATA_SETS.items():
        height, width = known["size_hw"]
        windows = known["hours"] * 3600 * WINDOWS_HZ
        pixels = height * width / (GEN1_HW[0] * GEN1_HW[1])
        model[name] = {**known, "worker_hours": (windows * window_s * pixels + known["bytes"] * byte_s) / 3600}
    write_result("scaling", {
        **stamp(command=this_command(), seed=None), "executor": arguments.executor, "model": arguments.model,
        "recordings": len(dataset.recordings), "windows": len(dataset), "runs": runs,
        "speedup": runs[0]["score_s"] / runs[-1]["score_s"], "data_sets": model,
    })  # fmt: skip


if __name__ == "__main__":
    main()

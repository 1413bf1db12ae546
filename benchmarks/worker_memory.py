"""What a worker of ``batch.evaluate_recordings`` holds in memory on a sensor of 1280 x 720, by length of the recording.

    python benchmarks/worker_memory.py --seconds 2 20

Random events at a steady rate, a box at 4 Hz, the layout of 1 Mpx. Every length runs in a process of its own. Two
peaks are told: of its private memory, looked at every 10 ms, and of all that was resident, which has the pages of the
mapped recording in it; those the system takes back when it needs them.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
from stamp import stamp, this_command, write_result

from spiking_centernet.data import write_boxes, write_dat
from spiking_centernet.data.layouts import LAYOUTS
from spiking_centernet.experiments.batch import evaluate_recordings
from spiking_centernet.structures import BOX_DTYPE, EVENT_DTYPE
from spiking_centernet.utils.executors import Executor

SIZE_HW = (720, 1280)
LABELS_HZ = 4


def write_recording(folder: Path, seconds: float, rate_mev_s: float, seed: int) -> int:
    """Write a recording with its boxes in the layout of 1 Mpx and return its bytes."""
    rng = np.random.default_rng(seed)
    events = np.zeros(round(seconds * rate_mev_s * 1e6), EVENT_DTYPE)
    events["t"] = np.linspace(0, seconds * 1e6, len(events), endpoint=False)
    events["x"], events["y"] = rng.integers(0, SIZE_HW[1], len(events)), rng.integers(0, SIZE_HW[0], len(events))
    events["p"] = rng.integers(0, 2, len(events))
    boxes = np.zeros(round(seconds * LABELS_HZ) - 2, BOX_DTYPE)
    boxes["ts"] = np.arange(2, len(boxes) + 2) * 1_000_000 // LABELS_HZ
    boxes["x"], boxes["y"], boxes["w"], boxes["h"], boxes["class_id"] = 400, 300, 120, 90, 2
    (folder / "test").mkdir(parents=True)
    write_boxes(folder / "test" / "random_bbox.npy", boxes, classes=LAYOUTS["1mpx"].stored_classes)
    path = folder / "test" / "random_td.dat"
    write_dat(path, events, SIZE_HW)
    return path.stat().st_size


def status_mb(field: str) -> float:
    # Not ru_maxrss, which a process takes over from the one that started it.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[field].split()[0]) / 1024


def score_one(folder: Path, model: str, batch_size: int) -> None:
    """Score the recording and print how much memory that took at most."""
    private_mb, ended = [status_mb("RssAnon")], threading.Event()

    def watch() -> None:
        while not ended.wait(0.01):
            private_mb.append(status_mb("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    executor = Executor(workers=1)
    evaluate_recordings(model, f"1mpx:{folder}", "test", folder / "val", batch_size=batch_size, executor=executor)
    ended.set()
    watcher.join()
    print(json.dumps({"private_mb": max(private_mb), "resident_mb": status_mb("VmHWM")}))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, nargs="+", default=[2, 20])
    parser.add_argument("--rate_mev_s", type=float, default=5)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        score_one(options.one, options.model, options.batch_size)
        return
    rows = []
    for seconds in options.seconds:
        with tempfile.TemporaryDirectory() as folder:
            num_bytes = write_recording(Path(folder), seconds, options.rate_mev_s, options.seed)
            command = [sys.executable, __file__, "--one", folder, "--model", options.model]
            command += ["--batch_size", str(options.batch_size)]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rows.append({"seconds": seconds, "megabytes": num_bytes / 1e6, **json.loads(told.strip().rpartition("\n")[2])})
        print(rows[-1])
    result = {
        "size_hw": SIZE_HW, "rate_mev_s": options.rate_mev_s, "model": options.model,
        "batch_size": options.batch_size, "recordings": rows,
    }  # fmt: skip
    print(write_result("worker_memory", {**stamp(command=this_command(), seed=options.seed), **result}))


if __name__ == "__main__":
    main()

"""How much faster than real time one core simulates a world, and where the time goes.

    python benchmarks/simulator.py --clips 6
    python benchmarks/simulator.py --world wide --clips 60 --seconds 0.6

Writes ``results/simulator_speed.json``, or ``simulator_speed_wide.json``. The first clip compiles and is
not counted. Times are CPU time, so other jobs on the machine slow them only through its caches.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from stamp import stamp, this_command, write_result

from spiking_centernet.simulate.dataset import Clip, make_clip
from spiking_centernet.simulate.worlds import world_of


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each clip; scn simulate makes them so long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--world", default="roads", help="roads or wide")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for index in range(-1, options.clips):
            duration_s = 0.3 if index < 0 else options.seconds
            clip = Clip(
                Path(folder), options.seed, "train", max(index, 0), round(duration_s * 1e6), (240, 304),
                world=world_of(options.world),
            )  # fmt: skip
            began = time.process_time()
            report = make_clip(clip)
            processor_s = time.process_time() - began
            if index < 0:
                continue
            row = {
                "clip": clip.name,
                "real_time_factor": duration_s / processor_s,
                "processor_s": processor_s,
                "setup_s": processor_s - sum(report["spent"].values()),
                **report["spent"],
                "frames": report["frames"],
                "label_times": report["label_times"],
                "event_rate_mev_s": report["events"] / duration_s * 1e-6,
            }
            rows.append(row)
            print(" ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
    total = sum(row["processor_s"] for row in rows)
    frames = sum(row["frames"] for row in rows)
    record = {
        **stamp(command=this_command(), seed=options.seed),
        "size_hw": [240, 304],
        "processes": 1,
        "real_time_factor": options.seconds * len(rows) / total,
        "real_time_factor_median": statistics.median(row["real_time_factor"] for row in rows),
        "share_of_time": {
            part: sum(row[f"{part}_s"] for row in rows) / total for part in ("setup", "render", "sensor", "write")
        },
        "ms_per_frame": {part: sum(row[f"{part}_s"] for row in rows) / frames * 1e3 for part in ("render", "sensor")},
        "event_rate_mev_s": sum(row["event_rate_mev_s"] for row in rows) / len(rows),
        "clips": rows,
    }
    write_result("simulator_speed" if options.world == "roads" else f"simulator_speed_{options.world}", record)
    print(f"{record['real_time_factor']:.2f} x real time; share of time {record['share_of_time']}")


if __name__ == "__main__":
    main()

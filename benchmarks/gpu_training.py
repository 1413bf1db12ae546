"""How far runs came that were trained on a GPU, from their run folders.

    python benchmarks/gpu_training.py --device H200 --runs small=runs/small SNN=runs/study/runs/SNN/seed0

A run may have been stopped: what counts is its last validation. Writes ``results/gpu_training.json``.
"""

import argparse
import statistics
from pathlib import Path

from stamp import stamp, this_command, write_result

from spiking_centernet.model import build
from spiking_centernet.training.run_dir import read_config, read_metrics


def described(folder: Path) -> dict:
    """Return what a run folder says of its run, stopped or not."""
    config = read_config(folder / "config.yaml")
    rows = read_metrics(folder / "metrics.csv")
    steps, validated = [r for r in rows if r["loss"] is not None], [r for r in rows if r["ap"] is not None]
    last = validated[-1]
    return {
        "preset": config["preset"],
        "parameters": sum(p.numel() for p in build(config["preset"], **config["network"]).parameters()),
        "batch_size": config["batch_size"],
        "planned_steps": round(last["step"] / (last["epoch"] + 1)) * config["epochs"],
        "validated_at_step": round(last["step"]),
        "ap_val": last["ap"], "ap50_val": last["ap50"], "firing_rate": last["val_firing_rate"],
        "median_step_s": statistics.median(row["seconds"] for row in steps),
        "protocol": config["protocol"], "seed": config["seed"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="+", default=[], metavar="NAME=FOLDER", help="run folders")
    parser.add_argument("--device", default="a GPU", help="what they were trained on")
    arguments = parser.parse_args()
    if not arguments.runs:
        print("no run folders given: nothing to tell")
        return
    runs = {name: described(Path(folder)) for name, _, folder in (word.partition("=") for word in arguments.runs)}
    head = stamp(command=this_command(), seed=None)
    print(write_result("gpu_training", {**head, "device": arguments.device, "data": "simulated roads", "runs": runs}))


if __name__ == "__main__":
    main()

"""Size, parity, AP and time of every exported file next to the network itself, one thread, interleaved.

python benchmarks/export_formats.py --data data/roads --split val
"""

import argparse
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

import torch
from stamp import stamp, this_command, write_result

import spiking_centernet as scn
from spiking_centernet.deploy.export import check, export_detector, run
from spiking_centernet.deploy.export.contract import run_torch, run_window
from spiking_centernet.deploy.export.parity import bundled_windows, score
from spiking_centernet.evaluation.prediction import dataset_for

FILES = ((".onnx", "float32"), (".onnx", "int8"), (".xml", "float32"), (".xml", "int8"), (".pt2", "float32"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="data/roads", help="labeled folder; empty: no AP")
    parser.add_argument("--split", default="val")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = scn.load(options.model)
    dataset = dataset_for(model, options.data, options.split) if options.data else None
    size_hw = (240, 304) if dataset is None else tuple(dataset[0].cube.shape[-2:])
    rows, runs = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for suffix, weights in FILES:
            name = f"{suffix[1:]} {weights}"
            made = export_detector(model, Path(folder) / f"{weights}{suffix}", size_hw=size_hw, weights=weights)
            report = check(model, made, weights=weights)
            runs[name] = run(made.path, made.contract)
            rows[name] = {"megabytes": made.num_bytes / 1e6, **dataclasses.asdict(report)}
            if dataset is not None:
                rows[name]["ap"] = score(runs[name], made.contract, dataset)
            print(name, rows[name], flush=True)
        contract = made.contract
        runs["network"] = run_torch(model.fuse(), contract)
        rows["network"] = {"megabytes": 4e-6 * sum(p.numel() for p in model.fuse().parameters())}
        if dataset is not None:
            rows["network"]["ap"] = score(runs["network"], contract, dataset)
        cube = list(bundled_windows(contract))[1]
        times_ms = {name: [] for name in runs}
        for _ in range(options.rounds):
            for name, network in runs.items():
                start_s = time.perf_counter()
                run_window(network, contract, cube)
                times_ms[name].append((time.perf_counter() - start_s) * 1e3)
        for name, taken in times_ms.items():
            rows[name]["median_ms"] = statistics.median(taken)
    result = {"size_hw": size_hw, "split": options.split if options.data else None, "threads": 1, "files": rows}
    print(write_result("export_formats", {**stamp(command=this_command(), seed=None), **result}))


if __name__ == "__main__":
    main()

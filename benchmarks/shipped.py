"""What every bundled detector is worth and costs, compiled to int8: AP, and milliseconds a window.

    python benchmarks/shipped.py --data data/roads
    python benchmarks/shipped.py --data data/roads --models nano nano-integer --result shipped_integer

Event-driven where it pays, on one thread; the weights take turns on the same windows, from the split that is
scored. Writes ``results/shipped.json``, or another name.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from stamp import stamp, this_command, write_result

import spiking_centernet as scn
from spiking_centernet.evaluation import report
from spiking_centernet.evaluation.prediction import dataset_for
from spiking_centernet.model.weights import bundled, config_of, sha256

PROTOCOL = "prophesee"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data/roads")
    parser.add_argument("--split", default="test")
    parser.add_argument("--windows", type=int, default=60, help="timed, of every weight file")
    parser.add_argument(
        "--models", nargs="+", help="bundled names; default: all that detect in single windows of events"
    )
    parser.add_argument("--result", default="shipped", help="name of the file in results")
    arguments = parser.parse_args()
    if not Path(arguments.data, arguments.split).is_dir():
        print(f"{arguments.data}/{arguments.split} is missing: make it with scn simulate; nothing measured")
        return
    torch.set_num_threads(1)
    # A memory is no matter of single windows: benchmarks/parked.py says what it is worth. Pictures are no events.
    configs = {name: config_of(name) for name in bundled()}
    left_out = {n for n, one in configs.items() if one.classifies or one.has_memory or one.voxels.takes_frames}
    names = arguments.models or sorted(configs.keys() - left_out, key=lambda name: (len(name), name))
    engines = {name: scn.compile(scn.load(name)) for name in names}
    datasets = {name: dataset_for(engine, arguments.data, arguments.split) for name, engine in engines.items()}
    taken: dict[str, list[float]] = {name: [] for name in names}
    places = torch.linspace(0, len(datasets[names[0]]) - 1, arguments.windows).int().tolist()
    for turn, place in enumerate([places[0], *places]):
        for name, engine in engines.items():
            cube = datasets[name][place].cube[:, None]  # steps and bins are the network's own
            began = time.perf_counter()
            engine(cube)
            if turn:  # the first prepares
                taken[name].append((time.perf_counter() - began) * 1e3)
    rows = {}
    for name, engine in engines.items():
        card = report.score(engine, arguments.data, split=arguments.split, protocols=(PROTOCOL,), batch_size=1)
        score = card.scores[PROTOCOL]
        rows[name] = {
            "sha256": sha256(name), "ap": score.ap, "ap50": score.ap50, "firing_rate": card.rates.overall(),
            "median_ms": statistics.median(taken[name]), "slowest_ms": max(taken[name]),
        }  # fmt: skip
        print(name, rows[name], flush=True)
    about = {"data": arguments.data, "split": arguments.split, "protocol": PROTOCOL, "threads": 1, "precision": "int8"}
    print(write_result(arguments.result, {**stamp(command=this_command(), seed=None), **about, "weights": rows}))


if __name__ == "__main__":
    main()

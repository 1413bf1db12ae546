"""Gives weights that learned in bfloat16 the statistics of their batch norms in float32, which is how they are run.

    python benchmarks/float32.py runs/nano_integer_more --data data/roads --train data/roads_more --keep build/float32

A network that learned in bfloat16 has seen the rounding of bfloat16 in every convolution, and its batch norms have the
means and variances of that. Run in float32, each layer is off by a little, and the neurons behind it spike at other
times. Every mean and variance is estimated anew from training windows in float32; no weight changes. Writes
``results/float32_NAME.json`` with the AP on the validation split in both precisions, before and after; ``--keep``
writes ``best.safetensors`` into a folder, with the score and the threshold that it has there.

Training does the same before every validation (``training.batch_norms``); this is for runs that did not.
"""

import argparse
from pathlib import Path

import torch
from stamp import stamp, this_command, write_result

import spiking_centernet as scn
from spiking_centernet.evaluation.metrics import best_threshold
from spiking_centernet.evaluation.prediction import dataset_for, predict
from spiking_centernet.model.weights import notes, save, sha256
from spiking_centernet.training.batch_norms import NUM_BATCHES, estimate_anew

PROTOCOL = "prophesee"


def main() -> None:
    """Score, estimate anew, score again, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="?", help="run folder or weight file")
    parser.add_argument("--data", default="data/roads", help="its validation split is scored")
    parser.add_argument("--train", default="data/roads_more", help="its training split is seen")
    parser.add_argument("--batches", type=int, default=NUM_BATCHES)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for best.safetensors")
    arguments = parser.parse_args()
    if arguments.weights is None:
        # `make bench` runs every script; there is nothing to do for weights that learned in float32.
        print("no weights given; nothing measured")
        return
    torch.set_num_threads(1)
    model = scn.load(arguments.weights)
    dataset = dataset_for(model, arguments.data, "val")
    rows = {}

    def scored(when: str):
        for precision in ("bfloat16", "float32"):
            score = predict(model, dataset, precision=precision).score(PROTOCOL)
            rows[f"{when} {precision}"] = {"ap": score.ap, "ap50": score.ap50, "ap75": score.ap75}
            print(when, precision, rows[f"{when} {precision}"], flush=True)
        return score

    scored("before")
    windows = dataset_for(model, arguments.train, "train")
    settings = {"batch_size": arguments.batch_size, "batches": arguments.batches, "seed": arguments.seed}
    estimate_anew(model, windows, **settings)
    score = scored("after")
    if arguments.keep is not None:
        chosen = scn.build(weights=arguments.weights, **{"deployment.score_threshold": best_threshold(score)})
        chosen.load_state_dict(model.state_dict())
        validation = {k: v for k, v in score.to_dict().items() if k != "classes"}
        print(save(chosen, arguments.keep / "best", notes={**notes(arguments.weights), "validation": validation}))
    about = {"weights": arguments.weights, "weights_sha256": sha256(arguments.weights), "protocol": PROTOCOL}
    about |= {"batches": arguments.batches, "batch_size": arguments.batch_size, "rows": rows}
    name = f"float32_{Path(arguments.weights).name.split('.')[0]}"
    print(write_result(name, {**stamp(command=this_command(), seed=arguments.seed), **about}))


if __name__ == "__main__":
    main()

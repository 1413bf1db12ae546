"""What precision costs in accuracy: AP of a trained detector on every way of computing, and its firing rates.

The four ways see the same windows. Event-driven int8 gives dense int8's spikes to the last bit, so a difference between
those two would be an error.

    python benchmarks/precision_accuracy.py --data data/roads --model nano
"""

import argparse
from pathlib import Path

from stamp import stamp, this_command, write_result

import spiking_centernet as scn
from spiking_centernet.evaluation import report

WAYS = {
    "fp32": ("fp32", "never"),
    "bf16": ("bf16", "never"),
    "int8 dense": ("int8", "never"),
    "int8 event-driven": ("int8", "always"),
}
PROTOCOL = "prophesee"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data/roads")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--split", default="test")
    parser.add_argument("--batch_size", type=int, default=1)
    arguments = parser.parse_args()
    if not Path(arguments.data, arguments.split).is_dir():
        print(f"{arguments.data}/{arguments.split} is missing: make it with scn simulate; nothing measured")
        return
    model = scn.load(arguments.model)
    ways = {}
    for name, (precision, sparse) in WAYS.items():
        compiled = scn.compile(model, precision=precision, sparse=sparse)
        card = report.score(
            compiled, arguments.data, split=arguments.split, protocols=(PROTOCOL,), batch_size=arguments.batch_size,
        )  # fmt: skip
        ways[name] = card.to_dict()
        print(f"{name:18s} AP {card.scores[PROTOCOL].ap:.4f}  firing rate {card.rates.overall():.4f}", flush=True)
    reference = ways["fp32"]["scores"][PROTOCOL]["ap"]
    for values in ways.values():
        values["ap_over_fp32"] = values["scores"][PROTOCOL]["ap"] / reference if reference else None
    chosen = {"model": arguments.model, "data": arguments.data, "split": arguments.split, "protocol": PROTOCOL}
    print(write_result("precision_accuracy", {**stamp(command=this_command(), seed=None), **chosen, "ways": ways}))


if __name__ == "__main__":
    main()

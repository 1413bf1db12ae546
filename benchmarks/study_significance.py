"""Judge the differences of stored studies anew: ``study_significance.py results/study_*.json``

For studies whose runs are gone. The seeds' variance comes from their scores in the file. That of the recordings comes
from the width of the interval that the bootstrap gave, less what the drawing of seeds has put into it, which is
``(K - 1) / K**2`` times the seeds' variance; what the bootstrap said stays in the file under ``bootstrap``.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from stamp import stamp, this_command

from spiking_centernet.evaluation.significance import ENOUGH_SEEDS, SIGNIFICANT_BELOW, t_interval
from spiking_centernet.utils.provenance import write_json

NORMAL_95 = 3.92
"""Standard errors between the ends of a 95 % interval of a normal distribution."""


def seed_scores(study: dict, row: str, test: str | None) -> dict[int, float]:
    """Return AP by seed of a row's test; the first test where none is named."""
    scores = {}
    for run in study["runs"]:
        if run["row"] == row and "failed" not in run:
            tests = [t for t in run["tests"] if test is None or t["name"] == test]
            scores[run["seed"]] = tests[0]["ap"]
    return scores


def judge(study: dict) -> None:
    """Replace the interval and the p-value of every line of a study with few seeds."""
    base = seed_scores(study, study["baseline"], None)
    for line in study["lines"]:
        old = line["comparison"]
        if old is None or "bootstrap" in old or not 1 < old["num_seeds"] < ENOUGH_SEEDS:
            continue
        scores = seed_scores(study, line["row"], line["test"])
        by_seed = np.array([scores[seed] - base[seed] for seed in sorted(scores.keys() & base.keys())])
        count = len(by_seed)
        if count != old["num_seeds"] or not np.isclose(by_seed.mean(), old["difference"], atol=1e-9):
            raise SystemExit(f"{study['study']}, {line['row']}: the runs do not give the difference of the table")
        both = ((old["high"] - old["low"]) / NORMAL_95) ** 2
        recordings = max(0.0, both - by_seed.var(ddof=1) * (count - 1) / count**2)
        low, high, p_value = t_interval(by_seed, recordings)
        told = {name: old[name] for name in ("low", "high", "p_value")}
        new = {"low": low, "high": high, "p_value": p_value, "significant": p_value < SIGNIFICANT_BELOW}
        line["comparison"] = {**old, **new, "bootstrap": told}


def main() -> None:
    """Rewrite the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, nargs="+")
    for path in parser.parse_args().studies:
        study = json.loads(path.read_text(encoding="utf-8"))
        judge(study)
        study["judged"] = stamp(command=this_command(), seed=None)
        write_json(path, study)
        for line in study["lines"]:
            if line["comparison"] and "bootstrap" in line["comparison"]:
                new, old = line["comparison"], line["comparison"]["bootstrap"]
                verdict = "significant" if new["significant"] else "not significant"
                name = f"{study['study']}: {line['row']} {line['test'] or ''}".strip()
                print(f"{name}: p {old['p_value']:.3f} -> {new['p_value']:.3f}, {verdict}")


if __name__ == "__main__":
    main()

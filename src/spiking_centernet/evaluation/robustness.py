"""A detector on a split seen through faulty sensors: AP and firing rate by corruption and severity."""

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spiking_centernet.data.corruptions import CORRUPTIONS, SEVERITIES, Fault
from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.evaluation.metrics import Score
from spiking_centernet.evaluation.prediction import dataset_for, predict
from spiking_centernet.evaluation.report import EvaluationReport
from spiking_centernet.model import AnyDetector
from spiking_centernet.model.firing_rate import FiringRates
from spiking_centernet.utils.files import atomic_write
from spiking_centernet.utils.provenance import collect_provenance, write_json


@dataclass(frozen=True)
class FaultScore:
    """What a detector is worth under one corruption.

    Attributes:
        fault: name and severity.
        score: under the protocol of the clean score.
        retention: its AP over the clean one; NaN where that is 0 or has no ground truth.
        firing_rate: of all neurons together; of an ANN counterpart, the share of outputs that are not zero.
        firing_ratio: firing rate over the clean one; NaN where that is 0.
    """

    fault: Fault
    score: Score
    retention: float
    firing_rate: float
    firing_ratio: float


@dataclass(frozen=True)
class Robustness:
    """Scores of one detector under every corruption asked for, next to its clean score."""

    split: str
    clean: Score
    clean_firing_rate: float
    faults: tuple[FaultScore, ...]

    def most_active(self) -> FaultScore:
        """Return the corruption under which the network spikes most: what it costs in energy, an attacker can cause."""
        return max(self.faults, key=lambda f: f.firing_rate)

    def mean_retention(self, name: str | None = None) -> float:
        """Return the mean retention over the severities of one corruption, or over all of them."""
        kept = [f.retention for f in self.faults if name in (None, f.fault.name)]
        return sum(kept) / len(kept)

    def names(self) -> list[str]:
        """Return the corruptions in the order they were scored."""
        return list(dict.fromkeys(f.fault.name for f in self.faults))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, with None for NaN."""
        worst = self.most_active()
        return {
            "split": self.split,
            "protocol": self.clean.protocol,
            "clean": {"ap": _plain(self.clean.ap), "ap50": _plain(self.clean.ap50),
                      "firing_rate": self.clean_firing_rate, "num_truth": self.clean.num_truth},
            "mean_retention": _plain(self.mean_retention()),
            "most_active": {"corruption": worst.fault.name, "severity": worst.fault.severity,
                            "firing_rate": worst.firing_rate, "firing_ratio": _plain(worst.firing_ratio)},
            "corruptions": {
                name: {
                    "unit": CORRUPTIONS[name].unit,
                    "mean_retention": _plain(self.mean_retention(name)),
                    "severities": [_row(f) for f in self.faults if f.fault.name == name],
                }
                for name in self.names()
            },
        }  # fmt: skip


def _row(f: FaultScore) -> dict[str, Any]:
    return {
        "severity": f.fault.severity, "level": f.fault.level, "seed": f.fault.seed, "ap": _plain(f.score.ap),
        "ap50": _plain(f.score.ap50), "retention": _plain(f.retention), "firing_rate": f.firing_rate,
        "firing_ratio": _plain(f.firing_ratio),
    }  # fmt: skip


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def corruption_names(names: Sequence[str]) -> list[str]:
    """Return the corruptions meant by these words, every one for "all".

    Raises:
        ConfigError: a name is unknown, or none is given.
    """
    if "all" in names:
        return list(CORRUPTIONS)
    for name in names:
        if name not in CORRUPTIONS:
            raise ConfigError(f"no corruption is called {name!r}{did_you_mean(name, ['all', *CORRUPTIONS])}")
    if not names:
        raise ConfigError("give at least one corruption, or all")
    return list(dict.fromkeys(names))


def score_corruptions(
    model: AnyDetector,
    data: str | os.PathLike[str],
    card: EvaluationReport,
    *,
    names: Sequence[str] = ("all",),
    severities: Sequence[int] = SEVERITIES,
    seed: int = 0,
    batch_size: int = 8,
) -> Robustness:
    """Score a detector under each corruption under the first protocol of its clean evaluation report.

    Args:
        model: the detector.
        data: folder that holds the splits.
        card: the detector's clean evaluation report on one of them.
        names: of ``CORRUPTIONS``, or ("all",).
        severities: which of 1 to 5.
        seed: of what is random in the corruptions.
        batch_size: windows at a time.

    Raises:
        ConfigError: unknown corruption or impossible severity.
        DatasetError: the folder does not hold what it should.
    """
    faults = [Fault(name, severity, seed) for name in corruption_names(names) for severity in severities]
    clean, clean_rate = next(iter(card.scores.values())), card.rates.overall()
    scored = []
    for fault in faults:
        dataset = dataset_for(model, data, card.split)
        dataset.fault = fault
        rates = FiringRates.of(model)
        predictions = predict(
            model, dataset, batch_size=batch_size, observe=rates, scale=card.scaling.scales, mode=card.mode
        )
        score = predictions.score(clean.protocol)
        rate = rates.overall()
        scored.append(FaultScore(fault, score, _over(score.ap, clean.ap), rate, _over(rate, clean_rate)))
    return Robustness(card.split, clean, clean_rate, tuple(scored))


def _over(value: float, clean: float) -> float:
    return value / clean if clean > 0 else math.nan


def save(result: Robustness, out: str | os.PathLike[str], *, notes: Mapping[str, Any] | None = None) -> dict[str, Path]:
    """Write ``robustness.json`` and ``robustness.png`` and return both paths as "json" and "plot"."""
    out = Path(out)
    values = {**result.to_dict(), **(notes or {}), "provenance": collect_provenance(seed=result.faults[0].fault.seed)}
    paths = {"json": write_json(out / "robustness.json", values), "plot": out / "robustness.png"}
    plot({"": result.to_dict()}, paths["plot"])
    return paths


def plot(results: Mapping[str, Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """Plot AP kept (solid) and firing rate (dashed), both as shares of the clean ones, over the severity.

    Args:
        results: label of each detector and its ``Robustness.to_dict()``; all hold the same corruptions.
        path: the picture to write; the suffix chooses png, svg or pdf.
    """
    from matplotlib.figure import Figure

    colors = itertools.cycle(("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"))
    of_detector = dict(zip(results, colors, strict=False))
    names = list(next(iter(results.values()))["corruptions"])
    across = min(3, len(names))
    down = -(-len(names) // across)
    figure = Figure(figsize=(3.6 * across, 2.7 * down), dpi=130, layout="constrained")
    for place, name in enumerate(names, start=1):
        axes = figure.add_subplot(down, across, place)
        for label, result in results.items():
            rows = result["corruptions"][name]["severities"]
            severity = [0, *(row["severity"] for row in rows)]
            for key, what, line in (("retention", "AP kept", "-"), ("firing_ratio", "firing rate / clean", "--")):
                values = [1.0, *(math.nan if row[key] is None else row[key] for row in rows)]
                axes.plot(severity, values, line, color=of_detector[label], marker=".", label=f"{label} {what}".strip())
        axes.set_title(name.replace("_", " "), fontsize=10)
        axes.set_xlabel("severity", fontsize=9)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if place == 1:
            axes.legend(frameon=False, fontsize=8)
    with atomic_write(path) as temporary:
        figure.savefig(temporary)

"""What a study found: mean and deviation over the seeds, compared with the baseline; Markdown, CSV, JSON, plot."""

import csv
import dataclasses
import io
import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spiking_centernet.errors import EvaluationError
from spiking_centernet.evaluation.significance import (
    ENOUGH_SEEDS,
    Comparison,
    compare,
    draw_weights,
    load_matches,
    resampled_ap,
    same_recordings,
)
from spiking_centernet.experiments.study.plan import Plan, Row, Run, Test
from spiking_centernet.experiments.study.runs import SCORES, matches_path, read_outcome
from spiking_centernet.training.config import config_of
from spiking_centernet.utils.files import atomic_write
from spiking_centernet.utils.provenance import collect_provenance, write_json
from spiking_centernet.utils.text import counted


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        row: its name.
        test: how it was tested, None where only as it was trained.
        seeds: of the runs that came to their end.
        failed: what ended the others, by seed; "not run yet" where nothing did.
        mean: of "ap", "ap50" and "firing_rate" over the seeds, NaN where there is none.
        std: sample standard deviation over the seeds, NaN for fewer than two.
        dense_operations: multiply-accumulates a time step, as if every input were non-zero.
        num_steps: time steps of a window.
        parameters: of the network.
        train_s: mean seconds of training.
        steps: of training.
        comparison: with the baseline, None for the baseline itself and where no seed is shared.
    """

    row: str
    test: str | None
    seeds: tuple[int, ...]
    failed: dict[int, str]
    mean: dict[str, float]
    std: dict[str, float]
    dense_operations: int
    num_steps: int
    parameters: int
    train_s: float
    steps: int
    comparison: Comparison | None


@dataclass(frozen=True)
class Summary:
    """A study's table and where its numbers come from."""

    name: str
    lines: tuple[Line, ...]
    about: dict[str, Any]

    @property
    def num_failed(self) -> int:
        """Runs that did not come to their end."""
        return sum(len(line.failed) for line in {line.row: line for line in self.lines}.values())

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        lines = [_jsonable(dataclasses.asdict(line)) for line in self.lines]
        for line, plain in zip(self.lines, lines, strict=True):
            if line.comparison is not None:
                plain["comparison"]["significant"] = line.comparison.significant
        return {"study": self.name, **self.about, "lines": lines}


def summarize(plan: Plan, runs: Sequence[Run], *, data: str, jobs: int = 1) -> Summary:
    """Return the table of what the runs' folders hold.

    Args:
        plan: of the study.
        runs: of the study.
        data: what they were trained on.
        jobs: runs at a time, which train times depend on.
    """
    by_row = {row.name: [run for run in runs if run.row.name == row.name] for row in plan.rows}
    resampled: dict[tuple[str, Test], dict[int, np.ndarray]] = {}
    num_recordings, first = 0, None
    for name, group in by_row.items():
        for run in group:
            if not _ended(read_outcome(run)):
                continue
            for test in plan.tests(config_of(run.recipe)):
                matches = load_matches(matches_path(run, test))
                first = first or matches
                if not same_recordings([first, matches]):
                    raise EvaluationError(f"{run.folder}: was scored on other recordings than the first run; remove it")
                num_recordings = len(matches.recordings)
                weights = draw_weights(num_recordings, plan.resamples)
                resampled.setdefault((name, test), {})[run.recipe.seed] = resampled_ap(matches, weights)
    base_runs = by_row[plan.baseline]
    reference = (plan.baseline, plan.tests(config_of(base_runs[0].recipe))[0])
    lines = []
    for row in plan.rows:
        tests = plan.tests(config_of(by_row[row.name][0].recipe))
        for test in tests:
            comparison = None
            if (row.name, test) != reference:
                comparison = _compare(resampled.get((row.name, test), {}), resampled.get(reference, {}), num_recordings)
            lines.append(_line(row, test, by_row[row.name], comparison, several=len(tests) > 1))
    about = {
        "baseline": plan.baseline, "split": plan.split, "protocol": plan.protocol, "data": data,
        "seeds": list(plan.seeds), "recordings": num_recordings, "resamples": plan.resamples,
        "equal_budget": plan.equal_budget, "jobs": jobs,
        "runs": [_of_run(run) for run in runs], "provenance": collect_provenance(),
    }  # fmt: skip
    return Summary(plan.name, tuple(lines), about)


def _ended(outcome: dict[str, Any] | None) -> bool:
    return outcome is not None and "failed" not in outcome


def _of_run(run: Run) -> dict[str, Any]:
    outcome = read_outcome(run)
    return {"row": run.row.name, "seed": run.recipe.seed, "failed": "not run yet"} if outcome is None else outcome


def _compare(ours: dict[int, np.ndarray], theirs: dict[int, np.ndarray], num_recordings: int) -> Comparison | None:
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        return None
    a, b = (np.stack([side[seed] for seed in shared]) for side in (ours, theirs))
    return compare(a, b, num_recordings=num_recordings)


def _line(row: Row, test: Test, runs: Sequence[Run], comparison: Comparison | None, *, several: bool) -> Line:
    ended, failed = {}, {}
    for run in runs:
        outcome = read_outcome(run)
        if outcome is None:
            failed[run.recipe.seed] = "not run yet"
        elif "failed" in outcome:
            failed[run.recipe.seed] = outcome["failed"]
        else:
            ended[run.recipe.seed] = outcome
    tested = [next(t for t in o["tests"] if t["name"] == test.name) for o in ended.values()]
    values = {key: [math.nan if t[key] is None else t[key] for t in tested] for key in SCORES}
    first = next(iter(ended.values()), None)
    return Line(
        row=row.name,
        test=test.name if several else None,
        seeds=tuple(ended),
        failed=failed,
        mean={key: statistics.fmean(v) if v else math.nan for key, v in values.items()},
        std={key: float(np.std(v, ddof=1)) if len(v) > 1 else math.nan for key, v in values.items()},
        dense_operations=tested[0]["dense_operations"] if tested else 0,
        num_steps=test.num_steps,
        parameters=first["parameters"] if first else 0,
        train_s=statistics.fmean(o["train_s"] for o in ended.values()) if ended else math.nan,
        steps=first["steps"] if first else 0,
        comparison=comparison,
    )


HEADER = (
    "row", "AP", "AP50", "firing rate", "dense ops a step", "steps", "parameters", "train time", "seeds",
    "AP against the baseline",
)  # fmt: skip


def cells(line: Line) -> tuple[str, ...]:
    """Return a line as the words of :data:`HEADER`; a failed run shows in the seeds."""
    if not line.seeds:
        reasons = "; ".join(sorted(set(line.failed.values())))
        return (_name(line), *("-",) * 7, f"0 of {len(line.failed)}", reasons)
    runs = len(line.seeds) + len(line.failed)
    seeds = f"{len(line.seeds)}" if not line.failed else f"{len(line.seeds)} of {runs}, {len(line.failed)} failed"
    return (
        _name(line), _spread(line, "ap", 3), _spread(line, "ap50", 3), _spread(line, "firing_rate", 1, 100, " %"),
        f"{line.dense_operations / 1e6:.0f} M", str(line.num_steps), f"{line.parameters / 1e6:.2f} M",
        f"{line.train_s / 60:.1f} min", seeds, line.comparison.describe() if line.comparison else "-",
    )  # fmt: skip


def _name(line: Line) -> str:
    return line.row if line.test is None else f"{line.row}, tested {line.test}"


def _spread(line: Line, key: str, digits: int, factor: float = 1, unit: str = "") -> str:
    mean, std = line.mean[key] * factor, line.std[key] * factor
    if math.isnan(mean):
        return "-"
    return f"{mean:.{digits}f}{unit}" if math.isnan(std) else f"{mean:.{digits}f} ± {std:.{digits}f}{unit}"


def markdown(summary: Summary) -> str:
    """Return the table with a line that says what was measured."""
    rule = ["---", *["---:"] * (len(HEADER) - 2), "---"]
    rows = [HEADER, rule, *map(cells, summary.lines)]
    table = "\n".join("| " + " | ".join(text.replace("|", "/") for text in row) + " |" for row in rows)
    return f"{table}\n\n{caption(summary.to_dict())}\n"


def caption(result: dict[str, Any]) -> str:
    """Return the sentences below a table, from a study's JSON."""
    failed = sum("failed" in run for run in result["runs"])
    return (
        f"Mean ± standard deviation over {counted(len(result['seeds']), 'seed')}, "
        f"{counted(result['recordings'], 'recording')} of split "
        f"`{result['split']}`, protocol `{result['protocol']}`; baseline: {result['baseline']}. Last column: "
        f"difference of the means, 95 % interval and p-value {_method(len(result['seeds']))} "
        f"({result['resamples']} resamples of the recordings), not corrected for the number of rows. "
        + ("Every row trained on the same number of windows. " if result["equal_budget"] else "Budgets differ. ")
        + (f"{failed} of {counted(len(result['runs']), 'run')} failed. " if failed else "")
        + f"Train time: median step times steps, {counted(result['jobs'], 'run')} at a time."
    )


def _method(num_seeds: int) -> str:
    if num_seeds == 1:
        return "of a paired bootstrap over recordings"
    if num_seeds < ENOUGH_SEEDS:
        return "by Student's t, its standard error from seeds and recordings"
    return "of a paired bootstrap over seeds and recordings"


def read_lines(result: dict[str, Any]) -> list[Line]:
    """Return the lines of a study's JSON."""
    lines = []
    for values in result["lines"]:
        plain = dict(values)
        for key in ("mean", "std"):
            plain[key] = {k: math.nan if v is None else v for k, v in plain[key].items()}
        plain["train_s"] = math.nan if plain["train_s"] is None else plain["train_s"]
        plain["seeds"] = tuple(plain["seeds"])
        plain["failed"] = {int(seed): reason for seed, reason in plain["failed"].items()}
        if plain["comparison"] is not None:
            known = [field.name for field in dataclasses.fields(Comparison)]
            plain["comparison"] = Comparison(**{k: _or_nan(plain["comparison"][k]) for k in known})
        lines.append(Line(**plain))
    return lines


def _or_nan(value: Any) -> Any:
    return math.nan if value is None else value


def save(summary: Summary, out: str | os.PathLike[str]) -> dict[str, Path]:
    """Write ``study.md``, ``study.csv``, ``study.json`` and ``study.png``; return the files by kind."""
    out = Path(out)
    paths = {kind: out / f"study.{kind}" for kind in ("md", "csv", "json", "png")}
    with atomic_write(paths["md"]) as temporary:
        temporary.write_text(markdown(summary), encoding="utf-8")
    text = io.StringIO(newline="")
    rows = [_flat(line) for line in summary.lines]
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    with atomic_write(paths["csv"]) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
    write_json(paths["json"], summary.to_dict())
    _plot(summary, paths["png"])
    return paths


def _flat(line: Line) -> dict[str, Any]:
    compared = dataclasses.asdict(line.comparison) if line.comparison else {}
    return {
        "row": line.row, "test": line.test or "", "num_seeds": len(line.seeds), "num_failed": len(line.failed),
        **{f"{key}_{what}": _blank(getattr(line, what)[key]) for key in SCORES for what in ("mean", "std")},
        "dense_operations": line.dense_operations, "num_steps": line.num_steps, "parameters": line.parameters,
        "train_s": _blank(line.train_s), "steps": line.steps,
        **{name: _blank(compared.get(name, math.nan)) for name in ("difference", "low", "high", "p_value")},
    }  # fmt: skip


def _blank(value: float) -> float | str:
    return "" if isinstance(value, float) and math.isnan(value) else value


def _plot(summary: Summary, path: Path) -> None:
    from matplotlib.figure import Figure

    lines = [line for line in summary.lines if line.seeds and math.isfinite(line.mean["ap"])]
    figure = Figure(figsize=(7, 1.2 + 0.34 * max(1, len(lines))), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    for place, line in enumerate(lines):
        std = line.std["ap"]
        color = "#0072B2" if line.row == summary.about["baseline"] else "#D55E00"
        axes.errorbar(line.mean["ap"], place, xerr=None if math.isnan(std) else std, fmt="o", capsize=4, color=color)
    axes.set_yticks(range(len(lines)), [_name(line) for line in lines])
    axes.invert_yaxis()
    axes.set_xlabel(f"AP, split {summary.about['split']}, protocol {summary.about['protocol']}: mean and deviation")
    axes.grid(alpha=0.25, axis="x")
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary)


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

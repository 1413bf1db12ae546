"""Studies: what varies, the runs of it, and one table with mean, deviation and a significance test."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spiking_centernet.experiments.study.plan import Plan as Plan
from spiking_centernet.experiments.study.plan import read_plan as read_plan
from spiking_centernet.experiments.study.runs import run_all
from spiking_centernet.experiments.study.table import Summary as Summary
from spiking_centernet.experiments.study.table import save, summarize


def run_study(
    path: str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    jobs: int = 1,
    reuse: Sequence[str | os.PathLike[str]] = (),
    changes: dict[str, Any] | None = None,
) -> Summary:
    """Run what of a study is not finished, and write ``study.md``, ``.csv``, ``.json`` and ``.png``.

    Args:
        path: the study's YAML file.
        data: folder that holds train, val and the split to score.
        out: folder for the runs and the table; finished runs in it are kept, interrupted ones continued.
        jobs: runs at a time.
        reuse: folders of other studies; a run that one of them has trained is tested here, not trained again.
        changes: recipe fields to change in every run, beyond the study's own.

    Raises:
        ConfigError: the study is wrong; nothing has run then.
    """
    plan = read_plan(path, changes=changes)
    runs = plan.runs(Path(out))
    run_all(plan, runs, data, jobs=jobs, reuse=reuse)
    summary = summarize(plan, runs, data=os.fspath(data), jobs=jobs)
    save(summary, out)
    return summary

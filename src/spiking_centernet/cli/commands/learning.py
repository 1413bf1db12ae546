"""Commands that train: one run, or the runs of an ablation study."""

from pathlib import Path
from typing import Any

from spiking_centernet.cli import output
from spiking_centernet.cli.values import PositiveInt
from spiking_centernet.utils.text import counted


def train(
    recipe: str | None = None,
    *,
    data: str,
    out: Path | None = None,
    resume: bool = False,
    json: bool = False,
    **fields: Any,
) -> None:
    """Train a detector on a folder, by a recipe of which every field can be overridden.

    Args:
        recipe: YAML file, or name of a bundled recipe; null: fine-tune on few labeled frames, from scratch on many
        data: folder that holds train and val
        out: the run folder; null: runs/NAME, named like the data
        resume: continue the run in the run folder
        json: print one JSON document at the end
        **fields: of the recipe

    Example:
        scn train fine_tune --data mine --weights small --freeze encoder
    """
    from spiking_centernet.training.config import make_recipe
    from spiking_centernet.training.run_dir import default_run_folder
    from spiking_centernet.training.trainer import train as train_detector

    out = out or default_run_folder(data)
    train_detector(make_recipe(fields), data, out=out, resume=resume)
    best = out / "best.safetensors"
    if json:
        output.write_document({"recipe": recipe, "data": data, "run_folder": out, "best": best})
        return
    output.show_text(f"best weights: {best}\nscore them: scn val {best} --data {data}")


def study(
    file: Path,
    *,
    data: str,
    out: Path,
    jobs: PositiveInt = 1,
    reuse: list[Path] = [],  # noqa: B006
    set: dict | None = None,
    plan: bool = False,
    json: bool = False,
) -> None:
    """Run an ablation study, or resume it; one table with a significance test.

    Args:
        file: YAML file that names a recipe, what varies and the seeds
        data: folder that holds train, val and test
        out: folder for the runs and the table
        jobs: runs at a time; they share the cores
        reuse: folders of studies whose equal runs are taken over
        set: changes for every run, for example '{epochs: 1}'
        plan: check the study and list its runs, train nothing
        json: print the table as one JSON document

    Example:
        scn study recipes/studies/distillation.yaml --data roads --out studies/distillation --jobs 2
    """
    from spiking_centernet.experiments.study import read_plan, run_study
    from spiking_centernet.experiments.study.table import HEADER, caption, cells

    if plan:
        read = read_plan(file, changes=set)
        runs = read.runs(out)
        rows = [(run.row.name, run.recipe.seed, run.recipe.epochs, str(run.folder)) for run in runs]
        header = ("row", "seed", "epochs", "folder")
        if json:
            output.write_document({"study": read.name, "runs": [dict(zip(header, row, strict=True)) for row in rows]})
        else:
            output.show_table(f"{read.name}: {counted(len(runs), 'run')}", header, rows)
        return
    summary = run_study(file, data, out=out, jobs=jobs, reuse=reuse, changes=set)
    if json:
        output.write_document(summary.to_dict())
        return
    output.show_table(summary.name, HEADER, [cells(line) for line in summary.lines])
    output.show_text(f"{caption(summary.to_dict())}\nwrote {out / 'study.md'} and .csv, .json, .png")

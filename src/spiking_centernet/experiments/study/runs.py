"""The runs of a study: each in its folder, trained, tested and noted; finished ones skipped, failed ones reported."""

import dataclasses
import json
import logging
import math
import multiprocessing
import os
import shutil
import statistics
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

from spiking_centernet.data import FolderDataset
from spiking_centernet.data.fingerprint import fingerprint_of
from spiking_centernet.errors import ConfigError
from spiking_centernet.evaluation.prediction import predict
from spiking_centernet.evaluation.significance import match_recordings, save_matches
from spiking_centernet.experiments.study.plan import Plan, Run, Test
from spiking_centernet.model import Detector
from spiking_centernet.model.config_dict import config_to_dict, is_format_1, nested_from_format_1
from spiking_centernet.model.firing_rate import FiringRates
from spiking_centernet.model.graph import dense_macs
from spiking_centernet.model.weights import load, notes, sha256
from spiking_centernet.training.config import config_of
from spiking_centernet.training.recorded import changed_settings, told
from spiking_centernet.training.run_dir import BEST, METRICS, read_metrics
from spiking_centernet.training.trainer import train
from spiking_centernet.utils.files import atomic_write
from spiking_centernet.utils.provenance import num_cores, write_json
from spiking_centernet.utils.text import counted

LOG = logging.getLogger(__name__)

OUTCOME = "outcome.json"
KEY_NAMES = {"row", "seed", "recipe", "split", "protocol", "test_names"}
"""What every outcome holds, also that of a failed run."""

SCORES = ("ap", "ap50", "firing_rate")
"""What the table shows of a test."""


def run_all(
    plan: Plan,
    runs: Sequence[Run],
    data: str | os.PathLike[str],
    *,
    jobs: int,
    reuse: Sequence[str | os.PathLike[str]] = (),
) -> None:
    """Bring every run to its end; one that fails is noted in its folder and does not stop the others.

    Args:
        plan: of the study.
        runs: what to run.
        data: folder that holds the splits.
        jobs: runs at a time.
        reuse: folders of other studies, whose weights are taken where recipe, seed, data and teacher are the same.

    Raises:
        ConfigError: jobs is not positive, a folder holds a run of another recipe, or one of ``reuse`` holds no study.
    """
    if jobs < 1:
        raise ConfigError(f"jobs must be at least 1, got {jobs}")
    for folder in reuse:
        if not (Path(folder) / "runs").is_dir():
            raise ConfigError(f"{os.fspath(folder)}: holds no runs of a study; name the --out of one to reuse")
    left = [run for run in runs if not _finished(plan, run)]
    LOG.info("%s, %d finished before", counted(len(runs), "run"), len(runs) - len(left))
    if jobs == 1:
        # Seed by seed, as the runs come: a study that is stopped early leaves whole seeds.
        for run in left:
            LOG.info("%s ...", run.name)
            LOG.info("%s", _told(run, execute(plan, run, data, reuse=reuse)))
        return
    # Teachers first: they are what the others wait for.
    for wave in ([r for r in left if r.row.teacher_row is None], [r for r in left if r.row.teacher_row is not None]):
        threads = max(1, num_cores() // jobs)
        with ProcessPoolExecutor(min(jobs, max(1, len(wave))), mp_context=multiprocessing.get_context("spawn")) as pool:
            futures: dict[Future[dict[str, Any]], Run] = {
                pool.submit(execute, plan, run, data, num_threads=threads, reuse=reuse): run for run in wave
            }
            try:
                for future in as_completed(futures):
                    run = futures[future]
                    error = future.exception()
                    outcome = future.result() if error is None else _failed(plan, run, error)
                    LOG.info("%s", _told(run, outcome))
            finally:
                pool.shutdown(cancel_futures=True)  # Ctrl-C stops what has not begun too


def execute(
    plan: Plan, run: Run, data: str | os.PathLike[str], *, num_threads: int | None = None,
    reuse: Sequence[str | os.PathLike[str]] = (),
) -> dict[str, Any]:  # fmt: skip
    """Train a run, resume it or take its weights from another study, test it, and return what is noted of it."""
    if num_threads is not None:
        _limit_threads(num_threads)
    try:
        source = _same_run(plan, run, data, reuse)
        if source is None:
            model = train(run.recipe, data, out=run.folder, resume=True)
        else:
            _copy_weights(source, run.folder)
            model = load(run.folder / BEST)
        outcome = {
            **_key(plan, run), "data": os.fspath(data), **({"weights_from": str(source)} if source else {}),
            **_costs(model, run), "tests": _tests(plan, run, model, data),
        }  # fmt: skip
    except Exception as error:
        # Whatever ends one run must not end the study: the table shows it.
        return _failed(plan, run, error)
    write_json(run.folder / OUTCOME, outcome)
    return outcome


def _same_run(
    plan: Plan, run: Run, data: str | os.PathLike[str], reuse: Sequence[str | os.PathLike[str]]
) -> Path | None:
    """Return the folder of a finished run that trained what this one would, or None."""
    if (run.folder / "config.yaml").is_file():
        return None  # it has begun by itself
    recipe = _key(plan, run)["recipe"]
    teacher = run.recipe.teacher and sha256(run.recipe.teacher)
    for noted in sorted(path for folder in reuse for path in Path(folder).glob(f"runs/*/*/{OUTCOME}")):
        outcome = _read_outcome(noted)
        if "failed" in outcome or Path(outcome["data"]).resolve() != Path(data).resolve():
            continue
        # A teacher is named by its row, whose name says nothing: its weights are compared.
        if changed_settings(outcome["recipe"], recipe).keys() <= {"teacher"} and outcome["teacher_sha256"] == teacher:
            return noted.parent
    return None


def _copy_weights(source: Path, folder: Path) -> None:
    for name in (METRICS, BEST):
        with atomic_write(folder / name) as temporary:
            shutil.copyfile(source / name, temporary)


def read_outcome(run: Run) -> dict[str, Any] | None:
    """Return what is noted of a run, None before its end.

    Raises:
        ConfigError: the notes are damaged.
    """
    path = run.folder / OUTCOME
    return _read_outcome(path) if path.is_file() else None


def _read_outcome(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(
            path.read_text(encoding="utf-8"), parse_constant=_number, parse_float=_number, parse_int=_number
        )
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not _is_outcome(found):
        raise ConfigError(f"{path}: is damaged; remove it, and the run is tested again")
    network = found["recipe"].get("network")
    if isinstance(network, dict) and is_format_1(network):
        try:
            found["recipe"]["network"] = nested_from_format_1(network)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}; remove it, and the run is tested again") from error
    return found


def _number(text: str) -> int | float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no value of a run")
    return value if any(mark in text for mark in ".eE") else int(text)


def _is_outcome(found: dict[str, Any]) -> bool:
    """Return whether everything is there that is read of a run's notes, and is of its kind."""
    if not found.keys() >= KEY_NAMES or not isinstance(found["recipe"], dict):
        return False
    if "failed" in found:
        return isinstance(found["failed"], str)
    tests = found.get("tests")
    if not isinstance(tests, list) or not all(isinstance(test, dict) and test.keys() >= {*SCORES} for test in tests):
        return False
    numbers = [found.get(name) for name in ("parameters", "steps", "train_s")]
    numbers += [test.get("dense_operations") for test in tests]
    # None where there was no box to score.
    numbers += [test[name] for test in tests for name in SCORES if test[name] is not None]
    named = isinstance(found.get("data"), str) and [test.get("name") for test in tests] == found["test_names"]
    return named and "teacher_sha256" in found and all(type(n) in (int, float) for n in numbers)


def matches_path(run: Run, test: Test) -> Path:
    """Return where the matches of a test lie."""
    return run.folder / f"matches_{test.num_steps}_steps_{test.window_us}_us.npz"


def _key(plan: Plan, run: Run) -> dict[str, Any]:
    """What an outcome holds for: another recipe or another way of testing needs another one."""
    tests = [test.name for test in plan.tests(config_of(run.recipe))]
    values = {
        "row": run.row.name, "seed": run.recipe.seed, "recipe": _plain(run), "split": plan.split,
        "protocol": plan.protocol, "test_names": tests,
    }  # fmt: skip
    return json.loads(json.dumps(values))


def _plain(run: Run) -> dict[str, Any]:
    values = dataclasses.asdict(run.recipe) | {"network": config_to_dict(config_of(run.recipe))}
    if run.row.teacher_row is not None:
        values["teacher"] = run.row.values["teacher"]
    return values


def _finished(plan: Plan, run: Run) -> bool:
    outcome = read_outcome(run)
    if outcome is None:
        return False
    key = _key(plan, run)
    if "failed" in outcome:
        return False
    changed = changed_settings(outcome["recipe"], key.pop("recipe"))
    if changed:
        raise ConfigError(
            f"{run.folder}: holds a run of another recipe ({told(changed)}); choose another --out or remove it"
        )
    return all(outcome[name] == value for name, value in key.items())


def _failed(plan: Plan, run: Run, error: BaseException) -> dict[str, Any]:
    outcome = {**_key(plan, run), "failed": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    write_json(run.folder / OUTCOME, outcome)
    return outcome


def _told(run: Run, outcome: dict[str, Any]) -> str:
    if "failed" in outcome:
        return f"{run.name}: FAILED, {outcome['failed']}"
    first = outcome["tests"][0]
    ap = "no box to score" if first["ap"] is None else f"AP {first['ap']:.3f}"
    how = (
        f"weights of {outcome['weights_from']}"
        if "weights_from" in outcome
        else f"trained in {outcome['train_s']:.0f} s"
    )
    return f"{run.name}: {ap}, {how}"


def _costs(model: Detector, run: Run) -> dict[str, Any]:
    rows = [row for row in read_metrics(run.folder / METRICS) if row.get("loss") is not None]
    best = notes(run.folder)
    steps = int(rows[-1]["step"] or 0)
    if (last := read_metrics(run.folder / METRICS)[-1]["step"]) is not None:
        steps = max(steps, int(last))
    # The median times the steps: a run may have been stopped, and its first steps compile.
    seconds = statistics.median(row["seconds"] or 0.0 for row in rows)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": steps,
        "step_s": seconds,
        "train_s": seconds * steps,
        "best_epoch": best["epoch"],
        "validation_ap": best["validation"]["ap"],
        "teacher_sha256": best.get("teacher_sha256"),
    }


def _tests(plan: Plan, run: Run, model: Detector, data: str | os.PathLike[str]) -> list[dict[str, Any]]:
    config = model.config
    found = []
    for test in plan.tests(config):
        spec = dataclasses.replace(config.voxels, window_us=test.window_us, num_steps=test.num_steps)
        dataset = FolderDataset(data, plan.split, spec, classes=config.classes)
        if spec.mode == "direct" and spec.num_steps != model.config.voxels.num_steps:
            # The cube of a picture does not say how many steps see it.
            weights, model = model.state_dict(), Detector(dataclasses.replace(config, voxels=spec))
            model.load_state_dict(weights)
        size_hw = (spec.frame_hw[0], spec.frame_hw[1]) if spec.takes_frames else None
        rates = FiringRates.of(model)
        predictions = predict(model, dataset, batch_size=run.recipe.batch_size, observe=rates)
        score = predictions.score(plan.protocol).to_dict()
        save_matches(match_recordings(predictions, plan.protocol), matches_path(run, test))
        found.append(
            {
                "name": test.name, "num_steps": test.num_steps, "window_us": test.window_us,
                **{k: v for k, v in score.items() if k != "classes"},
                "classes": {c["name"]: {"ap": c["ap"], "ap50": c["ap50"]} for c in score["classes"]},
                "fingerprint": fingerprint_of(dataset),
                "firing_rate": rates.overall(),
                "dense_operations": dense_macs(model, size_hw or predictions.size_hw),
            }
        )  # fmt: skip
    return found


def _limit_threads(num_threads: int) -> None:
    import numba

    # numba comes first: starting its threads, it sets the number of PyTorch's as well, to that of the cores.
    numba.set_num_threads(min(num_threads, numba.config.NUMBA_NUM_THREADS))  # pyright: ignore
    torch.set_num_threads(num_threads)

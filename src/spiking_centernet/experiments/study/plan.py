"""A study's YAML file -> its rows and runs, everything checked before anything runs."""

import dataclasses
import itertools
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.evaluation.metrics import get_protocol
from spiking_centernet.model import DetectorConfig
from spiking_centernet.model.config_dict import LARGEST, flat
from spiking_centernet.training import distillation
from spiking_centernet.training.config import NESTED, Recipe, config_of, make_recipe, parse_recipe, read_yaml
from spiking_centernet.training.run_dir import BEST

ROW = "row:"
"""``teacher: "row:NAME"`` takes the weights that row NAME trained with the same seed."""

FIELDS = (
    "recipe", "set", "seeds", "axes", "combine", "rows", "base", "baseline", "split", "protocol", "test_steps",
    "budget", "resamples",
)  # fmt: skip
MAX_STEPS = LARGEST["voxels.num_steps"]
MAX_RESAMPLES = 1_000_000
MAX_ROWS = 1000
"""More runs than anybody trains, and few enough to check at once."""
COMBINE = ("each", "product")
HOLD = ("same_window", "same_step")


@dataclass(frozen=True)
class Test:
    """How many steps a trained network is tested with, and over which window in microseconds."""

    __test__ = False  # pytest would take it for a test

    num_steps: int
    window_us: int

    @property
    def name(self) -> str:
        """What the table calls it, for example "5 x 20 ms"."""
        return f"{self.num_steps} x {self.window_us / self.num_steps / 1000:.4g} ms"


@dataclass(frozen=True)
class Row:
    """One line of the table: a name, and the recipe fields that make it, nested ones in mappings."""

    name: str
    values: Mapping[str, Any]

    @property
    def teacher_row(self) -> str | None:
        """The row whose weights are this row's teacher."""
        teacher = self.values.get("teacher")
        return teacher.removeprefix(ROW) if isinstance(teacher, str) and teacher.startswith(ROW) else None


@dataclass(frozen=True)
class Run:
    """One training run: its row, its seed, its recipe and its folder."""

    row: Row
    recipe: Recipe
    folder: Path

    @property
    def name(self) -> str:
        """What the user is told."""
        return f"{self.row.name}, seed {self.recipe.seed}"


@dataclass(frozen=True)
class Plan:
    """A checked study.

    Attributes:
        name: of the study: its file's name.
        rows: in the order of the table; a teacher's row may stand anywhere.
        seeds: of every row.
        split: what is scored after training.
        protocol: under which.
        baseline: name of the row that others are compared with.
        test_steps: how trained networks are tested besides as they were trained.
        equal_budget: whether every row trains on the same number of windows.
        resamples: of the bootstrap.
    """

    name: str
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    split: str
    protocol: str
    baseline: str
    test_steps: Mapping[str, tuple[int, ...]]
    equal_budget: bool
    resamples: int

    def runs(self, out: Path) -> list[Run]:
        """Return every run, those that teach before those that learn from them."""
        ordered = sorted(self.rows, key=lambda row: row.teacher_row is not None)
        return [self.run(row, seed, out) for seed in self.seeds for row in ordered]

    def run(self, row: Row, seed: int, out: Path) -> Run:
        """Return the run of a row and a seed."""
        values = {**row.values, "seed": seed}
        if row.teacher_row is not None:
            values["teacher"] = str(folder_of(out, row.teacher_row, seed) / BEST)
        return Run(row, make_recipe(parse_recipe(values, row.name)), folder_of(out, row.name, seed))

    def tests(self, config: DetectorConfig) -> list[Test]:
        """Return how a network is tested, as it was trained first."""
        num_steps, window_us = config.voxels.num_steps, config.voxels.window_us
        tests = [Test(num_steps, window_us)]
        tests += [Test(n, window_us) for n in self.test_steps.get("same_window", ())]
        tests += [Test(n, n * window_us // num_steps) for n in self.test_steps.get("same_step", ())]
        return list(dict.fromkeys(tests))


def folder_of(out: Path, row: str, seed: int) -> Path:
    """Return the folder of a run."""
    name = re.sub(r"[^\w.=+-]+", "_", row).lstrip(".")  # a row called ".." must not lead elsewhere
    return out / "runs" / (name or "_") / f"seed{seed}"


def read_plan(path: str | os.PathLike[str], *, changes: Mapping[str, Any] | None = None) -> Plan:
    """Return the study of a YAML file.

    Args:
        path: the file; the recipe it names is looked for next to it.
        changes: recipe fields to change in every row, dotted names or nested mappings.

    Raises:
        ConfigError: a name is unknown, a value impossible, or the rows are not comparable.
    """
    path = Path(path)
    values = read_yaml(path, "study", deepest=6)
    for name in values:
        if name not in FIELDS:
            raise ConfigError(f"{path}: unknown study field {name!r}{did_you_mean(str(name), FIELDS)}")
    if not isinstance(values.get("recipe"), str):
        raise ConfigError(f"{path}: name the recipe that the study varies, for example recipe: ../nano_snn.yaml")
    base = read_yaml(path.parent / values["recipe"])
    for more in (_mapping(values, "set", path), changes or {}):
        base = merged(base, more, str(path))
    rows = _rows(values, base, path)
    names = [row.name for row in rows]
    seeds = values.get("seeds", [0])
    if not isinstance(seeds, list) or not seeds or len(set(map(str, seeds))) != len(seeds):
        raise ConfigError(f"{path}: seeds must be a list of different whole numbers, got {seeds!r}")
    baseline = values.get("baseline", names[0])
    if baseline not in names:
        raise ConfigError(f"{path}: baseline {baseline!r} is no row{did_you_mean(str(baseline), names)}")
    plan = Plan(
        name=path.stem, rows=rows, seeds=tuple(seeds), split=str(values.get("split", "val")),
        protocol=get_protocol(str(values.get("protocol", "prophesee"))).name, baseline=baseline,
        test_steps=_test_steps(values, path), equal_budget=_budget(values, path),
        resamples=values.get("resamples", 1000),
    )  # fmt: skip
    if not isinstance(plan.resamples, int) or not 100 <= plan.resamples <= MAX_RESAMPLES:
        raise ConfigError(
            f"{path}: resamples must be a whole number from 100 to {MAX_RESAMPLES}, got {plan.resamples!r}"
        )
    _check_runs(plan, path)
    return plan


def merged(values: Mapping[str, Any], changes: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return recipe fields with changes applied; ``augmentation.flip: 0`` changes one setting of a nested field."""
    result = dict(values)
    for name, value in changes.items():
        first, _, rest = str(name).partition(".")
        if first == "network":
            result[first] = _merged_network(result.get(first), {rest: value} if rest else value, where)
            continue
        if "." in rest:
            raise ConfigError(f"{where}: {str(name)[:100]}: settings lie one deep, as in augmentation.flip; correct it")
        if not rest and not (isinstance(value, Mapping) and first in NESTED):
            result[first] = value
            continue
        inner = result.get(first)
        if inner is not None and not isinstance(inner, Mapping):
            raise ConfigError(f"{where}: {name}: {first} is {inner!r} and has no settings")
        result[first] = merged(inner or {}, {rest: value} if rest else value, where)
    return result


def _merged_network(values: Any, changes: Any, where: str) -> dict[str, Any]:
    """Return changes of the network by dotted name, the later ones counting."""
    try:
        return flat({} if values is None else values) | flat({} if changes is None else changes)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _mapping(values: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    found = values.get(name) or {}
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: {name} must map names to values, got {found!r}")
    return found


def _rows(values: Mapping[str, Any], base: dict[str, Any], path: Path) -> tuple[Row, ...]:
    axes, named = _mapping(values, "axes", path), _mapping(values, "rows", path)
    combine = values.get("combine", "each")
    if combine not in COMBINE:
        raise ConfigError(f"{path}: unknown combine {combine!r}{did_you_mean(str(combine), COMBINE)}")
    for name, settings in axes.items():
        if not isinstance(name, str):
            raise ConfigError(f"{path}: an axis must name a setting of the recipe, got {name!r}; correct it")
        if not isinstance(settings, list) or not settings:
            raise ConfigError(f"{path}: axis {name} must list its values, got {settings!r}")
    num_rows = (math.prod if combine == "product" else sum)(map(len, axes.values())) + len(named)
    if num_rows > MAX_ROWS:
        raise ConfigError(
            f"{path}: its axes and rows make {num_rows} rows, at most {MAX_ROWS} are possible; give fewer"
        )
    if combine == "product" and axes:
        points = [dict(zip(axes, point, strict=True)) for point in itertools.product(*axes.values())]
    else:
        points = [{}, *({name: value} for name, settings in axes.items() for value in settings)] if axes else []
    rows = [Row(_label(point) or str(values.get("base", "base")), merged(base, point, str(path))) for point in points]
    for name, changes in named.items():
        if changes is not None and not isinstance(changes, dict):
            raise ConfigError(f"{path}: row {name} must map recipe fields to values, got {changes!r}")
        rows.append(Row(str(name), merged(base, changes or {}, str(path))))
    if not rows:
        raise ConfigError(f"{path}: nothing varies; give axes or rows")
    return tuple(_without_repeats(rows, path))


def _label(point: Mapping[str, Any]) -> str:
    def shown(value: Any) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        return "x".join(map(str, value)) if isinstance(value, list) else str(value)

    def called(name: str) -> str:
        # network.decoder.kind is the decoder, network.decoder.skips are the skips.
        return name.removesuffix(".kind").rpartition(".")[2]

    return ", ".join(f"{called(name)}={shown(value)}" for name, value in point.items())


def _without_repeats(rows: Sequence[Row], path: Path) -> list[Row]:
    """Return the rows with an axis's value that the recipe has anyway left to the base row; refuse other repeats."""
    kept: list[Row] = []
    recipes: list[Recipe] = []
    for row in rows:
        if "seed" in row.values and row.values["seed"] != rows[0].values.get("seed"):
            raise ConfigError(f"{path}: row {row.name!r} sets the seed; list seeds under seeds")
        recipe = make_recipe(parse_recipe(row.values, f"{path}: row {row.name!r}"))
        # The network as a whole: an axis may spell out what the preset says.
        recipe = dataclasses.replace(recipe, network={"whole": config_of(recipe)})
        if recipe in recipes:
            same = kept[recipes.index(recipe)].name
            if same != str(kept[0].name) or "=" not in row.name:
                raise ConfigError(f"{path}: rows {same!r} and {row.name!r} are the same run")
            continue
        kept.append(row)
        recipes.append(recipe)
    folders = [folder_of(Path(), row.name, 0) for row in kept]
    for row, folder in zip(kept, folders, strict=True):
        if folders.count(folder) > 1:
            raise ConfigError(
                f"{path}: another row's folder would be called {folder.parent.name} too; rename {row.name!r}"
            )
    return kept


def _test_steps(values: Mapping[str, Any], path: Path) -> dict[str, tuple[int, ...]]:
    found = _mapping(values, "test_steps", path)
    for name, steps in found.items():
        if name not in HOLD:
            raise ConfigError(f"{path}: unknown test_steps {name!r}{did_you_mean(str(name), HOLD)}")
        if not isinstance(steps, list) or not all(type(n) is int and 0 < n <= MAX_STEPS for n in steps):
            raise ConfigError(f"{path}: test_steps {name} must list whole numbers from 1 to {MAX_STEPS}, got {steps!r}")
    return {name: tuple(steps) for name, steps in found.items()}


def _budget(values: Mapping[str, Any], path: Path) -> bool:
    budget = values.get("budget", "equal")
    if budget not in ("equal", "unequal"):
        raise ConfigError(f"{path}: unknown budget {budget!r}{did_you_mean(str(budget), ('equal', 'unequal'))}")
    return budget == "equal"


def _check_runs(plan: Plan, path: Path) -> None:
    names = [row.name for row in plan.rows]
    if not all(type(seed) is int and seed >= 0 for seed in plan.seeds):
        raise ConfigError(f"{path}: seeds must be whole numbers from 0, got {list(plan.seeds)}")
    runs = {row.name: plan.run(row, plan.seeds[0], Path()) for row in plan.rows}
    budgets = {name: (run.recipe.epochs, run.recipe.windows_per_epoch) for name, run in runs.items()}
    if plan.equal_budget and len(set(budgets.values())) > 1:
        each = ", ".join(
            f"{name}: {epochs}" + (f" of {windows} windows" if windows else "")
            for name, (epochs, windows) in budgets.items()
        )
        raise ConfigError(
            f"{path}: rows train for different numbers of epochs ({each}); say budget: unequal to allow it"
        )
    for name, run in runs.items():
        teacher = run.row.teacher_row
        if teacher is None:
            continue
        if teacher not in names:
            raise ConfigError(f"{path}: row {name!r}: its teacher {teacher!r} is no row{did_you_mean(teacher, names)}")
        if runs[teacher].row.teacher_row is not None:
            raise ConfigError(f"{path}: row {name!r}: its teacher {teacher!r} has a teacher itself")
        distillation.check(config_of(runs[teacher].recipe), config_of(run.recipe))

"""Train weights from nothing: simulate their data, then train every recipe behind them, in order.

    python benchmarks/reproduce.py small-integer-sparse --dry_run   # show the commands
    python benchmarks/reproduce.py small-integer-sparse             # run them: hours
    python benchmarks/reproduce.py nano_integer_longer              # a recipe whose weights are not bundled

The commands stand in the headers of the recipes, after ``data:``, ``train:`` and ``fit:``; where a recipe starts from
another's run, that one comes first, and bundled weights are taken as they are. Run again after a stop, it goes on:
simulation and training resume. ``--bundle`` puts the weights, their log and their scores on simulated roads where the
package and the pages look for them.
"""

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from stamp import RESULTS

from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.training.config import read_yaml

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "recipes"
MODELS = ROOT / "src" / "spiking_centernet" / "models"

TAG = re.compile(r"#  ? ?(?P<tag>\w+): +(?P<rest>.+)")
"""A line of a recipe's header that begins an entry; lines that stand further in go on with it."""

AS = re.compile(r"as recipes/(?P<recipe>[\w/]+)\.yaml(, then)?$")
PROGRAMS = {"scn": ["-m", "spiking_centernet"], "python": []}
"""What a command of a header begins with, and what the Python that runs this is given for it."""


def header(recipe: str) -> dict[str, list[str]]:
    """Return the lines of a recipe's header by the tag they stand under."""
    entries: dict[str, list[str]] = {}
    lines = None
    for line in (RECIPES / f"{recipe}.yaml").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if tagged := TAG.fullmatch(line):
            lines = entries.setdefault(tagged["tag"], [])
            lines.append(tagged["rest"].removesuffix("\\").strip())
        elif line.startswith("#    ") and lines is not None:
            lines.append(line[1:].strip().removesuffix("\\").rstrip())
        else:
            lines = None
    return entries


def commands(recipe: str, tag: str) -> list[str]:
    """Return the commands under a tag of a recipe's header, those of the recipe it refers to before its own."""
    found: list[str] = []
    for line in header(recipe).get(tag, []):
        if refers := AS.fullmatch(line):
            found += commands(refers["recipe"], tag)
            continue
        for part in line.split("; "):
            if part.split()[0] in PROGRAMS:
                found.append(part)
            elif found:
                found[-1] += f" {part}"
    return found


def recipes() -> list[str]:
    """Return the names of all recipes."""
    return sorted(path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.rglob("*.yaml"))


def recipe_of(name: str) -> str:
    """Return the recipe that is called so, or whose weights are bundled under that name.

    Raises:
        ConfigError: Neither is.
    """
    bundled = {weights: recipe for recipe in recipes() for weights in header(recipe).get("bundled", [])}
    if name in bundled:
        return bundled[name]
    recipe, known = name.removesuffix(".yaml").removeprefix("recipes/"), recipes()
    if recipe in known:
        return recipe
    raise ConfigError(f"no bundled weights and no recipe are called {name!r}{did_you_mean(name, [*bundled, *known])}")


def output(command: str) -> str | None:
    """Return the folder that a command writes, None where it writes none or could not be run again."""
    words = shlex.split(command)
    if words[1] in ("simulate", "benchmarks/mixed_data.py"):
        return words[2]
    return words[words.index("--out") + 1] if "--out" in words else None


def own_training(recipe: str) -> str:
    """Return the command that trains a recipe.

    Raises:
        ConfigError: Its header has none.
    """
    for command in commands(recipe, "train"):
        if f"recipes/{recipe}.yaml" in command:
            return command
    raise ConfigError(f"the header of recipes/{recipe}.yaml does not say how it is trained")


def chain(recipe: str) -> list[str]:
    """Return a recipe after all whose runs it and they start from or are taught by."""
    runs = {output(own_training(name)): name for name in recipes() if "train" in header(name)}
    settings = read_yaml(RECIPES / f"{recipe}.yaml")
    before: list[str] = []
    for start in (settings.get("weights"), settings.get("teacher")):
        if start is not None and str(start).startswith("runs/"):
            if start not in runs:
                raise ConfigError(f"recipes/{recipe}.yaml starts from {start}, which no recipe writes")
            before += chain(runs[start])
    return list(dict.fromkeys([*before, recipe]))


def plan(recipe: str) -> list[str]:
    """Return the commands in order: data, trainings, fit.

    A folder is simulated with the labels that any recipe needs there, so that all of them can share it.

    Raises:
        ConfigError: No command of a header makes the data that a training needs.
    """
    parts = chain(recipe)
    data = {output(command): command for part in parts for command in commands(part, "data")}
    data |= {folder: command for folder, command in simulations().items() if folder in data}
    trainings = [own_training(part) for part in parts]
    for command in trainings:
        words = shlex.split(command)
        folder = words[words.index("--data") + 1]
        if folder not in data:
            raise ConfigError(
                f"`{command}` learns from {folder}, which cannot be simulated: get it as the recipe's header says, and "
                "run that command"
            )
    made = [command for folder, command in data.items() if folder is not None]
    return [*made, *(f"{command} --resume" for command in trainings), *commands(recipe, "fit")]


def simulations() -> dict[str | None, str]:
    """Return the command that simulates each folder, with all labels that a recipe asks for: they change no event."""
    found = [command for recipe in recipes() for command in commands(recipe, "data") if "scn simulate" in command]
    return {output(command): command for command in sorted(found, key=len)}


def run(command: str) -> None:
    """Run a command of a header with the Python that runs this; where it fails, stop with its exit status."""
    program, *rest = shlex.split(command)
    print(f"$ {command}", flush=True)
    if status := subprocess.run([sys.executable, *PROGRAMS[program], *rest], cwd=ROOT, check=False).returncode:
        print("stopped there; the same call goes on from there", file=sys.stderr)
        sys.exit(status)


def bundle(recipe: str, steps: list[str]) -> None:
    """Put what a plan ended with where the package and the pages look for it."""
    (name,) = header(recipe).get("bundled") or [None]
    if name is None:
        raise ConfigError(f"recipes/{recipe}.yaml makes no bundled weights: its header has no line `bundled: NAME`")
    ends, trained = str(output(steps[-1])), str(output(own_training(recipe)))
    stem = name.replace("-", "_")
    shutil.copyfile(ROOT / ends / "best.safetensors", MODELS / f"{name}.safetensors")
    shutil.copyfile(ROOT / trained / "metrics.csv", RESULTS / f"{Path(recipe).name}_training.csv")
    run(f"scn val {name} --data data/roads --split test --protocol all --save {ends}/test")
    shutil.copyfile(ROOT / ends / "test" / "score.json", RESULTS / f"{stem}_roads.json")


def main() -> None:
    """Show the commands, or run them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", help="bundled weights, or recipes")
    parser.add_argument("--dry_run", action="store_true", help="show the commands, and run none")
    parser.add_argument("--bundle", action="store_true", help="put weights, log and scores into the repository")
    given = parser.parse_args()
    try:
        plans = {recipe: plan(recipe) for recipe in map(recipe_of, given.names)}
    except ConfigError as error:
        parser.error(str(error))
    for recipe, steps in plans.items():
        if given.dry_run:
            print("\n".join(steps))
            continue
        for step in steps:
            run(step)
        if given.bundle:
            bundle(recipe, steps)


if __name__ == "__main__":
    main()

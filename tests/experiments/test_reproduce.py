"""``benchmarks/reproduce.py``: weights from nothing, by the commands in the heads of recipes."""

import sys

import pytest
from benchmark_files import load_benchmark

from spiking_centernet.errors import ConfigError
from spiking_centernet.model.weights import bundled


@pytest.fixture(scope="module")
def benchmark():
    return load_benchmark("reproduce")


@pytest.fixture
def folder(benchmark, tmp_path, monkeypatch):
    """Recipes of a test's own: ``write(name, header, settings)``."""
    monkeypatch.setattr(benchmark, "RECIPES", tmp_path)

    def write(name, header, settings=""):
        (tmp_path / f"{name}.yaml").write_text(f"{header}\nepochs: 1\n{settings}", encoding="utf-8")

    return write


FIRST = """# The first: two lines
# of words.
#   data:    scn simulate data/a --train 8 --val 2
#            --test 2
#   train:   scn train recipes/first.yaml --data data/a --out runs/first
# Expected: nothing."""

SECOND = """# The second.
#   bundled: my-weights
#   data:    as recipes/first.yaml, then
#            scn simulate data/b --train 8; scn simulate data/a --train 8 --val 2 --test 2 --labels objects
#            python benchmarks/mixed_data.py data/c data/a data/b
#   train:   scn train recipes/first.yaml --data data/a --out runs/first
#            scn train recipes/second.yaml --data data/c --out runs/second
#   fit:     python benchmarks/score_fit.py runs/second --data data/a --out runs/second_fitted
#   score:   scn val runs/second --data data/a"""


def test_a_plan_simulates_trains_what_it_starts_from_and_fits(benchmark, folder):
    folder("first", FIRST)
    folder("second", SECOND, "weights: runs/first\nteacher: runs/first\n")
    assert benchmark.plan(benchmark.recipe_of("my-weights")) == [
        "scn simulate data/a --train 8 --val 2 --test 2 --labels objects",
        "scn simulate data/b --train 8",
        "python benchmarks/mixed_data.py data/c data/a data/b",
        "scn train recipes/first.yaml --data data/a --out runs/first --resume",
        "scn train recipes/second.yaml --data data/c --out runs/second --resume",
        "python benchmarks/score_fit.py runs/second --data data/a --out runs/second_fitted",
    ]
    assert benchmark.plan(benchmark.recipe_of("recipes/first.yaml")) == [
        "scn simulate data/a --train 8 --val 2 --test 2 --labels objects",
        "scn train recipes/first.yaml --data data/a --out runs/first --resume",
    ]


def test_recipes_that_share_a_folder_simulate_the_same_scenes(benchmark):
    """With other labels at most, of which a plan takes the fullest: in any order, no simulation refuses another's."""
    scenes = {}
    for recipe in benchmark.recipes():
        for command in benchmark.commands(recipe, "data"):
            if command.startswith("scn simulate"):
                scenes.setdefault(benchmark.output(command), set()).add(command.partition(" --labels ")[0])
    assert len(scenes) > 5
    assert {folder: told for folder, told in scenes.items() if len(told) > 1} == {}


def test_what_cannot_be_reproduced_is_refused(benchmark, folder):
    folder("own", "# Own data.\n#   train: scn train recipes/own.yaml --data mine --out runs/own")
    folder("lost", f"# Lost.\n{FIRST.replace('first', 'lost')}", "weights: runs/gone\n")
    folder("silent", "# Says nothing.")
    for name, what in (("own", "learns from mine"), ("lost", "runs/gone, which no recipe"), ("silent", "how it is")):
        with pytest.raises(ConfigError, match=what):
            benchmark.plan(name)
    with pytest.raises(ConfigError, match="did you mean 'silent'"):
        benchmark.recipe_of("silend")


@pytest.mark.parametrize("name", sorted(bundled()))
def test_bundled_weights_have_a_chain_of_recipes(benchmark, name):
    """Those of classifiers need cut-outs, which are no command's that could be run again."""
    recipe = benchmark.recipe_of(name)
    if name == "nano-ncars":
        with pytest.raises(ConfigError, match="cannot be simulated"):
            benchmark.plan(recipe)
        return
    steps = benchmark.plan(recipe)
    made = [benchmark.output(step) for step in steps]
    assert steps[0].startswith("scn simulate data/")
    assert benchmark.output(benchmark.own_training(recipe)) in made
    assert None not in made
    assert len(set(made)) == len(made)


def test_the_commands_run_in_order_and_are_shown_first(benchmark, monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(benchmark, "run", ran.append)
    monkeypatch.setattr(sys, "argv", ["reproduce.py", "nano-integer", "--dry_run"])
    benchmark.main()
    shown = capsys.readouterr().out.splitlines()
    assert not ran
    monkeypatch.setattr(sys, "argv", ["reproduce.py", "nano-integer"])
    benchmark.main()
    assert ran == shown
    assert len(ran) == 6

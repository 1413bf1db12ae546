"""What a user gets: the wheel holds every file of the package, and nothing else."""

import os
import re
import shutil
import subprocess
import sys
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "spiking_centernet"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "-q", ".", "--no-deps", "--no-build-isolation", "-w", folder]
    # Of an unknown type, so without any option, and in a folder of its own: what is in the wheel is looked at.
    settings = ["-C", "cmake.build-type=Plain", "-C", f"build-dir={folder / 'build'}"]
    subprocess.run([*build, *settings], cwd=ROOT, check=True)
    (path,) = folder.glob("*.whl")
    with ZipFile(path) as archive:
        yield archive


@pytest.mark.slow
def test_the_wheel_holds_the_whole_package(wheel):
    packed = {name for name in wheel.namelist() if name.startswith("spiking_centernet/")}
    files = (path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    library = {"spiking_centernet/_native.so"} if shutil.which("cc") else set()
    recipes = {f"spiking_centernet/{path.relative_to(ROOT)}" for path in (ROOT / "recipes").rglob("*.yaml")}
    assert "spiking_centernet/recipes/fine_tune.yaml" in recipes
    assert packed == {str(path.relative_to(PACKAGE.parent)) for path in files} | library | recipes
    assert {"spiking_centernet/py.typed", "spiking_centernet/__init__.py"} <= packed
    assert any(name.startswith("spiking_centernet/assets/icns_roadside_cars/") for name in packed)


@pytest.mark.slow
def test_the_recipes_of_the_wheel_are_found_by_name(wheel, tmp_path):
    wheel.extractall(tmp_path)
    code = (
        "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in type(f).__module__]\n"
        "from spiking_centernet.training import recipes; print(recipes.__file__, recipes.find_recipe('fine_tune'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == [
        str(tmp_path / "spiking_centernet" / "training" / "recipes.py"),
        str(tmp_path / "spiking_centernet" / "recipes" / "fine_tune.yaml"),
    ], done.stderr


@pytest.mark.slow
def test_the_wheel_states_license_notice_and_command(wheel):
    folder = next(name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name)
    assert {f"{folder}/licenses/LICENSE", f"{folder}/licenses/NOTICE"} <= set(wheel.namelist())
    about = Parser().parsestr(wheel.read(f"{folder}/METADATA").decode())
    assert (about["License-Expression"], about["Requires-Python"]) == ("Apache-2.0", ">=3.11")
    assert "scn = spiking_centernet.cli.program:main" in wheel.read(f"{folder}/entry_points.txt").decode()


def test_the_dockerfile_copies_what_is_there_and_runs_as_nobody():
    """No docker here: its instructions are read, what they copy is looked for, and what they need is let through."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    assert {word for word, _ in lines} == {"FROM", "RUN", "WORKDIR", "COPY", "ARG", "USER", "ENTRYPOINT", "CMD"}
    assert all(":" in rest for word, rest in lines if word == "FROM")  # a tag, not the latest
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = [name for word, rest in lines if word == "COPY" and "--from" not in rest for name in rest.split()[:-1]]
    assert {"pyproject.toml", "native", "recipes", "src"} <= set(copied)
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name}" in ignored
    users = [rest for word, rest in lines if word == "USER"]
    assert users
    assert "root" not in users[-1]
    assert '["scn"]' in dict(lines)["ENTRYPOINT"]


def test_the_demo_needs_the_core_alone():
    """The demo's environment has no extra; what it imports is among the package's own dependencies."""
    rules = dict(re.findall(r"^([$(\w)-]+): (.*)$", (ROOT / "Makefile").read_text(), re.M))
    assert rules["demo"].split()[0] == "$(CORE)"
    assert rules["$(READY)"] == "$(CORE)"


def test_the_pinned_versions_name_no_place():
    """A pin is a name and a version: no file, no address, no local build."""
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert "torch==2.13.0" in pins
    assert all(pin.count("==") == 1 and not set(pin) & set("/@+ ") for pin in pins)

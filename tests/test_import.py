"""The public interface: complete, lazy, and the same whatever was imported before."""

import ast
import importlib
import inspect
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import spiking_centernet as scn

OPTIONAL = {
    "lightning", "tensorboard", "matplotlib", "av", "faster_coco_eval", "huggingface_hub", "safetensors", "PIL",
    "jsonargparse", "rich", "beartype", "pycocotools", "h5py", "hdf5plugin", "lz4", "zstandard", "trackers",
    "supervision", "cv2", "starlette", "uvicorn", "jinja2",
    "eventcv", "onnx", "onnxscript", "onnxruntime", "openvino",
    "nir",
}  # fmt: skip
"""Optional or slow packages; each is imported by the function that needs it."""

MODULES = sorted(m.name for m in pkgutil.walk_packages(scn.__path__, "spiking_centernet.") if "_native" not in m.name)
RECIPES = {"Recipe", "train"}
"""Public names whose modules need jsonargparse: a recipe is read by it."""


def imported_by(code: str, env) -> set[str]:
    """Return the top-level names of the modules that a new process holds after running the code."""
    code = f"{code}\nimport sys, json; print(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_import_needs_neither_torch_nor_numba(subprocess_env):
    assert not imported_by("import spiking_centernet as scn; dir(scn); scn.__version__", subprocess_env) & {
        "torch", "numba", "numpy", *OPTIONAL,
    }  # fmt: skip


@pytest.mark.parametrize("name", scn.__all__)
def test_every_public_name_resolves_and_is_listed(name):
    value = getattr(scn, name)
    assert not inspect.ismodule(value)
    assert name in dir(scn)


def test_type_checkers_see_what_is_there():
    tree = ast.parse(Path(scn.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    assert seen == {name: f"spiking_centernet.{home}" for name, home in scn._HOMES.items()}
    assert {*seen, "__version__"} == set(scn.__all__)


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'detekt'"):
        scn.detekt  # noqa: B018
    assert not hasattr(scn, "__path_to_nowhere__")


NEW_PROCESSES = """
import importlib, inspect, json, os, random, sys
import torch, torch._dynamo, numba, scipy.optimize, sympy  # once for all: what takes long and is not ours

names, modules = json.loads(sys.argv[1]), sys.argv[2:]
for seed in (None, *range(3)):
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0, seed
        continue
    import spiking_centernet as scn

    if seed is None:
        import spiking_centernet.visualize.draw
        for name in names:
            getattr(scn, name)
        print(json.dumps(sorted({m.split(".")[0] for m in sys.modules})), flush=True)
        os._exit(0)
    early = {name: getattr(scn, name) for name in scn.__all__} if seed == 0 else {}
    for module in random.Random(seed).sample(modules, len(modules)):
        importlib.import_module(module)
    for name in scn.__all__:
        value = getattr(scn, name)
        assert value is early.get(name, value), name
        assert not inspect.ismodule(value), name
    assert all(inspect.ismodule(getattr(scn, name)) for name in scn._PACKAGES)
    os._exit(0)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_imports_bring_no_optional_package_along_and_in_any_order_change_no_public_name(subprocess_env):
    """Public names are read after importing every module, in three orders, and once before them all."""
    command = [sys.executable, "-c", NEW_PROCESSES, json.dumps(sorted(set(scn.__all__) - RECIPES)), *MODULES]
    done = subprocess.run(command, env=subprocess_env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    imported = set(json.loads(done.stdout))
    assert "torch" in imported
    assert not imported & OPTIONAL


def test_no_name_hides_a_module():
    """A submodule is what its package calls by that name, and no function or class has the name of its module."""
    for name in MODULES:
        module = importlib.import_module(name)
        package, _, own = name.rpartition(".")
        assert getattr(sys.modules[package], own) is module, f"{name} is hidden in {package}"
        value = vars(module).get(own)
        assert value is None or inspect.ismodule(value), f"{name} holds {own}, a {type(value).__name__}"


def test_modules_named_like_the_standard_library_are_few():
    """A script started in such a folder imports ours instead; these three are imported by no startup code."""
    names = {name.rpartition(".")[2] for name in MODULES}
    assert names & sys.stdlib_module_names <= {"io", "statistics", "html"}

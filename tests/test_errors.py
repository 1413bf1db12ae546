"""Messages about optional packages, and that there is one way to say that one is missing."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from spiking_centernet.cli.doctor import PURPOSES
from spiking_centernet.errors import EXTRAS, MissingPackageError, did_you_mean, install_hint, need

ROOT = Path(__file__).resolve().parents[1]
MODULES = {module for modules in EXTRAS.values() for module in modules}


def test_the_table_holds_the_extras_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {
        extra: {re.match(r"[\w-]+", line)[0] for line in lines}
        for extra, lines in project["optional-dependencies"].items()
    }
    assert {extra: set(modules.values()) for extra, modules in EXTRAS.items()} == extras
    assert PURPOSES.keys() == EXTRAS.keys()


def test_optional_packages_come_through_need():
    """A function may import what ``need`` has looked for before; nothing imports an optional package unasked."""
    imports = re.compile(rf"^\s*(import|from)\b.*\b({'|'.join(MODULES)})\b", re.M)
    texts = {path: path.read_text() for path in sorted((ROOT / "src").rglob("*.py"))}
    functions = [
        (path, node)
        for path, text in texts.items()
        if imports.search(text)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef)
    ]
    assert functions
    for path, function in functions:
        imported = {
            name.split(".")[0]: node.lineno
            for node in ast.walk(function)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
        }
        for module in MODULES & imported.keys():
            needed = [node for node in ast.walk(function) if isinstance(node, ast.Call) and _is_need_of(node, module)]
            assert needed, f"{path}, line {imported[module]}: import {module} through errors.need"


def _is_need_of(call: ast.Call, module: str) -> bool:
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    return name == "need" and isinstance(call.args[0], ast.Constant) and call.args[0].value.split(".")[0] == module


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_hint_names_what_is_missing(monkeypatch, extra):
    for module in EXTRAS[extra]:
        monkeypatch.setitem(__import__("sys").modules, module, None)
    names = " ".join(EXTRAS[extra].values())
    assert install_hint(extra) == f"pip install {names}, or reinstall spiking-centernet with the extra [{extra}]"
    module = next(iter(EXTRAS[extra]))
    with pytest.raises(MissingPackageError) as error:
        need(module, "this", extra)
    assert str(error.value) == f"this needs {module}, which is not installed; {install_hint(extra)}"


def test_a_package_that_does_not_load_is_told_apart(monkeypatch, tmp_path):
    (tmp_path / "broken_optional.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingPackageError, match=r"tracking needs broken_optional, which cannot be loaded \(libGL"):
        need("broken_optional", "tracking", "track")


def test_known_names_are_never_empty():
    assert did_you_mean("x", ["", ".npy", ".csv"]) == "; known: .csv, .npy"
    assert did_you_mean("x", []) == did_you_mean("x", [""]) == "; known: none"

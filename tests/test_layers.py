"""The layers of docs/architecture.md, held by import-linter (pyproject.toml)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "spiking_centernet"
MODULES = sorted(PACKAGE.rglob("*.py"))


def test_imports_go_down_only(subprocess_env):
    # In a process of its own: import-linter configures logging, which switches off the loggers that exist by then.
    check = f"lint_imports(config_filename={str(ROOT / 'pyproject.toml')!r}, no_cache=True)"
    run = [sys.executable, "-c", f"import sys; from importlinter.cli import lint_imports; sys.exit({check})"]
    done = subprocess.run(run, cwd=ROOT, env=subprocess_env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_file_outgrows_its_folder(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 420


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_are_absolute(path):
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    assert not [node.lineno for node in nodes if isinstance(node, ast.ImportFrom) and node.level]

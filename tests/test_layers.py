"""The layers of docs/architecture.md, held by import-linter (pyproject.toml)."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "spiking_centernet"
MODULES = sorted(PACKAGE.rglob("*.py"))


def test_imports_go_down_only(subprocess_env):
    # In a process of its own: import-linter configures logging, which switches off the loggers that exist by then.
    check = f"lint_imports(config_filename={str(ROOT / 'pyproject.toml')!r}, no_cache=True)"
    run = [sys.executable, "-c", f"import sys; from importlinter.cli import lint_imports; sys.exit({check})"]
    done = subprocess.run(run, cwd=ROOT, env=subprocess_env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_outgrows_its_folder():
    lines = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert not {path: num for path, num in lines.items() if num > 420}


def test_imports_are_absolute():
    relative = re.compile(r"^\s*from\s*\.", re.M)
    assert not [str(path) for path in MODULES if relative.search(path.read_text(encoding="utf-8"))]

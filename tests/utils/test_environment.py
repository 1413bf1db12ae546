"""What other people's machines are like: locales other than UTF-8, installations that cannot be written to."""

import ast
import re
from pathlib import Path

import numba

from spiking_centernet.utils.compile_cache import compiled

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "spiking_centernet"
MODULES = sorted(PACKAGE.rglob("*.py"))


def reads_or_writes_text(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Attribute) and call.func.attr in ("read_text", "write_text"):
        return True
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    # Containers, devices and pictures have an open() of their own.
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    if name != "open" or getattr(owner, "id", "") in ("os", "av", "data", "scn", "archive", "webbrowser", "Image"):
        return False
    modes = (*call.args, *(k.value for k in call.keywords if k.arg == "mode"))
    texts = [mode.value for mode in modes if isinstance(mode, ast.Constant) and isinstance(mode.value, str)]
    return not any("b" in text and len(text) <= 3 for text in texts)


def test_text_is_utf8_whatever_the_locale():
    found = []
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        if not re.search(r"\b(open|read_text|write_text)\(", text):
            continue
        calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
        keywords = {call.lineno: {k.arg for k in call.keywords} for call in calls if reads_or_writes_text(call)}
        found += [f"{path}:{line}" for line, names in keywords.items() if not names & {"encoding", None, "size_hw"}]
    assert not found


def test_compiled_functions_do_without_a_place_to_keep_them(monkeypatch):
    njit = numba.njit

    def nowhere(*function, **options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available for file")
        return njit(*function, **options)

    monkeypatch.setattr(numba, "njit", nowhere)

    @compiled(error_model="numpy")
    def half(x):
        return x / 2

    assert half(3.0) == 1.5

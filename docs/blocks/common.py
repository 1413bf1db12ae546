"""What every block is made of: the files of ``results/``, tables, and where numbers come from."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Results:
    """The files of ``results/``, read when asked for."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __getitem__(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / f"{name}.json").read_text())


def table(header: Sequence[object], rows: Sequence[Sequence[object]], words: int = 1) -> str:
    """Return a markdown table whose first ``words`` columns are words and whose others are numbers."""
    rule = ["---" if k < words else "---:" for k in range(len(header))]
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in (header, rule, *rows))


def origin(result: dict[str, Any]) -> str:
    """Return the sentence that says where numbers come from."""
    head = result.get("provenance", result)
    machine = head["machine"]
    cpu = machine.get("cpu") or machine["processor"]
    seed = "" if head.get("seed") is None else f", seed {head['seed']}"
    cores = f"{machine['cores']} core{'s' if machine['cores'] != 1 else ''}"
    return f"Measured by `{head['command']}`{seed}, commit {head['commit'][:7]}, on {cpu}, {cores}."


ORIGIN = re.compile(r" ?(?P<what>`[\w-]+`: )?(?P<said>Measured by `[^`]+`[^\n]*?, \d+ cores?\.)")


def with_footnote(block: str) -> str:
    """Return a block with the sentences of `origin` moved to a collapsed footnote at its end."""
    origins = [f"- {m['what'] or ''}{m['said']}" for m in ORIGIN.finditer(block)]
    if not origins:
        return block
    text = re.sub(r"\n{3,}", "\n\n", ORIGIN.sub("", block)).rstrip()
    listed = "\n".join(dict.fromkeys(origins))
    return f"{text}\n\n<details>\n<summary>How this was measured</summary>\n\n{listed}\n\n</details>"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"

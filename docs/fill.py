"""Keeps the figures in the pages true: writes every block between markers again from ``results/*.json`` and the code.

    python docs/fill.py            rewrite README.md and the pages of docs/
    python docs/fill.py --check    change nothing; exit 1 and name every block that is stale

A block stands between ``<!-- results:NAME -->`` and ``<!-- /results -->``, or, where it comes from the code, between
``<!-- code:NAME -->`` and ``<!-- /code -->``.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from blocks import BLOCKS
from blocks.common import Results, with_footnote

from spiking_centernet.errors import did_you_mean

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- (results|code):(\w+) -->\n)(.*?)(<!-- /\2 -->)", re.DOTALL)
OPENING = re.compile(r"<!-- (?:results|code):")


def rewritten(text: str, results: Results) -> tuple[str, list[str]]:
    """Return a page with its blocks written again, and the names of those that changed.

    Raises:
        ValueError: a marker names no block or is not closed.
    """
    stale = []

    def write(found: re.Match[str]) -> str:
        opening, _, name, before, closing = found.groups()
        if name not in BLOCKS:
            raise ValueError(f"no block is called {name!r}{did_you_mean(name, BLOCKS)}")
        try:
            now = with_footnote(BLOCKS[name](results)) + "\n"
        except FileNotFoundError as error:
            now = f"*Not measured yet: there is no `results/{Path(error.filename).name}`.*\n"
        if now != before:
            stale.append(name)
        return opening + now + closing

    if len(OPENING.findall(text)) != len(BLOCK.findall(text)):
        raise ValueError("a block is not closed by <!-- /results --> or <!-- /code -->")
    return BLOCK.sub(write, text), stale


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Rewrite or check the pages under ``root``; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 if a block is stale")
    check = parser.parse_args(arguments).check
    results = Results(root / "results")
    all_stale = []
    for page in (root / "README.md", *sorted((root / "docs").rglob("*.md"))):
        before = page.read_text()
        try:
            now, stale = rewritten(before, results)
        except ValueError as error:
            raise SystemExit(f"{page.relative_to(root)}: {error}") from error
        all_stale += [f"{page.relative_to(root)}: {name}" for name in stale]
        if stale and not check:
            page.write_text(now)
    for where in all_stale:
        sys.stdout.write(f"{where} is stale; run python docs/fill.py\n" if check else f"{where} written\n")
    return int(check and bool(all_stale))


if __name__ == "__main__":
    sys.exit(main())

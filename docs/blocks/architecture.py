"""Blocks about how the package is built."""

from blocks.common import Results, origin, table

COMMANDS = {"detect": "`scn detect`", "train": "`scn train`, one epoch", "val": "`scn val`"}


def walks(results: Results) -> str:
    """How much of the package a command passes through, by version."""
    r = results["walks"]
    names = list(r["packages"])
    rows = [
        (words, *(r["packages"][name][command][what] for what in ("files", "functions", "depth") for name in names))
        for command, words in COMMANDS.items()
    ]
    header = ("command", *(f"{what}, {name}" for what in ("files", "functions", "calls deep") for name in names))
    commits = ", ".join(f"{name} is commit {commit[:7]}" for name, commit in r["commits"].items())
    return f"{table(header, rows)}\n\n{commits[0].upper()}{commits[1:]}. {origin(r)}"

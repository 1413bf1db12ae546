"""What a command leaves on standard output: text and tables for people, or one JSON document for programs."""

import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH = 120


def write_document(values: Any) -> None:
    """Write one JSON document to standard output; NaN and infinity, which JSON lacks, become null."""
    sys.stdout.write(json.dumps(plain(values), indent=2, allow_nan=False) + "\n")


def plain(values: Any) -> Any:
    """Return JSON values of dataclasses, mappings, sequences, paths and numpy numbers."""
    if dataclasses.is_dataclass(values) and not isinstance(values, type):
        return {field.name: plain(getattr(values, field.name)) for field in dataclasses.fields(values)}
    if isinstance(values, Mapping):
        return {str(key): plain(value) for key, value in values.items()}
    if isinstance(values, list | tuple | set):
        return [plain(value) for value in values]
    if isinstance(values, os.PathLike):
        return os.fspath(values)
    if isinstance(tolist := getattr(values, "tolist", None), Callable):
        return plain(tolist())
    return None if isinstance(values, float) and not math.isfinite(values) else values


def _console() -> Console:
    console = Console(highlight=False)
    # Files and pipes have no width: without this, tables would break at 80 columns.
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(highlight=False, width=PLAIN_WIDTH)


def show_text(text: str) -> None:
    """Print a result as it is."""
    _console().print(text, markup=False, soft_wrap=True)


def show_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]], *, words: int = 1) -> None:
    """Print a table whose first ``words`` columns are words and whose others are numbers."""
    if title:  # not the table's own, which is folded where the table is narrow
        _console().print(Text(title, style="italic"), soft_wrap=True)
    table = Table()
    for k, name in enumerate(header):
        table.add_column(name, justify="left" if k < words else "right", overflow="fold")
    for row in rows:
        # Text, so that a path with brackets is not taken for markup.
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    _console().print(table)


def flat_rows(values: dict[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Return nested values as rows of a table."""
    rows = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += flat_rows(value, f"{above}{name} ")
        elif isinstance(value, list | tuple):
            rows += [(f"{above}{name}", str(item)) for item in value or ("nothing found",)]
        elif value is not None:
            rows.append((f"{above}{name}", f"{value:.3g}" if isinstance(value, float) else str(value)))
    return rows

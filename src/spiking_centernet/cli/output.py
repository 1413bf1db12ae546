"""What a command leaves on standard output: text and tables for people, or one JSON document for programs."""

import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any


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

"""What a result file says about its origin: command, seed, commit, machine and versions."""

import importlib.metadata
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spiking_centernet.utils.files import atomic_write

SHOWN_VERSIONS = ("torch", "numpy", "numba", "faster-coco-eval")
VECTOR_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16")


def collect_provenance(
    *, command: str | None = None, seed: int | None = None, root: Path | None = None, ignore: Sequence[str] = ()
) -> dict[str, Any]:
    """Return command, seed, commit, machine and versions as plain JSON values, for the head of a result file.

    Args:
        command: what was typed; None takes this process's command line.
        seed: of what was drawn at random; None where nothing was.
        root: a folder of the git tree the code lies in; None takes this package's, if git tracks it.
        ignore: paths of that tree whose changes do not count as uncommitted, for example the results themselves.

    Returns:
        ``command``, ``seed``, ``commit`` (None outside a git tree), ``uncommitted_changes``, ``machine`` and
        ``versions``.
    """
    root = root or _own_tree()
    # Paths of the form :/x and :(top,exclude)x count from the top of the tree wherever ``root`` lies in it.
    changed = _git(root, "status", "--porcelain", "--", ":/", *(f":(top,exclude){path}" for path in ignore))
    return {
        "command": this_command() if command is None else command,
        "seed": seed,
        "commit": _git(root, "rev-parse", "HEAD"),
        "uncommitted_changes": None if changed is None else bool(changed),
        "machine": {
            "cpu": cpu_model(),
            "cores": num_cores(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": {
            "spiking-centernet": package_version(),
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in SHOWN_VERSIONS},
        },
    }


def write_json(path: str | os.PathLike[str], values: Any) -> Path:
    """Write plain values as JSON, whole or not at all, and return the path."""
    path = Path(path)
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return path


def package_version() -> str:
    """Return this package's version, "0+unknown" where it runs from a source tree without being installed."""
    try:
        return importlib.metadata.version("spiking-centernet")
    except importlib.metadata.PackageNotFoundError:
        return "0+unknown"


def this_command() -> str:
    """Return this process's command line as one would type it."""
    program = Path(sys.argv[0] or "python")
    # ``python -m package`` and the installed command are the same thing to the reader.
    name = "scn" if program.name in ("scn", "__main__.py") else f"python {program.name}"
    return shlex.join([*shlex.split(name), *sys.argv[1:]])


def num_cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_model() -> str:
    """Return the CPU's model, with the names of its vector extensions that matter here."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or "unknown"
    found = {name: value.strip() for name, value in reversed(re.findall(r"^(.+?)\s*:(.*)$", text, re.MULTILINE))}
    model = found.get("model name", "unknown")
    if model == "unknown":
        model = f"{platform.machine()} family {found.get('cpu family', '?')} model {found.get('model', '?')}"
    wide = [flag for flag in VECTOR_FLAGS if flag in found.get("flags", "").split()]
    return f"{model} ({', '.join(wide)})" if wide else model


def _own_tree() -> Path | None:
    here = Path(__file__).resolve()
    # An installed copy may lie in somebody else's git tree (in its .venv): then git does not track this file.
    return here.parent if _git(here.parent, "ls-files", "--error-unmatch", here.name) else None


def _git(root: Path | None, *arguments: str) -> str | None:
    if root is None:
        return None
    try:
        run = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return run.stdout.strip() if run.returncode == 0 else None


def has_native_bfloat16() -> bool:
    """Return whether this machine's GPU, or else its CPU, computes bfloat16 products natively."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    capability = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(capability is not None and capability())

"""Every result file says which command, seed, commit, machine and versions made it."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

from spiking_centernet.files import atomic_write

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"


def stamp(*, command: str, seed: int | None) -> dict:
    """Return command, seed, commit, machine and versions, for the head of a result file."""
    return {
        "command": command,
        "seed": seed,
        "commit": _git("rev-parse", "HEAD"),
        # Result files do not change what was measured.
        "uncommitted_changes": bool(_git("status", "--porcelain", "--", ".", ":!results")),
        "machine": {
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("torch", "numpy", "numba")},
        },
    }


def write_result(name: str, result: dict) -> Path:
    """Write ``results/<name>.json``, whole or not at all, and return its path."""
    path = RESULTS / f"{name}.json"
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n")
    return path


def this_command() -> str:
    """Return the command line as one would type it in the repository."""
    script = Path(sys.argv[0]).resolve()
    shown = script.relative_to(ROOT) if script.is_relative_to(ROOT) else script.name
    return " ".join(["python", str(shown), *sys.argv[1:]])


def cpu_model() -> str:
    """Return the processor's model, with the names of its vector extensions that matter here."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    fields = dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))
    family = f"family {fields.get('cpu family', '?')} model {fields.get('model', '?')}"
    flags = fields.get("flags", "").split()
    wide = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16") if flag in flags]
    return f"{fields.get('model name', 'unknown')} ({', '.join([family, *wide])})"


def _git(*arguments: str) -> str | None:
    run = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    return run.stdout.strip() if run.returncode == 0 else None

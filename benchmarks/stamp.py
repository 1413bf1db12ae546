"""Every result file says which command, seed, commit, machine and versions made it."""

import logging
import sys
from pathlib import Path

from spiking_centernet.utils.provenance import collect_provenance, write_json

logging.basicConfig(format="%(message)s")
logging.getLogger("spiking_centernet").setLevel(logging.INFO)

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"


def stamp(*, command: str, seed: int | None) -> dict:
    """Return command, seed, commit, machine and versions, for the head of a result file."""
    # Result files and their plots do not change what was measured.
    return collect_provenance(command=command, seed=seed, root=ROOT, ignore=("results", "docs/images"))


def write_result(name: str, result: dict, folder: Path = RESULTS) -> Path:
    """Write ``results/<name>.json`` (or to another folder), whole or not at all, and return its path."""
    return write_json(folder / f"{name}.json", result)


def this_command() -> str:
    """Return the command line as one would type it in the repository."""
    script = Path(sys.argv[0]).resolve()
    shown = script.relative_to(ROOT) if script.is_relative_to(ROOT) else script.name
    return " ".join(["python", str(shown), *sys.argv[1:]])

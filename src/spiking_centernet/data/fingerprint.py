"""Which data a score is of: two scores compare only where this is the same."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from spiking_centernet.data.dataset import FolderDataset


def fingerprint_of(dataset: FolderDataset) -> dict[str, Any]:
    """Return what tells the data of a split from other data, as plain JSON values.

    Args:
        dataset: the split, or some recordings of it.

    Returns:
        ``sha256`` over every recording's name, size of its event file in bytes, and boxes as they are read: the events
        themselves would take minutes. ``simulator_version``, None where the folder was not simulated.
    """
    digest = hashlib.sha256()
    for recording in dataset.recordings:
        digest.update(f"{recording.name}\0{os.path.getsize(recording.path)}\0".encode())
        digest.update(recording.boxes.tobytes())
        if len(recording.crowds):
            digest.update(b"\0crowds\0" + recording.crowds.tobytes())
    version = _simulator_version(dataset.folder.parent / "simulation.json")
    return {"sha256": digest.hexdigest(), "simulator_version": version}


def _simulator_version(path: Path) -> int | None:
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    version = described.get("simulator_version") if isinstance(described, dict) else None
    return version if isinstance(version, int) else None

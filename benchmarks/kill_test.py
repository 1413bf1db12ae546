"""Kills training, simulation, detection and a study with SIGKILL at random moments and looks at what is left.

    python benchmarks/kill_test.py --kills 50

After every kill no file under a final name may be damaged; the job is then started again until it ends, and what it
leaves must equal what an undisturbed job leaves: the weights of a training tensor by tensor, the files of the others
byte by byte, of a study the weights and the scores. Writes ``results/kill_test.json`` after every job; started again on
the same commit, it resumes with the jobs that are left.
"""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from stamp import RESULTS, ROOT, stamp, this_command

from spiking_centernet.data import open as open_recording
from spiking_centernet.data import read_boxes
from spiking_centernet.model.weights import read_tensors
from spiking_centernet.training.run_dir import read_metrics
from spiking_centernet.utils.provenance import write_json

sys.path.insert(0, str(ROOT / "tests"))
import toy_roads

SCN = [sys.executable, "-m", "spiking_centernet"]
TIMEOUT_S = 1800


@dataclass(frozen=True)
class Job:
    """A command that writes into a folder, how it is started again, and a fingerprint of what it leaves."""

    name: str
    command: Callable[[Path, bool], list[str]]
    fingerprint: Callable[[Path], object]


def _tensors(out: Path) -> object:
    found = {}
    for name in ("last", "best"):
        tensors, config, _ = read_tensors(out / f"{name}.safetensors")
        digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
        for key in sorted(tensors):
            digest.update(key.encode() + tensors[key].reshape(-1).view(torch.uint8).numpy().tobytes())
        found[name] = digest.hexdigest()
    rows = read_metrics(out / "metrics.csv")
    found["metrics"] = [[row["step"], row["loss"], row["ap"]] for row in rows]
    return found


def _bytes(out: Path, pattern: str) -> object:
    files = sorted(path for path in out.glob(pattern) if not path.name.startswith("."))
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _without_provenance(out: Path) -> object:
    found = json.loads(next(out.glob("*_detections.json")).read_text())
    return {k: v for k, v in found.items() if k != "provenance"} | {"boxes": _bytes(out, "*_bbox.npy")}


def _study(out: Path) -> object:
    """Return the weights of every run and what the table says, but for how long it took and where it stands."""
    lines = json.loads((out / "study.json").read_text())["lines"]
    folders = sorted(path.parent for path in out.glob("runs/*/*/outcome.json"))
    weights = {str(folder.relative_to(out)): _tensors(folder) for folder in folders}
    return weights, [{k: v for k, v in line.items() if k != "train_s"} for line in lines]


def jobs(base: Path) -> list[Job]:
    """Write what the tiny jobs need into a folder and return them."""
    data = toy_roads.write_folder(base / "data")
    recipe = toy_roads.recipe(checkpoint_every=1, num_threads=1, epochs=6)
    values = {
        name: getattr(recipe, name)
        for name in ("epochs", "batch_size", "learning_rate", "precision", "protocol", "log_every", "num_workers",
                     "ema_decay", "seed", "checkpoint_every", "num_threads")
    } | {"network": {k: list(v) if isinstance(v, tuple) else v for k, v in recipe.network.items()}}  # fmt: skip
    (base / "tiny.yaml").write_text(yaml.safe_dump(values))
    rows = {"recipe": "tiny.yaml", "set": {"epochs": 2}, "split": "val", "protocol": "none", "resamples": 100}
    rows |= {"rows": {"a": {}, "b": {"learning_rate": 0.001}}}
    (base / "tiny_study.yaml").write_text(yaml.safe_dump(rows))
    recording = data / "train" / "clip0_td.dat"
    weights = base / "weights" / "best.safetensors"

    def training(out: Path, again: bool) -> list[str]:
        command = [*SCN, "train", str(base / "tiny.yaml"), "--data", str(data), "--out", str(out)]
        return [*command, "--resume"] if again else command

    def simulation(out: Path, again: bool) -> list[str]:
        counts = ["--train", "2", "--val", "1", "--test", "1", "--duration_s", "0.5", "--workers", "1"]
        return [*SCN, "simulate", str(out), "--seed", "3", *counts]

    def detection(out: Path, again: bool) -> list[str]:
        command = [*SCN, "detect", str(weights), str(recording), "--out", str(out), "--min_score", "0.01"]
        return [*command, "--save", "json", "npy", "mp4", "--every_ms", "20"]

    def study(out: Path, again: bool) -> list[str]:
        return [*SCN, "study", str(base / "tiny_study.yaml"), "--data", str(data), "--out", str(out)]

    return [
        Job("training", training, _tensors),
        Job("simulation", simulation, lambda out: _bytes(out, "*/*") | _bytes(out, "*.json")),
        Job("detection", detection, _without_provenance),
        Job("study", study, _study),
    ]


def check_whole(out: Path) -> Iterator[str]:
    """Read every file under a final name and yield what is damaged."""
    readers: dict[str, Callable[[Path], object]] = {
        ".safetensors": read_tensors,
        ".dat": lambda path: open_recording(path).read(),
        ".npy": read_boxes,
        ".npz": lambda path: dict(np.load(path)),
        ".json": lambda path: json.loads(path.read_text()),
        ".yaml": lambda path: yaml.safe_load(path.read_text())["seed"],
        ".png": _picture,
        ".mp4": _video,
        ".csv": read_metrics,
    }
    for path in sorted(out.rglob("*")):
        if path.is_file() and not path.name.startswith(".") and path.suffix in readers:
            try:
                readers[path.suffix](path)
            except Exception as error:  # whatever a reader says of a damaged file
                yield f"{path.relative_to(out)}: {type(error).__name__}: {error}"


def _picture(path: Path) -> None:
    from PIL import Image

    with Image.open(path) as image:
        image.load()


def _video(path: Path) -> None:
    import av

    with av.open(str(path)) as film:
        assert sum(1 for _ in film.decode(video=0)) > 0


def run(command: list[str], env: dict[str, str], kill_after_s: float | None = None) -> tuple[bool, float, str]:
    """Run a command; return whether it was killed, how long it ran, and what it said."""
    began = time.monotonic()
    # A session of its own, so that workers die with it as they would in a power cut.
    process = subprocess.Popen(
        command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        _, told = process.communicate(timeout=kill_after_s or TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True, time.monotonic() - began, ""
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {told[-3000:]}")
    return False, time.monotonic() - began, told


def torture(job: Job, base: Path, kills: int, rng: np.random.Generator, env: dict[str, str]) -> dict:
    """Kill a job at random moments; every killed run is started again, and one in three killed once more."""
    _, whole_s, _ = run(job.command(base / f"{job.name}_whole", False), env)
    expected = job.fingerprint(base / f"{job.name}_whole")
    damaged, unequal, moments, late = [], [], [], 0
    trial = 0
    while len(moments) < kills:
        out = base / f"{job.name}_{trial}"
        trial += 1
        again = False
        while True:
            after_s = float(rng.uniform(0.02, 1.0) * whole_s) if not again or rng.random() < 1 / 3 else None
            was_killed, ran_s, _ = run(job.command(out, again), env, after_s if len(moments) < kills else None)
            if not was_killed:
                late += after_s is not None
                # On a machine that other work has left, a run is shorter than the first was.
                whole_s = whole_s if again else min(whole_s, ran_s)
                break
            again = True
            moments.append(round(after_s or 0.0, 3))
            damaged += [f"trial {trial}: {what}" for what in check_whole(out)]
        damaged += [f"trial {trial}, at its end: {what}" for what in check_whole(out)]
        if job.fingerprint(out) != expected:
            unequal.append(trial)
    return {
        "kills": len(moments), "undisturbed_s": round(whole_s, 2), "moments_s": moments, "ended_before_the_kill": late,
        "damaged_files": damaged, "trials": trial, "trials_with_another_result": unequal,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="for each job")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", nargs="*", default=None, help="default: every one")
    parser.add_argument("--out", default=None, help="write the JSON here instead of results/kill_test.json")
    arguments = parser.parse_args()
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    path = RESULTS / "kill_test.json" if arguments.out is None else Path(arguments.out)
    head = stamp(command=this_command(), seed=arguments.seed)
    before = json.loads(path.read_text()) if path.is_file() else {}
    same = head["commit"] is not None and all(before.get(key) == head[key] for key in ("seed", "commit"))
    found = before["jobs"] if same else {}
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        available = jobs(base)
        # The weights that detection loads: those of one undisturbed training.
        run(available[0].command(base / "weights", False), env)
        for number, job in enumerate(available):
            wanted = arguments.jobs is None or job.name in arguments.jobs
            if wanted and found.get(job.name, {"kills": 0})["kills"] < arguments.kills:
                found[job.name] = torture(
                    job, base, arguments.kills, np.random.default_rng([arguments.seed, number]), env
                )
                sys.stdout.write(f"{job.name}: {found[job.name]}\n")
                sys.stdout.flush()
            survived = all(not job["damaged_files"] and not job["trials_with_another_result"] for job in found.values())
            write_json(path, {**head, "survived": survived, "jobs": found})
    return int(not survived)


if __name__ == "__main__":
    sys.exit(main())

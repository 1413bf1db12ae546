"""Feeds damaged input to every reader for as long as you like, guided by coverage where atheris is installed.

    python tests/fuzz.py --inputs 200000 --jobs 2
    python tests/fuzz.py --targets dat boxes --inputs 2000000 --minutes 600

Without atheris (few versions of Python have wheels of it) inputs are damaged at random; with it a target is guided for
``--minutes`` at most, and random damage feeds the inputs that are left. A crash prints its input and where it happened,
and the run ends with status 1. Writes ``results/fuzz.json`` after every target, with the commit it was fed on; started
again on the same commit, it goes on with the targets that are left. With ``--targets`` the others stay as they are.
"""

import argparse
import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]

MEMORY_BYTES = 8 << 30
"""Address space of a fuzzing process: an input that makes it ask for more is a bug."""

SECONDS_AN_INPUT = 20
PIECES = (
    b"\x00",
    b"\xff" * 8,
    b"\x7f" + b"\xff" * 7,
    b"-1",
    b"1e999",
    b"nan",
    b"null",
    b"[" * 40,
    b"9" * 30,
    b"%",
    b"{}",
)


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """Return the bytes with up to five pieces replaced, inserted, deleted or cut off."""
    found = bytearray(data)
    for _ in range(int(rng.integers(0, 6))):
        at, what = int(rng.integers(0, len(found) + 1)), int(rng.integers(0, 7))
        piece = PIECES[rng.integers(len(PIECES))] if rng.random() < 0.3 else rng.bytes(int(rng.integers(1, 9)))
        if what < 3:
            found[at : at + len(piece)] = piece
        elif what < 5:
            found[at:at] = piece
        elif what < 6:
            del found[at : at + len(piece)]
        else:
            del found[at:]
    return bytes(found)


def at_random(name: str, num_inputs: int, seed: int) -> None:
    import fuzz_targets

    rng, seeds = np.random.default_rng([seed, *name.encode()]), fuzz_targets.seeds(name)
    refused = 0
    for count in range(num_inputs):
        data = damage(seeds[rng.integers(len(seeds))], rng)
        began = time.perf_counter()
        try:
            refused += fuzz_targets.run(name, data)
        except Exception:
            sys.stderr.write(f"{name}, input {count}: {data!r}\n")
            raise
        if time.perf_counter() - began > SECONDS_AN_INPUT:
            raise TimeoutError(f"{name}, input {count} took too long: {data!r}")
    sys.stdout.write(json.dumps({"inputs": num_inputs, "refused": refused, "engine": "random damage"}))


def guided(name: str, num_inputs: int, seed: int, minutes: float) -> None:
    import atheris

    # An editable install loads modules by a finder of its own, which leaves them without counters of coverage.
    sys.meta_path[:] = [finder for finder in sys.meta_path if not type(finder).__module__.startswith("_editable")]
    sys.path.insert(0, str(ROOT / "src"))
    # numba cannot compile what carries counters.
    compiled = [path.relative_to(ROOT / "src").with_suffix("") for path in (ROOT / "src").rglob("*.py")
                if "numba" in path.read_text()]  # fmt: skip
    with atheris.instrument_imports(include=["spiking_centernet"], exclude=[".".join(path.parts) for path in compiled]):
        import fuzz_targets
    corpus = fuzz_targets.folder() / "corpus"
    corpus.mkdir()
    for number, data in enumerate(fuzz_targets.seeds(name)):
        (corpus / str(number)).write_bytes(data)
        fuzz_targets.run(name, data)  # compiles the kernels before the clock of an input runs
    counts = [0, 0]
    stop_s = time.monotonic() + 60 * minutes

    def feed(data: bytes) -> None:
        counts[0] += 1
        counts[1] += fuzz_targets.run(name, data)
        if counts[0] == num_inputs or time.monotonic() > stop_s:
            told = {"inputs": counts[0], "refused": counts[1], "engine": "atheris"}
            sys.stdout.write(json.dumps(told))
            sys.stdout.flush()
            shutil.rmtree(fuzz_targets.folder(), ignore_errors=True)
            os._exit(0)  # libFuzzer would end the process without coming back, and only by a count

    settings = [f"-seed={seed + 1}", f"-timeout={SECONDS_AN_INPUT}", "-max_len=20000"]
    atheris.Setup([sys.argv[0], *settings, "-rss_limit_mb=4096", str(corpus)], feed)
    atheris.Fuzz()


def fed(name: str, engine: str, inputs: int, seed: int, minutes: float) -> dict:
    """Return what a target made of its inputs, each engine in a process of its own: one that crashes ends alone."""
    began = time.perf_counter()
    done: dict = {"inputs": 0, "refused": 0, "engines": {}, "failed": False}
    for step in ("atheris", "random") if engine == "atheris" else ("random",):
        left = inputs - done["inputs"]
        if not left:
            break
        command = [sys.executable, __file__, "--one", name, "--engine", step, "--minutes", str(minutes)]
        command += ["--inputs", str(left), "--seed", str(seed)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        told = run.stdout.strip().rpartition("\n")[2]
        if run.returncode or not told.startswith("{"):
            sys.stderr.write(f"{name} FAILED\n{run.stderr[-4000:]}\n")
            done["failed"] = True
            break
        told = json.loads(told)
        done["inputs"] += told["inputs"]
        done["refused"] += told["refused"]
        done["engines"][told["engine"]] = told["inputs"]
    return {**done, "seconds": round(time.perf_counter() - began, 1)}


def _is_done(before: dict | None, inputs: int, head: dict) -> bool:
    """Return whether a target has had its inputs on this commit and survived them."""
    if before is None or before["failed"] or head["commit"] is None:
        return False
    return before["inputs"] >= inputs and all(before[key] == head[key] for key in ("seed", "commit"))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--targets", nargs="*", default=None, help="default: every one")
    parser.add_argument("--inputs", type=int, default=200_000, help="for each target")
    parser.add_argument("--minutes", type=float, default=10.0, help="guided at most, for each target")
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=("auto", "atheris", "random"), default="auto")
    parser.add_argument("--one", default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    engine, inputs, seed, minutes = arguments.engine, arguments.inputs, arguments.seed, arguments.minutes
    if engine == "auto":
        engine = "atheris" if importlib.util.find_spec("atheris") else "random"
    if arguments.one is not None:
        if engine == "atheris":
            guided(arguments.one, inputs, seed, minutes)
        else:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
            at_random(arguments.one, inputs, seed)
        return 0
    sys.path.insert(0, str(ROOT / "benchmarks"))  # not when imported: a benchmark may be named like a test's module
    from fuzz_targets import LIBRARIES, TARGETS
    from stamp import RESULTS, stamp, write_result

    head = stamp(command=" ".join(["python", "tests/fuzz.py", *sys.argv[1:]]), seed=seed)
    kept = RESULTS / "fuzz.json"
    targets = json.loads(kept.read_text())["targets"] if kept.is_file() else {}
    names = [name for name in arguments.targets or TARGETS if not _is_done(targets.get(name), inputs, head)]
    order = [*TARGETS, *LIBRARIES]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        running = {pool.submit(fed, name, engine, inputs, seed, minutes): name for name in names}
        for one in as_completed(running):
            name = running[one]
            targets[name] = {**one.result(), "seed": seed, "commit": head["commit"]}
            sys.stdout.write(f"{name}: {targets[name]}\n")
            sys.stdout.flush()
            write_result("fuzz", {**head, "targets": {each: targets[each] for each in order if each in targets}})
    return int(any(targets[name]["failed"] for name in names))


if __name__ == "__main__":
    sys.exit(main())

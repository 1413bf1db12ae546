"""Count the files, the functions and the depth of calls that a command passes through in the package.

    git worktree add build/before a0a6562   # the last commit before the package moved to its present folders
    cmake -S build/before/native -B build/native && cmake --build build/native
    cp build/native/_native.so build/before/src/spiking_centernet/
    python benchmarks/walks.py --package before=build/before/src --package after=src

What a newcomer must read to follow ``scn detect``, one epoch of ``scn train`` and ``scn val`` to the end. A function
counts once however often it is called; what runs while modules are imported does not count, nor do comprehensions and
generated methods, which nobody reads by themselves. Each command runs in a process of its own under ``sys.setprofile``.
"""

import argparse
import json
import os
import runpy
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SIZE = "152x120"
SEED = 0
RECIPE = "preset: nano\nepochs: 1\nbatch_size: 2\nprotocol: none\nnum_workers: 0\n"
COPIES = ("<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>")
"""Code that older versions of Python run as functions and newer ones do not."""


class Walk:
    """The package's functions that are called, and how deep they are nested.

    Args:
        package: folder of the package.
    """

    def __init__(self, package: Path):
        self._prefix = f"{package}{os.sep}"
        self._places = threading.local()
        self.functions: set[tuple[str, str, int]] = set()
        self.depth = 0

    def observe(self, frame: FrameType, event: str, _: Any) -> None:
        """Take an event of ``sys.setprofile``."""
        if event not in ("call", "return"):
            return
        code, step, here = frame.f_code, 1 if event == "call" else -1, self._places
        if code.co_name == "<module>" and not code.co_filename.endswith("__main__.py"):
            here.imports = getattr(here, "imports", 0) + step
        elif not getattr(here, "imports", 0) and self._counts(code):
            here.depth = getattr(here, "depth", 0) + step
            if step > 0:
                self.functions.add((code.co_filename.removeprefix(self._prefix), code.co_qualname, code.co_firstlineno))
                self.depth = max(self.depth, here.depth)

    def _counts(self, code: CodeType) -> bool:
        is_function = code.co_name not in (*COPIES, "<module>") and bool(code.co_flags & 2)  # 2: CO_NEWLOCALS
        return is_function and code.co_filename.startswith(self._prefix)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts and the functions by file."""
        files = sorted({file for file, _, _ in self.functions})
        names = {f: sorted({name for file, name, _ in self.functions if file == f}) for f in files}
        return {"files": len(files), "functions": len(self.functions), "depth": self.depth, "names": names}


def trace(package: Path, out: Path, arguments: Sequence[str]) -> None:
    """Run a command of the package in this process and write its walk; raises SystemExit where the command fails."""
    sys.path.insert(0, str(package.parent))
    sys.argv = ["scn", *arguments]
    walk = Walk(package)
    threading.setprofile(walk.observe)
    sys.setprofile(walk.observe)
    try:
        runpy.run_module(package.name, run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # pyright: ignore[reportArgumentType]
    out.write_text(json.dumps(walk.to_dict()))


def measure(source: Path, folder: Path) -> dict[str, Any]:
    """Return the walks of the package under ``source`` by command; ``folder`` holds the data."""
    package = source.resolve() / "spiking_centernet"
    recording = ROOT / "src/spiking_centernet/assets/icns_roadside_cars/icns_roadside_cars_td.dat"
    data, recipe = str(folder / "roads"), folder / "recipe.yaml"
    recipe.write_text(RECIPE)
    with tempfile.TemporaryDirectory(dir=folder) as out:
        commands = {
            "detect": ["detect", "nano", str(recording), "--out", f"{out}/detect"],
            "train": ["train", str(recipe), "--data", data, "--out", f"{out}/run"],
            "val": ["val", "nano", "--data", data, "--split", "val", "--protocol", "none"],
        }
        walks = {}
        for name, arguments in commands.items():
            path = Path(out) / f"{name}.json"
            _run(["--trace", str(package), str(path), *arguments], source)
            walks[name] = json.loads(path.read_text())
    return walks


def _run(arguments: Sequence[str], source: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(source.resolve()), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, __file__, *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{arguments} failed:\n{done.stdout}{done.stderr}")


def _commit(source: Path) -> str | None:
    done = subprocess.run(["git", "-C", str(source), "rev-parse", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or None


def main() -> None:
    """Measure the packages that are named and write ``results/walks.json``."""
    from stamp import stamp, this_command, write_result

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--package", action="append", required=True, metavar="NAME=FOLDER", help="of a source tree")
    parser.add_argument("--show", action="store_true", help="print the functions instead of writing the result")
    options = parser.parse_args()
    sources = {name: Path(folder) for name, _, folder in (word.partition("=") for word in options.package)}
    with tempfile.TemporaryDirectory() as folder:
        # By the newest package for all of them: the same inputs.
        subprocess.run(
            [sys.executable, "-m", "spiking_centernet", "simulate", f"{folder}/roads", "--seed", str(SEED),
             "--size", SIZE, "--train", "2", "--val", "1", "--test", "0", "--duration_s", "1", "--workers", "1"],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        walks = {name: measure(source, Path(folder)) for name, source in sources.items()}
    for package, commands in walks.items():
        for command, walk in commands.items():
            names = walk.pop("names")
            print(f"{package} {command}: {walk['files']} files, {walk['functions']} functions, depth {walk['depth']}")
            for file, functions in names.items() if options.show else ():
                print(f"    {file}: {', '.join(functions)}")
    if not options.show:
        notes = stamp(command=this_command(), seed=SEED)
        commits = {name: _commit(source) for name, source in sources.items()}
        print(write_result("walks", {**notes, "recipe": RECIPE, "size": SIZE, "commits": commits, "packages": walks}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--trace"]:
        trace(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
    else:
        main()

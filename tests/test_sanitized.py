"""The native kernels' tests once more, in a library that stops at the first wrong address or undefined operation."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COMPILER = shutil.which("gcc")
NO_KERNEL = "not traced_networks and not the_cheaper_way and not near_the_real_numbers and not stay_in_range"
"""Leaves out what takes long and calls no kernel."""


def runtime(name: str) -> str | None:
    """Return the path of a sanitizer's runtime, None where the compiler has none."""
    assert COMPILER is not None
    path = subprocess.run(
        [COMPILER, f"-print-file-name={name}"], check=True, text=True, capture_output=True
    ).stdout.strip()
    return path if Path(path).is_absolute() else None


@pytest.mark.slow
@pytest.mark.thorough
def test_the_kernels_keep_within_their_buffers(tmp_path):
    if sys.platform != "linux" or COMPILER is None or shutil.which("cmake") is None:
        pytest.skip("needs Linux, gcc and cmake")
    runtimes = [runtime("libasan.so"), runtime("libubsan.so")]
    if None in runtimes:
        pytest.skip("this gcc has no sanitizer runtimes")
    environment = os.environ | {"CC": COMPILER}
    configure = ["cmake", "-S", str(ROOT / "native"), "-B", str(tmp_path), "-DSCN_SANITIZE=ON"]
    for command in (configure, ["cmake", "--build", str(tmp_path), "--parallel"]):
        subprocess.run(command, check=True, env=environment, capture_output=True)
    environment |= {
        "SCN_NATIVE": str(tmp_path / "_native.so"),
        "LD_PRELOAD": " ".join(filter(None, runtimes)),
        # The interpreter itself leaks by design.
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    tests = ["tests/deploy/engine/test_bindings.py", "tests/deploy/engine/test_separable.py"]
    tests += [f"tests/ops/test_{name}.py" for name in ("plif", "pooling", "event_conv")]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "not slow", "-k", NO_KERNEL, *tests]
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout

"""What this machine has, what it lacks, and the command that fixes it."""

import importlib.metadata
import os
import platform
import shutil
from dataclasses import dataclass

import torch

from spiking_centernet.errors import EXTRAS, ConfigError, NativeLibraryError, install_hint, is_installed
from spiking_centernet.model.weights import bundled
from spiking_centernet.ops.library import ISA_VARIABLE, PATH_VARIABLE, REBUILD, native, why_missing
from spiking_centernet.utils.provenance import cpu_model, has_native_bfloat16, num_cores, package_version

PURPOSES = {
    "train": "scn train", "wandb": "logger: wandb", "mlflow": "logger: mlflow", "energy": "joules of a GPU",
    "formats": "HDF5, AEDAT4, ROS and MATLAB recordings",
    "track": "scn detect --track", "view": "scn view", "live": "scn stream from a camera or socket",
    "onnx": "scn export to .onnx",
    "openvino": "scn export to .xml", "nir": "scn export to .nir", "cluster": "--executor ray and slurm",
    "results": "Result.to_supervision and Result.to_pandas",
}  # fmt: skip
"""Extra -> what needs it."""

NO_COMPILER = f"install a C compiler and CMake, then {REBUILD}"
"""How to get the native kernels where none were built."""

LITTLE_DISK_GB = 2.0
"""Below this a run folder or a simulated data set may not fit."""


@dataclass(frozen=True)
class Finding:
    """One line of the examination: what was looked at, what was found, whether it is well, and the fix if not."""

    what: str
    found: str
    ok: bool = True
    fix: str = ""


def examine() -> list[Finding]:
    """Look at the machine and the installation; changes nothing."""
    findings = [
        Finding("spiking-centernet", package_version()),
        Finding("python", f"{platform.python_version()} ({platform.system()} {platform.machine()})"),
        Finding("CPU", f"{cpu_model()}; cores: {num_cores()}"),
        Finding("torch", f"{torch.__version__}; threads: {torch.get_num_threads()}"),
        Finding("native bfloat16", "yes" if has_native_bfloat16() else "no: training computes in float32"),
        _kernels(),
        _load(),
        _gpu(),
        _codec(),
    ]
    for extra, modules in EXTRAS.items():
        missing = [name for module, name in modules.items() if not is_installed(module)]
        if missing:
            text = f"{', '.join(missing)} missing; needed for {PURPOSES[extra]}"
            findings.append(Finding(f"[{extra}]", text, False, install_hint(extra)))
        else:
            text = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in modules.values())
            findings.append(Finding(f"[{extra}]", text))
    findings.append(_weights())
    free_gb = shutil.disk_usage(os.getcwd()).free / 1e9
    findings.append(
        Finding("disk", f"{free_gb:.1f} GB free here", free_gb >= LITTLE_DISK_GB, "free some space, or work elsewhere")
    )
    return findings


def _kernels() -> Finding:
    try:
        missing = why_missing()
    except (NativeLibraryError, ConfigError) as error:
        set_by_hand = [name for name in (PATH_VARIABLE, ISA_VARIABLE) if name in os.environ]
        return Finding(
            "native kernels", str(error), False, f"unset {' '.join(set_by_hand)}" if set_by_hand else REBUILD
        )
    if missing is not None:
        fix = f"unset {PATH_VARIABLE}" if PATH_VARIABLE in os.environ else NO_COMPILER
        return Finding("native kernels", f"none ({missing}): torch computes the same, several times slower", False, fix)
    library = native()
    assert library is not None
    sets = ", ".join(library.instruction_sets)
    return Finding("native kernels", f"{library.instruction_set} (this CPU runs {sets}), {library.path}")


def _load() -> Finding:
    if not hasattr(os, "getloadavg"):
        return Finding("load", "this system does not say")
    load, cores = os.getloadavg()[0], num_cores()
    # PyTorch's threads spin while they wait: two of them confined to one busy core took about 40 times the CPU
    # time of one thread for the same windows.
    threads = torch.get_num_threads()
    busy = threads > 1 and (threads > cores or load > cores / 2)
    fix = "other work holds the cores: with OMP_NUM_THREADS=1 detection is many times faster now"
    return Finding("load", f"{load:.1f} in the last minute; cores: {cores}", not busy, fix)


def _gpu() -> Finding:
    if torch.cuda.is_available():
        return Finding("GPU", ", ".join(torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())))
    if torch.backends.mps.is_available():
        return Finding("GPU", "Apple MPS")
    return Finding("GPU", "none; everything runs on the CPU")


def _codec() -> Finding:
    try:
        import av
    except ImportError as error:
        return Finding("video", f"PyAV cannot be loaded ({error})", False, "pip install --force-reinstall av")
    codec = "H.264" if "libx264" in av.codecs_available else "MPEG-4 (no H.264 in this build)"
    return Finding("video", f"PyAV {av.__version__} brings its own {codec}; no ffmpeg needed")


def _weights() -> Finding:
    names = ", ".join(bundled())
    if names:
        return Finding("bundled weights", names)
    return Finding("bundled weights", "none", False, "reinstall the package, or train your own: scn train")

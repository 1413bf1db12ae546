"""Errors a user can cause: each says what is wrong, where, and the next thing to do."""

import difflib
import importlib
import importlib.util
from collections.abc import Iterable
from typing import Any


class SpikingCenterNetError(Exception):
    """Base class of every error this package raises on purpose."""


class EventFileError(SpikingCenterNetError, ValueError):
    """An event recording cannot be read as what it claims to be."""


class BoxFileError(SpikingCenterNetError, ValueError):
    """A box file is missing, malformed or does not belong to its recording."""


class WindowError(SpikingCenterNetError, ValueError):
    """A time window is empty, reversed or outside the recording."""


class DatasetError(SpikingCenterNetError, ValueError):
    """A folder does not hold the recordings and boxes it should."""


class WeightsError(SpikingCenterNetError, ValueError):
    """A weight file is missing, unsafe or does not fit the network."""


class ConfigError(SpikingCenterNetError, ValueError):
    """A name or a setting is unknown or impossible."""


class EvaluationError(SpikingCenterNetError, ValueError):
    """Detections or ground truth cannot be scored, or scoring would mislead."""


class NotSpikingError(SpikingCenterNetError, ValueError):
    """A network that should be fully spiking passes on something other than 0 and 1."""


class ExportError(SpikingCenterNetError, ValueError):
    """A network cannot be written in a format, or a written file cannot be run."""


class NativeLibraryError(SpikingCenterNetError, RuntimeError):
    """The compiled kernels do not load, or were built from another version of the sources."""


class MissingPackageError(SpikingCenterNetError, ImportError):
    """An optional package is not installed."""


class TrainingError(SpikingCenterNetError, RuntimeError):
    """Training cannot continue, for example because the loss is not finite."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'? Known: ..."`` to append to an error about an unknown name."""
    known = sorted(filter(None, known))
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"; {hint}known: {', '.join(known) or 'none'}"


EXTRAS: dict[str, dict[str, str]] = {
    "train": {"lightning": "lightning", "tensorboard": "tensorboard"},
    "wandb": {"wandb": "wandb"},
    "mlflow": {"mlflow": "mlflow"},
    "energy": {"pynvml": "nvidia-ml-py"},
    "formats": {
        "h5py": "h5py", "hdf5plugin": "hdf5plugin", "lz4": "lz4", "zstandard": "zstandard", "rosbags": "rosbags",
        "scipy": "scipy",
    },
    "track": {"trackers": "trackers"},
    "live": {"eventcv": "eventcv"},
    "view": {"starlette": "starlette", "uvicorn": "uvicorn"},
    "onnx": {"onnx": "onnx", "onnxscript": "onnxscript", "onnxruntime": "onnxruntime"},
    "openvino": {"openvino": "openvino", "onnx": "onnx", "onnxscript": "onnxscript"},
    "nir": {"nir": "nir"},
    "results": {"supervision": "supervision", "pandas": "pandas"},
    "cluster": {"ray": "ray", "submitit": "submitit"},
}  # fmt: skip
"""Extra of this package -> the modules it is for, each with the distribution that brings it (``pyproject.toml``)."""


def install_hint(extra: str) -> str:
    """Return how to install what an extra lacks here, whatever this package itself was installed from."""
    modules = EXTRAS[extra]
    missing = [name for module, name in modules.items() if not is_installed(module)]
    return (
        f"pip install {' '.join(missing or modules.values())}, or reinstall spiking-centernet with the extra [{extra}]"
    )


def is_installed(module: str) -> bool:
    """Return whether a top-level module can be found."""
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # a module that was not imported the usual way
        return True


def need(module: str, purpose: str, extra: str) -> Any:
    """Return an optional module.

    Args:
        module: its name, with dots for a part of a package.
        purpose: what needs it, the subject of the message: "writing ONNX".
        extra: of ``EXTRAS``.

    Raises:
        MissingPackageError: If it is not installed or cannot be loaded; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError):
            reason = f"needs {error.name}, which is not installed"
        else:  # a library of the system is missing
            reason = f"needs {module}, which cannot be loaded ({error})"
        raise MissingPackageError(f"{purpose} {reason}; {install_hint(extra)}") from error


def one_line(error: BaseException) -> str:
    """Return what an error says in one line of at most 200 characters, its type if it says nothing."""
    return " ".join(str(error).split())[:200] or type(error).__name__

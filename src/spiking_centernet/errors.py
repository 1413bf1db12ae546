"""Errors a user can cause: each says what is wrong, where, and the next thing to do."""

import difflib
import importlib
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
    """Training cannot go on, for example because the loss is not finite."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'? Known: ..."`` to append to an error about an unknown name."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"; {hint}known: {', '.join(known)}"


def need(module: str, purpose: str, extra: str) -> Any:
    """Return an optional module.

    Raises:
        MissingPackageError: it is not installed; the message has the line that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"{purpose} needs {error.name}, which is not installed; pip install 'spiking-centernet[{extra}]'"
        ) from error

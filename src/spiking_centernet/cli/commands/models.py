"""The detector and the source of events that a command line asks for."""

import glob
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from spiking_centernet.cli.values import DEFAULT_MODEL, check_device
from spiking_centernet.errors import ConfigError

if TYPE_CHECKING:
    from spiking_centernet.inference import EventSource
    from spiking_centernet.model import AnyDetector, Detector


def load_network(model: str, *, device: str = "cpu") -> "Detector":
    """Return a detector on a device of this machine.

    Raises:
        ConfigError: If the machine has no such device, or a recording stands where the detector should.
        WeightsError: If the weights are missing or damaged.
    """
    from spiking_centernet.data.io import OPENERS
    from spiking_centernet.model.weights import load

    if Path(model).suffix.lower() in OPENERS:
        raise ConfigError(f"{model} is a recording, no detector; the detector comes first, for example small {model}")
    return load(model, device=check_device(device))


def load_detector(
    model: str, *, device: str = "cpu", precision: str | None = None, sparse: str = "auto"
) -> "AnyDetector":
    """Return a detector on a device, compiled for this CPU if a precision is given.

    Raises:
        ConfigError: If a GPU and a precision are asked for together, or the machine has no such device.
        WeightsError: If the weights are missing or damaged.
    """
    if precision is not None and device != "cpu":
        raise ConfigError(f"--precision compiles for the CPU; leave it out with --device {device}")
    detector = load_network(model, device=device)
    if precision is None:
        return detector
    from spiking_centernet.deploy.engine import compile

    return compile(detector, precision=precision, sparse=sparse)


def split_inputs(words: Sequence[str], model: str | None) -> tuple[str, list[str]]:
    """Return the model and the recordings among words in any order.

    A word is a model if it is bundled, a weight file, a run folder, or no file and without a suffix, as hub ids are.

    Args:
        words: what was typed.
        model: what ``--model`` said; every word is a recording then.

    Raises:
        ConfigError: If there are several models, or no recording.
    """
    from spiking_centernet.data.io import SAMPLES
    from spiking_centernet.model.weights import SUFFIX, bundled

    def is_model(word: str) -> bool:
        path = Path(word)
        if word in bundled() or path.suffix in (SUFFIX, ".pt", ".pth", ".ckpt"):
            return True
        if path.is_dir():
            return any((path / f"{name}{SUFFIX}").is_file() for name in ("best", "model"))
        return not (path.exists() or path.suffix or glob.has_magic(word) or word in SAMPLES)

    models = [model] if model is not None else [word for word in words if is_model(word)]
    sources = [word for word in words if model is not None or word not in models]
    if len(models) > 1:
        raise ConfigError(f"{', '.join(models)} are several models (or files that do not exist); give one of them")
    name = models[0] if models else DEFAULT_MODEL
    if not sources:
        raise ConfigError(f"give a recording behind the model, or the one that is here: {name} sample")
    return name, sources


@contextmanager
def open_source(
    source: str,
    *,
    speed: float = 1.0,
    size_hw: tuple[int, int] | None = None,
    columns: str | None = None,
    unit: str | None = None,
    timestamps: bool = False,
) -> "Iterator[EventSource]":
    """Give a live source: "camera", "udp:HOST:PORT", or a recording that is replayed.

    Raises:
        ConfigError: If a socket comes without a size, or nothing is connected.
        EventFileError: If the recording cannot be read.
    """
    from spiking_centernet.data import open as open_recording
    from spiking_centernet.inference import Camera, Replay, Udp

    if source == "camera":
        with Camera() as camera:
            yield camera
    elif source.startswith("udp:"):
        if size_hw is None:
            raise ConfigError("a socket does not say its sensor's size; give --size, width x height in pixels")
        yield Udp(source.removeprefix("udp:"), size_hw, timestamps=timestamps)
    else:
        yield Replay(open_recording(source, size_hw=size_hw, columns=columns, unit=unit), speed=speed)

"""Kinds of values on the command line, and how an error describes them."""

import typing
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

from spiking_centernet.errors import ConfigError

if TYPE_CHECKING:  # to a type checker they are plain numbers and words
    PositiveInt = NonNegativeInt = int
    PositiveFloat = NonNegativeFloat = UnitFloat = Rate = Milliseconds = Speed = float
    Size = Device = ScaleWord = str
else:
    from jsonargparse import typing as kinds

    PositiveInt, NonNegativeInt = kinds.PositiveInt, kinds.NonNegativeInt
    PositiveFloat, NonNegativeFloat = kinds.PositiveFloat, kinds.NonNegativeFloat
    UnitFloat, Rate = kinds.ClosedUnitInterval, kinds.OpenUnitInterval
    Milliseconds = kinds.restricted_number_type("Milliseconds", float, [(">=", 1e-3), ("<=", 3.6e6)])
    Speed = kinds.restricted_number_type("Speed", float, [(">=", 1e-4), ("<=", 1e4)])
    Size = kinds.restricted_string_type("Size", r"^0*[1-9]\d*[xX]0*[1-9]\d*$")
    Device = kinds.restricted_string_type("Device", r"^(cpu|cuda(:\d+)?)$")
    ScaleWord = kinds.restricted_string_type("ScaleWord", r"^(auto|pyramid|\d*\.?\d+|\d+\.|\d+/[1-9]\d*)$")

Protocol = Literal["prophesee", "prophesee-script", "cordone", "none", "all"]
Corruption = Literal[
    "background_activity", "hot_pixels", "event_drop", "dead_pixels", "rate_cap", "refractory", "time_jitter",
    "polarity_flip", "downscale", "all",
]  # fmt: skip
SaveFormat = Literal["mp4", "json", "npy", "png", "csv", "coco", "html"]
FurtherLabels = Literal["objects", "frames"]
LabelFormat = Literal["gen1", "1mpx", "coco", "yolo", "mot", "kitti", "dat", "ncars"]
EnginePrecision = Literal["fp32", "bf16", "int8"]
Sparse = Literal["auto", "never", "always"]
ModeWord = Literal["auto", "windowed", "stateful"]
World = Literal["roads", "stops", "wide", "close"]
CameraProfile = Literal[
    "any", "dvs128", "davis240", "davis346", "gen3.1", "atis", "dvxplorer", "imx636", "genx320",
]  # fmt: skip
Preset = Literal["nano", "small", "paper", "nano-classify"]

DEFAULT_MODEL = "small-wide-one-step"
"""That of ``scn.predict``, which is imported only when something is detected."""

_WORDS = {
    "PositiveInt": "a whole number of at least 1",
    "NonNegativeInt": "a whole number of at least 0",
    "PositiveFloat": "a number greater than 0",
    "NonNegativeFloat": "a number of at least 0",
    "ClosedUnitInterval": "a number from 0 to 1",
    "OpenUnitInterval": "a number between 0 and 1",
    "Milliseconds": "a number from 0.001 to 3600000 (milliseconds)",
    "Speed": "a number from 0.0001 to 10000 (times real time)",
    "Size": "width x height in pixels, for example 304x240",
    "Device": "cpu, cuda, or one GPU of several as in cuda:1",
    "ScaleWord": "auto, pyramid, or numbers from 1/64 to 1 such as 0.5 or 1/3",
    "dict": "names and values, for example '{epochs: 1}'",
}
"""Name of a type -> what an option of it takes."""


def describe(annotation: Any) -> str | None:
    """Return in words what an option of this type takes, None where its name says enough."""
    kinds = [kind for kind in typing.get_args(annotation) or (annotation,) if kind is not type(None)]
    return _WORDS.get(getattr(kinds[0], "__name__", "")) if kinds else None


def read_size(text: str) -> tuple[int, int]:
    """Return height and width of a size that is written as width x height in pixels, for example "304x240".

    Raises:
        ConfigError: If it is not written like that.
    """
    width, _, height = text.lower().partition("x")
    if not all(side.isdigit() and int(side) for side in (width, height)):
        raise ConfigError(f"--size takes {_WORDS['Size']}, got {text!r}")
    return int(height), int(width)


def read_scale(words: Sequence[str]) -> str | tuple[float, ...]:
    """Return what --scale gives: "auto", "pyramid", or numbers, also written as fractions.

    Raises:
        ConfigError: If a word stands next to others, or nothing is given.
    """
    if any(word in ("auto", "pyramid") for word in words):
        if len(words) > 1:
            raise ConfigError(f"--scale takes auto, pyramid, or numbers alone, got {' '.join(words)!r}")
        return words[0]
    if not words:
        raise ConfigError(f"--scale takes {_WORDS['ScaleWord']}")
    return tuple(float(Fraction(word)) for word in words)


def microseconds(ms: float) -> int:
    """Return milliseconds as whole microseconds."""
    return round(ms * 1000)


def check_device(name: str) -> str:
    """Return the name of a device, "cpu", "cuda" or "cuda:1", if this machine has it.

    Raises:
        ConfigError: If it does not.
    """
    import torch

    kind, _, number = name.partition(":")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {name}: torch finds {torch.cuda.device_count()} GPUs here; see scn doctor")
    return name

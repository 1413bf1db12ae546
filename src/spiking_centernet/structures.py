"""The few types every room shares: events, boxes, detections, samples and batches."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, get_args

import numpy as np
import torch

from spiking_centernet.errors import ConfigError, did_you_mean

EVENT_DTYPE = np.dtype([("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")])
"""One event: time in microseconds, column, row, polarity (1 = ON, brighter)."""

BOX_DTYPE = np.dtype(
    [
        ("ts", "<u8"),
        ("x", "<f4"),
        ("y", "<f4"),
        ("w", "<f4"),
        ("h", "<f4"),
        ("class_id", "u1"),
        ("confidence", "<f4"),
        ("track_id", "<u4"),
    ]
)
"""One labelled box as GEN1 stores it, 33 packed bytes: ``x, y`` the top-left corner in pixels, ``ts`` microseconds."""

CLASS_NAMES = ("car", "pedestrian")
"""The classes of GEN1 and of the simulator; a label is an index into this tuple."""

CLASS_ALIASES = (
    ("pedestrian", "person", "people"),
    ("car", "vehicle", "automobile"),
    ("two wheeler", "two-wheeler", "two_wheeler"),
    ("bicycle", "bike"),
    ("motorcycle", "motorbike"),
)
"""Names that data sets give to the same class, so that a network is scored on all of them. eTraM's "vehicle" also holds
trucks and buses."""


def find_class(name: str, among: Sequence[str]) -> int | None:
    """Return where a class stands among others: by its name, else by another name for the same; None if nowhere."""
    if name in among:
        return among.index(name)
    names = next((names for names in CLASS_ALIASES if name.lower() in names), (name.lower(),))
    return next((k for k, other in enumerate(among) if other.lower() in names), None)


CubeMode = Literal["binary", "count"]

LARGEST_DENOMINATOR = 64
"""A scale is the nearest fraction with a denominator up to this: 0.333 bins as 1/3 does, with whole numbers alone."""


def _check(ok: bool, message: str) -> None:
    if not ok:
        raise ValueError(message)


@dataclass(frozen=True)
class VoxelSpec:
    """How a window of events becomes a voxel cube.

    Attributes:
        window_us: length of the window in microseconds.
        num_steps: time steps that the window is divided into.
        bins: micro time bins of a step; each is a channel of either polarity.
        mode: "binary" marks a pixel of a micro bin that had an event, "count" counts its events up to 255.
        scale: pixels of the cube over pixels of the sensor, along a side: 0.5 bins at half the sensor's resolution. An
            event at column x lies in column ``floor(x * scale)`` of the cube.

    Raises:
        ConfigError: If a whole number is less than 1, the mode unknown or the scale not from 1/64 to 1.
    """

    window_us: int = 100_000
    num_steps: int = 5
    bins: int = 2
    mode: CubeMode = "binary"
    scale: float = field(default=1.0, metadata={"setting": False})

    def __post_init__(self):
        for name in ("window_us", "num_steps", "bins"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.mode not in get_args(CubeMode):
            raise ConfigError(f"unknown mode {self.mode!r}{did_you_mean(str(self.mode), get_args(CubeMode))}")
        if not 1 / LARGEST_DENOMINATOR <= self.scale <= 1:
            raise ConfigError(
                f"scale must lie between 1/{LARGEST_DENOMINATOR} and 1, got {self.scale}: events hold no detail finer "
                "than the sensor's pixels"
            )

    @property
    def ratio(self) -> Fraction:
        """The scale as the exact fraction that events are binned with."""
        return Fraction(self.scale).limit_denominator(LARGEST_DENOMINATOR)

    def cube_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of the cube of a sensor, both in pixels: every event has a place, no row is spare."""
        height, width = (int(side) for side in size_hw)
        over, under = self.ratio.as_integer_ratio()
        return (height - 1) * over // under + 1, (width - 1) * over // under + 1

    @property
    def channels(self) -> int:
        """Channels of the cube: two polarities times the micro bins."""
        return 2 * self.bins

    @property
    def step_us(self) -> float:
        """Length of a time step in microseconds."""
        return self.window_us / self.num_steps


@dataclass(frozen=True)
class Boxes:
    """Labelled boxes of one instant.

    Attributes:
        xyxy: float32 [N, 4], left, top, right, bottom in pixels.
        labels: int64 [N], index of the class, from 0.
        track_ids: int64 [N], one number per object and recording; -1 where unknown.
    """

    xyxy: np.ndarray
    labels: np.ndarray
    track_ids: np.ndarray = field(default=None)  # pyright: ignore[reportAssignmentType]

    def __post_init__(self):
        if self.track_ids is None:
            object.__setattr__(self, "track_ids", np.full(len(self.labels), -1, np.int64))
        _check(self.xyxy.ndim == 2 and self.xyxy.shape[1] == 4, f"xyxy must be [N, 4], got {list(self.xyxy.shape)}")
        n = len(self.xyxy)
        for name in ("labels", "track_ids"):
            array = getattr(self, name)
            _check(array.shape == (n,), f"{name} must be [{n}] like xyxy, got {list(array.shape)}")
            _check(array.dtype == np.int64, f"{name} must be int64, got {array.dtype}")

    def __len__(self) -> int:
        return len(self.labels)

    @staticmethod
    def empty() -> "Boxes":
        """Return no boxes."""
        return Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))


@dataclass(frozen=True)
class Detections:
    """Detected boxes of one instant, best score first.

    Attributes:
        xyxy: float32 [N, 4], left, top, right, bottom in pixels.
        scores: float32 [N] in [0, 1].
        labels: int64 [N], index of the class, from 0.
        t_us: the instant (exclusive end of the window) in microseconds of the recording.
        track_ids: int64 [N], one number per object and recording; -1 where unknown.
    """

    xyxy: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    t_us: int
    track_ids: np.ndarray = field(default=None)  # pyright: ignore[reportAssignmentType]

    def __post_init__(self):
        if self.track_ids is None:
            object.__setattr__(self, "track_ids", np.full(len(self.labels), -1, np.int64))
        _check(self.xyxy.ndim == 2 and self.xyxy.shape[1] == 4, f"xyxy must be [N, 4], got {list(self.xyxy.shape)}")
        n = len(self.xyxy)
        _check(self.scores.shape == (n,), f"scores must be [{n}] like xyxy, got {list(self.scores.shape)}")
        _check(self.labels.shape == (n,), f"labels must be [{n}] like xyxy, got {list(self.labels.shape)}")
        _check(self.labels.dtype == np.int64, f"labels must be int64, got {self.labels.dtype}")
        _check(self.track_ids.shape == (n,), f"track_ids must be [{n}] like xyxy, got {list(self.track_ids.shape)}")

    def __len__(self) -> int:
        return len(self.labels)

    def above(self, score: float) -> "Detections":
        """Return only the detections with at least this score."""
        keep = self.scores >= score
        return Detections(self.xyxy[keep], self.scores[keep], self.labels[keep], self.t_us, self.track_ids[keep])


@dataclass(frozen=True)
class Sample:
    """One labelled window: ``cube`` uint8 [T, C, H, W], its boxes, the exclusive end ``t_us``, the recording's name."""

    cube: torch.Tensor
    boxes: Boxes
    t_us: int
    recording: str

    def __post_init__(self):
        _check(self.cube.ndim == 4, f"cube must be [T, C, H, W], got {list(self.cube.shape)}")


@dataclass(frozen=True)
class Batch:
    """Several samples, time first: ``cube`` uint8 [T, B, C, H, W] and B entries in every list."""

    cube: torch.Tensor
    boxes: list[Boxes]
    t_us: list[int]
    recordings: list[str]

    def __post_init__(self):
        _check(self.cube.ndim == 5, f"cube must be [T, B, C, H, W], got {list(self.cube.shape)}")
        _check(
            self.cube.shape[1] == len(self.boxes) == len(self.t_us) == len(self.recordings),
            f"a batch of {self.cube.shape[1]} cubes has {len(self.boxes)} boxes, {len(self.t_us)} times and "
            f"{len(self.recordings)} recordings",
        )

"""The few types that every package shares: events, boxes, detections, samples and batches."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from typing import Literal, TypeVar, get_args

import numpy as np
import torch

from spiking_centernet.calibration import Calibration
from spiking_centernet.errors import ConfigError, did_you_mean

EVENT_DTYPE = np.dtype([("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")])
"""One event: time in microseconds, column, row, polarity (1 = ON, brighter)."""

BOX_DTYPE = np.dtype([
    ("ts", "<u8"), ("x", "<f4"), ("y", "<f4"), ("w", "<f4"), ("h", "<f4"), ("class_id", "u1"), ("confidence", "<f4"),
    ("track_id", "<u4"),
])  # fmt: skip
"""One labeled box as GEN1 stores it, 33 packed bytes: ``x, y`` the top-left corner in pixels, ``ts`` microseconds."""

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


CubeMode = Literal["binary", "count", "direct", "rate", "difference"]

FRAME_MODES: tuple[CubeMode, ...] = ("direct", "rate", "difference")
"""Modes of networks that see pictures; the others see events."""

LARGEST_DENOMINATOR = 64
"""A scale is the nearest fraction with a denominator up to this: 0.333 bins as 1/3 does, with whole numbers alone."""


def _check(ok: bool, message: str) -> None:
    if not ok:
        raise ValueError(message)


@dataclass(frozen=True)
class VoxelSpec:
    """How a window of events becomes a voxel cube.

    Attributes:
        window_us: length of the window in microseconds; with ``num_events`` the most that it may have.
        num_steps: time steps that the window is divided into.
        bins: micro time bins of a step; each is a channel of either polarity.
        mode: "binary" marks a pixel of a micro bin that had an event, "count" counts its events up to 255; of pictures,
            "direct" holds the picture as it is, "rate" draws a spike with the probability of its intensity, and
            "difference" marks what got brighter or darker from one picture to the next; see ``data.frames.encode``.
        scale: pixels of the cube over pixels of the sensor, along a side: 0.5 bins at half the sensor's resolution. An
            event at column x lies in column ``floor(x * scale)`` of the cube.
        num_events: 0 for windows of ``window_us``; else a window reaches back until it holds this many events of the
            sensor, and the steps divide the length that it comes to.
        least_us: the least that a window of ``num_events`` or with ``fit`` reaches back, in microseconds.
        fit: whether a window whose first cell of time is empty begins at its first event, so that its steps divide what
            there is: the start of a recording, or a sample shorter than ``window_us``.
        colors: channels of a picture: 3 for red, green and blue, 1 for its luminance.
        frame_hw: height and width in pixels that pictures are brought to; the default is GEN1's sensor.

    Raises:
        ConfigError: If a number is less than it can be, the mode unknown or the scale not from 1/64 to 1.
    """

    window_us: int = 100_000
    num_steps: int = 5
    bins: int = 2
    mode: CubeMode = "binary"
    scale: float = field(default=1.0, metadata={"setting": False})
    num_events: int = 0
    least_us: int = 10_000
    fit: bool = field(default=False, metadata={"setting": False})
    colors: int = 3
    frame_hw: tuple[int, ...] = (240, 304)

    def __post_init__(self):
        for name, least in (("window_us", 1), ("num_steps", 1), ("bins", 1), ("num_events", 0), ("least_us", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.num_events and self.least_us > self.window_us:
            raise ConfigError(
                f"a window of {self.num_events} events must reach back {self.least_us} us and may {self.window_us} us; "
                "give a least length up to the most"
            )
        if self.mode not in get_args(CubeMode):
            raise ConfigError(f"unknown mode {self.mode!r}{did_you_mean(str(self.mode), get_args(CubeMode))}")
        if self.colors not in (1, 3):
            raise ConfigError(f"colors must be 3 (red, green, blue) or 1 (gray), got {self.colors}")
        if len(self.frame_hw) != 2 or min(self.frame_hw) < 1:
            raise ConfigError(f"frame_hw must be a height and a width in pixels, got {self.frame_hw}")
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
    def takes_frames(self) -> bool:
        """Whether the network sees pictures instead of events."""
        return self.mode in FRAME_MODES

    @property
    def channels(self) -> int:
        """Channels of the cube: two polarities times the micro bins; of pictures, the colors or two polarities."""
        if self.takes_frames:
            return 2 if self.mode == "difference" else self.colors
        return 2 * self.bins

    @property
    def step_us(self) -> float:
        """Length of a time step in microseconds."""
        return self.window_us / self.num_steps


PerObject = TypeVar("PerObject", bound="Boxes | Detections")

COLUMN_TYPES = {
    "xyxy": np.float32, "scores": np.float32, "labels": np.int64, "track_ids": np.int64, "box3d": np.float32,
    "joints": np.float32, "crowd": np.bool_, "areas": np.float32,
}  # fmt: skip
"""What the columns of boxes and detections hold."""


def _complete(objects: "Boxes | Detections") -> None:
    """Fill optional columns with "unknown", make arrays of lists, and check all columns against ``xyxy``."""
    n = len(objects.labels)
    unknown = {
        "track_ids": np.full(n, -1, np.int64), "box3d": np.full((n, 7), np.nan, np.float32),
        "joints": np.zeros((n, 0, 3), np.float32), "crowd": np.zeros(n, bool),
        "areas": np.full(n, np.nan, np.float32),
    }  # fmt: skip
    for name in (f.name for f in fields(objects) if f.name in COLUMN_TYPES):
        value = getattr(objects, name)
        if value is None:
            value = unknown.get(name)
        if isinstance(value, list | tuple):
            try:
                value = np.asarray(value, COLUMN_TYPES[name])
            except (TypeError, ValueError, OverflowError) as error:
                raise ValueError(f"{name} must be numbers of a regular shape, got {str(value)[:100]}") from error
            value = value.reshape(-1, 4) if name == "xyxy" and not value.size else value
        is_array = isinstance(value, np.ndarray)
        _check(is_array, f"{name} must be an array or a list, got {type(value).__name__}")
        object.__setattr__(objects, name, value)
    xyxy, joints = objects.xyxy, objects.joints
    _check(xyxy.ndim == 2 and xyxy.shape[1] == 4, f"xyxy must be [N, 4], got {list(xyxy.shape)}")
    n = len(xyxy)
    for name in ("labels", "track_ids", *(("crowd", "areas") if isinstance(objects, Boxes) else ())):
        array, dtype = getattr(objects, name), np.dtype(COLUMN_TYPES[name])
        _check(array.shape == (n,), f"{name} must be [{n}] like xyxy, got {list(array.shape)}")
        _check(array.dtype == dtype, f"{name} must be {dtype}, got {array.dtype}")
    _check(objects.box3d.shape == (n, 7), f"box3d must be [{n}, 7] like xyxy, got {list(objects.box3d.shape)}")
    _check(
        joints.ndim == 3 and joints.shape[0] == n and joints.shape[2] == 3,
        f"joints must be [{n}, J, 3] like xyxy, got {list(joints.shape)}",
    )
    for name in ("box3d", "joints"):
        dtype = getattr(objects, name).dtype
        _check(dtype == np.float32, f"{name} must be float32, got {dtype}")


def select(objects: PerObject, keep: np.ndarray) -> PerObject:
    """Return the objects at an index array or under a mask, with every column they have.

    Args:
        objects: not changed.
        keep: int [M] or bool [N].
    """
    columns = {f.name: getattr(objects, f.name) for f in fields(objects)}
    return replace(objects, **{name: c[keep] for name, c in columns.items() if isinstance(c, np.ndarray)})


def concatenate(parts: Sequence[PerObject]) -> PerObject:
    """Return the objects of one or more parts as one, every column joined; the other fields are the first part's.

    Parts without joints get joints of visibility 0 where others have some.

    Raises:
        ValueError: There is no part, or parts have different sets of joints.
    """
    _check(len(parts) > 0, "there must be at least one part to concatenate")
    counts = sorted({part.joints.shape[1] for part in parts} - {0}) or [0]
    _check(len(counts) == 1, f"parts have {counts} joints; join objects of one set of joints")

    def column(part: PerObject, name: str) -> np.ndarray:
        if name == "joints" and part.joints.shape[1] != counts[0]:
            return np.zeros((len(part), counts[0], 3), np.float32)
        return getattr(part, name)

    names = [f.name for f in fields(parts[0]) if isinstance(getattr(parts[0], f.name), np.ndarray)]
    return replace(parts[0], **{name: np.concatenate([column(part, name) for part in parts]) for name in names})


@dataclass(frozen=True)
class Boxes:
    """Labeled boxes of one timestamp.

    Attributes:
        xyxy: float32 [N, 4], left, top, right, bottom in pixels.
        labels: int64 [N], index of the class, from 0.
        track_ids: int64 [N], one number per object and recording; -1 where unknown.
        box3d: float32 [N, 7], x, y, z of the middle of the bottom face, height, width, length in meters and yaw in
            radians, in the leveled camera frame; rows of NaN where unknown.
        joints: float32 [N, J, 3], u and v in pixels and COCO's visibility: 0 unknown, 1 hidden, 2 visible; J is 0 where
            there are none.
        crowd: bool [N], True for a region that is no object but may hide some of its class: nothing is learned there,
            and detections there are neither right nor wrong (COCO's ``iscrowd``, KITTI's DontCare).
        areas: float32 [N], square pixels that the object itself covers (COCO's ``area``); NaN where unknown.
    """

    xyxy: np.ndarray
    labels: np.ndarray
    track_ids: np.ndarray = field(default=None)  # pyright: ignore[reportAssignmentType]
    box3d: np.ndarray = field(default=None)  # pyright: ignore[reportAssignmentType]
    joints: np.ndarray = field(default=None)  # pyright: ignore[reportAssignmentType]
    crowd: np.ndarray = field(default=None)  # pyright: ignore[reportAssignmentType]
    areas: np.ndarray = field(default=None)  # pyright: ignore[reportAssignmentType]

    def __post_init__(self):
        _complete(self)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def objects(self) -> "Boxes":
        """The boxes of objects, without crowds."""
        return select(self, ~self.crowd) if self.crowd.any() else self

    @property
    def crowds(self) -> "Boxes":
        """The regions that are crowds."""
        return select(self, self.crowd)

    @staticmethod
    def empty() -> "Boxes":
        """Return no boxes."""
        return Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))


@dataclass(frozen=True)
class Detections:
    """Detected boxes of one timestamp, best score first.

    Attributes:
        xyxy: float32 [N, 4], left, top, right, bottom in pixels.
        scores: float32 [N] in [0, 1].
        labels: int64 [N], index of the class, from 0.
        t_us: the timestamp (exclusive end of the window) in microseconds of the recording.
        track_ids: int64 [N], one number per object and recording; -1 where unknown.
        box3d: float32 [N, 7] as of :class:`Boxes`; rows of NaN where unknown.
        joints: float32 [N, J, 3], u and v in pixels and the joint's score in [0, 1].
    """

    xyxy: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    t_us: int
    track_ids: np.ndarray = field(default=None)  # pyright: ignore[reportAssignmentType]
    box3d: np.ndarray = field(default=None)  # pyright: ignore[reportAssignmentType]
    joints: np.ndarray = field(default=None)  # pyright: ignore[reportAssignmentType]

    def __post_init__(self):
        _complete(self)
        n = len(self.xyxy)
        _check(self.scores.shape == (n,), f"scores must be [{n}] like xyxy, got {list(self.scores.shape)}")

    def __len__(self) -> int:
        return len(self.labels)

    def above(self, score: float) -> "Detections":
        """Return only the detections with at least this score."""
        return select(self, self.scores >= score)

    def best(self, num: int) -> "Detections":
        """Return at most this many detections, those that stand first."""
        return select(self, np.arange(min(num, len(self))))


@dataclass(frozen=True)
class Sample:
    """One labeled window: ``cube`` uint8 [T, C, H, W], its boxes, the exclusive end ``t_us``, the recording's name.

    ``calibration`` is the camera's at ``t_us``, None where unknown; ``source_hw`` the size of the picture that the cube
    was made of, None for events; ``earlier`` the boxes at the times of earlier answers, the oldest first.
    """

    cube: torch.Tensor
    boxes: Boxes
    t_us: int
    recording: str
    calibration: Calibration | None = None
    source_hw: tuple[int, int] | None = None
    earlier: tuple[Boxes, ...] = ()

    def __post_init__(self):
        _check(self.cube.ndim == 4, f"cube must be [T, C, H, W], got {list(self.cube.shape)}")


@dataclass(frozen=True)
class Batch:
    """Several samples, time first: ``cube`` uint8 [T, B, C, H, W] and B entries in every list."""

    cube: torch.Tensor
    boxes: list[Boxes]
    t_us: list[int]
    recordings: list[str]
    calibrations: list[Calibration | None] = field(default=None)  # pyright: ignore[reportAssignmentType]
    source_hws: list[tuple[int, int] | None] = field(default=None)  # pyright: ignore[reportAssignmentType]
    earlier: list[tuple[Boxes, ...]] = field(default=None)  # pyright: ignore[reportAssignmentType]

    def __post_init__(self):
        for name, unknown in (("calibrations", None), ("source_hws", None), ("earlier", ())):
            if getattr(self, name) is None:
                object.__setattr__(self, name, [unknown] * len(self.boxes))
        _check(self.cube.ndim == 5, f"cube must be [T, B, C, H, W], got {list(self.cube.shape)}")
        _check(
            self.cube.shape[1] == len(self.boxes) == len(self.t_us) == len(self.recordings) == len(self.calibrations),
            f"a batch of {self.cube.shape[1]} cubes has {len(self.boxes)} boxes, {len(self.t_us)} times, "
            f"{len(self.recordings)} recordings and {len(self.calibrations)} calibrations",
        )

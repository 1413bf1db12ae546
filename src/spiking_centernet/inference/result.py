"""What was detected at one timestamp, with everything to look at it and to hand it on."""

import math
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from spiking_centernet.calibration import Calibration
from spiking_centernet.errors import ConfigError, did_you_mean, need
from spiking_centernet.inference.inspection import Inspection
from spiking_centernet.inference.recordings import as_box_array, as_record
from spiking_centernet.structures import EVENT_DTYPE, Detections
from spiking_centernet.utils.files import atomic_write
from spiking_centernet.utils.provenance import write_json
from spiking_centernet.visualize.draw import Image, draw_boxes, draw_class, events_image, events_of, overlay_heatmap

SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".json": None, ".npy": None}
"""Suffix of a file that :meth:`Result.save` writes -> the picture's format, None of what is no picture."""


def no_events(length_us: int) -> np.ndarray:
    """Return no events."""
    return np.zeros(0, EVENT_DTYPE)


@dataclass(frozen=True, kw_only=True, eq=False)
class Result(Detections):
    """Detections of one timestamp, best score first; boxes in the sensor's pixels.

    Attributes:
        size_hw: height and width of the sensor in pixels.
        class_names: of every class, by its number.
        path: of the recording; None for events and cubes in memory and for live sources.
        latency_ms: wall time to read, bin, compute and decode the window; live: since its events were complete.
        inspection: what ``keep`` asked for.
        events: returns the events before the timestamp, given how many microseconds of them.
        camera: of the sensor at the timestamp; None where unknown.
        classifies: whether the boxes are the classes of the whole window, the likeliest first.
        picture: what was detected in, uint8 [H, W, 3]; None for events.
    """

    size_hw: tuple[int, int]
    class_names: tuple[str, ...]
    path: Path | None = None
    latency_ms: float = math.nan
    inspection: Inspection | None = field(default=None, repr=False)
    events: Callable[[int], np.ndarray] = field(default=no_events, repr=False)
    camera: Calibration | None = field(default=None, repr=False)
    classifies: bool = False
    picture: np.ndarray | None = field(default=None, repr=False)

    @property
    def boxes(self) -> np.ndarray:
        """float32 [N, 4]: left, top, right, bottom in pixels."""
        return self.xyxy

    @property
    def classes(self) -> np.ndarray:
        """int64 [N]: the class of every box as an index into ``class_names``."""
        return self.labels

    @property
    def names(self) -> list[str]:
        """The class of every box by its name."""
        return [self.class_names[label] for label in self.labels.tolist()]

    @property
    def tracks(self) -> np.ndarray:
        """int64 [N]: the number of every box's object; -1 without tracking."""
        return self.track_ids

    @property
    def heatmap(self) -> np.ndarray:
        """float32 [classes, h, w]: probability of an object's center at every output pixel."""
        return self._kept("heatmap")

    @property
    def spikes(self) -> dict[str, np.ndarray]:
        """Of every neuron layer, by name, bool [T, K, h, w]; of I-LIF neurons uint8, how many in the step."""
        return self._kept("spikes")

    @property
    def rates(self) -> dict[str, float]:
        """Firing rate of every neuron layer, by name: spikes over (neurons x steps), of I-LIF virtual steps."""
        return self._kept("rates")

    @property
    def operations(self) -> dict[str, int]:
        """Pairs of spike and weight that met in every layer, by name."""
        return self._kept("operations")

    def _kept(self, name: str) -> Any:
        value = getattr(self.inspection, name, None)
        if value is None:
            raise ConfigError(f"the {name} were not kept; ask for them with predict(..., keep=({name!r},))")
        return value

    def above(self, score: float) -> "Result":
        """Return only the detections with at least this score."""
        keep = self.scores >= score
        return replace(
            self, xyxy=self.xyxy[keep], scores=self.scores[keep], labels=self.labels[keep],
            track_ids=self.track_ids[keep], box3d=self.box3d[keep], joints=self.joints[keep],
        )  # fmt: skip

    def plot(
        self, *, heatmap: bool = False, shown_us: int = 40_000, enlarge: int | None = None, theme: str = "dark"
    ) -> Image:
        """Return a picture of the events before the timestamp and the boxes, uint8 [H * enlarge, W * enlarge, 3].

        Of a network of pictures it shows the picture.

        Args:
            heatmap: lay the heatmap over the events; it must have been kept.
            shown_us: how many microseconds of events are shown; of a cube, all that it holds.
            enlarge: how often each pixel is repeated; None makes text readable.
            theme: "dark" or "light".

        Raises:
            ConfigError: the heatmap was not kept, or an unknown theme.
        """
        if self.picture is None:
            image, caption = events_image(self.events(shown_us), self.size_hw, theme=theme), f"{self.t_us * 1e-6:.3f} s"
        else:
            image, caption = self.picture, f"{self.t_us * 1e-6:.3f} s" if self.t_us else ""
        if heatmap:
            image = overlay_heatmap(image, self.heatmap.max(0))
        if self.classifies:
            return draw_class(image, self, class_names=self.class_names, scale=enlarge, caption=caption)
        return draw_boxes(image, self, class_names=self.class_names, scale=enlarge, caption=caption, camera=self.camera)

    def show(self, **options: Any) -> None:
        """Show the picture, in a notebook or in the system's viewer.

        Args:
            options: as :meth:`plot`.
        """
        from PIL import Image as PilImage

        picture = PilImage.fromarray(self.plot(**options))
        shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
        if shell is None:
            picture.show()
        else:
            need("IPython.display", "showing a picture in a notebook", "results").display(picture)

    def save(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Write the picture (.png, .jpg), the boxes as JSON (.json) or as a box file in GEN1's layout (.npy).

        Args:
            path: the file, whose suffix says what is written.
            options: as :meth:`plot`, for a picture.

        Raises:
            ConfigError: another suffix, or options for what is no picture.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            raise ConfigError(f"{path}: unknown suffix {suffix!r}{did_you_mean(suffix, SUFFIXES)}")
        kind = SUFFIXES[suffix]
        if kind is None and options:
            raise ConfigError(f"{path}: {', '.join(options)} say how a picture looks; leave them out for {suffix}")
        if suffix == ".json":
            return write_json(path, self.to_dict())
        with atomic_write(path) as temporary:
            if kind is None:
                with temporary.open("wb") as file:
                    np.save(file, as_box_array([self.best(1) if self.classifies else self]))
            else:
                from PIL import Image as PilImage

                PilImage.fromarray(self.plot(**options)).save(temporary, format=kind)
        return path

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: the time, the recording, the size, and every box with class, score and track."""
        head = {"recording": None if self.path is None else self.path.name, "size_hw": list(self.size_hw)}
        return {**head, **as_record(self, self.class_names, classifies=self.classifies)}

    def to_coco(self, image_id: int = 1) -> list[dict[str, Any]]:
        """Return COCO's results (https://cocodataset.org/#format-results), one entry per box; categories count from 1.

        Args:
            image_id: the number of the picture that the timestamp is in the ground truth.
        """
        wh = self.xyxy[:, 2:] - self.xyxy[:, :2]
        rows = zip(np.hstack([self.xyxy[:, :2], wh]).tolist(), self.scores.tolist(), self.labels.tolist(), strict=True)
        return [
            {"image_id": image_id, "category_id": label + 1, "bbox": bbox, "score": score}
            for bbox, score, label in rows
        ]  # fmt: skip

    def to_pandas(self) -> Any:
        """Return a pandas table with a row a box: t_us, class, label, score, x1, y1, x2, y2, track.

        Where 3D boxes are known, x_m, y_m, z_m, height_m, width_m, length_m and yaw_rad follow.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        pandas = need("pandas", "a table of detections", "results")
        sides = dict(zip(("x1", "y1", "x2", "y2"), self.xyxy.T, strict=True))
        columns: Mapping[str, Any] = {
            "t_us": np.full(len(self), self.t_us, np.int64), "class": self.names, "label": self.labels,
            "score": self.scores, **sides, "track": self.track_ids,
        }  # fmt: skip
        if np.isfinite(self.box3d).any():
            names = ("x_m", "y_m", "z_m", "height_m", "width_m", "length_m", "yaw_rad")
            columns = {**columns, **dict(zip(names, self.box3d.T, strict=True))}
        return pandas.DataFrame(columns)

    def to_supervision(self) -> Any:
        """Return ``supervision.Detections`` with class names, and with track numbers where there are any.

        Raises:
            MissingPackageError: supervision is not installed.
        """
        supervision = need("supervision", "handing detections to supervision", "results")
        return supervision.Detections(
            xyxy=self.xyxy.copy(), confidence=self.scores.copy(), class_id=self.labels.copy(),
            tracker_id=self.track_ids.copy() if len(self) and (self.track_ids >= 0).all() else None,
            data={"class_name": np.array(self.names, dtype=np.str_)},
        )  # fmt: skip


def cube_events(cube: Any, size_hw: tuple[int, int], length_us: int) -> np.ndarray:
    """Return the cells of a cube [T, C, h, w] as events on a sensor of this size, whatever the length."""
    events = events_of(cube)
    height, width = cube.shape[-2:]
    if (height, width) != tuple(size_hw):  # binned at another size than the sensor's
        events["x"] = events["x"].astype(np.int64) * size_hw[1] // width
        events["y"] = events["y"].astype(np.int64) * size_hw[0] // height
    return events

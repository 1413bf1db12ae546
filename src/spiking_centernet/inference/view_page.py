"""The viewer's page as one file that needs no server."""

import logging
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.inference.clip import Clip, Frame
from spiking_centernet.inference.coverage import Coverage
from spiking_centernet.utils import progress
from spiking_centernet.utils.files import atomic_write
from spiking_centernet.visualize import viewer

LOG = logging.getLogger(__name__)

MOST_FRAMES = 1200
"""A file shows this many frames, a minute at 50 ms; more of a recording are shown by the server, or part by part."""

MOST_EVENTS = 3_000_000
"""A file holds this many events, about 3 bytes each; of more, every second, third, ... of a frame is kept."""

MOST_SPIKE_CHARS = 8 << 20
"""Characters of a file for the spikes of single neurons; while they are too many, the largest layer is left out."""


def write_page(
    clip: Clip,
    path: str | os.PathLike[str],
    *,
    layers: Collection[str] | None = None,
) -> Path:
    """Write a clip as a page that stands alone, see :class:`Page`.

    Raises:
        ConfigError: a layer is unknown.
        EventFileError: the events are damaged.
    """
    page = Page(clip, layers=layers)
    for _ in progress.track(page.frames(), f"computing {clip.recording.path.name}", page.num_frames):
        pass
    return page.write(path)


class Page:
    """A page that stands alone, made frame by frame.

    Of more than ``MOST_FRAMES`` frames the first are shown, with a warning. Firing rates are kept of every layer by
    channel; the spikes of single neurons of as many layers as fit.

    Args:
        clip: what to show.
        layers: keep the spikes of these layers alone; None: of every one.

    Attributes:
        num_frames: how many frames of the clip are shown.

    Raises:
        ConfigError: a layer is unknown.
    """

    def __init__(self, clip: Clip, *, layers: Collection[str] | None = None):
        known = clip.layer_names
        for name in () if layers is None else layers:
            if name not in known:
                raise ConfigError(f"unknown layer {name!r}{did_you_mean(name, known)}")
        self.num_frames = min(len(clip), MOST_FRAMES)
        clip.frame_events = min(clip.frame_events, max(1, MOST_EVENTS // self.num_frames))
        self._clip, self._values = clip, list[dict[str, Any]]()
        self._spikes = _Spikes(clip.num_detectors, known if layers is None else set(layers))

    def frames(self, coverage: Coverage | None = None) -> Iterator[Frame]:
        """Yield the frames of the page as they are computed and taken in.

        Args:
            coverage: sees what the first detector saw and made of it.

        Raises:
            EventFileError: the events are damaged.
        """
        for number in range(self.num_frames):
            frame = self._clip.frame(number, coverage)
            self._values.append(frame.values)
            self._spikes.add(frame.spikes)
            yield frame

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the page, after all its frames."""
        about, frames, num_frames = self._clip.describe(), self._values, self.num_frames
        about |= {"kind": "file", "num_frames": num_frames, "start": _first_with_boxes(about, frames)}
        if num_frames < len(self._clip):
            text = f"the first {num_frames} of {len(self._clip)} frames"
            about["notes"].append(f"This file shows {text}; scn view shows them all.")
            LOG.warning("%s: the page shows %s", path, text)
        for number, model in enumerate(about["models"]):
            model["series"] = [
                {name: frame["models"][number][name] for name in ("rate", "operations", "latency_ms")}
                for frame in frames
            ]
            for layer in model["layers"]:
                layer["planes"] = layer["name"] in self._spikes.by_layer[number]
            for frame, by_layer in zip(frames, self._spikes.frames(number), strict=True):
                frame["models"][number]["spikes"] = by_layer
        stride = max(frame["events"]["stride"] for frame in frames)
        if stride > 1:
            about["notes"].append(
                f"Where events are dense the file holds one of up to {stride}; detections used them all."
            )
        path = Path(path)
        with atomic_write(path) as temporary:
            temporary.write_text(viewer.render(about, frames), encoding="utf-8")
        return path


def _first_with_boxes(about: Mapping[str, Any], frames: Sequence[Mapping[str, Any]]) -> int:
    """Return the number of the first frame where the page shows a box of any detector, 0 where it shows none."""
    for number, frame in enumerate(frames):
        for model, values in zip(about["models"], frame["models"], strict=True):
            if any(row[4] >= model["threshold"] and (row[6] >= 0 or not about["tracked"]) for row in values["boxes"]):
                return number
    return 0


class _Spikes:
    """The packed spikes of every frame, kept below ``MOST_SPIKE_CHARS`` by leaving out the largest layers.

    Args:
        num_models: how many detectors there are.
        layers: the layers to keep.

    Attributes:
        by_layer: for every detector the packed spikes of every frame, by layer.
    """

    def __init__(self, num_models: int, layers: Collection[str]):
        self.by_layer: list[dict[str, list[str]]] = [{} for _ in range(num_models)]
        self._wanted: list[set[str]] = [set(layers) for _ in range(num_models)]
        self._num_frames = 0

    def add(self, spikes: Sequence[Mapping[str, str]]) -> None:
        """Take a frame's spikes by layer of every detector."""
        for kept, wanted, of_model in zip(self.by_layer, self._wanted, spikes, strict=True):
            for name in wanted & of_model.keys():
                kept.setdefault(name, []).append(of_model[name])
        self._num_frames += 1
        sizes = {
            (number, name): sum(map(len, texts))
            for number, kept in enumerate(self.by_layer)
            for name, texts in kept.items()
        }
        total = sum(sizes.values())
        for (number, name), size in sorted(sizes.items(), key=lambda item: -item[1]):
            if total <= MOST_SPIKE_CHARS:
                break
            total -= size
            del self.by_layer[number][name]
            self._wanted[number].remove(name)

    def frames(self, number: int) -> Iterator[dict[str, str]]:
        """Yield the kept spikes of a detector frame by frame."""
        for k in range(self._num_frames):
            yield {name: texts[k] for name, texts in self.by_layer[number].items()}

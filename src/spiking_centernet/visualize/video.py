"""Pictures as a video file."""

import os
from contextlib import ExitStack
from fractions import Fraction
from typing import Any

import numpy as np

from spiking_centernet.errors import ConfigError
from spiking_centernet.utils.files import atomic_write
from spiking_centernet.visualize.draw import check_image


class VideoWriter:
    """Write pictures as an H.264 (where missing, MPEG-4) video file that appears whole or not at all.

    Use as ``with VideoWriter(path, size_hw, fps) as video: video.write(image)``. Odd sizes get one more row or column,
    a copy of the last, because the pixel format yuv420p every player knows stores color for 2 x 2 pixels.

    Args:
        path: the file to create; its suffix chooses the container (.mp4).
        size_hw: height and width of every picture in pixels.
        fps: pictures per second.

    Raises:
        ConfigError: a size or rate below 1, an unknown suffix, a picture of another size, or no picture at all.
    """

    def __init__(self, path: str | os.PathLike[str], size_hw: tuple[int, int], fps: int | float | Fraction):
        if min(size_hw) < 1 or not fps > 0:
            raise ConfigError(f"a video needs a positive size and rate, got {size_hw} and {fps} per second")
        self._path, self._size_hw, self._fps = path, size_hw, fps
        self._cleanup = ExitStack()

    def __enter__(self) -> "VideoWriter":
        import av

        height, width = self._size_hw
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_write(self._path))
            try:
                self._container = stack.enter_context(av.open(os.fspath(temporary), "w"))
            except ValueError as error:
                raise ConfigError(f"{self._path}: no video container has this suffix; use .mp4") from error
            codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
            stream: Any = self._container.add_stream(codec, rate=Fraction(self._fps).limit_denominator(1000))
            stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
            if codec == "libx264":
                stream.options = {"crf": "20", "preset": "veryfast"}
            else:
                stream.bit_rate = 4 * width * height
            self._stream, self._written = stream, 0
            self._cleanup = stack.pop_all()
        return self

    def write(self, image: np.ndarray) -> None:
        """Append one picture, uint8 [H, W, 3].

        Raises:
            ConfigError: its size is not the video's, or it is not a picture.
        """
        import av

        check_image(image)
        if image.shape[:2] != self._size_hw:
            raise ConfigError(f"picture {self._written} is {image.shape[:2]}, but the video is {self._size_hw}")
        height, width = self._size_hw
        even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")))
        self._written += 1

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            try:
                if not self._written:
                    raise ConfigError(f"{self._path}: a video needs at least one picture; write one or do not open it")
                self._container.mux(self._stream.encode())
            except BaseException as late:
                self._cleanup.__exit__(type(late), late, late.__traceback__)
                raise
        self._cleanup.__exit__(kind, error, trace)

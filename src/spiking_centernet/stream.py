"""Events in, detections out: a detector run over a recording, window after window."""

from collections.abc import Iterable, Iterator

import torch

from spiking_centernet.errors import ConfigError
from spiking_centernet.events import Recording, Window, voxelize
from spiking_centernet.nn import Detector, detections
from spiking_centernet.types import Detections


def stream(
    model: Detector, recording: Recording, *, every_us: int = 50_000, min_score: float | None = None
) -> Iterator[Detections]:
    """Detect in a recording at every multiple of ``every_us``, each time in the window that ends there.

    The window is ``[t - window_us, t)`` with the network's own ``window_us``; what of it lies before the first event is
    an empty past. The first instant is the first multiple after the first event, the last is the first multiple at
    which every event was seen. Every window starts at rest.

    Args:
        model: the detector; it is fused here once and left unchanged.
        recording: any recording, whatever its sensor's size.
        every_us: microseconds between detections.
        min_score: detections below are dropped; None takes the network's ``score_threshold``.

    Yields:
        the detections of every instant, boxes in the sensor's pixels; instants without any are yielded empty.

    Raises:
        ConfigError: ``every_us`` is not positive, or ``min_score`` not in [0, 1].
        EventFileError: the events are damaged.
    """
    if every_us < 1:
        raise ConfigError(f"every_us must be at least 1 microsecond, got {every_us}")
    windows = recording.windows(every_us, model.config.window_us)
    return detect_windows(model, windows, size_hw=recording.size_hw, min_score=min_score)


def detect_windows(
    model: Detector, windows: Iterable[Window], *, size_hw: tuple[int, int], min_score: float | None = None
) -> Iterator[Detections]:
    """Detect in windows of events from anywhere; see :func:`stream`.

    Args:
        model: the detector; it is fused here once and left unchanged.
        windows: the events, window by window, each as long as the network's ``window_us``.
        size_hw: height and width of the sensor in pixels.
        min_score: detections below are dropped; None takes the network's ``score_threshold``.

    Raises:
        ConfigError: ``min_score`` is not in [0, 1].
    """
    config = model.config
    least = config.score_threshold if min_score is None else min_score
    if not 0 <= least <= 1:
        raise ConfigError(f"min_score must lie in [0, 1], got {least}")
    device = next(model.parameters()).device
    fused = model.fuse()

    def results() -> Iterator[Detections]:
        for window in windows:
            cube = voxelize(
                window.events, start_us=window.start_us, stop_us=window.stop_us, size_hw=size_hw,
                num_steps=config.num_steps, bins=config.bins, mode=config.input_mode,
            )  # fmt: skip
            with torch.inference_mode():
                output, _ = fused(cube[:, None].to(device), keep_state=False)
            yield from detections(output, [window.stop_us], stride=config.stride, size_hw=size_hw, min_score=least)

    return results()

"""The stream: packets pushed by hand, or a source followed to its end."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Literal

import numpy as np

from spiking_centernet.data import Recording
from spiking_centernet.data.cameras import Camera
from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.inference.further_tasks import NO_CAMERA, known_camera
from spiking_centernet.inference.inspection import Inspector
from spiking_centernet.inference.live import run_live
from spiking_centernet.inference.runner import Answerer, StreamDetections, take_and_answer
from spiking_centernet.inference.sources import EventSource, packets_of
from spiking_centernet.inference.windows import ClosedWindow, Packet, WindowCollector
from spiking_centernet.model import AnyDetector
from spiking_centernet.model.scaling import Scale, choose_scaling, spec_for
from spiking_centernet.model.smoothing import check_smoothing
from spiking_centernet.model.stepping import Mode, choose_mode
from spiking_centernet.structures import VoxelSpec

Policy = Literal["wait", "drop", "merge"]
POLICIES = ("wait", "drop", "merge")


class Stream:
    """A detector that takes events as they come.

    In mode "windowed" every answer looks at the network's whole window from zero-initialized state: its detections are
    those of ``scn val`` to the bit, however the packets are cut. In mode "stateful" the network computes each step
    once, as long as a step of its window, and carries the membranes on; an answer averages the last steps, and may be
    had after any. Mode "auto" is stateful for a network with a memory, ``recurrent``, and windowed for any other.

    Args:
        model: the detector; it is fused here once and left unchanged.
        size_hw: height and width of the sensor in pixels.
        mode: "auto", "windowed" or "stateful".
        every_us: microseconds between answers; None takes 50 ms in windowed mode and every step in stateful mode.
        min_score: detections below are dropped; None takes the network's ``score_threshold``.
        readout_steps: steps that a stateful answer averages; None takes as many as the network does.
        scale: at which the events are binned, see ``model.scaling.choose_scaling``: a number from 1/64 to 1 or "auto".
        voxels: how windows are cut, for example the network's with ``num_events``; None takes the network's, fitted to
            their events.
        inspector: keeps more of every window, or step, than its detections.
        camera: of the source, for 3D boxes; without one they are NaN.
        smooth: filter boxes and scores over time along every object, see ``model.smoothing``.

    Attributes:
        mode: "windowed" or "stateful".
        scaling: the scale that was chosen.

    Raises:
        ConfigError: a setting is impossible.
    """

    def __init__(
        self,
        model: AnyDetector,
        size_hw: tuple[int, int],
        *,
        mode: Mode = "auto",
        every_us: int | None = None,
        min_score: float | None = None,
        readout_steps: int | None = None,
        scale: Scale = "auto",
        voxels: VoxelSpec | None = None,
        inspector: Inspector | None = None,
        camera: Camera | None = None,
        smooth: bool = False,
    ):
        self.mode = mode = choose_mode(mode, model)
        self.scaling = choose_scaling(scale, size_hw, model.config)
        if len(self.scaling.scales) > 1:
            raise ConfigError(f"a stream is binned once, as it arrives: give one scale, got {scale!r}")
        (voxels,) = self.scaling.specs(spec_for(model.config, voxels))
        if voxels.num_events and mode != "windowed":
            raise ConfigError(
                'a stateful stream advances by steps of one length; windows that count events need mode="windowed"'
            )
        if every_us is not None and every_us < 1:
            raise ConfigError(f"every_us must be at least 1 microsecond, got {every_us}")
        if mode == "windowed":
            self.answer_every_us = step_us = 50_000 if every_us is None else every_us
        else:
            step_us, left_us = divmod(voxels.window_us, voxels.num_steps)
            self.answer_every_us = step_us if every_us is None else every_us
            if left_us or self.answer_every_us % step_us:
                raise ConfigError(
                    f"a stateful stream answers after whole steps of {voxels.step_us:g} us; "
                    f"every_us must be a multiple of that, got {self.answer_every_us}"
                )
            voxels = replace(voxels, window_us=step_us, num_steps=1, fit=False)
        if smooth:
            check_smoothing(model.config, every_us=self.answer_every_us)
        self.collector = WindowCollector(size_hw, every_us=step_us, spec=voxels)
        self.answerer = Answerer(
            model, size_hw=size_hw, mode=mode, min_score=min_score, readout_steps=readout_steps, ratio=voxels.ratio,
            inspector=inspector, camera=camera, smooth=smooth,
        )  # fmt: skip
        self.collector.flush_every_us = self.answer_every_us
        self._late_before = self._dropped_before = 0
        self._last: ClosedWindow | None = None

    def push(self, events: Packet | np.ndarray) -> list[StreamDetections]:
        """Take a packet of events and return the answers that it completes.

        Args:
            events: EVENT_DTYPE array, or a Packet, which can also say how far time has come.

        Raises:
            ConfigError: the events are no EVENT_DTYPE array.
            EventFileError: an event lies outside the sensor.
        """
        return list(self.answers(self.collector.push(events)))

    def flush(self) -> list[StreamDetections]:
        """Return the answers up to the first timestamp at which every event was seen."""
        return list(self.answers(self.collector.flush(self.answer_every_us)))

    def answer(self) -> StreamDetections:
        """Return the answer as of the last complete window or step, at any time.

        Raises:
            ConfigError: none is complete yet.
        """
        last, late = self._last, self.collector.num_late
        answer = self.answerer.answer(
            0 if last is None else last.stop_us, closed_s=0.0 if last is None else last.closed_s,
            newest_us=self.collector.newest_us, num_late=late - self._late_before,
        )  # fmt: skip
        self._late_before = late
        return answer

    def reset(self) -> None:
        """Forget every event and zero every membrane; time may start again."""
        self.collector.reset()
        self.answerer.reset()
        self._late_before, self._last = 0, None

    def answers(self, windows: Iterable[ClosedWindow]) -> Iterator[StreamDetections]:
        """Yield the answers of closed windows as they are iterated."""
        for window in windows:
            self._last = window
            late, dropped = self.collector.num_late, self.collector.num_dropped
            answer = take_and_answer(
                self.answerer, window, answer_every_us=self.answer_every_us, newest_us=self.collector.newest_us,
                num_skipped=0, num_late=late - self._late_before, num_dropped=dropped - self._dropped_before,
            )  # fmt: skip
            if answer is not None:
                self._late_before, self._dropped_before = late, dropped
                yield answer


def _camera_of(model: AnyDetector, source: object, camera: Camera | None) -> Camera | None:
    if camera is None and "detect3d" in model.config.tasks:
        if isinstance(source, Recording):
            return known_camera(source)
        warnings.warn(NO_CAMERA, stacklevel=3)
    return camera


def stream(
    model: AnyDetector,
    source: Recording | EventSource | Iterable[Packet | np.ndarray],
    *,
    mode: Mode = "auto",
    every_us: int | None = None,
    min_score: float | None = None,
    readout_steps: int | None = None,
    scale: Scale = "auto",
    voxels: VoxelSpec | None = None,
    size_hw: tuple[int, int] | None = None,
    policy: Policy = "wait",
    max_waiting: int = 4,
    inspector: Inspector | None = None,
    camera: Camera | None = None,
    smooth: bool = False,
) -> Iterator[StreamDetections]:
    """Detect in a recording, in packets of events, or live, at every multiple of ``every_us``.

    The window of an answer is ``[t - window_us, t)`` with the network's own ``window_us``; what of it lies before the
    first event is left out. The first timestamp is the first multiple after the first event, the last is the first
    multiple at which every event was seen. See :class:`Stream` for the modes.

    Args:
        model: the detector; it is fused here once and left unchanged.
        source: a recording; or an iterable of EVENT_DTYPE arrays or Packets, with an attribute ``size_hw`` or beside
            the argument.
        mode: "auto", "windowed" or "stateful".
        every_us: microseconds between answers; None takes 50 ms in windowed mode and every step in stateful mode.
        min_score: detections below are dropped; None takes the network's ``score_threshold``.
        readout_steps: steps that a stateful answer averages; None takes as many as the network does.
        scale: at which the events are binned, as :class:`Stream`.
        voxels: how windows are cut, as :class:`Stream`.
        size_hw: height and width of the sensor, for sources that do not say.
        policy: what happens while the network is busy. "wait": the source waits, nothing is lost. "drop" and "merge"
            read the source in a thread at its own pace; of more than ``max_waiting`` windows "drop" forgets the oldest,
            "merge" joins the newest two. Each answer says how many were skipped.
        max_waiting: windows that may wait.
        inspector: keeps more of every window, or step, than its detections.
        camera: of the source, for 3D boxes; None takes ``NAME_camera.npy`` next to a recording, without which they are
            NaN.
        smooth: filter boxes and scores over time along every object, see ``model.smoothing``.

    Yields:
        the detections of every timestamp, boxes in the sensor's pixels; timestamps without any are yielded empty.

    Raises:
        ConfigError: a setting is impossible.
        EventFileError: the events are damaged.
    """
    size_hw = getattr(source, "size_hw", None) if size_hw is None else size_hw
    if size_hw is None:
        raise ConfigError("this source does not say its sensor's size; give size_hw=(height, width)")
    if policy not in POLICIES:
        raise ConfigError(f"unknown policy {policy!r}{did_you_mean(policy, POLICIES)}")
    if max_waiting < 1:
        raise ConfigError(f"max_waiting must be at least 1, got {max_waiting}")
    spec = spec_for(model.config, voxels)
    if policy == "merge":
        voxels = spec = replace(spec, fit=False)  # cubes of different lengths do not join
    if policy == "merge" and (spec.mode != "binary" or spec.num_events):
        raise ConfigError(
            f'policy "merge" joins binary cubes of one length, here voxels.mode is {spec.mode!r} and a window '
            f"{f'counts {spec.num_events} events' if spec.num_events else f'has {spec.window_us} us'}; "
            'take "drop" or "wait"'
        )
    flow = Stream(
        model, size_hw, mode=mode, every_us=every_us, min_score=min_score, readout_steps=readout_steps, scale=scale,
        voxels=voxels, inspector=inspector, camera=_camera_of(model, source, camera), smooth=smooth,
    )  # fmt: skip
    packets = packets_of(source, flow.collector.every_us) if isinstance(source, Recording) else source
    if policy != "wait":
        return run_live(
            flow.collector, flow.answerer, packets, answer_every_us=flow.answer_every_us, merge=policy == "merge",
            max_waiting=max_waiting,
        )  # fmt: skip

    def results() -> Iterator[StreamDetections]:
        for packet in packets:
            yield from flow.answers(flow.collector.push(packet))
        yield from flow.answers(flow.collector.flush(flow.answer_every_us))

    return results()

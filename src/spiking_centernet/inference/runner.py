"""Windows in, detections out: from zero-initialized state each time, or step by step with the membranes carried along.

Answers as JSON lines, and what a whole stream amounted to.
"""

import json
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from spiking_centernet.data import Window, voxelize
from spiking_centernet.data.cameras import Camera, camera_at, with_votes
from spiking_centernet.errors import ConfigError
from spiking_centernet.inference.further_tasks import class_record, task_record
from spiking_centernet.inference.inspection import Inspector
from spiking_centernet.inference.windows import ClosedWindow
from spiking_centernet.model import AnyDetector
from spiking_centernet.model.scaling import Scale, choose_scaling, detections_of, merge, spec_for
from spiking_centernet.model.smoothing import LEAST_SCORE, Smoother
from spiking_centernet.model.stepping import SteppedDetector
from spiking_centernet.structures import Detections


@dataclass(frozen=True, kw_only=True)
class StreamDetections(Detections):
    """Detections of one timestamp of a stream, and how late they are.

    Attributes:
        latency_ms: wall time from the moment the window's events were complete until the answer.
        lag_ms: event time that had arrived beyond the timestamp when it was answered.
        confidence: ``1 - max |p - p'|``, where p are the probabilities of a center at every output pixel and p' those
            one step before: 1 says that the last step changed nothing. NaN in mode "windowed", and before
            the second step.
        num_steps: time steps that the answer averages.
        num_skipped: windows dropped or merged since the answer before, because events came faster than answers.
        num_late: events since the answer before that came after a window they belong to was answered.
        num_dropped: events since the answer before that were dropped because their time jumps.
        segment: how often the source's clock had started again; ``t_us`` of different segments do not compare.
    """

    latency_ms: float = math.nan
    lag_ms: float = math.nan
    confidence: float = math.nan
    num_steps: int = 0
    num_skipped: int = 0
    num_late: int = 0
    num_dropped: int = 0
    segment: int = 0


class Answerer:
    """The network's side of a stream: cubes in, outputs out.

    Args:
        model: the detector; it is fused here once and left unchanged.
        mode: "windowed" or "stateful".
        size_hw: height and width of the sensor in pixels.
        min_score: detections below are dropped; None takes the network's ``score_threshold``.
        readout_steps: how many of the last steps a stateful answer averages; None takes as many as the network does.
        ratio: scale of the cubes.
        inspector: keeps more of every window, or step, than its detections.
        camera: of the source, for 3D boxes; without one they are NaN.
        smooth: filter boxes and scores over time along every object, see ``model.smoothing``.
    """

    def __init__(
        self,
        model: AnyDetector,
        *,
        size_hw: tuple[int, int],
        mode: str = "windowed",
        min_score: float | None = None,
        readout_steps: int | None = None,
        ratio: Fraction = Fraction(1),
        inspector: Inspector | None = None,
        camera: Camera | None = None,
        smooth: bool = False,
    ):
        self.config, self.size_hw, self.mode, self.ratio = model.config, size_hw, mode, ratio
        self.min_score = self.config.deployment.score_threshold if min_score is None else min_score
        if not 0 <= self.min_score <= 1:
            raise ConfigError(f"min_score must lie in [0, 1], got {self.min_score}")
        if readout_steps is not None and readout_steps < 1:
            raise ConfigError(f"readout_steps must be at least 1, got {readout_steps}")
        self._head, self._device, self._inspector = model.head, model.device, inspector
        self._observe = None if inspector is None else inspector.observe
        self._smoother = Smoother(size_hw) if smooth else None
        self._fused = model.fuse()
        self._stepped = None
        if mode == "stateful":
            self._stepped = SteppedDetector(self._fused, readout_steps=readout_steps, observe=self._observe)
        self._given_camera = camera
        self.reset()

    def reset(self) -> None:
        """Put every membrane to rest and forget the steps so far."""
        self.segment = 0
        self._camera = with_votes(self._given_camera)
        if self._stepped is not None:
            self._stepped.reset()
        self._output: Any = None
        self._confidence = math.nan
        self._num_steps = 0
        self._taken: torch.Tensor | None = None
        self._found: Detections | None = None
        self._smooth: Detections | None = None
        if self._smoother is not None:
            self._smoother.reset()

    def take(self, cube: torch.Tensor) -> None:
        """Compute a cube [T, C, H, W]: a whole window in windowed mode, the next step in stateful mode."""
        if self.mode == "windowed" and cube is self._taken:
            return  # the windows of a silence share a cube, and so their answer
        self._taken, self._found = cube, None
        self._compute(cube[:, None].to(self._device))
        if self._inspector is not None:
            self._inspector.inspect(cube, self._output)

    def _compute(self, cube: torch.Tensor) -> None:
        with torch.inference_mode():
            if self._stepped is None:
                self._output, _ = self._fused(cube, keep_state=False, observe=self._observe)
                self._num_steps = len(cube)
                return
            before, self._output = self._output, self._stepped.take(cube)
            self._num_steps = self._stepped.num_steps
            if before is not None:
                change = torch.sigmoid(self._output[0]) - torch.sigmoid(before[0])
                self._confidence = 1 - float(change.abs().max())

    def answer(
        self,
        t_us: int,
        *,
        closed_s: float,
        newest_us: int,
        num_skipped: int = 0,
        num_late: int = 0,
        num_dropped: int = 0,
        segment: int = 0,
    ) -> StreamDetections:
        """Return the detections of what was taken so far, as of ``t_us``."""
        if self._output is None:
            raise ConfigError("nothing to answer yet: no window is complete; push events first")
        found = self._found
        if found is None:
            assert self._taken is not None
            found = detections_of(
                self._head, self._output, [t_us], cube_hw=(self._taken.shape[-2], self._taken.shape[-1]),
                size_hw=self.size_hw, ratio=self.ratio,
                min_score=self.min_score if self._smoother is None else LEAST_SCORE,
                calibrations=[camera_at(self._camera, t_us)],
            )[0]  # fmt: skip
            self._found = found
        if self._smoother is not None:
            found = self._smoothed(replace(found, t_us=t_us))
        columns: dict[str, Any] = {f.name: getattr(found, f.name) for f in fields(Detections)}
        columns["t_us"] = t_us
        return StreamDetections(
            **columns,
            latency_ms=(time.perf_counter() - closed_s) * 1e3, lag_ms=max(0, newest_us - t_us) * 1e-3,
            confidence=self._confidence, num_steps=self._num_steps, num_skipped=num_skipped, num_late=num_late,
            num_dropped=num_dropped, segment=segment,
        )  # fmt: skip

    def _smoothed(self, found: Detections) -> Detections:
        """Return smoothed detections; asked for twice, a timestamp is remembered once."""
        assert self._smoother is not None
        if self._smooth is None or self._smooth.t_us != found.t_us:
            self._smooth = self._smoother(found).above(self.min_score)
        return self._smooth


def detect_windows(
    model: AnyDetector,
    windows: Iterable[Window],
    *,
    size_hw: tuple[int, int],
    min_score: float | None = None,
    scale: Scale = "auto",
    camera: Camera | None = None,
) -> Iterator[StreamDetections]:
    """Detect in windows of events from anywhere, each from zero-initialized state.

    Args:
        model: the detector; it is fused here once and left unchanged.
        windows: the events, window by window, each as long as the network's ``window_us``.
        size_hw: height and width of the sensor in pixels.
        min_score: detections below are dropped; None takes the network's ``score_threshold``.
        scale: at which the events are binned, see ``model.scaling.choose_scaling``: a number from 1/64 to 1, several
            whose detections are merged, "auto" or "pyramid".
        camera: of the source, for 3D boxes; without one they are NaN.

    Raises:
        ConfigError: ``min_score`` is not in [0, 1], or the scale is impossible.
    """
    specs = choose_scaling(scale, size_hw, model.config).specs(spec_for(model.config, None))
    answerers = [
        Answerer(model, size_hw=size_hw, min_score=min_score, ratio=spec.ratio, camera=camera) for spec in specs
    ]

    def results() -> Iterator[StreamDetections]:
        for window in windows:
            closed_s, parts = time.perf_counter(), []
            for spec, answerer in zip(specs, answerers, strict=True):
                answerer.take(voxelize(window.events, stop_us=window.stop_us, size_hw=size_hw, spec=spec))
                parts.append(answerer.answer(window.stop_us, closed_s=closed_s, newest_us=window.stop_us))
            # The last latency is that of all scales.
            yield replace(merge(parts), latency_ms=parts[-1].latency_ms)

    return results()


def take_and_answer(
    answerer: Answerer,
    window: ClosedWindow,
    *,
    answer_every_us: int,
    newest_us: int,
    num_skipped: int,
    num_late: int,
    num_dropped: int = 0,
) -> StreamDetections | None:
    """Compute a closed window; answer if a multiple of ``answer_every_us`` lies in what it newly covers."""
    if window.segment != answerer.segment:
        answerer.reset()
        answerer.segment = window.segment
    answerer.take(window.cube)
    if answerer.mode == "stateful" and window.stop_us // answer_every_us == window.start_us // answer_every_us:
        return None
    return answerer.answer(
        window.stop_us,
        closed_s=window.closed_s,
        newest_us=newest_us,
        num_skipped=num_skipped,
        num_late=num_late,
        num_dropped=num_dropped,
        segment=window.segment,
    )


def as_line(answer: StreamDetections, classes: Sequence[str], *, classifies: bool = False) -> str:
    """Return an answer as one line of JSON: boxes in pixels, best first, with 3D boxes and joints where known.

    Of a classifier it is the class with its score, and the scores of all classes.
    """
    boxes = [
        {"class": classes[label], "score": round(score, 6), "xyxy": [round(side, 3) for side in xyxy]}
        for label, score, xyxy in zip(answer.labels.tolist(), answer.scores.tolist(), answer.xyxy.tolist(), strict=True)
    ]
    for k, box in enumerate(boxes):
        box |= task_record(answer, k)
    head = {
        "t_us": answer.t_us, "latency_ms": round(answer.latency_ms, 3), "lag_ms": round(answer.lag_ms, 3),
        "num_steps": answer.num_steps, "num_skipped": answer.num_skipped, "num_late": answer.num_late,
        "num_dropped": answer.num_dropped, "segment": answer.segment,
        "confidence": None if math.isnan(answer.confidence) else round(answer.confidence, 6),
    }  # fmt: skip
    return json.dumps({**head, **(class_record(answer, classes) if classifies else {"boxes": boxes})})


class Summary:
    """Counts a stream as it passes; keeps the last ``LATENCIES`` latencies, so that it never grows."""

    LATENCIES = 10_000

    def __init__(self):
        self.num_answers = self.num_boxes = self.num_skipped = self.num_late = self.num_dropped = 0
        self.worst_lag_ms = 0.0
        self._latencies_ms = np.full(self.LATENCIES, np.nan)

    def watch(self, answers: Iterable[StreamDetections]) -> Iterator[StreamDetections]:
        """Pass answers on and count them."""
        for answer in answers:
            self._latencies_ms[self.num_answers % self.LATENCIES] = answer.latency_ms
            self.num_answers += 1
            self.num_boxes += len(answer)
            self.num_skipped += answer.num_skipped
            self.num_late += answer.num_late
            self.num_dropped += answer.num_dropped
            self.worst_lag_ms = max(self.worst_lag_ms, answer.lag_ms)
            yield answer

    def latency_ms(self, percentile: float) -> float:
        """Return a percentile of the latencies, NaN before the first answer."""
        seen = self._latencies_ms[: self.num_answers]
        return float(np.percentile(seen, percentile)) if len(seen) else math.nan

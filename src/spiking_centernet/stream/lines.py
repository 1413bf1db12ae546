"""Answers as JSON lines, and what a whole stream amounted to."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from spiking_centernet.stream.answers import StreamDetections


def as_line(answer: StreamDetections, classes: Sequence[str]) -> str:
    """Return an answer as one line of JSON; boxes in pixels, best first."""
    boxes = [
        {"class": classes[label], "score": round(score, 6), "xyxy": [round(side, 3) for side in xyxy]}
        for label, score, xyxy in zip(answer.labels.tolist(), answer.scores.tolist(), answer.xyxy.tolist(), strict=True)
    ]
    head = {
        "t_us": answer.t_us, "latency_ms": round(answer.latency_ms, 3), "lag_ms": round(answer.lag_ms, 3),
        "num_steps": answer.num_steps, "num_skipped": answer.num_skipped, "num_late": answer.num_late,
        "confidence": None if math.isnan(answer.confidence) else round(answer.confidence, 6),
    }  # fmt: skip
    return json.dumps({**head, "boxes": boxes})


class Summary:
    """Counts a stream as it passes; keeps the last ``LATENCIES`` latencies, so that it never grows."""

    LATENCIES = 10_000

    def __init__(self):
        self.num_answers = self.num_boxes = self.num_skipped = self.num_late = 0
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
            self.worst_lag_ms = max(self.worst_lag_ms, answer.lag_ms)
            yield answer

    def latency_ms(self, percentile: float) -> float:
        """Return a percentile of the latencies, NaN before the first answer."""
        seen = self._latencies_ms[: self.num_answers]
        return float(np.percentile(seen, percentile)) if len(seen) else math.nan

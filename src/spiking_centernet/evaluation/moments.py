"""Detections of a data set, smoothed: a detector looks at every labeled frame and at the moments before it."""

from collections.abc import Collection, Mapping, Sequence

from torch.utils.data import Dataset

from spiking_centernet.data import FolderDataset
from spiking_centernet.evaluation.metrics import FrameKey
from spiking_centernet.model.smoothing import EVERY_US, Smoother
from spiking_centernet.structures import Detections, Sample

NUM_BEFORE = 9
"""Moments before a labeled frame from which its detections are smoothed: with it, half a second."""


class FramesAndBefore(Dataset[Sample]):
    """The labeled frames of a data set and, ``EVERY_US`` apart, the moments before each.

    Attributes:
        chains: of each frame, the timestamps up to it, rising; those before the recording's start are left out.
    """

    def __init__(self, dataset: FolderDataset, indices: Collection[int]):
        """Take these frames; ``dataset`` must have no augmentation."""
        self._dataset = dataset
        self.chains: dict[FrameKey, list[int]] = {}
        places: dict[FrameKey, int] = {}
        for index in indices:
            recording, t_us = dataset.locate(index)
            chain = [t_us - before * EVERY_US for before in reversed(range(NUM_BEFORE + 1))]
            self.chains[recording.name, t_us] = chain = [at_us for at_us in chain if at_us > 0] or [t_us]
            for at_us in chain:
                places.setdefault((recording.name, at_us), index)
        self._places = sorted((name, at_us, index) for (name, at_us), index in places.items())

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Sample:
        """Return the window of a moment, with the boxes and the camera of the labeled frame that it comes before.

        Raises:
            DatasetError, EventFileError: as of a labeled window.
        """
        name, at_us, frame = self._places[index]
        _, _, boxes, calibration = self._dataset.frame(frame)
        return Sample(self._dataset.cube_before(frame, at_us, self._dataset.spec), boxes, at_us, name, calibration)


def smoothed(
    found: Mapping[FrameKey, Detections], chains: Mapping[FrameKey, Sequence[int]], size_hw: tuple[int, int]
) -> dict[FrameKey, Detections]:
    """Return the detections of labeled frames, smoothed with those of the moments before; see ``model.smoothing``.

    Args:
        found: detections of every moment.
        chains: see :class:`FramesAndBefore`.
        size_hw: height and width of the sensor in pixels.
    """
    results: dict[FrameKey, Detections] = {}
    for (name, t_us), chain in chains.items():
        smooth = Smoother(size_hw)
        for at_us in chain:
            results[name, t_us] = smooth(found[name, at_us])
    return results

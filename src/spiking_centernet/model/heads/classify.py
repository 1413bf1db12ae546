"""One class per window: a branch on the encoder's last stage, averaged over steps and places; cross entropy."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from spiking_centernet.calibration import Calibration
from spiking_centernet.errors import DatasetError
from spiking_centernet.model.heads.base import Branch, Head, Loss
from spiking_centernet.structures import Boxes


class Classification(NamedTuple):
    """Raw output of a classifier, averaged over the time steps and places.

    Attributes:
        logits: [B, C], before the softmax.
    """

    logits: Float[Tensor, "B C"]


class Classify(Head[Classification]):
    """The class of a whole window (task "classify").

    The 1x1 convolution on spikes and the mean over steps and places are linear, so the logits are linear in how often
    each neuron spikes: the network is spiking up to its last layer. An answer is a box around the whole frame for every
    class, with the class's probability as its score, best first.
    """

    is_dense = False

    @property
    def branches(self) -> dict[str, Branch]:
        """One branch on the coarsest level, the encoder's last stage."""
        return {"logits": Branch(self.num_classes, level=0)}

    def class_rows(self, branch: str) -> np.ndarray | None:
        """Return the logits' channels, one per class."""
        return np.arange(self.num_classes)[:, None]

    def output(self, maps: Mapping[str, Float[Tensor, "B C h w"]]) -> Classification:
        """Return the mean of the map over all places."""
        return Classification(maps["logits"].mean((2, 3)))

    def targets(self, boxes: Sequence[Boxes], output: Classification) -> Int[Tensor, " B"]:
        """Return the class of every window: that of its one whole-frame box.

        Raises:
            DatasetError: a window has no box, or several.
        """
        if any(len(each) != 1 for each in boxes):
            raise DatasetError(
                f"a window to classify has one label, got {[len(each) for each in boxes]}; train on a layout of "
                "whole recordings with a class each, such as ncars or dvs-gesture"
            )
        return torch.tensor([int(each.labels[0]) for each in boxes], device=output.logits.device)

    def loss(
        self,
        output: Classification,
        boxes: Sequence[Boxes],
        calibrations: Sequence[Calibration | None] | None = None,
        *,
        task_weights: Mapping[str, float] | None = None,
    ) -> Loss:
        """Return the cross entropy; cameras and weights concern other tasks."""
        loss = F.cross_entropy(output.logits.float(), self.targets(boxes, output))
        return Loss(loss, {"class": loss})

    def decode(self, output: Classification, *, max_detections: int = 100) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes [B, C, 4] that cover everything, probabilities [B, C] and labels [B, C], best first."""
        scores, labels = output.logits.float().softmax(1).sort(dim=1, descending=True, stable=True)
        scores, labels = scores[:, :max_detections], labels[:, :max_detections]
        everything = torch.tensor([0.0, 0.0, 1e6, 1e6], device=scores.device)
        return everything.expand(*scores.shape, 4).clone(), scores, labels

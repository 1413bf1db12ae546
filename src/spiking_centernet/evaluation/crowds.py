"""Detections in crowds, which are neither right nor wrong."""

import numpy as np
from jaxtyping import Bool

from spiking_centernet.boxes import covered_shares, iou_matrix
from spiking_centernet.structures import Boxes, Detections

MIN_SHARE = 0.5
"""Least share of a detection that lies in a crowd; COCO's rule at its loosest overlap."""


def in_crowds(found: Detections, crowds: Boxes) -> Bool[np.ndarray, " N"]:
    """Return which detections lie in a crowd of their class."""
    share = covered_shares(found.xyxy, crowds.xyxy)
    share[found.labels[:, None] != crowds.labels[None, :]] = 0
    return share.max(axis=1, initial=0) >= MIN_SHARE


def scored(found: Detections, truth: Boxes) -> Bool[np.ndarray, " N"]:
    """Return which detections are right or wrong: those not in a crowd, or on an object of their class."""
    if not truth.crowd.any():
        return np.ones(len(found), bool)
    objects = truth.objects
    overlap = iou_matrix(found.xyxy, objects.xyxy)
    overlap[found.labels[:, None] != objects.labels[None, :]] = 0
    return ~in_crowds(found, truth.crowds) | (overlap.max(axis=1, initial=0) >= MIN_SHARE)

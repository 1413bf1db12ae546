"""One file a head; a new task is a new head and its line in ``HEADS``."""

from spiking_centernet.model.config import DetectorConfig, HeadKind
from spiking_centernet.model.heads.base import Head
from spiking_centernet.model.heads.centernet import CenterNet
from spiking_centernet.model.heads.ssd import SSD

HEADS: dict[HeadKind, type[Head]] = {"centernet": CenterNet, "ssd": SSD}
"""The head of every ``head.kind``."""


def make_head(config: DetectorConfig) -> Head:
    """Return the head of a network."""
    return HEADS[config.head.kind](config.num_classes, config.strides, config.head)

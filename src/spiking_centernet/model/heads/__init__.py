"""One file per head; a new task is a new head and its line in ``HEADS`` or ``PEAK_TASKS``."""

from collections.abc import Callable, Sequence

from spiking_centernet.joint_sets import JOINT_SETS
from spiking_centernet.model.config import AS_IT_IS, DetectorConfig, HeadConfig, HeadKind
from spiking_centernet.model.heads.base import Head, PeakTask
from spiking_centernet.model.heads.box3d_maps import Detect3D
from spiking_centernet.model.heads.centernet import CenterNet
from spiking_centernet.model.heads.classify import Classify
from spiking_centernet.model.heads.joint_maps import Pose
from spiking_centernet.model.heads.pyramid import Pyramid
from spiking_centernet.model.heads.ssd import SSD

HEADS: dict[HeadKind, type[Head]] = {"centernet": CenterNet, "pyramid": Pyramid, "ssd": SSD}
"""The head of every ``head.kind`` for the task "detect"."""

PEAK_TASKS: dict[str, Callable[[HeadConfig, tuple[str, ...], int], PeakTask]] = {
    "detect3d": lambda settings, classes, stride: Detect3D(stride, settings.focal_px, settings.placing),
    "pose": lambda settings, classes, stride: Pose(
        stride,
        JOINT_SETS[len(settings.joints)],
        settings.pose_labels(classes),
        units=settings.joint_units,
        sides=settings.joint_sides,
    ),
}
"""What reads its values at the objects that "detect" finds, by the task's name; made from settings, classes, stride."""


def make_head(config: DetectorConfig) -> Head:
    """Return the head of a network, with all of its tasks."""
    if config.classifies:
        return Classify(config.num_classes, config.strides, config.head)
    return make_detection_head(
        config.tasks, config.classes, config.strides, config.head, score_fit=config.deployment.score_fit
    )


def make_detection_head(
    tasks: Sequence[str],
    classes: tuple[str, ...],
    strides: Sequence[int],
    settings: HeadConfig,
    *,
    score_fit: Sequence[float] = AS_IT_IS,
) -> Head:
    """Return the head that detects, and does at its objects what the further tasks want.

    Args:
        tasks: "detect" first.
        classes: what label 0, 1, ... is called.
        strides: input pixels per pixel of every level of the decoder, the coarsest first.
        settings: of the head.
        score_fit: see ``DeploymentConfig``.
    """
    further = {name: PEAK_TASKS[name](settings, classes, strides[-1]) for name in tasks[1:]}
    return HEADS[settings.kind](len(classes), strides, settings, further, score_fit=score_fit)

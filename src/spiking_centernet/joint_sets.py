"""The sets of joints that people are labeled with: names, OKS sigmas, left-right pairs, limbs to draw."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

AREA_SHARE = 0.53
"""Area of a person over that of the box, where nothing says it (github.com/jin-s13/xtcocoapi, cocoeval.py)."""


@dataclass(frozen=True)
class JointSet:
    """A set of joints; a column of ``joints`` is an index into it.

    Attributes:
        names: of the joints, in order.
        sigmas: of object keypoint similarity (OKS), one a joint.
        pairs: indices of left and right counterparts, exchanged by a mirror.
        limbs: pairs of joints to connect in a picture.
    """

    names: tuple[str, ...]
    sigmas: tuple[float, ...]
    pairs: tuple[tuple[int, int], ...]
    limbs: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def mirrored(self) -> np.ndarray:
        """For every joint the index of its counterpart in a mirror, int64 [J]."""
        order = np.arange(len(self))
        for a, b in self.pairs:
            order[a], order[b] = b, a
        return order


JOINTS_13 = JointSet(
    (
        "head", "right_shoulder", "left_shoulder", "right_elbow", "left_elbow", "right_hip", "left_hip", "right_hand",
        "left_hand", "right_knee", "left_knee", "right_foot", "left_foot",
    ),
    (0.079, 0.079, 0.079, 0.072, 0.072, 0.107, 0.107, 0.062, 0.062, 0.087, 0.087, 0.089, 0.089),
    ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12)),
    (
        (0, 1), (0, 2), (1, 2), (1, 3), (3, 7), (2, 4), (4, 8), (1, 5), (2, 6), (5, 6), (5, 9), (9, 11), (6, 10),
        (10, 12),
    ),
)  # fmt: skip
"""The joints of DHP19 (Calabrese et al., CVPR Workshops 2019) in the order of its generator; sigmas are COCO's, the
head's that of CrowdPose (Li et al., arXiv 1812.00324)."""

JOINTS_17 = JointSet(
    (
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
        "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
        "right_ankle",
    ),
    (
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087,
        0.089, 0.089,
    ),
    ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    (
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
        (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
)  # fmt: skip
"""COCO's keypoints with the sigmas of its evaluation (cocodataset.org, "Keypoint Evaluation")."""

JOINT_SETS: dict[int, JointSet] = {len(joints): joints for joints in (JOINTS_13, JOINTS_17)}
"""Every set by its number of joints."""


def flipped(joints: Float32[np.ndarray, "N J 3"], width: int) -> Float32[np.ndarray, "N J 3"]:
    """Return the joints in the mirrored picture, left and right exchanged.

    Args:
        joints: u and v in pixels and visibility; not changed.
        width: of the picture in pixels.

    Raises:
        ValueError: No set has this number of joints.
    """
    count = joints.shape[1]
    if not count:
        return joints
    if count not in JOINT_SETS:
        raise ValueError(f"no set has {count} joints; known: {sorted(JOINT_SETS)}")
    mirrored = joints[:, JOINT_SETS[count].mirrored]
    known = mirrored[..., 2] > 0
    mirrored[..., 0] = np.where(known, width - mirrored[..., 0], mirrored[..., 0])
    return mirrored


def ordered(
    joints: Float32[np.ndarray, "N J 3"], pairs: Sequence[tuple[int, int]]
) -> tuple[Float32[np.ndarray, "N J 3"], Bool[np.ndarray, "N P"]]:
    """Return the joints with the one of every pair first that is further left in the picture, and who was exchanged.

    A joint whose counterpart is not labeled has no order: it becomes unlabeled, and its pair counts as not exchanged.

    Args:
        joints: u and v in pixels and visibility; not changed.
        pairs: of counterparts, ``JointSet.pairs``.
    """
    first, second = np.array(pairs).T
    result = joints.copy()
    lone = (joints[:, first, 2] > 0) != (joints[:, second, 2] > 0)
    exchanged = (joints[:, first, 0] > joints[:, second, 0]) & ~lone
    result[:, first] = np.where(exchanged[..., None], joints[:, second], joints[:, first])
    result[:, second] = np.where(exchanged[..., None], joints[:, first], joints[:, second])
    for side in (first, second):
        result[:, side, 2] = np.where(lone, 0, result[:, side, 2])
    return result, exchanged

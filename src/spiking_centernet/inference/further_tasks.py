"""What the tasks besides "detect" need and answer: the camera of a source, JSON values of 3D boxes, joints, classes."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from spiking_centernet.data import Recording
from spiking_centernet.data.cameras import Camera, camera_beside
from spiking_centernet.errors import ConfigError
from spiking_centernet.model import DetectorConfig
from spiking_centernet.structures import Detections

NO_CAMERA = "the camera is unknown, so 3D boxes are left out; pass focal_px (and pitch_deg, camera_height_m)"


def known_camera(recording: Recording) -> Camera | None:
    """Return the camera next to a recording for its 3D boxes; warn where there is none."""
    camera = camera_beside(recording.path)
    if camera is None:
        warnings.warn(
            f"{recording.path}: {NO_CAMERA}, or lay {recording.path.stem.removesuffix('_td')}_camera.npy next to it",
            stacklevel=2,
        )
    return camera


def task_record(result: Detections, k: int) -> dict[str, Any]:
    """Return the 3D box and the joints of a detection as JSON values, what is unknown left out.

    Args:
        result: the detections.
        k: number of the detection.
    """
    values: dict[str, Any] = {}
    if np.isfinite(result.box3d[k]).all():
        *place, height, width, length, yaw = (round(value, 4) for value in result.box3d[k].tolist())
        values["box3d"] = {"location": place, "dimensions": [height, width, length], "yaw": yaw}
    if result.joints.shape[1] and np.isfinite(result.joints[k]).all():
        values["joints"] = [[round(u, 3), round(v, 3), round(score, 6)] for u, v, score in result.joints[k].tolist()]
    return values


def class_record(result: Detections, classes: Sequence[str]) -> dict[str, Any]:
    """Return a classifier's answer as JSON values: the likeliest class, its score, and the scores of all.

    Args:
        result: a whole-frame box for every class, the likeliest first.
        classes: what label 0, 1, ... is called.
    """
    scores = {classes[k]: round(v, 6) for k, v in zip(result.labels.tolist(), result.scores.tolist(), strict=True)}
    best = next(iter(scores), None)
    return {"class": best, "score": None if best is None else scores[best], "scores": scores}


def refuse_tracks(config: DetectorConfig) -> None:
    """Refuse to number objects where a network names none.

    Raises:
        ConfigError: The network classifies.
    """
    if config.classifies:
        raise ConfigError("tracking numbers objects, and a network of the task classify names none; leave track out")

"""What the tasks besides "detect" need and answer: the camera of a source, JSON values of 3D boxes and joints."""

import warnings
from typing import Any

import numpy as np

from spiking_centernet.data import Recording
from spiking_centernet.data.cameras import Camera, camera_beside
from spiking_centernet.model import DetectorConfig
from spiking_centernet.structures import Detections

NO_CAMERA = "the camera is unknown, so 3D boxes are left out; pass focal_px (and pitch_deg)"


def known_camera(config: DetectorConfig, recording: Recording, camera: Camera | None) -> Camera | None:
    """Return the camera for a recording, or the one next to it; warn where a network's 3D boxes need one in vain."""
    if camera is None:
        camera = camera_beside(recording.path)
    if camera is None and "detect3d" in config.tasks:
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

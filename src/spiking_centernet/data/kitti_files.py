"""KITTI's label, result and calibration files: text (``readme.txt`` of its object development kit)."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spiking_centernet.calibration import Calibration
from spiking_centernet.data.object_files import object_dtype
from spiking_centernet.errors import BoxFileError
from spiking_centernet.utils.files import atomic_write

MAX_BYTES = 1 << 20
MAX_VALUE = 1e6
"""No pixel, meter or angle is as large; float32 would round it."""
VISIBLE_OF = (1.0, 0.75, 0.5, 0.2)
"""Share of an object that is to be seen where ``occluded`` is 0, 1, 2 and 3; KITTI gives words, no shares."""

NUM_VALUES = 15
"""Columns of a label; a result has one more, the score."""


@dataclass(frozen=True)
class KittiObjects:
    """The objects of one picture.

    Attributes:
        types: name of every object, "Car", "DontCare".
        truncated: [N], share outside the picture.
        occluded: int64 [N], 0 to 3.
        alpha: [N], angle under which it is seen, radians.
        xyxy: [N, 4], left, top, right, bottom in pixels.
        box3d: [N, 7], x, y, z of the bottom face's middle, height, width, length, yaw, in the rectified camera's frame.
        scores: [N]; 1 for labels.
    """

    types: tuple[str, ...]
    truncated: np.ndarray
    occluded: np.ndarray
    alpha: np.ndarray
    xyxy: np.ndarray
    box3d: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.types)


def read_kitti(path: str | os.PathLike[str]) -> KittiObjects:
    """Read a label or result file.

    Raises:
        BoxFileError: The file is missing or too large, or a line is no object.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BoxFileError(f"{path}: is larger than {MAX_BYTES} bytes; no label file of KITTI is")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BoxFileError(f"{path}: cannot be read ({error}); give a label file of KITTI") from error
    types, rows = [], []
    for number, line in enumerate(lines, 1):
        name, *words = line.split() or [""]
        if not name:
            continue
        try:
            values = [float(word) for word in words]
        except ValueError as error:
            raise BoxFileError(
                f"{path}: line {number}: {error}; an object is a type and {NUM_VALUES - 1} numbers"
            ) from error
        if len(values) not in (NUM_VALUES - 1, NUM_VALUES) or not np.isfinite(values).all():
            raise BoxFileError(
                f"{path}: line {number} has {len(values)} numbers after the type, must be {NUM_VALUES - 1} finite "
                f"ones, or {NUM_VALUES} with a score"
            )
        if max(map(abs, values)) > MAX_VALUE:
            raise BoxFileError(f"{path}: line {number} has a number beyond {MAX_VALUE:g}; correct it")
        if not 0 <= values[5] - values[3] < np.inf or not 0 <= values[6] - values[4] < np.inf:
            raise BoxFileError(f"{path}: line {number} has a box {values[3:7]} of negative size; correct it")
        types.append(name)
        rows.append([*values, 1.0][:NUM_VALUES])
    table = np.array(rows, np.float64).reshape(-1, NUM_VALUES)
    box3d = table[:, [10, 11, 12, 7, 8, 9, 13]]
    return KittiObjects(
        tuple(types), table[:, 0], table[:, 1].astype(np.int64), table[:, 2], table[:, 3:7], box3d, table[:, 14]
    )


def write_kitti(path: str | os.PathLike[str], objects: KittiObjects, *, with_scores: bool = False) -> None:
    """Write a label file, or a result file with scores, four decimals a number, whole or not at all."""
    lines = []
    for i, name in enumerate(objects.types):
        x, y, z, height, width, length, yaw = objects.box3d[i].tolist()
        numbers = [objects.alpha[i], *objects.xyxy[i].tolist(), height, width, length, x, y, z, yaw]
        numbers += [objects.scores[i]] * with_scores
        words = " ".join(f"{number:.4f}" for number in numbers)
        lines.append(f"{name} {objects.truncated[i]:.2f} {int(objects.occluded[i])} {words}\n")
    with atomic_write(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def object_rows(objects: KittiObjects, chosen: np.ndarray) -> np.ndarray:
    """Return some of the objects as rows of ``object_dtype``; 3D boxes without size, as of DontCare, are unknown.

    Args:
        objects: of one picture.
        chosen: int64 [N] or bool [M], which of them.
    """
    box3d = objects.box3d[chosen].copy()
    box3d[(box3d[:, 3:6] <= 0).any(axis=1)] = np.nan
    rows = np.zeros(len(box3d), object_dtype())
    rows["location"], rows["dimensions"], rows["yaw"] = box3d[:, :3], box3d[:, 3:6], box3d[:, 6]
    rows["visible"] = np.array(VISIBLE_OF)[objects.occluded[chosen].clip(0, 3)]
    rows["truncated"] = objects.truncated[chosen].clip(0, 1)
    return rows


def camera_of_projection(matrix: np.ndarray) -> Calibration:
    """Return the camera of a projection [3, 4] by RQ decomposition: focal lengths and depth are positive.

    Raises:
        ValueError: The matrix is no pinhole camera's, or has skew.
    """
    left = matrix[:, :3]
    # RQ by QR of the reversed transpose.
    q, r = np.linalg.qr(left[::-1].T)
    upper, rotation = r.T[::-1, ::-1], q.T[::-1]
    signs = np.sign(np.diag(upper))
    upper, rotation = upper * signs, signs[:, None] * rotation
    if np.linalg.det(rotation) < 0 or not np.isfinite(upper).all() or abs(upper[2, 2]) < 1e-12:
        raise ValueError("the projection is no pinhole camera's")
    intrinsics = upper / upper[2, 2]
    if abs(intrinsics[0, 1]) > 1e-6 * intrinsics[0, 0]:
        raise ValueError("the projection has skew, which a Calibration cannot hold")
    translation = np.linalg.solve(upper, matrix[:, 3])
    return Calibration(np.diag(intrinsics)[:2], intrinsics[:2, 2], rotation, translation)


def read_projection(path: Path) -> Calibration:
    """Return the camera of ``P2`` of a file of ``calib``.

    Raises:
        BoxFileError: The file is missing or has no such matrix.
    """
    try:
        lines = dict(line.split(":", 1) for line in path.read_text(encoding="utf-8").splitlines() if ":" in line)
        return camera_of_projection(np.array(lines["P2"].split(), np.float64).reshape(3, 4))
    except (OSError, UnicodeDecodeError, KeyError, ValueError, np.linalg.LinAlgError) as error:
        raise BoxFileError(f"{path}: holds no camera P2 ({error}); copy KITTI's calib folder again") from error

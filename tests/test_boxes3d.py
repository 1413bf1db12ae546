import numpy as np
import pytest

from spiking_centernet import boxes3d
from spiking_centernet.calibration import Calibration


@pytest.fixture
def leveled(golden_dir):
    z = np.load(golden_dir / "tasks" / "levelled.npz")
    boxes = np.concatenate([z["location"], z["dims_hwl"], z["yaw"][:, None]], axis=1)
    cameras = [
        Calibration(np.full(2, f), np.array([x, y]), r)
        for f, x, y, r in zip(z["focal"], z["cx"], z["cy"], z["rotation"], strict=True)
    ]
    return z, boxes, cameras


def test_wrap_is_half_open():
    assert boxes3d.wrap(np.array([np.pi, -np.pi, 3 * np.pi, 0.0, -1e-17 - np.pi])) == pytest.approx(
        [-np.pi, -np.pi, -np.pi, 0.0, -np.pi]
    )
    rng = np.random.default_rng(0)
    angles = rng.uniform(-50, 50, 1000)
    wrapped = boxes3d.wrap(angles)
    assert ((wrapped >= -np.pi) & (wrapped < np.pi)).all()
    np.testing.assert_allclose(np.exp(1j * wrapped), np.exp(1j * angles), atol=1e-12)


def test_corners_and_projections_are_those_of_kitti(golden_dir):
    z = np.load(golden_dir / "tasks" / "box3d_corners.npz")
    boxes = np.concatenate([z["location"], z["dims_hwl"], z["rotation_y"][:, None]], axis=1)
    found = boxes3d.corners(boxes)
    np.testing.assert_allclose(found, z["corners"], rtol=1e-5, atol=1e-5)
    p = z["projection"].astype(np.float64)
    homogeneous = np.concatenate([found, np.ones((*found.shape[:2], 1))], axis=-1) @ p.T
    np.testing.assert_allclose(homogeneous[..., :2] / homogeneous[..., 2:], z["projected"], rtol=1e-4, atol=1e-3)
    # Every corner is half a diagonal away from the middle.
    half = np.linalg.norm(boxes[:, 3:6], axis=1) / 2
    np.testing.assert_allclose(np.linalg.norm(found - boxes3d.centers(boxes)[:, None], axis=2).T, [half] * 8)


def test_cameras_that_pitch_and_roll_see_leveled_boxes(leveled):
    z, boxes, cameras = leveled
    middle = boxes3d.centers(boxes)
    for i, camera in enumerate(cameras):
        np.testing.assert_allclose(camera.matrix, z["projection"][i], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(camera.project(middle[i]), z["centre_uv"][i], rtol=1e-9)
        depth = camera.to_camera(middle[i])[2]
        assert depth == pytest.approx(z["depth"][i])
        np.testing.assert_allclose(camera.unproject(z["centre_uv"][i], depth), middle[i], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(boxes3d.alpha_of(boxes[:, 6], middle), z["alpha"], atol=1e-9)
    np.testing.assert_allclose(boxes3d.yaw_of(z["alpha"], middle), boxes[:, 6], atol=1e-9)


def test_a_mirror_turns_boxes_and_cameras_round_and_twice_is_the_identity(leveled):
    z, boxes, cameras = leveled
    width = int(z["width"])
    mirrored = boxes3d.flipped(boxes)
    np.testing.assert_allclose(mirrored[:, :3], z["flipped_location"])
    np.testing.assert_allclose(mirrored[:, 6], z["flipped_yaw"], atol=1e-12)
    np.testing.assert_allclose(boxes3d.flipped(mirrored), boxes, atol=1e-12)
    for i, camera in enumerate(cameras):
        other = camera.flipped(width)
        assert other.center[0] == pytest.approx(z["flipped_cx"][i])
        np.testing.assert_allclose(other.rotation, z["flipped_rotation"][i], atol=1e-12)
        uv = other.project(boxes3d.centers(mirrored[i]))
        assert uv[0] == pytest.approx(z["flipped_centre_u"][i])
        np.testing.assert_allclose(other.flipped(width).rotation, camera.rotation)
        np.testing.assert_allclose(other.flipped(width).center, camera.center)


def test_a_zoomed_camera_sees_the_same_metres(leveled):
    _, boxes, cameras = leveled
    point = boxes3d.centers(boxes[0])
    zoomed = cameras[0].zoomed(1.5, (12.0, -7.5))
    np.testing.assert_allclose(zoomed.project(point), (cameras[0].project(point) - [-7.5, 12.0]) * 1.5)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"focal": np.array([0.0, 1.0])}, "focal must be positive"),
        ({"center": np.array([np.nan, 1.0])}, "center must be finite"),
        ({"rotation": np.eye(3) * 1.001}, "orthonormal"),
        ({"rotation": np.diag([-1.0, 1, 1])}, "right-handed"),
        ({"translation": np.zeros(2)}, "translation must be"),
    ],
)
def test_an_impossible_camera_is_refused(settings, what):
    with pytest.raises(ValueError, match=what):
        Calibration(**{"focal": np.ones(2), "center": np.ones(2)} | settings)

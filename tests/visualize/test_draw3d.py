"""Cuboids, skeletons and the view from above."""

import numpy as np

from spiking_centernet.boxes3d import corners
from spiking_centernet.data.cameras import CameraTrack, camera_at, camera_beside, pitched_camera
from spiking_centernet.data.object_files import write_cameras
from spiking_centernet.joint_sets import JOINT_SETS
from spiking_centernet.structures import Boxes, Detections
from spiking_centernet.visualize.draw import CLASS_COLORS, draw_boxes
from spiking_centernet.visualize.draw3d import birds_eye, cuboid_lines, object_lines

SIZE_HW = (120, 160)
CAMERA = pitched_camera(150.0, 0.0, SIZE_HW)
CAR = np.array([0.0, 1.5, 10.0, 1.5, 1.8, 4.0, 0.0])


def detections(box3d=CAR, joints=None):
    columns = {} if joints is None else {"joints": joints[None].astype(np.float32)}
    return Detections(
        np.array([[60, 50, 100, 80]], np.float32), np.array([0.9], np.float32), np.array([0]), 0,
        box3d=box3d[None].astype(np.float32), **columns,
    )  # fmt: skip


def test_lines_run_between_projected_corners():
    lines = cuboid_lines(CAR, CAMERA)
    assert len(lines) == 14
    ends = np.round(np.concatenate(lines), 6).reshape(-1, 2)
    wanted = np.round(CAMERA.project(corners(CAR)), 6)
    assert {tuple(p) for p in ends.tolist()} == {tuple(p) for p in wanted.tolist()}


def test_a_box_around_the_camera_is_cut_and_one_behind_is_not_drawn():
    near = CAR + np.array([0, 0, -10.0, 0, 0, 0, np.pi / 2])  # from 2 m behind to 2 m ahead
    lines = cuboid_lines(near, CAMERA)
    assert 0 < len(lines) < 14
    assert np.isfinite(np.array(lines)).all()
    assert cuboid_lines(CAR - np.array([0, 0, 30.0, 0, 0, 0, 0]), CAMERA) == []


def test_pictures_show_cuboids_with_a_camera_and_joints_without():
    black = np.zeros((*SIZE_HW, 3), np.uint8)
    plain = draw_boxes(black, detections())
    assert not np.array_equal(plain, draw_boxes(black, detections(), camera=CAMERA))
    unknown = detections(np.full(7, np.nan))
    np.testing.assert_array_equal(draw_boxes(black, unknown, camera=CAMERA), plain)
    joints = np.stack([np.linspace(65, 95, 13), np.linspace(55, 75, 13), np.zeros(13)], axis=1)
    assert not np.array_equal(plain, draw_boxes(black, detections(joints=joints)))
    missing = np.full((13, 3), np.nan)
    np.testing.assert_array_equal(draw_boxes(black, detections(joints=missing)), plain)


def test_joints_of_labels_are_drawn_where_they_are_known():
    black = np.zeros((*SIZE_HW, 3), np.uint8)
    joints = np.zeros((1, 13, 3), np.float32)
    xyxy, labels = np.array([[60, 50, 100, 80]], np.float32), np.array([1])
    plain = draw_boxes(black, truth=Boxes(xyxy, labels))
    np.testing.assert_array_equal(draw_boxes(black, truth=Boxes(xyxy, labels, joints=joints)), plain)
    joints[0, 0] = 80, 65, 1
    assert not np.array_equal(draw_boxes(black, truth=Boxes(xyxy, labels, joints=joints)), plain)


def test_an_object_is_its_cuboid_and_its_known_limbs():
    joints = np.stack([np.linspace(65, 95, 13), np.linspace(55, 75, 13), np.zeros(13)], axis=1)
    found = detections(joints=joints)
    limbs = JOINT_SETS[13].limbs
    assert len(object_lines(found, 0, CAMERA)) == 14 + len(limbs)
    for line, (a, b) in zip(object_lines(found, 0, None), limbs, strict=True):
        np.testing.assert_allclose(line, joints[[a, b], :2], rtol=1e-6)
    joints[[*limbs[0], *limbs[1]], 2] = 1
    labeled = Boxes(found.xyxy, found.labels, joints=joints[None].astype(np.float32))
    known = np.flatnonzero(joints[:, 2])
    assert len(object_lines(labeled, 0, CAMERA)) == sum(a in known and b in known for a, b in limbs)


def test_from_above_a_car_ahead_lies_above_the_middle_of_the_bottom():
    picture = birds_eye(detections(), size_hw=(100, 100), range_m=50.0)
    rows, columns = np.nonzero((picture == CLASS_COLORS[0]).all(axis=2))
    assert abs(columns.mean() - 50) < 3
    assert abs(rows.mean() - 80) < 3
    nothing = birds_eye(detections(np.full(7, np.nan)), size_hw=(100, 100))
    assert not (nothing == CLASS_COLORS[0]).all(axis=2).any()


def test_from_above_what_lies_farther_away_is_counted():
    def corner(count):
        box3d = np.array([[0.0, 1.5, 10.0, 1.5, 1.8, 4.2, 0.0], [0.0, 1.5, 80.0, 1.5, 1.8, 4.2, 0.0]], np.float32)
        xyxy, labels = np.zeros((2, 4), np.float32), np.zeros(2, np.int64)
        found = Detections(xyxy, np.ones(2, np.float32), labels, 0, box3d=box3d)
        return birds_eye(found.best(count), size_hw=(400, 400))[-19:, :120]

    assert not (corner(1) == 235).all(axis=2).any()
    assert (corner(2) == 235).all(axis=2).any()


def test_a_moving_camera_is_the_one_of_the_nearest_time(tmp_path):
    write_cameras(tmp_path / "drive_camera.npy", {t: pitched_camera(100.0 + t, 0.0, SIZE_HW) for t in (0, 100, 200)})
    track = camera_beside(tmp_path / "drive_td.dat")
    assert isinstance(track, CameraTrack)
    focals = [camera_at(track, t_us).focal[0] for t_us in (-50, 40, 60, 1000)]
    assert focals == [100, 100, 200, 300]
    assert camera_at(CAMERA, 7) is CAMERA
    assert camera_at(None, 7) is None


def test_a_pitched_camera_sees_the_ground_ahead_in_its_middle():
    camera = pitched_camera(200.0, 30.0, SIZE_HW)
    ahead = np.array([0.0, 1.0, 1.0 / np.tan(np.radians(30.0))])
    np.testing.assert_allclose(camera.project(ahead), [80, 60], atol=1e-9)

import json

import numpy as np
import pytest
from test_dataset import FEW, digests, make
from toy_world import toy_scene

from spiking_centernet.boxes3d import corners
from spiking_centernet.calibration import Calibration
from spiking_centernet.data import FolderDataset
from spiking_centernet.data.box_files import read_boxes
from spiking_centernet.data.frames import LUMINANCE, read_image
from spiking_centernet.data.object_files import read_cameras, read_objects
from spiking_centernet.errors import ConfigError, DatasetError
from spiking_centernet.joint_sets import JOINTS_13
from spiking_centernet.simulate.clips import Clips
from spiking_centernet.simulate.dataset import simulate
from spiking_centernet.simulate.frames import exposed, picture_times_us
from spiking_centernet.simulate.labels import NEAREST_M, calibration_of, truncation
from spiking_centernet.simulate.scene.close import CloseScene
from spiking_centernet.simulate.scene.scene import Scene
from spiking_centernet.simulate.scene.wide import WideScene
from spiking_centernet.structures import VoxelSpec

SIZE_HW = (120, 152)


@pytest.mark.slow
def test_labels_change_no_byte_of_events_and_boxes(tmp_path):
    clips = Clips(train=1, val=0, test=0)
    for name, labels in (("plain", ()), ("labeled", ("objects",)), ("pictures", ("frames",))):
        simulate(
            tmp_path / name, seed=1, clips=clips, duration_s=0.6, size_hw=SIZE_HW, workers=1, labels=labels
        )  # fmt: skip
    plain, labeled, pictures = (digests(tmp_path / name) for name in ("plain", "labeled", "pictures"))
    name = "train/sim1_train_0000"
    extra = {f"{name}_objects.npy", f"{name}_camera.npy"}
    assert labeled.keys() - plain.keys() == extra
    assert {k: labeled[k] for k in plain if k != "simulation.json"} == {
        k: v for k, v in plain.items() if k != "simulation.json"
    }
    assert pictures.keys() - plain.keys() == {f"{name}_frames/{t_us}.png" for t_us in (250_000, 500_000)}
    assert all(pictures[f"{name}_{end}"] == plain[f"{name}_{end}"] for end in ("td.dat", "bbox.npy"))
    boxes = read_boxes(tmp_path / "labeled" / f"{name}_bbox.npy")
    rows = read_objects(tmp_path / "labeled" / f"{name}_objects.npy", boxes)
    assert len(boxes) > 0
    for field in ("ts", "track_id", "class_id"):
        np.testing.assert_array_equal(rows[field], boxes[field])
    cameras = read_cameras(tmp_path / "labeled" / f"{name}_camera.npy")
    assert cameras["ts"].tolist() == [250_000, 500_000]
    below = rows["location"][:, 1]  # all stand on the ground
    np.testing.assert_allclose(below, cameras["height_m"][np.searchsorted(cameras["ts"], rows["ts"])], rtol=1e-5)
    # A clip without its labels is made again; a folder keeps to its labels.
    (tmp_path / "labeled" / f"{name}_objects.npy").unlink()
    simulate(tmp_path / "labeled", seed=1, clips=clips, duration_s=0.6, size_hw=SIZE_HW, workers=1, labels=["objects"])
    assert digests(tmp_path / "labeled") == labeled
    with pytest.raises(DatasetError, match="labels"):
        simulate(tmp_path / "labeled", seed=1, clips=clips, duration_s=0.6, size_hw=SIZE_HW, workers=1)
    assert json.loads((tmp_path / "labeled" / "simulation.json").read_text())["labels"] == ["objects"]


def test_labels_that_a_world_lacks_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="unknown labels 'depth'"):
        make(tmp_path / "a", labels=["depth"])
    with pytest.raises(ConfigError, match="knows no 3D boxes"):
        make(tmp_path / "b", make_scene=toy_scene, clips=FEW, labels=["objects"])


def test_pictures_show_what_the_sensor_saw(tmp_path):
    assert picture_times_us([50_000, 250_000], 1) == [50_000, 250_000]
    assert picture_times_us([50_000, 250_000], 4) == [0, 25_000, 50_000, 150_000, 175_000, 200_000, 225_000, 250_000]
    assert exposed(np.array([0.0, 127.5, 255.0, 1e6], np.float32)).tolist() == [0, 186, 255, 255]  # 0.5 ** (1 / 2.2)
    clips = Clips(train=1, val=0, test=0)
    simulate(
        tmp_path, seed=1, clips=clips, duration_s=0.3, size_hw=SIZE_HW, workers=1, labels=["frames"],
        frames_per_window=4,
    )  # fmt: skip
    dataset = FolderDataset(tmp_path, "train", VoxelSpec(mode="difference", num_steps=4, frame_hw=SIZE_HW))
    assert dataset[0].cube.shape == (4, 2, *SIZE_HW)
    gray = FolderDataset(tmp_path, "train", VoxelSpec(mode="direct", colors=1, frame_hw=SIZE_HW))[0]
    events = FolderDataset(tmp_path, "train", VoxelSpec())[0]
    assert np.array_equal(gray.boxes.xyxy, events.boxes.xyxy)
    luminance = gray.cube[0, 0].numpy()
    assert luminance.std() > 5
    with pytest.raises(ConfigError, match="frames_per_window"):
        simulate(tmp_path / "b", clips=clips, frames_per_window=4)
    with pytest.raises(DatasetError, match="frames_per_window 4, not None"):
        simulate(
            tmp_path, seed=1, clips=clips, duration_s=0.3, size_hw=SIZE_HW, workers=1, labels=["frames"]
        )  # fmt: skip


@pytest.mark.slow
def test_colors_keep_the_luminance(tmp_path):
    scene = Scene(np.random.default_rng(3), size_hw=SIZE_HW, duration_s=1.0)
    gray, channels = np.empty(SIZE_HW, np.float32), np.empty((3, *SIZE_HW), np.float32)
    scene.render(0.5, gray)
    for channel, out in zip(scene.colored(np.random.default_rng(0)), channels, strict=True):
        channel.render(0.5, out)
    np.testing.assert_allclose(np.tensordot(LUMINANCE, channels, axes=1), gray, rtol=0.02, atol=0.5)
    assert np.abs(channels[0] - channels[2]).mean() > 1
    again = np.empty_like(gray)
    scene.render(0.5, again)
    assert np.array_equal(again, gray)
    clips = Clips(train=1, val=0, test=0)
    for name, more in (("gray", {}), ("color", {"color": True})):
        simulate(
            tmp_path / name, seed=1, clips=clips, duration_s=0.3, size_hw=SIZE_HW, workers=1, labels=["frames"], **more
        )
    files = [digests(tmp_path / name) for name in ("gray", "color")]
    for end in ("td.dat", "bbox.npy"):
        assert files[0][f"train/sim1_train_0000_{end}"] == files[1][f"train/sim1_train_0000_{end}"]
    image = read_image(tmp_path / "color" / "train" / "sim1_train_0000_frames" / "250000.png")
    assert (image[..., 0] != image[..., 2]).mean() > 0.5


@pytest.fixture(scope="module")
def labeled():
    """Box, object and camera of every labeled actor of a few scenes."""
    found = []
    for seed in range(4):
        scene = Scene(np.random.default_rng([5, seed]), size_hw=(240, 304), duration_s=3.0)
        for t_s in (0.5, 1.0, 1.5, 2.0, 2.5):
            boxes = scene.boxes(t_s, round(t_s * 1e6))
            rows = scene.objects(t_s, boxes)
            found += [(box, row, scene.calibration(t_s)) for box, row in zip(boxes, rows, strict=True)]
    return found


@pytest.fixture(scope="module", params=[WideScene, CloseScene])
def labeled_anywhere(request):
    """The same of wide scenes."""
    found = []
    for seed in range(16):
        scene = request.param(np.random.default_rng([7, seed]), size_hw=(240, 304), duration_s=1.0)
        boxes = scene.boxes(0.4, 400_000)
        rows, camera = scene.objects(0.4, boxes), scene.calibration(0.4)
        found += [(box, row, camera) for box, row in zip(boxes, rows, strict=True)]
    return found


def rectangle(row, camera):
    box3d = np.array([*row["location"], *row["dimensions"], row["yaw"]], np.float64)
    points = camera.to_camera(corners(box3d))
    uv = camera.focal * points[:, :2] / np.maximum(points[:, 2:], NEAREST_M) + camera.center
    return np.clip(uv.min(axis=0), 0, [304, 240]), np.clip(uv.max(axis=0), 0, [304, 240])


def test_3d_boxes_and_joints_of_wide_scenes_lie_on_what_is_seen(labeled_anywhere):
    """Of people and cars that are seen whole, whatever the camera's roll; a figure's own axes are wider than it is."""
    overlaps, joints = [], 0
    for box, row, camera in labeled_anywhere:
        first = np.array([box["x"], box["y"]], np.float64)
        last = first + np.array([box["w"], box["h"]])
        if row["visible"] > 0.97 and row["truncated"] == 0:
            low, high = rectangle(row, camera)
            inside = np.maximum(np.minimum(high, last) - np.maximum(low, first), 0).prod()
            overlaps.append(inside / ((high - low).prod() + (last - first).prod() - inside))
        seen = row["joints"][row["joints"][:, 2] == 2, :2]
        assert (seen >= first - 3).all()
        assert (seen <= last + 3).all()
        joints += len(seen)
        if box["class_id"] == 0:
            assert not row["joints3d"].any()
            continue
        by_name = dict(zip(JOINTS_13.names, row["joints3d"].astype(np.float64), strict=True))
        limbs = [np.linalg.norm(by_name[f"{side}_hip"] - by_name[f"{side}_knee"]) for side in ("left", "right")]
        assert limbs[0] == pytest.approx(limbs[1], rel=1e-3)
        assert 0.2 < limbs[0] / row["dimensions"][0] < 0.55  # a thigh is 0.245 of who stands, more of who sits
        # y points down; the box stands on the ground and holds the figure.
        assert by_name["head"][1] < by_name["left_foot"][1]
        box3d = np.array([*row["location"], *row["dimensions"], row["yaw"]], np.float64)
        points = corners(box3d)
        ups = row["joints3d"][:, 1]
        assert ups.min() > points[:, 1].min() - 0.02
        assert ups.max() < points[:, 1].max() + 0.02
    assert joints > 150
    assert np.median(overlaps) > 0.5


# Cuboids of people fit less well than the 0.75 that is wanted: the median is 0.67.
@pytest.mark.parametrize(("class_id", "least"), [(0, 0.85), (1, 0.65)])
def test_projected_cuboids_cover_unoccluded_boxes(labeled, class_id, least):
    overlaps = []
    for box, row, camera in labeled:
        if box["class_id"] == class_id and row["visible"] > 0.98:
            low, high = rectangle(row, camera)
            first = np.array([box["x"], box["y"]], np.float64)
            last = first + np.array([box["w"], box["h"]])
            inside = np.maximum(np.minimum(high, last) - np.maximum(low, first), 0).prod()
            overlaps.append(inside / ((high - low).prod() + (last - first).prod() - inside))
    assert len(overlaps) > 10
    assert np.median(overlaps) >= least


def test_joints_that_are_seen_lie_in_the_box(labeled):
    seen = 0
    for box, row, _ in labeled:
        joints = row["joints"][row["joints"][:, 2] == 2, :2]
        low = np.array([box["x"], box["y"]]) - 2
        assert (joints >= low).all()
        assert (joints <= low + np.array([box["w"] + 4, box["h"] + 4])).all()
        seen += len(joints)
        if box["class_id"] == 0:
            assert not row["joints"].any()
    assert seen > 100


def test_joints_are_the_3d_joints_as_the_camera_sees_them(labeled):
    for _, row, camera in labeled:
        known = row["joints"][:, 2] > 0
        if known.any():
            uv = camera.project(row["joints3d"].astype(np.float64))
            np.testing.assert_allclose(row["joints"][known, :2], uv[known], atol=0.05)
            names = JOINTS_13.names
            # y points down: heads are above feet.
            assert row["joints3d"][0, 1] < row["joints3d"][names.index("left_foot"), 1]


def test_a_level_camera_is_not_turned_and_a_pitched_one_looks_down():
    level = np.array([0, 0, 1.5, 1, 0, 0, 0, 0, -1, 0, 1, 0, 300, 152, 120], np.float64)
    np.testing.assert_allclose(calibration_of(level).rotation, np.eye(3), atol=1e-12)
    down, ahead = np.cos(0.3), np.sin(0.3)
    pitched = np.array([0, 0, 1.5, 1, 0, 0, 0, -ahead, -down, 0, down, -ahead, 300, 152, 120])
    # What is level ahead appears above the middle of a picture that looks down.
    assert calibration_of(pitched).project(np.array([0.0, 0.0, 10.0]))[1] < 120


def test_truncation_is_the_share_outside_the_frame():
    camera = Calibration(np.full(2, 100.0), np.array([50.0, 50.0]))
    far = np.array([0, 0.5, 1000.0, 1, 1, 1, 0])
    assert truncation(far, camera, (100, 100)) == 0
    half = np.array([500.0, 0.5, 1000.0, 100.0, 1e-6, 100.0, 0.0])  # seen from the side, its middle on the border
    assert truncation(half, camera, (100, 100)) == pytest.approx(0.5, abs=0.01)
    assert truncation(np.array([5000.0, 0, 1000, 1, 1, 1, 0]), camera, (100, 100)) == 1

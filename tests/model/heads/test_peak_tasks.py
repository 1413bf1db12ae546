"""Networks of several tasks: one head, further maps read at its peaks."""

import pickle
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
import toy_roads

from spiking_centernet.boxes3d import centers, wrap
from spiking_centernet.calibration import Calibration
from spiking_centernet.errors import ConfigError, DatasetError
from spiking_centernet.joint_sets import JOINTS_17
from spiking_centernet.model import DetectorConfig, DetectorOutput, build
from spiking_centernet.model.config import HeadConfig
from spiking_centernet.model.heads import make_head
from spiking_centernet.model.heads.box3d_maps import PARTS, bins_of, make_targets3d
from spiking_centernet.model.heads.center_targets import make_targets
from spiking_centernet.model.heads.centernet import output_type
from spiking_centernet.model.heads.joint_maps import make_joint_targets
from spiking_centernet.model.scaling import detections_of
from spiking_centernet.structures import Boxes

ALL = ("detect", "detect3d", "pose")
SIZE_HW = (120, 160)
STRIDE = 4


def camera(pitch: float = 0.1, focal_px: float = 150.0) -> Calibration:
    cos, sin = np.cos(pitch), np.sin(pitch)
    rotation = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return Calibration(np.full(2, focal_px), np.array([80.0, 60.0]), rotation)


def scene(view: Calibration) -> Boxes:
    """A car and a person before the camera, their boxes around the projected centers."""
    middle = view.unproject(np.array([[50.0, 70.0], [110.0, 50.0]]), np.array([14.0, 6.0]))
    dims = np.array([[1.5, 1.7, 4.1], [1.7, 0.5, 0.6]])
    box3d = np.concatenate([middle, dims, [[0.4], [-2.9]]], axis=1)
    box3d[:, 1] += dims[:, 0] / 2
    uv = view.project(centers(box3d))
    half = np.array([[20.0, 12.0], [9.0, 26.0]])
    joints = np.zeros((2, 13, 3), np.float32)
    joints[1, :, 0] = uv[1, 0] + np.linspace(-5, 8, 13)
    joints[1, :, 1] = uv[1, 1] + np.linspace(-24, 24, 13)
    joints[1, :, 2] = 2
    xyxy = np.concatenate([uv - half, uv + half], axis=1) + np.array([3, 1, 3, 1])
    return Boxes(xyxy.astype(np.float32), np.array([0, 1]), np.array([4, 9]), box3d.astype(np.float32), joints)


def oracle(boxes: Boxes, view: Calibration, focal_px: float = 304.0) -> DetectorOutput:
    """Write the targets of a sample into the maps of all tasks."""
    height, width = SIZE_HW[0] // STRIDE, SIZE_HW[1] // STRIDE
    flat = make_targets([boxes], num_classes=2, size_hw=(height, width), stride=STRIDE)
    solid = make_targets3d([boxes], [view], flat.index, flat.mask, width=width, stride=STRIDE, focal_px=focal_px)
    pose = make_joint_targets(
        [boxes], flat.index, flat.mask, num_joints=13, size_hw=(height, width), stride=STRIDE, labels=frozenset({1})
    )
    maps = {name: torch.zeros(1, n, height * width) for name, n in (("wh", 2), ("offset", 2), ("box3d", 14))}
    at = flat.index[0]
    maps["wh"][0, :, at], maps["offset"][0, :, at] = flat.wh[0].T, flat.offset[0].T
    right, residual = bins_of(solid.alpha[0])
    rotation = torch.stack([torch.zeros_like(residual), right.float(), residual.sin(), residual.cos()], -1).flatten(1)
    maps["box3d"][0, :, at] = torch.cat([solid.depth[0], solid.dims[0], rotation, solid.center3d[0]], dim=1).T
    joints = torch.zeros(1, 41, height * width)
    joints[0, :26, at] = pose.joints[0].T
    joints[0, 26:39] = torch.logit(pose.heatmap[0].flatten(1), 1e-6)
    joints[0, 39:, pose.joint_index[0]] = pose.joint_offset[0].T
    shaped = {name: value.unflatten(2, (height, width)) for name, value in maps.items()}
    heatmap = torch.logit(flat.heatmap, 1e-6)
    return output_type(("box3d", "joints"))(heatmap=heatmap, joints=joints.unflatten(2, (height, width)), **shaped)


def head_of():
    return make_head(replace(DetectorConfig(tasks=ALL), decoder=replace(DetectorConfig().decoder, num_blocks=3)))


@pytest.mark.parametrize(("pitch", "widths"), [(0.0, 1.0), (0.6, 0.6), (0.6, 2.2)])
def test_targets_decode_to_the_truth(pitch, widths):
    view = camera(pitch, widths * SIZE_HW[1])
    boxes = scene(view)
    (found,) = head_of().detections(oracle(boxes, view), [7], size_hw=SIZE_HW, min_score=0.5, calibrations=[view])
    order = np.argsort(found.labels)
    np.testing.assert_array_equal(found.labels[order], boxes.labels)
    box3d = found.box3d[order]
    reach = np.linalg.norm(boxes.box3d[:, :3], axis=1)
    assert (np.linalg.norm(box3d[:, :3] - boxes.box3d[:, :3], axis=1) / reach < 1e-3).all()
    np.testing.assert_allclose(box3d[:, 3:6], boxes.box3d[:, 3:6], atol=1e-5)
    assert np.abs(wrap(box3d[:, 6] - boxes.box3d[:, 6])).max() < 1e-4
    joints = found.joints[order]
    np.testing.assert_allclose(joints[1, :, :2], boxes.joints[1, :, :2], atol=0.01)
    assert (joints[1, :, 2] > 0.9).all()
    assert np.isnan(joints[0, :, :2]).all()
    assert (joints[0, :, 2] == 0).all()


def test_depth_follows_the_focal_length_that_is_said():
    view = camera()
    boxes = scene(view)
    output = oracle(boxes, view)
    twice = Calibration(2 * view.focal, view.center, view.rotation)
    right, wrong = (
        head_of().detections(output, [0], size_hw=SIZE_HW, min_score=0.5, calibrations=[c])[0] for c in (view, twice)
    )
    depths = [c.to_camera(centers(found.box3d))[:, 2] for c, found in ((view, right), (twice, wrong))]
    np.testing.assert_allclose(depths[1], 2 * depths[0], rtol=1e-4)


def test_a_cube_at_half_the_resolution_gives_meters_and_the_sensors_pixels():
    view = camera()
    sensor = Calibration(2 * view.focal, 2 * view.center, view.rotation)
    boxes = scene(view)
    (found,) = detections_of(
        head_of(), oracle(boxes, view), [0], cube_hw=SIZE_HW, size_hw=(2 * SIZE_HW[0], 2 * SIZE_HW[1]),
        ratio=Fraction(1, 2), min_score=0.5, calibrations=[sensor],
    )  # fmt: skip
    order = np.argsort(found.labels)
    np.testing.assert_allclose(found.box3d[order], boxes.box3d, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.xyxy[order], 2 * boxes.xyxy, atol=1e-3)
    np.testing.assert_allclose(found.joints[order][1, :, :2], 2 * boxes.joints[1, :, :2], atol=0.02)


def test_without_a_camera_boxes_stand_and_3d_boxes_are_unknown():
    view = camera()
    output = oracle(scene(view), view)
    (blind,) = head_of().detections(output, [0], size_hw=SIZE_HW, min_score=0.5)
    (seeing,) = head_of().detections(output, [0], size_hw=SIZE_HW, min_score=0.5, calibrations=[view])
    assert len(blind) == 2
    assert np.isnan(blind.box3d).all()
    np.testing.assert_array_equal(blind.xyxy, seeing.xyxy)
    np.testing.assert_array_equal(blind.joints, seeing.joints)


@pytest.mark.parametrize("case", ["nothing known", "no boxes", "no joints", "nobody", "no camera", "all"])
def test_loss_and_gradient_are_finite(case):
    view = camera()
    full = scene(view)
    unknown = np.full_like(full.box3d, np.nan)
    boxes = {
        "nothing known": replace(full, box3d=unknown, joints=np.zeros((2, 13, 3), np.float32)),
        "no boxes": Boxes.empty(),
        "no joints": replace(full, joints=np.zeros((2, 0, 3), np.float32)),
        "nobody": replace(full, labels=np.zeros(2, np.int64)),
    }.get(case, full)
    output = oracle(full, view)
    maps = {name: torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
            for name, x in output._asdict().items()}  # fmt: skip
    loss = head_of().loss(type(output)(**maps), [boxes], [None if case == "no camera" else view])
    loss.total.backward()
    assert set(loss.parts) == {"heatmap", "wh", "offset", *PARTS, "joints", "joint_heatmap", "joint_offset"}
    assert torch.isfinite(loss.total)
    assert all(torch.isfinite(x.grad).all() for x in maps.values())
    learns_3d = case in ("all", "no joints", "nobody")
    assert bool(maps["box3d"].grad.abs().sum() > 0) == learns_3d
    assert (loss.parts["depth"].item() > 0) == learns_3d


def test_weights_of_tasks_scale_their_losses():
    view = camera()
    boxes, head = [scene(view)], head_of()
    output = output_type(("box3d", "joints"))(*(torch.ones_like(x) for x in oracle(boxes[0], view)))

    def total(**weights: float) -> float:
        return head.loss(output, boxes, [view], task_weights=weights).total.item()

    own = {task: total(**{t: float(t == task) for t in ALL}) for task in ALL}
    assert all(value > 0 for value in own.values())
    assert total() == pytest.approx(sum(own.values()), rel=1e-5)
    assert total(pose=0.5, detect=2) == pytest.approx(2 * own["detect"] + own["detect3d"] + own["pose"] / 2, rel=1e-5)


def test_a_network_of_more_tasks_keeps_the_maps_of_its_weights():
    model = build("nano", **toy_roads.NETWORK).eval()
    torch.manual_seed(3)
    more = build("nano", tasks=ALL, **toy_roads.NETWORK).eval()
    own = model.state_dict()
    assert list(own) == [name for name in more.state_dict() if not name.startswith(("heads.box3d.", "heads.joints."))]
    more.load_state_dict(more.state_dict() | own)
    cube = (torch.rand(2, 1, model.config.voxels.channels, 32, 48) < 0.1).to(torch.uint8)
    with torch.inference_mode():
        before, after = model(cube)[0], more(cube)[0]
    assert before._fields == DetectorOutput._fields
    assert after._fields == (*DetectorOutput._fields, "box3d", "joints")
    assert isinstance(after, DetectorOutput)
    assert all(torch.equal(before[k], after[k]) for k in range(3))
    again = pickle.loads(pickle.dumps(after))
    assert type(again) is type(after)
    assert all(torch.equal(x, y) for x, y in zip(again, after, strict=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ()}, "the first of them detect"),
        ({"tasks": ("pose",)}, "the first of them detect"),
        ({"tasks": ("detect", "pose", "pose")}, "different"),
        ({"tasks": ("detect", "detect3D")}, "did you mean 'detect3d'"),
        ({"tasks": ("detect", "pose"), "head": HeadConfig(kind="ssd")}, "detect alone"),
        ({"tasks": ("detect", "pose"), "classes": ("car",)}, "pose_classes"),
    ],
)
def test_impossible_tasks_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        DetectorConfig(**changes)
    with pytest.raises(ConfigError, match="known sets of"):
        HeadConfig(joints=("head", "foot"))
    with pytest.raises(ConfigError, match="focal_px"):
        HeadConfig(focal_px=0.0)


def test_another_set_of_joints_is_refused():
    view = camera()
    head = make_head(DetectorConfig(tasks=ALL, head=HeadConfig(joints=JOINTS_17.names)))
    output = oracle(scene(view), view)
    output = output._replace(joints=torch.zeros(1, 3 * 17 + 2, *output.heatmap.shape[2:]))
    with pytest.raises(DatasetError, match="13 joints, the network 17"):
        head.loss(output, [scene(view)], [view])

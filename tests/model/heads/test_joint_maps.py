import numpy as np
import pytest
import torch

from spiking_centernet.model.heads.centernet import DetectorOutput, decode, make_targets, values_at
from spiking_centernet.model.heads.joint_maps import decode_joints, joint_losses, make_joint_targets
from spiking_centernet.structures import Boxes

PEOPLE = frozenset({0})


def sample(z):
    xywh, joints = z["boxes_xywh"], z["keypoints"]
    xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1).astype(np.float32)
    return Boxes(xyxy, np.zeros(len(xywh), np.int64), joints=joints.astype(np.float32))


def targets_of(boxes, size_hw, stride=4, num_joints=13, units="cells"):
    flat = make_targets(boxes, num_classes=2, size_hw=size_hw, stride=stride)
    return make_joint_targets(
        boxes, flat.index, flat.mask, num_joints=num_joints, size_hw=size_hw, stride=stride, labels=PEOPLE, units=units
    )  # fmt: skip


def test_targets_and_losses_are_those_of_centernet(golden_dir):
    z = np.load(golden_dir / "tasks" / "pose_targets_13.npz")
    stride = int(z["stride"])
    size_hw = tuple(z["joint_heatmap"].shape[1:])
    found = targets_of([sample(z)], size_hw, stride)
    np.testing.assert_array_equal(found.index[0], z["index"])
    np.testing.assert_array_equal(found.joints_mask[0], z["joints_mask"])
    np.testing.assert_allclose(found.joints[0], z["joints"] * z["joints_mask"], atol=1e-4)
    np.testing.assert_allclose(found.heatmap[0], z["joint_heatmap"], rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(found.joint_mask[0], z["joint_mask"])
    valid = z["joint_mask"]
    np.testing.assert_array_equal(found.joint_index[0][valid], z["joint_index"][valid])
    np.testing.assert_allclose(found.joint_offset[0][valid], z["joint_offset"][valid], atol=1e-4)
    names = ("predicted_joints", "predicted_joint_heatmap_logits", "predicted_joint_offset")
    losses = joint_losses(*(torch.from_numpy(z[name]) for name in names), found)
    for name, loss in losses.items():
        assert float(loss) == pytest.approx(float(z[f"loss_{name}"]), rel=1e-4), name


@pytest.mark.parametrize("count", [13, 17])
def test_joints_are_decoded_as_by_centernet(golden_dir, count):
    z = np.load(golden_dir / "tasks" / f"pose_decode_{count}.npz")
    maps = {k: torch.from_numpy(z[k]) for k in z}
    num = z["detections"].shape[1]
    output = DetectorOutput(maps["heatmap_logits"], maps["wh"], maps["offset"])
    xyxy, scores, _ = decode(output, stride=1, max_detections=num)
    np.testing.assert_allclose(scores, z["detections"][..., 4], rtol=1e-5)
    heat = torch.sigmoid(maps["heatmap_logits"].float())
    alone = torch.where(torch.nn.functional.max_pool2d(heat, 3, 1, 1) == heat, heat, 0)
    place = alone.flatten(1).topk(num)[1]
    joints, joint_scores = decode_joints(maps["joints"], maps["joint_heatmap"], maps["joint_offset"], place, xyxy)
    wanted = z["detections"][..., 5 : 5 + 2 * count].reshape(2, num, count, 2)
    np.testing.assert_allclose(joints, wanted, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(joint_scores > 0, z["from_heatmap"])


@pytest.mark.parametrize("units", ["cells", "boxes"])
def test_targets_written_into_the_maps_decode_to_the_truth(units):
    rng = np.random.default_rng(3)
    size_hw, stride = (40, 50), 4
    low = np.array([[8.0, 12.0], [92.0, 40.0]])
    xyxy = np.concatenate([low, low + np.array([60, 90])], axis=1).astype(np.float32)
    # A cell of its own for every joint: the map of offsets is shared by all.
    cells = np.stack([rng.permutation(14 * 14)[:13] for _ in low])
    uv = low[:, None] + stride * np.stack([cells % 14, cells // 14], axis=2) + rng.uniform(0, stride, (2, 13, 2))
    boxes = Boxes(xyxy, np.zeros(2, np.int64), joints=np.concatenate([uv, np.full((2, 13, 1), 2)], axis=2).astype("f4"))
    targets = targets_of([boxes], size_hw, units=units)
    maps = {"joints": torch.zeros(1, 26, *size_hw), "joint_offset": torch.zeros(1, 2, *size_hw)}
    maps["joints"].flatten(2)[0, :, targets.index[0]] = targets.joints[0].T
    maps["joint_offset"].flatten(2)[0, :, targets.joint_index[0]] = targets.joint_offset[0].T
    assert torch.equal(values_at(maps["joints"], targets.index)[0], targets.joints[0])
    people = torch.from_numpy(xyxy)[None] / stride
    found, scores = decode_joints(maps["joints"], targets.heatmap, maps["joint_offset"], targets.index, people, units)
    np.testing.assert_allclose(found[0] * stride, uv, atol=0.01)
    assert (scores >= 0).all()
    logits = torch.special.logit(targets.heatmap, eps=1e-4)
    losses = joint_losses(maps["joints"], logits, maps["joint_offset"], targets)
    assert float(losses["joints"]) == pytest.approx(0, abs=1e-5)


def test_offsets_in_the_boxs_sides_are_the_same_for_people_of_any_size():
    rng = np.random.default_rng(1)
    shares = rng.uniform(-0.5, 0.5, (13, 2))
    xyxy = np.array([[20, 16, 52, 112], [80, 48, 96, 72]], np.float32)
    center, sides = (xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]
    uv = center[:, None] + shares * sides[:, None]
    joints = np.concatenate([uv, np.full((2, 13, 1), 2)], axis=2).astype(np.float32)
    found = targets_of([Boxes(xyxy, np.zeros(2, np.int64), joints=joints)], (30, 38), units="boxes").joints[0]
    np.testing.assert_allclose(found, np.tile(shares.reshape(-1), (2, 1)), atol=1e-5)


def test_samples_without_people_or_joints_teach_nothing_and_stay_finite():
    box = np.array([[20, 20, 60, 60]], np.float32)
    nobody = [Boxes.empty(), Boxes(box, np.zeros(1, np.int64))]
    nobody.append(Boxes(box, np.ones(1, np.int64), joints=np.ones((1, 13, 3), np.float32)))  # a class without joints
    nobody.append(Boxes(box, np.zeros(1, np.int64), joints=np.zeros((1, 13, 3), np.float32)))
    targets = targets_of(nobody, (25, 25))
    assert not targets.joint_mask.any()
    maps = [torch.randn(4, c, 25, 25, requires_grad=True) for c in (26, 13, 2)]
    total = torch.stack(list(joint_losses(*maps, targets).values())).sum()
    total.backward()
    assert torch.isfinite(total)
    assert all(m.grad is None or torch.isfinite(m.grad).all() for m in maps)


def test_another_set_of_joints_is_refused():
    box = np.array([[20, 20, 60, 60]], np.float32)
    boxes = Boxes(box, np.zeros(1, np.int64), joints=np.ones((1, 17, 3), np.float32))
    with pytest.raises(ValueError, match="17 joints, the network 13"):
        targets_of([boxes], (25, 25))

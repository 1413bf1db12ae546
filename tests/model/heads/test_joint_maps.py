import numpy as np
import pytest
import torch

from spiking_centernet.joint_sets import JOINTS_13, JOINTS_17, ordered
from spiking_centernet.model.heads.base import Peaks
from spiking_centernet.model.heads.center_targets import make_targets
from spiking_centernet.model.heads.centernet import DetectorOutput, decode, values_at
from spiking_centernet.model.heads.joint_maps import (
    Pose,
    decode_joints,
    joint_losses,
    make_joint_targets,
    parts,
    side_loss,
)
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


def people_and_their_backs():
    """One who faces the camera, and 48 pixels further down one who shows it his back, joints at the same places."""
    rng = np.random.default_rng(5)
    low = np.array([16.0, 8.0])
    cells = rng.permutation(8 * 9)[:13]
    uv = low + 4 * np.stack([cells % 8, cells // 8], axis=1) + rng.uniform(0.5, 3.5, (13, 2))
    seen = ordered(np.concatenate([uv, np.full((13, 1), 2)], axis=1).astype(np.float32)[None], JOINTS_13.pairs)[0][0]
    joints = np.stack([seen, seen[JOINTS_13.mirrored] + [0, 48, 0]]).astype(np.float32)
    xyxy = np.array([[16, 8, 48, 44], [16, 56, 48, 92]], np.float32)
    return Boxes(xyxy, np.zeros(2, np.int64), joints=joints)


@pytest.mark.parametrize("joint_set", [JOINTS_13, JOINTS_17])
def test_ordered_joints_say_no_sides_and_lose_nothing(joint_set):
    rng = np.random.default_rng(0)
    joints = rng.uniform(1, 90, (50, len(joint_set), 3)).astype(np.float32)
    joints[..., 2] = 2
    given = joints.copy()
    found, exchanged = ordered(joints, joint_set.pairs)
    np.testing.assert_array_equal(joints, given)
    first, second = np.array(joint_set.pairs).T
    assert (found[:, first, 0] <= found[:, second, 0]).all()
    back = found.copy()
    back[:, first] = np.where(exchanged[..., None], found[:, second], found[:, first])
    back[:, second] = np.where(exchanged[..., None], found[:, first], found[:, second])
    np.testing.assert_array_equal(back, joints)
    turned, opposite = ordered(joints[:, joint_set.mirrored], joint_set.pairs)
    np.testing.assert_array_equal(turned, found)
    np.testing.assert_array_equal(opposite, ~exchanged)


def test_a_joint_without_its_counterpart_has_no_order():
    joints = np.full((2, 13, 3), 2, np.float32)
    joints[0, 1] = 50, 3, 2
    joints[0, 2] = 0
    found, exchanged = ordered(joints, JOINTS_13.pairs)
    assert not exchanged.any()
    np.testing.assert_array_equal(found[0, 1:3, 2], 0)
    np.testing.assert_array_equal(found[0, 3:, 2], 2)
    np.testing.assert_array_equal(found[1], joints[1])


@pytest.mark.parametrize("units", ["cells", "boxes"])
def test_ordered_joints_and_sides_decode_to_the_named_truth(units):
    boxes = people_and_their_backs()
    size_hw, pose = (25, 16), Pose(4, JOINTS_13, PEOPLE, units=units, sides="ordered")
    in_order, exchanged = ordered(boxes.joints, JOINTS_13.pairs)
    given = Boxes(boxes.xyxy, boxes.labels, joints=in_order)
    targets = targets_of([given], size_hw, units=units)
    # One answer fits both: as named joints the two would need opposite offsets.
    np.testing.assert_allclose(targets.joints[0, 0], targets.joints[0, 1], atol=1e-5)
    maps = {name: torch.zeros(n, 25 * 16) for name, n in parts(13, 6).items()}
    maps["joints"][:, targets.index[0]] = targets.joints[0].T
    maps["joint_heatmap"] = torch.logit(targets.heatmap[0].flatten(1), 1e-6)
    maps["joint_offset"][:, targets.joint_index[0]] = targets.joint_offset[0].T
    maps["joint_sides"][:, targets.index[0]] = torch.from_numpy(np.where(exchanged, 3.0, -3.0)).float().T
    output = torch.cat(list(maps.values())).unflatten(1, size_hw)[None]
    assert output.shape[1] == pose.branch.out_channels
    peaks = Peaks(
        torch.from_numpy(boxes.xyxy)[None], torch.ones(1, 2), torch.zeros(1, 2, dtype=torch.int64), targets.index
    )
    found = pose.decode(output, peaks, [None])[0]
    np.testing.assert_allclose(found[..., :2], boxes.joints[..., :2], atol=0.01)
    mask = torch.ones(1, 2, dtype=torch.bool)
    losses = pose.loss(output, [boxes], [None], targets.index, mask).parts
    assert float(losses["joints"]) == pytest.approx(0, abs=1e-5)
    assert float(losses["joint_sides"]) == pytest.approx(np.log1p(np.exp(-3)))
    doubtful = output.clone()
    doubtful[:, -6] *= -0.5  # the other pairs of a person outvote one
    np.testing.assert_array_equal(pose.decode(doubtful, peaks, [None])[0], found)
    wrong = output.clone()
    wrong[:, -6:] *= -1
    assert float(pose.loss(wrong, [boxes], [None], targets.index, mask).parts["joint_sides"]) > 3
    exchanged_names = pose.decode(wrong, peaks, [None])[0][:, JOINTS_13.mirrored]
    np.testing.assert_allclose(exchanged_names[..., :2], boxes.joints[..., :2], atol=0.01)


def test_an_error_of_sides_counts_as_far_as_it_moves_a_joint():
    logits = torch.zeros(1, 2, 4, 4)
    logits[0, 0, 0, 1], logits[0, 1, 0, 1] = 2.0, -1.0
    loss = side_loss(
        logits, [np.array([[True, False], [True, True]])], [np.array([[0.3, 0.1], [0, 0]])], torch.tensor([[1, 5]])
    )
    assert float(loss) == pytest.approx((0.3 * np.log1p(np.exp(-2)) + 0.1 * np.log1p(np.exp(-1))) / 0.4)
    assert float(side_loss(logits, [np.zeros((0, 2), bool)], [np.zeros((0, 2))], torch.tensor([[1, 5]]))) == 0


def test_sides_teach_where_people_have_joints_alone():
    pose = Pose(4, JOINTS_13, PEOPLE, sides="ordered")
    boxes = people_and_their_backs()
    nobody = [
        Boxes.empty(),
        Boxes(boxes.xyxy, np.ones(2, np.int64), joints=boxes.joints),
        Boxes(boxes.xyxy, boxes.labels),
    ]
    flat = make_targets(nobody, num_classes=2, size_hw=(25, 16), stride=4)
    output = torch.randn(
        3, pose.branch.out_channels, 25, 16, generator=torch.Generator().manual_seed(0), requires_grad=True
    )
    loss = pose.loss(output, nobody, [None] * 3, flat.index, flat.mask)
    loss.total.backward()
    assert loss.parts["joint_sides"].item() == 0
    assert torch.isfinite(output.grad).all()
    assert not output.grad[:, -6:].any()

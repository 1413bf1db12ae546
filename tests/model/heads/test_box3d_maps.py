import numpy as np
import pytest
import torch

from spiking_centernet import boxes3d
from spiking_centernet.calibration import Calibration
from spiking_centernet.model.heads.box3d_maps import (
    PARTS,
    alpha_of_map,
    bins_of,
    decode3d,
    losses3d,
    make_targets3d,
    rotation_loss,
)
from spiking_centernet.model.heads.center_targets import make_targets
from spiking_centernet.model.heads.centernet import DetectorOutput, decode, l1_at_centers, values_at
from spiking_centernet.structures import Boxes


def load(golden_dir, name):
    return np.load(golden_dir / "tasks" / f"{name}.npz")


def tensors(z, *names):
    return tuple(torch.from_numpy(z[name]) for name in names)


def test_depth_is_the_exponential_and_its_loss_that_of_centernet(golden_dir):
    z = load(golden_dir, "depth")
    near = z["depth"] < 150
    np.testing.assert_allclose(np.exp(-z["logits"].astype(np.float64))[near], z["depth"][near], rtol=2e-4, atol=2e-6)
    raw, target, index, mask = tensors(z, "raw_map", "target", "index", "mask")
    raw.requires_grad_()
    loss = l1_at_centers(torch.exp(-raw), target, index, mask)
    assert float(loss) == pytest.approx(float(z["loss"]), rel=1e-4)
    loss.backward()
    np.testing.assert_allclose(raw.grad, z["loss_gradient"], rtol=1e-3, atol=1e-5)


def test_the_loss_of_the_dimensions_is_that_of_centernet(golden_dir):
    z = load(golden_dir, "dimensions_loss")
    prediction, target, index, mask = tensors(z, "prediction", "target", "index", "mask")
    assert float(l1_at_centers(prediction, target, index, mask)) == pytest.approx(float(z["loss"]), rel=1e-5)


def test_bins_and_residuals_of_every_angle(golden_dir):
    z = load(golden_dir, "alpha")
    right, residual = bins_of(torch.from_numpy(z["alpha"]))
    np.testing.assert_array_equal(right.long(), z["target_bins"])
    np.testing.assert_allclose(torch.where(right, residual, 0), z["target_residuals"], atol=1e-9)


def test_angles_come_back_from_their_maps(golden_dir):
    z = load(golden_dir, "alpha")
    for name, wanted in (("ideal_eight", "alpha_of_ideal_wrapped"), ("rotation_map", "alpha_of_map_wrapped")):
        found = alpha_of_map(torch.from_numpy(z[name].astype(np.float64))).numpy()
        np.testing.assert_allclose(np.exp(1j * found), np.exp(1j * z[wanted]), atol=1e-6)
        assert ((found >= -np.pi) & (found < np.pi)).all()


@pytest.mark.parametrize("name", ["rotation_loss", "rotation_loss_padded"])
def test_the_loss_of_the_rotation_is_that_of_centernet_over_valid_objects(golden_dir, name):
    z = load(golden_dir, name)
    prediction, index, mask = tensors(z, "prediction", "index", "mask")
    prediction.requires_grad_()
    loss = rotation_loss(prediction, torch.from_numpy(z["alpha"]), index, mask)
    assert float(loss) == pytest.approx(float(z["loss"]), rel=1e-5)
    if "gradient" in z:
        loss.backward()
        np.testing.assert_allclose(prediction.grad, z["gradient"], rtol=1e-4, atol=1e-7)


def test_decoding_places_boxes_where_centernet_does(golden_dir):
    z = load(golden_dir, "decode3d_centernet")
    heatmap, wh, offset = tensors(z, "heatmap_logits", "wh", "offset")
    stride = int(z["stride"])
    num = z["detections"].shape[1]
    xyxy, scores, labels = decode(DetectorOutput(heatmap, wh, offset), stride=stride, max_detections=num)
    np.testing.assert_allclose(scores, z["detections"][..., 2], rtol=1e-5)
    np.testing.assert_array_equal(labels, z["detections"][..., 17].astype(int))
    width = heatmap.shape[-1]
    for b in range(len(heatmap)):
        p = z["projection"][b].astype(np.float64)
        focal, center = p[[0, 1], [0, 1]], p[:2, 2]
        translation = np.linalg.solve(
            np.array([[focal[0], 0, center[0]], [0, focal[1], center[1]], [0, 0, 1]]), p[:, 3]
        )
        camera = Calibration(focal, center, np.eye(3), translation)
        middle = (xyxy[b, :, :2] + xyxy[b, :, 2:]) / 2 / stride
        # The cell is where the offset of the map leads to the decoded center.
        candidates = z["offset"][b].transpose(1, 2, 0).reshape(-1, 2)
        grid = np.stack(np.meshgrid(np.arange(width), np.arange(heatmap.shape[-2])), axis=-1).reshape(-1, 2)
        place = np.array([np.abs(grid + candidates - m).sum(axis=1).argmin() for m in middle.numpy()])
        cell = grid[place].astype(np.float64)
        at = {
            "depth": z["depth_raw"], "dims": z["dims_hwl"], "rotation": z["rotation"], "center3d": z["offset"],
        }  # fmt: skip
        maps = {k: v[b].reshape(v.shape[1], -1).T[place] for k, v in at.items()}
        found = decode3d(maps, cell, camera, stride=stride, focal_px=float(focal[0]))
        reach = np.linalg.norm(z["location"][b], axis=1, keepdims=True)
        usual = z["dims_hwl"][b].reshape(3, -1).T[place].min(axis=1) >= 0.05
        assert usual.sum() > 10
        assert (np.abs(found[:, :3] - z["location"][b]) / reach)[usual].max() < 1e-3
        np.testing.assert_allclose(
            np.exp(1j * found[usual, 6]), np.exp(1j * z["yaw_levelled"][b][usual]), atol=1e-3
        )  # fmt: skip


@pytest.mark.parametrize("widths", [0.6, 2.2])
def test_targets_written_into_the_maps_decode_to_the_truth(widths):
    pitch, size_hw, stride = 0.6, (60, 76), 4
    cos, sin = np.cos(pitch), np.sin(pitch)
    rotation = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    camera = Calibration(np.full(2, widths * 304), np.array([152.0, 120.0]), rotation.T)
    uv = np.array([[60.0, 50.0], [200.0, 110.0], [150.0, 200.0]])
    center = camera.unproject(uv, np.array([8.0, 15.0, 4.0]))
    dims, yaw = np.array([[1.5, 1.7, 4.1], [1.8, 0.6, 0.7], [2.0, 2.0, 5.0]]), np.array([0.3, -2.9, 3.0])
    location = center + np.array([0, 0.5, 0]) * dims[:, :1]
    truth = np.concatenate([location, dims, yaw[:, None]], axis=1)
    xyxy = np.concatenate([uv - [14, 9], uv + np.array([10, 12])], axis=1).astype(np.float32)
    boxes = Boxes(xyxy, np.zeros(3, np.int64), box3d=truth.astype(np.float32))
    flat = make_targets([boxes], num_classes=1, size_hw=size_hw, stride=stride)
    targets = make_targets3d(
        [boxes], [camera], flat.index, flat.mask, width=size_hw[1], stride=stride, focal_px=304.0
    )  # fmt: skip
    assert targets.mask.all()
    right, residual = bins_of(targets.alpha[0])
    rotation_map = torch.stack([0 * residual, right.float(), torch.sin(residual), torch.cos(residual)], dim=-1)
    values = {
        "depth": targets.depth[0], "dims": targets.dims[0], "rotation": rotation_map.flatten(1),
        "center3d": targets.center3d[0],
    }  # fmt: skip
    full = torch.zeros(1, 14, *size_hw)
    full.flatten(2)[0, :, flat.index[0]] = torch.cat([values[name] for name in PARTS], dim=1).T
    parts = losses3d(full, targets)
    assert all(float(parts[name]) == pytest.approx(0, abs=1e-4) for name in ("depth", "dims", "center3d"))
    at = values_at(full, flat.index)[0]
    maps = {k: v.numpy() for k, v in zip(PARTS, at.split(list(PARTS.values()), dim=1), strict=True)}
    cell = torch.stack([flat.index[0] % size_hw[1], flat.index[0] // size_hw[1]], dim=1).double().numpy()
    found = decode3d(maps, cell, camera, stride=stride, focal_px=304.0)
    reach = np.linalg.norm(truth[:, :3], axis=1, keepdims=True)
    assert (np.abs(found[:, :3] - truth[:, :3]) / reach).max() < 1e-3
    np.testing.assert_allclose(boxes3d.wrap(found[:, 6] - truth[:, 6]), 0, atol=1e-4)
    # A wrong focal length scales the depth by as much.
    wrong = Calibration(2 * camera.focal, camera.center, camera.rotation)
    doubled = wrong.to_camera(boxes3d.centers(decode3d(maps, cell, wrong, stride=stride, focal_px=304.0)))
    np.testing.assert_allclose(doubled[:, 2], 2 * camera.to_camera(center)[:, 2], rtol=1e-4)


def test_unknown_boxes_and_cameras_teach_nothing_and_stay_finite():
    known = Boxes(
        np.array([[20, 20, 60, 60]], np.float32), np.zeros(1, np.int64),
        box3d=np.array([[0, 1, 9, 1, 1, 1, 0]], np.float32),
    )  # fmt: skip
    unknown = Boxes(known.xyxy, known.labels)
    near = Boxes(known.xyxy, known.labels, box3d=np.array([[0, 0.5, 0.4, 1, 1, 1, 0]], np.float32))
    camera = Calibration(np.full(2, 100.0), np.full(2, 50.0))
    samples, cameras = [known, unknown, near, Boxes.empty(), known], [camera, camera, camera, camera, None]
    flat = make_targets(samples, num_classes=1, size_hw=(25, 25), stride=4)
    targets = make_targets3d(samples, cameras, flat.index, flat.mask, width=25, stride=4, focal_px=304.0)
    assert targets.mask[:, 0].tolist() == [True, False, False, False, False]
    maps = torch.randn(5, 14, 25, 25, requires_grad=True)
    for some in (slice(None), slice(1, None)):
        chosen = type(targets)(**{k: v[some] for k, v in vars(targets).items()})
        total = torch.stack(list(losses3d(maps[some], chosen).values())).sum()
        (gradient,) = torch.autograd.grad(total, maps)
        assert torch.isfinite(total)
        assert torch.isfinite(gradient).all()

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spiking_centernet.errors import ConfigError
from spiking_centernet.model import DetectorOutput
from spiking_centernet.model.config import HeadConfig
from spiking_centernet.model.heads.center_targets import Targets, gaussian_radius, make_targets
from spiking_centernet.model.heads.centernet import CenterNet, centernet_loss, decode, find_peaks, focal_loss
from spiking_centernet.structures import Boxes


@pytest.fixture(scope="module")
def golden(golden_dir):
    with np.load(golden_dir / "centernet.npz") as file:
        return dict(file)


def golden_boxes(golden):
    rows = [r[:n] for r, n in zip(golden["boxes_xyxy_class"], golden["num_boxes"], strict=True)]
    return [Boxes(r[:, :4], r[:, 4].astype(np.int64)) for r in rows]


def golden_targets(golden) -> Targets:
    names = ("heatmap", "wh", "offset", "index")
    return Targets(*(torch.from_numpy(golden[n]) for n in names), torch.from_numpy(golden["mask"]).bool())


def golden_output(golden) -> DetectorOutput:
    return DetectorOutput(*(torch.from_numpy(golden[n]) for n in ("logits", "wh_pred", "offset_pred")))


def test_targets_match_the_reference(golden):
    boxes = golden_boxes(golden)
    before = [b.xyxy.copy() for b in boxes]
    ours = make_targets(boxes, num_classes=2, size_hw=(60, 76), stride=4)
    np.testing.assert_array_equal(ours.heatmap, golden["heatmap"])
    most = ours.mask.shape[1]
    # The reference pads to 32 boxes a sample, ours to the most boxes of the batch.
    assert golden["mask"][:, most:].sum() == 0
    np.testing.assert_array_equal(ours.mask, golden["mask"][:, :most].astype(bool))
    np.testing.assert_array_equal(ours.index, golden["index"][:, :most])
    np.testing.assert_allclose(ours.wh, golden["wh"][:, :most], rtol=1e-5)
    np.testing.assert_allclose(ours.offset, golden["offset"][:, :most], rtol=1e-5, atol=1e-6)
    assert all((a == b.xyxy).all() for a, b in zip(before, boxes, strict=True))


def test_losses_match_the_reference(golden):
    loss = centernet_loss(golden_output(golden), golden_targets(golden))
    ours = {
        "focal": loss.parts["heatmap"],
        "wh_l1": loss.parts["wh"],
        "offset_l1": loss.parts["offset"],
        "total": loss.total,
    }
    for name, value in ours.items():
        assert value.item() == pytest.approx(float(golden[f"{name}_loss"]), rel=1e-5), name


def test_focal_loss_without_objects_matches_the_reference(golden):
    """The golden value belongs to sample 0, the only one without boxes; nothing is divided by a count of none."""
    assert golden["num_boxes"].tolist().index(0) == 0
    loss = focal_loss(torch.from_numpy(golden["logits"][:1]), torch.from_numpy(golden["heatmap"][:1]))
    assert loss.item() == pytest.approx(float(golden["focal_loss_no_objects"]), rel=1e-5)


def test_decoding_matches_the_reference(golden):
    output = golden_output(golden)
    xyxy, scores, labels = decode(output, stride=1)
    expected = golden["detections_xyxy_score_class"]
    np.testing.assert_array_equal(labels, expected[..., 5])
    np.testing.assert_allclose(xyxy, expected[..., :4], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(scores, expected[..., 4], rtol=1e-5)


def test_an_empty_batch_of_boxes_gives_empty_targets_and_a_finite_loss():
    targets = make_targets([Boxes.empty(), Boxes.empty()], num_classes=2, size_hw=(5, 6), stride=8)
    assert targets.heatmap.sum() == 0
    assert not targets.mask.any()
    output = DetectorOutput(torch.zeros(2, 2, 5, 6), torch.ones(2, 2, 5, 6), torch.ones(2, 2, 5, 6))
    loss = centernet_loss(output, targets)
    assert loss.total.item() == pytest.approx(2 * 2 * 5 * 6 * 0.25 * np.log(2), rel=1e-5)
    assert (loss.parts["wh"].item(), loss.parts["offset"].item()) == (0, 0)


def test_one_point_focal_loss_in_closed_form():
    heatmap = torch.tensor([[[[1.0, 0.5, 0.0]]]])
    p = torch.tensor([0.8, 0.3, 0.1])
    expected = -(0.2**2 * np.log(0.8) + 0.5**4 * 0.3**2 * np.log(0.7) + 0.1**2 * np.log(0.9))
    assert focal_loss(torch.logit(p)[None, None, None], heatmap).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("logit", "target"), [(-1e4, 1.0), (1e4, 0.0)])
def test_the_focal_loss_stays_finite_for_certain_mistakes(logit, target):
    x = torch.full((1, 1, 1, 1), logit, requires_grad=True)
    loss = focal_loss(x, torch.full_like(x, target))
    loss.backward()
    assert loss.item() == pytest.approx(-np.log(1e-4) * (1 - 1e-4) ** 2, rel=1e-3)
    assert torch.isfinite(x.grad).all()


def test_boxes_without_area_or_outside_the_frame_are_no_targets():
    xyxy = np.array([[10, 10, 10, 20], [-30, -30, -5, -5], [100, 5, 120, 20], [4, 4, 12, 12]], np.float32)
    targets = make_targets([Boxes(xyxy, np.zeros(4, np.int64))], num_classes=1, size_hw=(8, 10), stride=4)
    assert targets.mask[0].tolist() == [False, False, False, True]
    assert (targets.heatmap == 1).sum() == 1


@pytest.mark.parametrize("side", [1, 4, 33.5])
def test_the_radius_of_a_square_in_closed_form(side):
    # With one corner moved in and one out by r, CornerNet's own root is (sqrt(11.2) - 2.8) / 2 of the side at IoU 0.7.
    assert gaussian_radius(side, side) == pytest.approx(side * (np.sqrt(11.2) - 2.8) / 2)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_decoding_the_targets_gives_the_boxes_back(data):
    height, width, stride = 20, 24, 8
    cells = data.draw(
        st.lists(
            st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 1)),
            max_size=8, unique_by=lambda c: (c[0], c[1]),
        )
    )  # fmt: skip
    xyxy = np.zeros((len(cells), 4), np.float32)
    for i, (row, column, _) in enumerate(cells):
        # One box in each cell of 4 x 4 output pixels, 3 to 4 output pixels wide: centers are never neighbors.
        x0 = (4 * column + 2 + data.draw(st.floats(-0.5, 0.375, width=32))) * stride
        y0 = (4 * row + 2 + data.draw(st.floats(-0.5, 0.375, width=32))) * stride
        w, h = (data.draw(st.floats(8, 24, width=32)) for _ in range(2))
        xyxy[i] = x0 - w / 2, y0 - h / 2, x0 + w / 2, y0 + h / 2
    boxes = Boxes(xyxy, np.array([c[2] for c in cells], np.int64))
    targets = make_targets([boxes], num_classes=2, size_hw=(height, width), stride=stride)

    wh, offset = torch.zeros(1, 2, height * width), torch.zeros(1, 2, height * width)
    index = targets.index[0][targets.mask[0]]
    wh[0, :, index] = targets.wh[0][targets.mask[0]].T
    offset[0, :, index] = targets.offset[0][targets.mask[0]].T
    logits = torch.where(targets.heatmap == 1, 8.0, torch.logit(targets.heatmap.clamp(1e-6, 0.99)))
    shaped = [x.unflatten(2, (height, width)) for x in (wh, offset)]
    (found,) = CenterNet(2, (stride,)).detections(
        DetectorOutput(logits, *shaped), [7], size_hw=(height * stride, width * stride), min_score=0.995
    )
    assert found.t_us == 7
    assert len(found) == len(boxes)
    order = lambda b: np.lexsort((b.xyxy[:, 1], b.xyxy[:, 0]))  # noqa: E731
    a, b = order(found), order(boxes)
    np.testing.assert_allclose(found.xyxy[a], boxes.xyxy[b], atol=1e-3)
    np.testing.assert_array_equal(found.labels[a], boxes.labels[b])


def test_detections_are_clipped_sorted_and_limited():
    rng = torch.Generator().manual_seed(0)
    output = DetectorOutput(
        torch.randn(3, 2, 6, 7, generator=rng), torch.rand(3, 2, 6, 7, generator=rng) * 5, torch.rand(3, 2, 6, 7)
    )
    for found in CenterNet(2, (8,)).detections(output, [1, 2, 3], size_hw=(48, 56), max_detections=9):
        assert 0 < len(found) <= 9
        assert (np.diff(found.scores) <= 0).all()
        assert found.xyxy.min() >= 0
        assert (found.xyxy.max(0) <= [56, 48, 56, 48]).all()
    strict = CenterNet(2, (8,)).detections(output, [1, 2, 3], size_hw=(48, 56), min_score=0.8)
    assert all((found.scores >= 0.8).all() for found in strict)


def test_fewer_pixels_than_detections_is_no_error():
    output = DetectorOutput(torch.zeros(1, 2, 2, 3), torch.ones(1, 2, 2, 3), torch.zeros(1, 2, 2, 3))
    xyxy, scores, labels = decode(output, stride=8, max_detections=100)
    assert (xyxy.shape, scores.shape, labels.shape) == ((1, 6, 4), (1, 6), (1, 6))


def random_output(seed, h=6, w=7):
    rng = np.random.default_rng(seed)
    shapes = ((2, 2, h, w), (2, 2, h, w), (2, 2, h, w))
    logits, wh, offset = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    return DetectorOutput(*map(torch.from_numpy, (3 * logits, np.abs(wh) + 0.5, offset)))


@pytest.mark.parametrize("sizes", ["linear", "log"])
@pytest.mark.parametrize("averaging", [0.5, 2.0])
def test_boxes_around_a_peak_are_averaged_by_their_heat(averaging, sizes):
    output = random_output(seed=3)
    peaks = find_peaks(output, stride=4, max_detections=20, sizes=sizes, averaging=averaging)
    plain = find_peaks(output, stride=4, max_detections=20, sizes=sizes)
    np.testing.assert_array_equal(peaks.scores, plain.scores)
    np.testing.assert_array_equal(peaks.place, plain.place)
    heat = 1 / (1 + np.exp(-output.heatmap.numpy().astype(float)))
    height, width = heat.shape[2:]
    for b in range(2):
        for n, place in enumerate(peaks.place[b].tolist()):
            y, x = divmod(place, width)
            near = [(v, u) for v in range(y - 1, y + 2) for u in range(x - 1, x + 2)]
            near = [(v, u) for v, u in near if 0 <= v < height and 0 <= u < width]
            shares = np.array([heat[b, :, v, u].max() ** averaging for v, u in near])
            sides = output.wh[b].numpy()
            sides = np.exp(sides) if sizes == "log" else sides
            offsets = np.array([output.offset[b, :, v, u].numpy() + np.array([u, v]) for v, u in near])
            cx, cy = shares @ offsets / shares.sum()
            w, h = shares @ np.array([sides[:, v, u] for v, u in near]) / shares.sum()
            expected = 4 * np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
            np.testing.assert_allclose(peaks.xyxy[b, n], expected, rtol=1e-4, atol=1e-3)


def test_cells_that_agree_on_a_box_average_to_it():
    shape = (1, 2, 5, 6)
    columns, rows = np.meshgrid(np.arange(6), np.arange(5))
    offset = torch.from_numpy(
        (np.array([2.3, 1.8])[:, None, None] - np.stack([columns, rows]))[None].astype(np.float32)
    )
    output = DetectorOutput(
        torch.randn(shape, generator=torch.Generator().manual_seed(0)), torch.full(shape, 2.5), offset
    )
    peaks = find_peaks(output, stride=4, max_detections=5, averaging=2.0)
    expected = np.tile(4 * np.array([2.3 - 1.25, 1.8 - 1.25, 2.3 + 1.25, 1.8 + 1.25]), (5, 1))
    np.testing.assert_allclose(peaks.xyxy[0], expected, rtol=1e-5)


def test_no_heat_gives_no_nan():
    output = random_output(seed=4)._replace(heatmap=torch.full((2, 2, 6, 7), -200.0))
    peaks = find_peaks(output, stride=4, averaging=8.0)
    assert torch.isfinite(peaks.xyxy).all()
    assert CenterNet(2, (4,), HeadConfig(averaging=8.0)).detections(output, [0, 0], size_hw=(24, 28))[0].xyxy.shape == (
        0,
        4,
    )


@pytest.mark.parametrize("values", [{"averaging": -1.0}, {"averaging": math.nan}, {"averaging": 9.0},
                                    {"averaging": 2.0, "kind": "ssd"}])  # fmt: skip
def test_an_impossible_averaging_is_refused(values):
    with pytest.raises(ConfigError, match=r"head\.averaging must be from 0 to 8, and 0 with head\.kind='ssd'"):
        HeadConfig(**values)

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import spiking_centernet as scn
from spiking_centernet.errors import ConfigError, WeightsError
from spiking_centernet.model import DetectorOutput
from spiking_centernet.model.config import HeadConfig
from spiking_centernet.model.heads.box_fit import cell_targets, fit_losses, overlaps
from spiking_centernet.model.heads.center_targets import make_targets
from spiking_centernet.model.heads.centernet import LOG_SIZE_BIAS, CenterNet
from spiking_centernet.model.weights import save
from spiking_centernet.structures import Boxes


def boxes_of(*xyxy, labels=None) -> Boxes:
    return Boxes(np.array(xyxy, np.float32), np.zeros(len(xyxy), np.int64) if labels is None else np.array(labels))


def perfect(boxes: Boxes, size_hw, stride, head_settings: HeadConfig) -> DetectorOutput:
    """Maps that say at every cell taught exactly the box it is taught."""
    targets = make_targets([boxes], num_classes=1, size_hw=size_hw, stride=stride, edges=head_settings.edges)
    cells = cell_targets([boxes], size_hw=size_hw, stride=stride)
    wh, offset = torch.ones(1, 2, *size_hw), torch.zeros(1, 2, *size_hw)
    column, row = cells.cell_xy.unbind(-1)
    wh[cells.sample, :, row, column] = cells.box[:, 2:]
    offset[cells.sample, :, row, column] = cells.box[:, :2] - cells.cell_xy
    logits = torch.where(targets.heatmap == 1, 9.0, torch.logit(targets.heatmap.clamp(1e-6, 0.99)))
    return DetectorOutput(logits, torch.log(wh) if head_settings.sizes == "log" else wh, offset)


sides = st.floats(0.5, 30, width=32)
places = st.floats(-20, 20, width=32)


@settings(max_examples=100, deadline=None)
@given(first=st.tuples(places, places, sides, sides), second=st.tuples(places, places, sides, sides))
def test_generalized_iou_against_its_definition(first, second):
    def corners(box):
        x, y, w, h = map(float, box)
        return x - w / 2, y - h / 2, x + w / 2, y + h / 2

    (l0, t0, r0, b0), (l1, t1, r1, b1) = corners(first), corners(second)
    common = max(0.0, min(r0, r1) - max(l0, l1)) * max(0.0, min(b0, b1) - max(t0, t1))
    union = float(first[2]) * float(first[3]) + float(second[2]) * float(second[3]) - common
    hull = (max(r0, r1) - min(l0, l1)) * (max(b0, b1) - min(t0, t1))
    iou, giou = (values.item() for values in overlaps(torch.tensor([first]), torch.tensor([second])))
    assert iou == pytest.approx(common / union, abs=1e-4)
    assert giou == pytest.approx(common / union - (hull - union) / hull, abs=1e-4)


@pytest.mark.parametrize("sizes", ["linear", "log"])
@pytest.mark.parametrize("xyxy", [(10, 8, 50, 70), (60, 40, 96, 80), (90, 74, 96, 80), (0, 0, 96, 80)])
def test_perfect_maps_cost_nothing_and_decode_to_the_box(sizes, xyxy):
    settings = HeadConfig(sizes=sizes, edges="exact", box_loss="giou")
    head = CenterNet(1, (8,), settings)
    boxes = boxes_of(xyxy)
    output = perfect(boxes, (10, 12), 8, settings)
    parts = head.loss(output, [boxes]).parts
    assert all(parts[name].item() == pytest.approx(0, abs=1e-5) for name in ("giou", "wh", "offset"))
    (found,) = head.detections(output, [5], size_hw=(80, 96), min_score=0.99)
    np.testing.assert_allclose(found.xyxy, [xyxy], atol=1e-3)


def test_clipped_edges_shorten_a_box_at_the_border_and_exact_ones_do_not():
    boxes = boxes_of((60, 40, 96, 80))
    for edges, expected in (("clipped", [(88 - 60) / 8, (72 - 40) / 8]), ("exact", [36 / 8, 40 / 8])):
        targets = make_targets([boxes], num_classes=1, size_hw=(10, 12), stride=8, edges=edges)
        np.testing.assert_allclose(targets.wh[0, 0], expected)
    in_the_last_cell = boxes_of((90, 74, 96, 80))
    held = {e: make_targets([in_the_last_cell], num_classes=1, size_hw=(10, 12), stride=8, edges=e).mask.any().item()
            for e in ("clipped", "exact")}  # fmt: skip
    assert held == {"clipped": False, "exact": True}


def test_a_box_weighs_one_however_many_cells_it_has():
    cells = cell_targets([boxes_of((0, 0, 4, 4), (40, 40, 60, 60)), Boxes.empty()], size_hw=(10, 12), stride=8)
    assert cells.weight.sum().item() == pytest.approx(2)
    assert len(cells.weight) == 4 + 9  # the first lies in the corner
    assert cells.sample.tolist() == [0] * 13


def test_a_cell_near_two_boxes_belongs_to_the_smaller():
    large, small = (0, 0, 80, 80), (40, 40, 56, 56)
    for boxes in (boxes_of(large, small), boxes_of(small, large)):
        cells = cell_targets([boxes], size_hw=(10, 12), stride=8)
        inside = {tuple(xy): box for xy, box in zip(cells.cell_xy.tolist(), cells.box.tolist(), strict=True)}
        assert inside[5, 5] == inside[6, 6] == [6, 6, 2, 2]
        assert inside[4, 4] == [5, 5, 10, 10]


def test_no_boxes_cost_nothing():
    cells = cell_targets([Boxes.empty(), Boxes.empty()], size_hw=(4, 5), stride=8)
    maps = torch.zeros(2, 2, 4, 5, requires_grad=True)
    losses = fit_losses(maps, maps, cells, log_sizes=True)
    total = sum(losses.values())
    total.backward()
    assert total.item() == 0
    assert maps.grad.abs().sum() == 0


@pytest.mark.parametrize("sizes", ["linear", "log"])
def test_every_size_has_a_gradient_towards_the_truth(sizes):
    # A linear map may say a negative side: overlap has no gradient there, the error of the size has.
    boxes = boxes_of((20, 20, 52, 52))
    head = CenterNet(1, (4,), HeadConfig(sizes=sizes, edges="exact", box_loss="giou"))
    start = -3.0
    wh = torch.full((1, 2, 20, 20), start, requires_grad=True)
    output = DetectorOutput(torch.zeros(1, 1, 20, 20), wh, torch.zeros(1, 2, 20, 20))
    head.loss(output, [boxes]).total.backward()
    assert (wh.grad[0, :, 9, 9] < 0).all()


QUALITY = HeadConfig(edges="exact", box_loss="giou", quality=0.25)


def test_the_quality_map_is_taught_the_overlap_that_its_box_has():
    boxes = boxes_of((40, 40, 56, 56))
    head = CenterNet(1, (8,), QUALITY)
    # Everywhere the box of its own cell's middle, as large as the true one.
    wh, offset = torch.full((1, 2, 10, 12), 2.0), torch.full((1, 2, 10, 12), 0.5)
    iou = torch.full((10, 12), 0.0)
    for v in (5, 6, 7):
        for u in (5, 6, 7):
            common = (2 - abs(u + 0.5 - 6)) * (2 - abs(v + 0.5 - 6))
            iou[v, u] = common / (8 - common)

    def loss(fit):
        output = head.output(
            {"heatmap": torch.zeros(1, 1, 10, 12), "wh": wh, "offset": offset, "quality": torch.logit(fit)[None, None]}
        )
        return head.loss(output, [boxes])

    right = loss(iou.clamp(1e-3, 1 - 1e-3))
    assert right.parts["quality"] < loss((iou + 0.1).clamp(1e-3, 1 - 1e-3)).parts["quality"]
    assert right.parts["quality"] < loss((iou - 0.1).clamp(1e-3, 1 - 1e-3)).parts["quality"]
    assert right.total.item() == pytest.approx(
        (right.parts["heatmap"] + 2 * right.parts["giou"] + (right.parts["wh"] + right.parts["offset"]) / 2
         + right.parts["quality"]).item()
    )  # fmt: skip


def test_a_box_that_fits_better_comes_first_and_scores_are_weighted_powers():
    head = CenterNet(1, (8,), QUALITY)
    heatmap, quality = torch.full((1, 1, 10, 12), -9.0), torch.zeros(1, 1, 10, 12)
    heatmap[0, 0, 2, 3], heatmap[0, 0, 7, 8] = torch.logit(torch.tensor([0.8, 0.7]))
    quality[0, 0, 2, 3], quality[0, 0, 7, 8] = torch.logit(torch.tensor([0.2, 0.9]))
    maps = {"heatmap": heatmap, "wh": torch.ones(1, 2, 10, 12), "offset": torch.zeros(1, 2, 10, 12)}
    (found,) = head.detections(head.output(maps | {"quality": quality}), [5], size_hw=(80, 96), min_score=0.1)
    np.testing.assert_allclose(found.scores, [0.7**0.75 * 0.9**0.25, 0.8**0.75 * 0.2**0.25], rtol=1e-4)
    assert found.xyxy[0, 0] > found.xyxy[1, 0]
    (plain,) = CenterNet(1, (8,)).detections(DetectorOutput(**maps), [5], size_hw=(80, 96), min_score=0.1)
    np.testing.assert_allclose(plain.scores, [0.8, 0.7], rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"quality": 1.0, "box_loss": "giou"}, "below 1"),
        ({"quality": 0.3}, r"box_loss='giou'"),
        ({"step_weights": "learnt"}, "did you mean 'learned'"),
    ],
)
def test_impossible_settings_of_scores_and_steps_are_refused(settings, told):
    with pytest.raises(ConfigError, match=told):
        HeadConfig(**settings)


def test_log_sizes_cannot_overflow_and_begin_at_a_usual_box():
    head = CenterNet(1, (4,), HeadConfig(sizes="log"))
    assert head.branches["wh"].bias == LOG_SIZE_BIAS
    output = DetectorOutput(torch.zeros(1, 1, 5, 5), torch.full((1, 2, 5, 5), 1e9), torch.zeros(1, 2, 5, 5))
    assert torch.isfinite(head.decode(output)[0]).all()


def test_weights_with_linear_sizes_start_a_network_with_log_sizes(tmp_path):
    shape = {"encoder.widths": [4, 4, 8, 8], "encoder.convs_per_stage": 1, "head.width": 4}
    torch.manual_seed(0)
    old = scn.build("nano", **shape)
    save(old, tmp_path / "old.safetensors")
    new = scn.build("nano", **shape, **{"head.sizes": "log", "head.edges": "exact", "head.box_loss": "giou"})
    fresh = {k: v.clone() for k, v in new.state_dict().items() if k.startswith("heads.wh.out.")}
    scn.transfer(new, tmp_path / "old.safetensors")
    for key, value in new.state_dict().items():
        assert torch.equal(value, fresh.get(key, old.state_dict()[key])), key
    assert len(fresh) == 2
    with pytest.raises(WeightsError, match=r"encoder\.widths"):
        scn.transfer(scn.build("nano"), tmp_path / "old.safetensors")

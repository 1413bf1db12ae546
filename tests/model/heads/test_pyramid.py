"""CenterNet on several scales: which level an object is taught on, one loss and one list for all."""

import numpy as np
import pytest
import torch

import spiking_centernet as scn
from spiking_centernet.errors import ConfigError
from spiking_centernet.model import build
from spiking_centernet.model.heads.center_targets import make_targets
from spiking_centernet.model.heads.centernet import CenterNet, centernet_loss
from spiking_centernet.model.heads.pyramid import Pyramid
from spiking_centernet.model.weights import save
from spiking_centernet.structures import Boxes

HEAD = Pyramid(2, (32, 16, 8, 4))
SIZES = ((16, 24), (8, 12), (4, 6))
SHAPE = {"encoder.widths": (4, 6, 8), "encoder.convs_per_stage": 1, "decoder.num_blocks": 2, "head.width": 5}


def boxes_of(*rows, crowd=None):
    rows = np.array(rows, np.float32).reshape(-1, 5)
    return Boxes(rows[:, :4], rows[:, 4].astype(np.int64), crowd=crowd)


def empty_maps(level_hw):
    """Return maps on which nothing is found."""
    height, width = level_hw
    return [torch.full((1, 2, height, width), -20.0), torch.ones(1, 2, height, width), torch.zeros(1, 2, height, width)]


def joined(levels):
    names = [name for level in range(3) for name in (f"heatmap{level}", f"wh{level}", f"offset{level}")]
    return HEAD.output(dict(zip(names, [x for maps in levels for x in maps], strict=True)))


def test_an_object_belongs_to_one_level_by_its_side():
    sides = [1, 31.9, 32, 63.9, 64, 500]
    level = HEAD.level_of(boxes_of(*[(0, 0, side, side, 0) for side in sides]))
    assert level.tolist() == [0, 0, 1, 1, 2, 2]
    assert HEAD.level_of(boxes_of((0, 0, 16, 100, 0))).tolist() == [1]
    assert HEAD.level_of(boxes_of((5, 5, 2, 2, 0))).tolist() == [0]


def test_the_joined_cells_are_the_maps_of_every_level():
    levels = [[torch.rand(2, 2, *size) for _ in range(3)] for size in SIZES]
    output = joined(levels)
    assert output.heatmap.shape == (2, 2, sum(h * w for h, w in SIZES))
    assert output.level_hw.tolist() == [list(size) for size in SIZES]
    for maps, found in zip(levels, output.levels(), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(maps, found, strict=True))


def test_every_level_is_taught_its_objects_and_all_crowds():
    crowd = np.array([False, False, True])
    boxes = boxes_of((10, 10, 22, 24, 0), (8, 4, 48, 44, 1), (60, 40, 96, 64, 0), crowd=crowd)
    output = joined([empty_maps(size) for size in SIZES])
    for level, targets in enumerate(HEAD.targets([boxes], output)):
        own = {0: [0], 1: [1], 2: []}[level]
        expected = make_targets(
            [boxes_of(*np.column_stack([boxes.xyxy, boxes.labels])[[*own, 2]], crowd=crowd[[*own, 2]])],
            num_classes=2, size_hw=SIZES[level], stride=4 * 2**level,
        )  # fmt: skip
        assert torch.equal(targets.heatmap, expected.heatmap)
        assert torch.equal(targets.left_out, expected.left_out)
        assert targets.mask.sum() == len(own)


def test_the_loss_is_that_of_the_levels_by_their_objects():
    torch.manual_seed(0)
    output = joined([[torch.randn(1, 2, *size) for _ in range(3)] for size in SIZES])
    boxes = boxes_of((10, 10, 22, 24, 0), (40, 10, 52, 24, 1), (60, 8, 72, 20, 1), (8, 4, 48, 44, 1))
    found = HEAD.loss(output, [boxes])
    expected = 0
    for level, (maps, count) in enumerate(zip(output.levels(), (3, 1, 1), strict=True)):
        own = boxes_of(*np.column_stack([boxes.xyxy, boxes.labels])[{0: [0, 1, 2], 1: [3], 2: []}[level]])
        targets = make_targets([own], num_classes=2, size_hw=SIZES[level], stride=4 * 2**level)
        expected = expected + count / 5 * centernet_loss(maps, targets).total
    torch.testing.assert_close(found.total, expected)
    torch.testing.assert_close(found.total, found.parts["heatmap"] + 0.1 * found.parts["wh"] + found.parts["offset"])


def test_the_peaks_of_all_levels_come_in_one_order():
    levels = [empty_maps(size) for size in SIZES]
    for level, (row, column, label, logit) in enumerate([(3, 5, 0, 1.0), (2, 7, 1, 3.0), (1, 2, 0, 2.0)]):
        levels[level][0][0, label, row, column] = logit
        levels[level][1][0, :, row, column] = torch.tensor([6.0, 4.0])
    xyxy, scores, labels = HEAD.decode(joined(levels), max_detections=3)
    assert labels.tolist() == [[1, 0, 0]]
    torch.testing.assert_close(scores[0], torch.sigmoid(torch.tensor([3.0, 2.0, 1.0])))
    expected = [((7 - 3) * 8, (2 - 2) * 8, (7 + 3) * 8, (2 + 2) * 8), ((2 - 3) * 16, (1 - 2) * 16, 5 * 16, 3 * 16),
                ((5 - 3) * 4, (3 - 2) * 4, 8 * 4, 5 * 4)]  # fmt: skip
    torch.testing.assert_close(xyxy[0], torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize("num_levels", [1, 2, 3])
def test_fewer_levels_than_three_are_all_of_them(num_levels):
    head = Pyramid(2, (16, 8, 4)[-num_levels:])
    assert len(head.branches) == 3 * num_levels
    assert all(isinstance(level, CenterNet) for level in head.level_heads)


def test_the_finest_level_starts_from_centernets_weights(tmp_path):
    start = build("nano", **SHAPE)
    save(start, tmp_path / "old")
    model = build("nano", **SHAPE, **{"head.kind": "pyramid"})
    result = scn.transfer(model, tmp_path / "old.safetensors")
    for name in ("heatmap", "wh", "offset"):
        assert torch.equal(model.heads[name].out.weight, start.heads[name].out.weight)
    assert {name for name in result.fresh if name.startswith("heads.")} == {
        f"heads.{name}{stride}" for name in ("heatmap", "wh", "offset") for stride in (8, 16)
    }


def test_it_detects_alone():
    with pytest.raises(ConfigError, match="does detect alone"):
        build("nano", **SHAPE, **{"head.kind": "pyramid", "tasks": ("detect", "pose")})

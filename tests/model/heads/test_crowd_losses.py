"""Crowds teach nothing: no target, and no loss for what a network answers there."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import spiking_centernet as scn
from spiking_centernet.model.heads.center_targets import crowd_cells, make_targets
from spiking_centernet.model.heads.ssd import LEFT_OUT, match
from spiking_centernet.structures import Boxes, concatenate

SIZE_HW, STRIDE = (8, 12), 4
NETWORK = {
    "encoder.widths": (8, 8, 16, 16), "encoder.convs_per_stage": 1, "head.width": 8, "voxels.num_steps": 2,
    "decoder.expansion": 0.5,
}  # fmt: skip


def boxes(*rows, crowd=False, label=0):
    xyxy = np.array(rows, np.float32).reshape(-1, 4)
    return Boxes(xyxy, np.full(len(xyxy), label), crowd=np.full(len(xyxy), crowd))


OBJECT, CROWD = boxes((2, 2, 14, 14)), boxes((20, 4, 44, 28), crowd=True)


def test_cells_of_a_crowd_are_those_whose_middle_it_holds():
    cells = crowd_cells([CROWD, boxes()], labels=[{0}, {1}], size_hw=SIZE_HW, stride=STRIDE)
    assert cells.shape == (2, 2, *SIZE_HW)
    wanted = torch.zeros(SIZE_HW, dtype=torch.bool)
    wanted[1:7, 5:11] = True
    assert torch.equal(cells[0, 0], wanted)
    assert not cells[0, 1].any()
    assert not cells[1].any()
    partly = crowd_cells([boxes((1.9, -9, 6.5, 2.1))], labels=[{0}], size_hw=SIZE_HW, stride=STRIDE)
    assert partly.nonzero().tolist() == [[0, 0, 0, 0], [0, 0, 0, 1]]
    assert crowd_cells([boxes(), boxes()], labels=[{0}], size_hw=SIZE_HW, stride=STRIDE) is None


def test_a_crowd_is_no_target():
    settings = {"num_classes": 2, "size_hw": SIZE_HW, "stride": STRIDE}
    both, alone = (make_targets([each], **settings) for each in (concatenate([OBJECT, CROWD]), OBJECT))
    assert both.mask.tolist() == [[True, False]]
    assert torch.equal(both.heatmap, alone.heatmap)
    assert alone.left_out is None


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"head.box_loss": "giou", "head.sizes": "log"},
        {"head.kind": "ssd"},
        {"tasks": ("detect", "detect3d", "pose")},
    ],
    ids=["l1", "giou", "ssd", "tasks"],
)
def test_a_network_is_not_punished_in_a_crowd(options):
    torch.manual_seed(0)
    model = scn.build("nano", **(NETWORK | options))
    cube = (torch.rand(2, 1, 4, 64, 96) < 0.2).to(torch.uint8)
    output = model(cube)[0]
    everywhere = boxes((-500, -500, 600, 600), crowd=True)
    everything = concatenate([everywhere, replace(everywhere, labels=np.array([1]))])
    for part in model.head.loss(output, [everything]).parts.values():
        assert part.item() == 0
    person = boxes((20, 10, 44, 50), label=1)
    both = model.head.loss(output, [concatenate([person, everything])])
    alone = model.head.loss(output, [person])
    assert 0 < both.total < alone.total
    far = boxes((200, 200, 220, 220), crowd=True)
    assert torch.equal(model.head.loss(output, [concatenate([person, far])]).total, alone.total)


def test_an_anchor_in_a_crowd_learns_a_box_or_nothing():
    anchors = torch.tensor([[8.0, 8, 12, 12], [32, 16, 12, 12], [40, 16, 12, 12], [8, 28, 8, 8]])
    labels, _ = match(anchors, concatenate([OBJECT, CROWD]))
    assert labels.tolist() == [1, LEFT_OUT, LEFT_OUT, 0]
    labels, _ = match(anchors, concatenate([boxes((26, 10, 38, 22), label=1), CROWD]))
    assert labels.tolist() == [0, 2, LEFT_OUT, 0]

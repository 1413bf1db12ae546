"""Anchors, matching, loss, suppression and decoding against closed forms and torch's own."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spiking_centernet.boxes import iou_matrix
from spiking_centernet.model import build
from spiking_centernet.model.heads.ssd import (
    NUM_ANCHORS,
    SSD,
    VARIANCES,
    SSDOutput,
    corners,
    decode,
    gather,
    make_anchors,
    match,
    nms,
)
from spiking_centernet.structures import Boxes

HEAD = SSD(2, (8,))


def boxes_of(*rows):
    xyxy = np.array([row[:4] for row in rows], np.float32).reshape(-1, 4)
    return Boxes(xyxy, np.array([row[4] for row in rows], np.int64))


def test_anchors_in_closed_form():
    anchors = make_anchors((2, 3), 8)
    assert anchors.shape == (2 * 3 * NUM_ANCHORS, 4)
    assert anchors[1].tolist() == [4, 4, 32, 32]
    assert anchors[-1, :2].tolist() == [20, 12]
    areas = anchors[:NUM_ANCHORS, 2:].prod(1)
    torch.testing.assert_close(areas, torch.tensor([1024.0] * 3 + [2048.0] * 3))
    torch.testing.assert_close((anchors[:, 2] / anchors[:, 3])[:3], torch.tensor([0.5, 1, 2]))


def test_levels_are_joined_pixel_by_pixel():
    values = 1 + 2 + 4
    coarse, fine = torch.rand(2, NUM_ANCHORS * values, 2, 3), torch.rand(2, NUM_ANCHORS * values, 4, 6)
    out = gather([coarse, fine], [16, 8])
    assert out.logits.shape == (2, (6 + 24) * NUM_ANCHORS, 3)
    # The third anchor of the pixel in row 1, column 2 of the coarse level.
    place = (1 * 3 + 2) * NUM_ANCHORS + 2
    expected = coarse[1, 2 * values : 3 * values, 1, 2]
    assert torch.equal(torch.cat([out.logits[1, place], out.deltas[1, place]]), expected)
    assert out.anchors[place, :2].tolist() == [40, 24]


def test_nothing_to_match_is_all_background():
    labels, deltas = match(make_anchors((2, 2), 8), boxes_of())
    assert not labels.any()
    assert not deltas.any()
    labels, _ = match(make_anchors((2, 2), 8), boxes_of((5, 5, 5, 9, 1)))
    assert not labels.any()


def test_a_box_on_an_anchor_is_learnt_without_delta():
    anchors = make_anchors((4, 4), 8)
    xyxy = corners(anchors[37]).tolist()
    labels, deltas = match(anchors, boxes_of((*xyxy, 1)))
    assert labels[37] == 2
    assert deltas[37].abs().max() < 1e-5
    overlap = iou_matrix(corners(anchors).numpy(), np.array([xyxy], np.float32))[:, 0]
    assert torch.equal(labels > 0, torch.from_numpy(overlap >= 0.5))


def test_every_box_gets_an_anchor_however_odd_it_is():
    labels, _ = match(make_anchors((4, 4), 8), boxes_of((0, 0, 2, 31, 0), (10, 30, 12, 32, 1)))
    assert sorted(labels[labels > 0].tolist()) == [1, 2]


def test_what_is_learnt_decodes_to_the_boxes():
    truth = boxes_of((3, 4, 30, 40, 0), (33, 8, 60, 31, 1))
    anchors = torch.cat([make_anchors((8, 8), 8), make_anchors((4, 4), 16)])
    labels, deltas = match(anchors, truth)
    logits = torch.nn.functional.one_hot(labels, 3).float()[None] * 20
    xyxy, scores, found = decode(SSDOutput(logits, deltas[None], anchors))
    assert (scores[0] > 0).sum() == 2
    order = found[0, :2].argsort()
    torch.testing.assert_close(xyxy[0, :2][order], torch.from_numpy(truth.xyxy), rtol=1e-4, atol=1e-3)
    assert found[0, :2].sort().values.tolist() == [0, 1]


def test_the_loss_in_closed_form():
    anchors = make_anchors((2, 2), 8)
    truth = boxes_of((*corners(anchors[7]).tolist(), 0))
    labels, deltas = match(anchors, truth)
    count = int((labels > 0).sum())
    logits = torch.zeros(1, len(anchors), 3)
    loss = HEAD.loss(SSDOutput(logits, deltas[None] + 2.0, anchors), [truth])
    counted = min(len(anchors), 4 * count)
    assert loss.parts["classification"].item() == pytest.approx(counted * np.log(3) / count, rel=1e-5)
    assert loss.parts["box"].item() == pytest.approx(4 * 1.5, rel=1e-5)
    assert loss.total.item() == pytest.approx(loss.parts["classification"].item() + loss.parts["box"].item())


def test_a_sample_without_boxes_teaches_the_background():
    anchors = make_anchors((2, 2), 8)
    logits = torch.zeros(1, len(anchors), 3, requires_grad=True)
    loss = HEAD.loss(SSDOutput(logits, torch.zeros(1, len(anchors), 4), anchors), [Boxes.empty()])
    assert loss.total.item() == pytest.approx(3 * np.log(3), rel=1e-5)
    loss.total.backward()
    assert (logits.grad[..., 0] < 0).sum() == 3


def test_the_hardest_negatives_are_chosen():
    anchors = make_anchors((2, 2), 8)
    logits = torch.zeros(1, len(anchors), 3)
    logits[0, [3, 5, 9], 1] = 5.0
    loss = HEAD.loss(SSDOutput(logits, torch.zeros(1, len(anchors), 4), anchors), [Boxes.empty()])
    assert loss.parts["classification"].item() == pytest.approx(3 * np.log(2 + np.exp(5)), rel=1e-4)


def naive_nms(xyxy, scores, max_iou):
    kept = []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        if all(iou_matrix(xyxy[[i]], xyxy[[j]])[0, 0] <= max_iou for j in kept):
            kept.append(i)
    return kept


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 12), st.integers(0, 999), st.sampled_from([0.1, 0.45, 0.9]))
def test_suppression_is_the_naive_one(count, seed, max_iou):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 30, (count, 2))
    xyxy = np.concatenate([corner, corner + rng.uniform(1, 30, (count, 2))], axis=1)
    scores = rng.permutation(count) / 16
    assert nms(xyxy, scores, max_iou).tolist() == naive_nms(xyxy, scores, max_iou)


def test_classes_do_not_suppress_each_other():
    anchors = torch.tensor([[20.0, 20, 20, 20]] * 3)
    logits = torch.tensor([[[0.0, 5, 0], [0, 4, 0], [0, 0, 3]]])
    _, scores, labels = decode(SSDOutput(logits, torch.zeros(1, 3, 4), anchors))
    assert labels[0, (scores[0] > 0.5).numpy()].tolist() == [0, 1]


def test_detections_are_clipped_and_ordered():
    torch.manual_seed(0)
    model = build(
        "nano",
        encoder={"widths": (8, 8, 16), "convs_per_stage": 1},
        decoder={"num_blocks": 1},
        head={"width": 8, "kind": "ssd"},
    ).eval()
    assert model.config.strides == (16, 8)
    with torch.no_grad():
        output, _ = model(torch.ones(2, 2, 4, 37, 50, dtype=torch.uint8))
    assert len(output.anchors) == NUM_ANCHORS * (3 * 4 + 5 * 7)
    assert len(VARIANCES) == output.deltas.shape[-1]
    for found in model.head.detections(output, [7, 9], size_hw=(37, 50)):
        assert (np.diff(found.scores) <= 0).all()
        assert found.xyxy.min(initial=0) >= 0
        assert (found.xyxy <= [50, 37, 50, 37]).all()

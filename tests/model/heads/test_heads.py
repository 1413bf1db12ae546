"""What every head of the registry promises, whatever its task."""

from typing import get_args

import numpy as np
import pytest
import torch

from spiking_centernet.model import HEADS, build
from spiking_centernet.model.config import HeadKind
from spiking_centernet.structures import Boxes

CHANGES = {"encoder.widths": (4, 6, 8), "encoder.convs_per_stage": 1, "decoder.num_blocks": 2, "head.width": 5}
SIZE_HW = (37, 50)

each = pytest.mark.parametrize("kind", sorted(HEADS))


@pytest.fixture
def model(kind):
    torch.manual_seed(0)
    return build("nano", **CHANGES, head={"kind": kind}).train()


def test_every_kind_of_head_can_be_chosen():
    assert set(get_args(HeadKind)) == set(HEADS)


def boxes(*rows):
    rows = np.array(rows, np.float32).reshape(-1, 5)
    return Boxes(rows[:, :4], rows[:, 4].astype(np.int64))


PYRAMID = tuple(f"{name}{stride}" for stride in ("", "8", "16") for name in ("heatmap", "wh", "offset"))


@each
def test_the_branches_name_the_layers_and_the_weights(kind, model):
    assert type(model.head) is HEADS[kind]
    assert model.head.strides == model.config.strides == (16, 8, 4)
    assert list(model.heads) == list(model.head.branches)
    assert [n for n in model.neuron_names if n.startswith("heads.")] == [
        f"heads.{n}.block" for n in model.head.branches
    ]
    for name, branch in model.head.branches.items():
        assert model.heads[name].out.weight.shape == (branch.out_channels, 5, 1, 1)
        if branch.bias is not None:
            assert (model.heads[name].out.bias == branch.bias).all()


def test_the_names_in_weight_files_stay():
    """Weights that were written load by these names."""
    layers = ("block.conv.weight", "block.norm.weight", "block.neuron.w", "out.weight", "out.bias")
    for kind, names in (
        ("centernet", ("heatmap", "wh", "offset")),
        ("ssd", ("stride16", "stride8", "stride4")),
        ("pyramid", PYRAMID),
    ):
        held = build("nano", **CHANGES, head={"kind": kind}).state_dict()
        assert {f"heads.{n}.{layer}" for n in names for layer in layers} <= set(held)
        assert {key.split(".")[1] for key in held if key.startswith("heads.")} == set(names)


@each
def test_without_boxes_the_loss_is_finite_and_reaches_every_branch(kind, model):
    output, _ = model(torch.rand(2, 2, 4, *SIZE_HW), keep_state=False)
    loss = model.head.loss(output, [Boxes.empty(), Boxes.empty()])
    assert torch.isfinite(loss.total)
    large = (-60, -60, 100, 90, 0), (0, 0, 48, 34, 1)
    full = model.head.loss(output, [boxes((4, 4, 20, 24, 0), *large), boxes((10, 8, 40, 30, 1), (2, 2, 12, 12, 0))])
    assert full.total.item() != loss.total.item()
    assert all(part.ndim == 0 for part in full.parts.values())
    full.total.backward()
    assert all(model.heads[name].out.bias.grad.abs().max() > 0 for name in model.head.branches)


@each
def test_detections_of_a_batch_are_those_of_its_samples(kind, model):
    cube = (torch.rand(3, 2, 4, *SIZE_HW) < 0.3).to(torch.uint8)
    with torch.no_grad():
        output, _ = model.eval()(cube)
    both = model.head.detections(output, [7, 9], size_hw=SIZE_HW)
    assert [found.t_us for found in both] == [7, 9]
    fields = output._asdict()
    for b, found in enumerate(both):
        one = {name: x if name in model.head.unbatched else x[b : b + 1] for name, x in fields.items()}
        (alone,) = model.head.detections(type(output)(**one), [found.t_us], size_hw=SIZE_HW)
        np.testing.assert_array_equal(found.xyxy, alone.xyxy)
        np.testing.assert_array_equal(found.labels, alone.labels)


@each
def test_dense_outputs_are_maps_of_one_size_led_by_the_classes(kind, model):
    output, _ = model(torch.rand(2, 1, 4, *SIZE_HW), keep_state=False)
    is_dense = all(x.ndim == 4 and x.shape[2:] == output[0].shape[2:] for x in output)
    assert model.head.is_dense == is_dense
    if is_dense:
        assert output[0].shape[1] == model.config.num_classes

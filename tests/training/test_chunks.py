"""Sequences to train on: answers all along a window, and windows that carry their state to the next."""

import numpy as np
import pytest
import torch
import toy_roads

from spiking_centernet.data import FolderDataset, collate
from spiking_centernet.errors import ConfigError
from spiking_centernet.structures import Batch, Boxes
from spiking_centernet.training.config import make_recipe
from spiking_centernet.training.sequences import labels_of_answers
from spiking_centernet.training.trainer import Trainer, train

MEMORY = toy_roads.NETWORK | {
    "recurrent.kind": "gated", "voxels.num_steps": 4, "voxels.window_us": 200_000, "head.readout_steps": 2,
}  # fmt: skip
"""Windows of 200 ms with two answers."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_roads.write_folder(tmp_path_factory.mktemp("toy"))


def test_answers_and_their_boxes_stand_in_one_order():
    named = [Boxes(np.zeros((1, 4), np.float32), np.array([label])) for label in range(6)]
    batch = Batch(
        torch.zeros(6, 2, 4, 8, 8), named[4:], [0, 0], ["a", "b"], earlier=[(named[0], named[2]), (named[1], named[3])]
    )
    boxes, cameras = labels_of_answers(batch, 3)
    assert [int(found.labels[0]) for found in boxes] == list(range(6))
    assert len(cameras) == 6


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"answers": 2}, "set network.head.readout_steps"),
        ({"answers": 3, "network": {"head": {"readout_steps": 2}}}, "voxels.num_steps=5"),
        ({"answers": 2, "teacher": "nano", "network": {"head": {"readout_steps": 2}}}, "a teacher shows one answer"),
        ({"answers": 0}, "at least 1"),
        ({"chunks": 0}, "at least 1"),
        ({"chunks": 2, "teacher": "nano"}, "a teacher shows one answer of one window"),
        ({"chunks": 2, "network": {"voxels": {"mode": "direct"}}}, "windows of events that are all as long"),
        ({"chunks": 2, "network": {"voxels": {"num_events": 1000}}}, "windows of events that are all as long"),
        ({"chunks": 2, "answers": 2, "network": {"head": {"readout_steps": 2}}}, "set answers to 1 or 2.5"),
    ],
)
def test_answers_that_cannot_be_learned_are_refused_at_once(fields, message):
    with pytest.raises(ConfigError, match=message):
        make_recipe(fields)


def test_chunks_carry_the_state_and_average_the_gradient(data, tmp_path, monkeypatch):
    recipe = toy_roads.recipe(network=MEMORY, answers=2, chunks=3, clip_norm=1e9, augmentation=None)
    trainer = Trainer(recipe, data, tmp_path / "run", resume=False)
    # The last window of both clips: 600 ms, six labels each.
    batch = collate([trainer.train_set[8], trainer.train_set[16]])
    assert batch.cube.shape[:2] == (12, 2)
    model, seen = trainer.state.model, []
    loss_of = model.head.loss

    def keep_boxes(output, boxes, *rest, **options):
        seen.append([found.xyxy for found in boxes])
        return loss_of(output, boxes, *rest, **options)

    monkeypatch.setattr(model.head, "loss", keep_boxes)
    monkeypatch.setattr(trainer.optimizer, "step", lambda: None)
    running = {k: v.clone() for k, v in model.state_dict().items()}
    row = trainer._step(batch, None)
    found = {name: p.grad.clone() for name, p in model.named_parameters()}

    single = FolderDataset(data, "train", model.config.voxels)
    clips = [[single[first + n].boxes.xyxy for n in range(6)] for first in (3, 11)]
    model.load_state_dict(running)
    model.zero_grad()
    state, losses = None, []
    for n in range(3):
        for boxes, expected in zip(seen[n], [clip[2 * n + m] for m in range(2) for clip in clips], strict=True):
            np.testing.assert_array_equal(boxes, expected)
        output, state = model(batch.cube[4 * n : 4 * n + 4], state, answers=2)
        state = {name: v.detach() for name, v in state.items()}
        boxes, cameras = labels_of_answers(batch, 6)
        loss = loss_of(output, boxes[4 * n : 4 * n + 4], cameras[4 * n : 4 * n + 4]).total
        (loss / 3).backward()
        losses.append(loss.item())
    assert state is not None
    assert any(v.any() for v in state.values())
    assert row["loss"] == pytest.approx(sum(losses) / 3, rel=1e-5)
    for name, p in model.named_parameters():
        torch.testing.assert_close(found[name], p.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_chunks_train_and_resume_as_one_run(data, tmp_path):
    fields = {"network": MEMORY, "answers": 2, "chunks": 2, "epochs": 2}
    whole = train(toy_roads.recipe(**fields), data, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(toy_roads.recipe(**fields), data, out=tmp_path / "parts", on_row=_stop_in_second_epoch)
    parts = train(toy_roads.recipe(**fields), data, out=tmp_path / "parts", resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name


def _stop_in_second_epoch(row):
    if row["epoch"] == 1:
        raise KeyboardInterrupt

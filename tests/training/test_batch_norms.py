"""The statistics of batch norms, estimated anew; PyTorch's way of doing it for averaged weights is the reference."""

import copy

import numpy as np
import pytest
import torch
import toy_roads
from torch import nn
from torch.optim.swa_utils import update_bn

from spiking_centernet.data import FolderDataset, collate
from spiking_centernet.model import Detector, build
from spiking_centernet.model.weights import load
from spiking_centernet.training.batch_norms import estimate_anew
from spiking_centernet.training.sequences import window_of_chunks
from spiking_centernet.training.trainer import train

BATCH, SEED = 4, 3


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_roads.write_folder(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = build("nano", **toy_roads.NETWORK)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.bias, 0, 2)  # so that every layer fires
    return model


def windows(model: Detector, data, chunks: int = 1) -> FolderDataset:
    return FolderDataset(data, "train", window_of_chunks(model.config.voxels, chunks), classes=model.config.classes)


def drawn(dataset: FolderDataset) -> list[torch.Tensor]:
    """The cubes of all whole batches, in the order of the draw."""
    count = len(dataset) // BATCH
    order = np.random.default_rng(SEED).permutation(len(dataset))[: count * BATCH].reshape(count, BATCH)
    return [collate([dataset[index] for index in indices]).cube for indices in order.tolist()]


def tensors_of(model: Detector, *, running: bool) -> dict[str, torch.Tensor]:
    """Running means and variances, or everything else but their counts."""
    tensors = {k: v.clone() for k, v in model.state_dict().items() if "num_batches" not in k}
    return {k: v for k, v in tensors.items() if ("running" in k) == running}


def test_they_are_those_of_pytorch_and_no_weight_changes(data, model):
    expected, dataset = copy.deepcopy(model), windows(model, data)
    before, weights = tensors_of(model, running=True), tensors_of(model, running=False)
    update_bn(drawn(dataset), expected)
    estimate_anew(model, dataset, batch_size=BATCH, seed=SEED)
    found, wanted = tensors_of(model, running=True), tensors_of(expected, running=True)
    assert found.keys() == wanted.keys()
    assert all(torch.allclose(found[k], wanted[k], rtol=1e-4, atol=1e-6) for k in found)
    assert not any(torch.allclose(found[k], before[k], rtol=1e-2) for k in found)
    assert all(torch.equal(v, weights[k]) for k, v in tensors_of(model, running=False).items())
    assert not any(module.training for module in model.modules())


def test_the_state_is_carried_from_chunk_to_chunk(data, model):
    expected, dataset = copy.deepcopy(model).train(), windows(model, data, chunks=2)
    norms = [m for m in expected.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    with torch.no_grad():
        for cube in drawn(dataset):
            first, second = cube.chunk(2)
            expected(second, expected(first)[1])
    estimate_anew(model, dataset, batch_size=BATCH, chunks=2, seed=SEED)
    found, wanted = tensors_of(model, running=True), tensors_of(expected, running=True)
    assert all(torch.allclose(found[k], wanted[k], rtol=1e-4, atol=1e-6) for k in found)


def test_frozen_parts_keep_theirs(data, model):
    before = tensors_of(model, running=True)
    estimate_anew(model, windows(model, data), batch_size=BATCH, frozen=[model.encoder])
    for name, value in tensors_of(model, running=True).items():
        assert torch.equal(value, before[name]) == name.startswith("encoder."), name


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_weights_that_learned_in_bfloat16_have_them_of_float32(data, tmp_path, precision):
    train(toy_roads.recipe(epochs=1, precision=precision, seed=SEED), data, out=tmp_path / "run")
    model = load(tmp_path / "run")
    before = tensors_of(model, running=True)
    estimate_anew(model, windows(model, data), batch_size=BATCH, seed=SEED)
    same = [torch.allclose(v, before[k], rtol=1e-4, atol=1e-6) for k, v in tensors_of(model, running=True).items()]
    assert all(same) if precision == "bfloat16" else not any(same)

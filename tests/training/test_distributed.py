"""Two processes train as one: same losses, same weights, same score, nothing counted twice."""

import json
import os
import socket
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import toy_roads
from calibrated import calibrated, random_cube

from spiking_centernet.errors import ConfigError
from spiking_centernet.evaluation.prediction import dataset_for, evaluate, predict
from spiking_centernet.model import build
from spiking_centernet.model.firing_rate import FiringRates
from spiking_centernet.model.weights import load, read_tensors, save
from spiking_centernet.training import distributed
from spiking_centernet.training.run_dir import read_metrics
from spiking_centernet.training.trainer import EpochBatches, train


def work_together(weights, data, out, runs, port):
    torch.set_num_threads(1)
    # What torchrun tells its processes.
    os.environ |= {"TORCHELASTIC_RUN_ID": "tests", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    second = os.fork()
    os.environ["RANK"] = os.environ["LOCAL_RANK"] = "0" if second else "1"
    torch.distributed.init_process_group("gloo")
    fabric = process(torch.distributed.get_rank(), torch.distributed.get_world_size())
    model, dataset = load(weights), dataset_for(load(weights), data, "val")
    own = torch.utils.data.Subset(dataset, distributed.own_indices(fabric, len(dataset)))
    first, *others = distributed.gather(fabric, predict(model, own, batch_size=1))
    whole = first.merge(others)
    score = whole.score("none").to_dict()
    (out / f"{fabric.global_rank}.json").write_text(json.dumps([fabric.world_size, len(whole.truth), score]))
    for name, changes in runs.items():
        losses = []

        def watch(row, losses=losses):
            if "loss" in row:
                losses.append([row["loss"], row["grad_norm"]])

        train(toy_roads.recipe(**changes), data, out=out / name, on_row=watch)
        if losses:  # the first process alone reports
            (out / name / "losses.json").write_text(json.dumps(losses))
    if second:
        assert os.waitpid(second, 0)[1] == 0


RUNS = {
    # An ANN: without thresholds rounding stays rounding for as long as one likes.
    "ann": {"network": toy_roads.NETWORK | {"neuron.kind": "relu"}, "epochs": 2},
    "spiking": {"epochs": 1},
}


def process(rank, world):
    return SimpleNamespace(world_size=world, global_rank=rank)


def test_every_sample_of_a_batch_falls_to_one_process():
    alone = EpochBatches(17, 4, seed=3)
    shares = [list(distributed.OwnShare(alone, process(rank, 2))) for rank in (0, 1)]
    assert [a + b for a, b in zip(*shares, strict=True)] == list(alone)
    assert list(distributed.OwnShare(alone, process(0, 1))) == list(alone)
    with pytest.raises(ConfigError, match="batch_size 4 cannot be shared evenly by 3"):
        distributed.OwnShare(alone, process(0, 3))


@pytest.mark.parametrize(("num", "world"), [(0, 2), (1, 2), (7, 2), (7, 3), (6, 3)])
def test_every_sample_to_score_falls_to_one_process(num, world):
    shares = [list(distributed.own_indices(process(rank, world), num)) for rank in range(world)]
    assert sorted(index for share in shares for index in share) == list(range(num))


@pytest.mark.parametrize("names", ["", "a", "aab", "aabbbc"])
def test_every_recording_to_carry_a_state_through_falls_to_one_process(names):
    shares = [distributed.own_clips(process(rank, 2), list(names)) for rank in (0, 1)]
    assert sorted(shares[0] + shares[1]) == list(range(len(names)))
    assert not {names[k] for k in shares[0]} & {names[k] for k in shares[1]}


def test_alone_nothing_changes():
    model = build("nano", **toy_roads.NETWORK)
    fabric = process(0, 1)
    assert distributed.with_whole_batch_norms(model, fabric) is model
    assert not any(isinstance(m, distributed.WholeBatchNorm2d) for m in model.modules())
    assert distributed.gather(fabric, 3) == [3]
    assert distributed.gather_batch(fabric, model.head, "output", ["boxes"], [None]) == ("output", ["boxes"], [None])


def test_counts_of_spikes_add_up():
    a, b, both = (FiringRates(["x", "y"]) for _ in range(3))
    for rates, spikes in ((a, torch.eye(4)), (b, torch.ones(2, 2))):
        for name in ("x", "y"):
            rates(name, spikes)
            both(name, spikes)
    a.merge([b])
    assert (a.per_layer(), a.overall()) == (both.per_layer(), both.overall())


@pytest.fixture
def one_process_group(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_the_norm_of_the_whole_batch_is_batch_norm(one_process_group):
    torch.manual_seed(0)
    own, reference = distributed.WholeBatchNorm2d(3), torch.nn.BatchNorm2d(3)
    with torch.no_grad():
        for module in (own, reference):
            module.weight.copy_(torch.tensor([1.0, 0.5, 2.0]))
            module.bias.copy_(torch.tensor([0.0, 1.0, -1.0]))
    for _ in range(2):
        x = (100 + torch.randn(4, 3, 5, 6)).requires_grad_()
        y = x.detach().clone().requires_grad_()
        weights = torch.randn(4, 3, 5, 6)
        (own(x) * weights).sum().backward()
        (reference(y) * weights).sum().backward()
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(own.state_dict(), reference.state_dict())
    torch.testing.assert_close(own.weight.grad, reference.weight.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(own.eval()(x), reference.eval()(x), rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def together(tmp_path_factory, in_new_process):
    """Two processes score a network and train two: the folder of the data, of the weights and of what they leave."""
    folder = tmp_path_factory.mktemp("together")
    data = toy_roads.write_folder(folder / "data")
    model = calibrated("nano", random_cube(toy_roads.SIZE_HW, num_steps=3), **toy_roads.NETWORK)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    done = in_new_process(work_together, save(model, folder / "toy"), data, folder, RUNS, port)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.slow
def test_two_processes_score_what_one_scores_to_the_last_bit(together):
    model, data = load(together / "toy.safetensors"), together / "data"
    alone = evaluate(model, data, protocol="none", batch_size=1).to_dict()
    num_instants = len(dataset_for(model, data, "val"))
    for rank in (0, 1):
        assert json.loads((together / f"{rank}.json").read_text()) == [2, num_instants, json.loads(json.dumps(alone))]


@pytest.mark.slow
def test_two_processes_are_one_within_rounding(together, tmp_path):
    alone = []
    train(
        toy_roads.recipe(**RUNS["ann"]), together / "data", out=tmp_path / "one",
        on_row=lambda row: alone.append([row["loss"], row["grad_norm"]]) if "loss" in row else None,
    )  # fmt: skip
    losses = json.loads((together / "ann" / "losses.json").read_text())
    assert len(losses) == 8
    np.testing.assert_allclose(losses, alone, rtol=2e-3)
    np.testing.assert_allclose(losses[0], alone[0], rtol=1e-5)
    folders = tmp_path / "one", together / "ann"
    rows = [[r for r in read_metrics(folder / "metrics.csv") if r["ap"] is not None] for folder in folders]
    for one, two in zip(*rows, strict=True):
        assert two["ap"] == pytest.approx(one["ap"], abs=0.02)
        assert two["val_firing_rate"] == pytest.approx(one["val_firing_rate"], rel=0.01)
    (tensors, config, notes), (others, config_2, notes_2) = (
        read_tensors(folder / "last.safetensors") for folder in folders
    )
    assert (config, notes["step"]) == (config_2, notes_2["step"])
    for name in ("model/heads.heatmap.out.weight", "ema/encoder.stem.norm.running_var"):
        torch.testing.assert_close(others[name], tensors[name], rtol=2e-2, atol=1e-3)


@pytest.mark.slow
def test_two_processes_train_a_spiking_network_as_one(together):
    losses = [loss for loss, _ in json.loads((together / "spiking" / "losses.json").read_text())]
    golden = json.loads(toy_roads.CURVE.read_text())
    assert losses[0] == pytest.approx(golden[0], rel=1e-4)
    # Later a rounding now and then decides whether a neuron fires.
    assert losses == pytest.approx(golden[:4], rel=5e-2)

"""Training in less memory gives the results of training without: to the last bit in float32."""

import itertools

import pytest
import torch
from calibrated import equal_states

from spiking_centernet.errors import ConfigError
from spiking_centernet.model import Memory, build
from spiking_centernet.model.firing_rate import FiringRates

WAYS = [Memory(spikes=s, checkpoint_stages=c) for s, c in itertools.product(("float", "uint8"), (False, True))]
TINY = {
    "encoder.widths": (4, 6, 8),
    "encoder.convs_per_stage": 2,
    "decoder.num_blocks": 2,
    "head.width": 5,
    "voxels.num_steps": 3,
    "neuron.tau": 1.5,
}


def loss_of(model, cube, memory, **options):
    output, _ = model(cube, keep_state=False, memory=memory, **options)
    return sum((o * torch.linspace(-1, 1, o.numel()).reshape(o.shape)).sum() for o in output)


def train(memory, steps=3, precision=torch.float32):
    torch.manual_seed(0)
    model = build("nano", **TINY).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    cube = (torch.rand(3, 2, 4, 33, 47, generator=torch.Generator().manual_seed(1)) < 0.3).to(torch.uint8)
    losses = []
    for _ in range(steps):
        rates = FiringRates(model.neuron_names)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            loss = loss_of(model, cube, memory, observe=rates)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model.state_dict(), rates.per_layer()


@pytest.fixture(scope="module")
def plain():
    return train(None)


@pytest.mark.parametrize("memory", WAYS, ids=str)
def test_losses_weights_running_statistics_and_rates_are_the_same(plain, memory):
    losses, weights, rates = train(memory)
    assert losses == plain[0]
    assert len(set(losses)) == len(losses)
    assert all(torch.equal(value, weights[name]) for name, value in plain[1].items())
    assert weights["encoder.stem.norm.num_batches_tracked"] == len(losses)
    assert rates == plain[2]
    assert all(rate > 0 for rate in rates.values())


@pytest.mark.parametrize("memory", WAYS[1:], ids=str)
def test_bfloat16_gives_the_same_losses(memory):
    assert train(memory, precision=torch.bfloat16)[0] == pytest.approx(train(None, precision=torch.bfloat16)[0], 1e-2)


def kept_bytes(memory):
    """Return the bytes of the different tensors that the graph holds after a forward pass."""
    model, storages = build("nano", **TINY).train(), {}

    def note(x):
        storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    cube = torch.ones(3, 2, 4, 64, 64, dtype=torch.uint8)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        loss = loss_of(model, cube, memory)
    assert loss.requires_grad
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    return sum(size for pointer, size in storages.items() if pointer not in parameters)


def test_each_way_keeps_less():
    plain = kept_bytes(None)
    assert kept_bytes(Memory(spikes="uint8")) < plain
    assert kept_bytes(Memory(checkpoint_stages=True)) < 0.7 * plain


@pytest.mark.parametrize(("neuron", "dtype"), [("relu", torch.uint8), ("plif", torch.float32)])
def test_bytes_are_refused_where_values_are_not_whole(neuron, dtype):
    model = build("nano", **(TINY | {"neuron.kind": neuron}))
    with pytest.raises(ConfigError, match="whole numbers"):
        model(torch.zeros(3, 1, 4, 32, 32, dtype=dtype), memory=Memory(spikes="uint8"))


def test_an_unknown_way_is_refused():
    with pytest.raises(ConfigError, match="float or uint8, got 'uint'; did you mean 'uint8'"):
        Memory(spikes="uint").checked()


def test_state_and_inference_are_left_alone():
    """A state that is handed on cannot be computed twice: the stages run once, with the same result."""
    model = build("nano", **TINY).eval()
    cube = torch.ones(3, 1, 4, 32, 32, dtype=torch.uint8)
    out, state = model(cube)
    again, same = model(cube, memory=Memory(spikes="uint8", checkpoint_stages=True))
    assert torch.equal(out.heatmap, again.heatmap)
    assert equal_states(state, same)
    assert len(same) == len(model.neuron_names)

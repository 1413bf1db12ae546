"""The unrolled network passes on nothing but 0 and 1 and answers as the integer network does."""

from importlib import resources

import pytest
import torch
from calibrated import calibrated
from dyadic import dyadic
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_detector

from spiking_centernet.data import open as open_recording
from spiking_centernet.errors import ConfigError
from spiking_centernet.evaluation.energy import count_ops, require_fully_spiking
from spiking_centernet.model import Detector
from spiking_centernet.model.config_dict import with_changes
from spiking_centernet.model.layers import ConvNeuron
from spiking_centernet.model.neurons import ILIF
from spiking_centernet.model.unroll import UnrolledILIF, VirtualConv2d, round_to_exact_sums
from spiking_centernet.model.weights import load
from spiking_centernet.ops.pooling import max_pool

SIZE_HW = (32, 40)


def integer_detector(levels, seed=0, **changes):
    return tiny_detector(seed, **{"neuron.kind": "ilif", "neuron.levels": levels, "neuron.threshold": 0.2} | changes)


def cubes(num_steps, batch=2, seed=0, rate=0.15):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(num_steps, batch, 4, *SIZE_HW, generator=generator) < rate).to(torch.uint8)


def observed(model, cube, state=None):
    """Return output and state of a call, and every layer's spikes of each time step, those of virtual steps added."""
    spikes = {}
    with torch.inference_mode():
        output, state = model(cube, state, observe=lambda name, x: spikes.update({name: x.clone()}))
    return output, state, spikes


def totals(spikes, levels):
    return {name: x.unflatten(0, (-1, levels)).sum(1) for name, x in spikes.items()}


VARIANTS = {
    "paper": {},
    "or": {"decoder.skips": "or"},
    "no skips": {"decoder.skips": "none"},
    "inner": {"decoder.kind": "inner"},
    "transposed": {"decoder.kind": "transposed"},
    "last steps": {"head.readout_steps": 2},
    "learned steps": {"head.step_weights": "learned"},
    "anchors": {"head.kind": "ssd"},
    "counts": {"voxels.mode": "count"},
    "current decay": {"neuron.decay_input": False, "neuron.tau": 1.5},
}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("levels", "num_steps"), [(1, 2), (2, 5), (4, 3), (7, 1)])
def test_bit_for_bit_where_sums_are_exact(seed, levels, num_steps):
    model = dyadic(integer_detector(levels, seed).fuse())
    assert_same(model, levels, num_steps, seed)


@pytest.mark.filterwarnings("ignore:the decoder")
@pytest.mark.parametrize("variant", VARIANTS)
def test_bit_for_bit_in_every_variant(variant):
    changes = VARIANTS[variant]
    model = dyadic_of_any(integer_detector(3, **changes).fuse())
    assert_same(model, 3, 4, 0)


def dyadic_of_any(fused):
    """Return :func:`dyadic` of a network that may hold transposed convolutions."""
    exact = dyadic(fused)
    for module in exact.modules():
        if isinstance(module, torch.nn.ConvTranspose2d):
            with torch.no_grad():
                module.weight.copy_(torch.round(module.weight * 128) / 128)
                module.bias.copy_(torch.round(module.bias * 1024) / 1024)
    return exact


def assert_same(model, levels, num_steps, seed):
    """Compare two windows, the second from the state of the first, to the bit, and see 0 and 1 alone between layers."""
    unrolled = model.unrolled()
    state = other_state = None
    for window in range(2):
        cube = cubes(num_steps, seed=10 * seed + window)
        output, state, counts = observed(model, cube, state)
        other, other_state, spikes = observed(unrolled, cube, other_state)
        assert {v for x in spikes.values() for v in x.unique().tolist()} == {0, 1}
        assert max(float(x.max()) for x in counts.values()) == levels
        for name, total in totals(spikes, levels).items():
            assert torch.equal(total, counts[name]), name
        assert state.keys() == other_state.keys()
        assert all(torch.equal(state[name], other_state[name]) for name in state)
        assert all(torch.equal(a, b) for a, b in zip(output, other, strict=True))
    assert float(output[0].std()) > 0


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("levels", [1, 4])
def test_bit_for_bit_with_any_weights_rounded_to_exact_sums(seed, levels):
    model = integer_detector(levels, seed)
    exact = model.with_exact_sums()
    assert_same(exact, levels, 3, seed)
    assert 0 < largest_change(exact, model.fuse()) < 1e-4


def largest_change(exact, fused):
    """Return by how much the most moved weight has moved, over the largest of its layer."""
    pairs = zip(exact.named_parameters(), fused.parameters(), strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for (name, a), b in pairs if name.endswith("weight"))


@pytest.mark.parametrize("name", ["nano", "small"])
def test_rounding_bundled_weights_moves_none_by_more_than_a_ten_thousandth(name):
    model = load(name)
    assert 0 < largest_change(model.with_exact_sums(), model.fuse()) < 1e-4


@pytest.mark.slow
def test_bit_for_bit_on_trained_weights_and_real_events():
    trained = load("nano")
    model = Detector(with_changes(trained.config, {"neuron.kind": "ilif"}))
    model.load_state_dict(trained.state_dict())
    exact = model.eval().with_exact_sums()
    folder = resources.files("spiking_centernet") / "assets" / "icns_roadside_cars"
    cube = open_recording(str(folder / "icns_roadside_cars_td.dat")).cube(150_000, model.config.voxels)[:, None]
    output, state, counts = observed(exact, cube)
    other, other_state, spikes = observed(exact.unrolled(), cube)
    assert all(torch.equal(total, counts[name]) for name, total in totals(spikes, 4).items())
    assert all(torch.equal(state[name], other_state[name]) for name in state)
    assert all(torch.equal(a, b) for a, b in zip(output, other, strict=True))


@pytest.mark.filterwarnings("ignore:the decoder")
@pytest.mark.parametrize("variant", VARIANTS)
def test_exact_sums_in_every_variant(variant):
    assert_same(integer_detector(3, **VARIANTS[variant]).with_exact_sums(), 3, 4, 0)


@pytest.mark.parametrize(("groups", "transposed"), [(1, False), (3, False), (1, True)])
def test_sums_are_exact_in_any_order(groups, transposed):
    torch.manual_seed(0)
    kind = torch.nn.ConvTranspose2d if transposed else torch.nn.Conv2d
    conv = kind(3 * 16, 3 * 8, 3, groups=groups)
    with torch.no_grad():
        conv.weight.mul_(torch.logspace(-6, 6, 24)[None, :, None, None] if transposed else
                         torch.logspace(-6, 6, 24)[:, None, None, None])  # fmt: skip
    before = conv.weight.detach().clone()
    round_to_exact_sums(conv, 4)
    assert not torch.equal(conv.weight, before)
    torch.testing.assert_close(conv.weight, before, rtol=0.05, atol=1e-3 * float(before.abs().max()))
    x = torch.randint(5, (2, 48, 7, 8)).float()
    with torch.no_grad():
        exact = conv.double()(x.double())
        assert torch.equal(conv.float()(x).double(), exact)
        # Another order of the same inputs: channels turned around.
        if groups == 1:
            conv.weight.copy_(conv.weight.flip(0) if transposed else conv.weight.flip(1))
            assert torch.equal(conv(x.flip(1)).double(), exact)


def test_exact_sums_of_binary_neurons_and_of_what_has_none():
    exact = tiny_detector().with_exact_sums()
    assert exact.max_spikes == 1
    with pytest.raises(ConfigError, match=r"decoder\.skips='add'"):
        tiny_detector(**{"decoder.skips": "add"}).with_exact_sums()
    with pytest.raises(ConfigError, match="relu"):
        tiny_detector(**{"neuron.kind": "relu"}).with_exact_sums()


def test_of_any_weights_integers_are_the_same_and_membranes_differ_by_rounding_alone():
    for seed in range(3):
        model = integer_detector(4, seed).fuse().double()
        unrolled = model.unrolled()
        cube = cubes(4, seed=seed)
        output, state, counts = observed(model, cube)
        other, other_state, spikes = observed(unrolled, cube)
        for name, total in totals(spikes, 4).items():
            assert torch.equal(total, counts[name]), name
        for name, v in state.items():
            assert v.dtype == torch.float64
            torch.testing.assert_close(other_state[name], v, rtol=0, atol=1e-12)
        for a, b in zip(output, other, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)  # the maps are float32


def test_a_state_of_one_network_continues_in_the_other():
    model = dyadic(integer_detector(4).fuse())
    unrolled = model.unrolled()
    with torch.inference_mode():
        _, between = model(cubes(2))
        expected, _ = model(cubes(2, seed=1), between)
        found, _ = unrolled(cubes(2, seed=1), between)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_a_picture_shown_at_every_step():
    picture = torch.randint(256, (1, 2, 3, *SIZE_HW), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    settings = {"encoder.widths": (8, 8, 16), "decoder.num_blocks": 1, "neuron.kind": "ilif", "neuron.levels": 3}
    awake = calibrated("nano", picture, **settings, **{"voxels.mode": "direct", "voxels.num_steps": 3})
    model = dyadic(awake.fuse())
    # The first convolution is computed once for all steps, of values that are no spikes, in both networks alike.
    output, _, counts = observed(model, picture)
    other, _, spikes = observed(model.unrolled(), picture)
    assert all(torch.equal(total, counts[name]) for name, total in totals(spikes, 3).items())
    assert all(torch.equal(a, b) for a, b in zip(output, other, strict=True))


@given(st.integers(0, 1000), st.integers(1, 5))
@settings(max_examples=20)
def test_max_pooling_of_integers_is_an_or_of_virtual_steps(seed, levels):
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(levels + 1, (2, 3, 7, 9), generator=generator).float()
    trains = torch.stack([(counts > k).float() for k in range(levels)], dim=1)
    pooled = max_pool(trains.flatten(0, 1)).unflatten(0, (2, levels))
    assert set(pooled.unique().tolist()) <= {0, 1}
    assert torch.equal(pooled.sum(1), max_pool(counts))


@pytest.mark.parametrize("leak", [{}, {"learned": False, "tau": 3.0}, {"tau": float("inf")}], ids=str)
def test_a_neuron_spikes_in_its_first_virtual_steps(leak):
    x = torch.randn(3, 2, 4, 5, 6, generator=torch.Generator().manual_seed(0)) * 4
    neuron = ILIF(levels=4, threshold=0.7, **leak)
    counts, v = neuron(x)
    virtual = UnrolledILIF(neuron)
    assert virtual.state_dict() == neuron.state_dict()
    trains, other_v = virtual(x)
    trains = trains.unflatten(1, (2, 4))
    for k in range(4):
        assert torch.equal(trains[:, :, k], (counts > k).float())
    assert torch.equal(v, other_v)


def test_every_convolution_adds():
    model, cube = integer_detector(3), cubes(3)
    unrolled = model.unrolled()
    convs = [m for m in unrolled.modules() if isinstance(m, torch.nn.Conv2d)]
    layers = [m for m in unrolled.modules() if isinstance(m, ConvNeuron)]
    assert sum(isinstance(conv, VirtualConv2d) for conv in convs) == len(convs) - 1  # the first sees the cube
    assert all(isinstance(layer.neuron, UnrolledILIF) for layer in layers)
    operations = count_ops(unrolled, cube)
    require_fully_spiking(operations)
    assert count_ops(model, cube) == count_ops(model.fuse(), cube) == operations


def test_operations_are_those_of_the_integers():
    model, cube = integer_detector(3).fuse(), cubes(3)
    inputs, hooks = {}, []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            hooks.append(module.register_forward_pre_hook(lambda _, x, name=name: inputs.update({name: x[0]})))
    _, _, counts = observed(model, cube)
    operations = count_ops(model, cube)
    for layer in operations.convolutions:
        conv = model.get_submodule(layer.name)
        x = inputs[layer.name].double()

        def pairs(x, conv=conv):
            ones = torch.ones_like(conv.weight, dtype=torch.float64)
            return int(torch.nn.functional.conv2d(x, ones, None, conv.stride, conv.padding, groups=conv.groups).sum())

        assert layer.synaptic == pairs(x)
        assert layer.dense == pairs(torch.ones_like(x))
    for layer in operations.neurons:
        assert layer.spikes == int(counts[layer.name].sum())
        assert layer.updates == counts[layer.name].numel()
        assert layer.rate == pytest.approx(float(counts[layer.name].mean()) / 3)
        assert (layer.levels, layer.multiplies, layer.adds) == (3, 1, 3)


def test_an_unrolled_detector_is_one_for_inference():
    model = integer_detector(2)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    unrolled = model.unrolled()
    assert (model.max_spikes, unrolled.max_spikes) == (2, 1)
    assert all(torch.equal(x, model.state_dict()[name]) for name, x in before.items())
    assert unrolled.neuron_names == model.neuron_names
    again = unrolled.fuse(), unrolled.unrolled()
    cube = cubes(2)
    with torch.inference_mode():
        expected, _ = unrolled(cube)
        for other in again:
            found, _ = other(cube)
            assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_other_neurons_are_binary_already():
    with pytest.raises(ConfigError, match=r"neuron\.kind='plif'.*fuse\(\)"):
        tiny_detector().unrolled()

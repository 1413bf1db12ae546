"""Every variant of the network computes, learns, fuses and stays binary where it should."""

import warnings

import pytest
import torch
from calibrated import calibrated, equal_states, random_cube, spikes_of
from torch import nn

from spiking_centernet.errors import ConfigError
from spiking_centernet.model import build
from spiking_centernet.model.config import NeuronConfig
from spiking_centernet.model.context import ForwardContext
from spiking_centernet.model.decoder import DecoderBlock
from spiking_centernet.model.layers import ConvNeuron
from spiking_centernet.model.neurons import make_neuron
from spiking_centernet.model.variants import Join, Residual, TransposedConvNeuron, combine
from spiking_centernet.structures import Boxes

SMALL = {"encoder.widths": (8, 8, 16), "encoder.convs_per_stage": 3, "decoder.num_blocks": 2, "head.width": 8}
VARIANTS = [
    {"decoder.skips": "or"},
    {"decoder.skips": "none"},
    {"decoder.skips": "add"},
    {"decoder.kind": "inner"},
    {"decoder.kind": "inner", "decoder.skips": "or"},
    {"decoder.kind": "transposed"},
    {"decoder.kind": "transposed", "decoder.skips": "none"},
    {"decoder.kind": "transposed", "decoder.skips": "add"},
    {"encoder.identity": True},
    {"head.kind": "ssd"},
    {"head.kind": "ssd", "encoder.identity": True, "decoder.skips": "add", "decoder.num_blocks": 1},
    {"neuron.kind": "lif", "neuron.soft_reset": True, "neuron.surrogate": "rectangle"},
    {"voxels.mode": "count"},
]
BINARY = [v for v in VARIANTS if v.get("decoder.skips") != "add" and not v.get("encoder.identity")]


def each(variants):
    return pytest.mark.parametrize("changes", variants, ids=lambda v: ",".join(f"{k}={x}" for k, x in v.items()))


@pytest.fixture
def cube():
    return random_cube((37, 50), num_steps=3, batch=2)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("concat", [0, 0, 1, 1, 0, 1, 0, 1]), ("or", [0, 1, 1, 1]), ("add", [0, 1, 1, 2]), ("none", [0, 0, 1, 1])],
)
def test_combining_spikes_in_closed_form(kind, expected):
    x = torch.tensor([0.0, 0, 1, 1]).view(1, 4, 1, 1)
    skip = torch.tensor([0.0, 1, 0, 1]).view(1, 4, 1, 1)
    assert combine(kind, x, skip).flatten().tolist() == expected


@pytest.mark.slow
@each(VARIANTS)
def test_every_variant_learns(cube, changes):
    torch.manual_seed(0)
    model = build("nano", **(SMALL | changes)).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 2.0)
    boxes = [Boxes(torch.tensor([[6.0, 4.0, 30.0, 28.0]]).numpy(), torch.ones(1, dtype=torch.int64).numpy())] * 2
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(6):
        output, _ = model(cube, keep_state=False)
        loss = model.head.loss(output, boxes).total
        optimizer.zero_grad()
        loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())
        assert model.encoder.stem.conv.weight.grad.abs().max() > 0
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[1:]) < losses[0]


@each(VARIANTS)
def test_layers_are_observed_in_the_order_of_their_names(cube, changes):
    model = calibrated("nano", cube, **(SMALL | changes))
    _, spikes = spikes_of(model, cube)
    widths = {n: m.conv.out_channels for n, m in model.named_modules() if isinstance(m, ConvNeuron)}
    assert {n: s.shape[1] for n, s in spikes.items()} == widths
    assert all(0 < float(s.mean()) < 1 for s in spikes.values())


@each(VARIANTS)
def test_fused_variants_equal_the_plain_ones_step_by_step(cube, changes):
    # ReLU twins, because one spike more or less would change everything after it.
    model = calibrated("nano", cube, **(SMALL | changes | {"neuron.kind": "relu"}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fused = model.fuse()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    with torch.no_grad():
        (a, _), (b, _) = model(cube), fused(cube)
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-3)


@each([v for v in VARIANTS if v.get("decoder.kind")])
def test_a_decoder_that_cannot_merge_says_so(cube, changes):
    model = build("nano", **(SMALL | changes))
    with pytest.warns(UserWarning, match="cannot be merged"):
        model.fuse()


@each([v for v in VARIANTS if not v.get("decoder.kind")])
def test_a_decoder_that_merges_is_silent(changes):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fused = build("nano", **(SMALL | changes)).fuse()
    assert [m.kernel_size for m in fused.decoder.blocks[0].project.modules() if isinstance(m, nn.Conv2d)] == [(3, 3)]


@each(BINARY)
def test_only_spikes_travel(cube, changes):
    model = calibrated("nano", cube, **(SMALL | changes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fused = model.fuse()
    seen = {}
    for name, module in fused.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_pre_hook(
                lambda _, args, n=name: seen.__setitem__(n, set(args[0].unique().tolist()))
            )
    fused(cube)
    assert seen
    assert all(values <= {0.0, 1.0} for values in seen.values()), seen


@each([{"decoder.skips": "add"}, {"encoder.identity": True}])
def test_sums_of_spikes_are_whole_numbers_but_not_binary(cube, changes):
    model = calibrated("nano", cube, **(SMALL | changes))
    inputs = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    with torch.no_grad():
        model(cube)
    assert max(float(x.max()) for x in inputs) > 1
    assert all(torch.equal(x, x.round()) for x in inputs[:4])


def test_the_state_is_carried_through_variants(cube):
    for changes in (
        {"decoder.skips": "or", "encoder.identity": True},
        {"decoder.kind": "transposed"},
        {"head.kind": "ssd"},
    ):
        model = calibrated("nano", cube, **(SMALL | changes))
        with torch.no_grad():
            _, whole = model(cube)
            state = None
            for step in cube:
                _, state = model(step[None], state)
        assert list(whole) == model.neuron_names
        assert equal_states(whole, state)


def test_skips_leave_hidden_and_output_channels_alone():
    def neuron():
        return make_neuron(NeuronConfig())

    plain = DecoderBlock(12, 6, 0.5, neuron)
    for kind in ("or", "add", "none"):
        block = DecoderBlock(12, 6, 0.5, neuron, Join(kind, 12, 6, neuron))
        assert block.out_channels == plain.out_channels == 9
        assert block.filter.weight.shape == plain.filter.weight.shape
        assert block.expand.in_channels == (12 if kind == "none" else 6)


def test_a_residual_of_one_convolution_in_closed_form():
    block = ConvNeuron(nn.Conv2d(1, 1, 1), None, make_neuron(NeuronConfig(kind="relu")))
    nn.init.constant_(block.conv.weight, 2.0)
    nn.init.constant_(block.conv.bias, 0.5)
    x = torch.tensor([0.0, 1.0, 3.0]).view(1, 1, 1, 1, 3)
    y = Residual([block], lambda: make_neuron(NeuronConfig(kind="relu")))(x, ForwardContext())
    assert y.flatten().tolist() == [0.5, 3.5, 9.5]


def test_a_transposed_convolution_doubles_the_size_and_folds_exactly():
    torch.manual_seed(0)
    block = TransposedConvNeuron(3, 5, lambda: make_neuron(NeuronConfig(kind="relu"))).eval()
    for tensor in (block.norm.weight, block.norm.running_var):
        nn.init.uniform_(tensor, 0.5, 2)
    for tensor in (block.norm.bias, block.norm.running_mean):
        nn.init.uniform_(tensor, -1, 1)
    x = torch.rand(2, 1, 3, 4, 5)
    a, b = block(x, ForwardContext()), block.fused()(x, ForwardContext())
    assert a.shape == (2, 1, 5, 8, 10)
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"decoder.skips": "concatenate"}, "did you mean 'concat'"),
        ({"decoder.kind": "iner"}, "did you mean 'inner'"),
        ({"head.kind": "sdd"}, "did you mean 'ssd'"),
        ({"voxels.mode": "counts"}, "did you mean 'count'"),
    ],
)
def test_unknown_variants_are_refused(changes, told):
    with pytest.raises(ConfigError, match=told):
        build("nano", **changes)

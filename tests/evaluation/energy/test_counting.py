"""Counts against a brute-force walk over every pair, and closed forms."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_detector
from torch import nn

from spiking_centernet.errors import ConfigError, NotSpikingError
from spiking_centernet.evaluation.energy import count_ops, require_fully_spiking
from spiking_centernet.evaluation.energy.counting import OperationCounter, active_counts, pairs
from spiking_centernet.model import build
from spiking_centernet.model.neurons import PLIF


def brute_force(conv: nn.Conv2d, x: np.ndarray, *, pruned: bool = False) -> int:
    """Walk over every output and every tap, as the definition of a convolution says."""
    weight = conv.weight.detach().numpy()
    out_channels, in_per_group, kernel_h, kernel_w = weight.shape
    (stride_y, stride_x), (pad_y, pad_x), (step_y, step_x) = conv.stride, conv.padding, conv.dilation
    num, _, height, width = x.shape
    out_h = (height + 2 * pad_y - step_y * (kernel_h - 1) - 1) // stride_y + 1
    out_w = (width + 2 * pad_x - step_x * (kernel_w - 1) - 1) // stride_x + 1
    met = 0
    for n, o, oy, ox in itertools.product(range(num), range(out_channels), range(out_h), range(out_w)):
        first = o // (out_channels // conv.groups) * in_per_group
        for c, ky, kx in itertools.product(range(in_per_group), range(kernel_h), range(kernel_w)):
            y, x_at = oy * stride_y - pad_y + ky * step_y, ox * stride_x - pad_x + kx * step_x
            if 0 <= y < height and 0 <= x_at < width and x[n, first + c, y, x_at]:
                met += not pruned or weight[o, c, ky, kx] != 0
    return met


@st.composite
def convolutions(draw):
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    least = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    size_hw = tuple(draw(st.integers(n, n + 4)) for n in least)
    conv = nn.Conv2d(
        groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2)), kernel,
        stride=draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        padding=draw(st.tuples(st.integers(0, 2), st.integers(0, 2))), dilation=dilation, groups=groups,
    )  # fmt: skip
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    with torch.no_grad():
        conv.weight.mul_(torch.from_numpy(rng.random(conv.weight.shape) < 0.6))
    x = (rng.random((2, conv.in_channels, *size_hw)) < draw(st.floats(0, 1))).astype(np.float32)
    return conv, x


@given(convolutions())
@settings(max_examples=40, deadline=None)
def test_pairs_are_those_of_a_brute_force_count(case):
    conv, x = case
    active = (x != 0).sum(0)
    assert pairs(conv, active) == brute_force(conv, x)
    assert pairs(conv, active, pruned=True) == brute_force(conv, x, pruned=True)


@settings(max_examples=30, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    extra=st.integers(0, 1),
    dilation=st.integers(1, 2),
    groups=st.integers(1, 2),
    seed=st.integers(0, 1000),
)
def test_pairs_of_a_transposed_convolution_are_those_of_torch(kernel, stride, padding, extra, dilation, groups, seed):
    rng = np.random.default_rng(seed)
    # torch takes extra outputs only where stride or dilation leave room for them.
    extra = extra if max(min(stride), dilation) > 1 else 0
    conv = nn.ConvTranspose2d(
        2 * groups, 3 * groups, kernel, stride=stride, padding=padding, output_padding=extra, dilation=dilation,
        groups=groups,
    ).double()  # fmt: skip
    x = torch.from_numpy((rng.random((2, 2 * groups, 5, 6)) < 0.4).astype(np.float64))
    active = x.sum(0).numpy().astype(np.int64)
    weight = torch.from_numpy((rng.random(conv.weight.shape) < 0.6).astype(np.float64))
    with torch.no_grad():
        for pruned in (True, False):
            conv.weight.copy_(weight if pruned else torch.ones_like(weight))
            expected = nn.functional.conv_transpose2d(
                x, conv.weight, None, stride, padding, extra, groups=groups, dilation=dilation
            )
            assert pairs(conv, active, pruned=pruned) == int(expected.sum())


@pytest.mark.parametrize(
    ("padding", "stride", "expected"),
    [(0, 1, 9), (1, 1, 49), ("same", 1, 49), ("valid", 1, 9), (1, 2, 16), (2, 1, 81)],
)
def test_the_border_in_closed_form(padding, stride, expected):
    # 3 x 3 inputs, 3 x 3 kernel: by rows 1, (2 + 3 + 2), and so on, squared.
    conv = nn.Conv2d(1, 1, 3, stride=stride, padding=padding)
    assert pairs(conv, np.ones((1, 3, 3), np.int64)) == expected


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("kernel", [(2, 2), (4, 3), (1, 5)])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_same_padding_of_even_kernels_is_torchs(kernel, dilation):
    conv = nn.Conv2d(2, 2, kernel, padding="same", dilation=dilation, bias=False).double()
    x = (torch.rand(3, 2, 7, 9, generator=torch.Generator().manual_seed(0)) < 0.4).double()
    with torch.no_grad():
        expected = int(nn.functional.conv2d(x, torch.ones_like(conv.weight), padding="same", dilation=dilation).sum())
    assert pairs(conv, x.sum(0).numpy().astype(np.int64)) == expected


def test_no_spike_no_pair():
    assert pairs(nn.Conv2d(2, 3, 3), np.zeros((2, 5, 5), np.int64)) == 0


def test_padding_that_repeats_inputs_is_refused():
    with pytest.raises(ConfigError, match="'circular'"):
        pairs(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), np.ones((1, 3, 3), np.int64))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("value", "binary"), [(1.0, True), (0.5, False), (-1.0, False), (float("nan"), False), (float("inf"), False)]
)
def test_active_counts_in_any_layout(layout, value, binary):
    x = (torch.rand(6, 3, 4, 5, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    x[3, 1, 2, 2] = 1
    x = torch.where(x == 1, value, 0.0).contiguous(memory_format=layout)
    counts, found = active_counts(x)
    assert found is binary
    assert torch.equal(counts, (x != 0).sum(0).float())


def spikes(*shape, rate=0.2, seed=0):
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < rate).to(torch.uint8)


@pytest.mark.parametrize("neuron", ["plif", "relu"])
@pytest.mark.parametrize("fused", [False, True])
def test_a_whole_detector_is_counted_to_the_last_unit(neuron, fused):
    model = tiny_detector(neuron={"kind": neuron})
    model = model.fuse() if fused else model
    cube = spikes(2, 1, 4, 19, 23)
    ops = count_ops(model, cube)
    inputs = {}
    handles = [
        m.register_forward_hook(lambda _, i, o, name=name: inputs.__setitem__(name, (i[0], o)))
        for name, m in model.named_modules()
        if isinstance(m, nn.Conv2d)
    ]
    with torch.no_grad():
        model(cube)
    for handle in handles:
        handle.remove()
    convs = dict(model.named_modules())
    assert [c.name for c in ops.convolutions] == list(inputs)
    for layer in ops.convolutions:
        x, out = inputs[layer.name]
        conv = convs[layer.name]
        # The definition by PyTorch's own convolution, in float64, which holds these sums exactly.
        ones = torch.ones_like(conv.weight, dtype=torch.float64)
        args = (None, conv.stride, conv.padding, conv.dilation, conv.groups)
        assert layer.synaptic == int(nn.functional.conv2d((x != 0).double(), ones, *args).sum())
        assert layer.dense == int(nn.functional.conv2d(torch.ones_like(x).double(), ones, *args).sum())
        assert layer.padded == out.numel() * conv.weight[0].numel()
        assert (layer.inputs, layer.active) == (x.numel(), int((x != 0).sum()))
    assert ops.synaptic == sum(c.synaptic for c in ops.convolutions) > 0
    assert (ops.num_windows, ops.num_steps) == (1, 2)


@pytest.mark.filterwarnings("ignore:the decoder")
@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({"decoder.kind": "transposed"}, None), ({"decoder": {"kind": "inner", "skips": "or"}}, None),
        ({"head.kind": "ssd"}, None), ({"head.kind": "pyramid"}, None),
        ({"decoder.skips": "add"}, "decoder.blocks.0.project.conv"),
        ({"encoder.identity": True}, "encoder.stages.1.0.blocks.0.conv"),
    ],
)  # fmt: skip
def test_variants_are_counted_and_sums_of_spikes_told(changes, first):
    model = tiny_detector(**changes).fuse()
    ops = count_ops(model, spikes(2, 1, 4, 37, 50))
    convs = {n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)}
    assert {c.name for c in ops.convolutions} == convs
    assert [n.name for n in ops.neurons] == model.neuron_names
    assert all(0 < c.synaptic < c.dense <= c.padded for c in ops.convolutions)
    assert ops.first_not_binary == first


def test_counting_leaves_the_detector_alone_and_does_not_depend_on_batches():
    model = tiny_detector().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    attributes = {name: set(vars(m)) for name, m in model.named_modules()}
    cube = spikes(3, 4, 4, 20, 24)
    whole = count_ops(model, cube)
    assert whole == count_ops(model, [cube[:, :1], cube[:, 1:3], cube[:, 3:]])
    assert model.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert attributes == {name: set(vars(m)) for name, m in model.named_modules()}
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_memory_does_not_grow_with_what_is_counted():
    counter = OperationCounter(tiny_detector().fuse())

    def held():
        tallies = [*counter._conv_tallies.values(), *counter._neuron_tallies.values()]
        return sum(tally.active.nbytes for tally in tallies), counter._last

    counter(spikes(2, 1, 4, 16, 16))
    first = held()
    for seed in range(4):
        counter(spikes(2, 3, 4, 16, 16, seed=seed))
    assert held() == first
    assert counter.result().num_windows == 13


def test_neurons_in_closed_form():
    model = tiny_detector().fuse()
    with torch.no_grad():
        model.encoder.stem.conv.bias.fill_(-100.0)
        model.encoder.stem.conv.bias[0] = 100.0
    ops = count_ops(model, spikes(2, 3, 4, 16, 16))
    stem = ops.neurons[0]
    places = 8 * 8
    assert (stem.name, stem.neurons, stem.updates) == ("encoder.stem", 8 * places, 6 * 8 * places)
    assert (stem.spikes, stem.dead, stem.saturated) == (6 * places, 7 * places, places)
    assert stem.rate == 1 / 8
    assert (stem.dead_share, stem.saturated_share) == (7 / 8, 1 / 8)
    assert (stem.multiplies, stem.adds) == (1, 1)
    assert [n.name for n in ops.neurons] == model.neuron_names


@pytest.mark.parametrize(("neuron", "costs"), [("plif", (1, 1)), ("lif", (1, 1)), ("if", (0, 1)), ("relu", (0, 0))])
def test_what_an_update_costs(neuron, costs):
    layer = count_ops(tiny_detector(neuron={"kind": neuron}), spikes(1, 1, 4, 16, 16)).neurons[0]
    assert (layer.multiplies, layer.adds) == costs


def test_the_merged_spiking_network_passes_the_audit():
    ops = count_ops(tiny_detector().fuse(), spikes(2, 2, 4, 32, 32))
    assert ops.fully_spiking
    require_fully_spiking(ops)


@pytest.mark.parametrize(
    ("model", "cube", "layer"),
    [
        (tiny_detector(neuron={"kind": "relu"}).fuse(), spikes(2, 1, 4, 32, 32), "encoder.stages.0.0.conv"),
        (tiny_detector(), spikes(2, 1, 4, 32, 32), "decoder.blocks.0.filter"),
        (tiny_detector().fuse(), spikes(2, 1, 4, 32, 32) * 0.5, "encoder.stem.conv"),
    ],
)
def test_the_audit_names_the_first_layer_that_fails(model, cube, layer):
    ops = count_ops(model, cube)
    assert ops.first_not_binary == layer
    with pytest.raises(NotSpikingError, match=f"^{layer} receives values other than 0 and 1"):
        require_fully_spiking(ops)


def test_half_a_spike_fails_the_audit(monkeypatch):
    whole = PLIF.forward

    def half(self, x, v=None):
        spikes, v = whole(self, x, v)
        return spikes * 0.5, v

    monkeypatch.setattr(PLIF, "forward", half)
    assert count_ops(tiny_detector().fuse(), spikes(2, 1, 4, 32, 32)).first_not_binary == "encoder.stages.0.0.conv"


@pytest.mark.parametrize("preset", ["nano", "small", "paper"])
def test_every_preset_is_counted(preset):
    model = build(preset)
    ops = count_ops(model, spikes(1, 1, 4, 32, 32))
    assert len(ops.neurons) == len(model.neuron_names)
    assert len(ops.convolutions) == sum(isinstance(m, nn.Conv2d) for m in model.modules())


def test_nothing_counted_is_refused():
    with pytest.raises(ConfigError, match="no window was counted"):
        count_ops(tiny_detector(), [])
    with pytest.raises(ConfigError, match="no window was counted"):
        count_ops(tiny_detector(), spikes(2, 0, 4, 16, 16))
    with pytest.raises(ConfigError, match="at least one time step"):
        count_ops(tiny_detector(), spikes(0, 1, 4, 16, 16))


def test_an_empty_batch_between_others_changes_nothing():
    cube = spikes(2, 1, 4, 16, 16)
    assert count_ops(tiny_detector(), [cube, cube[:, :0]]) == count_ops(tiny_detector(), cube)


def test_windows_of_another_kind_are_refused():
    with pytest.raises(ConfigError, match="windows of 2 steps were counted, these have 3"):
        count_ops(tiny_detector(), [spikes(2, 1, 4, 16, 16), spikes(3, 1, 4, 16, 16)])
    with pytest.raises(ConfigError, match=r"encoder\.stem.*count recordings of different sensors apart"):
        count_ops(tiny_detector(), [spikes(2, 1, 4, 16, 16), spikes(2, 1, 4, 16, 20)])

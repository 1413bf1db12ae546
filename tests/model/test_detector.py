import dataclasses

import jaxtyping
import pytest
import torch
from calibrated import calibrated, equal_states, potentials, random_cube, spikes_of
from jaxtyping import TypeCheckError
from torch import nn

from spiking_centernet.errors import ConfigError
from spiking_centernet.model import PRESETS, DetectorConfig, build
from spiking_centernet.model.config import NeuronConfig
from spiking_centernet.model.context import ForwardContext
from spiking_centernet.model.decoder import DecoderBlock
from spiking_centernet.model.heads.center_targets import make_targets
from spiking_centernet.model.heads.centernet import centernet_loss
from spiking_centernet.model.layers import ConvNeuron
from spiking_centernet.model.neurons import make_neuron
from spiking_centernet.structures import Boxes

DETECTORS = sorted(name for name, config in PRESETS.items() if not config.classifies)
FIELDS = ("heatmap", "wh", "offset")


def num_parameters(model):
    return sum(p.numel() for p in model.parameters())


def assert_same(a, b):
    for name in FIELDS:
        assert torch.equal(getattr(a, name), getattr(b, name)), name


def test_the_papers_network_has_the_papers_size():
    assert num_parameters(build("paper")) == 12_973_788


def test_nano_is_small():
    assert num_parameters(build("nano")) <= 800_000


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow) if name == "paper" else name for name in DETECTORS],
)
def network(request):
    cube = random_cube()
    return calibrated(request.param, cube), cube


def test_every_layer_of_the_test_networks_fires(network):
    model, cube = network
    _, spikes = spikes_of(model, cube)
    rates = {name: float(s.mean()) for name, s in spikes.items()}
    assert all(0.05 < rate < 0.3 for rate in rates.values()), rates


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_five_steps_in_one_call_equal_five_calls_of_one_step(network, fused):
    model, cube = network
    model = model.fuse() if fused else model
    with torch.no_grad():
        whole, state = model(cube)
        parts, carried = [], None
        for step in cube:
            out, carried = model(step[None], carried)
            parts.append(out)
    assert list(state) == model.neuron_names
    assert equal_states(state, carried)
    for name in FIELDS:
        steps = torch.cat([getattr(p, name) for p in parts]).contiguous(memory_format=torch.channels_last)
        # In the network's own memory layout, because the order in which a mean adds up depends on it.
        assert torch.equal(getattr(whole, name), steps.unflatten(0, (len(cube), -1)).mean(0)), name


def test_the_state_matters_and_is_not_changed(network):
    model, cube = network
    with torch.no_grad():
        first, state = model(cube)
        before = {name: v.clone() for name, v in state.items()}
        second, _ = model(cube, state)
        again, _ = model(cube)
    assert equal_states(state, before)
    assert_same(first, again)
    assert not torch.equal(first.heatmap, second.heatmap)


def test_permuting_the_batch_permutes_the_output(network):
    model, cube = network
    with torch.no_grad():
        out, _ = model(cube)
        swapped, _ = model(cube.flip(1))
    for name in FIELDS:
        assert torch.equal(getattr(out, name).flip(0), getattr(swapped, name)), name
    assert not torch.equal(out.heatmap[0], out.heatmap[1])


def test_reversing_time_changes_the_output(network):
    model, cube = network
    with torch.no_grad():
        out, _ = model(cube)
        reversed_, _ = model(cube.flip(0))
    assert (out.heatmap - reversed_.heatmap).abs().max() > 1e-2


@pytest.mark.parametrize(("preset", "stride"), [("paper", 8), ("small", 4), ("nano", 4)])
@pytest.mark.parametrize("size_hw", [(240, 304), (33, 65), (1, 1)], ids=str)
def test_sizes_that_do_not_divide_by_32(preset, stride, size_hw):
    model = build(preset).eval()
    assert model.config.stride == stride
    with torch.no_grad():
        out, _ = model(random_cube(size_hw, num_steps=1, batch=1))
    expected = tuple(-(-s // stride) for s in size_hw)
    assert out.heatmap.shape == (1, 2, *expected)
    assert out.wh.shape == out.offset.shape == (1, 2, *expected)


def test_no_events_is_an_answer_without_objects():
    model = calibrated("nano", random_cube())
    with torch.no_grad():
        out, _ = model(torch.zeros(5, 1, 4, 40, 48, dtype=torch.uint8))
    assert all(torch.isfinite(getattr(out, name)).all() for name in FIELDS)


@pytest.mark.parametrize("preset", DETECTORS)
def test_the_ann_twin_has_the_same_parameters_apart_from_the_time_constants(preset):
    snn = {k: v.shape for k, v in build(preset).named_parameters() if not k.endswith("neuron.w")}
    ann = {k: v.shape for k, v in build(preset, neuron={"kind": "relu"}).named_parameters()}
    assert ann == snn


def test_the_ann_twin_fuses_too():
    cube = random_cube()
    model = calibrated("nano", cube, neuron={"kind": "relu"})
    (a, state), (b, _) = model(cube), model.fuse()(cube)
    assert state == {}
    for name in FIELDS:
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-4, atol=1e-4)


def blocks_of(model):
    """Return name -> every block that ends in a neuron, plain or fused, in the order in which they compute."""
    found = {"encoder.stem": model.encoder.stem}
    for i, stage in enumerate(model.encoder.stages):
        found |= {f"encoder.stages.{i}.{j}": block for j, block in enumerate(stage)}
    found |= {f"decoder.blocks.{i}": block for i, block in enumerate(model.decoder.blocks)}
    return found | {f"heads.{name}": head.block for name, head in model.heads.items()}


def neuron_of(block):
    return block.neuron if isinstance(block, ConvNeuron) else block.project.neuron


@pytest.mark.slow
def test_a_state_belongs_to_its_network_and_cube(network):
    model, cube = network
    cube, fused = cube[:2], model.fuse()
    with torch.no_grad():
        _, state = model(cube)
        some = {"encoder.stages.0.1": state["encoder.stages.0.1"]}
        zeros = {name: torch.zeros_like(v) for name, v in state.items()}
        assert equal_states(model(cube, some)[1], model(cube, zeros | some)[1])
        assert not equal_states(model(cube, some)[1], model(cube)[1])
        assert torch.equal(fused(cube, state)[0].wh, fused(cube, dict(reversed(state.items())))[0].wh)
        for other in (cube[:, :1], cube[..., :-8]):
            with pytest.raises(ConfigError, match=r"the state of encoder\.stem is .*; start a cube of another size"):
                model(other, state)
        with pytest.raises(ConfigError, match=r"membrane of 'encoder\.root', but this network has no such"):
            model(cube, {"encoder.root": state["encoder.stem"]})
    ann = build("nano", neuron={"kind": "relu"})
    with pytest.raises(ConfigError, match="no such spiking layer"):
        ann(cube, some)


def test_a_state_that_is_no_dict_is_refused():
    jaxtyping.config.update("jaxtyping_disable", True)  # the checks of annotations would refuse it first
    try:
        with pytest.raises(ConfigError, match="a state is a dict of membranes by layer name, got a list"):
            build("nano")(random_cube((32, 32)), [torch.zeros(1, 16, 16, 16)])
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.filterwarnings("ignore:the decoder 'inner'")
@pytest.mark.parametrize("changes", [{}, {"decoder.kind": "inner", "decoder.skips": "or", "encoder.identity": True}])
def test_a_layer_is_named_by_its_path_fused_or_not(changes):
    model = build("nano", **changes)
    for some in (model, model.fuse()):
        modules = dict(some.named_modules())
        assert [modules[name].name for name in some.neuron_names] == model.neuron_names
    assert len(set(model.neuron_names)) == len(model.neuron_names)


def test_fusing_changes_no_spike_away_from_the_threshold(network):
    """Layer by layer on the reference's own inputs, because one spike more changes everything after it."""
    model, cube = network
    fused = model.fuse()
    plain, merged = blocks_of(model), blocks_of(fused)
    assert len(plain) == len(model.neuron_names)
    seen = {}
    hooks = []
    for name, block in plain.items():

        def keep_block(_, args, output, name=name):
            seen[name] = [args[:-1], output, None]

        hooks += [block.register_forward_hook(keep_block)]
    inputs = {}
    for name, block in plain.items():

        def keep_input(_, args, name=name):
            inputs[name] = args[0]

        hooks += [neuron_of(block).register_forward_pre_hook(keep_input)]
    with torch.no_grad():
        model(cube)
    for hook in hooks:
        hook.remove()
    with torch.no_grad():
        for name, (args, spikes, _) in seen.items():
            ours = merged[name](*args, ForwardContext())
            h = potentials(inputs[name], neuron_of(plain[name]))
            differ = ours != spikes
            assert ((h - 1).abs()[differ] < 1e-5).all(), name
            assert differ.float().mean() < 1e-4, name


@pytest.mark.slow
def test_fused_outputs_are_within_1e_4_where_all_spikes_agree():
    agree = 0
    for seed in range(5):
        cube = random_cube((61, 83), batch=1, seed=seed)
        model = calibrated("nano", cube, seed=seed)
        a, spikes_a = spikes_of(model, cube)
        b, spikes_b = spikes_of(model.fuse(), cube)
        if all(torch.equal(x, y) for x, y in zip(spikes_a.values(), spikes_b.values(), strict=True)):
            agree += 1
            for name in FIELDS:
                torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0, atol=1e-4)
    assert agree >= 3


def test_fusing_leaves_the_network_alone_and_twice_is_once():
    cube = random_cube((33, 40), batch=1)
    model = calibrated("nano", cube)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fused = model.fuse()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    assert_same(fused(cube)[0], fused.fuse()(cube)[0])
    assert fused.neuron_names == model.neuron_names != []


@pytest.mark.parametrize(("expansion", "channels"), [(0.15, (24, 16)), (0.5, (7, 5)), (1.0, (3, 1))])
def test_the_merged_decoder_block_is_exact_to_the_border(expansion, channels):
    torch.manual_seed(0)
    block = DecoderBlock(*channels, expansion, lambda: make_neuron(NeuronConfig(kind="plif"))).eval()
    for norm in (block.expand_norm, block.filter_norm, block.project.norm):
        for tensor in (norm.weight, norm.running_var):
            nn.init.uniform_(tensor, 0.5, 2)
        for tensor in (norm.bias, norm.running_mean):
            nn.init.uniform_(tensor, -1, 1)
    fused = block.fused()
    assert fused.project.conv.weight.shape == (sum(channels) // 2, sum(channels), 3, 3)
    block, fused = block.double(), fused.double()
    x, skip = torch.rand(2, 1, channels[0], 4, 5).double(), torch.rand(2, 1, channels[1], 7, 10).double()
    inputs = []
    for neuron in (block.project.neuron, fused.project.neuron):
        neuron.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    block(x, skip, ForwardContext())
    count = len(inputs)
    fused(x, skip, ForwardContext())
    torch.testing.assert_close(inputs[0], inputs[count], rtol=0, atol=1e-5)
    assert inputs[0].std() > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("preset", DETECTORS)
def test_every_convolution_of_the_fused_network_receives_spikes_only(preset):
    cube = random_cube((61, 83), batch=1)
    fused = calibrated(preset, cube).fuse()
    seen = {}

    def look(name):
        return lambda _, args: seen.__setitem__(name, set(args[0].unique().tolist()))

    for name, module in fused.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(look(name))
    fused(cube)
    assert len(seen) == len(fused.neuron_names) + 3
    assert all(values == {0.0, 1.0} for values in seen.values()), seen


def test_observing_names_every_layer_in_order():
    model = calibrated("nano", random_cube())
    _, spikes = spikes_of(model, random_cube())
    names = list(spikes)
    assert (names[0], names[-1]) == ("encoder.stem", "heads.offset.block")
    assert len(names) == 1 + 16 + 3 + 3
    widths = {n: m.conv.out_channels for n, m in model.named_modules() if isinstance(m, ConvNeuron)}
    assert {n: s.shape[1] for n, s in spikes.items()} == widths


@pytest.mark.slow
@pytest.mark.thorough
def test_the_papers_network_trains_and_evaluates_one_step():
    torch.manual_seed(0)
    cube = random_cube((240, 304), batch=1)
    model = build("paper").train()
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.constant_(m.weight, 2.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    xyxy = torch.tensor([[40.0, 60.0, 120.0, 110.0]]).numpy()
    targets = make_targets([Boxes(xyxy, torch.zeros(1, dtype=torch.int64).numpy())],
                           num_classes=2, size_hw=(30, 38), stride=8)  # fmt: skip
    output, _ = model(cube, keep_state=False)
    centernet_loss(output, targets).total.backward()
    for name, p in model.named_parameters():
        assert torch.isfinite(p.grad).all(), name
        assert p.ndim < 4 or p.grad.abs().max() > 0, name
    optimizer.step()
    with torch.no_grad():
        output, _ = model.eval().fuse()(cube)
    assert output.heatmap.shape == (1, 2, 30, 38)
    assert torch.isfinite(output.heatmap).all()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"voxels.num_steps": 0}, "num_steps must be at least 1"),
        ({"voxels.bins": 0}, "bins must be at least 1"),
        ({"head.width": -1}, "head.width must be at least 1"),
        ({"classes": ()}, "one or more different names"),
        ({"classes": ("car", "car")}, "one or more different names"),
        ({"encoder.widths": (8,)}, "two or more"),
        ({"encoder.widths": (8, 0)}, "two or more positive"),
        ({"decoder.num_blocks": 4}, r"0\.\.3"),
        ({"decoder.expansion": 0.0}, "decoder.expansion must be positive"),
        ({"neuron.kind": "plfi"}, "unknown neuron.kind 'plfi'; did you mean 'plif'"),
        ({"neuron": "plif"}, "neuron must map settings to values, got 'plif'; did you mean 'neuron.kind'"),
        ({"neuron.surrogate": "sigmoyd"}, "did you mean 'sigmoid'"),
        ({"neuron.tau": 1.0}, "tau must be above 1"),
        ({"neuron.threshold": 0.0}, "threshold must be positive"),
        ({"head.widht": 3}, "unknown network setting 'head.widht'; did you mean 'head.width'"),
        ({"head": {"widht": 3}}, "unknown network setting 'head.widht'; did you mean 'head.width'"),
        ({"head_width": 3}, "did you mean 'head.width'"),
        ({"skipz": 3}, "did you mean 'decoder.skips'"),
        ({"head.width": "3"}, "head.width must be int, got '3'"),
    ],
)
def test_impossible_networks_are_refused(changes, told):
    with pytest.raises(ConfigError, match=told):
        build("nano", **changes)


def test_an_unknown_preset_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'nano'"):
        build("nanno")


@pytest.mark.parametrize("shape", [(5, 4, 24, 32), (5, 1, 3, 24, 32), (4, 24, 32)], ids=str)
def test_cubes_of_another_shape_are_refused(shape):
    with pytest.raises(ConfigError, match=r"takes cubes \[T, B, 4, H, W\]"):
        build("nano")(torch.zeros(shape))


def test_shapes_are_checked_while_the_tests_run():
    with pytest.raises(TypeCheckError, match="parameter 'v'"):
        make_neuron(NeuronConfig(kind="plif"))(torch.zeros(2, 1, 3, 4, 4), torch.zeros(1, 3, 4, 5))


def test_a_configuration_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DetectorConfig().neuron.tau = 3.0

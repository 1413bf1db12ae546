"""A memory behind the decoder: it begins silent, holds and erases, its state travels, and it costs what is counted."""

import math

import pytest
import torch
from dyadic import dyadic
from tiers import thorough
from tiny import FEW_LAYERS, tiny_detector

import spiking_centernet as scn
from spiking_centernet.deploy.engine import compile
from spiking_centernet.deploy.export import check, export_detector
from spiking_centernet.deploy.export.contract import contract_of, mean_heads, run_window
from spiking_centernet.deploy.export.exporting import run
from spiking_centernet.deploy.export.nir import nir_graph
from spiking_centernet.errors import ConfigError, ExportError, WeightsError
from spiking_centernet.evaluation.energy.counting import count_ops, require_fully_spiking
from spiking_centernet.model.config import RecurrentConfig
from spiking_centernet.model.context import ForwardContext
from spiking_centernet.model.graph import graph_of
from spiking_centernet.model.operations import synaptic_operations
from spiking_centernet.model.recurrent import GatedMemory
from spiking_centernet.model.weights import save

GATED = {"recurrent.kind": "gated"}
CHANNELS = 3


def noise(steps=5, batch=2, seed=0, size_hw=(64, 64)):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(steps, batch, 4, *size_hw, generator=generator) < 0.1).to(torch.uint8)


def memory(*, drive=2.0, **settings):
    """Return a memory that is written by its own channel alone, and writes if ``drive`` is above the threshold 1."""
    module = GatedMemory(CHANNELS, RecurrentConfig(kind="gated", **settings), threshold=1.0, surrogate="atan")
    module.name = "recurrent"
    own = torch.arange(CHANNELS)
    with torch.no_grad():
        module.conv.weight[own, own, 1, 1] = drive
    return module


def shown(module, x):
    context = ForwardContext()
    with torch.no_grad():
        return module(x, context), context.new_state["recurrent"]


def test_with_a_memory_added_a_network_answers_as_before():
    plain = tiny_detector()
    model = tiny_detector(**GATED)
    model.load_state_dict(plain.state_dict(), strict=False)
    ours, theirs = model(noise()), plain(noise())
    assert all(torch.equal(a, b) for a, b in zip(ours[0], theirs[0], strict=True))
    assert ours[1].keys() - theirs[1].keys() == {"recurrent"}
    assert model.neuron_names.index("recurrent") == model.neuron_names.index("heads.heatmap.block") - 1


def test_what_was_seen_stays_while_nothing_comes_and_only_there():
    x = torch.zeros(60, 1, CHANNELS, 6, 6)
    x[:10, 0, 1, 2, 3] = 1
    y, _ = shown(memory(), x)
    assert y[9:, 0, 1, 2, 3].all()
    assert y.sum() == y[:, 0, 1, 2, 3].sum()


def test_a_memory_is_half_gone_after_its_half_life():
    steps = 40
    module = memory(half_life_steps=float(steps))
    _, v = shown(module, torch.ones(3, 1, CHANNELS, 4, 4))
    context = ForwardContext({"recurrent": v})
    with torch.no_grad():
        module(torch.zeros(steps, 1, CHANNELS, 4, 4), context)
    assert torch.allclose(context.new_state["recurrent"], v / 2, rtol=1e-4)


def test_another_channel_can_erase_it():
    module = memory()
    with torch.no_grad():
        module.conv.weight[CHANNELS + 1, 0, 1, 1] = 10.0  # a spike of channel 0 opens the gate of channel 1 ...
        module.conv.weight[1, 0, 1, 1] = -1.0  # ... and drives it down
    x = torch.zeros(20, 1, CHANNELS, 4, 4)
    x[:8, 0, 1] = 1
    x[12, 0, 0] = 1
    y, _ = shown(module, x)
    assert y[:12, 0, 1].all()
    assert not y[13:, 0, 1].any()


def test_the_membrane_follows_the_formula():
    torch.manual_seed(0)
    module = memory()
    torch.nn.init.normal_(module.conv.weight)
    x = (torch.rand(4, 2, CHANNELS, 5, 5) < 0.4).float()
    y, v = shown(module, x)
    with torch.no_grad():
        drive, gate = module.conv(x.flatten(0, 1)).unflatten(0, (4, 2)).double().chunk(2, 2)
    expected = torch.zeros_like(drive[0])
    for step in range(4):
        expected = expected + torch.sigmoid(gate[step]) * (drive[step] - expected)
        clear = (expected - 1).abs() > 1e-5
        spikes = torch.maximum(x[step], (expected >= 1).float())
        assert torch.equal(y[step][clear], spikes[clear])
    assert torch.allclose(v.double(), expected, atol=1e-5)


def test_drive_and_gate_learn_although_the_memory_is_silent_at_first():
    module = memory(drive=0.9)
    x = (torch.rand(6, 1, CHANNELS, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    y = module(x, ForwardContext())
    assert torch.equal(y, x)
    y.sum().backward()
    assert all(part.abs().sum() > 0 for part in module.conv.weight.grad.chunk(2))


def test_windows_cut_in_two_give_the_whole_when_the_state_is_passed_on():
    model = tiny_detector(**GATED).fuse()
    cube = noise(steps=6)
    _, whole = model(cube)
    _, first = model(cube[:2])
    _, second = model(cube[2:], first)
    assert whole.keys() == second.keys()
    assert all(torch.allclose(whole[name], second[name], atol=1e-5) for name in whole)


def test_its_operations_are_counted_and_it_stays_fully_spiking():
    model = tiny_detector(**GATED).fuse()
    spikes = {}
    with torch.no_grad():
        model.recurrent.conv.weight[: model.recurrent.conv.in_channels] *= 2
        model(noise(), observe=lambda name, out: spikes.update({name: out.clone()}))
    operations = count_ops(model, noise())
    require_fully_spiking(operations)
    (neurons,) = (layer for layer in operations.neurons if layer.name == "recurrent")
    (conv,) = (layer for layer in operations.convolutions if layer.name == "recurrent.conv")
    assert (neurons.multiplies, neurons.adds) == (1, 1)
    assert neurons.spikes == spikes["recurrent"].count_nonzero()
    graph = graph_of(model)
    assert [layer.name for layer in graph.layers] == model.neuron_names
    assert synaptic_operations(graph, noise(), spikes)["recurrent"] == conv.synaptic > 0
    assert sum(graph.macs((64, 64)).values()) * 5 * 2 == operations.padded


def test_maps_average_the_last_steps_alone():
    model, last = tiny_detector(), tiny_detector(**{"head.readout_steps": 2})
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), last.state_dict().values(), strict=True))
    _, state = model(noise()[:3])
    expected, _ = model(noise()[3:], state)
    found, _ = last(noise())
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(expected, found, strict=True))


LEARNED = {"head.step_weights": "learned"}


def test_learned_weights_of_the_time_steps_begin_equal_and_each_map_has_its_own():
    plain, model = tiny_detector(), tiny_detector(**LEARNED)
    model.load_state_dict(plain.state_dict(), strict=False)
    ours, theirs = model(noise())[0], plain(noise())[0]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, theirs, strict=True))
    with torch.no_grad():
        model.heads["wh"].step_logits[:3] = -200.0
    found = model(noise())[0]
    _, state = plain(noise()[:3])
    assert torch.allclose(found.wh, plain(noise()[3:], state)[0].wh, atol=1e-5)
    assert torch.equal(found.heatmap, ours.heatmap)
    found.wh.sum().backward()
    assert model.heads["wh"].step_logits.grad.abs().sum() > 0


def test_learned_weights_of_fewer_steps_are_the_last_ones_and_of_more_are_refused():
    model = tiny_detector(**LEARNED)
    with torch.no_grad():
        model.heads["wh"].step_logits[-2] = -200.0
    plain = tiny_detector()
    _, state = plain(noise()[:1])
    shown, _ = plain(noise()[1:2], state)
    assert torch.allclose(model(noise()[:2])[0].wh, shown.wh, atol=1e-5)
    with pytest.raises(ConfigError, match="weights for 5 time steps, got 6"):
        model(noise(steps=6))
    with pytest.raises(ConfigError, match=r"head\.step_weights='learned'; take mode=\"windowed\""):
        scn.stream(model, None, mode="stateful", size_hw=(64, 64))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"recurrent.kind": "gated", "neuron.kind": "relu"}, "the ANN counterpart"),
        ({"recurrent.kernel": 4}, "odd"),
        ({"recurrent.half_life_steps": 0.0}, "positive"),
        ({"recurrent.kind": "gate"}, "did you mean 'gated'"),
        ({"head.readout_steps": 6}, "at most voxels.num_steps=5"),
        ({"head.readout_steps": -1}, "0 for all steps"),
    ],
)
def test_impossible_settings_are_refused(changes, told):
    with pytest.raises(ConfigError, match=told):
        scn.build("nano", **changes)


def test_nir_and_the_engine_say_what_they_do_not_compute():
    for changes, told in (
        (GATED, "recurrent.kind='gated'"),
        ({"head.readout_steps": 2}, "head.readout_steps=2"),
        (LEARNED, "head.step_weights='learned'"),
    ):
        with pytest.raises(ExportError, match=told):
            nir_graph(tiny_detector(**changes).fuse(), (64, 64))
    with pytest.raises(ConfigError, match=r"head\.step_weights='learned'"):
        compile(tiny_detector(**LEARNED))
    with pytest.raises(ExportError, match=r"head\.step_weights='learned'"):
        contract_of(tiny_detector(**LEARNED), (64, 64))


REMEMBERS = GATED | FEW_LAYERS | {"head.readout_steps": 2, "voxels.num_steps": 4, "voxels.window_us": 80_000}


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "num_steps"), [(".onnx", 1), *thorough((".onnx", 4), (".xml", 2))])
def test_an_exported_file_remembers_as_the_network_does(tmp_path, suffix, num_steps):
    for package in ("onnxscript", "onnxruntime" if suffix == ".onnx" else "openvino"):
        pytest.importorskip(package)
    model = tiny_detector(**REMEMBERS)
    with torch.no_grad():
        model.recurrent.conv.weight.mul_(1.5)  # an untrained memory is silent
    exact = dyadic(model.fuse())
    written = export_detector(exact, tmp_path / f"tiny{suffix}", size_hw=(64, 64), num_steps=num_steps)
    assert "recurrent" in written.contract.layers
    assert written.contract.shown_calls == {1: 2, 4: 1, 2: 1}[num_steps]
    cube = noise(steps=4, batch=1)
    expected, _ = exact(cube)
    forgetful, _ = dyadic(tiny_detector(**REMEMBERS).fuse())(cube)
    assert not torch.allclose(expected.wh, forgetful.wh, atol=1e-2)
    maps = mean_heads(run_window(run(written.path, written.contract), written.contract, cube[:, 0].numpy()),
                      written.contract)  # fmt: skip
    for name, found in maps.items():
        torch.testing.assert_close(torch.from_numpy(found), getattr(expected, name), atol=1e-4, rtol=0)
    assert f"heads[-{written.contract.shown_calls}:]" in written.snippet.read_text()
    assert check(exact, written).parity.membranes_differing == 0


def test_calls_that_would_cut_the_last_steps_apart_are_refused():
    model = tiny_detector(**(REMEMBERS | {"head.readout_steps": 3}))
    assert contract_of(model, (64, 64), 4).shown_calls == 1
    with pytest.raises(ExportError, match=r"average the last 3 steps; .* a divisor of that, got 2"):
        contract_of(model, (64, 64), 2)


def test_a_longer_window_of_equal_steps_may_start_from_the_weights_of_a_shorter(tmp_path):
    path = save(tiny_detector(), tmp_path / "short.safetensors")
    shape = {"encoder.widths": (8, 8, 8, 16), "head.width": 8, "encoder.convs_per_stage": 1, "neuron.threshold": 0.3}
    longer = {"voxels.num_steps": 20, "voxels.window_us": 400_000, "head.readout_steps": 5} | GATED
    model = scn.build("nano", weights=path, **shape, **longer)
    assert torch.equal(model.encoder.stem.conv.weight, scn.load(path).encoder.stem.conv.weight)
    assert model.recurrent.conv.bias[-1].item() == pytest.approx(-math.log(1 / (1 - 0.5**0.01) - 1))
    with pytest.raises(WeightsError, match=r"voxels\.num_steps"):
        scn.build("nano", weights=path, **shape, **(longer | {"voxels.num_steps": 40}))
    assert not model.config.fits_windows


def test_a_stream_goes_on_step_by_step_where_there_is_a_memory():
    for changes, mode, every_us in (({}, "windowed", 50_000), (GATED, "stateful", 20_000)):
        flow = scn.Stream(tiny_detector(**changes), (64, 64))
        assert (flow.mode, flow.answer_every_us) == (mode, every_us)


def test_several_answers_are_those_of_shorter_windows():
    model = tiny_detector(**(REMEMBERS | {"voxels.num_steps": 6}))
    cube = noise(6)
    with torch.no_grad():
        together, _ = model(cube, answers=3)
        alone = [model(cube[:end])[0] for end in (2, 4, 6)]
    for name, maps in zip(together._fields, together, strict=True):
        assert torch.equal(maps, torch.cat([getattr(answer, name) for answer in alone])), name


@pytest.mark.parametrize(
    ("settings", "answers"),
    [({}, 2), (REMEMBERS, 4)],
    ids=["no length of an answer", "more than the window has"],
)
def test_answers_that_a_window_does_not_have_are_refused(settings, answers):
    with pytest.raises(ConfigError, match=r"head\.readout_steps"):
        tiny_detector(**settings)(noise(6), answers=answers)

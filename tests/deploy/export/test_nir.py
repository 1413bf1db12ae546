"""The NIR graph spikes as the network does, here and in other simulators."""

import contextlib
import io
import warnings
from collections import defaultdict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from dyadic import dyadic
from tiny import tiny_detector

from spiking_centernet.deploy.export.chips import blockers, layers_of
from spiking_centernet.deploy.export.nir import (
    STEP_S,
    between_phases,
    from_phases,
    heads_of,
    nir_graph,
    nir_size,
    to_phases,
    write_nir,
)
from spiking_centernet.deploy.export.nir_check import run_nir
from spiking_centernet.errors import ExportError

nir = pytest.importorskip("nir", reason="the extra [nir] is not installed")
SIZE_HW = (32, 64)


def two_levels(**changes):
    """A detector with one upsampling, as recipes/nano_nir.yaml has it, with exact sums."""
    return dyadic(tiny_detector(encoder={"widths": (8, 8, 16)}, decoder={"num_blocks": 1}, **changes).fuse())


def noise(num_steps=6, size_hw=SIZE_HW):
    return (np.random.default_rng(0).random((num_steps, 4, *size_hw)) < 0.1).astype(np.uint8)


def spikes_of(fused, cube):
    """Return every layer's spikes [T, C, h, w] and the raw heads [T, K, h, w] of every step."""
    layers, heads, state = defaultdict(list), [], None
    for frame in torch.from_numpy(cube)[:, None, None]:
        output, state = fused(frame, state, observe=lambda name, spikes: layers[name].append(spikes))
        heads.append(output)
    populations = {name: name.removesuffix(".block").removesuffix(".project") for name in layers}
    spikes = {populations[name]: torch.cat(steps).numpy() for name, steps in layers.items()}
    return spikes, [torch.cat(steps).numpy() for steps in zip(*heads, strict=True)]


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(("phases", "repeat"), [(1, 1), (2, 1), (2, 2), (4, 2)])
def test_a_convolution_between_phases_is_the_fine_one(kernel, phases, repeat):
    rng = torch.Generator().manual_seed(0)
    weight = torch.randint(-8, 9, (3, 2, kernel, kernel), generator=rng).float()
    source = torch.randint(0, 2, (1, (phases // repeat) ** 2 * 2, 3, 5), generator=rng).float()
    fine = torch.from_numpy(from_phases(source.numpy(), phases // repeat)).repeat_interleave(repeat, 2)
    expected = F.conv2d(fine.repeat_interleave(repeat, 3), weight, padding=kernel // 2)
    coarse = torch.from_numpy(between_phases(weight.numpy(), phases, repeat=repeat))
    found = from_phases(F.conv2d(source, coarse, padding=kernel // 2).numpy(), phases)
    np.testing.assert_array_equal(found, expected.numpy())


@pytest.mark.parametrize("phases", [1, 2, 4])
def test_a_convolution_to_phases_is_the_fine_one(phases):
    rng = torch.Generator().manual_seed(0)
    weight = torch.randint(-8, 9, (3, 2, 3, 3), generator=rng).float()
    source = torch.randint(0, 2, (1, 2, 3 * phases, 5 * phases), generator=rng).float()
    spread = torch.from_numpy(to_phases(weight.numpy(), phases))
    found = from_phases(F.conv2d(source, spread, stride=phases, padding=1).numpy(), phases)
    np.testing.assert_array_equal(found, F.conv2d(source, weight, padding=1).numpy())


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["threshold", "neuron"])
@pytest.mark.parametrize("neuron", ["plif", "if"])
def test_every_spike_is_the_networks(tmp_path, pooling, neuron):
    fused = two_levels(neuron={"kind": neuron})
    write_nir(fused, tmp_path / "tiny.nir", SIZE_HW, pooling=pooling)
    found = run_nir(nir.read(tmp_path / "tiny.nir"), noise(), STEP_S)
    spikes, heads = spikes_of(fused, noise())
    assert len(spikes) == 8
    for name, expected in spikes.items():
        got = from_phases(found[name], 1 if name.startswith("encoder") else 2)
        assert expected.mean() > 0.005, f"{name} is asleep"
        np.testing.assert_array_equal(got, expected, err_msg=name)
    for got, expected in zip(heads_of(found["output"], fused.config), heads, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_upsampling_three_times_over_is_exact_too():
    fused = dyadic(tiny_detector(head={"width": 4}, encoder={"widths": (4, 4, 4, 8)}).fuse())
    found = run_nir(nir_graph(fused, SIZE_HW), noise(3), STEP_S)
    _, heads = spikes_of(fused, noise(3))
    for got, expected in zip(heads_of(found["output"], fused.config), heads, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_threshold_that_is_met_exactly_fires():
    """NIR fires above the threshold and the network at it: without the next smaller float32 spikes would be lost."""
    fused = two_levels(neuron={"threshold": 0.25})
    with torch.no_grad():
        stem = fused.encoder.stem.conv
        stem.weight.copy_(torch.round(stem.weight * 4) / 4)
        stem.bias.zero_()
    graph = nir_graph(fused, SIZE_HW)
    expected = spikes_of(fused, noise())[0]["encoder.stem"]
    np.testing.assert_array_equal(run_nir(graph, noise(), STEP_S)["encoder.stem"], expected)
    for node in graph.nodes.values():
        if isinstance(node, nir.LIF):
            node.v_threshold = np.full_like(node.v_threshold, 0.25)
    assert (run_nir(graph, noise(), STEP_S)["encoder.stem"] != expected).any()


def in_snntorch(graph, cube):
    snntorch_import = pytest.importorskip("snntorch.import_nir", reason="snntorch is not installed")
    with contextlib.redirect_stdout(io.StringIO()):
        network = snntorch_import.import_from_nir(graph)
    return step_by_step(network, cube)


def in_spikingjelly(graph, cube):
    exchange = pytest.importorskip("spikingjelly.activation_based.nir_exchange", reason="spikingjelly is not installed")
    return step_by_step(exchange.import_from_nir(graph, dt=STEP_S, step_mode="s"), cube)


def step_by_step(network, cube):
    outputs, state = [], None
    with torch.no_grad():
        for frame in torch.from_numpy(cube.astype(np.float32))[:, None]:
            output, state = network(frame) if state is None else network(frame, state)
            outputs.append(output)
    return torch.cat(outputs).numpy()


def up_to(graph, last):
    """Return the part of a graph that ends at a population, so that a simulator shows that population's spikes."""
    kept = {last}
    while True:
        more = {a for a, b in graph.edges if b in kept} - kept
        if not more:
            break
        kept |= more
    nodes = {name: node for name, node in graph.nodes.items() if name in kept}
    nodes["output"] = nir.Output({"output": np.array(nodes[last].v_threshold.shape)})
    edges = [(a, b) for a, b in graph.edges if b in kept] + [(last, "output")]
    return nir.NIRGraph(nodes, edges, type_check=False)


@pytest.mark.slow
@pytest.mark.parametrize("simulate", [in_snntorch, in_spikingjelly])
@pytest.mark.parametrize("last", ["encoder.stages.2.0", "decoder.blocks.0", "heads.wh"])
def test_other_simulators_fire_the_same_spikes(tmp_path, simulate, last):
    fused = two_levels()
    write_nir(fused, tmp_path / "tiny.nir", SIZE_HW, pooling="neuron")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = simulate(up_to(nir.read(tmp_path / "tiny.nir"), last), noise())
    expected = spikes_of(fused, noise())[0][last]
    np.testing.assert_array_equal(from_phases(found, 1 if last.startswith("encoder") else 2), expected)


def test_the_size_is_rounded_up_to_whole_cells():
    config = tiny_detector().config
    assert nir_size(config, (240, 304)) == (256, 320)
    with pytest.raises(ExportError, match=r"\(256, 320\)"):
        nir_graph(tiny_detector().fuse(), (240, 304))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"neuron.kind": "relu"}, "ReLU"),
        ({"neuron.soft_reset": True}, "soft reset"),
        ({"neuron.kind": "ilif", "neuron.levels": 2}, "up to 2 times.*export ONNX"),
        ({"decoder.skips": "add"}, "networks with decoder.skips='add' cannot be exported"),
        ({"encoder.widths": (64, 64, 64, 64), "decoder.num_blocks": 3}, "nano_nir"),
    ],
)
def test_what_nir_cannot_hold_is_refused(changes, words):
    with pytest.raises(ExportError, match=words):
        nir_graph(tiny_detector(**changes).fuse(), SIZE_HW)


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ExportError, match="unknown pooling 'nueron'; did you mean 'neuron'"):
        nir_graph(two_levels(), SIZE_HW, pooling="nueron")


def test_chips_say_what_they_cannot_hold():
    graph = nir_graph(two_levels(), (256, 320))
    blocks = blockers(graph)
    assert set(blocks) == {"SynSense Speck (DYNAP-CNN)", "SynSense Xylo", "Intel Loihi 2", "SpiNNaker2"}
    assert "the input is 320 x 256, the largest is 128 x 128" in blocks["SynSense Speck (DYNAP-CNN)"]
    assert "convolutions, the chip has dense layers" in blocks["SynSense Xylo"]
    assert blocks["Intel Loihi 2"] == []
    assert [layer.name for layer in layers_of(graph)][:2] == ["encoder.stem", "encoder.stages.0.0"]


def test_a_chain_of_few_small_layers_fits_a_speck():
    ones = np.ones((4, 8, 8), np.float32)
    conv = nir.Conv2d((8, 8), np.ones((4, 2, 3, 3), np.float32), 1, 1, 1, 1, np.zeros(4, np.float32))
    nodes = {"input": nir.Input({"input": np.array([2, 8, 8])}), "c": conv, "n": nir.IF(r=ones, v_threshold=ones)}
    nodes["output"] = nir.Output({"output": np.array([4, 8, 8])})
    graph = nir.NIRGraph(nodes, [("input", "c"), ("c", "n"), ("n", "output")])
    assert blockers(graph)["SynSense Speck (DYNAP-CNN)"] == []

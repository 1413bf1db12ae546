"""The list of nodes describes what the network computes: executed node by node it gives the network's own output."""

import math

import pytest
import torch
import torch.nn.functional as F
from calibrated import calibrated, random_cube
from torch import Tensor

from spiking_centernet.evaluation.energy.counting import count_ops
from spiking_centernet.model import PRESETS, build
from spiking_centernet.model.decoder import enlarge
from spiking_centernet.model.graph import Combine, MaxPool, NeuronLayer, Readout, dense_macs, graph_of, walk
from spiking_centernet.model.variants import combine

DETECTORS = sorted(name for name, config in PRESETS.items() if not config.classifies)
SMALL = {"encoder.widths": (4, 6, 8), "encoder.convs_per_stage": 2, "decoder.num_blocks": 2, "head.width": 5}
KINDS = [
    {},
    {"decoder.num_blocks": 0},
    {"decoder.num_blocks": 1},
    {"neuron.kind": "relu"},
    {"encoder.identity": True},
    {"encoder.convs_per_stage": 3, "encoder.identity": True},
    {"decoder.skips": "or"},
    {"decoder.skips": "add"},
    {"decoder.skips": "none"},
    {"decoder.kind": "inner"},
    {"decoder.kind": "inner", "decoder.skips": "or"},
    {"decoder.kind": "transposed"},
    {"decoder.kind": "transposed", "decoder.skips": "or"},
    {"decoder.kind": "transposed", "decoder.skips": "none"},
    {"head.kind": "ssd"},
    {"head.kind": "pyramid"},
]
pytestmark = pytest.mark.filterwarnings("ignore:the decoder '")


def executed(model, cube: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the maps of the readouts and every layer's spikes, computed from the nodes and the modules they name."""
    spikes = {}

    def compute(node, *sources: Tensor) -> Tensor:
        x = sources[0]
        if isinstance(node, MaxPool):
            return F.max_pool2d(x.flatten(0, 1), 3, 2, 1).unflatten(0, x.shape[:2])
        if isinstance(node, Combine):
            skip = sources[1].flatten(0, 1)
            y = enlarge(x, sources[1]) if node.upsample else x.flatten(0, 1)[..., : skip.shape[-2], : skip.shape[-1]]
            return combine(node.kind, y, skip).unflatten(0, x.shape[:2])
        if isinstance(node, Readout):
            return model.get_submodule(node.conv.name)(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(0)
        assert isinstance(node, NeuronLayer)
        y = F.pad(x.flatten(0, 1), [node.pad] * 4)
        for conv in node.convs:
            y = model.get_submodule(conv.name)(y)
            y = y if conv.norm is None else model.get_submodule(conv.norm)(y)
        neuron = model.get_submodule(f"{node.name}.neuron")
        spikes[node.name], _ = neuron(y.unflatten(0, x.shape[:2]), None)
        return spikes[node.name]

    return walk(graph_of(model).nodes, compute, cube.float()), spikes


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
@pytest.mark.parametrize("changes", KINDS, ids=str)
def test_its_nodes_compute_the_network(changes, fused):
    cube = random_cube((37, 50))
    model = calibrated("nano", cube, **(SMALL | changes))
    model = model.fuse() if fused else model
    seen, maps = {}, {}
    for name, module in model.heads.items():
        module.register_forward_hook(lambda _, args, output, name=name: maps.update({name: output}))
    with torch.no_grad():
        model(cube, observe=seen.__setitem__)
        outputs, spikes = executed(model, cube)
    assert list(spikes) == [layer.name for layer in graph_of(model).layers] == model.neuron_names
    assert all(s.any() for s in spikes.values())
    for name, expected in seen.items():
        torch.testing.assert_close(spikes[name].flatten(0, 1), expected, rtol=1e-4, atol=1e-4)
    assert outputs.keys() == maps.keys()
    for name, expected in maps.items():
        torch.testing.assert_close(outputs[name], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size_hw", [(37, 50), (1, 1)])
@pytest.mark.parametrize("changes", KINDS, ids=str)
def test_sizes_channels_and_multiplications_are_those_that_occur(changes, size_hw):
    model = build("nano", **(SMALL | changes)).eval()
    graph, seen, cube = graph_of(model), {}, random_cube(size_hw, num_steps=2, batch=1)
    with torch.no_grad():
        model(cube, observe=seen.__setitem__)
    sizes = graph.sizes_hw(size_hw)
    for layer in graph.layers:
        assert (layer.channels, *sizes[layer.name]) == tuple(seen[layer.name].shape[1:]), layer.name
    counted = count_ops(model.fuse(), cube).convolutions
    assert sorted(2 * n for n in graph.macs(size_hw).values()) == sorted(c.padded for c in counted)


@pytest.mark.slow
@pytest.mark.parametrize("preset", DETECTORS)
def test_a_merged_layer_has_the_shape_of_the_fused_one(preset):
    model = build(preset)
    merged = model.fuse()
    plain, fused = (graph_of(m).layers for m in (model, merged))
    unmerged = [layer for layer in plain if len(layer.convs) == 3]
    assert len(unmerged) == model.config.decoder.num_blocks
    for a, b in zip(plain, fused, strict=True):
        assert (a.name, a.sources, a.channels) == (b.name, b.sources, b.channels)
        shapes = [
            (c.in_channels, c.out_channels, c.kernel, c.stride, c.padding, c.groups) for c in (a.merged, b.merged)
        ]
        assert shapes[0] == shapes[1]
    weights = sum(math.prod((c.in_channels, c.out_channels, c.kernel, c.kernel)) for c in (b.merged for b in fused))
    assert weights == sum(merged.get_submodule(f"{b.name}.conv").weight.numel() for b in fused)


def test_what_nobody_takes_any_more_is_let_go():
    graph, alive, most = graph_of(build("nano")), [], []

    class Value:
        def __init__(self, name):
            self.name = name
            alive.append(name)

        def __del__(self):
            alive.remove(self.name)

    def compute(node, *sources):
        value = Value(node.name)
        most.append(len(alive))
        return value

    left = walk(graph.nodes, compute, Value("cube"))
    assert list(left) == [readout.name for readout in graph.readouts] == sorted(alive, key=list(left).index)
    # The cube, which the caller holds, the skips of three stages, a node and its source.
    assert max(most) == 1 + 3 + 2


def test_dense_operations_in_closed_form():
    model = build(
        "nano", encoder={"widths": (3, 5), "convs_per_stage": 1}, decoder={"num_blocks": 1}, head={"width": 7}
    )
    stem = 4 * 3 * 49 * 8 * 8
    stages = 3 * 3 * 9 * 4 * 4 + 3 * 5 * 9 * 2 * 2
    decoder = (5 + 3) * 4 * 9 * 4 * 4
    heads = 3 * 4 * 7 * 9 * 4 * 4 + 7 * (2 + 2 + 2) * 4 * 4
    assert dense_macs(model, (16, 16)) == stem + stages + decoder + heads


def test_dense_operations_of_a_transposed_convolution():
    model = build(
        "nano",
        encoder={"widths": (3, 5), "convs_per_stage": 1},
        decoder={"num_blocks": 1, "kind": "transposed"},
        head={"width": 7},
    )
    plain = build(
        "nano", encoder={"widths": (3, 5), "convs_per_stage": 1}, decoder={"num_blocks": 1}, head={"width": 7}
    )
    difference = dense_macs(model, (16, 16)) - dense_macs(plain, (16, 16))
    assert difference == 5 * 5 * 16 * 2 * 2

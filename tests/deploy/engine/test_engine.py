"""A compiled detector against the detector: bit-equal spikes on every path."""

import itertools
from functools import cache

import pytest
import torch
from calibrated import calibrated, calibrated_nano, equal_states, potentials, random_cube, spikes_of
from tiers import thorough
from tiny import tiny_detector
from torch import Tensor

import spiking_centernet as scn
from spiking_centernet.deploy.engine import compile, engine
from spiking_centernet.deploy.engine.bindings import Kernels
from spiking_centernet.deploy.engine.buffers import NativeNetwork
from spiking_centernet.deploy.engine.cost_model import events_pay
from spiking_centernet.deploy.engine.float import FloatNetwork
from spiking_centernet.deploy.engine.int8 import Int8Network
from spiking_centernet.deploy.engine.ir import unfold
from spiking_centernet.deploy.engine.quantize import reference
from spiking_centernet.deploy.engine.torch_fallback import PlainNetwork
from spiking_centernet.errors import ConfigError
from spiking_centernet.inference import stream
from spiking_centernet.model import build
from spiking_centernet.model.firing_rate import FiringRates
from spiking_centernet.ops.library import native

LIBRARY = native()
SETS = LIBRARY.instruction_sets if LIBRARY is not None else ()
needs_library = pytest.mark.skipif(LIBRARY is None, reason="the native library is not built")
WAYS = [(precision, sparse) for precision in ("int8", "fp32") for sparse in ("never", "always", "auto")]


def spikes_of_engine(compiled: engine.Engine, cube: Tensor, state=None):
    seen: dict[str, Tensor] = {}
    output, state = compiled(cube, state, observe=seen.__setitem__)
    assert list(seen) == compiled.neuron_names
    return output, seen, state


@cache
def exact(cube_hw, *, batch=2, seed=0, factor=1.0, calibrated_to=None, changes=()):
    """Return a cube, a network whose sums are exact, its output and its spikes: made once for all that compute them."""
    changes = dict(changes)
    parts = [random_cube(cube_hw, batch=batch, seed=s) for s in (seed, seed + 1)]
    cube = torch.cat(parts, 2)[:, :, : 2 * changes.get("voxels.bins", 2)]
    cube = cube if factor == 1 else cube * factor
    model = calibrated("nano", cube if calibrated_to is None else random_cube(calibrated_to), seed=seed, **changes)
    wanted = reference(model)
    return cube, wanted, *spikes_of(wanted, cube)


def assert_equal(output, spikes, wanted_output, wanted_spikes):
    for name, wanted in wanted_spikes.items():
        assert torch.equal(spikes[name].float(), wanted.float()), name
    for part, wanted in zip(output, wanted_output, strict=True):
        torch.testing.assert_close(part, wanted, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(("precision", "sparse"), WAYS)
@pytest.mark.parametrize(("size_hw", "batch", "seed"), [((49, 66), 1, 0), ((33, 47), 3, 1), ((1, 1), 2, 2)])
def test_spikes_equal_the_detectors(kernels, precision, sparse, size_hw, batch, seed):
    cube, wanted, *expected = exact(size_hw, batch=batch, seed=seed, calibrated_to=(64, 64))
    compiled = compile(wanted, precision=precision, sparse=sparse)
    output, spikes, _ = spikes_of_engine(compiled, cube)
    assert_equal(output, spikes, *expected)
    unseen, _ = compiled(cube, keep_state=False)
    for part, other in zip(unseen, output, strict=True):
        torch.testing.assert_close(part, other)


@pytest.mark.slow
@needs_library
@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("events", [False, True], ids=["dense", "events"])
@pytest.mark.parametrize("threads", [1, 2])
def test_every_instruction_set_and_number_of_threads(isa, events, threads):
    assert LIBRARY is not None
    cube, wanted, *expected = exact((61, 90))
    network, before = unfold(wanted), torch.get_num_threads()
    path = Int8Network(network, Kernels.of(LIBRARY, isa), lambda layer, count: events)
    try:
        torch.set_num_threads(threads)
        output, spikes, _ = spikes_of_engine(engine.Engine(network, path, "int8", ""), cube)
    finally:
        torch.set_num_threads(before)
    assert_equal(output, spikes, *expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"neuron.soft_reset": True, "neuron.decay_input": False},
        {"neuron.kind": "if", "neuron.threshold": 3.0},
        {"neuron.kind": "ilif", "neuron.levels": 2},
        {"neuron.kind": "ilif", "neuron.levels": 5, "neuron.decay_input": False, "head.readout_steps": 2},
        {"encoder.widths": (5, 10, 18), "head.width": 7, "decoder.num_blocks": 2, "encoder.convs_per_stage": 3},
        {"decoder.num_blocks": 0, "encoder.convs_per_stage": 1, "voxels.bins": 3, "classes": ("a", "b", "c")},
    ],
    ids=["soft", "if", "whole", "many", "narrow", "headless"],
)
@pytest.mark.parametrize(("precision", "sparse"), WAYS)
def test_other_networks(changes, precision, sparse):
    cube, wanted, *expected = exact((40, 52), changes=tuple(changes.items()))
    output, spikes, _ = spikes_of_engine(compile(wanted, precision=precision, sparse=sparse), cube)
    assert_equal(output, spikes, *expected)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["small", *thorough("paper")])
def test_large_presets(preset):
    cube = random_cube((65, 90), batch=1)
    wanted = reference(calibrated(preset, cube))
    expected = spikes_of(wanted, cube)
    for precision, sparse in WAYS:
        output, spikes, _ = spikes_of_engine(compile(wanted, precision=precision, sparse=sparse), cube)
        assert_equal(output, spikes, *expected)


@pytest.mark.parametrize(
    ("precision", "sparse"),
    [
        ("int8", "auto"), *itertools.product(("int8", "fp32"), ("never", "always")),
        *(pytest.param("bf16", sparse, marks=pytest.mark.slow) for sparse in ("never", "always")),
    ],
)  # fmt: skip
def test_steps_one_by_one_are_the_window(kernels, precision, sparse):
    """Of floats where every layer is computed in one way: two ways round differently."""
    cube = random_cube((34, 46), batch=2)
    compiled = compile(calibrated_nano((34, 46)), precision=precision, sparse=sparse)
    whole, spikes, end = spikes_of_engine(compiled, cube)
    state, parts, seen = None, [], []
    for step in cube.split([1, 1, 2, 1]):
        output, some, state = spikes_of_engine(compiled, step, state)
        parts.append([part * len(step) for part in output])
        seen.append(some)
    for name, all_steps in spikes.items():
        assert torch.equal(torch.cat([some[name] for some in seen]), all_steps), name
    assert equal_states(state, end)
    for summed, part in zip(zip(*parts, strict=True), whole, strict=True):
        torch.testing.assert_close(sum(summed) / len(cube), part, atol=1e-4, rtol=1e-5)


@pytest.mark.slow
def test_a_state_is_never_overwritten_while_somebody_holds_it(kernels):
    cube = random_cube((40, 40), batch=1)
    for precision in engine.PRECISIONS:
        compiled = compile(calibrated_nano((40, 40), batch=1), precision=precision)
        _, first = compiled(cube)
        kept = {name: v.clone() for name, v in first.items()}
        once, _ = compiled(cube, first)
        state = first
        for _ in range(4):
            _, state = compiled(cube, state)
        assert equal_states(first, kept)
        again, _ = compiled(cube, kept)
        assert torch.equal(once.heatmap, again.heatmap)


def test_states_of_the_detector_fit(kernels):
    cube = random_cube((40, 52), batch=2)
    wanted = reference(calibrated_nano((40, 52)))
    compiled = compile(wanted)
    with torch.no_grad():
        _, state = wanted(cube[:2])
        output, end = wanted(cube[2:], state)
    mine, my_end = compiled(cube[2:], state)
    torch.testing.assert_close(mine.heatmap, output.heatmap, atol=1e-4, rtol=1e-5)
    assert equal_states(my_end, end)
    with torch.no_grad():
        back, _ = wanted(cube[2:], compiled(cube[:2])[1])
    torch.testing.assert_close(back.heatmap, output.heatmap, atol=1e-4, rtol=1e-5)


def test_a_missing_membrane_is_zero_initialized(kernels):
    cube = random_cube((40, 52), batch=2)
    wanted = reference(calibrated_nano((40, 52)))
    with torch.no_grad():
        _, state = wanted(cube[:2])
        some = {name: v for i, (name, v) in enumerate(state.items()) if i % 2}
        output, end = wanted(cube[2:], some)
    compiled = compile(wanted)
    compiled(cube)  # its memory holds other membranes now
    mine, my_end = compiled(cube[2:], some)
    torch.testing.assert_close(mine.heatmap, output.heatmap, atol=1e-4, rtol=1e-5)
    assert equal_states(my_end, end)
    assert equal_states(compiled(cube, {})[1], compiled(cube)[1])


@needs_library
def test_large_memory_is_used_again():
    cube = random_cube((40, 40), batch=1)
    for precision in ("int8", "fp32"):
        compiled = compile(calibrated_nano((40, 40), batch=1), precision=precision)
        state, places = None, []
        for _ in range(8):
            _, state = compiled(cube, state)
            places.append(state["encoder.stem"].data_ptr())
        assert len(set(places)) == 2


@pytest.mark.parametrize("sparse", ["never", "always"])
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_arbitrary_weights_layer_by_layer(kernels, precision, sparse):
    """Fed the same spikes, a layer may differ only where the membrane lies within rounding of the threshold."""
    cube = random_cube((48, 64), batch=1)
    model = calibrated_nano((48, 64), batch=1).fuse()
    _, wanted = spikes_of(model, cube)
    path = compile(model, precision=precision, sparse=sparse)._path
    for index in range(2, 5):
        block = unfold(model).blocks[index]
        x = wanted[unfold(model).blocks[index - 1].names[0]]
        spikes = spikes_of_layer(path, index, x, tuple(cube.shape))
        y = torch.nn.functional.conv2d(x.double(), block.weight.double(), block.bias.double(), block.stride, 1)
        h = potentials(y.unflatten(0, (5, 1)), block.neurons[0]).flatten(0, 1)
        near = (h - block.neurons[0].threshold).abs() < {"fp32": 1e-5, "bf16": 0.05}[precision]
        # A spike that differs changes the membrane of the later steps.
        near = near.cumsum(0) > 0
        assert torch.equal(spikes[~near], (h >= block.neurons[0].threshold).float()[~near])
        assert near.float().mean() < {"fp32": 0.01, "bf16": 0.6}[precision]


def spikes_of_layer(path, index: int, x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the spikes of one block, at rest, for the spikes [N, C, H, W] before it."""
    if isinstance(path, PlainNetwork):
        (neuron,) = path.network.blocks[index].neurons
        return neuron(path.layers[index](x.to(path.dtype)).unflatten(0, shape[:2]), None)[0].flatten(0, 1).float()
    workspace = path.workspace(shape)
    source = workspace.sources[index]
    source.inside[..., : x.shape[1]] = x.permute(0, 2, 3, 1)
    source.count = int(x.sum())
    with torch.inference_mode():
        workspace.compute(index)
    return workspace.targets[index].spikes().float()


@pytest.mark.slow
@needs_library
def test_floats_from_active_inputs_round_alike_everywhere():
    """Arbitrary weights, to the last bit: any instruction set, number of threads and batch."""
    assert LIBRARY is not None
    cube, before = random_cube((40, 52), batch=3), torch.get_num_threads()
    network = unfold(calibrated_nano((40, 52), batch=3))
    found = []
    for isa in SETS:
        for threads, cubes in ((1, cube.split(1, 1)), (2, [cube])):
            path = FloatNetwork(network, torch.float32, Kernels.of(LIBRARY, isa), lambda layer, count: True)
            torch.set_num_threads(threads)
            states = [path(part, None, None, keep_state=True)[1] for part in cubes]
            torch.set_num_threads(before)
            found.append({name: torch.cat([state[name] for state in states]) for name in states[0]})
    for other in found[1:]:
        assert equal_states(found[0], other)


@pytest.mark.parametrize("sparse", engine.SPARSE)
@pytest.mark.parametrize("factor", [3, 0.5])
def test_floats_take_cubes_of_other_values(kernels, sparse, factor):
    cube, wanted, *expected = exact((40, 52), factor=factor)
    output, spikes, _ = spikes_of_engine(compile(wanted, precision="fp32", sparse=sparse), cube)
    assert_equal(output, spikes, *expected)


@pytest.mark.slow
@needs_library
@pytest.mark.parametrize("precision", engine.PRECISIONS)
def test_dense_or_event_driven_by_the_number_of_spikes(precision):
    """Silence is computed event-driven, a storm densely; between them the choice changes once."""
    model = tiny_detector(encoder={"widths": (64, 128, 256, 512)}, head={"width": 256}, decoder={"num_blocks": 2})
    path = compile(model, precision=precision)._path
    assert isinstance(path, NativeNetwork)
    workspace = path.workspace((5, 1, 4, 64, 64))
    pay = events_pay("avx512", precision)
    for layer in workspace.layers[1:]:
        plane = layer.input.contents
        places = layer.num_steps * layer.batch * plane.height * plane.width * plane.channels
        chosen = [pay(layer, round(places * share / 100)) for share in range(101)]
        assert chosen[0]
        assert not chosen[-1]
        assert sorted(chosen, reverse=True) == chosen


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_streams_like_the_detector(precision, recordings_dir):
    recording = scn.open(recordings_dir / "icns_roadside_cars" / "icns_roadside_cars_td.dat")
    model = reference(tiny_detector())
    found = list(stream(compile(model, precision=precision), recording, every_us=100_000, min_score=0.0))
    wanted = list(stream(model, recording, every_us=100_000, min_score=0.0))
    assert [len(a) for a in found] == [len(b) for b in wanted]
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(torch.from_numpy(a.scores), torch.from_numpy(b.scores), atol=1e-4, rtol=1e-4)


def test_firing_rates(kernels):
    cube = random_cube((40, 52))
    wanted = reference(calibrated_nano((40, 52)))
    rates, mine = FiringRates(wanted.neuron_names), FiringRates(wanted.neuron_names)
    with torch.no_grad():
        wanted(cube, observe=rates)
    compile(wanted)(cube, observe=mine)
    assert rates.per_layer() == mine.per_layer()


VARIANTS = [
    ({"decoder.skips": "or"}, "decoder.skips='or'"),
    ({"decoder.kind": "inner"}, "decoder.kind='inner'"),
    ({"encoder.identity": True}, "encoder.identity=True"),
    ({"head.kind": "ssd"}, "head.kind='ssd'"),
    ({"head.kind": "pyramid"}, "head.kind='pyramid'"),
    ({"voxels.mode": "count", "decoder.skips": "add"}, "voxels.mode='count', decoder.skips='add'"),
]


def test_what_it_refuses(kernels):
    model = tiny_detector()
    with pytest.raises(ConfigError, match=r"unknown precision 'fp23'; did you mean 'fp32'\?"):
        compile(model, precision="fp23")
    with pytest.raises(ConfigError, match=r"unknown sparse 'alway'; did you mean 'always'\?"):
        compile(model, sparse="alway")
    with pytest.raises(ConfigError, match="ANN"):
        compile(build("nano", neuron={"kind": "relu"}))
    with pytest.raises(ConfigError, match=r"up to 8 times a step, these up to 9 times \(neuron.levels\)"):
        compile(build("nano", neuron={"kind": "ilif", "levels": 9}))
    with pytest.raises(ConfigError, match="unrolled: compile the one it was made from"):
        compile(build("nano", neuron={"kind": "ilif"}).unrolled())
    for changes, told in VARIANTS:
        with pytest.raises(ConfigError, match=f"does not compute networks with {told}; call the detector itself"):
            compile(tiny_detector(**changes))
    compiled = compile(model)
    cube = random_cube((32, 32), batch=1)
    with pytest.raises(ConfigError, match="add the batch axis"):
        compiled(cube[:, 0])
    with pytest.raises(ConfigError, match="takes cubes"):
        compiled(cube[:0])
    with pytest.raises(ConfigError, match=r"cubes of 0 and 1, this one holds 3"):
        compiled(cube * 3)
    with pytest.raises(ConfigError, match=r"cubes of 0 and 1"):
        compiled(cube * 0.5)
    _, state = compiled(cube)
    for precision in ("int8", "fp32"):
        with pytest.raises(ConfigError, match="start a cube of another size or batch with state=None"):
            compile(model, precision=precision)(random_cube((64, 32), batch=1), state)
        with pytest.raises(ConfigError, match=r"membrane of 'heads\.pose\.block', but this network has no such"):
            compile(model, precision=precision)(cube, {**state, "heads.pose.block": state["heads.wh.block"]})


def test_cubes_of_other_types_and_layouts():
    model = tiny_detector()
    cube = random_cube((36, 44), batch=2)
    for precision in ("int8", "fp32"):
        compiled = compile(model, precision=precision)
        wanted = compiled(cube)[0].heatmap
        turned = cube.transpose(0, 1).contiguous().transpose(0, 1)
        for same in (cube.bool(), cube.float(), cube.long(), turned):
            assert torch.equal(compiled(same)[0].heatmap, wanted)

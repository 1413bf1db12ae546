"""Decoder blocks in three integer convolutions: every path the same, and near the float network."""

import pytest
import torch
from calibrated import calibrated_nano, equal_states, random_cube
from torch import Tensor

from spiking_centernet.deploy.engine import compile, engine
from spiking_centernet.deploy.engine.bindings import Kernels
from spiking_centernet.deploy.engine.int8 import Int8Network
from spiking_centernet.deploy.engine.ir import unfold
from spiking_centernet.deploy.engine.separable import currents, factor, is_cheaper
from spiking_centernet.errors import ConfigError
from spiking_centernet.model import PRESETS, build
from spiking_centernet.model.decoder import DecoderBlock, join
from spiking_centernet.ops.library import native

LIBRARY = native()
SETS = LIBRARY.instruction_sets if LIBRARY is not None else ()
needs_library = pytest.mark.skipif(LIBRARY is None, reason="the native library is not built")


def seen_by(run, cube: Tensor, state=None):
    spikes: dict[str, Tensor] = {}
    output, state = run(cube, state, observe=spikes.__setitem__)
    return output, spikes, state


@needs_library
@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize(("size_hw", "batch", "threads"), [((45, 58), 2, 1), ((49, 66), 1, 2), ((1, 1), 1, 1)])
def test_every_path_gives_the_same_spikes(isa, size_hw, batch, threads):
    assert LIBRARY is not None
    model = calibrated_nano((64, 64), seed=batch)
    cube = random_cube(size_hw, batch=batch, seed=3)
    network = unfold(model)
    factors = {i: factor(b) for i, b in network.unmerged.items()}
    path = Int8Network(network, Kernels.of(LIBRARY, isa), lambda layer, count: False, factors)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        output, spikes, _ = seen_by(engine.Engine(network, path, "int8", ""), cube)
    finally:
        torch.set_num_threads(before)
    wanted_output, wanted, _ = seen_by(engine.compile_in_torch(model), cube)
    assert list(spikes) == list(wanted) == model.neuron_names
    for name, expected in wanted.items():
        assert torch.equal(spikes[name], expected), name
    for part, expected in zip(output, wanted_output, strict=True):
        torch.testing.assert_close(part, expected, atol=1e-5, rtol=1e-5)


@needs_library
def test_steps_one_by_one_are_the_window():
    model = calibrated_nano((64, 64))
    cube = random_cube((61, 90))
    compiled = compile(model, decoder="factored")
    _, whole, last = seen_by(compiled, cube)
    state, steps = None, []
    for step in cube:
        _, spikes, state = seen_by(compiled, step[None], state)
        steps.append(spikes)
    for layer, spikes in whole.items():
        assert torch.equal(torch.cat([step[layer] for step in steps]), spikes)
    assert equal_states(state, last)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e-3])
def test_the_integers_stay_near_the_real_numbers(scale):
    """Weights lose at most half a step of an int8 grid; nothing after that loses as much."""
    torch.manual_seed(0)
    block = DecoderBlock(24, 12, 0.5, lambda: build("nano").encoder.stem.neuron).eval()
    with torch.no_grad():
        block.expand.weight.mul_(scale)
        for norm in (block.expand_norm, block.filter_norm, block.project.norm):
            norm.running_mean.uniform_(-0.2, 0.2)
            norm.running_var.uniform_(0.5, 2)
            norm.bias.uniform_(-0.5, 0.5)
        x, skip = (torch.rand(2, 1, 24, 5, 7) < 0.3).float(), (torch.rand(2, 1, 12, 9, 13) < 0.3).float()
        wanted = block.fused().project.conv(join(x, skip))
        found = currents(factor(block), join(x, skip))
    assert float((found - wanted).abs().max()) < 0.03 * float(wanted.std()) + 0.01 * float(wanted.abs().max())


def test_no_spikes_and_all_spikes_stay_in_range():
    """The largest sums of all: 16 and 32 bits hold them by construction, and float64 shows that they do."""
    model = calibrated_nano((64, 64))
    for block in unfold(model).unmerged.values():
        factors = factor(block)
        for value in (0.0, 1.0):
            joined = torch.full((1, block.expand.in_channels, 6, 7), value).double()
            sums = torch.nn.functional.conv2d(joined, factors.expand.double()[:, :, None, None])
            expanded = (sums.long() + factors.expand_bias[:, None, None]) >> factors.expand_shift[:, None, None]
            assert int(expanded.abs().max()) < 2**15
            assert torch.isfinite(currents(factors, joined)).all()


def test_the_cheaper_way_is_taken():
    assert all(is_cheaper(block) for block in unfold(build("paper")).unmerged.values())
    assert not is_cheaper(DecoderBlock(8, 8, 9.0, lambda: build("nano").encoder.stem.neuron))
    merged = build("nano").eval().fuse()
    assert unfold(merged).unmerged == {}
    assert len(unfold(build("nano")).unmerged) == PRESETS["nano"].decoder.num_blocks
    with pytest.raises(ConfigError, match="this detector is fused"):
        compile(merged, decoder="factored")
    with pytest.raises(ConfigError, match="unknown decoder 'facored'; did you mean 'factored'"):
        compile(merged, decoder="facored")


def test_floats_factored_are_floats_merged():
    model = calibrated_nano((64, 64))
    cube = random_cube((61, 90))
    outputs = [compile(model, precision="fp32", decoder=way)(cube)[0] for way in ("factored", "merged")]
    spikes = [seen_by(compile(model, precision="fp32", decoder=way), cube)[1] for way in ("factored", "merged")]
    # Up to the first decoder block the two compute the same; behind it spikes may flip where rounding decides.
    factored, merged = spikes
    assert all(torch.equal(factored[name], merged[name]) for name in merged if name.startswith("encoder."))
    first = "decoder.blocks.0.project"
    assert float((factored[first] != merged[first]).float().mean()) < 1e-3
    assert float((outputs[0].heatmap - outputs[1].heatmap).abs().mean()) < 0.1 * float(outputs[1].heatmap.std())

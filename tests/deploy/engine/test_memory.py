"""A compiled network with memory against the detector: membranes are equal up to the rounding of a sigmoid."""

import pytest
import torch
from calibrated import equal_states, random_cube
from tiny import some_events, tiny_detector

from spiking_centernet.data import open, write_dat
from spiking_centernet.deploy.engine import compile, engine
from spiking_centernet.deploy.engine.bindings import Kernels
from spiking_centernet.deploy.engine.float import FloatNetwork
from spiking_centernet.deploy.engine.int8 import Int8Network
from spiking_centernet.deploy.engine.ir import unfold
from spiking_centernet.deploy.engine.quantize import reference
from spiking_centernet.inference import stream
from spiking_centernet.ops.library import native

LIBRARY = native()
SETS = LIBRARY.instruction_sets if LIBRARY is not None else ()
ROUNDING = 2e-6
"""How far membranes of up to 8 may lie apart: a few units in the last place of the sigmoid and of what follows."""


def remembering(seed=0, **changes):
    """Return a detector whose memory fires, holds and erases."""
    torch.manual_seed(seed)
    model = tiny_detector(**{"recurrent.kind": "gated", **changes})
    conv = model.recurrent.conv
    with torch.no_grad():
        conv.weight.mul_(1.5).add_(torch.randn_like(conv.weight) * 0.2)
    return model


def seen_by(model, cube, state=None):
    seen = {}
    with torch.no_grad():
        output, state = model(cube, state, observe=lambda name, s: seen.update({name: s.clone()}))
    return output, seen, state


def assert_alike(found, expected):
    """Compare answers, spikes and membranes of two networks, of whose memories none lies at its threshold."""
    (output, spikes, state), (output_wanted, spikes_wanted, state_wanted) = found, expected
    assert spikes.keys() == spikes_wanted.keys()
    for name, layer in spikes.items():
        assert torch.equal(layer.float(), spikes_wanted[name].float()), name
    assert spikes["recurrent"].float().mean() > 0.02
    for name, v in state_wanted.items():
        torch.testing.assert_close(state[name], v, atol=ROUNDING, rtol=0)
    for one, other in zip(output, output_wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"head.readout_steps": 2}, {"encoder.widths": (5, 10, 18, 21)}],
                         ids=["all steps", "last steps", "odd channels"])  # fmt: skip
@pytest.mark.parametrize(
    ("precision", "sparse"), [("int8", "never"), ("int8", "always"), ("fp32", "auto"), ("bf16", "always")]
)
def test_it_remembers_as_the_detector_does(kernels, precision, sparse, changes):
    if precision == "bf16" and engine.native() is None:
        pytest.skip("without native kernels sums are bfloat16 too, and not exact")
    wanted = reference(remembering(**changes))
    compiled = compile(wanted, precision=precision, sparse=sparse)
    first, second = random_cube((50, 61)), random_cube((50, 61), seed=1, density=0.02)
    found, expected = seen_by(compiled, first), seen_by(wanted, first)
    assert_alike(found, expected)
    assert found[2]["recurrent"].shape == expected[2]["recurrent"].shape
    # Each goes on from its own state, and from the other's.
    assert_alike(seen_by(compiled, second, found[2]), seen_by(wanted, second, expected[2]))
    assert_alike(seen_by(compiled, second, expected[2]), seen_by(wanted, second, expected[2]))


def test_steps_one_by_one_are_the_window(kernels):
    compiled = compile(remembering())
    cube = random_cube((50, 61))
    _, spikes, whole = seen_by(compiled, cube)
    state, alone = None, []
    for step in cube:
        _, seen, state = seen_by(compiled, step[None], state)
        alone.append(seen["recurrent"])
    assert torch.equal(torch.cat(alone), spikes["recurrent"])
    assert torch.equal(state["recurrent"], whole["recurrent"])


@pytest.mark.parametrize("precision", ["int8", "fp32"])
@pytest.mark.parametrize("lengths", [(7, 8), (5, 9, 1), (4, 4, 4, 3)])
def test_windows_of_any_length_are_the_clip(kernels, precision, lengths):
    # Floats densely: oneDNN adds in one order however many steps come at once.
    compiled = compile(remembering(), precision=precision, sparse="never")
    clip = torch.cat([random_cube((33, 47), seed=seed, density=0.05) for seed in range(3)])
    _, spikes, whole = seen_by(compiled, clip)
    assert spikes["recurrent"].any()
    state, found = None, []
    for window in clip.split(lengths):
        _, seen, state = seen_by(compiled, window, state)
        found.append(seen["recurrent"])
    assert torch.equal(torch.cat(found), spikes["recurrent"])
    for name, v in whole.items():
        torch.testing.assert_close(state[name], v, atol=0 if precision == "int8" else ROUNDING, rtol=0)


@pytest.mark.skipif(LIBRARY is None, reason="the native library is not built")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("read", [1, 3])
def test_the_last_steps_are_what_the_heads_spiked_in_them(dtype, read):
    """A dense sum and one of active inputs round differently: all steps and the earlier ones must go one way."""
    network = unfold(remembering(**{"head.readout_steps": read}))
    cube = random_cube((50, 61), density=0.02)
    # The heads' layer over the whole window is to be computed from active inputs, that of fewer steps densely.
    path = FloatNetwork(network, dtype, Kernels.of(LIBRARY), lambda layer, count: layer.num_steps == len(cube))
    seen = {}
    counts, _ = path(cube, None, lambda name, s: seen.update({name: s.clone()}), keep_state=False)
    heads = torch.cat([seen[name] for name in network.heads.names], 1).unflatten(0, cube.shape[:2])
    assert heads.any()
    assert torch.equal(counts, heads[-read:].float().sum(0).permute(0, 2, 3, 1))


def test_while_nothing_comes_it_holds(kernels):
    compiled = compile(remembering())
    _, before, state = seen_by(compiled, random_cube((50, 61), batch=1))
    silence = torch.zeros(40, 1, 4, 50, 61, dtype=torch.uint8)
    held = seen_by(compiled, silence, state)[1]["recurrent"][-1]
    forgot = seen_by(compiled, silence, {name: v for name, v in state.items() if name != "recurrent"})[1]["recurrent"]
    assert held.sum() > forgot[-1].sum()
    assert held.sum() > 0.2 * before["recurrent"][-1].sum()


def test_a_stream_is_the_detectors(kernels, tmp_path):
    write_dat(tmp_path / "noise_td.dat", some_events(3000, 300_000, (40, 48), 0), (40, 48))
    recording = open(tmp_path / "noise_td.dat")
    model = reference(remembering(**{"head.readout_steps": 2}))
    found, wanted = (list(stream(each, recording, min_score=0.0)) for each in (compile(model), model))
    assert len(found) == 15
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(torch.from_numpy(one.scores), torch.from_numpy(other.scores), atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(LIBRARY is None, reason="the native library is not built")
@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("events", [False, True], ids=["dense", "events"])
def test_every_instruction_set(isa, events):
    wanted = reference(remembering())
    network = unfold(wanted)
    path = Int8Network(network, Kernels.of(LIBRARY, isa), lambda layer, count: events)
    cube = random_cube((50, 61))
    assert_alike(seen_by(engine.Engine(network, path, "int8", ""), cube), seen_by(wanted, cube))


@pytest.mark.skipif(LIBRARY is None, reason="the native library is not built")
def test_membranes_are_alike_to_the_last_bit_everywhere():
    """Any instruction set, number of threads and batch."""
    network, cube, before = unfold(remembering()), random_cube((33, 47), batch=3), torch.get_num_threads()
    found = []
    for isa in SETS:
        for threads, cubes in ((1, cube.split(1, 1)), (2, [cube])):
            path = Int8Network(network, Kernels.of(LIBRARY, isa), lambda layer, count: True)
            torch.set_num_threads(threads)
            states = [path(part, None, None, keep_state=True)[1] for part in cubes]
            torch.set_num_threads(before)
            found.append({name: torch.cat([state[name] for state in states]) for name in states[0]})
    assert found[0]["recurrent"].any()
    for other in found[1:]:
        assert equal_states(found[0], other)

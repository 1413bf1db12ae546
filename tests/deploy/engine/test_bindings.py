"""The native kernels against torch, layer by layer, over shapes nobody would choose."""

import ctypes
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from spiking_centernet.deploy.engine.bindings import EventLists, Kernels, Plane, c_layer, run_dense, run_events
from spiking_centernet.deploy.engine.ir import Block
from spiking_centernet.deploy.engine.packing import LANES, pack, pack_floats, padded
from spiking_centernet.deploy.engine.quantize import int8_of
from spiking_centernet.model import PLIF
from spiking_centernet.model.neurons import ILIF, GatedNeuron
from spiking_centernet.ops.library import native
from spiking_centernet.ops.structs import MAX_SPIKES, CGated

LIBRARY = native()
SETS = LIBRARY.instruction_sets if LIBRARY is not None else ()
WAYS = ["dense", "events", "floats"]
"""Bytes by all inputs and by the active ones, floats by the active ones."""
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="the native library is not built")


def random_block(inputs: int, outputs: int, kernel: int, stride: int, seed: int, *, levels=0, **options) -> Block:
    """Return a block of PLIF neurons, of I-LIF neurons where there are levels, whose inputs spike as often."""
    rng = torch.Generator().manual_seed(seed)
    make = partial(ILIF, levels=levels) if levels else PLIF
    neuron = make(**{"tau": 1.5, "threshold": 0.75, **options})
    at = [(k + 0.5) * 0.75 for k in range(levels)]
    weight = torch.randn(outputs, inputs, kernel, kernel, generator=rng) / (inputs * kernel**2) ** 0.5 * 3
    return Block(
        names=("a",), widths=(outputs,), weight=weight, bias=torch.randn(outputs, generator=rng) / 4, stride=stride,
        q=torch.full((outputs,), 1.0 if neuron.q is None else neuron.q.detach().item()),
        threshold=torch.tensor([0.75, *at])[:, None].repeat(1, outputs), neurons=(neuron,),
        largest_input=max(1, levels),
    )  # fmt: skip


def plane_of(spikes: torch.Tensor, halo: int) -> Plane:
    num, channels, height, width = spikes.shape
    plane = Plane(num, (height, width), channels, halo)
    plane.inside[..., :channels] = spikes.permute(0, 2, 3, 1)
    return plane


def expected(block: Block, x: torch.Tensor, steps: int, v: torch.Tensor):
    q = int8_of(block)
    y = F.conv2d(x.double(), q.weight.double(), None, block.stride, block.kernel // 2).float()
    y = y * q.scale[:, None, None] + q.bias[:, None, None]
    with torch.no_grad():
        spikes, v = block.neurons[0](y.unflatten(0, (steps, -1)), v)
    return spikes.flatten(0, 1), v


def check(isa: str, block: Block, x: torch.Tensor, steps: int, *, way: str):
    """Compare one kernel's spikes, membranes, counts and number of spikes with torch."""
    assert LIBRARY is not None
    kernels, batch = Kernels.of(LIBRARY, isa), x.shape[0] // steps
    size_hw = (-(-x.shape[2] // block.stride), -(-x.shape[3] // block.stride))
    q, parts = int8_of(block), (x.shape[1],)
    same = replace(block, weight=q.values, bias=q.bias)
    packed = pack_floats(same, torch.float32, parts) if way == "floats" else pack(block, q, parts)
    source, target = plane_of(x, block.kernel // 2), Plane(x.shape[0], size_hw, block.weight.shape[0], 1)
    target.inside.fill_(7)
    neuron = block.neurons[0]
    layer = c_layer(
        packed, source, target, size_hw, num_steps=steps, batch=batch, kernel=block.kernel, stride=block.stride,
        leaky=neuron.leaky, decay_input=neuron.decay_input, soft_reset=neuron.options.soft_reset,
    )  # fmt: skip
    shape, outputs = (batch, *size_hw, packed.padded_channels), block.weight.shape[0]
    before = torch.rand(shape, generator=torch.Generator().manual_seed(3)) / 2
    before[..., outputs:] = 0
    after, counts = torch.full(shape, 9.0), torch.full(shape, 9.0)
    layer.old_membranes, layer.membranes, layer.counts = before.data_ptr(), after.data_ptr(), counts.data_ptr()
    if way != "dense":
        lists = EventLists()
        lists.reserve(layer)
        total = run_events(kernels, layer, lists)
    else:
        total = run_dense(kernels, layer)
    spikes, v = expected(block, x, steps, before[..., :outputs].permute(0, 3, 1, 2))
    assert torch.equal(target.spikes().float(), spikes)
    assert torch.equal(after[..., :outputs].permute(0, 3, 1, 2), v)
    assert torch.equal(counts[..., :outputs].permute(0, 3, 1, 2), spikes.unflatten(0, (steps, batch)).sum(0))
    assert total == spikes.sum() == target.memory.sum()


def random_spikes(num: int, channels: int, size_hw: tuple[int, int], density: float, seed: int, most=1) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    spikes = (torch.rand(num, channels, *size_hw, generator=rng) < density).float()
    return spikes if most == 1 else spikes * torch.randint(1, most + 1, spikes.shape, generator=rng)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("isa", SETS)
@settings(max_examples=25, deadline=None)
@given(
    size_hw=st.tuples(st.integers(1, 9), st.integers(1, 15)),
    inputs=st.integers(1, 70),
    outputs=st.integers(1, 150),
    kernel=st.sampled_from([1, 3, 5, 7]),
    stride=st.integers(1, 3),
    steps_batch=st.tuples(st.integers(1, 6), st.integers(1, 3)),
    density=st.sampled_from([0.0, 0.03, 0.3, 1.0]),
    seed=st.integers(0, 99),
)
def test_any_shape(isa, way, size_hw, inputs, outputs, kernel, stride, steps_batch, density, seed):
    x = random_spikes(steps_batch[0] * steps_batch[1], inputs, size_hw, density, seed)
    check(isa, random_block(inputs, outputs, kernel, stride, seed), x, steps_batch[0], way=way)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("isa", SETS)
@settings(max_examples=25, deadline=None)
@given(
    levels=st.integers(1, MAX_SPIKES),
    size_hw=st.tuples(st.integers(1, 9), st.integers(1, 15)),
    inputs=st.integers(1, 70),
    outputs=st.integers(1, 150),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 2),
    steps=st.integers(1, 4),
    density=st.sampled_from([0.0, 0.3, 1.0]),
    options=st.sampled_from([{}, {"decay_input": False}, {"tau": math.inf}]),
    seed=st.integers(0, 99),
)
def test_whole_numbers_of_spikes(
    isa, way, levels, size_hw, inputs, outputs, kernel, stride, steps, density, options, seed
):
    x = random_spikes(steps * 2, inputs, size_hw, density, seed, most=levels)
    check(isa, random_block(inputs, outputs, kernel, stride, seed, levels=levels, **options), x, steps, way=way)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("isa", SETS)
def test_as_many_spikes_of_all_inputs_as_there_may_be(isa, way):
    for levels in range(2, MAX_SPIKES + 1):
        block = random_block(100, 32, 3, 1, 0, levels=levels)
        for value in (1.0, -1.0):
            extreme = replace(block, weight=torch.full_like(block.weight, value))
            check(isa, extreme, torch.full((2, 100, 4, 4), float(levels)), 2, way=way)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("isa", SETS)
def test_more_active_inputs_than_16_bits_hold(isa, way):
    """All inputs on, all weights at their limit: partial sums must move on to 32 bits in time."""
    block = random_block(100, 32, 3, 1, 0)
    for value in (1.0, -1.0):
        full = torch.full_like(block.weight, value)
        extreme = replace(block, weight=full)
        check(isa, extreme, torch.ones(2, 100, 4, 4), 2, way=way)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("isa", SETS)
def test_more_steps_than_a_stretch(isa, way):
    check(isa, random_block(3, 5, 3, 2, 1), random_spikes(2 * 101, 3, (3, 4), 0.2, 0), 101, way=way)


@pytest.mark.parametrize(
    "options", [{"soft_reset": True}, {"decay_input": False}, {"soft_reset": True, "decay_input": False}]
)
@pytest.mark.parametrize("way", WAYS)
def test_every_kind_of_neuron(options, way):
    check(SETS[0], random_block(8, 20, 3, 1, 2, **options), random_spikes(6, 8, (5, 6), 0.3, 1), 3, way=way)


@pytest.mark.parametrize("isa", SETS)
@settings(max_examples=20, deadline=None)
@given(
    size_hw=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    channels=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    num=st.integers(1, 3),
    most=st.sampled_from([1, 2, 3, MAX_SPIKES]),
    seed=st.integers(0, 99),
)
def test_filling_pooling_and_joining(isa, size_hw, channels, num, most, seed):
    assert LIBRARY is not None
    kernels = Kernels.of(LIBRARY, isa)
    x = random_spikes(num, channels[0], size_hw, 0.3, seed, most).to(torch.uint8)
    plane, largest = Plane(num, size_hw, channels[0], 2), ctypes.c_int64()
    count = kernels.fill(x.data_ptr(), num, channels[0], ctypes.byref(plane.c), ctypes.byref(largest))
    assert torch.equal(plane.spikes(), x)
    assert (count, largest.value) == (x.count_nonzero(), x.max())

    pooled = F.max_pool2d(x.float(), 3, 2, 1).to(torch.uint8)
    coarse = Plane(num, (pooled.shape[2], pooled.shape[3]), channels[0], 1)
    count = kernels.or_pool(ctypes.byref(plane.c), ctypes.byref(coarse.c), num)
    assert torch.equal(coarse.spikes(), pooled)
    assert count == pooled.sum() == coarse.memory.sum()

    y = random_spikes(num, channels[1], size_hw, 0.3, seed + 1, most).to(torch.uint8)
    skip = plane_of(y, 1)
    joined = Plane(num, size_hw, coarse.c.channels + skip.c.channels, 1)
    count = kernels.join(ctypes.byref(coarse.c), ctypes.byref(skip.c), ctypes.byref(joined.c), num)
    up = pooled.repeat_interleave(2, 2).repeat_interleave(2, 3)[..., : size_hw[0], : size_hw[1]]
    assert torch.equal(joined.spikes()[:, : channels[0]], up)
    assert torch.equal(joined.spikes()[:, coarse.c.channels :][:, : channels[1]], y)
    assert count == up.sum() + y.sum() == joined.memory.sum()


@pytest.mark.parametrize("isa", SETS)
@settings(max_examples=20, deadline=None)
@given(
    size_hw=st.tuples(st.integers(1, 5), st.integers(1, 25)),
    channels=st.integers(1, 70),
    steps_batch=st.tuples(st.integers(1, 6), st.integers(1, 3)),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    counted=st.booleans(),
    seed=st.integers(0, 99),
)
def test_neurons_behind_sums_of_somebody_else(isa, size_hw, channels, steps_batch, dtype, counted, seed):
    assert LIBRARY is not None
    (steps, batch), kernels = steps_batch, Kernels.of(LIBRARY, isa)
    block = random_block(1, channels, 1, 1, seed)
    packed = pack_floats(block, dtype, (1,))
    rng = torch.Generator().manual_seed(seed)
    sums = torch.randn(steps * batch, *size_hw, channels, generator=rng).to(dtype)
    source, target = (Plane(steps * batch, size_hw, n, 1) for n in (1, channels))
    layer = c_layer(
        packed, source, None if counted else target, size_hw, num_steps=steps, batch=batch, kernel=1, stride=1, leaky=1,
        decay_input=1, soft_reset=0,
    )  # fmt: skip
    counts = torch.full((batch, *size_hw, packed.padded_channels), 9.0)
    if counted:
        layer.counts = counts.data_ptr()
    fire = kernels.fire_float32 if dtype == torch.float32 else kernels.fire_bfloat16
    total = fire(ctypes.byref(layer), sums.data_ptr(), channels)
    y = (sums.float() + block.bias).permute(0, 3, 1, 2).unflatten(0, (steps, batch))
    with torch.no_grad():
        spikes, _ = block.neurons[0](y, None)
    assert total == spikes.sum()
    if counted:
        assert torch.equal(counts[..., :channels].permute(0, 3, 1, 2), spikes.sum(0))
    else:
        assert torch.equal(target.spikes().float(), spikes.flatten(0, 1))
        assert total == target.memory.sum()


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize(
    ("steps", "batch", "channels", "size_hw"), [(1, 1, 1, (1, 1)), (3, 2, 40, (3, 5)), (2, 1, 17, (4, 1))]
)
@pytest.mark.parametrize("from_rest", [True, False])
def test_gated_neurons_are_those_of_torch(isa, steps, batch, channels, size_hw, from_rest):
    assert LIBRARY is not None
    rng = torch.Generator().manual_seed(channels)
    x = torch.randn(steps, batch, 2 * channels, *size_hw, generator=rng) * 2
    spikes = (torch.rand(steps * batch, channels, *size_hw, generator=rng) < 0.3).to(torch.uint8)
    old = None if from_rest else torch.randn(batch, channels, *size_hw, generator=rng)
    wanted, wanted_v = GatedNeuron(threshold=0.75, surrogate="atan")(x, old)
    source, target = plane_of(spikes, 2), Plane(steps * batch, size_hw, channels, 1)
    # Not one number more than the kernel may read or write.
    currents = torch.zeros(steps * batch, *size_hw, padded(2 * channels, LANES))
    currents[..., : 2 * channels] = x.flatten(0, 1).permute(0, 2, 3, 1)
    membranes, before = (torch.zeros(batch, *size_hw, padded(channels, LANES)) for _ in range(2))
    if old is not None:
        before[..., :channels] = old.permute(0, 2, 3, 1)
    layer = CGated(
        num_steps=steps, batch=batch, height=size_hw[0], width=size_hw[1], channels=channels,
        padded_channels=membranes.shape[-1], padded_currents=currents.shape[-1], threshold=0.75,
        currents=currents.data_ptr(), membranes=membranes.data_ptr(),
        old_membranes=None if old is None else before.data_ptr(),
    )  # fmt: skip
    layer.input, layer.output = ctypes.pointer(source.c), ctypes.pointer(target.c)
    count = Kernels.of(LIBRARY, isa).gated(ctypes.byref(layer))
    joined = torch.maximum(spikes, wanted.flatten(0, 1).to(torch.uint8))
    assert torch.equal(target.spikes(), joined)
    assert count == int(joined.sum())
    assert not target.memory.sum() - joined.sum()  # the halo stays empty
    torch.testing.assert_close(membranes[..., :channels].permute(0, 3, 1, 2), wanted_v, atol=1e-6, rtol=0)


@pytest.mark.parametrize("isa", SETS)
def test_the_gate_is_the_sigmoid(isa):
    """With drive 1 from rest the membrane after a step is the gate itself."""
    width, channels = 1024, 5
    gates = torch.linspace(-100, 100, width * channels).reshape(1, 1, width, channels)
    padded = torch.zeros(1, 1, width, 16)
    padded[..., :channels], padded[..., channels : 2 * channels] = 1.0, gates
    source, target = (Plane(1, (1, width), channels, 1) for _ in range(2))
    source.inside[..., 0] = 1
    membranes = torch.zeros(1, 1, width, 16)
    layer = CGated(
        num_steps=1, batch=1, height=1, width=width, channels=channels, padded_channels=16, padded_currents=16,
        threshold=0.75, currents=padded.data_ptr(), membranes=membranes.data_ptr(),
    )  # fmt: skip
    layer.input, layer.output = ctypes.pointer(source.c), ctypes.pointer(target.c)
    count = Kernels.of(LIBRARY, isa).gated(ctypes.byref(layer))
    found, wanted = membranes[..., :channels], torch.sigmoid(gates.double())
    torch.testing.assert_close(found.double(), wanted, atol=2e-7, rtol=0)
    small = (gates < 0) & (gates > -80)
    assert ((found.double() - wanted).abs() / wanted)[small].max() < 5e-7
    spikes = (found >= 0.75).to(torch.uint8)
    spikes[..., 0] = 1
    assert torch.equal(target.inside[..., :channels], spikes)
    assert count == int(spikes.sum())

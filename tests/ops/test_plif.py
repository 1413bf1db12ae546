"""The kernels against the loop they replace, which is tested against golden values in test_neuron.py."""

import itertools
import sys

import numpy as np
import pytest
import torch
from torch import nn

from spiking_centernet.model.config import NeuronConfig
from spiking_centernet.model.context import ForwardContext
from spiking_centernet.model.layers import ConvNeuron
from spiking_centernet.model.neurons import PLIF, make_neuron
from spiking_centernet.ops import plif, plif_cpu
from spiking_centernet.ops.library import native
from spiking_centernet.ops.surrogate import SURROGATES

pytestmark = pytest.mark.skipif(native() is None, reason="the package was installed without a compiler")

OPTIONS = [
    {"decay_input": d, "soft_reset": s, "detach_reset": a} for d, s, a in itertools.product((True, False), repeat=3)
]
VARIANTS = [f"decay{d}_{r}_detach{a}" for d in (1, 0) for r in ("hard", "soft") for a in (1, 0)]
DTYPES = (torch.float32, torch.bfloat16)


def grads(outputs, upstream, inputs):
    return torch.autograd.grad(outputs, inputs, upstream, allow_unused=True)


def both_ways(neuron, x, v):
    """Return (spikes, membrane, gradients of x, v and w) of the kernel and of the loop, from the same upstream."""
    generator = torch.Generator().manual_seed(5)
    upstream = torch.randn(x.shape, generator=generator).to(x.dtype), torch.randn(x.shape[1:], generator=generator)
    for compute in (neuron, neuron.step_by_step):
        leaves = [x.detach().requires_grad_(), None if v is None else v.detach().requires_grad_(), neuron.w]
        inputs = [leaf for leaf in leaves if leaf is not None and leaf.requires_grad]
        spikes, last = compute(leaves[0], leaves[1])
        yield spikes.detach(), last.detach(), grads((spikes, last), upstream, inputs)


def assert_equal(ours, theirs, dtype):
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])
    rounding = 1e-4 if dtype == torch.float32 else 1e-2
    for a, b in zip(ours[2], theirs[2], strict=True):
        if b is not None:
            torch.testing.assert_close(a, b, rtol=rounding, atol=rounding * float(b.abs().max()))


@pytest.mark.parametrize("variant", VARIANTS)
def test_matches_the_golden_values(golden_dir, variant):
    golden = np.load(golden_dir / "plif.npz")
    decay, reset, detach = variant.split("_")
    neuron = PLIF(soft_reset=reset == "soft", decay_input=decay == "decay1", detach_reset=detach == "detach1")
    x = torch.from_numpy(golden["x"]).requires_grad_()
    assert neuron.has_kernel(x)
    spikes, v = neuron(x)
    spikes.backward(torch.from_numpy(golden["grad_out"]))
    np.testing.assert_array_equal(spikes.detach().numpy(), golden[f"{variant}.spikes"])
    np.testing.assert_allclose(v.detach().numpy(), golden[f"{variant}.v_last"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(x.grad, golden[f"{variant}.grad_x"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(neuron.w.grad, golden[f"{variant}.grad_w"], rtol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("num_steps", range(1, 10))
def test_any_number_of_steps(num_steps, dtype):
    torch.manual_seed(num_steps)
    x = (torch.randn(num_steps, 2, 3, 5, 7) * 1.5 + 0.5).to(dtype)
    assert_equal(*both_ways(PLIF(tau=1.7), x, None), dtype)


@pytest.mark.parametrize("kind", ["plif", "if"])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "".join(str(int(v)) for v in o.values()))
@pytest.mark.parametrize("num_steps", [4, 9])
def test_any_neuron_goes_on_from_a_state(kind, options, num_steps):
    torch.manual_seed(0)
    x = torch.randn(num_steps, 1, 3, 4, 5) + 0.4
    assert_equal(
        *both_ways(make_neuron(NeuronConfig(kind=kind, **options)), x, torch.randn(1, 3, 4, 5) * 0.5), torch.float32
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("options", [{}, {"soft_reset": True, "detach_reset": False}, {"decay_input": False}], ids=str)
@pytest.mark.parametrize("kind", ["plif", "if"])
@pytest.mark.parametrize("surrogate", ["sigmoid", "rectangle"])
def test_any_surrogate(surrogate, kind, options, dtype):
    torch.manual_seed(0)
    # Far from the threshold too, where the sigmoid's derivative is next to nothing.
    x = (torch.randn(5, 2, 3, 5, 7) * torch.tensor([0.5, 2.0, 40.0]).view(3, 1, 1) + 0.4).to(dtype)
    neuron = make_neuron(NeuronConfig(kind=kind, surrogate=surrogate, **options))
    assert neuron.has_kernel(x)
    ours, theirs = both_ways(neuron, x, torch.randn(2, 3, 5, 7) * 0.5)
    assert theirs[2][0].count_nonzero() > 0
    assert_equal(ours, theirs, dtype)


@pytest.mark.parametrize("surrogate", plif_cpu.SURROGATES)
def test_slopes_are_those_of_the_formulas(surrogate):
    u = torch.linspace(-30, 30, 20_001)
    neuron = make_neuron(NeuronConfig(kind="if", surrogate=surrogate))
    x = (u + neuron.threshold).view(1, 1, 1, 1, -1).requires_grad_()
    neuron(x)[0].sum().backward()
    # All of them are even; above 0 the sigmoid's own formula loses its digits.
    below = -((u + neuron.threshold) - neuron.threshold).abs().double()
    torch.testing.assert_close(x.grad.flatten(), SURROGATES[surrogate](below).float(), rtol=1e-6, atol=1e-37)


def test_memory_layout_does_not_matter():
    torch.manual_seed(0)
    x, neuron = torch.randn(4, 2, 3, 5, 7), PLIF()
    last = x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (4, 2))
    for other in (last, x.transpose(0, 1).contiguous().transpose(0, 1), torch.cat([x, x], 2)[:, :, :3]):
        assert torch.equal(x, other)
        results = zip(both_ways(neuron, x, None), both_ways(neuron, other, None), strict=True)
        for (spikes, v, of_x), (other_spikes, other_v, of_other) in results:
            assert torch.equal(spikes, other_spikes)
            assert torch.equal(v, other_v)
            assert torch.equal(of_x[0], of_other[0])


def test_nothing_to_compute_goes_step_by_step():
    x = torch.zeros(3, 0, 2, 4, 5, requires_grad=True)
    assert not PLIF().has_kernel(x)
    spikes, v = PLIF()(x)
    assert (spikes.shape, v.shape) == ((3, 0, 2, 4, 5), (0, 2, 4, 5))


def test_without_the_library_torch_computes_the_same(monkeypatch):
    x, neuron = torch.rand(4, 2, 3, 5, 7) * 2, PLIF()
    spikes, v = neuron(x)
    monkeypatch.setattr(plif_cpu, "native", lambda: None)
    assert not neuron.has_kernel(x)
    assert torch.equal(neuron(x)[0], spikes)
    assert torch.equal(neuron(x)[1], v)


def test_traced_networks_hold_torch_operations_only():
    neuron, x = PLIF(), torch.rand(2, 1, 3, 4, 4)
    assert "_PLIF" not in str(torch.jit.trace(neuron, x).inlined_graph)
    exported = torch.export.export(neuron, (x,))
    assert torch.equal(exported.module()(x)[0], neuron(x)[0])


# --- behind batch norm ------------------------------------------------------------------------------------------------

# channels, steps, batch, height, width
SHAPES = [
    (1, 1, 2, 2, 3), (3, 4, 5, 1, 1), (1, 5, 2, 7, 9), (17, 5, 2, 13, 11), (40, 9, 3, 9, 5),
    (32, 3, 1, 33, 31), (512, 2, 1, 3, 5), (513, 2, 1, 3, 5),
]  # fmt: skip


def layers(channels, seed=1, **options):
    torch.manual_seed(seed)
    norm = nn.BatchNorm2d(channels)
    nn.init.uniform_(norm.weight, 0.5, 2.0)
    nn.init.uniform_(norm.bias, 0.2, 0.8)
    nn.init.uniform_(norm.running_mean, -1, 1)
    return norm, PLIF(tau=1.7, **options)


def fused(y, norm, neuron, num_steps):
    return plif.batch_norm_plif(y, norm, neuron.w, num_steps=num_steps, leaky=neuron.leaky, options=neuron.options)


def cosine(a, b):
    a, b = a.double().flatten(), b.double().flatten()
    return float(a @ b / (a.norm() * b.norm()))


def away_from_threshold(channels, steps, batch, height, width, neuron, norm, dtype):
    """Return an input no membrane of which comes near the threshold: rounding flips no spike."""
    for seed in range(200):
        torch.manual_seed(seed)
        y = (torch.randn(steps * batch, channels, height, width) * 1.5 + 3.0).to(dtype)
        x = torch.nn.functional.batch_norm(y.double(), None, None, norm.weight.double(), norm.bias.double(), True)
        v, nearest = torch.zeros_like(x[:batch]), 1.0
        for x_step in x.unflatten(0, (steps, batch)):
            h = v + (x_step - v) * neuron.q.double()
            nearest = min(nearest, float((h - 1).detach().abs().min()))
            v = torch.where(h >= 1, 0.0, h)
        if nearest > 2e-6:
            return y
    raise AssertionError("no such input among 200")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_batch_norm_and_plif(shape, dtype):
    channels, steps = shape[:2]
    (norm_a, neuron_a), (norm_b, neuron_b) = layers(channels), layers(channels)
    y = away_from_threshold(*shape, neuron_a, norm_a, dtype)
    ours, theirs = y.clone().requires_grad_(), y.clone().requires_grad_()
    spikes = fused(ours, norm_a, neuron_a, steps)
    expected = neuron_b.step_by_step(norm_b(theirs.float()).unflatten(0, (steps, -1)))[0].flatten(0, 1)
    assert spikes.dtype == dtype
    assert torch.equal(spikes.float(), expected)
    assert 0 < expected.mean() < 1
    grad = torch.randn(y.shape).to(dtype)
    spikes.backward(grad)
    expected.backward(grad.float())
    tolerance = 0.999999 if dtype == torch.float32 else 0.9999
    assert cosine(ours.grad, theirs.grad) > tolerance
    for a, b in ((norm_a.weight, norm_b.weight), (norm_a.bias, norm_b.bias), (neuron_a.w, neuron_b.w)):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-3 * float(b.grad.abs().max()))
    torch.testing.assert_close(norm_a.running_mean, norm_b.running_mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(norm_a.running_var, norm_b.running_var, rtol=1e-5, atol=1e-6)
    assert norm_a.num_batches_tracked == norm_b.num_batches_tracked == 1


def test_a_large_mean_does_not_swallow_the_variance():
    norm, neuron = layers(2)
    torch.manual_seed(0)
    y = torch.randn(6, 2, 40, 40) * 0.1 + 1000
    nn.init.zeros_(norm.running_var)
    fused(y, norm, neuron, 3)
    torch.testing.assert_close(norm.running_var, 0.1 * y.double().var((0, 2, 3)).float(), rtol=1e-4, atol=0)


def everything(y, channels, steps):
    norm, neuron = layers(channels)
    x = y.clone().requires_grad_()
    spikes = fused(x, norm, neuron, steps)
    spikes.backward(y)
    return spikes.detach(), x.grad, norm.weight.grad, norm.bias.grad, neuron.w.grad, norm.running_var


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_does_not_depend_on_the_number_of_threads(dtype):
    torch.manual_seed(0)
    y = torch.randn(10, 17, 37, 41).to(dtype).contiguous(memory_format=torch.channels_last)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(everything(y, 17, 5))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def print_sums():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sys.stdout.write(f"{native().instruction_set}\n")
    for dtype in (torch.float32, torch.bfloat16):
        for x in everything(torch.randn(10, 17, 13, 11).to(dtype), 17, 5):
            total = x.double().mul(torch.arange(1, x.numel() + 1).reshape(x.shape)).sum().item()
            sys.stdout.write(f"{total.hex()}\n")


@pytest.mark.slow
def test_does_not_depend_on_the_instruction_set(in_new_process):
    """Operations are rounded alike and sums are split alike, so that even gradients agree to the last bit."""
    library = native()
    assert library is not None
    sums = set()
    for isa in library.instruction_sets:  # the library is loaded once in a process
        done = in_new_process(print_sums, SCN_ISA=isa)
        assert done.returncode == 0, done.stderr
        used, *values = done.stdout.splitlines()
        assert used == isa
        assert len(values) == 12
        sums.add(tuple(values))
    assert len(sums) == 1


def block(kind="plif", **options):
    torch.manual_seed(3)
    made = ConvNeuron.make(4, 12, lambda: make_neuron(NeuronConfig(kind=kind, **options)))
    nn.init.constant_(made.norm.bias, 0.6)
    return made.train()


def run(made, x, *, keep):
    context = ForwardContext(keep_state=keep)
    spikes = made(x, context)
    spikes.backward(torch.linspace(-1, 1, spikes.numel()).reshape(spikes.shape))
    return spikes.detach(), context.new_state


@pytest.mark.parametrize("kind", ["plif", "lif", "if", "ilif"])
def test_a_block_trains_alike_with_and_without_the_fused_kernel(monkeypatch, kind):
    calls = []
    apply = plif.batch_norm_plif
    monkeypatch.setattr(plif, "batch_norm_plif", lambda *a, **k: calls.append(1) or apply(*a, **k))
    x = (torch.rand(5, 2, 4, 9, 7, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    fast, slow = block(kind), block(kind)
    spikes_fast, none = run(fast, x, keep=False)
    assert (len(calls), none) == (1, {})
    spikes_slow, membranes = run(slow, x, keep=True)
    assert len(calls) == 1
    assert membranes[slow.name].shape == (2, 12, 9, 7)
    assert 0.05 < spikes_slow.mean() < 0.95
    assert torch.equal(spikes_fast, spikes_slow)
    for (name, a), (_, b) in zip(fast.named_parameters(), slow.named_parameters(), strict=True):
        assert cosine(a.grad, b.grad) > 0.9999, name
    for (name, a), (_, b) in zip(fast.named_buffers(), slow.named_buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize(("kind", "options"), [("relu", {}), ("plif", {"surrogate": "sigmoid"})])
def test_neurons_the_kernel_does_not_know_go_the_long_way(monkeypatch, kind, options):
    monkeypatch.setattr(plif_cpu, "SURROGATES", ("atan",))
    monkeypatch.setattr(plif, "batch_norm_plif", lambda *_, **__: pytest.fail("the kernel computes another neuron"))
    spikes, _ = run(block(kind, **options), torch.rand(2, 1, 4, 5, 5), keep=False)
    assert spikes.shape == (2, 1, 12, 5, 5)


@pytest.mark.parametrize("setting", [{"momentum": None}, {"affine": False}, {"track_running_stats": False}])
def test_norms_the_kernel_does_not_know_are_refused(setting):
    assert plif.supports_norm(nn.BatchNorm2d(3).train())
    assert not plif.supports_norm(nn.BatchNorm2d(3).eval())
    assert not plif.supports_norm(None)
    assert not plif.supports_norm(nn.BatchNorm2d(3, **setting).train())

import numba
import pytest
import torch
from torch import nn

from spiking_centernet.nn.blocks import ConvNeuron, Membranes, _has_kernel
from spiking_centernet.nn.kernels import BatchNormPLIF
from spiking_centernet.nn.neuron import PLIF, make_neuron

# channels, steps, batch, height, width: few values, one pixel, odd sizes, one channel, nearly the most channels
SHAPES = [
    (1, 1, 2, 2, 3),
    (6, 4, 5, 1, 1),
    (1, 5, 2, 7, 9),
    (3, 5, 2, 13, 11),
    (40, 4, 3, 9, 5),
    (40, 3, 1, 33, 31),
    (511, 2, 1, 3, 5),
    (512, 2, 1, 3, 5),
]
FAR = 1e-4


def eager(y, norm, neuron, num_steps):
    """Return spikes and the membranes before each reset, in float32."""
    x = norm(y.float()).unflatten(0, (num_steps, -1))
    spikes, _ = neuron(x)
    h, v = [], torch.zeros_like(x[0])
    with torch.no_grad():
        for x_step, s in zip(x, spikes, strict=True):
            h.append(v + (x_step - v) * neuron.q)
            v = torch.where(s > 0, 0.0, h[-1])
    return spikes.flatten(0, 1), torch.stack(h).flatten(0, 1)


def layers(channels, seed):
    torch.manual_seed(seed)
    norm = nn.BatchNorm2d(channels)
    nn.init.uniform_(norm.weight, 0.5, 2.0)
    nn.init.uniform_(norm.bias, 0.2, 0.8)
    nn.init.uniform_(norm.running_mean, -1, 1)
    return norm, PLIF(tau=1.7)


def kernel(y, norm, neuron, num_steps):
    return BatchNormPLIF.apply(
        y, norm.weight, norm.bias, norm.running_mean, norm.running_var, neuron.w,
        norm.momentum, norm.eps, num_steps, neuron.threshold, norm.training,
    )  # fmt: skip


def cosine(a, b):
    a, b = a.double().flatten(), b.double().flatten()
    return float(a @ b / (a.norm() * b.norm()))


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_batch_norm_and_plif(shape, dtype, training):
    channels, steps, batch, height, width = shape
    torch.manual_seed(0)
    y = (torch.randn(steps * batch, channels, height, width) * 1.5 + 0.7).to(dtype)
    grad = torch.randn(y.shape).to(dtype)
    ours, theirs = y.clone().requires_grad_(), y.clone().requires_grad_()
    norm_a, neuron_a = layers(channels, 1)
    norm_b, neuron_b = layers(channels, 1)
    norm_a.train(training), norm_b.train(training)

    spikes = kernel(ours, norm_a, neuron_a, steps)
    expected, h = eager(theirs, norm_b, neuron_b, steps)
    assert spikes.dtype == dtype
    differ = spikes.float() != expected
    assert ((h - neuron_b.threshold).abs()[differ] < FAR).all()
    # A spike on the other side of the threshold changes what follows it; such seeds are not worth comparing further.
    assert not differ.any()
    assert 0 < expected.mean() < 1

    spikes.backward(grad)
    expected.backward(grad.float())
    tolerance = 0.9999
    assert cosine(ours.grad, theirs.grad) > tolerance
    assert cosine(norm_a.weight.grad, norm_b.weight.grad) > tolerance
    assert cosine(norm_a.bias.grad, norm_b.bias.grad) > tolerance
    assert neuron_a.w.grad.item() == pytest.approx(neuron_b.w.grad.item(), rel=1e-3, abs=1e-4)
    torch.testing.assert_close(norm_a.running_mean, norm_b.running_mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(norm_a.running_var, norm_b.running_var, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_does_not_depend_on_the_number_of_threads(dtype):
    torch.manual_seed(0)
    y = torch.randn(10, 24, 37, 41).to(dtype).contiguous(memory_format=torch.channels_last)
    results = []
    before = numba.get_num_threads()
    try:
        for threads in sorted({1, before}):
            numba.set_num_threads(threads)
            norm, neuron = layers(24, 1)
            x = y.clone().requires_grad_()
            spikes = kernel(x, norm, neuron, 5)
            spikes.backward(y)
            results.append((spikes.detach(), x.grad, norm.weight.grad, norm.bias.grad, neuron.w.grad, norm.running_var))
    finally:
        numba.set_num_threads(before)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], result, strict=True))


def test_memory_layout_of_the_input_does_not_matter():
    torch.manual_seed(0)
    y = torch.randn(6, 5, 7, 9)
    norm, neuron = layers(5, 1)
    norm.eval()
    last = kernel(y.contiguous(memory_format=torch.channels_last), norm, neuron, 3)
    assert torch.equal(kernel(y, norm, neuron, 3), last)
    assert torch.equal(kernel(torch.cat([y, y])[:6], norm, neuron, 3), last)


def block(kind="plif", **options):
    torch.manual_seed(3)
    made = ConvNeuron.make(4, 12, lambda: make_neuron(kind, **options))
    nn.init.constant_(made.norm.bias, 0.6)
    return made.train()


def run(made, x, *, keep):
    membranes = Membranes(None, keep=keep)
    spikes = made(x, membranes)
    spikes.backward(torch.linspace(-1, 1, spikes.numel()).reshape(spikes.shape))
    return spikes.detach(), membranes.new


def test_training_takes_the_kernel_only_when_nobody_asks_for_the_membranes(monkeypatch):
    calls = []
    apply = BatchNormPLIF.apply
    monkeypatch.setattr(BatchNormPLIF, "apply", lambda *a: calls.append(1) or apply(*a))
    x = (torch.rand(5, 2, 4, 9, 7, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    fast, slow = block(), block()
    spikes_fast, none = run(fast, x, keep=False)
    assert (len(calls), none) == (1, [])
    spikes_slow, membranes = run(slow, x, keep=True)
    assert len(calls) == 1
    assert membranes[0].shape == (2, 12, 9, 7)
    assert 0.05 < spikes_slow.mean() < 0.95
    assert torch.equal(spikes_fast, spikes_slow)
    for (name, a), (_, b) in zip(fast.named_parameters(), slow.named_parameters(), strict=True):
        assert cosine(a.grad, b.grad) > 0.9999, name
    for (name, a), (_, b) in zip(fast.named_buffers(), slow.named_buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("if", {}), ("relu", {}), ("plif", {"soft_reset": True}), ("plif", {"decay_input": False}),
     ("plif", {"detach_reset": False}), ("plif", {"surrogate": "sigmoid"})],
)  # fmt: skip
def test_neurons_the_kernel_does_not_know_go_the_long_way(monkeypatch, kind, options):
    monkeypatch.setattr(BatchNormPLIF, "apply", lambda *_: pytest.fail("the kernel computes another neuron"))
    spikes, _ = run(block(kind, **options), torch.rand(2, 1, 4, 5, 5), keep=False)
    assert spikes.shape == (2, 1, 12, 5, 5)


@pytest.mark.parametrize(("channels", "kernel"), [(512, True), (513, False)])
def test_more_channels_than_a_tile_holds_go_the_long_way(channels, kernel):
    norm, neuron = layers(channels, 1)
    made = ConvNeuron(nn.Conv2d(1, channels, 1, bias=False), norm, neuron).train()
    assert _has_kernel(torch.zeros(1, channels, 2, 2), neuron) == kernel
    membranes = Membranes(None, keep=False)
    assert made(torch.rand(2, 1, 1, 2, 2), membranes).shape == (2, 1, channels, 2, 2)
    if not kernel:
        with pytest.raises(ValueError, match="up to 512 channels, got 513"):
            BatchNormPLIF.apply(
                torch.zeros(2, channels, 2, 2), norm.weight, norm.bias, norm.running_mean, norm.running_var, neuron.w,
                norm.momentum, norm.eps, 2, neuron.threshold, True,
            )  # fmt: skip


def test_a_fixed_time_constant_trains_through_the_kernel():
    fast, slow = block("lif"), block("lif")
    x = torch.rand(3, 1, 4, 6, 6)
    assert torch.equal(run(fast, x, keep=False)[0], run(slow, x, keep=True)[0])
    assert fast.neuron.w.grad is None

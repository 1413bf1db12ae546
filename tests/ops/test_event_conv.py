"""The convolution of events against torch's, values and gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spiking_centernet.model import build
from spiking_centernet.model.layers import ConvNeuron
from spiking_centernet.ops import event_conv
from spiking_centernet.ops.library import native

pytestmark = pytest.mark.skipif(native() is None, reason="the package was installed without a compiler")

# images, channels, height, width, output channels, kernel, stride
CASES = [
    (1, 1, 1, 1, 1, 7, 2), (2, 4, 9, 17, 16, 7, 2), (3, 2, 16, 23, 20, 7, 2), (2, 3, 8, 8, 33, 3, 1),
    (40, 1, 5, 7, 3, 5, 3),
]  # fmt: skip


def case(num, channels, height, width, out_channels, kernel, stride):
    torch.manual_seed(0)
    conv = nn.Conv2d(channels, out_channels, kernel, stride, kernel // 2, bias=False)
    shape = num, channels, height, width
    return conv, (torch.rand(shape) < 0.3) * torch.randint(0, 256, shape, dtype=torch.uint8)


@pytest.mark.parametrize("numbers", CASES, ids=str)
def test_equals_torchs_convolution_and_its_gradient(numbers):
    conv, cube = case(*numbers)
    assert event_conv.supports(cube, conv)
    out = event_conv.event_convolution(cube, conv)
    weight = conv.weight.detach().double().requires_grad_()
    expected = F.conv2d(cube.double(), weight, None, conv.stride, conv.padding)
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-3)
    grad = torch.randn(out.shape)
    out.backward(grad)
    expected.backward(grad.double())
    error = (conv.weight.grad - weight.grad).abs().max()
    assert error <= 1e-5 * weight.grad.abs().max()


def test_no_events_give_nothing():
    conv, cube = case(*CASES[1])
    out = event_conv.event_convolution(torch.zeros_like(cube), conv)
    out.sum().backward()
    assert not out.any()
    assert not conv.weight.grad.any()


def test_autocast_rounds_weights_and_sums_once():
    conv, cube = case(*CASES[2])
    with torch.autocast("cpu", torch.bfloat16):
        assert event_conv.supports(cube, conv)
        out = event_conv.event_convolution(cube, conv)
    expected = F.conv2d(cube.float(), conv.weight.detach().bfloat16().float(), None, 2, 3).bfloat16()
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, expected, rtol=2**-7, atol=1e-2)
    out.sum().backward()
    assert conv.weight.grad.dtype == torch.float32


def test_does_not_depend_on_the_number_of_threads():
    conv, cube = case(*CASES[2])
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            out = event_conv.event_convolution(cube, conv)
            (grad,) = torch.autograd.grad(out, conv.weight, torch.ones_like(out).cumsum(1))
            results.append((out, grad))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_floats_inference_and_hooks_take_torchs_convolution():
    conv, cube = case(*CASES[1])
    assert not event_conv.supports(cube.float(), conv)
    with torch.no_grad():
        assert not event_conv.supports(cube, conv)
    with torch.autocast("cpu", torch.float16):
        assert not event_conv.supports(cube, conv)
    conv.register_forward_pre_hook(lambda *_: None)
    assert not event_conv.supports(cube, conv)


def test_many_events_take_torchs_convolution():
    rare, dense = ((torch.rand(10, 4, 60, 76) < share).to(torch.uint8) for share in (0.05, 0.2))
    assert event_conv.is_faster(rare)
    assert not event_conv.is_faster(dense)
    assert event_conv.is_faster(torch.zeros(1, 4, 8, 8, dtype=torch.uint8))


def test_a_network_trains_alike_on_bytes_and_on_floats(monkeypatch):
    cube = (torch.rand(3, 2, 4, 33, 47, generator=torch.Generator().manual_seed(1)) < 0.05).to(torch.uint8)
    seen, forward = [], ConvNeuron.forward
    monkeypatch.setattr(ConvNeuron, "forward", lambda self, x, m: seen.append(x.dtype) or forward(self, x, m))
    grads = []
    for given in (cube, cube.float()):
        torch.manual_seed(0)
        model = build(
            "nano",
            encoder={"widths": (4, 6, 8), "convs_per_stage": 1},
            decoder={"num_blocks": 2},
            head={"width": 5},
            neuron={"tau": 1.5},
        )
        output, _ = model.train()(given, keep_state=False)
        (output.heatmap * torch.linspace(-1, 1, output.heatmap.numel()).reshape(output.heatmap.shape)).sum().backward()
        grads.append(model.encoder.stem.conv.weight.grad.flatten())
    assert (seen[0], seen[len(seen) // 2]) == (torch.uint8, torch.float32)
    assert torch.cosine_similarity(*grads, dim=0) > 0.999

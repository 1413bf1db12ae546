"""Batch norm inside the convolution behind it against torch's norm and convolution in double precision."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spiking_centernet.model.config import NeuronConfig
from spiking_centernet.model.context import ForwardContext
from spiking_centernet.model.decoder import DecoderBlock
from spiking_centernet.model.neurons import make_neuron
from spiking_centernet.ops import norm_conv
from spiking_centernet.ops.library import native

pytestmark = pytest.mark.skipif(native() is None, reason="the package was installed without a compiler")

DTYPES = (torch.float32, torch.bfloat16)

# input and output channels, groups, kernel, padding around the norm's input, batch, height, width
CASES = [(1, 1, 1, 1, 0, 2, 3, 1), (12, 7, 1, 1, 0, 3, 5, 6), (10, 10, 10, 3, 1, 2, 9, 4), (8, 12, 4, 3, 1, 1, 6, 7)]


def modules(num_in, num_out, groups, kernel):
    torch.manual_seed(2)
    norm, conv = nn.BatchNorm2d(num_in), nn.Conv2d(num_in, num_out, kernel, groups=groups, bias=False)
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        nn.init.uniform_(tensor, 0.5, 1.5)
    return norm.train(), conv


def assert_close(ours, expected, share):
    error = (ours.double() - expected.double()).abs().max()
    assert error <= share * expected.abs().max() + 1e-12


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_norm_and_convolution(case, dtype):
    num_in, padding, batch, height, width = case[0], *case[4:]
    (norm, conv), (same_norm, same_conv) = modules(*case[:4]), modules(*case[:4])
    x = (torch.randn(batch, num_in, height, width) + 0.3).to(dtype)
    ours, theirs = x.clone().requires_grad_(), x.double().requires_grad_()
    assert norm_conv.supports(ours, norm)
    out = norm_conv.norm_convolution(ours, norm, conv, padding=padding)
    expected = same_conv.double()(same_norm.double()(F.pad(theirs, (padding,) * 4)))
    share = 1e-5 if dtype == torch.float32 else 3e-2
    assert out.dtype == dtype
    assert_close(out, expected, share)
    grad = torch.randn(out.shape).to(dtype)
    out.backward(grad)
    expected.backward(grad.double())
    assert_close(ours.grad, theirs.grad, share)
    pairs = (norm.weight, same_norm.weight), (norm.bias, same_norm.bias), (conv.weight, same_conv.weight)
    for a, b in pairs:
        assert a.grad.dtype == torch.float32
        assert_close(a.grad, b.grad, share)
    assert_close(norm.running_mean, same_norm.running_mean, 1e-6)
    assert_close(norm.running_var, same_norm.running_var, 1e-6)
    assert norm.num_batches_tracked == 1


def test_does_not_depend_on_the_number_of_threads():
    x, before, results = torch.randn(6, 10, 33, 35), torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            norm, conv = modules(10, 10, 10, 3)
            out = norm_conv.norm_convolution(x, norm, conv, padding=1)
            results.append((out, norm.running_var, *torch.autograd.grad(out.square().sum(), norm.weight)))
    finally:
        torch.set_num_threads(before)
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def block_results(*, folds):
    """Return the decoder block's current, gradients and running statistics, and which convolutions ran as modules."""
    torch.manual_seed(0)
    block = DecoderBlock(24, 16, 0.5, lambda: make_neuron(NeuronConfig(kind="plif"))).train()
    ran = []
    block.project.norm_and_fire = lambda y, steps_batch, _: y.unflatten(0, steps_batch)
    if not folds:
        block.expand.register_forward_hook(lambda *_: ran.append("expand"))
    x, skip = (torch.rand(3, 2, 24, 6, 7) < 0.3).float(), (torch.rand(3, 2, 16, 11, 14) < 0.3).float()
    x, skip = x.requires_grad_(), skip.requires_grad_()
    y = block(x, skip, ForwardContext(keep_state=False))
    grad = torch.randn(y.shape)
    y.backward(grad - grad.mean((0, 1, 3, 4), keepdim=True))
    grads = {name: p.grad for name, p in block.named_parameters() if p.grad is not None}
    return {"y": y.detach(), "x": x.grad, "skip": skip.grad, **grads, **dict(block.named_buffers())}, ran


def test_a_decoder_block_trains_alike_with_and_without_a_hook():
    (ours, none), (theirs, ran) = block_results(folds=True), block_results(folds=False)
    assert (none, ran) == ([], ["expand"])
    assert ours.keys() == theirs.keys()
    # What two norms that follow each other take out of a scale or a shift leaves rounding for a gradient.
    for name in ours.keys() - {"expand_norm.weight", "expand_norm.bias", "filter_norm.bias"}:
        assert_close(ours[name], theirs[name].double(), 1e-5)


@pytest.mark.parametrize("setting", [{"momentum": None}, {"affine": False}, {"track_running_stats": False}])
def test_other_norms_are_refused(setting):
    x = torch.zeros(1, 3, 2, 2)
    assert norm_conv.supports(x, nn.BatchNorm2d(3).train())
    assert not norm_conv.supports(x, nn.BatchNorm2d(3).eval())
    assert not norm_conv.supports(x, nn.BatchNorm2d(3, **setting).train())
    assert not norm_conv.supports(x.double(), nn.BatchNorm2d(3).train())

"""The max-pool against torch's, values and gradients."""

import pytest
import torch
import torch.nn.functional as F

from spiking_centernet.ops import pooling
from spiking_centernet.ops.library import native

DTYPES = (torch.float32, torch.bfloat16)
SHAPES = [(0, 3, 4, 4), (1, 1, 1, 1), (2, 16, 2, 1), (3, 5, 7, 4), (2, 17, 6, 9), (1, 48, 5, 5)]


def inputs(shape, dtype, kind):
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(shape, generator=generator)
    return ((x < 0.2).to(dtype) if kind == "spikes" else x.sub(0.5).to(dtype)).requires_grad_()


@pytest.mark.parametrize("kind", ["spikes", "signed"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_torchs_pool_and_its_gradient(shape, dtype, kind):
    ours, theirs = inputs(shape, dtype, kind), inputs(shape, dtype, kind)
    pooled, expected = pooling.max_pool(ours), F.max_pool2d(theirs, 3, 2, 1)
    assert torch.equal(pooled, expected)
    # Whole numbers: sums of few are exact in bfloat16 too.
    grad = torch.randint(-9, 10, expected.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    pooled.backward(grad)
    expected.backward(grad)
    assert torch.equal(ours.grad, theirs.grad)


def test_what_is_not_a_number_stays_so():
    x = torch.rand(1, 3, 9, 9)
    x[0, 1, 3, 4] = torch.nan
    assert torch.equal(pooling.max_pool(x).isnan(), F.max_pool2d(x, 3, 2, 1).isnan())


@pytest.mark.skipif(native() is None, reason="the package was installed without a compiler")
def test_a_byte_a_value_is_kept():
    x, kept = torch.rand(2, 16, 12, 12, requires_grad=True), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        pooling.max_pool(x)
    assert [(t.dtype, tuple(t.shape)) for t in kept] == [(torch.uint8, (2, 16, 6, 6))]

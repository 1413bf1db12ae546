"""The operation over all steps against the plain loop: the same spikes, the gradients of autograd, less memory."""

import itertools
import math

import pytest
import torch

from spiking_centernet.model.neurons import ILIF
from spiking_centernet.ops import plif_cpu
from spiking_centernet.ops.library import native
from spiking_centernet.ops.surrogate import SURROGATES

KINDS = [
    {"tau": tau, "decay_input": decay, "detach_reset": detach}
    for tau, decay, detach in itertools.product((1.6, math.inf), (True, False), (True, False))
]


def tensor(*shape, seed=0, spread=3.0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * spread


def results(run, neuron, x, v):
    """Return spikes, membrane and the gradients of input, first membrane and leak."""
    x, v = x.clone().requires_grad_(), v.clone().requires_grad_()
    neuron.zero_grad()
    counts, last = run(x, v)
    weights = tensor(*counts.shape, seed=5).to(x.dtype), tensor(*last.shape, seed=6).to(v.dtype)
    ((counts * weights[0]).sum() + (last * weights[1]).sum()).backward()
    return counts, last, x.grad, v.grad, *(p.grad.clone() for p in neuron.parameters())


@pytest.mark.parametrize("surrogate", sorted(SURROGATES))
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_spikes_and_gradients_are_those_of_the_loop(kind, surrogate):
    neuron = ILIF(levels=3, threshold=0.75, surrogate=surrogate, **kind).double()
    x, v = tensor(4, 2, 3, 5, 6), tensor(2, 3, 5, 6, seed=1)
    found, expected = results(neuron, neuron, x, v), results(neuron.step_by_step, neuron, x, v)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    for a, b in zip(found[2:], expected[2:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert len(found) == (5 if math.isfinite(kind["tau"]) else 4)


@pytest.mark.skipif(native() is None, reason="the package was installed without a compiler")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("surrogate", sorted(SURROGATES))
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize(("levels", "threshold"), [(1, 1.0), (2, 1.0), (3, 0.7)])
def test_the_kernel_gives_what_torch_does(levels, threshold, kind, surrogate, dtype):
    neuron = ILIF(levels=levels, threshold=threshold, surrogate=surrogate, **kind)
    x, v = tensor(4, 2, 3, 5, 7).to(dtype), tensor(2, 3, 5, 7, seed=1).float()
    assert neuron.has_kernel(x)
    found, expected = results(neuron, neuron, x, v), results(neuron.in_torch, neuron, x, v)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    assert found[0].max() == levels
    rounding = 1e-4 if dtype == torch.float32 else 1e-2
    for a, b in zip(found[2:], expected[2:], strict=True):
        torch.testing.assert_close(a, b, rtol=rounding, atol=rounding * float(b.abs().max()))


def test_a_membrane_at_a_threshold_spikes_in_the_kernel_too():
    at = torch.tensor([0.35, 1.05, 1.75])  # as float32 rounds (k + 1/2) 0.7
    x = torch.stack([at, torch.nextafter(at, torch.zeros(3))]).view(1, 2, 3, 1, 1)
    for run in (ILIF(levels=3, threshold=0.7, tau=math.inf), ILIF(levels=3, threshold=0.7, tau=math.inf).in_torch):
        assert run(x)[0].flatten().tolist() == [1, 2, 3, 0, 1, 2]


def test_kernels_of_binary_neurons_alone_are_not_asked(monkeypatch):
    monkeypatch.setattr(plif_cpu, "WHOLE_NUMBERS", False)
    neuron, x = ILIF(levels=3), tensor(3, 2, 4, 5, 6).float()
    assert not neuron.has_kernel(x)
    assert torch.equal(neuron(x)[0], neuron.in_torch(x)[0])


def test_bfloat16_has_the_spikes_of_the_loop():
    neuron, x = ILIF(), tensor(3, 2, 4, 5, 6).bfloat16()
    rest = torch.zeros(x.shape[1:])
    for run in (neuron, neuron.in_torch):
        for a, b in zip(run(x), neuron.step_by_step(x, rest), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("way", ["forward", "in_torch"])
def test_only_the_input_is_kept(way):
    neuron, kept = ILIF(levels=4), []
    x = tensor(5, 2, 8, 16, 16).float().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.nbytes) or t, lambda t: t):
        getattr(neuron, way)(x)
    assert sum(kept) < 1.3 * x.nbytes  # the first membrane and the leak besides


def test_the_memory_format_stays():
    x = tensor(3 * 2, 4, 5, 6).float().contiguous(memory_format=torch.channels_last).unflatten(0, (3, 2))
    assert ILIF()(x)[0].flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_no_steps_give_no_spikes_of_their_own():
    with pytest.raises(RuntimeError):  # nothing to stack: the caller gets an error, not invented spikes
        ILIF()(torch.zeros(0, 1, 2, 3, 4), torch.rand(1, 2, 3, 4))

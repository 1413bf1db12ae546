"""The GPU's passes against the loop, on a GPU where there is one, else in Triton's interpreter on the CPU.

Triton reads TRITON_INTERPRET when it is first imported, so the interpreter needs a process of its own.
"""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from spiking_centernet.model.config import NeuronConfig
from spiking_centernet.model.neurons import PLIF, make_neuron
from spiking_centernet.ops import plif

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
here = pytest.mark.skipif(DEVICE == "cpu" and not INTERPRETED, reason="no GPU: runs in Triton's interpreter instead")


@pytest.mark.slow
@pytest.mark.skipif(DEVICE == "cuda" or INTERPRETED, reason="runs on the GPU, or is the interpreter's process")
@pytest.mark.thorough
def test_everything_here_passes_in_the_interpreter(subprocess_env):
    pytest.importorskip("triton", reason="Triton is not installed")
    run = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", __file__]
    env = subprocess_env | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(run, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "10 passed" in done.stdout


@pytest.fixture
def passes(monkeypatch):
    """Let the kernels' functions take Triton's passes, whatever the device."""
    pytest.importorskip("triton", reason="Triton is not installed")
    from spiking_centernet.ops import plif_triton

    monkeypatch.setattr(plif, "passes", lambda _: plif_triton)


def assert_close(ours, theirs, rounding=1e-4):
    torch.testing.assert_close(ours, theirs, rtol=rounding, atol=rounding * float(theirs.abs().max()))


@here
@pytest.mark.usefixtures("passes")
@pytest.mark.parametrize(
    ("kind", "options", "num_steps", "shape"),
    [
        ("plif", {}, 5, (2, 3, 4, 5)),
        ("plif", {"decay_input": False, "soft_reset": True, "detach_reset": False}, 3, (1, 17, 13, 11)),
        ("plif", {"detach_reset": False}, 9, (1, 3, 2, 2)),
        ("if", {"soft_reset": True}, 1, (1, 1, 3, 3)),
    ],
)
def test_neurons_equal_the_loop(kind, options, num_steps, shape):
    torch.manual_seed(0)
    neuron = make_neuron(NeuronConfig(kind=kind, **options)).to(DEVICE)
    x, v = torch.randn(num_steps, *shape, device=DEVICE) + 0.4, torch.randn(shape, device=DEVICE) * 0.5
    upstream = torch.randn_like(x), torch.randn_like(v)
    results = []
    for compute in (neuron, neuron.step_by_step):
        leaves = [x.clone().requires_grad_(), v.clone().requires_grad_()]
        inputs = leaves + [neuron.w] * neuron.leaky
        outputs = compute(*leaves)
        results.append((*outputs, torch.autograd.grad(outputs, inputs, upstream)))
    ours, theirs = results
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])
    for a, b in zip(ours[2], theirs[2], strict=True):
        assert_close(a, b)


@here
@pytest.mark.usefixtures("passes")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 70, 3, 3), (1, 1, 1, 9)], ids=str)
def test_batch_norm_and_neurons_equal_the_loop(shape, dtype):
    torch.manual_seed(2)
    steps, channels = 3, shape[1]
    y = (torch.randn(steps * shape[0], *shape[1:], device=DEVICE) + 2).to(dtype)
    results = []
    for fused in (True, False):
        norm, neuron = nn.BatchNorm2d(channels).to(DEVICE), PLIF().to(DEVICE)
        nn.init.constant_(norm.bias, 0.7)
        leaf = y.clone().requires_grad_()
        if fused:
            spikes = plif.batch_norm_plif(leaf, norm, neuron.w, num_steps=steps, leaky=True, options=neuron.options)
        else:
            spikes = neuron.step_by_step(norm(leaf.float()).unflatten(0, (steps, -1)))[0].flatten(0, 1)
        spikes.backward(torch.linspace(-1, 1, y.numel(), device=DEVICE).reshape(y.shape).to(spikes.dtype))
        parameters = [p.grad for p in (norm.weight, norm.bias, neuron.w)]
        results.append((spikes.detach().float(), leaf.grad.float(), parameters, norm.running_mean, norm.running_var))
    ours, theirs = results
    assert 0 < theirs[0].mean() < 1
    assert torch.equal(ours[0], theirs[0])
    rounding = 1e-4 if dtype == torch.float32 else 2e-2
    assert_close(ours[1], theirs[1], rounding)
    for a, b in zip((*ours[2], *ours[3:]), (*theirs[2], *theirs[3:]), strict=True):
        assert_close(a, b, rounding)

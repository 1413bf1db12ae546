"""NeuroBench's metrics in closed form, and against its package where that is installed.

The package is no dependency: it asks for tonic, which is GPL. To run the comparison,
``pip install --no-deps neurobench snntorch``; the parts used here need neither tonic nor torchaudio.
"""

import importlib.util

import pytest
import torch
from tiny import tiny_detector
from torch import nn

from spiking_centernet.evaluation.energy import count_ops, neurobench

MODULES = ("neurobench", "snntorch")


def pruned(model):
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.weight[module.weight.abs() < module.weight.abs().median()] = 0
    return model


def cube():
    return (torch.rand(2, 2, 4, 32, 32, generator=torch.Generator().manual_seed(1)) < 0.2).to(torch.uint8)


def test_metrics_in_closed_form():
    model = pruned(tiny_detector().fuse())
    ops = count_ops(model, cube())
    found = neurobench(model, ops)
    assert found.footprint == 4 * sum(p.numel() for p in model.parameters())
    assert found.connection_sparsity == pytest.approx(0.5, abs=0.02)
    assert found.activation_sparsity == 1 - ops.rate
    assert found.effective_macs == 0
    assert 0 < found.effective_acs < ops.synaptic / 2
    assert found.dense == ops.dense / 2
    assert found.membrane_updates == sum(n.neurons for n in ops.neurons) * 2


@pytest.mark.filterwarnings("ignore:the decoder")
def test_weights_of_transposed_convolutions_are_weights():
    model = tiny_detector(decoder={"kind": "transposed"}).fuse()
    weights = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.ConvTranspose2d):
                module.weight.zero_()
    zeros = sum(int((w == 0).sum()) for w in weights)
    found = neurobench(model, count_ops(model, cube()))
    assert found.connection_sparsity == zeros / sum(w.numel() for w in weights) > 0


@pytest.mark.skipif(not all(map(importlib.util.find_spec, MODULES)), reason="needs neurobench and snntorch")
@pytest.mark.parametrize("neuron", ["plif", "relu"])
def test_metrics_are_those_of_the_package(neuron):
    from neurobench.metrics.static import ConnectionSparsity, Footprint
    from neurobench.metrics.workload import ActivationSparsity, SynapticOperations
    from neurobench.models import TorchModel

    model = pruned(tiny_detector(neuron={"kind": neuron}).fuse())
    found = neurobench(model, count_ops(model, cube()))

    class Flat(nn.Module):
        """Neurons that hand on spikes alone, as the package's hooks expect of an activation."""

        def __init__(self, detector):
            super().__init__()
            self.detector = detector

        def forward(self, windows):
            return self.detector(windows)[0].heatmap

    theirs = TorchModel(Flat(model))
    assert Footprint()(theirs) == found.footprint
    assert ConnectionSparsity()(theirs) == pytest.approx(found.connection_sparsity, abs=1e-4)
    theirs.register_hooks()
    with torch.no_grad():
        output = theirs(cube())
        synaptic = SynapticOperations()
        # Samples are windows: the package divides by the length of what it is given as data.
        told = synaptic(theirs, output, (torch.zeros(2), None))
    assert told["Effective_ACs"] == found.effective_acs
    assert told["Effective_MACs"] == found.effective_macs
    assert told["Dense"] == found.dense

    class Seen:
        activation_hooks: list = []  # noqa: RUF012

    class Hook:
        def __init__(self, outputs):
            self.activation_outputs = outputs

    outputs = []
    with torch.no_grad():
        model(cube(), observe=lambda _, spikes: outputs.append(spikes))
    Seen.activation_hooks = [Hook([spikes]) for spikes in outputs]
    assert ActivationSparsity()(Seen, None, None) == pytest.approx(found.activation_sparsity)

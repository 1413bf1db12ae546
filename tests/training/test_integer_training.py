"""Training of I-LIF networks: recipe, memory, penalty, and the binary execution of what was trained."""

import pytest
import torch
import toy_roads
from tiny import tiny_detector
from toy_roads import NETWORK, recipe

from spiking_centernet.evaluation.energy import count_ops
from spiking_centernet.model import Memory, build
from spiking_centernet.model.firing_rate import FiringRates
from spiking_centernet.model.weights import load
from spiking_centernet.training.run_dir import read_metrics
from spiking_centernet.training.spike_penalty import SpikePenalty, watched
from spiking_centernet.training.trainer import train

INTEGERS = NETWORK | {"neuron": {"kind": "ilif", "levels": 3}}
TINY = {"encoder.widths": (4, 6, 8), "decoder.num_blocks": 2, "head.width": 5, "neuron.kind": "ilif"}


def cube(steps=3, batch=2):
    return (torch.rand(steps, batch, 4, 32, 40, generator=torch.Generator().manual_seed(0)) < 0.2).to(torch.uint8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("integers")
    train(recipe(network=INTEGERS, epochs=4), toy_roads.write_folder(root / "data"), out=root / "run")
    return root / "run"


@pytest.mark.slow
def test_a_recipe_trains_it(trained):
    losses = [row["loss"] for row in read_metrics(trained / "metrics.csv") if row["loss"] is not None]
    assert len(losses) == 16
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])


@pytest.mark.slow
def test_its_weights_load_and_run_on_spikes(trained):
    model = load(trained / "best.safetensors")
    assert (model.config.neuron.kind, model.config.neuron.levels) == ("ilif", 3)
    assert model.encoder.stem.neuron.q.item() != pytest.approx(0.5, abs=1e-6)  # the leak was learned
    fused, unrolled = model.fuse(), model.unrolled()
    rates, binary = FiringRates.of(fused), FiringRates.of(unrolled)
    with torch.inference_mode():
        output, _ = fused(cube(), observe=rates)
        other, _ = unrolled(cube(), observe=binary)
    # Sums in another order: a membrane within rounding of a threshold may spike once more or less.
    assert binary.overall() == pytest.approx(rates.overall(), rel=1e-3)
    assert 0 < rates.overall() < 1
    torch.testing.assert_close(output.heatmap, other.heatmap, atol=1e-2, rtol=0)


def loss_of(model, memory):
    output, _ = model(cube(), keep_state=False, memory=memory)
    return sum((o * torch.linspace(-1, 1, o.numel()).reshape(o.shape)).sum() for o in output)


@pytest.mark.parametrize("memory", [Memory("uint8"), Memory("float", True), Memory("uint8", True)], ids=str)
def test_bytes_and_checkpoints_change_no_gradient(memory):
    gradients = []
    for way in (None, memory):
        torch.manual_seed(0)
        model = build("nano", **TINY).train()
        loss_of(model, way).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert all(torch.equal(grad, gradients[1][name]) for name, grad in gradients[0].items())
    assert float(gradients[0]["encoder.stem.neuron.w"].abs()) > 0


def test_the_penalty_counts_every_spike():
    model = tiny_detector(**{"neuron.kind": "ilif", "neuron.levels": 3}).eval()
    rates = FiringRates.of(model)
    with watched(model, SpikePenalty(target=0.01), rates) as seen, torch.no_grad():
        model(cube(), observe=seen.observe, keep_state=False)
    assert float(seen.share()) == pytest.approx(rates.overall(), rel=1e-6)
    with watched(model, SpikePenalty(target=0.01, of="operations"), None) as seen, torch.no_grad():
        model(cube())
    counted = count_ops(model.fuse(), cube()).convolutions[1:]
    expected = sum(c.synaptic for c in counted) / sum(3 * c.dense for c in counted)
    assert float(seen.share()) == pytest.approx(expected, rel=1e-5)

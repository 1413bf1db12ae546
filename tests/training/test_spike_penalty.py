"""The price on spikes: closed forms, gradients through the fused kernel, and training that reaches its target."""

import pytest
import torch
import toy_roads
from tiers import thorough
from tiny import tiny_detector

from spiking_centernet.errors import ConfigError
from spiking_centernet.evaluation.energy import count_ops
from spiking_centernet.model.firing_rate import FiringRates
from spiking_centernet.training.run_dir import read_metrics
from spiking_centernet.training.spike_penalty import Activity, SpikePenalty, watched
from spiking_centernet.training.trainer import train


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"target": 0.0}, "between 0 and 1, got 0.0"),
        ({"target": 1.0}, "between 0 and 1"),
        ({"target": 0.1, "weight": 0.0}, "weight must be positive"),
        ({"target": 0.1, "of": "spike"}, "did you mean 'spikes'"),
    ],
)
def test_impossible_penalties_are_refused(changes, told):
    with pytest.raises(ConfigError, match=told):
        SpikePenalty(**changes)


def test_a_price_on_operations_needs_inputs_that_are_seen():
    with pytest.raises(ConfigError, match="take spikes: float"):
        toy_roads.recipe(penalty=SpikePenalty(target=0.1, of="operations"), spikes="uint8")


def activity(penalty, *layers):
    done = [torch.tensor(float(spikes), requires_grad=True) for spikes, _ in layers]
    return Activity(penalty, None, done, [float(most) for _, most in layers])


def test_no_penalty_costs_nothing():
    with watched(tiny_detector(), None, None) as seen:
        pass
    assert (seen.observe, seen.loss(), seen.row()) == (None, 0.0, {})


@pytest.mark.parametrize(
    ("per_layer", "target", "expected"),
    [
        (False, 0.5, 0.0),  # 30 of 120 places: a rate of 0.25
        (False, 0.25, 0.0),
        (False, 0.125, 3.0),
        (True, 0.2, 3.0 * (0.5 + 0) / 2),  # 0.3 and 0.0
        (True, 0.1, 3.0 * (2 + 0) / 2),
    ],
)
def test_the_penalty_in_closed_form(per_layer, target, expected):
    penalty = SpikePenalty(target=target, weight=3.0, per_layer=per_layer)
    seen = activity(penalty, (30, 100), (0, 20))
    assert float(seen.loss()) == pytest.approx(expected, abs=1e-6)
    assert float(seen.share()) == 0.25


def test_the_gradient_in_closed_form():
    seen = activity(SpikePenalty(target=0.1, weight=2.0), (30, 100), (0, 20))
    seen.loss().backward()
    assert [t.grad.item() for t in seen.done] == pytest.approx([2 / 0.1 / 120] * 2)


def cube(steps=2, batch=2):
    return (torch.rand(steps, batch, 4, 32, 40, generator=torch.Generator().manual_seed(0)) < 0.2).to(torch.uint8)


def test_spikes_are_those_of_the_firing_rates():
    model = tiny_detector().train()
    rates = FiringRates(model.neuron_names)
    with watched(model, SpikePenalty(target=0.01), rates) as seen:
        model(cube(), observe=seen.observe, keep_state=False)
    assert float(seen.share()) == pytest.approx(rates.overall(), rel=1e-6)
    assert seen.row()["activity"] == float(seen.share())
    assert seen.row()["loss_penalty"] == pytest.approx(float(seen.share()) / 0.01 - 1, rel=1e-5)


@pytest.mark.filterwarnings("ignore:the decoder 'inner'")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"decoder.skips": "or"},
        {"decoder.skips": "none"},
        {"decoder.kind": "inner", "decoder.skips": "or"},
        {"head.kind": "ssd"},
    ],
)
def test_operations_are_those_of_the_merged_network(changes):
    model = tiny_detector(**changes).eval()
    with watched(model, SpikePenalty(target=0.01, of="operations"), None) as seen, torch.no_grad():
        model(cube())
    counted = count_ops(model.fuse(), cube()).convolutions[1:]  # without the stem
    assert float(seen.share()) == pytest.approx(
        sum(c.synaptic for c in counted) / sum(c.dense for c in counted), rel=1e-5
    )
    assert sorted(int(t) for t in seen.done) == sorted(c.synaptic for c in counted)
    assert not any(m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"decoder.skips": "add"}, "skips='add'"),
        ({"encoder.identity": True}, "identity=True"),
        ({"decoder.kind": "transposed"}, "transposed"),
    ],
)
def test_sums_of_spikes_have_no_operations_to_price(changes, told):
    penalty = SpikePenalty(target=0.01, of="operations")
    with pytest.raises(ConfigError, match=f"{told}.*take of: spikes"), watched(tiny_detector(**changes), penalty, None):
        pass


def test_hooks_go_even_if_the_pass_fails():
    model = tiny_detector()
    with pytest.raises(ConfigError), watched(model, SpikePenalty(target=0.01, of="operations"), None):
        model(torch.zeros(1, 1, 3, 8, 8))
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_an_ann_has_no_spikes_to_price():
    with (
        pytest.raises(ConfigError, match="neuron is relu"),
        watched(tiny_detector(neuron={"kind": "relu"}), SpikePenalty(target=0.1), None),
    ):
        pass


@pytest.mark.parametrize("of", ["spikes", "operations"])
def test_gradients_reach_every_layer_and_are_those_of_the_plain_path(of):
    # keep_state=True takes the plain path through autograd, False the fused kernel.
    gradients = []
    for keep_state in (True, False):
        model = tiny_detector().train()
        with watched(model, SpikePenalty(target=0.001, of=of), None) as seen:
            model(cube(), observe=seen.observe, keep_state=keep_state)
        seen.loss().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, plain in gradients[0].items():
        fused = gradients[1][name]
        if name.startswith("heads.") and ".out." in name:
            assert plain is None
            assert fused is None
        else:
            # Sums of many terms that cancel: what rounding leaves goes with the largest of them.
            atol = max(1e-5, 1e-4 * float(plain.abs().max()))
            torch.testing.assert_close(fused, plain, rtol=1e-3, atol=atol, msg=name)
            assert plain.abs().sum() > 0 or not name.endswith("conv.weight"), name


def test_bfloat16_spikes_are_counted_whole():
    penalty = SpikePenalty(target=0.5)
    with watched(tiny_detector(), penalty, None) as seen:
        seen.observe("layer", torch.ones(1, 1, 100, 101, dtype=torch.bfloat16))
    assert float(seen.done[0]) == 10_100


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_roads.write_folder(tmp_path_factory.mktemp("toy") / "data")


@pytest.mark.slow
@pytest.mark.parametrize("of", ["spikes", *thorough("operations")])
def test_training_lowers_the_activity_to_its_target(data, tmp_path, of):
    # Without a price the toy network fires at 3 to 5 %.
    penalty = SpikePenalty(target=0.02, weight=5.0, of=of)
    recipe = toy_roads.recipe(penalty=penalty, epochs=8, learning_rate=2e-2, val_every=8)
    rows = []
    train(recipe, data, out=tmp_path / "run", on_row=rows.append)
    steps = [row for row in rows if "loss" in row]
    assert steps[0]["activity"] > 0.03
    assert all(row["activity"] < 0.022 for row in steps[-4:]), [row["activity"] for row in steps]
    logged = read_metrics(tmp_path / "run" / "metrics.csv")[0]
    assert logged["activity"] == pytest.approx(steps[0]["activity"], rel=1e-4)
    assert logged["loss_penalty"] == pytest.approx(5 * (logged["activity"] / 0.02 - 1), rel=1e-3)


@pytest.mark.slow
def test_a_penalised_run_resumes(data, tmp_path):
    recipe = toy_roads.recipe(penalty=SpikePenalty(target=0.06), epochs=1)
    train(recipe, data, out=tmp_path / "run")
    train(recipe, data, out=tmp_path / "run", resume=True)
    with pytest.raises(ConfigError, match="penalty was"):
        train(toy_roads.recipe(epochs=1), data, out=tmp_path / "run", resume=True)

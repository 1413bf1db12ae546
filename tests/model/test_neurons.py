import math

import numpy as np
import pytest
import torch

from spiking_centernet.errors import ConfigError
from spiking_centernet.model.config import NeuronConfig
from spiking_centernet.model.neurons import PLIF, ReLU, make_neuron, plif_step
from spiking_centernet.ops.surrogate import SURROGATES, spike

VARIANTS = [f"decay{d}_{r}_detach{a}" for d in (1, 0) for r in ("hard", "soft") for a in (1, 0)]


def neuron_of(variant: str) -> PLIF:
    decay, reset, detach = variant.split("_")
    return PLIF(soft_reset=reset == "soft", decay_input=decay == "decay1", detach_reset=detach == "detach1")


@pytest.mark.parametrize("variant", VARIANTS)
def test_matches_the_reference_forward_and_backward(golden_dir, variant):
    golden = np.load(golden_dir / "plif.npz")
    neuron = neuron_of(variant)
    assert neuron.w.item() == golden[f"{variant}.w"]
    x = torch.from_numpy(golden["x"]).requires_grad_()
    spikes, v = neuron(x)
    spikes.backward(torch.from_numpy(golden["grad_out"]))
    assert 0.02 < spikes.mean() < 0.98
    np.testing.assert_array_equal(spikes.detach().numpy(), golden[f"{variant}.spikes"])
    np.testing.assert_allclose(v.detach().numpy(), golden[f"{variant}.v_last"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(x.grad, golden[f"{variant}.grad_x"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(neuron.w.grad, golden[f"{variant}.grad_w"], rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_call_equals_two_calls_with_the_state_carried(golden_dir, variant):
    x = torch.from_numpy(np.load(golden_dir / "plif.npz")["x"])
    neuron = neuron_of(variant)
    spikes, v = neuron(x)
    first, v_between = neuron(x[:2])
    second, v_last = neuron(x[2:], v_between)
    assert torch.equal(spikes, torch.cat([first, second]))
    assert torch.equal(v, v_last)


def test_no_steps_leave_the_membrane_as_it_is():
    v = torch.rand(1, 2, 3, 4)
    with pytest.raises(RuntimeError):  # nothing to stack: the caller gets an error, not invented spikes
        PLIF()(torch.zeros(0, 1, 2, 3, 4), v)


@pytest.mark.parametrize("tau", [1.5, 2.0, 10.0])
def test_lif_follows_its_closed_form_below_threshold(tau):
    current = 0.9
    _, v = PLIF(tau=tau, learned=False)(torch.full((6, 1, 1, 1, 1), current))
    assert v.item() == pytest.approx(current * (1 - (1 - 1 / tau) ** 6), rel=1e-5)


@pytest.mark.parametrize(("current", "steps_between_spikes"), [(1.0, 1), (0.5, 2), (0.25, 4), (0.3, 4)])
def test_if_fires_when_its_input_adds_up_to_the_threshold(current, steps_between_spikes):
    spikes, _ = make_neuron(NeuronConfig(kind="if"))(torch.full((12, 1, 1, 1, 1), current))
    expected = [float((t + 1) % steps_between_spikes == 0) for t in range(12)]
    assert spikes.flatten().tolist() == expected


def test_soft_reset_keeps_what_exceeds_the_threshold():
    _, hard = make_neuron(NeuronConfig(kind="if"))(torch.full((1, 1, 1, 1, 1), 1.75))
    _, soft = make_neuron(NeuronConfig(kind="if", soft_reset=True))(torch.full((1, 1, 1, 1, 1), 1.75))
    assert (hard.item(), soft.item()) == (0, 0.75)


def test_only_plif_learns_its_time_constant():
    learned = {
        kind: len(list(make_neuron(NeuronConfig(kind=kind)).parameters())) for kind in ("plif", "lif", "if", "relu")
    }
    assert learned == {"plif": 1, "lif": 0, "if": 0, "relu": 0}
    assert make_neuron(NeuronConfig(kind="plif", tau=4.0)).q.item() == pytest.approx(0.25)
    assert make_neuron(NeuronConfig(kind="if")).q is None


def test_half_precision_input_keeps_its_type_and_a_float32_membrane():
    spikes, v = PLIF()(torch.rand(2, 1, 3, 4, 4).bfloat16())
    assert (spikes.dtype, v.dtype) == (torch.bfloat16, torch.float32)


def test_relu_is_stateless():
    x = torch.tensor([-1.0, 0.0, 2.0]).reshape(3, 1, 1, 1, 1)
    out, v = ReLU()(x)
    assert out.flatten().tolist() == [0, 0, 2]
    assert v is None


INTEGRALS = {
    "atan": lambda u: math.atan(math.pi * u) / math.pi,
    "sigmoid": lambda u: 1 / (1 + math.exp(-4 * u)),
    "rectangle": lambda u: min(max(u, -0.5), 0.5),
}


@pytest.mark.parametrize("name", sorted(SURROGATES))
@pytest.mark.parametrize("u", [-2.0, -0.3, 0.0, 0.1, 0.4, 3.0])
def test_surrogate_is_the_derivative_of_its_step(name, u):
    x = torch.tensor([u], dtype=torch.float64, requires_grad=True)
    out = spike(x, name)
    out.backward(torch.tensor([3.0], dtype=torch.float64))
    numerical = (INTEGRALS[name](u + 1e-5) - INTEGRALS[name](u - 1e-5)) / 2e-5
    assert out.item() == (u >= 0)
    assert x.grad.item() == pytest.approx(3 * numerical, rel=1e-5, abs=1e-9)


def test_step_changes_none_of_its_arguments():
    x, v = torch.full((4,), 0.8), torch.full((4,), 0.9)
    s, after = plif_step(x, v, None)
    assert (x == 0.8).all()
    assert (v == 0.9).all()
    assert s.tolist() == [1] * 4
    assert after.tolist() == [0] * 4


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tau": 1.0}, "above 1"),
        ({"tau": 0.5}, "above 1"),
        ({"tau": math.nan}, "above 1"),
        ({"threshold": 0.0}, "positive"),
        ({"threshold": -1.0}, "positive"),
        ({"surrogate": "atn"}, "did you mean 'atan'"),
    ],
)
def test_refuses_impossible_neurons(options, told):
    with pytest.raises(ConfigError, match=told):
        PLIF(**options)


def test_refuses_an_unknown_kind():
    with pytest.raises(ConfigError, match="did you mean 'plif'"):
        make_neuron(NeuronConfig(kind="pliff"))

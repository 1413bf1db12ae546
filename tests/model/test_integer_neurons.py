"""I-LIF: whole numbers of spikes, against closed forms and a plain loop."""

import math

import numpy as np
import pytest
import torch

from spiking_centernet.errors import ConfigError
from spiking_centernet.model import build
from spiking_centernet.model.config import MAX_LEVELS, DetectorConfig, NeuronConfig
from spiking_centernet.model.config_dict import config_from_dict, config_to_dict, differences
from spiking_centernet.model.firing_rate import FiringRates, kept_spikes
from spiking_centernet.model.neurons import ILIF, PLIF, ilif_step, make_neuron
from spiking_centernet.ops.surrogate import SURROGATES, spike_count


def currents(*shape, seed=0, spread=3.0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * spread


@pytest.mark.parametrize("levels", [1, 2, 4, MAX_LEVELS])
@pytest.mark.parametrize("threshold", [1.0, 0.25])
def test_count_is_the_rounded_and_clipped_membrane(levels, threshold):
    h = currents(4000, spread=levels).double() * threshold
    expected = np.clip(np.floor(h.numpy() / threshold + 0.5), 0, levels)
    count = spike_count(h, threshold, levels)
    np.testing.assert_array_equal(count.numpy(), expected)
    assert set(count.unique().tolist()) == set(np.unique(expected))


def test_a_half_counts_upwards_and_less_does_not():
    h = torch.tensor([0.5, np.nextafter(np.float32(0.5), np.float32(0)), 1.5, 2.5, -0.5])
    assert spike_count(h, 1.0, 4).tolist() == [1, 0, 2, 3, 0]


@pytest.mark.parametrize("decay_input", [True, False])
def test_matches_a_plain_loop(decay_input):
    x, neuron = currents(6, 2, 3, 4, 5), ILIF(levels=3, tau=4.0, threshold=0.5, decay_input=decay_input)
    counts, v = neuron(x)
    q, membrane = 0.25, np.zeros(x.shape[1:])
    for step, expected in zip(x.numpy().astype(np.float64), counts.detach().numpy(), strict=True):
        h = membrane + q * (step - membrane) if decay_input else (1 - q) * membrane + step
        n = np.clip(np.floor(h / 0.5 + 0.5), 0, 3)
        membrane = h - 0.5 * n
        np.testing.assert_array_equal(n, expected)
    np.testing.assert_allclose(v.detach().numpy(), membrane, atol=1e-5)
    assert set(counts.detach().unique().tolist()) == {0, 1, 2, 3}


def test_the_papers_neuron_is_a_setting_of_it():
    # Luo et al. 2024: U = H + X, S = clip(round(U), 0, D), H = beta (U - S) with beta = 0.25.
    x = currents(5, 1, 2, 3, 3)
    counts, _ = ILIF(levels=4, tau=4 / 3, learned=False, decay_input=False)(x)
    kept = np.zeros(x.shape[1:])
    for step, count in zip(x.numpy(), counts.numpy(), strict=True):
        u = kept + step
        s = np.clip(np.round(u), 0, 4)
        kept = 0.25 * (u - s)
        np.testing.assert_array_equal(s, count)


@pytest.mark.parametrize("name", sorted(SURROGATES))
def test_gradient_is_the_sum_of_the_steps_derivatives(name):
    h = torch.linspace(-2, 6, 81, dtype=torch.float64, requires_grad=True)
    spike_count(h, 1.5, 3, name).backward(torch.full_like(h, 2.0))
    expected = sum(SURROGATES[name](h.detach() - threshold) for threshold in (0.75, 2.25, 3.75))
    torch.testing.assert_close(h.grad, 2 * expected)


def test_rectangle_is_straight_through_between_the_bounds():
    h = torch.tensor([-0.1, 0.1, 1.2, 3.9, 4.1], requires_grad=True)
    spike_count(h, 1.0, 4, "rectangle").sum().backward()
    assert h.grad.tolist() == [0, 1, 1, 1, 0]


@pytest.mark.parametrize("detach_reset", [True, False])
def test_gradients_are_those_of_autograd_through_the_steps(detach_reset):
    x = currents(3, 1, 2, 3, 3).double().requires_grad_()
    neuron = ILIF(levels=2, surrogate="sigmoid", detach_reset=detach_reset).double()
    counts, v = neuron(x)
    (counts.square().sum() + v.sum()).backward()
    grads = x.grad.clone(), neuron.w.grad.clone()
    x.grad = neuron.w.grad = None

    class Step(torch.autograd.Function):
        """One step of the sum, as the sum of levels is defined."""

        @staticmethod
        def forward(ctx, u):
            ctx.save_for_backward(u)
            return (u >= 0).double()

        @staticmethod
        def backward(ctx, grad):
            return grad * SURROGATES["sigmoid"](*ctx.saved_tensors)

    membrane, total = torch.zeros(x.shape[1:], dtype=torch.float64), 0.0
    for step in x:
        h = membrane + torch.sigmoid(neuron.w) * (step - membrane)
        n = Step.apply(h - 0.5) + Step.apply(h - 1.5)
        membrane = h - (n.detach() if detach_reset else n)
        total = total + n.square().sum()
    (total + membrane.sum()).backward()
    torch.testing.assert_close(grads, (x.grad, neuron.w.grad))


def test_one_call_equals_two_calls_with_the_state_carried():
    x, neuron = currents(5, 2, 3, 4, 4), ILIF()
    counts, v = neuron(x)
    first, between = neuron(x[:2])
    second, last = neuron(x[2:], between)
    assert torch.equal(counts, torch.cat([first, second]))
    assert torch.equal(v, last)


def test_one_level_is_a_neuron_with_soft_reset_and_half_the_threshold_to_reach():
    x = currents(6, 1, 3, 4, 4)
    counts, v = ILIF(levels=1)(x)
    # PLIF spikes at its threshold: with membranes and thresholds moved by half, the same spikes without a leak.
    integrate, _ = ILIF(levels=1, tau=math.inf)(x)
    shifted, _ = PLIF(tau=math.inf, soft_reset=True)(x, torch.full(x.shape[1:], 0.5))
    assert torch.equal(integrate, shifted)
    assert set(counts.detach().unique().tolist()) == {0, 1}
    assert v.shape == x.shape[1:]


@pytest.mark.parametrize(
    ("given", "kept"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_counts_have_the_inputs_type_and_membranes_at_least_float32(given, kept):
    counts, v = ILIF()(currents(2, 1, 3, 4, 4).to(given))
    assert (counts.dtype, v.dtype) == (given, kept)


def test_step_changes_none_of_its_arguments():
    x, v = torch.full((4,), 2.6), torch.full((4,), 0.5)
    n, after = ilif_step(x, v, None, levels=2)
    assert (x == 2.6).all()
    assert (v == 0.5).all()
    assert n.tolist() == [2] * 4
    assert after.tolist() == pytest.approx([1.1] * 4)


def test_the_kind_has_a_learned_leak_and_its_levels():
    neuron = make_neuron(NeuronConfig(kind="ilif", levels=3, tau=4.0, threshold=0.5))
    assert isinstance(neuron, ILIF)
    assert (neuron.levels, neuron.threshold, neuron.q.item()) == (3, 0.5, pytest.approx(0.25))
    assert len(list(neuron.parameters())) == 1
    assert len(list(ILIF(learned=False).parameters())) == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"neuron": {"levels": 2}}, "choose ilif or leave levels out"),
        ({"neuron": {"kind": "ilif", "levels": 0}}, "1 to 255"),
        ({"neuron": {"kind": "ilif", "levels": 256}}, "1 to 255"),
        ({"neuron": {"kind": "ilif", "levels": 2.5}}, "must be int"),
        ({"neuron": {"kind": "ilf"}}, "did you mean"),
        ({"neuron": {"kind": "ilif", "level": 2}}, "did you mean 'neuron.levels'"),
        ({"neuron.kind": "ilif", "decoder.skips": "add"}, "decoder.skips='add'"),
        ({"neuron.kind": "ilif", "encoder.identity": True}, "encoder.identity"),
        ({"neuron.kind": "ilif", "recurrent.kind": "gated"}, "recurrent.kind='gated'"),
    ],
)
def test_refuses_what_has_no_meaning(values, message):
    with pytest.raises(ConfigError, match=message):
        config_from_dict(values)


def test_refuses_impossible_levels_of_a_layer():
    with pytest.raises(ConfigError, match="1 to 255"):
        ILIF(levels=0)


def test_the_configuration_survives_as_plain_values():
    config = config_from_dict({"neuron": {"kind": "ilif", "levels": 2}})
    assert config_from_dict(config_to_dict(config)) == config
    assert set(differences(config, DetectorConfig())) == {"neuron.kind", "neuron.levels"}
    assert (config.neuron.max_spikes, config.neuron.resets_to_zero) == (2, False)
    plain = config_to_dict(DetectorConfig())
    del plain["neuron"]["levels"]  # as weight files from before have it
    assert config_from_dict(plain) == DetectorConfig()


def test_firing_rates_are_spikes_over_virtual_steps():
    model = build("nano", neuron={"kind": "ilif", "levels": 3}, encoder={"widths": (4, 4)}, decoder={"num_blocks": 1})
    assert model.max_spikes == 3
    rates = FiringRates.of(model)
    rates("encoder.stem", torch.tensor([[3.0, 0.0], [1.0, 2.0]]))
    assert rates.per_layer()["encoder.stem"] == pytest.approx(6 / 12)
    kept = kept_spikes(torch.tensor([3.0, 0.0]), 3)
    assert (kept.dtype, kept.tolist()) == (torch.uint8, [3, 0])

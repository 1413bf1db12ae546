"""Integer networks and their binary execution in use: streams, predictions, what is kept of them."""

import numpy as np
import pytest
import torch
from tiny import some_events, tiny_detector

import spiking_centernet as scn
from spiking_centernet.evaluation.energy import count_ops
from spiking_centernet.inference.clip import firing_values
from spiking_centernet.model.firing_rate import FiringRates

SIZE_HW = (64, 80)
LEVELS = 3


@pytest.fixture(scope="module")
def exact():
    return tiny_detector(**{"neuron.kind": "ilif", "neuron.levels": LEVELS}).with_exact_sums()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["windowed", "stateful"])
def test_streams_are_the_same_on_spikes(exact, mode):
    packets = np.array_split(some_events(), 7)
    integers, binary = (
        list(scn.stream(model, packets, mode=mode, size_hw=SIZE_HW, every_us=60_000, min_score=0.01))
        for model in (exact, exact.unrolled())
    )
    assert len(integers) == len(binary) > 5
    assert any(len(found) for found in integers)
    for a, b in zip(integers, binary, strict=True):
        assert a.t_us == b.t_us
        np.testing.assert_array_equal(a.xyxy, b.xyxy)
        np.testing.assert_array_equal(a.scores, b.scores)


def test_what_is_kept_counts_every_spike(exact):
    kept = ("rates", "operations", "spikes")
    cube = (torch.rand(3, 4, *SIZE_HW, generator=torch.Generator().manual_seed(0)) < 0.2).to(torch.uint8)
    (one,), (other,) = (model.predict(cube.numpy(), keep=kept) for model in (exact, exact.unrolled()))
    assert one.operations == other.operations
    assert one.rates == pytest.approx(other.rates)
    for name, counts in one.spikes.items():
        assert counts.dtype == np.uint8
        trains = other.spikes[name].reshape(len(counts), LEVELS, *counts.shape[1:])
        np.testing.assert_array_equal(trains.sum(1), counts)
    assert max(int(counts.max()) for counts in one.spikes.values()) == LEVELS
    operations = count_ops(exact, cube[:, None])
    assert sum(one.operations.values()) == operations.synaptic
    assert one.rates == pytest.approx({layer.name: layer.rate for layer in operations.neurons})


def test_rates_of_the_viewer_are_those_of_virtual_steps(exact):
    cube = (torch.rand(2, 1, 4, *SIZE_HW, generator=torch.Generator().manual_seed(0)) < 0.2).to(torch.uint8)
    rates, seen = FiringRates.of(exact), {}

    def observe(name, spikes):
        rates(name, spikes)
        seen[name] = spikes.to(torch.uint8).numpy()

    with torch.inference_mode():
        exact(cube, observe=observe)
    values = firing_values(seen, LEVELS)
    assert values["rate"] == pytest.approx(rates.overall(), abs=1e-6)
    assert values["rates"] == pytest.approx(list(rates.per_layer().values()), abs=1e-6)

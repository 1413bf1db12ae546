"""Energies in closed form, from counts written by hand."""

import dataclasses

import pytest
import torch
from tiny import tiny_detector

from spiking_centernet.evaluation.energy import MemoryModel, break_evens, count_ops, horowitz45
from spiking_centernet.evaluation.energy.models import break_even, horowitz45_counterpart, sram_pj
from spiking_centernet.evaluation.energy.operations import ConvOperations, NeuronOperations, Operations


def conv(name="conv", **changes):
    values = {
        "name": name, "dense": 1000, "padded": 1200, "synaptic": 100, "effective": 100, "inputs": 320, "active": 32,
        "outputs": 64, "binary": True, "num_weights": 90, "num_zeros": 0, "has_bias": False,
    }  # fmt: skip
    return ConvOperations(**(values | changes))


def neuron(**changes):
    values = {"name": "n", "neurons": 16, "spikes": 8, "updates": 64, "dead": 0, "saturated": 0, "multiplies": 1}
    return NeuronOperations(**(values | {"adds": 1} | changes))


def operations(*layers, neurons=(), windows=2, steps=2):
    return Operations(windows, steps, layers, tuple(neurons))


def test_horowitz45_in_closed_form():
    ops = operations(conv(), conv(synaptic=300), conv(binary=False, synaptic=7), neurons=[neuron()])
    breakdown = horowitz45(ops)
    assert breakdown.first_layer == pytest.approx(100 * 0.9 / 2)
    assert breakdown.convolutions == pytest.approx((300 * 0.9 + 1000 * 4.6) / 2)
    assert breakdown.neurons == pytest.approx(64 * 4.6 / 2)
    assert breakdown.total() == pytest.approx(breakdown.first_layer + breakdown.convolutions + breakdown.neurons)
    assert breakdown.total(first_layer=False) == pytest.approx(breakdown.convolutions + breakdown.neurons)
    assert breakdown.total(neurons=False, first_layer=False) == breakdown.convolutions


def test_integrate_and_fire_and_relu_cost_what_they_do():
    assert horowitz45(operations(conv(), neurons=[neuron(multiplies=0)])).neurons == pytest.approx(64 * 0.9 / 2)
    assert horowitz45(operations(conv(), neurons=[neuron(multiplies=0, adds=0)])).neurons == 0
    assert MemoryModel()(operations(conv(), neurons=[neuron(multiplies=0, adds=0)])).neurons == 0


def test_every_virtual_step_costs_an_addition_and_a_bit():
    plif = operations(conv(), neurons=[neuron()])
    ilif = operations(conv(), neurons=[neuron(levels=4, adds=4)])
    assert horowitz45(ilif).neurons - horowitz45(plif).neurons == pytest.approx(64 * 3 * 0.9 / 2)
    # All fits 8 KB: 10 pJ for 32 bits, so that three more bits a neuron cost 30 / 32 pJ an update.
    wider = MemoryModel()(ilif).neurons - MemoryModel()(plif).neurons
    assert wider == pytest.approx(64 * 3 * (0.1 + 10 / 32) / 2)
    assert ilif.rate == plif.rate / 4
    # Two steps of four virtual ones tell nine numbers apart, in 4 bits; two steps three, in 2.
    assert (ilif.levels, plif.levels) == (4, 1)
    by_bits = {bits: MemoryModel()._dense(conv(), 4, bits) / 4 for bits in (2, 4)}
    assert MemoryModel().quantized_counterpart(ilif) == pytest.approx(by_bits[4])
    assert MemoryModel().quantized_counterpart(plif) == pytest.approx(by_bits[2])


@pytest.mark.parametrize(
    ("num_bytes", "picojoules"),
    [(0, 10), (8192, 10), (20480, 15), (32768, 20), (540672, 60), (1048576, 100), (1048576 + 1015808, 180)],
)
def test_sram_meets_its_anchors_and_is_linear_between(num_bytes, picojoules):
    assert sram_pj(num_bytes) == pytest.approx(picojoules)


def test_the_memory_model_in_closed_form():
    # Everything fits 8 KB: 10 pJ for 32 bits. 4 frames: 2 windows of 2 steps.
    breakdown = MemoryModel()(operations(conv(has_bias=True), neurons=[neuron()]))
    look = 320 / 32 * 10
    pair = 10 + 20 + 0.1
    assert breakdown.first_layer == pytest.approx((look + 100 * pair + 64 * 0.1) / 2)
    update = 20 + 0.1 + 3.1 + 10 / 32
    assert breakdown.neurons == pytest.approx(64 * update / 2)
    dense = MemoryModel()(operations(conv(binary=False)))
    assert dense.first_layer == pytest.approx((1000 * (10 + 10 + 3.1 + 0.1) + 64 * 10) / 2)


def test_narrow_words_cost_their_share():
    narrow = MemoryModel(weight_bits=8, membrane_bits=16, activation_bits=8)
    assert narrow.multiply_pj(8) == pytest.approx(3.1 / 16)  # Horowitz: 0.2 pJ for int8
    assert MemoryModel(membrane_bits=8).add_pj == pytest.approx(0.025)  # Horowitz: 0.03 pJ for int8
    breakdown = narrow(operations(conv()))
    pair = 10 / 4 + 2 * 10 / 2 + 0.05
    assert breakdown.first_layer == pytest.approx((100 + 100 * pair) / 2)


def test_the_quantized_counterpart_in_closed_form():
    ops = operations(conv(), steps=2)
    bits = 2  # ceil(log2(2 + 1))
    pair = 10 + 10 * bits / 32 + 3.1 * bits / 32 + 0.1
    assert MemoryModel().quantized_counterpart(ops) == pytest.approx((1000 * pair + 64 * 10 * bits / 32) / 4)
    assert horowitz45_counterpart(ops) == pytest.approx(1000 / 4 * 4.6)
    biased = operations(conv(has_bias=True), steps=2)
    assert MemoryModel().quantized_counterpart(biased) - MemoryModel().quantized_counterpart(ops) == pytest.approx(
        64 * 0.1 / 4
    )


def test_break_even_is_where_the_bills_meet():
    ops = operations(conv(), conv(), neurons=[neuron()])  # firing rate 1/8
    found = break_even("horowitz45", horowitz45, ops, ann_pj=500.0)
    silent = (100 * 0.9 + 64 * 4.6) / 2
    assert found.own_rate == 1 / 8
    assert found.rate == pytest.approx((500 - silent) / (100 * 0.9 / 2) / 8)
    assert found.is_cheaper
    # At that rate, all layers scaled alike, the network costs what the ANN costs.
    scale = found.rate / found.own_rate
    first, second = ops.convolutions
    scaled = dataclasses.replace(second, synaptic=second.synaptic * scale)
    assert horowitz45(operations(first, scaled, neurons=[neuron()])).total() == pytest.approx(500)


def test_no_rate_breaks_even_where_silence_costs_more():
    found = break_even("horowitz45", horowitz45, operations(conv(), conv(), neurons=[neuron()]), ann_pj=10.0)
    assert found.rate is None
    assert not found.is_cheaper


def test_no_rate_breaks_even_where_nothing_fires():
    silent = operations(conv(), conv(synaptic=0), neurons=[neuron(spikes=0)])
    found = break_even("horowitz45", horowitz45, silent, ann_pj=1e6)
    assert found.rate is None
    assert found.is_cheaper


@pytest.mark.slow
def test_break_evens_of_a_network_and_of_its_ann():
    cube = (torch.rand(5, 1, 4, 32, 32, generator=torch.Generator().manual_seed(0)) < 0.2).to(torch.uint8)
    ops = count_ops(tiny_detector().fuse(), cube)
    found = break_evens(ops)
    assert [e.model.split(",")[0] for e in found] == ["horowitz45", "memory", "memory"]
    for even in found:
        assert even.own_rate == ops.rate
        assert even.rate is None or (even.rate > even.own_rate) == even.is_cheaper
    # Memory decides: the convention puts break-even far higher.
    assert found[0].rate is not None
    assert found[1].rate is None or found[1].rate < found[0].rate
    assert break_evens(count_ops(tiny_detector(neuron={"kind": "relu"}).fuse(), cube)) == []

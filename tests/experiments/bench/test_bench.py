"""The benchmark measures what it says: turns, peak rates, firing rates, rows; peers give our output."""

import importlib.util
import json

import pytest
import torch
from calibrated import random_cube

from spiking_centernet.errors import ConfigError
from spiking_centernet.experiments.bench import plots, race_rows, roofline, run_bench, worker
from spiking_centernet.experiments.bench.implementations import OURS, awake, expected, make, names
from spiking_centernet.experiments.bench.peers import agreement, missing
from spiking_centernet.experiments.bench.roofline import peak_rates
from spiking_centernet.experiments.bench.runs import work
from spiking_centernet.experiments.bench.timing import Times, growth, take_turns
from spiking_centernet.model.firing_rate import FiringRates

SMALL = {
    "preset": "nano", "size_hw": (32, 48), "num_steps": 2, "batch": 1, "firing_rate": 0.12, "seed": 0, "seconds": 0.05,
    "threads": 1,
}  # fmt: skip


def test_no_times_are_no_result():
    with pytest.raises(ValueError, match="at least one duration"):
        Times(())


def test_statistics_of_times():
    found = Times(tuple(float(ms) for ms in range(1, 102))).to_dict()
    assert found == {"median_ms": 51.0, "p95_ms": 96.0, "p99_ms": 100.0, "min_ms": 1.0, "repeats": 101}


@pytest.mark.slow
def test_contestants_take_turns_of_two_calls():
    calls = []
    times = take_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, seconds=0, least=3)
    assert calls == ["a", "a", "b", "b"] * 3
    assert [len(t.ms) for t in times.values()] == [3, 3]


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_growth_is_the_exponent(power):
    sizes = [1, 3, 10, 40]
    assert growth(sizes, [5 * size**power for size in sizes]) == pytest.approx(power, abs=1e-9)


@pytest.mark.parametrize("rate", [0.03, 0.2])
def test_awake_networks_fire_as_asked_in_every_layer(rate):
    cube = random_cube((64, 96), batch=1, density=0.1)
    model = awake("nano", cube, rate)
    rates = FiringRates(model.neuron_names)
    with torch.no_grad():
        model(cube, observe=rates)
    assert all(abs(found - rate) < 0.02 for found in rates.per_layer().values()), rates.per_layer()


@pytest.mark.slow
def test_floors_are_rates_of_this_machine(monkeypatch):
    monkeypatch.setattr(roofline, "COPIED_BYTES", 2**16)
    monkeypatch.setattr(roofline, "SHAPES", ((16, 16, 6, 8), (8, 8, 9, 9)))
    found = peak_rates(0.01)
    assert found.keys() >= {"copy_gb_s", "fp32_gmac_s"}
    assert all(rate > 0 for rate in found.values())


def race(times, window_gmac=2.0):
    return {
        "window_gmac": window_gmac, "peak_rates": {"fp32_gmac_s": 100.0, "int8_gmac_s": 400.0},
        "times": {name: {"median_ms": ms, "p95_ms": 2 * ms} for name, ms in times.items()},
    }  # fmt: skip


def test_rows_compare_with_the_peer_and_the_floor():
    assert race_rows(race({})) == []
    rows = race_rows(
        race({"ours fp32 dense": 40.0, "ours int8 auto": 4.0, "ours bf16 dense": 20.0, "SpikingJelly eager": 80.0})
    )
    assert rows[0] == ("ours fp32 dense", "40", "80", "2.00", "50%")
    assert rows[1] == ("ours int8 auto", "4", "8", "20.00", "125%")
    assert rows[2][4] == "-"  # no floor was measured for bf16
    assert race_rows(race({"ours fp32 dense": 40.0}))[0][3] == "-"
    assert plots.roofline_ms(2.0, {"fp32_gmac_s": 100.0}) == {"roofline fp32": 20.0}


@pytest.mark.parametrize(
    "name",
    [
        "ours int8 auto",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in (*OURS, "SpikingJelly eager", "SpikingJelly eager, merged", "ONNX Runtime fp32")
            if name != "ours int8 auto"
        ),
    ],
)
def test_contestants_give_what_is_expected_of_them(name):
    if name not in names(slow=False):
        pytest.skip(f"not installed: {missing()}")
    if "ONNX" in name and importlib.util.find_spec("onnxscript") is None:
        pytest.skip("onnxscript is not installed")
    # Every step is a copy of the network in an exported file, and every layer takes its time to write.
    steps, changes = (1, {"encoder.convs_per_stage": 1, "decoder.num_blocks": 1}) if "ONNX" in name else (3, {})
    cube = random_cube((32, 48), num_steps=steps, batch=1)
    model = awake("nano", cube, 0.12, **changes)
    difference = agreement(make(name, model, cube, threads=1)(cube), expected(name, model, cube))
    exact = "int8" in name or "merged" in name or "ONNX" in name
    assert difference < (1e-4 if exact else 1.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"preset": "papier"}, "unknown preset 'papier'; did you mean 'paper'"),
        ({"threads": []}, "threads must be one or more"),
        ({"firing_rate": 0}, "firing_rate must lie between"),
    ],
)
def test_impossible_settings_are_refused_before_any_work(tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        run_bench(tmp_path / "x", **changes)
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
@pytest.mark.thorough
def test_jobs_in_processes_of_their_own():
    raced = work(
        {**SMALL, "kind": "race", "contestants": ["ours int8 auto", "ours fp32 auto"], "peak_rates": False}, {}
    )
    assert set(raced["times"]) == {"ours int8 auto", "ours fp32 auto"}
    assert raced["firing_rate"] == pytest.approx(0.12, abs=0.03)
    with pytest.raises(RuntimeError, match=r"(?s)walk of all failed: .*KeyError: 'walk'"):
        work({**SMALL, "kind": "walk"}, {})


@pytest.mark.slow
@pytest.mark.parametrize("job", [{"kind": "alone"}, {"kind": "steps", "repeats": 3}], ids=lambda job: job["kind"])
def test_what_a_process_of_its_own_does(tmp_path, job):
    (tmp_path / "job.json").write_text(json.dumps({**SMALL, **job, "contestant": "ours int8 auto"}))
    worker.main(str(tmp_path / "job.json"), str(tmp_path / "result.json"))
    found = json.loads((tmp_path / "result.json").read_text())
    if job["kind"] == "alone":
        assert found["build_and_first_s"] > 0
    else:
        assert found["times"]["repeats"] == 3

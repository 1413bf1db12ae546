"""Meters on a clock and counters of our own: arithmetic, wrap, refusals. Nothing here reads this machine."""

import os
import statistics
import sys
import types

import pytest
import torch

from spiking_centernet.evaluation.energy import EnergyMeter, Joules, NoMeter, find_counter
from spiking_centernet.evaluation.energy.meter import MIN_REPEATS, RaplCounter, student_t_975


def zone(root, folder, name, energy_uj, full=262_143_328_850):
    path = root / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    (path / "max_energy_range_uj").write_text(f"{full}\n")
    return path


def test_rapl_sums_packages_and_memory_and_survives_a_wrap(tmp_path):
    first = zone(tmp_path, "intel-rapl:0", "package-0", 900, full=1000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 10, full=1000)
    zone(tmp_path, "intel-rapl:0:0", "core", 5)
    memory = zone(tmp_path, "intel-rapl:0:1", "dram", 7)
    zone(tmp_path, "intel-rapl:2", "psys", 12345)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 900)
    counter = find_counter("cpu", powercap=tmp_path)
    assert isinstance(counter, RaplCounter)
    assert counter.source == "RAPL (package-0, dram, package-1)"
    assert counter.read() == 0
    (first / "energy_uj").write_text("50\n")  # wrapped: 900 -> 1000 -> 50
    (second / "energy_uj").write_text("30\n")
    (memory / "energy_uj").write_text("17\n")
    assert counter.read() == pytest.approx((150 + 20 + 10) * 1e-6)
    (first / "energy_uj").write_text("40\n")  # and wraps again
    assert counter.read() == pytest.approx((150 + 990 + 20 + 10) * 1e-6)


def test_no_counter_is_said_in_one_line_with_the_remedy(tmp_path):
    found = find_counter("cpu", powercap=tmp_path / "none")
    assert isinstance(found, NoMeter)
    assert "no RAPL counter" in found.reason
    assert "modprobe" in found.reason
    assert "\n" not in found.reason


def test_where_there_is_no_rapl_none_is_promised(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    found = find_counter("cpu", powercap=tmp_path / "none")
    assert isinstance(found, NoMeter)
    assert "Linux alone" in found.reason


def test_a_counter_for_root_alone_is_said_with_the_remedy(tmp_path, monkeypatch):
    path = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    read = type(path).read_text

    def refuse(self, *args, **kwargs):
        if self.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read(self, *args, **kwargs)

    monkeypatch.setattr(type(path), "read_text", refuse)
    found = find_counter("cpu", powercap=tmp_path)
    assert isinstance(found, NoMeter)
    assert "chmod a+r" in found.reason


def test_a_damaged_counter_is_no_meter(tmp_path):
    path = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    (path / "energy_uj").write_text("not a number")
    assert isinstance(find_counter("cpu", powercap=tmp_path), NoMeter)


def fake_nvml(monkeypatch, readings, *, broken=False):
    class NVMLError(Exception):
        pass

    def energy(_handle):
        if broken:
            raise NVMLError("Not Supported")
        return next(readings)

    module = types.ModuleType("pynvml")
    module.NVMLError = NVMLError
    module.nvmlInit = lambda: None
    module.nvmlDeviceGetHandleByUUID = {"GPU-a0": "in slot 1", "GPU-b1": "in slot 0"}.__getitem__
    module.nvmlDeviceGetName = lambda handle: f"card {handle}"
    module.nvmlDeviceGetTotalEnergyConsumption = energy
    monkeypatch.setitem(sys.modules, "pynvml", module)
    seen = {torch.device("cuda"): "a0", torch.device("cuda:0"): "a0", torch.device("cuda:1"): "b1"}
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(uuid=seen[device]))


def test_nvml_counts_from_when_it_was_made(monkeypatch):
    fake_nvml(monkeypatch, iter([5_000, 5_250, 7_000]))
    counter = find_counter("cuda:1")
    assert not isinstance(counter, NoMeter)
    assert counter.source == "NVML total energy (card in slot 0)"
    assert [counter.read(), counter.read()] == [0.25, 2.0]


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_nvml_reads_the_card_that_torch_computes_on(monkeypatch, device):
    # CUDA_VISIBLE_DEVICES and the order of the slots: torch's first card is NVML's second.
    fake_nvml(monkeypatch, iter([0]))
    assert getattr(find_counter(device), "source", None) == "NVML total energy (card in slot 1)"


def test_a_card_that_stops_answering_is_an_error_of_reading(monkeypatch):
    fake_nvml(monkeypatch, iter([0]))
    counter = find_counter("cuda")
    assert not isinstance(counter, NoMeter)

    def gone(_handle):
        raise sys.modules["pynvml"].NVMLError("GPU is lost")

    monkeypatch.setattr(sys.modules["pynvml"], "nvmlDeviceGetTotalEnergyConsumption", gone)
    with pytest.raises(OSError, match="GPU is lost"):
        counter.read()


def test_a_card_that_torch_does_not_find_is_said(monkeypatch):
    fake_nvml(monkeypatch, iter([]))

    def none(_device):
        raise AssertionError("Torch not compiled with CUDA enabled")

    monkeypatch.setattr(torch.cuda, "get_device_properties", none)
    found = find_counter("cuda")
    assert isinstance(found, NoMeter)
    assert "not compiled with CUDA" in found.reason


def test_a_gpu_that_cannot_tell_is_said(monkeypatch):
    fake_nvml(monkeypatch, iter([]), broken=True)
    found = find_counter("cuda")
    assert isinstance(found, NoMeter)
    assert "Not Supported" in found.reason
    monkeypatch.setitem(sys.modules, "pynvml", None)
    found = find_counter("cuda")
    assert isinstance(found, NoMeter)
    assert "pip install nvidia-ml-py, or reinstall spiking-centernet with the extra [energy]" in found.reason


class World:
    """A clock and a counter: rest takes ``idle_watts``, a call takes seconds and joules on top."""

    source = "a world of our own"

    def __init__(self, idle_watts, calls):
        self.now = self.joules = 0.0
        self.idle_watts, self.calls = idle_watts, iter(calls)
        self.num_calls = 0

    def read(self):
        return self.joules

    def clock(self):
        return self.now

    def rest(self, seconds):
        self.now += seconds
        self.joules += self.idle_watts * seconds

    def work(self):
        self.num_calls += 1
        seconds, joules = next(self.calls)
        self.rest(seconds)
        self.joules += joules

    def meter(self, **settings):
        values = {"limit_s": 100.0, "repeat_s": 1.0, "idle_s": 4.0} | settings
        return EnergyMeter(counter=self, clock=self.clock, sleep=self.rest, **values)


def endless(*values):
    while True:
        yield from values


def test_idle_power_is_subtracted():
    world = World(30.0, endless((0.5, 2.0)))
    found = world.meter().measure(world.work, windows=4)
    assert found.per_window == pytest.approx(0.5)
    assert found.std == pytest.approx(0, abs=1e-9)
    assert found.idle_watts == pytest.approx(30)
    assert found.seconds_per_window == pytest.approx(0.125)
    assert (found.repeats, found.settled, found.source) == (MIN_REPEATS, True, "a world of our own")
    assert world.num_calls == 1 + 2 * MIN_REPEATS  # warm-up, then repeats of two calls


def test_it_repeats_until_the_interval_is_narrow():
    world = World(10.0, endless((1.0, 0.9), (1.0, 1.1)))
    found = world.meter().measure(world.work, windows=1)
    assert MIN_REPEATS < found.repeats < 100
    assert found.settled
    assert found.interval <= 0.05 * found.per_window
    assert found.per_window == pytest.approx(1, abs=0.02)
    samples = [1.1, 0.9] * (found.repeats // 2) + [1.1] * (found.repeats % 2)
    assert found.std == pytest.approx(statistics.stdev(samples))


def test_it_stops_when_the_time_is_up_and_says_so():
    world = World(10.0, endless((1.0, 0.0), (1.0, 4.0), (1.0, 1.0)))
    found = world.meter(limit_s=8.0).measure(world.work, windows=1)
    assert isinstance(found, Joules)
    assert not found.settled
    assert found.repeats == 8


@pytest.mark.parametrize(("degrees", "quantile"), [(4, 2.7764), (9, 2.2622), (30, 2.0423), (1000, 1.9623)])
def test_students_t(degrees, quantile):
    assert student_t_975(degrees) == pytest.approx(quantile, rel=5e-3)


def test_this_machine_is_read_or_the_reason_told():
    found = find_counter("cpu")
    assert (found.reason if isinstance(found, NoMeter) else found.read()) not in ("", None)
    assert os.linesep not in getattr(found, "reason", "")

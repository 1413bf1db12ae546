"""Measured joules: counters that the machine itself keeps, idle power subtracted, repeated until the mean is known."""

import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from spiking_centernet.errors import MissingPackageError, need

POWERCAP = Path("/sys/class/powercap")


class EnergyCounter(Protocol):
    """Something that counts the joules a machine has used.

    Attributes:
        source: what is read, and of which device.
    """

    source: str

    def read(self) -> float:
        """Return joules since this counter was made; never falls.

        Raises:
            OSError: the counter does not answer.
        """
        ...


class RaplCounter:
    """Joules of CPU packages and their memory from the kernel's powercap files (RAPL; Intel, and AMD's counterpart).

    A file counts microjoules and starts again at ``max_energy_range_uj``. One wrap between two reads is made good; a
    counter of 32 bits and the finest usual unit, 15.3 uJ, takes 11 minutes to it at 100 W.

    Args:
        zones: folders with ``name``, ``energy_uj`` and ``max_energy_range_uj``.
    """

    def __init__(self, zones: list[Path]):
        self._zones = zones
        names = ", ".join((zone / "name").read_text(encoding="utf-8").strip() for zone in zones)
        self.source = f"RAPL ({names})"
        self._ranges = [int((zone / "max_energy_range_uj").read_text(encoding="utf-8")) for zone in zones]
        self._before = self._microjoules()
        self._total_uj = 0

    def _microjoules(self) -> list[int]:
        return [int((zone / "energy_uj").read_text(encoding="utf-8")) for zone in self._zones]

    def read(self) -> float:
        """Return joules since the counter was made, over all zones."""
        now = self._microjoules()
        for before, after, full in zip(self._before, now, self._ranges, strict=True):
            self._total_uj += after - before + (full if after < before else 0)
        self._before = now
        return self._total_uj * 1e-6


class NvmlCounter:
    """Joules of a whole graphics card from NVML's total energy counter (Volta and later).

    Args:
        device: the card as torch calls it, "cuda" or "cuda:1".

    Raises:
        MissingPackageError: nvidia-ml-py is not installed.
        OSError: there is no such card, or it keeps no such counter.
    """

    def __init__(self, device: str = "cuda"):
        import torch

        pynvml = self._nvml = need("pynvml", "reading a GPU's energy", "energy")
        try:
            # NVML numbers all cards by their slots, torch those in CUDA_VISIBLE_DEVICES from the fastest: ask by UUID.
            uuid = torch.cuda.get_device_properties(torch.device(device)).uuid
            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
            name = pynvml.nvmlDeviceGetName(self._handle)
            self._start_mj = pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        except (pynvml.NVMLError, RuntimeError, AssertionError) as error:  # the last two are torch's, without a card
            raise OSError(str(error)) from error
        self.source = f"NVML total energy ({name})"

    def read(self) -> float:
        """Return joules since the counter was made."""
        try:
            return (self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) - self._start_mj) * 1e-3
        except self._nvml.NVMLError as error:
            raise OSError(str(error)) from error


@dataclass(frozen=True)
class NoMeter:
    """Why no joules can be read here, and how to change that; one line.

    Attributes:
        reason: what is missing, and the fix.
    """

    reason: str


def find_counter(device: str = "cpu", *, powercap: Path = POWERCAP) -> EnergyCounter | NoMeter:
    """Return the counter of the device that computes, or why there is none.

    Args:
        device: "cpu" or "cuda", with or without a number.
        powercap: where the kernel shows RAPL.
    """
    if device.startswith("cuda"):
        try:
            return NvmlCounter(device)
        except MissingPackageError as error:
            return NoMeter(f"not measured: {error}")
        except OSError as error:
            return NoMeter(f"not measured: the GPU keeps no energy counter that NVML can read ({error})")
    return _find_rapl(powercap)


def _find_rapl(powercap: Path) -> EnergyCounter | NoMeter:
    zones = []
    for zone in sorted(powercap.glob("intel-rapl:*")):
        try:
            name = (zone / "name").read_text(encoding="utf-8").strip()
        except OSError:
            continue
        # Cores and graphics lie inside their package; "psys" is the whole machine, packages included.
        if name.startswith("package") or name == "dram":
            zones.append(zone)
    if not zones and sys.platform != "linux":
        return NoMeter("not measured: a CPU's energy counter (RAPL) can be read on Linux alone")
    if not zones:
        return NoMeter(
            f"not measured: {powercap} shows no RAPL counter; virtual machines hide it, on a real one load it with "
            "sudo modprobe intel_rapl_msr"
        )
    try:
        return RaplCounter(zones)
    except PermissionError:
        return NoMeter(
            f"not measured: RAPL may be read by root alone; sudo chmod a+r {powercap}/intel-rapl:*/energy_uj"
        )
    except (OSError, ValueError) as error:
        return NoMeter(f"not measured: RAPL cannot be read ({error})")


@dataclass(frozen=True)
class Joules:
    """Measured energy of a window, the idle machine's subtracted.

    Attributes:
        source: which counter.
        per_window: mean joules per window.
        std: standard deviation over the repeats, joules per window.
        interval: half the width of the 95 % interval of the mean, joules per window.
        repeats: how often it was measured.
        idle_watts: power of the idle machine, before and after.
        seconds_per_window: mean time a window took.
        settled: whether the interval came within the tolerance before the time was up.
    """

    source: str
    per_window: float
    std: float
    interval: float
    repeats: int
    idle_watts: float
    seconds_per_window: float
    settled: bool


def student_t_975(degrees: int) -> float:
    """Return the 97.5 % quantile of Student's t, within 0.5 % from 4 degrees of freedom on.

    Expansion about the normal quantile: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    z = statistics.NormalDist().inv_cdf(0.975)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / degrees ** (k + 1) for k, term in enumerate(terms))


@dataclass(frozen=True, kw_only=True)
class EnergyMeter:
    """Measures the joules of repeated work with a counter.

    The machine's idle power is measured before and after and subtracted: what is left is what the work adds. A repeat
    lasts at least ``repeat_s``, because counters move in steps of up to 0.1 s. Nothing else should run meanwhile. The
    interval tells how much repeats differ; an error of the idle power, the same in all of them, is not in it.

    Attributes:
        counter: what is read.
        tolerance: how narrow half the 95 % interval must be, as a share of the mean.
        limit_s: the work stops after this many seconds and ``MIN_REPEATS``, narrow or not.
        repeat_s: shortest time of a repeat.
        idle_s: seconds of rest before and after.
        clock: returns seconds.
        sleep: rests for seconds.
    """

    counter: EnergyCounter
    tolerance: float = 0.05
    limit_s: float = 60.0
    repeat_s: float = 1.0
    idle_s: float = 3.0
    clock: Callable[[], float] = field(default=time.perf_counter)
    sleep: Callable[[float], None] = field(default=time.sleep)

    def measure(self, work: Callable[[], object], *, windows: int) -> Joules:
        """Measure a call that handles this many windows and has finished when it returns.

        Args:
            work: is called once to warm up, then again and again.
            windows: how many windows a call handles.

        Raises:
            OSError: the counter stopped answering.
        """
        work()
        idle = [self._idle()]
        samples: list[tuple[float, float, int]] = []  # joules, seconds, windows
        start = self.clock()
        while len(samples) < MIN_REPEATS or (
            self._interval(samples, idle[0]) > self.tolerance * abs(self._mean(samples, idle[0]))
            and self.clock() - start < self.limit_s
        ):
            samples.append(self._repeat(work, windows))
        idle.append(self._idle())
        watts = statistics.fmean(idle)
        mean, interval = self._mean(samples, watts), self._interval(samples, watts)
        return Joules(
            source=self.counter.source,
            per_window=mean,
            std=statistics.stdev(_per_window(samples, watts)),
            interval=interval,
            repeats=len(samples),
            idle_watts=watts,
            seconds_per_window=sum(s for _, s, _ in samples) / sum(n for _, _, n in samples),
            settled=interval <= self.tolerance * abs(mean),
        )

    def _idle(self) -> float:
        joules, since = self.counter.read(), self.clock()
        self.sleep(self.idle_s)
        return (self.counter.read() - joules) / (self.clock() - since)

    def _repeat(self, work: Callable[[], object], windows: int) -> tuple[float, float, int]:
        joules, since, count = self.counter.read(), self.clock(), 0
        while not count or self.clock() - since < self.repeat_s:
            work()
            count += windows
        return self.counter.read() - joules, self.clock() - since, count

    @staticmethod
    def _mean(samples: list[tuple[float, float, int]], watts: float) -> float:
        return statistics.fmean(_per_window(samples, watts))

    @staticmethod
    def _interval(samples: list[tuple[float, float, int]], watts: float) -> float:
        spread = statistics.stdev(_per_window(samples, watts))
        return student_t_975(len(samples) - 1) * spread / math.sqrt(len(samples))


MIN_REPEATS = 5
"""Fewer say nothing about the spread."""


def _per_window(samples: list[tuple[float, float, int]], watts: float) -> list[float]:
    return [(joules - watts * seconds) / windows for joules, seconds, windows in samples]

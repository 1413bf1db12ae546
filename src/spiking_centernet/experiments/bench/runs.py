"""``scn bench``: every implementation side by side, one process per setting, into one file and its plots."""

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.experiments.bench import implementations, plots
from spiking_centernet.model import PRESETS
from spiking_centernet.utils.provenance import collect_provenance, write_json
from spiking_centernet.utils.text import counted

LOG = logging.getLogger(__name__)

TUNED = {"GLIBC_TUNABLES": "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776:glibc.malloc.hugetlb=1"}
"""Keeps glibc from giving memory back and faulting it in again at every call; other C libraries ignore it."""

RATES = (0.01, 0.03, 0.06, 0.12, 0.2, 0.3, 0.5, 0.9)
"""Firing rates of the curve."""

RATES_PEER = "SpikingJelly eager"
"""Whom the curve compares with, where it can take part."""

SIZE_HW = (240, 304)


def run_bench(
    out: str | os.PathLike[str],
    *,
    preset: str = "paper",
    threads: Sequence[int] = (1, 2),
    seconds: float = 20.0,
    firing_rate: float = 0.12,
    slow: bool = True,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure this machine: every implementation's windows a second, latency, memory, cold start, speed by firing rate.

    Weights are random and made to spike at a given rate, int8 on power-of-two scales, the same for everybody. Runs of
    one setting take turns in one process; a setting is a number of threads and an allocator as it comes or tuned.

    Args:
        out: folder for ``bench.json`` and the plots.
        preset: the network.
        threads: how many, one comparison each.
        seconds: of each comparison.
        firing_rate: of every layer in the comparison.
        slow: let those take part that take a minute to build.
        seed: of weights and events.

    Returns:
        what ``bench.json`` holds.

    Raises:
        ConfigError: unknown preset, impossible threads or firing rate.
    """
    if preset not in PRESETS:
        raise ConfigError(f"unknown preset {preset!r}{did_you_mean(preset, PRESETS)}")
    if not threads or min(threads) < 1:
        raise ConfigError(f"threads must be one or more positive numbers, got {list(threads)}")
    if not 0 < firing_rate < 1:
        raise ConfigError(f"firing_rate must lie between 0 and 1, got {firing_rate}")
    everybody = implementations.names(slow=slow)
    base = {
        "preset": preset, "size_hw": SIZE_HW, "num_steps": PRESETS[preset].voxels.num_steps, "batch": 1,
        "firing_rate": firing_rate, "seed": seed, "seconds": seconds,
    }  # fmt: skip
    result: dict[str, Any] = {**collect_provenance(seed=seed), "settings": base, "races": [], "missing": _missing()}
    for count in threads:
        for allocator, environment in (("default", {}), ("tuned", TUNED)):
            LOG.info("comparison: %s, allocator %s ...", counted(count, "thread"), allocator)
            job = {
                **base,
                "kind": "race",
                "threads": count,
                "contestants": everybody,
                "peak_rates": allocator == "tuned",
            }
            found = work(job, environment)
            result["races"].append({"threads": count, "allocator": allocator, **found})
    ours = list(implementations.OURS)
    curve = [*ours, *(name for name in everybody if name == RATES_PEER)]
    LOG.info("speed by firing rate ...")
    result["rates"] = [
        {"asked": rate, **work({**base, "kind": "race", "threads": 1, "contestants": curve, "firing_rate": rate,
                                "seconds": seconds / 4}, TUNED)}
        for rate in RATES
    ]  # fmt: skip
    LOG.info("latency of single steps ...")
    result["steps"] = [
        {"contestant": name, "threads": count, **work({**base, "kind": "steps", "contestant": name, "threads": count,
                                                       "repeats": 200}, TUNED)}
        for name in ours for count in threads
    ]  # fmt: skip
    LOG.info("memory and cold start ...")
    result["alone"] = [
        {"contestant": name, **work({**base, "kind": "alone", "contestant": name, "threads": 1}, {})}
        for name in everybody
    ]
    cold = {**base, "kind": "alone", "weights": "nano", "threads": 1, "contestant": ours[-1]}
    result["cold_start_nano"] = work(cold, {})
    out = Path(out)
    write_json(out / "bench.json", result)
    plots.draw(result, out)
    return result


def work(job: dict[str, Any], environment: dict[str, str]) -> dict[str, Any]:
    """Do one job in a process of its own and return its result.

    Raises:
        RuntimeError: the process failed; its last words are in the message.
    """
    with tempfile.TemporaryDirectory() as folder:
        job_path, result_path = Path(folder) / "job.json", Path(folder) / "result.json"
        job_path.write_text(json.dumps({**job, "started": time.time()}), encoding="utf-8")
        command = [sys.executable, "-m", "spiking_centernet.experiments.bench.worker", str(job_path), str(result_path)]
        threads = {"OMP_NUM_THREADS": str(job["threads"])}
        run = subprocess.run(
            command, env={**os.environ, **threads, **environment}, capture_output=True, text=True, check=False
        )
        if run.returncode:
            raise RuntimeError(f"{job['kind']} of {job.get('contestant', 'all')} failed: {run.stderr.strip()[-2000:]}")
        return json.loads(result_path.read_text(encoding="utf-8"))


def _missing() -> dict[str, str]:
    from spiking_centernet.experiments.bench.peers import missing

    return missing()


def race_rows(race: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Return a row for every implementation: name, median and p95 in ms, times as fast as SpikingJelly, roofline.

    The roofline of a path is the time that the fused network's dense convolutions take at the best rate measured in its
    precision; an event-driven path computes less and may pass below it.
    """
    peer = race["times"].get("SpikingJelly eager")
    rows = []
    for name, times in race["times"].items():
        rate = (race["peak_rates"] or {}).get(f"{_precision(name)}_gmac_s")
        rows.append((
            name, f"{times['median_ms']:.3g}", f"{times['p95_ms']:.3g}",
            f"{peer['median_ms'] / times['median_ms']:.2f}" if peer else "-",
            f"{race['window_gmac'] / rate * 1e3 / times['median_ms']:.0%}" if rate else "-",
        ))  # fmt: skip
    return rows


def _precision(name: str) -> str:
    return next((precision for precision in ("int8", "bf16") if precision in name), "fp32")

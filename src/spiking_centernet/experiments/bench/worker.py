"""One measurement in a process of its own.

``python -m spiking_centernet.experiments.bench.worker JOB.json RESULT.json``

Threads, the allocator's settings and the memory in use are a process's; what is measured here touches nothing else.
"""

import ctypes
import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

DENSITY = 0.045
"""Share of a cube's cells that are set at GEN1's mean of 0.66 million events per second: 66 000 events in 5 x 4 x 240 x
304 cells."""


def _resident_mb(which: str) -> float:
    """Return what Linux says of this process's memory: VmRSS now, VmHWM at most since :func:`_forget_peak`."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{which}:")) / 1024


def _forget_peak() -> None:
    """Give free memory back and forget how much was in use: making the weights takes more than using them."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def _cube(job: dict[str, Any]):
    import torch

    height, width = job["size_hw"]
    rng = torch.Generator().manual_seed(job["seed"])
    shape = (job["num_steps"], job["batch"], 4, height, width)
    return (torch.rand(shape, generator=rng) < DENSITY).to(torch.uint8)


def _model(job: dict[str, Any], cube):
    from spiking_centernet.experiments.bench.implementations import awake
    from spiking_centernet.model.weights import load

    if job.get("weights"):
        return load(job["weights"])
    changes = job.get("changes", {})
    return awake(
        job["preset"],
        cube[:, :1],
        job["firing_rate"],
        seed=job["seed"],
        **{"voxels.num_steps": job["num_steps"]},
        **changes,
    )


def race(job: dict[str, Any]) -> dict[str, Any]:
    """Time implementations in turn on one cube; every one's output is compared with the reference's."""
    import torch

    from spiking_centernet.experiments.bench.implementations import expected, make
    from spiking_centernet.experiments.bench.peers import agreement
    from spiking_centernet.experiments.bench.roofline import peak_rates
    from spiking_centernet.experiments.bench.timing import take_turns
    from spiking_centernet.model.firing_rate import FiringRates
    from spiking_centernet.model.graph import dense_macs

    torch.set_num_threads(job["threads"])
    cube = _cube(job)
    model = _model(job, cube)
    runs = {name: make(name, model, cube, threads=job["threads"]) for name in job["contestants"]}
    differences = {name: agreement(run(cube), expected(name, model, cube)) for name, run in runs.items()}
    rates = FiringRates.of(model)
    with torch.inference_mode():
        model(cube, observe=rates)
    times = take_turns({name: lambda run=run: run(cube) for name, run in runs.items()}, seconds=job["seconds"])
    return {
        "firing_rate": rates.overall(),
        "window_gmac": cube.shape[0] * cube.shape[1] * dense_macs(model, job["size_hw"]) * 1e-9,
        "times": {name: {**t.to_dict(), "difference": differences[name]} for name, t in times.items()},
        "peak_rates": peak_rates() if job.get("peak_rates") else None,
    }


def alone(job: dict[str, Any]) -> dict[str, Any]:
    """Build one implementation and detect once: memory over what the imports take, and the time from a cold start."""
    import torch

    from spiking_centernet.experiments.bench.implementations import make

    torch.set_num_threads(job["threads"])
    cube = _cube(job)
    model = _model(job, cube)
    on_linux = sys.platform == "linux"
    if on_linux:
        _forget_peak()
    before_mb = _resident_mb("VmRSS") if on_linux else 0.0
    began = time.perf_counter()
    run = make(job["contestant"], model, cube, threads=job["threads"])
    run(cube)
    built = time.perf_counter()
    for _ in range(3):
        run(cube)
    return {
        "peak_mb": _resident_mb("VmHWM") - before_mb if on_linux else None,
        "build_and_first_s": built - began,
        "cold_start_s": time.time() - job["started"] if job.get("weights") else None,
    }


def steps(job: dict[str, Any]) -> dict[str, Any]:
    """Latency of single 20 ms steps with the state carried on, as a live stream computes."""
    import torch

    from spiking_centernet.deploy.engine import compile as compile_engine
    from spiking_centernet.experiments.bench.implementations import OURS
    from spiking_centernet.experiments.bench.timing import Times

    torch.set_num_threads(job["threads"])
    cube = _cube(job)
    engine = compile_engine(_model(job, cube), **OURS[job["contestant"]])
    taken, state = [], None
    for i in range(job["repeats"] + 5):
        step = cube[i % len(cube)][None]
        began = time.perf_counter()
        _, state = engine(step, state)
        taken.append((time.perf_counter() - began) * 1e3)
    return {"times": Times(tuple(taken[5:])).to_dict()}


JOBS = {"race": race, "alone": alone, "steps": steps}


def main(job_path: str, result_path: str) -> None:
    """Do the job of the file and write its result."""
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    result = JOBS[job["kind"]](job)
    part = Path(result_path + ".part")
    part.write_text(json.dumps(result), encoding="utf-8")
    os.replace(part, result_path)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Training steps and inference on a GPU: ours against SpikingJelly 2 with its own GPU kernels, batch 1 to 64.

    python -m pip install --no-deps -c constraints.txt --group bench
    python benchmarks/gpu.py --preset paper

Time, peak memory, and the share of the matrix rate that this device reaches in the same run. Variants take turns; a
batch that does not fit is noted as such. Writes ``results/gpu_speed.json`` after every batch, so that a run cut short
keeps what it has. ``--device cpu --preset nano --batches 1 --size 96x64`` tries it where there is no GPU; nothing is
written then.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import torch
from stamp import stamp, this_command, write_result
from torch import nn
from training import rings

from spiking_centernet.cli.values import read_size
from spiking_centernet.experiments.bench.peers import SpikingJellyDetector
from spiking_centernet.model import PRESETS, DetectorOutput, build
from spiking_centernet.model.heads import make_head

BATCHES = (1, 2, 4, 8, 16, 32, 64)
OURS = "ours bfloat16"
PEERS = {"spikingjelly bfloat16": True, "spikingjelly float32": False}
"""Variant -> whether it runs under autocast."""

GEMM = 8192
"""Rows and columns of the matrix product whose rate is the device's peak."""


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(call: Callable[[], object], device: torch.device) -> float:
    """Return the milliseconds of one call."""
    synchronise(device)
    began = time.perf_counter()
    call()
    synchronise(device)
    return (time.perf_counter() - began) * 1e3


def peak_gmac_s(device: torch.device, size: int) -> float:
    """Return the billions of multiply-accumulates a second of a bfloat16 matrix product: the best of ten."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best_ms = min(timed(lambda: a @ b, device) for _ in range(10))
    return size**3 / best_ms * 1e-6


def window_gmac(preset: str, size_hw: tuple[int, int]) -> float:
    """Return the multiply-accumulates of one window's convolutions as trained, in billions."""
    model, total = build(preset).eval(), 0

    def count(conv: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel() * conv.weight[0].numel()

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.inference_mode():
        model(torch.zeros(PRESETS[preset].voxels.num_steps, 1, 4, *size_hw), keep_state=False)
    return total * 1e-9


class Contestant:
    """One network with its optimizer on a device, from the weights of seed 0."""

    def __init__(self, name: str, preset: str, device: torch.device):
        torch.manual_seed(0)
        ours = build(preset)
        self.config, self.device = ours.config, device
        self.model: nn.Module = (ours if name == OURS else SpikingJellyDetector(ours)).to(device)
        self.in_bfloat16 = PEERS.get(name, True)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self.fused = ours.fuse().eval() if name == OURS else None

    def forward(self, cube: torch.Tensor) -> DetectorOutput:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.in_bfloat16):
            if isinstance(self.model, SpikingJellyDetector):
                return DetectorOutput(*self.model(cube.float()))
            return self.model(cube, keep_state=False)[0]

    def rest(self) -> None:
        if isinstance(self.model, SpikingJellyDetector):
            self.model.rest()

    def train(self, cube, boxes) -> None:
        self.model.train()
        loss = make_head(self.config).loss(self.forward(cube), boxes).total
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.rest()

    def detect(self, cube, boxes) -> None:
        self.model.eval()
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.in_bfloat16):
            if self.fused is not None:
                self.fused(cube, keep_state=False)
            else:
                self.forward(cube)
        self.rest()


def measure(batch: int, args, device: torch.device, peak: float, gmac: float) -> list[dict]:
    """Return a row for every variant and kind of step at one batch size."""
    cube, boxes = rings(batch, args.seed, args.size_hw)
    cube, rows = cube.to(device), []
    for kind, work in (("train", Contestant.train), ("detect", Contestant.detect)):
        names = [OURS, *(PEERS if find_spec("spikingjelly") else ())]
        contestants = {name: Contestant(name, args.preset, device) for name in names}
        taken: dict[str, list[float]] = {name: [] for name in names}
        peaks: dict[str, float | None] = dict.fromkeys(names)
        for turn in range(args.steps + 2):
            for name, contestant in list(contestants.items()):
                if device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats(device)
                before = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
                try:
                    ms = timed(partial(work, contestant, cube, boxes), device)
                except torch.cuda.OutOfMemoryError:
                    del contestants[name]
                    continue
                if turn >= 2:  # the first compile and fill caches
                    taken[name].append(ms)
                if device.type == "cuda":
                    peaks[name] = (torch.cuda.max_memory_allocated(device) - before) / 2**20
        for name in names:
            ms = statistics.median(taken[name]) if len(taken[name]) == args.steps else None
            # A training step computes every convolution three times: forward, data's and weights' gradient.
            work_gmac = gmac * batch * (3 if kind == "train" else 1)
            rows.append({
                "kind": kind, "batch": batch, "variant": name, "median_ms": ms,
                "windows_per_s": None if ms is None else batch / ms * 1e3, "peak_mb_over_weights": peaks[name],
                "share_of_peak": None if ms is None else work_gmac / ms * 1e3 / peak,
            })  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--steps", type=int, default=20, help="timed, of every variant")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", dest="size_hw", type=read_size, default=(240, 304), help="WIDTHxHEIGHT")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("no GPU here: nothing to measure")
        return
    peak = peak_gmac_s(device, GEMM if device.type == "cuda" else 512)
    gmac = window_gmac(args.preset, args.size_hw)
    rows: list[dict] = []
    for batch in args.batches:
        rows += measure(batch, args, device, peak, gmac)
        if device.type == "cuda":
            head = stamp(command=this_command(), seed=args.seed)
            name = torch.cuda.get_device_name(device)
            write_result("gpu_speed", {**head, "device": name, "preset": args.preset, "size_hw": args.size_hw,
                                       "peak_gmac_s": peak, "window_gmac": gmac, "rows": rows})  # fmt: skip


if __name__ == "__main__":
    main()

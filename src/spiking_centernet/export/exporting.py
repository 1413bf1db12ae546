"""One door to every format: the file's suffix decides."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from spiking_centernet.errors import ExportError, did_you_mean
from spiking_centernet.events import FolderDataset
from spiking_centernet.export.contract import Contract, Run, contract_of, run_torch
from spiking_centernet.export.parity import Parity, Progress, compare, score, shipped_windows
from spiking_centernet.export.quantise import quantised
from spiking_centernet.export.snippet import write_snippet
from spiking_centernet.export.to_aoti import run_aoti, write_aoti
from spiking_centernet.export.to_onnx import run_onnx, write_onnx
from spiking_centernet.export.to_openvino import run_openvino, write_openvino
from spiking_centernet.nn import Detector

Weights = Literal["float32", "int8"]
WEIGHTS = ("float32", "int8")
SUFFIXES = {".onnx": "ONNX", ".xml": "OpenVINO", ".pt2": "AOTInductor", ".nir": "NIR"}
"""Suffix -> format. ``.nir`` is written by :func:`write_nir`."""


@dataclass(frozen=True)
class ExportRun:
    """What :func:`export` wrote.

    Attributes:
        path: the file.
        num_bytes: its size, for OpenVINO with the weights in the ``.bin`` beside it.
        contract: its inputs and outputs.
        snippet: a program beside it that runs it without this package.
    """

    path: Path
    num_bytes: int
    contract: Contract
    snippet: Path


def export(
    model: Detector,
    path: str | os.PathLike[str],
    *,
    size_hw: tuple[int, int] = (240, 304),
    num_steps: int | None = None,
    weights: Weights = "float32",
) -> ExportRun:
    """Write a detector as ONNX (``.onnx``), for OpenVINO (``.xml``) or as an AOTInductor package (``.pt2``).

    The file computes :class:`Contract`: cube and membranes in, raw heads and membranes out.

    Args:
        model: the detector; it is fused here and left unchanged.
        path: the file to write.
        size_hw: height and width of the sensor in pixels; the default is GEN1's.
        num_steps: time steps of a call, a divisor of the network's; None takes a whole window.
        weights: "float32", or "int8" with one scale an output channel (spiking networks, ONNX and OpenVINO).

    Raises:
        ExportError: the suffix is unknown, or the format cannot hold the network.
        MissingPackageError: the format's package is not installed.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES or path.suffix == ".nir":
        raise ExportError(f"{path}: no runtime is known for {path.suffix!r}{did_you_mean(path.suffix, SUFFIXES)}")
    if weights not in WEIGHTS:
        raise ExportError(f"unknown weights {weights!r}{did_you_mean(weights, WEIGHTS)}")
    if weights == "int8" and model.config.neuron == "relu":
        raise ExportError(
            "int8 weights go with spikes, which are whole numbers; this network has neuron='relu': export float32"
        )
    fused = model.fuse().cpu()
    contract = contract_of(fused, size_hw, num_steps)
    if path.suffix == ".onnx":
        write_onnx(fused, contract, path, int8=weights == "int8")
    elif path.suffix == ".xml":
        write_openvino(fused, contract, path, int8=weights == "int8")
    else:
        if weights == "int8":
            raise ExportError("AOTInductor packages hold float32 weights; export .onnx or .xml for int8")
        write_aoti(fused, contract, path)
    num_bytes = path.stat().st_size
    if path.suffix == ".xml":
        num_bytes += path.with_suffix(".bin").stat().st_size
    return ExportRun(path, num_bytes, contract, write_snippet(path, contract))


def run(path: str | os.PathLike[str], contract: Contract) -> Run:
    """Return an exported file as its own runtime computes it.

    Raises:
        ExportError: the suffix is unknown.
        MissingPackageError: the runtime is not installed.
    """
    runners = {".onnx": run_onnx, ".xml": run_openvino, ".pt2": run_aoti}
    path = Path(path)
    if path.suffix not in runners:
        raise ExportError(f"{path}: no runtime is known for {path.suffix!r}{did_you_mean(path.suffix, runners)}")
    return runners[path.suffix](path, contract)


@dataclass(frozen=True)
class Report:
    """The check of an exported file.

    Attributes:
        parity: against the network with the same weights, rounded where the file holds int8.
        rounding: of the rounded weights against the float ones, in the network itself; None for float32.
        ap: of the float network and of the file on a labelled split; None without one.
    """

    parity: Parity
    rounding: Parity | None
    ap: tuple[float, float] | None


def check(
    model: Detector,
    written: ExportRun,
    *,
    weights: Weights = "float32",
    cubes: Iterable[np.ndarray] | None = None,
    dataset: FolderDataset | None = None,
    protocol: str = "prophesee",
    progress: Progress | None = None,
) -> Report:
    """Compare an exported file with the network it came from.

    Args:
        model: the detector that was exported.
        written: what :func:`export` returned.
        weights: as exported.
        cubes: windows [T, C, H, W]; None takes those of the real recording that ships with the package.
        dataset: a labelled split to score both on.
        protocol: of the score.
        progress: shows how far the scoring is.

    Raises:
        MissingPackageError: the runtime is not installed.
        ExportError: there is no window, or the data set has another size.
    """
    contract = written.contract
    fused = model.fuse().cpu()
    windows = list(shipped_windows(contract) if cubes is None else cubes)
    hard_reset = not model.config.soft_reset
    original = run_torch(fused, contract)
    same = original if weights == "float32" else run_torch(quantised(fused), contract)
    theirs = run(written.path, contract)
    parity = compare(same, theirs, contract, windows, hard_reset=hard_reset)
    rounding = None if same is original else compare(original, same, contract, windows, hard_reset=hard_reset)
    ap = None
    if dataset is not None:
        before, after = (score(r, contract, dataset, protocol=protocol, progress=progress) for r in (original, theirs))
        ap = before, after
    return Report(parity, rounding, ap)
